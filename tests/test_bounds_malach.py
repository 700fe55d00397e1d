"""Malach et al. 2020: exact widths, the lemma that everything rests on by simulation, neuron pruning's constants."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.bounds import malach
from slth.bounds.shape import Layer, Shape
from slth.errors import ArgumentError

EPS = st.floats(1e-6, 0.9)
SMALL = st.integers(1, 40)


def test_m1_lemma_a1_fails_no_more_often_than_delta_and_never_beyond_2_eps() -> None:
    """Draw the k neurons, keep a pair of windows if there is one, and look at x = 1 and x = -1."""
    rng, draws, worst = np.random.default_rng(11), 1000, 0.0
    for eps, delta, alpha in ((0.1, 0.1, 0.7), (0.15, 0.05, -0.3), (0.1, 0.1, 1.0)):
        k = malach.lemma_a1(eps, delta)
        w, u = rng.uniform(-1, 1, (2, draws, k))
        plus = (np.abs(w - alpha) <= eps) & (np.abs(u - 1) <= eps)
        minus = (np.abs(w + alpha) <= eps) & (np.abs(u + 1) <= eps)
        failed = ~(plus.any(1) & minus.any(1))
        if alpha == 1.0:
            # Both windows lose half of themselves: the lemma's worst case, 1 - (1 - delta / 2)^2, so up to chance.
            assert abs(failed.mean() - (1 - (1 - delta / 2) ** 2)) < 3 * math.sqrt(delta / draws)
        else:
            assert failed.mean() <= delta
        rows = np.arange(draws)
        p, q = plus.argmax(1), minus.argmax(1)
        for x in (1.0, -1.0):
            reached = u[rows, p] * np.maximum(w[rows, p] * x, 0) + u[rows, q] * np.maximum(w[rows, q] * x, 0)
            errors = np.abs(reached - alpha * x)[~failed]
            assert errors.max() <= 2 * eps
            worst = max(worst, errors.max() / (2 * eps))
    # Were the pairs chosen better than the windows ask for, the bound would not have been tried.
    assert worst > 0.7


def test_m1_a_tenth_of_the_neurons_fails_more_often_than_delta() -> None:
    rng = np.random.default_rng(12)
    w, u = rng.uniform(-1, 1, (2, 600, malach.lemma_a1(0.1, 0.1) // 10))
    assert ((np.abs(w - 0.7) <= 0.1) & (np.abs(u - 1) <= 0.1)).any(1).mean() < 0.9


def test_m2_widths_of_the_example_are_exact_integers() -> None:
    width = malach.layer_width(100, 100, 10, 0.01, 0.01)
    # 64 l² n³ / eps² = 64 * 10^2 * 10^6 * 10^4 exactly, times ln(2 * 10^5 / 0.01) = ln 2 + 7 ln 10.
    logarithm = Fraction("0.69314718055994530941723212145817656807") + 7 * Fraction(
        "2.30258509299404568401799145468436420760"
    )
    assert width == 100 * 100 * math.ceil(64 * 10**12 * logarithm)
    assert f"{width / 100**2:.4g}" == "1.076e+15" and f"{width:.4g}" == "1.076e+19"
    assert isinstance(width, int) and width > 2**63


@given(SMALL, SMALL, st.floats(0.01, 0.9), st.floats(0.001, 0.9))
def test_a6_with_s_equal_to_n_is_the_expression_that_orseau_et_al_quote(
    n: int, depth: int, eps: float, delta: float
) -> None:
    """n² ⌈(64 l² n³ / eps²) log(2 n² l / delta)⌉, computed apart in floats, up to their last places."""
    value = 64 * depth**2 * n**3 / eps**2 * math.log(2 * n**2 * depth / delta)
    pools, rest = divmod(malach.layer_width(n, n, depth, eps, delta), n**2)
    assert rest == 0 and abs(pools - math.ceil(value)) <= 1e-13 * value + (abs(value - round(value)) < 1e-13 * value)


def test_the_lemmas_nest_as_their_proofs_do() -> None:
    s, n, depth, eps, delta = 7, 5, 3, Fraction(1, 10), Fraction(1, 50)
    assert malach.lemma_a2(s, eps, delta) == s * malach.lemma_a1(eps / (2 * s), delta / s)
    assert malach.lemma_a3(s, eps, delta)[0] == malach.lemma_a2(s, eps / 2, delta / 2)
    assert malach.lemma_a4(s, n, eps, delta)[0] == n * malach.lemma_a3(s, eps / n, delta / n)[0]
    assert malach.lemma_a4(s, n, eps, delta)[1] == n * malach.lemma_a3(s, eps / n, delta / n)[1]
    assert malach.lemma_a5(s, 4, eps, delta) == 4 * malach.lemma_a2(s, eps / 2, delta / 4)
    assert malach.layer_width(s, n, depth, eps, delta) == malach.lemma_a5(s, n, eps / (2 * depth), delta / depth)


def test_lemma_a3s_second_window_is_hit() -> None:
    """(1 - eps/4)^k_2 <= delta / 2: a window of radius eps/2 around v* has probability eps/4 or more."""
    for eps, delta in ((0.3, 0.1), (0.01, 0.001)):
        _, k2 = malach.lemma_a3(1, eps, delta)
        assert (1 - eps / 4) ** k2 <= delta / 2
        assert (1 - eps / 4) ** (k2 // 2) > delta / 2


@given(EPS, EPS, st.floats(1e-6, 0.5))
def test_smaller_eps_or_delta_never_needs_fewer_neurons(a: float, b: float, delta: float) -> None:
    less, more = sorted((a, b))
    shape = Shape.of_widths([5, 8, 3])
    for theorem in (malach.theorem_21, malach.theorem_a6, malach.theorem_23):
        assert theorem(shape, less, delta).weights >= theorem(shape, more, delta).weights
        assert theorem(shape, less, delta / 2).weights >= theorem(shape, less, delta).weights
    assert malach.features_rkhs(1, 1, less, delta) >= malach.features_rkhs(1, 1, more, delta)
    assert malach.blocks(3, 1, 1, less, delta) >= malach.blocks(3, 1, 1, more, delta)


def test_sparse_rows_need_s_and_not_the_fan_in() -> None:
    weight = np.zeros((6, 50))
    weight[:, :4] = 0.25
    shape = Shape(layers=(Layer.of_matrix(weight),))
    sparse, full = malach.theorem_a6(shape, 0.1, 0.1), malach.theorem_21(shape, 0.1, 0.1)
    assert sparse.widths[1] == malach.layer_width(4, 6, 1, 0.1, 0.1)
    assert full.widths[1] == malach.layer_width(50, 6, 1, 0.1, 0.1) > sparse.widths[1]
    assert sparse.weights == sparse.widths[1] * (50 + 6)
    # ‖W_i‖_max = 0.25 is within 1/√4 and beyond 1/√50.
    assert not [each for each in sparse.broken if "max" in each.text]
    assert [each.got for each in full.broken if "max" in each.text] == ["√50 ‖W_1‖_max = 1.76777"]


def test_the_source_has_twice_the_depth() -> None:
    bound = malach.theorem_a6(Shape.of_widths([4, 6, 5, 2]), 0.1, 0.1)
    assert bound.widths[0::2] == (4, 6, 5, 2) and len(bound.widths) == 7
    assert bound.weights == sum(a * b for a, b in itertools.pairwise(bound.widths))
    assert bound.ratio == bound.weights / (24 + 30 + 10)


def test_a_norm_beyond_its_limit_is_named_with_what_restores_it() -> None:
    shape = Shape(layers=(Layer.of_matrix(np.diag([3.0, 0.1])), Layer.of_matrix(np.eye(2) * 0.5)), input_2norm=2.0)
    bound = malach.theorem_21(shape, 0.1, 0.1)
    assert {each.text for each in bound.broken} == {"‖x‖_2 <= 1", "‖W_i‖_2 <= 1", "√s ‖W_i‖_max <= 1"}
    assert bound.factors == (2.0, pytest.approx(3 * math.sqrt(2)), 1.0)
    spectral = next(each for each in bound.broken if each.text == "‖W_i‖_2 <= 1")
    assert spectral.got == "‖W_1‖_2 = 3" and "eps / 8.485" in spectral.remedy and not bound.proved
    assert malach.theorem_21(shape.divided(bound.factors[1:], 2.0), 0.1 / bound.output_factor, 0.1).proved


def test_theorem_23_is_about_two_layers_only() -> None:
    three = malach.theorem_23(Shape.of_widths([3, 4, 4, 1]), 0.1, 0.1)
    assert not three.applies and not three.holds and three.widths == () and "malach-a6" in three.broken[0].remedy
    two = malach.theorem_23(Shape.of_widths([3, 4, 1], largest=3**-0.5), 0.1, 0.1)
    k1, k2 = malach.lemma_a4(3, 4, 0.1, 0.1)
    assert two.holds and two.widths == (3, k1, k2, 1) and two.weights == 3 * k1 + k1 * k2 + k2
    several = malach.theorem_23(Shape.of_widths([3, 4, 2], largest=3**-0.5), 0.1, 0.1)
    assert several.widths[1] > 2 * k1


def test_neuron_pruning_stays_within_its_bound_and_is_the_bound_that_the_blocks_invert() -> None:
    """c g against the average of the blocks on 200 inputs; the bound must not be loose by more than two orders."""
    rng = np.random.default_rng(3)
    k, m, τ, delta = 8, 300, 0.3, 0.1
    x = rng.normal(size=(200, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    bound, observed = malach.pruning_error(k, m, 2.0, 1.0, delta, τ), []
    for _ in range(30):
        w = rng.normal(size=(m, k, 4))
        w /= np.linalg.norm(w, axis=2, keepdims=True)
        u, v = rng.uniform(-2, 2, (m, k)), rng.uniform(-1, 1, (m, k))
        b = np.abs(v - (1 - τ) * u / 2) <= τ
        features = np.maximum(w @ x.T, 0)
        pruned = 2 / (τ * (1 - τ) * m) * np.einsum("mk,mkn->n", b * v, features)
        observed.append(np.abs(pruned - np.einsum("mk,mkn->n", u, features) / m).max())
    assert bound / 100 < max(observed) <= bound
    blocks = malach.blocks(k, 2.0, 1.0, bound, delta, τ)
    assert blocks in (m, m + 1)


def test_features_keep_three_quarters_of_the_smallest_eigenvalue() -> None:
    """H of a few samples by many draws; k features at delta = 0.5 keep λ_min >= 3 λ / 4 in every one of 20 draws."""
    rng = np.random.default_rng(4)
    x = np.eye(3)[:2]

    def kernel(k: int) -> np.ndarray:
        w = rng.normal(size=(k, 3))
        features = np.maximum(x @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T, 0)
        return features @ features.T / k

    λ = np.linalg.eigvalsh(kernel(400_000))[0]
    k = malach.features_finite(2, 1, float(λ), 0.5)
    assert all(np.linalg.eigvalsh(kernel(k))[0] >= 0.75 * λ for _ in range(5))
    assert k == math.ceil(512 * 4 / float(λ) ** 2 * math.log(16) - 1e-12)


def test_theorem_33_serves_all_blocks_and_not_one() -> None:
    pruning = malach.theorem_33_rkhs(1, 1, 0.5, 0.1)
    assert pruning.width == pruning.features * pruning.blocks
    assert pruning.features >= malach.features_rkhs(1, 1, 0.25, 0.05 / pruning.blocks)
    assert malach.pruning_error(pruning.features, pruning.blocks, 1 / pruning.features, 1, 0.05) <= 0.25
    finite = malach.theorem_33_finite(3, 1, 0.5, 0.5, 0.1)
    assert finite.features >= malach.features_finite(3, 1, 0.5, 0.05 / finite.blocks)
    largest = 8 * 3 / (3 * finite.features * 0.5)
    assert malach.pruning_error(finite.features, finite.blocks, largest, 1, 0.05) <= 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: malach.lemma_a1(0.0, 0.1),
        lambda: malach.lemma_a1(math.nan, 0.1),
        lambda: malach.lemma_a1(0.1, 1.0),
        lambda: malach.lemma_a2(0, 0.1, 0.1),
        lambda: malach.lemma_a2(True, 0.1, 0.1),
        lambda: malach.blocks(1, 1, 1, 0.1, 0.1, window=0.6),
        lambda: malach.theorem_a6(Shape.of_widths([2, 2]), 0.1, 0.1, {"C": 2}),
    ],
)
def test_numbers_out_of_range_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArgumentError, match="need"):
        call()


@settings(max_examples=30)
@given(st.integers(1, 300))
def test_widths_beyond_every_float_are_exact(power: int) -> None:
    width = malach.lemma_a1(Fraction(1, 10**power), 0.5)
    # 4 * 10^(2 power) * ln 4: the leading digits are those of 4 ln 4.
    digits = "5545177444479562475337856971665412544604001074882042032965"
    assert str(width).startswith(digits[: min(40, 2 * power)]) and len(str(width)) == 2 * power + 1
