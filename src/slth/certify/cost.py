"""About how long linear bounds take: an estimate to choose by."""

from __future__ import annotations

import math
from collections.abc import Mapping

from slth.candidates import unfold
from slth.copies import CopiedLayer
from slth.network.graph import Node
from slth.network.target import Target
from slth.realise import RealisedLayer

PRODUCTS_A_SECOND = 8e9
"""Of float64 matrix products (fitted on two cores)."""
ENTRIES_A_SECOND = 5e6
"""Coefficients carried through one node (fitted on two cores)."""
_TILE = 3
_WAYS = 4
"""Objectives for each entry: the largest and the least value, and difference."""


def linear_seconds(target: Target, realised: Mapping[str, RealisedLayer]) -> float:
    """About how long the relaxation of one region takes on two cores.

    Every entry of every weight layer has objectives that are carried back to the input: through all of a dense layer,
    and of maps through the part that it reads.
    """
    target, realised = unfold(target, realised)
    nodes = {node.name: node for node in target.graph}
    products = entries = 0.0
    for layer in target.layers:
        if isinstance(realised[layer.name], CopiedLayer):
            continue
        rows = _WAYS * math.prod(layer.node.shape)
        current: Node | None = layer.node
        sides = [min(_TILE, size) for size in layer.node.shape[1:]] if layer.node.op == "conv" else None
        while current is not None:
            share = 1.0 if sides is None else math.prod(sides) / math.prod(current.shape[1:])
            outputs = share * math.prod(current.shape)
            entries += rows * outputs
            if "weight_shape" in current.attributes and current is not layer.node:
                products += 2 * rows * outputs * math.prod(current.attributes["weight_shape"][1:])
            sides = _read(current, sides, nodes)
            current = nodes.get(current.source)
    return products / PRODUCTS_A_SECOND + entries / ENTRIES_A_SECOND


def _read(node: Node, sides: list[int] | None, nodes: Mapping[str, Node]) -> list[int] | None:
    """How much of the map before it a part of a node's map reads; None for all of it."""
    if sides is None or node.source not in nodes or node.op == "reshape":
        return None
    kernel = node.attributes.get("kernel") or node.attributes.get("weight_shape", (1, 1))[2:]
    if not kernel:
        return sides
    n = len(kernel)
    stride, dilation = (node.attributes.get(name, (1,) * n) for name in ("stride", "dilation"))
    before = nodes[node.source].shape[1:]
    reached = [
        (side - 1) * step + (width - 1) * apart + 1
        for side, step, width, apart in zip(sides, stride, kernel, dilation, strict=True)
    ]
    return [min(side, size) for side, size in zip(reached, before, strict=True)]
