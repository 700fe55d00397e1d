"""Which layers' outputs meet in a network of copies, before any number of copies is known.

Where the outputs of several layers are added up, x + f(x), copy k of one is added to copy k of the other: all of them
need the same number of copies, and so do all layers that read such a sum. Layers whose outputs meet, directly or over
other sums, are a stream. Constant channels add up as well, so that one layer of a sum is enough to make them, and the
others have zeros there; more than one may have to where somebody reads them before they are added. What no weight
layer comes behind needs neither: it is computed from the first copies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from slth.errors import ArgumentError
from slth.network.graph import INPUT, Graph, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise

FLAT, MAPS, ROWS = "flat", "maps", "rows"
"""Where the channels are: the only axis, the first of several, or the last of several."""
_POOLING = ("max_pool", "average_pool", "pad")


@dataclass(frozen=True)
class Value:
    """What a node gives.

    Attributes
    ----------
    kind : str
        Where its channels are; empty where there are no copies, before the first weight layers and behind the last.
    positions : int
        Entries of a channel that a flatten has put one after another.
    layers : frozenset of int
        Numbers of the weight layers whose outputs, behind operations on each channel by itself, it is the sum of.
    """

    kind: str = ""
    positions: int = 1
    layers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Streams:
    """What every node of a graph gives, and which layers' outputs meet.

    Attributes
    ----------
    graph : Graph
    values : mapping of str to Value
        By node, the network's input included.
    of_layer : tuple of int
        For each weight layer its stream, called by its first layer's number.
    makers : frozenset of int
        Layers that make constant channels.
    """

    graph: Graph
    values: Mapping[str, Value]
    of_layer: tuple[int, ...]
    makers: frozenset[int]

    def of(self, name: str) -> int | None:
        """The stream of a node's output, or None where there are no copies."""
        layers = self.values[name].layers
        return self.of_layer[min(layers)] if layers else None

    def even(self, sizes: Sequence[int]) -> list[int]:
        """One number a layer, and in place of the numbers of copies that layers of a stream read, the largest."""
        read = [self.of(node.source) for node in self.graph.weighted]
        largest = {stream: max(n for n, own in zip(sizes, read, strict=True) if own == stream) for stream in set(read)}
        return [n if stream is None else largest[stream] for n, stream in zip(sizes, read, strict=True)]

    def copies(self, sizes: Sequence[int]) -> dict[int, int]:
        """Of each stream, from the number of copies that each layer reads; what nobody reads has one.

        Raises
        ------
        ArgumentError
            If two layers read different numbers of copies of one stream.
        """
        found: dict[int, int] = {}
        for node, size in zip(self.graph.weighted, sizes, strict=True):
            stream = self.of(node.source)
            if stream is not None and found.setdefault(stream, size) != size:
                got = f"{size} copies, and {found[stream]} of what meets them in a sum or is read beside it"
                raise ArgumentError(f"layer {node.name!r}", got, "as many copies")
        return {stream: found.get(stream, 1) for stream in self.of_layer}

    def constants(self, copies: Mapping[int, int]) -> dict[int, int]:
        """Constant channels of each stream: as many as copies where some layer makes any."""
        making = {self.of_layer[number] for number in self.makers}
        return {stream: n if stream in making else 0 for stream, n in copies.items()}


