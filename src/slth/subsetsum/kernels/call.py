"""The kernels as one thread calls them: problems put in order, the memory they work in made once."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum.kernels.flags import BEYOND
from slth.subsetsum.problem import MAX_ELEMENTS, Answers, Batch

LANES = 16
"""Problems that the lockstep kernels take at once."""

_CANDIDATES, _MANY_CANDIDATES = 2**13, 2**18
"""Pairs near the closest that a problem may hold before it is left to slower solvers (chosen)."""
_FINE_BITS = 18
"""With longer lists (2^this sums), quanta get so coarse that many pairs are near the closest."""


def by_size(which: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[int, int, int]]]:
    """Problems of equal size side by side.

    Parameters
    ----------
    which : (n,) int64
        The problems meant, at least one.
    sizes : (P,) int64

    Returns
    -------
    order : (n,) int64
        `which` by size, the largest first; within a size as given.
    runs : list of (m, start, stop)
        ``order[start:stop]`` are all problems of m elements.
    """
    of_which = sizes[which]
    largest = int(of_which.max())
    if of_which.min() == largest:
        return which, [(largest, 0, len(which))]
    order = which[np.argsort((largest - of_which).astype(np.uint8), kind="stable")]
    counts = np.bincount(of_which)[::-1]
    ends = np.cumsum(counts).tolist()
    runs = [(largest - k, end - count, end) for k, (count, end) in enumerate(zip(counts.tolist(), ends, strict=True))]
    return order, [run for run in runs if run[1] < run[2]]


def sizes_without_zeros(batch: Batch, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elements that are not zero, (P,); only those of problems `which` are counted."""
    sizes = batch.sizes.copy()
    if len(which):
        column = np.arange(int(sizes[which].max(initial=0)))
        inside = column < sizes[which, None]
        at = np.where(inside, batch.starts[which, None] + column, 0)
        sizes[which] = np.count_nonzero((batch.values[at] != 0.0) & inside, axis=1) if at.size else 0
    return sizes


def _aligned(n_bytes: int, kind: Any) -> NDArray[Any]:
    """Uninitialised memory from the start of a cache line on."""
    raw = np.empty(n_bytes + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + n_bytes].view(kind)


