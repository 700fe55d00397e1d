"""The same network with more layers: identity layers in front of a weight layer.

Burkholz 2022 (excess depth): behind an activation phi that leaves its own values as they are, phi(phi(x)) = phi(x), a
layer W = I without bias, and phi again, change nothing. ReLU and hardtanh (ReLU6) are such. Of LeakyReLU with slope a
below 0, x = (phi(x) - phi(-x)) / (1 + a) for inputs of either sign (Lemma 2.4): the first identity layer makes x and
-x of every channel, and the layer behind them reads both with weights +-W / (1 + a).

Differs: other activations are refused. They are lines only near 0, so that x would have to be scaled down and the
weights behind it up; the network would be another one, and tolerances of weights would mean something else.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch

from slth.errors import ArgumentError
from slth.network.chain import broken_at
from slth.network.graph import Graph, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise
from slth.network.streams import streams
from slth.network.target import Target, WeightLayer

LARGEST_EXTRA_DEPTH = 256
"""Identity layers that may be added (chosen)."""

_CARRIED = {
    "relu": ("max_pool", "average_pool"),
    # A mean may be rounded to a number beyond the bound.
    "hardtanh": ("max_pool",),
    # The largest of -x is not minus the largest of x.
    "leaky_relu": ("average_pool",),
}
"""Activations that allow identity layers, and the pooling behind them behind which they still do."""


@dataclass(frozen=True)
class _Place:
    """Where identity layers go: behind the node ``after``, in front of the weight layer ``before`` (their numbers)."""

    after: int
    before: int
    activation: Node
    over_maps: bool

    @property
    def slope_sum(self) -> float | None:
        """1 + a of LeakyReLU; None where one channel is enough."""
        return 1.0 + float(self.activation.attributes["slope"]) if self.activation.op == "leaky_relu" else None


def deepened(graph: Graph, extra_depth: int) -> Graph:
    """The graph with so many identity layers more, each followed by the activation again.

    They lie in front of the last weight layer before which that is possible, behind the activation and the pooling that
    follow on it, and are called ``identity_1`` and so on (with underscores behind, where that is taken).

    Raises
    ------
    ArgumentError
        If the number is out of range, the graph is no chain or none in which copies can be carried, or no activation
        between two weight layers allows it.
    """
    if isinstance(extra_depth, bool) or not isinstance(extra_depth, int) or not 0 <= extra_depth <= LARGEST_EXTRA_DEPTH:
        raise ArgumentError("extra_depth", repr(extra_depth), f"a whole number from 0 to {LARGEST_EXTRA_DEPTH}")
    if extra_depth == 0:
        return graph
    branch = broken_at(graph)
    if branch is not None:
        need = "a chain of layers, each reading the one before it, for extra depth"
        raise ArgumentError(f"node {branch[0].name!r}", branch[1], need, "no extra depth")
    place = _place(graph)
    streams(graph)
    nodes = list(graph.nodes[: place.after + 1])
    pairs, channels = place.slope_sum is not None, _channels(nodes[-1], place)
    for number in range(1, extra_depth + 1):
        inputs = 2 * channels if pairs and number > 1 else channels
        shape = (2 * channels if pairs else channels, inputs)
        _next(nodes, _free(graph, f"identity_{number}"), *_identity(nodes[-1], place, shape))
        again = place.activation
        _next(nodes, _free(graph, f"identity_{number}_{again.op}"), again.op, dict(again.attributes))
    for number, node in enumerate(graph.nodes[place.after + 1 :], place.after + 1):
        if number > place.before:
            nodes.append(node)
            continue
        attributes = dict(node.attributes)
        if pairs and number < place.before and node.op == "reshape":
            attributes["shape"] = (2 * attributes["shape"][0],)
        if pairs and number == place.before:
            outputs, inputs, *kernel = attributes["weight_shape"]
            attributes["weight_shape"] = (outputs, 2 * inputs, *kernel)
        _next(nodes, node.name, node.op, attributes)
    return replace(graph, nodes=tuple(nodes))


def deepen(target: Target, extra_depth: int) -> Target:
    """The target with so many identity layers more; it computes the same.

    Exactly, where activations are idempotent. Where channels are doubled, the weights +-W / (1 + a) are rounded to
    float64: by two halves of a unit in the last place, which the certificate's allowance for rounding has room for (see
    :mod:`slth.certify.affine`).

    Raises
    ------
    ArgumentError
        As :func:`deepened`.
    """
    graph = deepened(target.graph, extra_depth)
    if extra_depth == 0:
        return target
    place = _place(target.graph)
    known = {layer.name: layer for layer in target}
    head, total = target.graph.nodes[place.before].name, place.slope_sum
    layers = []
    for node in graph:
        if node.op not in WEIGHT_OPERATORS:
            continue
        if node.name not in known:
            layers.append(WeightLayer(node, _identity_weight(node, total, target.dtype), None))
            continue
        layer = replace(known[node.name], node=node)
        if node.name == head and total is not None:
            half = layer.weight.to(torch.float64) / total
            layer = replace(layer, weight=torch.cat([half, -half], dim=1))
        layers.append(layer)
    return replace(target, graph=graph, layers=tuple(layers))


def _place(graph: Graph) -> _Place:
    """Of the last weight layer before which identity layers are possible.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    weighted = [number for number, node in enumerate(graph) if node.op in WEIGHT_OPERATORS]
    for first, before in reversed(list(itertools.pairwise(weighted))):
        for number in range(before - 1, first, -1):
            activation, after = graph.nodes[number], number
            if activation.op not in _CARRIED:
                continue
            while graph.nodes[after + 1].op in _CARRIED[activation.op]:
                after += 1
            flattened = any(node.op == "reshape" for node in graph.nodes[first + 1 : after + 1])
            place = _Place(after, before, activation, graph.nodes[first].op != "linear" and not flattened)
            if place.slope_sum is None or _keeps_pairs(place, graph):
                return place
    found = sorted({node.op for node in graph if isinstance(OPERATORS[node.op], Elementwise)})
    raise ArgumentError(
        "extra_depth",
        f"a network with {', '.join(found) or 'no activation'} between its weight layers",
        "relu, hardtanh or leaky_relu between two of them: other activations are no identity on what they give",
        "no extra depth",
    )


