"""Constants that theorems leave open, measured where that can be done: the answers of ``slth calibrate``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from slth.bounds.lueker import FITTED, HALF_PRODUCT, PRODUCT, UNIFORM
from slth.bounds.theorem import WidthBound
from slth.calibration import store
from slth.calibration.elements import parse_elements
from slth.calibration.sizes import ALL, Calibration, Question, calibrate, default_draws, default_largest
from slth.errors import ArgumentError
from slth.forecast.network import Progress

QUICK = 0.01
"""No eps or delta below it is measured on the way (chosen): a law then takes seconds; below, ask ``slth calibrate``."""

LAWS: Mapping[float, str] = {
    FITTED[UNIFORM.name]: "uniform",
    FITTED[PRODUCT.name]: "product",
    FITTED[HALF_PRODUCT.name]: "half-product",
}
"""Fitted value of a constant -> the elements that it was fitted to; all three differ."""


@dataclass(frozen=True)
class Used:
    """A constant that entered a theorem's widths.

    Attributes
    ----------
    name : str
    value : float
    kind : {"proved", "fitted", "chosen", "calibrated"}
        As in :class:`slth.bounds.theorem.Constant`; ``calibrated`` is C = m / log(2 / min(eps, delta)) with m measured.
    base_set_size : int or None
        That m.
    elements : str
        Law of the base sets for which it was fitted or measured; empty for a proved constant.
    """

    name: str
    value: float
    kind: str
    base_set_size: int | None = None
    elements: str = ""


def measured(bound: WidthBound, eps: float, delta: float, on_progress: Progress | None = None) -> tuple[Used, ...]:
    """What can stand in for a theorem's fitted constants.

    Parameters
    ----------
    bound : WidthBound
        Of the theorem with its own constants.
    eps, delta : float
        Asked of the network. The base set is measured at these; the theorem's logarithm then asks for more of it.
    on_progress : callable, optional
        Told the elements' law, base sets done and all.

    Returns
    -------
    tuple of Used
        Only those that were measured before, or can be within seconds.
    """
    found = []
    for constant in bound.constants:
        if constant.kind != "fitted":
            continue
        answer = _answer(LAWS[constant.value], eps, delta, on_progress)
        if answer is not None and answer.size is not None:
            value = answer.size / math.log(2 / min(eps, delta))
            found.append(Used(constant.name, value, "calibrated", answer.size, LAWS[constant.value]))
    return tuple(found)


def _answer(law: str, eps: float, delta: float, on_progress: Progress | None) -> Calibration | None:
    """As ``slth calibrate --eps E --delta D`` asks and keeps it; None where it would take too long."""
    elements = parse_elements(law)
    try:
        question = Question(
            elements, eps, delta, ALL, draws=default_draws(delta), largest=default_largest(elements, ALL)
        )
    except ArgumentError:
        # No base set is small enough to be looked at.
        return None
    answer = store.load(question)
    if answer is None and min(eps, delta) >= QUICK and max(eps, delta) < 1:
        answer = calibrate(
            question, on_progress=None if on_progress is None else partial(on_progress, f"base sets of {law} elements")
        )
        store.save(answer)
    return answer


def constants(bound: WidthBound, replaced: tuple[Used, ...]) -> tuple[Used, ...]:
    """All constants of a bound, the replaced ones with where they come from."""
    new = {used.name: used for used in replaced}
    return tuple(
        new.get(each.name, Used(each.name, each.value, each.kind, None, _law(each.kind, each.value)))
        for each in bound.constants
    )


def _law(kind: str, value: float) -> str:
    return LAWS.get(value, "") if kind == "fitted" else ""
