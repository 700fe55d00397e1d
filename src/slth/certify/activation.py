"""Bounds through activations.

The target's value t and the ticket's value s lie in the hull [lower - error, upper + error], so that

    |phi(s) - phi(t)| <= min(sup |phi'| |s - t|, max phi - min phi), each over the hull.

**Margins** [chosen]. torch evaluates these functions in float64 to within a few units in the last place of the numbers
that occur on the way (SLEEF and the C libraries claim 1 each; tests/test_certify_activation.py measures them against
50 digits and finds less than a tenth of the margins). ``margin`` stands for at most 16 such units, 2^-52 each, and is
added for every evaluation: the bounds' own, the target's and the ticket's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from slth.activations import Activation
from slth.activations.base import OWN_ROUNDING
from slth.activations.registry import GELU_LIPSCHITZ, SILU_LIPSCHITZ
from slth.certify.state import TINY, UNIT, State, choose, inflate
from slth.network.graph import Node, Sign
from slth.network.operators import OPERATORS, Elementwise

Slope = Callable[[Activation, torch.Tensor, torch.Tensor], torch.Tensor]
"""sup of |phi'| between two bounds, entry by entry."""
Margin = Callable[[Activation, torch.Tensor], torch.Tensor]
"""Bound on the rounding of one evaluation at arguments of at most this size."""
Valley = tuple[float, float, float]
"""Two numbers around the place of the only minimum, left of which phi falls, and a number below its value."""

_UNITS = 16 * UNIT
DERIVATIVE = 64 * UNIT
"""Added to derivatives, all of them sums of a few terms below 2, for their rounding (chosen)."""

_PIECES = 64
"""Into which the bounds on the argument of a user's own activation are cut (chosen)."""

GELU_VALLEY: Valley = (-0.751791525, -0.751791524, -0.16997120747990370)
"""F(x) + x f(x), the derivative, is below 0 up to -0.7517915246..., and above it from there on."""
GELU_TANH_VALLEY: Valley = (-0.752461423, -0.752461422, -0.17004075057125408)
"""For x = -y < 0 the derivative has the sign of 1 - 2 y u'(y) / (1 + exp(-2 u(y))), which falls with y."""
SILU_VALLEY: Valley = (-1.278464543, -1.278464542, -0.27846454276107383)
"""sigmoid(x) (1 + x (1 - sigmoid(x))), the derivative, has the sign of 1 + exp(x) + x, which grows."""
_SILU_STEEPEST = (2.3993572805, 2.3993572806)
"""Where x tanh(x / 2) = 2."""


def relu(node: Node, state: State) -> State:
    """max(0, x) is non-expansive; where the target's value is at most u < 0 both results lie in [0, max(0, u + e)]."""
    reach = inflate((state.upper + state.error).clamp(min=0), 2)
    error = torch.minimum(state.error, reach)
    return State(state.lower.clamp(min=0), state.upper.clamp(min=0), error, True, state.nonpositive)


def leaky_relu(node: Node, state: State) -> State:
    """The slope of each side that the hull reaches; with a negative slope the minimum is 0 at 0."""
    valley = (0.0, 0.0, 0.0) if node.attributes["slope"] < 0 else None
    return _through(node, state, leaky_slope, size_margin, valley)


def tanh(node: Node, state: State) -> State:
    """Monotone; 1 - tanh^2 is largest where the hull is nearest to 0."""
    return _through(node, state, tanh_slope, tanh_margin)


def sigmoid(node: Node, state: State) -> State:
    """Monotone; sigmoid (1 - sigmoid) is largest where the hull is nearest to 0."""
    return _through(node, state, sigmoid_slope, sigmoid_margin)


def gelu(node: Node, state: State) -> State:
    """Falls, then rises; the derivative rises between -sqrt(2) and sqrt(2) and falls outside (see GELU_LIPSCHITZ)."""
    if node.attributes["approximate"] == "tanh":
        return _through(node, state, global_slope, size_margin, GELU_TANH_VALLEY)
    return _through(node, state, gelu_slope, size_margin, GELU_VALLEY)


def silu(node: Node, state: State) -> State:
    """Falls, then rises; the derivative rises between -2.39936 and 2.39936 and falls outside (see SILU_LIPSCHITZ)."""
    return _through(node, state, silu_slope, size_margin, SILU_VALLEY)


def elu(node: Node, state: State) -> State:
    """Monotone; the derivative is 1 above 0 and alpha exp(x), which rises, below."""
    return _through(node, state, elu_slope, elu_margin)


