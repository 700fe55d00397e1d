"""Bounds through weight layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slth.certify.state import UNIT, State, inflate
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import WeightLayer
from slth.realise import RealisedLayer


def affine(node: Node, state: State, layer: WeightLayer, realised: RealisedLayer) -> State:
    """One step of the recursion of section 0.3, row by row instead of in a norm.

    With A >= |ticket weight| and D >= |ticket weight - weight| entrywise, over the signs that the input can have,

        error_out <= A error_in + |(ticket weight - weight) c| + D |x - c| + |bias error|,

    because the ticket's map is A-Lipschitz entry by entry and x is bounded on the target's side. Where x has one sign,
    so that its slope is known, c is the middle of these bounds, elsewhere 0: behind a ReLU the errors of weights nearly
    cancel at c, and |x - c| is half of |x|. Twice the rounding of one evaluation in float64 is added, once for each
    network; it covers every form of the ticket's module.
    """
    return affine_and_rounding(node, state, layer, realised)[0]


def affine_and_rounding(
    node: Node, state: State, layer: WeightLayer, realised: RealisedLayer
) -> tuple[State, torch.Tensor]:
    """As :func:`affine`, and the part of the error that twice the rounding of one evaluation is."""
    operator = WEIGHT_OPERATORS[node.op]
    shape = node.attributes["weight_shape"]
    weight = torch.from_numpy(layer.weight_array())
    bias_array = layer.bias_array()
    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if bias_array is None else torch.from_numpy(bias_array)
    gain, deviation = _gain_and_deviation(state, weight, realised)
    slack = torch.from_numpy(realised.slack)
    # How far the source's own activation is from its lines, for inputs as large as the ticket's may be.
    share = realised.bend.share(float((state.magnitude + state.error).max()))
    if share:
        bent = inflate(torch.from_numpy(realised.size) * share, realised.n_terms)
        gain, deviation, slack = gain + bent, deviation + bent, slack + bent
    offset, constant, shift = torch.zeros_like(bias), bias.abs(), torch.zeros_like(bias)
    bias_deviation, bias_slack = realised.bias_deviation(bias_array), realised.bias_slack
    if bias_deviation is not None and bias_slack is not None:
        offset = inflate(torch.from_numpy(bias_deviation) + torch.from_numpy(bias_slack), 2)
    if realised.bias is not None:
        shift = torch.from_numpy(realised.bias) - bias
    if realised.bias_size is not None:
        constant = torch.maximum(constant + offset, inflate(torch.from_numpy(realised.bias_size), realised.n_terms))

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return operator.apply(node.attributes, x[None], matrix.reshape(shape), constant)[0]

    # A folded map with two branches adds twice as many products as one; the pruned source adds all that survive.
    n_terms = max(2 * math.prod(weight.shape[1:]) + 2, realised.n_terms + 2)
    largest = torch.maximum(torch.maximum(gain, weight.abs()), inflate(torch.from_numpy(realised.size), n_terms))
    middles, rest = _middles(state, realised)
    if middles:
        parts = [(realised.difference(weight.numpy(), branch), middle) for branch, middle in middles.items()]
        room = torch.zeros_like(bias) if bias_slack is None else torch.from_numpy(bias_slack)
        off = apply(deviation, rest) + at_middles(apply, parts, shift, deviation, slack, room, n_terms)
    else:
        off = apply(deviation, rest, offset)
    error = inflate(apply(gain, state.error) + off, n_terms + 4)
    sizes = inflate(apply(largest, state.magnitude + state.error, constant), n_terms)
    rounding = (n_terms + 8) * UNIT * sizes
    middle = apply(weight, (state.lower + state.upper) / 2, bias)
    radius = inflate(apply(weight.abs(), (state.upper - state.lower) / 2), n_terms) + rounding
    return State(middle - radius, middle + radius, inflate(error + 2 * rounding, 2), False, False), 2 * rounding


Apply = Callable[..., torch.Tensor]
"""A matrix of the layer's shape on inputs, and a constant if there is a third argument."""


def at_middles(
    apply: Apply,
    parts: Sequence[tuple[NDArray[np.float64] | None, torch.Tensor]],
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
        assert difference is not None
        own = apply(torch.from_numpy(difference), middle, None if number else shift)
        total, size = own if number == 0 else total + own, size + middle.abs()
    unit = (n_terms + 8) * UNIT
    return total.abs() + apply(slack + unit * deviation, size, shift_slack + unit * shift.abs())


def middle_and_rest(state: State, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Middles of the entries whose slope is known, 0 elsewhere, and how far the entries may be from that."""
    middle = torch.where(known, (state.lower + state.upper) / 2, 0.0)
    apart = inflate((state.upper - state.lower) / 2 + 4 * UNIT * state.magnitude, 4)
    return middle, torch.where(known, apart, state.magnitude)


def _middles(state: State, realised: RealisedLayer) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """By the sign for which a slope holds the middles of the entries that have it, and how far entries may be apart."""
    positive, negative = state.lower >= 0, state.upper <= 0
    if state.nonnegative or state.nonpositive:
        positive, negative = (torch.full_like(positive, flag) for flag in (state.nonnegative, state.nonpositive))
    if realised.only is not None:
        # Neurons read several inputs, which must all have that sign.
        all_of_it = state.nonnegative if realised.only > 0 else state.nonpositive
        known = {realised.only: torch.full_like(positive, all_of_it)}
    elif realised.one_branch:
        known = {1: torch.ones_like(positive)}
    else:
        known = {1: positive, -1: negative & ~positive}
    if realised.difference(realised.positive, realised.only or 1) is None:
        return {}, state.magnitude
    middles, rest = {}, state.magnitude
    for branch, entries in known.items():
        if bool(entries.any()):
            middles[branch], apart = middle_and_rest(state, entries)
            rest = torch.where(entries, apart, rest)
    return middles, rest


def _gain_and_deviation(
    state: State, weight: torch.Tensor, realised: RealisedLayer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest |ticket weight| and |ticket weight - weight| over the signs that the input can have."""
    gain, deviation = torch.zeros_like(weight), torch.zeros_like(weight)
    slack = torch.from_numpy(realised.slack)
    for branch, impossible in ((1, state.nonpositive), (-1, state.nonnegative)):
        if impossible:
            continue
        # Where neurons read several inputs, slopes for the other sign may have as many roundings as the layer has.
        n_terms = 2 if realised.only in (None, branch) else realised.n_terms
        own = torch.from_numpy(realised.gain(branch))
        off = torch.from_numpy(realised.deviation(weight.numpy(), branch))
        gain = torch.maximum(gain, inflate(own + slack, n_terms))
        deviation = torch.maximum(deviation, inflate(off + slack, n_terms))
    return gain, deviation
