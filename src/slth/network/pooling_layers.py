"""Average pooling as a convolution: the same network with weight layers in its place.

Da Cunha, Natale and Viennot 2022 leave pooling out; a mean over windows of P entries is a convolution with the constant
kernel 1 / P, channel by channel. Directly behind one of the target's convolutions, of dilation 1, the two are one: of a
kernel K with stride s, and pooling of size p with stride t,

    K'[m] = 1 / P  sum over j in [0, p) of K[m - s j]

of size s (p - 1) + d for a K of size d, with stride s t and the convolution's padding. Elsewhere, and where the pooling
has padding, it is a weight layer of its own, in a group for each channel; behind what is never negative a ReLU follows,
which changes nothing and says so to the layer behind.

Means whose windows differ in size (``ceil_mode`` with windows that are cut off, padding that is not counted) are no
convolution, and stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.network.graph import INPUT, Graph, Node, Sign
from slth.network.operators import OPERATORS
from slth.network.target import Target, WeightLayer

FIXED, CONVOLUTION = "fixed", "convolution"
POOLING = (FIXED, CONVOLUTION)
"""What becomes of average pooling: the same in both networks, or weights to be found."""


@dataclass(frozen=True)
class _Step:
    """A node of the new graph, the one that it was, if any, and the pooling that is folded into it."""

    node: Node
    was: Node | None
    folded: tuple[Node, ...] = ()


def pooled(graph: Graph, pooling: str) -> Graph:
    """The graph with convolutions in place of average pooling, if that is wished.

    A layer of its own is called as the pooling was, the ReLU behind it ``NAME_relu`` (with underscores behind, where
    that is taken).

    Raises
    ------
    ArgumentError
        If there is no such way.
    """
    if pooling not in POOLING:
        raise ArgumentError("pooling", repr(pooling), " or ".join(POOLING), f"--set pooling={FIXED}")
    if pooling == FIXED:
        return graph
    return replace(graph, nodes=tuple(step.node for step in _steps(graph)))


def pool(target: Target, pooling: str) -> Target:
    """The target with convolutions in place of average pooling; it computes the same.

    New weights are sums in float64, rounded once, over P, rounded once more: by two halves of a unit in the last place,
    which the certificate's allowance for rounding has room for (see :mod:`slth.certify.affine`).

    Raises
    ------
    ArgumentError
        As :func:`pooled`.
    """
    graph = pooled(target.graph, pooling)
    if graph is target.graph:
        return target
    known = {layer.name: layer for layer in target}
    steps = {step.node.name: step for step in _steps(target.graph)}
    return replace(target, graph=graph, layers=tuple(_weighted(steps[node.name], known) for node in graph.weighted))


def places(graph: Graph, pooling: str) -> dict[str, tuple[str, ...]]:
    """What became of average pooling, in words, and of which; empty where nothing did."""
    if pooling == FIXED:
        return {}
    after = {node.name: node.op for node in pooled(graph, pooling)}
    words = {
        "conv": "layers of their own",
        None: "folded into the layer before",
        "average_pool": "kept, uneven windows",
    }
    means = [node.name for node in graph if node.op == "average_pool"]
    found = {text: tuple(name for name in means if after.get(name) == op) for op, text in words.items()}
    return {text: names for text, names in found.items() if names}


def _steps(graph: Graph) -> Iterator[_Step]:
    """The new graph's nodes, in the order of evaluation."""
    steps: dict[str, _Step] = {}
    now, signs = {INPUT: INPUT}, {INPUT: Sign.SIGNED}
    taken = {node.name for node in graph}
    for node in graph:
        signs[node.name] = _sign(node, [signs[source] for source in node.sources])
        sources = tuple(now[source] for source in node.sources)
        now[node.name] = node.name
        if node.op != "average_pool" or not _is_convolution(node, graph.shape_of(node.source)):
            steps[node.name] = _Step(replace(node, sources=sources), node)
            continue
        held = steps.get(sources[0])
        if held is not None and _folds(graph, held, node):
            steps[held.node.name] = _Step(_merged(held.node, node), held.was, (*held.folded, node))
            now[node.name] = held.node.name
            continue
        channels, *_ = graph.shape_of(node.source)
        steps[node.name] = _Step(Node(node.name, "conv", sources, _constant(node, channels), node.shape), None)
        if signs[node.source] is Sign.NONNEGATIVE:
            relu = now[node.name] = _free(taken, f"{node.name}_relu")
            steps[relu] = _Step(Node(relu, "relu", (node.name,), {}, node.shape), None)
    yield from steps.values()


