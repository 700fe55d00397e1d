"""Accelerated gradient descent on students of sparse teachers: against lists, by properties, interrupted, resumed."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from slth.bounds.zhang import folds
from slth.errors import ArgumentError, CheckpointError, DataError, MismatchError
from slth.learn.descent import Descent, State, descend, refuse_divergence
from slth.learn.pruning import prune_to_teacher
from slth.learn.rates import fit_rates
from slth.learn.risk import risk
from slth.learn.teachers import Samples, Teachers, draw_samples, draw_students, draw_teachers, random_starts
from slth.learn.trials import Setting, run_trials

ENGINES = ("kernel", "tensors")


def problem(
    trials: int = 2,
    neurons: int = 3,
    inputs: int = 7,
    kept: Any = (2, 4, 1),
    wider: Any = (3, 7, 2),
    samples: int = 150,
    seed: int = 1,
    binary: bool = False,
) -> tuple[Teachers, Tensor, Samples, Tensor]:
    """Teachers, masks, data and starts."""
    teachers = draw_teachers(trials, neurons, inputs, kept, seed, activation="sigmoid" if binary else "relu")
    masks = draw_students(teachers, wider)
    noise = 0.0 if binary else 0.1
    return teachers, masks, draw_samples(teachers, samples, noise, binary=binary), random_starts(teachers, masks, 0.5)


def same(first: State, second: State) -> None:
    """Equal bit for bit, NaN where the other is."""
    for each in fields(State):
        one, other = getattr(first, each.name), getattr(second, each.name)
        assert torch.equal(one.nan_to_num(nan=-7.0), other.nan_to_num(nan=-7.0)), each.name


def slow_loss(w: list[list[float]], x: list[float], y: float, how: Descent) -> float:
    """Of one sample, as the paper writes it."""
    sums = [sum(a * b for a, b in zip(row, x, strict=True)) for row in w]
    values = [max(s, 0.0) if how.activation == "relu" else 1 / (1 + math.exp(-s)) for s in sums]
    g = sum(values) / len(w)
    if how.loss == "square":
        return (g - y) ** 2 / 2
    g = min(max(g, 1e-6), 1 - 1e-6)
    return -math.log(g if y == 1 else 1 - g)


def slow_descent(samples: Samples, masks: Tensor, start: Tensor, how: Descent, trial: int) -> list[list[list[float]]]:
    """Algorithm 1 in lists, the gradient by the chain rule, every weight by itself; W after 0, 1, ... steps."""
    x, y = samples.inputs[trial].tolist(), samples.labels[trial].tolist()
    keep = masks[trial].tolist()
    path = [start[trial].tolist()]
    before = path[0]
    for t in range(how.iterations):
        w = path[-1]
        first, last = (len(x) * (t % how.folds + i) // how.folds for i in (0, 1))
        n, k = last - first, len(w)
        gradient = [[0.0] * len(x[0]) for _ in w]
        for sample in range(first, last):
            sums = [sum(a * b for a, b in zip(row, x[sample], strict=True)) for row in w]
            relu = how.activation == "relu"
            values = [max(s, 0.0) if relu else 1 / (1 + math.exp(-s)) for s in sums]
            slopes = [float(s > 0) if relu else v * (1 - v) for s, v in zip(sums, values, strict=True)]
            g = sum(values) / k
            outer = g - y[sample]
            if how.loss == "cross-entropy":
                outer = outer / (g * (1 - g)) if 1e-6 <= g <= 1 - 1e-6 else 0.0
            for j in range(k):
                for i in range(len(x[0])):
                    if keep[j][i]:
                        gradient[j][i] += outer * slopes[j] * x[sample][i] / (n * k)
        new = [
            [
                w[j][i] - how.step_size * gradient[j][i] + how.momentum * (w[j][i] - before[j][i])
                for i in range(len(w[0]))
            ]
            for j in range(k)
        ]
        path.append(new)
        before = w
    return path


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(
    ("loss", "activation"),
    [("square", "relu"), ("cross-entropy", "sigmoid"), ("square", "sigmoid"), ("cross-entropy", "relu")],
)
def test_descent_is_that_of_lists(engine: str, parts: int, loss: str, activation: str) -> None:
    teachers, masks, samples, start = problem(binary=loss == "cross-entropy")
    how = Descent(1.5, 0.3, 4, 0.0, parts, loss, activation)
    state = descend(samples, masks, start, how, truth=teachers.weights, engine=engine)
    for trial in range(2):
        path = slow_descent(samples, masks, start, how, trial)
        torch.testing.assert_close(state.weights[trial], torch.tensor(path[4], dtype=torch.float64))
        torch.testing.assert_close(state.previous[trial], torch.tensor(path[3], dtype=torch.float64))
        truth = teachers.weights[trial]
        for t in range(5):
            w = torch.tensor(path[t], dtype=torch.float64)
            assert float(state.errors[trial, t]) == pytest.approx(float((w - truth).norm() / truth.norm()))
            if t == 4:
                break
            after = torch.tensor(path[t + 1], dtype=torch.float64)
            assert float(state.changes[trial, t]) == pytest.approx(float((after - w).norm() / w.norm()))
            first, last = (150 * (t % parts + i) // parts for i in (0, 1))
            rows = zip(samples.inputs[trial, first:last], samples.labels[trial, first:last], strict=True)
            losses = [slow_loss(path[t], x.tolist(), float(y), how) for x, y in rows]
            assert float(state.losses[trial, t]) == pytest.approx(sum(losses) / len(losses))
    assert bool((state.weights[~masks] == 0).all())
    assert state.states == ["exhausted"] * 2


@given(
    st.integers(0, 10**6),
    st.sampled_from([("square", "relu"), ("square", "sigmoid"), ("cross-entropy", "sigmoid")]),
    st.integers(1, 5),
)
def test_gradient_is_the_difference_quotient(seed: int, kinds: tuple[str, str], neurons: int) -> None:
    """Z1, away from kinks: a direction along which no pre-activation changes its sign."""
    loss, activation = kinds
    _, _, samples, start = problem(1, neurons, 6, 3, 6, 40, seed=seed, binary=loss == "cross-entropy")
    direction = torch.randn(start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    sums, moved = (torch.bmm(w, samples.inputs.transpose(1, 2)) for w in (start, direction))
    h = min(1e-4, 0.5 * float((sums / moved).abs().min()))
    # Below, rounding of the risks alone is more than the tolerance.
    assume(h > 1e-8)

    def value(t: float) -> float:
        args = (samples.inputs, samples.labels)
        return float(risk(start + t * direction, *args, loss=loss, activation=activation)[0])

    _, gradient = risk(start, samples.inputs, samples.labels, loss=loss, activation=activation)
    quotient = (value(h) - value(-h)) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(quotient, rel=0, abs=1e-6)


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 200),
    st.sampled_from([torch.float64, torch.float32]),
    st.data(),
)
def test_kernel_and_tensors_agree_and_masked_weights_stay_0(
    seed: int, neurons: int, inputs: int, n_samples: int, kind: torch.dtype, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.integers(1, inputs), min_size=neurons, max_size=neurons))
    wider = [data.draw(st.integers(least, inputs)) for least in kept]
    teachers = draw_teachers(3, neurons, inputs, kept, seed)
    masks = draw_students(teachers, wider)
    samples = draw_samples(teachers, n_samples, 0.1, dtype=kind)
    parts = data.draw(st.sampled_from([1, n_samples]))
    how = Descent(0.7, 0.4, min(10, parts) if parts > 1 else 10, 1e-5, parts)
    start = random_starts(teachers, masks, 0.8)
    first, second = (descend(samples, masks, start, how, truth=teachers.weights, engine=name) for name in ENGINES)
    close = {"rtol": 1e-3, "atol": 1e-4} if kind == torch.float32 else {"rtol": 1e-8, "atol": 1e-12}
    # Another rounding may stop a trial a step later; nothing else may differ.
    alike = first.steps == second.steps
    torch.testing.assert_close(first.weights[alike], second.weights[alike], **close)
    torch.testing.assert_close(first.losses[alike].float(), second.losses[alike].float(), equal_nan=True, **close)
    assert first.weights.dtype == kind
    for state in (first, second):
        assert bool((state.weights[~masks] == 0).all()) and bool((state.previous[~masks] == 0).all())


def test_result_depends_on_neither_threads_nor_batch_nor_memory() -> None:
    setting, how = Setting(3, 20, 4, 300, student_kept=6, noise=0.01), Descent(iterations=60)
    whole = run_trials(setting, 5, how, seed=9, threads=1)
    for variant in ({"threads": 3}, {"memory_bytes": 1}, {"memory_bytes": 2 * 16 * 300 * 20}):
        same(whole.state, run_trials(setting, 5, how, seed=9, **variant).state)  # type: ignore[arg-type]
    part = run_trials(setting, 2, how, seed=9, first_trial=3)
    torch.testing.assert_close(part.state.weights, whole.state.weights[3:], rtol=0, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_shared_inputs_are_those_of_every_trial(engine: str) -> None:
    teachers, masks, samples, start = problem(trials=1)
    twice = [torch.cat([each, each]) for each in (masks, start * 0.9, teachers.weights)]
    state = descend(samples, twice[0], twice[1], Descent(iterations=9), truth=twice[2], engine=engine)
    alone = descend(samples, masks, start * 0.9, Descent(iterations=9), truth=teachers.weights, engine=engine)
    torch.testing.assert_close(state.weights, alone.weights.expand(2, -1, -1))
    rows = Samples(samples.inputs, torch.cat([samples.labels, samples.labels**2]), samples.signal)
    state = descend(rows, twice[0], twice[1], Descent(iterations=9, folds=9), engine=engine)
    for trial in range(2):
        one = Samples(samples.inputs, rows.labels[trial : trial + 1], samples.signal)
        alone = descend(one, masks, start * 0.9, Descent(iterations=9, folds=9), engine=engine)
        torch.testing.assert_close(state.weights[trial], alone.weights[0])
        torch.testing.assert_close(state.losses[trial], alone.losses[0])
    with pytest.raises(MismatchError, match="labels: got 2 rows for 3 trials"):
        descend(rows, masks.expand(3, -1, -1), start.expand(3, -1, -1), engine=engine)


@settings(max_examples=20)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.5, 0.999]),
    st.sampled_from([0.1, 5.0, 50.0, 1e5]),
    st.booleans(),
    st.booleans(),
)
def test_engines_agree_however_the_trials_end(
    seed: int, n_samples: int, momentum: float, step: float, binary: bool, shared: bool
) -> None:
    teachers, masks, samples, start = problem(3, 2, 4, (1, 3), (2, 4), n_samples, seed, binary)
    if shared:
        samples = Samples(samples.inputs[:1], samples.labels, samples.signal)
    kinds = ("cross-entropy", "sigmoid") if binary else ("square", "relu")
    how = Descent(step, momentum, 6, 1e-3, 1, *kinds)
    first, second = (descend(samples, masks, start, how, truth=teachers.weights, engine=name) for name in ENGINES)
    assert first.states == second.states
    for each in ("weights", "previous", "steps", "errors", "losses", "changes"):
        one, other = getattr(first, each), getattr(second, each)
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12, equal_nan=True)


class KillError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("engine", ENGINES)
def test_interrupted_runs_go_on_to_the_same_bits(engine: str, tmp_path: Path) -> None:
    setting, how = Setting(2, 60, 6, 640), Descent(iterations=300)
    options: dict[str, Any] = {"seed": 4, "engine": engine, "memory_bytes": 3 * 16 * 640 * 60}
    whole = run_trials(setting, 5, how, **options)
    path, calls = tmp_path / "run.checkpoint", []

    def kill(done: int, total: int) -> None:
        calls.append(done)
        assert total == 5 * 300
        if len(calls) % 3 == 0:
            raise KillError

    for _ in range(200):
        try:
            again = run_trials(
                setting, 5, how, checkpoint=path, resume=True, every_seconds=0.0, on_progress=kill, **options
            )
            break
        except KillError:
            continue
    same(whole.state, again.state)
    assert again.seconds > 0
    if engine == "tensors":
        assert len(calls) > 10
    # Once more: nothing is left to do, and nothing changes.
    same(whole.state, run_trials(setting, 5, how, checkpoint=path, resume=True, **options).state)


def test_more_iterations_continue_a_run(tmp_path: Path) -> None:
    setting, path = Setting(2, 10, 3, 200), tmp_path / "run.checkpoint"
    short = run_trials(setting, 3, Descent(iterations=20), checkpoint=path)
    assert short.state.states == ["exhausted"] * 3 and short.state.errors.shape == (3, 21)
    longer = run_trials(setting, 3, Descent(iterations=50), checkpoint=path, resume=True)
    same(longer.state, run_trials(setting, 3, Descent(iterations=50)).state)
    with pytest.raises(MismatchError, match="momentum"):
        run_trials(setting, 3, Descent(momentum=0.1), checkpoint=path, resume=True)
    with pytest.raises(MismatchError, match="samples"):
        run_trials(replace(setting, samples=201), 3, Descent(), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError):
        run_trials(setting, 3, Descent(), checkpoint=path, resume=True)
    same(short.state, run_trials(setting, 3, Descent(iterations=20), checkpoint=path).state)


def test_noiseless_descent_is_linear_and_faster_with_momentum_and_fewer_weights() -> None:
    """Z5."""
    medians: dict[float, list[float]] = {0.0: [], 0.3: []}
    for kept in (4, 12, 30):
        for momentum, rates in medians.items():
            how = Descent(1.0, momentum)
            state = run_trials(Setting(3, 40, kept, 800), 5, how, seed=2).state
            assert state.states == ["converged"] * 5
            assert float(state.final_errors.max()) < 1e-4
            for trial, steps in enumerate(state.steps.tolist()):
                changes = state.changes[trial]
                assert changes[steps - 1] < 1e-8 and bool((changes[: steps - 1] >= 1e-8).all())
                assert bool(changes[steps:].isnan().all()) and bool(state.errors[trial, steps + 1 :].isnan().all())
            fits = fit_rates(state.errors)
            assert float(fits.r_squared.min()) > 0.98
            rates.append(float(fits.rate.median()))
            # Without a plateau the steps shrink as the errors do.
            torch.testing.assert_close(fit_rates(state.changes).rate, fits.rate, rtol=2e-3, atol=0)
    assert all(fast < slow for fast, slow in zip(medians[0.3], medians[0.0], strict=True))
    for rates in medians.values():
        assert rates == sorted(rates)


def test_error_is_proportional_to_the_noise_and_grows_with_the_weights() -> None:
    """Z8: over two decades of noise, to 5 percent."""
    ratios: dict[int, list[float]] = {}
    for kept in (4, 12, 30):
        for noise in (1e-3, 1e-2, 1e-1):
            outcome = run_trials(Setting(3, 40, kept, 1000, noise=noise), 4, Descent(5.0, tolerance=1e-6), seed=3)
            ratios.setdefault(kept, []).append(float(outcome.errors.mean()) / noise)
    for each in ratios.values():
        assert max(each) < 1.05 * min(each)
    lists = list(ratios.values())
    assert all(max(few) < min(many) for few, many in itertools.pairwise(lists))


def test_samples_needed_are_proportional_to_the_weights() -> None:
    """Z7: N with which half of the trials succeed is c r, to R² > 0.97."""
    kept, thresholds = (4, 8, 16, 32), []
    for r in kept:
        sizes = [n * 3 * r // 8 for n in (9, 10, 11, 12, 14)]
        shares = [
            float(run_trials(Setting(3, 40, r, n), 20, Descent(5.0, iterations=2000), seed=1).successes.double().mean())
            for n in sizes
        ]
        assert shares[0] < 0.5 < shares[-1]
        above = next(i for i, share in enumerate(shares) if share >= 0.5)
        part = (0.5 - shares[above - 1]) / (shares[above] - shares[above - 1])
        thresholds.append(sizes[above - 1] + part * (sizes[above] - sizes[above - 1]))
    x, y = torch.tensor(kept, dtype=torch.float64), torch.tensor(thresholds, dtype=torch.float64)
    left = (y - x * (x @ y) / (x @ x)).square().sum() / (y - y.mean()).square().sum()
    assert 1 - float(left) > 0.97


def test_the_largest_weights_of_a_dense_student_are_the_teachers() -> None:
    """Z9: once no weight is off by half the teacher's smallest, as many of the largest are its mask."""
    setting, met, missed = Setting(3, 20, 5, 900, student_kept=20), 0, 0
    for iterations in (3, 30, 300, 3000):
        outcome = run_trials(setting, 4, Descent(1.0, iterations=iterations), seed=2)
        for trial in range(4):
            student, teacher = ({"w": each[trial]} for each in (outcome.state.weights, outcome.teachers.weights))
            found = prune_to_teacher(student, teacher)
            assert int(found.masks["w"].sum()) == 3 * 5
            met, missed = met + found.holds, missed + (not found.equal)
            if found.holds:
                assert torch.equal(found.masks["w"], outcome.teachers.supports[trial])
    assert met >= 4 and missed >= 4


