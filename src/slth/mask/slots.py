"""The mask of slots: for every weight of the target the few neurons that serve it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import BIAS, Entries, Kept, UnivariateMask
from slth.network.target import WeightLayer
from slth.source.spec import PoolSource, SourceLayer

ENTRIES_AT_ONCE = 1 << 20
"""Surviving combining weights that are held at a time, about."""


@dataclass(frozen=True)
class SlotMask(UnivariateMask):
    """Each surviving neuron keeps one incoming weight (or its bias) and one outgoing weight.

    Slots follow the order of the target's tensors: group by group the weights, output by output, channel by channel,
    tap by tap, then the biases.

    Attributes
    ----------
    counts : uint8 array, (slots,)
        Neurons that serve each weight and each bias.
    neurons : unsigned array, (kept neurons,)
        Slot by slot, ascending within a slot: counted from the slot's pool where the source has pools, else from the
        group's first neuron. Of the smallest of uint16, uint32 and uint64 that holds all of them.
    """

    counts: NDArray[np.uint8]
    neurons: NDArray[Any]

    @classmethod
    def build(cls, source: SourceLayer, counts: NDArray[np.integer], neurons: NDArray[np.integer]) -> SlotMask:
        """The mask of these neurons, in the types that a file holds."""
        return cls(counts.astype(np.uint8), neurons.astype(numbers_below(_width(source))))

    @property
    def n_kept(self) -> int:
        """An incoming and an outgoing weight of every neuron."""
        return 2 * len(self.neurons)

    def expand(self, source: SourceLayer) -> Kept:
        """The neurons that live and what they keep."""
        slot, neuron = self._owners(source)
        _, channel, _ = places(source, slot)
        order = np.argsort(neuron, kind="stable")
        neuron, channel = neuron[order], channel[order]
        return Kept(neuron, channel, source.expand_at(neuron, channel))

    def entries(self, source: SourceLayer) -> Iterator[Entries]:
        """The surviving combining weights, from the first output to the last."""
        slot, neuron = self._owners(source)
        kept = np.empty(len(neuron), np.int64)
        kept[np.argsort(neuron, kind="stable")] = np.arange(len(neuron))
        output, _, tap = places(source, slot)
        order = np.lexsort((kept, output))
        output, tap, kept, neuron = output[order], tap[order], kept[order], neuron[order]
        # Whole outputs, as many as make about so many entries.
        step = max(1, ENTRIES_AT_ONCE * source.outputs // max(1, len(output)))
        for start in range(0, source.outputs, step):
            stop = min(start + step, source.outputs)
            here = slice(*np.searchsorted(output, (start, stop)))
            local = neuron[here] % source.neurons_per_group
            value = source.combine_at(output[here], local, tap[here])
            yield Entries(start, stop, output[here], kept[here], tap[here], value)

    def _owners(self, source: SourceLayer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Slot and neuron of every survivor, neurons counted over all groups."""
        slot = np.repeat(np.arange(len(self.counts)), self.counts)
        index = self.neurons.astype(np.int64)
        if isinstance(source, PoolSource):
            return slot, slot * source.block_width + index
        return slot, slot // slots_per_group(source) * source.neurons_per_group + index

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Counts and neurons."""
        return {"counts": self.counts, "neurons": self.neurons}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> SlotMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        counts, neurons = tensors["counts"], tensors["neurons"]
        n_slots = source.groups * slots_per_group(source)
        fits = counts.dtype == np.uint8 and counts.shape == (n_slots,)
        if not fits:
            raise TicketError("mask", f"{counts.dtype} {counts.shape}", f"{n_slots} counts, a byte each")
        mask = cls(counts.view(np.uint8), neurons)
        total = int(mask.counts.sum(dtype=np.int64))
        kind = numbers_below(_width(source))
        if neurons.dtype != kind or neurons.shape != (total,):
            need = f"{np.dtype(kind)} ({total},), as many as the counts say"
            raise TicketError("mask", f"{neurons.dtype} {neurons.shape}", need)
        mask._check(source)
        return mask

    def _check(self, source: SourceLayer) -> None:
        slot, neuron = self._owners(source)
        width = _width(source)
        if len(neuron) and int(self.neurons.max()) >= width:
            raise TicketError("mask", f"neuron {int(self.neurons.max())}", f"0 to {width - 1}")
        if (np.diff(neuron)[np.diff(slot) == 0] <= 0).any():
            raise TicketError("mask", "a slot whose neurons do not ascend", "each neuron once, in ascending order")
        if len(np.unique(neuron)) < len(neuron):
            raise TicketError("mask", "a neuron that serves two weights", "each neuron at most once")


def slots_per_group(source: SourceLayer) -> int:
    """Weights and biases of one group of the target layer."""
    return source.outputs_per_group * (source.inputs_per_group * source.taps + int(source.bias))


def slot_targets(source: SourceLayer, layer: WeightLayer) -> NDArray[np.float64]:
    """A target layer's weights and biases in the order of the slots, (slots,)."""
    weight, bias = layer.weight_array(), layer.bias_array()
    rows = source.outputs_per_group
    groups = []
    for start in range(0, source.outputs, rows):
        own = [] if bias is None else [bias[start : start + rows]]
        groups.append(np.concatenate([weight[start : start + rows].ravel(), *own]))
    return np.concatenate(groups)


def _width(source: SourceLayer) -> int:
    return source.block_width if isinstance(source, PoolSource) else source.neurons_per_group


def numbers_below(width: int) -> type[np.unsignedinteger[Any]]:
    """The smallest of uint16, uint32 and uint64 that holds all numbers below ``width``."""
    return np.uint16 if width <= 1 << 16 else np.uint32 if width <= 1 << 32 else np.uint64


def places(
    source: SourceLayer, slot: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Output, channel of the group (:data:`BIAS` for a bias) and tap of slots, each of the slots' shape.

    The central tap carries biases.
    """
    group, local = np.divmod(slot, slots_per_group(source))
    n_weights = source.outputs_per_group * source.inputs_per_group * source.taps
    is_bias = local >= n_weights
    row, rest = np.divmod(local, source.inputs_per_group * source.taps)
    channel, tap = np.divmod(rest, source.taps)
    output = np.where(is_bias, local - n_weights, row) + group * source.outputs_per_group
    return output, np.where(is_bias, BIAS, channel), np.where(is_bias, source.taps // 2, tap)
