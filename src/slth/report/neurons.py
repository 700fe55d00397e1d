"""A ticket of pruned neurons as one self-contained HTML page."""

from __future__ import annotations

import html
import math
import re

from slth.neurons.ticket import FUNCTION, Measured, NeuronTicket
from slth.report import neuron_figures as figures
from slth.report.frame import cards, foot, head, opening, table
from slth.report.window import windows
from slth.report.words import escaped, number, percent, plural, size

MOST_OUTPUTS = 12
_SIGMAS_95 = 1.959964


def render_neurons(ticket: NeuronTicket, *, title: str, file_bytes: int | None = None) -> str:
    """Explain a ticket of pruned neurons on one HTML page that needs no network.

    The same arguments give the same page.

    Parameters
    ----------
    ticket : NeuronTicket
        May come from anybody: every name in it is escaped.
    title : str
        The page's heading, such as the file's name.
    file_bytes : int, optional
        Size of the ticket's file.
    """
    parts = [
        head(title),
        opening(title, _lead(ticket), _facts(ticket, file_bytes)),
        _principle(ticket),
        _measured(ticket),
        _kept(ticket),
        _windows(ticket),
        _bound(ticket),
        _usage(ticket, title),
        foot(ticket.generator_version),
    ]
    return "\n".join(part for part in parts if part)


def _best(ticket: NeuronTicket) -> tuple[str, Measured] | None:
    """The part by which a ticket is judged: the test part, if there is one."""
    for name, part in (("test", ticket.test), ("training", ticket.train)):
        if part is not None:
            return name, part
    return None


def _lead(ticket: NeuronTicket) -> str:
    source, best = ticket.source, _best(ticket)
    lead = (
        f"A random network of <b>{source.width:,} neurons</b>, drawn from seed {source.seed}. Keep "
        f"<b>{percent(ticket.n_kept, ticket.mask.size)}</b> of its second-layer weights, prune the rest and train "
        "nothing: what is left "
    )
    if best is None:
        lead += "answers like f(x) = E h(w) σ(⟨w, x⟩)"
        if ticket.features_error is None:
            return lead + "."
        return (
            f"{lead}, to within <b>{number(ticket.error_bound + ticket.features_error, 2)}</b> on the whole unit ball."
        )
    lead += f"answers like the average of {plural(source.blocks, 'fitted predictor')}"
    name, part = best
    lead += f", off by <b>{number(part.difference, 2)}</b> on the {name} part"
    if part.accuracy is not None and part.average_accuracy is not None:
        right = f"<b>{part.accuracy:.2f}\u202f%</b> of the classes right"
        return f"{lead}, and names {right} ({part.average_accuracy:.2f}\u202f% before pruning)."
    if part.explained is None:
        return lead + "."
    return f"{lead}, and explains <b>{_share(part.explained)}</b> of the labels’ variance."


def _facts(ticket: NeuronTicket, file_bytes: int | None) -> list[tuple[str, str]]:
    source = ticket.source
    facts = [
        ("Target", _target(ticket)),
        ("Inputs", f"{source.inputs:,}" + (" and a constant" if source.constant else "")),
        ("Outputs", f"{source.outputs:,}"),
        ("Hidden neurons", f"{source.width:,}"),
        ("Features a block, k", f"{source.features:,}"),
        ("Blocks, m", f"{source.blocks:,}"),
        ("Window, τ", number(ticket.tau)),
        ("Kept second-layer weights", f"{ticket.n_kept:,} of {ticket.mask.size:,}"),
        ("Neurons that any output keeps", f"{ticket.n_live:,}"),
        ("Fits", "a function of w" if ticket.ridge is None else f"ridge {number(ticket.ridge)}"),
        ("First layer, w", escaped(source.law.text)),
        ("Activation, σ", escaped(ticket.activation)),
        ("Generator", escaped(source.generator)),
        ("Seed", f"{source.seed}"),
        ("Largest input norm", number(ticket.input_scale, 4)),
    ]
    if ticket.block_samples is not None:
        facts.insert(10, ("Samples a block", f"{ticket.block_samples:,}"))
    if file_bytes is not None:
        bits = number(8 * file_bytes / source.width)
        facts[1:1] = [("File", size(file_bytes)), ("File bits a neuron", bits)]
    return facts


def _target(ticket: NeuronTicket) -> str:
    if ticket.task == FUNCTION:
        return "a function E h(w) σ(⟨w, x⟩)"
    train, classes = ticket.train, ticket.classes
    assert train is not None
    digest = f'<span title="{escaped(train.digest, 200)}"><code>{escaped(train.digest[:12])}</code></span>'
    what = f"{len(classes)} classes" if classes else "values"
    return f"{what}, {plural(train.samples, 'sample')}, {digest}"


