"""Lines for functions entry by entry: curves, those that are activations, and clamping."""

from __future__ import annotations

import math

import torch

from slth.certify.functions.call import Call
from slth.certify.functions.curves import Curve
from slth.certify.functions.elementwise import activation_of, clamp_ends, curve_of
from slth.certify.relaxation import RULES, Lines, Pair, clipped, smooth_lines
from slth.certify.state import UNIT, State, inflate

CLAMPS = frozenset({"clamp", "clip", "clamp_min", "clamp_max"})


def lines_of(call: Call, state: State, before: Pair, after: State) -> Lines | None:
    """Lines for a function of one value; None where there are none, or the value may leave where it is defined."""
    if call.name in CLAMPS:
        ends = clamp_ends(call)
        return None if ends is None else clipped(before, *ends)
    node = activation_of(call)
    if node is not None:
        rule = RULES.get(node.op)
        return None if rule is None else rule(node, before, after)
    curve = SQUARE if call.name == "square" or _is_square(call) else curve_of(call)
    return None if curve is None else _curved(curve, state, before)


def _is_square(call: Call) -> bool:
    return call.name == "pow" and call.number("exponent") == 2 and call.source("self") is not None


SQUARE = Curve(
    torch.square,
    lambda x: 2 * x,
    turns=((0.0, 0.0, 0.0, 0.0),),
    margin=lambda low, high: UNIT * torch.maximum(low.abs(), high.abs()).square(),
)


def _curved(curve: Curve, state: State, before: Pair) -> Lines | None:
    low, high = before.hull
    if state.nonnegative:
        low = low.clamp(min=0)
    if state.nonpositive:
        high = high.clamp(max=0)
    if not bool(curve.defined(low, high).all()):
        return None
    least, most = curve.between(low, high)
    slack = inflate(4 * curve.rounding(low, high), 2)
    inside = Pair(torch.maximum(before.lower, low), torch.minimum(before.upper, high), before.below, before.above)
    made = smooth_lines(curve.value, inside, least, most, slack)
    parts = (part for pair in (made.value, made.difference) for line in pair for part in (line.slope, line.intercept))
    # A root's slope at 0 is infinite: intervals say more.
    return made if all(math.isfinite(float(part.abs().max())) for part in parts) else None
