"""Random subset sums: laws by integration, the fitted constants and Pensia's widths, the lower bound by covering."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slth.activations import parse
from slth.bounds import lueker
from slth.bounds.shape import Layer, Shape
from slth.errors import ArgumentError

EPS = st.floats(1e-12, 0.9)


def draw(law: lueker.Law, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    u, v = rng.uniform(-1, 1, (2, *size))
    return {"U": u, "U V": u * v, "V max(0, U)": v * np.maximum(u, 0)}[law.name]


@pytest.mark.parametrize("law", [lueker.UNIFORM, lueker.PRODUCT, lueker.HALF_PRODUCT])
def test_the_laws_are_what_their_numbers_say(law: lueker.Law) -> None:
    x = draw(law, np.random.default_rng(1), (1_000_000,))
    assert np.maximum(x, 0).mean() == pytest.approx(law.mean_positive, abs=1e-3)
    assert np.minimum(x, 0).mean() == pytest.approx(law.mean_negative, abs=1e-3)
    inside = x[(x != 0) & (np.abs(x) <= law.half_width)]
    density = np.histogram(inside, 20, (-law.half_width, law.half_width))[0] / x.size / (law.half_width / 10)
    # The contained uniform is tight at its ends, within a histogram's cell.
    assert law.density * 0.98 <= density.min() <= law.density * 1.1
    assert law.share == pytest.approx(2 * law.half_width * law.density) and law.share <= 1


def worst_gap(x: np.ndarray) -> float:
    """Largest distance of a target in [-1, 1] from the subset sums."""
    sums = np.zeros(1)
    for value in x[x != 0]:
        sums = np.concatenate([sums, sums + value])
    sums = np.unique(sums)
    grid = np.concatenate([[-1.0, 1.0], (sums[1:] + sums[:-1]) / 2])
    grid = grid[np.abs(grid) <= 1]
    at = np.clip(np.searchsorted(sums, grid), 1, sums.size - 1)
    return float(np.minimum(np.abs(sums[at] - grid), np.abs(sums[at - 1] - grid)).max())


@pytest.mark.parametrize(("law", "eps"), [(lueker.UNIFORM, 0.1), (lueker.PRODUCT, 0.3), (lueker.HALF_PRODUCT, 0.3)])
def test_the_fitted_sizes_suffice_and_half_of_them_do_not(law: lueker.Law, eps: float) -> None:
    rng = np.random.default_rng(6)
    m = lueker.sample_size(eps, eps, lueker.FITTED[law.name])
    assert np.mean([worst_gap(draw(law, rng, (m,))) > eps for _ in range(200)]) <= eps
    assert np.mean([worst_gap(draw(law, rng, (m // 2,))) > eps for _ in range(200)]) > eps


@given(EPS, EPS, st.floats(1e-9, 0.9))
def test_sizes_grow_as_errors_shrink(a: float, b: float, delta: float) -> None:
    less, more = sorted((a, b))
    shape = Shape.of_widths([4, 3, 2])
    assert lueker.sample_size(less, delta) >= lueker.sample_size(more, delta)
    assert lueker.size_for_gap(less, delta, 2, 0.1) >= lueker.size_for_gap(more, delta, 2, 0.1)
    assert lueker.corollary_a2(less, delta, share=0.5) >= lueker.corollary_a2(more, delta, share=0.5)
    assert lueker.fewest_parameters(9, less) >= lueker.fewest_parameters(9, more)
    assert lueker.theorem_pensia(shape, less, delta).weights >= lueker.theorem_pensia(shape, more, delta).weights


def test_corollary_2_5_and_3_3() -> None:
    assert lueker.sample_size(0.01, 0.5, 3) == math.ceil(3 * math.log(200))
    assert lueker.sample_size(0.5, 1e-27, 3) == math.ceil(3 * math.log(2e27))
    n = lueker.size_for_gap(0.01, 0.02, 5, 0.25)
    # Markov: P(2 gap > eps) <= 2 E gap / eps.
    assert 2 * lueker.expected_gap(n, 5, 0.25) / 0.01 <= 0.02 < 2 * lueker.expected_gap(n - 1, 5, 0.25) / 0.01
    assert lueker.reach(lueker.HALF_PRODUCT, 64, 1 / 32) == (-2.0, 2.0)
    with pytest.raises(ArgumentError, match="margin"):
        lueker.reach(lueker.HALF_PRODUCT, 64, 1 / 16)


def test_corollary_a2_costs_a_linear_factor_beyond_the_elements_range() -> None:
    """m = C (T / α) log(B / min(delta / T, eps / max(t, α)))."""
    assert lueker.corollary_a2(0.01, 0.1, share=1, constant=3) == math.ceil(3 * math.log(100))
    assert lueker.corollary_a2(0.01, 0.1, share=0.5, constant=3) == math.ceil(3 * 2 / 0.5 * math.log(100))
    assert lueker.corollary_a2(0.5, 0.1, share=0.5, largest_target=5, bound=4, constant=3) == math.ceil(
        3 * 10 / 0.5 * math.log(4 / 0.01)
    )
    with pytest.raises(ArgumentError, match="share"):
        lueker.corollary_a2(0.1, 0.1, share=1.5)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_fewest_parameters_is_the_covering_of_an_interval(n: int) -> None:
    """2^N intervals of length 2 eps cover a share 1 - delta of [-1, 1] only for N >= log2((1 - delta) / eps)."""
    eps = (1 - 0.25) / 2**n
    assert lueker.fewest_parameters(1, eps, 0.25) == n
    assert lueker.fewest_parameters(1, eps * 0.999, 0.25) == n + 1
    assert lueker.fewest_parameters(1000, 2.0**-10) == 10_000 - 1
    assert lueker.fewest_parameters(7, 1.5) == 0


def test_pensias_widths() -> None:
    shape = Shape.of_widths([784, 300, 10])
    bound = lueker.theorem_pensia(shape, 0.01, 0.02, {"C": 2.5})
    blocks = [math.ceil(2.5 * math.log(a * b * 2 / 0.01)) for a, b in ((784, 300), (300, 10))]
    assert bound.widths == (784, 784 * blocks[0], 300, 300 * blocks[1], 10)
    assert bound.weights == 784 * blocks[0] * (784 + 300) + 300 * blocks[1] * (300 + 10)
    assert bound.holds and not bound.proved and bound.constants[0].kind == "chosen"
    assert lueker.theorem_pensia(shape, 0.01, 0.02).constants[0].kind == "fitted"
    # What suffices is no less than what is necessary.
    assert bound.weights > lueker.fewest_parameters(784 * 300, 0.01) > 784 * 300 * 6


def test_pensias_assumptions() -> None:
    layers = (Layer.of_matrix(np.full((4, 4), 0.5), np.ones(4), activation=parse("tanh")), Layer.of_matrix(np.eye(4)))
    bound = lueker.theorem_pensia(Shape(layers=layers), 0.1, 0.1)
    assert {each.text for each in bound.broken} == {"no biases", "ReLU activations", "‖W_i‖_2 <= 1"}
    # tanh(c x) is not c tanh(x): there is nothing to divide.
    assert "not positively homogeneous" in next(each.remedy for each in bound.broken if "‖" in each.text)
