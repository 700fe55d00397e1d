"""The kernel of `sparsest` for large subsets: meet in the middle between classes of equal size.

Sums of each half are sorted fixed-point keys as in :mod:`.closest`, dealt out by the number of elements
they stand for. A subset of k elements pairs a class of the left half with one of the right, so each size costs one walk
along all classes. The band of near-ties is settled as in `closest`, with the same proof.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import (
    EXACT_SCALE,
    VALUE_BITS,
    answer,
    better,
    gather,
    inner,
    popcount,
    quantise,
    scattered,
)
from slth.subsetsum.kernels.stamp import source_stamp

CANDIDATES = 2**18
_NONE = np.int64(0)


@inner
def _merge(into, other, keys, first, n):  # type: ignore[no-untyped-def]
    """All sums of n keys in ascending order; returns which of the two arrays holds them (0 or 1)."""
    into[0] = 0
    for level in range(n):
        length = np.int64(1) << level
        x = keys[first + level]
        i, j = 0, 0
        while i < length:
            if into[i] < into[j] + x:
                other[i + j] = into[i]
                i += 1
            else:
                other[i + j] = into[j] + x
                j += 1
        while j < length:
            other[length + j] = into[j] + x
            j += 1
        into, other = other, into
    return n & 1


@inner
def _deal(sums, n, bits, flips, out, ends):  # type: ignore[no-untyped-def]
    """Sort by the number of elements chosen, keeping the order within; class c is ``out[ends[c]:ends[c + 1]]``."""
    low_bits = (np.int64(1) << bits) - 1
    for c in range(n + 2):
        ends[c] = 0
    for t in range(1 << n):
        ends[popcount(np.uint64(sums[t] & low_bits) ^ flips) + 1] += 1
    for c in range(n + 1):
        ends[c + 1] += ends[c]
    for t in range(1 << n):
        c = popcount(np.uint64(sums[t] & low_bits) ^ flips)
        out[ends[c]] = sums[t]
        ends[c] += 1
    for c in range(n, -1, -1):
        ends[c + 1] = ends[c]
    ends[0] = 0


@inner
def _walk(left, a, b, right, c, d, goal, bits, shift, best, band, n_found, masks, m):  # type: ignore[no-untyped-def]
    """Walk one pair of classes. Returns the least residual in quanta and the number of pairs found within `band`."""
    low_bits = (np.int64(1) << bits) - 1
    i, j = a, d - 1
    while i < b and j >= c:
        gap = (left[i] >> bits) + (right[j] >> bits) - goal
        best = min(best, abs(gap))
        if gap < 0:
            # Leaving this row: what it still had to meet lies below, and falls.
            k = j
            while k >= c and goal - (left[i] >> bits) - (right[k] >> bits) <= band and n_found < CANDIDATES:
                masks[n_found] = np.uint64(left[i] & low_bits) | (np.uint64(right[k] & low_bits) << shift)
                n_found += 1
                k -= 1
            i += 1
        else:
            k = i
            while k < b and (left[k] >> bits) + (right[j] >> bits) - goal <= band and n_found < CANDIDATES:
                masks[n_found] = np.uint64(left[k] & low_bits) | (np.uint64(right[j] & low_bits) << shift)
                n_found += 1
                k += 1
            j -= 1
    return best, n_found


@inner
def _size(k, left, n_left, left_ends, right, n_right, right_ends, goal, bits, band, masks, m):  # type: ignore[no-untyped-def]
    """Walk all pairs of classes that make k elements; a negative band only looks for the least residual."""
    best, n_found = np.int64(2**62), _NONE
    for a in range(max(0, k - n_right), min(k, n_left) + 1):
        b = k - a
        best, n_found = _walk(
            left, left_ends[a], left_ends[a + 1], right, right_ends[b], right_ends[b + 1],
            goal, bits, np.uint64(n_left), best, band, n_found, masks, m,
        )  # fmt: skip
    return best, n_found


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.float64, types.int64[::1],
    types.int64[:, ::1], types.uint64[::1], types.int64[:, ::1], types.float64[:, ::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def by_size(  # type: ignore[no-untyped-def]
        values, starts, counts, targets, order, start, stop, tolerance, sizes,
        lists, masks, ints, floats,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Find the sparsest subset of more than ``sizes[m]`` elements for the problems ``order[start:stop]``.

        ``flags[p]`` becomes 0, or 2 where the exact solver has to take over. `lists` has four rows of 2^ceil(m / 2)
        elements, `masks` room for ``CANDIDATES``.
        """
        place, keys, left_ends, right_ends = ints[0], ints[1], ints[2], ints[3]
        base, parts = floats[0], floats[1]
        for at in range(start, stop):
            if halt[0]:
                break
            p = order[at]
            target = targets[p]
            m, scale = gather(values, starts[p], starts[p] + counts[p], base, place)
            flags[p] = 2
            if not scale + abs(target) < EXACT_SCALE:
                continue
            n_left = m // 2
            n_right = m - n_left
            bits = np.int64(n_right)
            goal, flips, margin, _, _ = quantise(base, m, target, scale, VALUE_BITS - bits, keys)
            scale += abs(target)
            for k in range(m):
                keys[k] = (keys[k] << bits) | (np.int64(1) << (k if k < n_left else k - n_left))
            used = _merge(lists[0], lists[1], keys, _NONE, n_left)
            left = lists[1 - used]
            _deal(lists[used], n_left, bits, flips & np.uint64((1 << n_left) - 1), left, left_ends)
            used = _merge(lists[2], lists[3], keys, n_left, n_right)
            right = lists[3 - used]
            _deal(lists[2 + used], n_right, bits, flips >> np.uint64(n_left), right, right_ends)
            for k in range(min(sizes[m], m) + 1, m + 1):
                if halt[0]:
                    break
                best, _ = _size(
                    k, left, n_left, left_ends, right, n_right, right_ends, goal, bits, np.int64(-1), masks, m
                )
                _, n_found = _size(
                    k, left, n_left, left_ends, right, n_right, right_ends, goal, bits, best + margin, masks, m
                )
                if n_found >= CANDIDATES:
                    break
                winner = masks[0] ^ flips
                for c in range(1, n_found):
                    if better(base, m, target, scale, masks[c] ^ flips, winner, parts):
                        winner = masks[c] ^ flips
                total, error = answer(base, m, winner, target, scale, parts)
                if error <= tolerance:
                    sums[p], errors[p], flags[p] = total, error, 0
                    selected[p] = scattered(winner, m, place)
                    break
        return stamp

    return by_size


by_size = _make(source_stamp("arith.py", "classes.py"))
