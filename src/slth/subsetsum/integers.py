"""The solver `integers`: :mod:`slth.subsetsum.exact` asked directly, one problem after the other.

It shares no line with the compiled kernels and rounds nowhere, so it can judge them where looking at every subset has
become impossible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 40
"""Largest base set (chosen): its half lists are 2^20 Python integers each, which takes seconds and half a gigabyte."""

_REPORT_SECONDS = 0.1


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`.

    `first` is answered by the closest subset, which is within the tolerance wherever any is.
    """

    def choose(base: list[float], target: float) -> tuple[int, bool]:
        if objective == "sparsest" and tolerance is not None:
            mask = exact.sparsest(base, target, tolerance)
            if mask is not None:
                return mask, True
        return exact.best(base, target), True

    return one_by_one(batch, run, choose)


def one_by_one(batch: Batch, run: Run, choose: Callable[[list[float], float], tuple[int, bool]]) -> Answers:
    """Ask ``choose(base, target)`` for every problem's mask, and whether it is proved, in turn.

    Sums and errors are correctly rounded.
    """
    unproved = np.zeros(batch.n_problems, np.bool_)
    answers = replace(Answers.empty(batch.n_problems), unproved=unproved)
    told = time.monotonic()
    for p in range(batch.n_problems):
        base, target = batch.problem(p)
        mask, proved = choose(base, target)
        answers.selected[p], unproved[p] = mask, not proved
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
        now = time.monotonic()
        if run.on_progress is not None and (now - told >= _REPORT_SECONDS or p + 1 == batch.n_problems):
            run.on_progress(p + 1)
            told = now
    return answers
