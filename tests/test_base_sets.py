"""What a base set can be expected to reach: against counting, simulation and the solver itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slth.bounds.base_sets import (
    ALLOWED_MISSES,
    ALLOWED_SHARE,
    LEFT_OUT,
    LEFT_OUT_SHARES,
    LEFT_OUT_SIZE,
    WORTH,
    choose_scale,
    covering_size,
    expected_misses,
    interior_failure,
    out_of_reach,
    sufficient_size,
)
from slth.subsetsum import solve

RNG = np.random.default_rng(5)
WEIGHTS = st.lists(st.floats(2**-20, 1.0, width=32), min_size=1, max_size=30)


@given(st.floats(1e-6, 1e6), st.floats(1e-9, 1e6))
def test_covering_size_is_the_pigeonholes(magnitude: float, tolerance: float) -> None:
    """2^m intervals of length 2 tol must cover one of length 2 magnitude: the least such m."""
    m = covering_size(magnitude, tolerance)
    assert 2.0**m * tolerance >= magnitude * (1 - 1e-12)
    assert m == 0 or 2.0 ** (m - 1) * tolerance < magnitude * (1 + 1e-12)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_no_base_set_below_the_covering_size_serves_every_weight(m: int) -> None:
    """The best there is: sums evenly spaced over [-1, 1] leave gaps; one element fewer than needed always fails."""
    tolerance = 0.999 / 2**m
    assert covering_size(1.0, tolerance) == m + 1
    grid = np.linspace(-1, 1, 4001)
    even = np.array([2.0**k for k in range(m)]) * 2 / 2**m
    sums = np.array([even[[bool(i >> k & 1) for k in range(m)]].sum() for i in range(2**m)])
    sums -= sums.mean()
    assert np.abs(grid[:, None] - sums).min(axis=1).max() > tolerance


@pytest.mark.parametrize(("mirrored", "m"), [(False, 5), (True, 5), (False, 12), (True, 12)])
def test_out_of_reach_is_no_less_than_the_simulated_probability(mirrored: bool, m: int) -> None:
    n_draws, share = (m, 0.5) if mirrored else (2 * m, 0.25)
    draws = 20_000
    present = RNG.random((draws, n_draws)) < share
    sums = np.where(present, RNG.random((draws, n_draws)) * RNG.random((draws, n_draws)), 0).sum(axis=1)
    levels = np.geomspace(1e-3, 5, 30)
    simulated = (sums[:, None] < levels).mean(axis=0)
    bound = out_of_reach(levels, n_draws, share)
    assert (bound >= simulated - 4 * np.sqrt(simulated * (1 - simulated) / draws)).all()
    assert (np.diff(bound) >= 0).all() and ((bound >= 0) & (bound <= 1)).all()
    # A bound of 1 would be true and useless.
    assert bound[0] < 0.35 and (bound[levels < 0.05] < 0.6).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_interior_failure_is_like_that_of_the_solver(mirrored: bool) -> None:
    """Fitted, not proved: within a factor of 3 of what exact subset sums of products show."""
    m, n, z = 12, 3000, 0.3
    sizes = np.full(n, m) if mirrored else RNG.binomial(2 * m, 0.5, n)
    elements = RNG.uniform(-1, 1, sizes.sum()) * RNG.uniform(-1, 1, sizes.sum())
    found = solve(elements, np.full(n, z), offsets=np.concatenate([[0], np.cumsum(sizes)]), threads=1)
    for error in (3e-3, 1e-2):
        predicted = interior_failure(np.array([error]), m, mirrored)[0]
        assert predicted / 3 <= (found.errors > error).mean() <= predicted * 3 + 0.01


@given(WEIGHTS, st.integers(3, 30), st.booleans(), st.integers(-12, 12))
def test_the_scale_is_a_positive_float32_that_scales_with_the_weights(
    weights: list[float], m: int, mirrored: bool, power: int
) -> None:
    magnitudes = np.array(weights)
    scale = choose_scale(magnitudes, m, mirrored)
    assert scale > 0 and float(np.float32(scale)) == scale
    assert choose_scale(magnitudes * 2.0**power, m, mirrored) == pytest.approx(scale * 2.0**power, rel=1e-6)
    tolerance = magnitudes.max() / 8
    scale = choose_scale(magnitudes, m, mirrored, tolerance)
    scaled = choose_scale(magnitudes * 2.0**power, m, mirrored, tolerance * 2.0**power)
    assert scaled == pytest.approx(scale * 2.0**power, rel=1e-6)


@given(WEIGHTS, st.integers(3, 30), st.booleans(), st.randoms(use_true_random=False))
def test_the_scale_does_not_depend_on_the_order(weights: list[float], m: int, mirrored: bool, random) -> None:
    shuffled = list(weights)
    random.shuffle(shuffled)
    assert choose_scale(np.array(shuffled), m, mirrored) == choose_scale(np.array(weights), m, mirrored)


def test_weights_of_zero_do_not_move_the_scale() -> None:
    weights = np.array([0.5, 0.1, 0.03])
    assert choose_scale(np.concatenate([weights, np.zeros(50)]), 12) == choose_scale(weights, 12)
    assert choose_scale(np.zeros(3), 12) == choose_scale(np.zeros(0), 12) == 1.0


def test_misses_fall_with_the_size_and_rise_with_the_accuracy() -> None:
    weights, scales = np.abs(RNG.normal(0, 0.1, 500)), np.array([0.2, 0.4, 1.0])
    errors = np.array([1e-5, 1e-3, 1e-1])
    previous = np.full((3, 3), np.inf)
    for m in (5, 10, 20, 40):
        missed = expected_misses(weights, m, False, scales, errors)
        assert missed.shape == (3, 3) and (missed >= 0).all()
        assert (missed <= previous).all() and (np.diff(missed, axis=1) <= 1e-9).all()
        previous = missed


def test_a_sufficient_size_suffices_and_is_the_smallest() -> None:
    weights = np.abs(RNG.normal(0, 0.12, 400))
    size = sufficient_size(weights, 0.01, False, 1, 40)
    assert size is not None and covering_size(float(weights.max()), 0.01) < size <= 25
    scales, tolerance = weights.max() * np.geomspace(0.5, 64, num=160), np.array([0.01])
    allowed = ALLOWED_MISSES + ALLOWED_SHARE * weights.size
    assert expected_misses(weights, size, False, scales, tolerance).min() <= allowed
    assert expected_misses(weights, size - 1, False, scales, tolerance).min() > allowed
    assert sufficient_size(weights, 1e-14, False, 1, 40) is None
    assert sufficient_size(weights, 0.01, True, 1, 40) <= size


def test_the_chosen_scale_does_about_as_well_as_the_best_tried() -> None:
    """Mean error of exact subset sums over scales a factor of 2 apart, on weights like a trained layer's."""
    m, n = 10, 1500
    weights = RNG.normal(0, 0.1, n)
    chosen = choose_scale(np.abs(weights), m)
    sizes = RNG.binomial(2 * m, 0.5, n)
    unit = RNG.uniform(-1, 1, sizes.sum()) * RNG.uniform(-1, 1, sizes.sum())
    offsets = np.concatenate([[0], np.cumsum(sizes)])

    def worst(scale: float) -> float:
        return float(np.sort(solve(unit * scale, weights, offsets=offsets, threads=1).errors)[-3])

    tried = {factor: worst(chosen * factor) for factor in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}
    assert tried[1.0] <= 2 * min(tried.values())
    assert tried[0.125] > tried[1.0]
    assert math.isfinite(tried[8.0])


@pytest.mark.parametrize("n", [30, 5_000, 40_000])
@pytest.mark.parametrize("m", [20, 22, 24, 30])
def test_no_scale_lets_the_same_few_weights_exceed_a_smaller_error(m: int, n: int) -> None:
    """By trying errors one after the other at this scale and at others."""
    weights = np.abs(np.random.default_rng(n).normal(0, 0.1, n))
    (many, first), (_, rest) = LEFT_OUT_SHARES
    few = (LEFT_OUT + first * min(n, many) + rest * max(0, n - many)) / 2.0 ** max(0, m - LEFT_OUT_SIZE)
    errors = np.geomspace(1e-13, WORTH, 200) * weights.max()

    def reached(scale: float) -> float:
        missed = expected_misses(weights, m, True, np.array([scale]), errors)[0]
        return float(errors[np.flatnonzero(missed <= few)[0]]) if (missed <= few).any() else math.inf

    chosen = choose_scale(weights, m, every=True)
    assert reached(chosen) < math.inf
    assert reached(chosen) <= 1.4 * min(reached(chosen * factor) for factor in (0.25, 0.5, 0.7, 1.4, 2.0, 4.0))
