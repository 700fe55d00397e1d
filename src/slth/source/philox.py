"""Philox 4x32-10: random words by counter, so that any element can be made alone and is the same everywhere.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

GENERATOR = "philox4x32-10"

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)


@numba.njit(inline="always")
def _block(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Ten rounds on one counter; all values are 32-bit words held in uint64."""
    for _ in range(10):
        product_0 = c0 * _MULTIPLIER_0
        product_1 = c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (product_1 >> _SHIFT) ^ c1 ^ k0,
            product_1 & _MASK,
            (product_0 >> _SHIFT) ^ c3 ^ k1,
            product_0 & _MASK,
        )
        k0 = (k0 + _WEYL_0) & _MASK
        k1 = (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


@numba.njit(cache=True, nogil=True)
def _fill(key_0: Any, key_1: Any, start: Any, out: Any) -> None:
    size = np.uint64(out.size)
    position = np.uint64(0)
    while position < size:
        index = start + position
        counter = index >> np.uint64(2)
        words = _block(counter & _MASK, counter >> _SHIFT, np.uint64(0), np.uint64(0), key_0, key_1)
        lane = index & np.uint64(3)
        for k in range(4):
            if np.uint64(k) >= lane and position < size:
                out[position] = np.uint32(words[k])
                position += np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _gather(key_0: Any, key_1: Any, indices: Any, out: Any) -> None:
    for position in range(indices.size):
        index = indices[position]
        counter = index >> np.uint64(2)
        words = _block(counter & _MASK, counter >> _SHIFT, np.uint64(0), np.uint64(0), key_0, key_1)
        out[position] = np.uint32(words[index & np.uint64(3)])


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four random 32-bit words of a 128-bit counter under a 64-bit key (lowest word first).

    The obvious version, in Python's integers: the oracle of the kernels, and the source of the stream keys.

    Examples
    --------
    >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    mask = 0xFFFFFFFF
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product_0, product_1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (product_1 >> 32) ^ c1 ^ k0, product_1 & mask, (product_0 >> 32) ^ c3 ^ k1, product_0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0, c1, c2, c3


def stream_key(seed: int, layer: int, tensor: int) -> tuple[int, int]:
    """Key of one tensor of one layer: the first two words of counter (layer, tensor, 0, 0) under the seed as key."""
    first, second, _, _ = philox((layer, tensor, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))
    return first, second


def words(key: tuple[int, int], start: int, count: int) -> NDArray[np.uint32]:
    """Random words of the elements ``start`` to ``start + count``.

    Element i takes word i mod 4 of the counter i div 4.
    """
    out = np.empty(count, dtype=np.uint32)
    _fill(np.uint64(key[0]), np.uint64(key[1]), np.uint64(start), out)
    return out


def words_at(key: tuple[int, int], indices: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Random words of scattered elements, in the order asked."""
    out = np.empty(indices.size, dtype=np.uint32)
    _gather(np.uint64(key[0]), np.uint64(key[1]), np.ascontiguousarray(indices, dtype=np.uint64), out)
    return out
