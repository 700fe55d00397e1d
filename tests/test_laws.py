"""Every law: bits, symmetry, support, and its distribution against the formulas (theory O3, O5, O11, C6)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from statistics import NormalDist
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from slth.errors import ArgumentError
from slth.source import scales
from slth.source.distributions import DISTRIBUTIONS, Grid, Normal, Uniform, draw, draw_at, from_json, parse, uniform
from slth.source.hyperbolic import Hyperbolic, HyperbolicLog, HyperbolicLogLog
from slth.source.law import LEAST, Distribution
from slth.source.philox import words
from slth.source.quantiles import Quantiles, tabulate

N = 2**20
KEY = (5, 6)
CORNERS = np.array([0, 1, 2**31 - 1, 2**31, 0x12345678, 0xDEADBEEF, 2**32 - 1], dtype=np.uint32)

TRIANGLE = tabulate(lambda p: math.copysign(1 - math.sqrt(1 - abs(2 * p - 1)), p - 0.5), 257, symmetric=True)
SKEWED = Quantiles((0.0, 0.25, 1.0), (-0.5, 0.25, 2.0))
LAWS: dict[str, Distribution] = {
    **{law.label: law for law in (Uniform(), Normal(), Hyperbolic(), HyperbolicLog(), HyperbolicLogLog())},
    **{law.label: law for law in (Hyperbolic(2.0**-20, 0.5), HyperbolicLog(0.5), Grid(), Grid(2), Grid(7), Grid(256))},
    "triangle": TRIANGLE,
    "skewed": SKEWED,
}
CONTINUOUS = [name for name, law in LAWS.items() if law.containment() is not None]
MIRRORED = [name for name, law in LAWS.items() if law.symmetric]


@pytest.fixture(scope="module")
def drawn() -> dict[str, NDArray[np.float64]]:
    """A million numbers of every law, from one stream."""
    return {name: draw(law, KEY, 0, N).astype(np.float64) for name, law in LAWS.items()}


def assert_even(counts: NDArray[Any], expected: NDArray[Any]) -> None:
    """Chi-square at one in ten thousand, for a fixed stream; the last bin takes what is left."""
    assert expected.min() > 20 and counts.sum() == pytest.approx(expected.sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - 1e-4, len(counts) - 1)


# Bits.

GOLDEN = {
    "uniform": ("bf7fffff bf7fffff b3800000 33800000 bf5b9753 3f3d5b7d 3f7fffff", "1b72c6b657243786"),
    "normal": ("afa06c99 b070a2e5 c0cad08d 2fa06c99 be37812b 3f90149a 40cad08d", "5559d220ee3d1374"),
    "hyperbolic:0.001:1": ("ba83126f ba83126f bf800000 3a83126f bb2f0b33 3e299035 3f800000", "a21d8b678b3e7989"),
    "hyperbolic-log:0.6666666666666666": (
        "80800000 80800000 bf2aaaab 00800000 bd6cb5fe 3f13f86f 3f2aaaab",
        "1aaacac7acfe1f32",
    ),
    "hyperbolic-loglog:0.6666666666666666": (
        "80800000 80800000 bf2aaaab 00800000 b38d05c9 3f0747eb 3f2aaaab",
        "778336dc29b0f031",
    ),
    "hyperbolic:9.5367431640625e-07:0.5": (
        "b5800000 b5800000 bf000000 35800000 b6d041d5 3c84dea7 3f000000",
        "0e584000421a69be",
    ),
    "hyperbolic-log:0.5": ("80800000 80800000 bf000000 00800000 bbfa83b3 3ec89560 3f000000", "e2a0aabd6d626557"),
    "grid:16": ("bf800000 bf800000 bd888889 3d888889 bf5dddde 3f3bbbbc 3f800000", "dbd11b356b8b11a6"),
    "grid:2": ("bf800000 bf800000 bf800000 3f800000 bf800000 3f800000 3f800000", "3aeb86e3745249ce"),
    "grid:7": ("bf800000 bf800000 00000000 00000000 bf800000 3f800000 3f800000", "30ef2074dff58cc2"),
    "grid:256": ("bf800000 bf800000 bb808081 3b808081 bf5bdbdc 3f3dbdbe 3f800000", "cfb69798df56d46b"),
    "triangle": ("af004040 afc06060 bf800000 2f004040 bd9738b6 3efac64d 3f800000", "81aa15592521ecdc"),
    "skewed": ("bf000000 bf000000 3f555555 3f555555 be92c5f9 3fd92009 40000000", "95d20c898813add2"),
}


@pytest.mark.parametrize("name", LAWS)
def test_bits_stay_what_they_are(name: str) -> None:
    corners, digest = GOLDEN[name]
    law = LAWS[name]
    assert " ".join(f"{bits:08x}" for bits in law.sample(CORNERS).view(np.uint32)) == corners
    assert hashlib.sha256(draw(law, KEY, 3, 50_000).astype("<f4").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", LAWS)
def test_any_block_and_any_element_can_be_drawn_alone(name: str) -> None:
    law = LAWS[name]
    whole = draw(law, KEY, 0, 40_000)
    assert whole.dtype == np.float32 and whole.shape == (40_000,)
    assert draw(law, KEY, 16_380, 1000).tobytes() == whole[16_380:17_380].tobytes()
    indices = words((1, 1), 0, 500).astype(np.uint64) % np.uint64(40_000)
    assert draw_at(law, KEY, indices).tobytes() == whole[indices].tobytes()
    assert draw(law, KEY, 7, 0).size == 0


def test_a_law_of_two_words_an_element_takes_them_from_its_own_place() -> None:
    @dataclasses.dataclass(frozen=True)
    class Sum(Uniform):
        words_per_element = 2

        def sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
            return uniform(words[::2]) + uniform(words[1::2])

    whole = draw(Sum(), KEY, 0, 100)
    assert draw(Sum(), KEY, 40, 10).tobytes() == whole[40:50].tobytes()
    assert draw_at(Sum(), KEY, np.array([99, 3], dtype=np.uint64)).tobytes() == whole[[99, 3]].tobytes()


@pytest.mark.parametrize("name", LAWS)
@given(word=st.integers(0, 2**32 - 1))
def test_each_number_is_the_exact_one_rounded(name: str, word: int) -> None:
    """Within half a unit of a float32, and 2^-20 of a unit for the rounding that came before."""
    law = LAWS[name]
    got = float(law.sample(np.array([word], dtype=np.uint32))[0])
    with mpmath.workprec(120):
        true = _exact(law, word)
        unit = mpmath.mpf(float(np.spacing(np.float32(abs(float(true))))))
        assert abs(got - true) <= unit * (0.5 + 2.0**-20)


def _exact(law: Distribution, word: int) -> Any:
    """The law's formula in 120 bits."""
    if isinstance(law, Uniform):
        return mpmath.mpf(2 * (word >> 8) + 1 - 2**24) / 2**24
    if isinstance(law, Grid):
        level = (2 * word + 1) * law.levels >> 33
        return mpmath.mpf(2 * level - law.levels + 1) / (law.levels - 1)
    sign, u = (1 if word >> 31 else -1), mpmath.mpf(2 * (word % 2**31) + 1) / 2**32
    if isinstance(law, Normal):
        return sign * mpmath.sqrt(2) * mpmath.erfinv(u)
    if isinstance(law, Hyperbolic):
        return sign * law.alpha * (mpmath.mpf(law.beta) / law.alpha) ** u
    if isinstance(law, HyperbolicLog):
        return sign * max(mpmath.mpf(law.gamma) ** (1 / u), LEAST)
    if isinstance(law, HyperbolicLogLog):
        c = mpmath.log(3 / mpmath.mpf(law.gamma))
        return sign * max(3 * mpmath.exp(-mpmath.exp(min(mpmath.log(c) / u, 8))), LEAST)
    assert isinstance(law, Quantiles)
    p = (1 + u) / 2 if law.symmetric else mpmath.mpf(2 * word + 1) / 2**33
    k = max(i for i in range(len(law.values) - 1) if law.probabilities[i] <= p)
    (p0, p1), (x0, x1) = law.probabilities[k : k + 2], law.values[k : k + 2]
    value = x0 + (p - p0) * (mpmath.mpf(x1) - x0) / (mpmath.mpf(p1) - p0)
    return sign * value if law.symmetric else value


