"""Largest entries, sorted entries, norms and deviations along axes.

The largest entry, the k-th largest, and every norm change by no more than the entries do: |max s - max t| <= max |e|,
and | |s| - |t| | <= |e| in the same norm. A standard deviation is a norm too, of what is left of the numbers without
their mean, and no larger than that of the numbers.

A deviation is computed in two passes or by Welford's algorithm (Chan, Golub & LeVeque 1983): with a = 4 (n + 8) units
and M the largest number, its square is off by at most a (v + M sqrt(v)) + a^2 M^2, and the deviation itself by 2 a
(sqrt(v) + M).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from slth.certify.functions.algebra import outward, square
from slth.certify.functions.call import Call
from slth.certify.functions.elementwise import larger
from slth.certify.functions.moves import Rule
from slth.certify.state import TINY, State, inflate


def largest(call: Call, states: Sequence[State]) -> State | None:
    """The largest (or smallest) of some entries, not its place."""
    if call.source("other") is not None:
        return larger(call, states)
    if call.output > 0:
        return None
    state = states[0]
    least = call.name in ("amin", "min")
    error = -call([-state.error]) if least else call([state.error])
    return State(call([state.lower]), call([state.upper]), error, False, False)


def pooled(call: Call, states: Sequence[State]) -> State | None:
    """The largest entry of each window; nothing wins against the padding."""
    if call.output > 0:
        return None
    return states[0].each(lambda part: call([part]))


def ordered(call: Call, states: Sequence[State]) -> State | None:
    """Entries along an axis in order: none changes by more than the one that changes most."""
    if call.output > 0:
        return None
    state = states[0]
    made = call([state.lower])
    most = state.error.amax(dim=call.arguments.get("dim", -1), keepdim=True)
    return State(made, call([state.upper]), most.expand(made.shape), False, False)


def norm(call: Call, states: Sequence[State]) -> State | None:
    """A norm along axes, of order 1, 2 or infinity."""
    order = call.number("ord", "p")
    if order not in (None, 1.0, 2.0, math.inf) or not call.is_none("dtype"):
        return None
    state = states[0]
    least = torch.maximum(state.lower, -state.upper).clamp(min=0)
    reach = inflate(state.magnitude + state.error, 2)
    n_terms = state.lower.numel() // max(1, call([least]).numel()) + 4
    high, error = (inflate(call([part]), n_terms) for part in (state.magnitude, state.error))
    # Squares that underflow leave nothing of an entry.
    rounding = (n_terms + 8) * call.unit * inflate(call([reach]), n_terms) + n_terms * _underflow(call)
    return outward(call([least]), high, rounding, error)


def _underflow(call: Call) -> float:
    """Below it a number's square is none."""
    return 1e-145 if call.unit < 1e-12 else 1e-15


def deviation(call: Call, states: Sequence[State]) -> State | None:
    """The standard deviation of the middle of all bounds, and at most as far from it as deviations may be apart."""
    if call.output >= 0:
        return None
    state, unit = states[0], call.unit
    axes = call.axes("dim", state.lower.dim())
    count = math.prod(state.lower.shape[axis] for axis in axes)
    less = call.number("correction")
    less = (0.0 if call.arguments.get("unbiased") is False else 1.0) if less is None else less
    if count - less <= 0:
        return None
    keep = bool(call.arguments.get("keepdim", False))

    def length(part: torch.Tensor) -> torch.Tensor:
        """Square root of the sum of squares over count less the correction, rounded upward."""
        total = inflate(part.square().sum(dim=axes, keepdim=keep), count)
        return inflate((total / (count - less)).sqrt(), 4)

    centre, radius = (state.lower + state.upper) / 2, inflate((state.upper - state.lower) / 2, 2)
    reach = inflate(state.magnitude + state.error, 2)
    most = reach.amax(dim=axes, keepdim=keep)
    middle = (centre - centre.mean(dim=axes, keepdim=True)).square().sum(dim=axes, keepdim=keep)
    middle = (middle / (count - less)).sqrt()
    spread = length(radius)
    size = inflate(middle + spread + length(inflate(state.error, 2)), 4) + count**0.5 * most
    rounding = 8 * (count + 8) * unit * size + _underflow(call)
    high = middle + spread
    made = outward((middle - spread).clamp(min=0), high, rounding, length(inflate(state.error, 2)))
    return State(made.lower.clamp(min=0), made.upper, made.error, True, False)


def variance(call: Call, states: Sequence[State]) -> State | None:
    """The square of the deviation, which is rounded to it with half of its relative error."""
    made = deviation(call, states)
    return None if made is None else square(made, call.unit)


def log_of_sums(call: Call, states: Sequence[State]) -> State | None:
    """log sum exp: no farther off than the entry that is farthest."""
    state = states[0]
    axes = call.axes("dim", state.lower.dim())
    keep = bool(call.arguments.get("keepdim", False))
    low, high = call([state.lower]), call([state.upper])
    n_terms = state.lower.numel() // max(1, low.numel()) + 4
    reach = torch.maximum(low.abs(), high.abs()) + inflate(state.magnitude + state.error, 2).amax(
        dim=axes, keepdim=keep
    )
    rounding = (n_terms + 32) * call.unit * (1 + reach) + TINY
    return outward(low, high, rounding, state.error.amax(dim=axes, keepdim=keep))


MAX_POOLS = tuple(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))

RULES: dict[str, Rule] = {
    **dict.fromkeys(("amax", "amin", "max", "min"), largest),
    **dict.fromkeys((*MAX_POOLS, "max_pool2d_with_indices"), pooled),
    **dict.fromkeys(("topk", "sort"), ordered),
    **dict.fromkeys(("norm", "linalg_vector_norm"), norm),
    "std": deviation,
    "var": variance,
    "logsumexp": log_of_sums,
}
"""By function."""