def _sign(node: Node, read: Sequence[Sign]) -> Sign:
    """Of a node's output; of functions other than sums and concatenations nothing is known, as the format has it."""
    if node.op == "function" and node.attributes["function"] not in ("add", "cat"):
        return Sign.SIGNED
    return OPERATORS[node.op].signs(node.attributes, read)


def _is_convolution(node: Node, before: tuple[int, ...]) -> bool:
    """Whether all windows are of one size."""
    own = node.attributes
    whole = OPERATORS[node.op].shape({**own, "ceil_mode": False}, before) == node.shape
    return whole and (own["count_include_pad"] or not any(own["padding"]))


def _folds(graph: Graph, held: _Step, node: Node) -> bool:
    """Whether pooling is one with the convolution before it: its padding would be of what that makes."""
    if held.was is None or held.was.op != "conv" or any(node.attributes["padding"]):
        return False
    alone = len(graph.uses(held.was.weights)) == 1 and len(graph.consumers[node.source]) == 1
    return alone and set(held.was.attributes["dilation"]) == {1}


def _merged(layer: Node, node: Node) -> Node:
    own, window = layer.attributes, node.attributes
    outputs, inputs, *kernel = own["weight_shape"]
    sizes = (s * (p - 1) + d for s, p, d in zip(own["stride"], window["kernel"], kernel, strict=True))
    stride = tuple(s * t for s, t in zip(own["stride"], window["stride"], strict=True))
    return replace(
        layer, attributes={**own, "weight_shape": (outputs, inputs, *sizes), "stride": stride}, shape=node.shape
    )


def _constant(node: Node, channels: int) -> dict[str, Any]:
    own = node.attributes
    return {
        "weight_shape": (channels, 1, *own["kernel"]),
        "bias": False,
        "stride": own["stride"],
        "padding": tuple(width for size in reversed(own["padding"]) for width in (size, size)),
        "dilation": (1,) * len(own["kernel"]),
        "groups": channels,
    }


def _weighted(step: _Step, known: dict[str, WeightLayer]) -> WeightLayer:
    node = step.node
    if step.was is None:
        kernel = node.attributes["weight_shape"]
        return WeightLayer(node, torch.full(kernel, 1.0 / math.prod(kernel[2:]), dtype=torch.float64), None)
    layer, was = known[node.name], step.was
    if not step.folded:
        return replace(layer, node=node)
    weight = layer.weight.detach().to(torch.float64).numpy()
    sizes = np.abs(weight)
    for window in step.folded:
        stride, over = was.attributes["stride"], window.attributes["kernel"]
        weight, sizes = (_means(part, stride, over) for part in (weight, sizes))
        was = _merged(was, window)
    return WeightLayer(node, torch.from_numpy(weight), layer.bias, torch.from_numpy(sizes))


def _means(weight: NDArray[np.float64], stride: tuple[int, ...], over: tuple[int, ...]) -> NDArray[np.float64]:
    """K' of a kernel (outputs, inputs per group, *kernel), every sum rounded once."""
    outputs, inputs, *kernel = weight.shape
    made = np.zeros((outputs, inputs, *(s * (p - 1) + d for s, p, d in zip(stride, over, kernel, strict=True))))
    for tap in np.ndindex(*made.shape[2:]):
        axes = [
            [i for i in range(d) if (m - i) % s == 0 and 0 <= (m - i) // s < p]
            for m, s, p, d in zip(tap, stride, over, kernel, strict=True)
        ]
        terms = weight[np.ix_(range(outputs), range(inputs), *axes)].reshape(outputs * inputs, -1)
        sums = [math.fsum(row) for row in terms.tolist()]
        made[(slice(None), slice(None), *tap)] = np.reshape(sums, (outputs, inputs))
    return made / math.prod(over)


def _free(taken: set[str], name: str) -> str:
    """The name, with underscores behind it while a node has it or lies inside."""
    while any(f"{other}.".startswith(f"{name}.") for other in taken):
        name += "_"
    taken.add(name)
    return name
