"""What others use for the same problems. Each is asked for the optimum in the way that serves it best.

A rival gives masks and says of each whether it calls it optimal. Packages are imported where they are used: none of
them is needed for slth.
"""

from __future__ import annotations

import functools
import importlib
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.bench.contenders import Contender, Question, Reply, all_claimed, one_by_one
from slth.subsetsum.problem import OBJECTIVES

_TABLE_ELEMENTS = 12
"""Up to here a product with the table of all subsets is faster than doubling the list of sums (measured)."""
_CACHED_SUMS = 2**15
"""Sums that torch handles at a time (chosen): larger batches leave the cache and are slower."""
_QUANTA = 2.0**53
"""To the integers that flsss wants: nothing is rounded where elements are multiples of 2^-53, as uniform ones are."""
_GAPS = 2.0
"""First width of flsss's band in expected distances between neighbouring sums: most problems need one call."""
_WIDER = 8
_SCALE = 2.0**10
_MANY = 10**6


def enumeration(question: Question) -> Reply:
    """All 2^m sums of each problem in numpy, one problem after the other."""

    def choose(base: NDArray[np.float64], target: float) -> tuple[int, bool, bool]:
        m = len(base)
        if m <= _TABLE_ELEMENTS:
            sums = _table(m) @ base
        else:
            sums = np.zeros(1)
            for x in base:
                sums = np.concatenate([sums, sums + x])
        errors = np.abs(sums - target)
        within = np.flatnonzero(errors <= question.tolerance) if question.objective != "best" else np.zeros(0, int)
        if not len(within):
            return int(errors.argmin()), True, False
        if question.objective == "first":
            return int(within[0]), True, False
        return min(within.tolist(), key=lambda mask: (mask.bit_count(), errors[mask])), True, False

    return one_by_one(question, choose)


@functools.cache
def _table(m: int) -> NDArray[np.float64]:
    masks = np.arange(2**m)[:, None]
    return np.asarray((masks >> np.arange(m)) & 1, dtype=np.float64)