def softplus(node: Node, state: State) -> State:
    """Monotone with a rising derivative, but for torch's step down at its threshold."""
    return _through(node, state, softplus_slope, softplus_margin)


def hardtanh(node: Node, state: State) -> State:
    """Monotone and exact; what is cut off on both networks' sides has no error."""
    return _through(node, state, global_slope, no_margin)


def own(node: Node, state: State) -> State:
    """A user's own activation: what is said of its Lipschitz constant and signs is taken for true, and nothing else.

    Within a piece of width w between two values a and b no value is above (a + b + L w) / 2 or below (a + b - L w) / 2.
    """
    operator = OPERATORS[node.op]
    assert isinstance(operator, Elementwise)
    activation = operator.activation(node.attributes)
    error = inflate(state.error, 2)
    below, above = _outward(state.lower - error, state.upper + error)
    size = torch.maximum(below.abs(), above.abs())
    rounding = 2 * inflate(OWN_ROUNDING * (1 + abs(activation.d) + 2 * activation.lipschitz * size), 4)
    lower, upper = (part.clone() for part in _pieces(activation, state.lower, state.upper, rounding))
    least, most = _pieces(activation, below, above, rounding)
    moved = inflate(inflate(activation.lipschitz * error, 4) + rounding, 4)
    spread = inflate((most - least).clamp(min=0), 4)
    nonnegative, nonpositive = _signs(operator, node, state)
    if nonnegative:
        lower = lower.clamp(min=0)
    if nonpositive:
        upper = upper.clamp(max=0)
    return State(lower, upper, torch.minimum(moved, spread), nonnegative, nonpositive)


RULES: Mapping[str, Callable[[Node, State], State]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "silu": silu,
    "elu": elu,
    "softplus": softplus,
    "hardtanh": hardtanh,
    "own": own,
}
"""By operation."""


