"""Burkholz 2022: activations near 0, lemma 2.8 against adversaries, block widths, the fixed point of theorem 2.9."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.activations import Activation, parse
from slth.bounds import burkholz
from slth.bounds.shape import Layer, Shape

LINEAR, RELU, TANH, SIGMOID, GELU = map(parse, ("identity", "relu", "tanh", "sigmoid", "gelu"))
ALL = [LINEAR, RELU, TANH, SIGMOID, GELU, parse("silu"), parse("leaky_relu:0.3"), parse("hardtanh:-1,2")]
Weights = list[np.ndarray]


@pytest.mark.parametrize("φ", ALL, ids=lambda φ: φ.name)
@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
def test_b1_lemma_24(φ: Activation, eps: float) -> None:
    bound = float(burkholz.lemma_24(φ, eps))
    a = min(φ.reach(eps), 5.0)
    x = np.linspace(-a, a, 2001)
    assert np.abs(x - (φ.value(x) - φ.value(-x)) / φ.slope_sum).max() <= bound + 1e-15
    assert bound == (0 if φ in (LINEAR, RELU) or φ.name == "leaky_relu" else 2 * eps / φ.slope_sum)


@pytest.mark.parametrize("φ", [TANH, GELU], ids=lambda φ: φ.name)
@pytest.mark.parametrize("largest", [0.01, 1.0, 3.0])
def test_the_initialisation_keeps_the_activations_error_in_its_half(φ: Activation, largest: float) -> None:
    """All m neurons of every block kept: |Σ w2 φ(w1 x) - Σ w2 φ̂(w1 x)| <= eps / 2 for x up to M, whatever is drawn."""
    n, m, eps = 3, 15, 0.1
    drawn = burkholz.initialisation(φ, n, m, eps, largest_input=largest)
    assert drawn.second_scale == pytest.approx(1 / (φ.slope_sum * drawn.first_scale))
    w1 = np.full(m, drawn.first_scale)
    w2 = np.full(m, drawn.second_scale)
    x = np.linspace(-max(1, largest), max(1, largest), 401)[:, None]
    block = np.abs((w2 * (φ.value(w1 * x) - φ.m_plus * w1 * x)).sum(axis=1)).max()
    share = eps / 2 / (n + 1)
    assert share / 10 < block <= share
    assert burkholz.initialisation(φ, 1, 1, 1e9).first_scale <= 1.0


def test_without_approximation_error_nothing_is_scaled() -> None:
    assert burkholz.initialisation(RELU, 3, 15, 0.1) == burkholz.Initialisation(0.0, 1.0, 1.0)
    assert burkholz.initialisation(SIGMOID, 3, 15, 0.1).first_scale < 1.0


@pytest.mark.parametrize("exponent", [30, 100, 400])
def test_errors_that_no_float64_holds_leave_a_scale_of_0(exponent: int) -> None:
    drawn = burkholz.initialisation(TANH, 3, 15, Fraction(1, 10**exponent))
    assert drawn.first_scale == (0.0 if exponent == 400 else pytest.approx(math.sqrt(6 / 120) * 10 ** (-exponent / 2)))
    assert math.isinf(drawn.second_scale) == (exponent == 400)


def test_where_errors_are_cheap_the_first_scale_stays_at_1() -> None:
    """Then the activation is used on all of [-M, M], where tanh errs by up to M³ / 3, and not more often near 0."""
    drawn = burkholz.initialisation(TANH, 3, 15, 500.0, largest_input=1.4)
    assert drawn.first_scale == 1.0 and drawn.activation_error == pytest.approx(1.4**3 / 3)
    assert 15 * drawn.activation_error * drawn.second_scale <= 500 / 2 / 4


def test_b6_block_widths_of_the_circle() -> None:
    assert burkholz.block_width(10, 16) == 170 and burkholz.block_width(15, 1024) == 15375
    assert burkholz.block_width(10, 16, constant=False) == 160


def run(weights: Weights, biases: Weights, x: np.ndarray, slope: float) -> np.ndarray:
    """Activations slope * max(., 0), and a last layer without."""
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = w @ x + b[:, None]
        if i + 1 < len(weights):
            x = slope * np.maximum(x, 0)
    return x


def shape_of(weights: Weights, biases: Weights, input_1norm: float, slope: float = 1.0) -> Shape:
    φ = replace(RELU, name="scaled relu", lipschitz=slope)
    last = len(weights) - 1
    layers = [
        Layer.of_matrix(w, b, activation=LINEAR if i == last else φ)
        for i, (w, b) in enumerate(zip(weights, biases, strict=True))
    ]
    return Shape(layers=tuple(layers), input_1norm=input_1norm, input_max=input_1norm, input_2norm=input_1norm)


def worst(
    weights: Weights, biases: Weights, tolerances: list[float], x: np.ndarray, slope: float, rng: np.random.Generator
) -> np.ndarray:
    """Largest errors found, (outputs, inputs), over all parameters up by eps_l, down by eps_l, and at random."""
    exact, found = run(weights, biases, x, slope), np.zeros((len(weights[-1]), x.shape[1]))
    for kind in ("up", "down", "away", "random", "random"):
        moved = []
        for array, tol in zip([*weights, *biases], [*tolerances, *tolerances], strict=True):
            signs = {"up": 1.0, "down": -1.0, "away": np.sign(array)}.get(kind)
            moved.append(array + tol * (rng.choice([-1.0, 1.0], array.shape) if signs is None else signs))
        error = np.abs(run(moved[: len(weights)], moved[len(weights) :], x, slope) - exact)
        found = np.where(error.sum(axis=0) > found.sum(axis=0), error, found)
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.booleans(),
    st.floats(0.05, 0.99),
    st.sampled_from([0.25, 1.0, 1.7]),
)
def test_b7_the_sound_form_holds_against_adversaries(
    seed: int, depth: int, signed: bool, eps: float, slope: float
) -> None:
    """No tolerance but the rounding of the runs themselves."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 8, depth + 1)
    weights = [rng.uniform(-1 if signed else 0, 1, (b, a)) for a, b in itertools.pairwise(widths)]
    biases = [rng.uniform(-1 if signed else 0, 1, b) for b in widths[1:]]
    vertices = np.concatenate([np.eye(widths[0]), -np.eye(widths[0])], axis=1)
    x = np.concatenate(
        [vertices, rng.dirichlet(np.ones(widths[0]), 40).T * rng.choice([-1, 1], (widths[0], 40))], axis=1
    )
    shape = shape_of(weights, biases, 1.0, slope)
    for output in ("component", "1-norm"):
        tolerances = [float(each) for each in burkholz.lemma_28(shape, eps, output=output)]  # type: ignore[arg-type]
        errors = worst(weights, biases, tolerances, x, slope, rng)
        size = errors.max() if output == "component" else errors.sum(axis=0).max()
        assert size <= eps * (1 + 1e-12)


