"""Inputs by themselves: both networks evaluated, and how far that may be from exact.

At a point there is nothing to relax. The difference of the two outputs is computed, many inputs at a time, and only
rounding is bounded: with r the bound on what a computed value v is off by, after a layer

    |W| r + (n + 8) 2^-52 (|W| (|v| + r) + |b|),

n the number of products in a sum, and after an activation what :mod:`slth.certify.activation` says of two values that
are r apart. Of the ticket the slopes' own rounding (:attr:`~slth.realise.RealisedLayer.slack`) is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from slth.candidates import unfold
from slth.certify.maps import on_batch
from slth.certify.propagation import RULES
from slth.certify.state import UNIT, State, inflate
from slth.copies import CopiedLayer
from slth.network.graph import INPUT, Node, Sign
from slth.network.operators import OPERATORS
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer


@dataclass(frozen=True)
class Values:
    """Computed values of one network and how far the exact ones may be from them, (n, ...)."""

    value: torch.Tensor
    off: torch.Tensor


@dataclass(frozen=True)
class Outputs:
    """Both networks' outputs, (n, outputs)."""

    target: Values
    ticket: Values

    @property
    def components(self) -> torch.Tensor:
        """Bounds on |ticket's output - target's output|, for exact evaluation and for any in float64, (n, outputs)."""
        apart = (self.ticket.value - self.target.value).abs()
        # Twice: an evaluation in another order is off by as much as this one.
        return inflate(apart + 2 * (self.target.off + self.ticket.off), 4)


def exactly_known(target: Target, realised: Mapping[str, RealisedLayer], sign: Sign) -> bool:
    """Whether the ticket's layers are linear maps that are known up to rounding, for inputs of this sign."""
    own_target, own = unfold(target, realised)
    signs = own_target.input_signs(sign)
    return all(
        not isinstance(layer, CopiedLayer) and layer.bend.activation is None and layer.serves(signs[name])
        for name, layer in own.items()
    )


def evaluate(target: Target, realised: Mapping[str, RealisedLayer], inputs: torch.Tensor) -> Outputs:
    """Evaluate both networks on inputs (n, *input shape), float64, and bound the rounding.

    :func:`exactly_known` says whether it can be done.
    """
    target, realised = unfold(target, realised)
    layers = {layer.name: layer for layer in target}
    exact = Values(inputs, torch.zeros_like(inputs))
    known = {INPUT: (exact, exact)}
    with torch.no_grad():
        for node in target.graph:
            theirs, ours = known[node.source]
            if node.name in layers:
                layer, own = layers[node.name], realised[node.name]
                known[node.name] = _target_layer(node, layer, theirs), _ticket_layer(node, own, ours)
            else:
                known[node.name] = _without_weights(node, theirs), _without_weights(node, ours)
    made = known[target.graph.nodes[-1].name]
    theirs, ours = (Values(part.value.flatten(1), part.off.flatten(1)) for part in made)
    return Outputs(theirs, ours)


def _target_layer(node: Node, layer: WeightLayer, before: Values) -> Values:
    weight, bias_array = torch.from_numpy(layer.weight_array()), layer.bias_array()
    weight = weight.reshape(node.attributes["weight_shape"])
    bias = torch.zeros(len(weight), dtype=torch.float64) if bias_array is None else torch.from_numpy(bias_array)

    apply = on_batch(node)
    n_terms = weight[0].numel() + 2
    summed = weight.abs() if layer.summed is None else layer.summed
    sizes = inflate(apply(summed, before.value.abs() + before.off, bias.abs()), n_terms)
    carried = inflate(apply(weight.abs(), before.off), n_terms)
    # Terms for the rounding of weights of identity layers, see slth.network.deepen.
    return Values(apply(weight, before.value, bias), inflate(carried + (n_terms + 8) * UNIT * sizes, 4))


def _ticket_layer(node: Node, realised: RealisedLayer, before: Values) -> Values:
    """Each input times the slope for its sign; where the exact input may have the other one, both are as steep."""
    shape = node.attributes["weight_shape"]
    positive, negative, size, slack = (
        torch.from_numpy(part).reshape(shape)
        for part in (realised.positive, realised.negative, realised.size, realised.slack)
    )
    bias = torch.zeros(shape[0], dtype=torch.float64) if realised.bias is None else torch.from_numpy(realised.bias)
    bias_size = bias.abs() if realised.bias_size is None else torch.from_numpy(realised.bias_size)
    room = torch.zeros_like(bias) if realised.bias_slack is None else torch.from_numpy(realised.bias_slack)

    apply = on_batch(node)
    if realised.only is not None:
        positive = negative = positive if realised.only > 0 else negative
    gain = torch.maximum(positive.abs(), negative.abs())
    value = apply(positive, before.value.clamp(min=0), bias) + apply(negative, before.value.clamp(max=0))
    n_terms = max(2 * positive[0].numel() + 4, realised.n_terms + 4)
    reach = before.value.abs() + before.off
    largest = torch.maximum(gain, inflate(size, n_terms))
    sizes = inflate(apply(largest, reach, inflate(bias_size, n_terms)), n_terms)
    off = apply(gain, before.off) + apply(slack, reach, room)
    return Values(value, inflate(inflate(off, n_terms) + (n_terms + 8) * UNIT * sizes, 4))


def _without_weights(node: Node, before: Values) -> Values:
    module = OPERATORS[node.op].module(node.attributes)
    value = module(before.value)
    if node.op in ("max_pool", "reshape", "pad"):
        return Values(value, module(before.off))
    if node.op == "average_pool":
        n_terms = math.prod(node.attributes["kernel"]) + 1
        sizes = inflate(module(before.value.abs() + before.off), n_terms)
        return Values(value, inflate(module(before.off) + (n_terms + 8) * UNIT * sizes, n_terms))
    # Two values that are so far apart, each evaluated with the rounding that the rule allows for.
    after = RULES[node.op](node, State(before.value, before.value, before.off, False, False))
    return Values(value, inflate(after.error, 2))
