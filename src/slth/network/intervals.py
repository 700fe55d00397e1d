"""The sign of every value of a graph: what each operation says of it, and what intervals say where that is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from slth.network.graph import Graph, Node, Sign
from slth.network.operators import OPERATORS, WeightOperator
from slth.network.operators.activation import Elementwise
from slth.network.operators.ranges import ANYTHING, Range, hull, range_of

_MARGIN = 1e-6
"""A bound that is nearer to 0, but not 0, may be on either side of it by rounding (chosen)."""
_RANGES = {
    Sign.NONNEGATIVE: (0.0, math.inf),
    Sign.NONPOSITIVE: (-math.inf, 0.0),
    Sign.SIGNED: ANYTHING,
}


def value_signs(graph: Graph, kept: Mapping[str, torch.Tensor], input_sign: Sign) -> dict[str, Sign]:
    """For each node, and the input, what is known of the sign of its entries.

    Intervals follow saturating activations through sums, products and what else has a rule in
    :mod:`slth.network.operators.ranges`: ``sigmoid(x) - 1`` is never positive. Of weights nothing is used, so that what
    is found holds for every network of the graph.

    Parameters
    ----------
    graph : Graph
    kept : mapping of str to tensor
        The tensors that are part of every ticket as they are.
    input_sign : Sign
        Of the network's input.
    """
    signs, ranges = {"input": input_sign}, {"input": _RANGES[input_sign]}
    for node in graph:
        operator, read = OPERATORS[node.op], [ranges[source] for source in node.sources]
        sign = operator.signs(node.attributes, [signs[source] for source in node.sources])
        range_ = _meet(_range(graph, node, read, kept), _RANGES[sign])
        signs[node.name] = sign if sign is not Sign.SIGNED else _sign(range_)
        ranges[node.name] = range_
    return signs


def _range(graph: Graph, node: Node, read: list[Range], kept: Mapping[str, torch.Tensor]) -> Range:
    """Of what a node gives, by what it reads."""
    operator = OPERATORS[node.op]
    if node.name in kept:
        return float(kept[node.name].min()), float(kept[node.name].max())
    if isinstance(operator, Elementwise):
        phi = operator.activation(node.attributes)
        return (-phi.saturation, phi.saturation) if phi.proved else ANYTHING
    if node.op == "function":
        return range_of(node, read, [graph.layout_of(source) for source in node.sources])
    if isinstance(operator, WeightOperator) or node.op == "kept" or not read:
        return ANYTHING
    # What is left moves entries, takes the largest, or averages, with zeros at borders.
    return hull((0.0, 0.0), *read)


def _meet(one: Range, other: Range) -> Range:
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else ANYTHING


def _sign(range_: Range) -> Sign:
    low, high = range_
    if low == 0 or low > _MARGIN:
        return Sign.NONNEGATIVE
    return Sign.NONPOSITIVE if high == 0 or high < -_MARGIN else Sign.SIGNED
