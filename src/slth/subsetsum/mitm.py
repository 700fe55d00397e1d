"""The solver `mitm`: compiled meet in the middle, with slower solvers behind it for what the kernels leave."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact
from slth.subsetsum.kernels.call import Kernels
from slth.subsetsum.kernels.flags import DOUBTFUL, OPEN, SOLVED
from slth.subsetsum.problem import MAX_ELEMENTS, Answers, Batch, Objective, Run
from slth.subsetsum.schedule import Crew, cut
from slth.subsetsum.trust import trusted

_QUICK = 6
"""Largest size looked for before anything else (chosen); float64 sums of so few elements need no proof of their own."""

_FIRST_RUNG, _RUNG = 10, 4
"""Elements that `first` looks at at first, and how many more each time it has not found a subset (chosen)."""
_CHEAP = 1000.0
"""Nanoseconds a problem up to which numbers are not looked at before the search begins (chosen)."""


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    `sparsest` looks at small subsets one by one, then asks `best` whether any subset is within the tolerance at all,
    and only if so goes on to larger ones. `first` asks `best` for the first few elements, then for more.
    """
    room = math.inf if run.scratch_bytes is None else run.scratch_bytes / run.threads
    with Crew(run.threads, run.on_progress, lambda halt: Kernels(halt, room)) as crew:
        search = _Search(batch, tolerance, crew, run)
        if objective == "best" or tolerance is None:
            search.stage(None, _best_nanoseconds, search.best)
        elif objective == "first":
            search.first()
        else:
            search.sparsest()
    return search.answers


Work = Callable[[Kernels, Batch, Answers], NDArray[np.int64]]
"""Solves a batch as far as it can, fills in the answers and returns the problems it leaves for later."""


class _Search:
    """One call of :func:`solve`.

    Parameters
    ----------
    batch : Batch
    tolerance : float, optional
    crew : Crew
    run : Run
    """

    def __init__(self, batch: Batch, tolerance: float | None, crew: Crew, run: Run) -> None:
        self.batch = batch
        self.tolerance = math.inf if tolerance is None else tolerance
        self.answers = Answers.empty(batch.n_problems)
        self.crew = crew
        self.vectors = run.vectors
        self.check = run.check

    def stage(self, which: NDArray[np.int64] | None, cost: Callable[[int], float], work: Work) -> NDArray[np.int64]:
        """Do `work` for problems `which` (None: all of them), block by block, and return what it leaves.

        `cost` says how many nanoseconds a problem of m elements takes, about. What is noted about the problems of a
        block is noted by the thread that solves it: where problems are cheap, one pass over all of them would count.
        For the same reason it is then that thread that refuses numbers that are not finite.
        """
        batch, answers = self.batch, self.answers
        n_problems = batch.n_problems if which is None else len(which)
        if not n_problems:
            return np.empty(0, np.int64)
        sizes = batch.sizes if which is None else batch.sizes[which]
        largest = int(sizes.max())
        costs: float | NDArray[np.float64] = cost(largest)
        if sizes.min() < largest:
            order = np.argsort((largest - sizes).astype(np.uint8), kind="stable")
            costs = np.array([cost(m) for m in range(largest + 1)])[sizes[order]]
            which = order if which is None else which[order]
        check = self.check if which is None and isinstance(costs, float) and costs < _CHEAP else None
        if self.check is not None and check is None:
            self.check(0, n_problems)
        self.check = None

        def block(kernels: Kernels, start: int, stop: int) -> NDArray[np.int64]:
            if check is not None:
                check(start, stop)
            here: slice | NDArray[np.int64] = slice(start, stop) if which is None else which[start:stop]
            part = Batch(batch.values, batch.starts[here], batch.sizes[here], batch.targets[here])
            mine = Answers(answers.selected[here], answers.sums[here], answers.errors[here])
            left = work(kernels, part, mine)
            if isinstance(here, slice):
                return left + start
            answers.selected[here], answers.sums[here], answers.errors[here] = mine.selected, mine.sums, mine.errors
            return here[left]

        return np.concatenate(self.crew.each(cut(costs, n_problems, self.crew.threads), block))

    def first(self) -> None:
        """Ask for the best subset of ever more elements until it is within the tolerance."""
        most = int(self.batch.sizes.max(initial=0))
        open_ = None
        for rung in [*range(_FIRST_RUNG, most, _RUNG), most]:
            cost = functools.partial(_rung_nanoseconds, rung)
            open_ = self.stage(open_, cost, functools.partial(self.climb, rung))

    def climb(self, rung: int, kernels: Kernels, batch: Batch, answers: Answers) -> NDArray[np.int64]:
        """The least error of the first `rung` elements; leaves problems where it is too large and there are more."""
        self.best(kernels, replace(batch, sizes=np.minimum(batch.sizes, rung)), answers)
        return np.asarray(np.flatnonzero((answers.errors > self.tolerance) & (batch.sizes > rung)))

    def best(self, kernels: Kernels, batch: Batch, answers: Answers) -> NDArray[np.int64]:
        """Solve for the least error; leaves none."""
        rest, sizes = np.arange(batch.n_problems), batch.sizes
        if not sizes.all():
            empty = rest[sizes == 0]
            answers.selected[empty], answers.sums[empty], answers.errors[empty] = 0, 0.0, np.abs(batch.targets[empty])
            rest, sizes = rest[sizes > 0], sizes[sizes > 0]
        if self.vectors and trusted("lockstep"):
            small = sizes <= kernels.lockstep_limit
            rest = np.concatenate([kernels.lockstep(batch, rest[small], answers), rest[~small]])
        if self.vectors and len(rest) and trusted("closest"):
            rest = kernels.closest(batch, rest, answers)
        _exactly(batch, kernels.plain(batch, rest, answers), answers, None)
        return rest[:0]

    def sparsest(self) -> None:
        """Look at small subsets one by one; then, if any subset is within the tolerance at all, at larger ones."""
        open_ = self.stage(None, lambda m: 60.0 + 0.25 * m**2, self.few_elements)
        open_ = self.stage(open_, _best_nanoseconds, self.any_within)
        self.stage(open_, lambda m: 1000.0 + 20.0 * m * 2.0 ** (m / 2), self.many_elements)

    def few_elements(self, kernels: Kernels, batch: Batch, answers: Answers) -> NDArray[np.int64]:
        """Subsets of up to so few elements that they are all looked at; leaves the problems without any."""
        every = doubtful = np.arange(batch.n_problems)
        quick, _ = largest_sizes()
        flags = np.full(batch.n_problems, OPEN, np.uint8)
        if self.vectors and trusted("handful"):
            kernels.handful(batch, every, answers, self.tolerance, np.ones_like(quick), quick, flags)
            doubtful = np.flatnonzero(flags == DOUBTFUL)
        if self.vectors and len(doubtful) and trusted("fewest"):
            beyond = kernels.fewest(batch, doubtful, answers, self.tolerance, quick, flags)
            _exactly(batch, beyond, answers, self.tolerance)
        else:
            flags[doubtful] = OPEN
        return np.asarray(np.flatnonzero(flags == OPEN))

    def any_within(self, kernels: Kernels, batch: Batch, answers: Answers) -> NDArray[np.int64]:
        """The least error; leaves the problems where it is within the tolerance."""
        self.best(kernels, batch, answers)
        return np.asarray(np.flatnonzero(answers.errors <= self.tolerance))

    def many_elements(self, kernels: Kernels, batch: Batch, answers: Answers) -> NDArray[np.int64]:
        """The sparsest subset of problems that have one within the tolerance; leaves none."""
        open_ = np.arange(batch.n_problems)
        quick, patient = largest_sizes()
        done_up_to = np.full_like(quick, -1)
        if self.vectors and trusted("handful") and trusted("fewest"):
            # Looking at every subset is the faster way as long as there are few.
            flags = np.full(batch.n_problems, OPEN, np.uint8)
            kernels.handful(batch, open_, answers, self.tolerance, quick + 1, patient, flags)
            open_, done_up_to = np.flatnonzero(flags != SOLVED), quick
        _exactly(batch, kernels.classes(batch, open_, answers, self.tolerance, done_up_to), answers, self.tolerance)
        return open_[:0]


