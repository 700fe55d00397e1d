"""The solver `greedy-golden`: one element a golden bin, then greedy, in linear time.

The decomposition behind "Logarithmic pruning is all you need" (Orseau, Hutter and Rivasplata 2020). The bins are
I_i = (γ^(i+1), γ^i] times w_max. Given one element v_i of every bin i = 1 .. k, fixed before the number w in
[0, w_max] is seen, the greedy choice (take v_i where the remainder is at least w_max γ^i) leaves at most w_max γ^k.
It asks for γ^-1 - γ <= 1, which holds from the inverse golden ratio on: before step i the remainder is at most
w_max γ^(i-1), so taking v_i > w_max γ^(i+1) leaves less than w_max (γ^(i-1) - γ^(i+1)) <= w_max γ^i.

The second half of this file rounds sums of many problems at once correctly; :mod:`slth.subsetsum.device` does so too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.errors import ArgumentError
from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 64
"""As many as a mask has bits."""
GAMMA = 2 / 3
"""Ratio of one bin to the next, the authors' choice."""
LEAST_GAMMA = (math.sqrt(5) - 1) / 2
"""The inverse of the golden ratio (proved): below it the greedy choice can leave more than a bin."""
SMALLEST = 2.0**-1000
"""Where the grid of the solver ends (chosen): thresholds of denormal numbers would lose their ratio."""
EXACT_SCALE = 2.0**1000
"""Above this magnitude of |target| + sum |x| two-sums could overflow: such sums are taken in integers."""
_SLAB = 2**14
"""Problems at a time (chosen): their columns stay in the cache."""
_BINS_UP = math.ceil(1024 * math.log(2) / -math.log(GAMMA))
_BINS_DOWN = math.floor(1000 * math.log(2) / -math.log(GAMMA))
_NONE = np.iinfo(np.int32).max


def n_bins(eps: float, gamma: float = GAMMA) -> int:
    """k = ⌈log_γ ε⌉, the number of bins after which the remainder is at most `eps` (Lemma 9).

    Differs: logarithms are rounded up after 1e-12 is taken off, so that ε = γ^k gives k and not k + 1.
    """
    _check(eps, gamma)
    return max(math.ceil(math.log(eps) / math.log(gamma) - 1e-12), 0)


def bins(eps: float, gamma: float = GAMMA) -> NDArray[np.float64]:
    """The edges γ^1 > γ^2 > .. > γ^(k+1) of the bins of Lemma 9, for w_max = 1.

    Returns
    -------
    (k + 1,) array
        Bin i = 1 .. k is (edges[i], edges[i - 1]], open below; its threshold in the greedy choice is edges[i - 1].
    """
    return np.asarray(gamma ** np.arange(1.0, n_bins(eps, gamma) + 2.0))


def sample_size(eps: float, delta: float, gamma: float = GAMMA) -> int:
    """m = ⌈k' ln(k'/δ)⌉ with k' = log_γ(γε): as many samples hit all bins with probability at least 1 - δ (Lemma 9).

    The samples are independent with density proportional to 1/v on [εγ², γ]; each bin then has probability 1/k'.

    Raises
    ------
    ArgumentError
        Unless 0 < ε < 1, 0 < δ < 1 and 1/φ <= γ < 1.
    """
    _check(eps, gamma)
    if not 0.0 < delta < 1.0:
        raise ArgumentError("delta", str(delta), "a probability between 0 and 1")
    k = 1.0 + math.log(eps) / math.log(gamma)
    return math.ceil(k * math.log(k / delta) - 1e-12)


def _check(eps: float, gamma: float) -> None:
    if not LEAST_GAMMA <= gamma < 1.0:
        raise ArgumentError(
            "gamma", str(gamma), f"1/φ = {LEAST_GAMMA:.6f} or more and below 1", f"the authors' 2/3 = {GAMMA:.6f}"
        )
    if not 0.0 < eps < 1.0:
        raise ArgumentError("eps", str(eps), "a number between 0 and 1, in units of w_max")


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
        difference, error = _two_sum(high, np.where(take, -values[:, i], 0.0))
        high, low = _two_sum(difference, error + low)
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


def _two_sum(x: Any, y: Any) -> tuple[Any, Any]:
    """x + y as the rounded sum and its error, exactly (Knuth); finite floats of any library's arrays."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def compensated(columns: Iterable[Any], targets: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Sums over columns, and how far from the targets they are, almost without error; numpy arrays or torch tensors.

    Parameters
    ----------
    columns : iterable of (P,) arrays
        The terms of all sums, 0 where an element is not chosen.
    targets : (P,) array

    Returns
    -------
    total, low : (P,) arrays
        The sum is about total + low.
    high, high_low : (P,) arrays
        target - sum is about high + high_low, high being the float64 nearest to both together.
    exact : (P,) bool array
        Where both are equalities.

    Notes
    -----
    Each two-sum is exact, so only adding up the errors can round. Over m columns that loses less than
    ``(m + 2)^2 * 2^-106`` times |target| + sum |x|, provided that is below 2^1000.
    """
    total, low, lost = targets * 0.0, targets * 0.0, targets * 0.0
    for column in columns:
        total, error = _two_sum(total, column)
        low, rest = _two_sum(low, error)
        lost = lost + abs(rest)
    gap, error = _two_sum(targets, -total)
    gap_low, rest = _two_sum(error, -low)
    high, high_low = _two_sum(gap, gap_low)
    return total, low, high, high_low, lost + abs(rest) == 0.0


def round_answers(columns: Iterable[Any], m: int, targets: Any, scale: Any) -> tuple[Any, Any, Any]:
    """Sums of `m` columns and their errors, each the float64 nearest to the exact value, and (P,) where that is proved.

    `scale` is at least |target| + sum |x|, save for a few roundings. See :func:`compensated`.
    """
    total, low, high, high_low, exact_ = compensated(columns, targets)
    # Four times what can be lost, which also covers the rounding of low - slack and low + slack.
    slack = (m + 2.0) ** 2 * 2.0**-104 * scale
    sums, gaps = total + low, high + high_low
    proved = (total + (low - slack) == total + (low + slack)) & (high + (high_low - slack) == high + (high_low + slack))
    return sums + 0.0, abs(gaps), (proved | exact_) & (scale < EXACT_SCALE)


def evaluate(
    base: NDArray[np.float64], targets: NDArray[np.float64], masks: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and errors, (P,) each, of the choices `masks` from base sets (P, m), correctly rounded."""
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.abs(targets) + np.abs(base).sum(axis=1)
        columns = (np.where(masks >> np.uint64(k) & np.uint64(1), x, 0.0) for k, x in enumerate(base.T))
        sums, errors, proved = round_answers(columns, base.shape[1], targets, scale)
    for p in np.flatnonzero(~proved).tolist():
        sums[p], errors[p] = exact.evaluate(base[p].tolist(), float(targets[p]), int(masks[p]))
    return sums, errors
