"""What the theorems need to know of an activation function: a few plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from slth.bounds.exact import Number, exact, positive, precise
from slth.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation φ, close to φ̂(x) = slope x + d near 0, with one slope on each side (Burkholz 2022, Ass. 2.3).

    |φ(x) - φ̂(x)| <= ``curvature`` |x|^``order`` for |x| <= ``limit``.

    Attributes
    ----------
    name : str
    lipschitz : float
        T or λ: |φ(x) - φ(y)| <= lipschitz |x - y|.
    at_zero : float
        d = φ(0).
    saturation : float
        sup |φ|, infinity if unbounded.
    slope_plus, slope_minus : float
        m_+ and m_-, the slopes of φ̂ for x >= 0 and x < 0.
    curvature, order, limit : float
        Of the bound above; a curvature of 0 means that φ = φ̂ everywhere.
    homogeneous : bool
        φ(c x) = c φ(x) for every c > 0.
    """

    name: str
    lipschitz: float = 1.0
    at_zero: float = 0.0
    saturation: float = math.inf
    slope_plus: float = 1.0
    slope_minus: float = 1.0
    curvature: float = 0.0
    order: int = 3
    limit: float = math.inf
    homogeneous: bool = False

    @property
    def slope_sum(self) -> float:
        """m_+ + m_-: a two-for-one layer represents the identity times this."""
        return self.slope_plus + self.slope_minus

    @property
    def split(self) -> bool:
        """Whether the two signs of an input need subset sums of their own (m_+ differs from m_-)."""
        return self.slope_plus != self.slope_minus

    @precise
    def radius(self, eps: Number) -> Decimal:
        """a(ε'): φ is within ``eps`` of φ̂ on [-a, a]."""
        target = positive("eps", eps)
        if self.curvature == 0:
            return Decimal("Infinity")
        return min((target / exact(self.curvature)) ** (Decimal(1) / self.order), exact(self.limit))

    @precise
    def inverse_g(self, value: Number) -> Decimal:
        """g^-1 where g(ε') = ε' / a(ε').

        Differs: the paper asks for g to be invertible near 0; with a(ε') = ``limit`` from some ε' on it is invertible
        everywhere, and both pieces are used.
        """
        target = positive("value", value)
        if self.curvature == 0:
            raise ArgumentError(f"g of {self.name}", "an activation without approximation error", "a finite a(ε')")
        root = Decimal(1) / self.order
        inner = (target * exact(self.curvature) ** (-root)) ** (Decimal(self.order) / (self.order - 1))
        limit = exact(self.limit)
        if not limit.is_finite() or inner <= exact(self.curvature) * limit**self.order:
            return inner
        return target * limit


def leaky_relu(slope: float) -> Activation:
    """Leaky ReLU with the given slope for x < 0."""
    if not (math.isfinite(slope) and abs(slope) <= 1):
        raise ArgumentError("slope", str(slope), "a number from -1 to 1")
    return Activation(name=f"leaky-relu({slope:g})", slope_minus=slope, homogeneous=True)


LINEAR = Activation(name="linear", homogeneous=True)
RELU = Activation(name="relu", slope_minus=0.0, homogeneous=True)
TANH = Activation(name="tanh", saturation=1.0, curvature=1 / 3, limit=math.pi / 2)
SIGMOID = Activation(
    name="sigmoid",
    lipschitz=0.25,
    at_zero=0.5,
    saturation=1.0,
    slope_plus=0.25,
    slope_minus=0.25,
    curvature=1 / 48,
    limit=math.pi,
)
GELU = Activation(
    name="gelu",
    lipschitz=1.13,
    slope_plus=0.5,
    slope_minus=0.5,
    curvature=1 / math.sqrt(2 * math.pi),
    order=2,
)
"""x Φ(x); its slope is largest, 1.1290, at √2, and x (Φ(x) - 1/2) is at most x² Φ'(0)."""
SILU = Activation(name="silu", lipschitz=1.1, slope_plus=0.5, slope_minus=0.5, curvature=0.25, order=2)
"""x / (1 + e^-x); its slope is largest, 1.0998, at 2.3994, and x (sigmoid(x) - 1/2) is at most x² / 4."""

ACTIVATIONS = {each.name: each for each in (LINEAR, RELU, TANH, SIGMOID, GELU, SILU)}
"""By name; leaky ReLUs come from :func:`leaky_relu`."""