def _principle(ticket: NeuronTicket) -> str:
    asks = "the fit, which never looks at v," if ticket.ridge is not None else "the function h"
    return (
        '<section><h2>How it works</h2><div class="pair"><div><p>Every hidden neuron has random weights w before it '
        f"and a random weight v behind it. The neurons form {plural(ticket.source.blocks, 'block')} of "
        f"{ticket.source.features:,}; of each neuron {asks} asks for a weight u, which is shrunk to û = (1 − τ) u / C, "
        "so that it lies well between −1 and 1.</p><p>No weight is changed. A neuron stays where v happens to lie "
        "within τ of û. That has probability τ, and the kept v is û on average, so that all blocks together answer "
        "like the average of the fits (Malach et al. 2020, section 3). The file holds the seed, one bit for each "
        f'output and neuron, and one number C an output.</p></div><div class="panel">{windows()}</div></div></section>'
    )


def _measured(ticket: NeuronTicket) -> str:
    parts = [(name, part) for name, part in (("training", ticket.train), ("test", ticket.test)) if part is not None]
    if not parts:
        return ""
    columns = [
        "Part",
        "Samples",
        "Error<br>pruned",
        "Error<br>average",
        "Difference<br>found",
        "Difference<br>expected",
    ]
    columns += ["Largest<br>difference"]
    columns += ["Accuracy<br>pruned", "Accuracy<br>average"] if ticket.classes else []
    columns += ["Explained<br>pruned", "Explained<br>average"] if not ticket.classes and parts[0][1].spread else []
    rows = []
    for name, part in parts:
        counted = f"{part.samples:,}" if part.measured == part.samples else f"{part.measured:,} of {part.samples:,}"
        numbers = (part.error, part.average_error, part.difference, part.expected_difference, part.largest_difference)
        row = [name, counted, *map(number, numbers)]
        if part.accuracy is not None and part.average_accuracy is not None:
            row += [f"{part.accuracy:.2f}\u202f%", f"{part.average_accuracy:.2f}\u202f%"]
        elif part.explained is not None and part.average_explained is not None:
            row += [_share(part.explained), _share(part.average_explained)]
        rows.append(row)
    words = (
        "Errors are root mean squares against the labels, of the pruned network and of the average of the blocks’ fits "
        "that it stands for. Their difference is what pruning costs; its expectation over the second layer is exact."
    )
    words += " Classes are 1 and −1 as targets." if ticket.classes else ""
    outside = max(part.outside for _, part in parts)
    if outside:
        words += f" {plural(outside, 'test input')} {'is' if outside == 1 else 'are'} longer than any training input."
    return (
        f'<section><h2>What it answers</h2><div class="panel">{table(columns, rows)}<p class="note">{words}</p></div>'
        "</section>"
    )


def _kept(ticket: NeuronTicket) -> str:
    tau, total = ticket.tau, ticket.mask.size
    deviation = math.sqrt(tau * (1 - tau) / total)
    low, high = (100 * (tau + sign * _SIGMAS_95 * deviation) for sign in (-1, 1))
    away = (ticket.density - tau) / deviation
    # Enough places to tell the interval's ends apart.
    places = max(1, min(4, 1 - math.floor(math.log10(high - low))))
    facts = [
        ("Kept", f"{100 * ticket.density:.{places}f}\u202f%"),
        ("Expected, τ", f"{100 * tau:g}\u202f%"),
        ("Of 100 draws 95 keep", f"{max(0.0, low):.{places}f} to {min(100.0, high):.{places}f}\u202f%"),
        ("Off by", f"{number(abs(away), 2)} standard deviations"),
    ]
    caption = (
        '<i class="line"></i>What independent weights give: a binomial law about τ, as every weight stays with '
        "probability τ whatever the fit asks for."
    )
    constants, kept = ticket.constants, ticket.mask.sum(axis=1)
    rows = [
        [
            _output_name(ticket, output),
            number(float(ticket.largest[output])),
            number(float(constants[output])),
            f"{int(kept[output]):,}",
            f"{100 * kept[output] / ticket.source.width:.{places}f}\u202f%",
        ]
        for output in range(min(MOST_OUTPUTS, ticket.source.outputs))
    ]
    more = ticket.source.outputs - len(rows)
    note = "c = C / (τ (1 − τ) m), the one number by which an output is multiplied." + (
        f" {plural(more, 'further output')} not shown." if more else ""
    )
    return (
        f'<section><h2>How many stay</h2>{cards(facts)}<div class="pair half below"><figure class="panel">'
        f"<h3>Block by block</h3>{figures.kept_by_block(ticket)}<figcaption>{caption}</figcaption></figure>"
        f'<div class="panel"><h3>Output by output</h3>'
        f"{table(('Output', 'C', 'c', 'Kept', 'Share'), rows)}"
        f'<p class="note">{note}</p></div></div></section>'
    )


