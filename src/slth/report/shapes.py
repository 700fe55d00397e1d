"""Lines and words of hand-made drawings, as pieces of an inline SVG."""

from __future__ import annotations


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line in one of the page's styles."""
    return f'<line class="{style}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def words(x: float, y: float, text: str, style: str) -> str:
    """Words at a point."""
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{text}</text>'
