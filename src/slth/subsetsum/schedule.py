"""Chunks of work over threads, with progress and an end at Ctrl-C."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.subsetsum.problem import Run

_POLL_SECONDS = 0.1
_CHUNK_COST = 4.0e6
"""Work of one chunk in nanoseconds (chosen): long against the interpreter's overhead, short against a person."""
_STEP = 16
"""Problems that a kernel may take at once."""


@dataclass(frozen=True)
class Chunk:
    """Problems ``order[start:stop]``, each of `m` elements that are not zero."""

    m: int
    start: int
    stop: int


def count_threads(threads: int | None) -> int:
    """The number of threads to use; None asks for as many as this process may run on."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise ArgumentError("threads", str(threads), "at least 1", "leaving it out")
    return threads


def make_chunks(
    which: NDArray[np.int64], sizes: NDArray[np.int64], cost: Callable[[int], float]
) -> tuple[NDArray[np.int64], list[Chunk]]:
    """Problems of equal size side by side, cut into chunks of about equal cost, the dearest first.

    Parameters
    ----------
    which : (n,) int64
        The problems to do.
    sizes : (P,) int64
    cost : callable
        Nanoseconds that a problem of m elements takes, about.

    Returns
    -------
    order : (n,) int64
        `which` by size; within a size as given.
    chunks : list of Chunk
        No chunk mixes sizes. Boundaries depend on `sizes` only, never on the number of threads.
    """
    of_which = sizes[which]
    if len(which) and of_which.min() == of_which.max():
        return which, _cut(int(of_which[0]), 0, len(which), cost)
    order = which[np.argsort(of_which.astype(np.uint8), kind="stable")]
    counts = np.bincount(of_which)
    ends = np.cumsum(counts)
    chunks = []
    for m in range(len(counts) - 1, -1, -1):
        chunks += _cut(m, int(ends[m] - counts[m]), int(ends[m]), cost)
    return order, chunks


def _cut(m: int, first: int, last: int, cost: Callable[[int], float]) -> list[Chunk]:
    length = max(_STEP, int(_CHUNK_COST / cost(m)) // _STEP * _STEP)
    return [Chunk(m, a, min(a + length, last)) for a in range(first, last, length)]


def run_chunks(
    chunks: Sequence[Chunk],
    make_worker: Callable[[NDArray[np.int64], int], Callable[[Chunk], None]],
    run: Run,
    already: int = 0,
) -> None:
    """Work off the chunks on ``run.threads`` threads.

    Parameters
    ----------
    chunks : sequence of Chunk
    make_worker : callable
        ``make_worker(shared, slot)``, called once in each thread, returns the function that solves one chunk. It must
        return soon after ``shared[0]`` becomes 1 and count problems done in ``shared[slot]``.
    run : Run
    already : int
        Problems done before, added to what is reported.
    """
    if not chunks:
        return
    n_threads = min(run.threads, len(chunks))
    # A cache line each, so that counting does not make the threads wait for one another.
    shared = np.zeros(8 * (n_threads + 1), np.int64)
    slots = [8 * (t + 1) for t in range(n_threads)]
    queue = deque(chunks)

    def work(slot: int) -> None:
        solve = make_worker(shared, slot)
        for chunk in _taken(queue):
            if shared[0]:
                return
            solve(chunk)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="subset-sum") as pool:
        futures = [pool.submit(work, slot) for slot in slots]
        try:
            waiting = set(futures)
            while waiting:
                _, waiting = wait(waiting, timeout=_POLL_SECONDS)
                if run.on_progress is not None:
                    run.on_progress(already + int(shared[slots].sum()))
        finally:
            # Reached early by Ctrl-C or an error of on_progress: the pool then waits for the threads to notice.
            shared[0] = 1
    for future in futures:
        future.result()


def _taken(queue: deque[Chunk]) -> Iterator[Chunk]:
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return
