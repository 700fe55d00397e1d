"""An error on the output, asked for and proved: a ticket is certified, and its layers planned anew until that holds.

The first plan is :func:`slth.budget.allocate`'s. Its ticket is certified over the domain. While that does not hold,
layers that used more than their share of the error are planned wider, by what they used too much; a wider layer has
another source, which seed, index and shape determine, and nothing is drawn again because it did not fit. With the
objective ``"sparsest"`` what is left of the error is then spent: weights take the fewest elements within a tolerance of
their layer, in proportion to the layer's weights, which is where the number of kept weights is least if each halving of
a tolerance costs every weight about the same. Both halves end after :data:`ROUNDS` plans at the latest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from slth.attempt import Attempt
from slth.budget import Foreseen, LayerBudget, allocate, foreseen
from slth.certify.attribution import contributions
from slth.certify.bounds import bound
from slth.certify.cost import linear_seconds
from slth.certify.region import Box
from slth.constructions import Construction
from slth.copies import realise_all
from slth.errors import ArgumentError
from slth.network.target import Target
from slth.plan import Goal, Plan, Wishes, check_objective, magnitudes, make_plan
from slth.ticket import LayerRound, Round

ROUNDS = 6
"""Plans that are tried until the certificate holds, and again as many sparser ones (chosen)."""
PATIENCE_SECONDS = 10.0
"""Where the linear relaxation is expected to take longer, intervals are taken (chosen; verification waits longer)."""
_AIM = 0.8
"""Part of its share that a layer is planned for when it used more (chosen)."""
_ENOUGH = 0.85
"""Part of the error that may be left over: sparser plans are not looked for beyond (chosen)."""
_MIDDLE = (1 + _ENOUGH) / 2
_STEP = 32.0
"""Largest factor by which a tolerance changes from one plan to the next (chosen)."""

_Tolerances = tuple[Mapping[str, float], float]
"""By layer, and the error that was certified with them."""

Try = Callable[[Plan, Attempt | None, str], Attempt]
"""Draw and solve a plan, given another attempt at the same target and the round in words."""


@dataclass(frozen=True)
class _Tried:
    kind: str
    goals: tuple[Goal, ...]
    attempt: Attempt
    certified: float
    shares: dict[str, float]


@dataclass(frozen=True)
class Refinement:
    """The loop for one target, construction and error.

    Parameters
    ----------
    target : Target
        The network that the source hides.
    method : Construction
    wishes : Wishes
        With a box as domain.
    eps : float
        Largest |ticket output - target output|.
    split : {"own", "uniform"}
        How the error is split at first, see :func:`slth.budget.allocate`.
    attempt : callable
        Draws and solves a plan.
    """

    target: Target
    method: Construction
    wishes: Wishes
    eps: float
    split: str
    attempt: Try

    def run(self) -> tuple[Attempt, tuple[Round, ...]]:
        """The attempt with the fewest kept weights of those that hold, or with the least error where none does.

        Raises
        ------
        ArgumentError
            Before any work, if the error cannot be asked for.
        """
        check_objective(self.wishes.objective)
        budget = allocate(self.target, self.method, self.wishes, self.eps, split=self.split)
        tried = list(self._wider(budget))
        if self.wishes.objective == "sparsest" and tried[-1].certified <= self.eps:
            tried += self._sparser(budget, tried[-1])
        chosen = min(tried, key=self._rank)
        return chosen.attempt, self._rounds(tried, chosen)

    def _rank(self, tried: _Tried) -> tuple[bool, float]:
        holds = tried.certified <= self.eps
        return not holds, tried.attempt.n_kept if holds else tried.certified

    def _try(self, kind: str, goals: Sequence[Goal], number: int, before: Attempt | None) -> _Tried:
        objective = "sparsest" if kind == "sparser" else "best"
        plan = make_plan(self.target, self.method, replace(self.wishes, objective=objective), goals)
        made = self.attempt(plan, before, f" ({kind}, {number})" if before else "")
        pairs = list(zip(made.spec.layers, made.masks, strict=True))
        realised = realise_all(self.target.graph, pairs)
        lower, upper = self.wishes.domain.bounds(self.target.graph.input_shape)
        method = "linear" if linear_seconds(self.target, realised) <= PATIENCE_SECONDS else "interval"
        certified = float(bound(self.target, realised, Box(lower, upper), method).components.max())
        shares = contributions(self.target, realised, self.wishes.domain)
        total = sum(shares.values()) or 1.0
        shares = {name: certified * (share / total) for name, share in shares.items()}
        return _Tried(kind, tuple(goals), made, certified, shares)

    def _wider(self, budget: Sequence[LayerBudget]) -> Iterator[_Tried]:
        """The plan of the budget, and wider ones until one holds."""
        total = sum(layer.share for layer in budget) or 1.0
        allowed = {layer.name: self.eps * layer.share / total for layer in budget}
        goals: list[Goal] | None = self.method.level(self.target, [layer.goal for layer in budget])
        before, kind = None, "planned"
        for number in range(1, ROUNDS + 1):
            assert goals is not None
            try:
                tried = self._try(kind, goals, number, before)
            except ArgumentError:
                if before is None:
                    raise
                # No source is as wide as that.
                return
            yield tried
            if tried.certified <= self.eps:
                return
            goals = self._widened(goals, allowed, tried.shares)
            if goals is None:
                return
            before, kind = tried.attempt, "wider"

    def _widened(
        self, goals: Sequence[Goal], allowed: Mapping[str, float], shares: Mapping[str, float]
    ) -> list[Goal] | None:
        """Goals with more elements for every layer that used more than it was allowed; None if there are none."""
        factors = {name: _AIM * allowed[name] / share for name, share in shares.items() if share > 0.0}
        made = [
            self._one_wider(layer.name, goal, factors.get(layer.name, np.inf))
            for layer, goal in zip(self.target, goals, strict=True)
        ]
        if made == list(goals):
            # Those that used too much have all that they can have: the others make room.
            made = [self._one_wider(layer.name, goal, 0.5) for layer, goal in zip(self.target, goals, strict=True)]
        made = self.method.level(self.target, made)
        return None if made == list(goals) else made

    def _one_wider(self, name: str, goal: Goal, factor: float) -> Goal:
        if factor >= _AIM:
            return goal
        if self.method.keeps_tolerance:
            assert goal.tolerance is not None
            return replace(goal, tolerance=goal.tolerance * factor)
        table = self._tables[name]
        errors, now = table.errors, int(np.searchsorted(table.sizes, goal.base_set_size))
        enough = np.flatnonzero(errors[now:] <= factor * errors[now])
        level = min(now + max(int(enough[0]), 1), len(errors) - 1) if enough.size else len(errors) - 1
        return replace(goal, base_set_size=int(table.sizes[level]), tolerance=float(table.tails[level]) or None)

    @cached_property
    def _tables(self) -> dict[str, Foreseen]:
        """What is foreseen of each layer, with a gain of 1."""
        signs = self.target.input_signs(self.wishes.domain.sign)
        return {layer.name: foreseen(layer, signs[layer.name], self.method, self.wishes, 1.0) for layer in self.target}

    def _sparser(self, budget: Sequence[LayerBudget], first: _Tried) -> Iterator[_Tried]:
        """Plans with fewer elements for a weight, from one that holds."""
        n_weights = self.target.n_weights
        allowed = {layer.name: self.eps * layer.n_weights / n_weights for layer in self.target}
        gains = {layer.name: layer.gain for layer in budget}
        tops = {layer.name: float(magnitudes(layer).max(initial=0.0)) for layer in self.target}
        # An average error that used up so much; errors within a tolerance are half of it on average.
        gains = {
            facts.name: min(gains[facts.name], first.shares[facts.name] / (facts.mean_weight_error or np.inf))
            for facts in first.attempt.facts
        }
        within = {name: 2 * allowed[name] / gain if gain else tops[name] for name, gain in gains.items()}
        last: _Tried = first
        held: _Tolerances | None = None
        missed: _Tolerances | None = None
        for number in range(1, ROUNDS + 1):
            within = {name: min(value, tops[name]) for name, value in within.items()}
            goals = [
                self._within(goal, within[layer.name]) for goal, layer in zip(first.goals, self.target, strict=True)
            ]
            if tuple(goals) == last.goals:
                return
            last = self._try("sparser", goals, number, last.attempt)
            yield last
            if _ENOUGH * self.eps <= last.certified <= self.eps:
                return
            if last.certified <= self.eps:
                held = within, last.certified
            else:
                missed = within, last.certified
            if held is not None and missed is not None:
                within = _between(held, missed, _MIDDLE * self.eps)
            else:
                within = {name: self._next(within[name], allowed[name], share) for name, share in last.shares.items()}

    def _next(self, tolerance: float, allowed: float, share: float) -> float:
        """A layer's tolerance in proportion to what it may use up, and used up with this one."""
        factor = _MIDDLE * allowed / share if share > 0.0 else _STEP
        return tolerance * min(max(factor, 1 / _STEP), _STEP)

    def _within(self, goal: Goal, tolerance: float) -> Goal:
        """The goal with fewer elements for every weight."""
        if tolerance == 0.0:
            return goal
        return replace(goal, tolerance=tolerance) if self.method.keeps_tolerance else replace(goal, within=tolerance)

    def _rounds(self, tried: Sequence[_Tried], chosen: _Tried) -> tuple[Round, ...]:
        made, before = [], None
        for one in tried:
            layers = tuple(
                LayerRound(
                    layer.name,
                    goal.base_set_size,
                    goal.tolerance if self.method.keeps_tolerance else goal.within,
                    one.shares[layer.name],
                    before is not None and goal != before.goals[number],
                )
                for number, (layer, goal) in enumerate(zip(self.target, one.goals, strict=True))
            )
            counts = one.attempt.n_kept, one.attempt.spec.n_weights
            made.append(Round(one.kind, one.certified, one.certified <= self.eps, *counts, one is chosen, layers))
            before = one
        return tuple(made)


def _between(held: _Tolerances, missed: _Tolerances, wanted: float) -> dict[str, float]:
    """Tolerances between two, by interpolation of logarithms, away from both ends."""
    (low, least), (high, most) = held, missed
    part = math.log(wanted / least) / math.log(most / least) if least > 0.0 else 0.5
    part = min(max(part, 0.1), 0.9)
    return {name: low[name] ** (1 - part) * high[name] ** part for name in low}
