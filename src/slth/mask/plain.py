"""The mask of a source layer in the network's own shape: one bit for every weight and bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import Mask
from slth.source.plain import PlainSource
from slth.source.spec import SourceLayer

METHODS = ("edge-popup", "multi-prize", "bernoulli")
"""By which such masks are learnt: Ramanujan et al. 2020, Diffenderfer and Kailkhura 2021, Zhou et al. 2019."""

_AT_ONCE = 1 << 22
"""Source weights that are made at a time; a multiple of 8."""


@dataclass(frozen=True)
class PlainMask(Mask):
    """Kept numbers of a layer.

    Attributes
    ----------
    kept : uint8 array, (ceil(numbers / 8),)
        One bit for each number of the source, in its order, the first in the highest bit.
    """

    kept: NDArray[np.uint8]

    @classmethod
    def build(cls, flags: NDArray[np.bool_]) -> PlainMask:
        """The mask that keeps the numbers with a flag, (numbers,)."""
        return cls(np.packbits(flags))

    def flags(self, source: SourceLayer) -> NDArray[np.bool_]:
        """Which numbers are kept, (numbers,)."""
        return np.unpackbits(self.kept, count=plain(source).n_weights).view(np.bool_)

    def pruned(self, source: SourceLayer) -> NDArray[np.float32]:
        """The source's numbers, 0 where they are dropped, (numbers,)."""
        numbers = plain(source).numbers()
        numbers[~self.flags(source)] = 0.0
        return numbers

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The kept numbers in their order."""
        source, flags = plain(source), self.flags(source)
        for start in range(0, len(flags), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(flags))
            yield source.numbers(start, stop)[flags[start:stop]]

    @property
    def n_kept(self) -> int:
        """Surviving weights and biases."""
        return int(np.bitwise_count(self.kept).sum())

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The bits."""
        return {"kept": self.kept}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> PlainMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        found, n = tensors["kept"], plain(source).n_weights
        expected = (n + 7) // 8
        if found.dtype != np.uint8 or found.shape != (expected,):
            raise TicketError("mask", f"kept: {found.dtype} {found.shape}", f"{expected} bytes")
        bits = found.view(np.uint8)
        if n % 8 and int(bits[-1]) & (0xFF >> n % 8):
            raise TicketError("mask", "kept: bits behind the last number", "bytes padded with zeros")
        return cls(bits)


def plain(source: SourceLayer) -> PlainSource:
    """The source, if it has the shape of the network's own layer.

    Raises
    ------
    TypeError
        If it has not.
    """
    if not isinstance(source, PlainSource):
        raise TypeError(f"a mask of single weights does not fit a {type(source).__name__}")
    return source
