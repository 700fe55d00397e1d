"""The one entry point, and the solvers behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.errors import ArgumentError
from slth.subsetsum import enumeration
from slth.subsetsum.problem import (
    MAX_ELEMENTS,
    Answers,
    Batch,
    Objective,
    Run,
    Solver,
    Status,
    SubsetSums,
    make_batch,
)
from slth.subsetsum.schedule import count_threads


def _mitm(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    from slth.subsetsum import mitm

    return mitm.solve(batch, objective, tolerance, run)


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver(
            "mitm",
            "the optimum of either objective, proved: every pair of half sums within the rounding of the fixed-point "
            "search is compared without rounding error",
            MAX_ELEMENTS,
            _mitm,
        ),
        Solver(
            "enumerate",
            "the optimum of either objective, by looking at every subset",
            enumeration.MAX_ELEMENTS,
            enumeration.solve,
        ),
    )
}


def solve(
    base_sets: ArrayLike,
    targets: ArrayLike,
    *,
    objective: Objective = "best",
    tolerance: float | None = None,
    offsets: ArrayLike | None = None,
    solver: str = "mitm",
    threads: int | None = None,
    on_progress: Callable[[int], Any] | None = None,
) -> SubsetSums:
    """For each of P targets, choose a subset of that problem's base set by its sum.

    With base set x_1 .. x_m and target z, `best` solves ::

        minimise |z - sum_k b_k x_k|   over b in {0, 1}^m

    and `sparsest` solves, with the tolerance eps, ::

        minimise (sum_k b_k, |z - sum_k b_k x_k|) in this order
        over b in {0, 1}^m with |z - sum_k b_k x_k| <= eps

    or, where no b is within the tolerance, the same problem as `best`.

    Parameters
    ----------
    base_sets : (P, m) array, or (offsets[P],) array with `offsets`
        Real numbers; float64 is used as it is, anything else is converted once.
    targets : (P,) array
    objective : {"best", "sparsest"}
    tolerance : float, optional
        Largest error that counts as found. `sparsest` needs it; with `best` it only decides the status.
    offsets : (P + 1,) array of int, optional
        Base sets of unequal length: problem p has ``base_sets[offsets[p]:offsets[p + 1]]``, which may be empty.
    solver : str
        A key of ``SOLVERS``.
    threads : int, optional
        As many as the process may run on, unless given. The result does not depend on it.
    on_progress : callable, optional
        Called from this thread about every 0.1 s with the number of problems done.

    Returns
    -------
    SubsetSums
        Among subsets of exactly equal error (and, for `sparsest`, size) the one with the fewest elements, of those the
        one with the lowest mask: the result is a function of each problem alone.

    Raises
    ------
    ArgumentError
        For input that is not finite, shapes at odds, or more elements than the solver takes.
    KeyboardInterrupt
        At Ctrl-C, as soon as the problems at hand are done.

    Notes
    -----
    Errors are exact to the last bit: sums are rounded once, at the end. The optimum is proved, not found by chance:
    the search runs over fixed-point numbers whose rounding is bounded by (m + 1) / 2 quanta a subset, and every
    subset within twice that of the fixed-point optimum is compared without rounding error.

    Examples
    --------
    >>> found = solve([[0.5, -0.25, 1.0]], [0.3])
    >>> int(found.selected[0]), float(found.sums[0])
    (3, 0.25)
    """
    if objective not in ("best", "sparsest"):
        raise ArgumentError("objective", repr(objective), "'best' or 'sparsest'")
    if solver not in SOLVERS:
        raise ArgumentError("solver", repr(solver), f"one of {', '.join(SOLVERS)}")
    if tolerance is not None and not tolerance >= 0.0:
        raise ArgumentError("tolerance", str(tolerance), "a number >= 0")
    if objective == "sparsest" and tolerance is None:
        raise ArgumentError("tolerance", "None", "a number >= 0 with objective 'sparsest'", "objective='best'")
    batch = make_batch(base_sets, targets, offsets)
    chosen = SOLVERS[solver]
    sizes = batch.sizes
    if batch.n_problems and sizes.max() > chosen.max_elements:
        p = int(sizes.argmax())
        raise ArgumentError(
            f"base set {p}",
            f"{sizes[p]} elements",
            f"at most {chosen.max_elements} for the solver {solver!r}",
            "splitting the base set or giving fewer elements",
        )
    answers = chosen.run(batch, objective, tolerance, Run(count_threads(threads), on_progress))
    return _complete(answers, tolerance)


def _complete(answers: Answers, tolerance: float | None) -> SubsetSums:
    missed = np.zeros(len(answers.errors), bool) if tolerance is None else answers.errors > tolerance
    status: NDArray[np.uint8] = np.where(missed, Status.MISSED, Status.FOUND).astype(np.uint8)
    return SubsetSums(answers.selected, answers.sums, answers.errors, _count_bits(answers.selected), status)


def _count_bits(masks: NDArray[np.uint64]) -> NDArray[np.int64]:
    if hasattr(np, "bitwise_count"):
        counts: NDArray[np.int64] = np.bitwise_count(masks).astype(np.int64)
        return counts
    bits = np.unpackbits(masks[:, None].view(np.uint8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.int64))