def streams(graph: Graph) -> Streams:
    """What meets in a network whose layers are to make copies.

    Raises
    ------
    ArgumentError
        If an operation does not work on each channel by itself, naming the node.
    """
    values, before = {INPUT: Value()}, _before_layers(graph)
    numbers = {node.name: number for number, node in enumerate(graph.weighted)}
    parent = list(range(len(numbers)))

    def find(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for node in graph:
        read = [values[source] for source in node.sources]
        value = values[node.name] = _value(graph, node, read, numbers) if node.name in before else Value()
        for number in value.layers:
            one, other = sorted((find(min(value.layers)), find(number)))
            parent[other] = one
    found = tuple(map(find, parent))
    return Streams(graph, values, found, _makers(graph, values))


def _before_layers(graph: Graph) -> set[str]:
    """Weight layers, and what one of them comes behind."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op in WEIGHT_OPERATORS or node.name in found:
            found |= {node.name, *node.sources}
    return found


def _value(graph: Graph, node: Node, read: Sequence[Value], numbers: Mapping[str, int]) -> Value:
    """What a node gives, from what it reads."""
    if node.op in WEIGHT_OPERATORS:
        _check_layer(node, read)
        kind = MAPS if node.op == "conv" else FLAT if len(node.shape) == 1 else ROWS
        return Value(kind, 1, frozenset({numbers[node.name]}))
    if not any(value.kind for value in read):
        return Value()
    if node.op == "function":
        return _sum(graph, node, read)
    (value,) = read
    source = graph.shape_of(node.source)
    if isinstance(OPERATORS[node.op], Elementwise):
        return value
    if node.op == "reshape":
        if node.shape == source:
            return value
        if not (value.kind == MAPS and len(node.shape) == 1):
            refuse(node, f"a reshape from {source} to {node.shape}", "a plain flatten of (channels, positions)")
        return Value(FLAT, math.prod(source[1:]), value.layers)
    inside = node.op != "pad" or len(node.attributes["widths"]) <= 2 * (len(source) - 1)
    if node.op not in _POOLING or value.kind != MAPS or not inside:
        refuse(node, f"{node.op} along the channels", "an operation on each channel by itself")
    return value


def _check_layer(node: Node, read: Sequence[Value]) -> None:
    if node.op not in ("linear", "conv"):
        refuse(node, f"a layer of the kind {node.op}", "Linear layers and convolutions")
    if node.layer:
        refuse(node, f"the weights of {node.layer!r} once more", "weights that are used once")
    if not node.batched:
        refuse(node, "values without the batch axis in front", "the batch axis in front of all values")
    groups = WEIGHT_OPERATORS[node.op].groups(node.attributes)
    if groups != 1:
        refuse(node, f"a convolution in {groups} groups", "one group")
    (value,) = read
    if value.kind and (node.op == "linear") != (value.kind != MAPS):
        refuse(node, "a layer over another axis than the channels of the layer before", "a flatten between them")


def _sum(graph: Graph, node: Node, read: Sequence[Value]) -> Value:
    """x + y of two values of one shape, each with its copies."""
    if not _is_sum(node):
        need = "activations, pooling and sums of two values between layers, and no other function"
        refuse(node, f"the function {node.attributes['function']}", need)
    alone = [source for source, value in zip(node.sources, read, strict=True) if not value.kind]
    if alone:
        what = "the network's input" if alone[0] == INPUT else f"{alone[0]!r}"
        refuse(node, f"a sum with {what}, of which there are no copies", "a weight layer before either term of a sum")
    shapes = {graph.layout_of(source) for source in node.sources}
    if len({(value.kind, value.positions) for value in read}) != 1 or len(shapes) != 1:
        refuse(node, "a sum of values of different shapes", "values of one shape, with the channels on one axis")
    layers = frozenset[int]().union(*(value.layers for value in read))
    return Value(read[0].kind, read[0].positions, layers)


def _is_sum(node: Node) -> bool:
    arguments = node.attributes["arguments"]
    both = (arguments.get(key) for key in ("self", "other"))
    plain = all(isinstance(term, Mapping) and "source" in term for term in both)
    return node.attributes["function"] == "add" and plain and arguments.get("alpha", 1) == 1


def terms(node: Node) -> tuple[str, str]:
    """The two nodes that a sum reads, or one of them twice."""
    one, other = (node.sources[node.attributes["arguments"][key]["source"]] for key in ("self", "other"))
    return one, other


def _makers(graph: Graph, values: Mapping[str, Value]) -> frozenset[int]:
    """Layers that make constants: where none of a sum's layers does yet, the first, for each layer that needs some.

    A layer needs constants for its bias, or to make others. From the last layer to the first, so that all who need a
    layer's constants are known when it is its turn.
    """
    found: set[int] = set()
    for number, node in reversed(list(enumerate(graph.weighted))):
        layers = values[node.source].layers
        if (node.attributes["bias"] or number in found) and layers and not layers & found:
            found.add(min(layers))
    return frozenset(found)


def refuse(node: Node, got: str, need: str) -> NoReturn:
    """Name the node that copies cannot be carried through.

    Raises
    ------
    ArgumentError
    """
    need = f"{need} with the construction 'one-for-one'"
    raise ArgumentError(f"node {node.name!r}", got, need, "--construction two-for-one")
