"""Every solver on every kind of problem against the oracle: equal errors, equal choices, no tolerance."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.errors import ArgumentError
from slth.subsetsum import SOLVERS, Status, SubsetSums, solve

RNG = np.random.default_rng(20240607)
FAST = [name for name in SOLVERS if name != "enumerate"]


def _uniform(m: int) -> np.ndarray:
    return RNG.uniform(-1, 1, m)


def _with_zeros(m: int) -> np.ndarray:
    x = _uniform(m)
    x[RNG.random(m) < 0.4] = 0.0
    return x


KINDS = {
    "uniform": lambda m: (_uniform(m), RNG.uniform(-2, 2)),
    "products": lambda m: (_uniform(m) * _uniform(m), RNG.uniform(-1, 1)),
    "zeros": lambda m: (_with_zeros(m), RNG.uniform(-1, 1)),
    "all zeros": lambda m: (np.zeros(m), RNG.uniform(-1, 1)),
    "few values": lambda m: (RNG.choice([0.1, 0.3, -0.7], m), RNG.uniform(-1, 1)),
    "all equal": lambda m: (np.full(m, 0.25), RNG.choice([0.5, 0.37])),
    "equal tenths": lambda m: (np.full(m, 0.1), 0.3),
    "opposites": lambda m: (np.resize([0.3, -0.3, 0.1], m), 0.0),
    "grid": lambda m: (RNG.integers(-8, 9, m) / 8, RNG.integers(-16, 17) / 16),
    "half floats": lambda m: (_uniform(m).astype(np.float16).astype(float), RNG.uniform(-1, 1)),
    "tie around": lambda m: (np.concatenate([[0.25, 0.75], RNG.uniform(5, 9, max(m - 2, 0))])[:m], 0.5),
    "negative": lambda m: (-RNG.random(m), -RNG.random()),
    "unreachable above": lambda m: (_uniform(m), 1e6),
    "unreachable below": lambda m: (_uniform(m), -1e300),
    "reach everything": lambda m: ((x := _uniform(m)), math.fsum(x[x > 0])),
    "target zero": lambda m: (_uniform(m), 0.0),
    "huge range": lambda m: (_uniform(m) * 10.0 ** RNG.integers(-300, 301, m), RNG.uniform(-1, 1)),
    "wide range": lambda m: (_uniform(m) * 10.0 ** RNG.integers(-20, 3, m), RNG.uniform(-1, 1)),
    "near overflow": lambda m: (_uniform(m) * 1.7e308, RNG.uniform(-1, 1) * 1.7e308),
    "denormals": lambda m: (RNG.integers(-99, 99, m) * 5e-324, 5e-324 * RNG.integers(-300, 300)),
    "near ties": lambda m: (0.1 + RNG.integers(-3, 4, m) * 2.0**-55, 0.3),
}


def _instances(kind: str, sizes: list[int], each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made = [KINDS[kind](m) for m in sizes for _ in range(each)]
    base = np.concatenate([x for x, _ in made])
    offsets = np.concatenate([[0], np.cumsum([len(x) for x, _ in made])])
    return base, np.array([z for _, z in made]), offsets


def _same(a: SubsetSums, b: SubsetSums) -> None:
    for name in ("errors", "selected", "sums", "sizes", "status"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_best_equals_the_oracle(kind: str, solver: str) -> None:
    base, targets, offsets = _instances(kind, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12], 3)
    oracle = solve(base, targets, offsets=offsets, solver="enumerate")
    _same(solve(base, targets, offsets=offsets, solver=solver), oracle)


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.02, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_sparsest_equals_the_oracle(kind: str, tolerance: float, solver: str) -> None:
    base, targets, offsets = _instances(kind, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12], 2)
    oracle = solve(base, targets, offsets=offsets, solver="enumerate", objective="sparsest", tolerance=tolerance)
    _same(solve(base, targets, offsets=offsets, solver=solver, objective="sparsest", tolerance=tolerance), oracle)
