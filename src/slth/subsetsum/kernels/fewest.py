"""The kernel of `sparsest` for small subsets: every subset of a size, size after size, until one is close enough.

Sums of two elements are laid out by their lower element, so that the pairs above any element are the end of the list.
A subset of k elements is then k - 2 elements and a run of pairs, and the run is a vector loop. Sizes whose sums cannot
reach the target (k times the largest or smallest element) are passed over.

What is proved: a float64 sum of at most eight elements is off by less than ``2^-49`` times the sum of all magnitudes
(`slack`). Whatever comes within twice that of the closest sum found is compared without rounding error, and a size is
given up only if its closest sum lies beyond the tolerance by more than `slack` or, exactly, beyond the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import EXACT_SCALE, answer, better, gather, inner, scattered
from slth.subsetsum.kernels.flags import BEYOND, OPEN, SOLVED
from slth.subsetsum.kernels.lanes import COLUMNS, make_nearest, make_shift
from slth.subsetsum.kernels.stamp import source_stamp

MAX_SIZE = 6
"""Largest subset looked for here: its sums must stay within `slack`."""
_NONE = np.int64(0)
_ROUNDING = 2.0**-49
_BLOCK = 32
FLOATS = 64 + 128 + 44 * 22 + 64

_nearest = make_nearest()
_shift = make_shift()


@inner
def _offer_run(base, m, target, scale, pairs, ends, first, last, gap, prefix, within, winner, found, parts):  # type: ignore[no-untyped-def]
    """Compare the pairs ``first .. last - 1`` that lie `within` of `gap` with the winner so far."""
    for block in range(first, last, _BLOCK):
        stop = min(block + _BLOCK, last)
        address = np.uint64(pairs.ctypes.data) + np.uint64(8 * block)
        if _nearest(address, np.uint64(stop - block), gap) > within:
            continue
        for t in range(block, stop):
            if abs(gap - pairs[t]) <= within:
                low = 0
                while ends[low + 1] <= t:
                    low += 1
                high = low + 1 + t - ends[low]
                mask = prefix | (np.uint64(1) << np.uint64(low)) | (np.uint64(1) << np.uint64(high))
                if found == 0 or better(base, m, target, scale, mask, winner, parts):
                    winner = mask
                found += 1
    return winner, found


@inner
def _size_class(base, m, k, target, scale, pairs, ends, within, slack, index, parts):  # type: ignore[no-untyped-def]
    """All subsets of k >= 3 elements, as runs of pairs behind k - 2 elements in ascending order.

    Returns the least distance to a sum; whether it is known that all others within 2 `slack` of it are in the same run;
    that run's elements, first pair and gap; and the best subset `within` reach of the target (none if negative).
    """
    outer = k - 3
    n_pairs = ends[m - 1]
    address = np.uint64(pairs.ctypes.data)
    least, second = np.inf, np.inf
    run_prefix, run_first, run_gap = np.uint64(0), np.int64(0), 0.0
    winner, found = np.uint64(0), _NONE
    for t in range(outer):
        index[t] = t
    while True:
        gap, prefix = target, np.uint64(0)
        for t in range(outer):
            gap -= base[index[t]]
            prefix |= np.uint64(1) << np.uint64(index[t])
        for p in range(index[outer - 1] + 1 if outer > 0 else 0, m - 2):
            first = ends[p + 1]
            left = gap - base[p]
            near = _nearest(address + np.uint64(8 * first), np.uint64(n_pairs - first), left)
            if near < second:
                second = near
                if near < least:
                    second, least = least, near
                    run_prefix = prefix | (np.uint64(1) << np.uint64(p))
                    run_first, run_gap = first, left
            if near <= within:
                chosen = prefix | (np.uint64(1) << np.uint64(p))
                winner, found = _offer_run(
                    base, m, target, scale, pairs, ends, first, n_pairs, left, chosen, within, winner, found, parts
                )
        t = outer - 1
        while t >= 0 and index[t] == m - k + t:
            t -= 1
        if t < 0:
            break
        index[t] += 1
        for u in range(t + 1, outer):
            index[u] = index[u - 1] + 1
    return least, second > least + 2.0 * slack, run_prefix, run_first, run_gap, winner


@inner
def _pairs(base, m, target, pairs, ends, slack):  # type: ignore[no-untyped-def]
    """Lay out all pair sums. Returns the least distance, whether it is clear of other rows', and its row."""
    address, into = np.uint64(base.ctypes.data), np.uint64(pairs.ctypes.data)
    least, second, row = np.inf, np.inf, 0
    n = 0
    for i in range(m - 1):
        ends[i] = n
        count = m - 1 - i
        near = _shift(address + np.uint64(8 * (i + 1)), np.uint64(count), base[i], into + np.uint64(8 * n), target)
        n += count
        if near < second:
            second = near
            if near < least:
                second, least, row = least, near, i
    ends[m - 1] = n
    ends[m] = n
    return least, second > least + 2.0 * slack, row


