"""The solver `mitm`: compiled meet in the middle, with the exact solver behind it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch, Objective, Run
from slth.subsetsum.schedule import Chunk, make_chunks, run_chunks

_WIDE_UP_TO = 34
"""Largest base set solved four at a time (chosen): beyond, lists of four problems would take hundreds of MB."""


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`."""
    answers = Answers.empty(batch.n_problems)
    _best(batch, _effective_sizes(batch), answers, run)
    if objective == "sparsest" and tolerance is not None:
        for p in np.flatnonzero(answers.errors <= tolerance):
            base, target = batch.problem(int(p))
            mask = exact.sparsest(base, target, tolerance)
            assert mask is not None, "some subset is within the tolerance"
            answers.selected[p] = mask
            answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
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


def _best(batch: Batch, sizes: NDArray[np.int64], answers: Answers, run: Run) -> None:
    from slth.subsetsum import closest  # compiles, or loads what was compiled before

    order, chunks = make_chunks(sizes, lambda m: 60.0 + 3.0 * 2.0 ** (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
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
                lists, lists.ctypes.data, residuals, masks,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    empty = order[: int(np.count_nonzero(sizes == 0))]
    answers.errors[empty] = np.abs(batch.targets[empty])
    run_chunks([c for c in chunks if c.m > 0], make_worker, run, already=len(empty))
    for p in np.flatnonzero(flags):
        base, target = batch.problem(int(p))
        mask = exact.best(base, target)
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