def _best_nanoseconds(m: int) -> float:
    """About what the best subset of m elements takes."""
    pairs: float = 2.0 ** (m / 2)
    return 90.0 + 0.055 * m * pairs if m <= 24 else 500.0 + 2.2 * pairs


def _rung_nanoseconds(rung: int, m: int) -> float:
    return _best_nanoseconds(min(m, rung))


@functools.cache
def largest_sizes() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every m, the size up to which all subsets are looked at before asking `best`, and before size classes.

    Neither falls with m: zeros among the elements, which some kernels leave out, do not make a size be skipped.
    """
    from slth.subsetsum.kernels.handful import MAX_PREFIXES

    def largest(m: int, nanoseconds: float, at_most: int) -> int:
        for k in range(1, min(m, at_most) + 1):
            # About 0.045 ns a subset.
            if math.comb(m, k) * 0.045 > nanoseconds or math.comb(m, max(k - 2, 0)) >= MAX_PREFIXES:
                return k - 1
        return min(m, at_most)

    every = range(MAX_ELEMENTS + 1)
    quick = [largest(m, 0.9 * 2.0 ** (m / 2), _QUICK) for m in every]
    patient = [largest(m, 20.0 * m * 2.0 ** (m / 2), MAX_ELEMENTS) for m in every]
    return np.array(quick, np.int64), np.array(patient, np.int64)


def _exactly(batch: Batch, which: NDArray[np.int64], answers: Answers, tolerance: float | None) -> None:
    """Solve problems `which` in integers: for the sparsest subset where there is a tolerance, else for the closest."""
    for p in which.tolist():
        base, target = batch.problem(p)
        sparse = None if tolerance is None else exact.sparsest(base, target, tolerance)
        mask = exact.best(base, target) if sparse is None else sparse
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
