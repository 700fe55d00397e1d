"""The page of a ticket without a target: a mask over a random network of its own shape."""

from __future__ import annotations

import html
import math

import numpy as np
from numpy.typing import NDArray

from slth.mask import PlainMask
from slth.report.frame import foot, head, opening, table
from slth.report.svg import INK, MUTED, drawing, figure, to_svg
from slth.report.words import escaped, number, percent, size
from slth.source.plain import PlainSource
from slth.ticket import Ticket

_METHODS = {
    "edge-popup": "each weight has a score; the largest scores of a layer are kept, and the scores were trained",
    "multi-prize": "weights are signs times one number a layer; each has a score, and the largest are kept",
    "bernoulli": "each weight is kept with a probability, and the probabilities were trained; the likeliest are kept",
}
_MOST_KERNELS = 64
_MIDDLE = np.array([0x2B, 0x83, 0xD0, 0]) / 255
_OTHER = np.array([0xD9, 0x70, 0x16, 0]) / 255


def render_learnt(ticket: Ticket, title: str, file_bytes: int | None) -> str:
    """Explain such a ticket on one page that needs no network."""
    kept, drawn = ticket.n_kept, ticket.spec.n_weights
    lead = (
        f"A random network of <b>{drawn:,} weights</b>, drawn from seed {ticket.spec.seed}. Keep {kept:,} of them "
        f"(<b>{percent(kept, drawn)}</b>), prune the rest and train none: what is left is the network."
    )
    parts = [head(title), opening(title, lead, _facts(ticket, file_bytes)), _principle(ticket), _layers(ticket)]
    return "\n".join([*parts, _first_layer(ticket), _usage(title), foot(ticket.generator_version)])


def _facts(ticket: Ticket, file_bytes: int | None) -> list[tuple[str, str]]:
    source = ticket.spec
    facts = [
        ("Kept", f"{ticket.n_kept:,}"),
        ("Density", percent(ticket.n_kept, source.n_weights)),
        ("Found by", escaped(ticket.objective)),
        ("Weights drawn", escaped(source.layers[0].law.label)),
        ("Generator", escaped(source.generator)),
        ("Seed", f"{source.seed}"),
        ("Network", f"<code>{escaped(ticket.target_digest[:12])}</code>"),
    ]
    if file_bytes is not None:
        facts[2:2] = [("File", size(file_bytes)), ("File bits per weight", number(8 * file_bytes / source.n_weights))]
    return facts


def _principle(ticket: Ticket) -> str:
    how = _METHODS.get(ticket.objective, "")
    return (
        "<section><h2>How it works</h2><p>Every weight of the network is random, as the seed gives it, or 0. Nothing "
        f"was fitted but which weights are kept: {how}. As the random weights follow from the seed, the file needs to "
        "hold only the seed and one bit for each weight.</p></section>"
    )


def _layers(ticket: Ticket) -> str:
    rows = [
        (
            escaped(facts.name, 40),
            " × ".join(map(str, node.attributes["weight_shape"])) + (", biases" if node.attributes["bias"] else ""),
            f"{source.n_weights:,}",
            f"{mask.n_kept:,}",
            percent(mask.n_kept, source.n_weights),
            number(source.whole_scales[1]),
        )
        for node, (source, mask, facts) in zip(ticket.graph.weighted, ticket.layers, strict=True)
    ]
    columns = ("Layer", "Shape", "Random weights", "Kept", "Density", "Scale")
    return f'<section><h2>Layer by layer</h2><div class="panel">{table(columns, rows)}</div></section>'


def _first_layer(ticket: Ticket) -> str:
    """Where the first layer looks: kept weights by pixel, or its kernels."""
    source, mask = ticket.spec.layers[0], ticket.masks[0]
    assert isinstance(source, PlainSource) and isinstance(mask, PlainMask)
    flags, _ = source.split(mask.flags(source))
    shape = ticket.graph.input_shape if math.prod(ticket.graph.input_shape) == source.fan_in else (source.fan_in,)
    side = math.isqrt(source.fan_in)
    if len(shape) == 1 and side * side == source.fan_in:
        shape = (side, side)
    if len(source.kernel) == 2 and max(source.kernel) > 1:
        pixels, words = _kernels(source, mask), "Kernels of the first input channel: kept weights above 0 and below."
    elif not source.kernel and len(shape) >= 2 and min(shape[-2:]) > 1:
        share = flags[:, :, 0].mean(axis=0).reshape(-1, *shape[-2:]).mean(axis=0)
        low, high = float(share.min()), float(share.max())
        pixels = np.tile(_MIDDLE, (*share.shape, 1))
        pixels[..., 3] = (share - low) / (high - low) if high > low else 1.0
        words = f"The fraction of each pixel's weights that is kept, from {low:.1%} (pale) to {high:.1%}."
    else:
        return ""
    with drawing("first layer"):
        rows, columns = pixels.shape[:2]
        plot = figure(min(640.0, 460.0 * columns / rows), min(460.0, 640.0 * rows / columns))
        axes = plot.add_subplot()
        axes.imshow(pixels.repeat(-(-640 // columns), axis=1).repeat(-(-640 // columns), axis=0), interpolation="none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_color(MUTED if rows < columns else INK)
        drawn = to_svg(plot, "Which weights of the first layer are kept")
    name = escaped(ticket.facts[0].name, 40)
    return (
        f'<section><h2>The first layer, {name}</h2><figure class="panel half">{drawn}<figcaption>{words}</figcaption>'
        "</figure></section>"
    )


def _kernels(source: PlainSource, mask: PlainMask) -> NDArray[np.float64]:
    """Kernels side by side, eight in a row, a pixel apart: coloured where kept, by sign."""
    weight, _ = source.split(mask.pruned(source))
    kernels = np.sign(weight[:_MOST_KERNELS, 0]).reshape(-1, *source.kernel)
    tall, wide = source.kernel[0] + 1, source.kernel[1] + 1
    n_rows = -(-len(kernels) // 8)
    sheet = np.zeros((n_rows * tall - 1, min(8, len(kernels)) * wide - 1, 4))
    for k, kernel in enumerate(kernels):
        row, column = k // 8 * tall, k % 8 * wide
        colours = np.where(kernel[..., None] > 0, _MIDDLE, _OTHER)
        colours[..., 3] = np.where(kernel != 0, 1.0, 0.12)
        sheet[row : row + tall - 1, column : column + wide - 1] = colours
    return sheet


def _usage(title: str) -> str:
    name = title if title.endswith(".ticket") and " " not in title else "net.ticket"
    code = f'import slth\n\nticket = slth.load("{name}")\nnetwork = ticket.module()'
    return (
        '<section><h2>Use it</h2><div class="pair"><div class="panel"><h3>In Python</h3>'
        f"<pre><code>{html.escape(code)}</code></pre>"
        '<p class="note">A <code>torch.nn.Module</code>. <code>module("masked")</code> is the whole random network '
        'with its mask, <code>module("sparse")</code> its surviving weights alone.</p></div>'
        '<div class="panel"><h3>Against the seed</h3>'
        f"<pre><code>{html.escape(f'slth verify {name} --data DIR')}</code></pre>"
        '<p class="note">Draws the random network again, compares every kept weight bit for bit, and counts what the '
        "network gets right.</p></div></div></section>"
    )
