"""Random subset sums: Lueker 1998, and the two theorems that rest on it directly.

- Lueker 1998, "Exponentially small bounds on the expected optimum of the partition and subset sum problems".
- Pensia, Rajput, Nagle, Vishwakarma, Papailiopoulos 2020, "Optimal lottery tickets via subset sum".
- Burkholz et al. 2022, "On the existence of universal lottery tickets", Corollary A.2.

These name a universal constant C without a value. Ours are fitted (:data:`FITTED`), so no width below is proved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise, probability, ratio
from slth.bounds.theorem import (
    Constant,
    Constants,
    Shape,
    WidthBound,
    choose,
    dense,
    divide_remedy,
    eps_below_one,
    no_biases,
    norms_at_most,
    relu_network,
    two_layer_source,
)
from slth.errors import ArgumentError

PENSIA = "Pensia, Rajput, Nagle, Vishwakarma, Papailiopoulos 2020"


@dataclass(frozen=True)
class Law:
    """The law of a base set's elements.

    Attributes
    ----------
    name : str
    half_width, density : float
        It contains a ``density``-scaled uniform on [-half_width, half_width]: its density there is at least that
        (da Cunha et al. 2022, Definition 2).
    mean_positive, mean_negative : float
        μ_+ = E[X 1{X >= 0}] and μ_-.
    """

    name: str
    half_width: float
    density: float
    mean_positive: float
    mean_negative: float

    @property
    def share(self) -> float:
        """α: the law is Unif[-half_width, half_width] with this probability, and something else otherwise."""
        return 2 * self.half_width * self.density


UNIFORM = Law("U", 1.0, 0.5, 1 / 4, -1 / 4)
PRODUCT = Law("U V", 0.5, math.log(2) / 2, 1 / 8, -1 / 8)
HALF_PRODUCT = Law("V max(0, U)", 0.5, math.log(2) / 4, 1 / 16, -1 / 16)
"""Half of it is a useless 0. Differs: da Cunha et al. print the density of U V for it (theory, section 5.3)."""

FITTED = {UNIFORM.name: 4.0, PRODUCT.name: 6.5, HALF_PRODUCT.name: 13.0}
"""C in m = C log(2 / min(eps, delta)) for all targets in [-1, 1] at once (fitted).

Simulated base sets of 8 to 32 elements, 1000 draws a size, delta from 0.01 to 0.3 and the eps they reach there: C is
at most 3.4, 5.6 and 12.3. For delta <= 0.01 what fails is the reach of the sums; Chernoff's bound on it gives at most
3.8, 6.1 and 12.9, and less for smaller delta.
"""


def fitted(law: Law, name: str = "C") -> Constant:
    """The fitted constant of a law."""
    return Constant(name, FITTED[law.name], "fitted")


@precise
def sample_size(eps: Number, delta: Number, constant: Number = FITTED["U"]) -> int:
    """Lueker 1998, Theorem 2.4 / Corollary 2.5: m >= C log(2 / min(eps, delta)).

    So many independent U[-1, 1] have, with probability at least 1 - delta, for every z in [-1, 1] at once a subset
    whose sum is within eps of z.
    """
    least = min(positive("eps", eps), probability("delta", delta))
    return max(1, ceiling(positive("constant", constant) * log(2 / least)))


def reach(law: Law, size: int, margin: float) -> tuple[float, float]:
    """Lueker 1998, Corollary 3.3: the targets served, [(μ_- + ξ) m, (μ_+ - ξ) m] for a margin ξ > 0.

    Raises
    ------
    ArgumentError
        If the margin leaves nothing.
    """
    m, ξ = count("size", size), floating(positive("margin", margin))
    if 2 * ξ >= law.mean_positive - law.mean_negative:
        raise ArgumentError("margin", str(margin), "less than half of μ_+ - μ_-")
    return (law.mean_negative + ξ) * m, (law.mean_positive - ξ) * m


@precise
def expected_gap(size: int, a: Number, b: Number) -> float:
    """Lueker 1998, Corollary 3.3: the expected gap of m elements is at most a e^(-b m); a, b depend on law and ξ.

    The gap is the smallest η so that every target in :func:`reach` is hit to within **2 η**.
    """
    return floating(positive("a", a) * (-positive("b", b) * count("size", size)).exp())


@precise
def size_for_gap(eps: Number, delta: Number, a: Number, b: Number) -> int:
    """Fewest elements so that Markov's inequality gives P(2 gap > eps) <= delta: m >= (1 / b) log(2a / (eps delta))."""
    product = positive("eps", eps) * probability("delta", delta)
    return max(1, ceiling(log(2 * positive("a", a) / product) / positive("b", b)))