def test_b7_row_sums_fail_even_for_one_output() -> None:
    """One neuron fans out to ten and back to one: row sums 1, 1, 10, column sums 1, 10, 1; all moved up."""
    weights = [np.ones((1, 1)), np.ones((10, 1)), np.ones((1, 10))]
    biases = [np.zeros(1), np.zeros(10), np.zeros(1)]
    shape, x, rng = shape_of(weights, biases, 1.0), np.ones((1, 1)), np.random.default_rng(0)
    printed = [float(each) for each in burkholz.lemma_28(shape, 0.1, printed=True)]
    sound = [float(each) for each in burkholz.lemma_28(shape, 0.1)]
    assert worst(weights, biases, printed, x, 1.0, rng).max() > 3 * 0.1
    assert 0.05 < worst(weights, biases, sound, x, 1.0, rng).max() <= 0.1
    # The same network turned round: its norms agree where it matters.
    assert sound[0] == pytest.approx(printed[0] / 10, rel=0.1)


def test_b7_the_printed_form_bounds_components_and_not_the_1_norm() -> None:
    """One layer before ten outputs: every component is within eps, their sum is not, though column sums are 10."""
    weights, biases = [np.ones((1, 1)), np.ones((10, 1))], [np.zeros(1), np.zeros(10)]
    shape, x, rng = shape_of(weights, biases, 1.0), np.ones((1, 1)), np.random.default_rng(0)
    printed = [float(each) for each in burkholz.lemma_28(shape, 0.1, printed=True)]
    errors = worst(weights, biases, printed, x, 1.0, rng)
    assert errors.max() <= 0.1 and errors.sum() > 2 * 0.1
    sound = [float(each) for each in burkholz.lemma_28(shape, 0.1, output="1-norm")]
    assert worst(weights, biases, sound, x, 1.0, rng).sum() <= 0.1


