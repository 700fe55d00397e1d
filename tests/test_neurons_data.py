"""What may be a neuron ticket's data: labels of every kind, parts, shapes; and what the pilot chooses for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slth
from slth.activations import parse
from slth.errors import ArgumentError, DataError
from slth.neurons.find import find_neurons
from slth.neurons.fit import fit
from slth.neurons.law import FeatureLaw
from slth.neurons.measure import measure
from slth.neurons.pilot import RIDGES, Trial, _all_ridges, _share_wrong, choose, losses
from slth.neurons.samples import Samples, read_samples, unit_ball
from slth.neurons.source import NeuronSource
from slth.neurons.ticket import sampled_pairs

X = np.random.default_rng(3).normal(size=(60, 4))
SIDE = (X[:, 0] > 0).astype(int)
THREE = np.argmax(X[:, :3], axis=1)
SMALL: dict[str, Any] = {"features": 8, "blocks": 6}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (SIDE, (0, 1)),
        (SIDE.astype(bool), (0, 1)),
        (2 * SIDE - 1, (-1, 1)),
        (SIDE + 1, (1, 2)),
        (np.array(["no", "yes"])[SIDE], ("no", "yes")),
        (np.array([b"no", b"yes"])[SIDE], ("no", "yes")),
        (THREE, (0, 1, 2)),
        (THREE.astype(np.uint8)[:, None], (0, 1, 2)),
        (np.array([3, 7, 11])[THREE], (3, 7, 11)),
        (np.array([7, -3, 2**40])[THREE], (-3, 7, 2**40)),
        (np.eye(3)[THREE].astype(int), (0, 1, 2)),
        (["abc"[k] for k in THREE], ("a", "b", "c")),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, tuple) else "",
)
def test_classes_may_be_called_anything(labels: Any, names: tuple[Any, ...], tmp_path: Path) -> None:
    ticket = find_neurons(X, labels, test=(X[:9], labels[:9]), **SMALL)
    assert ticket.classes == names and ticket.task == "classification"
    assert ticket.source.outputs == (1 if len(names) == 2 else len(names))
    ticket.save(tmp_path / "a.ticket")
    loaded = slth.load_neurons(tmp_path / "a.ticket")
    assert loaded.classes == names
    assert slth.verify_neurons(loaded, (X, labels), (X[:9], labels[:9])).holds
    # Answers by the names are those that were counted.
    outputs = loaded.outputs(X)
    named = np.array(names)[outputs.argmax(axis=1) if len(names) > 2 else (outputs[:, 0] > 0).astype(int)]
    given = np.asarray(labels)
    given = given.argmax(axis=1) if given.ndim == 2 and given.shape[1] > 1 else given.reshape(-1)
    given = np.char.decode(given) if given.dtype.kind == "S" else given
    assert loaded.train is not None and loaded.train.accuracy == pytest.approx(100 * np.mean(named == given), abs=1e-3)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=40).filter(lambda labels: len(set(labels)) > 1))
def test_every_whole_number_may_be_a_class(labels: list[int]) -> None:
    samples = Samples.build(np.ones((len(labels), 1)), labels)
    names = samples.labels or tuple(range(max(labels) + 1))
    assert samples.classes is not None and [names[k] for k in samples.classes] == labels
    assert list(names) == sorted(set(labels))


def test_answers_named_by_targets_are_all_right() -> None:
    for labels in (SIDE, THREE, np.array(["x", "y"])[SIDE]):
        samples = Samples.build(X, labels)
        assert samples.accuracy(samples.targets) == 100
        assert samples.accuracy(-samples.targets) == pytest.approx(0 if samples.targets.shape[1] == 1 else 50, abs=50)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(60, int), "all 0"),
        (np.arange(60), "task=regression"),
        (np.round(100 * X).astype(int), "not one-hot"),
        (np.full(60, "a"), "all a"),
        (np.array(["a", "b" * 201])[SIDE], "200 characters"),
        (np.array([b"\xff", b"a"])[SIDE], "UTF-8"),
        (X[:, 0] + 1j, "complex"),
        (SIDE[:-1], "60 inputs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_cannot_be_meant_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_neurons(X, labels, **SMALL)


def test_a_class_that_the_training_part_lacks_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'emu' at index 2.*cat, dog"):
        find_neurons(X, np.array(["cat", "dog"])[SIDE], test=(X[:3], ["cat", "dog", "emu"]), **SMALL)
    with pytest.raises(DataError, match="numbers to regress"):
        find_neurons(X, np.array(["cat", "dog"])[SIDE], task="regression", **SMALL)


def test_inputs_of_one_entry_and_images_are_taken() -> None:
    t = np.linspace(-3, 3, 80)
    line = find_neurons(t, np.sin(t), features=30, blocks=60)
    assert line.source.inputs == 1 and line.source.constant, "without a constant all functions of t are two rays"
    assert line.train is not None and line.train.average_explained is not None and line.train.average_explained > 0.8
    images = find_neurons(X.reshape(60, 1, 2, 2), THREE, **SMALL)
    np.testing.assert_array_equal(images.mask, find_neurons(X, THREE, **SMALL).mask)


def test_npz_files_with_parts_and_capital_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "parts.npz", x_train=X[:40], y_train=THREE[:40], x_test=X[40:], y_test=THREE[40:])
    train, test = read_samples(str(tmp_path / "parts.npz"))
    assert test is not None
    np.testing.assert_array_equal(train.inputs, X[:40])
    np.testing.assert_array_equal(test.inputs, X[40:])
    np.savez(tmp_path / "capital.npz", X=X, Y=np.array(["u", "v", "w"])[THREE])
    train, test = read_samples(str(tmp_path / "capital.npz"))
    assert test is not None and len(test.inputs) == 12 and train.labels == test.labels == ("u", "v", "w")
    np.savez(tmp_path / "objects.npz", x=X, y=np.array([None] * 60))
    with pytest.raises(DataError, match="nothing of it was loaded"):
        read_samples(str(tmp_path / "objects.npz"))


def test_blocks_take_the_samples_in_turn() -> None:
    """Each block sees ``block_samples`` of them; the oracle fits block by block with samples taken by hand."""
    source = NeuronSource(5, 4, 1, 3, 7, FeatureLaw.parse("sphere"))
    relu, y = parse("relu"), X[:, :1]
    x = unit_ball(X, 5.0, False)
    u, squares = fit(source, relu, x, y, 0.1, block_samples=25)
    order = source.sample_order(60)
    assert sorted(order) == list(range(60)) and list(order) != list(range(60))
    seen = []
    for block in range(7):
        rows = [order[(25 * block + k) % 60] for k in range(25)]
        seen += rows
        features = np.maximum(x[rows] @ source.first(3 * block, 3 * block + 3).T.astype(float), 0)
        penalty = 0.1 * (features**2).mean()
        wanted = np.linalg.solve(features.T @ features / 25 + penalty * np.eye(3), features.T @ y[rows] / 25)
        np.testing.assert_allclose(u[0, 3 * block : 3 * block + 3], wanted[:, 0], rtol=1e-9)
        np.testing.assert_allclose(squares[3 * block : 3 * block + 3], (features**2).mean(axis=0), rtol=1e-12)
    counts = np.bincount(seen, minlength=60)
    assert counts.max() - counts.min() <= 1
    whole = fit(source, relu, x, y, 0.1)[0]
    np.testing.assert_array_equal(fit(source, relu, x, y, 0.1, block_samples=60)[0], whole)


def test_a_ticket_of_some_samples_a_block_is_verified(tmp_path: Path) -> None:
    ticket = find_neurons(X, THREE, block_samples=20, **SMALL)
    assert ticket.block_samples == 20 and find_neurons(X, THREE, block_samples=60, **SMALL).block_samples is None
    ticket.save(tmp_path / "a.ticket")
    assert slth.verify_neurons(slth.load_neurons(tmp_path / "a.ticket"), (X, THREE)).wrong_bits == 0
    with pytest.raises(ArgumentError, match="block_samples"):
        find_neurons(X, THREE, block_samples=0, **SMALL)


def test_large_parts_are_measured_on_some_samples() -> None:
    samples, ticket = Samples.build(X, THREE), find_neurons(X, THREE, **SMALL)
    u, _ = fit(
        ticket.source, ticket.sigma, unit_ball(X, ticket.input_scale, ticket.source.constant), samples.targets, 1
    )
    found = measure(ticket, u, samples, most=15)
    assert (found.samples, found.measured, found.digest) == (60, 15, samples.digest())
    some = np.sort(ticket.source.sample_order(60)[:15])
    assert found.error == pytest.approx(measure(ticket, u, samples.take(some)).error)


@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 8))
def test_pairs_kept_for_pictures_differ_and_serve_every_output(width: int, outputs: int, blocks: int) -> None:
    source = NeuronSource(0, 2, outputs, width, blocks)
    output, neuron = sampled_pairs(source)
    assert len(set(zip(output, neuron, strict=True))) == len(output) == min(1024, outputs * source.width)
    assert set(output) == set(range(outputs)) and neuron.max() < source.width


@pytest.mark.parametrize("shape", [(50, 12), (12, 50)])
def test_all_ridges_at_once_are_each_by_itself(shape: tuple[int, int]) -> None:
    from slth.neurons.fit import ridge_regression

    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
    for ridge, found in zip(RIDGES, _all_ridges(features, targets, RIDGES), strict=True):
        np.testing.assert_allclose(found, ridge_regression(features, targets, ridge), rtol=1e-6, atol=1e-9)


def test_share_of_wrong_classes_is_what_draws_of_the_noise_give() -> None:
    rng = np.random.default_rng(1)
    for outputs, classes in ((1, SIDE), (3, THREE)):
        answers, noise = rng.normal(size=(60, outputs)), rng.uniform(0.01, 0.3, (60, outputs))
        drawn = answers + np.sqrt(noise) * rng.normal(size=(4000, 60, outputs))
        named = drawn.argmax(axis=2) if outputs > 1 else (drawn[..., 0] > 0).astype(int)
        # Of three classes only the nearest rival is counted.
        assert _share_wrong(answers, noise, classes) == pytest.approx(np.mean(named != classes), abs=0.02)


def trial(samples: Samples, seed: int = 0) -> Trial:
    source = NeuronSource(seed, samples.inputs.shape[1], samples.targets.shape[1], 40, 200)
    return Trial(samples, samples.largest_norm, source, parse("relu"), None, None)


def test_the_pilot_foretells_the_squared_error_and_looks_at_no_block_of_the_ticket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5))
    y = np.sin(x[:, 0]) + 0.3 * rng.normal(size=500)
    samples = Samples.build(x[:400], y[:400])
    seeds = []
    first = NeuronSource.first
    monkeypatch.setattr(NeuronSource, "first", lambda self, *words: seeds.append(self.seed) or first(self, *words))
    monkeypatch.delattr(NeuronSource, "second")
    told = losses(trial(samples), RIDGES, True)
    ridge, _ = choose(trial(samples), None, True)
    assert ridge == RIDGES[int(np.argmin(told))]
    assert set(seeds) == {2**64 - 1}
    monkeypatch.undo()
    for index in (2, 5, 8):
        ticket = find_neurons(
            x[:400], y[:400], features=40, blocks=200, ridge=RIDGES[index], constant=True, test=(x[400:], y[400:])
        )
        assert ticket.test is not None
        found = ticket.test.average_error**2 + ticket.test.expected_difference**2
        assert told[index] == pytest.approx(found / (y[:400] ** 2).mean(), rel=0.5)


def test_the_pilot_takes_what_is_given_and_gives_few_samples_the_usual_penalty() -> None:
    samples = Samples.build(X, THREE)
    assert choose(trial(samples), 0.07, True) == (0.07, True)
    assert choose(trial(samples), 0.07, None)[0] == 0.07
    assert choose(trial(samples.take(np.arange(9))), None, None) == (0.2, False)
    assert find_neurons(X, THREE, ridge=0.3, constant=True, **SMALL).source.constant
