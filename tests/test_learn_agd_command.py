"""slth learn agd as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from command_line import files_in, program, slth

SMALL = ("--neurons", 2, "--inputs", 12, "--kept", 3, "--samples", 200, "--trials", 3)


def facts_of(path: Path) -> dict[str, Any]:
    """The JSON in the file."""
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["slth"])
    return facts


def test_small_run_is_reported_and_written(tmp_path: Path) -> None:
    words = ("learn", "agd", *SMALL, "--student-kept", "4,5", "--curvature", "-o", "a.safetensors")
    result = slth(*words, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "below 1e-4 in 3 of 3 trials" in result.out and "3 converged" in result.out and "eigenvalue" in result.out
    facts, tensors = facts_of(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert max(facts["error"]) < 1e-4 and facts["success"] == 1.0
    assert tensors["masks"].sum(dim=2).tolist() == [[4, 5]] * 3
    assert bool((tensors["weights"][~tensors["masks"]] == 0).all())
    difference = (tensors["weights"] - tensors["teachers"]).flatten(1).norm(dim=1)
    errors = difference / tensors["teachers"].flatten(1).norm(dim=1)
    torch.testing.assert_close(errors, torch.tensor(facts["error"], dtype=torch.float64), rtol=1e-6, atol=0)
    again = slth(*words[:-1], "b.safetensors", "--json", "--threads", 2, cwd=tmp_path)
    printed = json.loads(again.out)
    assert printed.keys() >= {"error", "rate", "iterations", "seconds", "state", "output"}
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert list(files_in(tmp_path)) == ["a.safetensors", "b.safetensors"]
    assert slth(*words, "--quiet", cwd=tmp_path).out == ""


def test_binary_and_noisy_runs(tmp_path: Path) -> None:
    for words in (("--binary", "--step-size", 4), ("--noise", 0.01), ("--folds", 9, "--iterations", 9)):
        result = slth("learn", "agd", *SMALL, "--iterations", 50, *words, "-o", "a.safetensors", cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
    assert facts_of(tmp_path / "a.safetensors")["iterations"] == [9, 9, 9]


def test_what_speaks_against_a_result_is_said(tmp_path: Path) -> None:
    words = ("learn", "agd", *SMALL, "--iterations", 2, "-o", "a.safetensors")
    few = slth(*words, "--samples", 8, "--init", "tensor", cwd=tmp_path)
    assert few.status == 0 and "warning: the K-th eigenvalue of M_2" in few.err
    assert slth(*words, "--samples", 8, "--init", "tensor", "--quiet", cwd=tmp_path).err == ""
    wide = (*words, "--neurons", 4, "--inputs", 300, "--kept", 300, "--curvature", "--trials", 1)
    near = slth(*wide, "--samples", 1300, cwd=tmp_path)
    assert near.status == 0 and "400 products leave eigenvalues of 1 of 1 trials unsettled" in near.err
    facts = facts_of(tmp_path / "a.safetensors")
    assert 0 < facts["smallest_residual_times_k2"][0] < 0.01
    assert slth(*wide, "--samples", 4800, cwd=tmp_path).err == ""


def test_resumed_run_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slth.learn import trials

    words = ("learn", "agd", *SMALL, "-o", "a.safetensors")
    assert slth(*words, cwd=tmp_path).status == 0
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").unlink()
    real, calls = trials.refuse_divergence, []

    def kill(*arguments: Any) -> None:
        real(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(trials, "refuse_divergence", kill)
        often = {**trials.run_trials.__kwdefaults__, "every_seconds": 0.0, "memory_bytes": 1}
        patch.setattr(trials.run_trials, "__kwdefaults__", often)
        assert slth(*words, cwd=tmp_path).status == 2
    assert list(files_in(tmp_path)) == ["a.safetensors.checkpoint"]
    result = slth(*words, "--resume", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert (tmp_path / "a.safetensors").read_bytes() == whole
    assert list(files_in(tmp_path)) == ["a.safetensors"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--kept", 13), "--kept: got 13; need a number from 1 to the 12 inputs"),
        (("--kept", "3,x"), "--kept: got 3,x"),
        (("--kept", "3,3,3"), "--kept: got 3 numbers"),
        (("--student-kept", 2), "--student-kept: got 2 inputs of a neuron whose teacher reads 3"),
        (("--student-kept", 13), "--student-kept: got 13"),
        (("--step-size", 500), "diverged: loss"),
        (("--step-size", "nan"), "--step-size: got nan"),
        (("--momentum", 1), "--momentum: got 1.0"),
        (("--samples", 0), "--samples: got 0"),
        (("--noise", "nan"), "--noise: got nan"),
        (("--noise", 0.1, "--binary"), "--noise: got 0.1"),
        (("--radius", -1), "--radius: got -1.0"),
        (("--trials", 0), "--trials: got 0"),
        (("--iterations", 0), "--iterations: got 0"),
        (("--folds", 3), "--iterations: got 10000 steps on 3 folds"),
        (("--seed", -1), "seed: got -1"),
        (("--device", "abacus"), "--device: got abacus"),
        (("--init", "tensor", "--neurons", 4, "--inputs", 3), "--init: got tensor, for 4 neurons of 3 inputs"),
        (("--curvature", "--binary"), "--curvature: got --binary"),
        (("-o", "a.txt"), "--output: got a.txt"),
        (("-o", "missing/a.safetensors"), "a missing folder"),
    ],
)
def test_bad_input_is_one_line_and_no_file(words: tuple[Any, ...], told: str, tmp_path: Path) -> None:
    result = slth("learn", "agd", *SMALL, "-o", "a.safetensors", *words, cwd=tmp_path)
    assert result.status == 2 and result.out == ""
    assert result.err.count("\n") == 1 and told in result.err, result.err
    assert list(files_in(tmp_path)) == []


def test_help_fits_a_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = slth("learn", "agd", "--help", cwd=tmp_path).out.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80 and "..." not in "".join(lines[2:])


def test_program_runs_with_its_defaults(tmp_path: Path) -> None:
    result = program("learn", "agd", "-o", "a.safetensors", "--trials", 2, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "below 1e-4 in 2 of 2 trials" in result.out
