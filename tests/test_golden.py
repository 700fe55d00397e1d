"""Golden bins and the greedy choice against Lemma 9 and Corollary 10, and against a slow copy in fractions."""

from __future__ import annotations

import bisect
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from slth.bounds import orseau
from slth.errors import ArgumentError
from slth.subsetsum import exact, golden
from slth.subsetsum.golden import GAMMA
from slth.subsetsum.problem import Batch, Run
from slth.subsetsum.rounding import evaluate
from test_subsetsum import KINDS

RNG = np.random.default_rng(20200622)
LEAST_GAMMA = (math.sqrt(5) - 1) / 2
EXPONENTS = range(1709, -1751, -1)
"""Of the grid: from 2^-1000 to the largest float64."""


def batch_of(problems: list[tuple[np.ndarray, float]]) -> Batch:
    """A batch of (base set, target)."""
    sizes = np.array([len(base) for base, _ in problems], np.int64)
    values = np.concatenate([np.asarray(base, float) for base, _ in problems])
    return Batch(values, np.cumsum(sizes) - sizes, sizes, np.array([float(target) for _, target in problems]))


def bins(eps: float, gamma: float) -> np.ndarray:
    """Edges of the bins of Lemma 9, for w_max = 1."""
    return np.asarray(gamma ** np.arange(1.0, orseau.pieces(eps, gamma=gamma) + 2.0))


def _hyperbolic(shape: tuple[int, ...], eps: float, gamma: float) -> np.ndarray:
    """Density proportional to 1/v on [εγ², γ]."""
    return eps * gamma**2 * (1.0 / (eps * gamma)) ** RNG.random(shape)


def _one_a_bin(n: int, edges: np.ndarray) -> np.ndarray:
    """One element of each bin, at its very ends now and then."""
    low, high = np.nextafter(edges[1:], 1.0), edges[:-1]
    mixed = low + (high - low) * RNG.random((n, len(high)))
    kind = RNG.integers(0, 4, (n, len(high)))
    return np.where(kind == 0, low, np.where(kind == 1, high, np.minimum(np.maximum(mixed, low), high)))


@pytest.mark.parametrize("eps", [0.3, 0.01, 1e-6])
@pytest.mark.parametrize("gamma", [GAMMA, LEAST_GAMMA, 0.8, 0.95])
def test_greedy_leaves_at_most_the_last_bin(gamma: float, eps: float) -> None:
    edges = bins(eps, gamma)
    k = len(edges) - 1
    assert edges[k - 1] <= eps * (1 + 1e-11) and (k == 1 or edges[k - 2] > eps)
    # Every w, also the thresholds themselves and what lies next to them.
    w = np.concatenate([RNG.random(2000), edges, np.nextafter(edges, 0), np.nextafter(edges, 1), [0.0, 1.0]])
    taken, left = golden.greedy(w, edges[:-1], _one_a_bin(len(w), edges))
    # At the inverse golden ratio the proof has no room for the rounding of the edges.
    room = 8 * 2.0**-52 if gamma == LEAST_GAMMA else 0.0
    assert (left >= 0.0).all() and (left <= edges[k - 1] + room).all()
    assert taken.shape == (len(w), k)


def test_below_the_inverse_golden_ratio_it_fails_and_is_refused() -> None:
    gamma, eps = 0.55, 1e-3
    edges = gamma ** np.arange(1.0, math.ceil(math.log(eps) / math.log(gamma)) + 2.0)
    w = RNG.random(20000)
    elements = edges[1:] + (edges[:-1] - edges[1:]) * 1e-9
    _, left = golden.greedy(w, edges[:-1], elements)
    assert left.max() > 10 * eps
    with pytest.raises(ArgumentError, match=r"gamma: got 0\.55; need at least"):
        bins(eps, gamma)


@pytest.mark.parametrize(("gamma", "eps"), [(GAMMA, 0.01), (LEAST_GAMMA, 1e-3), (0.8, 0.05)])
def test_every_bin_is_as_likely(gamma: float, eps: float) -> None:
    edges = bins(eps, gamma)
    k_prime = 1 + math.log(eps) / math.log(gamma)
    n = 100_000
    v = _hyperbolic((n,), eps, gamma)
    assert v.min() >= eps * gamma**2 and v.max() <= gamma
    counts = np.histogram(v, edges[::-1])[0]
    rest = n - counts.sum()
    expected = np.full(len(counts), n / k_prime)
    observed = np.append(counts, rest)[: len(counts) + (rest > 0)]
    expected = np.append(expected, n - expected.sum())[: len(observed)]
    assert stats.chisquare(observed, expected * (n / expected.sum())).pvalue > 1e-4


