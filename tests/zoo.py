"""Small networks as factories, and strategies that draw them with a way of finding them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import nn

import slth
from slth.network.target import Target
from slth.network.trace import trace
from zoo_dense import DENSE
from zoo_images import IMAGES
from zoo_kit import Factory
from zoo_sequences import SEQUENCES

# One small network of each family of architectures: a factory of the module and an example of two inputs.
ZOO: dict[str, Factory] = {**DENSE, **IMAGES, **SEQUENCES}


def mlp(widths: Sequence[int] = (5, 8, 3), bias: bool = True, seed: int = 0) -> nn.Sequential:
    """A perceptron with ReLU between its layers."""
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += ([nn.ReLU()] if number else []) + [nn.Linear(inputs, outputs, bias=bias)]
    return shake(nn.Sequential(*layers), seed)


def convnet(seed: int = 0) -> nn.Sequential:
    """Groups, zero padding, an uneven kernel, a layer without bias, pooling and a dense head; input (4, 6, 6)."""
    return shake(
        nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 4, (1, 3), stride=(1, 2), padding=(0, 1), bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        seed,
    )


def convnet_in_one_group(seed: int = 0) -> nn.Sequential:
    """As :func:`convnet` with less, without groups; input (2, 6, 6)."""
    return shake(
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 2, (1, 3), stride=(1, 2), padding=(0, 1), bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        seed,
    )


def pooled_convnet(seed: int = 0) -> nn.Sequential:
    """Average pooling behind a convolution and behind a ReLU; input (2, 6, 6)."""
    return shake(
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.AvgPool2d(2, stride=1),
            nn.ReLU(),
            nn.AvgPool2d(2, padding=1),
            nn.Conv2d(3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(18, 3),
        ),
        seed,
    )


class LeNet5(nn.Module):
    """The target of da Cunha et al. 2022, section 5; input (1, 28, 28) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Activations at the 16 x 7 x 7 tensor behind the second pooling."""
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        return torch.max_pool2d(torch.relu(self.conv2(x)), 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.fc1(self.features(x).flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))


class LeNet5Features(LeNet5):
    """The convolutional part alone."""

    def __init__(self) -> None:
        super().__init__()
        del self.fc1, self.fc2, self.fc3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations at the 16 x 7 x 7 tensor."""
        return self.features(x)


def shake(model: nn.Module, seed: int, size: float = 0.4) -> Any:
    """Give every parameter a normal value of standard deviation ``size``, in place."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model.eval()


def inputs(shape: Sequence[int], n: int, domain: Any = None, seed: int = 0) -> torch.Tensor:
    """Random float64 inputs in a box (default [-1, 1]): uniform, then corners, a batch of ``n``."""
    low, high = slth.Domain.parse(domain or (-1, 1)).bounds(tuple(shape))
    unit = torch.rand((n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit[n // 2 :] = unit[n // 2 :].round()
    return low + (high - low) * unit


@dataclass(frozen=True)
class Case:
    """A network, the shape of its input, and the options with which a ticket is found in it."""

    model: nn.Module
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def target(self) -> Target:
        """The traced network."""
        return trace(self.model, torch.zeros(2, *self.shape))

    def find(self, target: Target | None = None, **options: Any) -> slth.Ticket:
        """A ticket, on one thread."""
        return slth.find_ticket(target or self.target(), **{"threads": 1, **self.options, **options})

    @property
    def domain(self) -> Any:
        """The options' domain, or [-1, 1]."""
        return self.options.get("domain") or (-1, 1)


