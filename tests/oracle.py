"""The obvious versions: whole source tensors, loops over weights, every subset, exact integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import slth
from slth.source.balanced import BalancedSource

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


Place = tuple[int, int]
"""Channel of a group, or -1 for the biases, and sign."""


def exchanged(sign: Callable[[int, int], int], n_channels: int, bias: bool, source: Any) -> dict[int, Place]:
    """The places that the neurons of one group take, as docs/format.md has it: lists, one neuron after another.

    ``sign(t, j)`` is that of neuron t's weight from channel j of the group, or of its bias for j = -1; ``source`` has
    ``block_width``, ``elements`` and ``input_sign``.
    """
    width, m, taken = source.block_width, source.elements, dict[int, Place]()
    branches = {"nonnegative": [1], "nonpositive": [-1], "signed": [1, -1]}[source.input_sign]
    base_sets = [(j, 1) for j in range(n_channels) if 1 in branches]
    base_sets += [(-1, 1)] if bias else []
    base_sets += [(j, -1) for j in range(n_channels) if -1 in branches]
    empty: list[Place] = []
    for j, s in base_sets:
        block = n_channels if j < 0 else j
        own = [t for t in range(block * width, (block + 1) * width) if sign(t, j) == s][:m]
        taken.update(dict.fromkeys(own, (j, s)))
        empty += [(j, s)] * (m - len(own))
    free = [t for t in range((n_channels + bias) * width) if t not in taken]
    for _ in range(40):
        offers = list(zip(free, empty, strict=False))
        taken.update({t: (j, s) for t, (j, s) in offers if sign(t, j) == s})
        refused = [(t, place) for t, place in offers if t not in taken]
        free = free[len(offers) :] + [t for t, _ in refused]
        empty = [place for _, place in refused[1:]] + empty[len(offers) :] + [place for _, place in refused[:1]]
    for j, s in empty[:64]:
        moves = (
            [t for t in sorted(taken) if sign(t, j) == s and sign(free[0], taken[t][0]) == taken[t][1]] if free else []
        )
        if moves:
            taken[free.pop(0)], taken[moves[0]] = taken[moves[0]], (j, s)
    return taken


def served(source: Any, layer: DenseLayer) -> list[int | None]:
    """The channel of its group that each neuron may serve, or -1 for its bias; None where it can be in no base set."""
    n_channels, per_group, found = layer.expand.shape[1], layer.combine.shape[1], []
    for first in range(0, len(layer.expand), per_group):
        if not isinstance(source, BalancedSource):
            blocks = [t // source.block_width for t in range(per_group)]
            found += [block if block < n_channels else -1 for block in blocks]
            continue

        def sign(t: int, j: int, first: int = first) -> int:
            return int(np.sign(layer.bias[first + t] if j < 0 else layer.expand[first + t, j]))

        places = exchanged(sign, n_channels, layer.bias is not None, source)
        found += [places[t][0] if t in places else None for t in range(per_group)]
    return found


def usable(
    layer: DenseLayer, serves: list[int | None], output: int, channel: int, tap: int, sign: int, mirrored: bool
) -> list[int]:
    """Elements of the base set of one weight and sign: of mirrored pairs each, else those of that sign."""
    found = []
    for column, t in enumerate(layer.neurons(output)):
        u, v = layer.expand[t, channel], layer.combine[output, column, tap]
        in_pair = t % 2 == 0 if mirrored else u * sign > 0
        if serves[t] == channel and in_pair:
            found.append(whole(u) * whole(v) // _UNIT)
    return found


def usable_constants(layer: DenseLayer, serves: list[int | None], output: int, mirrored: bool) -> list[int]:
    """Elements of the base set of one bias, at the central tap."""
    assert layer.bias is not None
    tap, found = layer.combine.shape[2] // 2, []
    for column, t in enumerate(layer.neurons(output)):
        b, v = layer.bias[t], layer.combine[output, column, tap]
        if serves[t] == -1 and (t % 2 == 0 if mirrored else b > 0):
            found.append(whole(b) * whole(v) // _UNIT)
    return found


def masked_layers(ticket: slth.Ticket) -> list[tuple[Any, Any, DenseLayer]]:
    """Source layer, facts and dense tensors of every layer of a ticket."""
    network = ticket.module("masked", dtype=torch.float64)
    return [(source, facts, DenseLayer.read(network, facts.name, source.groups)) for source, _, facts in ticket.layers]
