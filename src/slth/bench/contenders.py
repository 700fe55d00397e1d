"""Who is measured: what a contender is asked and answers, and slth's own solvers as contenders."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.bench.problems import Problems
from slth.subsetsum.api import SOLVERS, solve
from slth.subsetsum.problem import OBJECTIVES, Status

BASELINE = "mitm"
"""The contender that all times are compared with."""
_GREEDY = "greedy-golden"
"""The one own solver that does not claim the optimum."""
_TORCH = "torch"
"""The own solver that runs on torch, here on one CPU thread."""
_ONE_BY_ONE = {"cp-sat": ("cpsat", "ortools"), "highs": ("highs", "highspy")}
"""Own solvers that drive another engine, one problem after the other: module of slth.subsetsum, package needed."""


@dataclass(frozen=True)
class Question:
    """Problems to solve on one thread.

    Attributes
    ----------
    seconds : float
        Who works on one problem after the other may stop once this has passed and answer for fewer.
    limit : float
        Seconds that one search may take; a contender that has such a setting is given it.
    """

    problems: Problems
    objective: str
    tolerance: float
    seconds: float
    limit: float

    @property
    def wanted(self) -> float | None:
        """The tolerance as solvers take it: none where the closest subset is wanted."""
        return None if self.objective == "best" else self.tolerance


@dataclass(frozen=True)
class Reply:
    """Answers to the first problems of a question, perhaps not to all.

    Attributes
    ----------
    selected : (n,) uint64
        Masks; all that is said about sums and errors is computed from them.
    claimed : (n,) bool
        Whether the contender calls this answer optimal.
    cut : (n,) bool
        Whether the time limit ended the search.
    """

    selected: NDArray[np.uint64]
    claimed: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.selected)


@dataclass(frozen=True)
class Contender:
    """A way to solve subset sums.

    Attributes
    ----------
    name, title : str
        Short for tables, and one line that says what it is.
    answer : callable
        ``(Question) -> Reply``. May raise ArgumentError for an objective that it does not know.
    most_elements : int
        Largest base set that is sensible, or possible.
    objectives : tuple of str
    packages : tuple of str
        Importable modules that it needs besides slth's own.
    own : bool
        A solver of slth's own; the others get more time.
    approximate : bool
        Makes no claim to the optimum.
    apart : bool
        Run in a process of its own: it can then be stopped whatever it does, and its libraries see one thread.
    """

    name: str
    title: str
    answer: Callable[[Question], Reply]
    most_elements: int
    objectives: tuple[str, ...] = OBJECTIVES
    packages: tuple[str, ...] = ()
    own: bool = False
    approximate: bool = False
    apart: bool = True

    @property
    def missing(self) -> str | None:
        """The package that is not installed."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), None)


def all_claimed(selected: Sequence[int] | NDArray[Any]) -> Reply:
    """Masks that are all called optimal."""
    masks = np.asarray(selected, np.uint64)
    return Reply(masks, np.ones(len(masks), bool), np.zeros(len(masks), bool))


def one_by_one(question: Question, choose: Callable[[NDArray[np.float64], float], tuple[int, bool, bool]]) -> Reply:
    """Work through the problems until the question's time is up.

    Parameters
    ----------
    question : Question
    choose : callable
        ``(base, target) -> (mask, claimed, cut)``.
    """
    end = time.perf_counter() + question.seconds
    answers: list[tuple[int, bool, bool]] = []
    for base, target in zip(question.problems.base, question.problems.targets.tolist(), strict=True):
        answers.append(choose(base, target))
        if time.perf_counter() > end:
            break
    masks, claimed, cut = zip(*answers, strict=True)
    return Reply(np.array(masks, np.uint64), np.array(claimed), np.array(cut))


def own_contenders(foreign_engines: bool) -> list[Contender]:
    """Slth's solvers, and with ``foreign_engines`` also those that drive another library."""
    found = []
    for name, solver in SOLVERS.items():
        module, package = _ONE_BY_ONE.get(name, ("", ""))
        if module and not foreign_engines:
            continue
        answer: Any = functools.partial(solve_all, name)
        if module:
            answer = functools.partial(solve_one_by_one, name)
        found.append(
            Contender(
                name,
                solver.guarantee,
                answer,
                solver.max_elements,
                solver.objectives,
                packages=(package,) if package else (),
                own=not module,
                approximate=name == _GREEDY,
                # Torch has its own idea of threads, and a search of another engine may have to be stopped.
                apart=bool(module) or name == _TORCH,
            )
        )
    # The baseline comes first: its time is the measure of the others.
    return sorted(found, key=lambda contender: contender.name != BASELINE)


def solve_all(name: str, question: Question, threads: int = 1) -> Reply:
    """A batch through :func:`slth.subsetsum.solve`."""
    problems = question.problems
    kwargs: dict[str, Any] = {"objective": question.objective, "tolerance": question.wanted, "solver": name}
    found = solve(problems.base, problems.targets, threads=threads, **kwargs)
    reply = all_claimed(found.selected)
    return Reply(reply.selected, np.full(len(reply), name != _GREEDY), reply.cut)


def solve_one_by_one(name: str, question: Question) -> Reply:
    """One problem after the other, each search under the time limit."""

    def choose(base: NDArray[np.float64], target: float) -> tuple[int, bool, bool]:
        kwargs: dict[str, Any] = {"objective": question.objective, "tolerance": question.wanted, "solver": name}
        found = solve(base[None], [target], time_limit=question.limit, **kwargs)
        unproved = bool(found.status[0] == Status.UNPROVED)
        return int(found.selected[0]), not unproved, unproved

    return one_by_one(question, choose)