# Symmetry and support (O11).


@pytest.mark.parametrize("name", MIRRORED)
@given(word=st.integers(0, 2**32 - 1))
def test_a_word_and_its_mirror_image_give_opposite_numbers(name: str, word: int) -> None:
    """The mirror image is the complement for the laws on even levels and the other sign bit for those with one."""
    law = LAWS[name]
    other = (2**32 - 1 if isinstance(law, Uniform | Grid) else 2**31) ^ word
    first, second = law.sample(np.array([word, other], dtype=np.uint32))
    assert first == -second
    assert first != 0 or (isinstance(law, Grid) and law.levels % 2 == 1)


@pytest.mark.parametrize("name", LAWS)
def test_the_support_is_reached_and_not_left(name: str, drawn: dict[str, NDArray[np.float64]]) -> None:
    law, x = LAWS[name], drawn[name]
    low, high = law.support
    assert low <= x.min() and x.max() <= high
    assert np.abs(x).min() >= law.least_magnitude
    if law.symmetric:
        assert low == -high
    reached = {"normal": 0.7, "triangle": 0.99}.get(name, 0.999)
    assert x.max() >= reached * high and x.min() <= reached * low
    assert np.isfinite(x).all()


def test_supports_are_those_stated() -> None:
    assert Uniform().support == (-1 + 2.0**-24, 1 - 2.0**-24) and Uniform().least_magnitude == 2.0**-24
    assert Normal().support[1] == pytest.approx(NormalDist().inv_cdf(1 - 2.0**-33), rel=1e-6)
    assert Hyperbolic(0.25, 0.75).support == (-0.75, 0.75) and Hyperbolic(0.25, 0.75).least_magnitude == 0.25
    for law in (HyperbolicLog(0.5), HyperbolicLogLog(0.5)):
        assert law.support == (-0.5, 0.5) and law.least_magnitude == LEAST
    assert Grid(2).support == (-1, 1) and Grid(2).least_magnitude == 1 and Grid(7).least_magnitude == 0
    assert SKEWED.support == (-0.5, 2.0) and SKEWED.least_magnitude == 0.0 and not SKEWED.symmetric
    assert Quantiles((0.0, 1.0), (0.5, 2.0)).least_magnitude == 0.5


