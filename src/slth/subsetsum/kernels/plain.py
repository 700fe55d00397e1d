"""The kernel of `best` without vector code: meet in the middle with two pointers, equal sums kept once.

It solves what the vector kernels leave: base sets on a coarse grid, whose sums tie by the thousand, and everything on
machines where those kernels cannot be trusted (:mod:`slth.subsetsum.trust`).

Elements are flipped, scaled and rounded as in :mod:`.closest`. Beside each sum stands the choice that
makes it: its number of elements above its mask, both of the base set as given, so that the choices of the two halves
add up and the lower one of two is the one that the tie rule prefers. Where no element was rounded, sums are exact: only
the preferred choice of equal sums is kept, and the walk, which meets every pair that ties for the least residual,
compares residual and choice as whole numbers. Otherwise the pairs within the rounding of the least residual are
compared as in the other kernels, with the same proof.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import EXACT_SCALE, answer, better, gather, inner, quantise, scattered
from slth.subsetsum.kernels.stamp import source_stamp

_VALUE_BITS = 57
"""Bits of all magnitudes of a problem together; two more hold where the target lies between quanta."""
_ONE_MORE = np.int64(1) << np.int64(44)
_FAR = np.int64(2**62)


@inner
def _list(quanta, first, n, flips, exact, sums, choices, others, other_choices):  # type: ignore[no-untyped-def]
    """All sums of n elements in ascending order, with their choices; returns how many, and whether in `others`."""
    sums[0], choices[0] = 0, 0
    for k in range(first, first + n):
        if (flips >> np.uint64(k)) & np.uint64(1):
            choices[0] += _ONE_MORE + (np.int64(1) << k)
    length, swapped = np.int64(1), False
    for k in range(first, first + n):
        x = 4 * quanta[k]
        step = _ONE_MORE + (np.int64(1) << k)
        if (flips >> np.uint64(k)) & np.uint64(1):
            step = -step
        i, j, out = np.int64(0), np.int64(0), np.int64(0)
        while j < length:
            if i < length and sums[i] <= sums[j] + x:
                value, choice = sums[i], choices[i]
                i += 1
            else:
                value, choice = sums[j] + x, choices[j] + step
                j += 1
            if exact and out and others[out - 1] == value:
                other_choices[out - 1] = min(other_choices[out - 1], choice)
            else:
                others[out], other_choices[out] = value, choice
                out += 1
        length = out
        sums, others = others, sums
        choices, other_choices = other_choices, choices
        swapped = not swapped
    return length, swapped


@inner
def _walk(left, left_choices, n_left, right, right_choices, n_right, goal):  # type: ignore[no-untyped-def]
    """The least residual, and the preferred choice among the pairs that the walk meets with it."""
    i, j = np.int64(0), n_right - 1
    best, chosen = _FAR, _FAR
    while i < n_left and j >= 0:
        gap = left[i] + right[j] - goal
        size = abs(gap)
        if size <= best:
            choice = left_choices[i] + right_choices[j]
            if size < best or choice < chosen:
                best, chosen = size, choice
        if gap < 0:
            i += 1
        else:
            j -= 1
    return best, chosen


@inner
def _collect(left, left_choices, n_left, right, right_choices, n_right, goal, band, masks):  # type: ignore[no-untyped-def]
    """The choices of all pairs within `band` of the goal; returns how many, at most one more than there is room for."""
    i, j, found = np.int64(0), n_right - 1, np.int64(0)
    while i < n_left and j >= 0:
        gap = left[i] + right[j] - goal
        # What is passed over comes last: leaving a row, its other pairs lie below and fall, or above and rise.
        a, b = i, j
        while a < n_left and b >= 0 and abs(left[a] + right[b] - goal) <= band:
            if found == len(masks):
                return found + 1
            masks[found] = np.uint64((left_choices[a] + right_choices[b]) & (_ONE_MORE - 1))
            found += 1
            if gap < 0:
                b -= 1
            else:
                a += 1
        if gap < 0:
            i += 1
        else:
            j -= 1
    return found


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64,
    types.int64[:, ::1], types.uint64[::1], types.int64[:, ::1], types.float64[:, ::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def plain(  # type: ignore[no-untyped-def]
        values, starts, counts, targets, order,
        start, stop,
        lists, masks, ints, floats,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Solve the problems ``order[start:stop]``.

        `lists` has eight rows of 2^ceil(m / 2) elements for the largest m. ``flags[p]`` becomes 1 where the exact
        solver has to take over, else 0. ``halt[0]`` is the order to stop.
        """
        place, quanta = ints[0], ints[1]
        base, parts = floats[0], floats[1]
        for at in range(start, stop):
            if halt[0]:
                break
            p = order[at]
            target = targets[p]
            m, scale = gather(values, starts[p], starts[p] + counts[p], base, place)
            flags[p] = 1
            if not scale + abs(target) < EXACT_SCALE:
                continue
            goal, flips, margin, exact, rest = quantise(base, m, target, scale, _VALUE_BITS, quanta)
            goal *= 4
            if exact and rest != 0.0:
                # Between two quanta, only on which side of the middle matters; there, that it is the middle.
                side = 2 if abs(rest) == 0.5 else 1
                goal += side if rest > 0.0 else -side
            n_left = m // 2
            left_length, left_swapped = _list(quanta, 0, n_left, flips, exact, lists[0], lists[1], lists[2], lists[3])
            right_length, right_swapped = _list(
                quanta, n_left, m - n_left, flips, exact, lists[4], lists[5], lists[6], lists[7]
            )
            a, b = (2 if left_swapped else 0), (6 if right_swapped else 4)
            best, chosen = _walk(lists[a], lists[a + 1], left_length, lists[b], lists[b + 1], right_length, goal)
            winner = np.uint64(chosen & (_ONE_MORE - 1))
            scale += abs(target)
            if not exact:
                found = _collect(
                    lists[a], lists[a + 1], left_length, lists[b], lists[b + 1], right_length, goal,
                    best + 4 * margin, masks,
                )  # fmt: skip
                if found > len(masks):
                    continue
                for c in range(found):
                    if masks[c] != winner and better(base, m, target, scale, masks[c], winner, parts):
                        winner = masks[c]
            sums[p], errors[p] = answer(base, m, winner, target, scale, parts)
            selected[p] = scattered(winner, m, place)
            flags[p] = 0
        return stamp

    return plain


plain = _make(source_stamp("arith.py", "plain.py"))
