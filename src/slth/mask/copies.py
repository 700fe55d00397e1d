"""The mask of copies: for every copy of an output its own subsets of the copies of every input and of the constants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import Mask
from slth.source.copies import CopySource
from slth.source.spec import SourceLayer

ENTRIES_AT_ONCE = 1 << 22
"""Source weights that are made and held at a time when a layer is walked through."""


@dataclass(frozen=True)
class CopyPiece:
    """Some rows of a layer.

    Attributes
    ----------
    start, stop : int
        Whole outputs, or the rows of the constants.
    weight : float32 array, (rows, inputs, taps, copies)
        From copies of inputs, kept or not; without rows for the constants' rows.
    flags : bool array, of that shape
        Which are kept.
    constant_weight : float32 array, (rows, constants)
    constant_flags : bool array, of that shape
    """

    start: int
    stop: int
    weight: NDArray[np.float32]
    flags: NDArray[np.bool_]
    constant_weight: NDArray[np.float32]
    constant_flags: NDArray[np.bool_]


@dataclass(frozen=True)
class CopyMask(Mask):
    """Kept weights of a layer that reads copies.

    Attributes
    ----------
    copies : uint8 array, (bytes,)
        Bits of the weights from copies of inputs, row by row, each row padded to whole bytes: input by input, tap by
        tap, copy by copy. Rows that make constants have none.
    constants : uint8 array, (bytes,)
        Bits of the weights from constants, row by row in the same way; rows that have no bias have none.
    """

    copies: NDArray[np.uint8]
    constants: NDArray[np.uint8]

    def pieces(self, source: SourceLayer, entries: int = ENTRIES_AT_ONCE) -> Iterator[CopyPiece]:
        """All rows, in pieces of bounded size."""
        source = copies(source)
        shape = (source.inputs_per_group, source.taps, source.block_width)
        kept = self.copies.reshape(source.data_rows, (math.prod(shape) + 7) // 8)
        with_constants = source.rows - source.first_constant_row
        constants = self.constants.reshape(with_constants, (source.constants_in + 7) // 8)
        for start, stop in source.ranges(entries):
            weight = source.weight(start, stop)
            from_inputs, flags = np.zeros((0, *shape), np.float32), np.zeros((0, *shape), np.bool_)
            if start < source.data_rows:
                from_inputs = source.inputs(weight).view(np.float32)
                flags = _unpack(kept[start:stop], shape)
            constant_flags = np.zeros((stop - start, source.constants_in), np.bool_)
            if start >= source.first_constant_row:
                first = source.first_constant_row
                constant_flags = _unpack(constants[start - first : stop - first], (source.constants_in,))
            constant_weight = np.ascontiguousarray(source.constants(weight)).view(np.float32)
            yield CopyPiece(start, stop, from_inputs, flags, constant_weight, constant_flags)

    @property
    def n_kept(self) -> int:
        """Surviving weights."""
        return int(np.bitwise_count(self.copies).sum()) + int(np.bitwise_count(self.constants).sum())

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The weights from copies of inputs in the order of their bits, then those from constants."""
        constants = [np.zeros(0, np.float32)]
        for piece in self.pieces(source):
            constants.append(piece.constant_weight[piece.constant_flags])
            yield piece.weight[piece.flags]
        yield np.concatenate(constants)

    def dense(self, source: SourceLayer) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Rows from, rows to, and their part of the mask as a whole tensor, (rows, columns, taps)."""
        source = copies(source)
        for piece in self.pieces(source):
            flags = piece.flags
            if not len(flags):
                shape = (piece.stop - piece.start, source.inputs_per_group, source.taps, source.block_width)
                flags = np.zeros(shape, np.bool_)
            yield piece.start, piece.stop, source.whole(flags, piece.constant_flags)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Both kinds of bits."""
        return {"copies": self.copies, "constants": self.constants}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> CopyMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        source = copies(source)
        n_bits = source.inputs_per_group * source.taps * source.block_width
        parts = []
        for name, rows, bits in (
            ("copies", source.data_rows, n_bits),
            ("constants", source.rows - source.first_constant_row, source.constants_in),
        ):
            found, expected = tensors[name], rows * ((bits + 7) // 8)
            if found.dtype != np.uint8 or found.shape != (expected,):
                raise TicketError("mask", f"{name}: {found.dtype} {found.shape}", f"{expected} bytes")
            part = found.view(np.uint8)
            if bits % 8 and bool((part[bits // 8 :: (bits + 7) // 8] & (0xFF >> bits % 8)).any()):
                raise TicketError("mask", f"{name}: bits behind a row's last weight", "rows padded with zeros")
            parts.append(part)
        return cls(*parts)


def pack(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits of rows, each padded to whole bytes."""
    return np.packbits(flags.reshape(len(flags), -1), axis=1).ravel()


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(packed, axis=1, count=math.prod(shape)).view(np.bool_).reshape(len(packed), *shape)


def copies(source: SourceLayer) -> CopySource:
    """The source, if it reads copies.

    Raises
    ------
    TypeError
        If it does not.
    """
    if not isinstance(source, CopySource):
        raise TypeError(f"a mask of copies does not fit a {type(source).__name__}")
    return source
