"""The construction in one drawing, the same on every page: a trained weight, and the random paths that replace it."""

from __future__ import annotations

_TOP, _STEP = 26, 38
_KEPT = (True, False, True, True, False)


def construction() -> str:
    """One weight of the trained network beside the pruned random neurons that compute it, as an inline SVG."""
    middle = _TOP + _STEP * (len(_KEPT) - 1) / 2
    parts = [
        _line(34, middle, 122, middle, "kept"),
        _text(78, middle - 8, "w", "edge"),
        _node(22, middle, "x"),
        _node(134, middle, "y"),
        _text(176, middle + 6, "≈", "big"),
    ]
    for k, kept in enumerate(_KEPT):
        y, style = _TOP + _STEP * k, "kept" if kept else "cut"
        parts += [_line(230, middle, 316, y, style), _line(344, y, 432, middle, style), _node(330, y, "", style)]
        if kept:
            # Beside a steep line, above a flat one and below one that falls.
            steep, down = abs(y - middle) > _STEP, y > middle
            x, lift = (12, -4) if steep else (0, 17 if down else -7)
            height = middle + (y - middle) / 2 + lift
            parts += [_weight(272 - x, height, "u", k + 1), _weight(388 + x, height, "v", k + 1)]
    parts += [_node(218, middle, "x"), _node(444, middle, "y")]
    label = "A trained weight w is replaced by paths through random neurons, of which a subset is kept"
    height = 2 * _TOP + _STEP * (len(_KEPT) - 1)
    return f'<svg class="plan" role="img" aria-label="{label}" viewBox="0 0 466 {height}">{"".join(parts)}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _node(x: float, y: float, name: str, style: str = "end") -> str:
    circle = f'<circle class="{style}" cx="{x:g}" cy="{y:g}" r="13"/>'
    return circle + (_text(x, y + 5, name, "name") if name else "")


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{text}</text>'


def _weight(x: float, y: float, letter: str, index: int) -> str:
    return _text(x, y, f'{letter}<tspan dy="3" font-size="9">{index}</tspan>', "edge")
