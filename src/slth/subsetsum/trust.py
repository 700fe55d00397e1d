"""Whether the vector kernels can be trusted on this machine.

They are made of vector code that LLVM has to translate for whatever processor this is. Before one is used for the first
time in a process, it solves a few problems whose answers are known from whole numbers of any length. One that fails, or
cannot be compiled, is not used again: :mod:`.kernels.plain` and :mod:`.kernels.classes` take over, which
give the same answers more slowly, and the log says so.
"""

from __future__ import annotations

import functools
import logging
import threading

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact
from slth.subsetsum.kernels.call import Kernels
from slth.subsetsum.kernels.flags import OPEN, SOLVED
from slth.subsetsum.problem import MAX_ELEMENTS, Answers, Batch

logger = logging.getLogger(__name__)


@functools.cache
def samples() -> tuple[Batch, tuple[int, ...], tuple[int | None, ...]]:
    """Problems of 9 and of 20 elements, their best and (within ``TOLERANCE``) their sparsest subsets."""
    # Fractions of multiples of the golden ratio: fixed, without order, and no generator is needed.
    numbers = np.asarray(np.arange(1, 400) * 0.6180339887498949 % 1.0 * 2.0 - 1.0, np.float64)
    sizes = np.array([9] * 17 + [20] * 2, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    batch = Batch(numbers, starts, sizes, np.linspace(-0.9, 0.8, len(sizes)))
    problems = [batch.problem(p) for p in range(batch.n_problems)]
    best = tuple(exact.best(*problem) for problem in problems)
    sparsest = tuple(exact.sparsest(*problem, TOLERANCE) for problem in problems)
    return batch, best, sparsest


TOLERANCE = 0.05

_LOCK = threading.Lock()


def trusted(kernel: str) -> bool:
    """Whether a kernel works on this machine; found out once."""
    with _LOCK:
        return verdict(kernel)


@functools.cache
def verdict(kernel: str) -> bool:
    """Whether a kernel solves the samples right; a warning in the log if not."""
    try:
        batch, best, sparsest = samples()
        answers = Answers.empty(batch.n_problems)
        solved = _run(kernel, batch, answers).tolist()
        known = best if kernel in ("lockstep", "closest") else sparsest
        right = len(solved) > 0
        for p in solved:
            mask = known[p]
            right = right and mask == int(answers.selected[p])
            if mask is not None:
                right = right and exact.evaluate(*batch.problem(p), mask) == (answers.sums[p], answers.errors[p])
    except Exception as error:
        logger.warning("the kernel %s cannot be used here, slower ones take over: %s", kernel, error)
        return False
    if not right:
        logger.warning("the kernel %s gives wrong answers here, slower ones take over", kernel)
    return right


def _run(kernel: str, batch: Batch, answers: Answers) -> NDArray[np.int64]:
    """Let a kernel solve the samples; returns those that it did solve."""
    kernels, every = Kernels(), np.arange(batch.n_problems)
    if kernel in ("lockstep", "closest"):
        return np.setdiff1d(every, getattr(kernels, kernel)(batch, every, answers))
    flags, up_to = np.full(batch.n_problems, OPEN, np.uint8), np.full(MAX_ELEMENTS + 1, 4)
    if kernel == "handful":
        kernels.handful(batch, every, answers, TOLERANCE, np.ones_like(up_to), up_to, flags)
    else:
        kernels.fewest(batch, every, answers, TOLERANCE, up_to, flags)
    return np.asarray(np.flatnonzero(flags == SOLVED))
