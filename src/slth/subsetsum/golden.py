"""The solver `greedy-golden`: one element a golden bin, then greedy, in linear time.

The decomposition behind "Logarithmic pruning is all you need" (Orseau, Hutter and Rivasplata 2020). The bins are
I_i = (γ^(i+1), γ^i] times w_max. Given one element v_i of every bin i = 1 .. k, fixed before the number w in
[0, w_max] is seen, the greedy choice (take v_i where the remainder is at least w_max γ^i) leaves at most w_max γ^k.
It asks for γ^-1 - γ <= 1, which holds from the inverse golden ratio on: before step i the remainder is at most
w_max γ^(i-1), so taking v_i > w_max γ^(i+1) leaves less than w_max (γ^(i-1) - γ^(i+1)) <= w_max γ^i.

:mod:`slth.bounds.orseau` says how many bins and how many samples that takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.subsetsum.problem import Answers, Batch, Objective, Run
from slth.subsetsum.rounding import evaluate, two_sum

MAX_ELEMENTS = 64
"""As many as a mask has bits."""
GAMMA = 2 / 3
"""Ratio of one bin to the next, the authors' choice."""
SMALLEST = 2.0**-1000
"""Where the grid of the solver ends (chosen): thresholds of denormal numbers would lose their ratio."""
_SLAB = 2**14
"""Problems at a time (chosen): their columns stay in the cache."""
_BINS_UP = math.ceil(1024 * math.log(2) / -math.log(GAMMA))
_BINS_DOWN = math.floor(1000 * math.log(2) / -math.log(GAMMA))
_NONE = np.iinfo(np.int32).max


def greedy(
    targets: ArrayLike, thresholds: ArrayLike, elements: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The greedy choice of Lemma 9, for P numbers at once: take v_i where the remainder is at least its threshold.

    Parameters
    ----------
    targets : (P,) array
        The numbers w >= 0 to be approached from below.
    thresholds : (P, k) or (k,) array
        Falling along the last axis.
    elements : (P, k) or (k,) array
        One element a bin, none above its threshold; 0 where a bin is empty.

    Returns
    -------
    taken : (P, k) bool
    remainders : (P,) float64
        w less the elements taken, correctly rounded wherever no bin above the last one taken was empty; never negative.

    Notes
    -----
    Decisions are those of exact arithmetic. The remainder is carried as two floats: it is a multiple of the last place
    u of the least number subtracted, and so has no error below 2^106 u. Beyond, it is 2^53 times the threshold and
    stays far above it, because all later elements together are less than a few thresholds.

    Differs: thresholds are float64, so at γ = 1/φ itself, where the proof has no room, remainders may pass the bound by
    a few last places of w_max.
    """
    high = np.array(targets, dtype=np.float64)
    shape = (len(high), np.shape(elements)[-1])
    limits, values = np.broadcast_to(thresholds, shape), np.broadcast_to(elements, shape)
    low = np.zeros_like(high)
    taken = np.zeros(shape, bool)
    for i in range(shape[1]):
        limit = limits[:, i]
        # The pair is normalised, so its parts compare like the digits of a number.
        take = (high > limit) | ((high == limit) & (low >= 0.0))
        take &= values[:, i] > 0.0
        difference, error = two_sum(high, np.where(take, -values[:, i], 0.0))
        high, low = two_sum(difference, error + low)
        taken[:, i] = take
    return taken, high


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Choose greedily for every problem; the objective and the tolerance change nothing.

    The bins lie on the grid γ^i, i any integer, whatever the target: w_max is |target| rounded up to that grid, but
    which element stands for a bin does not depend on the target. It is the first of the target's sign in the base set.

    Returns
    -------
    Answers
        With w = |target| and ŵ the |sum| of the elements chosen, 0 <= w - ŵ always, and w - ŵ <= γ^k (that is,
        w_max γ^(k-j) for w_max = γ^j) where every bin from w_max down to (γ^(k+1), γ^k] holds an element of the
        target's sign (Corollary 10). Elements below 2^-1000 are never chosen.

    Notes
    -----
    Orseau, Hutter and Rivasplata (2020), Lemma 9 and Corollary 10.

    Differs: base sets are any numbers, so bins may be empty, and are then passed over; the bound ends before the first.
    """
    selected = np.zeros(batch.n_problems, np.uint64)
    sums, errors = np.zeros(batch.n_problems), np.zeros(batch.n_problems)
    done = 0
    for which, base in _slabs(batch):
        targets = batch.targets[which]
        masks = _choose(base, targets)
        selected[which] = masks
        sums[which], errors[which] = evaluate(base, targets, masks)
        done += len(which)
        if run.on_progress is not None:
            run.on_progress(done)
    return Answers(selected, sums, errors)


def _slabs(batch: Batch) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Problems of equal size m, a few at a time: their numbers, (S,), and their base sets, (S, m)."""
    sizes = batch.sizes
    order = np.argsort(sizes, kind="stable")
    ends = np.cumsum(np.bincount(sizes, minlength=1))
    start = 0
    for m, end in enumerate(ends.tolist()):
        for first in range(start, end, _SLAB):
            which = order[first : min(first + _SLAB, end)]
            yield which, batch.values[batch.starts[which][:, None] + np.arange(m)]
        start = end


_GRID = GAMMA ** -np.arange(-_BINS_DOWN, _BINS_UP, dtype=np.float64)
"""The thresholds, rising, from 2^-1000 to the largest float64; 1 is one of them."""


def _bin(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """b with _GRID[b - 1] < values <= _GRID[b]; the length of the grid above it, 0 at or below its lower end."""
    # The logarithm is off by one at most; a binary search over thousands of thresholds costs several times as much.
    near = np.log(np.maximum(values, _GRID[0])) * (1.0 / -math.log(GAMMA)) + (_BINS_DOWN + 0.5)
    b: NDArray[np.int64] = np.clip(near.astype(np.int64), 1, len(_GRID) - 1)
    b += values > _GRID[b]
    b -= values <= _GRID[b - 1]
    return b


def _choose(base: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The masks of the greedy choice, (S,), for base sets (S, m)."""
    goals, values = np.abs(targets), np.abs(base)
    b = _bin(values)
    limits = np.append(_GRID, np.inf)[b]
    usable = ((base < 0.0) == (targets < 0.0)[:, None]) & (b > 0) & (limits <= goals[:, None])
    # From the highest bin down, in a bin from the first element on; no bin below comes before a bin above.
    keys = np.where(usable, (len(_GRID) - b) * MAX_ELEMENTS + np.arange(base.shape[1]), _NONE).astype(np.int32)
    keys.sort(axis=1)
    keys = keys[:, : int(usable.sum(axis=1).max(initial=0))]
    where = keys % MAX_ELEMENTS
    stands = keys != _NONE
    stands[:, 1:] &= keys[:, 1:] // MAX_ELEMENTS != keys[:, :-1] // MAX_ELEMENTS
    where = np.where(stands, where, 0)
    elements = np.where(stands, np.take_along_axis(values, where, axis=1), 0.0)
    taken, _ = greedy(goals, np.take_along_axis(limits, where, axis=1), elements)
    bits = np.where(taken, np.uint64(1) << where.astype(np.uint64), np.uint64(0))
    return np.asarray(bits.sum(axis=1, dtype=np.uint64))