@pytest.mark.parametrize("bounds", [(0.1, 0.3), (1 / 3, 2 / 3), (2.0**-126, 2.0**126)])
def test_rounding_never_passes_a_hyperbolic_bound(bounds: tuple[float, float]) -> None:
    magnitudes = np.abs(Hyperbolic(*bounds).sample(words(KEY, 0, 10_000)))
    assert magnitudes.min() >= np.float32(bounds[0]) and magnitudes.max() <= np.float32(bounds[1])


# Distributions.


@pytest.mark.parametrize("name", ["uniform", "normal", "triangle", "skewed", "hyperbolic:0.001:1"])
def test_quantiles_are_the_laws(name: str, drawn: dict[str, NDArray[np.float64]]) -> None:
    x = drawn[name]
    if name == "hyperbolic:0.001:1":
        x = np.abs(x)
    inverse = {
        "uniform": lambda p: 2 * p - 1,
        "normal": NormalDist().inv_cdf,
        "triangle": lambda p: math.copysign(1 - math.sqrt(1 - abs(2 * p - 1)), p - 0.5),
        "skewed": lambda p: -0.5 + 3 * p if p < 0.25 else 0.25 + (p - 0.25) * 7 / 3,
        "hyperbolic:0.001:1": lambda p: 0.001 * 1000**p,
    }[name]
    cells = 64
    borders = [inverse(k / cells) for k in range(1, cells)]
    counts = np.bincount(np.searchsorted(borders, x), minlength=cells)
    assert_even(counts, np.full(cells, N / cells))


def test_golden_bins_of_a_hyperbolic_law_are_equally_likely() -> None:
    """O3: on [eps gamma^2, gamma] each of the k' bins (gamma^(i+1), gamma^i] has probability 1/k'."""
    gamma, k = 2 / 3, 20
    x = np.abs(draw(Hyperbolic(gamma ** (k + 1), gamma), KEY, 0, N).astype(np.float64))
    bins = np.clip(np.floor(np.log(x) / math.log(gamma)).astype(int), 1, k)
    assert_even(np.bincount(bins, minlength=k + 1)[1:], np.full(k, N / k))


