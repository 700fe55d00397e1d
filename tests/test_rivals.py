"""Solvers of others: as good as every subset up to what each says it proves, and no crash where it proves nothing."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import ModuleType

import numpy as np
import pytest

from slth.errors import ArgumentError
from slth.subsetsum import Status, cpsat, enumeration, exact, foreign, highs, solve
from slth.subsetsum.problem import Run
from test_golden import batch_of
from test_subsetsum import KINDS

RIVALS = {"cp-sat": (cpsat, "ortools.sat.python.cp_model"), "highs": (highs, "highspy")}
RNG = np.random.default_rng(11)


@pytest.fixture(params=RIVALS)
def rival(request: pytest.FixtureRequest) -> ModuleType:
    module, package = RIVALS[request.param]
    pytest.importorskip(package, exc_type=ImportError)
    return module


def _slack(rival: ModuleType, base: list[float]) -> float:
    """How far above the least error each may be, from what it says."""
    magnitude = float(sum(abs(x) * 2.0**-8 for x in base)) * 2.0**8
    relative = (len(base) + 1) * 2.0**-57 if rival is cpsat else (len(base) + 1) * 1e-10
    return min(magnitude, 1.7e308) * relative


@pytest.mark.parametrize("kind", KINDS)
def test_best_is_as_good_as_the_oracle(kind: str, rival: ModuleType) -> None:
    batch = batch_of([KINDS[kind](m) for m in (0, 1, 2, 6, 10)])
    found = rival.solve(batch, "best", None, Run(1))
    least = enumeration.solve(batch, "best", None, Run(1)).errors
    for p in range(batch.n_problems):
        base, target = batch.problem(p)
        assert (found.sums[p], found.errors[p]) == exact.evaluate(base, target, int(found.selected[p]))
        assert least[p] <= found.errors[p] <= least[p] + _slack(rival, base)
        assert all(int(found.selected[p]) >> k & 1 == 0 for k, x in enumerate(base) if x == 0.0)


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("kind", ["uniform", "negative", "few values", "all equal", "grid", "unreachable above"])
def test_sparsest_and_first(kind: str, tolerance: float, rival: ModuleType) -> None:
    batch = batch_of([KINDS[kind](m) for m in (0, 1, 4, 9)])
    oracle = enumeration.solve(batch, "sparsest", tolerance, Run(1))
    sparsest = rival.solve(batch, "sparsest", tolerance, Run(1))
    first = rival.solve(batch, "first", tolerance, Run(1))
    for p in range(batch.n_problems):
        slack = _slack(rival, batch.problem(p)[0])
        assert sparsest.errors[p] <= oracle.errors[p] + slack
        if oracle.errors[p] <= tolerance:
            assert int(sparsest.selected[p]).bit_count() <= int(oracle.selected[p]).bit_count()
            assert first.errors[p] <= tolerance + slack
        else:
            assert first.errors[p] <= oracle.errors[p] + slack


def test_equal_elements_end(rival: ModuleType) -> None:
    # OR-tools 9.15 searches eight equal elements for symmetries until its time is up, left to itself.
    base = np.array([0.3, 0.1, 0.3, 0.3, -0.7, -0.7, 0.1, -0.7])
    start = time.perf_counter()
    found = rival.solve(batch_of([(base, -0.28440960658185954)] * 3), "best", None, Run(1))
    assert time.perf_counter() - start < 10
    assert found.errors == pytest.approx(0.01559039341814046, abs=1e-9)


def test_out_of_time_is_no_crash_and_says_so(rival: ModuleType) -> None:
    batch = batch_of([(RNG.uniform(-1, 1, 40), 0.1), (np.array([0.5, 0.25]), 0.7)])
    told: list[int] = []
    found = rival.solve(batch, "best", None, Run(1, told.append, seconds=0.02))
    assert told[-1] == 2
    assert found.unproved.tolist() == [True, False]
    assert found.errors[0] == exact.evaluate(*batch.problem(0), int(found.selected[0]))[1]
    assert int(found.selected[1]) == 3
    for objective in ("sparsest", "first"):
        found = rival.solve(batch, objective, 1e-12, Run(1, seconds=0.02))
        assert int(found.selected[1]) == 3


def test_the_status_tells_what_was_not_proved(rival: ModuleType) -> None:
    name = "cp-sat" if rival is cpsat else "highs"
    base = np.zeros((2, 40))
    base[0], base[1, :2] = RNG.uniform(-1, 1, 40), (0.5, 0.25)
    found = solve(base, [0.1, 0.75], solver=name, time_limit=0.02)
    assert found.status.tolist() == [Status.UNPROVED, Status.FOUND]
    with pytest.raises(ArgumentError, match="time_limit: got 0"):
        solve(base, [0.1, 0.7], solver=name, time_limit=0.0)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals between threads")
def test_ctrl_c_ends_it_soon(rival: ModuleType) -> None:
    batch = batch_of([(RNG.uniform(-1, 1, 44), 0.1)])
    rival.solve(batch_of([(np.array([0.5, 0.25]), 0.7)]), "best", None, Run(1))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        rival.solve(batch, "best", None, Run(1))
    assert time.perf_counter() - start < 5
    assert not [t for t in threading.enumerate() if t.name == "subset-sum-rival"]


def test_an_error_in_the_thread_comes_out() -> None:
    def fail() -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        foreign.interruptible(fail, lambda: None)


@pytest.mark.parametrize("name", RIVALS)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, package = RIVALS[name]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ArgumentError, match=r"solver: got no .*; need the package .*; try pip install 'slth\[rivals\]'"
    ):
        module.solve(batch_of([(np.ones(2), 0.5)]), "best", None, Run(1))


def test_quanta_are_exact_where_they_can_be() -> None:
    assert cpsat.in_quanta([0.5, -0.25, 0.0], 0.75, 0.25) == ([2, -1, 0], 3, 1)
    quanta, goal, within = cpsat.in_quanta([1e300, 3.0], 1e-300, None)
    assert abs(quanta[0]).bit_length() <= cpsat.TOTAL_BITS and quanta[1] == goal == 0 and within == quanta[0]
