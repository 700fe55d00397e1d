"""Orseau et al. 2020: the table of its examples, its lemmas against networks and recursions, its samples by drawing."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.activations import Activation, parse
from slth.bounds import orseau
from slth.bounds.shape import Layer, Shape
from slth.errors import ArgumentError

EXAMPLE = orseau.example(100, 10)


@pytest.mark.parametrize(
    ("ticket", "eps_w", "k_prime", "k", "batch", "repaired", "recycled"),
    [
        ("stated", "3.679e-07", 39.249, 39, 628.69, 629.31, 142.81),
        ("worst", "3.679e-27", 152.827, 152, 2448.31, 2450.73, 572.68),
    ],
)
def test_o1_the_table_of_the_examples(
    ticket: orseau.TicketNorms, eps_w: str, k_prime: float, k: int, batch: float, repaired: float, recycled: float
) -> None:
    found = orseau.tolerance(EXAMPLE, 0.01, ticket)
    assert f"{found:.3e}" == eps_w.replace("e-0", "e-")
    assert round(float(orseau.bins(found / 2)), 3) == k_prime and orseau.pieces(found / 2) == k
    rows = [
        f(EXAMPLE, 0.01, 0.01, ticket=ticket).per_weight[0]
        for f in (orseau.theorem_3, orseau.theorem_3_repaired, orseau.theorem_30, orseau.theorem_3_or_30)
    ]
    assert [round(row, 2) for row in rows] == [batch, repaired, recycled, recycled]


def test_o1_the_paper_rounds_up_to_these() -> None:
    assert orseau.theorem_3(EXAMPLE, 0.01, 0.01, ticket="stated").per_weight[0] <= 630
    assert orseau.theorem_3(EXAMPLE, 0.01, 0.01, ticket="worst").per_weight[0] <= 2450
    assert orseau.theorem_30(EXAMPLE, 0.01, 0.01, ticket="stated").per_weight[0] <= 144
    assert orseau.theorem_30(EXAMPLE, 0.01, 0.01, ticket="worst").per_weight[0] <= 574


def test_widths_are_the_formulas() -> None:
    """M_1 = ⌈16 k' (10^4 + ln(2 l k' / delta))⌉ and the others, in floats."""
    k, total = math.log(3 * math.e * 10 * 1000 / 0.01) / math.log(1.5), 10 * 100**2
    assert orseau.theorem_3(EXAMPLE, 0.01, 0.01, ticket="stated").widths[1] == math.ceil(
        16 * k * (1e4 + math.log(2 * 10 * k / 0.01))
    )
    assert orseau.theorem_3_repaired(EXAMPLE, 0.01, 0.01, ticket="stated").widths[1] == math.ceil(
        16 * k * (1e4 + math.log(4 * k * total / 0.01))
    )
    assert orseau.theorem_30(EXAMPLE, 0.01, 0.01, ticket="stated").widths[1] == math.ceil(
        2 * k * (1e4 + 400 * math.log(2 * k * total / 0.01))
    )
    assert orseau.corollary_7(EXAMPLE, 0.01, "stated") == pytest.approx(32 * 100 * k)
    printed = orseau.theorem_3(EXAMPLE, 0.01, 0.01, ticket="stated")
    assert printed.ratio == pytest.approx(orseau.corollary_7(EXAMPLE, 0.01, "stated"), rel=0.01)


def test_printed_theorem_3_names_its_gap_and_the_repaired_one_has_none() -> None:
    printed, repaired = orseau.theorem_3(EXAMPLE, 0.01, 0.01), orseau.theorem_3_repaired(EXAMPLE, 0.01, 0.01)
    assert [each.remedy[:17] for each in printed.broken] == ["orseau-3-repaired"]
    assert repaired.proved and repaired.weights > printed.weights


def test_a_priori_the_tickets_norm_is_accounted_for() -> None:
    """eps_w solves eps_w e l n^1.5 (1 + 100 eps_w)^10 = eps, from below."""
    found = orseau.tolerance(EXAMPLE, 0.01)
    value = found * Decimal(1).exp() * 10 * 1000 * (1 + 100 * found) ** 10
    assert Decimal("0.01") * (1 - Decimal("1e-15")) < value <= Decimal("0.01") * (1 + Decimal("1e-25"))
    assert orseau.tolerance(EXAMPLE, 0.01, "worst") < found < orseau.tolerance(EXAMPLE, 0.01, "stated")
    # Where weight errors could be huge, weights never grow in the decomposition: √(‖W‖_1 ‖W‖_∞) bounds the ticket's.
    eye = Shape(layers=(Layer.of_matrix(np.eye(3)),) * 2, activation_max=1.0)
    assert orseau.tolerance(eye, 1000.0) == orseau.tolerance(eye, 1000.0, "stated")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sampled_from(["identity", "tanh", "sigmoid", "relu"]).map(parse),
    st.floats(1e-3, 2.0),
)
def test_o8_lemma_1_holds_on_random_networks(seed: int, depth: int, φ: Activation, eps: float) -> None:
    """Weights missed by the full tolerance in random directions, or all in one, a posteriori norms of the ticket."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 7, depth + 1)
    weights = [rng.uniform(-2, 2, (b, a)) for a, b in itertools.pairwise(widths)]
    x = [rng.uniform(-3, 3, (int(widths[0]), 50))]
    for w in weights:
        x.append(φ.value(w @ x[-1]))
    largest = max(float(np.abs(each).max()) for each in x[:-1])
    # The ticket's norms depend on the tolerance: bound them with one that is too large, which only shrinks it.
    λ = φ.lipschitz
    norms = [λ * (np.linalg.norm(w, 2) + eps * math.sqrt(w.size)) for w in weights]
    eps_w = min(eps, float(orseau.lemma_1(depth, int(widths.max()), norms, eps, largest or 1, λ)))
    signs = rng.choice([-1.0, 1.0]) if seed % 2 else None
    g = x[0]
    for w in weights:
        g = φ.value((w + eps_w * (signs if signs else rng.choice([-1.0, 1.0], w.shape))) @ g)
    assert np.linalg.norm(x[-1] - g, axis=0).max() <= eps * (1 + 1e-12)


