"""The kernel of `best` for up to 24 elements: meet in the middle by sorting networks, sixteen problems in lockstep.

Every element is flipped to be positive (choosing -x is not choosing x, with the target moved by x), scaled by a power
of two and rounded to whole quanta, so that all sums of a problem fit 31 bits. The left list holds all sums of the first
half of the elements, the right list the target less all sums of the second half; where one element is left over, it is
tried both ways. The two lists merged, the closest pair stands side by side.

What is proved: with the rounding r_k of element k and r of the target, a chosen set's true residual differs from its
fixed-point one by ``r - sum of the chosen r_k``, whose magnitude `spread` bounds over all sets (it is computed, about
m / 8 quanta). So the optimum lies within ``2 spread`` quanta of the fixed-point optimum. A pair that close, with all
sums between the two, lies in neighbours of which one has a gap as small: all blocks of the merged list with such a gap
are looked through, and what is found is compared without rounding error (:mod:`.arith`). Where too many
pairs are that close, the problem is flagged and left to :mod:`.closest`.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import ROUNDING, better, exact_answer, inner, popcount
from slth.subsetsum.kernels.lookup import make_equal, make_gaps, make_hits, make_low_sums, make_neighbours
from slth.subsetsum.kernels.network import BLOCK, make_first, make_grow, make_join, make_last, make_middle
from slth.subsetsum.kernels.stamp import source_stamp
from slth.subsetsum.kernels.vectors import LANES, peek_32, peek_64, poke_32, poke_64
from slth.subsetsum.kernels.wide import STATE_ROWS, make_aim, make_answers, make_quantise, make_scale

MAX_ELEMENTS = 24
"""Largest base set (chosen): beyond, lists of sixteen problems outgrow the second cache and near-ties get frequent."""
_LEAST_HALF = 4
"""Elements in a half list at least: smaller base sets are filled up with elements too large to be chosen."""
_VALUE_BITS, _PADDED_BITS = 30, 24
_FILLER = 2.0**26
_CANDIDATES = 64
"""Pairs looked at for one problem before it is left to the other kernel (chosen)."""
_ONE = np.uint64(1)
_NOTHING = np.uint64(2**64 - 1)
"""No choice yet: more elements than there are."""
_VECTOR = np.uint64(4 * LANES)
_ROW = np.uint64(8 * LANES)
SETS = 3 * _CANDIDATES
"""Masks of choices, and of both halves of them, that one block may give."""

_FACTORS, _TOTALS, _RIGHTS, _TARGETS, _CHOSEN, _SUMS, _ERRORS = range(7)
_STATE = 7
_LEFT_OVER = _STATE + 2
_BASE = _STATE + STATE_ROWS
_FLIPPED = _BASE - 1
ROWS = _BASE + MAX_ELEMENTS
"""Rows of ``LANES`` float64 or int64 with what belongs to a group of problems."""

_grow_1, _grow_2, _grow_4, _grow_8, _grow_16 = (make_grow(n) for n in (1, 2, 4, 8, 16))
_first_2, _first_4, _first_8, _first_16 = (make_first(radix) for radix in (2, 4, 8, 16))
_join_2, _join_4, _join_8, _join_16 = (make_join(radix) for radix in (2, 4, 8, 16))
_middle, _last, _gaps = make_middle(), make_last(), make_gaps()
_hits, _equal, _neighbours, _low_sums = make_hits(), make_equal(), make_neighbours(), make_low_sums()
_scale, _quantise, _aim, _answers = make_scale(), make_quantise(), make_aim(), make_answers()


def scratch_vectors(m: int) -> int:
    """Vectors of scratch that problems of m elements need: two lists twice, merged lists, keys and small ones."""
    half = max(m // 2, _LEAST_HALF)
    n, walks = 1 << half, 1 + (m > 2 * half)
    return 4 * n + walks * (2 * n + 2 * n // BLOCK) + 4 * half + 6 + max(n >> 8, 1)


@inner
def _build(source, target, keys, half):  # type: ignore[no-untyped-def]
    """All sums of `half` elements from the one at `source`; returns the address of the list, one of the two given."""
    for level in range(half):
        n = _ONE << np.uint64(level)
        key = keys + np.uint64(2 * level) * _VECTOR
        if level == 0:
            _grow_1(source, target, key)
        elif level == 1:
            _grow_2(source, target, key)
        elif level == 2:
            _grow_4(source, target, key)
        elif level == 3:
            _grow_8(source, target, key)
        elif level == 4:
            _grow_16(source, target, key)
        else:
            # Passes of four stages each; the first takes what is left over.
            stages = level & 3
            if stages == 0:
                _first_16(source, target, key, n)
            elif stages == 1:
                _first_2(source, target, key, n)
            elif stages == 2:
                _first_4(source, target, key, n)
            else:
                _first_8(source, target, key, n)
            _finish(target, n, n >> np.uint64(stages if stages else 4))
            _last(target, key, n)
        source, target = target, source
    return source


@inner
def _finish(address, n, stride):  # type: ignore[no-untyped-def]
    """The stages between the first pass over n sums, which left off at distance `stride`, and the last."""
    while stride > np.uint64(BLOCK):
        stride >>= np.uint64(4)
        _middle(address, stride, n // (stride * np.uint64(BLOCK)))


@inner
def _merge(left, right, target, shift, half, leasts, best):  # type: ignore[no-untyped-def]
    """Merge the lists and find the least gap in each block and in all."""
    n = _ONE << np.uint64(half)
    stages = (half + 1) & 3
    if stages == 0:
        _join_16(left, right, target, shift, n)
    elif stages == 1:
        _join_2(left, right, target, shift, n)
    elif stages == 2:
        _join_4(left, right, target, shift, n)
    else:
        _join_8(left, right, target, shift, n)
    n *= np.uint64(2)
    _finish(target, n, n >> np.uint64(stages if stages else 4))
    _gaps(target, leasts, best, n // np.uint64(BLOCK))


@inner
def _prepare(m, half, rows, row_address, key_address):  # type: ignore[no-untyped-def]
    """Turn the base sets of a group, in place already, into keys of the two lists."""
    base = row_address + np.uint64(_BASE) * _ROW
    factors, state = row_address + np.uint64(_FACTORS) * _ROW, row_address + np.uint64(_STATE) * _ROW
    padding = max(2 * half - m, 0)
    bits = _PADDED_BITS if padding else _VALUE_BITS
    _scale(base, np.uint64(m), np.uint64(bits), factors, row_address + np.uint64(_TOTALS) * _ROW)
    for lane in range(LANES):
        for k in range(STATE_ROWS):
            rows[(_STATE + k) * LANES + lane] = 0.0
        for k in range(m, m + padding):
            factor = rows[_FACTORS * LANES + lane]
            rows[(_BASE + k) * LANES + lane] = _FILLER / factor if factor > 0.0 else 0.0
    count = np.uint64(half)
    _quantise(base, np.uint64(0), count, factors, key_address, np.uint64(0), state)
    _quantise(base, count, count, factors, key_address + count * _ROW, np.uint64(1), state)
    for lane in range(LANES):
        rows[_RIGHTS * LANES + lane] = rows[_LEFT_OVER * LANES + lane]
    more = np.uint64(max(m - 2 * half, 0))
    _quantise(base, np.uint64(2) * count, more, factors, key_address + np.uint64(2) * count * _ROW, np.uint64(0), state)
    for lane in range(LANES):
        rows[_STATE * LANES + lane] -= padding * _FILLER


@inner
def _subsets(keys, half, wanted, low, high, found):  # type: ignore[no-untyped-def]
    """All sets of a half's elements whose doubled quanta sum to `wanted`, into `found`; returns how many.

    `keys` is the address of the lane's first key; `low` is one vector and `high` one int32 for every 16 sets.
    """
    _low_sums(keys, low)
    count = np.int64(0)
    poke_32(high, 0)
    for k in range(half - _LEAST_HALF):
        key = peek_32(keys + np.uint64(_LEAST_HALF + k) * _ROW)
        above = high + (np.uint64(4) << np.uint64(k))
        for t in range(1 << k):
            poke_32(above + np.uint64(4 * t), peek_32(high + np.uint64(4 * t)) + key)
    for t in range(1 << (half - _LEAST_HALF)):
        word = _equal(low, np.int32(wanted - peek_32(high + np.uint64(4 * t))))
        while word:
            if count == _CANDIDATES:
                return count + 1
            place = popcount((word & (~word + _ONE)) - _ONE)
            poke_64(found + np.uint64(8 * count), np.uint64(t << _LEAST_HALF | place))
            count += 1
            word &= word - _ONE
    return count


@inner
def _offer(here, there, keys, half, shift, low, high, sets, found):  # type: ignore[no-untyped-def]
    """Write down the choices behind a pair of sums, one of either list, after `found` others; returns how many then."""
    left, right = (there, here) if here & 1 else (here, there)
    ones, rest = sets + np.uint64(8 * _CANDIDATES), sets + np.uint64(16 * _CANDIDATES)
    n_ones = _subsets(keys, half, left, low, high, ones)
    n_rest = _subsets(keys + np.uint64(half) * _ROW, half, right - 1 - shift, low, high, rest)
    full = (_ONE << np.uint64(half)) - _ONE
    for one in range(n_ones):
        for two in range(n_rest):
            if found >= _CANDIDATES:
                return found + 1
            # The right list starts from the target less everything: its sets are those left out.
            behind = ~peek_64(rest + np.uint64(8 * two)) & full
            poke_64(sets + np.uint64(8 * found), peek_64(ones + np.uint64(8 * one)) | behind << np.uint64(half))
            found += 1
    return found


@inner
def _lone(merged, row, stop, reach):  # type: ignore[no-untyped-def]
    """The only pair of neighbours within reach in a block, as the row of the upper one; -1 where it is not so easy."""
    at = merged + np.uint64(row) * _VECTOR
    word = _neighbours(at, np.int32(min(reach, np.int64(2**31 - 1))))
    near = word & np.uint64(2**BLOCK - 1)
    if row == 0:
        near &= ~_ONE
    if near == 0 or near & (near - _ONE) or not (word >> np.uint64(BLOCK)) & near:
        return np.int64(-1)
    place = popcount(near - _ONE)
    end = at + np.uint64(BLOCK) * _VECTOR
    if place == 0 and row > 1 and peek_32(at - _VECTOR) - peek_32(at - np.uint64(2) * _VECTOR) <= reach:
        return np.int64(-1)
    if place == BLOCK - 1 and row + BLOCK < stop and peek_32(end) - peek_32(end - _VECTOR) <= reach:
        return np.int64(-1)
    return row + place


@inner
def _collect(merged, row, stop, limit, keys, half, shift, low, high, sets):  # type: ignore[no-untyped-def]
    """Write down the choices of all pairs within `limit` quanta in one block of a lane's merged list.

    `merged` is the address of the lane's first sum. Returns how many choices are in `sets`, more than ``_CANDIDATES``
    where there are more.
    """
    reach = 2 * limit + 1
    place = _lone(merged, row, stop, reach)
    if place >= 0:
        at = merged + np.uint64(place) * _VECTOR
        return _offer(peek_32(at), peek_32(at - _VECTOR), keys, half, shift, low, high, sets, np.int64(0))
    # Pairs reach over the block's borders; each has a gap between neighbours inside it.
    found, last = np.int64(0), row + BLOCK - 1
    border = peek_32(merged + np.uint64(last) * _VECTOR)
    while row < stop and found <= _CANDIDATES:
        here = peek_32(merged + np.uint64(row) * _VECTOR)
        if row > last and here - border > reach:
            break
        other = min(row - 1, last)
        while other >= 0 and found <= _CANDIDATES:
            there = peek_32(merged + np.uint64(other) * _VECTOR)
            if here - there > reach:
                break
            other -= 1
            if (here ^ there) & 1:
                found = _offer(here, there, keys, half, shift, low, high, sets, found)
        row += 1
    return found


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.int64,
    types.int32[::1], types.uint64, types.float64[::1], types.int64[::1], types.uint64,
    types.uint64[::1], types.float64[::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def lockstep(  # type: ignore[no-untyped-def]
        values, starts, targets, order,
        start, stop, m,
        scratch, address, rows, words, row_address,
        sets, parts,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Solve the problems ``order[start:stop]``; problem p has ``values[starts[p]:starts[p] + m]``.

        `scratch` has ``scratch_vectors(m)`` vectors, from `address` on; `rows` and `words` are the same ``ROWS`` rows,
        from `row_address` on; both start at a cache line. `sets` has room for ``SETS``. ``flags[p]`` becomes 1 where
        another kernel has to take over. ``halt[0]`` is the order to stop.
        """
        half = max(m // 2, _LEAST_HALF)
        walks = 2 if m > 2 * half else 1
        n = 1 << half
        blocks = 2 * n // BLOCK
        merged_at = 4 * n
        leasts_at = merged_at + walks * 2 * n
        keys_at = leasts_at + walks * blocks
        small_at = keys_at + 4 * half
        # One element left over writes its keys, which nobody reads, over the small ones, which are not made yet.
        key_address, small = address + np.uint64(keys_at) * _VECTOR, address + np.uint64(small_at) * _VECTOR
        best = scratch[small_at * LANES : (small_at + 1) * LANES]
        margins = scratch[(small_at + 1) * LANES : (small_at + 2) * LANES]
        limits = scratch[(small_at + 2) * LANES : (small_at + 3) * LANES]
        shifts = scratch[(small_at + 3) * LANES : (small_at + 5) * LANES]
        set_address = np.uint64(sets.ctypes.data)
        everything = (_ONE << np.uint64(m)) - _ONE
        found = np.zeros(LANES, np.int64)
        held = np.full(LANES, -1, np.int64)
        left = right = address
        slack = (m + 2.0) * (m + 2.0) * ROUNDING
        for at in range(start, stop, LANES):
            if halt[0]:
                break
            fresh = False
            for lane in range(LANES):
                p = order[min(at + lane, stop - 1)]
                rows[_TARGETS * LANES + lane] = targets[p]
                if starts[p] != held[lane]:
                    fresh = True
                    held[lane] = starts[p]
                    for k in range(m):
                        rows[(_BASE + k) * LANES + lane] = values[starts[p] + k]
            if fresh:
                _prepare(m, half, rows, row_address, key_address)
                for lane in range(LANES):
                    scratch[lane] = 0
                    scratch[2 * n * LANES + lane] = 1
                third = address + np.uint64(2 * n) * _VECTOR
                left = _build(address, address + np.uint64(n) * _VECTOR, key_address, half)
                right = _build(third, third + np.uint64(n) * _VECTOR, key_address + np.uint64(half) * _ROW, half)
            _aim(
                row_address + np.uint64(_TARGETS) * _ROW, row_address + np.uint64(_FACTORS) * _ROW,
                row_address + np.uint64(_STATE) * _ROW, row_address + np.uint64(_RIGHTS) * _ROW,
                row_address + np.uint64(_LEFT_OVER) * _ROW, 2.0 * m + 2.0,
                small + np.uint64(3) * _VECTOR, small + _VECTOR,
            )  # fmt: skip
            for lane in range(LANES):
                best[lane] = 2**31 - 1
            for walk in range(walks):
                _merge(
                    left, right,
                    address + np.uint64(merged_at + 2 * n * walk) * _VECTOR,
                    small + np.uint64(3 + walk) * _VECTOR,
                    half,
                    address + np.uint64(leasts_at + walk * blocks) * _VECTOR,
                    small,
                )  # fmt: skip
            for lane in range(LANES):
                limits[lane] = best[lane] + margins[lane]
                words[_CHOSEN * LANES + lane] = -1
                lost = at + lane >= stop or rows[_FACTORS * LANES + lane] == 0.0
                found[lane] = _CANDIDATES + 1 if lost else 0
            for walk in range(walks):
                for block in range(blocks):
                    word = _hits(
                        address + np.uint64(leasts_at + walk * blocks + block) * _VECTOR, small + np.uint64(2) * _VECTOR
                    )
                    while word:
                        lane = popcount((word & (~word + _ONE)) - _ONE)
                        word &= word - _ONE
                        if found[lane] > _CANDIDATES:
                            continue
                        offset = np.uint64(4 * lane)
                        count = _collect(
                            address + np.uint64(merged_at + 2 * n * walk) * _VECTOR + offset,
                            np.int64(block * BLOCK), np.int64(2 * n), np.int64(limits[lane]) + 2**31,
                            key_address + offset, half, np.int64(shifts[walk * LANES + lane]),
                            small + np.uint64(5) * _VECTOR, small + np.uint64(6) * _VECTOR, set_address,
                        )  # fmt: skip
                        found[lane] += count
                        if found[lane] > _CANDIDATES:
                            continue
                        chosen = np.uint64(words[_CHOSEN * LANES + lane])
                        for c in range(count):
                            choice = (sets[c] | np.uint64(walk) << np.uint64(2 * half)) & everything
                            choice ^= np.uint64(words[_FLIPPED * LANES + lane])
                            if chosen == _NOTHING:
                                chosen = choice
                            elif choice != chosen:
                                target, first = rows[_TARGETS * LANES + lane], held[lane]
                                size = rows[_TOTALS * LANES + lane] + abs(target)
                                base = values[first : first + m]
                                chosen = choice if better(base, m, target, size, choice, chosen, parts) else chosen
                        words[_CHOSEN * LANES + lane] = np.int64(chosen)
            proved = _answers(
                row_address + np.uint64(_BASE) * _ROW, np.uint64(m), row_address + np.uint64(_CHOSEN) * _ROW,
                row_address + np.uint64(_TARGETS) * _ROW, row_address + np.uint64(_TOTALS) * _ROW, slack,
                row_address + np.uint64(_SUMS) * _ROW, row_address + np.uint64(_ERRORS) * _ROW,
            )  # fmt: skip
            for lane in range(min(LANES, stop - at)):
                p = order[at + lane]
                if found[lane] > _CANDIDATES:
                    flags[p] = 1
                    continue
                selected[p] = np.uint64(words[_CHOSEN * LANES + lane])
                sums[p], errors[p] = rows[_SUMS * LANES + lane], rows[_ERRORS * LANES + lane]
                if not (proved >> np.uint64(lane)) & _ONE:
                    base = values[starts[p] : starts[p] + m]
                    sums[p], errors[p] = exact_answer(base, m, selected[p], targets[p], parts)
        return stamp

    return lockstep


lockstep = _make(source_stamp("arith.py", "vectors.py", "network.py", "lookup.py", "wide.py", "lockstep.py"))
