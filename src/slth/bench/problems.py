"""Seeded subset-sum problems to measure on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.source import philox

BASE_SETS = ("uniform", "product")
"""Elements from U[-1, 1], or products of two such numbers, as the two-for-one construction has them."""


@dataclass(frozen=True)
class Problems:
    """P problems of m elements each: ``base`` (P, m) and ``targets`` (P,), float64."""

    base: NDArray[np.float64]
    targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def m(self) -> int:
        """Elements of each base set."""
        return int(self.base.shape[1])

    def first(self, count: int) -> Problems:
        """The first ``count`` of them."""
        return Problems(self.base[:count], self.targets[:count])

    def tiled(self, times: int) -> Problems:
        """All of them, several times over."""
        return Problems(np.tile(self.base, (times, 1)), np.tile(self.targets, times))


def draw(base_set: str, m: int, count: int, seed: int) -> Problems:
    """Problems with targets from U[-0.5, 0.5].

    Problem p is the same however many are drawn, so that who solves few of them solves the first of the others'.

    Parameters
    ----------
    base_set : str
        One of :data:`BASE_SETS`.
    m, count, seed : int

    Examples
    --------
    >>> bool((draw("product", 8, 3, 0).base == draw("product", 8, 9, 0).base[:3]).all())
    True
    """
    base = _uniform(seed, m, 0, count * m).reshape(count, m)
    if base_set == "product":
        base = base * _uniform(seed, m, 1, count * m).reshape(count, m)
    return Problems(base, _uniform(seed, m, 2, count) / 2)


def _uniform(seed: int, m: int, tensor: int, count: int) -> NDArray[np.float64]:
    """U[-1, 1] from 53 random bits each: a source's own weights have 24, too few to be typical of float64."""
    words = philox.words(philox.stream_key(seed, m, tensor), 0, 2 * count).astype(np.uint64)
    bits = (words[::2] << np.uint64(32) | words[1::2]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-52 - 1.0
