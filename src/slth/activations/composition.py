"""Several activations in a row, as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from slth.activations.base import Activation
from slth.activations.registry import relu
from slth.activations.remainders import up


def composed(parts: Sequence[Activation]) -> Activation:
    """One activation for one or more, of which the first is applied first; a ReLU right after a ReLU is left out.

    Examples
    --------
    >>> from slth.activations import parse
    >>> composed([parse("relu"), parse("relu"), parse("leaky_relu:0.1")]).text
    'relu then leaky_relu:0.1'
    """
    return reduce(_after, [part for i, part in enumerate(parts) if not (i and part == parts[i - 1] == relu())])


def _after(inner: Activation, outer: Activation) -> Activation:
    """outer(inner(x)).

    Where inner(0) = 0 its slopes are products. With y = inner(x), which is at most lipschitz |x| + jump, outer is
    within R_outer(|y|) of its phi^, which has the steeper slope as Lipschitz constant and passes on R_inner(|x|) times
    that. Elsewhere slopes are 0, which claims nothing, and the remainder is what the Lipschitz constant allows.
    """
    lipschitz, jump = up(inner.lipschitz * outer.lipschitz), up(outer.lipschitz * inner.jump + outer.jump)
    jump = jump if inner.jump or outer.jump else 0.0
    steepest = max(abs(outer.m_plus), abs(outer.m_minus))

    def near(z: float) -> float:
        passed = inner.remainder(z)
        bound = outer.remainder(up(inner.lipschitz * z + inner.jump)) + (steepest * passed if steepest else 0.0)
        return up(bound) if bound else 0.0

    def anywhere(z: float) -> float:
        return up(lipschitz * z + jump) if z else 0.0

    through_zero = inner.d == 0
    remainder = near if through_zero else anywhere
    return Activation(
        name=f"{inner.text} then {outer.text}",
        parameters={},
        m_plus=_slope(outer, inner.m_plus, 1.0) if through_zero else 0.0,
        m_minus=_slope(outer, inner.m_minus, -1.0) if through_zero else 0.0,
        d=outer.d if through_zero else float(outer.value(inner.d)),
        lipschitz=lipschitz,
        jump=jump,
        nonnegative=outer.nonnegative or (outer.keeps_sign and inner.nonnegative),
        keeps_sign=outer.keeps_sign and inner.keeps_sign,
        function=lambda x: outer.function(inner.function(x)),
        remainder_bound=remainder,
        odd_remainder_bound=lambda z: 2 * remainder(z),
        module=None,
        proved=inner.proved and outer.proved,
        saturation=min(outer.saturation, up(abs(outer.d) + outer.lipschitz * inner.saturation + outer.jump)),
    )


def _slope(outer: Activation, slope: float, side: float) -> float:
    """Of outer's phi^ at slope x, where x has the sign ``side``."""
    return slope * (outer.m_plus if side * slope >= 0 else outer.m_minus)
