"""Sparse students of classes: what they learn, what pruning keeps, the file, resuming, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command_line import files_in, slth
from slth.errors import ArgumentError, DataError
from slth.learn import kernel, one_vs_rest
from slth.learn.datasets import Dataset
from slth.learn.one_vs_rest import ClassSettings, learn_classes
from slth.learn.result import load_sparse

SMALL = ClassSettings(neurons=6, density=0.3, dense_iterations=40, iterations=80, momentum=0.9)


@pytest.fixture(scope="module")
def sectors() -> Dataset:
    """Three sectors of a plane, seen among other inputs, from a point that is not the origin."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 8))
    angles = 2 * np.pi * np.arange(3) / 3
    y = np.argmax(x[:, :2] @ np.stack([np.cos(angles), np.sin(angles)]), axis=1)
    return Dataset.build(x[:900] * 40 + 7, y[:900], x[900:] * 40 + 7, y[900:])


def test_students_learn_and_keep_exactly_their_share(sectors: Dataset) -> None:
    result = learn_classes(sectors, replace(SMALL, neurons=20, iterations=400, momentum=0.95))
    assert result.accuracy > 85.0 and result.masks.shape == (3, 20, 8)
    # Two of eight inputs say all there is.
    assert float(result.masks[:, :, :2].double().mean()) > float(result.masks[:, :, 2:].double().mean())
    assert (result.masks.sum(dim=(1, 2)) == round(0.3 * 160)).all()
    assert result.file.facts["accuracy_ticket"] == result.accuracy


def test_the_file_is_the_students_as_one_network(sectors: Dataset, tmp_path: Path) -> None:
    result = learn_classes(sectors, SMALL)
    result.file.save(tmp_path / "a.safetensors")
    file = load_sparse(tmp_path / "a.safetensors")
    first, bias, second = (file.state[name] for name in ("0.weight", "0.bias", "2.weight"))
    assert not bool(first[~file.masks["0.weight"]].any()) and torch.equal(file.masks["2.weight"], second != 0)
    outputs = torch.relu(sectors.test.inputs.float() @ first.T + bias) @ second.T
    # Every class is the mean of its own neurons.
    hidden = torch.relu(sectors.test.inputs.float() @ first.T + bias).reshape(-1, 3, 6)
    torch.testing.assert_close(outputs, hidden.mean(dim=2), rtol=1e-5, atol=1e-6)
    right = (outputs.argmax(dim=1) == sectors.test.labels).double().mean()
    assert 100 * float(right) == pytest.approx(result.accuracy)


def test_scale_and_place_of_inputs_do_not_matter(sectors: Dataset) -> None:
    moved = [sectors.train.inputs / 64 - 3, sectors.train.labels, sectors.test.inputs / 64 - 3, sectors.test.labels]
    ours, theirs = learn_classes(sectors, SMALL), learn_classes(Dataset.build(*moved), SMALL)
    assert torch.equal(ours.masks, theirs.masks)
    torch.testing.assert_close(ours.losses, theirs.losses, rtol=1e-3, atol=0)


