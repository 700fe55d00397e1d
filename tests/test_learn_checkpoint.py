"""Checkpoints: every bit comes back, nothing but a whole file of the same run is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slth.errors import CheckpointError, MismatchError
from slth.learn.checkpoint import Checkpoints, Saved, below, checkpoint_bytes, read_checkpoint, under

SETTINGS = {"method": "imp", "seed": 3, "learning_rate": 0.1, "exclude": ["a"], "nothing": None}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def some_state() -> Saved:
    tensors = {"a/weight": torch.tensor([[0.0, -0.0], [float("nan"), 1e-45]]), "rng/cpu": torch.get_rng_state()}
    return Saved(17, tensors, {"rounds": [{"accuracy": 0.1 + 0.2}]})


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@given(st.data())
def test_every_bit_comes_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tensors = {}
    for number in range(data.draw(st.integers(0, 4))):
        shape, dtype = data.draw(st.lists(st.integers(0, 3), max_size=3)), data.draw(st.sampled_from(DTYPES))
        n_bytes = torch.Size(shape).numel() * dtype.itemsize
        raw = torch.tensor([*data.draw(st.binary(min_size=n_bytes, max_size=n_bytes))], dtype=torch.uint8)
        tensors[f"part/{number}"] = (
            (raw % 2).bool().reshape(shape) if dtype is torch.bool else raw.view(dtype).reshape(shape)
        )
    path = tmp_path_factory.mktemp("state") / "a"
    path.write_bytes(checkpoint_bytes({"settings": {}, "step": 1, "seconds": 0.5, "facts": {}}, tensors))
    _, loaded = read_checkpoint(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].shape, loaded[name].dtype) == (tensor.shape, tensor.dtype)
        assert bits(loaded[name]) == bits(tensor)


def test_what_was_kept_is_loaded(tmp_path: Path) -> None:
    path, state = tmp_path / "a.checkpoint", some_state()
    Checkpoints(path, SETTINGS).save(state)
    loaded = Checkpoints(path, SETTINGS).load()
    assert loaded is not None and loaded.step == 17 and loaded.facts == state.facts
    assert {name: bits(one) for name, one in loaded.tensors.items()} == {
        name: bits(one) for name, one in state.tensors.items()
    }
    assert [*tmp_path.iterdir()] == [path]


def test_tensors_that_share_memory_or_are_views_are_kept(tmp_path: Path) -> None:
    path, one = tmp_path / "a.checkpoint", torch.arange(6.0).reshape(2, 3)
    Checkpoints(path, {}).save(Saved(1, {"a": one, "b": one, "c": one.T, "d": one[:, 1]}))
    loaded = Checkpoints(path, {}).load()
    assert loaded is not None
    for name, expected in {"a": one, "b": one, "c": one.T, "d": one[:, 1]}.items():
        assert torch.equal(loaded.tensors[name], expected)


def test_no_file_is_no_state_and_none_is_kept_nowhere(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", SETTINGS).load() is None
    nowhere = Checkpoints(None, SETTINGS, every_steps=1)
    assert not nowhere.offer(1, lambda: pytest.fail("asked for a state"))
    nowhere.save(some_state())
    nowhere.remove()
    assert not [*tmp_path.iterdir()]


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 4}, "seed was 3, and is 4 now"),
    ({"learning_rate": 0.01}, "learning_rate was 0.1, and is 0.01 now"),
    ({"exclude": []}, "exclude"),
    ({"method": "edge-popup"}, "method was imp"),
    ({"more": 1}, "more was None, and is 1"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_another_runs_checkpoint_is_refused_by_the_setting(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "a.checkpoint"
    Checkpoints(path, SETTINGS).save(some_state())
    with pytest.raises(MismatchError, match=words):
        Checkpoints(path, {**SETTINGS, **change}).load()


def test_a_setting_that_this_run_lacks_is_named(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "a", {**SETTINGS, "threads": 2}).save(some_state())
    with pytest.raises(MismatchError, match="threads was 2, and is None now"):
        Checkpoints(tmp_path / "a", SETTINGS).load()


def test_every_truncation_and_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    state = Saved(17, {"a": torch.arange(4.0), "b": torch.zeros(3, dtype=torch.uint8)}, {"rounds": []})
    Checkpoints(path, SETTINGS).save(state)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"a\.checkpoint"):
            read_checkpoint(path)
    start = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(path)


@given(st.binary(max_size=60))
def test_what_is_no_checkpoint_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("none") / "a"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a")
    save_file({"a": torch.zeros(2)}, tmp_path / "b", {"slth": '{"format": "slth sparse network", "version": 1}'})
    for name in "ab":
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / name)


def test_states_are_kept_when_they_are_due(tmp_path: Path) -> None:
    path = tmp_path / "a"
    keeper = Checkpoints(path, {}, every_steps=3)
    assert [step for step in range(1, 8) if keeper.offer(step, lambda step=step: Saved(step, {}))] == [3, 6]
    loaded = keeper.load()
    assert loaded is not None and loaded.step == 6
    slow = Checkpoints(path, {}, every_seconds=1e9)
    assert not slow.offer(1, lambda: pytest.fail("too early"))
    keeper.remove()
    assert not path.exists()


def test_seconds_add_up_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    first = Checkpoints(tmp_path / "a", {})
    clock[0] += 5.0
    first.save(Saved(1, {}))
    clock[0] += 1000.0
    second = Checkpoints(tmp_path / "a", {})
    second.load()
    clock[0] += 2.0
    assert second.seconds == 7.0


def test_parts_of_a_state_have_names() -> None:
    one = torch.zeros(1)
    assert under("a", below("a", {"b": one})) == {"b": one}
    assert under("a", {"ab/c": one}) == {}
