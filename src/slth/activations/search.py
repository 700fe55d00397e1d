"""The last number for which something holds, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable


def largest(holds: Callable[[float], bool]) -> float:
    """The largest float for which ``holds``, which is true below some number and false above it.

    Infinite where it never fails, 0 where it never holds.

    Examples
    --------
    >>> largest(lambda a: a * a <= 2)
    1.414213562373095
    """
    low = high = 1.0
    while holds(high):
        low, high = high, 2 * high
        if math.isinf(high):
            return math.inf
    while not holds(low):
        low, high = low / 2, low
        if low == 0:
            return 0.0
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def smallest(holds: Callable[[float], bool]) -> float:
    """The smallest float for which ``holds``, which is false below some number and true above it; 0 or infinite."""
    below = largest(lambda a: not holds(a))
    return math.nextafter(below, math.inf) if below else 0.0
