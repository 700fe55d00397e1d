"""Intervals around what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def median_and_range(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median, and the smallest and the largest value."""
    return float(np.median(values)), (float(np.min(values)), float(np.max(values)))


def mean_and_interval(
    values: Sequence[float], confidence: float = 0.95, within: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, tuple[float, float]]:
    """The mean and its interval by Student's t; of one value, or equal ones, the value itself.

    The interval is cut at the ends of ``within``, beyond which no value can be.
    """
    mean = float(np.mean(values))
    error = float(stats.sem(values)) if len(values) > 1 else 0.0
    if not error:
        return mean, (mean, mean)
    half = error * float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    return mean, (max(mean - half, within[0]), min(mean + half, within[1]))


def share_and_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """A share and its exact (Clopper-Pearson) interval."""
    found = stats.binomtest(successes, trials).proportion_ci(confidence)
    return successes / trials, (float(found.low), float(found.high))


_DRAWS = 200
UNKNOWN_DRAWS = f"the reference is a recomputation that does not say from how many draws: taken as {_DRAWS}"
"""Chosen; it sets the margin of :func:`share_margin`."""


def share_margin(share: float) -> float:
    """What a share printed in two digits may be off by: the rounding, and 1.96 standard errors of 200 draws."""
    # Of all or none, so many draws show no more than 3 divided by their number.
    spread = 1.96 * (share * (1 - share) / _DRAWS) ** 0.5 if 0 < share < 1 else 3 / _DRAWS
    return 0.005 + spread
