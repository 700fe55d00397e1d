"""Orseau et al. 2020, Remarks 12 and 14 for products of two weights: CHECKS O3, O4, O11 by quadrature and drawing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from slth.bounds import orseau
from slth.bounds.recycling import (
    HYPERBOLIC,
    LOG,
    LOGLOG,
    bin_probabilities,
    log_mass,
    loglog_mass,
    neurons_of_a_round,
    place_bins,
    samples_to_find,
    shelves,
)
from slth.bounds.shape import Shape
from slth.source.distributions import DISTRIBUTIONS, draw
from slth.source.hyperbolic import Hyperbolic, HyperbolicLog, HyperbolicLogLog

STARTS = np.arange(2.0, 42.0)
GAMMAS = (2 / 3, 0.6181, 0.9)
EXAMPLE = orseau.example(100, 10)


def products(law: object, n: int) -> np.ndarray:
    """Magnitudes of products of two numbers of one law."""
    u, v = (np.abs(draw(law, (9, stream), 0, n).astype(np.float64)) for stream in (1, 2))  # type: ignore[arg-type]
    return u * v


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("kind", "name"), [(HyperbolicLog, LOG), (HyperbolicLogLog, LOGLOG)])
def test_bins_of_products_are_as_likely_as_is_stated(kind: type, name: str, gamma: float) -> None:
    """O3: the bins gamma^2 (gamma^(i+1), gamma^i] of a million products; the second law's bound is near enough."""
    n = 2**20
    x = np.log(products(kind(gamma), n)) / math.log(gamma)
    counts = np.histogram(x, np.append(STARTS, STARTS[-1] + 1))[0]
    stated = n * bin_probabilities(name, gamma, STARTS, 1.0)
    assert (np.abs(counts - stated) <= 5 * np.sqrt(stated) + 0.007 * stated * (name == LOGLOG)).all()
    assert kind.name == name and name in DISTRIBUTIONS


@given(st.floats(2.0, 80.0), st.floats(0.01, 5.0))
def test_the_first_law_s_mass_is_the_integral_of_the_convolution(low: float, length: float) -> None:
    """Density 1/t^2 of each logarithm: P(T + T' <= x) by quadrature."""

    def below(x: float) -> float:
        return quad(lambda t: (1 - 1 / (x - t)) / t**2, 1, x - 1, limit=200)[0] if x > 2 else 0.0

    mass = float(log_mass(np.array([low]), np.array([low + length]))[0])
    assert mass == pytest.approx(below(low + length) - below(low), abs=1e-7)


def test_the_first_law_s_bins_are_twice_those_of_a_single_weight_far_out() -> None:
    """A heavy tail: one of the two is small, the other about 1. And nothing is left over."""
    far = log_mass(np.array([1e4]), np.array([1e4 + 1]))[0]
    assert far * 1e8 == pytest.approx(2.0, rel=5e-3)
    assert log_mass(np.array([2.0]), np.array([np.inf])) == 1.0 and log_mass(np.array([0.0]), np.array([2.0])) == 0.0


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_second_law_s_mass_is_bounded_from_below(gamma: float) -> None:
    """Quadrature of the same integral is above the lower sum, by less than a percent."""
    step, log_3 = -math.log(gamma), math.log(3)
    c = log_3 + step
    low = np.concatenate([STARTS, [0.5, 1.7, 2.3, 7.77, 500.0]])
    high = low + np.where(low > 100, 3.0, 1.0)
    found = loglog_mass(low, high, gamma)

    def tail(t: float) -> float:
        return math.log(c) / math.log(max(t, c))

    def density(t: float, a: float, b: float) -> float:
        return math.log(c) / (t * math.log(t) ** 2) * (tail(a - t) - tail(b - t))

    for a, b, mass in zip(2 * log_3 + low * step, 2 * log_3 + high * step, found, strict=True):
        if b <= 2 * c:
            assert mass == 0.0
            continue
        points = [c, *sorted({min(max(a / 2, c), b - c), min(max(a - c, c), b - c)}), b - c]
        exact = sum(quad(density, s, e, args=(a, b), epsabs=1e-13)[0] for s, e in itertools.pairwise(points))
        assert exact * 0.99 <= mass <= exact * (1 + 1e-8)


