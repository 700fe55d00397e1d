"""Functions entry by entry: what is known of each curve, those that are activations elsewhere, clamping and steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from slth.activations import Activation
from slth.certify.activation import RULES as ACTIVATION_RULES
from slth.certify.functions.algebra import product, square, total
from slth.certify.functions.call import Call
from slth.certify.functions.curves import Curve, Wave, through
from slth.certify.functions.moves import Rule
from slth.certify.relaxation import SLOPES
from slth.certify.state import UNIT, State, choose, inflate
from slth.network.graph import Node
from slth.network.operators import OPERATORS, Elementwise

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""As torch has them."""
_TWO_OVER_ROOT_PI = 1.1283791670955126


def _elu(alpha: float, scale: float, rate: float) -> Curve:
    """scale x for x > 0, else scale alpha (exp(rate x) - 1)."""
    kink = (scale, scale * alpha * rate)
    return Curve(
        lambda x: torch.where(x > 0, scale * x, scale * alpha * torch.expm1(rate * x)),
        lambda x: torch.where(x > 0, scale, scale * alpha * rate * torch.exp(rate * x.clamp(max=0))),
        # The product of three numbers is rounded twice.
        bends=((0.0, 0.0, min(kink) * (1 - 4 * UNIT), max(kink) * (1 + 4 * UNIT)),),
        margin=lambda low, high: 16 * UNIT * scale * (alpha + high.clamp(min=0)),
    )