@pytest.mark.parametrize("gamma", [2 / 3, 0.5])
def test_bins_of_remark_12_have_the_stated_probabilities(gamma: float) -> None:
    """P(I_i) = 1 / (i (i + 1)) for the first density; for the second as its docstring says."""
    last = 40
    i = np.arange(1, last)
    span, c = -math.log(gamma), math.log(3 / gamma)
    tail = math.log(c) / np.log(math.log(3) + np.arange(1, last + 1) * span)
    for law, above in ((HyperbolicLog(gamma), 1 / np.arange(1, last + 1)), (HyperbolicLogLog(gamma), tail)):
        x = np.abs(draw(law, KEY, 0, N).astype(np.float64))
        bins = np.clip(np.floor(np.log(x) / math.log(gamma)).astype(int), 1, last)
        assert_even(np.bincount(bins, minlength=last + 1)[1:], N * np.append(above[:-1] - above[1:], above[-1]))
        if isinstance(law, HyperbolicLog):
            np.testing.assert_allclose(above[:-1] - above[1:], 1 / (i * (i + 1)))
    least = {
        HyperbolicLog: -math.log2(gamma) / 126,
        HyperbolicLogLog: math.log(c) / math.log(126 * math.log(2) + 1.0986),
    }
    for kind, share in least.items():
        lost = (np.abs(draw(kind(gamma), KEY, 0, N)) == np.float32(LEAST)).mean()
        assert lost == pytest.approx(share, abs=5 * (share / N) ** 0.5)


@pytest.mark.parametrize("levels", [2, 7, 16, 255])
def test_levels_are_equally_likely_and_evenly_spaced(levels: int) -> None:
    law = Grid(levels)
    x = draw(law, KEY, 0, N)
    values, counts = np.unique(x, return_counts=True)
    np.testing.assert_allclose(values, np.linspace(-1, 1, levels), atol=6e-8)
    assert_even(counts, np.full(levels, N / levels))
    assert (0 in values) == (levels % 2 == 1) and law.containment() is None


# Products (O5, C6).


def test_products_of_hyperbolic_numbers_follow_lemma_28() -> None:
    """On [a sqrt(ab), b sqrt(ab)] the density is at least c/2w, c/4w with the sign, and the mass there is 3/4."""
    a, b = 0.01, 1.0
    law = Hyperbolic(a, b)
    c = 1 / math.log(b / a)
    low, high = a * math.sqrt(a * b), b * math.sqrt(a * b)
    w = np.geomspace(low * (1 + 1e-9), high * (1 - 1e-9), 1001)
    ratio = law.product_density(w) / (c / (4 * w))
    assert ratio.min() >= 1.0 and ratio.max() == pytest.approx(2.0, rel=1e-6)
    assert law.product_density(np.array([low, high])) == pytest.approx(c / (4 * np.array([low, high])))
    assert (law.product_density(-w) == law.product_density(w)).all()
    product = draw(law, KEY, 0, N).astype(np.float64) * draw(law, (7, 8), 0, N)
    inside = (np.abs(product) >= low) & (np.abs(product) <= high)
    assert inside.mean() == pytest.approx(0.75, abs=5 * (0.1875 / N) ** 0.5)
    # With s the place between ln a^2 and ln b^2, the triangle holds 2 s^2 of the mass below s <= 1/2.
    s = np.linspace(0, 1, 41)
    mass = np.diff(np.where(s <= 0.5, 2 * s**2, 1 - 2 * (1 - s) ** 2))
    for sign in (1, -1):
        places = np.log(np.abs(product[sign * product > 0])) / math.log(b / a) / 2 + 1
        counts = np.histogram(places, s)[0]
        assert_even(counts, mass * counts.sum())
        # The empirical bins, too, have at least the lemma's mass, up to five standard deviations.
        bound = N * c / 4 * 2 * math.log(b / a) / 40
        assert (counts[10:30] >= bound - 5 * bound**0.5).all()


