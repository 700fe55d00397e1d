"""The obvious versions: whole source tensors, loops over weights, every subset, exact integers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import slth

_UNIT = 2**260
"""Products of float32 and float64 numbers are whole multiples of 1 / _UNIT down to 1e-78."""


def whole(value: float) -> int:
    """A number as an exact multiple of 1 / _UNIT."""
    scaled = Fraction(float(value)) * _UNIT
    assert scaled.denominator == 1
    return scaled.numerator


@dataclass(frozen=True)
class DenseLayer:
    """Two source layers as the masked module holds them: float64 tensors and their masks."""

    expand: np.ndarray
    expand_mask: np.ndarray
    bias: np.ndarray | None
    bias_mask: np.ndarray | None
    combine: np.ndarray
    combine_mask: np.ndarray
    groups: int

    @classmethod
    def read(cls, network: torch.nn.Module, name: str, groups: int) -> DenseLayer:
        """The layer of that name."""
        layer = network.get_submodule(name)
        state = {key: value.double().numpy() for key, value in layer.state_dict().items()}

        def flat(key: str) -> np.ndarray:
            return state[key].reshape(*state[key].shape[:2], -1)

        return cls(
            flat("expand.weight_orig")[:, :, 0],
            flat("expand.weight_mask")[:, :, 0],
            state.get("expand.bias_orig"),
            state.get("expand.bias_mask"),
            flat("combine.weight_orig"),
            flat("combine.weight_mask"),
            groups,
        )

    def neurons(self, output: int) -> range:
        """Intermediate neurons that an output reads, in the order of its combining weights."""
        per_group = self.combine.shape[1]
        group = output // (self.combine.shape[0] // self.groups)
        return range(group * per_group, (group + 1) * per_group)

    def block(self, t: int, width: int) -> int:
        """Number of a neuron's block within its group; the last one is the biases'."""
        return t % self.combine.shape[1] // width

    def slope(self, output: int, channel: int, tap: int, sign: int) -> int:
        """Exact slope for one sign of one input channel, times _UNIT."""
        total = 0
        for column, t in enumerate(self.neurons(output)):
            u = self.expand[t, channel] * self.expand_mask[t, channel]
            v = self.combine[output, column, tap] * self.combine_mask[output, column, tap]
            if u * sign > 0 and v:
                total += whole(u) * whole(v) // _UNIT
        return total

    def constant(self, output: int) -> int:
        """Exact value that the bias block adds, times _UNIT."""
        total = 0
        assert self.bias is not None and self.bias_mask is not None
        for column, t in enumerate(self.neurons(output)):
            b = self.bias[t] * self.bias_mask[t]
            v = (self.combine[output, column] * self.combine_mask[output, column]).tolist()
            total += sum(whole(b) * whole(value) // _UNIT for value in v) if b > 0 else 0
        return total


def best_subset(elements: list[int], target: int, tolerance: int | None = None) -> tuple[int, int]:
    """Least error over all subsets and 0; or with a tolerance the fewest elements within it, then the least error."""
    sums, sizes = np.zeros(1, dtype=object), np.zeros(1, dtype=np.int64)
    for element in elements:
        sums, sizes = np.concatenate([sums, sums + element]), np.concatenate([sizes, sizes + 1])
    errors = np.abs(sums - target)
    if tolerance is None or not (within := errors <= tolerance).any():
        return int(errors.min()), -1
    fewest = sizes[within].min()
    return int(errors[within & (sizes == fewest)].min()), int(fewest)


def usable(layer: DenseLayer, output: int, channel: int, tap: int, sign: int, width: int, mirrored: bool) -> list[int]:
    """Elements of the base set of one weight and sign: of mirrored pairs each, else those of that sign."""
    found = []
    for column, t in enumerate(layer.neurons(output)):
        u, v = layer.expand[t, channel], layer.combine[output, column, tap]
        in_pair = t % 2 == 0 if mirrored else u * sign > 0
        if layer.block(t, width) == channel and in_pair:
            found.append(whole(u) * whole(v) // _UNIT)
    return found


def usable_constants(layer: DenseLayer, output: int, n_channels: int, width: int, mirrored: bool) -> list[int]:
    """Elements of the base set of one bias, at the central tap."""
    assert layer.bias is not None
    tap, found = layer.combine.shape[2] // 2, []
    for column, t in enumerate(layer.neurons(output)):
        b, v = layer.bias[t], layer.combine[output, column, tap]
        if layer.block(t, width) == n_channels and (t % 2 == 0 if mirrored else b > 0):
            found.append(whole(b) * whole(v) // _UNIT)
    return found


def masked_layers(ticket: slth.Ticket) -> list[tuple[Any, Any, DenseLayer]]:
    """Source layer, facts and dense tensors of every layer of a ticket."""
    network = ticket.module("masked", dtype=torch.float64)
    return [(source, facts, DenseLayer.read(network, facts.name, source.groups)) for source, _, facts in ticket.layers]
