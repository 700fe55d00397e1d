"""What a ticket amounts to whose layers make copies: constants from layer to layer, and the spread of the copies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slth.candidates import has_candidates, realise_own
from slth.errors import TicketError
from slth.mask import BlockMask, CopyMask, Mask
from slth.mask.blocks import blocks
from slth.network.graph import INPUT, Graph, Node
from slth.network.operators import OPERATORS, Elementwise
from slth.network.streams import streams, terms
from slth.network.widen import CopyLayout, Widened, widen
from slth.realise import RealisedLayer, realise
from slth.source.copies import CopySource
from slth.source.spec import SourceLayer

_UNIT = 2.0**-52


@dataclass(frozen=True)
class Constants:
    """Values of constant channels in float64, and bounds on how far any evaluation of the source is from them."""

    values: NDArray[np.float64]
    slack: NDArray[np.float64]

    def __add__(self, other: Constants) -> Constants:
        values = self.values + other.values
        slack = (self.slack + other.slack) * (1 + 8 * _UNIT)
        # Rounded here, and where the source is evaluated.
        return Constants(values, slack + 4 * _UNIT * (np.abs(values) + slack))

    def behind(self, node: Node) -> Constants:
        """The constants behind an operation without weights, which keeps channels constant (see :mod:`widen`)."""
        values, slack, operator = self.values, self.slack, OPERATORS[node.op]
        if isinstance(operator, Elementwise):
            phi = operator.activation(node.attributes)
            size = 1.0 + np.abs(values) + slack
            new = phi.value(values)
            # Twice the error of a library's function: here, and where the source is evaluated.
            units = 0.0 if node.op == "relu" else 2 * phi.rounding_units * _UNIT * max(1.0, phi.lipschitz)
            return Constants(new, (phi.lipschitz * slack + units * size + phi.jump) * (1 + 8 * _UNIT))
        if node.op == "average_pool":
            # A mean of n equal numbers, added in any order and divided.
            n_terms = int(np.prod(node.attributes["kernel"]))
            slack = slack + (n_terms + 8) * _UNIT * (np.abs(values) + slack)
        return Constants(values, slack)


NONE = Constants(np.zeros(0), np.zeros(0))


class ConstantFlow:
    """The constants in a network of copies, from its input to its output; layers are asked for and told in order.

    Parameters
    ----------
    graph : Graph
        The target's.
    """

    def __init__(self, graph: Graph) -> None:
        self._left, self._values = iter(graph.nodes), streams(graph).values
        self._known = {INPUT: NONE}

    def read_by(self, layer: Node) -> Constants:
        """What the next weight layer reads."""
        for node in self._left:
            if node.name == layer.name:
                break
            self._known[node.name] = self._behind(node) if self._values[node.name].kind else NONE
        return self._known[layer.source]

    def made_by(self, layer: Node, constants: Constants) -> None:
        """What that layer makes."""
        self._known[layer.name] = constants

    def _behind(self, node: Node) -> Constants:
        if node.op == "function":
            one, other = (self._known[name] for name in terms(node))
            return one + other
        return self._known[node.source].behind(node)


def is_copied(sources: Sequence[SourceLayer]) -> bool:
    """Whether a source's layers read copies of one another's outputs."""
    return any(isinstance(source, CopySource) for source in sources)


def widened(graph: Graph, sources: Sequence[SourceLayer]) -> Widened:
    """The graph of the source network itself, in which weight nodes that read no copies stand for two layers."""
    return widen(graph, [source.block_width for source in sources])


def first_constants(source: SourceLayer, mask: Mask, count: int) -> Constants:
    """What the last ``count`` outputs of the first layer are before any activation: sums of v phi(b).

    Raises
    ------
    TicketError
        If one of them reads an input of the network.
    """
    source = blocks(source)
    if not isinstance(mask, BlockMask):
        raise TypeError(f"a {type(mask).__name__} in the first layer")
    first_row, inputs = source.outputs - count, source.inputs_per_group * source.block_width
    univariate = source.univariate_weights()
    values, size, n_terms = np.zeros(count), np.zeros(count), 0
    for start, stop, _, kept, flags in mask.rows(source):
        begin = max(start, first_row)
        if begin >= stop:
            continue
        flags = flags[begin - start :]
        if flags[:, kept < inputs].any():
            raise TicketError("mask", "a constant channel that reads an input", "constants made of biases alone")
        here = kept >= inputs
        phi = source.activation.value(univariate[kept[here]].astype(np.float64))
        products = source.combine_weight(begin, stop)[:, kept[here]] * flags[:, here] * phi[:, None]
        place = slice(begin - first_row, stop - first_row)
        values[place], size[place] = products.sum(axis=(1, 2)), np.abs(products).sum(axis=(1, 2))
        n_terms = max(n_terms, int(flags.sum(axis=(1, 2)).max(initial=0)))
    # Of this sum, and of the one where the source is evaluated.
    return Constants(values, 2 * (n_terms + source.activation.rounding_units + 8) * _UNIT * size)


def next_constants(source: CopySource, mask: CopyMask, constants: Constants) -> Constants:
    """What the constant outputs of a later layer are before any activation."""
    made = [NONE]
    for start, _, flags, weight in (
        (p.start, p.stop, p.constant_flags, p.constant_weight) for p in mask.pieces(source)
    ):
        if start >= source.data_rows:
            made.append(_weighted(weight, flags, constants))
    return made[-1]


def _weighted(weight: NDArray[np.float32], flags: NDArray[np.bool_], constants: Constants) -> Constants:
    """Sums of the kept weights times the constants, (rows,)."""
    kept = weight.astype(np.float64) * flags
    size = np.abs(kept) @ (np.abs(constants.values) + constants.slack)
    n_terms = constants.values.size
    slack = np.abs(kept) @ constants.slack + 2 * (n_terms + 8) * _UNIT * size
    return Constants(kept @ constants.values, slack * (1 + (n_terms + 8) * _UNIT))


@dataclass(frozen=True)
class CopyRows:
    """Copies of the outputs ``start`` to ``stop`` of a later layer, all copies of an output one after another.

    Attributes
    ----------
    start, stop : int
    kept : float64 array, (rows, inputs, taps, copies)
        Weights from copies of inputs, 0 where they are pruned.
    bias : Constants
        What each row adds up from constants.
    bias_size : float64 array, (rows,)
        Bound on the sums of absolute values behind it.
    n_terms : int
        Most weights that a row keeps.
    """

    start: int
    stop: int
    kept: NDArray[np.float64]
    bias: Constants
    bias_size: NDArray[np.float64]
    n_terms: int


def copy_rows(source: CopySource, mask: CopyMask, constants: Constants) -> Iterator[CopyRows]:
    """The surviving weights of a later layer, some outputs at a time; rows that make constants are left out."""
    for piece in mask.pieces(source):
        if piece.start >= source.data_rows:
            continue
        counts = piece.flags.sum(axis=(1, 2, 3)) + piece.constant_flags.sum(axis=1)
        largest = (np.abs(piece.constant_weight) * piece.constant_flags) @ (np.abs(constants.values) + constants.slack)
        yield CopyRows(
            piece.start // source.copies_out,
            piece.stop // source.copies_out,
            piece.weight.astype(np.float64) * piece.flags,
            _weighted(piece.constant_weight, piece.constant_flags, constants),
            largest,
            int(counts.max(initial=0)),
        )


@dataclass(frozen=True, kw_only=True)
class CopiedLayer(RealisedLayer):
    """A target layer of which the source has several copies; slopes and biases of the parent's fields are the first's.

    ``size`` and ``bias_size`` are the largest of all copies'.

    Attributes
    ----------
    lowest, highest : float64 arrays, (2, outputs, inputs per group, taps)
        Least and largest slope of the copies, for inputs above 0 and below 0.
    bias_lowest, bias_highest, constant_slack : float64 arrays, (outputs,), or None
        Least and largest bias, and a bound on how far it may be off because constants are.
    copies : int
        How many there are of each output.
    rows : callable or None
        Of a layer whose inputs come in copies, the surviving weights, to be walked through. As the errors of copies
        differ, an error counts with the sum of absolute weights.
    wide : RealisedLayer or None
        The first layer with all of its rows.
    """

    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    bias_lowest: NDArray[np.float64] | None = None
    bias_highest: NDArray[np.float64] | None = None
    constant_slack: NDArray[np.float64] | None = None
    copies: int = 1
    rows: Callable[[], Iterator[CopyRows]] | None = None
    wide: RealisedLayer | None = None

    def difference(self, weight: NDArray[np.float64], branch: int) -> None:
        """Copies have slopes of their own."""

    def gain(self, branch: int) -> NDArray[np.float64]:
        """Of the copy with the largest."""
        side = 0 if branch > 0 else 1
        if self.rows is not None:
            return self.size
        largest: NDArray[np.float64] = np.maximum(np.abs(self.lowest[side]), np.abs(self.highest[side]))
        return largest

    def deviation(self, weight: NDArray[np.float64], branch: int) -> NDArray[np.float64]:
        """Of the copy that is farthest off."""
        side = 0 if branch > 0 else 1
        farthest: NDArray[np.float64] = np.maximum(
            np.abs(self.lowest[side] - weight), np.abs(self.highest[side] - weight)
        )
        return farthest

    def bias_deviation(self, bias: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Of the copy that is farthest off."""
        if self.bias_lowest is None or self.bias_highest is None:
            return None
        wanted = 0.0 if bias is None else bias
        farthest: NDArray[np.float64] = np.maximum(
            np.abs(self.bias_lowest - wanted), np.abs(self.bias_highest - wanted)
        )
        return farthest

    def by_copy(self) -> list[RealisedLayer]:
        """The first layer, once for each copy of its outputs."""
        wide, end = self.wide, len(self.positive) * self.copies
        assert wide is not None
        bias, size = wide.bias, wide.bias_size
        return [
            replace(
                wide,
                positive=wide.positive[copy : end : self.copies],
                negative=wide.negative[copy : end : self.copies],
                bias=None if bias is None else bias[copy : end : self.copies],
                size=wide.size[copy : end : self.copies],
                bias_size=None if size is None else size[copy : end : self.copies],
            )
            for copy in range(self.copies)
        ]

    @property
    def bias_slack(self) -> NDArray[np.float64] | None:
        """Rounding, and what the constants may be off by."""
        if self.bias_size is None:
            return None
        return self.bias_size * self._unit + (0.0 if self.constant_slack is None else self.constant_slack)


