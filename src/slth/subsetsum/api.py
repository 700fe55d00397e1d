"""The one entry point, and the solvers behind it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.errors import ArgumentError
from slth.subsetsum.given import Given
from slth.subsetsum.problem import MAX_ELEMENTS, OBJECTIVES, Answers, Batch, Objective, Run, Solver, Status, SubsetSums
from slth.subsetsum.schedule import count_threads


def _later(module: str) -> Callable[[Batch, Objective, float | None, Run], Answers]:
    """The function ``solve`` of a module that is imported when it is first asked: kernels and torch take a while."""

    def run(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
        solver = importlib.import_module(f"slth.subsetsum.{module}")
        answers: Answers = solver.solve(batch, objective, tolerance, run)
        return answers

    return run


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver(
            "mitm",
            "the optimum, proved: every pair of half sums within the rounding of the fixed-point search is compared "
            "without rounding error; for first, a subset within the tolerance wherever there is one",
            MAX_ELEMENTS,
            _later("mitm"),
            OBJECTIVES,
            checks=True,
        ),
        Solver(
            "plain",
            "the optimum, proved as for mitm, by compiled code without vectors",
            MAX_ELEMENTS,
            _later("portable"),
            OBJECTIVES,
            checks=True,
        ),
        Solver(
            "torch",
            "the optimum, ties resolved, on any device with float64: every pair within the rounding of the fixed-point "
            "search is compared without rounding error",
            24,
            _later("device"),
            ("best",),
        ),
        Solver(
            "integers",
            "the optimum, in whole numbers of any length: no rounding anywhere, no compiled kernel",
            40,
            _later("integers"),
            OBJECTIVES,
        ),
        Solver("enumerate", "the optimum, by looking at every subset", 22, _later("enumeration"), OBJECTIVES),
        Solver(
            "greedy-golden",
            "0 <= |target| - |sum|, and <= γ^k (γ = 2/3) where every golden bin from |target| rounded up to the "
            "grid down to (γ^(k+1), γ^k] holds an element of the target's sign; nothing about the best subset, nor "
            "about finding one within the tolerance",
            64,
            _later("golden"),
            ("best", "first"),
            exact=False,
        ),
        Solver(
            "cp-sat",
            "the optimum among numbers rounded to a power-of-two quantum, at most 2^-57 of the sum of magnitudes, so "
            "the error is at most m + 1 quanta above the least; ties open; where the time limit comes first, the best "
            "found, with a status that says so",
            64,
            _later("cpsat"),
            OBJECTIVES,
            exact=False,
        ),
        Solver(
            "highs",
            "the optimum up to HiGHS's tolerances: nothing is proved below about 1e-10 of the sum of magnitudes; ties "
            "open; where the time limit comes first, the best found, with a status that says so",
            64,
            _later("highs"),
            OBJECTIVES,
            exact=False,
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
    base_set_of: ArrayLike | None = None,
    solver: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    scratch_bytes: int | None = None,
    time_limit: float = 60.0,
    on_progress: Callable[[int], Any] | None = None,
) -> SubsetSums:
    """For each of P targets, choose a subset of that problem's base set by its sum.

    With base set x_1 .. x_m and target z, `best` solves ::

        minimise |z - sum_k b_k x_k|   over b in {0, 1}^m

    and `sparsest` solves, with the tolerance eps, ::

        minimise (sum_k b_k, |z - sum_k b_k x_k|) in this order
        over b in {0, 1}^m with |z - sum_k b_k x_k| <= eps

    and `first` takes any b with |z - sum_k b_k x_k| <= eps. Where no b is within the tolerance, both solve the same
    problem as `best`.

    Parameters
    ----------
    base_sets : (P, m) array or tensor; (N,) with `offsets`; (n, m) with `base_set_of`; (m,) for one base set
        Real numbers. Contiguous float64 is read where it lies, anything else is converted a slab at a time.
    targets : (P,) array or tensor
    objective : {"best", "sparsest", "first"}
    tolerance : float, optional
        Largest error that counts as found. `sparsest` and `first` need it; with `best` it only decides the status.
    offsets : (P + 1,) array of int, optional
        Base sets of unequal length: problem p has ``base_sets[offsets[p]:offsets[p + 1]]``, which may be empty.
    base_set_of : (P,) array of int, optional
        Base sets that problems share: problem p has base set ``base_set_of[p]`` (a row, or one given by `offsets`).
        Problems that share one are solved faster next to each other.
    solver : str, optional
        A key of ``SOLVERS``; each says what it guarantees. By default `mitm`, or `torch` with a `device`.
    device : str, optional
        A torch device, such as "cuda", to solve on.
    threads : int, optional
        As many as the process may run on, unless given. The result does not depend on it.
    scratch_bytes : int, optional
        What all threads together may use for lists of sums (two lists of 2^(m/2) of them, unless given). Shorter lists
        take longer: half the memory, twice the time.
    time_limit : float
        Seconds that one search of `cp-sat` or `highs` may take, of which a problem needs up to three. The other solvers
        take the time they take.
    on_progress : callable, optional
        Called from this thread about every 0.1 s with the number of problems done.

    Returns
    -------
    SubsetSums
        Among subsets of exactly equal error (and, for `sparsest`, size) the one with the fewest elements, of those the
        one with the lowest mask: the result is a function of each problem alone. For `first`, which of the subsets
        within the tolerance it is, is a function of the problem too.

    Raises
    ------
    ArgumentError
        For input that is not finite, shapes at odds, more elements than the solver takes, an objective it does not
        know.
    KeyboardInterrupt
        At Ctrl-C, as soon as the problems at hand are done.

    Notes
    -----
    Errors are exact to the last bit: sums are rounded once, at the end. The optimum is proved, not found by chance. The
    search runs over whole numbers of quanta. If rounding moves no subset's residual by more than `spread` quanta, the
    subset that is truly best has a fixed-point residual at most ``2 spread`` above the least one, so every subset up to
    there is compared without rounding error. ``docs/subset-sum.md`` has the argument in full.

    Examples
    --------
    >>> found = solve([[0.5, -0.25, 1.0]], [0.3])
    >>> int(found.selected[0]), float(found.sums[0])
    (3, 0.25)
    >>> solve([0.5, -0.25, 1.0], [0.3, 0.8], objective="first", tolerance=0.1).sums.tolist()
    [0.25, 0.75]
    """
    chosen = _check(objective, tolerance, solver, device, scratch_bytes, time_limit)
    n_threads = count_threads(threads)
    given = Given(base_sets, targets, offsets, base_set_of)
    if given.n_problems and given.sizes.max() > chosen.max_elements:
        p = int(given.sizes.argmax())
        raise ArgumentError(
            f"base set {p}",
            f"{given.sizes[p]} elements",
            f"at most {chosen.max_elements} for the solver {chosen.name!r}",
            "splitting the base set or giving fewer elements",
        )
    check = given.check if chosen.checks else None
    if check is None:
        given.check(0, given.n_problems)
    run = Run(n_threads, on_progress, device or "cpu", scratch_bytes, check, seconds=time_limit)
    return _complete(_answers(chosen, given, objective, tolerance, run), tolerance)


def _answers(chosen: Solver, given: Given, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Of all problems, batch by batch."""
    answers = Answers.empty(0)
    for first, batch in given.batches():
        part = chosen.run(batch, objective, tolerance, _shifted(run, first))
        if batch.n_problems == given.n_problems:
            return part
        if first == 0:
            answers = Answers.empty(given.n_problems)
            answers = replace(answers, unproved=np.zeros(given.n_problems, np.bool_))
        for name in ("selected", "sums", "errors", "unproved"):
            if getattr(part, name) is not None:
                getattr(answers, name)[first : first + batch.n_problems] = getattr(part, name)
    return answers


