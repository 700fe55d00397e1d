"""The solver in tensors: on every device the bits of the oracle, ties and rounding included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slth.errors import ArgumentError
from slth.subsetsum import device, enumeration, exact, mitm
from slth.subsetsum.problem import Batch, Run
from test_golden import batch_of
from test_integers import same
from test_subsetsum import KINDS

RNG = np.random.default_rng(5)
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
everywhere = pytest.mark.parametrize("name", ["cpu", CUDA])


@everywhere
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_oracle(kind: str, name: str) -> None:
    batch = batch_of([KINDS[kind](m) for m in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12) for _ in range(4)])
    same(device.solve(batch, "best", None, Run(1, device=name)), enumeration.solve(batch, "best", None, Run(1)))


@everywhere
@pytest.mark.parametrize("m", [15, 16])
@pytest.mark.parametrize("kind", ["uniform", "products", "few values", "grid", "wide range", "huge range", "near ties"])
def test_larger_equals_the_oracle(kind: str, m: int, name: str) -> None:
    batch = batch_of([KINDS[kind](m) for _ in range(3)])
    same(device.solve(batch, "best", None, Run(1, device=name)), enumeration.solve(batch, "best", None, Run(1)))


@everywhere
@pytest.mark.parametrize("m", [20, 23, 24])
def test_large_equals_the_compiled_solver(m: int, name: str) -> None:
    problems = [(RNG.uniform(-1, 1, m) * (RNG.uniform(-1, 1, m) if p % 2 else 1), RNG.uniform(-2, 2)) for p in range(9)]
    batch = batch_of(problems)
    same(device.solve(batch, "best", None, Run(1, device=name)), mitm.solve(batch, "best", None, Run(1)))


@everywhere
def test_many_in_slabs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Base sets of all sizes, some shared, some with zeros, cut into slabs of a few problems.
    values = RNG.uniform(-1, 1, 3000)
    values[RNG.random(3000) < 0.1] = 0.0
    values[::5] = np.round(values[::5] * 4) / 4
    sizes = RNG.integers(0, 15, 2000)
    batch = Batch(values, RNG.integers(0, 2980, 2000), sizes, RNG.uniform(-1.5, 1.5, 2000))
    told: list[int] = []
    found = device.solve(batch, "best", None, Run(1, told.append, name))
    assert told == sorted(told) and told[-1] == 2000
    same(found, mitm.solve(batch, "best", None, Run(1)))
    monkeypatch.setattr(device, "_SUMS", {})
    monkeypatch.setattr(device, "_MANY", 300)
    monkeypatch.setattr(device, "CANDIDATES", 40)
    monkeypatch.setattr(device, "FEW", 3)
    same(device.solve(batch, "best", None, Run(1, device=name)), found)


@everywhere
def test_crowded_bands(name: str) -> None:
    # Thousands of subsets of one sum: some are told apart in tensors, the last goes to the exact solver.
    problems = [(np.full(m, 0.25), 0.6) for m in (12, 16, 24)] + [(RNG.integers(-8, 9, 18) / 8, 0.3)]
    batch = batch_of(problems)
    found = device.solve(batch, "best", None, Run(1, device=name))
    for p in range(len(problems)):
        assert int(found.selected[p]) == exact.best(*batch.problem(p))


@everywhere
def test_undecided_sums_are_compared_in_whole_numbers(name: str) -> None:
    # Elements under a quantum, of all magnitudes: fixed point cannot see them and two floats cannot hold the sums.
    tiny = RNG.uniform(-1, 1, (6, 8)) * 10.0 ** RNG.integers(-120, -18, (6, 8))
    batch = batch_of([(np.concatenate([[0.5, 0.3], x]), 0.8) for x in tiny])
    same(device.solve(batch, "best", None, Run(1, device=name)), enumeration.solve(batch, "best", None, Run(1)))


def test_no_problems() -> None:
    empty = Batch(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert len(device.solve(empty, "best", None, Run(1)).errors) == 0


def test_bad_input_is_refused() -> None:
    batch = batch_of([(np.ones(3), 0.5), (np.ones(25), 0.5)])
    with pytest.raises(ArgumentError, match="base set 1: got 25 elements; need at most 24"):
        device.solve(batch, "best", None, Run(1))
    small = batch_of([(np.ones(3), 0.5)])
    with pytest.raises(ArgumentError, match="objective: got 'sparsest'"):
        device.solve(small, "sparsest", 0.1, Run(1))
    for name in ("nothing", "meta", "cuda:99"):
        with pytest.raises(ArgumentError, match=f"device: got '{name}'.*try device='cpu'"):
            device.solve(small, "best", None, Run(1, device=name))