def test_b7_the_cap_matters_where_activations_contract() -> None:
    weights = [np.full((2, 2), 0.25), np.full((1, 2), 0.25)]
    shape = shape_of(weights, [np.zeros(2), np.zeros(1)], 0.1, slope=0.25)
    eps = 0.5
    printed, sound = burkholz.lemma_28(shape, eps, printed=True), burkholz.lemma_28(shape, eps)
    assert printed[0] > eps / (2 * 2) >= sound[0]


def test_lemma_28_is_the_papers_formula_where_the_two_agree() -> None:
    """Doubly stochastic weights: row sums are column sums. n = 4, L = 3, M = 1, eps = 0.3."""
    weights = [np.full((4, 4), 0.25)] * 3
    shape = shape_of(weights, [np.zeros(4)] * 3, 1.0)
    base, step = 0.3 / 12, 1.1
    printed = [float(each) for each in burkholz.lemma_28(shape, 0.3, printed=True)]
    assert printed == pytest.approx([base / (2 * step * step), base / (2 * step), base / (2 * step)])
    sound = [float(each) for each in burkholz.lemma_28(shape, 0.3)]
    assert sound == pytest.approx([base / (2 * step * step), base / (2 * step), base / 2])
    whole = [float(each) for each in burkholz.lemma_28(shape, 0.3, output="1-norm")]
    assert whole == pytest.approx(sound)


SMALL = Shape(
    layers=(
        Layer.bounded(8, 6, largest=0.5, biases=6, largest_bias=0.5),
        Layer.bounded(6, 16, largest=0.5, biases=16, largest_bias=0.5),
        Layer.bounded(16, 3, largest=0.5, biases=3, largest_bias=0.5, activation=LINEAR),
    )
)


def test_theorem_29_is_a_fixed_point_found_in_few_rounds() -> None:
    """ρ is at least what it counts, and m follows from ρ: recomputed here in floats from the bound alone."""
    for eps, delta in ((0.1, 0.1), (1e-3, 1e-3), (1e-27, 1e-9)):
        bound = burkholz.theorem_29(SMALL, eps, delta)
        constants = {each.name: each.value for each in bound.constants}
        m = [
            math.ceil(c * math.log(1 / min(tol, delta / constants["rho"])))
            for c, tol in zip((13, 4, 4), bound.tolerances, strict=True)
        ]
        assert bound.widths == (8, m[0] * 9, m[1] * 7, m[2] * 17, 3)
        counted = m[1] * (2 * 48 + 6) + m[2] * (96 + 16) + (48 + 3) + m[1] + m[2]
        assert counted == constants["rho"]
        tolerances = burkholz.lemma_28(SMALL, eps)
        found = burkholz.copies(SMALL, tolerances, [burkholz.exact(c) for c in (13, 4, 4)], delta)
        assert found.rounds < 10 and found.base_sets == tuple(m)