def _check(
    objective: str,
    tolerance: float | None,
    solver: str | None,
    device: str | None,
    scratch_bytes: int | None,
    time_limit: float,
) -> Solver:
    """The solver meant, if what is asked of it makes sense."""
    if objective not in OBJECTIVES:
        raise ArgumentError("objective", repr(objective), f"one of {', '.join(OBJECTIVES)}")
    name = solver or ("mitm" if device is None else "torch")
    if name not in SOLVERS:
        raise ArgumentError("solver", repr(name), f"one of {', '.join(SOLVERS)}")
    chosen = SOLVERS[name]
    if objective not in chosen.objectives:
        raise ArgumentError(
            "objective", repr(objective), f"one that the solver {name!r} knows: {', '.join(chosen.objectives)}"
        )
    if device not in (None, "cpu") and name != "torch":
        raise ArgumentError("device", repr(device), f"'cpu' for the solver {name!r}", "solver='torch'")
    if tolerance is not None and not tolerance >= 0.0:
        raise ArgumentError("tolerance", str(tolerance), "a number >= 0")
    if objective != "best" and tolerance is None:
        raise ArgumentError("tolerance", "None", f"a number >= 0 with objective {objective!r}", "objective='best'")
    if scratch_bytes is not None and scratch_bytes < 1:
        raise ArgumentError("scratch_bytes", str(scratch_bytes), "at least 1", "leaving it out")
    if not time_limit > 0.0:
        raise ArgumentError("time_limit", str(time_limit), "seconds above 0")
    return chosen


def _shifted(run: Run, first: int) -> Run:
    """For a batch whose first problem is problem `first` of the caller."""
    on_progress, check = run.on_progress, run.check
    if not first:
        return run
    return replace(
        run,
        on_progress=None if on_progress is None else lambda done: on_progress(first + done),
        check=None if check is None else lambda start, stop: check(first + start, first + stop),
    )


def _complete(answers: Answers, tolerance: float | None) -> SubsetSums:
    missed = np.zeros(len(answers.errors), bool) if tolerance is None else answers.errors > tolerance
    # False and True are FOUND and MISSED.
    status = missed.view(np.uint8)
    if answers.unproved is not None:
        status[answers.unproved] = Status.UNPROVED
    return SubsetSums(answers.selected, answers.sums, answers.errors, _count_bits(answers.selected), status)


def _count_bits(masks: NDArray[np.uint64]) -> NDArray[np.int64]:
    if hasattr(np, "bitwise_count"):
        counts: NDArray[np.int64] = np.bitwise_count(masks).astype(np.int64)
        return counts
    bits = np.unpackbits(masks[:, None].view(np.uint8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.int64))
