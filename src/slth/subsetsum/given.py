"""The forms in which problems are given, brought into the one that solvers read: no copy that need not be made."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.errors import ArgumentError
from slth.subsetsum.problem import Batch

_SLAB = 2**22
"""Elements converted to float64 at a time (chosen): 32 MB."""


class Given:
    """Base sets and targets as the caller has them, checked but for :meth:`check`.

    Parameters
    ----------
    base_sets, targets, offsets, base_set_of
        As :func:`slth.subsetsum.solve` takes them.

    Raises
    ------
    ArgumentError
        For shapes that do not belong together, offsets that do not ascend from 0 to the end, numbers that are not
        real, targets that are not finite.
    """

    def __init__(
        self,
        base_sets: ArrayLike,
        targets: ArrayLike,
        offsets: ArrayLike | None,
        base_set_of: ArrayLike | None,
    ) -> None:
        self.values = _numbers("base_sets", base_sets)
        goals = _numbers("targets", targets)
        if goals.ndim != 1:
            raise ArgumentError("targets", f"shape {goals.shape}", "shape (P,)", "targets.ravel()")
        n_problems = len(goals)
        if offsets is not None:
            n_sets = n_problems if base_set_of is None else None
            self.starts, self.sizes = _ragged(self.values, offsets, n_sets)
        elif self.values.ndim == 1:
            # One base set for all.
            self.starts, self.sizes = np.zeros(1, np.int64), np.array([len(self.values)])
            base_set_of = np.zeros(n_problems, np.int64) if base_set_of is None else base_set_of
        else:
            self.starts, self.sizes = _even(self.values, None if base_set_of is not None else n_problems)
        self.shared = base_set_of is not None
        if base_set_of is not None:
            which = _indices(base_set_of, n_problems, len(self.starts))
            self.starts, self.sizes = self.starts[which], self.sizes[which]
        _refuse_non_finite("targets", goals)
        self.targets = np.ascontiguousarray(goals, dtype=np.float64)

    @property
    def n_problems(self) -> int:
        """P."""
        return len(self.targets)

    def check(self, start: int, stop: int) -> None:
        """Refuse base sets of problems from `start` up to `stop` that are not finite; all base sets if shared.

        Raises
        ------
        ArgumentError
            With the index of the first number that is not finite, whatever the problems asked about.
        """
        if self.shared or stop - start == self.n_problems:
            part = self.values
        elif self.values.ndim == 2:
            part = self.values[start:stop]
        else:
            part = self.values[self.starts[start] : self.starts[stop - 1] + self.sizes[stop - 1]]
        if not _all_finite(part):
            _refuse_non_finite("base_sets", self.values)

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """All problems in order, as (first problem, batch): one batch where nothing needs to be converted."""
        ready = self.values.dtype == np.float64 and self.values.flags.c_contiguous
        if ready or self.shared or self.values.size <= _SLAB:
            flat = np.ascontiguousarray(self.values, dtype=np.float64).reshape(-1)
            yield 0, Batch(flat, self.starts, self.sizes, self.targets)
            return
        ends = self.starts + self.sizes
        first = 0
        while first < self.n_problems:
            last = max(int(np.searchsorted(ends, self.starts[first] + _SLAB, side="right")), first + 1)
            of = slice(first, last) if self.values.ndim == 2 else slice(self.starts[first], ends[last - 1])
            part = self.values[of]
            flat = np.ascontiguousarray(part, dtype=np.float64).reshape(-1)
            yield (
                first,
                Batch(
                    flat, self.starts[first:last] - self.starts[first], self.sizes[first:last], self.targets[first:last]
                ),
            )
            first = last


def _numbers(where: str, given: ArrayLike) -> NDArray[Any]:
    tensor: Any = given
    if hasattr(tensor, "detach") and hasattr(tensor, "cpu"):
        tensor = tensor.detach().cpu()
        # numpy has no such type.
        tensor = tensor.float() if "bfloat16" in str(tensor.dtype) else tensor
        given = tensor.numpy()
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(where, f"dtype {array.dtype}", "real numbers", "astype(float)")
    return array


def _even(values: NDArray[Any], n_problems: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and sizes of the rows of a matrix; a row a problem unless `n_problems` is None."""
    if values.ndim != 2 or n_problems not in (None, len(values)):
        rows = "n" if n_problems is None else n_problems
        raise ArgumentError(
            "base_sets",
            f"shape {values.shape}",
            f"shape ({rows}, m)",
            "one row a target, offsets for base sets of unequal length, or base_set_of to share them",
        )
    count, m = values.shape
    return np.arange(0, count * m, m, dtype=np.int64) if m else np.zeros(count, np.int64), np.full(count, m, np.int64)


def _ragged(
    values: NDArray[Any], offsets: ArrayLike, n_problems: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and sizes of base sets laid end to end."""
    bounds = _numbers("offsets", offsets)
    if values.ndim != 1:
        raise ArgumentError("base_sets", f"shape {values.shape}", "one dimension with offsets", "base_sets.ravel()")
    expected = "n + 1" if n_problems is None else str(n_problems + 1)
    right = bounds.ndim == 1 and len(bounds) > 0 and n_problems in (None, len(bounds) - 1)
    if bounds.dtype.kind not in "iu" or not right:
        raise ArgumentError("offsets", f"{bounds.dtype} of shape {bounds.shape}", f"integers of shape ({expected},)")
    bounds = np.ascontiguousarray(bounds, dtype=np.int64)
    sizes = np.diff(bounds)
    if bounds[0] != 0 or bounds[-1] != len(values) or (sizes < 0).any():
        raise ArgumentError(
            "offsets",
            f"{bounds[0]} .. {bounds[-1]}",
            f"an ascending run from 0 to len(base_sets) = {len(values)}",
            "numpy.concatenate([[0], numpy.cumsum(sizes)])",
        )
    return bounds[:-1], sizes


def _indices(base_set_of: ArrayLike, n_problems: int, n_sets: int) -> NDArray[np.int64]:
    which = _numbers("base_set_of", base_set_of)
    if which.dtype.kind not in "iu" or which.shape != (n_problems,):
        raise ArgumentError(
            "base_set_of", f"{which.dtype} of shape {which.shape}", f"integers of shape ({n_problems},)"
        )
    outside = np.flatnonzero((which < 0) | (which >= n_sets))
    if len(outside):
        p = int(outside[0])
        raise ArgumentError(f"base_set_of[{p}]", str(which[p]), f"an index of one of the {n_sets} base sets")
    return which.astype(np.int64, copy=False)


def _refuse_non_finite(where: str, array: NDArray[Any]) -> None:
    if not _all_finite(array):
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        shown = ", ".join(map(str, index))
        raise ArgumentError(f"{where}[{shown}]", str(array[index]), "a finite number", "drop or mend the values before")


def _all_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or _sum_is_finite(array) or bool(np.isfinite(array).all())


def _sum_is_finite(array: NDArray[Any]) -> bool:
    """Whether the sum of all elements is finite: then each is, at the price of one pass without a temporary."""
    if not array.flags.c_contiguous:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return isfinite(array.reshape(-1).sum())
