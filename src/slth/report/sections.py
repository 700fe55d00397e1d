"""The page's sections with pictures."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slth.candidates import has_candidates
from slth.copies import is_copied
from slth.network.accounts import FOLDED, KEPT, SHARED, TICKETED, UNUSED
from slth.report import figures
from slth.report.diagram import construction
from slth.report.facts import (
    BIAS_NAME,
    NEGATIVE,
    POSITIVE,
    WorkedExample,
    mask_picture,
    probe_comparison,
    reader,
    worked_example,
)
from slth.report.words import escaped, number, plain, plural
from slth.source.balanced import BalancedSource
from slth.source.candidates import CandidateSource
from slth.source.kernels import KernelSource
from slth.source.signed import ShiftedSource, SplitSource, TapSource
from slth.summary import parameter_summary
from slth.ticket import Ticket

if TYPE_CHECKING:
    from slth.certify.verify import Verification
    from slth.network.target import Target

Sizes = list[dict[str, NDArray[np.uint16]]]
_BY_ORDER = {
    "": "The upper picture is its incoming weights: pruned down to a single one, so that the neuron reads one input "
    "alone, and the neurons form a block for every input. The lower picture is its outgoing weights: each row picks, "
    "block by block, the subset that adds up to a trained weight.",
    BalancedSource.order: "The upper picture is its incoming weights: pruned down to a single one, so that the neuron "
    "reads one input alone. Every input has a block of neurons; those that it has no use for, by the sign of their "
    "weight, read an input that has too few, and stand in its block here. The lower picture is its outgoing weights: "
    "each row picks, block by block, the subset that adds up to a trained weight.",
    KernelSource.order: "The upper picture is its incoming weights: in each row, block by block, the subset that adds "
    "up to a trained weight. The lower picture is its outgoing weights, pruned to the output that its block serves.",
    TapSource.order: "The upper picture is its incoming kernel: pruned down to one entry, so that the neuron reads one "
    "tap of one input alone, and the neurons form a block for every such tap. The lower picture is its outgoing "
    "weights: each row picks, block by block, the subset that adds up to a trained weight.",
    SplitSource.order: "The upper picture is its incoming weights, first those that read the positive part of an "
    "input, then those that read the negative part: in each row, block by block, the subset that adds up to a trained "
    "weight. The lower picture is its outgoing weights, pruned to the output that its block serves.",
    ShiftedSource.order: "The upper picture is its incoming weights: in each row, block by block, the subset that adds "
    "up to a trained weight, or in the last one to a bias that takes back what the shift of the inputs adds. The lower "
    "picture is its outgoing weights, pruned to the output that its block serves.",
    CandidateSource.order: "The upper picture is its incoming weights: pruned down to a single one. The lower picture "
    "is its outgoing weights: each row is a neuron of the next layer that stands for one hidden neuron of the trained "
    "network, and for one output; it keeps one weight for each input and each sign that the input may have.",
}
"""What the two pictures of a mask show, by the order of the two source layers."""

_KEYS = {POSITIVE: "k1", NEGATIVE: "k2", BIAS_NAME: "k3"}


def principle() -> str:
    """What the construction does, in words and in one drawing."""
    return (
        '<section><h2>How it works</h2><div class="pair"><div><p>A trained weight w multiplies its input x. In the '
        "random network, many neurons lie between that input and that output, each with a random weight u before it "
        "and a random weight v behind it, so that it passes on v·u·x (where u and x have the same sign).</p><p>No "
        "weight is changed. Some of the products v·u happen to add up to almost exactly w: those are kept, all others "
        "are pruned. Finding them is a subset-sum problem, solved for every trained weight. As the random weights "
        "follow from a seed, the file needs to hold only the seed and which weights are kept.</p></div>"
        f'<div class="panel">{construction()}</div></div></section>'
    )


def weights(ticket: Ticket, sizes: Sizes) -> str:
    """How far the realised weights are off, and of how many elements they are made."""
    shown = figures.layers_shown(ticket.facts)
    caption = "Each row is a layer: how its weights’ errors are spread; the tick marks the worst."
    if len(shown) < len(ticket.facts):
        caption += f" The {len(shown)} largest of {len(ticket.facts)} layers."
    if ticket.tolerance is not None:
        missed = f"{ticket.missed:,} of {ticket.n_weights:,} weights" if ticket.missed else "no weight"
        lie = "lies" if ticket.missed <= 1 else "lie"
        caption += f' <i class="line"></i>Tolerance {number(ticket.tolerance)}; {missed} {lie} beyond.'
    counts = pooled(sizes)
    total = sum(int(part.sum()) for part in counts.values())
    elements = sum(int((part * np.arange(len(part))).sum()) for part in counts.values())
    words = f"{plural(total, 'subset')}, {number(elements / max(1, total))} elements on average."
    if POSITIVE in counts and NEGATIVE in counts:
        words += " Where an input may have either sign, a trained weight needs one subset for each."
    return (
        '<section><h2>How close the weights are</h2><div class="pair half">'
        f'<figure class="panel"><h3>Errors</h3>{figures.error_histograms(ticket.facts, ticket.tolerance)}'
        f"<figcaption>{caption}</figcaption></figure>"
        f'<figure class="panel"><h3>Subset sizes</h3>{figures.size_histogram(counts)}'
        f"<figcaption>{words}</figcaption></figure></div></section>"
    )


def pooled(sizes: Sizes) -> dict[str, NDArray[np.int64]]:
    """Subsets of all layers by their number of elements, for each thing that they serve."""
    counts: dict[str, NDArray[np.int64]] = {}
    for name in (POSITIVE, NEGATIVE, BIAS_NAME):
        parts = [np.bincount(layer[name].ravel()) for layer in sizes if name in layer]
        if parts:
            counts[name] = np.sum([np.pad(part, (0, max(map(len, parts)) - len(part))) for part in parts], axis=0)
    return counts


def mask(ticket: Ticket) -> str:
    """A corner of one layer's masks."""
    picture = mask_picture(ticket)
    if picture is None:
        return ""
    source, _, facts = ticket.layers[picture.layer]
    rows, columns = picture.combine.shape
    what = "outputs" if source.combine_taps == 1 else "outputs × kernel taps"
    what = "hidden neurons" if isinstance(source, CandidateSource) else what
    inputs = "inputs" if source.expand_taps == 1 else "inputs × kernel taps"
    if picture.whole:
        part = "The whole mask is shown"
    else:
        shown = f"all {rows:,}" if rows == picture.rows_total else f"the first {rows:,} of {picture.rows_total:,}"
        kept = f"all {columns:,}" if columns == picture.columns_total else f"{columns:,} of {picture.columns_total:,}"
        part = f"Shown are {shown} rows ({what}) and {kept} kept neurons"
    part += "." if source.groups == 1 else f", of the first of {source.groups} groups."
    used = [name for code, name in ((1, POSITIVE), (2, NEGATIVE), (3, BIAS_NAME)) if (picture.univariate == code).any()]
    words = {POSITIVE: "kept, works for inputs above 0", NEGATIVE: "for inputs below 0", BIAS_NAME: "for the bias"}
    if isinstance(source, ShiftedSource):
        words[POSITIVE] = f"kept, works for inputs above {plain(f'{-source.shift:.6g}')}"
    key = " ".join(f'<span><i class="key {_KEYS[name]}"></i>{words[name]}</span>' for name in used)
    return (
        f"<section><h2>The mask of layer {escaped(facts.name, 40)}</h2><p>Every column is one neuron of the random "
        f"network’s intermediate layer. {_BY_ORDER.get(source.order, _BY_ORDER[''])}</p>"
        f'<figure class="panel"><div class="scroll">{figures.mask_figure(picture, what, inputs)}</div>'
        f"<figcaption>{part} Lines separate the blocks; coloured:{key}.</figcaption></figure></section>"
    )


