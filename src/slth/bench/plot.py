"""Time against the size of the base set, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from slth.bench.contenders import BASELINE
from slth.bench.measure import Line
from slth.bench.report import Report
from slth.report.plots import STYLE

_COLOURS = {
    BASELINE: "#1f6fb2",
    "torch": "#5aa9e6",
    "greedy-golden": "#0c8a64",
    "integers": "#7a6fc0",
    "enumerate": "#a06a3c",
    "enumeration": "#c8590a",
    "sort-search": "#b8860b",
    "flsss": "#c2387a",
    "cp-sat": "#d03030",
    "highs": "#8c3bb0",
    "gurobi": "#5b636d",
}
_OTHERS = ("#2a9d9d", "#8a8f00", "#b05a7a")
_PANEL_INCHES, _HEIGHT_INCHES, _LABEL_INCHES = 3.3, 5.2, 1.05
_LABEL_GAP = 0.042
"""Of the axes' height, between the middles of two labels."""


def draw(report: Report) -> bytes:
    """A PNG with one panel an objective and one line a solver, on the first base sets measured.

    A hollow mark with an arrow stands for a solver that ran into the time limit.
    """
    import matplotlib
    from matplotlib.figure import Figure

    base_set = report.settings.base_sets[0]
    panels = [
        (
            objective,
            [line for line in report.measurement.lines if (line.objective, line.base_set) == (objective, base_set)],
        )
        for objective in report.settings.objectives
    ]
    panels = [(objective, lines) for objective, lines in panels if lines]
    style: Any = STYLE
    with matplotlib.rc_context(style):
        width = (_PANEL_INCHES + _LABEL_INCHES) * max(1, len(panels)) + 0.6
        figure = Figure(figsize=(width, _HEIGHT_INCHES), layout="constrained")
        axes = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
        for axis, (objective, lines) in zip(axes, panels, strict=False):
            _panel(axis, lines, list(report.contenders))
            within = "" if objective == "best" else f" within {report.settings.tolerance:g}"
            axis.set_title(f"{objective}{within}")
        _label(axes, panels, list(report.contenders))
        axes[0].set_ylabel("time a problem, one thread")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _colour(name: str, names: Sequence[str]) -> str:
    unknown = [other for other in names if other not in _COLOURS]
    return _COLOURS.get(name) or _OTHERS[unknown.index(name) % len(_OTHERS)]


def _panel(axis: Any, lines: Sequence[Line], names: Sequence[str]) -> None:
    sizes = sorted({line.m for line in lines})
    for name in names:
        own = [line for line in lines if line.contender == name]
        if not own:
            continue
        colour, main = _colour(name, names), name == BASELINE
        axis.plot(
            [line.m for line in own],
            [line.median_seconds for line in own],
            color=colour,
            linewidth=2.8 if main else 1.5,
            marker="o",
            markersize=5 if main else 3.6,
            zorder=4 if main else 3,
        )
        for line in own:
            if line.cut:
                axis.plot(line.m, line.median_seconds, "o", color=colour, markerfacecolor="white", zorder=5)
                axis.annotate(
                    "",
                    (line.m, line.median_seconds),
                    (0, 13),
                    textcoords="offset points",
                    arrowprops={"arrowstyle": "<-", "color": colour},
                )
    axis.set_yscale("log")
    axis.set_xticks(sizes)
    axis.set_xlabel("elements in the base set, m")
    axis.yaxis.set_major_formatter(lambda value, _: _unit(value))


def _unit(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale * 0.999:
            return f"{seconds / scale:,.0f} {unit}"
    return f"{seconds * 1e9:,.3g} ns"


def _label(axes: Sequence[Any], panels: Sequence[tuple[str, Sequence[Line]]], names: Sequence[str]) -> None:
    """The solvers' names beside the ends of their lines, moved apart where they would cover each other."""
    low, high = (math.log10(limit) for limit in axes[0].get_ylim())
    gap = _LABEL_GAP * (high - low)
    for axis, (_, lines) in zip(axes, panels, strict=False):
        sizes = [line.m for line in lines]
        last, span = max(sizes), max(1, max(sizes) - min(sizes))
        ends = {line.contender: line for line in sorted(lines, key=lambda line: line.m)}
        order = sorted(ends, key=lambda name: ends[name].median_seconds)
        heights = _spread([math.log10(ends[name].median_seconds) for name in order], gap)
        for name, height in zip(order, heights, strict=True):
            end, colour = ends[name], _colour(name, names)
            place = last + 0.07 * span
            axis.annotate(
                name,
                (end.m, end.median_seconds),
                (place, 10.0**height),
                color=colour,
                va="center",
                annotation_clip=False,
                fontweight="semibold" if name == BASELINE else "normal",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "linestyle": ":", "shrinkA": 1},
            )
        axis.set_xlim(min(sizes) - 0.04 * span, last + 0.04 * span)


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places as near to the ones wanted as a least gap allows: neighbours that collide move as one block."""
    blocks: list[tuple[float, int]] = []
    for height in wanted:
        middle, count = height, 1
        while blocks and middle - (count - 1) * gap / 2 < blocks[-1][0] + (blocks[-1][1] + 1) * gap / 2:
            other, n = blocks.pop()
            # The middle of the block that both make, each place weighing the same.
            middle, count = (middle * count + other * n) / (count + n), count + n
        blocks.append((middle, count))
    return [middle + (k - (count - 1) / 2) * gap for middle, count in blocks for k in range(count)]