@pytest.mark.parametrize(("eps", "delta"), [(0.01, 0.1), (0.1, 0.3)])
def test_so_many_samples_rarely_miss_a_bin(eps: float, delta: float) -> None:
    m, trials = orseau.lemma_9(eps, delta), 4000
    edges = bins(eps, GAMMA)
    v = _hyperbolic((trials, m), eps, GAMMA)
    missed = np.zeros(trials, bool)
    for low, high in zip(edges[1:], edges[:-1], strict=True):
        missed |= ~((v > low) & (v <= high)).any(axis=1)
    # Three deviations above δ would already be a finding.
    assert 0 < missed.mean() <= delta + 3 * math.sqrt(delta * (1 - delta) / trials)


def _slowly(base: list[float], target: float) -> tuple[int, Fraction | None]:
    """The mask in exact arithmetic, and the bound: γ^k where the bins from the target's down to k hold an element."""
    grid = [GAMMA**i for i in EXPONENTS]
    first: dict[int, int] = {}
    for k, x in enumerate(base):
        at = bisect.bisect_left(grid, abs(x))
        if x and target and (x < 0) == (target < 0) and 0 < at < len(grid):
            first.setdefault(EXPONENTS[at], k)
    left, mask = Fraction(abs(target)), 0
    for i in sorted(first):
        if left >= Fraction(GAMMA**i):
            left -= Fraction(abs(base[first[i]]))
            mask |= 1 << first[i]
    hit = bisect.bisect_right(grid, abs(target)) - 1
    bound = None
    while hit >= 0 and EXPONENTS[hit] in first:
        bound = Fraction(grid[hit])
        hit -= 1
    return mask, bound


@pytest.mark.parametrize("kind", KINDS)
def test_solver_equals_the_slow_copy(kind: str) -> None:
    problems = [KINDS[kind](m) for m in (0, 1, 2, 5, 9, 16, 33, 64) for _ in range(3)]
    batch = batch_of(problems)
    told: list[int] = []
    found = golden.solve(batch, "best", None, Run(1, told.append))
    assert told[-1] == len(problems)
    for p in range(len(problems)):
        base, target = batch.problem(p)
        mask, bound = _slowly(base, target)
        assert int(found.selected[p]) == mask
        assert (found.sums[p], found.errors[p]) == exact.evaluate(base, target, mask)
        total = abs(sum((Fraction(x) for k, x in enumerate(base) if mask >> k & 1), Fraction(0)))
        deficit = abs(Fraction(target)) - total
        assert deficit >= 0
        assert bound is None or deficit <= bound


@pytest.mark.parametrize("eps", [0.1, 1e-3])
def test_corollary_10_end_to_end(eps: float) -> None:
    # Of both signs as many as Lemma 9 asks for; 64 elements are enough for ε = 0.1, and for 1e-3 bins are made by hand.
    edges = bins(eps, GAMMA)
    half = _one_a_bin(500, edges)
    base = np.concatenate([half, -half[:, ::-1]], axis=1)
    targets = RNG.uniform(-1, 1, 500)
    starts = np.arange(500) * base.shape[1]
    batch = Batch(base.reshape(-1), starts, np.full(500, base.shape[1]), targets)
    found = golden.solve(batch, "best", None, Run(1))
    # The solver's grid continues above the bins of the lemma: at γ^0, and only there, is none.
    assert (found.errors <= eps).all()
    assert (np.abs(found.sums) <= np.abs(targets)).all()
    assert (found.sums * targets >= 0).all()


def test_elements_do_not_depend_on_the_target() -> None:
    # Of three elements in one bin the first stands for it, even where a later one would fit better.
    base = np.array([0.5, 0.6, 0.55, 0.3])
    for target in np.linspace(GAMMA, 1.0, 20):
        found = golden.solve(batch_of([(base, float(target))]), "best", None, Run(1))
        assert int(found.selected[0]) & 0b0111 == 0b0001


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_many_are_rounded_correctly(kind: str) -> None:
    for m in (1, 3, 8, 24, 64):
        problems = [KINDS[kind](m) for _ in range(6)]
        base, targets = np.array([x for x, _ in problems]), np.array([z for _, z in problems])
        masks = RNG.integers(0, 2**m, 6, dtype=np.uint64, endpoint=False) if m < 64 else RNG.bytes(48)
        masks = np.frombuffer(masks, np.uint64) if m == 64 else masks
        sums, errors = evaluate(base, targets, masks)
        for p in range(6):
            assert (sums[p], errors[p]) == exact.evaluate(base[p].tolist(), float(targets[p]), int(masks[p]))


def test_no_problems() -> None:
    empty = Batch(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert len(golden.solve(empty, "best", None, Run(1)).errors) == 0
