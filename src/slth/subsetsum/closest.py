"""The kernel of `best`: meet in the middle over fixed-point sums, several problems in lockstep.

Every element is flipped to be positive (choosing -x is not choosing x, with the target moved by x), scaled by a power
of two and rounded to whole quanta. A sum is then one int64: quanta above, below them the bits of the elements chosen,
so that sorting sums sorts subsets. The left list holds all sums of the first elements, the right list those of the
last; one element in between belongs to neither and is tried both ways by two walks, which saves the last merge of the
left list. Lists grow by merging one with itself shifted (:func:`slth.subsetsum.lanes.make_merge`).

What is proved: a chosen set's true residual differs from its fixed-point one by at most (m + 1) / 2 quanta (m elements
and the target, each rounded once), so the optimum lies within m + 1 quanta of the fixed-point optimum. The walk hands
on every pair in that band, and they are compared without rounding error (:mod:`slth.subsetsum.arith`). Where a band
holds more than fits, the problem is flagged and left to :mod:`slth.subsetsum.exact`.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.arith import ANYTHING, EXACT_SCALE, answer, better, gather, inner, popcount, quantise
from slth.subsetsum.lanes import COLUMNS, FRONT, ROWS, make_look, make_merge, make_mirror, make_scan
from slth.subsetsum.stamp import source_stamp

WIDE = 4
"""Problems in lockstep where the lists are short enough for the cache."""
WIDE_BITS = 18
NARROW_BITS = 22
_SKEW = 56
"""Extra elements between buffers (chosen): spreads lanes over the cache's sets instead of piling them on one."""
_WIDE_BUFFER = FRONT + 2**WIDE_BITS + 16 + _SKEW
_NARROW_BUFFER = FRONT + 2**NARROW_BITS + 16 + _SKEW
WIDE_SCRATCH = 4 * WIDE * _WIDE_BUFFER
NARROW_SCRATCH = 4 * _NARROW_BUFFER
INT_ROWS, FLOAT_ROWS = 16 + 3 * WIDE, 2 + WIDE
"""Rows of 128 for everything of a group that is small."""
CANDIDATES = 2**18
"""Pairs that a problem's band may hold before it is left to the exact solver."""
_TILES = 8
"""Tiles walked between two looks at what was found."""
_ROWS_END = 2**61
_COLUMNS_END = -(2**62 + 2**61)
"""Sentinels behind the left and before the right list: out of every band, alone and with each other."""

_merge_wide = make_merge(2 * WIDE, 2 * _WIDE_BUFFER)
_merge_wide_right = make_merge(WIDE, 4 * _WIDE_BUFFER)
_scan_wide = make_scan(2 * WIDE, 2 * _WIDE_BUFFER)
_merge_one = make_merge(2, 2 * _NARROW_BUFFER)
_merge_one_right = make_merge(1, 4 * _NARROW_BUFFER)
_scan_one = make_scan(2, 2 * _NARROW_BUFFER)
_look = make_look()
_mirror = make_mirror()


