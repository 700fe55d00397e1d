"""Figures in one style, as PNG and SVG; the same rows give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slth.report.plots import COLOURS, STYLE
from slth.reproduce.experiment import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (8.4, 4.4)

Estimate = tuple[float, tuple[float, float]]
"""A number and the ends of its interval."""


def plot_estimates(axes: Axes, at: Sequence[float], found: Sequence[Estimate], style: str = "o-", **how: Any) -> None:
    """A line or points with their intervals as bars; where an interval has no width there is none."""
    off = [[max(0.0, middle - low) for middle, (low, _) in found], [max(0.0, high - m) for m, (_, high) in found]]
    axes.errorbar(at, [middle for middle, _ in found], off, fmt=style, capsize=2, elinewidth=1, **how)


def draw(drawn: Callable[[Figure, Sequence[Row]], None], rows: Sequence[Row]) -> dict[str, bytes]:
    """The bytes of a figure by file ending."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    own = {"axes.prop_cycle": cycler(color=COLOURS), "svg.hashsalt": "slth", "legend.frameon": False}
    # Powers of ten on logarithmic axes are formulas.
    style: Any = STYLE | own | {"text.parse_math": True}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_INCHES, layout="constrained")
        drawn(figure, rows)
        found = {}
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=150, metadata=metadata)
            found[ending] = content.getvalue()
    return found
