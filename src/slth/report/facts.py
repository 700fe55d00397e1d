"""Numbers that the page shows: counts over the mask, one realised weight spelled out, outputs on the probes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.mask import BIAS, CopyMask, Entries, KernelMask, Mask, OutputMask, UnivariateMask, univariate
from slth.mask.candidates import outputs as output_source
from slth.network.graph import Sign
from slth.source.candidates import CandidateSource
from slth.source.signed import ShiftedSource, SplitSource
from slth.source.spec import SourceLayer
from slth.ticket import Ticket

POSITIVE, NEGATIVE, BIAS_NAME = "x > 0", "x < 0", "bias"
"""What a subset of combining weights serves: a weight where its input is positive or negative, or a bias."""

PICTURE_ROWS, PICTURE_COLUMNS = 96, 240
"""Largest part of a mask that is drawn: about four pixels a column on a desktop page."""


EASY_TO_READ = 5
"""Elements that the worked example should have (chosen)."""


def subset_sizes(source: SourceLayer, mask: Mask, sign: Sign) -> dict[str, NDArray[np.uint16]]:
    """Kept combining weights behind every target weight, for each sign that its input may have.

    Parameters
    ----------
    source : SourceLayer
    mask : Mask
    sign : Sign
        What is known of the layer's input.

    Returns
    -------
    dict
        Under :data:`POSITIVE` and :data:`NEGATIVE` (where the sign occurs) arrays (outputs, inputs per group, taps),
        under :data:`BIAS_NAME` (where the layer has one) an array (outputs,). Where a layer has copies, rows of the
        source take the place of outputs, and so do hidden neurons of their own for every output.
    """
    if isinstance(mask, CopyMask):
        return _copied_sizes(source, mask, sign)
    if isinstance(mask, OutputMask):
        return _output_sizes(source, mask)
    shape = (source.outputs, source.inputs_per_group, source.taps)
    names = {1: POSITIVE, -1: NEGATIVE}
    sizes: dict[str, NDArray[np.uint16]] = {names[branch]: np.zeros(shape, np.uint16) for branch in sign.branches}
    if source.bias:
        sizes[BIAS_NAME] = np.zeros((source.outputs,), np.uint16)
    if isinstance(mask, KernelMask):
        count = mask.sums(source).count.astype(np.uint16)
        parts = count[:, : source.incoming_per_neuron].reshape(shape[0], -1, *shape[1:])
        for branch in sign.branches:
            # A shifted kernel serves both signs, and of two halves the second reads relu(-x).
            sizes[names[branch]] = parts[:, 0 if branch > 0 else -1]
        return {**sizes, BIAS_NAME: count[:, -1]} if source.bias else sizes
    mask = univariate(mask)
    kept = mask.expand(source)
    for piece in mask.entries(source):
        n_rows = piece.stop - piece.start
        row, channel, u = piece.output - piece.start, kept.channel[piece.kept], kept.value[piece.kept]
        place = (row * source.incoming_per_neuron + channel) * source.combine_taps + piece.tap
        for branch in sign.branches:
            here = (channel != BIAS) & (np.sign(u) == branch)
            counts = np.bincount(place[here], minlength=n_rows * shape[1] * shape[2])
            sizes[names[branch]][piece.start : piece.stop] = counts.reshape(n_rows, *shape[1:])
        if source.bias:
            here = (channel == BIAS) & (u > 0)
            sizes[BIAS_NAME][piece.start : piece.stop] = np.bincount(row[here], minlength=n_rows)
    if isinstance(source, CandidateSource):
        constant = source.is_constant(np.arange(source.outputs))
        # Where no hidden neuron has a bias, the pools for it are there for the constants alone.
        biases = constant if source.bias and not sizes[BIAS_NAME][~constant].any() else np.ones_like(constant)
        sizes = {name: part[biases if name == BIAS_NAME else ~constant] for name, part in sizes.items()}
    return sizes


def _output_sizes(source: SourceLayer, mask: OutputMask) -> dict[str, NDArray[np.uint16]]:
    """One output weight for each of the target's that is kept, and one for each output's constant."""
    source = output_source(source)
    kept = np.zeros(source.n_groups, np.uint16)
    kept[mask.kept(source)[0]] = 1
    table = kept.reshape(source.outputs, source.groups_per_output)
    sizes = {POSITIVE: table[:, : source.inputs_per_group, None]}
    return {**sizes, BIAS_NAME: table[:, -1]} if source.bias else sizes


def _copied_sizes(source: SourceLayer, mask: CopyMask, sign: Sign) -> dict[str, NDArray[np.uint16]]:
    """A subset serves both signs; rows of constants are left out."""
    pieces = [piece for piece in mask.pieces(source) if len(piece.flags)]
    inputs = np.concatenate([piece.flags.sum(axis=3, dtype=np.uint16) for piece in pieces])
    sizes = {name: inputs for branch, name in ((1, POSITIVE), (-1, NEGATIVE)) if branch in sign.branches}
    if source.bias:
        sizes[BIAS_NAME] = np.concatenate([piece.constant_flags.sum(axis=1, dtype=np.uint16) for piece in pieces])
    return sizes


@dataclass(frozen=True)
class Term:
    """One kept path from input to output: ``univariate`` weight u of a neuron, ``combine`` weight v."""

    neuron: int
    univariate: np.float32
    combine: np.float32

    @property
    def product(self) -> float:
        """v u, exact in double precision."""
        return float(self.univariate) * float(self.combine)


@dataclass(frozen=True)
class WorkedExample:
    """One target weight as the sums that realise it.

    Attributes
    ----------
    layer : int
        Number of the weight layer, from 0.
    output, channel, tap : int
        Place of the weight; ``channel`` counts from the group's first.
    terms : dict of tuple of Term
        Kept paths for each sign that the input may have.
    """

    layer: int
    output: int
    channel: int
    tap: int
    terms: dict[str, tuple[Term, ...]]

    def value(self, branch: str) -> float:
        """Sum of the products, rounded once."""
        return math.fsum(term.product for term in self.terms[branch])


def spell_out(ticket: Ticket, layer: int, output: int, channel: int, tap: int) -> WorkedExample:
    """The kept paths behind one target weight.

    Parameters
    ----------
    ticket : Ticket
    layer, output, channel, tap : int
        Place of the weight; ``channel`` counts from the first of the output's group.
    """
    source, mask, facts = ticket.layers[layer]
    neuron, incoming, outgoing = _paths(source, mask, output, channel, tap)
    terms = {}
    names = {1: POSITIVE, -1: NEGATIVE}
    if isinstance(source, ShiftedSource):
        names = {1: f"x > −{source.shift:.6g}"}
    for branch, name in names.items():
        if branch in facts.input_sign.branches:
            chosen = np.sign(incoming) == branch
            terms[name] = tuple(
                Term(int(t) % source.neurons_per_group, u, v)
                for t, u, v in zip(neuron[chosen], incoming[chosen], outgoing[chosen], strict=True)
            )
    return WorkedExample(layer, output, channel, tap, terms)


def _paths(
    source: SourceLayer, mask: Mask, output: int, channel: int, tap: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Neurons that serve one weight, their incoming and their outgoing weights.

    A weight u from relu(-x) is told as -u, which for x < 0 is the slope that it gives the neuron.
    """
    entry = channel * source.taps + tap
    if isinstance(mask, KernelMask):
        found = [(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))]
        ways = [(entry, np.float32(1))]
        if isinstance(source, SplitSource):
            ways.append((entry + source.inputs_per_group * source.taps, np.float32(-1)))
        for piece in mask.pieces(source):
            for place, sign in ways:
                at = piece.flags[:, place] & (piece.neuron // source.block_width == output)
                found.append((piece.neuron[at], sign * piece.incoming[at, place], piece.outgoing[at]))
        neuron, incoming, outgoing = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return neuron, incoming, outgoing
    mask = univariate(mask)
    kept = mask.expand(source)
    entries = next(piece for piece in mask.entries(source) if piece.start <= output < piece.stop)
    read, at = (entry, 0) if source.kernel_first else (channel, tap)
    here = (entries.output == output) & (entries.tap == at) & (kept.channel[entries.kept] == read)
    place = entries.kept[here]
    return kept.neuron[place], kept.value[place], entries.value[here]


def worked_example(ticket: Ticket, layer: int, sizes: dict[str, NDArray[np.uint16]]) -> WorkedExample:
    """A weight whose subsets are short enough to read, the first of the best of the first output that keeps any."""
    tables = [sizes[name].astype(np.int64) for name in (POSITIVE, NEGATIVE) if name in sizes]
    number = int(np.any([table.any(axis=(1, 2)) for table in tables], axis=0).argmax())
    distance = np.max([np.abs(table[number] - EASY_TO_READ) for table in tables], axis=0)
    channel, tap = np.unravel_index(int(distance.argmin()), distance.shape)
    source = ticket.spec.layers[layer]
    if isinstance(source, CandidateSource):
        number = int(np.flatnonzero(~source.is_constant(np.arange(source.outputs)))[number])
    return spell_out(ticket, layer, number, int(channel), int(tap))


@dataclass(frozen=True)
class Reader:
    """With depth three: which ``output`` of the target reads which ``hidden`` neuron, and with which ``weight``."""

    output: int
    hidden: int
    weight: float


def reader(ticket: Ticket, group: int) -> Reader:
    """Who reads the candidate that stands for a group."""
    source, mask = ticket.spec.layers[-1], ticket.masks[-1]
    assert isinstance(mask, OutputMask)
    output, hidden = divmod(group, output_source(source).groups_per_output)
    groups, weights = mask.kept(source)
    return Reader(output, hidden, float(weights[groups == group].sum()))


@dataclass(frozen=True)
class MaskPicture:
    """A corner of one layer's two masks; 0 stands for pruned, 1, 2, 3 for kept and serving x > 0, x < 0, the bias.

    Attributes
    ----------
    layer : int
        Number of the weight layer.
    univariate : uint8 array, (blocks or entries, columns)
        Row j: weights that read input channel j (the last may be the bias). Where neurons keep kernels, the entries of
        a kernel, and the blocks are those of outputs.
    combine : uint8 array, (outputs * taps, columns)
        Row by row the outputs, and within them the taps.
    starts : tuple of int
        First column of each block shown, and the number of columns.
    blocks : tuple of str
        Their names.
    rows_total, columns_total : int
        Size of the whole combining mask of the group, over the kept neurons.
    """

    layer: int
    univariate: NDArray[np.uint8]
    combine: NDArray[np.uint8]
    starts: tuple[int, ...]
    blocks: tuple[str, ...]
    rows_total: int
    columns_total: int

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.combine.shape == (self.rows_total, self.columns_total)


def mask_picture(ticket: Ticket) -> MaskPicture | None:
    """The corner of the most legible layer's masks; None where no layer keeps a neuron in its first group.

    Of the layers whose corner has at least half as many cells as the largest one, that of which most is seen.
    """
    corners = [_corner(source, mask) for source, mask, _ in ticket.layers]
    cells = [
        rows * columns / (1 if source.combine_taps == 1 else 2)
        for source, (rows, columns, _) in zip(ticket.spec.layers, corners, strict=True)
    ]
    if not cells or max(cells) == 0:
        return None
    seen = [
        rows * columns / max(1, total) if area >= max(cells) / 2 else 0.0
        for area, (rows, columns, total) in zip(cells, corners, strict=True)
    ]
    layer = int(np.argmax(seen))
    return _draw(layer, *ticket.layers[layer][:2], corners[layer][0])


def _corner(source: SourceLayer, mask: Mask) -> tuple[int, int, int]:
    """Rows and columns that would be shown, and cells in all; of layers without neurons of their own nothing is."""
    if isinstance(mask, CopyMask | OutputMask):
        return 0, 0, 0
    _, block = _columns(source, mask)
    rows = source.outputs_per_group * source.combine_taps
    return _rows_shown(source, rows), _columns_shown(block), rows * len(block)


def _columns(source: SourceLayer, mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Living neurons of the first group by the channel that they read, biases last: places in the list, channels.

    Where neurons keep kernels, by the output that they serve.
    """
    if isinstance(mask, KernelMask):
        live = np.flatnonzero(mask.neurons[: source.neurons_per_group])
        return np.arange(len(live)), live // source.block_width
    kept = univariate(mask).expand(source)
    n_first = int(np.searchsorted(kept.neuron, source.neurons_per_group))
    block = np.where(kept.channel[:n_first] == BIAS, source.incoming_per_neuron, kept.channel[:n_first])
    order = np.argsort(block, kind="stable")
    return order, block[order]


def _rows_shown(source: SourceLayer, rows: int) -> int:
    whole_outputs = PICTURE_ROWS // source.combine_taps * source.combine_taps
    return min(rows, whole_outputs or PICTURE_ROWS)


def _columns_shown(block: NDArray[np.int64]) -> int:
    """Whole blocks, as many as fit, or a part of the first one."""
    if len(block) <= PICTURE_COLUMNS:
        return len(block)
    whole = int(np.searchsorted(block, block[PICTURE_COLUMNS]))
    return whole or PICTURE_COLUMNS


def _draw(layer: int, source: SourceLayer, mask: Mask, n_rows: int) -> MaskPicture:
    if isinstance(mask, KernelMask):
        return _draw_kernels(layer, source, mask, n_rows)
    return _draw_neurons(layer, source, univariate(mask), n_rows)


def _draw_kernels(layer: int, source: SourceLayer, mask: KernelMask, n_rows: int) -> MaskPicture:
    """Entries of kernels by neurons, and the block diagonal."""
    _, block = _columns(source, mask)
    shown = _columns_shown(block)
    total, block, seen = len(block), block[:shown], 0
    parts: list[NDArray[np.bool_]] = []
    for piece in mask.pieces(source):
        parts.append(piece.flags[: shown - seen, :PICTURE_ROWS])
        seen += len(parts[-1])
        if seen >= shown:
            break
    code = np.uint8(1 if mask.sign > 0 else 2)
    cells = np.concatenate(parts).T * code
    negative, biases = (cells[first:] for first in (source.inputs_per_group * source.taps, source.incoming_per_neuron))
    negative[negative > 0] = 2
    biases[biases > 0] = 3
    # Further outputs have their blocks in columns that are cut off.
    n_rows = min(n_rows, int(block[-1]) + 1) if shown < total else n_rows
    diagonal = (block == np.arange(n_rows)[:, None]) * code
    present, starts = np.unique(block, return_index=True)
    ends = (*(int(start) for start in starts), shown)
    names = tuple(f"y{number}" for number in present)
    return MaskPicture(layer, cells, diagonal, ends, names, source.outputs_per_group, total)


def _draw_neurons(layer: int, source: SourceLayer, mask: UnivariateMask, n_rows: int) -> MaskPicture:
    order, block = _columns(source, mask)
    shown = _columns_shown(block)
    total, block = len(block), block[:shown]
    column = np.full(len(mask.expand(source).neuron), -1)
    column[order[:shown]] = np.arange(shown)
    flags = np.zeros((n_rows, shown), np.bool_)
    for piece in mask.entries(source):
        if piece.start * source.combine_taps >= n_rows or piece.start >= source.outputs_per_group:
            break
        _mark(flags, piece, column, source)
    positive = mask.expand(source).value[order[:shown]] > 0
    code = np.where(block == source.incoming_per_neuron, 3, np.where(positive, 1, 2)).astype(np.uint8)
    present, starts = np.unique(block, return_index=True)
    cells = (block == present[:, None]) * code
    names = tuple(_block_name(source, int(number)) for number in present)
    ends = (*(int(start) for start in starts), shown)
    return MaskPicture(layer, cells, flags * code, ends, names, source.outputs_per_group * source.combine_taps, total)


def _block_name(source: SourceLayer, number: int) -> str:
    """What a block of neurons reads: a channel, a channel at a tap, or nothing."""
    if number == source.incoming_per_neuron:
        return "bias"
    channel, tap = divmod(number, source.expand_taps)
    return f"x{channel}" if source.expand_taps == 1 else f"x{channel}[{tap}]"


def _mark(flags: NDArray[np.bool_], piece: Entries, column: NDArray[np.int64], source: SourceLayer) -> None:
    """Set the bits of a piece that fall into the picture."""
    row, at = piece.output * source.combine_taps + piece.tap, column[piece.kept]
    here = (row < len(flags)) & (at >= 0) & (piece.output < source.outputs_per_group)
    flags[row[here], at[here]] = True


@dataclass(frozen=True)
class Outputs:
    """Target and ticket on the same probes, (probes, outputs) each, float64."""

    target: NDArray[np.float64]
    ticket: NDArray[np.float64]

    @property
    def largest_difference(self) -> float:
        """Largest |target - ticket|."""
        return float(np.abs(self.target - self.ticket).max(initial=0.0))


def probe_comparison(ticket: Ticket) -> Outputs | None:
    """The target's stored outputs and the ticket's on the same inputs; None where the file's do not fit."""
    import torch

    from slth.network.module import joined
    from slth.probes import N_OUTPUTS, n_probes, probe_inputs, probe_range

    stored = ticket.probe_outputs
    wanted = min(N_OUTPUTS, math.prod(ticket.graph.output_shape))
    if stored.ndim != 2 or not len(stored) or stored.shape[1] != wanted or not np.isfinite(stored).all():
        return None
    shown = min(len(stored), n_probes(ticket.graph))
    inputs = probe_inputs(ticket.graph, ticket.spec.seed, *probe_range(ticket.domain), shown)
    with torch.no_grad():
        outputs = joined(ticket.module("folded", dtype=torch.float64))(inputs)
    ours = outputs.reshape(shown, -1)[:, :wanted].numpy()
    return Outputs(stored[:shown].astype(np.float64), ours) if np.isfinite(ours).all() else None
