"""Sums, differences and multiples, and means with fixed weights: linear functions of what they read.

A mean with weights that are not negative maps bounds to bounds and errors to errors. It is off by at most n units of
the mean of |x| + |e|, n being the number of its terms; weights that are computed (interpolation) are off by a unit for
each position, which counts with the largest number that is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slth.certify.functions.algebra import inverse, negative, outward, product, quotient, square, total
from slth.certify.functions.call import Call
from slth.certify.functions.moves import Rule
from slth.certify.state import TINY, State, inflate


def add(call: Call, states: Sequence[State]) -> State | None:
    """x + alpha y."""
    return _sum(call, states, call.state(states, "self"), call.state(states, "other"))


def subtract(call: Call, states: Sequence[State]) -> State | None:
    """x - alpha y."""
    other = call.state(states, "other")
    return _sum(call, states, call.state(states, "self"), None if other is None else negative(other))


def subtract_from(call: Call, states: Sequence[State]) -> State | None:
    """y - alpha x."""
    one = call.state(states, "self")
    return _sum(call, states, call.state(states, "other"), None if one is None else negative(one))


def _sum(call: Call, states: Sequence[State], one: State | None, other: State | None) -> State | None:
    alpha = call.number("alpha")
    if one is None or other is None or (alpha is None and not call.is_none("alpha")):
        return None
    if alpha not in (None, 1):
        other = product(other, call.known(alpha or 0.0), call.unit)
    return total([one, other], call.unit)


def negate(call: Call, states: Sequence[State]) -> State | None:
    """-x."""
    return negative(states[0])


def multiply(call: Call, states: Sequence[State]) -> State | None:
    """x y, of one value with itself a square."""
    one, other = call.state(states, "self"), call.state(states, "other")
    if one is None or other is None:
        return None
    if call.source("self") == call.source("other"):
        return square(one, call.unit)
    return product(one, other, call.unit)


def divide(call: Call, states: Sequence[State]) -> State | None:
    """x / y, without rounding to whole numbers."""
    one, other = call.state(states, "self"), call.state(states, "other")
    if one is None or other is None or call.arguments.get("rounding_mode") is not None:
        return None
    return quotient(one, other, call.unit)


def reciprocal(call: Call, states: Sequence[State]) -> State | None:
    """1 / x."""
    return inverse(states[0], call.unit)


def mixed(call: Call, states: Sequence[State]) -> State | None:
    """(1 - w) x + w y: with w between 0 and 1 no larger, and no farther off, than the larger of both.

    It changes by (1 - w') e_x + w' e_y + e_w (y - x), whose first part is largest at an end of the ticket's w'.
    """
    one, other, weight = call.state(states, "self", "input"), call.state(states, "end"), call.state(states, "weight")
    if one is None or other is None or weight is None:
        return None
    low, high, apart = [], [], torch.maximum(other.upper - one.lower, one.upper - other.lower).clamp(min=0)
    for w in (weight.lower, weight.upper):
        parts = ((1 - w) * one.lower, (1 - w) * one.upper), (w * other.lower, w * other.upper)
        low.append(torch.minimum(*parts[0]) + torch.minimum(*parts[1]))
        high.append(torch.maximum(*parts[0]) + torch.maximum(*parts[1]))
    errors = [inflate(state.error, 2) for state in (one, other, weight)]
    ends = [weight.lower - errors[2], weight.upper + errors[2]]
    if call.within is not None:
        ends = [end.clamp(-64 * call.unit, 1 + 64 * call.unit) for end in ends]
    moved = torch.maximum(*((1 - w).abs() * errors[0] + w.abs() * errors[1] for w in ends))
    reach = sum((state.magnitude + state.error for state in (one, other)), torch.zeros(()))
    rounding = 8 * call.unit * reach * (1 + weight.magnitude + weight.error) + TINY
    error = inflate(moved + inflate(apart, 4) * errors[2], 8)
    return outward(torch.minimum(*low), torch.maximum(*high), rounding, error)


def averaged(call: Call, states: Sequence[State]) -> State | None:
    """A mean or a sum, of numbers that are summed up with weights of 0 and 1, or weights that add up to 1."""
    if call.arguments.get("divisor_override") is not None or not call.is_none("dtype"):
        return None
    state = states[0]
    made = call([state.lower])
    n_terms = _terms(call, state, made)
    reach = inflate(call([state.magnitude + state.error]), n_terms)
    rounding = (n_terms + 8) * call.unit * reach + TINY * n_terms
    return outward(made, call([state.upper]), rounding, inflate(call([state.error]), n_terms))


def _terms(call: Call, state: State, made: torch.Tensor) -> int:
    """How many numbers are added up at most."""
    if call.name in ("sum", "mean"):
        return -(-state.lower.numel() // max(1, made.numel())) + 2
    if call.name == "cumsum":
        return max(state.lower.shape, default=1) + 2
    return state.lower[0].numel() + 2


def interpolated(call: Call, states: Sequence[State]) -> State | None:
    """Between neighbours, with weights that are not negative and add up to 1, computed from positions."""
    state = states[0]
    most = (state.magnitude + state.error).amax()
    rounding = 4 * (state.lower[0].numel() + 64) * call.unit * most
    made = call([state.lower])
    error = inflate(call([state.error]), 64) + rounding
    return outward(made, call([state.upper]), rounding.expand(made.shape), error)


POOLS = tuple(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))
INTERPOLATIONS = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
LINEAR = frozenset({"sum", "mean", "cumsum", *POOLS, *INTERPOLATIONS})
"""Functions that are linear in the only value that they read, and never turn its sign."""

RULES: dict[str, Rule] = {
    "add": add,
    "sub": subtract,
    "rsub": subtract_from,
    "neg": negate,
    "mul": multiply,
    **dict.fromkeys(("div", "true_divide"), divide),
    "reciprocal": reciprocal,
    "lerp": mixed,
    **dict.fromkeys(("sum", "mean", "cumsum", *POOLS), averaged),
    **dict.fromkeys(INTERPOLATIONS, interpolated),
}
"""By function."""
