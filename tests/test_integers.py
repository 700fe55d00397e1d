"""The solver in whole numbers against every subset, and on problems that no other check reaches."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from slth.subsetsum import enumeration, integers
from slth.subsetsum.problem import Answers, Run
from test_golden import batch_of
from test_subsetsum import KINDS

RNG = np.random.default_rng(3)


def same(one: Answers, two: Answers) -> None:
    """Equal to the bit."""
    for name in ("errors", "selected", "sums"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_oracle(kind: str) -> None:
    batch = batch_of([KINDS[kind](m) for m in (0, 1, 2, 3, 5, 8, 11) for _ in range(2)])
    same(integers.solve(batch, "best", None, Run(1)), enumeration.solve(batch, "best", None, Run(1)))
    for tolerance in (0.0, 0.02, 0.3):
        found = integers.solve(batch, "sparsest", tolerance, Run(1))
        same(found, enumeration.solve(batch, "sparsest", tolerance, Run(1)))


def test_first_finds_one_wherever_there_is_one() -> None:
    batch = batch_of([(RNG.uniform(-1, 1, 9), RNG.uniform(-1, 1)) for _ in range(20)])
    same(integers.solve(batch, "first", 0.01, Run(1)), enumeration.solve(batch, "best", None, Run(1)))


def test_large_sets_of_a_known_answer() -> None:
    # Powers of two write every whole number in one way; the tenths of the second are not exact, but their order is.
    powers = 2.0 ** np.arange(40)
    wanted = 0b1010101111001101111011110001001000110100
    tenths = np.full(40, 0.1)
    found = integers.solve(batch_of([(powers, float(wanted)), (tenths, 0.75)]), "best", None, Run(1))
    assert int(found.selected[0]) == wanted and found.errors[0] == 0.0
    # 7 and 8 tenths: the float64 nearest to 0.1 is above it, so that 7 are closer to 0.75.
    assert int(found.selected[1]) == 0b1111111
    assert found.errors[1] == float(Fraction(0.75) - 7 * Fraction(0.1))


def test_equals_a_second_method_at_30() -> None:
    base, target = RNG.uniform(-1, 1, 30), 0.1234
    found = integers.solve(batch_of([(base, target)]), "best", None, Run(1))
    sums = []
    for half in (base[::2], base[1::2]):
        total = np.zeros(1)
        for x in half:
            total = np.concatenate([total, total + x])
        sums.append(np.sort(total))
    at = np.searchsorted(sums[1], target - sums[0])
    near = [sums[1][np.clip(at + d, 0, len(sums[1]) - 1)] for d in (-1, 0)]
    least = min(np.abs(target - sums[0] - right).min() for right in near)
    assert found.errors[0] == pytest.approx(least, abs=30 * 2.0**-51, rel=0)
    chosen = [x for k, x in enumerate(base.tolist()) if int(found.selected[0]) >> k & 1]
    assert found.sums[0] == math.fsum(chosen)


def test_progress_ends_with_all() -> None:
    told: list[int] = []
    batch = batch_of([(RNG.uniform(-1, 1, 4), 0.1)] * 7)
    integers.solve(batch, "best", None, Run(1, told.append))
    assert told == sorted(told) and told[-1] == 7
