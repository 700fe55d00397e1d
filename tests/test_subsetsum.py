"""Every solver on every kind of problem against the oracle: equal errors, equal choices, no tolerance."""

from __future__ import annotations

import importlib
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
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.errors import ArgumentError
from slth.subsetsum import SOLVERS, Status, SubsetSums, solve, trust

RNG = np.random.default_rng(20240607)
EXACT = [name for name, solver in SOLVERS.items() if solver.exact and len(solver.objectives) == 3]
"""Those that must agree bit for bit on every objective; test_device.py has the one for devices."""
FAST = [name for name in EXACT if name != "enumerate"]


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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0.0, 0.1, 0.25, -0.25, 1.0]), max_size=9),
    st.floats(-1e9, 1e9) | st.sampled_from([0.0, 0.5, 0.3]),
    st.floats(0, 1) | st.just(0.0),
)
def test_any_problem(base: list[float], target: float, tolerance: float) -> None:
    for extra in ({"objective": "best"}, {"objective": "sparsest", "tolerance": tolerance}):
        found = [solve([base], [target], solver=name, **extra) for name in EXACT]
        for other in found[1:]:
            _same(found[0], other)
        chosen = [x for k, x in enumerate(base) if int(found[0].selected[0]) >> k & 1]
        assert found[0].sums[0] == math.fsum(chosen)
        assert found[0].errors[0] == float(abs(Fraction(target) - sum(map(Fraction, chosen))))


@pytest.mark.parametrize("m", [13, 14, 15, 16])
@pytest.mark.parametrize("kind", ["uniform", "products", "half floats", "wide range", "unreachable above"])
def test_larger_equals_the_oracle(kind: str, m: int) -> None:
    base, targets, offsets = _instances(kind, [m], 3)
    _same(solve(base, targets, offsets=offsets), solve(base, targets, offsets=offsets, solver="enumerate"))


def _sorted_halves(base: np.ndarray, target: float) -> float:
    """The least error by a second method: all sums of one half looked up among the sorted sums of the other."""
    sums = []
    for half in (base[::2], base[1::2]):
        total = np.zeros(1)
        for x in half:
            total = np.concatenate([total, total + x])
        sums.append(np.sort(total))
    need = target - sums[0]
    at = np.searchsorted(sums[1], need)
    below, above = sums[1][np.maximum(at - 1, 0)], sums[1][np.minimum(at, len(sums[1]) - 1)]
    return float(np.minimum(np.abs(need - below), np.abs(need - above)).min())


@pytest.mark.parametrize(("m", "count"), [(24, 9), (25, 9), (29, 5), (30, 5), (33, 4), (34, 4), (37, 2), (38, 1)])
def test_large_equals_a_second_method(m: int, count: int) -> None:
    base, targets = RNG.uniform(-1, 1, (count, m)), RNG.uniform(-2, 2, count)
    base[::2] *= RNG.uniform(-1, 1, base[::2].shape)
    found = solve(base, targets)
    for p in range(count):
        assert found.errors[p] == pytest.approx(_sorted_halves(base[p], targets[p]), abs=m * 2.0**-51, rel=0)
        chosen = base[p][(int(found.selected[p]) >> np.arange(m)) & 1 == 1]
        assert found.errors[p] == abs(float(Fraction(targets[p]) - sum(map(Fraction, chosen.tolist()))))


def test_largest_base_set() -> None:
    # So many sums fall within rounding here that too small a list of candidates would leave this to Python for minutes.
    base = np.random.default_rng(0).uniform(-1, 1, (4, 44))
    start = time.perf_counter()
    found = solve(base, [0.1234, 0.0, 0.2, -3.0])
    assert time.perf_counter() - start < 10
    assert found.errors.max() < 1e-10
    with pytest.raises(ArgumentError, match="base set 1"):
        solve(np.zeros(44 + 45), [0.0, 0.0], offsets=[0, 44, 89])


@pytest.mark.parametrize(("m", "tolerance"), [(20, 1e-4), (22, 1e-5), (24, 1e-6), (26, 1e-7), (27, 1e-9)])
def test_sparsest_of_many_elements(m: int, tolerance: float) -> None:
    base, targets = RNG.uniform(-1, 1, (6, m)), RNG.uniform(-1, 1, 6)
    found = solve(base, targets, objective="sparsest", tolerance=tolerance)
    best = solve(base, targets, tolerance=tolerance)
    np.testing.assert_array_equal(found.status, best.status)
    assert (found.errors >= best.errors).all()
    for p in range(6):
        if found.status[p] == Status.MISSED:
            assert found.selected[p] == best.selected[p]
            continue
        assert found.errors[p] <= tolerance
        error, size = _sparsest_by_classes(base[p], targets[p], tolerance)
        assert found.sizes[p] == size
        assert found.errors[p] == pytest.approx(error, abs=m * 2.0**-51, rel=0)


