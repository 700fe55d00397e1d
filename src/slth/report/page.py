"""A ticket as one self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slth.network.pooling_layers import places
from slth.plain_layers import is_plain
from slth.report.facts import subset_sizes
from slth.report.frame import foot, head, opening
from slth.report.words import escaped, number, percent, plural, power_of_two, size, some
from slth.source.signed import ShiftedSource, SplitSource
from slth.summary import base_set_sizes, output_factor, parameter_summary
from slth.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from slth.certify.verify import Verification
    from slth.network.graph import Node
    from slth.network.target import Target


def render(
    ticket: Ticket,
    *,
    title: str,
    file_bytes: int | None = None,
    target: Target | None = None,
    verification: Verification | None = None,
) -> str:
    """Explain a ticket on one HTML page that needs no network.

    The same arguments give the same page.

    Parameters
    ----------
    ticket : Ticket
        May come from anybody: every name in it is escaped.
    title : str
        The page's heading, such as the file's name.
    file_bytes : int, optional
        Size of the ticket's file.
    target : Target, optional
        The trained network, for the worked example; everything else is in the ticket.
    verification : Verification, optional
        What :func:`slth.certify.verify.verify` found, for a section of its own.

    Returns
    -------
    str
        The page, UTF-8.

    Raises
    ------
    MismatchError
        If the ticket was made for another target.
    """
    from slth.report import sections
    from slth.report.copies import later_layers
    from slth.report.learnt import render_learnt

    if is_plain(ticket):
        return render_learnt(ticket, title, file_bytes)
    if target is not None:
        _check_same(ticket, target)
        target = ticket.hidden(target)
    sizes = [subset_sizes(source, mask, facts.input_sign) for source, mask, facts in ticket.layers]
    parts = [
        head(title),
        opening(title, _lead(ticket), _facts(ticket, file_bytes)),
        sections.principle(),
        _layers(ticket),
        "" if verification is None else sections.verified(verification),
        sections.weights(ticket, sizes),
        sections.mask(ticket),
        sections.example(ticket, sizes, target),
        later_layers(ticket, target),
        sections.outputs(ticket),
        sections.parameters(ticket),
        sections.usage(ticket, title),
        foot(ticket.generator_version),
    ]
    return "\n".join(part for part in parts if part)


def _check_same(ticket: Ticket, target: Target) -> None:
    from slth.errors import MismatchError

    if target.digest() != ticket.target_digest:
        got = f"a target with digest {target.digest()[:16]}"
        raise MismatchError("target", got, f"{ticket.target_digest[:16]}, for which the ticket was made")


def _lead(ticket: Ticket) -> str:
    kept, drawn = ticket.n_kept, ticket.spec.n_weights
    lead = (
        f"A random network of <b>{drawn:,} weights</b>, drawn from seed {ticket.spec.seed}. Keep {kept:,} of them "
        f"(<b>{percent(kept, drawn)}</b>), prune the rest and train nothing: what is left computes the trained "
        f"network’s {plural(ticket.n_target_weights, 'weight')}, each to within "
        f"<b>{number(ticket.max_weight_error, 2)}</b>, {number(_mean(ticket), 2)} on average."
    )
    if ticket.tolerance is not None and ticket.missed:
        asked = f"the {number(ticket.tolerance)} that was asked for"
        verb = "is" if ticket.missed == 1 else "are"
        lead += f" <b class=bad>{plural(ticket.missed, 'weight')}</b> {verb} farther off than {asked}."
    return lead


def _facts(ticket: Ticket, file_bytes: int | None) -> list[tuple[str, str]]:
    n_weights, domain = ticket.n_weights, ticket.domain
    parameters = parameter_summary(ticket)
    facts = [
        ("Parameters ticketed or folded", f"{parameters.percent} of {parameters.total:,}".replace(" %", "\u202f%")),
        ("Kept", f"{ticket.n_kept:,}"),
        ("Density", percent(ticket.n_kept, ticket.spec.n_weights)),
        ("Random per trained weight", number(ticket.spec.n_weights / max(1, ticket.n_target_weights))),
        ("Kept per trained weight", number(ticket.n_kept / max(1, ticket.n_target_weights))),
        ("Largest weight error", number(ticket.max_weight_error)),
        ("Mean weight error", number(_mean(ticket))),
        ("Tolerance", "none asked for" if ticket.tolerance is None else number(ticket.tolerance)),
        ("Missed", "–" if ticket.tolerance is None else f"{ticket.missed:,} of {n_weights:,}"),
        ("Objective", _OBJECTIVES.get(ticket.objective, escaped(ticket.objective))),
        ("Base sets", f"{ticket.base_set_size} elements expected"),
        ("Construction", escaped(ticket.construction)),
        ("Initialisation", escaped(ticket.spec.initialisation)),
        ("Weights drawn", escaped(ticket.spec.layers[0].law.label)),
        ("Generator", escaped(ticket.spec.generator)),
        ("Seed", f"{ticket.spec.seed}"),
        ("Inputs", "all reals" if domain is None else f"{number(domain[0], 6)} to {number(domain[1], 6)}"),
        (
            "Target",
            f'{escaped(ticket.target_dtype)}, <span title="{escaped(ticket.target_digest, 200)}">'
            f"<code>{escaped(ticket.target_digest[:12])}</code></span>",
        ),
    ]
    if file_bytes is not None:
        bits = number(8 * file_bytes / max(1, ticket.n_target_weights))
        facts[5:5] = [("File", size(file_bytes)), ("File bits per trained weight", bits)]
    return facts


def _mean(ticket: Ticket) -> float:
    total = sum(facts.mean_weight_error * facts.n_weights for facts in ticket.facts)
    return total / max(1, ticket.n_weights)


_OBJECTIVES = {"best": "least error", "sparsest": "fewest weights within the tolerance"}
MOST_ROWS = 30
"""Of more layers the table is in a frame of its own height (chosen)."""
_WITHOUT_BIASES = ("parameter", "embedding", "conv_transpose")
"""Operations that never have any; what is added behind them is a layer of its own."""
_SIGNS = {"nonnegative": "≥ 0", "nonpositive": "≤ 0", "signed": "any"}


def _layers(ticket: Ticket) -> str:
    nodes = {node.name: node for node in ticket.hidden_graph}
    rows = []
    sizes = [base_set_sizes(source, facts.input_sign) for source, _, facts in ticket.layers]
    for (source, mask, facts), usable in zip(ticket.layers, sizes, strict=True):
        cells = [
            _kind(nodes[facts.name]),
            _SIGNS[facts.input_sign.value],
            f"{facts.n_weights:,}",
            _range(usable),
            f"{source.n_weights:,}",
            f"{mask.n_kept:,}",
            percent(mask.n_kept, source.n_weights),
            number(facts.max_weight_error),
            *([] if ticket.tolerance is None else [f"{facts.missed:,}"]),
        ]
        body = "".join(f"<td{' class=left' if k == 0 else ''}>{cell}</td>" for k, cell in enumerate(cells))
        rows.append(f"<tr><td class=left>{escaped(facts.name, 40)}</td>{body}</tr>")
    total = (
        f"<tr><td class=left>all</td><td></td><td></td><td>{ticket.n_weights:,}</td><td></td>"
        f"<td>{ticket.spec.n_weights:,}</td><td>{ticket.n_kept:,}</td>"
        f"<td>{percent(ticket.n_kept, ticket.spec.n_weights)}</td><td>{number(ticket.max_weight_error)}</td>"
        f"{'' if ticket.tolerance is None else f'<td>{ticket.missed:,}</td>'}</tr>"
    )
    base_set = "Base set<br>mean (range)" if any("(" in _range(usable) for usable in sizes) else "Base<br>set"
    missed = "" if ticket.tolerance is None else "<th>Missed</th>"
    tall = " tall" if len(rows) > MOST_ROWS else ""
    return (
        f"<section><h2>Layer by layer</h2><p>{_layers_in_words(ticket)} "
        f"A base set is the random products that one trained weight could be put together from.</p>{_scales(ticket)}"
        f'<div class="panel"><div class="scroll{tall}"><table><thead><tr><th class=left>Layer</th>'
        "<th class=left>Kind</th>"
        f"<th>Input</th><th>Weights</th><th>{base_set}</th><th>Random<br>weights</th><th>Kept</th>"
        f"<th>Density</th><th>Worst<br>error</th>{missed}</tr></thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot>{total}</tfoot></table></div></div></section>"
    )


def _scales(ticket: Ticket) -> str:
    """How large the random weights of each layer are, where that goes by the layer's shape, and their factors."""
    if not any(source.law.by_shape for source in ticket.spec.layers):
        return ""
    parts = []
    for source, _, facts in ticket.layers:
        pairs = list(zip(source.drawn_scales, (source.expand_scale, source.scale), strict=True))
        cells = [f"{number(drawn)} × {power_of_two(factor)}" for drawn, factor in pairs[-source.depth :]]
        parts.append(f"{escaped(facts.name, 40)}: {' and '.join(cells)}")
    if len(parts) > MOST_ROWS:
        parts = [*parts[:MOST_ROWS], f"{len(parts) - MOST_ROWS:,} more"]
    whole = output_factor(ticket)
    together = (
        "As biases or activations are in the way, each layer needs its own."
        if whole is None
        else f"Together they are one factor on the output, {power_of_two(whole)}."
    )
    law = escaped(ticket.spec.layers[0].law.label)
    return (
        f"<p>Random weights have the scale that <b>{law}</b> gives a layer of their shape, whatever was trained, and "
        f"each random layer has one power of 2 as a factor besides. {together} Scales × factors: "
        f"{'; '.join(parts)}.</p>"
    )