def test_binary_students_learn_more_from_more_labels() -> None:
    errors = []
    how = Descent(8.0, 0.6, 400, 1e-5)
    for samples in (500, 8000):
        outcome = run_trials(Setting(2, 5, 3, samples, binary=True, radius=0.3), 6, how, seed=1)
        errors.append(float(outcome.errors.median()))
        assert bool((outcome.state.losses[:, 0] > outcome.state.losses[:, 30]).all())
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_theorem_2_sees_every_sample_once(engine: str) -> None:
    how = Descent.of_theorem_2(3, 1e-3)
    assert (how.folds, how.iterations, how.step_size) == (folds(1e-3), 7, 3 / 14)
    teachers, masks, samples, start = problem(samples=70)
    state = descend(samples, masks, start, how, truth=teachers.weights, engine=engine)
    assert state.steps.tolist() == [7, 7]
    other = Samples(samples.inputs, samples.labels.clone(), samples.signal)
    other.labels[:, 30:40] += 1
    changed = descend(other, masks, start, how, truth=teachers.weights, engine=engine)
    same_until = (changed.errors == state.errors).all(dim=0).tolist()
    assert same_until == [True] * 4 + [False] * 4


@pytest.mark.parametrize("engine", ENGINES)
def test_divergence_is_told_with_step_and_loss(engine: str) -> None:
    setting, how = Setting(3, 20, 5, 100), Descent(400.0)
    with pytest.raises(ArgumentError, match=r"step_size: got 400, .*trial \d diverged: loss .* at step \d+") as caught:
        run_trials(setting, 3, how, engine=engine)
    assert caught.value.remedy == "40"
    state = run_trials(setting, 3, how, engine=engine, allow_divergence=True).state
    assert "diverged" in state.states
    for trial, name in enumerate(state.states):
        if name != "diverged":
            continue
        step = int(state.steps[trial])
        power = 0.5 * draw_samples(setting.teachers(3, 0), 100).labels[trial].square().mean()
        assert float(state.losses[trial, step]) > 1e6 * max(float(state.losses[trial, 0]), float(power))
        assert bool(state.losses[trial, step + 1 :].isnan().all()) and bool(state.weights[trial].isfinite().all())