def test_lemma_1_is_the_worked_example_2() -> None:
    assert float(orseau.lemma_1(10, 100, [1] * 10, 0.01)) == pytest.approx(0.01 / (math.e * 10 * 100**1.5), rel=1e-15)
    assert float(orseau.lemma_1(10, 100, [100] * 10, 0.01)) == pytest.approx(0.01 / math.e / 10 / 100**11.5, rel=1e-13)


SEQUENCES = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=12)


@given(SEQUENCES, st.floats(0, 5))
def test_lemma_18_and_corollary_27_bound_the_recursion(steps: list[tuple[float, float]], start: float) -> None:
    a, b = [step[0] for step in steps], [step[1] for step in steps]
    value, room = orseau.recursion(a, b, start), 1 + 1e-12
    assert value <= orseau.lemma_18(a, b, start) * room
    assert value <= orseau.lemma_18(a, b, start, float(len(a))) * room
    assert orseau.recursion(a, b) <= orseau.corollary_27(a, b) * room
    assert orseau.lemma_18(a, b) <= orseau.corollary_27(a, b) * room


@given(SEQUENCES, st.floats(1.05, 4))
def test_corollary_22_is_feasible(steps: list[tuple[float, float]], threshold: float) -> None:
    a, b = [step[0] for step in steps], [step[1] for step in steps]
    τ = orseau.feasible_tau(a, threshold) * (1 + 1e-12)
    assert sum(each < 1 + 1 / τ for each in a) <= τ
    assert orseau.recursion(a, b) <= orseau.lemma_18(a, b, 0.0, τ) * (1 + 1e-12)


def test_an_infeasible_tau_is_refused_and_would_be_wrong() -> None:
    a, b = [1.2] * 12, [1.0] * 12
    with pytest.raises(ArgumentError, match="tau"):
        orseau.lemma_18(a, b, 0.0, 1.0)
    assert orseau.recursion(a, b) > math.e * 1.0


def test_lemma_18_gains_over_corollary_27_where_norms_are_large() -> None:
    assert orseau.lemma_18([3.0] * 20, [1.0] * 20) < orseau.corollary_27([3.0] * 20, [1.0] * 20) / 10


@pytest.mark.parametrize("gamma", [Fraction(2, 3), (math.sqrt(5) - 1) / 2 + 1e-12])
def test_o2_the_pieces_put_together_every_weight(gamma: float) -> None:
    """Greedy on any element of every bin: 0 <= w - ŵ <= eps."""
    rng, eps = np.random.default_rng(1), 1e-3
    borders = orseau.edges(eps, gamma=gamma)
    k = orseau.pieces(eps, gamma=gamma)
    assert len(borders) == k + 1
    for _ in range(20):
        rest = np.linspace(0, 1, 2001)
        for above, below in itertools.pairwise(borders):
            # rng.random() < 1: the piece lies in (below, above].
            rest = np.where(rest >= above, rest - (above - (above - below) * rng.random()), rest)
        assert rest.min() >= 0 and rest.max() <= eps


