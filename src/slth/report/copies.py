"""The page's part on layers that read copies: for each of them a corner of its mask, and one weight spelled out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.mask import CopyMask
from slth.mask.copies import CopyPiece
from slth.network.target import Target
from slth.report import figures
from slth.report.facts import EASY_TO_READ, PICTURE_COLUMNS, PICTURE_ROWS
from slth.report.words import escaped, number, plain, plural
from slth.source.copies import CopySource
from slth.ticket import LayerFacts, Ticket


@dataclass(frozen=True)
class CopyPicture:
    """A corner of a layer's mask; 0 stands for pruned, 1 for kept, 3 for kept and reading a constant.

    Attributes
    ----------
    cells : uint8 array, (rows, columns)
        Rows are copies of outputs, columns copies of inputs (at the taps of a kernel), then constants.
    outputs, inputs : tuple of int
        First row, or column, of each block, and the number of all.
    names : tuple of str
        Of the blocks of columns.
    rows_total, columns_total : int
        Of the whole mask, without the rows that make constants.
    """

    cells: NDArray[np.uint8]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    names: tuple[str, ...]
    rows_total: int
    columns_total: int


@dataclass(frozen=True)
class CopiedWeight:
    """One weight of the target, as a copy of its output puts it together, and what the other copies make of it.

    Attributes
    ----------
    output, channel, tap : int
    copies : int64 array, (kept,)
        The copies of the input that the first copy of the output reads.
    weights : float32 array, (kept,)
    sums : float64 array, (copies,)
        What each copy of the output adds up to.
    """

    output: int
    channel: int
    tap: int
    copies: NDArray[np.int64]
    weights: NDArray[np.float32]
    sums: NDArray[np.float64]


def copy_picture(source: CopySource, mask: CopyMask) -> CopyPicture:
    """The corner of whole blocks that a page has room for."""
    piece = next(mask.pieces(source))
    biases = piece.constant_flags if source.bias else piece.constant_flags[:, :0]
    n_blocks, m = source.inputs_per_group * source.taps, source.block_width
    flags = piece.flags.reshape(-1, n_blocks * m)
    n_outputs = min(len(flags) // source.copies_out, max(1, PICTURE_ROWS // source.copies_out))
    n_rows = min(n_outputs * source.copies_out, PICTURE_ROWS)
    shown = min(n_blocks, max(1, (PICTURE_COLUMNS - biases.shape[1]) // m))
    cells = np.concatenate([flags[:n_rows, : shown * m], 3 * biases[:n_rows].astype(np.uint8)], axis=1, dtype=np.uint8)
    places = [divmod(block, source.taps) for block in range(shown)]
    names = [f"x{channel},{tap}" if source.kernel else f"x{channel}" for channel, tap in places]
    starts = [block * m for block in range(shown + 1)]
    if biases.shape[1]:
        names, starts = [*names, "bias"], [*starts, starts[-1] + biases.shape[1]]
    outputs = (*range(0, n_rows, source.copies_out), n_rows)
    columns = n_blocks * m + biases.shape[1]
    return CopyPicture(cells, outputs, tuple(starts), tuple(names), source.data_rows, columns)


def copied_weight(source: CopySource, mask: CopyMask) -> CopiedWeight:
    """A weight of the first output whose subset is short enough to read, the first of the best."""
    piece: CopyPiece = next(mask.pieces(source))
    sizes = piece.flags[0].sum(axis=2)
    channel, tap = (int(place) for place in np.unravel_index(np.abs(sizes - EASY_TO_READ).argmin(), sizes.shape))
    weights, flags = (part[: source.copies_out, channel, tap] for part in (piece.weight, piece.flags))
    kept = np.flatnonzero(flags[0])
    sums = np.array([math.fsum(row[own]) for row, own in zip(weights, flags, strict=True)])
    return CopiedWeight(0, channel, tap, kept, weights[0, kept], sums)


def later_layers(ticket: Ticket, target: Target | None) -> str:
    """A section for every layer that reads copies, of the ones that :func:`figures.layers_shown` names."""
    shown = figures.layers_shown(ticket.facts)
    added = {node.name for node in ticket.hidden_graph} - {node.name for node in ticket.graph}
    sections = []
    for index, (source, mask, facts) in enumerate(ticket.layers):
        if facts in shown and isinstance(source, CopySource) and isinstance(mask, CopyMask):
            weight = None if target is None else target.layers[index].weight_array()
            sections.append(_section(index, source, mask, facts, facts.name in added, weight))
    return "\n".join(sections)


def _section(
    index: int, source: CopySource, mask: CopyMask, facts: LayerFacts, added: bool, weight: NDArray[np.float64] | None
) -> str:
    name = escaped(facts.name, 40)
    reads = f"{_copies(source.block_width)} of each of {plural(source.inputs_per_group, 'input')}"
    if source.constants_in:
        reads += f" and {plural(source.constants_in, 'constant')}, of which biases are made,"
    makes = f"{_copies(source.copies_out)} of each of {plural(source.outputs, 'output')}"
    makes += f" and {plural(source.constants_out, 'constant')}" if source.constants_out else ""
    words = f"One layer of the random network stands for this one. It reads {reads} and makes {makes}. "
    words += "Each copy of an output has random weights of its own: for every trained weight it keeps those that add "
    words += "up to it, whatever the sign of the input."
    if added:
        words += " The trained network has no such layer: it is an identity, added for depth."
    corner, found = copy_picture(source, mask), copied_weight(source, mask)
    picture = figures.copies_figure(corner.cells, corner.outputs, corner.inputs, corner.names, index)
    return (
        f"<section><h2>Layer {name}, from copies to copies</h2><p>{words}</p>"
        f'<figure class="panel"><div class="scroll">{picture}</div>'
        f"<figcaption>{_caption(corner)}</figcaption></figure>{_example(index, source, found, facts, weight)}</section>"
    )


def _copies(count: int) -> str:
    return "1 copy" if count == 1 else f"{count:,} copies"


def _caption(picture: CopyPicture) -> str:
    rows, columns = picture.cells.shape
    if (rows, columns) == (picture.rows_total, picture.columns_total):
        part = "The whole mask is shown"
    else:
        part = f"Shown are {rows:,} of {picture.rows_total:,} copies of outputs (rows), and {columns:,} of "
        part += f"{picture.columns_total:,} weights of each"
    key = '<span><i class="key k1"></i>kept</span>'
    if (picture.cells == 3).any():
        key += ' <span><i class="key k3"></i>for the bias</span>'
    return f"{part}. Lines separate the outputs, and the inputs; coloured:{key}."


def _example(
    index: int, source: CopySource, found: CopiedWeight, facts: LayerFacts, weight: NDArray[np.float64] | None
) -> str:
    place = [found.output, found.channel]
    if source.kernel:
        place += [int(k) for k in np.unravel_index(found.tap, source.kernel)]
    wanted = None if weight is None else float(weight[found.output, found.channel, found.tap])
    opening = f"Weight [{', '.join(map(str, place))}]"
    opening += " is realised as follows." if wanted is None else f" is {plain(f'{wanted:.9g}')} in the trained network."
    low, high = float(found.sums.min()), float(found.sums.max())
    others = f"The {_copies(source.copies_out)} of this output put it together as {plain(f'{low:.6f}')} to "
    others += f"{plain(f'{high:.6f}')}; below is the first of them."
    rows = "".join(
        f"<tr><td class=left>{k}</td><td>{copy}</td><td>{plain(value)}</td></tr>"
        for k, (copy, value) in enumerate(zip(found.copies, found.weights, strict=True), 1)
    )
    off = ""
    if wanted is not None:
        distance = number(abs(found.sums[0] - wanted))
        off = f'<p class="note"><i class="line dash"></i>{distance} from the trained weight</p>'
    labels = [f"w{k + 1}" for k in range(len(found.weights))]
    picture = figures.running_total([float(w) for w in found.weights], labels, wanted, f"sum of layer {index}")
    return (
        f'<div class="panel below"><h3>One weight, spelled out</h3><p>{opening} '
        f"{others if source.copies_out > 1 else ''}</p>"
        f'<div class="pair half"><div>{picture}{off}</div><div class="scroll"><table><thead><tr><th class=left>k</th>'
        f"<th>Copy of the input</th><th>w</th></tr></thead><tbody>{rows}</tbody><tfoot><tr><td class=left colspan=2>sum"
        f"</td><td>{plain(f'{found.sums[0]:.9f}')}</td></tr></tfoot></table></div></div></div>"
    )
