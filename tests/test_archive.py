"""Exported programs as files: the same target as the module, and nothing in a file is believed or run."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slth.errors import TargetError, UnsupportedError
from slth.network.archive import read_archive
from test_graph import LEAVES, _paths, replaced
from zoo import Case, cases, convnet, mlp


def export(model: nn.Module, shape: tuple[int, ...], path: Path, dynamic: bool = False) -> Path:
    """Write a program as its author would."""
    batch = {0: torch.export.Dim("batch")} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (torch.zeros(2, *shape),), dynamic_shapes=(batch,) if dynamic else None)
        torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small program."""
    return export(convnet(), (4, 6, 6), tmp_path_factory.mktemp("archive") / "net.pt2")


@settings(max_examples=12)
@given(cases())
def test_a_saved_program_is_the_traced_module(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    read = read_archive(export(case.model, case.shape, tmp_path_factory.mktemp("program") / "net.pt2"))
    target = case.target()
    assert read.digest() == target.digest()
    assert read.graph == target.graph
    for one, other in zip(read, target, strict=True):
        assert torch.equal(one.weight, other.weight) and one.name == other.name


def test_pooling_with_indices_is_the_traced_one(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.AdaptiveMaxPool1d(4), nn.AdaptiveMaxPool1d(2), nn.Linear(2, 1))
    read, target = read_archive(export(model, (2, 8), tmp_path / "net.pt2")), Case(model, (2, 8), {}).target()
    assert read.graph == target.graph and [node.name for node in read.graph] == ["0", "max_pool", "max_pool_", "3"]
    wrong = nn.Sequential(nn.Conv1d(2, 3, 1), nn.MaxPool1d(2, return_indices=True))
    with pytest.raises(UnsupportedError, match="indices of maxima"):
        read_archive(export(wrong, (2, 8), tmp_path / "net.pt2"))


def test_a_program_with_a_symbolic_batch_is_the_same(archive: Path, tmp_path: Path) -> None:
    dynamic = export(convnet(), (4, 6, 6), tmp_path / "net.pt2", dynamic=True)
    assert read_archive(dynamic).digest() == read_archive(archive).digest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = mlp((3, 2)).to(dtype)
    program = torch.export.export(model, (torch.zeros(1, 3, dtype=dtype),))
    torch.export.save(program, tmp_path / "net.pt2")
    (layer,) = read_archive(tmp_path / "net.pt2")
    assert layer.weight.dtype == dtype and torch.equal(layer.weight, model[0].weight)


def test_weights_that_are_views_are_read_by_their_strides(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    model.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4)[:, 1:3].T)
    (layer,) = read_archive(export(model, (3,), tmp_path / "net.pt2"))
    assert torch.equal(layer.weight, model.weight)


def rewrite(source: Path, path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive with entries changed or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def edit(source: Path, path: Path, suffix: str, change: Callable[[Any], Any]) -> Path:
    """A copy of an archive with one of its JSON entries changed."""

    def one(name: str, content: bytes) -> bytes:
        return json.dumps(change(json.loads(content))).encode() if name.endswith(suffix) else content

    return rewrite(source, path, one)


def test_an_archive_rewritten_without_changes_is_read(archive: Path, tmp_path: Path) -> None:
    assert read_archive(rewrite(archive, tmp_path / "a.pt2", lambda _, c: c)).digest() == read_archive(archive).digest()


def test_damaged_bytes_are_found_or_harmless(archive: Path, tmp_path: Path) -> None:
    content, digest = archive.read_bytes(), read_archive(archive).digest()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pt2"
    refused = 0
    for position in rng.choice(len(content), 250, replace=False).tolist():
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            assert read_archive(path).digest() == digest
        except TargetError as error:
            assert "damaged.pt2" in str(error) or "graph" in str(error)
            refused += 1
    assert refused > 100


def test_every_cut_is_found(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 30, len(content) - 1):
        (tmp_path / "cut.pt2").write_bytes(content[:length])
        with pytest.raises(TargetError, match=r"cut\.pt2"):
            read_archive(tmp_path / "cut.pt2")


@pytest.mark.parametrize("lost", ["models/model.json", "model_weights_config.json", "weight_0"])
def test_a_lost_entry_is_found(archive: Path, tmp_path: Path, lost: str) -> None:
    path = rewrite(archive, tmp_path / "lost.pt2", lambda name, c: None if name.endswith(lost) else c)
    with pytest.raises((TargetError, UnsupportedError)):
        read_archive(path)


def test_weights_that_are_short_of_bytes_are_found(archive: Path, tmp_path: Path) -> None:
    path = rewrite(archive, tmp_path / "short.pt2", lambda name, c: c[:-8] if name.endswith("weight_0") else c)
    with pytest.raises(TargetError):
        read_archive(path)


def test_a_tensor_stored_as_a_pickle_is_refused_unread(archive: Path, tmp_path: Path) -> None:
    def pickled(config: Any) -> Any:
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return config

    with pytest.raises(TargetError, match="pickle"):
        read_archive(edit(archive, tmp_path / "p.pt2", "model_weights_config.json", pickled))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 2**40}, {"as_int": 2**40}]),
        ("sizes", [{"as_int": -1}, {"as_int": 3}]),
        ("sizes", []),
        ("sizes", None),
        ("strides", [{"as_int": 10**9}, {"as_int": 1}]),
        ("strides", [{"as_int": -1}, {"as_int": 1}]),
        ("storage_offset", {"as_int": 10**9}),
        ("storage_offset", {"as_int": -1}),
        ("dtype", 99),
        ("dtype", 9),
        ("dtype", "float"),
    ],
)
def test_a_tensor_with_hostile_geometry_is_refused(archive: Path, tmp_path: Path, key: str, value: Any) -> None:
    def hostile(config: Any) -> Any:
        next(iter(config["config"].values()))["tensor_meta"][key] = value
        return config

    with pytest.raises(TargetError):
        read_archive(edit(archive, tmp_path / "h.pt2", "model_weights_config.json", hostile))


MODEL_PATHS: list[tuple[Any, ...]] = []


@settings(max_examples=120)
@given(st.data(), LEAVES)
def test_any_single_change_of_the_program_is_read_or_refused(archive: Path, data: st.DataObject, leaf: Any) -> None:
    with zipfile.ZipFile(archive) as content:
        name = next(name for name in content.namelist() if name.endswith("models/model.json"))
        model = json.loads(content.read(name))
    inner = {"graph_module": model["graph_module"]}
    if not MODEL_PATHS:
        MODEL_PATHS.extend(path for path in _paths(inner) if not {"metadata", "module_call_graph"} & set(path))
    path = data.draw(st.sampled_from(MODEL_PATHS))
    changed = replaced(inner, path, leaf)
    file = archive.parent / "changed.pt2"
    edit(
        archive, file, "models/model.json", lambda model: {**model, **changed} if isinstance(changed, dict) else changed
    )
    try:
        target = read_archive(file)
    except TargetError as error:
        assert "\n" not in str(error)
    else:
        assert target.n_weights > 0
