"""Every theorem that gives widths, by name: a new one is a function in its paper's file and a line here."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

from slth.bounds import burkholz, dacunha, lueker, malach, orseau
from slth.bounds.exact import Number, exact, precise
from slth.bounds.theorem import Bound, Constants, Shape, WidthBound
from slth.errors import ArgumentError

THEOREMS: MappingProxyType[str, Bound] = MappingProxyType(
    {
        "malach-2.1": malach.theorem_21,
        "malach-a6": malach.theorem_a6,
        "malach-2.3": malach.theorem_23,
        "orseau-3": orseau.theorem_3,
        "orseau-3-repaired": orseau.theorem_3_repaired,
        "orseau-30": orseau.theorem_30,
        "orseau-3-or-30": orseau.theorem_3_or_30,
        "orseau-12": orseau.remark_12_log,
        "orseau-12-loglog": orseau.remark_12_loglog,
        "orseau-14": orseau.remark_14_unknown,
        "pensia-1": lueker.theorem_pensia,
        "burkholz-2.5": burkholz.theorem_25,
        "burkholz-2.6": burkholz.theorem_26,
        "burkholz-2.9": burkholz.theorem_29,
        "dacunha-1": dacunha.theorem_1,
    }
)
"""Name -> (shape, eps, delta, constants) -> WidthBound."""


def width_bound(
    name: str, shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, normalise: bool = False
) -> WidthBound:
    """A theorem's widths for a target, as it is or divided until its norms obey.

    Parameters
    ----------
    name : str
        One of :data:`THEOREMS`.
    shape : Shape
    eps, delta
        The error asked of the target as it is, and the probability of failure.
    constants : mapping, optional
        Replacements for the theorem's constants that are not proved.
    normalise : bool
        Divide the input and every layer by the bound's ``factors`` and ask for eps / their product, which is the same
        error once the output is multiplied by it. Only for positively homogeneous activations; others stay.

    Returns
    -------
    WidthBound
        Its ``factors`` are those that were applied.

    Raises
    ------
    ArgumentError
        If there is no such theorem, or a number is out of range.
    """
    if name not in THEOREMS:
        raise ArgumentError("theorem", repr(name), "one of " + ", ".join(THEOREMS))
    bound = THEOREMS[name](shape, eps, delta, constants)
    homogeneous = all(layer.activation.homogeneous for layer in shape.layers[:-1])
    if not normalise or not homogeneous or math.prod(bound.factors) == 1.0:
        return bound
    return _normalised(name, shape, eps, delta, constants, bound.factors)


@precise
def _normalised(
    name: str, shape: Shape, eps: Number, delta: Number, constants: Constants, factors: tuple[float, ...]
) -> WidthBound:

    divided = shape.divided(factors[1:], factors[0])
    product = math.prod((exact(factor) for factor in factors), start=exact(1))
    return replace(THEOREMS[name](divided, exact(eps) / product, delta, constants), factors=factors)