def _pieces(
    activation: Activation, lower: torch.Tensor, upper: torch.Tensor, rounding: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest value between two bounds, by the Lipschitz constant over a few pieces."""
    width = inflate((upper - lower) / _PIECES, 4)
    slack = inflate(activation.lipschitz * width / 2, 4)
    ends = [lower + (upper - lower) * (k / _PIECES) for k in range(_PIECES)] + [upper]
    values = [torch.from_numpy(np.asarray(activation.value(end.numpy()))) for end in ends]
    middles = torch.stack([(a + b) / 2 for a, b in itertools.pairwise(values)])
    # An end that is rounded moves by less than the rounding of the function is allowed to be.
    least, most = middles.amin(dim=0) - slack, middles.amax(dim=0) + slack
    return _outward(least - 2 * rounding, most + 2 * rounding)


def _through(node: Node, state: State, slope: Slope, margin: Margin, valley: Valley | None = None) -> State:
    operator = OPERATORS[node.op]
    assert isinstance(operator, Elementwise)
    activation = operator.activation(node.attributes)
    error = inflate(state.error, 2)
    below, above = _outward(state.lower - error, state.upper + error)
    rounding = 2 * inflate(margin(activation, torch.maximum(below.abs(), above.abs())), 4)
    step = jump_between(activation, below, above)
    slack = rounding + step
    lower, upper = (part.clone() for part in _range(activation, state.lower, state.upper, slack, valley))
    least, most = _range(activation, below, above, slack, valley)
    moved = inflate(slope(activation, below, above) * error, 4) + slack
    spread = inflate((most - least).clamp(min=0), 4)
    nonnegative, nonpositive = _signs(operator, node, state)
    if nonnegative:
        lower = lower.clamp(min=0)
    if nonpositive:
        upper = upper.clamp(max=0)
    return State(lower, upper, torch.minimum(inflate(moved, 4), spread), nonnegative, nonpositive)


def _outward(lower: torch.Tensor, upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds moved apart by more than one rounding."""
    return lower - (2 * UNIT * lower.abs() + TINY), upper + (2 * UNIT * upper.abs() + TINY)


def _range(
    activation: Activation, lower: torch.Tensor, upper: torch.Tensor, slack: torch.Tensor, valley: Valley | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest value between two bounds, at most ``slack`` being lost in an evaluation."""
    module = activation.torch_module()
    left, right = module(lower), module(upper)
    least, most = torch.minimum(left, right), torch.maximum(left, right)
    if valley is not None:
        begin, end, bottom = valley
        least = torch.where((lower < end) & (upper > begin), least.clamp(max=bottom), least)
    return _outward(least - slack, most + slack)


def jump_between(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """The jump, where a hull reaches to both sides of it."""
    if activation.jump == 0:
        return torch.zeros_like(lower)
    place = activation.parameters["threshold"] / activation.parameters["beta"]
    reached = (lower <= place * (1 + 1e-9)) & (upper >= place * (1 - 1e-9))
    return choose(reached, activation.jump, 0.0)


def _signs(operator: Elementwise, node: Node, state: State) -> tuple[bool, bool]:
    """Whether no result can be negative, and whether none can be positive."""
    known = [Sign.SIGNED]
    known += [Sign.NONNEGATIVE] if state.nonnegative else []
    known += [Sign.NONPOSITIVE] if state.nonpositive else []
    results = {operator.sign(node.attributes, sign) for sign in known}
    return Sign.NONNEGATIVE in results, Sign.NONPOSITIVE in results


def _nearest_to_zero(lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    return torch.where((lower <= 0) & (upper >= 0), 0.0, torch.minimum(lower.abs(), upper.abs()))


def no_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """Of what is evaluated exactly."""
    return torch.zeros_like(size)


def tanh_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """In proportion to the value, which is at most 1."""
    return _UNITS * size.clamp(max=1)


def sigmoid_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """In proportion to 1."""
    return torch.full_like(size, _UNITS)


def elu_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """In proportion to alpha."""
    return torch.full_like(size, _UNITS * activation.m_minus)


def size_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """In proportion to the argument."""
    return _UNITS * activation.lipschitz * size


def softplus_margin(activation: Activation, size: torch.Tensor) -> torch.Tensor:
    """exp(y) is off by a part (|y| + 2) 2^-53 where its argument y = beta x is rounded, and log1p no more than that."""
    return _UNITS * (size + 1 / activation.parameters["beta"])


def global_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """The Lipschitz constant, everywhere."""
    return torch.full_like(lower, activation.lipschitz)


def leaky_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """1, the slope of the other side, or the larger of both."""
    return torch.maximum(choose(upper > 0, 1.0, 0.0), choose(lower < 0, abs(activation.m_minus), 0.0))


def tanh_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """1 - tanh^2, nearest to 0."""
    return 1 - torch.tanh(_nearest_to_zero(lower, upper)) ** 2 + DERIVATIVE


def sigmoid_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """The derivative, nearest to 0."""
    small = torch.sigmoid(-_nearest_to_zero(lower, upper))
    return small * (1 - small) + DERIVATIVE


def elu_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """1 where the hull reaches above 0, and alpha exp(x) below."""
    left = activation.m_minus * (torch.exp(upper.clamp(max=0)) + DERIVATIVE)
    return torch.maximum(choose(upper > 0, 1.0, 0.0), torch.where(lower < 0, left, 0.0))


def softplus_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """The sigmoid, at the upper end."""
    beta, threshold = activation.parameters["beta"], activation.parameters["threshold"]
    linear = beta * upper >= threshold * (1 - 1e-9)
    return torch.where(linear, 1.0, torch.sigmoid(beta * upper) + DERIVATIVE)


def gelu_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """At an end, or where the derivative is steepest."""

    def derivative(x: torch.Tensor) -> torch.Tensor:
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        result: torch.Tensor = 0.5 * torch.special.erfc(-x / math.sqrt(2)) + x * density
        return result

    return _between_extremes(derivative, (1.4142135623, 1.4142135624), GELU_LIPSCHITZ, lower, upper)


def silu_slope(activation: Activation, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """At an end, or where the derivative is steepest."""

    def derivative(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.sigmoid(x) * (1 + x * torch.sigmoid(-x))
        return result

    return _between_extremes(derivative, _SILU_STEEPEST, SILU_LIPSCHITZ, lower, upper)


def _between_extremes(
    derivative: Callable[[torch.Tensor], torch.Tensor],
    steepest: tuple[float, float],
    largest: float,
    lower: torch.Tensor,
    upper: torch.Tensor,
) -> torch.Tensor:
    """sup of |phi'| for a derivative with phi'(x) + phi'(-x) = 1 that rises between -x* and x* and falls outside.

    It is at an end of the hull, or ``largest`` at x*, or ``largest`` - 1 below 0 at -x*; ``steepest`` encloses x*.
    """
    # Beyond 64 the derivative is as near to 0 or 1 as its rounding.
    ends = [derivative(part.clamp(-64, 64)).abs() for part in (lower, upper)]
    slope = torch.maximum(*ends) + DERIVATIVE
    begin, end = steepest
    slope = torch.where((lower < end) & (upper > begin), largest, slope)
    dip = choose((lower < -begin) & (upper > -end), largest - 1, 0.0)
    return torch.maximum(slope, dip)