@inner
def _singles(base, m, target, scale, within, parts):  # type: ignore[no-untyped-def]
    """The best single element within reach, as a mask."""
    winner, found = np.uint64(0), False
    for k in range(m):
        if abs(target - base[k]) <= within:
            mask = np.uint64(1) << np.uint64(k)
            if not found or better(base, m, target, scale, mask, winner, parts):
                winner, found = mask, True
    return winner


@inner
def _of_size(base, m, k, target, scale, tolerance, slack, pairs, ends, index, parts):  # type: ignore[no-untyped-def]
    """The best subset of k elements if any lies within tolerance + slack: (found, mask)."""
    none = np.uint64(0)
    if k == 1:
        least = _nearest(np.uint64(base.ctypes.data), np.uint64(m), target)
        if least > tolerance + slack:
            return False, none
        return True, _singles(base, m, target, scale, least + 2.0 * slack, parts)
    if k == 2:
        least, alone, row = _pairs(base, m, target, pairs, ends, slack)
        if least > tolerance + slack:
            return False, none
        first, last = (ends[row], ends[row + 1]) if alone else (np.int64(0), ends[m - 1])
        mask, _ = _offer_run(
            base, m, target, scale, pairs, ends, first, last, target, none, least + 2.0 * slack, none, _NONE, parts
        )
        return True, mask
    least, alone, prefix, first, gap, _ = _size_class(base, m, k, target, scale, pairs, ends, -1.0, slack, index, parts)
    if least > tolerance + slack:
        return False, none
    within = least + 2.0 * slack
    if alone:
        mask, _ = _offer_run(
            base, m, target, scale, pairs, ends, first, ends[m - 1], gap, prefix, within, none, _NONE, parts
        )
        return True, mask
    _, _, _, _, _, mask = _size_class(base, m, k, target, scale, pairs, ends, within, slack, index, parts)
    return True, mask


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.float64, types.int64[::1],
    types.int64[:, ::1], types.float64[::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def fewest(  # type: ignore[no-untyped-def]
        values, starts, counts, targets, order, start, stop, tolerance, sizes,
        ints, floats,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Solve the problems ``order[start:stop]`` as far as subsets of up to ``sizes[m]`` elements are concerned.

        ``flags[p]`` becomes ``SOLVED``, ``OPEN`` where no subset so small is within the tolerance, or ``BEYOND``.
        `halt` as in :func:`.closest.closest`.
        """
        place, ends, index = ints[0], ints[1], ints[2]
        base, parts, pairs = floats[:64], floats[64:192], floats[192:]
        for at in range(start, stop):
            if halt[0]:
                break
            p = order[at]
            target = targets[p]
            m, scale = gather(values, starts[p], starts[p] + counts[p], base, place)
            scale += abs(target)
            if not scale < EXACT_SCALE:
                flags[p] = BEYOND
                continue
            flags[p] = OPEN
            slack = _ROUNDING * scale
            low, high, below, above = np.inf, -np.inf, 0.0, 0.0
            for k in range(m):
                low, high = min(low, base[k]), max(high, base[k])
                below, above = below + min(base[k], 0.0), above + max(base[k], 0.0)
            for k in range(m, m + COLUMNS):
                base[k] = np.inf
            reach = tolerance + slack
            mask, found = np.uint64(0), abs(target) <= tolerance
            if not found and below - reach <= target <= above + reach:
                paired = False
                for k in range(1, min(sizes[m], m) + 1):
                    if not k * low - reach <= target <= k * high + reach:
                        continue
                    if k > 2 and not paired:
                        _pairs(base, m, target, pairs, ends, slack)
                    paired = paired or k >= 2
                    close, mask = _of_size(base, m, k, target, scale, tolerance, slack, pairs, ends, index, parts)
                    if close:
                        _, error = answer(base, m, mask, target, scale, parts)
                        if error <= tolerance:
                            found = True
                            break
            if found:
                sums[p], errors[p] = answer(base, m, mask, target, scale, parts)
                selected[p] = scattered(mask, m, place)
                flags[p] = SOLVED
        return stamp

    return fewest


fewest = _make(source_stamp("arith.py", "flags.py", "vectors.py", "lanes.py", "fewest.py"))