def test_products_of_uniform_numbers_have_the_density_that_is_stated() -> None:
    """C6: -1/2 ln|x| for U V, ln2/2 at 1/2; V U+ is half zeros, has ln2/4 at 1/2, and mu+ = 1/16."""
    u, v = draw(Uniform(), KEY, 0, 4 * N).astype(np.float64), draw(Uniform(), (7, 8), 0, 4 * N).astype(np.float64)
    half = v * np.maximum(u, 0)
    assert (half == 0).mean() == pytest.approx(0.5, abs=5 * 0.5 / (4 * N) ** 0.5)
    width = 0.02
    for product, density in ((u * v, math.log(2) / 2), (half, math.log(2) / 4)):
        for centre in (0.5, -0.5):
            seen = (np.abs(product - centre) < width / 2).mean()
            assert seen / width == pytest.approx(density, abs=5 * (density / width / (4 * N)) ** 0.5 + 1e-4)
    deviation = (1 / 36 - 1 / 256) ** 0.5
    assert np.maximum(half, 0).mean() == pytest.approx(1 / 16, abs=5 * deviation / (4 * N) ** 0.5)
    edges = np.linspace(0, 1, 51)
    cumulative = np.where(edges > 0, edges - edges * np.log(np.maximum(edges, 1e-300)), 0)
    counts = np.histogram(np.abs(u * v), edges)[0]
    assert_even(counts, 4 * N * np.diff(cumulative))


# Containment.


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_density_is_at_least_the_constant_all_over_the_interval(
    name: str, drawn: dict[str, NDArray[np.float64]]
) -> None:
    law = LAWS[name]
    best = law.containment()
    assert best is not None and 0 < best.share <= 1
    for a in (best.half_width, best.half_width / 3):
        contained = law.containment(a)
        assert contained is not None
        counts, edges = np.histogram(drawn[name], np.linspace(-a, a, 41))
        bound = contained.density * np.diff(edges) * N
        assert (counts >= bound - 5 * np.sqrt(bound)).all()
        # And it is the best constant: somewhere the density comes near it.
        assert (counts <= 1.1 * bound + 5 * np.sqrt(bound)).any()
        assert contained.share <= best.share * (1 + 1e-12)
    top = law.support[1]
    assert law.containment(top * 1.01) is None or name == "normal"


def test_containment_constants() -> None:
    assert Uniform().containment() == Uniform().containment(1.0) and Uniform().containment().share == 1.0  # type: ignore[union-attr]
    normal = Normal().containment()
    assert normal is not None and normal.half_width == 1.0
    assert normal.density == pytest.approx(NormalDist().pdf(1.0), rel=1e-12)
    assert Hyperbolic().containment() is None and Hyperbolic().containment(0.5) is None
    for law in (HyperbolicLog(), HyperbolicLogLog(), HyperbolicLog(0.05), HyperbolicLogLog(0.05)):
        x = np.linspace(1e-3, law.gamma, 100_001)
        contained = law.containment()
        assert contained is not None and contained.density == pytest.approx(law.density(x).min(), rel=1e-8)
        assert law.containment(law.gamma * 1.01) is None


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8, unique=True), st.data())
def test_the_best_interval_of_a_table_is_the_best_of_all(values: list[int], data: st.DataObject) -> None:
    knots = sorted(values)
    steps = data.draw(st.lists(st.integers(1, 9), min_size=len(knots) - 1, max_size=len(knots) - 1))
    law = Quantiles(
        tuple(sum(steps[:k]) / sum(steps) for k in range(len(knots))),
        tuple(float(value) for value in knots),
    )
    tried = [law.containment(k / 4) for k in range(1, 81)]
    best = max((one.share for one in tried if one), default=0.0)
    found = law.containment()
    assert (found.share if found else 0.0) == pytest.approx(best)


# Names, parameters and tables.


@pytest.mark.parametrize("name", LAWS)
def test_a_law_comes_back_from_json_and_from_its_label(name: str) -> None:
    law = LAWS[name]
    assert from_json(json.loads(json.dumps(law.to_json()))) == law
    assert law.name in DISTRIBUTIONS and hash(law) == hash(from_json(law.to_json()))
    if not isinstance(law, Quantiles):
        assert parse(law.label) == law