def _mish(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.nn.functional.mish(x)
    return result


def _mish_slope(x: torch.Tensor) -> torch.Tensor:
    inner = torch.tanh(torch.nn.functional.softplus(x))
    result: torch.Tensor = inner + x.clamp(max=64) * (1 - inner * inner) * torch.sigmoid(x)
    return result


_ROOT = Curve(torch.sqrt, lambda x: 0.5 / torch.sqrt(x), least=0.0)
_RELATIVE = 2.0**-20
"""Numbers at least so far above 0 (chosen): logarithms and inverse roots of less are left alone."""

CURVES: Mapping[str, Curve] = {
    "abs": Curve(torch.abs, torch.sign, ((0.0, 0.0, -1.0, 1.0),), ((0.0, 0.0, 0.0, 0.0),)),
    "exp": Curve(torch.exp, torch.exp),
    "exp2": Curve(torch.exp2, lambda x: math.log(2) * torch.exp2(x)),
    "expm1": Curve(torch.expm1, torch.exp),
    "log": Curve(torch.log, torch.reciprocal, least=1e-290),
    "log2": Curve(torch.log2, lambda x: 1 / (x * math.log(2)), least=1e-290),
    "log10": Curve(torch.log10, lambda x: 1 / (x * math.log(10)), least=1e-290),
    "log1p": Curve(torch.log1p, lambda x: 1 / (1 + x), least=-1 + _RELATIVE),
    "sqrt": _ROOT,
    "rsqrt": Curve(torch.rsqrt, lambda x: -0.5 * torch.rsqrt(x) / x, least=1e-290),
    "erf": Curve(
        torch.erf,
        lambda x: _TWO_OVER_ROOT_PI * torch.exp(-x * x),
        ((0.0, 0.0, _TWO_OVER_ROOT_PI, _TWO_OVER_ROOT_PI * (1 + 4 * UNIT)),),
    ),
    "atan": Curve(torch.atan, lambda x: 1 / (1 + x * x), ((0.0, 0.0, 1.0, 1.0),)),
    "asinh": Curve(torch.asinh, lambda x: 1 / torch.sqrt(1 + x * x), ((0.0, 0.0, 1.0, 1.0),)),
    "sinh": Curve(torch.sinh, torch.cosh, ((0.0, 0.0, 1.0, 1.0),)),
    "cosh": Curve(torch.cosh, torch.sinh, turns=((0.0, 0.0, 1.0, 1.0),)),
    "sin": Wave(torch.sin, torch.cos, tops=math.pi / 2, bottoms=-math.pi / 2),
    "cos": Wave(torch.cos, lambda x: -torch.sin(x), tops=0.0, bottoms=math.pi),
    "log_sigmoid": Curve(
        torch.nn.functional.logsigmoid,
        lambda x: torch.sigmoid(-x),
        margin=lambda low, high: 16 * UNIT * (1 + low.clamp(max=0).abs()),
    ),
    "softsign": Curve(torch.nn.functional.softsign, lambda x: (1 / (1 + x.abs())).square(), ((0.0, 0.0, 1.0, 1.0),)),
    "hardsigmoid": Curve(
        torch.nn.functional.hardsigmoid,
        lambda x: choose(x.abs() < 3, 1 / 6, 0.0),
        ((-3.0, -3.0, 0.0, 0.16666666666666669), (3.0, 3.0, 0.0, 0.16666666666666669)),
        margin=lambda low, high: torch.full_like(low, 16 * UNIT),
    ),
    "hardswish": Curve(
        torch.nn.functional.hardswish,
        lambda x: torch.where(x.abs() < 3, (2 * x + 3) / 6, choose(x > 0, 1.0, 0.0)),
        ((-3.0, -3.0, -0.5, 0.0), (3.0, 3.0, 1.0, 1.5)),
        ((-1.5, -1.5, -0.375, -0.375),),
        margin=lambda low, high: 16 * UNIT * (3 + torch.maximum(low.abs(), high.abs())),
    ),
    # Where the second derivative is 0, and where the first is; tests/test_certify_functions.py encloses them.
    "mish": Curve(
        _mish,
        _mish_slope,
        (
            (-2.2563763964, -2.2563763963, -0.1125261224, -0.1125261223),
            (1.4905711794, 1.4905711795, 1.0884981612, 1.0884981613),
        ),
        ((-1.1924312146, -1.1924312145, -0.3088434131, -0.3088434130),),
        margin=lambda low, high: 16 * UNIT * (1 + torch.maximum(low.abs(), high.abs())),
    ),
    "selu": _elu(SELU_ALPHA, SELU_SCALE, 1.0),
}
"""Functions without other arguments; those that are activations of the registry are in :data:`ACTIVATIONS`."""

Alias = Callable[[Call], tuple[str, dict[str, Any]] | None]


def _plain(op: str, **names: tuple[str, float]) -> Alias:
    """An operation with numbers as attributes, by their names among the arguments and their defaults."""

    def alias(call: Call) -> tuple[str, dict[str, Any]] | None:
        found = {}
        for own, (name, default) in names.items():
            number = call.number(name)
            if number is None and not call.is_none(name):
                return None
            found[own] = default if number is None else number
        return op, found

    return alias


ACTIVATIONS: Mapping[str, Alias] = {
    "relu": _plain("relu"),
    "relu6": lambda call: ("hardtanh", {"low": 0.0, "high": 6.0}),
    "leaky_relu": _plain("leaky_relu", slope=("negative_slope", 0.01)),
    "tanh": _plain("tanh"),
    "sigmoid": _plain("sigmoid"),
    "special_expit": _plain("sigmoid"),
    "silu": _plain("silu"),
    "gelu": lambda call: ("gelu", {"approximate": str(call.arguments.get("approximate", "none"))}),
    "softplus": _plain("softplus", beta=("beta", 1.0), threshold=("threshold", 20.0)),
    "hardtanh": _plain("hardtanh", low=("min_val", -1.0), high=("max_val", 1.0)),
}
"""By function, the operation that computes the same."""


def activation_of(call: Call) -> Node | None:
    """The node of the activation that a function is; None where it is none."""
    alias = ACTIVATIONS.get(call.name)
    made = None if alias is None else alias(call)
    return None if made is None else replace(call.node, op=made[0], attributes=made[1])


def _activated(call: Call, states: Sequence[State]) -> State | None:
    node = activation_of(call)
    if node is None:
        return None
    state, made = states[0], ACTIVATION_RULES[node.op](node, states[0])
    if call.unit == UNIT or node.op == "relu":
        return made
    # In units of another size than float64's, its evaluation is off by as much more.
    phi, reach = activation(node), inflate(state.magnitude + state.error, 2)
    attributes = [abs(number) for number in node.attributes.values() if isinstance(number, float)]
    own = call.unit * (SLOPES[node.op][2](phi, reach) / UNIT + max(attributes, default=0.0)) + phi.jump
    return replace(made, error=inflate(made.error + 2 * own, 4))


def activation(node: Node) -> Activation:
    """What a node's operation computes."""
    operator = OPERATORS[node.op]
    assert isinstance(operator, Elementwise)
    return operator.activation(node.attributes)


def curve_of(call: Call) -> Curve | None:
    """The curve of a function, with its arguments; None where it is none."""
    if call.name in CURVES:
        return CURVES[call.name]
    if call.name == "celu":
        alpha = call.number("alpha") or 1.0
        return _elu(alpha, 1.0, 1 / alpha) if alpha > 0 else None
    if call.name == "elu":
        numbers = [call.number(name) for name in ("alpha", "scale", "input_scale")]
        own = [1.0 if part is None else part for part in numbers]
        return _elu(*own) if min(own) > 0 else None
    return _power(call.number("exponent")) if call.name == "pow" and call.source("self") is not None else None


def _power(exponent: float | None) -> Curve | None:
    """x^p for whole p, and for roots."""
    if exponent is None:
        return None
    if exponent == 0.5:
        return _ROOT
    if exponent == -0.5:
        return CURVES["rsqrt"]
    p = int(exponent)
    if p != exponent or not 3 <= p <= 16:
        return None
    return Curve(
        lambda x: x**p,
        lambda x: p * x ** (p - 1),
        bends=((0.0, 0.0, 0.0, 0.0),) if p % 2 else (),
        turns=() if p % 2 else ((0.0, 0.0, 0.0, 0.0),),
    )


def _curved(call: Call, states: Sequence[State]) -> State | None:
    curve = curve_of(call)
    return None if curve is None else through(curve, states[0], call.unit)


def _powered(call: Call, states: Sequence[State]) -> State | None:
    """x^p; x and x^2 by rules of their own."""
    exponent = call.number("exponent")
    if call.source("self") is None:
        return None
    if exponent == 1:
        return states[0]
    return square(states[0], call.unit) if exponent == 2 else _curved(call, states)


def clamped(call: Call, states: Sequence[State]) -> State | None:
    """Between two numbers, of which one may be missing; non-expansive, and what both networks cut off is the same."""
    ends = clamp_ends(call)
    if ends is None:
        return None
    state, error = states[0], inflate(states[0].error, 2)
    low, high = state.lower - error, state.upper + error
    parts = [
        part.clamp(*ends)
        for part in (state.lower, state.upper, low - 4 * UNIT * low.abs(), high + 4 * UNIT * high.abs())
    ]
    spread = inflate(parts[3] - parts[2], 2)
    # The numbers themselves are rounded in other units than float64's.
    own = 0.0 if call.unit == UNIT else call.unit * max(abs(end) for end in ends if math.isfinite(end))
    return State(parts[0], parts[1], torch.minimum(state.error, spread) + own, False, False)


def clamp_ends(call: Call) -> tuple[float, float] | None:
    """The least and the largest number that are left; None where they are no numbers."""
    ends = []
    for name, none in (("min", -math.inf), ("max", math.inf)):
        number = call.number(name)
        if number is None and not call.is_none(name):
            return None
        ends.append(none if number is None else number)
    return (ends[0], ends[1]) if ends[0] <= ends[1] and any(map(math.isfinite, ends)) else None


def _stepped(call: Call, states: Sequence[State]) -> State | None:
    """A function that never falls, but jumps: whatever lies between its ends."""
    state, error = states[0], inflate(states[0].error, 2)
    low, high = state.lower - error, state.upper + error
    least, most = (call([part]) for part in (low - 4 * UNIT * low.abs(), high + 4 * UNIT * high.abs()))
    return State(call([state.lower]), call([state.upper]), most - least, False, False)


def _gated(call: Call, states: Sequence[State]) -> State | None:
    """a sigmoid(b), of the two halves of an axis."""
    dim = call.arguments.get("dim", -1)
    value, gate = (states[0].each(lambda part, half=half: part.chunk(2, dim)[half]) for half in (0, 1))  # type: ignore[misc]
    return product(value, through(SIGMOID, gate, call.unit), call.unit)


SIGMOID = Curve(
    torch.sigmoid,
    lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
    ((0.0, 0.0, 0.25, 0.25),),
    margin=lambda low, high: torch.full_like(low, 16 * UNIT),
)


def _sloped(call: Call, states: Sequence[State]) -> State | None:
    """PReLU: max(x, 0) + w min(x, 0), w being a value too, along the second axis."""
    slope = call.state(states, "weight")
    if slope is None:
        return None
    state = states[0]
    if slope.lower.numel() > 1 and state.lower.dim() > 1:
        shape = (-1, *[1] * (state.lower.dim() - 2))
        slope = slope.each(lambda part: part.reshape(shape))
    up, down = (
        State(state.lower.clamp(*ends), state.upper.clamp(*ends), state.error, False, False)
        for ends in ((0, None), (None, 0))
    )
    return total([up, product(slope, down, call.unit)], call.unit)


def larger(call: Call, states: Sequence[State]) -> State | None:
    """The larger or the smaller of two numbers: as far off as the farther one."""
    one, other = call.state(states, "self"), call.state(states, "other")
    if one is None or other is None:
        return None
    choose = torch.maximum if call.name in ("maximum", "max") else torch.minimum
    low, high = choose(one.lower, other.lower), choose(one.upper, other.upper)
    return State.of([low, high, torch.maximum(one.error, other.error)])


RULES: dict[str, Rule] = {
    **dict.fromkeys((*CURVES, "celu", "elu"), _curved),
    **dict.fromkeys(ACTIVATIONS, _activated),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), clamped),
    **dict.fromkeys(("floor", "ceil", "round", "trunc", "sign", "sgn"), _stepped),
    "square": lambda call, states: square(states[0], call.unit),
    "pow": _powered,
    "glu": _gated,
    "prelu": _sloped,
    "maximum": larger,
    "minimum": larger,
}
"""By function."""
