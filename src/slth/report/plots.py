"""The style of all plots."""

from __future__ import annotations

from typing import Any

INK, MUTED, GRID = "#1d2126", "#5b636d", "#e3e5e8"
COLOURS = ("#1f6fb2", "#c8590a", "#0c8a64", "#c2387a", "#7a6fc0", "#a06a3c", "#5b636d", "#2a9d9d")
"""Of lines, in order."""

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "semibold",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