def test_one_trial_that_diverges_leaves_the_others_alone() -> None:
    teachers, masks, samples, start = problem()
    scaled = Samples(samples.inputs.clone(), samples.labels, samples.signal)
    scaled.inputs[1] *= 100
    for engine in ENGINES:
        state = descend(scaled, masks, start, Descent(), truth=teachers.weights, engine=engine)
        assert state.states == ["converged", "diverged"]
        with pytest.raises(ArgumentError, match="trial 8 diverged"):
            refuse_divergence(state, Descent(), first_trial=7)
        alone = descend(samples, masks, start, Descent(), truth=teachers.weights, engine=engine)
        torch.testing.assert_close(state.weights[0], alone.weights[0])
        refuse_divergence(alone, Descent())


@pytest.mark.parametrize(
    ("how", "where"),
    [
        (Descent(step_size=0.0), "step_size"),
        (Descent(step_size=math.inf), "step_size"),
        (Descent(momentum=1.0), "momentum"),
        (Descent(momentum=-0.1), "momentum"),
        (Descent(iterations=0), "iterations"),
        (Descent(tolerance=-1.0), "tolerance"),
        (Descent(tolerance=math.nan), "tolerance"),
        (Descent(folds=0), "folds"),
        (Descent(folds=4, iterations=5), "iterations"),
        (Descent(folds=151, iterations=1), "folds"),
        (Descent(loss="hinge"), "loss"),
        (Descent(activation="tanh"), "activation"),
    ],
)
def test_numbers_out_of_range_are_refused(how: Descent, where: str) -> None:
    _, masks, samples, start = problem()
    with pytest.raises(ArgumentError) as caught:
        descend(samples, masks, start, how)
    assert caught.value.where == where


