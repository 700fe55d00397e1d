"""slth learn imp on the command line: what it prints and leaves, killed and resumed, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from command_line import PROGRAM, Result, assert_refused, files_in, make_folder, slth
from conftest import SHARED
from slth.commands.learn.common import stoppable
from slth.errors import StoppedError
from slth.learn.result import load_sparse

QUICK = ("learn", "imp", "--data", "data.npz", "--hidden", "9,5", "--rounds", 2, "--epochs", 3, "--batch-size", 10)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with data that cannot be learnt besides."""
    folder = make_folder(tmp_path_factory.mktemp("learn"))
    with np.load(folder / "data.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    np.savez(folder / "nan.npz", x=np.where(x == x[3, 2], np.nan, x), y=y)
    np.savez(folder / "misfit.npz", x=x, y=y[:-1])
    (folder / "own.py").write_text(
        "import numpy as np\nimport torch\n\n"
        "def data():\n    print('loading')\n    with np.load('data.npz') as a:\n        return a['x'], a['y']\n\n"
        "def net():\n    print('making')\n    return torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.Tanh(), "
        "torch.nn.Linear(6, 4))\n\n"
        "def narrow():\n    return torch.nn.Linear(12, 2)\n"
    )
    return folder


@pytest.fixture
def unchanged(home: Path) -> Any:
    """The folder, in which nothing may appear or change."""
    before = files_in(home)
    yield home
    assert files_in(home) == before


def facts_of(result: Result) -> dict[str, Any]:
    assert result.status == 0, result
    value: dict[str, Any] = json.loads(result.out)
    return value


def test_one_json_object_and_a_file_that_is_a_target(home: Path, tmp_path: Path) -> None:
    facts = facts_of(slth(*QUICK, "-o", tmp_path / "a.safetensors", "--json", cwd=home))
    assert facts.keys() >= {"accuracy_ticket", "accuracy_dense", "density", "seconds", "kept", "rounds", "output"}
    n_weights = 12 * 9 + 9 * 5 + 5 * 4
    kept = n_weights - round(0.2 * n_weights)
    kept -= round(0.2 * kept)
    assert facts["kept"] == kept and facts["density"] == kept / n_weights
    assert [one["number"] for one in facts["rounds"]] == [0, 1, 2]
    assert [*tmp_path.iterdir()] == [tmp_path / "a.safetensors"], "the checkpoint is still there"
    file = load_sparse(tmp_path / "a.safetensors")
    assert sum(int(mask.sum()) for mask in file.masks.values()) == kept
    words = ("find", "a.safetensors", "-o", "a.ticket", "--base-set-size", 10, "--json")
    found = facts_of(slth(*words, cwd=tmp_path))
    assert found["target_weights"] == n_weights + 9 + 5 + 4


def test_a_table_a_round_a_row(home: Path, tmp_path: Path) -> None:
    result = slth(*QUICK, "-o", tmp_path / "a.safetensors", cwd=home)
    assert (result.status, result.err) == (0, "")
    assert "100.00%" in result.out and "a.safetensors" in result.out
    assert slth(*QUICK, "-o", tmp_path / "b.safetensors", "--quiet", cwd=home) == Result(0, "", "")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_data_and_models_of_the_users_own(home: Path, tmp_path: Path) -> None:
    words = ("--model", "own:net", "--data", "own:data", "--count", 7, "--scope", "layer", "--json")
    result = slth(*QUICK, *words, "-o", tmp_path / "a.safetensors", cwd=home)
    facts = facts_of(result)
    assert facts["rounds"][-1]["kept_by_layer"] == {"0.weight": 72 - 14, "2.weight": 24 - 14}
    assert "loading" in result.err and "making" in result.err
    same_data = slth(*QUICK, *words[:2], *words[4:], "-o", tmp_path / "b.safetensors", cwd=home)
    assert facts_of(same_data)["settings"] == facts["settings"]
    other = slth(*QUICK, *words, "--seed", 1, "-o", tmp_path / "c.safetensors", cwd=home)
    assert facts_of(other)["settings"]["model"] != facts["settings"]["model"]


@pytest.mark.parametrize("words", [("--one-shot",), ("--after", "finetune"), ("--after", "reinitialise")])
def test_other_ways_to_prune(home: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    facts = facts_of(slth(*QUICK, *words, "--json", "-o", tmp_path / "a.safetensors", cwd=home))
    assert len(facts["rounds"]) == (2 if "--one-shot" in words else 3)


LONG = ("learn", "imp", "--data", "digits", "--hidden", "30", "--rounds", 2, "--epochs", 60)
LONG += ("--checkpoint-seconds", 0.3)


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    command = [*PROGRAM, *map(str, LONG), *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


def test_killed_twice_and_resumed_it_leaves_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.safetensors.checkpoint"
    for pause in (0.1, 0.5):
        process = start(tmp_path, "-o", "a.safetensors", "--resume")
        try:
            wait_for(checkpoint, process)
            time.sleep(pause)
            assert process.poll() is None, "it was done before it could be killed"
        finally:
            process.kill()
            process.communicate()
    assert slth(*LONG, "-o", "a.safetensors", "--resume", cwd=tmp_path).status == 0
    assert slth(*LONG, "-o", "b.safetensors", cwd=tmp_path).status == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert not checkpoint.exists()


OUT = ("-o", "new.safetensors")


@pytest.fixture(scope="module")
def stopped(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, float]:
    """A folder in which a run was stopped by Ctrl-C, what it printed, and how long stopping took."""
    folder = tmp_path_factory.mktemp("stopped") / "own"
    shutil.copytree(home, folder)
    process = start(folder, *OUT)
    try:
        wait_for(folder / "new.safetensors.checkpoint", process)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return folder, Result(process.returncode, out, err), time.monotonic() - begin


def test_ctrl_c_says_how_to_go_on(stopped: tuple[Path, Result, float]) -> None:
    _, result, seconds = stopped
    assert result == Result(130, "", "stopped; --resume goes on from new.safetensors.checkpoint\n")
    # A second is what is promised; a busy machine is given two.
    assert seconds < 2


def test_ctrl_c_claims_no_checkpoint_that_the_run_did_not_write(tmp_path: Path) -> None:
    place = tmp_path / "x.checkpoint"
    with pytest.raises(KeyboardInterrupt), stoppable(place):
        raise KeyboardInterrupt
    place.write_bytes(b"of a run before")
    with pytest.raises(StoppedError, match="stopped; nothing new was kept; --resume goes on"), stoppable(place):
        raise KeyboardInterrupt
    with pytest.raises(StoppedError, match="stopped; --resume goes on"), stoppable(place):
        os.utime(place, ns=(1, 1))
        raise KeyboardInterrupt


BAD: list[tuple[tuple[object, ...], tuple[str, ...]]] = [
    ((*OUT, "--fraction", 0), ("--fraction", "between 0 and 1")),
    ((*OUT, "--fraction", 1), ("--fraction", "between 0 and 1")),
    ((*OUT, "--fraction", "nan"), ("--fraction", "between 0 and 1")),
    ((*OUT, "--fraction", 0.2, "--count", 3), ("--count", "--fraction")),
    ((*OUT, "--count", 0), ("--count",)),
    ((*OUT, "--count", 100), ("--count", "leaves 0")),
    ((*OUT, "--count", 15, "--scope", "layer"), ("layer '4.weight'", "no survivors")),
    ((*OUT, "--scope", "row"), ("--scope", "global, layer")),
    ((*OUT, "--after", "pray"), ("--after", "rewind, finetune, reinitialise")),
    ((*OUT, "--rounds", 0), ("--rounds",)),
    ((*OUT, "--rewind-step", 12), ("--rewind-step", "before the end")),
    ((*OUT, "--learning-rate", 0), ("--learning-rate",)),
    ((*OUT, "--learning-rate", 1e30), ("step", "loss", "learning rate")),
    ((*OUT, "--hidden", "9,x"), ("--hidden",)),
    ((*OUT, "--seed", -1), ("--seed",)),
    ((*OUT, "--threads", 0), ("--threads",)),
    ((*OUT, "--device", "tpu"), ("--device", "cpu")),
    ((*OUT, "--device", "cuda:99"), ("--device", "cuda:99")),
    ((*OUT, "--data", "nan.npz"), ("nan.npz", "not finite")),
    ((*OUT, "--data", "misfit.npz"), ("misfit.npz", "labels")),
    ((*OUT, "--data", "nowhere"), ("nowhere", "no such file")),
    ((*OUT, "--data", "own:nothing"), ("own:nothing",)),
    ((*OUT, "--model", "own:narrow"), ("label 3", "2 outputs")),
    ((*OUT, "--model", "own:nothing"), ("own:nothing",)),
    ((*OUT, "--model", "own:net", "--input-shape", "5"), ("input shape",)),
    (("-o", "new.ticket"), ("--output", ".safetensors")),
    (("-o", "no/such.safetensors"), ("no/such.safetensors", "missing folder")),
]


@pytest.mark.parametrize(("words", "expected"), BAD, ids=lambda value: " ".join(map(str, value))[-40:])
def test_bad_input_is_one_line(words: tuple[object, ...], expected: tuple[str, ...], unchanged: Path) -> None:
    result = slth(*QUICK, *words, cwd=unchanged)
    printed = ("loading\n", "making\n")
    for line in printed:
        result = Result(result.status, result.out, result.err.replace(line, ""))
    assert_refused(result, *expected)


def test_checkpoints_of_another_run_and_truncated_ones_are_refused(stopped: tuple[Path, Result, float]) -> None:
    folder, words = stopped[0], (*QUICK, *OUT)
    checkpoint = folder / "new.safetensors.checkpoint"
    before = files_in(folder)
    assert_refused(slth(*LONG, *OUT, "--resume", "--seed", 5, cwd=folder), "checkpoint", "seed was 0, and is 5 now")
    assert_refused(slth(*words, "--resume", cwd=folder), "checkpoint of another run")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-100])
    assert_refused(slth(*LONG, *OUT, "--resume", cwd=folder), "checkpoint", "truncated")
    checkpoint.write_bytes(content)
    assert files_in(folder) == before
    assert slth(*words, cwd=folder).status == 0, "without --resume it starts anew"
    assert load_file(folder / "new.safetensors").keys() >= {"0.weight", "slth/mask/0.weight", "slth/rewind/0.weight"}


@pytest.mark.shared
def test_real_digits_are_learnt_by_few_weights(tmp_path: Path) -> None:
    data = SHARED / "data" / "mnist"
    if not data.is_dir():
        pytest.skip("no MNIST here")
    words = ("--data", data, "--hidden", 30, "--epochs", 1, "--rounds", 1, "--fraction", 0.8, "--json")
    facts = facts_of(slth("learn", "imp", *words, "-o", tmp_path / "a.safetensors", cwd=tmp_path))
    assert facts["accuracy_ticket"] > 90.0 and facts["density"] == pytest.approx(0.2, abs=1e-4)
