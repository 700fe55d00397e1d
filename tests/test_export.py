"""The way out of a ticket: what is written computes what the ticket's module does, or is not written."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

import slth
from command_line import slth as command
from conftest import KINDS
from slth.errors import ArgumentError, ExportError, OutputError
from slth.network.archive import read_archive
from slth.runtime import TwoBranches
from zoo import Case, cases, convnet, inputs, mlp
from zoo_dense import DENSE
from zoo_images import IMAGES
from zoo_sequences import SEQUENCES

SOME = ("signed", "kernels of a split", "copies")
"""Kinds of tickets of which every form is exported as a program, which takes a second or two."""
FOLDERS = (*SOME, "conv looks-linear", "pairs of depth three", "golden", "copies of pairs, deeper conv")
BRANCHING = {
    "two outputs": IMAGES["two_heads"],
    "a shared layer": DENSE["shared_layer"],
    "whole numbers, kept tensors": SEQUENCES["bert_like"],
    "recurrent": SEQUENCES["rnn_tanh"],
    "residual": IMAGES["resnet"],
}

AS_PROGRAMS = ("two outputs", "recurrent")


def equal(one: Any, other: Any, room: float = 1e-4) -> bool:
    """Whether outputs differ by no more than a part of the largest."""
    if isinstance(other, tuple):
        return all(equal(a, b, room) for a, b in zip(one, other, strict=True))
    return bool((one - other).abs().max() <= room * other.abs().max())


@pytest.fixture(scope="module")
def small() -> slth.Ticket:
    """A ticket with a layer of two branches."""
    return Case(mlp((3, 4, 2)), (3,), {"base_set_size": 6, "domain": (-1, 1)}).find()


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_needs_no_ticket(kind: str, tmp_path: Path) -> None:
    case = KINDS[kind]
    ticket = case.find()
    exported = ticket.export(tmp_path / "net")
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["config.json", "model.safetensors"]
    network, folded = slth.from_pretrained(tmp_path / "net"), ticket.module("folded")
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in folded.state_dict().items()
    }
    x = inputs(case.shape, 5, case.domain).to(getattr(torch, exported.dtype))
    assert torch.equal(network(x), folded(x)) and not network.training
    assert exported.any_batch and exported.relative_difference < 1e-6
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["target_digest"] == ticket.target_digest and config["slth_version"] == slth.__version__
    assert config["input_shape"] == list(case.shape) and exported.n_bytes > 0


@pytest.mark.parametrize("name", BRANCHING)
def test_networks_with_branches(name: str, tmp_path: Path) -> None:
    model, example = BRANCHING[name]()
    ticket = slth.find_ticket(model, example, base_set_size=6, initialisation="looks-linear")
    folded, x = ticket.module("folded"), torch.cat([example, example, example])[:3]
    ticket.export(tmp_path / "net")
    assert equal(slth.from_pretrained(tmp_path / "net")(x), folded(x), 1e-7)
    if name in AS_PROGRAMS:
        assert ticket.export(tmp_path / "net.pt2").any_batch
        assert equal(torch.export.load(tmp_path / "net.pt2").module()(x), folded(x))


@pytest.mark.parametrize("form", ["masked", "sparse", "folded"])
@pytest.mark.parametrize("kind", SOME)
def test_programs_of_every_form(kind: str, form: str, tmp_path: Path) -> None:
    """Of any batch, read by torch, without a pickle and without places on this machine in it."""
    case = KINDS[kind]
    ticket, path = case.find(), tmp_path / "net.pt2"
    exported = ticket.export(path, form)
    assert exported.any_batch and exported.form == form and exported.n_bytes == path.stat().st_size
    x = inputs(case.shape, 5, case.domain).float()
    for n in (1, 5):
        assert equal(torch.export.load(path).module()(x[:n]), ticket.module(form)(x[:n]))
    with zipfile.ZipFile(path) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert contents["data/sample_inputs/model.pt"] == b""
    assert not any(str(Path(slth.__file__).parent).encode() in content for content in contents.values())
    assert json.loads(contents["extra/slth.json"])["form"] == form


def test_a_folded_program_is_a_target_again(small: slth.Ticket, tmp_path: Path) -> None:
    small.export(tmp_path / "net.pt2")
    target = read_archive(tmp_path / "net.pt2")
    layers = sum(2 if isinstance(module, TwoBranches) else 0 for module in small.module().modules())
    assert len(target.layers) >= layers


@pytest.mark.parametrize("form", ["masked", "sparse", "folded"])
def test_onnx(form: str, small: slth.Ticket, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    exported = small.export(path, form)
    assert exported.checked_by == "ONNX Runtime" and exported.any_batch
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = inputs((3,), 5).float()
    for n in (1, 5):
        made = torch.from_numpy(session.run(["output"], {"input": x[:n].numpy()})[0])
        assert equal(made, small.module(form)(x[:n]))
    model = onnx.load(path)
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:] == [3]
    about = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "slth"))
    assert about["form"] == form and about["seed"] == small.spec.seed
    assert str(Path(slth.__file__).parent).encode() not in path.read_bytes()


def test_onnx_in_float64(tmp_path: Path) -> None:
    """Of which ONNX Runtime has no convolution."""
    pytest.importorskip("onnxscript")
    ticket = Case(convnet(), (4, 6, 6), {"base_set_size": 3}).find()
    exported = ticket.export(tmp_path / "net.onnx", dtype="float64")
    assert exported.checked_by == "onnx.reference" and exported.relative_difference < 1e-12


def test_both_types(small: slth.Ticket, tmp_path: Path) -> None:
    for name in ("float32", "float64"):
        exported = small.export(tmp_path / "net", dtype=name)
        network = slth.from_pretrained(tmp_path / "net")
        assert exported.dtype == name and {value.dtype for value in network.parameters()} == {getattr(torch, name)}


def changed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with another weight."""
    key = sorted(tensors)[0]
    return {**tensors, key: tensors[key] * 1.01}


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx", "net"])
def test_what_computes_something_else_is_not_written(
    name: str, small: slth.Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if torch's exporters, or our own reading, had lost a hundredth of a weight."""
    if name == "net.onnx":
        pytest.importorskip("onnxscript")
    ticket_module = slth.Ticket.module
    made: list[nn.Module] = []

    def module(ticket: slth.Ticket, *arguments: Any, **options: Any) -> nn.Module:
        made.append(ticket_module(ticket, *arguments, **options))
        return made[-1]

    compare = slth.export._compare

    def late(*arguments: Any) -> Any:
        with torch.no_grad():
            next(made[-1].parameters()).mul_(1.01)
        return compare(*arguments)

    monkeypatch.setattr(slth.Ticket, "module", module)
    monkeypatch.setattr(slth.export, "_compare", late)
    with pytest.raises(ExportError, match="differ by"):
        small.export(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_places_that_do_not_do(small: slth.Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"'\.txt'.*\.pt2"):
        small.export(tmp_path / "net.txt")
    with pytest.raises(OutputError, match="missing folder"):
        small.export(tmp_path / "none" / "net.pt2")
    with pytest.raises(OutputError, match="missing folder"):
        small.export(tmp_path / "none" / "net")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="a folder"):
        small.export(tmp_path / "file")
    for option, value in (("form", "dense"), ("dtype", "int8")):
        with pytest.raises(ArgumentError, match=option):
            small.export(tmp_path / "net.pt2", **{option: value})
    with pytest.raises(ArgumentError, match="folded"):
        small.export(tmp_path / "net", "masked")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArgumentError, match=r'pip install "slth\[onnx\]"'):
        small.export(tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_damaged_folders_are_refused(small: slth.Ticket, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    small.export(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    good = {path: path.read_bytes() for path in (config, weights)}

    def refused(words: str) -> None:
        with pytest.raises(ExportError, match=words) as error:
            slth.from_pretrained(folder)
        assert "\n" not in str(error.value)
        for path, content in good.items():
            path.write_bytes(content)

    weights.write_bytes(good[weights][:-1])
    refused("other bytes")
    config.write_bytes(good[config][:-9])
    refused("none of slth's")
    config.write_text("[]")
    refused("none of slth's")
    weights.unlink()
    refused("no file that can be read")
    plain = json.loads(good[config])

    def describe(**changes: Any) -> None:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        config.write_text(json.dumps({**plain, "weights_digest": digest, **changes}))

    save_file({**load_file(weights), "more": torch.zeros(1)}, weights)
    describe()
    refused("another network.*more")
    tensors = load_file(weights)
    save_file({key: tensors[key] for key in sorted(tensors)[1:]}, weights)
    describe()
    refused("another network|numbers for layers")
    large = copy.deepcopy(plain["graph"])
    large["nodes"][-1]["attributes"]["weight_shape"][0] = 10**9
    describe(graph=large)
    refused("numbers for layers")
    for changes in ({"graph": {}}, {"layers": {}}, {"dtype": "int8"}, {"layers": 3}):
        describe(**changes)
        refused("graph|fit together")


@settings(max_examples=10)
@given(data=st.data())
def test_any_damage_to_a_description_is_one_line(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("net")
    Case(mlp((2, 3, 1)), (2,), {"base_set_size": 3}).find().export(folder)
    config = folder / "config.json"
    content = bytearray(config.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(32, 126))
    config.write_bytes(content)
    try:
        assert isinstance(slth.from_pretrained(folder), nn.Module)
    except ExportError as error:
        assert "\n" not in str(error)


def test_the_command(small: slth.Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.save(tmp_path / "net.ticket")
    result = command("export", "net.ticket", "-o", "net.pt2", "--form", "sparse", cwd=tmp_path)
    assert result.status == 0 and "sparse, float32, batches of any size" in result.out and "checked" in result.out
    facts = json.loads(command("export", "net.ticket", "-o", "net", "--dtype", "float64", "--json", cwd=tmp_path).out)
    assert facts["dtype"] == "float64" and facts["path"] == "net" and facts["relative_difference"] < 1e-12
    assert command("export", "net.ticket", "-o", "again.pt2", "-q", cwd=tmp_path).out == ""
    for arguments, word in (((), "--output"), (("-o", "a.pb"), ".pt2"), (("-o", "a.pt2", "--form", "x"), "--form")):
        result = command("export", "net.ticket", *arguments, cwd=tmp_path)
        assert result.status == 2 and word in result.err
    monkeypatch.setitem(slth.export.LARGEST_RELATIVE, torch.float32, -1.0)
    result = command("export", "net.ticket", "-o", "worse.pt2", cwd=tmp_path)
    assert result.status == 1 and "differ by" in result.err and not (tmp_path / "worse.pt2").exists()


# What torch's own pruning tools make of the masked form


@settings(max_examples=8)
@given(cases())
def test_pruning_is_seen_and_made_permanent_by_torch(case: Case) -> None:
    """For every masked layer ``prune.remove`` leaves a plain one, and the same function."""
    network = case.find().module("masked", dtype=torch.float64)
    assert prune.is_pruned(network)
    x = inputs(case.shape, 3, case.domain)
    expected = network(x)
    names = [key.removesuffix("_orig") for key in network.state_dict() if key.endswith("_orig")]
    assert names
    for name in names:
        path, _, parameter = name.rpartition(".")
        layer = network.get_submodule(path)
        assert prune.is_pruned(layer)
        prune.remove(layer, parameter)
        assert isinstance(getattr(layer, parameter), nn.Parameter)
    assert not prune.is_pruned(network)
    assert set(network.state_dict()) == set(names)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("kind", SOME)
def test_the_masked_form_is_copied_loaded_and_pruned_on(kind: str) -> None:
    case = KINDS[kind]
    network = case.find().module("masked")
    x = inputs(case.shape, 3, case.domain).float()
    expected = network(x)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), expected)
    state = {key: value.clone() for key, value in twin.state_dict().items()}
    for value in twin.state_dict().values():
        value.zero_()
    assert not torch.equal(twin(x), expected) or not expected.abs().max()
    twin.load_state_dict(state)
    assert torch.equal(twin(x), expected)
    kept = {key: int(value.sum()) for key, value in twin.state_dict().items() if key.endswith("combine.weight_mask")}
    for key, n_kept in kept.items():
        layer = twin.get_submodule(key.removesuffix(".weight_mask"))
        prune.l1_unstructured(layer, "weight", amount=n_kept // 2)
        assert int(layer.weight_mask.sum()) == n_kept - n_kept // 2
    assert twin(x).isfinite().all()
