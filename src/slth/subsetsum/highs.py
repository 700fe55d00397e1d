"""The solver `highs`: a mixed-integer program for the open-source solver HiGHS, to compare with.

This is how the experiments of da Cunha, Natale and Viennot (2022) solve subset sums, there by Gurobi ::

    minimise t   over b in {0, 1}^m and t >= 0 with  -t <= z - sum_k b_k x_k <= t

A mixed-integer solver works in floating point and up to tolerances, set here to the tightest that HiGHS takes: rows and
0-1 variables may be off by 1e-10 (the numbers scaled so that the largest is near 1). An error that small is not told
from zero, so that nothing is proved below, and at large m, where many subsets come that close, its 'optimal' is not.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from slth.subsetsum.cpsat import interruptible, load, warn
from slth.subsetsum.integers import one_by_one
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 64
"""As many as a mask has bits; the time limit ends most problems long before."""
SECONDS = 60.0
"""Time limit of a search (chosen); a problem may take two."""
TOLERANCE = 1e-10
"""The tightest feasibility tolerance that HiGHS takes."""
LEAST_COEFFICIENT = 1e-12
"""HiGHS takes coefficients below this, its tightest setting, as 0; elements that small next to the largest stay out."""

_log = logging.getLogger(__name__)
_OPTIONS = {
    "output_flag": False,
    "threads": 1,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
    "mip_feasibility_tolerance": TOLERANCE,
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
    "small_matrix_value": LEAST_COEFFICIENT,
}


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    Ties are broken as the solver pleases. The subset's sum and error are exact, but that it is the best one is proved
    only to about 1e-10 times the sum of all magnitudes; so is whether it is within the tolerance. Where the time limit
    comes first the best subset found is returned, failing that the empty one; a warning counts those.

    Raises
    ------
    ArgumentError
        Where highspy is not installed.
    """
    highspy = load("highspy", "highspy")
    unproved = 0

    def choose(base: list[float], target: float) -> int:
        nonlocal unproved
        mask, proved = _one(highspy, base, target, objective, tolerance)
        unproved += not proved
        return mask

    answers = one_by_one(batch, run, choose)
    warn(_log, unproved, batch.n_problems, SECONDS)
    return answers


def _one(highspy: Any, base: list[float], target: float, objective: str, tolerance: float | None) -> tuple[int, bool]:
    """The mask, and whether HiGHS calls it optimal."""
    problem = _Problem(highspy, base, target, tolerance)
    if not problem.values:
        return 0, True
    missed = True
    if objective != "best" and tolerance is not None:
        mask, missed = problem.fewest() if objective == "sparsest" else problem.any()
        if mask is not None:
            return mask, missed
    mask, proved = problem.closest()
    return mask or 0, proved and missed


class _Problem:
    """One subset sum, scaled. Every question to the solver is a new model.

    Answers are a mask or None, and whether HiGHS calls it optimal, or calls the question infeasible.
    """

    def __init__(self, highspy: Any, base: list[float], target: float, tolerance: float | None) -> None:
        self.highspy = highspy
        down = -math.frexp(max(map(abs, base), default=0.0))[1]
        scaled = {k: math.ldexp(x, down) for k, x in enumerate(base)}
        self.values = {k: x for k, x in scaled.items() if abs(x) >= LEAST_COEFFICIENT}
        self.least = math.fsum(x for x in self.values.values() if x < 0.0)
        self.most = math.fsum(x for x in self.values.values() if x > 0.0)
        # Beyond everything or nothing that choice is the closest, and how far beyond no longer matters.
        goal = _scale(target, down)
        self.goal = min(max(goal, self.least), self.most)
        within = 0.0 if tolerance is None else _scale(tolerance, down)
        self.window = max(goal - within, self.least), min(goal + within, self.most)

    def closest(self, count: int | None = None) -> tuple[int | None, bool]:
        """A subset of the least distance, of `count` elements if given."""
        model = self._model(0.0)
        infinite = self.highspy.kHighsInf
        model.addVar(0.0, infinite)
        distance = len(self.values)
        model.changeColCost(distance, 1.0)
        values = np.array(list(self.values.values()))
        columns = np.arange(distance + 1, dtype=np.int32)
        model.addRow(self.goal, infinite, distance + 1, columns, np.append(values, 1.0))
        model.addRow(-infinite, self.goal, distance + 1, columns, np.append(values, -1.0))
        if count is not None:
            model.addRow(count, count, distance, columns[:-1], np.ones(distance))
        return self._solve(model)

    def any(self, cost: float = 0.0) -> tuple[int | None, bool]:
        """A subset within the tolerance, of the least cost where elements have one."""
        if self.window[0] > self.window[1] + TOLERANCE:
            return None, True
        model = self._model(cost)
        values = np.array(list(self.values.values()))
        low, high = min(self.window), max(self.window)
        model.addRow(low, high, len(values), np.arange(len(values), dtype=np.int32), values)
        return self._solve(model)

    def fewest(self) -> tuple[int | None, bool]:
        """A subset of the fewest elements within the tolerance, of those the closest."""
        mask, proved = self.any(cost=1.0)
        if not mask or not proved:
            return mask, proved
        closer, proved = self.closest(mask.bit_count())
        return mask if closer is None else closer, proved

    def _model(self, cost: float) -> Any:
        """A model of a 0-1 variable for every element."""
        model = self.highspy.Highs()
        for name, value in {**_OPTIONS, "time_limit": SECONDS}.items():
            if model.setOptionValue(name, value) != self.highspy.HighsStatus.kOk:
                raise RuntimeError(f"HiGHS refuses the option {name} = {value}")
        for column in range(len(self.values)):
            model.addVar(0.0, 1.0)
            model.changeColIntegrality(column, self.highspy.HighsVarType.kInteger)
            model.changeColCost(column, cost)
        return model

    def _solve(self, model: Any) -> tuple[int | None, bool]:
        # Without this, cancelSolve does nothing.
        model.HandleUserInterrupt = True
        interruptible(model.run, model.cancelSolve)
        status = model.getModelStatus()
        if model.getInfo().primal_solution_status == int(self.highspy.SolutionStatus.kSolutionStatusFeasible):
            found = model.getSolution().col_value
            mask = sum(1 << k for k, b in zip(self.values, found, strict=False) if b > 0.5)
            return mask, status == self.highspy.HighsModelStatus.kOptimal
        return None, status == self.highspy.HighsModelStatus.kInfeasible


def _scale(x: float, down: int) -> float:
    try:
        return math.ldexp(x, down)
    except OverflowError:
        return math.copysign(math.inf, x)