def test_sources_have_depth_l_plus_1_and_2l() -> None:
    assert len(burkholz.theorem_29(SMALL, 0.1, 0.1).widths) == 3 + 2
    twice = burkholz.theorem_25(SMALL, 0.1, 0.1)
    assert len(twice.widths) == 2 * 3 + 1 and twice.widths[0::2] == (8, 6, 16, 3)
    assert twice.weights == sum(a * b for a, b in itertools.pairwise(twice.widths))
    assert burkholz.theorem_29(SMALL, 0.1, 0.1, printed=True).tolerances[0] > twice.tolerances[0]
    assert [width % (n + 1) for width, n in zip(twice.widths[1::2], (8, 6, 16), strict=True)] == [0, 0, 0]


def test_without_biases_no_block_for_constants() -> None:
    plain = Shape.of_widths([8, 6, 3])
    m = burkholz.theorem_29(plain, 0.1, 0.1).widths
    assert m[1] % 8 == 0 and m[2] % 6 == 0 and burkholz.theorem_25(plain, 0.1, 0.1).widths[1] % 8 == 0


@pytest.mark.parametrize("φ", [RELU, TANH, SIGMOID], ids=lambda φ: φ.name)
def test_the_first_activation_decides_the_first_layer(φ: Activation) -> None:
    shape = Shape(layers=(Layer.bounded(8, 6, largest=0.5, activation=φ), Layer.bounded(6, 3, largest=0.5)))
    bound = burkholz.theorem_29(shape, 0.1, 0.1)
    constants = {each.name: each for each in bound.constants}
    assert constants["C_two"].value == {"relu": 13.0, "tanh": 6.5, "sigmoid": 6.5}[φ.name]
    assert ("sigma_1" in constants) == (φ is not RELU)
    if φ is not RELU:
        assert 0 < constants["sigma_1"].value < 1
    assert bound.holds and not bound.proved
    assert burkholz.theorem_25(shape, 0.1, 0.1).holds == (φ is not SIGMOID)
    assert burkholz.theorem_26(shape, 0.1, 0.1).holds


def test_smaller_eps_never_needs_fewer_neurons() -> None:
    for theorem in (burkholz.theorem_25, burkholz.theorem_26, burkholz.theorem_29):
        for delta in (0.5, 1e-6):
            widths = [theorem(SMALL, eps, delta).weights for eps in (0.9, 0.5, 0.1, 1e-2, 1e-4, 1e-27)]
            assert widths == sorted(widths) and widths[0] < widths[-1]
        assert theorem(SMALL, 0.1, 1e-6).weights > theorem(SMALL, 0.1, 0.5).weights


@given(st.floats(1e-9, 0.9), st.floats(1e-9, 0.9), st.floats(1, 5))
def test_one_layer_widths(a: float, b: float, largest: float) -> None:
    less, more = sorted((a, b))
    args = {"constant": 3.0, "largest_input": largest}
    assert burkholz.width_25(7, 5, less, 0.1, **args) >= burkholz.width_25(7, 5, more, 0.1, **args)
    assert burkholz.width_27(7, 5, 20, more, 0.1, **args) == burkholz.width_25(7, 100, more, 0.1, **args)


def test_one_layer_width_is_the_formula() -> None:
    m = math.ceil(3 * math.log(7 / min(0.01 / (2 * 4), 0.1 / 5)))
    assert burkholz.width_25(7, 5, 0.01, 0.1, constant=3, lipschitz=2, largest_input=4) == 8 * m
    assert burkholz.width_25(7, 5, 0.01, 0.1, constant=3, lipschitz=2, largest_input=4, bias=False) == 7 * m


def test_weights_beyond_1_are_named() -> None:
    layers = (Layer.of_matrix(np.full((2, 2), 3.0), np.full(2, 12.0)), Layer.of_matrix(np.eye(2), np.full(2, 6.0)))
    bound = burkholz.theorem_29(Shape(layers=layers), 0.1, 0.1)
    assert {each.text: each.got for each in bound.broken} == {"|w| <= 1": "‖W_1‖_max = 3", "|b| <= 1": "‖b_1‖_∞ = 12"}
    assert bound.factors == (1.0, 12.0, 1.0)
    assert burkholz.theorem_29(Shape(layers=layers).divided((12.0, 1.0)), 0.1 / 12, 0.1).holds