def test_arguments_that_do_not_belong_together_are_refused() -> None:
    teachers, masks, samples, start = problem()
    how = Descent(iterations=2)
    bad_start = torch.ones_like(start)
    with pytest.raises(MismatchError, match="weights outside the masks"):
        descend(samples, masks, bad_start, how)
    with pytest.raises(MismatchError, match="masks"):
        descend(samples, masks.double(), start, how)
    with pytest.raises(MismatchError, match="masks"):
        descend(samples, masks[:, :, :5], start[:, :, :5], how)
    with pytest.raises(MismatchError, match="start"):
        descend(samples, masks, start[:1], how)
    with pytest.raises(MismatchError, match="without weights"):
        descend(samples, torch.zeros_like(masks), torch.zeros_like(start), how)
    with pytest.raises(ArgumentError, match="truth"):
        descend(samples, masks, start, how, truth=torch.zeros_like(start))
    with pytest.raises(ArgumentError, match="engine"):
        descend(samples, masks, start, how, engine="magic")
    with pytest.raises(ArgumentError, match="threads"):
        descend(samples, masks, start, how, threads=0)
    with pytest.raises(DataError, match="0 or 1"):
        descend(samples, masks, start, replace(how, loss="cross-entropy"))
    samples.labels[0, 3] = math.nan
    with pytest.raises(DataError, match=r"labels\[0, 3\]"):
        descend(samples, masks, start, how, truth=teachers.weights)


