"""The solver `highs`: a mixed-integer program for the open-source solver HiGHS, to compare with.

This is how the experiments of da Cunha, Natale and Viennot (2022) solve subset sums, there by Gurobi ::

    minimise t   over b in {0, 1}^m and t >= 0 with  -t <= z - sum_k b_k x_k <= t

A mixed-integer solver works in floating point and up to tolerances, set here to the tightest that HiGHS takes: rows and
0-1 variables may be off by 1e-10 (the numbers scaled so that the largest is near 1). An error that small is not told
from zero, so that nothing is proved below, and at large m, where many subsets come that close, its 'optimal' is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from slth.subsetsum.foreign import Search, interruptible, load
from slth.subsetsum.integers import one_by_one
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 64
"""As many as a mask has bits; the time limit ends most problems long before."""
TOLERANCE = 1e-10
"""The tightest feasibility tolerance that HiGHS takes."""
LEAST_COEFFICIENT = 1e-12
"""HiGHS takes coefficients below this, its tightest setting, as 0; elements that small next to the largest stay out."""

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
    comes first the best subset found is returned, failing that the empty one, with a status that says so.

    Raises
    ------
    ArgumentError
        Where highspy is not installed.
    """
    highspy = load("highspy", "highspy")
    return one_by_one(
        batch, run, lambda base, target: _Problem(highspy, base, target, tolerance, run.seconds).solve(objective)
    )


class _Problem(Search):
    """One subset sum, scaled. Every question to the solver is a new model.

    Answers are a mask or None, and whether HiGHS calls it optimal, or calls the question infeasible.
    """

    def __init__(self, highspy: Any, base: list[float], target: float, tolerance: float | None, seconds: float) -> None:
        self.highspy, self.seconds = highspy, seconds
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

    def solve(self, objective: Objective) -> tuple[int, bool]:
        """As all searches; without an element that counts there is nothing to ask."""
        return super().solve(objective) if self.values else (0, True)

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

    def any(self, fewest: bool = False) -> tuple[int | None, bool]:
        """A subset within the tolerance, of the fewest elements if asked for."""
        if self.window[0] > self.window[1] + TOLERANCE:
            return None, True
        model = self._model(1.0 if fewest else 0.0)
        values = np.array(list(self.values.values()))
        low, high = min(self.window), max(self.window)
        model.addRow(low, high, len(values), np.arange(len(values), dtype=np.int32), values)
        return self._solve(model)

    def _model(self, cost: float) -> Any:
        """A model of a 0-1 variable for every element."""
        model = self.highspy.Highs()
        for name, value in {**_OPTIONS, "time_limit": self.seconds}.items():
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