def example(ticket: Ticket, sizes: Sizes, target: Target | None) -> str:
    """One target weight as the sums that realise it."""
    picture = mask_picture(ticket)
    layer = 0 if picture is None else picture.layer
    found = worked_example(ticket, layer, sizes[layer])
    source, _, facts = ticket.layers[layer]
    if isinstance(source, CandidateSource):
        return _example_of_three(ticket, found, target)
    index = [found.output, found.channel]
    if source.kernel:
        index += [int(k) for k in np.unravel_index(found.tap, source.kernel)]
    place = ", ".join(map(str, index))
    wanted = None
    if target is not None:
        wanted = float(target.layers[layer].weight_array()[found.output, found.channel, found.tap])
    opening = f"Weight [{place}] of layer {escaped(facts.name, 40)}"
    opening += " is realised as follows." if wanted is None else f" is {plain(f'{wanted:.9g}')} in the trained network."
    if isinstance(source, SplitSource):
        opening += " Neurons read the positive or the negative part of the input; u is below 0 for the negative one."
    if isinstance(source, ShiftedSource):
        opening += f" Neurons read the input plus {number(source.shift, 6)}, so that they pass on either sign of it."
    return _spelled_out(opening, found, wanted)


def _example_of_three(ticket: Ticket, found: WorkedExample, target: Target | None) -> str:
    """With depth three a row is aimed at what makes up for the output weight behind it."""
    who, name = reader(ticket, found.output), escaped(ticket.facts[0].name, 40)
    opening = f"For output {who.output}, weight [{who.hidden}, {found.channel}] of layer {name} is realised as follows."
    if target is None or not who.weight:
        return _spelled_out(opening, found, None)
    own = float(target.layers[0].weight_array()[who.hidden, found.channel, 0])
    behind = float(target.layers[1].weight_array()[who.output, who.hidden, 0])
    opening = (
        f"Weight [{who.hidden}, {found.channel}] of layer {name} is {plain(f'{own:.9g}')} in the trained network, and "
        f"output {who.output} reads the neuron with {plain(f'{behind:.9g}')}. The random network reads it with "
        f"{plain(f'{who.weight:.9g}')}, so the weight is aimed at {plain(f'{own * behind / who.weight:.9g}')}, which "
        "makes the product of the two the same."
    )
    return _spelled_out(opening, found, own * behind / who.weight, "what it is aimed at")


