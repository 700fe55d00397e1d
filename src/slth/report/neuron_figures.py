"""The pictures of a neuron ticket's page, each an inline SVG."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slth.neurons.ticket import AIM_UNIT, Measured, NeuronTicket, sampled_pairs
from slth.report.figures import HALF
from slth.report.svg import FIRST, INK, MUTED, SECOND, THIRD, drawing, figure, to_svg
from slth.report.words import superscript

_DOTS = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0}
_BARS = 48
_FACTOR = 30.0
"""From so many times fewer to so many times more blocks the error is drawn (chosen)."""


def kept_by_block(ticket: NeuronTicket) -> str:
    """How many blocks keep which fraction, beside what independent weights would give."""
    source, tau = ticket.source, ticket.tau
    pairs = source.features * source.outputs
    fractions = ticket.mask.reshape(source.outputs, source.blocks, source.features).mean(axis=(0, 2))
    deviation = math.sqrt(tau * (1 - tau) / pairs)
    low, high = min(fractions.min(), tau - 4 * deviation), max(fractions.max(), tau + 4 * deviation)
    # Bars are as wide as whole counts, so that none holds more of them than its neighbours.
    width = max(1, round((high - low) * pairs / 24)) / pairs
    edges = (math.floor(low / width) - 0.5 + np.arange(math.ceil((high - low) / width) + 3)) * width
    counts, _ = np.histogram(fractions, edges)
    x = np.linspace(edges[0], edges[-1], 200)
    normal = np.exp(-((x - tau) ** 2) / (2 * deviation**2)) / math.sqrt(2 * math.pi) / deviation
    with drawing("kept"):
        plot = figure(HALF, 250)
        axes = plot.add_subplot()
        axes.grid(axis="x", visible=False)
        axes.stairs(counts, 100 * edges, fill=True, facecolor=FIRST, linewidth=0, alpha=0.85)
        axes.plot(100 * x, normal * source.blocks * width, color=SECOND, linewidth=1.6)
        axes.axvline(100 * tau, color=INK, linewidth=1)
        axes.set_xlabel("kept of a block, in percent")
        axes.set_ylabel("blocks")
        axes.locator_params(axis="y", integer=True, nbins=7)
        axes.set_xlim(100 * edges[0], 100 * edges[-1])
        return to_svg(plot, "Kept fraction of the blocks")


def windows_scatter(ticket: NeuronTicket) -> str:
    """v against û for some pairs of output and neuron, and the band within which neurons stay."""
    assert ticket.aims is not None
    output, neuron = sampled_pairs(ticket.source)
    aim, v = ticket.aims * AIM_UNIT, ticket.source.second()[output, neuron]
    kept, reach = ticket.mask[output, neuron], 1.04 * max(1 - ticket.tau, float(np.abs(aim).max()))
    with drawing("windows"):
        plot = figure(HALF, 300)
        axes = plot.add_subplot()
        line = np.array([-reach, reach])
        axes.fill_between(line, line - ticket.tau, line + ticket.tau, color=FIRST, alpha=0.12, linewidth=0)
        axes.plot(line, line, color=MUTED, linewidth=1)
        axes.plot(aim[~kept], v[~kept], color=MUTED, alpha=0.45, **_DOTS)
        axes.plot(aim[kept], v[kept], color=FIRST, **_DOTS)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-1.04, 1.04)
        axes.set_xlabel("û, what the fit asks for")
        axes.set_ylabel("v, what was drawn")
        return to_svg(plot, "Second weights against what the fit asks for")


def kept_weights(ticket: NeuronTicket) -> str:
    """How the kept second-layer weights are spread, and what the fits ask for."""
    edges = np.linspace(-1, 1, _BARS + 1)
    kept, _ = np.histogram(ticket.source.second()[ticket.mask], edges)
    with drawing("second"):
        plot = figure(HALF, 300)
        axes = plot.add_subplot()
        axes.grid(axis="x", visible=False)
        axes.stairs(_density(kept), edges, fill=True, facecolor=FIRST, linewidth=0, alpha=0.85, label="v, kept")
        axes.plot([-1, 1], [0.5, 0.5], color=MUTED, linewidth=1.4, label="v, drawn")
        if ticket.aims is not None:
            coarse = np.linspace(-1, 1, _BARS // 2 + 1)
            asked, _ = np.histogram(ticket.aims * AIM_UNIT, coarse)
            axes.stairs(_density(asked), coarse, color=SECOND, linewidth=1.6, label="û, asked for")
        axes.set_xlim(-1, 1)
        axes.set_xlabel("second-layer weight")
        axes.set_ylabel("density")
        plot.legend(loc="outside upper right", ncols=3, handlelength=1.2, columnspacing=1.2)
        return to_svg(plot, "Kept second-layer weights")


def error_by_blocks(ticket: NeuronTicket, part: Measured | None) -> str:
    """Bound, expectation and finding against the number of blocks, which all but the last fall with the root of."""
    m = ticket.source.blocks
    low, high = max(1.0, m / _FACTOR), m * _FACTOR
    x = np.geomspace(low, high, 2)
    root = np.sqrt(m / x)
    with drawing("bound"):
        plot = figure(HALF, 300)
        axes = plot.add_subplot()
        axes.plot(x, ticket.error_bound * root, color=SECOND, linewidth=1.8, label="proved")
        if part is not None:
            if part.expected_difference > 0:
                axes.plot(x, part.expected_difference * root, color=FIRST, linewidth=1.8, label="expected")
            axes.plot([m], [part.largest_difference], color=INK, marker="_", markersize=10, linestyle="none")
            axes.plot([m], [part.difference], color=FIRST, marker="o", markersize=7, linestyle="none")
            if part.average_error > 0:
                error = [part.average_error, part.average_error]
                axes.plot(x, error, color=THIRD, linewidth=1.4, linestyle=(0, (4, 3)), label="error of the fits")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            ticks = _decades(axes, which)
            axis.set_ticks([10.0**k for k in ticks], [_power(k) for k in ticks])
        axes.set_xlim(low, high)
        axes.set_xlabel("blocks")
        axes.set_ylabel("difference from the average")
        plot.legend(loc="outside upper right", ncols=3, handlelength=1.2, columnspacing=1.2)
        return to_svg(plot, "Error against the number of blocks")


def _decades(axes: object, which: str) -> list[int]:
    low, high = getattr(axes, f"get_{which}lim")()
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    step = max(1, math.ceil(len(exponents) / 6))
    return list(exponents)[::step]


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if 0 <= exponent <= 4 else f"10{superscript(exponent)}"


def _density(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = max(1, int(counts.sum()))
    result: NDArray[np.float64] = counts / total * len(counts) / 2
    return result
