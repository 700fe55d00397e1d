"""The solver `mitm`: compiled meet in the middle, with the exact solver behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact
from slth.subsetsum.problem import MAX_ELEMENTS, Answers, Batch, Objective, Run
from slth.subsetsum.schedule import Chunk, make_chunks, run_chunks

_WIDE_UP_TO = 37
"""Largest base set solved four at a time (chosen): beyond, lists of four problems outgrow 32 MB a thread."""

_SMALL = np.array(
    [max(k for k in range(7) if math.comb(m, k) <= 16 * 2 ** (m / 2)) for m in range(MAX_ELEMENTS + 1)], np.int64
)
"""Largest size that is looked through subset by subset, by number of elements (chosen): as long as that is no dearer
than a few searches for the closest subset."""


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    `sparsest` looks at small subsets one by one, then asks `best` whether any subset is within the tolerance at all,
    and only if so goes on to larger ones.
    """
    answers = Answers.empty(batch.n_problems)
    sizes = _effective_sizes(batch)
    everything = np.arange(batch.n_problems, dtype=np.int64)
    if objective == "best" or tolerance is None:
        _best(batch, sizes, everything, answers, run)
        return answers
    open_, beyond = _small(batch, sizes, tolerance, answers, run)
    done = batch.n_problems - len(open_) - len(beyond)
    _best(batch, sizes, open_, answers, run, done)
    _large(batch, sizes, open_[answers.errors[open_] <= tolerance], tolerance, answers, run)
    _exactly(batch, beyond, answers, tolerance)
    return answers


def _effective_sizes(batch: Batch) -> NDArray[np.int64]:
    """Elements that are not zero, (P,)."""
    if np.count_nonzero(batch.values) == len(batch.values):
        return batch.sizes
    counted = np.concatenate([[0], np.cumsum(batch.values != 0.0)])
    return np.diff(counted[batch.offsets])


def _aligned(n: int) -> NDArray[np.int64]:
    """Uninitialised int64 from the start of a cache line on."""
    raw = np.empty(n + 8, np.int64)
    skip = -(raw.ctypes.data // 8) % 8
    return raw[skip : skip + n]


def _best(
    batch: Batch, sizes: NDArray[np.int64], which: NDArray[np.int64], answers: Answers, run: Run, done: int = 0
) -> None:
    """Solve problems `which` for the least error; `done` others are done already."""
    empty = which[sizes[which] == 0]
    answers.errors[empty] = np.abs(batch.targets[empty])
    which = which[sizes[which] > 0] if len(empty) else which
    done += len(empty)
    if not len(which):
        return
    from slth.subsetsum import closest  # compiles, or loads what was compiled before

    order, chunks = make_chunks(which, sizes, lambda m: 60.0 + 3.0 * 2.0 ** (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints = np.zeros((closest.INT_ROWS, 128), np.int64)
        floats = np.zeros((closest.FLOAT_ROWS, 128))
        scratch: dict[bool, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]] = {}

        def work(chunk: Chunk) -> None:
            wide = chunk.m <= _WIDE_UP_TO
            if wide not in scratch:
                scratch.clear()
                shape = (closest.WIDE if wide else 1, closest.CANDIDATES)
                length = closest.WIDE_SCRATCH if wide else closest.NARROW_SCRATCH
                scratch[wide] = (_aligned(length), np.empty(shape, np.int64), np.empty(shape, np.uint64))
            lists, residuals, masks = scratch[wide]
            closest.closest(
                batch.values, batch.offsets, batch.targets, order,
                chunk.start, chunk.stop, chunk.m, wide,
                lists, lists.ctypes.data, residuals, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run, done)
    _exactly(batch, np.flatnonzero(flags), answers, None)


def _small(
    batch: Batch, sizes: NDArray[np.int64], tolerance: float, answers: Answers, run: Run
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Look for small subsets within the tolerance; return the problems still open and those beyond float64 sums."""
    from slth.subsetsum import fewest

    order, chunks = make_chunks(np.arange(batch.n_problems, dtype=np.int64), sizes, lambda m: 10.0 + m**2)
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints = np.zeros((3, 64), np.int64)
        floats = np.zeros(fewest.FLOATS)

        def work(chunk: Chunk) -> None:
            fewest.fewest(
                batch.values, batch.offsets, batch.targets, order,
                chunk.start, chunk.stop, tolerance, _SMALL,
                ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run)
    return np.flatnonzero(flags == 1), np.flatnonzero(flags == 2)


def _large(
    batch: Batch,
    sizes: NDArray[np.int64],
    which: NDArray[np.int64],
    tolerance: float,
    answers: Answers,
    run: Run,
) -> None:
    """Replace the answers of problems `which`, known to have a subset within the tolerance, by the sparsest."""
    if not len(which):
        return
    from slth.subsetsum import classes

    order, chunks = make_chunks(which, sizes, lambda m: 1000.0 + 20.0 * m * 2.0 ** (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints, floats = np.zeros((4, 64), np.int64), np.zeros((2, 128))
        masks = np.empty(classes.CANDIDATES, np.uint64)
        lists = np.empty((4, 0), np.int64)

        def work(chunk: Chunk) -> None:
            nonlocal lists
            length = 2 ** ((chunk.m + 1) // 2)
            if lists.shape[1] < length:
                lists = np.empty((4, length), np.int64)
            classes.by_size(
                batch.values, batch.offsets, batch.targets, order,
                chunk.start, chunk.stop, tolerance, _SMALL,
                lists, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, Run(run.threads))
    _exactly(batch, np.flatnonzero(flags), answers, tolerance)


def _exactly(batch: Batch, which: NDArray[np.int64], answers: Answers, tolerance: float | None) -> None:
    """Solve problems `which` in integers: for the sparsest subset where there is a tolerance, else for the closest."""
    for p in which.tolist():
        base, target = batch.problem(p)
        sparse = None if tolerance is None else exact.sparsest(base, target, tolerance)
        mask = exact.best(base, target) if sparse is None else sparse
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