def _spelled_out(opening: str, found: WorkedExample, wanted: float | None, aim: str = "the trained weight") -> str:
    if len(found.terms) == 2:
        opening += " Its input may have either sign, so it is put together twice."
    branches = "".join(_branch(found, name, wanted, aim) for name in found.terms)
    return (
        f"<section><h2>One weight, spelled out</h2><p>{opening} A neuron with incoming weight u and outgoing weight v "
        "passes on v·u times its input wherever u and the input have the same sign; the products of the kept neurons "
        f"add up.</p>{branches}</section>"
    )


def _branch(found: WorkedExample, name: str, wanted: float | None, aim: str) -> str:
    terms, value = found.terms[name], found.value(name)
    rows = "".join(
        f"<tr><td class=left>{k}</td><td>{term.neuron}</td><td>{plain(term.combine)}</td>"
        f"<td>{plain(term.univariate)}</td><td>{plain(f'{term.product:.9f}')}</td></tr>"
        for k, term in enumerate(terms, 1)
    )
    off = ""
    if wanted is not None:
        off = f'<p class="note"><i class="line dash"></i>{number(abs(value - wanted))} from {aim}</p>'
    return (
        f'<div class="panel below"><h3>Where {html.escape(name)}</h3><div class="pair half">'
        f'<div>{figures.running_sum(found, name, wanted)}{off}</div><div class="scroll"><table><thead><tr>'
        "<th class=left>k</th><th>Neuron</th><th>v</th><th>u</th><th>v·u</th></tr></thead>"
        f"<tbody>{rows}</tbody><tfoot><tr><td class=left colspan=4>sum</td>"
        f"<td>{plain(f'{value:.9f}')}</td></tr></tfoot>"
        f'</table></div></div><p class="sum">{_equation(found, name)}</p></div>'
    )


def _equation(found: WorkedExample, name: str) -> str:
    """v1·u1 + v2·u2 + ... = the products = their sum, a piece that stays on one line at a time."""
    terms = found.terms[name]
    letters = " + ".join(f"v<sub>{k}</sub>u<sub>{k}</sub>" for k in range(1, len(terms) + 1)) or "an empty sum"
    signed = [("−" if term.product < 0 else "+", f"{abs(term.product):.6f}") for term in terms]
    numbers = " ".join(f"<span>{sign} {size}</span>" for sign, size in signed).replace("<span>+ ", "<span>", 1)
    if signed and signed[0][0] == "−":
        numbers = " ".join(f"<span>{sign} {size}</span>" for sign, size in signed).replace("− ", "−", 1)
    return " = ".join(part for part in (letters, numbers, f"<b>{plain(f'{found.value(name):.6f}')}</b>") if part)


def outputs(ticket: Ticket) -> str:
    """Target against ticket on the probes."""
    from slth.probes import probe_range

    found = probe_comparison(ticket)
    if found is None:
        return ""
    n_probes, n_outputs = found.target.shape
    low, high = probe_range(ticket.domain)
    caption = (
        f"{plural(n_outputs, 'output')} on {n_probes} random inputs between {number(low)} and {number(high)}. Largest "
        f"difference {number(found.largest_difference)}. The trained network’s outputs are stored in the ticket, in "
        "single precision. A sample shows what happens; it proves nothing about other inputs."
    )
    return (
        '<section><h2>Trained network against ticket</h2><figure class="panel">'
        f'<div class="pair half"><div>{figures.output_scatter(found)}</div><div>{figures.output_differences(found)}'
        f"</div></div><figcaption>{caption}</figcaption></figure></section>"
    )


