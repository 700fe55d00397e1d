"""How far the inputs of a layer must be shifted so that none is negative, before anything is drawn.

The bounds are those of interval arithmetic on the target, with one number for all entries of a tensor. Nothing rests on
them: a certificate looks again at how small the ticket's own values can be (:mod:`slth.certify.shifted`).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Node, Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer

MARGIN = 1.0 + 2.0**-6
"""Room for what the ticket's values are off by, behind the first weight layer (chosen)."""

_FAR = 1e30
_UNBOUNDED = 1e7
"""An activation that is below this at -1e30 has no least value; no parameter of one is that large."""
_POINTS = 1024

Interval = tuple[float, float]


def shifts(target: Target, domain: Domain) -> dict[str, float]:
    """A float32 shift for every layer whose input may have either sign.

    Raises
    ------
    ArgumentError
        If nothing is known of how small an input can be.
    """
    signs = target.input_signs(domain.sign)
    lows = _lows(target, domain)
    result = {}
    for layer in target:
        if signs[layer.name] is not Sign.SIGNED:
            continue
        low = lows[layer.name]
        if not math.isfinite(low):
            got, remedy = "inputs of any size, which no shift makes positive", "--domain=-1,1, or --set signed=split"
            raise ArgumentError(f"layer {layer.name!r}", got, "the domain of the network's input", remedy)
        result[layer.name] = _float32_above(-low) or 1.0
    return result


def moved(layer: WeightLayer, shift: float) -> WeightLayer:
    """The layer that computes the same from x + shift, padded with the shift: its biases make up for it."""
    sums = layer.weight.detach().to(torch.float64).flatten(1).sum(dim=1)
    bias = torch.zeros_like(sums) if layer.bias is None else layer.bias.detach().to(torch.float64)
    return WeightLayer(layer.node, layer.weight, bias - shift * sums)


def _float32_above(value: float) -> float:
    rounded = np.float32(value)
    return float(rounded if float(rounded) >= value else np.nextafter(rounded, np.float32(np.inf)))


def _lows(target: Target, domain: Domain) -> dict[str, float]:
    """For each weight layer a number that no entry of its input is below; minus infinity where there is none."""
    bounds = (-math.inf, math.inf)
    if domain.lower is not None and domain.upper is not None:
        bounds = (float(domain.lower.min()), float(domain.upper.max()))
    found: dict[str, Interval] = {INPUT: bounds}
    layers = {layer.name: layer for layer in target}
    lows, margin = {}, 1.0
    for node in target.graph:
        low, high = found[node.source]
        if node.name in layers:
            lows[node.name] = low * margin if low < 0.0 else low
            margin = MARGIN
            found[node.name] = _weighted(layers[node.name], low, high)
        else:
            found[node.name] = _passed(node, low, high)
    return lows


def _weighted(layer: WeightLayer, low: float, high: float) -> Interval:
    if any(WEIGHT_OPERATORS[layer.node.op].padding(layer.node.attributes)):
        low, high = min(low, 0.0), max(high, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        return -math.inf, math.inf
    weight, bias = layer.weight_array(), layer.bias_array()
    up, down = np.maximum(weight, 0.0).sum(axis=(1, 2)), np.minimum(weight, 0.0).sum(axis=(1, 2))
    offset = np.zeros(len(up)) if bias is None else bias
    return float((up * low + down * high + offset).min()), float((up * high + down * low + offset).max())


def _passed(node: Node, low: float, high: float) -> Interval:
    operator = OPERATORS[node.op]
    if not isinstance(operator, Elementwise):
        # Padding, of pooling too, may bring in zeros; nothing else leaves the range.
        pads = node.op == "pad" or any(node.attributes.get("padding", ()))
        return (min(low, 0.0), max(high, 0.0)) if pads else (low, high)
    phi = operator.activation(node.attributes)
    first, last = max(low, -_FAR), min(high, _FAR)
    # Evenly between the ends, and closer and closer to 0, where activations turn.
    grid = np.concatenate([np.linspace(first, last, _POINTS), np.geomspace(1e-3, 1e3, _POINTS)])
    grid = np.unique(np.clip(np.concatenate([grid, -grid, [0.0]]), first, last))
    values = phi.value(grid)
    bottom, top = float(values.min()), float(values.max())
    return (
        -math.inf if low == -math.inf and bottom < -_UNBOUNDED else bottom,
        math.inf if high == math.inf and top > _UNBOUNDED else top,
    )
