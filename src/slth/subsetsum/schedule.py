"""Problems dealt out to threads in blocks, with progress and an end at Ctrl-C."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError

_POLL_SECONDS = 0.1
_SHORT_BLOCK, _LONG_BLOCK = 0.4e6, 16.0e6
"""Work of one block in nanoseconds (chosen): long against the interpreter's overhead, short against a person."""
_MOST = 2**13
"""Problems in a block (chosen): what is noted about them stays in the cache."""
_TOGETHER = 16
"""Problems that a kernel may take at once."""


def count_threads(threads: int | None) -> int:
    """The number of threads to use; None asks for as many as this process may run on."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise ArgumentError("threads", str(threads), "at least 1", "leaving it out")
    return threads


def cut(costs: NDArray[np.float64] | float, n_problems: int, threads: int) -> list[tuple[int, int]]:
    """Blocks of problems, ``(start, stop)``, long ones first so that threads end together.

    Parameters
    ----------
    costs : (n_problems,) float64 or float
        Nanoseconds that each takes, about.
    n_problems, threads : int
    """
    even = isinstance(costs, float)
    sums = np.zeros(1) if even else np.cumsum(costs)
    total = costs * n_problems if isinstance(costs, float) else float(sums[-1])
    blocks, start, spent = [], 0, 0.0
    while start < n_problems:
        budget = min(max((total - spent) / (2 * threads), _SHORT_BLOCK), _LONG_BLOCK)
        until = (spent + budget) / costs if isinstance(costs, float) else np.searchsorted(sums, spent + budget, "right")
        length = min(int(until) - start, _MOST)
        length = length // _TOGETHER * _TOGETHER if length >= _TOGETHER else max(length, 1)
        stop = min(start + length, n_problems)
        spent = costs * stop if isinstance(costs, float) else float(sums[stop - 1])
        blocks.append((start, stop))
        start = stop
    return blocks


class Crew:
    """Threads that work off blocks of problems; a context manager, at whose end they are gone.

    Parameters
    ----------
    threads : int
    on_progress : callable, optional
        Told the number of problems done, about every 0.1 s.
    make_worker : callable
        ``make_worker(halt)``, called once for each thread, returns what its blocks are given. Work must end soon after
        ``halt[0]`` becomes 1.
    """

    def __init__(
        self, threads: int, on_progress: Callable[[int], Any] | None, make_worker: Callable[[NDArray[np.int64]], Any]
    ) -> None:
        self.threads = threads
        self.on_progress = on_progress
        self.halt = np.zeros(1, np.int64)
        self.workers = [make_worker(self.halt) for _ in range(threads)]
        self.done = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="subset-sum")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        """Order everyone to stop, which matters at Ctrl-C or an error of `on_progress`, and wait until they do."""
        self.halt[0] = 1
        self._pool.shutdown()

    def each(self, blocks: list[tuple[int, int]], work: Callable[[Any, int, int], NDArray[np.int64]]) -> list[Any]:
        """Do ``work(worker, start, stop)`` for every block; it returns the problems left for later.

        Returns
        -------
        list of arrays
            What was left, block by block.
        """
        queue = deque(range(len(blocks)))
        left: list[Any] = [None] * len(blocks)
        counts = [0] * self.threads

        def run(thread: int) -> None:
            for k in _taken(queue):
                if self.halt[0]:
                    return
                left[k] = work(self.workers[thread], *blocks[k])
                counts[thread] += blocks[k][1] - blocks[k][0] - len(left[k])

        futures = [self._pool.submit(run, thread) for thread in range(min(self.threads, len(blocks)))]
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            if self.on_progress is not None:
                self.on_progress(self.done + sum(counts))
        self.done += sum(counts)
        return left


def _taken(queue: deque[int]) -> Iterator[int]:
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return
