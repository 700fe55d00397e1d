"""Bounds through weight layers."""

from __future__ import annotations

import math

import torch

from slth.certify.state import UNIT, State, inflate
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import WeightLayer
from slth.realise import RealisedLayer


def affine(node: Node, state: State, layer: WeightLayer, realised: RealisedLayer) -> State:
    """One step of the recursion of section 0.3, row by row instead of in a norm.

    With A >= |ticket weight| and D >= |ticket weight - weight| entrywise, over the signs that the input can have,

        error_out <= A error_in + D |x| + |bias error|,

    because the ticket's map is A-Lipschitz entry by entry and x is bounded on the target's side. Twice the rounding of
    one evaluation in float64 is added, once for each network; it covers every form of the ticket's module.
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
    # How far the source's own activation is from its lines, for inputs as large as the ticket's may be.
    share = realised.bend.share(float((state.magnitude + state.error).max()))
    if share:
        bent = inflate(torch.from_numpy(realised.size) * share, realised.n_terms)
        gain, deviation = gain + bent, deviation + bent
    offset, constant = torch.zeros_like(bias), bias.abs()
    bias_deviation, bias_slack = realised.bias_deviation(bias_array), realised.bias_slack
    if bias_deviation is not None and bias_slack is not None:
        offset = inflate(torch.from_numpy(bias_deviation) + torch.from_numpy(bias_slack), 2)
    if realised.bias_size is not None:
        constant = torch.maximum(constant + offset, inflate(torch.from_numpy(realised.bias_size), realised.n_terms))

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return operator.apply(node.attributes, x[None], matrix.reshape(shape), constant)[0]

    # A folded map with two branches adds twice as many products as one; the pruned source adds all that survive.
    n_terms = max(2 * math.prod(weight.shape[1:]) + 2, realised.n_terms + 2)
    largest = torch.maximum(torch.maximum(gain, weight.abs()), inflate(torch.from_numpy(realised.size), n_terms))
    error = inflate(apply(gain, state.error) + apply(deviation, state.magnitude, offset), n_terms)
    sizes = inflate(apply(largest, state.magnitude + state.error, constant), n_terms)
    rounding = (n_terms + 8) * UNIT * sizes
    middle = apply(weight, (state.lower + state.upper) / 2, bias)
    radius = inflate(apply(weight.abs(), (state.upper - state.lower) / 2), n_terms) + rounding
    return State(middle - radius, middle + radius, inflate(error + 2 * rounding, 2), False, False), 2 * rounding


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