def _sparsest_by_classes(base: np.ndarray, target: float, tolerance: float) -> tuple[float, int]:
    halves = []
    for half in (base[::2], base[1::2]):
        sums, sizes = np.zeros(1), np.zeros(1, int)
        for x in half:
            sums, sizes = np.concatenate([sums, sums + x]), np.concatenate([sizes, sizes + 1])
        halves.append([np.sort(sums[sizes == k]) for k in range(len(half) + 1)])
    for size in range(len(base) + 1):
        least = math.inf
        for a, left in enumerate(halves[0]):
            if not 0 <= size - a < len(halves[1]):
                continue
            right = halves[1][size - a]
            at = np.searchsorted(right, target - left)
            for near in (np.maximum(at - 1, 0), np.minimum(at, len(right) - 1)):
                least = min(least, float(np.abs(target - left - right[near]).min()))
        if least <= tolerance:
            return least, size
    raise AssertionError("no subset within the tolerance")


@pytest.mark.parametrize("size", [28, 40])
def test_ties_by_the_million(size: int) -> None:
    found = solve(np.full((1, size), 0.25), [1.6])
    assert (found.errors[0], found.sizes[0], found.selected[0]) == (abs(1.6 - 1.5), 6, 63)
    found = solve(np.full((1, size), 0.1), [0.3])
    assert (found.sizes[0], found.selected[0]) == (3, 7)
    grid = np.arange(-size, size, 2) / 16
    found = solve([grid], [0.28], objective="sparsest", tolerance=0.1)
    assert (found.sizes[0], found.sums[0]) == (1, 0.25)


