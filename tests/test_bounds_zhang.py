"""Zhang et al. 2021: sample sizes have the orders that the paper states, and say that their constant is chosen."""

from __future__ import annotations

import math

import pytest

from slth.bounds import zhang
from slth.errors import ArgumentError

C = {"C": 1e6}
"""So large that rounding up is far below the ratios that are tested."""


def test_orders() -> None:
    base = zhang.theorem_2(5, 20, 500, 0.25, 0.01, C).value
    assert zhang.theorem_2(5, 40, 500, 0.25, 0.01, C).value / base == pytest.approx(2)
    assert zhang.theorem_2(10, 20, 500, 0.25, 0.01, C).value / base == pytest.approx(2**8)
    assert zhang.theorem_2(5, 20, 500, 0.125, 0.01, C).value / base == pytest.approx(4)
    assert zhang.theorem_2(5, 20, 500**2, 0.25, 0.01, C).value / base == pytest.approx(2)
    assert zhang.theorem_2(5, 20, 500, 0.25, 1e-4, C).value / base == pytest.approx(2)
    assert zhang.theorem_1(6, 20, 500, 0.5, C).value / zhang.theorem_1(3, 20, 500, 0.5, C).value == pytest.approx(16)
    first = zhang.lemma_1(5, 20, 500, 0.25, C).value
    assert zhang.lemma_1(5, 20, 500**2, 0.25, C).value / first == pytest.approx(16)
    assert first / base == pytest.approx(math.log(500) ** 3 / math.log(100))
    # A dense network needs d / r as many.
    dense = zhang.magnitude_pruning(5, 500, 0.01, C).value
    assert dense / zhang.theorem_2(5, 20, 500, 0.25, 0.01, C).value == pytest.approx(500 / 20 / 16)


def test_values_at_constant_one() -> None:
    assert zhang.theorem_1(3, 20, 500, 0.5).value == math.ceil(4 * 81 * 20 * math.log(500))
    assert zhang.theorem_2(2, 3, 10, 0.1, 0.01).value == math.ceil(100 * 256 * 3 * math.log(10) * math.log(100))
    assert zhang.pruning_iterations(0.5, 0.01).value == math.ceil(math.log(100))
    assert zhang.folds(0.01) == 5 and zhang.folds(0.9) == 1
    assert zhang.failure_probability(5, 5, 10) == pytest.approx(125e-10) and zhang.failure_probability(5, 5, 1) == 1
    assert not zhang.theorem_1(3, 20, 500, 0.5).proved
    assert zhang.theorem_1(3, 20, 500, 0.5).constants[0].kind == "chosen"


def test_assumptions() -> None:
    assert not zhang.theorem_2(5, 20, 500, 0.5, 0.01).holds and zhang.theorem_2(5, 20, 500, 0.49, 0.01).holds
    assert not zhang.theorem_1(5, 20, 500, 1.0).holds
    noisy = zhang.lemma_1(5, 20, 500, 0.25, noise=2.0, teacher_norm=1.0)
    assert noisy.broken[0].got == "|ξ| = 2, ‖W*‖_2 = 1" and zhang.lemma_1(5, 20, 500, 0.25, noise=1.0).holds


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ArgumentError, match="kept"):
        zhang.theorem_1(3, 501, 500, 0.5)
    with pytest.raises(ArgumentError, match="eps"):
        zhang.theorem_2(3, 5, 500, 0.1, 1.0)
    with pytest.raises(ArgumentError, match="smallest"):
        zhang.pruning_iterations(0.1, 0.2)
