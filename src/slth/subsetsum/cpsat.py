"""The solver `cp-sat`: Google OR-tools' constraint solver, one problem after the other, to compare with.

It works in int64, so elements and target are first rounded to whole quanta, the same power of two for all numbers of a
problem, at most 2^-57 of the sum of all magnitudes. Where no element or target has bits below that, nothing is rounded.
The rest is exact, and the solver proves its optimum: of m + 1 rounded numbers each is off by at most half a quantum, so
the error is at most m + 1 quanta above the least one possible.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from slth.subsetsum import exact
from slth.subsetsum.foreign import Search, interruptible, load
from slth.subsetsum.integers import one_by_one
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 64
"""As many as a mask has bits; the time limit ends most problems long before."""
TOTAL_BITS = 58
"""Bits of all magnitudes together (chosen): the solver refuses sums that come near to 2^63."""


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    Ties are broken as the solver pleases. Whether a subset is within the tolerance is decided among rounded numbers, so
    that one whose error is within (m + 1) / 2 quanta of it may be missed, or be returned though it is beyond. Where the
    time limit comes first the best subset found is returned, failing that the empty one, with a status that says so.

    Raises
    ------
    ArgumentError
        Where OR-tools is not installed.
    """
    cp_model = load("ortools.sat.python.cp_model", "ortools")
    return one_by_one(
        batch, run, lambda base, target: _Problem(cp_model, base, target, tolerance, run.seconds).solve(objective)
    )


def in_quanta(base: list[float], target: float, tolerance: float | None) -> tuple[list[int], int, int]:
    """Elements, target and tolerance as whole quanta; the elements' magnitudes sum to about 2^TOTAL_BITS at most."""
    (*units, goal), unit = exact.in_units([*base, target])
    drop = max(sum(map(abs, units)).bit_length() - TOTAL_BITS, 0)
    rounded = [round(Fraction(u, 1 << drop)) for u in [*units, goal]]
    most = sum(map(abs, rounded))
    within = most
    if tolerance is not None and math.isfinite(tolerance):
        within = min(int(Fraction(tolerance) * unit / (1 << drop)), most)
    return rounded[:-1], rounded[-1], within


class _Problem(Search):
    """One subset sum in quanta. Every question to the solver is a new model.

    Answers are a mask or None, and whether it is proved: that the mask is optimal, that there is none.
    """

    def __init__(
        self, cp_model: Any, base: list[float], target: float, tolerance: float | None, seconds: float
    ) -> None:
        self.cp_model, self.seconds = cp_model, seconds
        quanta, goal, within = in_quanta(base, target, tolerance)
        # An element of no quanta changes nothing.
        self.quanta = {k: q for k, q in enumerate(quanta) if q}
        self.least, self.most = sum(q for q in quanta if q < 0), sum(q for q in quanta if q > 0)
        # Beyond everything or nothing that choice is the closest, and how far beyond no longer matters.
        self.goal = min(max(goal, self.least), self.most)
        self.window = max(goal - within, self.least), min(goal + within, self.most)

    def closest(self, count: int | None = None) -> tuple[int | None, bool]:
        """A subset of the least distance, of `count` elements if given."""
        model, chosen, total = self._model()
        residual = model.new_int_var(self.goal - self.most, self.goal - self.least, "residual")
        distance = model.new_int_var(0, self.most - self.least, "distance")
        model.add(total + residual == self.goal)
        model.add_abs_equality(distance, residual)
        if count is not None:
            model.add(sum(chosen.values()) == count)
        model.minimize(distance)
        return self._solve(model, chosen)

    def any(self, fewest: bool = False) -> tuple[int | None, bool]:
        """A subset within the tolerance, of the fewest elements if asked for."""
        if self.window[0] > self.window[1]:
            return None, True
        model, chosen, total = self._model()
        model.add_linear_constraint(total, *self.window)
        if fewest:
            model.minimize(sum(chosen.values()))
        return self._solve(model, chosen)

    def _model(self) -> tuple[Any, dict[int, Any], Any]:
        """A model of a yes or no for every element, these, and their sum."""
        model = self.cp_model.CpModel()
        chosen = {k: model.new_bool_var(f"b{k}") for k in self.quanta}
        return model, chosen, self.cp_model.LinearExpr.weighted_sum(list(chosen.values()), list(self.quanta.values()))

    def _solve(self, model: Any, chosen: dict[int, Any]) -> tuple[int | None, bool]:
        solver = self.cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.max_time_in_seconds = self.seconds
        # Where elements are equal, its detection of symmetries runs without end (OR-tools 9.15), even at m = 8.
        solver.parameters.symmetry_level = 0
        # Its own handler would swallow Ctrl-C.
        solver.parameters.catch_sigint_signal = False
        status = interruptible(lambda: solver.solve(model), solver.stop_search)
        if status in (self.cp_model.OPTIMAL, self.cp_model.FEASIBLE):
            mask = sum(1 << k for k, b in chosen.items() if solver.boolean_value(b))
            return mask, status == self.cp_model.OPTIMAL
        return None, status == self.cp_model.INFEASIBLE
