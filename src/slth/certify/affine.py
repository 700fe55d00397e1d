"""Bounds through weight layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slth.certify.factors import Factors
from slth.certify.maps import Apply, on_one
from slth.certify.state import UNIT, State, inflate
from slth.network.graph import Node
from slth.network.target import WeightLayer
from slth.realise import RealisedLayer


def affine(
    node: Node, state: State, layer: WeightLayer, realised: RealisedLayer, factors: Factors | None = None
) -> State:
    """One step of the recursion of section 0.3, row by row instead of in a norm.

    With A >= |ticket weight| and D >= |ticket weight - weight| entrywise, over the signs that the input can have,

        error_out <= A error_in + |(ticket weight - weight) c| + D |x - c| + |bias error|,

    because the ticket's map is A-Lipschitz entry by entry and x is bounded on the target's side. Where x has one sign,
    so that its slope is known, c is the middle of these bounds, elsewhere 0: behind a ReLU the errors of weights nearly
    cancel at c, and |x - c| is half of |x|. Twice the rounding of one evaluation in float64 is added, once for each
    network; it covers every form of the ticket's module.
    """
    return affine_and_rounding(node, state, layer, realised, factors)[0]


def affine_and_rounding(
    node: Node, state: State, layer: WeightLayer, realised: RealisedLayer, factors: Factors | None = None
) -> tuple[State, torch.Tensor]:
    """As :func:`affine`, and the part of the error that twice the rounding of one evaluation is.

    ``factors`` are the layer's, where they are at hand.
    """
    factors = factors or Factors(layer, realised)
    signs = state.nonnegative, state.nonpositive
    gain, deviation = factors.gain_and_deviation(signs)
    slack, largest = factors.slack, factors.largest(signs)
    # How far the source's own activation is from its lines, for inputs as large as the ticket's may be.
    bent = factors.bent(float((state.magnitude + state.error).max()))
    if bent is not None:
        gain, deviation, slack = gain + bent, deviation + bent, slack + bent
        largest = torch.maximum(largest, gain)

    apply = on_one(node)
    n_terms = factors.n_terms
    middles, rest = _middles(state, factors)
    if middles:
        parts = [(factors.difference(branch), middle) for branch, middle in middles.items()]
        known = at_middles(apply, parts, factors.shift, deviation, slack, factors.shift_slack, n_terms)
        off = apply(deviation, rest) + known
    else:
        off = apply(deviation, rest, factors.offset)
    error = inflate(apply(gain, state.error) + off, n_terms + 4)
    sizes = inflate(apply(largest, state.magnitude + state.error, factors.constant), n_terms)
    rounding = (n_terms + 8) * UNIT * sizes
    middle = apply(factors.weight, (state.lower + state.upper) / 2, factors.bias)
    radius = inflate(apply(factors.weight_size, (state.upper - state.lower) / 2), n_terms) + rounding
    return State(middle - radius, middle + radius, inflate(error + 2 * rounding, 2), False, False), 2 * rounding


def at_middles(
    apply: Apply,
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    shift: torch.Tensor,
    deviation: torch.Tensor,
    slack: torch.Tensor,
    shift_slack: torch.Tensor,
    n_terms: int,
) -> torch.Tensor:
    """Bound on |sum of difference times middle, + shift|, where each is known up to its slack.

    No difference is larger than its deviation, from which rounding is bounded.
    """
    total, size = shift, torch.zeros_like(parts[0][1])
    for number, (difference, middle) in enumerate(parts):
        own = apply(difference, middle, None if number else shift)
        total, size = own if number == 0 else total + own, size + middle.abs()
    unit = (n_terms + 8) * UNIT
    return total.abs() + apply(slack, size, shift_slack + unit * shift.abs()) + unit * apply(deviation, size)


def middle_and_rest(state: State, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Middles of the entries whose slope is known, 0 elsewhere, and how far the entries may be from that."""
    middle = torch.where(known, (state.lower + state.upper) / 2, 0.0)
    apart = inflate((state.upper - state.lower) / 2 + 4 * UNIT * state.magnitude, 4)
    return middle, torch.where(known, apart, state.magnitude)


def _middles(state: State, factors: Factors) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """By the sign for which a slope holds the middles of the entries that have it, and how far entries may be apart."""
    positive, negative = state.lower >= 0, state.upper <= 0
    if state.nonnegative or state.nonpositive:
        positive, negative = (torch.full_like(positive, flag) for flag in (state.nonnegative, state.nonpositive))
    only = factors.realised.only
    if only is not None:
        # Neurons read several inputs, which must all have that sign.
        all_of_it = state.nonnegative if only > 0 else state.nonpositive
        known = {only: torch.full_like(positive, all_of_it)}
    elif factors.one_branch:
        known = {1: torch.ones_like(positive)}
    else:
        known = {1: positive, -1: negative & ~positive}
    if not factors.has_differences:
        return {}, state.magnitude
    middles, rest = {}, state.magnitude
    for branch, entries in known.items():
        if bool(entries.any()):
            middles[branch], apart = middle_and_rest(state, entries)
            rest = torch.where(entries, apart, rest)
    return middles, rest
