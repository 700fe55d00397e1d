"""What the families of networks in ``zoo_images``, ``zoo_sequences`` and ``zoo_dense`` share."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

Factory: TypeAlias = Callable[[], tuple[nn.Module, torch.Tensor]]

_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


class Residual(nn.Module):
    """``act(body(x) + shortcut(x))``; without a shortcut or an activation, the identity stands there."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape, or the shortcut's."""
        return self.act(self.body(x) + self.shortcut(x))


class Apply(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function's value."""
        return self.function(x)


def register(zoo: dict[str, Factory]) -> Callable[[Callable[[], tuple[nn.Module, torch.Tensor]]], Factory]:
    """Enter a factory into ``zoo`` under its name, with seeded random numbers and settled normalisations."""

    def enter(build: Factory) -> Factory:
        @functools.wraps(build)
        def factory() -> tuple[nn.Module, torch.Tensor]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(build.__name__.encode()))
                model, example = build()
                settle(model)
            return model.eval(), example

        zoo[build.__name__] = factory
        return factory

    return enter


def settle(model: nn.Module) -> None:
    """Weights as large as keeps a signal alive; normalisations as training leaves them, some factors negative."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and "weight" in module._parameters:
            module.weight.data *= 2
        if not isinstance(module, _NORMALISATIONS):
            continue
        if module.weight is not None:
            sign = (torch.rand_like(module.weight) > 0.1) * 2.0 - 1
            module.weight.data = (0.5 + torch.rand_like(module.weight)) * sign
        if getattr(module, "bias", None) is not None:
            module.bias.data = 0.2 * torch.randn_like(module.bias)
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
            module.num_batches_tracked.fill_(100)


def parameter(*shape: int, centre: float = 0.0, size: float = 0.3) -> nn.Parameter:
    """A normal tensor around ``centre`` that training would change."""
    return nn.Parameter(centre + size * torch.randn(shape))


def image(*shape: int) -> torch.Tensor:
    """Two random inputs in [0, 1] of the given shape."""
    return torch.rand(2, *shape)


def signal(*shape: int) -> torch.Tensor:
    """Two random inputs in [-1, 1] of the given shape."""
    return 2 * torch.rand(2, *shape) - 1


def tokens(length: int, n_tokens: int) -> torch.Tensor:
    """Two rows of token numbers."""
    return torch.randint(n_tokens, (2, length))