def _output_name(ticket: NeuronTicket, output: int) -> str:
    classes = ticket.classes
    if ticket.source.outputs == 1:
        return f"{escaped(str(classes[0]), 20)} / {escaped(str(classes[1]), 20)}" if classes else "0"
    return escaped(str(classes[output]), 24) if classes else f"{output}"


def _windows(ticket: NeuronTicket) -> str:
    spread = (
        f'<figure class="panel"><h3>Kept weights</h3>{figures.kept_weights(ticket)}<figcaption>Second-layer weights '
        "are drawn evenly from −1 to 1. Where few fits ask for large ones, few large ones stay.</figcaption></figure>"
    )
    scatter = ""
    if ticket.aims is not None:
        scatter = (
            f'<figure class="panel"><h3>Drawn against asked for</h3>{figures.windows_scatter(ticket)}<figcaption>'
            f"{len(ticket.aims):,} pairs of output and neuron: in the band of half-width τ = {number(ticket.tau)} they "
            "stay. û was fitted before v was drawn.</figcaption></figure>"
        )
    return f'<section><h2>What stays</h2><div class="pair half">{scatter}{spread}</div></section>'


def _bound(ticket: NeuronTicket) -> str:
    best = _best(ticket)
    chance = f"{100 * (1 - ticket.delta):g}\u202f%"
    rows = [[f"Proved, for {chance} of all draws", number(ticket.error_bound)]]
    if ticket.features_error is not None:
        rows.append(["Between the average and f, the same", number(ticket.features_error)])
    found = ""
    if best is not None:
        name, part = best
        rows += [
            [f"Largest found on the {name} part", number(part.largest_difference)],
            ["Root mean square expected", number(part.expected_difference)],
            ["Root mean square found", number(part.difference)],
            ["Error of the fits", number(part.average_error)],
        ]
        found = (
            " The disc is the root mean square that was found, the bar the largest difference. Where the expected "
            "difference is far below the error of the fits, more blocks hardly help."
        )
    drawn = figures.error_by_blocks(ticket, best[1] if best else None) if ticket.error_bound > 0 else ""
    return (
        "<section><h2>How close it is to the average of the fits</h2><p>The bound is a theorem about random draws of "
        "the second layer, not about this one, and holds for the worst input; it is far above what samples show.</p>"
        '<div class="pair half"><figure class="panel"><h3>With more or fewer blocks</h3>'
        f"{drawn}<figcaption>Differences fall with the root of "
        f'the number of blocks.{found}</figcaption></figure><div class="panel"><h3>Difference from the average</h3>'
        f'{table(("", ""), rows)}<p class="note">The bound, for all inputs of the unit ball at once, is '
        "(C L / (τ (1 − τ))) √(k / m) (6 + √(2 ln(outputs / δ))), with L the activation’s Lipschitz constant.</p></div>"
        "</div></section>"
    )


def _usage(ticket: NeuronTicket, title: str) -> str:
    name = title if re.fullmatch(r"[\w.-]+\.ticket", title) else "net.ticket"
    code = f'import slth\n\nticket = slth.load_neurons("{name}")\nnetwork = ticket.module()'
    checks = f"slth verify {name} --data DATA"
    if ticket.task == FUNCTION:
        checks = f"slth verify {name} --model package.module:h"
    return (
        '<section><h2>Use it</h2><div class="pair"><div class="panel"><h3>In Python</h3>'
        f"<pre><code>{html.escape(code)}</code></pre>"
        '<p class="note">A <code>torch.nn.Module</code> of the neurons that stay. <code>module("masked")</code> is the '
        'whole random network with its mask, <code>module("sparse")</code> its surviving weights; all three compute '
        f'the same function.</p></div><div class="panel"><h3>Check it</h3><pre><code>{html.escape(checks)}</code></pre>'
        '<p class="note">Draws the random network again, fits again, and compares every bit and every number of the '
        "file.</p></div></div></section>"
    )


def _share(value: float) -> str:
    return f"{100 * value:.2f}\u202f%".replace("-", "−")
