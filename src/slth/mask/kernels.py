"""The mask of kernels: bits of the first layer's kernels, of one sign each; the second layer's follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import Mask
from slth.network.graph import Sign
from slth.source.kernels import KernelSource
from slth.source.spec import SourceLayer

ENTRIES_AT_ONCE = 1 << 22
"""Source weights that are made and held at a time when a layer is walked through."""

_LEAST_USABLE = 2.0**-12
"""Share of usable entries below which a file is refused before anything is drawn (chosen); a half is usual."""


@dataclass(frozen=True)
class KernelPiece:
    """Some living neurons, ascending.

    Attributes
    ----------
    neuron : int64 array, (neurons,)
        Counted over all groups.
    incoming : float32 array, (neurons, entries)
        The source's weights, kept or not.
    flags : bool array, (neurons, entries)
        Which are kept.
    outgoing : float32 array, (neurons,)
        The kept weight with which the neuron's own output reads it.
    """

    neuron: NDArray[np.int64]
    incoming: NDArray[np.float32]
    flags: NDArray[np.bool_]
    outgoing: NDArray[np.float32]


@dataclass(frozen=True)
class KernelSums:
    """Effective kernels, (outputs, entries), the sums of the products' absolute values, and the products of each."""

    total: NDArray[np.float64]
    size: NDArray[np.float64]
    count: NDArray[np.int64]


