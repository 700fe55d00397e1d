"""Functions of one number beside what they are in 40 digits: ranges and slopes over an interval; no tolerance."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.certify.functions.curves import Curve
from slth.certify.functions.elementwise import CURVES, SELU_ALPHA, SELU_SCALE, SIGMOID
from slth.certify.functions.lines import SQUARE

Number = mpmath.mpf


def logistic(x: Number) -> Number:
    """1 / (1 + e^-x)."""
    return 1 / (1 + mpmath.exp(-x))


def mish(x: Number) -> Number:
    """x tanh(log(1 + e^x))."""
    return x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


def mish_slope(x: Number) -> Number:
    """Its derivative."""
    inner = mpmath.tanh(mpmath.log1p(mpmath.exp(x)))
    return inner + x * (1 - inner**2) * logistic(x)


EXACT: dict[str, tuple[Callable[[Number], Number], Callable[[Number], Number]]] = {
    "abs": (abs, mpmath.sign),
    "exp": (mpmath.exp, mpmath.exp),
    "exp2": (lambda x: 2**x, lambda x: mpmath.log(2) * 2**x),
    "expm1": (mpmath.expm1, mpmath.exp),
    "log": (mpmath.log, lambda x: 1 / x),
    "log2": (lambda x: mpmath.log(x, 2), lambda x: 1 / (x * mpmath.log(2))),
    "log10": (mpmath.log10, lambda x: 1 / (x * mpmath.log(10))),
    "log1p": (mpmath.log1p, lambda x: 1 / (1 + x)),
    "sqrt": (mpmath.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x)) if x else mpmath.inf),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), lambda x: -1 / (2 * x * mpmath.sqrt(x))),
    "erf": (mpmath.erf, lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)),
    "atan": (mpmath.atan, lambda x: 1 / (1 + x * x)),
    "asinh": (mpmath.asinh, lambda x: 1 / mpmath.sqrt(1 + x * x)),
    "sinh": (mpmath.sinh, mpmath.cosh),
    "cosh": (mpmath.cosh, mpmath.sinh),
    "sin": (mpmath.sin, mpmath.cos),
    "cos": (mpmath.cos, lambda x: -mpmath.sin(x)),
    "log_sigmoid": (lambda x: mpmath.log(logistic(x)), lambda x: logistic(-x)),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    "hardsigmoid": (lambda x: min(max(x / 6 + Number(1) / 2, 0), 1), lambda x: Number(abs(x) < 3) / 6),
    "hardswish": (
        lambda x: x * min(max(x / 6 + Number(1) / 2, 0), 1),
        lambda x: (2 * x + 3) / 6 if abs(x) < 3 else Number(x > 0),
    ),
    "mish": (mish, mish_slope),
    "selu": (
        lambda x: Number(SELU_SCALE) * (x if x > 0 else Number(SELU_ALPHA) * mpmath.expm1(x)),
        lambda x: Number(SELU_SCALE) * (1 if x > 0 else Number(SELU_ALPHA) * mpmath.exp(x)),
    ),
    "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x)),
    "square": (lambda x: x * x, lambda x: 2 * x),
}
OWN: dict[str, Curve] = {**CURVES, "sigmoid": SIGMOID, "square": SQUARE}


def test_every_curve_has_an_exact_one_beside_it() -> None:
    assert set(EXACT) == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_places_where_a_curve_turns_are_where_it_says(name: str) -> None:
    """Of a place between two numbers, the derivative (or the function) has what is stated on the way."""
    curve, (value, slope) = OWN[name], EXACT[name]
    with mpmath.workdps(40):
        for places, function in ((curve.turns, value), (curve.bends, slope)):
            for begin, end, bottom, top in places:
                for share in range(11):
                    x = Number(begin) + (Number(end) - Number(begin)) * share / 10
                    assert Number(bottom) <= function(x) <= Number(top)
        if name == "mish":
            # Between its ends each place has a sign change: of the function's slope, and of the slope's.
            for begin, end, *_ in curve.turns:
                assert slope(Number(begin)) * slope(Number(end)) < 0
            for begin, end, *_ in curve.bends:
                assert mpmath.diff(slope, Number(begin)) * mpmath.diff(slope, Number(end)) < 0


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=max(15, settings.default.max_examples // 2))
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-9, 0.1, 1.0, 5.0]), st.sampled_from([0.1, 2.0, 8.0]))
def test_no_point_is_outside_of_range_or_slopes(name: str, seed: int, width: float, scale: float) -> None:
    curve, (value, slope) = OWN[name], EXACT[name]
    generator = torch.Generator().manual_seed(seed)
    low = scale * torch.randn(8, generator=generator, dtype=torch.float64)
    if curve.least > -1e300:
        low = low.abs() + max(curve.least, 0.0)
    high = low + width * torch.rand(8, generator=generator, dtype=torch.float64)
    rounding = curve.rounding(low, high)
    (least, most), (flattest, steepest) = curve.range(low, high, rounding), curve.between(low, high)
    with mpmath.workdps(40):
        for row in zip(low, high, least, most, flattest, steepest, rounding, strict=True):
            begin, end, *bounds, room = map(float, row)
            kinks = [place[0] for place in (*curve.bends, *curve.turns) if begin <= place[0] <= end]
            for x in (begin, end, *kinks, *(begin + (end - begin) * share / 7 for share in range(1, 7))):
                if not begin <= x <= end:
                    continue
                assert bounds[0] <= value(Number(x)) <= bounds[1]
                assert bounds[2] <= slope(Number(x)) <= bounds[3]
                made = float(curve.value(torch.tensor(x, dtype=torch.float64)))
                assert abs(Number(made) - value(Number(x))) <= Number(room)
