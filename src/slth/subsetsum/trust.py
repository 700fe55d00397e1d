"""Whether the vector kernels can be trusted on this machine.

They are made of vector code that LLVM has to translate for whatever processor this is. Before one is used for the first
time in a process, it solves a few problems whose answers are known from whole numbers of any length. One that fails, or
cannot be compiled, is not used again: :mod:`slth.subsetsum.plain` and :mod:`slth.subsetsum.classes` take over, which
give the same answers more slowly, and the log says so.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np

from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch

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


def check(name: str, run: Callable[[Batch, Answers], np.ndarray], sparsest: bool) -> bool:
    """Whether a kernel solves the samples right.

    Parameters
    ----------
    name : str
        For the log.
    run : callable
        Fills in the answers to a batch and returns whether each problem was solved, (P,) bool; the others do not count.
    sparsest : bool
        Whether it looks for the sparsest subset instead of the best.
    """
    try:
        batch, *known = samples()
        answers = Answers.empty(batch.n_problems)
        solved = np.flatnonzero(run(batch, answers))
        right = len(solved) > 0
        for p in solved.tolist():
            mask = known[sparsest][p]
            right = right and mask == int(answers.selected[p])
            if mask is not None:
                right = right and exact.evaluate(*batch.problem(p), mask) == (answers.sums[p], answers.errors[p])
    except Exception as error:
        logger.warning("the kernel %s cannot be used here, slower ones take over: %s", name, error)
        return False
    if not right:
        logger.warning("the kernel %s gives wrong answers here, slower ones take over", name)
    return right
