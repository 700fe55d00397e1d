"""Functions of one number, entry by entry, by what is known of their derivatives.

A curve's derivative rises or falls from one *bend* to the next, so that between two arguments it is largest and least
at one of them or at a bend between them. With m and M its least and largest value over the hull of target and ticket,
the difference lies between m d and M d, and never leaves what the function's own range over the hull allows: that is at
the two ends, or at a *turn* of the function between them.

**Margins** are those of :mod:`slth.certify.activation`: at most 16 units of the numbers that occur on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from slth.certify.state import TINY, UNIT, State, inflate

Function = Callable[[torch.Tensor], torch.Tensor]
Range = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of two ends, entry by entry."""
Place = tuple[float, float, float, float]
"""Two numbers around a place, and a lower and an upper bound on what the function (or derivative) has there."""

_UNITS = 16 * UNIT
_DERIVATIVE = 64 * UNIT
"""Of derivatives, relative to 1 + their size: a few operations on numbers that are not much larger (chosen)."""


@dataclass(frozen=True)
class Curve:
    """A function of one number.

    Attributes
    ----------
    value, derivative : callable
        On float64 tensors.
    bends : tuple of Place
        Where the derivative turns or jumps; bounds on it there, from both sides.
    turns : tuple of Place
        Where the function itself turns.
    margin : callable or None
        Bound on the rounding of one evaluation between two arguments; None for 16 units of the largest value.
    least, most : float
        Ends of where the function is defined, themselves included.
    """

    value: Function
    derivative: Function
    bends: tuple[Place, ...] = ()
    turns: tuple[Place, ...] = ()
    margin: Range | None = None
    least: float = -math.inf
    most: float = math.inf

    def between(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Least and largest derivative between two arguments, rounded outward."""
        ends = self.derivative(low), self.derivative(high)
        least, most = torch.minimum(*ends), torch.maximum(*ends)
        least, most = least - _DERIVATIVE * (least.abs() + 1), most + _DERIVATIVE * (most.abs() + 1)
        for begin, end, bottom, top in self.bends:
            inside = (low <= end) & (high >= begin)
            least = torch.where(inside, least.clamp(max=bottom), least)
            most = torch.where(inside, most.clamp(min=top), most)
        return least, most

    def range(self, low: torch.Tensor, high: torch.Tensor, slack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Least and largest value between two arguments, each evaluation being off by at most ``slack``."""
        ends = self.value(low), self.value(high)
        least, most = torch.minimum(*ends), torch.maximum(*ends)
        for begin, end, bottom, top in self.turns:
            inside = (low <= end) & (high >= begin)
            least = torch.where(inside, least.clamp(max=bottom), least)
            most = torch.where(inside, most.clamp(min=top), most)
        return _outward(least - 2 * slack, most + 2 * slack)

    def rounding(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Of one evaluation between two arguments, in float64."""
        if self.margin is not None:
            return inflate(self.margin(low, high), 8)
        ends = self.range(low, high, torch.zeros_like(low))
        return inflate(_UNITS * torch.maximum(ends[0].abs(), ends[1].abs()), 8)

    def hull(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds on the arguments of both networks."""
        error = inflate(state.error, 2)
        low, high = _outward(state.lower - error, state.upper + error)
        if state.nonnegative:
            low = low.clamp(min=0)
        if state.nonpositive:
            high = high.clamp(max=0)
        return low, high

    def defined(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Where all arguments between two ends are of those for which the function is defined."""
        return (low >= self.least) & (high <= self.most)


@dataclass(frozen=True)
class Wave(Curve):
    """A sine or a cosine.

    Attributes
    ----------
    tops, bottoms : float
        Of the places where it is 1, and where it is -1, one each; the others are multiples of 2 pi away.
    """

    tops: float = 0.0
    bottoms: float = math.pi

    def between(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The derivative is the same wave, a quarter of a turn ahead."""
        return _of_wave(self.derivative, self.tops - math.pi / 2, self.bottoms - math.pi / 2, low, high)

    def range(self, low: torch.Tensor, high: torch.Tensor, slack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """1 and -1 where a top and a bottom are between the arguments."""
        least, most = _of_wave(self.value, self.tops, self.bottoms, low, high)
        return least - 2 * slack, most + 2 * slack

    def rounding(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """16 units of 1."""
        return torch.full_like(low, _UNITS)


def _of_wave(
    value: Function, tops: float, bottoms: float, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    ends = value(low), value(high)
    room = torch.full_like(low, _UNITS)
    least = torch.where(_meets(bottoms, low, high), -1.0, torch.minimum(*ends) - room)
    return least, torch.where(_meets(tops, low, high), 1.0, torch.maximum(*ends) + room)


def _meets(place: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Whether a place, or one a multiple of 2 pi away, is between two arguments, or as near as rounding may move it."""
    room = 1e-9 + 64 * UNIT * torch.maximum(low.abs(), high.abs())
    first = ((low - room - place) / (2 * math.pi)).ceil() * (2 * math.pi) + place
    return ~(first > high + room)


def _outward(lower: torch.Tensor, upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return lower - (2 * UNIT * lower.abs() + TINY), upper + (2 * UNIT * upper.abs() + TINY)


def through(curve: Curve, state: State, unit: float = UNIT) -> State:
    """What follows for the function's values.

    Where the slope is infinite (a root's, at 0) the range alone bounds the difference.
    """
    below, above = curve.hull(state)
    defined = curve.defined(below, above)
    low, high = (torch.where(defined, part, math.nan) for part in (below, above))
    inside = (torch.maximum(state.lower, low), torch.minimum(state.upper, high))
    slack = inflate(2 * (unit / UNIT) * curve.rounding(low, high), 4)
    lower, upper = curve.range(*inside, slack)
    least, most = curve.range(low, high, slack)
    slopes = curve.between(low, high)
    steepest = torch.maximum(slopes[0].abs(), slopes[1].abs())
    moved = inflate(steepest * inflate(state.error, 2), 4) + 2 * slack
    spread = inflate((most - least).clamp(min=0), 4)
    error = torch.where(torch.isnan(moved), spread, torch.minimum(inflate(moved, 4), spread))
    return State(lower, upper, error, False, False).sound()
