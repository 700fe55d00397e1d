"""The activations that come with slth, by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from slth.activations import remainders
from slth.activations.base import Activation, Floats
from slth.activations.remainders import Remainder
from slth.errors import ArgumentError

LARGEST_PARAMETER = 1e6
"""Slopes and scales are at most so large, and scales at least the inverse (chosen)."""
LEAST_THRESHOLD, LARGEST_THRESHOLD = 2.0, 700.0
"""Of softplus: above 2 log 2 (see remainders.softplus), and exp(700) is still a float64 (chosen)."""

GELU_LIPSCHITZ = 1.1289041452
"""The derivative F(x) + x f(x) has the derivative f(x) (2 - x^2), so that it is largest at sqrt(2); rounded up."""
GELU_TANH_LIPSCHITZ = 1.129
"""The largest derivative is 1.128993..., at 1.4185; enclosed by intervals in tests/test_activations.py; rounded up."""
SILU_LIPSCHITZ = 1.0998393202
"""The derivative's derivative has the sign of 2 - x tanh(x / 2): largest at 2.39936; rounded up."""


def relu() -> Activation:
    """max(0, x)."""
    return _make("relu", "ReLU", lambda x: np.maximum(x, 0), slopes=(1, 0), nonnegative=True, keeps_sign=True)


def leaky_relu(slope: float = 0.01, name: str = "leaky_relu") -> Activation:
    """x for x >= 0, ``slope`` x below."""
    slope = _number(name, "slope", slope, -LARGEST_PARAMETER, LARGEST_PARAMETER)
    return _make(
        name,
        "LeakyReLU",
        lambda x: np.where(x >= 0, x, slope * x),
        slopes=(1, slope),
        parameters={"slope": slope},
        arguments={"negative_slope": slope},
        lipschitz=max(1.0, abs(slope)),
        nonnegative=slope <= 0,
        keeps_sign=slope >= 0,
    )


def prelu(slope: float = 0.25) -> Activation:
    """LeakyReLU with a learnt slope, which is a constant once training is over."""
    return leaky_relu(slope, "prelu")


def tanh() -> Activation:
    """The hyperbolic tangent."""
    bounds = (remainders.tanh, remainders.twice(remainders.tanh))
    return _make("tanh", "Tanh", np.tanh, slopes=(1, 1), bounds=bounds, keeps_sign=True, saturation=1.0)


def sigmoid() -> Activation:
    """1 / (1 + exp(-x))."""
    bounds = (remainders.sigmoid, remainders.twice(remainders.sigmoid))
    return _make(
        "sigmoid",
        "Sigmoid",
        _sigmoid,
        slopes=(0.25, 0.25),
        d=0.5,
        bounds=bounds,
        lipschitz=0.25,
        nonnegative=True,
        saturation=1.0,
    )


def gelu() -> Activation:
    """x F(x), where F is the normal law's distribution function."""
    return _make(
        "gelu",
        "GELU",
        lambda x: 0.5 * x * _erfc(-x / math.sqrt(2)),
        slopes=(0.5, 0.5),
        bounds=(remainders.gelu, remainders.none),
        lipschitz=GELU_LIPSCHITZ,
        keeps_sign=True,
    )


def gelu_tanh() -> Activation:
    """x (1 + tanh(u(x))) / 2 with u(x) = sqrt(2 / pi) (x + 0.044715 x^3), GELU's usual approximation."""
    return _make(
        "gelu_tanh",
        "GELU",
        lambda x: x * _sigmoid(2 * math.sqrt(2 / math.pi) * x * (1 + 0.044715 * x * x)),
        slopes=(0.5, 0.5),
        arguments={"approximate": "tanh"},
        bounds=(remainders.gelu_tanh, remainders.none),
        lipschitz=GELU_TANH_LIPSCHITZ,
        keeps_sign=True,
    )


def silu() -> Activation:
    """x sigmoid(x)."""
    return _make(
        "silu",
        "SiLU",
        lambda x: x * _sigmoid(x),
        slopes=(0.5, 0.5),
        bounds=(remainders.silu, remainders.none),
        lipschitz=SILU_LIPSCHITZ,
        keeps_sign=True,
    )


def elu(alpha: float = 1.0) -> Activation:
    """x for x >= 0, ``alpha`` (exp(x) - 1) below."""
    alpha = _number("elu", "alpha", alpha, 1 / LARGEST_PARAMETER, LARGEST_PARAMETER)
    return _make(
        "elu",
        "ELU",
        lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
        slopes=(1, alpha),
        parameters={"alpha": alpha},
        arguments={"alpha": alpha},
        bounds=(remainders.elu(alpha), remainders.elu(alpha)),
        lipschitz=max(1.0, alpha),
        keeps_sign=True,
    )


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    """log(1 + exp(beta x)) / beta; x itself where beta x > ``threshold``, as torch has it, with a small jump there."""
    beta = _number("softplus", "beta", beta, 1 / LARGEST_PARAMETER, LARGEST_PARAMETER)
    threshold = _number("softplus", "threshold", threshold, LEAST_THRESHOLD, LARGEST_THRESHOLD)
    d = math.log(2) / beta
    jump = remainders.up(math.log1p(math.exp(-threshold)) / beta)
    return _make(
        "softplus",
        "Softplus",
        lambda x: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta),
        slopes=(0.5, 0.5),
        d=d,
        parameters={"beta": beta, "threshold": threshold},
        arguments={"beta": beta, "threshold": threshold},
        bounds=(remainders.softplus(beta), remainders.softplus_odd(threshold / beta, jump)),
        jump=jump,
        nonnegative=True,
    )