def realise_all(
    graph: Graph,
    layers: Sequence[tuple[SourceLayer, Mask]],
    on_layer: Callable[[int], None] = lambda done: None,
) -> dict[str, RealisedLayer]:
    """What every layer of a ticket amounts to, by its name.

    Parameters
    ----------
    graph : Graph
        The target's.
    layers : sequence of (SourceLayer, Mask)
        In the graph's order.
    on_layer : callable
        Told how many layers are done.

    Raises
    ------
    TicketError
        If a constant channel is not constant.
    """
    names = [node.name for node in graph.weighted]
    result: dict[str, RealisedLayer] = {}
    if has_candidates([source for source, _ in layers]):
        result = realise_own(graph, layers)
        on_layer(len(result))
        return result
    if not is_copied([source for source, _ in layers]):
        for name, (source, mask) in zip(names, layers, strict=True):
            result[name] = realise(source, mask)
            on_layer(len(result))
        return result
    layouts, flow = widened(graph, [source for source, _ in layers]).layouts, ConstantFlow(graph)
    for node, layout, (source, mask) in zip(graph.weighted, layouts, layers, strict=True):
        constants = flow.read_by(node)
        if isinstance(source, CopySource) and isinstance(mask, CopyMask):
            result[node.name] = _later(source, mask, constants)
            flow.made_by(node, next_constants(source, mask, constants))
        else:
            result[node.name] = _first(realise(source, mask), layout)
            flow.made_by(node, first_constants(source, mask, layout.constants_out))
        on_layer(len(result))
    return result


