"""What a subset-sum problem is: the batch as given, and the answer."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.errors import ArgumentError

MAX_ELEMENTS = 44
"""Largest base set (chosen): its half lists hold 2^22 sums, about 100 MB of scratch a thread."""

Objective = Literal["best", "sparsest"]


class Status(enum.IntEnum):
    """How a problem ended; ``message`` says what to do about it."""

    FOUND = 0
    MISSED = 1

    @property
    def message(self) -> str:
        """One line for a person, with the remedy."""
        if self is Status.FOUND:
            return "a subset within the tolerance was found"
        return (
            "no subset comes within the tolerance, the closest one is returned: "
            "allow a larger tolerance or give a larger base set"
        )


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Batch:
    """P problems, base sets laid end to end: problem p owns ``values[offsets[p]:offsets[p + 1]]``."""

    values: NDArray[np.float64]
    offsets: NDArray[np.int64]
    targets: NDArray[np.float64]

    @property
    def n_problems(self) -> int:
        """P."""
        return len(self.targets)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Elements in each base set, (P,)."""
        return np.diff(self.offsets)

    def problem(self, p: int) -> tuple[list[float], float]:
        """Base set and target of problem `p` as Python floats."""
        return self.values[self.offsets[p] : self.offsets[p + 1]].tolist(), float(self.targets[p])


@dataclass(frozen=True)
class Answers:
    """What a solver fills in; the rest of :class:`SubsetSums` follows from it."""

    selected: NDArray[np.uint64]
    sums: NDArray[np.float64]
    errors: NDArray[np.float64]

    @classmethod
    def empty(cls, n_problems: int) -> Answers:
        """The empty subset for every problem, to be overwritten."""
        return cls(np.zeros(n_problems, np.uint64), np.zeros(n_problems), np.zeros(n_problems))


@dataclass(frozen=True)
class Run:
    """How to work, as opposed to what on."""

    threads: int
    on_progress: Callable[[int], Any] | None = None


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
    """

    name: str
    guarantee: str
    max_elements: int
    run: Callable[[Batch, Objective, float | None, Run], Answers]


def make_batch(base_sets: ArrayLike, targets: ArrayLike, offsets: ArrayLike | None) -> Batch:
    """Check the two forms of input and bring them into one, without a copy where the types fit.

    Raises
    ------
    ArgumentError
        For shapes that do not belong together, offsets that do not ascend from 0 to the end, numbers that are not
        finite or not real.
    """
    values = _as_float64("base_sets", base_sets)
    goals = _as_float64("targets", targets)
    if goals.ndim != 1:
        raise ArgumentError("targets", f"shape {goals.shape}", "shape (P,)", "targets.ravel()")
    if offsets is None:
        if values.ndim != 2 or len(values) != len(goals):
            raise ArgumentError(
                "base_sets", f"shape {values.shape}", f"shape ({len(goals)}, m)", "one row a target, or pass offsets"
            )
        bounds = np.arange(len(goals) + 1, dtype=np.int64) * values.shape[1]
    else:
        bounds = _check_offsets(values, len(goals), offsets)
    _refuse_non_finite("base_sets", values)
    _refuse_non_finite("targets", goals)
    return Batch(np.ascontiguousarray(values).reshape(-1), bounds, np.ascontiguousarray(goals))


def _as_float64(where: str, given: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(where, f"dtype {array.dtype}", "real numbers", "astype(float)")
    return array.astype(np.float64, copy=False)


def _check_offsets(values: NDArray[np.float64], n_problems: int, offsets: ArrayLike) -> NDArray[np.int64]:
    bounds = np.asarray(offsets)
    if values.ndim != 1:
        raise ArgumentError("base_sets", f"shape {values.shape}", "one dimension with offsets", "base_sets.ravel()")
    if bounds.dtype.kind not in "iu" or bounds.shape != (n_problems + 1,):
        raise ArgumentError(
            "offsets", f"{bounds.dtype} of shape {bounds.shape}", f"integers of shape ({n_problems + 1},)"
        )
    bounds = np.ascontiguousarray(bounds, dtype=np.int64)
    if bounds[0] != 0 or bounds[-1] != len(values) or (np.diff(bounds) < 0).any():
        raise ArgumentError(
            "offsets",
            f"{bounds[0]} .. {bounds[-1]}",
            f"an ascending run from 0 to len(base_sets) = {len(values)}",
            "numpy.concatenate([[0], numpy.cumsum(sizes)])",
        )
    return bounds


def _refuse_non_finite(where: str, array: NDArray[np.float64]) -> None:
    # A finite sum clears every element at the price of one pass without a temporary.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        shown = ", ".join(map(str, index))
        raise ArgumentError(f"{where}[{shown}]", str(array[index]), "a finite number", "drop or mend the values before")
