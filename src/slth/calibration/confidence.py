"""What a count of successes says about their probability."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
"""Of the intervals (chosen); each end is passed with probability at most (1 - CONFIDENCE) / 2."""


def interval(successes: int, draws: int) -> tuple[float, float]:
    """Clopper and Pearson's interval for a probability (1934), from successes in independent draws.

    Examples
    --------
    >>> tuple(round(end, 4) for end in interval(95, 100))
    (0.8872, 0.9836)
    """
    from scipy.special import betaincinv

    tail = (1.0 - CONFIDENCE) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, draws - successes + 1, tail))
    high = 1.0 if successes == draws else float(betaincinv(successes + 1, draws - successes, 1.0 - tail))
    return low, high


def fewest_draws(delta: float) -> int:
    """Draws without which no count can show a success probability of 1 - delta: all successes are needed even then.

    Examples
    --------
    >>> fewest_draws(0.01), interval(368, 368)[0] >= 0.99, interval(367, 367)[0] >= 0.99
    (368, True, False)
    """
    return math.ceil(math.log((1.0 - CONFIDENCE) / 2) / math.log1p(-delta))
