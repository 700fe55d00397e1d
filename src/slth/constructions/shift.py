"""How far the inputs of a layer must be shifted so that none is negative, before anything is drawn.

A shift has to do for the ticket, whose values are not the target's: so it rests on the declared domain, or on the least
value of an activation, and on no weight. A certificate looks again (:mod:`slth.certify.shifted`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Node, Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer
from slth.source.scales import float32_above

MARGIN = 1.0 + 2.0**-6
"""Room for how exactly an activation's least value is known (chosen)."""

_FAR = 1e30
_UNBOUNDED = 1e7
"""An activation that is below the negative of this at -1e30 has no least value; no parameter of one is that large."""
_POINTS = 1024


def shifts(target: Target, domain: Domain) -> dict[str, float]:
    """A float32 shift for every layer whose input may have either sign.

    Raises
    ------
    ArgumentError
        If nothing is known of how small an input can be.
    """
    signs = target.input_signs(domain.sign)
    lows = {INPUT: -math.inf if domain.lower is None else float(domain.lower.min())}
    result = {}
    for node in target.graph:
        low = lows[node.source]
        lows[node.name] = _least(node, low)
        if node.op not in WEIGHT_OPERATORS or signs[node.name] is not Sign.SIGNED:
            continue
        if not math.isfinite(low):
            got = "a shift of inputs that may be of any size"
            need = "the domain of the network's input, and before other layers an activation that has a least value"
            raise ArgumentError(f"layer {node.name!r}", got, need, "--domain=-1,1, or --set signed=split")
        result[node.name] = float32_above(-low) or 1.0
    return result


def moved(layer: WeightLayer, shift: float) -> WeightLayer:
    """The layer that computes the same from x + shift, padded with the shift: its biases make up for it."""
    sums = layer.weight.detach().to(torch.float64).flatten(1).sum(dim=1)
    bias = torch.zeros_like(sums) if layer.bias is None else layer.bias.detach().to(torch.float64)
    return replace(layer, bias=bias - shift * sums)


def _least(node: Node, low: float) -> float:
    """A number that no output of a node is below, whatever any weights are, given such a one for its input."""
    operator = OPERATORS[node.op]
    if node.op in WEIGHT_OPERATORS:
        return -math.inf
    if not isinstance(operator, Elementwise):
        # Padding, of pooling too, may bring in zeros; nothing else leaves the range.
        pads = node.op == "pad" or any(node.attributes.get("padding", ()))
        return min(low, 0.0) if pads else low
    # Evenly spaced in orders of magnitude, closely where activations turn.
    grid = np.concatenate([np.geomspace(1e-3, 1e3, _POINTS), np.geomspace(1e3, _FAR, _POINTS)])
    grid = np.maximum(np.concatenate([grid, -grid, [0.0, low]]), max(low, -_FAR))
    least = float(operator.activation(node.attributes).value(grid).min())
    if not math.isfinite(low) and least < -_UNBOUNDED:
        return -math.inf
    return min(least * MARGIN, least)
