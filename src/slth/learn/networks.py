"""Architectures of sources that are named instead of built: their weights are never used."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from slth.errors import ArgumentError

NETWORKS = ("mlp", "conv4", "lenet5-wide")
HIDDEN = (1024, 1024)
"""Widths of a perceptron of scores (chosen)."""
_CONV4 = (64, 64, 128, 128)
_DENSE = {"conv4": (256, 256), "lenet5-wide": (512,)}
_LEAST = {"conv4": 4, "lenet5-wide": 16}
"""Rows and columns of the smallest image that is left something of."""


def make_network(
    name: str, input_shape: Sequence[int], n_classes: int, hidden: Sequence[int] = HIDDEN
) -> tuple[torch.nn.Sequential, tuple[int, ...]]:
    """A feed-forward ReLU network without biases, and the shape in which it takes inputs.

    ``mlp`` is a perceptron; ``conv4`` has four convolutions of 3 x 3 and three dense layers (Frankle and Carbin 2019);
    ``lenet5-wide`` is LeNet-5 (LeCun et al. 1998) with 32 and 64 channels of 5 x 5, 512 neurons and max pooling.

    Raises
    ------
    ArgumentError
        For an unknown name, or inputs that are no images, or too small ones.
    """
    if name not in NETWORKS:
        raise ArgumentError("network", repr(name), " or ".join(NETWORKS), "--model PKG.MOD:FN for one of your own")
    if name == "mlp":
        if any(width < 1 for width in hidden):
            raise ArgumentError("hidden", str(list(hidden)), "positive widths")
        flat = math.prod(input_shape)
        return torch.nn.Sequential(*_dense([flat, *hidden, n_classes])), (flat,)
    channels, height, width = _image(name, input_shape)
    layers: list[torch.nn.Module] = []
    if name == "conv4":
        for number, (before, after) in enumerate(itertools.pairwise((channels, *_CONV4))):
            layers += [torch.nn.Conv2d(before, after, 3, padding=1, bias=False), torch.nn.ReLU()]
            layers += [torch.nn.MaxPool2d(2)] if number % 2 else []
        flat = _CONV4[-1] * (height // 4) * (width // 4)
    else:
        for before, after in ((channels, 32), (32, 64)):
            layers += [torch.nn.Conv2d(before, after, 5, bias=False), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
        flat = 64 * rows * columns
    dense = _dense([flat, *_DENSE[name], n_classes])
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), *dense), (channels, height, width)


def _dense(widths: Sequence[int]) -> list[torch.nn.Module]:
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += ([torch.nn.ReLU()] if layers else []) + [torch.nn.Linear(before, after, bias=False)]
    return layers


def _image(name: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, rows, columns; inputs of one axis are square images."""
    shape = tuple(input_shape)
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    if side and side * side == shape[0]:
        shape = (side, side)
    shape = (1, *shape) if len(shape) == 2 else shape
    if len(shape) != 3:
        got = f"inputs of shape {tuple(input_shape)}"
        raise ArgumentError("network", f"{name} on {got}", "images: channels, rows, columns", "--network mlp")
    if min(shape[1:]) < _LEAST[name]:
        need = f"images of at least {_LEAST[name]} x {_LEAST[name]} for {name}"
        raise ArgumentError("network", f"images of {shape[1]} x {shape[2]}", need, "--network mlp")
    return shape[0], shape[1], shape[2]