class Kernels:
    """The compiled kernels, with memory of their own: one of these a thread.

    Every method solves the problems `which` of a batch as far as it can, fills in their `answers` and returns those
    that it leaves to others.

    Parameters
    ----------
    halt : (1,) int64, optional
        The order to stop: kernels return soon after it becomes 1, with their work half done.
    scratch_bytes : float
        What may be used for lists of sums.
    """

    def __init__(self, halt: NDArray[np.int64] | None = None, scratch_bytes: float = math.inf) -> None:
        self.halt = np.zeros(1, np.int64) if halt is None else halt
        self.scratch_bytes = scratch_bytes
        self._held: dict[str, NDArray[Any]] = {}

    def _memory(self, name: str, length: int, kind: Any) -> NDArray[Any]:
        """At least `length` elements that are kept from call to call."""
        held = self._held.get(name)
        if held is None or len(held) < length:
            held = self._held[name] = _aligned(length * np.dtype(kind).itemsize, kind)
        return held

    @functools.cached_property
    def lockstep_limit(self) -> int:
        """Largest base set whose lists, sixteen problems side by side, fit the memory allowed."""
        from slth.subsetsum.kernels import lockstep

        fitting = (
            m for m in range(lockstep.MAX_ELEMENTS + 1) if 64 * lockstep.scratch_vectors(m) <= self.scratch_bytes
        )
        return max(fitting, default=0)

    def lockstep(self, batch: Batch, which: NDArray[np.int64], answers: Answers) -> NDArray[np.int64]:
        """The least errors, sixteen problems at a time, base sets of one to `lockstep_limit` elements."""
        if not len(which):
            return which
        from slth.subsetsum.kernels import lockstep  # compiles, or loads what was compiled before

        order, runs = by_size(which, batch.sizes)
        flags = np.zeros(batch.n_problems, np.uint8)
        rows = self._memory("rows", LANES * lockstep.ROWS, np.float64)
        sets, parts = self._memory("sets", lockstep.SETS, np.uint64), self._memory("parts", 128, np.float64)
        for m, start, stop in runs:
            scratch = self._memory("networks", LANES * lockstep.scratch_vectors(m), np.int32)
            lockstep.lockstep(
                batch.values, batch.starts, batch.targets, order,
                start, stop, m,
                scratch, scratch.ctypes.data, rows, rows.view(np.int64), rows.ctypes.data,
                sets, parts,
                answers.selected, answers.sums, answers.errors, flags,
                self.halt,
            )  # fmt: skip
        return np.asarray(np.flatnonzero(flags))

    def closest(self, batch: Batch, which: NDArray[np.int64], answers: Answers) -> NDArray[np.int64]:
        """The least errors, one problem at a time, base sets of any size."""
        sizes = sizes_without_zeros(batch, which)
        zeros = which[sizes[which] == 0]
        answers.selected[zeros], answers.sums[zeros], answers.errors[zeros] = 0, 0.0, np.abs(batch.targets[zeros])
        which = which[sizes[which] > 0]
        if not len(which):
            return which
        from slth.subsetsum.kernels import closest

        order, runs = by_size(which, sizes)
        flags = np.zeros(batch.n_problems, np.uint8)
        ints, floats = np.zeros((closest.INT_ROWS, 64), np.int64), np.zeros((2, 128))
        for m, start, stop in runs:
            n_left, n_right = self._halves(m)
            lists = self._memory("lists", closest.scratch_elements(n_left, n_right), np.int64)
            room = _CANDIDATES if n_right <= _FINE_BITS else _MANY_CANDIDATES
            residuals, masks = self._memory("residuals", room, np.int64), self._memory("masks", room, np.uint64)
            residuals, masks = residuals[:room], masks[:room]
            closest.closest(
                batch.values, batch.starts, batch.sizes, batch.targets, order,
                start, stop, m, n_left, n_right,
                lists, lists.ctypes.data, residuals, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                self.halt,
            )  # fmt: skip
        return np.asarray(np.flatnonzero(flags))

    def _halves(self, m: int) -> tuple[int, int]:
        """Elements of the left and the right list: all but one, or as many as fit the memory allowed."""
        from slth.subsetsum.kernels import closest

        in_lists = m - 1
        while in_lists and 8 * closest.scratch_elements(in_lists // 2, in_lists - in_lists // 2) > self.scratch_bytes:
            in_lists -= 1
        return in_lists // 2, in_lists - in_lists // 2

    def plain(self, batch: Batch, which: NDArray[np.int64], answers: Answers) -> NDArray[np.int64]:
        """The least errors, without vector code."""
        if not len(which):
            return which
        from slth.subsetsum.kernels import plain

        flags = np.zeros(batch.n_problems, np.uint8)
        ints, floats = np.zeros((2, 64), np.int64), np.zeros((2, 128))
        masks = self._memory("masks", _MANY_CANDIDATES, np.uint64)
        length = 2 ** ((int(batch.sizes[which].max()) + 1) // 2)
        lists = self._memory("lists", 8 * length, np.int64)[: 8 * length].reshape(8, length)
        plain.plain(
            batch.values, batch.starts, batch.sizes, batch.targets, which,
            0, len(which),
            lists, masks, ints, floats,
            answers.selected, answers.sums, answers.errors, flags,
            self.halt,
        )  # fmt: skip
        return np.asarray(np.flatnonzero(flags))

    def handful(
        self,
        batch: Batch,
        which: NDArray[np.int64],
        answers: Answers,
        tolerance: float,
        least: NDArray[np.int64],
        limits: NDArray[np.int64],
        flags: NDArray[np.uint8],
    ) -> None:
        """The sparsest subsets of ``least[m]`` to ``limits[m]`` elements, sixteen problems at a time.

        ``flags[p]`` becomes ``SOLVED``, ``OPEN`` or ``DOUBTFUL`` (see :mod:`.flags`).
        """
        if not len(which):
            return
        from slth.subsetsum.kernels import handful

        order, runs = by_size(which, batch.sizes)
        rows = self._memory("rows", LANES * handful.ROWS, np.float64)
        vectors = self._memory("keys", LANES * handful.VECTORS, np.int32)
        room = handful.WAITING
        waiting = self._memory("waiting", room * room, np.int64).reshape(room, room)
        for m, start, stop in runs:
            handful.handful(
                batch.values, batch.starts, batch.targets, order,
                start, stop, m, tolerance, least[m], limits[m],
                rows, rows.view(np.int64), rows.ctypes.data, vectors.ctypes.data, waiting, _binomials(),
                answers.selected, answers.sums, answers.errors, flags,
                self.halt,
            )  # fmt: skip

    def fewest(
        self,
        batch: Batch,
        which: NDArray[np.int64],
        answers: Answers,
        tolerance: float,
        limits: NDArray[np.int64],
        flags: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """The sparsest subsets of up to ``limits[m]`` elements, near-ties settled; leaves what float64 cannot span.

        ``flags[p]`` becomes ``SOLVED`` or ``OPEN``.
        """
        if not len(which):
            return which
        from slth.subsetsum.kernels import fewest

        ints, floats = np.zeros((3, 64), np.int64), self._memory("pairs", fewest.FLOATS, np.float64)
        fewest.fewest(
            batch.values, batch.starts, batch.sizes, batch.targets, which,
            0, len(which), tolerance, limits,
            ints, floats,
            answers.selected, answers.sums, answers.errors, flags,
            self.halt,
        )  # fmt: skip
        return np.asarray(which[flags[which] == BEYOND])

    def classes(
        self, batch: Batch, which: NDArray[np.int64], answers: Answers, tolerance: float, limits: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The sparsest subsets of more than ``limits[m]`` elements of problems that are known to have one."""
        if not len(which):
            return which
        from slth.subsetsum.kernels import classes

        flags = np.zeros(batch.n_problems, np.uint8)
        ints, floats = np.zeros((4, 64), np.int64), np.zeros((2, 128))
        masks = self._memory("masks", classes.CANDIDATES, np.uint64)[: classes.CANDIDATES]
        length = 2 ** ((int(batch.sizes[which].max()) + 1) // 2)
        lists = self._memory("lists", 4 * length, np.int64)[: 4 * length].reshape(4, length)
        classes.by_size(
            batch.values, batch.starts, batch.sizes, batch.targets, which,
            0, len(which), tolerance, limits,
            lists, masks, ints, floats,
            answers.selected, answers.sums, answers.errors, flags,
            self.halt,
        )  # fmt: skip
        return np.asarray(np.flatnonzero(flags))


@functools.cache
def _binomials() -> NDArray[np.int64]:
    every = range(MAX_ELEMENTS + 1)
    return np.array([[math.comb(n, k) for k in every] for n in every], np.int64)
