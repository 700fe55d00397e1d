"""The solver `mitm`: compiled meet in the middle, with slower solvers behind it for what the kernels leave."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact, trust
from slth.subsetsum.problem import MAX_ELEMENTS, Answers, Batch, Objective, Run
from slth.subsetsum.schedule import Chunk, make_chunks, run_chunks

_CANDIDATES, _MANY_CANDIDATES = 2**13, 2**18
"""Pairs near the closest that a problem may hold before it is left to slower solvers (chosen)."""
_FINE_BITS = 18
"""With longer lists (2^this sums), quanta get so coarse that many pairs are near the closest."""


def _largest_size(m: int, nanoseconds: float) -> int:
    """Largest size up to which looking at every subset of a size takes no more than a given time."""
    from slth.subsetsum.handful import MAX_PREFIXES

    size = 0
    while size < m and math.comb(m, size + 1) <= nanoseconds / 0.045 and math.comb(m, max(size - 1, 0)) < MAX_PREFIXES:
        size += 1
    return size


LANES = 16
"""Problems that the lockstep kernels take at once; known here without importing them, which compiles."""

_QUICK = 6
"""Largest size looked for before anything else (chosen); float64 sums of so few elements need no proof of their own."""

_FIRST_RUNG, _RUNG = 8, 4
"""Elements that `first` looks at at first, and how many more each time it has not found a subset (chosen)."""


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    `sparsest` looks at small subsets one by one, then asks `best` whether any subset is within the tolerance at all,
    and only if so goes on to larger ones. `first` asks `best` for the first few elements, then for more.
    """
    answers = Answers.empty(batch.n_problems)
    everything = np.arange(batch.n_problems, dtype=np.int64)
    if objective == "best" or tolerance is None:
        _best(batch, everything, answers, run)
        return answers
    if objective == "first":
        _first(batch, everything, tolerance, answers, run)
        return answers
    _sparsest(batch, everything, tolerance, answers, run)
    return answers


def _aligned(n_bytes: int, kind: Any) -> NDArray[Any]:
    """Uninitialised memory from the start of a cache line on."""
    raw = np.empty(n_bytes + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + n_bytes].view(kind)


