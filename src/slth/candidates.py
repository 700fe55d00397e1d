"""What a ticket of depth three amounts to: hidden neurons of their own for every output, in the target's units.

Output o of such a ticket is the sum over i of v[o, i] relu(r[o, i] x + b[o, i]) and a constant, where the target has
w[o, i] relu(w[i] x + b[i]). ReLU is positively homogeneous, v relu(z) = (v / c) relu(c z) for c > 0, so that an output
weight v other than w[o, i], but of the same sign, is no error: with c = v / w[o, i] it becomes the target's, and the
row c r[o, i], which is what the target's row is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from slth.errors import ArgumentError, TicketError
from slth.mask import BIAS, CandidateMask, Mask, OutputMask
from slth.mask.candidates import NONE
from slth.network.chain import broken_at
from slth.network.graph import Graph, Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer, realise
from slth.source.candidates import CandidateSource, OutputSource
from slth.source.spec import SourceLayer

LARGEST_SOURCE = 1 << 62
"""Weights of one source layer, so that they can be numbered in 64 bits."""
_LARGEST_FACTOR = 2.0**400
"""Beyond it an output weight counts as wrong instead of the row as scaled (chosen): no product leaves float64."""
_FACTOR_ROUNDINGS = 4
"""Terms that stand for the rounding of a factor and of what it multiplies (chosen, with room)."""


@dataclass(frozen=True)
class OwnLayer(RealisedLayer):
    """A layer of the network in which every output has hidden neurons of its own: neuron i of output o is o n + i.

    It has a row, or a column, for each; n is how many the target has. Those of which nothing is kept are 0.
    """


def has_candidates(sources: Sequence[SourceLayer]) -> bool:
    """Whether a source has depth three."""
    return any(isinstance(source, CandidateSource | OutputSource) for source in sources)


def connected(graph: Graph, sources: Sequence[SourceLayer]) -> tuple[SourceLayer, ...]:
    """The two parts of a source of depth three, the first with as many groups and candidates as the second has.

    Raises
    ------
    ArgumentError
        If they are not two such parts, the graph is none of two layers, or their weights cannot be numbered.
    """
    check_graph(graph)
    first, last = sources
    if not (isinstance(first, CandidateSource) and isinstance(last, OutputSource)):
        raise ArgumentError("source layers", f"orders {first.order!r}, {last.order!r}", "'candidates', then 'outputs'")
    wide = replace(
        first,
        outputs=last.n_groups,
        candidates=last.block_width,
        constants=last.outputs if last.bias else 0,
        bias=first.bias or last.bias,
    )
    for source in (wide, last):
        if source.n_weights > LARGEST_SOURCE:
            got = f"{source.n_weights:.2e} weights in the source of layer {source.index}"
            raise ArgumentError("source", got, f"at most {LARGEST_SOURCE:.1e}", "smaller pools, or fewer candidates")
    return wide, last


def check_graph(graph: Graph) -> None:
    """Refuse what is not a network of two dense layers with ReLU between them.

    Raises
    ------
    ArgumentError
        Naming the first thing that is something else.
    """
    remedy = "--set depth=double, for any network"
    branch = broken_at(graph)
    if branch is not None:
        _refuse(*branch, "one node behind the other, with weights that are used once, with depth=three")
    weighted = [number for number, node in enumerate(graph) if node.op in WEIGHT_OPERATORS]
    for number in weighted:
        node = graph.nodes[number]
        if node.op != "linear":
            _refuse(node, f"a {node.op} layer", "Linear, ReLU, Linear with depth=three")
    if len(weighted) != 2:
        got = f"{len(weighted)} weight layer" + ("" if len(weighted) == 1 else "s")
        raise ArgumentError("target", got, "two, with ReLU between them, for depth=three", remedy)
    between = graph.nodes[weighted[0] + 1 : weighted[1]]
    for node in between:
        if node.op != "relu":
            _refuse(node, f"{node.op} between the two layers", "ReLU and nothing else with depth=three")
    if not between:
        _refuse(graph.nodes[weighted[1]], "nothing between the two layers", "ReLU with depth=three")


def _refuse(node: Node, got: str, need: str) -> None:
    raise ArgumentError(f"node {node.name!r}", got, need, "--set depth=double, for any network")


def check_masks(sources: Sequence[SourceLayer], masks: Sequence[Mask]) -> None:
    """Refuse rows that no output reads, and constants that read an input.

    Raises
    ------
    TicketError
    """
    (first, last), (rows, weights) = sources, masks
    assert isinstance(rows, CandidateMask) and isinstance(weights, OutputMask) and isinstance(first, CandidateSource)
    read, kept = weights.candidate(last), rows.candidate(first)
    group = np.flatnonzero((kept != NONE) & (kept != read))
    if len(group):
        got = f"candidate {kept[group[0]]} of group {group[0]} in the first layer"
        raise TicketError("mask", got, "the candidate that the output keeps")
    channel = rows.expand(first).channel
    for piece in rows.entries(first):
        if (channel[piece.kept[first.is_constant(piece.output)]] != BIAS).any():
            raise TicketError("mask", "a constant that reads an input", "constants made of biases alone")


def own_graph(graph: Graph, outputs: int) -> Graph:
    """The graph in which every output has hidden neurons of its own."""
    nodes, seen = [], 0
    for node in graph:
        attributes, shape = dict(node.attributes), node.shape
        if node.op in WEIGHT_OPERATORS:
            rows, columns = attributes["weight_shape"]
            attributes["weight_shape"] = (rows, columns * outputs) if seen else (rows * outputs, columns)
            seen += 1
        if seen == 1:
            shape = (*shape[:-1], shape[-1] * outputs)
        nodes.append(replace(node, attributes=attributes, shape=shape))
    return replace(graph, nodes=tuple(nodes))


def realise_own(graph: Graph, layers: Sequence[tuple[SourceLayer, Mask]]) -> dict[str, RealisedLayer]:
    """Rows and output weights as they are in the source, by layer; each an :class:`OwnLayer`."""
    (source, mask), (last, weights) = layers
    assert isinstance(source, CandidateSource) and isinstance(last, OutputSource) and isinstance(weights, OutputMask)
    first_node, last_node = graph.weighted
    wide = realise(source, mask)
    n_hidden = last.inputs_per_group
    constant = source.is_constant(np.arange(last.n_groups))
    bias, bias_size = (None if part is None else part[~constant] for part in (wide.bias, wide.bias_size))
    if bias is not None and not (first_node.attributes["bias"] or bias.any()):
        bias, bias_size = None, None
    slopes = (wide.positive[~constant], wide.negative[~constant])
    first = OwnLayer(*slopes, bias, wide.size[~constant], bias_size, wide.n_terms)
    v = np.zeros(last.n_groups)
    group, kept = weights.kept(last)
    v[group] = kept
    table = v.reshape(last.outputs, last.groups_per_output)
    offset, offset_size = None, None
    if last.bias:
        assert wide.bias is not None and wide.bias_size is not None
        offset = table[:, n_hidden] * np.maximum(wide.bias[constant], 0.0)
        offset_size = np.abs(table[:, n_hidden]) * wide.bias_size[constant]
    columns = _block(table[:, :n_hidden])
    # An output adds its hidden neurons and its constant, which are rounded once more than the rows are.
    n_terms = n_hidden + wide.n_terms + 2
    last_layer = OwnLayer(columns, columns, offset, np.abs(columns), offset_size, n_terms)
    return {first_node.name: first, last_node.name: last_layer}


def unfold(target: Target, realised: Mapping[str, RealisedLayer]) -> tuple[Target, Mapping[str, RealisedLayer]]:
    """The target with hidden neurons of their own for every output, and the ticket in its units.

    Both compute what they computed before; other tickets and their targets are handed back as they are. A neuron of
    which the ticket keeps no output weight is taken for the target's, with an output weight of 0.
    """
    if not _is_own(realised):
        return target, realised
    first, last = target.layers
    rows, columns = realised[first.name], realised[last.name]
    n_outputs = len(last.weight)
    graph = own_graph(target.graph, n_outputs)
    nodes = list(graph.weighted)
    bias = None if first.bias is None else first.bias.repeat(n_outputs)
    own = (
        WeightLayer(nodes[0], first.weight.repeat(n_outputs, 1), bias),
        WeightLayer(nodes[1], torch.block_diag(*last.weight[:, None]), last.bias),
    )
    wanted, v = last.weight_array()[:, :, 0], _table(columns.positive)
    factor, fits = _factors(v, wanted)
    weights = _block(np.where(fits, wanted, v))
    scaled = {
        first.name: _scaled(rows, factor.ravel(), v.ravel() == 0.0, own[0]),
        last.name: replace(
            columns,
            positive=weights,
            negative=weights,
            size=np.abs(weights),
            n_terms=columns.n_terms + _FACTOR_ROUNDINGS,
        ),
    }
    return replace(target, graph=graph, layers=own), scaled


def compared(target: Target, realised: Mapping[str, RealisedLayer]) -> Mapping[str, RealisedLayer]:
    """The ticket in the target's shapes and units: of all copies of a weight the one that is farthest off.

    Other tickets are handed back as they are.
    """
    if not _is_own(realised):
        return realised
    own = unfold(target, realised)[1]
    first, last = target.layers
    rows, columns = own[first.name], own[last.name]
    weight, bias = first.weight_array(), first.bias_array()
    shape = (len(last.weight), *weight.shape)
    worst = replace(
        rows,
        positive=_farthest(rows.positive.reshape(shape), weight),
        negative=_farthest(rows.negative.reshape(shape), weight),
        size=rows.size.reshape(shape).max(axis=0),
    )
    if rows.bias is not None and rows.bias_size is not None:
        wanted = np.zeros(shape[1]) if bias is None else bias
        sizes = rows.bias_size.reshape(shape[:2]).max(axis=0)
        worst = replace(worst, bias=_farthest(rows.bias.reshape(shape[:2]), wanted), bias_size=sizes)
    parts = (columns.positive, columns.negative, columns.size)
    positive, negative, size = (_table(part)[:, :, None] for part in parts)
    return {first.name: worst, last.name: replace(columns, positive=positive, negative=negative, size=size)}


def _is_own(realised: Mapping[str, RealisedLayer]) -> bool:
    return any(isinstance(layer, OwnLayer) for layer in realised.values())


def _factors(v: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """v / wanted where both have the same sign, else 1; and whether they have, (outputs, hidden neurons)."""
    with np.errstate(over="ignore"):
        factor = np.divide(v, wanted, out=np.zeros_like(v), where=wanted != 0.0)
    fits = (factor > 1.0 / _LARGEST_FACTOR) & (factor < _LARGEST_FACTOR)
    return np.where(fits, factor, 1.0), fits


def _scaled(
    rows: RealisedLayer, factor: NDArray[np.float64], dead: NDArray[np.bool_], layer: WeightLayer
) -> RealisedLayer:
    """Rows times factors; those that nobody reads are the target's own."""
    weight, bias = layer.weight_array(), layer.bias_array()
    factor = np.where(dead, 0.0, factor)
    positive, negative, size = (part * factor[:, None, None] for part in (rows.positive, rows.negative, rows.size))
    positive[dead], negative[dead] = weight[dead], weight[dead]
    made = replace(rows, positive=positive, negative=negative, size=size, n_terms=rows.n_terms + _FACTOR_ROUNDINGS)
    if rows.bias is None or rows.bias_size is None:
        return made
    return replace(
        made,
        bias=np.where(dead, 0.0 if bias is None else bias, rows.bias * factor),
        bias_size=rows.bias_size * factor,
    )


def _farthest(copies: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every entry the copy that differs most, without the copies' axis, which comes first."""
    worst = np.abs(copies - wanted).argmax(axis=0)
    found: NDArray[np.float64] = np.take_along_axis(copies, worst[None], axis=0)[0]
    return found


def _block(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of hidden neurons of their own, (outputs, outputs * hidden, 1), from (outputs, hidden)."""
    n_outputs, n_hidden = table.shape
    columns = np.zeros((n_outputs, n_outputs, n_hidden))
    columns[np.arange(n_outputs), np.arange(n_outputs)] = table
    return columns.reshape(n_outputs, -1, 1)


def _table(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reverse of :func:`_block`."""
    n_outputs = len(columns)
    table: NDArray[np.float64] = columns.reshape(n_outputs, n_outputs, -1)[np.arange(n_outputs), np.arange(n_outputs)]
    return table