def _keeps_pairs(place: _Place, graph: Graph) -> bool:
    """Whether the two halves of doubled channels reach the next weight layer as they are, and add up to x there."""
    head, behind = graph.nodes[place.before], graph.nodes[place.after + 1 : place.before]
    if place.slope_sum == 0.0 or WEIGHT_OPERATORS[head.op].groups(head.attributes) != 1:
        return False
    for node in behind:
        flat = node.op == "reshape" and len(node.shape) == 1
        inside = node.op == "pad" and len(node.attributes["widths"]) <= 2 * (len(node.shape) - 1)
        if not (place.over_maps and (flat or inside or node.op == "average_pool")):
            return False
    return True


def _channels(node: Node, place: _Place) -> int:
    return node.shape[0] if place.over_maps else node.shape[-1]


def _identity(node: Node, place: _Place, shape: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """Operation and attributes of an identity layer: of one tap, where there are maps."""
    if not place.over_maps:
        return "linear", {"weight_shape": shape, "bias": False}
    n = len(node.shape) - 1
    ones = (1,) * n
    geometry = {"stride": ones, "padding": (0,) * (2 * n), "dilation": ones, "groups": 1}
    return "conv", {"weight_shape": (*shape, *ones), "bias": False, **geometry}


def _identity_weight(node: Node, slope_sum: float | None, dtype: torch.dtype) -> torch.Tensor:
    outputs, inputs, *kernel = node.attributes["weight_shape"]
    if slope_sum is None:
        return torch.eye(outputs, dtype=dtype).reshape(outputs, inputs, *kernel)
    one = torch.eye(outputs // 2, dtype=torch.float64)
    weight = torch.cat([one, -one])
    if inputs == outputs:
        weight = torch.cat([weight, -weight], dim=1) / slope_sum
    return weight.reshape(outputs, inputs, *kernel)


def _next(nodes: list[Node], name: str, op: str, attributes: dict[str, Any]) -> None:
    """Append a node that reads the last one."""
    layout = OPERATORS[op].layout(attributes, [nodes[-1].layout])
    nodes.append(Node(name, op, (nodes[-1].name,), attributes, layout.shape, layout.batched))


def _free(graph: Graph, name: str) -> str:
    """The name, with underscores behind it while a node or a module of the graph has it."""
    taken = {node.name.split(".")[0] for node in graph}
    while name in taken:
        name += "_"
    return name