DOMAINS = (None, (0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (-0.5, 2))


@st.composite
def options(draw: st.DrawFn, largest_weight: float, largest_base_set: int = 12) -> dict[str, Any]:
    """Arguments of find_ticket for a network with weights up to this large."""
    base_set_size = draw(st.integers(3, largest_base_set))
    tolerance = draw(st.sampled_from([None, 2.0 ** -(base_set_size - 1), 2.0 ** -(base_set_size // 2)]))
    return {
        "base_set_size": base_set_size,
        "initialisation": draw(st.sampled_from(["uniform", "looks-linear"])),
        "domain": draw(st.sampled_from(DOMAINS)),
        "tolerance": None if tolerance is None else tolerance * (largest_weight or 1.0),
        "objective": "best" if tolerance is None else draw(st.sampled_from(["best", "sparsest"])),
        "seed": draw(st.integers(0, 2**64 - 1)),
    }


@st.composite
def dense_networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Perceptrons, some on vectors and some on the last axis of a matrix."""
    widths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    layers: list[nn.Module] = []
    for number, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers += ([nn.ReLU()] if number and draw(st.booleans()) else []) + [
            nn.Linear(n_in, n_out, draw(st.booleans()))
        ]
    if draw(st.booleans()):
        layers.append(nn.ReLU())
    ahead = draw(st.sampled_from([(), (), (3,)]))
    return nn.Sequential(*layers), (*ahead, widths[0])


@st.composite
def convolutional_networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """One or two convolutions in one to three dimensions with everything that a convolution can have, then a head."""
    n = draw(st.sampled_from([1, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.integers(1, 2))
    size = {1: 9, 2: 7, 3: 5}[n]
    shape = (channels, *(size - draw(st.integers(0, 1)) for _ in range(n)))
    layers: list[nn.Module] = []
    for number in range(draw(st.integers(1, 2 if n < 3 else 1))):
        layers += [nn.ReLU()] if number and draw(st.booleans()) else []
        layers += _padding(draw, n) if draw(st.integers(0, 3)) == 0 else []
        layers.append(_convolution(draw, n, channels, groups))
        channels, groups = layers[-1].out_channels, 1
        if draw(st.integers(0, 2)) == 0:
            layers += [nn.ReLU()] if draw(st.booleans()) else []
            layers.append(_pooling(draw, n))
    model = nn.Sequential(*layers)
    try:
        out = model(torch.zeros(1, *shape))
    except RuntimeError:
        reject()  # A window larger than what is left of the input.
    if draw(st.booleans()):
        model.append(nn.ReLU()).append(nn.Flatten()).append(nn.Linear(math.prod(out.shape[1:]), 2))
    return model, shape


def _convolution(draw: st.DrawFn, n: int, channels: int, groups: int) -> nn.Module:
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(n))
    dilation = draw(st.integers(1, 2)) if max(kernel) < 3 else 1
    mode = draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]))
    same = draw(st.booleans())
    return getattr(nn, f"Conv{n}d")(
        channels,
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=1 if same else draw(st.integers(1, 2)),
        padding="same" if same else tuple(draw(st.integers(0, 1)) for _ in range(n)),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
    )


def _padding(draw: st.DrawFn, n: int) -> list[nn.Module]:
    kind = draw(st.sampled_from([nn.ZeroPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d, nn.CircularPad1d]))
    same_kind = getattr(nn, kind.__name__.replace("1d", f"{n}d"))
    return [same_kind(tuple(draw(st.integers(0, 1)) for _ in range(2 * n)))]


def _pooling(draw: st.DrawFn, n: int) -> nn.Module:
    kind = draw(st.sampled_from(["MaxPool", "AvgPool", "AdaptiveAvgPool"]))
    if kind == "AdaptiveAvgPool":
        return getattr(nn, f"{kind}{n}d")(1)
    window = {"kernel_size": 2, "stride": draw(st.integers(1, 2)), "ceil_mode": draw(st.booleans())}
    if kind == "AvgPool":
        window |= {"padding": draw(st.integers(0, 1)), "count_include_pad": draw(st.booleans())}
    return getattr(nn, f"{kind}{n}d")(**window)


@st.composite
def cases(draw: st.DrawFn, largest_base_set: int = 12) -> Case:
    """A random network and the way to find it; some of its weights are 0, small or large."""
    model, shape = draw(st.one_of(dense_networks(), convolutional_networks()))
    shake(model, draw(st.integers(0, 2**32)), draw(st.sampled_from([0.1, 0.4, 3.0])))
    for parameter in model.parameters():
        if draw(st.integers(0, 3)) == 0:
            parameter.data[torch.arange(parameter.shape[0]) % 2 == 0] *= draw(st.sampled_from([0.0, -1e-4, 5.0]))
    largest = max(float(parameter.abs().max()) for parameter in model.parameters())
    return Case(model, shape, draw(options(largest, largest_base_set)))
