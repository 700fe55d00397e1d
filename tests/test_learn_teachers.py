"""Teachers, students and data: what is drawn, that trials do not depend on their batch, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from slth.errors import ArgumentError, DataError, MismatchError
from slth.learn.draws import PURPOSES, Stream
from slth.learn.teachers import (
    Samples,
    check_supersets,
    draw_samples,
    draw_students,
    draw_teachers,
    outputs,
    random_starts,
)

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(st.just(shape), st.lists(st.integers(1, shape[2]), min_size=shape[1], max_size=shape[1]))
)


EXPECTED_UNIFORMS = [0.21768346432740837, 0.38598836118093327]
EXPECTED_NORMALS = [-0.385514355189919, -1.4437484746872595, -0.7928336366684526]


def test_streams_have_their_laws_and_share_nothing() -> None:
    drawn = [Stream(seed, trial, purpose) for seed in (0, 5) for trial in (0, 1) for purpose in PURPOSES]
    values = np.stack([stream.normals(4000) for stream in drawn])
    assert kstest(values.ravel(), "norm").pvalue > 1e-3
    assert kstest(Stream(3, 2, "noise").uniforms(20_000), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(correlations).max() < 6 / math.sqrt(4000)


def test_streams_stay_what_they_are() -> None:
    """Numbers once drawn: other ones would be other experiments under the same seed."""
    assert Stream(7, 3, "weights").uniforms(2).tolist() == EXPECTED_UNIFORMS
    np.testing.assert_allclose(Stream(7, 3, "inputs").normals(3), EXPECTED_NORMALS, rtol=1e-14)


@given(SHAPES, st.integers(0, 2**64 - 1), st.data())
def test_teachers_students_and_starts(
    shape: tuple[tuple[int, int, int], list[int]], seed: int, data: st.DataObject
) -> None:
    (trials, neurons, inputs), kept = shape
    teachers = draw_teachers(trials, neurons, inputs, kept, seed)
    assert teachers.supports.sum(dim=2).tolist() == [kept] * trials
    assert bool((teachers.weights[~teachers.supports] == 0).all())
    assert float(teachers.weights.abs().max()) <= 0.5
    wider = [data.draw(st.integers(least, inputs)) for least in kept]
    masks, all_of_it = draw_students(teachers, wider), draw_students(teachers, inputs)
    assert masks.sum(dim=2).tolist() == [wider] * trials
    assert bool((teachers.supports <= masks).all()) and bool(all_of_it.all())
    radius = data.draw(st.floats(0, 3))
    norms = teachers.weights.flatten(1).norm(dim=1)
    for inside in (False, True):
        start = random_starts(teachers, masks, radius, inside=inside)
        assert bool((start[~masks] == 0).all())
        distance = (start - teachers.weights).flatten(1).norm(dim=1)
        assert bool((distance <= radius * norms * (1 + 1e-12)).all())
        if not inside:
            torch.testing.assert_close(distance, radius * norms, rtol=1e-12, atol=1e-14)


@given(st.integers(0, 1000), st.integers(1, 20))
def test_trials_do_not_depend_on_their_batch_nor_samples_on_their_number(seed: int, fewer: int) -> None:
    whole = draw_teachers(4, 2, 6, 3, seed)
    last = draw_teachers(1, 2, 6, 3, seed, first_trial=3)
    assert torch.equal(whole.weights[3:], last.weights)
    many, few = draw_samples(whole, 20), draw_samples(last, fewer)
    assert torch.equal(many.inputs[3:, :fewer], few.inputs)
    torch.testing.assert_close(many.labels[3:, :fewer], few.labels, rtol=1e-12, atol=1e-14)
    starts = [random_starts(each, draw_students(each, 4), 0.3) for each in (whole, last)]
    assert torch.equal(starts[0][3:], starts[1])
    assert not torch.equal(whole.weights[0], whole.weights[1])


def test_outputs_are_the_mean_of_the_neurons() -> None:
    teachers = draw_teachers(2, 3, 5, 2, 1)
    x = draw_samples(teachers, 4).inputs
    for trial in range(2):
        for sample in range(4):
            sums = [float(w @ x[trial, sample]) for w in teachers.weights[trial]]
            assert float(outputs(teachers.weights, x)[trial, sample]) == pytest.approx(sum(max(s, 0) for s in sums) / 3)
            odds = sum(1 / (1 + math.exp(-s)) for s in sums) / 3
            assert float(outputs(teachers.weights, x, "sigmoid")[trial, sample]) == pytest.approx(odds)


def test_noise_is_relative_to_the_signal() -> None:
    teachers = draw_teachers(3, 3, 10, 4, 2)
    clean, noisy = draw_samples(teachers, 20_000), draw_samples(teachers, 20_000, 0.3)
    spread = (noisy.labels - clean.labels).std(dim=1) / clean.labels.square().mean(dim=1).sqrt()
    torch.testing.assert_close(spread, torch.full((3,), 0.3, dtype=torch.float64), rtol=0.03, atol=0)
    torch.testing.assert_close(noisy.signal, clean.labels.square().mean(dim=1).sqrt())


def test_binary_labels_are_1_as_often_as_the_teacher_says() -> None:
    teachers = draw_teachers(2, 3, 10, 4, 2, activation="sigmoid")
    samples = draw_samples(teachers, 40_000, binary=True)
    assert set(samples.labels.unique().tolist()) == {0.0, 1.0}
    chances = outputs(teachers.weights, samples.inputs, "sigmoid")
    for low, high in ((0, 0.4), (0.4, 0.6), (0.6, 1)):
        inside = (chances >= low) & (chances < high)
        assert float(samples.labels[inside].mean()) == pytest.approx(float(chances[inside].mean()), abs=0.02)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"trials": 0}, "trials"),
        ({"neurons": 0}, "neurons"),
        ({"inputs": 0}, "inputs"),
        ({"kept": 0}, "kept"),
        ({"kept": 7}, "kept"),
        ({"kept": (2, 2)}, "kept"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"first_trial": 2**60}, "trial"),
        ({"activation": "tanh"}, "activation"),
    ],
)
def test_teachers_that_cannot_be_are_refused(change: dict[str, object], where: str) -> None:
    arguments: dict[str, object] = {"trials": 2, "neurons": 3, "inputs": 6, "kept": 2, **change}
    with pytest.raises(ArgumentError) as caught:
        draw_teachers(**arguments)  # type: ignore[arg-type]
    assert caught.value.where == where


def test_students_that_are_no_superset_are_refused() -> None:
    teachers = draw_teachers(2, 3, 6, (2, 4, 3), 0)
    with pytest.raises(ArgumentError, match=r"3 inputs of a neuron whose teacher reads 4.*superset"):
        draw_students(teachers, 3)
    masks = draw_students(teachers, 5)
    check_supersets(masks, teachers.supports)
    place = tuple(int(i) for i in teachers.supports.nonzero()[-1])
    masks[place] = False
    with pytest.raises(MismatchError, match=f"trial {place[0]}: neuron {place[1]} without input {place[2]}"):
        random_starts(teachers, masks, 0.5)
    with pytest.raises(MismatchError, match="shape"):
        check_supersets(masks[:1], teachers.supports)
    for radius in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="radius"):
            random_starts(teachers, draw_students(teachers, 5), radius)


def test_data_that_nothing_can_be_learnt_from_are_refused() -> None:
    teachers = draw_teachers(2, 3, 6, 2, 0)
    for wrong in ({"samples": 0}, {"noise": -1.0}, {"noise": float("nan")}, {"noise": 0.1, "binary": True}):
        with pytest.raises(ArgumentError):
            draw_samples(teachers, **{"samples": 5, **wrong})  # type: ignore[arg-type]
    good = draw_samples(teachers, 5)
    good.check()
    for value in (math.nan, math.inf):
        x, y = good.inputs.clone(), good.labels.clone()
        x[1, 2, 3] = y[1, 4] = value
        with pytest.raises(DataError, match=r"inputs\[1, 2, 3\]: got (nan|inf)"):
            Samples(x, good.labels, good.signal).check()
        with pytest.raises(DataError, match=r"labels\[1, 4\]: got (nan|inf)"):
            Samples(good.inputs, y, good.signal).check()
    for labels in (good.labels[:, :4], good.labels[0], torch.zeros(3, 5)):
        with pytest.raises(DataError, match="labels"):
            Samples(good.inputs, labels, good.signal).check()
    with pytest.raises(DataError, match="inputs"):
        Samples(good.inputs[0], good.labels, good.signal).check()
    with pytest.raises(DataError, match="floating-point"):
        Samples(good.inputs, good.labels.long(), good.signal).check()
    with pytest.raises(DataError, match="0 or 1"):
        good.check(binary=True)
