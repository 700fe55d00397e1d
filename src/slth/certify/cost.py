"""About how long linear bounds take: an estimate to choose by."""

from __future__ import annotations

import math
from collections.abc import Mapping

from slth.candidates import unfold
from slth.certify.expand import expanded
from slth.certify.maps import AFFINE
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
    target = expanded(target)
    graph = target.graph
    products = entries = 0.0
    for start in graph.nodes:
        if start.op not in AFFINE and not (len(start.sources) > 1 and start.attributes.get("function") in _ADDED):
            continue
        if start.op in AFFINE and isinstance(realised[start.weights], CopiedLayer):
            continue
        rows = _WAYS * _size(start)
        first = [min(_TILE, size) for size in start.shape[1:]] if start.op == "conv" else None
        reached: dict[str, list[int] | None] = {start.name: first}
        for node in reversed(graph.nodes[: graph.nodes.index(start) + 1]):
            if node.name not in reached:
                continue
            sides = reached[node.name]
            share = 1.0 if sides is None else math.prod(sides) / math.prod(node.shape[1:])
            outputs = share * _size(node)
            entries += rows * outputs
            if node.op in AFFINE and node is not start:
                products += 2 * rows * outputs * math.prod(node.attributes["weight_shape"][1:])
            for source in node.sources:
                reached[source] = _around(reached.get(source, []), _read(node, source, sides, graph.by_name))
    return products / PRODUCTS_A_SECOND + entries / ENTRIES_A_SECOND


_ADDED = ("add", "sub", "mul")


def _size(node: Node) -> int:
    return math.prod(node.layout.whole(1))


def _around(one: list[int] | None, other: list[int] | None) -> list[int] | None:
    """Sides of what holds two parts of a map; None for all of it."""
    if one is None or other is None or (one and len(one) != len(other)):
        return None
    return [max(a, b) for a, b in zip(one, other, strict=True)] if one else other


def _read(node: Node, source: str, sides: list[int] | None, nodes: Mapping[str, Node]) -> list[int] | None:
    """How much of the map before it a part of a node's map reads; None for all of it."""
    if sides is None or source not in nodes or node.op == "reshape":
        return None
    before = nodes[source].shape[1:]
    if len(before) != len(sides):
        return None
    kernel = node.attributes.get("kernel") or node.attributes.get("weight_shape", (1, 1))[2:]
    if not kernel or len(kernel) != len(sides):
        return [min(side, size) for side, size in zip(sides, before, strict=True)]
    n = len(kernel)
    stride, dilation = (node.attributes.get(name, (1,) * n) for name in ("stride", "dilation"))
    reached = [
        (side - 1) * step + (width - 1) * apart + 1
        for side, step, width, apart in zip(sides, stride, kernel, dilation, strict=True)
    ]
    return [min(side, size) for side, size in zip(reached, before, strict=True)]