def _layers_in_words(ticket: Ticket) -> str:
    """Which random layers stand for which trained ones, and what some read in place of their input."""
    depths = {source.depth for source in ticket.spec.layers}
    others = "the other" if len(ticket.spec.layers) == 2 else "each of the others"
    words = "Two layers of the random network stand for each layer of the trained one."
    if depths != {2}:
        words = f"Two layers of the random network stand for the first layer of the trained one, and one for {others}."
    split = [facts.name for source, _, facts in ticket.layers if isinstance(source, SplitSource)]
    if split:
        words += f" {_layers_called(split)} the positive and the negative part of every input."
    shifted = {facts.name: source.shift for source, _, facts in ticket.layers if isinstance(source, ShiftedSource)}
    for shift in dict.fromkeys(shifted.values()):
        alike = [name for name, own in shifted.items() if own == shift]
        words += f" {_layers_called(alike)} every input plus {number(shift, 6)}."
    for what, names in places(ticket.graph, ticket.pooling).items():
        words += f" Average pooling, {what}: {some(names)}."
    return words


def _layers_called(names: Sequence[str]) -> str:
    return f"Layer {some(names)} reads" if len(names) == 1 else f"Layers {some(names)} read"


def _range(usable: NDArray[np.int64]) -> str:
    low, high = int(usable.min()), int(usable.max())
    return f"{low}" if low == high else f"{usable.mean():.1f} ({low}–{high})"


def _kind(node: Node) -> str:
    """Operation and shape, such as ``conv 16 × 6 × 5 × 5, padding 2``."""
    attributes = node.attributes
    shape = attributes["weight_shape"]
    assert isinstance(shape, tuple)
    text = f"{node.op} " + " × ".join(f"{extent}" for extent in shape)
    for name, plain in (("stride", 1), ("padding", 0), ("dilation", 1)):
        values = attributes.get(name, ())
        if isinstance(values, tuple) and any(value != plain for value in values):
            text += f", {name} " + (f"{values[0]}" if len(set(values)) == 1 else f"{values}")
    groups = attributes.get("groups", 1)
    text += f", groups {groups}" if groups != 1 else ""
    return text if attributes["bias"] or node.op in _WITHOUT_BIASES else f"{text}, no bias"