def _mixed(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = RNG.binomial(24, 0.5, n)
    sizes[:3] = [0, 1, 26]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    base = RNG.uniform(-1, 1, offsets[-1])
    base[RNG.random(len(base)) < 0.02] = 0.0
    return base, RNG.uniform(-1.5, 1.5, n), offsets


@pytest.mark.parametrize("extra", [{}, {"objective": "sparsest", "tolerance": 1e-3}])
def test_threads_order_and_grouping_do_not_matter(extra: dict) -> None:
    base, targets, offsets = _mixed(3000)
    one = solve(base, targets, offsets=offsets, threads=1, **extra)
    _same(solve(base, targets, offsets=offsets, threads=2, **extra), one)
    _same(solve(base, targets, offsets=offsets, threads=5, **extra), one)
    order = RNG.permutation(len(targets))[:700]
    shuffled = np.concatenate([base[offsets[p] : offsets[p + 1]] for p in order])
    bounds = np.concatenate([[0], np.cumsum(np.diff(offsets)[order])])
    again = solve(shuffled, targets[order], offsets=bounds, **extra)
    _same(again, SubsetSums(*(getattr(one, f)[order] for f in ("selected", "sums", "errors", "sizes", "status"))))


def test_ragged_equals_dense_and_float32_is_taken() -> None:
    base, targets = RNG.uniform(-1, 1, (50, 13)).astype(np.float32), RNG.uniform(-1, 1, 50)
    dense = solve(base, targets)
    _same(dense, solve(base.ravel(), targets, offsets=np.arange(51) * 13))
    _same(dense, solve(base.astype(float), targets))
    _same(dense, solve(np.asfortranarray(base), targets))
    assert (dense.sizes == [int(s).bit_count() for s in dense.selected]).all()


def test_no_problems_and_empty_base_sets() -> None:
    assert solve(np.zeros((0, 5)), []).errors.shape == (0,)
    found = solve(np.zeros((2, 0)), [0.5, -1.0], tolerance=0.7)
    assert found.errors.tolist() == [0.5, 1.0]
    assert found.status.tolist() == [Status.FOUND, Status.MISSED]
    assert "larger" in Status.MISSED.message


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: solve([[1.0, math.nan]], [0.0]), r"base_sets\[0, 1\]: got nan"),
        (lambda: solve([1.0, 2.0, math.inf], [0.0], offsets=[0, 3]), r"base_sets\[2\]: got inf"),
        (lambda: solve([[1.0], [1.0]], [0.0, -math.inf]), r"targets\[1\]: got -inf"),
        (lambda: solve([[1.0]], [0.0], objective="worst"), "objective"),
        (lambda: solve([[1.0]], [0.0], solver="luck"), "solver"),
        (lambda: solve([[1.0]], [0.0], objective="sparsest"), "tolerance"),
        (lambda: solve([[1.0]], [0.0], tolerance=math.nan), "tolerance"),
        (lambda: solve([[1.0]], [0.0], threads=0), "threads"),
        (lambda: solve([[1.0]], [0.0, 1.0]), "base_sets"),
        (lambda: solve([[1.0]], [0.0], objective="first"), "tolerance"),
        (lambda: solve([[1.0]], [0.0], base_set_of=[1]), r"base_set_of\[0\]: got 1"),
        (lambda: solve([[1.0]], [0.0], base_set_of=[0.0]), "base_set_of"),
        (lambda: solve([[1.0]], [0.0], base_set_of=[0, 0]), "base_set_of"),
        (lambda: solve([[1.0]], [0.0], device="cuda", solver="mitm"), "device"),
        (lambda: solve([[1.0]], [0.0], solver="torch", objective="sparsest", tolerance=1.0), "objective"),
        (lambda: solve([[1.0]], [0.0], scratch_bytes=0), "scratch_bytes"),
        (lambda: solve(torch.tensor([[1.0, math.nan]]), torch.zeros(1)), r"base_sets\[0, 1\]: got nan"),
        (lambda: solve([1.0], [0.0], offsets=[0, 2]), "offsets"),
        (lambda: solve([1.0], [0.0], offsets=[0.0, 1.0]), "offsets"),
        (lambda: solve([["a"]], [0.0]), "real numbers"),
        (lambda: solve(np.zeros((1, 23)), [0.0], solver="enumerate"), "at most 22"),
    ],
)
def test_bad_input_is_refused(call, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        call()


def test_progress_is_told() -> None:
    told: list[int] = []
    base, targets, offsets = _mixed(2000)
    solve(base, targets, offsets=offsets, on_progress=told.append)
    assert told == sorted(told) and told[-1] == 2000


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals between threads")
def test_ctrl_c_ends_it_soon() -> None:
    base, targets = RNG.uniform(-1, 1, (20000, 30)), np.zeros(20000)
    solve(base[:1], targets[:1])
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        solve(base, targets)
    assert time.perf_counter() - start < 1.3
    assert not [t for t in threading.enumerate() if t.name.startswith("subset-sum")]


def test_an_error_of_on_progress_ends_it() -> None:
    def fail(done: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        solve(RNG.uniform(-1, 1, (20000, 30)), np.zeros(20000), on_progress=fail)


def test_import_does_not_compile() -> None:
    code = "import sys, slth.subsetsum; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_lowest_mask_of_the_fewest_elements() -> None:
    for base, target in (([1.0, 2.0, 3.0, 3.0], 3.0), ([0.5, 0.25, 0.25, 0.5], 0.6), ([2.0, -1.0, 1.0], 1.0)):
        masks = range(2 ** len(base))
        key = {
            mask: (abs(target - sum(x for k, x in enumerate(base) if mask >> k & 1)), mask.bit_count(), mask)
            for mask in masks
        }
        for name, objective in itertools.product(EXACT, ("best", "sparsest")):
            found = solve([base], [target], solver=name, objective=objective, tolerance=0.0)
            assert found.selected[0] == min(masks, key=key.__getitem__)


def test_first_is_within_the_tolerance_wherever_a_subset_is() -> None:
    for tolerance in (0.0, 1e-6, 1e-3, 0.1):
        base, targets = RNG.uniform(-1, 1, (300, 21)), RNG.uniform(-3, 3, 300)
        base[::5] = np.round(base[::5], 1)
        targets[::5] = np.round(targets[::5], 1)
        best = solve(base, targets, tolerance=tolerance)
        for solver in ("mitm", "plain"):
            found = solve(base, targets, objective="first", tolerance=tolerance, solver=solver)
            np.testing.assert_array_equal(found.status, best.status)
            assert (found.errors[found.status == Status.FOUND] <= tolerance).all()
            missed = found.status == Status.MISSED
            np.testing.assert_array_equal(found.selected[missed], best.selected[missed])
            for p in range(0, 300, 37):
                chosen = base[p][(int(found.selected[p]) >> np.arange(21)) & 1 == 1]
                assert found.sums[p] == math.fsum(chosen)


@pytest.mark.parametrize("extra", [{}, {"objective": "sparsest", "tolerance": 1e-2}])
@pytest.mark.parametrize("m", [3, 14, 23, 27])
def test_shared_base_sets_equal_copies(m: int, extra: dict) -> None:
    base, targets = RNG.uniform(-1, 1, (4, m)), RNG.uniform(-2, 2, 90)
    which = np.sort(RNG.integers(0, 4, 90))
    copies = solve(base[which], targets, **extra)
    _same(solve(base, targets, base_set_of=which, **extra), copies)
    order = RNG.permutation(90)
    again = solve(base, targets[order], base_set_of=which[order], threads=2, **extra)
    np.testing.assert_array_equal(again.selected, copies.selected[order])
    flat = solve(base.ravel(), targets, offsets=np.arange(5) * m, base_set_of=which, **extra)
    _same(flat, copies)
    _same(solve(base[2], targets, **extra), solve(np.tile(base[2], (90, 1)), targets, **extra))


def test_tensors_and_strides_and_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    base, targets = torch.randn(70, 24, dtype=torch.float32), torch.randn(70, dtype=torch.float64, requires_grad=True)
    plain = solve(base[:, ::2].double().numpy(), targets.detach().numpy())
    _same(solve(base[:, ::2], targets), plain)
    half = base[:, ::2].bfloat16()
    _same(solve(half, targets), solve(half.double(), targets))
    told: list[int] = []
    monkeypatch.setattr("slth.subsetsum.given._SLAB", 100)
    _same(solve(base[:, ::2], targets, on_progress=told.append), plain)
    assert told == sorted(told) and told[-1] == 70
    ragged = solve(base.flatten()[:1000], targets, offsets=np.r_[np.arange(70) * 14, 1000])
    assert ragged.errors.shape == (70,)


@pytest.mark.parametrize("m", [7, 16, 21, 26])
def test_memory_bound_does_not_change_the_answers(m: int) -> None:
    base, targets = RNG.uniform(-1, 1, (5, m)), RNG.uniform(-2, 2, 5)
    whole = solve(base, targets)
    for scratch in (1 if m < 20 else 9_000, 60_000, 10_000_000):
        _same(solve(base, targets, scratch_bytes=scratch, threads=2), whole)


@pytest.mark.parametrize(("m", "count"), [(18, 6), (22, 4), (26, 3), (30, 2), (33, 1), (36, 1), (40, 1)])
def test_two_exact_solvers_agree(m: int, count: int) -> None:
    """Up to 30 elements a third one, which shares no code with either, joins them."""
    base, targets = RNG.uniform(-1, 1, (count, m)), RNG.uniform(-2, 2, count)
    base[::2] *= RNG.uniform(-1, 1, base[::2].shape)
    found = solve(base, targets)
    _same(solve(base, targets, solver="plain"), found)
    if m <= 30:
        _same(solve(base, targets, solver="integers"), found)


def test_coarse_grids_are_not_slow() -> None:
    base = RNG.uniform(-1, 1, (40, 30)).astype(np.float16)
    targets = RNG.uniform(-1, 1, 40)
    found = solve(base, targets)
    _same(found, solve(base, targets, solver="plain"))
    _same(solve(base[:1], targets[:1], solver="integers"), solve(base[:1], targets[:1]))


class TestDistrust:
    """Kernels that fail the self-test are not used; answers stay the same, and the log says so."""

    @pytest.fixture(autouse=True)
    def forget(self):
        trust.verdict.cache_clear()
        yield
        trust.verdict.cache_clear()

    @pytest.mark.parametrize("kernel", ["lockstep", "closest", "handful", "fewest"])
    @pytest.mark.parametrize("fault", ["wrong", "raises"])
    def test_a_faulty_kernel_is_replaced(self, kernel, fault, monkeypatch, caplog) -> None:
        base, targets = RNG.uniform(-1, 1, (60, 26 if kernel == "closest" else 12)), RNG.uniform(-1, 1, 60)
        if kernel == "fewest":
            base = np.round(base, 1)  # ties, which the kernel before it leaves
        before = [solve(base, targets), solve(base, targets, objective="sparsest", tolerance=0.01)]
        trust.verdict.cache_clear()
        module = importlib.import_module(f"slth.subsetsum.kernels.{kernel}")
        right = getattr(module, kernel)

        def faulty(*args):
            if fault == "raises":
                raise RuntimeError("no such instruction")
            right(*args)
            for array in args:
                if isinstance(array, np.ndarray) and array.dtype == np.uint64 and array.shape == args[1].shape:
                    array ^= np.uint64(1)

        monkeypatch.setattr(module, kernel, faulty)
        after = [solve(base, targets), solve(base, targets, objective="sparsest", tolerance=0.01)]
        for one, two in zip(before, after, strict=True):
            _same(one, two)
        assert f"the kernel {kernel} " in caplog.text

    def test_all_kernels_are_trusted_here(self) -> None:
        assert all(trust.trusted(kernel) for kernel in ("lockstep", "closest", "handful", "fewest"))