@pytest.mark.parametrize(
    "text",
    [
        *("", "gauss", "uniform:2", "normal:x", "hyperbolic:1:0.5", "hyperbolic:0", "hyperbolic:nan", "grid:1"),
        *("grid:2.5", "grid:1e9", "hyperbolic-log:1", "hyperbolic-log:0", "hyperbolic-loglog:-1"),
        *("hyperbolic:1:2:3", "quantiles"),
    ],
)
def test_what_is_no_law_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="need"):
        parse(text)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"name": 3},
        {"name": "gauss"},
        {"name": "uniform", "gamma": 1},
        {"name": "grid", "levels": "many"},
        {"name": "hyperbolic", "alpha": "0.1", "beta": 1},
        {"name": "quantiles", "probabilities": [0, 1], "values": [1]},
        {"name": "quantiles", "probabilities": [0, 1], "values": [1, 1]},
        {"name": "quantiles", "probabilities": [0, 1], "values": [2, 1]},
        {"name": "quantiles", "probabilities": [0, 1], "values": [0, 1e300]},
        {"name": "quantiles", "probabilities": [0, 1], "values": [0, float("nan")]},
        {"name": "quantiles", "probabilities": [0, 0.5, 0.5, 1], "values": [0, 1, 2, 3]},
        {"name": "quantiles", "probabilities": [0.1, 1], "values": [0, 1]},
        {"name": "quantiles", "probabilities": 3, "values": [0, 1]},
        {"name": "quantiles", "probabilities": [0, 10**400], "values": [0, 1]},
    ],
)
def test_a_stored_law_that_is_damaged_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        from_json(stored)


def test_a_table_is_as_near_to_its_function_as_its_knots_are() -> None:
    table = tabulate(NormalDist().inv_cdf, 4097, symmetric=True)
    assert table.symmetric and table.support[1] == pytest.approx(Normal().support[1], rel=1e-6)
    w = words(KEY, 0, 100_000)
    near = np.abs(Normal().sample(w)) < 3
    np.testing.assert_allclose(table.sample(w)[near], Normal().sample(w)[near], atol=2e-2)
    contained = table.containment()
    assert contained is not None and contained.share == pytest.approx(0.484, abs=2e-3)
    assert not tabulate(lambda p: p * p, 9).symmetric
    assert tabulate(lambda p: p - 0.5, 2).values == (-0.5, 0.5)
    with pytest.raises(ArgumentError):
        tabulate(lambda p: p, 1)


def test_a_table_with_a_flat_middle_is_the_only_one_that_gives_zero() -> None:
    law = Quantiles((0.0, 0.25, 0.75, 1.0), (-1.0, 0.0, 0.0, 1.0))
    x = draw(law, KEY, 0, 10_000)
    assert law.symmetric and law.least_magnitude == 0.0
    assert (x == 0).mean() == pytest.approx(0.5, abs=0.03)


# Scales.


@pytest.mark.parametrize("activation", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_gains_and_scales_are_torchs(activation: str) -> None:
    parameter = 0.2 if activation == "leaky_relu" else None
    gain = scales.gain(activation, 0.2)
    assert gain == pytest.approx(torch.nn.init.calculate_gain(activation, parameter), rel=1e-15)  # type: ignore[arg-type]
    weight = torch.empty(2000, 300)
    for fill, scale, options in (
        (torch.nn.init.kaiming_uniform_, scales.kaiming_uniform(300, gain), {"nonlinearity": activation}),
        (torch.nn.init.xavier_uniform_, scales.xavier_uniform(300, 2000, gain), {"gain": gain}),
    ):
        fill(weight, **({"a": 0.2} if "nonlinearity" in options else {}), **options)  # type: ignore[operator]
        assert float(weight.abs().max()) == pytest.approx(scale, rel=1e-4) and float(weight.abs().max()) <= scale
    for fill, scale, options in (
        (torch.nn.init.kaiming_normal_, scales.kaiming_normal(300, gain), {"nonlinearity": activation}),
        (torch.nn.init.xavier_normal_, scales.xavier_normal(300, 2000, gain), {"gain": gain}),
    ):
        fill(weight, **({"a": 0.2} if "nonlinearity" in options else {}), **options)  # type: ignore[operator]
        assert float(weight.std()) == pytest.approx(scale, rel=0.01)
        assert scale == float(np.float32(scale))


def test_scales_refuse_what_torch_does_not_know() -> None:
    with pytest.raises(ArgumentError):
        scales.gain("swish")
    with pytest.raises(ArgumentError):
        scales.kaiming_normal(0)
