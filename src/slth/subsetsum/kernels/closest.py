"""The kernel of `best` for base sets of any size: meet in the middle over fixed-point sums, one problem at a time.

Every element is flipped to be positive (choosing -x is not choosing x, with the target moved by x), scaled by a power
of two and rounded to whole quanta. A sum is then one int64: quanta above, below them the bits of the elements chosen,
so that sorting sums sorts subsets. The left list holds all sums of the first elements, the right list those of the
next; one element in between belongs to neither and is tried both ways by two walks, which saves the last merge of the
left list. Elements behind these, where memory is short, are tried in all ways one after the other. Lists grow by
merging one with itself shifted (:func:`.lanes.make_merge`).

What is proved: with the rounding r_k of element k and r of the target, a chosen set's true residual differs from its
fixed-point one by ``r - sum of the chosen r_k``, whose magnitude `spread` bounds over all sets (it is computed, about
m / 8 quanta). So the optimum lies within ``2 spread`` quanta of the fixed-point optimum. The walk hands on every pair
in that band, and they are compared without rounding error (:mod:`.arith`). Where a band holds more than
fits, the problem is flagged and left to :mod:`.plain`.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import (
    ANYTHING,
    EXACT_SCALE,
    VALUE_BITS,
    answer,
    better,
    first_band,
    gather,
    inner,
    popcount,
    quantise,
    scattered,
)
from slth.subsetsum.kernels.lanes import (
    BEHIND,
    COLUMNS,
    FRONT,
    ROWS,
    STRETCHES,
    WALKS,
    WIDTH,
    make_look,
    make_merge,
    make_mirror,
    make_scan,
)
from slth.subsetsum.kernels.stamp import source_stamp

_TILES = 16
"""Tiles walked between two looks at what was found."""
_ROWS_END = 2**61
_COLUMNS_END = -(2**62 + 2**61)
"""Sentinels behind the left and before the right list: out of every band, alone and with each other."""
_SHORT = 2 * WIDTH * STRETCHES
"""Lists below this length are merged sum by sum."""
_ONE = np.uint64(1)
INT_ROWS = 8
"""Rows of 64 for what is small."""

_merge, _scan, _look, _mirror = make_merge(), make_scan(), make_look(), make_mirror()


def scratch_elements(n_left: int, n_right: int) -> int:
    """Elements of scratch for two buffers a list."""
    return int(2 * (2**n_left + 2**n_right) + 4 * (FRONT + BEHIND))


@inner
def _cut(sums, at, length, x, stretch, starts):  # type: ignore[no-untyped-def]
    """How many unshifted sums are among the first ``stretch * k`` of the merged list, for each stretch k."""
    for k in range(STRETCHES):
        done = k * stretch
        low, high = np.int64(0), np.int64(done)
        while low < high:
            middle = (low + high) >> 1
            if sums[at + middle] < sums[at + done - middle - 1] + x:
                low = middle + 1
            else:
                high = middle
        starts[k] = low


@inner
def _grow(scratch, address, source, target, length, key, total, small, small_address):  # type: ignore[no-untyped-def]
    """Merge the list of `length` sums at element `source` with itself shifted by `key` into `target`."""
    if length < _SHORT:
        i = np.int64(0)
        for k in range(length):
            plain, shifted = scratch[source + i], scratch[source + k - i] + key
            take = plain < shifted
            scratch[target + k] = plain if take else shifted
            i += np.int64(take)
        for k in range(length):
            scratch[target + 2 * length - 1 - k] = total - scratch[target + k]
        return
    stretch = length // STRETCHES
    _cut(scratch, source, length, key, stretch, small)
    small[STRETCHES], small[STRETCHES + 1] = key, 0
    _merge(
        address + np.uint64(8 * source), address + np.uint64(8 * target),
        small_address + np.uint64(8 * STRETCHES), small_address, np.uint64(stretch),
    )  # fmt: skip
    _mirror(address + np.uint64(8 * target), np.uint64(length), np.uint64(total))


@inner
def _list(scratch, address, start, n, quanta, first, bits, small, small_address):  # type: ignore[no-untyped-def]
    """All sums of n elements from element `start` on, in one of two buffers; returns where the list lies."""
    here, there = start + FRONT, start + FRONT + (np.int64(1) << n) + BEHIND + FRONT
    scratch[here] = 0
    total = np.int64(0)
    for k in range(n):
        key = (quanta[first + k] << bits) | (np.int64(1) << k)
        total += key
        _grow(scratch, address, here, there, np.int64(1) << k, key, total, small, small_address)
        here, there = there, here
    for k in range(BEHIND):
        scratch[here + (np.int64(1) << n) + k] = _ROWS_END
    for k in range(FRONT):
        scratch[here - FRONT + k] = _COLUMNS_END
    return here


@inner
def _keep(a, b, e, goal, bits, n_left, extra, margin, state, residuals, masks):  # type: ignore[no-untyped-def]
    """Keep a pair that lies in the band and narrow the band; compact or flag when out of room."""
    room = len(masks)
    d = (a >> bits) + (b >> bits) - (goal >> bits)
    if abs(d) < state[0]:
        state[0] = abs(d)
        # Three quanta more, because the scan compares keys with the bits of the subsets still in them.
        state[2] = min(state[2], (state[0] + margin + 3) << bits)
    near = state[0] + margin
    if abs(d) > near:
        return
    if state[1] == room:
        kept = 0
        for k in range(room):
            if abs(residuals[k]) <= near:
                residuals[kept] = residuals[k]
                masks[kept] = masks[k]
                kept += 1
        state[1] = kept if kept <= room // 2 else room + 1
    if state[1] < room:
        low_bits = (np.int64(1) << bits) - 1
        chosen = extra | (a & low_bits) | (np.int64(e) << n_left) | ((b & low_bits) << (n_left + 1))
        residuals[state[1]] = d
        masks[state[1]] = np.uint64(chosen)
        state[1] += 1


@inner
def _inspect(  # type: ignore[no-untyped-def]
    scratch, address, row, window, count, e, goal, bits, n_left, extra, margin, state, residuals, masks,
):  # fmt: skip
    """Walk `count` tiles of one walk once more and keep what lies in the band.

    The pairs that a walk passes over come last: leaving the rows, what they still had to meet lies below the target and
    falls; leaving the window, what it still had to meet lies above and rises. So each run ends at the band's edge.
    """
    room = len(masks)
    for _ in range(count):
        word = _look(address + np.uint64(8 * row), address + np.uint64(8 * window), goal, state[2])
        forward = np.int64(word >> np.uint64(ROWS * COLUMNS))
        hits = word & np.uint64(2 ** (ROWS * COLUMNS) - 1)
        i, j = row, window
        row += ROWS * forward
        window -= COLUMNS * (1 - forward)
        if hits == 0:
            continue
        while hits:
            pair = popcount((hits & (~hits + _ONE)) - _ONE)
            a, b = scratch[i + (pair >> 3)], scratch[j + (pair & 7)]
            _keep(a, b, e, goal, bits, n_left, extra, margin, state, residuals, masks)
            hits &= hits - _ONE
        for run in range(ROWS if forward else COLUMNS):
            r = i + run if forward else i + ROWS
            c = j - 1 if forward else j + run
            while abs(scratch[r] + scratch[c] - goal) <= state[2] and state[1] <= room:
                _keep(scratch[r], scratch[c], e, goal, bits, n_left, extra, margin, state, residuals, masks)
                if forward:
                    c -= 1
                else:
                    r += 1
        if state[1] > room:
            return


@inner
def _position(scratch, left, right, tiles, rows, done, goal, band):  # type: ignore[no-untyped-def]
    """Moves to next rows among the first `done` tiles of the walk for `goal`."""
    low, high = max(np.int64(0), done - (tiles - rows)), min(done, rows)
    while low < high:
        middle = (low + high) >> 1
        # A move to next rows comes before that to the next window iff its edge lies below the target.
        edge = scratch[left + ROWS * middle + ROWS - 1] + scratch[right - COLUMNS * (done - middle - 1)]
        if edge < goal:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def _search(  # type: ignore[no-untyped-def]
    scratch, address, left, right, n_left, n_right, bits, extra, margin, goals, state, walks, residuals, masks, stop,
):  # fmt: skip
    """Walk the staircases of both goals within the band; once more with any band if nothing was found so far."""
    room = len(masks)
    rows = max((np.int64(1) << n_left) // ROWS, np.int64(1))
    tiles = rows + max((np.int64(1) << n_right) // COLUMNS, np.int64(1))
    window = right + (np.int64(1) << n_right) - COLUMNS
    stretch = (tiles + STRETCHES - 1) // STRETCHES
    left_address, window_address = address + np.uint64(8 * left), address + np.uint64(8 * window)
    where, before = np.uint64(walks.ctypes.data), walks[WALKS:]
    for _ in range(2):
        for e in range(2):
            for k in range(STRETCHES):
                done = min(k * stretch, tiles)
                moves = _position(scratch, left, window, tiles, rows, done, goals[e], state[2])
                walks[STRETCHES * e + k] = 8 * ROWS * (moves - k * stretch)
        first = np.int64(0)
        while first < stretch:
            count = min(np.int64(_TILES), stretch - first)
            for w in range(WALKS):
                before[w] = walks[w]
            found = _scan(
                left_address, window_address, np.uint64(goals.ctypes.data), state[2], where,
                np.uint64(stretch), np.uint64(first), np.uint64(count),
            )  # fmt: skip
            while found:
                w = popcount((found & (~found + _ONE)) - _ONE)
                found &= found - _ONE
                e, k = w // STRETCHES, w % STRETCHES
                made = before[w] // (8 * ROWS)
                _inspect(
                    scratch, address, left + ROWS * (made + k * stretch), window - COLUMNS * (first - made), count, e,
                    goals[e], bits, n_left, extra, margin, state, residuals, masks,
                )  # fmt: skip
                if state[1] > room:
                    return
            first += count
        if state[1] or stop[0]:
            return
        state[2] = ANYTHING


@inner
def _settle(base, m, target, scale, flipped, near, n_found, residuals, masks, parts):  # type: ignore[no-untyped-def]
    """The best of the candidates, compared exactly."""
    winner = np.uint64(0)
    first = True
    for k in range(n_found):
        if abs(residuals[k]) <= near:
            mask = masks[k] ^ flipped
            if first or better(base, m, target, scale, mask, winner, parts):
                winner = mask
                first = False
    return winner


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.int64, types.int64, types.int64,
    types.int64[::1], types.uint64, types.int64[::1], types.uint64[::1],
    types.int64[:, ::1], types.float64[:, ::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def closest(  # type: ignore[no-untyped-def]
        values, starts, counts, targets, order,
        start, stop, m, n_left, n_right,
        scratch, address, residuals, masks, ints, floats,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Solve the problems ``order[start:stop]``, all of `m` elements that are not zero.

        The lists hold the sums of `n_left` and `n_right` elements, of m - 1 at most; `scratch` has
        ``scratch_elements(n_left, n_right)`` elements, from `address` on. ``halt[0]`` is the order to stop.
        ``flags[p]`` becomes 1 where another solver has to take over.
        """
        bits = max(n_right, 1)
        outer = m - 1 - n_left - n_right
        middle, behind = n_left, n_left + 1 + n_right
        quanta, place, goals, state, walks, small = ints[0], ints[1], ints[2], ints[3], ints[4], ints[5]
        base, parts = floats[0], floats[1]
        small_address = np.uint64(small.ctypes.data)
        for at in range(start, stop):
            if halt[0]:
                break
            p = order[at]
            target = targets[p]
            _, scale = gather(values, starts[p], starts[p] + counts[p], base, place)
            if not scale + abs(target) < EXACT_SCALE:
                flags[p] = 1
                continue
            goal, flips, margin, _, _ = quantise(base, m, target, scale, VALUE_BITS - bits, quanta)
            left = _list(scratch, address, np.int64(0), n_left, quanta, 0, bits, small, small_address)
            right = _list(
                scratch, address, 2 * ((np.int64(1) << n_left) + FRONT + BEHIND), n_right, quanta, n_left + 1, bits,
                small, small_address,
            )  # fmt: skip
            # The least residual, how many candidates there are, the band.
            state[0], state[1] = ANYTHING, 0
            state[2] = min(first_band(quanta, m, goal) + margin + 4, np.int64(ANYTHING) >> bits) << bits
            for setting in range(1 << outer):
                chosen = np.int64(0)
                for k in range(outer):
                    chosen += quanta[behind + k] if setting >> k & 1 else 0
                goals[0] = (goal - chosen) << bits
                goals[1] = (goal - chosen - quanta[middle]) << bits
                _search(
                    scratch, address, left, right, n_left, n_right, bits, np.int64(setting) << behind, margin,
                    goals, state, walks, residuals, masks, halt,
                )  # fmt: skip
                if halt[0] or state[1] > len(masks):
                    break
            if halt[0]:
                break
            if state[1] > len(masks):
                flags[p] = 1
                continue
            scale += abs(target)
            winner = _settle(base, m, target, scale, flips, state[0] + margin, state[1], residuals, masks, parts)
            sums[p], errors[p] = answer(base, m, winner, target, scale, parts)
            selected[p] = scattered(winner, m, place)
        return stamp

    return closest


closest = _make(source_stamp("arith.py", "vectors.py", "lanes.py", "closest.py"))
