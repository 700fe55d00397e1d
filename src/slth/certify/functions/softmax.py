"""Softmax and attention.

With p the target's probabilities, d the difference of the logits and P any set of entries, p'(P) = s(l + r) where s is
the logistic function, l = log(p(P) / (1 - p(P))) and r the difference of two weighted means of e^d, in and outside P,
of their logarithms: |r| <= delta_in + delta_out, the largest |d| on either side. So for one entry

    |p'_i - p_i| <= (delta_i + max over j != i of delta_j) sup of q (1 - q) over all q that p_i passes on the way,

and, p'(P) - p(P) being at most s(delta) - s(-delta) = tanh(delta / 2) for any P, the differences of all entries add up
to at most 2 tanh(delta / 2) <= delta, delta the largest |d|.

A sum of v_j p_j changes by sum p'_j (v'_j - v_j), at most the largest difference of a v_j, and by sum (p'_j - p_j)
(v_j - c) for any c, as the p_j add up to 1 in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from slth.certify.functions.algebra import outward, product, selected, total
from slth.certify.functions.call import Call
from slth.certify.functions.moves import Rule
from slth.certify.functions.products import bilinear
from slth.certify.state import TINY, UNIT, State, constant, inflate


def softmax(call: Call, states: Sequence[State]) -> State | None:
    """Probabilities along an axis."""
    kind = call.arguments.get("dtype")
    if kind is not None and kind != {"dtype": "float"}:
        return None
    return probabilities(states[0], int(call.arguments["dim"]), call.unit)


def probabilities(state: State, dim: int, unit: float) -> State:
    """Of logits, along an axis of whole tensors; -infinity is a probability of 0."""
    error = inflate(state.error, 2)
    low, high = ends(state.lower, state.upper, dim)
    below, above = (
        state.lower - error - 4 * UNIT * state.lower.abs(),
        state.upper + error + 4 * UNIT * state.upper.abs(),
    )
    # Where an entry is left out, it is in both networks.
    out = (state.upper == -math.inf) & torch.isfinite(state.error)
    below, above = (torch.where(out, -math.inf, part) for part in (below, above))
    least, most = ends(below, above, dim)
    n = state.lower.shape[dim]
    reach = torch.where(out, 0.0, torch.maximum(below.abs(), above.abs()))
    # exp(x - max): a difference that is rounded, its exponential, a sum of n (in blocks, of which each may be rescaled
    # when a larger maximum is met) and a quotient.
    rounding = (2 * n + 64) * unit * (1 + 2 * reach.amax(dim=dim, keepdim=True)) * most + TINY
    q = torch.where((least <= 0.5) & (most >= 0.5), 0.25, torch.maximum(least * (1 - least), most * (1 - most)))
    shift = inflate(error + _largest_of_others(error, dim), 2)
    moved = shift * (q + 8 * UNIT)
    whole = inflate(most - least, 4)
    both = torch.minimum(inflate(moved, 8), whole)
    # Between 0 and 1, whatever the logits are, as long as they are numbers.
    made = outward(low, high, rounding, both)
    return State(made.lower.clamp(min=0), made.upper.clamp(max=1 + 64 * unit), made.error, True, False)


def ends(low: torch.Tensor, high: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest probability: the entry at one end, all others at the other; moved outward by rounding.

    That is the logistic function of the entry less log sum exp of the others, so that nothing underflows on the way.
    """
    others = [_log_of_others(part, dim) for part in (high, low)]
    reach = [torch.where(torch.isinf(part), 0.0, part.abs()).amax(dim=dim, keepdim=True) for part in (low, high)]
    room = (low.shape[dim] + 64) * UNIT * (2 + math.log(low.shape[dim]) + 2 * torch.maximum(*reach))
    least, most = torch.sigmoid(low - others[0]), torch.sigmoid(high - others[1])
    return (least * (1 - room)).clamp(min=0), (most * (1 + 2 * room) + TINY).clamp(max=1)


def _log_of_others(part: torch.Tensor, dim: int) -> torch.Tensor:
    """log sum exp of what is before an entry and of what is behind it."""
    n, nothing = part.shape[dim], torch.full_like(part.narrow(dim, 0, 1), -math.inf)
    before, behind = (
        torch.cat([nothing, turned.logcumsumexp(dim=dim).narrow(dim, 0, n - 1)], dim)
        for turned in (part, part.flip(dim))
    )
    return torch.logaddexp(before, behind.flip(dim))


def _largest_of_others(parts: torch.Tensor, dim: int) -> torch.Tensor:
    n = parts.shape[dim]
    if n == 1:
        return torch.zeros_like(parts)
    two = parts.topk(2, dim=dim).values
    first, second = two.narrow(dim, 0, 1), two.narrow(dim, 1, 1)
    return torch.where(
        parts == first, torch.where((parts == first).sum(dim=dim, keepdim=True) > 1, first, second), first
    )