def verified(found: Verification) -> str:
    """What is proved and what was found."""
    verdict = '<p class="verdict good">Every claim of the ticket holds.</p>'
    if not found.holds:
        reasons = "".join(f"<li>{escaped(reason, 400)}</li>" for reason in found.reasons)
        verdict = f'<p class="verdict bad">The ticket does not hold.</p><ul>{reasons}</ul>'
    facts = [("Domain", escaped(found.domain, 200))]
    if found.eps is not None:
        facts.append(("Output error asked for", number(found.eps)))
    facts.append(("Proved output error, at most", _or_none(found.certified_error)))
    facts.append(("Found output error, at least", _or_none(found.observed_error)))
    if found.n_data:
        outside = f", {found.n_outside:,} of them outside the domain" if found.n_outside else ""
        facts.append(("Data", plural(found.n_data, "input") + outside))
    if found.accuracy_target is not None and found.accuracy_ticket is not None:
        facts.append(("Accuracy of the trained network", f"{found.accuracy_target:.2f}\u202f%"))
        facts.append(("Accuracy of the ticket", f"{found.accuracy_ticket:.2f}\u202f%"))
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    rows = "".join(
        f"<tr><td class=left>{escaped(layer.name, 40)}</td><td>{'same' if layer.source_matches else 'different'}</td>"
        f"<td>{number(layer.max_weight_error)}</td><td>{_or_none(layer.certified_error)}</td></tr>"
        for layer in found.layers
    )
    return (
        f"<section><h2>Verification</h2>{verdict}<p>The random network was drawn again from the seed, the mask "
        "applied, and every weight compared with the trained network’s. The proved error bounds every output for every "
        f'input of the domain; the found one is the largest that a search met.</p><dl class="facts">{cards}</dl>'
        '<div class="panel below"><div class="scroll"><table><thead><tr><th class=left>Layer</th>'
        "<th>Surviving<br>weights</th><th>Largest<br>weight error</th><th>Proved error<br>after the layer</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div></div></section>"
    )


def _or_none(value: float | None) -> str:
    return "–" if value is None or math.isinf(value) else number(value)


def parameters(ticket: Ticket) -> str:
    """What became of every parameter of the trained network."""
    found = parameter_summary(ticket)
    rows = "".join(
        f"<tr><td class=left>{escaped(account.name, 60)}</td><td>{account.n:,}</td><td class=left>"
        f"{_STATES[account.state]}</td><td class=left>{escaped(account.where, 80)}</td></tr>"
        for account in found.accounts
    )
    words = f"{found.line}.".replace(" %", "\u202f%")
    if found.constants:
        words += f" The file holds {plural(found.constants, 'number')} as they are, trained ones or constants."
    return (
        f"<section><h2>Every parameter</h2><p>{words} Ticketed ones are in the mask; folded ones, such as a "
        "normalisation’s, were multiplied into the weights of a layer before.</p><details><summary>"
        f"{plural(len(found.accounts), 'parameter tensor')}</summary>"
        '<div class="panel below"><div class="scroll"><table><thead><tr><th class=left>Parameter</th><th>Numbers</th>'
        "<th class=left>State</th><th class=left>Layer, or why</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div></details></section>"
    )


_STATES = {TICKETED: "ticketed", FOLDED: "folded", KEPT: "<b>kept</b>", UNUSED: "unused", SHARED: "the same as"}


def usage(ticket: Ticket, title: str) -> str:
    """How to load and check it."""
    name = title if title.endswith(".ticket") and " " not in title else "net.ticket"
    domain = "" if ticket.domain is None else f" --domain {ticket.domain[0]:g},{ticket.domain[1]:g}"
    code = f'import slth\n\nticket = slth.load("{name}")\nnetwork = ticket.module()'
    own_shape = "of the trained network’s own shape"
    if is_copied(ticket.spec.layers):
        own_shape = "with several copies of every neuron, and the first two random layers in one"
    if has_candidates(ticket.spec.layers) and ticket.spec.layers[-1].outputs > 1:
        own_shape = "with hidden neurons of their own for every output"
    return (
        '<section><h2>Use it</h2><div class="pair"><div class="panel"><h3>In Python</h3>'
        f"<pre><code>{html.escape(code)}</code></pre>"
        f'<p class="note">A <code>torch.nn.Module</code> {own_shape}. '
        '<code>module("masked")</code> is the whole random network with its mask, <code>module("sparse")</code> its '
        "surviving weights alone; all three compute the same function.</p></div>"
        '<div class="panel"><h3>Against the trained network</h3>'
        f"<pre><code>{html.escape(f'slth verify {name} --target net.safetensors{domain}')}</code></pre>"
        '<p class="note">Draws the random network again, checks every claim of the file'
        + (" and proves a bound on the output error." if domain else ".")
        + "</p></div></div></section>"
    )
