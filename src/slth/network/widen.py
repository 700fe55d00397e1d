"""The graph of a network in which every channel occurs several times, and constant channels besides.

Copy k of channel c is channel c m + k, and the constant channels come last. Operations without weights work channel by
channel, so that they stay what they are; a flattened map of P positions has entry (c m + k) P + p. In a sum the copies
of both terms line up (:mod:`slth.network.streams`). Behind the last weight layers there are no copies: what is read
there of something with copies is the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slth.network.graph import Graph, Layout, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise
from slth.network.streams import FLAT, ROWS, Streams, Value, refuse, streams


@dataclass(frozen=True)
class CopyLayout:
    """What one weight layer reads and makes.

    Attributes
    ----------
    copies_in, copies_out : int
        Of every input and of every output channel; 0 copies of inputs that come from the network's input alone.
    constants_in, constants_out : int
        Constant channels.
    positions : int
        Entries of a channel that a flatten has put one after another, of which each is an input of its own.
    constant_tap : int
        The tap at which constant channels are read: one that never sees padding.
    makes_constants : bool
        Whether its constant channels hold constants; else zeros, as another layer makes those of the sum that it is in.
    """

    copies_in: int
    copies_out: int
    constants_in: int
    constants_out: int
    positions: int
    constant_tap: int
    makes_constants: bool

    @property
    def reads_copies(self) -> bool:
        """Whether it is one source layer, and not two."""
        return self.copies_in > 0


@dataclass(frozen=True)
class Widened:
    """A graph with copies.

    Attributes
    ----------
    graph : Graph
        Nodes of the same names, and for first copies that are read without the others nodes that take them.
    layouts : tuple of CopyLayout
        For each weight layer.
    """

    graph: Graph
    layouts: tuple[CopyLayout, ...]


def widen(graph: Graph, copies: Sequence[int]) -> Widened:
    """The graph in which weight layer l reads ``copies[l]`` copies of every channel, if it reads copies at all.

    Layers make as many constant channels as copies where a layer with a bias follows.

    Raises
    ------
    ArgumentError
        If a layer has groups or weights of another layer, an operation between layers would mix copies or change
        constants, or layers that read the same ask for different numbers of copies.
    """
    known = streams(graph)
    numbers = known.copies(copies)
    constants = known.constants(numbers)
    nodes: dict[str, Node] = {}
    layouts: list[CopyLayout] = []
    for node in graph:
        if node.op in WEIGHT_OPERATORS:
            layouts.append(_layout(known, node, len(layouts), numbers, constants))
            nodes[node.name] = _widened(graph, nodes, node, _weighted(node, layouts[-1]))
        elif known.values[node.name].kind:
            _check_zeros(node, constants[_stream(known, node.name)])
            nodes[node.name] = _widened(graph, nodes, node, _reshaped(graph, nodes, node))
        else:
            firsts = [_first_copy(known, nodes, source, numbers, constants) for source in node.sources]
            nodes[node.name] = replace(node, sources=tuple(firsts))
    return Widened(replace(graph, nodes=tuple(nodes.values())), tuple(layouts))


def _stream(known: Streams, name: str) -> int:
    stream = known.of(name)
    assert stream is not None
    return stream


def _layout(
    known: Streams, node: Node, number: int, copies: Mapping[int, int], constants: Mapping[int, int]
) -> CopyLayout:
    own, read = known.of_layer[number], known.of(node.source)
    made = copies[own], constants[own], number in known.makers
    if read is None:
        return CopyLayout(0, made[0], 0, made[1], 1, 0, made[2])
    tap = _inner_tap(known.graph, node) if constants[read] and node.op != "linear" else 0
    positions = known.values[node.source].positions
    return CopyLayout(copies[read], made[0], constants[read], made[1], positions, tap, made[2])


def _widened(graph: Graph, nodes: Mapping[str, Node], node: Node, attributes: Mapping[str, object]) -> Node:
    """The node with other attributes, on what it reads now."""
    before = [nodes[source].layout if source in nodes else graph.layout_of(source) for source in node.sources]
    if node.op == "function" or isinstance(OPERATORS[node.op], Elementwise):
        return replace(node, shape=before[0].shape)
    layout: Layout = OPERATORS[node.op].layout(attributes, before)
    return replace(node, attributes=attributes, shape=layout.shape)


def _reshaped(graph: Graph, nodes: Mapping[str, Node], node: Node) -> Mapping[str, object]:
    """Attributes of an operation without weights: a reshape knows its shape."""
    if node.op != "reshape":
        return node.attributes
    before = nodes[node.source].shape
    return {"shape": before if node.shape == graph.shape_of(node.source) else (math.prod(before),)}


def _first_copy(
    known: Streams, nodes: dict[str, Node], name: str, copies: Mapping[int, int], constants: Mapping[int, int]
) -> str:
    """What is read where there are no copies: a node that takes the first copy, if there are more, or constants."""
    stream = known.of(name)
    if stream is None or (copies[stream] == 1 and not constants[stream]):
        return name
    value, shape = known.values[name], known.graph.shape_of(name)
    if value.kind == FLAT and value.positions != 1:
        refuse(known.graph.by_name[name], "flattened maps that the output is made of too", "layers alone behind them")
    first = _free(known.graph, f"{name}_first")
    nodes[first] = Node(first, "function", (name,), _slice(value, shape, copies[stream]), shape)
    return first


def _slice(value: Value, shape: tuple[int, ...], copies: int) -> dict[str, object]:
    axis = len(shape) if value.kind == ROWS else 1
    arguments = {"self": {"source": 0}, "dim": axis, "start": 0, "end": shape[axis - 1] * copies, "step": copies}
    return {"function": "slice", "arguments": arguments, "output": -1, "batch": ()}


def _free(graph: Graph, name: str) -> str:
    """The name, with underscores behind it while a node or a module of the graph has it."""
    while any(f"{node.name}.".startswith(f"{name}.") for node in graph):
        name += "_"
    return name


def _inner_tap(graph: Graph, node: Node) -> int:
    """The tap nearest to the middle of those that read no padding at any position."""
    kernel, padding = node.attributes["weight_shape"][2:], node.attributes["padding"]
    sizes = graph.shape_of(node.source)[1:]
    tap = 0
    for axis, (length, stride, dilation, size) in enumerate(
        zip(kernel, node.attributes["stride"], node.attributes["dilation"], sizes, strict=True)
    ):
        before = padding[2 * (len(kernel) - 1 - axis)]
        furthest = (node.shape[1 + axis] - 1) * stride
        inside = [t for t in range(length) if t * dilation >= before and furthest + t * dilation - before < size]
        if not inside:
            refuse(node, "a bias, and no tap that never reads padding", "a tap for the constants that make the bias")
        tap = tap * length + min(inside, key=lambda t: (abs(2 * t + 1 - length), t))
    return tap


def _weighted(node: Node, layout: CopyLayout) -> dict[str, object]:
    outputs, inputs, *kernel = node.attributes["weight_shape"]
    rows = outputs * layout.copies_out + layout.constants_out
    if not layout.reads_copies:
        bias = node.attributes["bias"] or (layout.constants_out > 0 and layout.makes_constants)
        return {**node.attributes, "weight_shape": (rows, inputs, *kernel), "bias": bias}
    columns = inputs * layout.copies_in + layout.constants_in * layout.positions
    return {**node.attributes, "weight_shape": (rows, columns, *kernel), "bias": False}


def _check_zeros(node: Node, constants: int) -> None:
    """Refuse what puts zeros beside constants."""
    attributes = node.attributes
    zeros = node.op == "pad" and attributes["mode"] == "constant" and max(attributes["widths"]) > 0
    if constants and (zeros or (attributes.get("count_include_pad", False) and any(attributes["padding"]))):
        refuse(node, "zeros beside the constant channels that make the biases", "padding in the convolution itself")