@pytest.mark.parametrize("killed_in", ["dense", "sparse"])
def test_a_killed_run_goes_on_to_the_same_bits(
    killed_in: str, sectors: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learn_classes(sectors, SMALL)
    real, steps = one_vs_rest.refuse_divergence, []

    def kill(state: Any, how: Any, **words: Any) -> None:
        real(state, how, **words)
        steps.append(how.iterations)
        if steps.count(SMALL.dense_iterations if killed_in == "dense" else SMALL.iterations) == 2:
            raise RuntimeError("killed")

    place = {"checkpoint": tmp_path / "c", "every_seconds": 0.0}
    monkeypatch.setattr("slth.learn.engines._CALL", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(one_vs_rest, "refuse_divergence", kill)
        with pytest.raises(RuntimeError):
            learn_classes(sectors, SMALL, **place)
    resumed = learn_classes(sectors, SMALL, **place, resume=True)
    assert torch.equal(resumed.file.state["0.weight"], whole.file.state["0.weight"])
    assert torch.equal(resumed.masks, whole.masks) and resumed.accuracy_dense == whole.accuracy_dense


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"neurons": 0}, "neurons"),
        ({"density": 1.0}, "density"),
        ({"density": float("nan")}, "density"),
        ({"momentum": 1.0}, "momentum"),
        ({"iterations": 0}, "iterations"),
        ({"step_size": -1.0}, "step_size"),
        ({"step_size": 1e5}, "diverged: loss"),
        ({"density": 1e-4}, "no survivors"),
    ],
)
def test_bad_numbers_are_refused(changed: dict[str, Any], told: str, sectors: Dataset) -> None:
    with pytest.raises(ArgumentError, match=told):
        learn_classes(sectors, replace(SMALL, **changed))


def test_inputs_that_are_all_the_same_are_refused() -> None:
    # The mean of so many thirds is no third, so that their differences from it are not 0.
    x = np.full((23, 3), 1.0 / 3.0)
    assert (x.mean(axis=0) != x[0]).any()
    with pytest.raises(DataError, match="here: got training inputs that are all the same"):
        learn_classes(Dataset.build(x, np.arange(23) % 2, x, np.arange(23) % 2, "here"), SMALL)


def test_large_data_are_worked_on_a_trial_at_a_time_to_the_same_bits(
    sectors: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learn_classes(sectors, SMALL)
    calls: list[tuple[int, int]] = []
    real = kernel.descend_trials

    def counted(trials: Any, steps: int, *rest: Any) -> None:
        calls.append((len(trials), steps))
        real(trials, steps, *rest)

    monkeypatch.setattr("slth.learn.kernel.descend_trials", counted)
    monkeypatch.setattr("slth.learn.engines._CALL", 1.0)
    for threads in (1, 2):
        parts = learn_classes(sectors, SMALL, threads=threads)
        assert torch.equal(parts.file.state["0.weight"], whole.file.state["0.weight"]) and parts.losses.equal(
            whole.losses
        )
    assert set(calls) == {(1, 1)}


def test_on_the_command_line(tmp_path: Path) -> None:
    words = ("learn", "agd", "--data", "digits", "--iterations", 30, "--neurons", 4, "-o", "a.safetensors")
    result = slth(*words, cwd=tmp_path)
    assert (result.status, result.err) == (0, "") and "510 of 2,560 weights (19.9%)" in result.out
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    facts = json.loads(slth(*words, "--json", cwd=tmp_path).out)
    assert facts.keys() >= {"accuracy_ticket", "accuracy_dense", "density", "seconds", "output"}
    assert facts["kept"] == 510 and facts["accuracy_ticket"] > 90.0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert list(files_in(tmp_path)) == ["a.safetensors", "b.safetensors"]
    assert load_file(tmp_path / "a.safetensors")["0.weight"].shape == (40, 64)
    found = slth("find", "a.safetensors", "-o", "a.ticket", "--tolerance", 0.01, cwd=tmp_path)
    assert found.status == 0, found.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--data", "digits", "--trials", 3), "--trials: got --data besides"),
        (("--data", "digits", "--kept", 10), "--kept: got --data besides"),
        (("--data", "digits", "--density", 2), "density: got 2"),
        (("--density", 0.1), "--density: got 0.1 without --data"),
        (("--data", "nowhere"), "nowhere: got no such file or folder"),
    ],
)
def test_bad_input_is_one_line_and_no_file(words: tuple[Any, ...], told: str, tmp_path: Path) -> None:
    result = slth("learn", "agd", *words, "-o", "a.safetensors", cwd=tmp_path)
    assert result.status == 2 and result.out == ""
    assert result.err.count("\n") == 1 and told in result.err, result.err
    assert list(files_in(tmp_path)) == []
