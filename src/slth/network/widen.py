"""The graph of a network in which every channel occurs several times, and constant channels besides.

Copy k of channel c is channel c m + k, and the constant channels come last. Operations without weights work channel by
channel, so that they stay what they are; a flattened map of P positions has entry (c m + k) P + p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from slth.errors import ArgumentError
from slth.network.graph import Graph, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise

_FLAT, _MAPS, _ROWS = "flat", "maps", "rows"
"""Where the channels are: the only axis, the first of several, or the last of several."""


@dataclass(frozen=True)
class CopyLayout:
    """What one weight layer reads and makes.

    Attributes
    ----------
    copies_in, copies_out : int
        Of every input and of every output channel.
    constants_in, constants_out : int
        Constant channels.
    positions : int
        Entries of a channel that a flatten has put one after another, of which each is an input of its own.
    constant_tap : int
        The tap at which constant channels are read: one that never sees padding.
    """

    copies_in: int
    copies_out: int
    constants_in: int
    constants_out: int
    positions: int
    constant_tap: int


@dataclass(frozen=True)
class Widened:
    """A graph with copies.

    Attributes
    ----------
    graph : Graph
        Nodes of the same names.
    layouts : tuple of CopyLayout
        For each weight layer.
    between : tuple of tuple of Node
        For each weight layer the operations from it to the next one.
    """

    graph: Graph
    layouts: tuple[CopyLayout, ...]
    between: tuple[tuple[Node, ...], ...]


def widen(graph: Graph, copies: Sequence[int]) -> Widened:
    """The graph in which weight layer l reads ``copies[l]`` copies of every channel, for l > 0.

    Each layer that a layer with a bias follows makes as many constant channels as copies.

    Raises
    ------
    ArgumentError
        If a layer has groups, or an operation between layers would mix copies or change constants.
    """
    weighted = list(graph.weighted)
    last = max((number for number, node in enumerate(weighted) if node.attributes["bias"]), default=0)
    made = [copies[number] if number <= last else 0 for number in range(1, len(weighted))] + [0]
    wide: list[Node] = []
    layouts: list[CopyLayout] = []
    between: list[list[Node]] = []
    kind, positions = "", 1
    for node in graph:
        number = len(layouts) - 1
        shape = wide[-1].shape if wide else graph.input_shape
        if node.op in WEIGHT_OPERATORS:
            number += 1
            layout = _layout(graph, node, number, kind, positions, copies, made)
            layouts.append(layout)
            between.append([])
            kind, positions = _MAPS if node.op != "linear" else _FLAT if len(node.shape) == 1 else _ROWS, 1
            attributes = _weighted(node, layout, number)
        else:
            attributes = dict(node.attributes)
            if 0 <= number < len(weighted) - 1:
                between[-1].append(node)
                source = graph.shape_of(node.source)
                _check_between(node, source, kind, made[number])
                if node.op == "reshape" and node.shape != source:
                    kind, positions = _FLAT, math.prod(source[1:])
                    attributes["shape"] = (math.prod(shape),)
        wide.append(replace(node, attributes=attributes, shape=OPERATORS[node.op].shape(attributes, shape)))
    return Widened(Graph(graph.input_shape, tuple(wide)), tuple(layouts), tuple(map(tuple, between)))


def _layout(
    graph: Graph, node: Node, number: int, kind: str, positions: int, copies: Sequence[int], made: Sequence[int]
) -> CopyLayout:
    groups = WEIGHT_OPERATORS[node.op].groups(node.attributes)
    if groups != 1:
        _refuse(node, f"a convolution in {groups} groups", "one group")
    copies_out = copies[number + 1] if number + 1 < len(copies) else 1
    if number == 0:
        return CopyLayout(1, copies_out, 0, made[0], 1, 0)
    if (node.op == "linear") != (kind != _MAPS):
        _refuse(node, "a layer over another axis than the channels of the layer before", "a flatten between them")
    tap = _inner_tap(graph, node) if made[number - 1] and node.op != "linear" else 0
    return CopyLayout(copies[number], copies_out, made[number - 1], made[number], positions, tap)


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
            _refuse(node, "a bias, and no tap that never reads padding", "a tap for the constants that make the bias")
        tap = tap * length + min(inside, key=lambda t: (abs(2 * t + 1 - length), t))
    return tap


def _weighted(node: Node, layout: CopyLayout, number: int) -> dict[str, object]:
    outputs, inputs, *kernel = node.attributes["weight_shape"]
    rows = outputs * layout.copies_out + layout.constants_out
    if number == 0:
        bias = node.attributes["bias"] or layout.constants_out > 0
        return {**node.attributes, "weight_shape": (rows, inputs, *kernel), "bias": bias}
    columns = inputs * layout.copies_in + layout.constants_in * layout.positions
    return {**node.attributes, "weight_shape": (rows, columns, *kernel), "bias": False}


def _check_between(node: Node, shape: tuple[int, ...], kind: str, constants: int) -> None:
    """Refuse what does not work channel by channel, and what changes constants."""
    if isinstance(OPERATORS[node.op], Elementwise):
        return
    if node.op == "reshape":
        if node.shape != shape and not (kind == _MAPS and len(node.shape) == 1):
            _refuse(node, f"a reshape from {shape} to {node.shape}", "a plain flatten of (channels, positions)")
        return
    if kind != _MAPS or (node.op == "pad" and len(node.attributes["widths"]) > 2 * (len(shape) - 1)):
        _refuse(node, f"{node.op} along the channels", "an operation on each channel by itself")
    attributes = node.attributes
    zeros = node.op == "pad" and attributes["mode"] == "constant" and max(attributes["widths"]) > 0
    if constants and (zeros or (attributes.get("count_include_pad", False) and any(attributes["padding"]))):
        _refuse(node, "zeros beside the constant channels that make the biases", "padding in the convolution itself")


def _refuse(node: Node, got: str, need: str) -> NoReturn:
    need = f"{need} with the construction 'one-for-one'"
    raise ArgumentError(f"node {node.name!r}", got, need, "--construction two-for-one")