def _effective_sizes(batch: Batch, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elements that are not zero, (P,); only those of problems `which` are counted."""
    sizes = batch.sizes.copy()
    if np.count_nonzero(batch.values) < len(batch.values):
        counted = np.concatenate([[0], np.cumsum(batch.values != 0.0)])
        first = batch.starts[which]
        sizes[which] = counted[first + sizes[which]] - counted[first]
    return sizes


def _first(batch: Batch, open_: NDArray[np.int64], tolerance: float, answers: Answers, run: Run) -> None:
    """Ask for the best subset of ever more elements until it is within the tolerance."""
    most = int(batch.sizes.max(initial=0))
    for rung in [*range(_FIRST_RUNG, most, _RUNG), most]:
        part = replace(batch, sizes=np.minimum(batch.sizes, rung))
        _best(part, open_, answers, run, batch.n_problems - len(open_))
        open_ = open_[(answers.errors[open_] > tolerance) & (batch.sizes[open_] > rung)]
        if not len(open_):
            return


def _best(batch: Batch, which: NDArray[np.int64], answers: Answers, run: Run, done: int = 0) -> None:
    """Solve problems `which` for the least error; `done` others are done already."""
    if not len(which):
        return
    sizes = batch.sizes[which]
    if not sizes.all():
        empty = which[sizes == 0]
        answers.selected[empty], answers.sums[empty], answers.errors[empty] = 0, 0.0, np.abs(batch.targets[empty])
        which, sizes = which[sizes > 0], sizes[sizes > 0]
        done += len(empty)
    small = sizes <= _lockstep_limit(run) if run.vectors and _trusted("lockstep") else np.zeros(len(sizes), bool)
    rest = np.concatenate([_lockstep(batch, which[small], answers, run, done), which[~small]])
    if run.vectors and _trusted("closest"):
        rest = _closest(batch, rest, answers, run, done + len(which) - len(rest))
    rest = _plain(batch, rest, answers, run, done + len(which) - len(rest))
    _exactly(batch, rest, answers, None)


@functools.cache
def _trusted(kernel: str) -> bool:
    """Whether a kernel works on this machine."""

    def best(batch: Batch, answers: Answers) -> NDArray[np.bool_]:
        solve = _lockstep if kernel == "lockstep" else _closest
        left = solve(batch, np.arange(batch.n_problems), answers, Run(), 0)
        solved = np.ones(batch.n_problems, np.bool_)
        solved[left] = False
        return solved

    def sparsest(batch: Batch, answers: Answers) -> NDArray[np.bool_]:
        flags, every = np.zeros(batch.n_problems, np.uint8), np.arange(batch.n_problems)
        one, quick = np.ones(MAX_ELEMENTS + 1, np.int64), np.full(MAX_ELEMENTS + 1, 4)
        if kernel == "handful":
            _handful(batch, every, one, quick, trust.TOLERANCE, answers, flags, Run())
        else:
            _fewest(batch, every, quick, trust.TOLERANCE, answers, flags, Run())
        fine: NDArray[np.bool_] = flags == 0
        return fine

    if kernel in ("lockstep", "closest"):
        return trust.check(kernel, best, False)
    return trust.check(kernel, sparsest, True)


def _lockstep_limit(run: Run) -> int:
    """Largest base set whose lists, sixteen problems side by side, fit the memory allowed."""
    from slth.subsetsum import lockstep

    room = math.inf if run.scratch_bytes is None else run.scratch_bytes / run.threads
    return max((m for m in range(lockstep.MAX_ELEMENTS + 1) if 64 * lockstep.scratch_vectors(m) <= room), default=0)


def _lockstep(batch: Batch, which: NDArray[np.int64], answers: Answers, run: Run, done: int) -> NDArray[np.int64]:
    """Solve problems `which`, sixteen at a time; return those that are left to others."""
    if not len(which):
        return which
    from slth.subsetsum import lockstep  # compiles, or loads what was compiled before

    order, chunks = make_chunks(which, batch.sizes, lambda m: 90.0 + 0.55 * 2.0 ** (m / 2) * (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        rows = _aligned(8 * LANES * lockstep.ROWS, np.float64)
        sets, parts = np.zeros(lockstep.SETS, np.uint64), np.zeros(128)
        scratch = _aligned(0, np.int32)

        def work(chunk: Chunk) -> None:
            nonlocal scratch
            if len(scratch) < LANES * lockstep.scratch_vectors(chunk.m):
                scratch = _aligned(64 * lockstep.scratch_vectors(chunk.m), np.int32)
            lockstep.lockstep(
                batch.values, batch.starts, batch.targets, order,
                chunk.start, chunk.stop, chunk.m,
                scratch, scratch.ctypes.data, rows, rows.view(np.int64), rows.ctypes.data,
                sets, parts,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run, done)
    return np.asarray(np.flatnonzero(flags))


def _closest(batch: Batch, which: NDArray[np.int64], answers: Answers, run: Run, done: int) -> NDArray[np.int64]:
    """Solve problems `which` of any size; return those that are left to the exact solver."""
    if not len(which):
        return which
    sizes = _effective_sizes(batch, which)
    zeros = which[sizes[which] == 0]
    answers.selected[zeros], answers.sums[zeros], answers.errors[zeros] = 0, 0.0, np.abs(batch.targets[zeros])
    which = which[sizes[which] > 0]
    done += len(zeros)
    from slth.subsetsum import closest

    order, chunks = make_chunks(which, sizes, lambda m: 500.0 + 2.2 * 2.0 ** (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints, floats = np.zeros((closest.INT_ROWS, 64), np.int64), np.zeros((2, 128))
        lists = _aligned(0, np.int64)
        residuals, masks = np.empty(0, np.int64), np.empty(0, np.uint64)

        def work(chunk: Chunk) -> None:
            nonlocal lists, residuals, masks
            n_left, n_right = _halves(chunk.m, run)
            length = closest.scratch_elements(n_left, n_right)
            lists = lists if len(lists) >= length else _aligned(8 * length, np.int64)
            room = _CANDIDATES if n_right <= _FINE_BITS else _MANY_CANDIDATES
            if len(masks) < room:
                residuals, masks = np.empty(room, np.int64), np.empty(room, np.uint64)
            closest.closest(
                batch.values, batch.starts, batch.sizes, batch.targets, order,
                chunk.start, chunk.stop, chunk.m, n_left, n_right,
                lists, lists.ctypes.data, residuals, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run, done)
    return np.asarray(np.flatnonzero(flags))


def _plain(batch: Batch, which: NDArray[np.int64], answers: Answers, run: Run, done: int) -> NDArray[np.int64]:
    """Solve problems `which` without vector code; return those that are left to the exact solver."""
    if not len(which):
        return which
    from slth.subsetsum import plain

    order, chunks = make_chunks(which, batch.sizes, lambda m: 500.0 + 30.0 * 2.0 ** (m / 2))
    flags = np.zeros(batch.n_problems, np.uint8)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints, floats = np.zeros((2, 64), np.int64), np.zeros((2, 128))
        lists, masks = np.empty((8, 0), np.int64), np.empty(_MANY_CANDIDATES, np.uint64)

        def work(chunk: Chunk) -> None:
            nonlocal lists
            length = 2 ** ((chunk.m + 1) // 2)
            if lists.shape[1] < length:
                lists = np.empty((8, length), np.int64)
            plain.plain(
                batch.values, batch.starts, batch.sizes, batch.targets, order,
                chunk.start, chunk.stop,
                lists, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run, done)
    return np.asarray(which[flags[which] != 0])


def _halves(m: int, run: Run) -> tuple[int, int]:
    """Elements of the left and the right list: all but one, or as many as fit the memory allowed."""
    from slth.subsetsum import closest

    room = math.inf if run.scratch_bytes is None else run.scratch_bytes / run.threads
    in_lists = m - 1
    while in_lists and 8 * closest.scratch_elements(in_lists // 2, in_lists - in_lists // 2) > room:
        in_lists -= 1
    return in_lists // 2, in_lists - in_lists // 2


def _sparsest(batch: Batch, which: NDArray[np.int64], tolerance: float, answers: Answers, run: Run) -> None:
    """Look at small subsets one by one; then, if any subset is within the tolerance at all, at larger ones."""
    from slth.subsetsum import handful

    flags = np.full(batch.n_problems, handful.OPEN, np.uint8)
    quick, patient = _largest_sizes()
    doubtful = which
    if run.vectors and _trusted("handful"):
        _handful(batch, which, np.ones_like(quick), quick, tolerance, answers, flags, run)
        doubtful = which[flags[which] == handful.DOUBTFUL]
    beyond, done_up_to = doubtful[:0], quick
    if run.vectors and _trusted("fewest"):
        beyond = _fewest(batch, doubtful, quick, tolerance, answers, flags, run)
    else:
        flags[doubtful] = handful.OPEN
        done_up_to = np.full_like(quick, -1)
    open_ = which[flags[which] == handful.OPEN]
    _best(batch, open_, answers, run, len(which) - len(open_) - len(beyond))
    quiet = replace(run, on_progress=None)
    known = answers.errors[open_] <= tolerance
    plain = known & ~np.isin(open_, doubtful)
    # Enumeration is the faster of the two as long as there are few subsets, and knows no near-ties.
    _handful(batch, open_[plain], quick + 1, patient, tolerance, answers, flags, quiet)
    _classes(batch, open_[known & (flags[open_] != handful.SOLVED)], done_up_to, tolerance, answers, quiet)
    _exactly(batch, beyond, answers, tolerance)


@functools.cache
def _largest_sizes() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every m, the size up to which all subsets are looked at before asking `best`, and before size classes."""
    from slth.subsetsum.handful import MAX_PREFIXES

    def largest(m: int, nanoseconds: float, at_most: int) -> int:
        for k in range(1, min(m, at_most) + 1):
            # About 0.045 ns a subset.
            if math.comb(m, k) * 0.045 > nanoseconds or math.comb(m, max(k - 2, 0)) >= MAX_PREFIXES:
                return k - 1
        return min(m, at_most)

    every = range(MAX_ELEMENTS + 1)
    quick = [largest(m, 0.9 * 2.0 ** (m / 2), _QUICK) for m in every]
    patient = [largest(m, 20.0 * m * 2.0 ** (m / 2), MAX_ELEMENTS) for m in every]
    return np.array(quick, np.int64), np.array(patient, np.int64)


@functools.cache
def _binomials() -> NDArray[np.int64]:
    every = range(MAX_ELEMENTS + 1)
    return np.array([[math.comb(n, k) for k in every] for n in every], np.int64)


def _handful(
    batch: Batch,
    which: NDArray[np.int64],
    least: NDArray[np.int64],
    limits: NDArray[np.int64],
    tolerance: float,
    answers: Answers,
    flags: NDArray[np.uint8],
    run: Run,
) -> None:
    """Look for subsets of ``least[m]`` to ``limits[m]`` elements, sixteen problems at a time, and fill `flags`."""
    if not len(which):
        return
    from slth.subsetsum import handful

    order, chunks = make_chunks(which, batch.sizes, lambda m: 40.0 + 0.4 * m**2)
    binomials = _binomials()

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        rows = _aligned(8 * LANES * handful.ROWS, np.float64)
        vectors = _aligned(4 * LANES * handful.VECTORS, np.int32)
        waiting = np.zeros((handful.WAITING, handful.WAITING), np.int64)

        def work(chunk: Chunk) -> None:
            handful.handful(
                batch.values, batch.starts, batch.targets, order,
                chunk.start, chunk.stop, chunk.m, tolerance, least[chunk.m], limits[chunk.m],
                rows, rows.view(np.int64), rows.ctypes.data, vectors.ctypes.data, waiting, binomials,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run)


def _fewest(
    batch: Batch,
    which: NDArray[np.int64],
    limits: NDArray[np.int64],
    tolerance: float,
    answers: Answers,
    flags: NDArray[np.uint8],
    run: Run,
) -> NDArray[np.int64]:
    """Look for subsets of up to ``limits[m]`` elements, near-ties settled; return the problems beyond float64 sums."""
    if not len(which):
        return which
    from slth.subsetsum import fewest

    order, chunks = make_chunks(which, batch.sizes, lambda m: 200.0 + 20.0 * m**2)

    def make_worker(shared: NDArray[np.int64], slot: int) -> Callable[[Chunk], None]:
        ints, floats = np.zeros((3, 64), np.int64), np.zeros(fewest.FLOATS)

        def work(chunk: Chunk) -> None:
            fewest.fewest(
                batch.values, batch.starts, batch.sizes, batch.targets, order,
                chunk.start, chunk.stop, tolerance, limits,
                ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared, slot,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, replace(run, on_progress=None))
    return np.asarray(which[flags[which] == fewest.BEYOND])


def _classes(
    batch: Batch, which: NDArray[np.int64], limits: NDArray[np.int64], tolerance: float, answers: Answers, run: Run
) -> None:
    """Replace the answers of problems `which`, known to have a subset within the tolerance but none of up to
    ``limits[m]`` elements, by the sparsest."""
    if not len(which):
        return
    from slth.subsetsum import classes

    sizes = _effective_sizes(batch, which)
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
                batch.values, batch.starts, batch.sizes, batch.targets, order,
                chunk.start, chunk.stop, tolerance, limits,
                lists, masks, ints, floats,
                answers.selected, answers.sums, answers.errors, flags,
                shared,
            )  # fmt: skip

        return work

    run_chunks(chunks, make_worker, run)
    _exactly(batch, which[flags[which] != 0], answers, tolerance)


def _exactly(batch: Batch, which: NDArray[np.int64], answers: Answers, tolerance: float | None) -> None:
    """Solve problems `which` in integers: for the sparsest subset where there is a tolerance, else for the closest."""
    for p in which.tolist():
        base, target = batch.problem(p)
        sparse = None if tolerance is None else exact.sparsest(base, target, tolerance)
        mask = exact.best(base, target) if sparse is None else sparse
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
