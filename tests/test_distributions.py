"""From words to weights: exact, even, symmetric, never 0."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slth.source.distributions import uniform
from slth.source.philox import words


@given(st.integers(0, 2**32 - 1))
def test_each_word_maps_to_the_stated_odd_multiple(word: int) -> None:
    (value,) = uniform(np.array([word], dtype=np.uint32))
    assert value.dtype == np.float32
    assert Fraction(float(value)) == Fraction(2 * (word >> 8) + 1 - 2**24, 2**24)


def test_all_levels_are_even_symmetric_and_not_zero() -> None:
    levels = uniform(np.arange(2**24, dtype=np.uint32) << np.uint32(8))
    assert levels[0] == np.float32(-1 + 2.0**-24) and levels[-1] == np.float32(1 - 2.0**-24)
    assert (np.diff(levels.astype(np.float64)) == 2.0**-23).all()
    np.testing.assert_array_equal(levels, -levels[::-1])
    assert (levels != 0).all()


def test_the_lowest_eight_bits_do_not_count() -> None:
    word = words((3, 4), 0, 1000)
    np.testing.assert_array_equal(uniform(word), uniform(word ^ np.uint32(0xFF)))


def test_moments_and_independence_of_a_stream() -> None:
    """Five standard deviations of each sample moment, for a fixed stream."""
    n = 2**20
    x = uniform(words((12, 34), 5, n)).astype(np.float64)
    for power, moment, variance in (
        (1, 0, 1 / 3),
        (2, 1 / 3, 1 / 5 - 1 / 9),
        (3, 0, 1 / 7),
        (4, 1 / 5, 1 / 9 - 1 / 25),
    ):
        assert abs((x**power).mean() - moment) < 5 * (variance / n) ** 0.5
    for lag in (1, 2, 3, 4, 5):
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 * (1 / 9 / n) ** 0.5
    distance = np.abs(np.sort(x) - np.linspace(-1, 1, n)).max() / 2
    assert distance < 2 / n**0.5