@pytest.mark.parametrize("name", [LOG, LOGLOG, HYPERBOLIC])
def test_a_round_misses_a_bin_no_more_often_than_is_allowed(name: str) -> None:
    """O4: of batches of m products at most a share delta lacks a bin of one sign pair; half of m is not enough."""
    gamma, k, delta, n_bins = 2 / 3, 8, 0.25, 9.0
    bins = place_bins(name, gamma, k, n_bins)
    m = bins.held(slice(0, k), 1, math.log(delta))
    # Lemma 28's spread: k' bins and their products, of which 1/(2 k') each is stated.
    law = {LOG: HyperbolicLog(gamma), LOGLOG: HyperbolicLogLog(gamma), HYPERBOLIC: Hyperbolic(gamma**n_bins, 1.0)}[name]
    unit = gamma ** (-0.5 * n_bins + 1) if name == HYPERBOLIC else 1 / gamma
    n = 2000 * m
    u, v = (draw(law, (3, stream), 0, n).astype(np.float64) for stream in (1, 2))
    index = np.floor(np.log(np.abs(u * v) * unit) / math.log(gamma)).astype(int) - 1
    index = np.where((u > 0) & (v > 0), index, -1)
    share = [(index == i).mean() for i in range(k)]
    assert (np.array(share) >= bins.share - 5 * np.sqrt(bins.share / n)).all()

    def missed(size: int) -> float:
        batches = index[: n // size * size].reshape(-1, size)
        return float(np.any([~(batches == i).any(axis=1) for i in range(k)], axis=0).mean())

    assert missed(m) <= delta + 4 * math.sqrt(delta / 2000)
    assert missed(m // 2) > delta or name == HYPERBOLIC


@given(st.lists(st.floats(1e-6, 0.5), min_size=1, max_size=12), st.floats(1e-12, 0.5))
def test_samples_to_find_is_the_least_number(probabilities: list[float], failure: float) -> None:
    p = np.array(probabilities)
    m = samples_to_find(p, math.log(failure))
    assert ((1 - p) ** m).sum() <= failure * (1 + 1e-9)
    assert m == 1 or ((1 - p) ** (m - 1)).sum() > failure * (1 - 1e-9)


def test_failures_below_every_float_still_count() -> None:
    assert samples_to_find(np.array([0.5]), -1000 * math.log(2)) == 1000


@given(st.floats(1e-3, 5000.0), st.sampled_from(GAMMAS[:2]), st.integers(1, 60))
def test_every_bin_is_served_by_the_least_scale_that_reaches_it(top: float, gamma: float, k: int) -> None:
    bins = place_bins(LOG, gamma, k, 1.0, math.log2(top))
    ends = top * gamma ** np.arange(1, k + 1)
    reach = gamma * 2.0**bins.powers
    assert (ends <= reach * (1 + 1e-9)).all() and ((bins.powers == 0) | (ends > reach / 2)).all()
    assert (np.diff(bins.powers) <= 0).all() and (bins.share > 0).all()
    np.testing.assert_allclose(bins.start, 1 + np.log(ends / 2.0**bins.powers) / math.log(gamma), atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 500)), min_size=1, max_size=6), st.integers(0, 50))
def test_a_round_has_as_many_neurons_of_each_scale_as_it_must(needs: list[tuple[int, int]], each: int) -> None:
    """Remark 14, counted: t is an odd multiple of 2^j; rounds follow one another."""
    powers = np.array(sorted({power for power, _ in needs}, reverse=True))
    held = dict(needs)
    made = shelves(powers, lambda part: held[int(powers[part][0])], each)
    n = neurons_of_a_round(made, True)
    t = np.arange(n + 1, 2 * n + 1)
    for shelf in made:
        assert ((t & -t) == 2**shelf.power).sum() >= shelf.held + shelf.fresh and shelf.fresh == each
    largest = 2 ** (int(powers[0]) + 1)
    fewer = np.arange(1, n - largest + 1)
    assert any(((fewer & -fewer) == 2**s.power).sum() < s.held + s.fresh for s in made)


def test_unknown_largest_weights_cost_no_more_than_the_remark_says() -> None:
    """Remark 14: at most 4 w_max as many neurons."""
    for largest in (1.0, 1.5, 2.0, 7.0, 30.0):
        shape = Shape.of_widths([20, 20, 20, 20], largest=largest)
        free = orseau.remark_14_unknown(shape, 0.01, 0.01, ticket="stated")
        plain = orseau.theorem_30_free(shape, 0.01, 0.01, law=HYPERBOLIC, ticket="stated")
        assert plain.per_weight[0] <= free.per_weight[0] <= 4 * largest * plain.per_weight[0]


def test_the_count_is_theorem_30_s_for_its_own_law() -> None:
    for ticket in ("stated", "worst"):
        counted = orseau.theorem_30_free(EXAMPLE, 0.01, 0.01, law=HYPERBOLIC, ticket=ticket)  # type: ignore[arg-type]
        closed = orseau.theorem_30(EXAMPLE, 0.01, 0.01, ticket=ticket)  # type: ignore[arg-type]
        assert 0.99 * closed.per_weight[0] <= counted.per_weight[0] <= closed.per_weight[0]


def test_what_not_knowing_eps_costs() -> None:
    """Remark 12: log^2 (1/eps) for the first density, little more than log (1/eps) for the second."""
    at = [orseau.theorem_30(EXAMPLE, 0.01, 0.01, ticket=ticket) for ticket in ("stated", "worst")]  # type: ignore[arg-type]
    first, second = (
        [f(EXAMPLE, 0.01, 0.01, ticket=ticket).per_weight[0] for ticket in ("stated", "worst")]  # type: ignore[arg-type]
        for f in (orseau.remark_12_log, orseau.remark_12_loglog)
    )
    assert round(first[0], 2) == 568.31 and round(second[0], 2) == 385.66
    assert at[0].per_weight[0] < second[0] < first[0]
    # eps_w is 10^-7 and 10^-27: four times as many bins.
    assert first[1] > 12 * first[0] and second[1] < 8 * second[0]
    bound = orseau.theorem_30_free(EXAMPLE, 0.01, 0.01, scheduled=True)
    assert bound.theorem == "Theorem 30, Remarks 12 and 14" and "odd multiples" in bound.source_law and bound.proved
