"""What a subset-sum problem is: a batch of them, and the answer."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MAX_ELEMENTS = 44
"""Largest base set (chosen): its half lists hold 2^22 sums, about 100 MB of scratch a thread."""

Objective = Literal["best", "sparsest", "first"]
OBJECTIVES: tuple[Objective, ...] = ("best", "sparsest", "first")


class Status(enum.IntEnum):
    """How a problem ended; ``message`` says what to do about it."""

    FOUND = 0
    MISSED = 1
    UNPROVED = 2

    @property
    def message(self) -> str:
        """One line for a person, with the remedy."""
        if self is Status.FOUND:
            return "a subset within the tolerance was found"
        if self is Status.UNPROVED:
            return (
                "the time limit came first, the best subset met until then is returned, which may not be the best: "
                "allow more time or use the solver 'mitm'"
            )
        return (
            "no subset comes within the tolerance, the closest one is returned: "
            "allow a larger tolerance or give a larger base set"
        )


@dataclass(frozen=True, eq=False)
class SubsetSums:
    """The chosen subsets of a batch of P problems.

    Attributes
    ----------
    selected : (P,) uint64
        Bit k is set iff element k of that problem's base set is chosen.
    sums : (P,) float64
        Sum of the chosen elements, the float64 nearest to the exact sum.
    errors : (P,) float64
        |target - sum|, the float64 nearest to the exact value (taken from the exact sum, not from the rounded `sums`).
    sizes : (P,) int64
        Number of elements chosen.
    status : (P,) uint8
        A :class:`Status`.
    """

    selected: NDArray[np.uint64]
    sums: NDArray[np.float64]
    errors: NDArray[np.float64]
    sizes: NDArray[np.int64]
    status: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Batch:
    """P problems: problem p has the base set ``values[starts[p]:starts[p] + sizes[p]]``, which others may share.

    Attributes
    ----------
    values : (N,) float64
        Contiguous.
    starts, sizes : (P,) int64
    targets : (P,) float64
    """

    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    targets: NDArray[np.float64]

    @property
    def n_problems(self) -> int:
        """P."""
        return len(self.targets)

    def problem(self, p: int) -> tuple[list[float], float]:
        """Base set and target of problem `p` as Python floats."""
        start = self.starts[p]
        return self.values[start : start + self.sizes[p]].tolist(), float(self.targets[p])


@dataclass(frozen=True, eq=False)
class Answers:
    """What a solver fills in; the rest of :class:`SubsetSums` follows from it.

    `unproved` says where the time limit came before the proof; None means nowhere.
    """

    selected: NDArray[np.uint64]
    sums: NDArray[np.float64]
    errors: NDArray[np.float64]
    unproved: NDArray[np.bool_] | None = None

    @classmethod
    def empty(cls, n_problems: int) -> Answers:
        """The empty subset for every problem, to be overwritten."""
        return cls(np.zeros(n_problems, np.uint64), np.zeros(n_problems), np.zeros(n_problems))


@dataclass(frozen=True)
class Run:
    """How to work, as opposed to what on.

    Attributes
    ----------
    threads : int
    on_progress : callable, optional
        Told the number of problems done.
    device : str
        Where tensors live, for solvers that run on one.
    scratch_bytes : int, optional
        What all threads together may use for lists of sums; None leaves it to the solver.
    check : callable, optional
        ``check(start, stop)`` refuses base sets of these problems that are not finite; None where that was done.
    vectors : bool
        Whether kernels of vector code may be used.
    seconds : float
        What one search of a solver that takes a time limit may take.
    """

    threads: int = 1
    on_progress: Callable[[int], Any] | None = None
    device: str = "cpu"
    scratch_bytes: int | None = None
    check: Callable[[int, int], None] | None = None
    vectors: bool = True
    seconds: float = 60.0


@dataclass(frozen=True)
class Solver:
    """A way to solve a batch, and what it promises.

    Attributes
    ----------
    name : str
        The key in ``SOLVERS``.
    guarantee : str
        What is proved about its answers.
    max_elements : int
        Largest base set it takes.
    run : callable
        ``(batch, objective, tolerance, run) -> Answers``.
    objectives : tuple of str
        Those it knows.
    exact : bool
        Whether its answers are the optimum, ties resolved, for every input: then they equal every other exact solver's
        bit for bit (for `first`, whether a subset is found).
    checks : bool
        Whether it calls ``run.check`` for all problems, before or while it solves them.
    """

    name: str
    guarantee: str
    max_elements: int
    run: Callable[[Batch, Objective, float | None, Run], Answers]
    objectives: tuple[Objective, ...] = ("best", "sparsest")
    exact: bool = True
    checks: bool = False