@inner
def _build(scratch, address, buffer, lanes, keys, totals, n_left, n_right):  # type: ignore[no-untyped-def]
    """Make all lists; lane l's list ends up in its buffer of parity (its number of elements) % 2."""
    wide = lanes > 2
    sums = np.uint64(totals.ctypes.data)
    for lane in range(lanes):
        scratch[lane * 2 * buffer + FRONT] = 0
        totals[lane] = 0
    for level in range(n_right):
        length = np.int64(1) << level
        # The right lists may be one element longer than the left ones: then the last level is theirs alone.
        alone = level >= n_left
        first, step = (1, 2) if alone else (0, 1)
        for lane in range(first, lanes, step):
            totals[lane // step] = totals[lane] + keys[lane, level]
        start = first * 2 * buffer + FRONT
        source = address + np.uint64(8 * (start + (level & 1) * buffer))
        target = address + np.uint64(8 * (start + (1 - (level & 1)) * buffer))
        if wide and alone:
            _merge_wide_right(source, target, sums, np.uint64(length))
        elif wide:
            _merge_wide(source, target, sums, np.uint64(length))
        elif alone:
            _merge_one_right(source, target, sums, np.uint64(length))
        else:
            _merge_one(source, target, sums, np.uint64(length))
        for lane in range(first, lanes, step):
            at = lane * 2 * buffer + (1 - (level & 1)) * buffer + FRONT
            total = totals[lane // step]
            if length >= COLUMNS:
                _mirror(address + np.uint64(8 * at), np.uint64(length), np.uint64(total))
            else:
                for k in range(length):
                    scratch[at + 2 * length - 1 - k] = total - scratch[at + k]


@inner
def _keep(a, b, w, goals, bands, bits, n_left, m, best, n_found, residuals, masks):  # type: ignore[no-untyped-def]
    """Keep a pair that lies in the band of walk w's problem and narrow the band; compact or flag when out of room."""
    p = w >> 1
    d = (a >> bits) + (b >> bits) - (goals[w] >> bits)
    if abs(d) < best[p]:
        best[p] = abs(d)
        # Three quanta more, because the scan compares keys with the bits of the subsets still in them.
        bands[2 * p] = bands[2 * p + 1] = min(bands[w], (best[p] + m + 4) << bits)
    near = best[p] + m + 1
    if abs(d) > near:
        return
    if n_found[p] == CANDIDATES:
        kept = 0
        for k in range(CANDIDATES):
            if abs(residuals[p, k]) <= near:
                residuals[p, kept] = residuals[p, k]
                masks[p, kept] = masks[p, k]
                kept += 1
        n_found[p] = kept if kept <= CANDIDATES // 2 else CANDIDATES + 1
    if n_found[p] < CANDIDATES:
        low_bits = (np.int64(1) << bits) - 1
        chosen = (a & low_bits) | (np.int64(w & 1) << n_left) | ((b & low_bits) << (n_left + 1))
        residuals[p, n_found[p]] = d
        masks[p, n_found[p]] = np.uint64(chosen)
        n_found[p] += 1


@inner
def _inspect(  # type: ignore[no-untyped-def]
    scratch,
    address,
    left,
    right,
    walks,
    first,
    count,
    w,
    goals,
    bands,
    bits,
    n_left,
    m,
    best,
    n_found,
    residuals,
    masks,
):
    """Walk `count` tiles of one walk once more and keep what lies in the band.

    The pairs that a walk passes over come last: leaving the rows, what they still had to meet lies below the target and
    falls; leaving the window, what it still had to meet lies above and rises. So each run ends at the band's edge.
    """
    p = w >> 1
    i, j = left + (walks[w] >> 3), right - COLUMNS * (first - (walks[w] >> 4))
    for _ in range(count):
        word = _look(address + np.uint64(8 * i), address + np.uint64(8 * j), goals[w], bands[w])
        forward = np.int64(word >> np.uint64(ROWS * COLUMNS))
        hits = word & np.uint64(2 ** (ROWS * COLUMNS) - 1)
        row, window = i, j
        i += ROWS * forward
        j -= COLUMNS * (1 - forward)
        if hits == 0:
            continue
        while hits:
            pair = popcount((hits & (~hits + np.uint64(1))) - np.uint64(1))
            a, b = scratch[row + (pair >> 3)], scratch[window + (pair & 7)]
            _keep(a, b, w, goals, bands, bits, n_left, m, best, n_found, residuals, masks)
            hits &= hits - np.uint64(1)
        for run in range(ROWS if forward else COLUMNS):
            r = row + run if forward else row + ROWS
            c = window - 1 if forward else window + run
            while abs(scratch[r] + scratch[c] - goals[w]) <= bands[w] and n_found[p] <= CANDIDATES:
                _keep(scratch[r], scratch[c], w, goals, bands, bits, n_left, m, best, n_found, residuals, masks)
                if forward:
                    c -= 1
                else:
                    r += 1
        if n_found[p] > CANDIDATES:
            # Given up: no pair lies in an empty band around a target out of reach.
            for e in range(2):
                goals[2 * p + e] = ANYTHING
                bands[2 * p + e] = 0
            return


@inner
def _search(  # type: ignore[no-untyped-def]
    scratch,
    address,
    buffer,
    problems,
    n_left,
    n_right,
    bits,
    m,
    goals,
    bands,
    best,
    n_found,
    residuals,
    masks,
    walks,
    before,
):
    """Walk all staircases, once with the first bands and again without for problems that have found nothing."""
    left = (n_left & 1) * buffer + FRONT
    right = 2 * buffer + (n_right & 1) * buffer + FRONT + (1 << n_right) - COLUMNS
    left_address = address + np.uint64(8 * left)
    right_address = address + np.uint64(8 * right)
    tiles = max((1 << n_left) // ROWS, 1) + max((1 << n_right) // COLUMNS, 1)
    goals_address, bands_address = np.uint64(goals.ctypes.data), np.uint64(bands.ctypes.data)
    for _ in range(2):
        for w in range(2 * problems):
            walks[w] = 0
        first = np.int64(0)
        while first < tiles:
            count = min(_TILES, tiles - first)
            for w in range(2 * problems):
                before[w] = walks[w]
            a, b = np.uint64(first), np.uint64(count)
            where = np.uint64(walks.ctypes.data)
            if problems > 1:
                found = _scan_wide(left_address, right_address, goals_address, bands_address, where, a, b)
            else:
                found = _scan_one(left_address, right_address, goals_address, bands_address, where, a, b)
            for w in range(2 * problems):
                if (found >> np.uint64(w)) & np.uint64(1):
                    here = (w >> 1) * 4 * buffer
                    _inspect(
                        scratch, address, here + left, here + right, before, first, count, w,
                        goals, bands, bits, n_left, m, best, n_found, residuals, masks,
                    )  # fmt: skip
            first += count
        missed = False
        for p in range(problems):
            if n_found[p] == 0 and goals[2 * p] != ANYTHING:
                bands[2 * p] = bands[2 * p + 1] = ANYTHING
                missed = True
            else:
                bands[2 * p] = bands[2 * p + 1] = 0
                goals[2 * p] = goals[2 * p + 1] = ANYTHING
        if not missed:
            return


@inner
def _settle(base, m, target, scale, flipped, best, n_found, residuals, masks, parts):  # type: ignore[no-untyped-def]
    """The best of the candidates, compared exactly."""
    winner = np.uint64(0)
    first = True
    for k in range(n_found):
        if abs(residuals[k]) <= best + m + 1:
            mask = masks[k] ^ flipped
            if first or better(base, m, target, scale, mask, winner, parts):
                winner = mask
                first = False
    return winner


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.int64, types.boolean,
    types.int64[::1], types.uint64, types.int64[:, ::1], types.uint64[:, ::1],
    types.int64[:, ::1], types.float64[:, ::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1], types.int64,
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def closest(  # type: ignore[no-untyped-def]
        values, starts, counts, targets, order, start, stop, m, wide,
        scratch, address, residuals, masks, ints, floats,
        selected, sums, errors, flags,
        shared, slot,
    ):  # fmt: skip
        """Solve the problems ``order[start:stop]``, all of `m` elements that are not zero.

        `shared[0]` is the order to stop; ``shared[slot]`` counts problems done. ``flags[p]`` becomes 1 where the exact
        solver has to take over.
        """
        problems = WIDE if wide else 1
        buffer = _WIDE_BUFFER if wide else _NARROW_BUFFER
        n_left = (m - 1) // 2
        n_right = m - 1 - n_left
        bits = max(n_right, 1)
        goals, bands, best, n_found = ints[0], ints[1], ints[2], ints[3]
        totals, walks, before, quanta, flipped = ints[4], ints[5], ints[6], ints[7], ints[8]
        keys, place = ints[16 : 16 + 2 * WIDE], ints[16 + 2 * WIDE :]
        scales, parts = floats[0], floats[1]
        base = floats[2:]
        for group in range(start, stop, problems):
            if shared[0]:
                break
            for p in range(problems):
                index = order[min(group + p, stop - 1)]
                target = targets[index]
                _, scale = gather(values, starts[index], starts[index] + counts[index], base[p], place[p])
                scales[p] = scale + abs(target)
                best[p] = ANYTHING
                n_found[p] = 0
                if not scales[p] < EXACT_SCALE:
                    for k in range(n_right):
                        keys[2 * p, k] = keys[2 * p + 1, k] = 1 << k
                    goals[2 * p] = goals[2 * p + 1] = ANYTHING
                    bands[2 * p] = bands[2 * p + 1] = 0
                    n_found[p] = CANDIDATES + 1
                    continue
                goal, flips, band = quantise(base[p], m, target, scale, bits, quanta)
                flipped[p] = np.int64(flips)
                for k in range(n_left):
                    keys[2 * p, k] = (quanta[k] << bits) | (1 << k)
                for k in range(n_right):
                    keys[2 * p + 1, k] = (quanta[n_left + 1 + k] << bits) | (1 << k)
                goals[2 * p] = goal << bits
                goals[2 * p + 1] = (goal - quanta[n_left]) << bits
                bands[2 * p] = bands[2 * p + 1] = band
            _build(scratch, address, buffer, 2 * problems, keys, totals, n_left, n_right)
            for p in range(problems):
                end = p * 4 * buffer + (n_left & 1) * buffer + FRONT + (1 << n_left)
                for k in range(8):
                    scratch[end + k] = _ROWS_END
                front = p * 4 * buffer + 2 * buffer + (n_right & 1) * buffer
                for k in range(FRONT):
                    scratch[front + k] = _COLUMNS_END
            _search(
                scratch, address, buffer, problems, n_left, n_right, bits, m,
                goals, bands, best, n_found, residuals, masks, walks, before,
            )  # fmt: skip
            for p in range(min(problems, stop - group)):
                index = order[group + p]
                if n_found[p] > CANDIDATES:
                    flags[index] = 1
                    continue
                target = targets[index]
                winner = _settle(
                    base[p],
                    m,
                    target,
                    scales[p],
                    np.uint64(flipped[p]),
                    best[p],
                    n_found[p],
                    residuals[p],
                    masks[p],
                    parts,
                )
                sums[index], errors[index] = answer(base[p], m, winner, target, scales[p], parts)
                chosen = np.uint64(0)
                for k in range(m):
                    chosen |= ((winner >> np.uint64(k)) & np.uint64(1)) << np.uint64(place[p, k])
                selected[index] = chosen
            shared[slot] += min(problems, stop - group)
        return stamp

    return closest


closest = _make(source_stamp("arith.py", "lanes.py", "closest.py"))
