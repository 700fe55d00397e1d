"""Any law by a table of its quantiles, which can be stored and gives the same weights everywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.law import Distribution, sign_and_unit

_LAST_BITS = 2.0**-50
_LARGEST = float(np.finfo(np.float32).max)
_OUTERMOST = 2.0**-33
"""The probability that stands for 0 where a law has no least number; no word lies further out."""


@dataclass(frozen=True)
class Quantiles(Distribution):
    """A table of quantiles with straight lines between them: the density is constant from one entry to the next.

    If the table equals its mirror image (values exactly, probabilities to the last bits) its upper half is used for
    both signs, and the law is exactly symmetric. 0 is drawn only if it is in the table, or if numbers below the least
    float32 are.

    Parameters
    ----------
    probabilities : tuple of float
        From 0 to 1, each larger than the one before.
    values : tuple of float
        The number below which the law falls with this probability; none smaller than the one before.

    Examples
    --------
    >>> triangle = Quantiles((0.0, 0.5, 1.0), (-1.0, 0.0, 1.0))
    >>> triangle.symmetric, triangle.containment()
    (True, Containment(half_width=1.0, density=0.5))
    """

    name: ClassVar[str] = "quantiles"
    probabilities: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        # A table that comes from a file is a list.
        for field in ("probabilities", "values"):
            object.__setattr__(self, field, tuple(map(float, getattr(self, field))))
        p, x = self.probabilities, self.values
        fault = ""
        if len(p) != len(x) or len(p) < 2:
            fault = f"{len(p)} probabilities and {len(x)} values"
        elif p[0] != 0.0 or p[-1] != 1.0 or any(not a < b for a, b in itertools.pairwise(p)):
            fault = "probabilities that do not rise from 0 to 1"
        elif not all(abs(value) <= _LARGEST for value in x) or any(a > b for a, b in itertools.pairwise(x)):
            fault = "values that fall or are not finite float32 numbers"
        elif x[0] == x[-1]:
            fault = "values that are all equal"
        if fault:
            need = "as many rising values as probabilities from 0 to 1, at least two"
            raise ArgumentError("quantiles", fault, need, "slth.source.quantiles.tabulate")

    @property
    def label(self) -> str:
        """Too long a table to be spelled out."""
        return f"{self.name}:{len(self.values)} values"

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities, values, and slopes between them."""
        p, x = np.array(self.probabilities), np.array(self.values)
        return p, x, np.diff(x) / np.diff(p)

    @property
    def symmetric(self) -> bool:
        """Whether the table is its own mirror image."""
        p, x, _ = self._table
        return bool((x == -x[::-1]).all() and (np.abs(p + p[::-1] - 1.0) <= _LAST_BITS).all())

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        if self.symmetric:
            sign, u = sign_and_unit(words)
            magnitude = np.maximum(self._interpolated(0.5 + 0.5 * u), 0.0)
            return magnitude.astype(np.float32) * sign.astype(np.float32)
        return self._interpolated((words.astype(np.float64) + 0.5) * 2.0**-32).astype(np.float32)

    def _interpolated(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        p, x, slope = self._table
        index = np.searchsorted(p, probability, side="right") - 1
        value = x[index] + (probability - p[index]) * slope[index]
        return np.minimum(np.maximum(value, x[index]), x[index + 1])

    @property
    def least_magnitude(self) -> float:
        """What the table says: 0 if it passes through 0, however unlikely 0 itself is."""
        low, high = self.support
        if self.symmetric:
            return super().least_magnitude
        return 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))

    def _segments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """How far from 0 each segment that has length begins, its density, and where the table ends on either side."""
        p, x, _ = self._table
        low, high, mass = x[:-1], x[1:], np.diff(p)
        long = high > low
        low, high, mass = low[long], high[long], mass[long]
        begins = np.maximum(np.maximum(low, -high), 0.0)
        return begins, mass / (high - low), max(0.0, min(-float(x[0]), float(x[-1])))

    @property
    def best_half_width(self) -> float:
        """The least density is a falling step function of a, so the best a is where a step ends."""
        begins, _, end = self._segments()
        ends = np.unique(np.append(begins[(begins > 0.0) & (begins < end)], end))
        return float(max(ends, key=lambda a: a * self.least_density(float(a))))

    def least_density(self, half_width: float) -> float:
        """The least density of the segments that reach into (-a, a)."""
        begins, densities, end = self._segments()
        return float(densities[begins < half_width].min()) if 0.0 < half_width <= end else 0.0


def tabulate(inverse_cdf: Callable[[float], float], knots: int = 1025, symmetric: bool = False) -> Quantiles:
    """The table of a law that is given by its inverse distribution function.

    From then on the table is the law: the function may give other last bits on another machine, so it is the table that
    belongs in a file (:meth:`Quantiles.to_json`).

    Parameters
    ----------
    inverse_cdf : callable
        Non-decreasing on (0, 1). Where it is not finite at 0 or 1, 2^-33 and 1 - 2^-33 stand for them.
    knots : int
        Entries, at even probabilities; at least 2.
    symmetric : bool
        Take the upper half only, and mirror it, so that the law is exactly symmetric.

    Examples
    --------
    >>> from statistics import NormalDist
    >>> table = tabulate(NormalDist().inv_cdf, symmetric=True)
    >>> table.symmetric, round(table.support[1], 3)
    (True, 6.338)
    """
    if knots < 2:
        raise ArgumentError("knots", str(knots), "at least 2", "1025")
    probabilities = [k / (knots - 1) for k in range(knots)]
    values = [_value(inverse_cdf, p) for p in probabilities]
    if symmetric:
        half = knots // 2
        upper = values[knots - half :]
        values = [-value for value in reversed(upper)] + [0.0] * (knots % 2) + upper
    return Quantiles(tuple(probabilities), tuple(values))


def _value(inverse_cdf: Callable[[float], float], probability: float) -> float:
    inside = min(max(probability, _OUTERMOST), 1.0 - _OUTERMOST)
    if inside == probability:
        return float(inverse_cdf(probability))
    try:
        value = float(inverse_cdf(probability))
    except (ArithmeticError, ValueError):
        value = math.inf
    return value if math.isfinite(value) else float(inverse_cdf(inside))