def test_without_a_truth_there_are_no_errors() -> None:
    _, masks, samples, start = problem()
    state = descend(samples, masks, start, Descent(iterations=5))
    assert bool(state.errors.isnan().all()) and bool(state.losses.isfinite().all())


@given(st.floats(0.5, 0.999), st.integers(12, 300), st.floats(0.05, 1.0))
def test_rates_are_those_of_a_geometric_series(rate: float, length: int, tail: float) -> None:
    steps = torch.arange(float(length), dtype=torch.float64)
    series = 3 * rate**steps + 5 * (0.1 * rate) ** steps
    stopped = torch.cat([series, torch.full((5,), math.nan, dtype=torch.float64)])
    at_the_floor = torch.cat([series, torch.full((1,), 1e-300, dtype=torch.float64), torch.zeros(4)])
    padded = torch.stack([stopped, at_the_floor])
    fits = fit_rates(padded, tail)
    for trial in range(2):
        fitted = int(fits.last[trial] - fits.first[trial])
        assert int(fits.last[trial]) <= length
        if fitted < 10:
            assert math.isnan(float(fits.rate[trial]))
        elif int(fits.first[trial]) > 10:
            assert float(fits.rate[trial]) == pytest.approx(rate, rel=1e-6)
            assert float(fits.r_squared[trial]) > 0.999999


def test_a_constant_and_a_rise_are_no_convergence() -> None:
    fits = fit_rates(torch.stack([torch.ones(40), 1.1 ** torch.arange(40.0)]))
    assert float(fits.rate[0]) == 1.0 and float(fits.rate[1]) == pytest.approx(1.1)
    with pytest.raises(ArgumentError, match="tail"):
        fit_rates(torch.ones(1, 40), 0.0)