def test_a_ratio_below_the_golden_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match="gamma"):
        orseau.pieces(1e-3, gamma=0.55)


def test_o3_o4_hyperbolic_samples_fill_every_bin() -> None:
    """Density c'/v on [eps γ², γ] gives each bin 1/k'; m samples miss one in at most a share delta of the draws."""
    rng, eps, delta, γ = np.random.default_rng(2), 0.02, 0.2, 2 / 3
    k_prime, k, m = float(orseau.bins(eps)), orseau.pieces(eps), orseau.lemma_9(eps, delta)
    v = eps * γ**2 * (γ / (eps * γ**2)) ** rng.random((3000, m))
    index = np.floor(np.log(v) / np.log(γ))
    counts = np.array([(index == i).sum() for i in range(1, k)])
    assert np.abs(counts / v.size - 1 / k_prime).max() < 5 * math.sqrt(1 / k_prime / v.size)
    missed = np.any([~(index == i).any(axis=1) for i in range(1, k)], axis=0).mean()
    assert 0.03 < missed <= delta


def test_lemma_29_by_drawing() -> None:
    rng, k, n, delta = np.random.default_rng(5), 6, 4, 0.2
    draws = orseau.samples_to_fill(k, n, Fraction(1, 8), delta)
    assert draws == math.ceil(16 * (n + math.log(k / delta)))
    counts = rng.multinomial(draws, [1 / 8] * k + [2 / 8], size=2000)[:, :k]
    assert (counts < n).any(axis=1).mean() <= delta
    assert (rng.multinomial(draws // 3, [1 / 8] * k + [2 / 8], size=2000)[:, :k] < n).any(axis=1).mean() > delta


def test_remark_12_has_the_mass_it_should() -> None:
    """The law's distribution function is ln γ / ln v: bin i has 1/i - 1/(i+1); the cheap bound is below the least."""
    γ, eps = 2 / 3, 1e-4
    for i in (1, 2, 30):
        assert orseau.remark_12_probability(i) == pytest.approx(1 / i - 1 / (i + 1))
    k = orseau.pieces(eps)
    share = (math.log(γ) / math.log(eps * γ**2)) ** 2
    assert orseau.remark_12_probability(k) >= share > orseau.remark_12_probability(k) / 1.5
    assert orseau.remark_12(eps, 0.1) == math.ceil(math.log(k / 0.1) / share) > orseau.lemma_9(eps, 0.1)


@given(st.floats(1, 1000), st.integers(1, 50))
def test_remark_14_draws_enough_of_the_right_scale(largest: float, samples: int) -> None:
    """Sample t has scale 2^j for t an odd multiple of 2^j."""
    total = orseau.remark_14(samples, largest)
    assert total <= 4 * largest * samples
    scales = [t & -t for t in range(1, total + 1)]
    fitting = min(2**j for j in range(12) if 2**j >= largest)
    assert scales.count(fitting) >= samples


@given(st.floats(1e-9, 10), st.floats(1e-9, 10), st.integers(2, 12), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_smaller_eps_never_needs_fewer_neurons(a: float, b: float, width: int, depth: int) -> None:
    less, more = sorted((a, b))
    shape = Shape.uniform(width, depth)
    for theorem in (orseau.theorem_3, orseau.theorem_3_repaired, orseau.theorem_30, orseau.theorem_3_or_30):
        assert theorem(shape, less, 0.1).weights >= theorem(shape, more, 0.1).weights
        assert theorem(shape, less, 0.01).weights >= theorem(shape, less, 0.1).weights


def test_tolerances_below_every_float_still_count() -> None:
    deep = orseau.example(100, 300)
    found = orseau.tolerance(deep, 0.01, "worst")
    assert found > 0 and found.adjusted() < -600
    bound = orseau.theorem_30(deep, 0.01, 0.01, ticket="worst")
    k = (-found.adjusted() + math.log10(3)) / math.log10(1.5)
    assert bound.tolerances[0] == 0.0
    assert bound.per_weight[0] == pytest.approx(2 * k * (1 + 0.04 * math.log(2 * k * 300e4 / 0.01)), rel=0.01)
