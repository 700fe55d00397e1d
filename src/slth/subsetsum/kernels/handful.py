"""The kernel of `sparsest` for small subsets: every subset of a size, size after size, sixteen problems in lockstep.

Elements are scaled by a power of two and rounded to whole quanta (int32). Problems that are not solved with one or two
elements wait until sixteen of them need the same size, so that no lane is idle; sizes that cannot reach the target (as
many times the largest or smallest element) are passed over.

What is proved: a sum of k elements and the target are off by at most (k + 1) / 2 quanta together. A size is given up
only if its closest sum lies beyond the tolerance by more than that, and taken only if it lies within by more than that
and no other sum is within twice that of it: then it is the best of its size. Whatever is closer to call, the problem is
flagged and left to :mod:`.fewest`, which compares without rounding error.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import types

from slth.subsetsum.kernels.arith import ROUNDING, inner
from slth.subsetsum.kernels.flags import DOUBTFUL, OPEN, SOLVED
from slth.subsetsum.kernels.small import make_less, make_pairs, make_singles
from slth.subsetsum.kernels.stamp import source_stamp
from slth.subsetsum.kernels.vectors import LANES, peek_32, poke_32
from slth.subsetsum.kernels.wide import make_answers, make_scale, make_whole

MAX_ELEMENTS = 44
MAX_SIZE = MAX_ELEMENTS
_VALUE_BITS = 29
_INDEX_BITS = 6
MAX_PREFIXES = 2 ** (31 - _INDEX_BITS)
"""Sets of all but two elements of a size: one's number and the next element's index are kept in 31 bits."""
_FAR = 2.0**30
_ROUND = 1.5 * 2.0**52
_ONE = np.uint64(1)
_ROW, _VECTOR = np.uint64(8 * LANES), np.uint64(4 * LANES)

_FACTORS, _TOTALS, _TARGETS, _CHOSEN, _SUMS, _ERRORS, _BASE = range(7)
ROWS = _BASE + MAX_ELEMENTS
"""Rows of ``LANES`` float64 with what belongs to a group of problems."""
_BEST, _CODES, _BOUNDS, _LEFT = 0, 2, 3, 7
_KEYS = _LEFT + MAX_SIZE
VECTORS = _KEYS + MAX_ELEMENTS
"""Vectors of ``LANES`` int32 likewise."""

WAITING = MAX_SIZE + 1
"""Rows of problems that wait, by the size they wait for; the first three, which nobody waits for, count and help."""

_scale, _whole, _answers = make_scale(), make_whole(), make_answers()
_singles, _pairs, _less = make_singles(), make_pairs(), make_less()


@inner
def _load(values, starts, targets, problems, m, rows, row_address, address):  # type: ignore[no-untyped-def]
    """Put sixteen problems in place, scaled to quanta."""
    for lane in range(LANES):
        p = problems[lane]
        rows[_TARGETS * LANES + lane] = targets[p]
        for k in range(m):
            rows[(_BASE + k) * LANES + lane] = values[starts[p] + k]
    base, factors = row_address + np.uint64(_BASE) * _ROW, row_address + np.uint64(_FACTORS) * _ROW
    _scale(base, np.uint64(m), np.uint64(_VALUE_BITS), factors, row_address + np.uint64(_TOTALS) * _ROW)
    _whole(base, np.uint64(m), factors, address + np.uint64(_KEYS) * _VECTOR, address + np.uint64(_BOUNDS) * _VECTOR)
    for lane in range(LANES):
        y = rows[_TARGETS * LANES + lane] * rows[_FACTORS * LANES + lane]
        y = (min(max(y, -_FAR), _FAR) + _ROUND) - _ROUND
        poke_32(address + np.uint64(_LEFT) * _VECTOR + np.uint64(4 * lane), np.int64(y))


@inner
def _of_size(m, k, address, index):  # type: ignore[no-untyped-def]
    """The least and the second least distance to a sum of k elements, and the code of the least, for each problem."""
    state, keys = address + np.uint64(_BEST) * _VECTOR, address + np.uint64(_KEYS) * _VECTOR
    for lane in range(LANES):
        poke_32(state + np.uint64(4 * lane), np.int64(2**31 - 1))
        poke_32(state + _VECTOR + np.uint64(4 * lane), np.int64(2**31 - 1))
    left, stop = address + np.uint64(_LEFT) * _VECTOR, np.uint64(m)
    if k == 1:
        _singles(left, keys, np.uint64(0), stop, np.uint64(0), state)
        return
    outer = k - 2
    if outer == 0:
        _pairs(left, keys, np.uint64(0), stop, np.uint64(0), state)
        return
    for t in range(outer):
        index[t] = t
    fresh, number = np.int64(0), np.uint64(0)
    while True:
        for t in range(fresh, outer):
            here = left + np.uint64(t) * _VECTOR
            _less(here, keys + np.uint64(index[t]) * _VECTOR, here + _VECTOR)
        code = number << np.uint64(_INDEX_BITS)
        _pairs(left + np.uint64(outer) * _VECTOR, keys, np.uint64(index[outer - 1] + 1), stop, code, state)
        number += _ONE
        t = outer - 1
        while t >= 0 and index[t] == m - k + t:
            t -= 1
        if t < 0:
            return
        index[t] += 1
        fresh = t
        for u in range(t + 1, outer):
            index[u] = index[u - 1] + 1


@inner
def _choice(address, lane, m, k, binomials):  # type: ignore[no-untyped-def]
    """The set of elements behind the least distance."""
    at = address + np.uint64(4 * lane)
    best = peek_32(at + np.uint64(_BEST) * _VECTOR)
    code = peek_32(at + np.uint64(_CODES) * _VECTOR) if k > 1 else np.int64(0)
    left = peek_32(at + np.uint64(_LEFT) * _VECTOR)
    mask, one, number = np.uint64(0), np.int64(-1), code >> _INDEX_BITS
    for t in range(k - 1):
        if t == k - 2:
            one = code & np.int64(2**_INDEX_BITS - 1)
        else:
            # Prefixes are numbered in lexicographic order; two elements must follow.
            one += 1
            while number >= binomials[m - 3 - one, k - 3 - t]:
                number -= binomials[m - 3 - one, k - 3 - t]
                one += 1
        left -= peek_32(at + np.uint64(_KEYS + one) * _VECTOR)
        mask |= _ONE << np.uint64(one)
    for last in range(one + 1, m):
        if abs(left - peek_32(at + np.uint64(_KEYS + last) * _VECTOR)) == best:
            return mask | _ONE << np.uint64(last)
    return np.uint64(0)


@inner
def _next_size(address, lane, k, limit, reach):  # type: ignore[no-untyped-def]
    """The next size after k whose sums can come within `reach` quanta of the target; 0 where there is none."""
    at = address + np.uint64(4 * lane)
    goal = peek_32(at + np.uint64(_LEFT) * _VECTOR)
    low, high = peek_32(at + np.uint64(_BOUNDS) * _VECTOR), peek_32(at + np.uint64(_BOUNDS + 1) * _VECTOR)
    below, above = peek_32(at + np.uint64(_BOUNDS + 2) * _VECTOR), peek_32(at + np.uint64(_BOUNDS + 3) * _VECTOR)
    if below - reach > goal or above + reach < goal:
        return np.int64(0)
    for size in range(k + 1, limit + 1):
        if size * low - reach <= goal <= size * high + reach:
            return np.int64(size)
    return np.int64(0)


_SIGNATURE = types.int64(
    types.float64[::1], types.int64[::1], types.float64[::1], types.int64[::1],
    types.int64, types.int64, types.int64, types.float64, types.int64, types.int64,
    types.float64[::1], types.int64[::1], types.uint64, types.uint64, types.int64[:, ::1], types.int64[:, ::1],
    types.uint64[::1], types.float64[::1], types.float64[::1], types.uint8[::1],
    types.int64[::1],
)  # fmt: skip


def _make(stamp: int) -> Callable[..., int]:
    @numba.njit(_SIGNATURE, nogil=True, cache=True)
    def handful(  # type: ignore[no-untyped-def]
        values, starts, targets, order,
        start, stop, m, tolerance, least, limit,
        rows, words, row_address, address, waiting, binomials,
        selected, sums, errors, flags,
        halt,
    ):  # fmt: skip
        """Find the best subset of the least size within the tolerance for the problems ``order[start:stop]``.

        Problem p has ``values[starts[p]:starts[p] + m]``; sizes from `least` to `limit` are tried. `rows` and `words`
        are the same ``ROWS`` rows from `row_address` on, `address` is that of ``VECTORS`` vectors; `waiting` has
        ``WAITING`` rows of as many, `binomials` the binomial coefficients. ``flags[p]`` becomes ``SOLVED``, ``OPEN`` or
        ``DOUBTFUL``. ``halt[0]`` is the order to stop.
        """
        slack = (m + 2.0) * (m + 2.0) * ROUNDING
        count, index, group = waiting[0], waiting[1], waiting[2]
        for k in range(MAX_SIZE + 1):
            count[k] = 0
        at = start
        while not halt[0]:
            # Sixteen that wait for the same size first; then new ones; at the end, the largest group left.
            size = np.int64(0)
            for k in range(3, limit + 1):
                if count[k] >= LANES or (at >= stop and count[k] > 0 and size == 0):
                    size = np.int64(k)
            if size == 0 and at >= stop:
                break
            fresh = size == 0
            if size:
                filled = min(count[size], np.int64(LANES))
                for lane in range(LANES):
                    group[lane] = waiting[size, count[size] - 1 - min(np.int64(lane), filled - 1)]
                count[size] -= filled
                first_size, last_size = size, size
            else:
                filled = min(stop - at, np.int64(LANES))
                for lane in range(LANES):
                    group[lane] = order[at + min(np.int64(lane), filled - 1)]
                at += filled
                first_size, last_size = np.int64(1), min(np.int64(2), limit) if least == 1 else least - 1
            _load(values, starts, targets, group, m, rows, row_address, address)
            for lane in range(LANES):
                p = group[lane]
                words[_CHOSEN * LANES + lane] = 0
                if fresh:
                    # The empty set needs no rounding.
                    flags[p] = SOLVED if abs(targets[p]) <= tolerance and least == 1 else OPEN
                factor = rows[_FACTORS * LANES + lane]
                usual = factor > 0.0 and abs(targets[p]) * factor < _FAR and tolerance * factor < 0.5 * _FAR
                if flags[p] == OPEN and not usual:
                    flags[p] = DOUBTFUL
            for k in range(first_size if least == 1 or not fresh else last_size + 1, last_size + 1):
                _of_size(m, k, address, index)
                for lane in range(LANES):
                    p = group[lane]
                    if flags[p] != OPEN:
                        continue
                    best = peek_32(address + np.uint64(_BEST) * _VECTOR + np.uint64(4 * lane))
                    second = peek_32(address + np.uint64(_BEST + 1) * _VECTOR + np.uint64(4 * lane))
                    within = tolerance * rows[_FACTORS * LANES + lane]
                    off = 0.5 * (k + 1) + 1e-6
                    if best > within + off:
                        continue
                    if best > within - off or second <= best + k + 1:
                        flags[p] = DOUBTFUL
                        continue
                    words[_CHOSEN * LANES + lane] = np.int64(_choice(address, lane, m, k, binomials))
                    flags[p] = SOLVED
            proved = _answers(
                row_address + np.uint64(_BASE) * _ROW, np.uint64(m), row_address + np.uint64(_CHOSEN) * _ROW,
                row_address + np.uint64(_TARGETS) * _ROW, row_address + np.uint64(_TOTALS) * _ROW, slack,
                row_address + np.uint64(_SUMS) * _ROW, row_address + np.uint64(_ERRORS) * _ROW,
            )  # fmt: skip
            for lane in range(filled):
                p = group[lane]
                if flags[p] == SOLVED:
                    if not (proved >> np.uint64(lane)) & _ONE or rows[_ERRORS * LANES + lane] > tolerance:
                        flags[p] = DOUBTFUL
                        continue
                    selected[p] = np.uint64(words[_CHOSEN * LANES + lane])
                    sums[p], errors[p] = rows[_SUMS * LANES + lane], rows[_ERRORS * LANES + lane]
                elif flags[p] == OPEN:
                    within = tolerance * rows[_FACTORS * LANES + lane]
                    reach = np.int64(within) + MAX_SIZE + MAX_ELEMENTS
                    following = _next_size(address, lane, last_size, limit, reach)
                    if following:
                        waiting[following, count[following]] = p
                        count[following] += 1
        return stamp

    return handful


handful = _make(source_stamp("arith.py", "flags.py", "vectors.py", "small.py", "wide.py", "handful.py"))
