"""The common nouns: shapes of stored networks, exact numbers, the catalogue as a command will use it."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slth.activations import parse
from slth.bounds import exact
from slth.bounds.catalogue import THEOREMS, width_bound
from slth.bounds.shape import LINEAR, RELU, Layer, Shape
from slth.bounds.theorem import Constant, choose
from slth.errors import ArgumentError

RNG = np.random.default_rng(8)
SIGMOID, TANH = parse("sigmoid"), parse("tanh")


def trained(bias: bool = False, scale: float = 2.0) -> Shape:
    """Weights as training leaves them: norms above 1."""
    widths = (12, 20, 9, 4)
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        weight, offsets = RNG.normal(size=(b, a)) * scale / math.sqrt(a), RNG.normal(size=b) if bias else None
        layers.append(Layer.of_matrix(weight, offsets, activation=LINEAR if i == 2 else RELU))
    return Shape(layers=tuple(layers), input_2norm=3.0, input_max=1.0, input_1norm=12.0, input_nonnegative=True)


@pytest.mark.parametrize("name", THEOREMS)
def test_every_theorem_answers_for_every_network(name: str) -> None:
    convolutional = Shape(
        layers=(
            Layer.of_matrix(RNG.normal(size=(8, 3, 3, 3)), RNG.normal(size=8), positions=64),
            Layer.of_matrix(RNG.normal(size=(4, 8)), activation=LINEAR),
        )
    )
    sigmoid = Shape(layers=(Layer.bounded(3, 2, activation=SIGMOID), Layer.bounded(2, 1, activation=SIGMOID)))
    for shape in (trained(), trained(bias=True), convolutional, sigmoid, Shape.of_widths([3, 1])):
        bound = THEOREMS[name](shape, 0.01, 0.01, None)
        assert bound.paper and bound.theorem and bound.norm and bound.source_law and bound.assumptions
        assert bound.applies == (name != "malach-2.3" or shape.depth == 2)
        assert all(type(width) is int and width > 0 for width in bound.widths) and type(bound.weights) is int
        if bound.applies:
            assert bound.widths[0] == shape.widths[0] and bound.widths[-1] == shape.widths[-1]
            assert bound.ratio > 1 and bound.target_weights == shape.weights and len(bound.factors) == shape.depth + 1
        for broken in bound.broken:
            assert broken.remedy and broken.got and broken.text
        assert all(not each.remedy for each in bound.assumptions if each.holds)


@pytest.mark.parametrize("name", THEOREMS)
def test_deltas_and_epsilons_out_of_range_are_refused(name: str) -> None:
    for eps, delta in ((0.0, 0.1), (-1.0, 0.1), (math.inf, 0.1), (math.nan, 0.1), (0.1, 0.0), (0.1, 1.0), ("a", 0.1)):
        with pytest.raises(ArgumentError):
            THEOREMS[name](Shape.of_widths([3, 2]), eps, delta, None)  # type: ignore[arg-type]


NORMED = {"malach-2.1", "malach-a6", "pensia-1", "burkholz-2.5", "burkholz-2.9", "dacunha-1"}


@pytest.mark.parametrize("name", sorted(NORMED))
def test_normalising_restores_what_the_norms_break_and_costs_eps(name: str) -> None:
    shape = trained()
    plain, divided = THEOREMS[name](shape, 0.01, 0.01, None), width_bound(name, shape, 0.01, 0.01, normalise=True)
    assert not plain.holds and divided.holds and divided.factors == plain.factors and divided.output_factor > 1
    again = THEOREMS[name](
        shape.divided(plain.factors[1:], plain.factors[0]), Fraction(1, 100) / Fraction(plain.output_factor), 0.01, None
    )
    assert divided.weights == pytest.approx(again.weights, rel=1e-3)


def test_a_divided_network_computes_the_divided_function() -> None:
    """Norms of the divided matrices are the divided norms; biases shrink with every factor before them."""
    weights, biases = [RNG.normal(size=(5, 4)), RNG.normal(size=(3, 5))], [RNG.normal(size=5), RNG.normal(size=3)]
    factors, into = (2.0, 5.0), 3.0

    def shape(w: list[np.ndarray], b: list[np.ndarray], size: float) -> Shape:
        layers = (Layer.of_matrix(w[0], b[0]), Layer.of_matrix(w[1], b[1], activation=LINEAR))
        return Shape(layers=layers, input_2norm=size, input_max=size, input_1norm=size)

    small = [weights[0] / 2, weights[1] / 5], [biases[0] / 6, biases[1] / 30]
    left, right = shape(weights, biases, 6.0).divided(factors, into), shape(*small, 2.0)
    for a, b in zip(left.layers, right.layers, strict=True):
        for name in ("spectral", "largest", "row_sum", "column_sum", "entry_sum", "largest_bias"):
            assert getattr(a, name) == pytest.approx(getattr(b, name))
    assert left.input_2norm == 2.0 and left.activation_bounds("1") == pytest.approx(right.activation_bounds("1"))
    x = RNG.normal(size=4)
    full = weights[1] @ np.maximum(weights[0] @ x + biases[0], 0) + biases[1]
    part = small[0][1] @ np.maximum(small[0][0] @ (x / 3) + small[1][0], 0) + small[1][1]
    assert part * 30 == pytest.approx(full)


def test_nothing_is_divided_where_the_activation_forbids_it() -> None:
    shape = Shape(layers=(Layer.bounded(4, 4, spectral=3, activation=TANH), Layer.bounded(4, 1)))
    assert width_bound("pensia-1", shape, 0.1, 0.1, normalise=True) == width_bound("pensia-1", shape, 0.1, 0.1)
    leaky = Shape(layers=(Layer.bounded(4, 4, spectral=3, activation=parse("leaky_relu:0.1")), Layer.bounded(4, 1)))
    assert width_bound("pensia-1", leaky, 0.1, 0.1, normalise=True).output_factor == 1 * 3
    with pytest.raises(ArgumentError, match="malach-a6"):
        width_bound("nobody-1", shape, 0.1, 0.1)


def test_which_theorem_is_proved_says_its_constants() -> None:
    shape = Shape.of_widths([4, 4, 1], largest=0.5)
    proved = {name for name in THEOREMS if THEOREMS[name](shape, 0.1, 0.1, None).proved}
    orseau = {f"orseau-{name}" for name in ("3-repaired", "30", "3-or-30", "12", "12-loglog", "14")}
    assert proved == {"malach-2.1", "malach-a6", "malach-2.3", *orseau}
    assert choose({"C": 2}, Constant("C", 4.0, "fitted"))["C"] == Constant("C", 2.0, "chosen")


def test_the_order_of_the_theorems_is_history() -> None:
    """At the papers' example: 1/eps² neurons, then logarithmically many, then fewer."""
    shape = Shape.uniform(100, 10)
    first, second, third = (
        THEOREMS[name](shape, 0.01, 0.01, None).ratio for name in ("malach-a6", "orseau-30", "pensia-1")
    )
    assert first > 1e12 * second and second > 10 * third


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(), (3, 3), (2,)])
def test_norms_of_a_stored_layer(groups: int, kernel: tuple[int, ...]) -> None:
    if groups == 2 and not kernel:
        return
    weight, bias = RNG.normal(size=(6, 4 // groups, *kernel)), np.array([0, 1, -3, 0, 0.5, 0])
    weight[0].flat[0] = 0.0
    layer = Layer.of_matrix(weight, bias, groups=groups)
    assert (layer.inputs, layer.outputs, layer.taps) == (4, 6, math.prod(kernel)) and layer.weights == weight.size
    assert layer.nonzeros == weight.size - 1 and layer.row_nonzeros == layer.fan_in
    assert (layer.biases, layer.largest_bias) == (3, 3.0)
    # The operator as a matrix on images of 6 pixels a side, one column for each input pixel.
    size = (4, *([6] * len(kernel)))
    basis = torch.eye(math.prod(size), dtype=torch.float64).reshape(-1, *size)
    convolve = {0: torch.nn.functional.linear, 1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[
        len(kernel)
    ]
    options = {"groups": groups, "padding": 1} if kernel else {}
    operator = convolve(basis, torch.from_numpy(weight), **options).reshape(len(basis), -1).numpy().T
    assert layer.largest == np.abs(operator).max() and layer.entry_sum == pytest.approx(np.abs(weight).sum())
    assert layer.row_sum == pytest.approx(np.abs(operator).sum(axis=1).max())
    assert layer.column_sum == pytest.approx(np.abs(operator).sum(axis=0).max())
    spectral = np.linalg.norm(operator, 2)
    assert spectral <= layer.spectral * (1 + 1e-12) and layer.spectral <= spectral * (1.6 if kernel else 1 + 1e-9)


def test_a_kernel_whose_frequency_lies_between_the_points_looked_at() -> None:
    """1 - e^(2 i ω) is largest, 2, at 90 degrees; the Fourier series is taken every 60 degrees, where it is √3."""
    operator = np.eye(80) - np.eye(80, k=2)
    assert np.linalg.norm(operator, 2) > 1.99
    assert Layer.of_matrix(np.array([[[1.0, 0.0, -1.0]]])).spectral == pytest.approx(2.0, rel=1e-12)


def test_activation_bounds_hold_on_samples() -> None:
    for φ in (RELU, SIGMOID, TANH):
        weights, biases = (
            [RNG.normal(size=(5, 4)), RNG.normal(size=(6, 5)), RNG.normal(size=(2, 6))],
            RNG.normal(size=(3, 6)),
        )
        layers = [Layer.of_matrix(w, b[: len(w)], activation=φ) for w, b in zip(weights, biases, strict=True)]
        shape = Shape(layers=tuple(layers), input_2norm=2.0, input_max=1.0, input_1norm=4.0)
        x = RNG.uniform(-1, 1, (4, 500))
        largest = 0.0
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            for norm, order in (("1", 1), ("2", 2), ("inf", np.inf)):
                assert np.linalg.norm(x, order, axis=0).max() <= shape.activation_bounds(norm)[i]  # type: ignore[arg-type]
            largest = max(largest, np.abs(x).max())
            x = φ.value(w @ x + b[: len(w), None])
        assert largest <= shape.largest_activation
        assert φ is RELU or shape.largest_activation == 1.0


def test_shapes_that_cannot_be_are_refused() -> None:
    for call in (
        lambda: Layer.bounded(0, 3),
        lambda: Layer.bounded(3, 3, spectral=math.inf),
        lambda: Layer.bounded(3, 3, largest=-1.0),
        lambda: Layer.of_matrix(np.ones(3)),
        lambda: Layer.of_matrix(np.full((2, 2), math.nan)),
        lambda: Layer.of_matrix(np.ones((3, 2)), groups=2),
        lambda: Shape(layers=()),
        lambda: Shape.of_widths([3]),
        lambda: Shape(layers=(Layer.bounded(1, 1),), input_2norm=-1.0),
        lambda: Shape(layers=(Layer.bounded(1, 1),), activation_1norms=(1.0, 2.0)),
    ):
        with pytest.raises(ArgumentError):
            call()


@given(st.fractions(min_value="1/1000000", max_value=1000000))
def test_ceilings_are_exact_but_for_their_slack(value: Fraction) -> None:
    least = exact.ceiling(exact.exact(value))
    assert least >= value - Fraction(1, 10**12) and least - 1 < value - Fraction(1, 10**12) + Fraction(1, 10**100)


def test_numbers_mean_what_they_show() -> None:
    assert exact.exact(0.1) == Decimal("0.1") == exact.exact(np.float64(0.1)) and exact.exact(np.int64(3)) == 3
    assert exact.ceiling(Decimal(3) + Decimal("1e-13")) == 3 and exact.ceiling(Decimal("3.000001")) == 4
    assert exact.ratio(10**400, 1) == math.inf and exact.ratio(10**400, 10**399) == 10
    assert exact.floating(Decimal("1e400")) == math.inf and exact.floating(Decimal("1e-400")) == 0
    for bad in (True, None, "x"):
        with pytest.raises(ArgumentError):
            exact.positive("eps", bad)  # type: ignore[arg-type]
