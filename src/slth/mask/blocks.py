"""The mask of blocks: bits of neurons, and of combining weights over the neurons that live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import BIAS, Entries, Kept, UnivariateMask
from slth.source.spec import BlockSource, SourceLayer

ROWS_AT_ONCE = 1 << 22
"""Source weights that are made and held at a time when a layer is walked through."""


@dataclass(frozen=True)
class BlockMask(UnivariateMask):
    """Blocks of univariate neurons, any of which every output may read.

    Attributes
    ----------
    neurons : bool array, (n_neurons,)
        Intermediate neurons that keep their one univariate weight (or bias).
    combine : uint8 array, (bytes,)
        Bits of the combining weights, row by row, each row padded to whole bytes. Row o holds, for each kept neuron of
        its group in ascending order, one bit a tap; the first bit is the highest of the first byte.
    """

    neurons: NDArray[np.bool_]
    combine: NDArray[np.uint8]

    def kept_neurons(self, source: BlockSource, group: int) -> NDArray[np.int64]:
        """Kept neurons of a group, counted from the group's first."""
        start = group * source.neurons_per_group
        return np.flatnonzero(self.neurons[start : start + source.neurons_per_group])

    def rows(
        self, source: BlockSource, at_once: int = ROWS_AT_ONCE
    ) -> Iterator[tuple[int, int, int, NDArray[np.int64], NDArray[np.bool_]]]:
        """Walk through the combining mask in pieces of one group and bounded size.

        Yields
        ------
        start, stop : int
            Outputs of the piece.
        group : int
            Their group.
        kept : array, (kept neurons,)
            The group's kept neurons, counted from its first.
        mask : bool array, (outputs, kept neurons, taps)
            Surviving combining weights.
        """
        rows_per_group = source.outputs // source.groups
        step = max(1, at_once // max(1, source.neurons_per_group * source.combine_taps))
        position = 0
        for group in range(source.groups):
            kept = self.kept_neurons(source, group)
            n_bits = len(kept) * source.combine_taps
            n_bytes = (n_bits + 7) // 8
            for start in range(group * rows_per_group, (group + 1) * rows_per_group, step):
                stop = min(start + step, (group + 1) * rows_per_group)
                size = (stop - start) * n_bytes
                packed = self.combine[position : position + size].reshape(stop - start, n_bytes)
                bits = np.unpackbits(packed, axis=1, count=n_bits).view(np.bool_)
                yield start, stop, group, kept, bits.reshape(stop - start, len(kept), source.combine_taps)
                position += size

    def n_combine_bytes(self, source: BlockSource) -> int:
        """Bytes that ``combine`` must have for the kept neurons."""
        counts = self.neurons.reshape(source.groups, source.neurons_per_group).sum(axis=1)
        return int(((counts * source.combine_taps + 7) // 8).sum()) * (source.outputs // source.groups)

    def has_stray_bits(self, source: BlockSource) -> bool:
        """Whether a bit is set that pads a row, and so stands for no weight."""
        counts = self.neurons.reshape(source.groups, source.neurons_per_group).sum(axis=1)
        position, rows = 0, source.outputs // source.groups
        for n_bits in (int(count) * source.combine_taps for count in counts):
            n_bytes = (n_bits + 7) // 8
            packed = self.combine[position : position + rows * n_bytes]
            if n_bits % 8 and bool((packed[n_bytes - 1 :: n_bytes] & (0xFF >> n_bits % 8)).any()):
                return True
            position += rows * n_bytes
        return False

    @property
    def n_kept(self) -> int:
        """Surviving weights and biases of both source layers."""
        return int(self.neurons.sum()) + int(np.bitwise_count(self.combine).sum())

    def expand(self, source: SourceLayer) -> Kept:
        """The neurons that live and what they keep; the source says which channel a neuron reads."""
        source = blocks(source)
        neuron = np.flatnonzero(self.neurons)
        channel = source.channels[neuron]
        assert BIAS == -1
        return Kept(neuron, channel, source.expand_at(neuron, channel))

    def entries(self, source: SourceLayer) -> Iterator[Entries]:
        """The surviving combining weights, from the first output to the last."""
        source = blocks(source)
        counts = self.neurons.reshape(source.groups, source.neurons_per_group).sum(axis=1)
        first = np.cumsum(counts) - counts
        for start, stop, group, kept, flags in self.rows(source):
            row, column, tap = np.nonzero(flags)
            value = source.combine_weight(start, stop)[row, kept[column], tap]
            yield Entries(start, stop, row + start, column + int(first[group]), tap, value)

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The neurons' weights in ascending order, then the combining ones output by output, none looked up singly."""
        yield self.expand(source).value
        source = blocks(source)
        for start, stop, _, kept, flags in self.rows(source):
            yield np.take(source.combine_weight(start, stop), kept, axis=1)[flags]

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Bits of the neurons and of the combining weights."""
        return {"neurons": np.packbits(self.neurons), "combine": self.combine}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> BlockMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        source = blocks(source)
        neurons, combine = tensors["neurons"], tensors["combine"]
        expected = (source.n_neurons + 7) // 8
        fits = neurons.dtype == combine.dtype == np.uint8 and neurons.shape == (expected,) and combine.ndim == 1
        if not fits:
            raise TicketError("mask", f"{neurons.dtype} {neurons.shape}", f"{expected} bytes of neuron bits")
        bits = np.unpackbits(neurons.view(np.uint8), count=source.n_neurons).view(np.bool_)
        mask = cls(bits, combine.view(np.uint8))
        n_bytes = mask.n_combine_bytes(source)
        if combine.size != n_bytes:
            raise TicketError("mask", f"{combine.size} bytes of weight bits", f"{n_bytes} for the kept neurons")
        if mask.has_stray_bits(source):
            raise TicketError("mask", "bits behind a row's last weight", "rows padded with zeros")
        return mask


def blocks(source: SourceLayer) -> BlockSource:
    """The source, if it is laid out in blocks.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(source, BlockSource):
        raise TypeError(f"a mask of blocks does not fit a {type(source).__name__}")
    return source