def identity() -> Activation:
    """x."""
    return _make("identity", "Identity", np.copy, slopes=(1, 1), keeps_sign=True)


def hardtanh(low: float = -1.0, high: float = 1.0, name: str = "hardtanh") -> Activation:
    """x, cut off at ``low`` and ``high``."""
    low = _number(name, "low", low, -LARGEST_PARAMETER, LARGEST_PARAMETER)
    high = _number(name, "high", high, math.nextafter(low, math.inf), LARGEST_PARAMETER)
    inside = low <= 0 <= high
    # Where 0 is itself cut off, phi is constant up to the nearer bound, and loses what lies beyond it.
    cuts = (low, high) if inside else (0.0, low) if low > 0 else (high, 0.0)
    return _make(
        name,
        "Hardtanh",
        lambda x: np.clip(x, low, high),
        slopes=(float(low <= 0 < high), float(low < 0 <= high)),
        d=min(max(0.0, low), high),
        parameters={"low": low, "high": high},
        arguments={"min_val": low, "max_val": high},
        bounds=(remainders.hardtanh(*cuts), remainders.hardtanh_odd(*cuts)),
        nonnegative=low >= 0,
        keeps_sign=inside,
        saturation=max(abs(low), abs(high)),
    )


def relu6() -> Activation:
    """min(max(0, x), 6)."""
    return replace(hardtanh(0.0, 6.0, "relu6"), parameters={})


ACTIVATIONS: Mapping[str, Callable[..., Activation]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "elu": elu,
    "softplus": softplus,
    "identity": identity,
    "hardtanh": hardtanh,
    "relu6": relu6,
}
"""Makers of the activations, with the usual values for their parameters."""

OWN: dict[str, Activation] = {}
"""Users' own activations of this process, by name; see :mod:`slth.activations.own`."""


def parse(text: str, where: str = "activation") -> Activation:
    """The activation of a text such as ``tanh``, ``leaky_relu:0.1`` or ``hardtanh:-2,2``.

    Raises
    ------
    ArgumentError
        If there is none of that name, or a parameter is not a number in its range.

    Examples
    --------
    >>> parse("leaky_relu:0.1").m_minus
    0.1
    """
    if text in OWN:
        return OWN[text]
    name, colon, rest = text.partition(":")
    if name not in ACTIVATIONS:
        need = f"one of {', '.join((*ACTIVATIONS, *OWN))}"
        raise ArgumentError(where, text, need, "leaky_relu:0.1, or slth.activations.register with one of your own")
    names = [key for key in inspect.signature(ACTIVATIONS[name]).parameters if key != "name"]
    try:
        values = [float(part) for part in rest.split(",")] if colon else []
    except ValueError:
        values = [math.nan]
    if len(values) > len(names) or not all(map(math.isfinite, values)):
        need = f"{name}:{','.join(names).upper()} with numbers" if names else f"{name}, which has no parameters"
        raise ArgumentError(where, text, need)
    return ACTIVATIONS[name](**dict(zip(names, values, strict=False)))


def _make(
    name: str,
    kind: str,
    function: Callable[[Floats], Floats],
    *,
    slopes: tuple[float, float],
    d: float = 0.0,
    parameters: Mapping[str, float] | None = None,
    arguments: Mapping[str, Any] | None = None,
    bounds: tuple[Remainder, Remainder] = (remainders.none, remainders.none),
    lipschitz: float = 1.0,
    jump: float = 0.0,
    nonnegative: bool = False,
    keeps_sign: bool = False,
    saturation: float = math.inf,
) -> Activation:
    """An activation whose torch module is ``torch.nn.<kind>(**arguments)``; bounds: remainder and odd remainder."""

    def module() -> Any:
        import torch

        return getattr(torch.nn, kind)(**(arguments or {}))

    return Activation(
        name=name,
        parameters=parameters or {},
        m_plus=float(slopes[0]),
        m_minus=float(slopes[1]),
        d=float(d),
        lipschitz=lipschitz,
        jump=jump,
        nonnegative=nonnegative,
        keeps_sign=keeps_sign,
        function=function,
        remainder_bound=bounds[0],
        odd_remainder_bound=bounds[1],
        module=module,
        saturation=saturation,
    )


def _number(name: str, parameter: str, value: float, low: float, high: float) -> float:
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ArgumentError(f"activation {name}, {parameter}", f"{value!r}", f"a number from {low:g} to {high:g}")
    return float(value)


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        result: Floats = 1 / (1 + np.exp(-x))
    return result


def _erfc(x: Floats) -> Floats:
    import torch

    result: Floats = torch.special.erfc(torch.from_numpy(np.atleast_1d(x))).numpy().reshape(x.shape)
    return result
