"""The construction in one drawing, the same on every page: a trained weight, and the random paths that replace it."""

from __future__ import annotations

from slth.report.shapes import line, words

_TOP, _STEP = 26, 38
_KEPT = (True, False, True, True, False)


def construction() -> str:
    """One weight of the trained network beside the pruned random neurons that compute it, as an inline SVG."""
    middle = _TOP + _STEP * (len(_KEPT) - 1) / 2
    parts = [
        line(34, middle, 122, middle, "kept"),
        words(78, middle - 8, "w", "edge"),
        _node(22, middle, "x"),
        _node(134, middle, "y"),
        words(176, middle + 6, "≈", "big"),
    ]
    for k, kept in enumerate(_KEPT):
        y, style = _TOP + _STEP * k, "kept" if kept else "cut"
        parts += [line(230, middle, 316, y, style), line(344, y, 432, middle, style), _node(330, y, "", style)]
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


def _node(x: float, y: float, name: str, style: str = "end") -> str:
    circle = f'<circle class="{style}" cx="{x:g}" cy="{y:g}" r="13"/>'
    return circle + (words(x, y + 5, name, "name") if name else "")


def _weight(x: float, y: float, letter: str, index: int) -> str:
    return words(x, y, f'{letter}<tspan dy="3" font-size="9">{index}</tspan>', "edge")