@precise
def corollary_a2(
    eps: Number,
    delta: Number,
    *,
    share: Number,
    largest_target: Number = 1,
    bound: Number = 1,
    constant: Number = FITTED["U"],
) -> int:
    """Burkholz et al. 2022, Corollary A.2: m >= C (T / α) log(B / min(delta / T, eps / max(t, α))), T = max(1, t / α).

    Parameters
    ----------
    eps, delta
        A target is missed by more than eps with probability at most delta.
    share : float
        α in (0, 1]: each element is uniform with this probability.
    largest_target : float
        t. Beyond the elements' own range it costs a linear factor.
    bound : float
        B >= |X|.
    constant : float
        C.
    """
    α, t = positive("share", share), positive("largest_target", largest_target)
    if α > 1:
        raise ArgumentError("share", str(share), "a probability above 0, at most 1")
    times = max(Decimal(1), t / α)
    least = min(probability("delta", delta) / times, positive("eps", eps) / max(t, α))
    return max(
        1, ceiling(positive("constant", constant) * times / α * log(max(Decimal(1), positive("bound", bound) / least)))
    )


@precise
def theorem_pensia(shape: Shape, eps: Number, delta: Number, constants: Constants = None) -> WidthBound:
    """Pensia et al. 2020, Theorem 1: intermediate widths C d_{i-1} log(d_{i-1} d_i l / min(eps, delta)).

    Parameters
    ----------
    shape : Shape
    eps, delta
        With probability at least 1 - delta, for every target of the class at once sup over ‖x‖_2 <= 1 of
        ‖f(x) - g(x)‖_2 is below eps.
    constants : mapping, optional
        ``C``, fitted to V max(0, U): of a block's neurons half serve positive inputs, half negative ones.

    Notes
    -----
    Differs: C log(...) is rounded up before it is multiplied, so that the d_{i-1} blocks are equal.
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    chosen = choose(constants, fitted(HALF_PRODUCT))
    least, constant = min(error, failure), exact(chosen["C"].value)
    hidden = [
        layer.inputs * layer.taps * max(1, ceiling(constant * log(layer.weights * shape.depth / least)))
        for layer in shape.layers
    ]
    widths, weights = two_layer_source(shape, hidden)
    factors = (
        max(1.0, shape.input_2norm),
        *(max(1.0, layer.spectral, layer.largest) for layer in shape.layers),
    )
    remedy = divide_remedy(shape, factors, "max(1, ‖x‖_2) and max(1, ‖W_i‖_2, ‖W_i‖_max)")
    numbered = list(enumerate(shape.layers, 1))
    return WidthBound(
        theorem="Theorem 1",
        paper=PENSIA,
        assumptions=(
            dense(shape),
            no_biases(shape),
            relu_network(shape),
            eps_below_one(floating(error)),
            norms_at_most("‖x‖_2 <= 1", [(shape.input_2norm, "sup ‖x‖_2")], remedy),
            norms_at_most("‖W_i‖_2 <= 1", [(layer.spectral, f"‖W_{i}‖_2") for i, layer in numbered], remedy),
            norms_at_most("‖W_i‖_max <= 1", [(layer.largest, f"‖W_{i}‖_max") for i, layer in numbered], remedy),
        ),
        constants=tuple(chosen.values()),
        norm="sup over ‖x‖_2 <= 1 of the 2-norm",
        source_law="U[-1, 1]",
        widths=widths,
        weights=weights,
        target_weights=shape.weights,
        per_weight=tuple(ratio(k, layer.weights) for k, (_, layer) in zip(hidden, numbered, strict=True)),
        factors=factors,
    )


@precise
def fewest_parameters(weights: int, eps: Number, delta: Number = 0.5) -> int:
    """Pensia et al. 2020, Theorem 2: no source with fewer parameters holds tickets for all linear targets.

    For every W with ‖W‖_2 <= 1 and D entries, with probability at least 1 - delta some mask gives
    sup ‖W x - g(x)‖_2 <= eps over ‖x‖_2 <= 1: then N >= D log2(1 / eps) + log2(1 - delta).

    Notes
    -----
    Differs: the paper proves Ω(log 1/eps) a weight by packing; by volume the constant is 1. The targets that one mask
    serves are within 2 eps of each other, so their volume is at most that of a ball of radius eps (Brunn-Minkowski:
    half their difference set is in that ball and no smaller), eps^D of all; some draw serves 1 - delta of all targets
    with 2^N masks.
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    bits = (count("weights", weights) * -log(error) + log(1 - failure)) / Decimal(2).ln()
    return max(0, ceiling(bits))