@dataclass(frozen=True)
class KernelMask(Mask):
    """Kept entries of kernels, all of one sign, and of the second layer the block diagonal.

    With S the mask of the first layer U and T that of the second layer V: T keeps the weights of an output from the
    living neurons of its own block, and S lies within {U > 0}, or within {U < 0}, and within {b > 0} for biases.

    Attributes
    ----------
    sign : int
        1 where the inputs are not negative, -1 where they are not positive: the sign of the kept weights.
    neurons : bool array, (n_neurons,)
        Neurons that live: those with a kept entry, which keep their outgoing weight too.
    kernels : uint8 array, (bytes,)
        One bit for every usable entry of the living neurons, neuron by neuron; padded with zeros to whole bytes.
    """

    sign: int
    neurons: NDArray[np.bool_]
    kernels: NDArray[np.uint8]

    @classmethod
    def build(cls, source: KernelSource, sign: int, flags: Iterable[NDArray[np.bool_]]) -> KernelMask:
        """The mask that keeps these entries.

        Parameters
        ----------
        source : KernelSource
        sign : int
        flags : iterable of bool arrays, (neurons, entries)
            One after another, from the first neuron to the last.
        """
        live, packed, rest, start = [], [], np.zeros(0, np.bool_), 0
        for piece in flags:
            lives = piece.any(axis=1)
            usable = source.usable(source.incoming(start, start + len(piece)), sign)
            bits = np.concatenate([rest, piece[lives][usable[lives]]])
            whole = len(bits) // 8 * 8
            live.append(lives)
            packed.append(np.packbits(bits[:whole]))
            rest = bits[whole:]
            start += len(piece)
        return cls(sign, np.concatenate(live), np.concatenate([*packed, np.packbits(rest)]))

    def serves(self, sign: Sign) -> bool:
        """Where all inputs have the mask's sign."""
        return sign.branches == (self.sign,)

    @property
    def n_kept(self) -> int:
        """Surviving weights and biases of both source layers."""
        return int(self.neurons.sum()) + int(np.bitwise_count(self.kernels).sum())

    def pieces(self, source: SourceLayer) -> Iterator[KernelPiece]:
        """The living neurons, in pieces of bounded size.

        Raises
        ------
        TicketError
            If there are not as many bits as usable entries.
        """
        source = kernels(source)
        live = np.flatnonzero(self.neurons)
        step = max(1, ENTRIES_AT_ONCE // source.entries)
        position = 0
        for first in range(0, len(live), step):
            neuron = live[first : first + step]
            incoming = _incoming(source, neuron)
            usable = source.usable(incoming, self.sign)
            stop = position + int(usable.sum())
            if stop > 8 * self.kernels.size:
                raise TicketError("mask", f"{self.kernels.size} bytes of kernel bits", "one bit a usable weight")
            flags = np.zeros(usable.shape, np.bool_)
            bits = np.unpackbits(self.kernels[position // 8 : (stop + 7) // 8])
            flags[usable] = bits[position % 8 :][: stop - position].view(np.bool_)
            yield KernelPiece(neuron, incoming, flags, source.outgoing(neuron))
            position = stop
        if (position + 7) // 8 != self.kernels.size:
            need = f"{(position + 7) // 8}, one bit a usable weight"
            raise TicketError("mask", f"{self.kernels.size} bytes of kernel bits", need)

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """First the kept entries, neuron by neuron, then the kept weights of the second layer."""
        outgoing = [np.zeros(0, np.float32)]
        for piece in self.pieces(source):
            outgoing.append(piece.outgoing)
            yield piece.incoming[piece.flags]
        yield np.concatenate(outgoing)

    def sums(self, source: SourceLayer) -> KernelSums:
        """Effective kernels: sums of v u over the kept entries of a block, in float64."""
        source = kernels(source)
        shape = (source.outputs, source.entries)
        total, size, count = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
        for piece in self.pieces(source):
            # Products of float32 numbers are exact.
            product = piece.incoming.astype(np.float64) * piece.outgoing.astype(np.float64)[:, None] * piece.flags
            output, first = np.unique(piece.neuron // source.block_width, return_index=True)
            total[output] += np.add.reduceat(product, first)
            size[output] += np.add.reduceat(np.abs(product), first)
            count[output] += np.add.reduceat(piece.flags, first, dtype=np.int64)
        return KernelSums(total, size, count)

    def dense(self, source: SourceLayer) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """S, the biases' part of it and T as whole tensors.

        Shapes (neurons, kernel entries), (neurons,) and (outputs, neurons per group, 1).
        """
        source = kernels(source)
        kept = np.zeros((source.n_neurons, source.entries), np.bool_)
        for piece in self.pieces(source):
            kept[piece.neuron] = piece.flags
        diagonal = np.zeros((source.outputs, source.neurons_per_group, 1), np.bool_)
        live = np.flatnonzero(self.neurons)
        diagonal[live // source.block_width, live % source.neurons_per_group] = True
        n_weights = source.kernel_entries
        biases = kept[:, -1] if source.bias else np.zeros(source.n_neurons, np.bool_)
        return kept[:, :n_weights], biases, diagonal

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The sign, bits of the neurons, and of the kernels."""
        return {
            "sign": np.array([self.sign], np.int8),
            "neurons": np.packbits(self.neurons),
            "kernels": self.kernels,
        }

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> KernelMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        source = kernels(source)
        sign, neurons, bits = tensors["sign"], tensors["neurons"], tensors["kernels"]
        if sign.dtype != np.int8 or sign.shape != (1,) or abs(int(sign.view(np.int8)[0])) != 1:
            raise TicketError("mask", f"a sign of {sign.dtype} {sign.shape}", "1 or -1, one byte")
        expected = (source.n_neurons + 7) // 8
        if neurons.dtype != np.uint8 or neurons.shape != (expected,) or bits.dtype != np.uint8 or bits.ndim != 1:
            raise TicketError("mask", f"{neurons.dtype} {neurons.shape}", f"{expected} bytes of neuron bits")
        live = np.unpackbits(neurons.view(np.uint8), count=source.n_neurons).view(np.bool_)
        mask = cls(int(sign.view(np.int8)[0]), live, bits.view(np.uint8))
        mask._check(source)
        return mask

    def _check(self, source: KernelSource) -> None:
        n_entries = int(self.neurons.sum()) * source.entries
        if n_entries * _LEAST_USABLE > 8 * self.kernels.size + 8:
            need = f"about half a bit for each of {n_entries} weights"
            raise TicketError("mask", f"{self.kernels.size} bytes of kernel bits", need)
        n_bits = 0
        for piece in self.pieces(source):
            if not piece.flags.any(axis=1).all():
                raise TicketError("mask", "a neuron that lives without a weight", "one weight at least")
            n_bits += int(piece.flags.sum())
        if n_bits != int(np.bitwise_count(self.kernels).sum()):
            raise TicketError("mask", "bits behind the last weight", "a last byte padded with zeros")


@dataclass(frozen=True)
class EitherSignMask(KernelMask):
    """Kernels that read what is never negative, made of inputs of either sign (:mod:`slth.source.signed`)."""

    def serves(self, sign: Sign) -> bool:
        """Everywhere."""
        return True

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> EitherSignMask:
        """The mask that a file holds, of kernels above 0."""
        mask = super().read(source, tensors)
        if mask.sign != 1:
            raise TicketError("mask", f"a sign of {mask.sign}", "1, the sign of what the kernels read")
        return cls(mask.sign, mask.neurons, mask.kernels)


def _incoming(source: KernelSource, neuron: NDArray[np.int64]) -> NDArray[np.float32]:
    """Entries of single neurons, of which most follow one another."""
    first, last = int(neuron[0]), int(neuron[-1]) + 1
    if last - first <= 2 * len(neuron):
        return source.incoming(first, last)[neuron - first]
    return np.concatenate([source.incoming(int(t), int(t) + 1) for t in neuron])


def kernels(source: SourceLayer) -> KernelSource:
    """The source, if it has kernels first.

    Raises
    ------
    TypeError
        If it has not.
    """
    if not isinstance(source, KernelSource):
        raise TypeError(f"a mask of kernels does not fit a {type(source).__name__}")
    return source