def log_softmax(call: Call, states: Sequence[State]) -> State | None:
    """z_i - log sum exp z; off by at most delta_i and the largest delta."""
    kind = call.arguments.get("dtype")
    if kind is not None and kind != {"dtype": "float"}:
        return None
    state, dim = states[0], int(call.arguments["dim"])
    error = inflate(state.error, 2)
    low = state.lower - torch.logaddexp(state.lower, _log_of_others(state.upper, dim))
    high = state.upper - torch.logaddexp(state.upper, _log_of_others(state.lower, dim))
    n = state.lower.shape[dim]
    reach = torch.maximum(state.lower.abs(), state.upper.abs()) + error
    rounding = (n + 64) * call.unit * (2 + math.log(n) + 4 * reach.amax(dim=dim, keepdim=True))
    moved = error + error.amax(dim=dim, keepdim=True)
    made = outward(low, high, rounding.expand(low.shape), inflate(moved, 4))
    return State(made.lower, made.upper.clamp(max=1.0), made.error, False, False)


def attention(call: Call, states: Sequence[State]) -> State | None:
    """softmax(Q K^T scale + mask) V."""
    query, key, value = (call.state(states, name) for name in ("query", "key", "value"))
    if query is None or key is None or value is None or (call.number("dropout_p") or 0.0) > 0:
        return None
    if call.arguments.get("enable_gqa"):
        return None
    scale = call.number("scale")
    scale = query.lower.shape[-1] ** -0.5 if scale is None else scale
    scores = bilinear(torch.matmul, query, _turned(key), call.unit)
    # torch multiplies query and key by the root of the scale each: a few roundings more.
    scores = product(scores, _rounded(scale, call.unit), call.unit)
    masked = _masked(call, states, scores)
    return None if masked is None else _mixed(masked, value, call.unit)


def _rounded(number: float, unit: float) -> State:
    """A number that is computed by a few operations."""
    made = constant(torch.tensor(number, dtype=torch.float64))
    return State(made.lower, made.upper, 8 * unit * made.magnitude, made.nonnegative, made.nonpositive)


def _turned(state: State) -> State:
    return state.each(lambda part: part.transpose(-1, -2))


def _masked(call: Call, states: Sequence[State], scores: State) -> State | None:
    """Scores with a mask: True where an entry counts, or numbers that are added."""
    if call.arguments.get("is_causal"):
        allowed = torch.ones(scores.lower.shape[-2:], dtype=torch.bool).tril()
        return selected(allowed, scores, _left_out())
    if call.is_none("attn_mask"):
        return scores
    mask = call.state(states, "attn_mask")
    if mask is None:
        return None
    if mask.exact is None:
        return total([scores, mask], call.unit)
    if mask.exact.dtype == torch.bool:
        return selected(mask.exact, scores, _left_out())
    kept = ~torch.isinf(mask.lower)
    finite = State.of([torch.where(kept, part, 0.0) for part in (mask.lower, mask.upper, mask.error)])
    return selected(kept, total([scores, finite], call.unit), _left_out())


def _left_out() -> State:
    ends = torch.tensor(-math.inf, dtype=torch.float64)
    return State(ends, ends, torch.zeros_like(ends), False, True)


def _mixed(scores: State, value: State, unit: float) -> State:
    """Sums of the rows of V with probabilities along the last axis of the scores; see the module's docstring."""
    weights = probabilities(scores, -1, unit)
    plain = bilinear(torch.matmul, weights, value, unit)
    low, high = value.lower.amin(dim=-2, keepdim=True), value.upper.amax(dim=-2, keepdim=True)
    centre = (low + high) / 2
    distance = inflate(torch.maximum((value.upper - centre).abs(), (value.lower - centre).abs()), 4)
    delta = torch.where(scores.upper == -math.inf, 0.0, scores.error).amax(dim=-1, keepdim=True)
    turned = inflate(2 * torch.tanh(inflate(delta, 2) / 2), 64) * distance.amax(dim=-2, keepdim=True)
    moved = torch.minimum(torch.matmul(weights.error, distance), turned)
    n = value.lower.shape[-2]
    reach = (value.magnitude + value.error).amax(dim=-2, keepdim=True)
    # Probabilities that are computed add up to 1 within their own rounding.
    rounding = (n + 64) * unit * reach * (1 + _size(scores))
    error = inflate(inflate(moved, n) + value.error.amax(dim=-2, keepdim=True), 4)
    within = outward(low.expand(plain.lower.shape), high.expand(plain.lower.shape), rounding, error)
    low, high = torch.maximum(plain.lower, within.lower), torch.minimum(plain.upper, within.upper)
    return State.of([low, high, torch.minimum(plain.error, within.error)])


def _size(scores: State) -> torch.Tensor:
    """How large the scores are that count."""
    reach = torch.where(scores.upper == -math.inf, 0.0, scores.magnitude + scores.error)
    return reach.amax(dim=-1, keepdim=True)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("softmax", "_softmax"), softmax),
    **dict.fromkeys(("log_softmax", "_log_softmax"), log_softmax),
    "scaled_dot_product_attention": attention,
}
"""By function."""