def _first(wide: RealisedLayer, layout: CopyLayout) -> CopiedLayer:
    """The rows of the first layer's outputs, copies together."""

    def by_output(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        data = rows[: len(rows) - layout.constants_out]
        return data.reshape(-1, layout.copies_out, *rows.shape[1:])

    slopes = [by_output(rows) for rows in (wide.positive, wide.negative)]
    bias = None if wide.bias is None else by_output(wide.bias)
    return CopiedLayer(
        positive=slopes[0][:, 0],
        negative=slopes[1][:, 0],
        bias=None if bias is None else bias[:, 0],
        size=by_output(wide.size).max(axis=1),
        bias_size=None if wide.bias_size is None else by_output(wide.bias_size).max(axis=1),
        n_terms=wide.n_terms,
        bend=wide.bend,
        lowest=np.stack([rows.min(axis=1) for rows in slopes]),
        highest=np.stack([rows.max(axis=1) for rows in slopes]),
        bias_lowest=None if bias is None else bias.min(axis=1),
        bias_highest=None if bias is None else bias.max(axis=1),
        copies=layout.copies_out,
        wide=wide,
    )


def _later(source: CopySource, mask: CopyMask, constants: Constants) -> CopiedLayer:
    """Sums over the kept copies of every input."""
    shape = (source.outputs, source.inputs_per_group, source.taps)
    lowest, highest, size, first = (np.zeros(shape) for _ in range(4))
    bias: list[NDArray[np.float64]] = [np.zeros(source.outputs) for _ in range(5)]
    n_terms = 1
    for rows in copy_rows(source, mask, constants):
        here, copied = slice(rows.start, rows.stop), (-1, source.copies_out, *shape[1:])
        sums = rows.kept.sum(axis=3).reshape(copied)
        lowest[here], highest[here], first[here] = sums.min(axis=1), sums.max(axis=1), sums[:, 0]
        size[here] = np.abs(rows.kept).sum(axis=3).reshape(copied).max(axis=1)
        made = (rows.bias.values, rows.bias.slack, rows.bias_size)
        sums, slack, sizes = (part.reshape(-1, source.copies_out) for part in made)
        parts = (sums.min(axis=1), sums.max(axis=1), sums[:, 0], slack.max(axis=1), sizes.max(axis=1))
        for into, part in zip(bias, parts, strict=True):
            into[here] = part
        n_terms = max(n_terms, rows.n_terms)
    some = source.first_constant_row < source.data_rows
    return CopiedLayer(
        positive=first,
        negative=first,
        bias=bias[2] if some else None,
        size=size,
        bias_size=bias[4] if some else None,
        n_terms=n_terms,
        lowest=np.stack([lowest, lowest]),
        highest=np.stack([highest, highest]),
        bias_lowest=bias[0] if some else None,
        bias_highest=bias[1] if some else None,
        constant_slack=bias[3] if some else None,
        copies=source.copies_out,
        rows=functools.partial(copy_rows, source, mask, constants),
    )
