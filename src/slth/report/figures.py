"""The page's pictures, each an inline SVG; what they show comes from the ticket or from :mod:`slth.report.facts`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.report.facts import BIAS_NAME, NEGATIVE, POSITIVE, MaskPicture, Outputs, WorkedExample
from slth.report.svg import FIRST, GRID, INK, MUTED, PANEL, SECOND, THIRD, drawing, figure, to_svg
from slth.report.words import labels, superscript
from slth.ticket import ERROR_EDGES, LayerFacts

HALF, WHOLE = 410, 960
"""Widths in CSS pixels: one of two columns, and the page."""

MOST_LAYERS = 12
_LARGEST_COUNT = 10**15
_COLOURS = {POSITIVE: FIRST, NEGATIVE: SECOND, BIAS_NAME: THIRD}
_WORDS = {POSITIVE: "weights, where x > 0", NEGATIVE: "weights, where x < 0", BIAS_NAME: "biases"}
_CELL_COLOURS = np.array([[0, 0, 0, 0], [43, 131, 208, 255], [217, 112, 22, 255], [20, 158, 116, 255]], dtype=np.uint8)
"""Of pruned cells and those of :data:`_COLOURS`, between the light and the dark variant: an image has no variables."""

_DOTS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.6, "markeredgewidth": 0, "alpha": 0.6}
_SHARPNESS = 2
"""Image pixels a CSS pixel, so that smooth scaling keeps a cell's edges."""


