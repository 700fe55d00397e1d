"""da Cunha et al. 2022: its norm against convolutions, its error growth attained, its sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slth.bounds import dacunha
from slth.bounds.shape import Layer, Shape
from slth.errors import ArgumentError


def convolve(kernel: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(outputs, inputs, d, d) on (inputs, D, D), zero padding, as true convolution."""
    flipped = torch.from_numpy(np.ascontiguousarray(kernel[:, :, ::-1, ::-1]))
    padded = torch.from_numpy(image)[None]
    return torch.nn.functional.conv2d(padded, flipped, padding=kernel.shape[-1] // 2)[0].numpy()


@pytest.mark.parametrize("seed", range(5))
def test_c1_proposition_1_with_both_norms_and_attained_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, 2, 3, 3))
    total, sharp = dacunha.proposition_1(kernel, per_kernel=False), dacunha.proposition_1(kernel)
    assert total == pytest.approx(np.abs(kernel).sum()) and sharp < total
    for _ in range(20):
        image = rng.uniform(-1, 1, (2, 8, 8))
        assert np.abs(convolve(kernel, image)).max() <= sharp * np.abs(image).max() * (1 + 1e-12)
    worst = int(np.abs(kernel).sum((1, 2, 3)).argmax())
    image = np.sign(kernel[worst][:, ::-1, ::-1])
    assert np.abs(convolve(kernel, image)).max() == pytest.approx(sharp, rel=1e-12)


@pytest.mark.parametrize(("eps", "depth"), [(0.9, 1), (0.9, 4), (0.1, 6)])
def test_c5_network_errors_stay_within_the_growth_and_reach_it(eps: float, depth: int) -> None:
    rng = np.random.default_rng(depth)
    step = eps / (2 * depth)
    for positive in (False, True):
        f = g = np.ones((2, 12, 12)) if positive else rng.random((2, 12, 12))
        for i in range(depth):
            kernel, change = rng.normal(size=(2, 2, 2, 3, 3))
            if positive:
                kernel, change = np.abs(kernel), np.abs(change)
            kernel /= np.abs(kernel).sum((1, 2, 3), keepdims=True)
            change *= step / np.abs(change).sum((1, 2, 3), keepdims=True)
            f, g = convolve(kernel, f), convolve(kernel + change, g)
            if i + 1 < depth:
                f, g = np.maximum(f, 0), np.maximum(g, 0)
        error = np.abs(f - g).max()
        assert error <= dacunha.growth(eps, depth) * (1 + 1e-12) < eps
        if positive and depth < 6:
            # All ones through positive kernels: an inner pixel, untouched by the padding, is 1 and (1 + step)^depth.
            assert error == pytest.approx(dacunha.growth(eps, depth), rel=1e-12)


@given(st.floats(1e-300, 0.999), st.integers(1, 1000))
def test_growth_is_below_eps_however_small(eps: float, depth: int) -> None:
    assert eps / 2 * (1 - 1e-12) <= dacunha.growth(eps, depth) < eps
    assert dacunha.growth(eps, depth) <= math.expm1(eps / 2) * (1 + 1e-12)


def test_lemmas() -> None:
    assert dacunha.lemma_1(25, 6, 0.01, 3.0) == math.ceil(3 * math.log(25 * 6 / 0.01))
    assert dacunha.lemma_2(25, 6, 16, 0.01, 3.0) == 16 * math.ceil(3 * math.log(25 * 6 * 16 / 0.01))
    assert dacunha.lemma_2(25, 6, 16, 0.01, 300.0, biases=True) == 16 * math.ceil(300 * math.log(26 * 6 * 16 / 0.01))


def lenet(scale: float = 1.0) -> Shape:
    rng = np.random.default_rng(0)
    shapes = [(6, 1, 5, 5), (16, 6, 5, 5)]
    layers = []
    for each in shapes:
        kernel = rng.normal(size=each)
        layers.append(Layer.of_matrix(scale * kernel / np.abs(kernel).sum((1, 2, 3), keepdims=True)))
    return Shape(layers=tuple(layers), input_nonnegative=True)


def test_theorem_1_widths_and_weights() -> None:
    bound = dacunha.theorem_1(lenet(), 0.01, 0.05, {"C": 2})
    n1 = 6 * math.ceil(2 * math.log(1 * 6 * 25 * 2 / 0.01))
    n2 = 16 * math.ceil(2 * math.log(6 * 16 * 25 * 2 / 0.01))
    assert bound.widths == (1, n1, 6, n2, 16)
    assert bound.weights == n1 * (25 + 6) + n2 * (150 + 16)
    assert bound.ratio == bound.weights / (150 + 2400) and bound.holds
    assert bound.tolerances == pytest.approx((0.01 / 4 / 25, 0.01 / 4 / 150))
    assert dacunha.theorem_1(lenet(), 0.01, 0.05, {"C": 2}, grouped=True).weights == n1 * 26 + n2 * 151


def test_the_kernels_norm_may_be_taken_for_each_output_alone() -> None:
    printed = dacunha.theorem_1(lenet(), 0.01, 0.05, per_kernel=False)
    assert [each.got for each in printed.broken] == ["layer 2: 1 for one output channel, 16 for all"]
    assert printed.factors == pytest.approx((1, 6, 16))
    large = dacunha.theorem_1(lenet(3.0), 0.01, 0.05)
    assert large.factors == pytest.approx((1, 3, 3)) and "eps / 9" in large.broken[0].remedy
    assert dacunha.theorem_1(lenet(3.0).divided((3, 3)), 0.01 / 9, 0.05).holds


def test_signed_inputs_break_it() -> None:
    signed = Shape(layers=lenet().layers, input_nonnegative=False)
    assert [each.text for each in dacunha.theorem_1(signed, 0.01, 0.05).broken] == ["inputs in [0, 1]"]


@given(st.floats(1e-12, 0.9), st.floats(1e-12, 0.9))
def test_smaller_eps_never_needs_fewer_channels(a: float, b: float) -> None:
    less, more = sorted((a, b))
    assert dacunha.theorem_1(lenet(), less, 0.5).weights >= dacunha.theorem_1(lenet(), more, 0.5).weights
    assert dacunha.theorem_1(lenet(), 0.5, less).weights >= dacunha.theorem_1(lenet(), 0.5, more).weights


def test_constants_of_other_names_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'B'"):
        dacunha.theorem_1(lenet(), 0.1, 0.1, {"B": 1})
    with pytest.raises(ArgumentError, match="above 0"):
        dacunha.theorem_1(lenet(), 0.1, 0.1, {"C": -1})
