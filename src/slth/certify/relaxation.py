"""Lines above and below what an activation does to a value, and to the difference of the two networks' values.

With t the target's value before the activation and d the ticket's less the target's, x = phi(t) and

    e = phi(t + d) - phi(t) = s d    for some slope s of phi between t and t + d,

so that e lies between min(m d, M d) and max(m d, M d), m and M being the least and the largest slope over the hull of
both values. That is the joint relaxation: whatever t is, e vanishes with d, which bounds on phi(t + d) and phi(t) one
by one would lose. The upper bound is convex in d and the lower one concave, so that the chords over the interval of d
are lines beyond them. Slopes of lines may be any numbers; what makes the lines sound are their intercepts, taken from
both ends of the interval and moved outward by more than their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from slth.activations import Activation
from slth.certify import activation as rules
from slth.certify.state import TINY, UNIT, State, choose
from slth.network.graph import Node
from slth.network.operators import OPERATORS, Elementwise

Slope = Callable[[Activation, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Line:
    """slope v + intercept, entry by entry."""

    slope: torch.Tensor
    intercept: torch.Tensor


@dataclass(frozen=True)
class Lines:
    """Lines below and above x = phi(t), in t, and below and above the difference e, in d."""

    value: tuple[Line, Line]
    difference: tuple[Line, Line]


@dataclass(frozen=True)
class Pair:
    """Bounds on t and on d at one node, entry by entry."""

    lower: torch.Tensor
    upper: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor

    @property
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds on both networks' values."""
        return _outward(self.lower + self.below.clamp(max=0), self.upper + self.above.clamp(min=0))

    @property
    def ticket(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds on the ticket's value."""
        return _outward(self.lower + self.below, self.upper + self.above)


def _outward(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return low - (4 * UNIT * low.abs() + TINY), high + (4 * UNIT * high.abs() + TINY)


def relax(node: Node, before: Pair, after: State) -> Lines:
    """Lines for one node without weights; level ones, from what is known of its outputs, where nothing is better."""
    rule = RULES.get(node.op)
    return level(after) if rule is None else rule(node, before, after)


def ends(lines: Lines, before: Pair, after: State) -> Pair:
    """Bounds on x and on e behind an activation."""
    low, high = lines.difference
    reach = torch.maximum(before.below.abs(), before.above.abs())
    moved = [4 * UNIT * (line.slope.abs() * reach + line.intercept.abs()) + TINY for line in (low, high)]
    least = torch.minimum(low.slope * before.below, low.slope * before.above) + low.intercept - moved[0]
    most = torch.maximum(high.slope * before.below, high.slope * before.above) + high.intercept + moved[1]
    return Pair(after.lower, after.upper, *within(least, most, after.error))


def within(below: torch.Tensor, above: torch.Tensor, error: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds on a difference of at most ``error``; what is no number, behind an overflow, bounds nothing."""
    return torch.fmax(below, -error), torch.fmin(above, error)


def level(after: State) -> Lines:
    """Lines that do not depend on the input."""
    zero = torch.zeros_like(after.lower)
    value = (Line(zero, after.lower), Line(zero, after.upper))
    return Lines(value, (Line(zero, -after.error), Line(zero, after.error)))


def relu(node: Node, before: Pair, after: State) -> Lines:
    """The triangle for the value; slopes 0, 1 or between for the difference."""
    return two_lines(before, 0.0)


def leaky_relu(node: Node, before: Pair, after: State) -> Lines:
    """As ReLU, with another slope left of 0."""
    return two_lines(before, float(node.attributes["slope"]))


def two_lines(before: Pair, left: float) -> Lines:
    """For left t on the left of 0 and t on its right, which is convex for left <= 1 and concave otherwise."""
    low, high = before.hull
    ones, lefts = torch.ones_like(low), torch.full_like(low, left)
    ends = [torch.where(part >= 0, part, left * part) for part in (before.lower, before.upper)]
    width = before.upper - before.lower
    chord = torch.where(width > 0, (ends[1] - ends[0]) / width.clamp(min=TINY), choose(before.lower >= 0, 1.0, left))
    # Of all slopes between the two, that of the wider side leaves the smaller triangle.
    side = choose(before.upper > -before.lower, 1.0, left)
    rounding = abs(left) * 2 * UNIT * torch.maximum(low.abs(), high.abs()) + TINY
    corner = torch.where((before.lower < 0) & (before.upper > 0), 0.0, torch.nan)

    def intercept(slope: torch.Tensor, sign: int) -> torch.Tensor:
        """The least (or largest) one with which the line is above (or below) at both ends and at the corner."""
        gaps = [end - slope * at for end, at in zip(ends, (before.lower, before.upper), strict=True)]
        gaps.append(torch.where(torch.isnan(corner), gaps[0], 0.0))
        worst = torch.stack([sign * gap for gap in gaps]).amax(dim=0)
        size = (slope.abs() + 1 + abs(left)) * torch.maximum(before.lower.abs(), before.upper.abs())
        return sign * (worst + 8 * UNIT * size + rounding)

    above, below = (chord, side) if left <= 1 else (side, chord)
    value = (Line(below, intercept(below, -1)), Line(above, intercept(above, 1)))
    least = torch.where(low >= 0, ones, torch.where(high <= 0, lefts, torch.minimum(ones, lefts)))
    most = torch.where(low >= 0, ones, torch.where(high <= 0, lefts, torch.maximum(ones, lefts)))
    difference = chords(before, least, most, rounding if left else torch.zeros_like(rounding))
    if left < 0:
        return Lines(value, difference)
    # Of a function that rises, bounds on both arguments bound the difference too: the better ones next to a point.
    low, high = (torch.where(part >= 0, part, left * part) for part in before.ticket)
    size = 4 * UNIT * (low.abs() + high.abs() + ends[0].abs() + ends[1].abs()) + rounding
    return Lines(value, _or_level(difference, before, low - ends[1] - size, high - ends[0] + size))


def _or_level(made: tuple[Line, Line], before: Pair, low: torch.Tensor, high: torch.Tensor) -> tuple[Line, Line]:
    """Level lines where they are beyond the chords in the middle of the interval."""
    middle = (before.below + before.above) / 2
    lines = []
    for sign, line, at in ((-1, made[0], low), (1, made[1], high)):
        better = sign * at < sign * (line.slope * middle + line.intercept)
        lines.append(Line(torch.where(better, 0.0, line.slope), torch.where(better, at, line.intercept)))
    return lines[0], lines[1]


def clipped(before: Pair, low: float, high: float) -> Lines:
    """For what is cut off below one number and above another: one kink where only one of them is reached.

    max(low, t) = low + relu(t - low), and min(t, high) = high - relu(high - t), with lines of relu on either side of
    its kink, moved there; where both kinks are between the bounds, lines of slope 0 or 1 apart by what is cut off.
    """
    lower, upper = before.hull
    up, down = _moved(before, low, 1.0), _moved(before, high, -1.0)
    both = _between_kinks(before, low, high)
    reaches = (lower < low, upper > high)

    def pick(which: str, side: int) -> Line:
        one, other, third = (getattr(lines, which)[side] for lines in (up, down, both))
        parts = [
            torch.where(reaches[0] & reaches[1], c, torch.where(reaches[1], b, a))
            for a, b, c in ((one.slope, other.slope, third.slope), (one.intercept, other.intercept, third.intercept))
        ]
        return Line(parts[0], parts[1])

    return Lines((pick("value", 0), pick("value", 1)), (pick("difference", 0), pick("difference", 1)))


def _moved(before: Pair, kink: float, side: float) -> Lines:
    """Lines of kink + side relu(side (t - kink)); none of any use where the kink is infinite."""
    if math.isinf(kink):
        nothing = Line(torch.ones_like(before.lower), torch.zeros_like(before.lower))
        return Lines((nothing, nothing), (nothing, nothing))
    room = 4 * UNIT * (torch.maximum(before.lower.abs(), before.upper.abs()) + abs(kink)) + TINY
    ends = [side * (end - kink) for end in (before.lower, before.upper)]
    differences = [side * before.below, side * before.above]
    if side < 0:
        ends, differences = ends[::-1], differences[::-1]
    made = two_lines(Pair(ends[0] - room, ends[1] + room, differences[0], differences[1]), 0.0)
    values, changes = made.value, made.difference
    if side < 0:
        values, changes = values[::-1], changes[::-1]
    # side s (side (t - kink)) = s (t - kink); the sign of what is added turns with the side.
    shifted = []
    for sign, line in zip((-1, 1), values, strict=True):
        off = 8 * UNIT * (line.slope.abs() * (abs(kink) + room) + line.intercept.abs() + abs(kink)) + room
        shifted.append(Line(line.slope, side * line.intercept + kink - line.slope * kink + sign * off))
    turned = [Line(line.slope, side * line.intercept) for line in changes]
    return Lines((shifted[0], shifted[1]), (turned[0], turned[1]))


def _between_kinks(before: Pair, low: float, high: float) -> Lines:
    """Of slope 0 or 1, whichever is nearer, through the middle; no difference is larger than the one before."""
    ends = [part.clamp(low, high) for part in (before.lower, before.upper)]
    width = (before.upper - before.lower).clamp(min=TINY)
    slope = choose((ends[1] - ends[0]) / width > 0.5, 1.0, 0.0)
    # What is left beside such a line never rises or never falls.
    gaps = torch.stack([end - slope * place for end, place in zip(ends, (before.lower, before.upper), strict=True)])
    room = 8 * UNIT * (torch.maximum(before.lower.abs(), before.upper.abs()) + _size(low) + _size(high)) + TINY
    value = (Line(slope, gaps.amin(dim=0) - room), Line(slope, gaps.amax(dim=0) + room))
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    return Lines(value, chords(before, zero, one, zero))


def _size(number: float) -> float:
    return 0.0 if math.isinf(number) else abs(number)


def chords(before: Pair, least: torch.Tensor, most: torch.Tensor, rounding: torch.Tensor) -> tuple[Line, Line]:
    """Lines below and above s d for slopes s from least to most; evaluations may be off by ``rounding`` together."""
    ends = (before.below, before.above)
    span = before.above - before.below
    size = torch.maximum(least.abs(), most.abs()) * torch.maximum(ends[0].abs(), ends[1].abs())
    lines = []
    for sign in (-1, 1):
        at = [sign * torch.maximum(sign * least * end, sign * most * end) for end in ends]
        slope = torch.where(span > 0, (at[1] - at[0]) / span.clamp(min=TINY), most)
        slope = torch.minimum(torch.maximum(slope, least), most)
        gap = torch.stack([sign * (value - slope * end) for value, end in zip(at, ends, strict=True)]).amax(dim=0)
        lines.append(Line(slope, sign * (gap + 8 * UNIT * size + rounding + TINY)))
    return lines[0], lines[1]


def _smooth(least: Slope, most: Slope, margin: rules.Margin) -> Callable[[Node, Pair, State], Lines]:
    """Lines of the middle slope through the middle value, as far apart as the mean value theorem says."""

    def rule(node: Node, before: Pair, after: State) -> Lines:
        operator = OPERATORS[node.op]
        assert isinstance(operator, Elementwise)
        phi = operator.activation(node.attributes)
        low, high = before.hull
        slack = 4 * margin(phi, torch.maximum(low.abs(), high.abs())) + phi.jump
        return smooth_lines(phi.torch_module(), before, least(phi, low, high), most(phi, low, high), slack)

    return rule


def smooth_lines(
    value: Callable[[torch.Tensor], torch.Tensor],
    before: Pair,
    least: torch.Tensor,
    most: torch.Tensor,
    slack: torch.Tensor,
) -> Lines:
    """Lines for a function with slopes from ``least`` to ``most`` over the hull, evaluations being off by ``slack``."""
    centre, radius = (before.lower + before.upper) / 2, (before.upper - before.lower) / 2
    slope, bent = (least + most) / 2, (most - least) / 2 * radius
    middle = value(centre) - slope * centre
    size = middle.abs() + (slope.abs() + 1) * torch.maximum(before.lower.abs(), before.upper.abs())
    room = bent + slack + 16 * UNIT * size + TINY
    lines = (Line(slope, middle - room), Line(slope, middle + room))
    return Lines(lines, chords(before, least, most, slack))


def _far(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.maximum(low.abs(), high.abs())


def _tanh_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (1 - torch.tanh(_far(low, high)) ** 2 - rules.DERIVATIVE).clamp(min=0)


def _sigmoid_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    small = torch.sigmoid(-_far(low, high))
    return (small * (1 - small) - rules.DERIVATIVE).clamp(min=0)


def _softplus_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(phi.parameters["beta"] * low) - rules.DERIVATIVE).clamp(min=0)


def _elu_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    left = (phi.m_minus * (torch.exp(low.clamp(max=0)) - rules.DERIVATIVE)).clamp(min=0)
    return torch.where(low >= 0, 1.0, left.clamp(max=1.0))


def _dipping_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Of derivatives with phi'(x) + phi'(-x) = 1 the least is 1 less the largest; right of 0 none is below 1/2."""
    return choose(low >= 0, 0.5, 1.0 - phi.lipschitz - rules.DERIVATIVE)


def _hard_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    inside = (low >= phi.parameters["low"]) & (high <= phi.parameters["high"])
    return choose(inside, 1.0, 0.0)


def _hard_most(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    outside = (high <= phi.parameters["low"]) | (low >= phi.parameters["high"])
    return choose(outside, 0.0, 1.0)


def _gelu_most(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (rules.gelu_slope if phi.name == "gelu" else rules.global_slope)(phi, low, high)


def _leaky_least(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return _leaky(phi, low, high, min(phi.m_plus, phi.m_minus))


def _leaky_most(phi: Activation, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return _leaky(phi, low, high, max(phi.m_plus, phi.m_minus))


def _leaky(phi: Activation, low: torch.Tensor, high: torch.Tensor, both: float) -> torch.Tensor:
    return torch.where(low >= 0, phi.m_plus, choose(high <= 0, phi.m_minus, both))


SLOPES: Mapping[str, tuple[Slope, Slope, rules.Margin]] = {
    "relu": (_leaky_least, _leaky_most, rules.no_margin),
    "leaky_relu": (_leaky_least, _leaky_most, rules.size_margin),
    "tanh": (_tanh_least, rules.tanh_slope, rules.tanh_margin),
    "sigmoid": (_sigmoid_least, rules.sigmoid_slope, rules.sigmoid_margin),
    "softplus": (_softplus_least, rules.softplus_slope, rules.softplus_margin),
    "elu": (_elu_least, rules.elu_slope, rules.elu_margin),
    "gelu": (_dipping_least, _gelu_most, rules.size_margin),
    "silu": (_dipping_least, rules.silu_slope, rules.size_margin),
    "hardtanh": (_hard_least, _hard_most, rules.no_margin),
}
"""By operation: the least and the largest slope between two bounds, and the rounding of one evaluation."""

RULES: Mapping[str, Callable[[Node, Pair, State], Lines]] = {
    **{name: _smooth(*parts) for name, parts in SLOPES.items()},
    "relu": relu,
    "leaky_relu": leaky_relu,
    "hardtanh": lambda node, before, after: clipped(
        before, float(node.attributes["low"]), float(node.attributes["high"])
    ),
}
"""By operation; the others get level lines."""
