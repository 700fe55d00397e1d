"""How far the inputs of a layer must be shifted so that none is negative, before anything is drawn.

A shift has to do for the ticket, whose values are not the target's: so it rests on the declared domain, or on the least
value of an activation or another function, and on no weight. A certificate looks again (:mod:`slth.certify.shifted`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from slth.activations import Activation
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Node, Sign
from slth.network.operators import OPERATORS, WeightOperator
from slth.network.operators.activation import Elementwise
from slth.network.operators.ranges import ANYTHING, Range, hull, range_of, reach_of
from slth.network.operators.signs import MOVES
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
    graph, signs = target.graph, target.input_signs(domain.sign)
    ranges = {INPUT: ANYTHING}
    if domain.lower is not None and domain.upper is not None:
        ranges[INPUT] = float(domain.lower.min()), float(domain.upper.max())
    result: dict[str, float] = {}
    for node in graph:
        read, operator = [ranges[source] for source in node.sources], OPERATORS[node.op]
        ranges[node.name] = _range(target, node, read)
        if not isinstance(operator, WeightOperator) or signs[node.weights] is not Sign.SIGNED:
            continue
        low = _least_read(operator, node, read)
        if not math.isfinite(low):
            got = "a shift of inputs that may be of any size"
            need = "the domain of the network's input, and before other layers an activation that has a least value"
            raise ArgumentError(f"layer {node.name!r}", got, need, "--domain=-1,1, or --set signed=split")
        if operator.core(node.attributes)[0] == "conv_transpose":
            got = "a shift of what a transposed convolution reads, which would add something else at the border"
            need = "another way for inputs of either sign"
            raise ArgumentError(f"layer {node.name!r}", got, need, "--set signed=split")
        result[node.weights] = max(result.get(node.weights, 0.0), float32_above(-low) or 1.0)
    return result


def moved(layer: WeightLayer, shift: float) -> WeightLayer:
    """The layer that computes the same from x + shift, padded with the shift: its biases make up for it."""
    sums = layer.weight.detach().to(torch.float64).flatten(1).sum(dim=1)
    bias = torch.zeros_like(sums) if layer.bias is None else layer.bias.detach().to(torch.float64)
    return replace(layer, bias=bias - shift * sums)


def _least_read(operator: WeightOperator, node: Node, read: Sequence[Range]) -> float:
    """A number that nothing that a layer's weights are multiplied by is below."""
    own = [reach_of(range_) for range_ in read]
    inner = operator.core_reach(node.attributes, own)
    return read[0][0] if len(read) == 1 and inner == own[0] else -inner


def _range(target: Target, node: Node, read: Sequence[Range]) -> Range:
    """Between which numbers a node's outputs are, whatever any weights are."""
    operator = OPERATORS[node.op]
    if isinstance(operator, WeightOperator):
        reach = operator.reach(node.attributes, [reach_of(range_) for range_ in read], math.inf)
        return -reach, reach
    if isinstance(operator, Elementwise):
        return _activated(operator.activation(node.attributes), read[0])
    if node.op == "kept":
        value = target.kept[node.name].to(torch.float64)
        return float(value.min()), float(value.max())
    if node.op == "function":
        found = range_of(node, read, [target.graph.layout_of(source) for source in node.sources])
        return _with_room(found) if node.attributes["function"] not in MOVES else found
    # Padding, of pooling too, may bring in zeros; nothing else leaves the range.
    pads = node.op == "pad" or any(node.attributes.get("padding", ()))
    return hull(*read, (0.0, 0.0)) if pads else hull(*read)


def _activated(phi: Activation, range_: Range) -> Range:
    """Least and largest value of an activation for numbers in a range."""
    low, high = range_
    # Evenly spaced in orders of magnitude, closely where activations turn.
    grid = np.concatenate([np.geomspace(1e-3, 1e3, _POINTS), np.geomspace(1e3, _FAR, _POINTS)])
    grid = np.clip(np.concatenate([grid, -grid, [0.0, low, high]]), max(low, -_FAR), min(high, _FAR))
    values = phi.value(grid)
    least, most = float(values.min()), float(values.max())
    if not math.isfinite(low) and least < -_UNBOUNDED:
        least = -math.inf
    if not math.isfinite(high) and most > _UNBOUNDED:
        most = math.inf
    return _with_room((least, most))


def _with_room(range_: Range) -> Range:
    """With room for how exactly its ends are known."""
    low, high = range_
    return min(low * MARGIN, low), max(high * MARGIN, high)
