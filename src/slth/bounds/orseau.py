"""Orseau, Hutter, Rivasplata 2020, "Logarithmic Pruning is All You Need".

Weights are put together from k pieces of a golden-ratio decomposition, which hyperbolic sampling provides, so the
width grows with log(1/eps). Every constant is the paper's and explicit. This file: how weight errors propagate
(lemmas 1 and 18), how many samples fill the bins (lemmas 9 and 29), the widths (theorems 3 and 30).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise, probability, ratio
from slth.bounds.recycling import HYPERBOLIC, LOG, LOGLOG, neurons_of_a_round, place_bins, shelves
from slth.bounds.theorem import (
    Assumption,
    Constants,
    Shape,
    WidthBound,
    choose,
    dense,
    no_biases,
    relu_network,
    two_layer_source,
)
from slth.errors import ArgumentError

PAPER = "Orseau, Hutter, Rivasplata 2020"
GAMMA = Decimal(2) / 3
"""γ, the ratio of successive pieces; any number from 1/φ (golden ratio) to below 1 would do."""

TicketNorms = Literal["a priori", "stated", "worst"]
"""What stands for ‖Ŵ_i‖_2 of a ticket not yet found: see :func:`tolerance`."""


def recursion(growth: Sequence[float], increments: Sequence[float], start: float = 0.0) -> float:
    """x_T of x_t = a_t x_{t-1} + b_t, x_0 = ``start``: what lemma 18 bounds."""
    x = start
    for a, b in zip(growth, increments, strict=True):
        x = a * x + b
    return x


def feasible_tau(growth: Sequence[float], threshold: float = 2.0) -> float:
    """Corollary 22: τ = max(1 / (x - 1), #{a_t < x}) is feasible in lemma 18 for every x > 1."""
    if not threshold > 1:
        raise ArgumentError("threshold", str(threshold), "a number above 1", "2.0")
    return max(1 / (threshold - 1), float(sum(a < threshold for a in growth)))


def _feasible(growth: Sequence[float], tau: float) -> bool:
    return tau > 0 and sum(a < 1 + 1 / tau for a in growth) <= tau


def lemma_18(
    growth: Sequence[float], increments: Sequence[float], start: float = 0.0, tau: float | None = None
) -> float:
    """Lemma 18: x_T <= e (x_0 + c) times the product of all a_t >= 1 + 1/τ, if x_t <= a_t x_{t-1} + b_t.

    c = max_t b_t / (ã_t - 1) with ã_t = max(a_t, 1 + 1/τ), for any τ with #{a_t < 1 + 1/τ} <= τ.

    Parameters
    ----------
    growth, increments : sequence of float
        a_t >= 0 and b_t >= 0.
    start : float
        x_0 >= 0.
    tau : float, optional
        Without it the best of τ = T and of corollary 22 at every a_t above 1.

    Raises
    ------
    ArgumentError
        If a number is negative or τ is not feasible.

    Notes
    -----
    Differs: the paper writes c as min(τ max b, max b_t / (a_t - 1)), which is the same only with ã_t for a_t; a_t
    below 1 would make its second term negative.
    """
    if len(growth) != len(increments) or start < 0 or any(value < 0 for value in (*growth, *increments)):
        raise ArgumentError("sequences", f"{growth}, {increments}, {start}", "two of one length, nothing below 0")
    if not growth:
        return start
    if tau is None:
        candidates = {float(len(growth)), *(feasible_tau(growth, a) for a in growth if a > 1)}
        return min(lemma_18(growth, increments, start, each) for each in candidates if _feasible(growth, each))
    if not _feasible(growth, tau):
        raise ArgumentError("tau", str(tau), "a τ above 0 with at most τ of the a_t below 1 + 1/τ", str(len(growth)))
    c = max(b / max(1 / tau, a - 1) for a, b in zip(growth, increments, strict=True))
    return math.e * (start + c) * math.prod(a for a in growth if a >= 1 + 1 / tau)


def corollary_27(growth: Sequence[float], increments: Sequence[float]) -> float:
    """Corollary 27: x_T <= e T max b_t times the product of max(1, a_t), for x_0 = 0."""
    return math.e * len(growth) * max(increments, default=0.0) * math.prod(max(1.0, a) for a in growth)


@precise
def lemma_1(
    depth: int,
    widest: int,
    growth: Sequence[Number],
    eps: Number,
    largest_activation: Number = 1,
    lipschitz: Number = 1,
) -> Decimal:
    """Lemma 1: eps_w = eps / (e l λ_max n_max^(3/2) F_max Π max(1, λ_i ‖Ŵ_i‖_2)).

    If every weight is within eps_w of the target's, sup ‖F(x) - G(x)‖_2 <= eps.

    Parameters
    ----------
    depth, widest : int
        l and n_max (over layers 0 to l).
    growth : sequence
        λ_i ‖Ŵ_i‖_2, of the ticket.
    eps : float
    largest_activation : float
        F_max of the target.
    lipschitz : float
        λ_max.

    Notes
    -----
    Differs: the proof's step (e) has a factor w_max and √n_i where √n_{i-1} is meant; the result is not affected.
    """
    scale = positive("lipschitz", lipschitz) * positive("largest_activation", largest_activation)
    product = math.prod((max(Decimal(1), exact(each)) for each in growth), start=Decimal(1))
    n = Decimal(count("widest", widest))
    return positive("eps", eps) / (Decimal(1).exp() * count("depth", depth) * scale * n * n.sqrt() * product)


@precise
def tolerance(shape: Shape, eps: Number, ticket: TicketNorms = "a priori") -> Decimal:
    """Lemma 1's eps_w for a target, before its ticket is known.

    Parameters
    ----------
    shape : Shape
    eps : float
    ticket : {"a priori", "stated", "worst"}
        What stands for ‖Ŵ_i‖_2: ``stated`` takes the shape's ``spectral`` for the ticket's (Example 5); ``worst``
        takes √(n_i n_{i-1}) w_max (Example 6); ``a priori`` the least of the proved bounds ‖W_i‖_2 +
        eps_w √(n_i n_{i-1}), √(‖W_i‖_1 ‖W_i‖_∞) and the worst case, of which the last two hold since the
        decomposition never exceeds the weight.

    Notes
    -----
    Differs: the paper leaves ‖Ŵ_i‖_2 in its bound; a priori eps_w is found by bisection, from below.
    """
    target = positive("eps", eps)
    if ticket not in ("a priori", "stated", "worst"):
        raise ArgumentError("ticket", repr(ticket), "'a priori', 'stated' or 'worst'")
    roots = [Decimal(layer.weights).sqrt() for layer in shape.layers]
    spectral = [exact(layer.spectral) for layer in shape.layers]
    worst = [root * exact(layer.largest) for root, layer in zip(roots, shape.layers, strict=True)]
    lipschitz = [exact(layer.activation.lipschitz) for layer in shape.layers]
    activation = exact(shape.largest_activation or 1)

    alone = lemma_1(shape.depth, shape.widest, (), target, activation, max(lipschitz))

    def solve(norms: Iterable[Decimal]) -> Decimal:
        growth = (max(Decimal(1), λ * norm) for λ, norm in zip(lipschitz, norms, strict=True))
        return alone / math.prod(growth, start=Decimal(1))

    if ticket != "a priori":
        return solve(spectral if ticket == "stated" else worst)
    schur = [(exact(layer.row_sum) * exact(layer.column_sum)).sqrt() for layer in shape.layers]
    fixed = [min(pair) for pair in zip(worst, schur, strict=True)]

    def at(error: Decimal) -> Decimal:
        grown = (s + error * root for s, root in zip(spectral, roots, strict=True))
        return solve(min(pair) for pair in zip(grown, fixed, strict=True))

    # at() falls as its argument grows, so an error is allowed if at(error) is no less.
    above = at(Decimal(0))
    below = at(above)
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if at(middle) >= middle else (below, middle)
    return below


@precise
def samples_to_fill(categories: int, each: int, least_probability: Number, delta: Number) -> int:
    """Lemma 29: M = ⌈(2 / c) (n + ln(k / delta))⌉ draws put n into each of k categories of probability c or more."""
    k, n = count("categories", categories), count("each", each)
    c = positive("least_probability", least_probability)
    return ceiling(2 / c * (n + log(k / probability("delta", delta))))


@precise
def pieces(eps: Number, largest: Number = 1, gamma: Number = GAMMA) -> int:
    """Corollary 10: k = ⌈log_γ(eps / w_max)⌉ pieces put together any weight up to w_max within eps, from below."""
    return max(0, ceiling(_log_gamma(positive("eps", eps) / positive("largest", largest), gamma)))


@precise
def bins(eps: Number, largest: Number = 1, gamma: Number = GAMMA) -> Decimal:
    """Corollary 10: k' = log_γ(γ eps / w_max) = 1 + log_γ(eps / w_max); 1/k' is the probability of every bin."""
    return 1 + _log_gamma(positive("eps", eps) / positive("largest", largest), gamma)


def _log_gamma(value: Decimal, gamma: Number) -> Decimal:
    γ = probability("gamma", gamma)
    if γ**2 + γ < 1 - Decimal("1e-15"):
        raise ArgumentError("gamma", str(gamma), "at least (√5 - 1)/2 = 0.618..., or the pieces leave gaps", "2/3")
    return log(value) / log(γ)


@precise
def edges(eps: Number, largest: Number = 1, gamma: Number = GAMMA) -> tuple[float, ...]:
    """Borders w_max γ, w_max γ², ..., w_max γ^(k+1): piece i is any number in (w_max γ^(i+1), w_max γ^i], i = 1 ... k.

    Whoever takes the weight w apart keeps piece i if w_max γ^i is at most the rest (Lemma 9).
    """
    γ, top = exact(gamma), positive("largest", largest)
    return tuple(floating(top * γ**i) for i in range(1, pieces(eps, largest, gamma) + 2))


@precise
def lemma_9(eps: Number, delta: Number, largest: Number = 1, gamma: Number = GAMMA) -> int:
    """Lemma 9: m = ⌈k' ln(k' / delta)⌉ hyperbolic samples have one in every bin, so they serve every weight."""
    k = bins(eps, largest, gamma)
    return max(1, ceiling(k * log(max(Decimal(1), k / probability("delta", delta)))))


def remark_12_probability(piece: int) -> float:
    """Remark 12: P(I_i) = 1 / (i (i + 1)) under P(v) = ln(1/γ) / (v ln² v), which does not depend on eps.

    Differs: the paper prints ln(1/v) in the numerator, which has no finite mass (theory, section 3.7).
    """
    return 1 / (count("piece", piece) * (piece + 1))


@precise
def remark_12(eps: Number, delta: Number, gamma: Number = GAMMA) -> int:
    """Remark 12: samples (1 / c) ln(k / delta) with c = (ln γ / ln(eps γ²))² for the law that does not know eps."""
    γ, k = exact(gamma), pieces(eps, 1, gamma)
    c = (log(γ) / log(positive("eps", eps) * γ**2)) ** 2
    return max(1, ceiling(log(max(Decimal(1), k / probability("delta", delta))) / c))


def remark_14(samples: int, largest: Number) -> int:
    """Remark 14: samples to draw if w_max is unknown and sample t, an odd multiple of 2^j, takes it for 2^j.

    A share of 2^-(j+1) has the scale 2^j; so 2^(j+1) M contain M of the least scale that covers w_max, and for w_max
    of at least 1 that is at most 4 w_max M.
    """
    top, scale = positive("largest", largest), 1
    while scale < top:
        scale *= 2
    return 2 * scale * count("samples", samples)


def _width_3(weights: int, bins_: Decimal, depth: int, total: int, failure: Decimal, repaired: bool) -> int:
    inner = 4 * bins_ * total / failure if repaired else 2 * depth * bins_ / failure
    return ceiling(16 * bins_ * (weights + log(inner)))


def _width_30(weights: int, longest: int, bins_: Decimal, total: int, failure: Decimal) -> int:
    return ceiling(2 * bins_ * (weights + 4 * longest * log(2 * bins_ * total / failure)))


_SOURCE_LAWS = {
    HYPERBOLIC: "hyperbolic: density 1 / (2 |w| ln(β/α)) on α <= |w| <= β",
    LOG: "hyperbolic-log: density ln(1/γ) / (2 |w| ln² |w|) on |w| <= γ, which knows no eps",
    LOGLOG: "hyperbolic-loglog: density ~ 1 / (|w| s ln² s), s = ln(3/|w|), on |w| <= γ, which knows no eps",
}


def _bound(
    shape: Shape,
    theorem: str,
    eps_w: Decimal,
    hidden: Sequence[int],
    extra: tuple[Assumption, ...] = (),
    law: str = _SOURCE_LAWS[HYPERBOLIC],
) -> WidthBound:
    widths, weights = two_layer_source(shape, hidden)
    return WidthBound(
        theorem=theorem,
        paper=PAPER,
        assumptions=(dense(shape), no_biases(shape), relu_network(shape), *extra),
        norm="sup over the domain of the 2-norm",
        source_law=law,
        widths=widths,
        weights=weights,
        target_weights=shape.weights,
        per_weight=tuple(ratio(m, layer.weights) for m, layer in zip(hidden, shape.layers, strict=True)),
        tolerances=(floating(eps_w),) * shape.depth,
        factors=(1.0,) * (shape.depth + 1),
    )


@precise
def _k(shape: Shape, eps_w: Decimal) -> Decimal:
    """k' = log_{3/2}(3 w_max / eps_w): corollary 10 at eps_w / 2 for each of the two branches."""
    largest = exact(max(layer.largest for layer in shape.layers)) or Decimal(1)
    return max(Decimal(1), bins(eps_w / 2, largest))


PER_PAIR = Assumption(
    "a neuron falls into the same bin for every pair of target neurons",
    False,
    "a bin per pair (in, out): the product of two weights of its own",
    "orseau-3-repaired: the union bound over all pairs, signs and bins, and a matching of neurons to weights",
)
"""The gap in theorem 3's step 2' (theory, section 3.4); its width alone does not prove what it states."""


@precise
def theorem_3(
    shape: Shape,
    eps: Number,
    delta: Number,
    constants: Constants = None,
    *,
    repaired: bool = False,
    ticket: TicketNorms = "a priori",
) -> WidthBound:
    """Theorem 3: M_i = ⌈16 k' (n_i n_{i-1} + ln(2 l k' / delta))⌉ neurons between, k' = log_{3/2}(3 w_max / eps_w).

    Parameters
    ----------
    shape : Shape
    eps, delta
        With probability at least 1 - delta, sup ‖F(x) - G(x)‖_2 over the domain is at most eps.
    constants : mapping, optional
        The theorem has none to choose.
    repaired : bool
        Replace ln(2 l k' / delta) by ln(4 k' N* / delta).
    ticket : {"a priori", "stated", "worst"}
        See :func:`tolerance`.

    Notes
    -----
    Differs: the bin of a neuron depends on the pair of neurons that it is to connect, so lemma 29 must hold for every
    pair and both signs of its weight. The printed form reports that as a broken assumption, the repaired one proves it.
    """
    failure = probability("delta", delta)
    choose(constants)
    eps_w = tolerance(shape, eps, ticket)
    k = _k(shape, eps_w)
    hidden = [_width_3(layer.weights, k, shape.depth, shape.weights, failure, repaired) for layer in shape.layers]
    name = "Theorem 3, repaired" if repaired else "Theorem 3"
    return _bound(shape, name, eps_w, hidden, () if repaired else (PER_PAIR,))


def theorem_3_repaired(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """:func:`theorem_3` with the union bound over all pairs."""
    return theorem_3(shape, eps, delta, constants, repaired=True, ticket=ticket)


@precise
def theorem_30(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """Theorem 30: M_i = ⌈2 k' (n_i n_{i-1} + 4 max(n_i, n_{i-1}) ln(2 k' N* / delta))⌉, by recycling samples.

    Parameters as in :func:`theorem_3`.
    """
    failure = probability("delta", delta)
    choose(constants)
    eps_w = tolerance(shape, eps, ticket)
    k = _k(shape, eps_w)
    hidden = [
        _width_30(layer.weights, max(layer.outputs, layer.fan_in), k, shape.weights, failure) for layer in shape.layers
    ]
    return _bound(shape, "Theorem 30", eps_w, hidden)


@precise
def theorem_3_or_30(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """Appendix D, last display: in every layer the smaller of theorems 3 (repaired) and 30.

    Both spend delta n_i n_{i-1} / N* on layer i, so layers may choose freely.
    """
    batch = theorem_3(shape, eps, delta, constants, repaired=True, ticket=ticket)
    recycled = theorem_30(shape, eps, delta, constants, ticket=ticket)
    hidden = [min(pair) for pair in zip(batch.widths[1::2], recycled.widths[1::2], strict=True)]
    return _bound(shape, "Theorems 3 and 30", tolerance(shape, eps, ticket), hidden)


@precise
def theorem_30_free(
    shape: Shape,
    eps: Number,
    delta: Number,
    constants: Constants = None,
    *,
    law: str = LOG,
    scheduled: bool = False,
    ticket: TicketNorms = "a priori",
) -> WidthBound:
    """Theorem 30 for a source that does not know eps (Remark 12), or w_max (Remark 14), or both.

    M_i = max(n_i, n_{i-1}) (m + 2 k min(n_i, n_{i-1})): Algorithm 1 holds m samples in each of max(n_i, n_{i-1}) rounds
    and uses up 2 k for each weight. m is the least number with 2 Σ_b (1 - p_b / 4)^m <= delta / N*, p_b the probability
    of bin b for products of two weights (:mod:`slth.bounds.recycling`), 1/4 for their signs. With a schedule samples of
    the scale 2^j serve the bins between w = 2^(j-1) and 2^j, those of scale 1 all below, and there are 2^(j+1) times as
    many samples as there must be of the scale 2^j, for the j that asks for most.

    Parameters
    ----------
    shape, eps, delta, constants, ticket
        As in :func:`theorem_3`.
    law : {"hyperbolic-log", "hyperbolic-loglog", "hyperbolic"}
        Remark 12's two densities, or the theorem's own, made for w_max = 1.
    scheduled : bool
        Remark 14.

    Notes
    -----
    Differs: the paper's remarks speak of single samples and of their least likely bin; products have other bins, each
    is counted as likely as it is, and with a schedule small weights do not wait for large scales. For Theorem 30's own
    law the count is within 1 % of its closed form.
    """
    failure = probability("delta", delta)
    choose(constants)
    eps_w = tolerance(shape, eps, ticket)
    largest = exact(max(layer.largest for layer in shape.layers)) or Decimal(1)
    k = max(1, pieces(eps_w / 2, largest))
    # Made for w_max = 1, such a law must reach down far enough for scales that are twice as large to go on above.
    n_bins = bins(min(eps_w / 2, Decimal(1) / 2)) if scheduled else max(Decimal(1), bins(eps_w / 2, largest))
    placed = place_bins(law, floating(GAMMA), k, floating(n_bins), _log2(max(largest, eps_w)) if scheduled else None)
    log_failure = floating(log(failure / shape.weights))
    hidden = []
    for layer in shape.layers:
        rounds, steps = max(layer.outputs, layer.fan_in), min(layer.outputs, layer.fan_in)
        parts = shelves(placed.powers, lambda part: placed.held(part, 2, log_failure), 2 * steps)
        hidden.append(rounds * neurons_of_a_round(parts, scheduled))
    remarks = [name for name, applies in (("12", law != HYPERBOLIC), ("14", scheduled)) if applies]
    name = "Theorem 30" + (f", Remark{'s' * (len(remarks) - 1)} {' and '.join(remarks)}" if remarks else "")
    unknown = ", times 2^j for odd multiples of 2^j" if scheduled else ""
    return _bound(shape, name, eps_w, hidden, law=_SOURCE_LAWS[law] + unknown)


def _log2(value: Decimal) -> float:
    return floating(log(value) / log(Decimal(2)))


def remark_12_log(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """:func:`theorem_30_free` with Remark 12's first density."""
    return theorem_30_free(shape, eps, delta, constants, ticket=ticket)


def remark_12_loglog(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """:func:`theorem_30_free` with Remark 12's second density."""
    return theorem_30_free(shape, eps, delta, constants, law=LOGLOG, ticket=ticket)


def remark_14_unknown(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, ticket: TicketNorms = "a priori"
) -> WidthBound:
    """:func:`theorem_30_free` with the theorem's own law and Remark 14's scales."""
    return theorem_30_free(shape, eps, delta, constants, law=HYPERBOLIC, scheduled=True, ticket=ticket)


@precise
def corollary_7(shape: Shape, eps: Number, ticket: TicketNorms = "a priori") -> float:
    """Corollary 7: leading term 32 n_max k' of the weight count ratio N_G / N* of theorem 3."""
    return floating(32 * shape.widest * _k(shape, tolerance(shape, eps, ticket)))


def example(width: int, depth: int) -> Shape:
    """The network of Remark 4 and Examples 2, 5, 6 and 32: one width, ‖W_i‖_2 <= 1, w_max = 1, F_max = 1."""
    return Shape.uniform(width, depth)