def sort_search(question: Question) -> Reply:
    """Meet in the middle in torch, float64: sums of one half sorted, those of the other looked up, many at a time."""
    import torch

    torch.set_num_threads(1)
    base, targets = torch.from_numpy(question.problems.base), torch.from_numpy(question.problems.targets)
    step = max(1, _CACHED_SUMS >> (question.problems.m + 1) // 2)
    parts = [_sort_search(torch, b, t) for b, t in zip(base.split(step), targets.split(step), strict=True)]
    return all_claimed(torch.cat(parts).numpy())


def _sort_search(torch: Any, base: Any, targets: Any) -> Any:
    def sums(elements: Any) -> Any:
        found = torch.zeros(len(elements), 1, dtype=torch.float64)
        for k in range(elements.shape[1]):
            found = torch.cat([found, found + elements[:, k : k + 1]], 1)
        return found

    half = base.shape[1] // 2
    others, (ordered, order) = sums(base[:, :half]), torch.sort(sums(base[:, half:]), dim=1)
    needed = targets[:, None] - others
    at = torch.searchsorted(ordered, needed)
    above, below = at.clamp(max=ordered.shape[1] - 1), (at - 1).clamp(min=0)
    error_above = (torch.gather(ordered, 1, above) - needed).abs()
    error_below = (torch.gather(ordered, 1, below) - needed).abs()
    best = torch.minimum(error_above, error_below).argmin(1, keepdim=True)
    pick = torch.where(error_below <= error_above, below, above).gather(1, best)
    return best[:, 0] | (order.gather(1, pick)[:, 0] << half)


def flsss(question: Question) -> Reply:
    """The package flsss, which finds integer subsets whose sum lies in a band.

    It has no question for the optimum. Asked for all subsets in a band of about two expected gaps around the target, it
    answers most problems in one call, the closest of them being the optimum; where the band is empty it is widened.
    That was up to three times faster than closing in on the optimum one better subset at a time.
    """
    gen: Any = importlib.import_module("flsss").gen

    def choose(base: NDArray[np.float64], target: float) -> tuple[int, bool, bool]:
        problem = _Band(gen, np.rint(base * _QUANTA).astype(np.int64), round(target * _QUANTA), question.limit)
        tolerance = int(question.tolerance * _QUANTA)
        mask = None
        if question.objective == "first":
            mask = problem.closest_within(tolerance, solutions=1)
        elif question.objective == "sparsest":
            mask = problem.fewest_within(tolerance)
        if mask is None:
            mask = problem.closest()
        return mask, not problem.cut, problem.cut

    return one_by_one(question, choose)


class _Band:
    """One problem in integers; the empty subset, which flsss leaves out, is looked at here."""

    def __init__(self, gen: Any, elements: NDArray[np.int64], target: int, limit: float) -> None:
        self.gen, self.elements, self.target = gen, elements, target
        self.end = time.perf_counter() + limit

    @property
    def cut(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.end

    def closest_within(self, distance: int, size: int = 0, solutions: int = _MANY) -> int | None:
        """Of the subsets (of this size, 0 for any) at most so far off, or of the first few of them, the closest."""
        best, least = (0, abs(self.target)) if size == 0 else (None, distance + 1)
        if solutions == 1 and least <= distance:
            return best
        found = self.gen(
            self.elements,
            lo=self.target - distance,
            hi=self.target + distance,
            len=size,
            n_solutions=solutions,
            time_limit=max(1e-3, self.end - time.perf_counter()),
            n_threads=1,
        )
        for chosen in found:
            error = abs(int(self.elements[chosen].sum()) - self.target)
            if error < least:
                best, least = sum(1 << int(k) for k in chosen), error
        return best if least <= distance else None

    def closest(self) -> int:
        """The subset of least error, looked for in bands that grow; the empty one if time is over."""
        spread = math.sqrt(float((self.elements.astype(np.float64) ** 2).sum()))
        distance = int(_GAPS * spread / 2.0 ** len(self.elements)) + 1
        while not self.cut:
            mask = self.closest_within(min(distance, abs(self.target)))
            if mask is not None:
                return mask
            distance *= _WIDER
        return 0

    def fewest_within(self, distance: int) -> int | None:
        """The closest subset at most so far off, of the fewest elements; None where there is none or time is over."""
        if abs(self.target) <= distance:
            return 0
        for size in range(1, len(self.elements) + 1):
            mask = self.closest_within(distance, size)
            if mask is not None or self.cut:
                return mask
        return None


def gurobi(question: Question) -> Reply:
    """Gurobi under the size-limited licence of its package, all gaps zero and all tolerances at their least.

    Elements and target are scaled up so that a tolerance of 1e-9 means 1e-12 to them. Scaled up so far that the optimum
    is about 1, Gurobi took wrong answers for optimal.
    """
    gp: Any = importlib.import_module("gurobipy")
    environment = _environment()

    def choose(base: NDArray[np.float64], target: float) -> tuple[int, bool, bool]:
        search = _Residual(gp, environment, base, target, question.limit)
        chosen = None
        if question.objective != "best":
            chosen = search.within(question.tolerance, fewest=question.objective == "sparsest")
            if chosen is not None and question.objective == "sparsest" and not search.cut:
                closer = search.closest(int(chosen.sum()))
                chosen = chosen if closer is None else closer
        if chosen is None and not search.cut:
            chosen = search.closest()
        mask = 0 if chosen is None else sum(1 << int(k) for k in np.flatnonzero(chosen))
        return mask, not search.cut, search.cut

    return one_by_one(question, choose)


@functools.cache
def _environment() -> Any:
    least = {"MIPGap": 0.0, "MIPGapAbs": 0.0, "FeasibilityTol": 1e-9, "IntFeasTol": 1e-9, "OptimalityTol": 1e-9}
    return importlib.import_module("gurobipy").Env(params={"OutputFlag": 0, "Threads": 1, **least})


class _Residual:
    """One problem as a mixed-integer program; every question is a new model."""

    def __init__(self, gp: Any, environment: Any, base: NDArray[np.float64], target: float, limit: float) -> None:
        self.gp, self.environment, self.limit, self.cut = gp, environment, limit, False
        self.base, self.target, self.scale = base * _SCALE, target * _SCALE, _SCALE

    def closest(self, count: int | None = None) -> NDArray[np.bool_] | None:
        """A subset of the least residual, of `count` elements if given."""
        with self.gp.Model(env=self.environment) as model:
            b, residual = model.addMVar(len(self.base), vtype="B"), model.addVar()
            model.addConstr(self.base @ b - residual <= self.target)
            model.addConstr(self.base @ b + residual >= self.target)
            if count is not None:
                model.addConstr(b.sum() == count)
            model.setObjective(residual)
            return self._solve(model, b)

    def within(self, tolerance: float, fewest: bool) -> NDArray[np.bool_] | None:
        """A subset within the tolerance, of the fewest elements if asked for."""
        with self.gp.Model(env=self.environment) as model:
            b = model.addMVar(len(self.base), vtype="B")
            model.addConstr(self.base @ b <= self.target + tolerance * self.scale)
            model.addConstr(self.base @ b >= self.target - tolerance * self.scale)
            if fewest:
                model.setObjective(b.sum())
            else:
                model.Params.SolutionLimit = 1
            return self._solve(model, b)

    def _solve(self, model: Any, b: Any) -> NDArray[np.bool_] | None:
        model.Params.TimeLimit = self.limit
        model.optimize()
        if model.Status == self.gp.GRB.INTERRUPTED:
            raise KeyboardInterrupt
        self.cut |= model.Status == self.gp.GRB.TIME_LIMIT
        return np.asarray(b.X > 0.5) if model.SolCount else None


RIVALS: dict[str, Contender] = {
    rival.name: rival
    for rival in (
        Contender("enumeration", "all 2^m sums in numpy, problem by problem", enumeration, 24),
        Contender("sort-search", "torch.sort and torch.searchsorted, batched", sort_search, 34, ("best",), ("torch",)),
        Contender("flsss", "package flsss: branch and bound in C++ over integers", flsss, 44, OBJECTIVES, ("flsss",)),
        Contender(
            "gurobi", "Gurobi: mixed-integer program, size-limited licence", gurobi, 44, OBJECTIVES, ("gurobipy",)
        ),
    )
}
"""All need one process each; who is too slow for a size is stopped by the time limit and not asked for larger ones."""
