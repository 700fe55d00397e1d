"""The oracle: every subset, one after the other. Slow and obvious, to hold the others against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch, Objective, Run

MAX_ELEMENTS = 22


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Look at all 2^m subsets of each problem; near-ties are compared in integers of any length."""
    answers = Answers.empty(batch.n_problems)
    for p in range(batch.n_problems):
        base, target = batch.problem(p)
        mask = _one(base, target, tolerance if objective != "best" else None)
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(base, target, mask)
        if run.on_progress is not None:
            run.on_progress(p + 1)
    return answers


def _one(base: list[float], target: float, tolerance: float | None) -> int:
    # Scaled down so that no sum overflows; what that may cost tiny elements is part of the slack.
    small = np.array(base) * 2.0**-8
    goal = target * 2.0**-8
    sums, sizes = np.zeros(1), np.zeros(1, np.int64)
    for x in small:
        sums, sizes = np.concatenate([sums, sums + x]), np.concatenate([sizes, sizes + 1])
    gaps = np.abs(sums - goal)
    slack = (len(base) + 2) * (2.0**-52 * float(np.abs(small).sum() + abs(goal)) + 2.0**-1070)
    masks = np.arange(len(sums))
    if tolerance is not None:
        for size in range(len(base) + 1):
            of_size = sizes == size
            if gaps[of_size].min() > tolerance * 2.0**-8 + slack:
                continue
            mask = _settle(base, target, gaps[of_size], masks[of_size], slack)
            if exact.evaluate(base, target, mask)[1] <= tolerance:
                return mask
    return _settle(base, target, gaps, masks, slack)


def _settle(base: list[float], target: float, gaps: NDArray[np.float64], masks: NDArray[np.int64], slack: float) -> int:
    near: list[int] = masks[gaps <= gaps.min() + 2.0 * slack].tolist()
    if len(near) == 1:
        return near[0]
    return min(near, key=lambda mask: (exact.residual(base, target, mask), mask.bit_count(), mask))