def _log_ticks(low: int, high: int, most: int) -> tuple[list[int], list[str]]:
    """Exponents between two, at most so many, and their labels."""
    step = max(1, math.ceil((high - low) / most))
    exponents = list(range(high - (high - low) // step * step, high + 1, step))
    return exponents, [f"10{superscript(exponent)}" for exponent in exponents]


def layers_shown(facts: Sequence[LayerFacts]) -> list[LayerFacts]:
    """All layers, or the ones with the most weights, in the network's order."""
    largest = sorted(range(len(facts)), key=lambda index: (-facts[index].n_weights, index))[:MOST_LAYERS]
    return [facts[index] for index in sorted(largest)]


def error_histograms(facts: Sequence[LayerFacts], tolerance: float | None) -> str:
    """One row a layer: share of its weights by the decade quarter of their error."""
    shown = layers_shown(facts)
    counts = np.array(
        [[min(max(0, count), _LARGEST_COUNT) for count in layer.error_histogram] for layer in shown], dtype=np.float64
    )
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    # The two open bins are drawn as wide as the others.
    edges = np.log10([ERROR_EDGES[0] / 10**0.25, *ERROR_EDGES, ERROR_EDGES[-1] * 10**0.25])
    height = 0.84 / (shares.max(initial=0) or 1.0)
    limit = math.log10(tolerance) if tolerance is not None and 0 < tolerance < math.inf else None
    low, high = _decades(counts, edges, limit)
    with drawing("errors"):
        plot = figure(HALF, 64 + 34 * len(shown))
        axes = plot.add_subplot()
        axes.grid(axis="y", visible=False)
        for row, (layer, share) in enumerate(zip(shown, shares, strict=True)):
            base = len(shown) - 1 - row
            axes.stairs(base + height * share, edges, baseline=base, fill=True, facecolor=FIRST, linewidth=0)
            axes.axhline(base, color=GRID, linewidth=0.8)
            if 0 < layer.max_weight_error < math.inf:
                axes.plot(math.log10(layer.max_weight_error), base + 0.1, marker="|", color=INK, markersize=6)
        if limit is not None:
            axes.axvline(limit, color=SECOND, linewidth=1.6)
        axes.set_xticks(*_log_ticks(low, high, 7))
        axes.set_xlim(low, high)
        axes.set_yticks(range(len(shown)), labels([layer.name for layer in shown[::-1]], 18), va="bottom")
        axes.set_ylim(0, len(shown))
        axes.set_xlabel("distance from the trained weight")
        axes.spines[:].set_visible(False)
        return to_svg(plot, "Weight errors by layer")


def _decades(counts: NDArray[np.float64], edges: NDArray[np.float64], limit: float | None) -> tuple[int, int]:
    """Whole decades that hold all counts and, if it is not far off, the tolerance."""
    filled = np.flatnonzero(counts.any(axis=0))
    low, high = (edges[filled[0]], edges[filled[-1] + 1]) if filled.size else (edges[0], edges[-1])
    if limit is not None and edges[0] <= limit <= edges[-1]:
        low, high = min(low, limit), max(high, limit)
    return math.floor(low), math.ceil(high + 1e-9)


def size_histogram(sizes: dict[str, NDArray[np.int64]]) -> str:
    """Problems by the number of chosen elements, stacked by what they serve."""
    longest = max(1, *(len(counts) for counts in sizes.values()))
    bottom = np.zeros(longest)
    with drawing("sizes"):
        plot = figure(HALF, 250)
        axes = plot.add_subplot()
        axes.grid(axis="x", visible=False)
        for name, counts in sizes.items():
            heights = np.pad(counts, (0, longest - len(counts))).astype(np.float64)
            axes.bar(np.arange(longest), heights, 0.82, bottom, color=_COLOURS[name], label=_WORDS[name], linewidth=0)
            bottom += heights
        used = np.flatnonzero(bottom)
        low, high = (int(used[0]), int(used[-1])) if used.size else (0, 1)
        axes.set_xlim(low - 0.6, high + 0.6)
        step = max(1, math.ceil((high - low + 1) / 14))
        axes.set_xticks(range(low, high + 1, step))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("weights of the random network that add up to one trained weight")
        axes.spines["left"].set_visible(False)
        if len(sizes) > 1:
            plot.legend(loc="outside upper right", ncols=3, handlelength=1, handleheight=1, columnspacing=1.2)
        return to_svg(plot, "Subset sizes")


def output_scatter(outputs: Outputs) -> str:
    """Ticket against target with the diagonal."""
    target, ticket = outputs.target.ravel(), outputs.ticket.ravel()
    low, high = float(min(target.min(), ticket.min())), float(max(target.max(), ticket.max()))
    room = 0.04 * (high - low) or 1.0
    with drawing("outputs"):
        plot = figure(HALF, 300)
        axes = plot.add_subplot()
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1)
        axes.plot(target, ticket, color=FIRST, **_DOTS)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_xlabel("trained network")
        axes.set_ylabel("ticket")
        return to_svg(plot, "Outputs of the ticket against those of the target")


def output_differences(outputs: Outputs) -> str:
    """Ticket less target, against target."""
    target, difference = outputs.target.ravel(), (outputs.ticket - outputs.target).ravel()
    reach = 1.15 * outputs.largest_difference or 1.0
    exponent = math.floor(math.log10(reach))
    unit = 10.0**exponent if not -3 <= exponent <= 2 else 1.0
    with drawing("differences"):
        plot = figure(HALF, 300)
        axes = plot.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.plot(target, difference / unit, color=FIRST, **_DOTS)
        axes.set_ylim(-reach / unit, reach / unit)
        axes.set_xlabel("trained network")
        axes.set_ylabel("difference" if unit == 1 else f"difference, in 10{superscript(exponent)}")
        return to_svg(plot, "Difference of the outputs")


def mask_figure(picture: MaskPicture, rows: str, inputs: str = "inputs") -> str:
    """Univariate mask above combining mask, column by column the same neurons, with the blocks' borders."""
    n_blocks, n_inputs, n_rows = len(picture.blocks), len(picture.univariate), len(picture.combine)
    heights = [n_inputs * max(5, min(12, 150 // n_inputs)), n_rows * max(4, min(12, 240 // n_rows))]
    with drawing("mask"):
        plot = figure(WHOLE, sum(heights) + 84)
        upper, lower = plot.subplots(2, 1, height_ratios=heights, sharex=True)
        for axes, cells, height in zip((upper, lower), (picture.univariate, picture.combine), heights, strict=True):
            _draw_cells(axes, cells, height)
            for start in picture.starts[1:-1]:
                axes.axvline(start - 0.5, color=PANEL, linewidth=3.5)
                axes.axvline(start - 0.5, color=MUTED, linewidth=0.7)
            axes.grid(visible=False)
            axes.set_yticks([])
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color(MUTED)
        upper.set_ylabel(inputs)
        lower.set_ylabel(rows)
        step = max(1, math.ceil(n_blocks / 24))
        names = [name if k % step == 0 or name == BIAS_NAME else "" for k, name in enumerate(picture.blocks)]
        upper.tick_params(labeltop=True, labelbottom=False)
        upper.set_xticks(_middles(picture.starts), names)
        lower.tick_params(labelbottom=False)
        lower.set_xlabel("neurons of the random network")
        return to_svg(plot, "Mask of one layer")


def _draw_cells(axes: Any, cells: NDArray[np.uint8], height: int) -> None:
    rows, columns = cells.shape
    tall, wide = -(-_SHARPNESS * height // rows), -(-_SHARPNESS * WHOLE // columns)
    pixels = _CELL_COLOURS[cells].repeat(tall, axis=0).repeat(wide, axis=1)
    box = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axes.imshow(pixels, extent=box, aspect="auto", interpolation="none")


def copies_figure(
    cells: NDArray[np.uint8], rows: Sequence[int], columns: Sequence[int], names: Sequence[str], layer: int
) -> str:
    """A corner of the mask of a layer that reads copies, with the borders of its blocks of rows and of columns."""
    n_rows = len(cells)
    height = n_rows * max(4, min(12, 240 // n_rows))
    with drawing(f"copies {layer}"):
        plot = figure(WHOLE, height + 64)
        axes = plot.add_subplot()
        _draw_cells(axes, cells, height)
        for starts, line in ((columns, axes.axvline), (rows, axes.axhline)):
            for start in starts[1:-1]:
                line(start - 0.5, color=PANEL, linewidth=3.5)
                line(start - 0.5, color=MUTED, linewidth=0.7)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(MUTED)
        axes.tick_params(labeltop=True, labelbottom=False)
        step = max(1, math.ceil(len(names) / 24))
        shown = [name if k % step == 0 or name == BIAS_NAME else "" for k, name in enumerate(names)]
        axes.set_xticks(_middles(columns), shown)
        axes.set_yticks(_middles(rows), [f"y{number}" for number in range(len(rows) - 1)])
        axes.set_xlabel("copies of the inputs")
        axes.set_ylabel("copies of the outputs")
        return to_svg(plot, "Mask of a layer that reads copies")


def _middles(starts: Sequence[int]) -> list[float]:
    return [(a + b) / 2 - 0.5 for a, b in itertools.pairwise(starts)]


def running_sum(example: WorkedExample, branch: str, wanted: float | None) -> str:
    """Products one after another, each from where the last one ended."""
    products = [term.product for term in example.terms[branch]]
    labels = [f"v{k + 1}·u{k + 1}" for k in range(len(products))]
    return running_total(products, labels, wanted, f"sum for {branch}".replace(">", "above").replace("<", "below"))


def running_total(terms: Sequence[float], labels: Sequence[str], wanted: float | None, name: str) -> str:
    """Numbers one after another, each from where the last one ended."""
    ends = np.cumsum([0.0, *terms])
    with drawing(name):
        plot = figure(HALF, 84 + 22 * (len(terms) + 1))
        axes = plot.add_subplot()
        axes.grid(axis="y", visible=False)
        for row, term in enumerate(terms):
            axes.barh(row, term, 0.66, ends[row], color=FIRST if term > 0 else SECOND, linewidth=0)
            axes.plot([ends[row + 1]] * 2, [row - 0.33, row + 1.33], color=MUTED, linewidth=0.9)
        axes.barh(len(terms), ends[-1], 0.66, color=INK, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        if wanted is not None:
            axes.axvline(wanted, color=THIRD, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(terms) + 1), [*labels, "sum"])
        axes.set_ylim(len(terms) + 0.6, -0.6)
        axes.spines[:].set_visible(False)
        axes.margins(x=0.04)
        axes.locator_params(axis="x", nbins=6)
        return to_svg(plot, f"Running {name}")
