"""Neuron pruning in one drawing, the same on every page: neurons with their windows, and who stays."""

from __future__ import annotations

from slth.report.shapes import line, words

_TOP, _STEP, _RADIUS = 30, 40, 13
_LEFT, _NEURON, _RIGHT = 22, 130, 238
_BEGIN, _END = 300, 462
_TAU = 0.3
_AIMS = (0.35, -0.5, 0.05, 0.6, -0.2)
_DRAWN = (0.5, 0.3, -0.15, -0.7, 0.42)
"""û and v of the five neurons of the drawing."""


def windows() -> str:
    """A two-layer network beside five number lines: a neuron stays where v happens to lie in its window."""
    middle = _TOP + _STEP * (len(_AIMS) - 1) / 2
    parts = [words((_BEGIN + _END) / 2, 12, "v, and its window", "edge")]
    for k, (aim, drawn) in enumerate(zip(_AIMS, _DRAWN, strict=True)):
        y, style = _TOP + _STEP * k, "kept" if abs(aim - drawn) <= _TAU else "cut"
        parts += [
            line(_LEFT + _RADIUS, middle, _NEURON - _RADIUS, y, style),
            line(_NEURON + _RADIUS, y, _RIGHT - _RADIUS, middle, style),
            f'<circle class="{style}" cx="{_NEURON}" cy="{y}" r="{_RADIUS}"/>',
            f'<rect class="window" x="{_place(aim - _TAU):g}" y="{y - 9}" width="{_place(_TAU) - _place(-_TAU):g}" '
            'height="18" rx="3"/>',
            line(_BEGIN, y, _END, y, "axis"),
            line(_place(aim), y - 9, _place(aim), y + 9, "aim"),
            f'<circle class="{"in" if style == "kept" else "out"}" cx="{_place(drawn):g}" cy="{y}" r="5"/>',
        ]
    for x, name in ((_LEFT, "x"), (_RIGHT, "y")):
        parts += [f'<circle class="end" cx="{x}" cy="{middle:g}" r="{_RADIUS}"/>', words(x, middle + 5, name, "name")]
    label = "Five random neurons: those stay whose second weight lies in the window around what the fit asks for"
    height = 2 * _TOP + _STEP * (len(_AIMS) - 1) - 8
    return f'<svg class="plan" role="img" aria-label="{label}" viewBox="0 0 472 {height}">{"".join(parts)}</svg>'


def _place(value: float) -> float:
    return _BEGIN + (_END - _BEGIN) * (value + 1) / 2
