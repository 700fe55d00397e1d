"""Bad input: one line that says what is wrong, exit status 2, and nothing left behind."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import slth as package
from command_line import Witness, assert_refused, files_in, labelled_data, make_folder, program, slth, small_net

LONG_NAME = "n" * 300
NO_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a sound ticket and every kind of bad file."""
    home = make_folder(tmp_path_factory.mktemp("bad"))
    package.find_ticket(small_net(), base_set_size=8, domain=(0, 1)).save(home / "net.ticket")
    package.find_ticket(nn.Linear(5, 2), base_set_size=4).save(home / "other.ticket")
    _bad_targets(home)
    _bad_programs(home)
    _bad_data(home)
    _bad_tickets(home)
    (home / "taken").mkdir()
    (home / "folder.safetensors").mkdir()
    (home / "plain").touch()
    return home


def _halve(source: Path, destination: Path) -> None:
    destination.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def _bad_targets(home: Path) -> None:
    state = small_net().state_dict()
    for suffix in ("safetensors", "pt"):
        _halve(home / f"net.{suffix}", home / f"truncated.{suffix}")
        (home / f"junk.{suffix}").write_bytes(b"this is not a network\n" * 40)
    for suffix in ("safetensors", "pt", "pt2", "ticket", "npz"):
        (home / f"empty.{suffix}").touch()
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        spoiled = {key: tensor.clone() for key, tensor in state.items()}
        spoiled["2.weight"][3, 4] = value
        save_file(spoiled, home / f"{name}.safetensors")
    files = {
        "conv": {"conv1.weight": torch.ones(2, 1, 3, 3)},
        "scalar": {"0.weight": torch.ones(3, 4), "steps": torch.tensor(7)},
        "unchained": {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(5, 7)},
        "whole_numbers": {key: (10 * tensor).int() for key, tensor in state.items()},
        "no_tensors": {},
        "only_bias": {"0.bias": torch.ones(3)},
        "long_bias": {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(4)},
        "half_a_net": {key: tensor for key, tensor in state.items() if key[0] != "4"},
        "other_shapes": {key: tensor.reshape(*tensor.shape[::-1]) for key, tensor in state.items()},
    }
    for name, tensors in files.items():
        save_file(tensors, home / f"{name}.safetensors")
    torch.save([torch.ones(3, 3)], home / "list.pt")
    torch.save({"epoch": 3, "history": [1.0]}, home / "no_state.pt")
    torch.save({"0.weight": torch.eye(3).to_sparse()}, home / "sparse.pt")
    torch.save(small_net(), home / "module.pt")
    (home / "net.onnx").touch()
    (home / "net.tflite").touch()


def _bad_programs(home: Path) -> None:
    net = small_net()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 12),)), home / "net.pt2")
    _halve(home / "net.pt2", home / "truncated.pt2")
    shutil.copy(home / "net.pt", home / "state_dict.pt2")
    damaged = bytearray((home / "net.pt2").read_bytes())
    damaged[damaged.index(net[0].weight.detach().numpy().tobytes()[:16])] ^= 1
    (home / "damaged.pt2").write_bytes(damaged)
    _rewrite(home, "no_graph.pt2", lambda name, content: None if name.endswith("model.json") else content)
    _rewrite(home, "not_json.pt2", lambda name, content: b"{" if name.endswith("model.json") else content)

    def stretch(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        config = json.loads(content)
        config["config"]["0.weight"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}, {"as_int": 12}]
        return json.dumps(config).encode()

    _rewrite(home, "out_of_bounds.pt2", stretch)


def _rewrite(home: Path, name: str, change: Callable[[str, bytes], bytes | None]) -> None:
    with zipfile.ZipFile(home / "net.pt2") as source, zipfile.ZipFile(home / name, "w") as destination:
        for entry in source.namelist():
            if (content := change(entry, source.read(entry))) is not None:
                destination.writestr(entry, content)


def _idx(path: Path, values: Any) -> None:
    array = np.asarray(values, dtype=np.uint8)
    raw = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def _bad_data(home: Path) -> None:
    x, y = labelled_data()
    arrays: dict[str, dict[str, Any]] = {
        "eleven": {"x": x[:, :11], "y": y},
        "few_labels": {"x": x, "y": y[:40]},
        "no_x": {"images": x, "labels": y},
        "no_inputs": {"x": x[:0], "y": y[:0]},
        "flat": {"x": x[:, 0], "y": y},
        "nan_inputs": {"x": np.where(x > 0.9, np.nan, x), "y": y},
        "complex": {"x": x + 1j, "y": y},
        "words": {"x": x, "y": np.array(["cat"] * 50)},
        "nan_labels": {"x": x, "y": np.full(50, np.nan)},
        "negative_labels": {"x": x, "y": y - 1},
        "fractions": {"x": x, "y": y + 0.5},
        "many_classes": {"x": x, "y": y + 100},
        "cube_labels": {"x": x, "y": np.zeros((50, 2, 2))},
        "unlabelled": {"x": x},
        "three": {"x": x[:3], "y": y[:3]},
    }
    for name, content in arrays.items():
        np.savez(home / f"{name}.npz", **content)
    np.save(home / "array.npy", x)
    _halve(home / "data.npz", home / "truncated.npz")
    images, labels = (x * 255).reshape(50, 3, 4), y
    for name, suffix in (
        ("idx_short", ""),
        ("idx_cut", ""),
        ("idx_cut_gz", ".gz"),
        ("idx_magic", ""),
        ("idx_empty", ""),
    ):
        _idx(home / name / f"t10k-images-idx3-ubyte{suffix}", images)
        _idx(home / name / f"t10k-labels-idx1-ubyte{suffix}", labels[:40] if name == "idx_short" else labels)
    for name, suffix in (("idx_cut", ""), ("idx_cut_gz", ".gz")):
        _halve(home / name / f"t10k-images-idx3-ubyte{suffix}", home / name / f"t10k-images-idx3-ubyte{suffix}")
    path = home / "idx_magic" / "t10k-images-idx3-ubyte"
    path.write_bytes(b"\x89PNG" + path.read_bytes()[4:])
    (home / "idx_empty" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    _idx(home / "idx_unlabelled" / "t10k-images-idx3-ubyte", images)
    _idx(home / "idx_train_only" / "train-images-idx3-ubyte", images)


def _bad_tickets(home: Path) -> None:
    content = (home / "net.ticket").read_bytes()
    _halve(home / "net.ticket", home / "truncated.ticket")
    (home / "longer.ticket").write_bytes(content + b"\0")
    shutil.copy(home / "net.safetensors", home / "weights.ticket")
    header = 8 + int.from_bytes(content[:8], "little")
    for name, position in (("first", 0), ("header", 60), ("mask", header + 3), ("last", len(content) - 1)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (home / f"flipped_{name}.ticket").write_bytes(flipped)


@pytest.fixture
def unchanged(folder: Path) -> Iterator[Path]:
    """The user's folder, which the test must leave as it is."""
    before = files_in(folder)
    yield folder
    assert files_in(folder) == before


FIND = ("find", "net.pt", "-o", "new.ticket")
VERIFY = ("verify", "net.ticket", "--target", "net.pt")

OPTIONS = [
    (("find", "net.pt"), ("--output", "Missing")),
    (("find", "-o", "new.ticket"), ("target", "--model")),
    ((*FIND, "--model", "zoo_of_nets:small"), ("target", "both net.pt and --model zoo_of_nets:small")),
    ((*FIND, "--weights", "net.safetensors"), ("--weights", "net.safetensors", "--model")),
    (("find", "--weights", "net.pt", "-o", "new.ticket"), ("--weights", "net.pt", "--model")),
    ((*FIND, "--input-shape", "12"), ("--input-shape", "--model")),
    ((*FIND, "--bogus"), ("--bogus", "slth find --help")),
    ((*FIND, "extra"), ("extra", "slth find --help")),
    ((*FIND, "--base-set-size", "abc"), ("--base-set-size", "'abc'", "integer")),
    ((*FIND, "--base-set-size=7.5"), ("--base-set-size", "'7.5'")),
    ((*FIND, "--base-set-size", "0"), ("--base-set-size", "got 0", "1 to 40")),
    ((*FIND, "--base-set-size", "-3"), ("--base-set-size", "got -3")),
    ((*FIND, "--base-set-size", "41"), ("--base-set-size", "got 41", "1 to 40")),
    ((*FIND, "--seed", "-1"), ("--seed", "got -1", "2^64")),
    ((*FIND, "--seed", str(2**64)), ("--seed", str(2**64))),
    ((*FIND, "--seed", "one"), ("--seed", "'one'")),
    ((*FIND, "--threads", "0"), ("--threads", "got 0", "at least 1")),
    ((*FIND, "--threads", "-2"), ("--threads", "got -2")),
    ((*FIND, "--threads", "many"), ("--threads", "'many'")),
    *(((*FIND, "--tolerance", value), ("--tolerance", "above 0")) for value in ("0", "-0.1", "nan", "inf", "-inf")),
    ((*FIND, "--tolerance", "small"), ("--tolerance", "'small'", "number")),
    *(
        ((*FIND, "--domain", value), ("--domain", f"'{value}'", "try --domain 0,1"))
        for value in ("1,0", "a,b", "0", "nan,1", "0,nan", "0,1,2", "0,inf", "", ",", "0;1")
    ),
    ((*FIND, "--objective", "worst"), ("--objective", "worst", "best or sparsest")),
    ((*FIND, "--objective", "sparsest"), ("--objective", "tolerance")),
    ((*FIND, "--construction", "triples"), ("--construction", "pairs", "two-for-one")),
    ((*FIND, "--initialisation", "normal"), ("--initialisation", "normal", "looks-linear")),
    ((*FIND, "--activation", "swish"), ("--activation", "swish", "relu", "tanh")),
    ((*FIND, "--activation", "leaky_relu:a"), ("--activation", "leaky_relu:SLOPE")),
    ((*FIND, "--max-missed", "3"), ("--max-missed", "--tolerance")),
    (("verify", "net.ticket"), ("target", "--model")),
    (("verify", "--target", "net.pt"), ("TICKET",)),
    (("verify", "net.ticket", "net.pt"), ("net.pt", "slth verify --help")),
    ((*VERIFY, "--model", "zoo_of_nets:small"), ("target", "both")),
    ((*VERIFY, "--eps", "0.1"), ("--eps", "--domain 0,1")),
    *(((*VERIFY, "--domain", "0,1", "--eps", value), ("--eps", "above 0")) for value in ("0", "-1", "nan", "inf")),
    ((*VERIFY, "--domain", "1,0"), ("--domain", "'1,0'")),
    ((*VERIFY, "--threads", "0"), ("--threads",)),
    (("show",), ("TICKET",)),
    (("show", "net.ticket", "other.ticket"), ("other.ticket",)),
    (("train", "-o", "new.safetensors", "--epochs", "0"), ("--epochs", "got 0")),
    (("train", "-o", "new.safetensors", "--hidden", "8,x"), ("--hidden", "8,x")),
    (("train", "-o", "new.safetensors", "--hidden", "8,0"), ("--hidden", "8,0", "positive")),
    (("train", "-o", "new.safetensors", "--seed", "-1"), ("--seed", "got -1")),
    (("train", "-o", "new.safetensors", "--seed", str(2**64)), ("--seed",)),
    (("train", "-o", "new.pt"), ("--output", "new.pt", ".safetensors")),
    (("demo", "-o", "new", "--seed", "-1"), ("--seed", "got -1")),
    (("tickets",), ("tickets", "slth --help")),
    (("--bogus",), ("--bogus",)),
]


@pytest.mark.parametrize(("arguments", "words"), OPTIONS, ids=lambda value: " ".join(value)[:60])
def test_misused_option_is_refused_by_name(arguments: tuple[str, ...], words: tuple[str, ...], unchanged: Path) -> None:
    assert_refused(slth(*arguments, cwd=unchanged), *words)


TARGETS = [
    ("missing.safetensors", "no such file"),
    ("missing.pt", "no such file"),
    ("missing.pt2", "no such file"),
    ("plain/net.pt", "no such file"),
    (f"{LONG_NAME}.pt", "File name too long"),
    ("taken", "not a file"),
    ("net.onnx", "not readable ONNX", "a complete .onnx file"),
    ("net.tflite", ".tflite", ".safetensors"),
    ("plain", ".safetensors"),
    ("empty.safetensors", "damaged"),
    ("empty.pt", "an empty file"),
    ("empty.pt2", "readable .pt2"),
    ("truncated.safetensors", "damaged"),
    ("truncated.pt", "damaged or truncated"),
    ("truncated.pt2", "readable .pt2"),
    ("junk.safetensors", "damaged"),
    ("junk.pt", "torch.save did not write"),
    ("state_dict.pt2", "models/model.json"),
    ("damaged.pt2", "damaged entry"),
    ("no_graph.pt2", "models/model.json"),
    ("not_json.pt2", "readable .pt2"),
    ("out_of_bounds.pt2", "readable .pt2"),
    ("module.pt", "a whole module", "nothing of it was executed", "state_dict()"),
    ("list.pt", "list", "state_dict()"),
    ("no_state.pt", "'epoch', 'history'", "state_dict()"),
    ("sparse.pt", "0.weight", "sparse"),
    ("nan.safetensors", "layer '2', weight", "nan at index (3, 4)"),
    ("inf.safetensors", "layer '2', weight", "inf at index (3, 4)"),
    ("conv.safetensors", "conv1.weight", "(2, 1, 3, 3)", "--model"),
    ("scalar.safetensors", "'steps'"),
    ("unchained.safetensors", "a.weight (3, 4)", "b.weight (5, 7)"),
    ("whole_numbers.safetensors", "layer '0'", "int32"),
    ("no_tensors.safetensors", "without 2-D weights"),
    ("only_bias.safetensors", "0.bias"),
    ("long_bias.safetensors", "0.weight", "4 entries"),
]


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, *words in TARGETS], ids=lambda v: str(v)[:40])
def test_bad_target_file_is_refused(name: str, words: list[str], unchanged: Path) -> None:
    found = slth("find", name, "-o", "new.ticket", cwd=unchanged)
    assert_refused(found, *words)
    if "layer '" not in found.err:
        assert name in found.err
    assert slth("verify", "net.ticket", "--target", name, cwd=unchanged) == found


def _refuses_and_executes_nothing(folder: Path, witness: Path, *arguments: str) -> None:
    result = slth(*arguments, cwd=folder)
    assert not witness.exists()
    assert_refused(result)


@pytest.mark.parametrize("protocol", [0, 2, 4, "zip"])
@pytest.mark.parametrize("option", ["target", "weights", "verify"])
def test_code_in_a_pickle_is_never_executed(protocol: int | str, option: str, folder: Path, tmp_path: Path) -> None:
    import pickle

    make_folder(tmp_path / "home")
    witness, path = tmp_path / "executed", tmp_path / "home" / "evil.pt"
    state = {"0.weight": torch.ones(2, 2), "0.bias": Witness(witness)}
    if protocol == "zip":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=int(protocol)))
    shutil.copy(folder / "net.ticket", tmp_path / "home")
    arguments = {
        "target": ("find", "evil.pt", "-o", "new.ticket"),
        "weights": ("find", "--model", "zoo_of_nets:small", "--weights", "evil.pt", "-o", "new.ticket"),
        "verify": ("verify", "net.ticket", "--target", "evil.pt"),
    }[option]
    before = files_in(tmp_path)
    _refuses_and_executes_nothing(tmp_path / "home", witness, *arguments)
    assert files_in(tmp_path) == before
    # The witness works: the same bytes do run code when they are unpickled.
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    assert witness.exists()


def test_code_in_a_program_archive_is_never_executed(folder: Path, tmp_path: Path) -> None:
    import io
    import pickle

    witness = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save(Witness(witness), buffer)
    home = make_folder(tmp_path / "home")
    shutil.copy(folder / "net.pt2", home / "net.pt2")
    # Example inputs are a pickle in every archive; they are not read.
    _rewrite(home, "inputs.pt2", lambda name, raw: buffer.getvalue() if "sample_inputs" in name else raw)
    assert slth("find", "inputs.pt2", "-o", "new.ticket", "--base-set-size", 4, "-q", cwd=home).status == 0
    assert not witness.exists()

    def pickled_weight(name: str, raw: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(raw)
            config["config"]["2.weight"]["use_pickle"] = True
            return json.dumps(config).encode()
        return pickle.dumps(Witness(witness)) if name.endswith("weight_2") else raw

    _rewrite(home, "weight.pt2", pickled_weight)
    result = slth("find", "weight.pt2", "-o", "other.ticket", cwd=home)
    assert_refused(result, "weight.pt2", "2.weight", "pickle")
    assert not witness.exists() and not (home / "other.ticket").exists()


@pytest.mark.parametrize("key", ["x", "y"])
def test_code_in_a_data_file_is_never_executed(key: str, folder: Path, tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    objects = np.empty(50, dtype=object)
    objects[:] = [Witness(witness)] * 50
    x, y = labelled_data()
    np.savez(tmp_path / "evil.npz", **({"x": x, "y": y} | {key: objects}))
    _refuses_and_executes_nothing(folder, witness, *VERIFY, "--data", str(tmp_path / "evil.npz"))
    _refuses_and_executes_nothing(
        folder, witness, "train", "-o", str(tmp_path / "n.safetensors"), "--data", str(tmp_path / "evil.npz")
    )
    assert not (tmp_path / "n.safetensors").exists()
    with contextlib.suppress(Exception):
        np.load(tmp_path / "evil.npz", allow_pickle=True)[key]
    assert witness.exists()


FOUND = (
    *("batch_norm", "batch_norm_2d", "layer_norm", "mish", "selu", "softmax", "log_softmax", "transposed", "embedding"),
    *("lstm", "gru", "residual", "concatenated", "multiplied", "product", "shared"),
)


@pytest.mark.parametrize("name", FOUND)
def test_layers_of_every_kind_are_found(name: str, folder: Path, tmp_path: Path) -> None:
    words = ("--model", f"zoo_of_nets:{name}", "--base-set-size", 4, "-o", tmp_path / "net.ticket")
    found = slth("find", *words, cwd=folder)
    assert (found.status, found.err) == (0, "") and found.out.startswith("100 % of "), found


UNSUPPORTED = [
    ("noise", "layer 'randn_like'", "operation randn_like", "the same each time"),
    ("dropout_on", "dropout that is always on", "training=self.training"),
    ("batch_statistics", "layer '1' (BatchNorm1d)", "statistics of the batch", "track_running_stats=True"),
    ("batch_mean", "depend on the others of its batch", "a function of one input"),
    ("chosen_rows", "by the values of the input"),
    ("strange", "operation erfinv", "slth.activations.register"),
    ("total", "without the batch axis"),
    ("spectrum", "complex numbers", "torch.view_as_real"),
    ("complex_weights", "parameter 'gain'", "complex64"),
    ("no_numbers", "parameter '0.weight'", "meta device", "loading the weights"),
    ("scripted", "a scripted module"),
    ("packed", "cannot trace"),
]


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, *words in UNSUPPORTED], ids=lambda v: str(v)[:20])
def test_unsupported_layer_is_refused_by_name(name: str, words: list[str], unchanged: Path) -> None:
    assert_refused(slth("find", "--model", f"zoo_of_nets:{name}", "-o", "new.ticket", cwd=unchanged), *words)


@pytest.mark.filterwarnings("ignore:The tensor attributes")
@pytest.mark.parametrize("name", ["noise", "dropout_on", "batch_statistics", "batch_mean", "strange", "spectrum"])
def test_unsupported_layer_of_a_program_is_refused_with_the_same_words(name: str, folder: Path, tmp_path: Path) -> None:
    with contextlib.chdir(folder):
        import zoo_of_nets  # type: ignore[import-not-found]

        model, example = getattr(zoo_of_nets, name)()
    torch.export.save(torch.export.export(model.eval(), (example,)), tmp_path / "net.pt2")
    before = files_in(tmp_path)
    from_file = slth("find", "net.pt2", "-o", "new.ticket", cwd=tmp_path)
    assert from_file == slth("find", "--model", f"zoo_of_nets:{name}", "-o", "new.ticket", cwd=folder)
    assert_refused(from_file)
    assert files_in(tmp_path) == before


FACTORIES = [
    ("zoo_of_nets", "package.module:function"),
    ("zoo_of_nets:", "package.module:function"),
    (":small", "package.module:function"),
    ("no_such_module:small", "no_such_module"),
    ("zoo_of_nets:no_such_function", "no_such_function"),
    ("nets_of_zoo.py:small", "nets_of_zoo.py", "no such file"),
    ("zoo_of_nets:raises", "RuntimeError: no such checkpoint"),
    ("zoo_of_nets:leaves", "SystemExit"),
    ("zoo_of_nets:number", "int"),
    ("zoo_of_nets:nothing", "NoneType"),
    ("zoo_of_nets:with_argument", "argument: 'x'"),
    ("zoo_of_nets:wrong_pair", "(1, 13)", "1x13 and 12x8"),
    ("zoo_of_nets:pair_without_batch", "(12,)", "unsqueeze(0)"),
    ("zoo_of_nets:two_inputs", "'y'", "a constant of the target"),
    ("zoo_of_nets:uneven", "another row for every example"),
    ("zoo_of_nets:branch", "torch.export", "a branch or loop that goes by the values of the input"),
    ("zoo_of_nets:only_relu", "without a weight layer"),
    ("zoo_of_nets:not_finite", "layer '2', bias", "-inf at index (3,)"),
]


@pytest.mark.parametrize(
    ("reference", "words"), [(name, words) for name, *words in FACTORIES], ids=lambda v: str(v)[:30]
)
def test_bad_factory_is_refused(reference: str, words: list[str], unchanged: Path) -> None:
    assert_refused(slth("find", "--model", reference, "-o", "new.ticket", cwd=unchanged), *words)


@pytest.mark.parametrize(("shape", "word"), [("13", "(1, 13)"), ("a", "--input-shape"), ("0", "--input-shape")])
def test_input_shape_that_does_not_fit_is_refused(shape: str, word: str, unchanged: Path) -> None:
    arguments = ("find", "--model", "zoo_of_nets:small", "--input-shape", shape, "-o", "new.ticket")
    assert_refused(slth(*arguments, cwd=unchanged), word)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("missing.pt", ["no such file"]),
        ("truncated.pt", ["truncated"]),
        ("net.pt2", ["an exported program"]),
        ("half_a_net.safetensors", ["missing 4.bias and 1 more"]),
        ("unchained.safetensors", ["missing 0.bias and 5 more", "unexpected a.weight and 1 more"]),
        ("other_shapes.safetensors", ["0.weight of shape (12, 8) instead of (8, 12)"]),
    ],
)
def test_weights_that_do_not_fit_the_model_are_refused(weights: str, words: list[str], unchanged: Path) -> None:
    arguments = ("find", "--model", "zoo_of_nets:small", "--weights", weights, "-o", "new.ticket")
    assert_refused(slth(*arguments, cwd=unchanged), weights, *words)


def test_base_set_that_cannot_reach_the_tolerance_is_refused_with_one_that_can(unchanged: Path) -> None:
    result = slth(*FIND, "--base-set-size", 4, "--tolerance", "0.001", cwd=unchanged)
    assert_refused(result, "layer '0'", "base sets of 4", "0.001", "a base set of ")
    enough = int(result.err.partition("a base set of ")[2].split()[0].rstrip(","))
    assert 10 < enough <= 40
    hopeless = slth(*FIND, "--base-set-size", 4, "--tolerance", "1e-30", cwd=unchanged)
    assert_refused(hopeless, "layer '0'", "a larger tolerance")


PLACES = [
    ("no/such/new.ticket", "a missing folder no/such", "mkdir -p no/such"),
    ("plain/new.ticket", "plain/new.ticket"),
    ("taken", "not a plain file"),
    (".", "not a plain file"),
    ("/dev/null", "not a plain file"),
    ("/dev/full", "not a plain file"),
    ("/dev/stdout", "not a plain file"),
    ("/proc/new.ticket", "/proc"),
    (LONG_NAME, "too long"),
]


@pytest.mark.parametrize(("place", "words"), [(name, words) for name, *words in PLACES], ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("command", ["find", "show"])
def test_place_that_cannot_be_written_is_refused_before_any_work(
    command: str, place: str, words: list[str], unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for work in ("slth.pipeline.find_ticket", "slth.artifact.load"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("work was done"))
    kinds = {name: os.lstat(name).st_mode for name in ("/dev/null", "/dev/full", "/dev/stdout")}
    arguments = ("find", "net.pt", "-o", place) if command == "find" else ("show", "net.ticket", "--html", place)
    assert_refused(slth(*arguments, cwd=unchanged), *words)
    assert {name: os.lstat(name).st_mode for name in kinds} == kinds


@pytest.mark.parametrize("place", ["no/such/n.safetensors", "plain/n.safetensors", "folder.safetensors"])
def test_place_that_cannot_be_written_is_refused_before_training(
    place: str, unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slth.learn.perceptron.train_perceptron", lambda *_, **__: pytest.fail("work was done"))
    assert_refused(slth("train", "-o", place, cwd=unchanged), place)


@pytest.mark.parametrize(
    "arguments",
    [
        ("find", "net.pt", "-o", "net.pt"),
        ("find", "net.pt", "-o", "./taken/../net.pt"),
        ("find", "--model", "zoo_of_nets:small", "--weights", "net.safetensors", "-o", "net.safetensors"),
        ("show", "net.ticket", "--html", "net.ticket"),
    ],
)
def test_result_never_replaces_what_the_command_reads(arguments: tuple[str, ...], unchanged: Path) -> None:
    assert_refused(slth(*arguments, cwd=unchanged), "the file that the command reads")


@contextlib.contextmanager
def _full_disk(room: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("find", "net.pt", "--base-set-size", "12", "-o"), "new.ticket"),
        (("show", "net.ticket", "--html"), "new.html"),
        (("train", "--epochs", "1", "--hidden", "20", "-o"), "new.safetensors"),
    ],
)
def test_full_disk_is_reported_and_leaves_nothing(arguments: tuple[str, ...], name: str, unchanged: Path) -> None:
    with _full_disk(1024):
        result = slth(*arguments, name, cwd=unchanged)
    assert_refused(result, name, "File too large")


def test_full_disk_leaves_an_older_ticket_as_it_was(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "net.ticket", tmp_path / "net.ticket")
    before = files_in(tmp_path)
    with _full_disk(1024):
        target = folder / "net.pt"
        result = slth("find", target, "-o", "net.ticket", "--base-set-size", 12, cwd=tmp_path)
    assert_refused(result, "net.ticket")
    assert files_in(tmp_path) == before


@pytest.fixture
def without_override() -> tuple[str, ...]:
    """What to put before a program so that permissions hold for it, even if the tests are run by root."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("setpriv") or subprocess.run([*NO_OVERRIDE, "true"], check=False).returncode:
        pytest.skip("root, and no setpriv to drop its privileges")
    return NO_OVERRIDE


def test_files_and_folders_without_permission_are_refused(
    folder: Path, tmp_path: Path, without_override: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("net.pt", "net.ticket"):
        shutil.copy(folder / name, home)
    for name in ("closed", "read_only"):
        (home / name).mkdir()
    shutil.copy(folder / "net.pt", home / "secret.pt")
    (home / "secret.pt").chmod(0)
    (home / "closed").chmod(0)
    (home / "read_only").chmod(0o555)
    try:
        for arguments in (
            ("find", "secret.pt", "-o", "new.ticket"),
            ("find", "closed/net.pt", "-o", "new.ticket"),
            ("find", "net.pt", "-o", "closed/new.ticket"),
            ("find", "net.pt", "-o", "read_only/new.ticket"),
            (*VERIFY, "--data", "closed"),
            ("demo", "-o", "read_only/demo"),
        ):
            result = program(*arguments, cwd=home, prefix=without_override)
            assert_refused(result)
            assert any(name in result.err for name in ("secret.pt", "closed", "read_only")), result.err
    finally:
        (home / "closed").chmod(0o755)
    assert sorted(files_in(home)) == ["closed", "net.pt", "net.ticket", "read_only", "secret.pt"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "missing.ticket",
            "empty.ticket",
            "truncated.ticket",
            "longer.ticket",
            "weights.ticket",
            "net.pt",
            "data.npz",
        ),
        *("flipped_first.ticket", "flipped_header.ticket", "flipped_mask.ticket", "flipped_last.ticket"),
    ],
)
def test_bad_ticket_is_refused_by_verify_and_show(name: str, unchanged: Path) -> None:
    verified = slth("verify", name, "--target", "net.pt", cwd=unchanged)
    assert_refused(verified, name)
    assert slth("show", name, "--html", "new.html", cwd=unchanged) == verified


def test_ticket_for_another_target_is_refused(unchanged: Path) -> None:
    assert_refused(slth("verify", "other.ticket", "--target", "net.pt", cwd=unchanged), "target", "the ticket's")
    assert_refused(slth("verify", "net.ticket", "--target", "half_a_net.safetensors", cwd=unchanged), "target")


def test_ticket_for_the_same_shapes_with_one_other_weight_is_refused(folder: Path, tmp_path: Path) -> None:
    state = small_net().state_dict()
    state["4.bias"][0] = torch.nextafter(state["4.bias"][0], torch.tensor(9.0))
    save_file(state, tmp_path / "near.safetensors")
    result = slth("verify", folder / "net.ticket", "--target", "near.safetensors", cwd=tmp_path)
    assert_refused(result, "target", "digest")


DATA = [
    ("missing.npz", "no such file or folder"),
    (f"{LONG_NAME}.npz", "File name too long"),
    ("empty.npz", "an empty file"),
    ("truncated.npz", "truncated"),
    ("array.npy", ".npz"),
    ("net.safetensors", ".npz"),
    ("net.pt", "x"),
    ("eleven.npz", "(11,)", "(12,)"),
    ("few_labels.npz", "(40,)", "50 inputs"),
    ("no_x.npz", "images", "labels"),
    ("no_inputs.npz", "(0, 12)"),
    ("flat.npz", "(50,)"),
    ("nan_inputs.npz", "not finite"),
    ("complex.npz", "complex"),
    ("words.npz", "labels", "<U3"),
    ("nan_labels.npz", "the label nan at index 0"),
    ("negative_labels.npz", "the label -1 at index"),
    ("fractions.npz", ".5 at index 0"),
    ("many_classes.npz", "the label 10", "4 outputs"),
    ("cube_labels.npz", "(50, 2, 2)"),
    ("taken", "t10k-images"),
    ("idx_short", "(40,)"),
    ("idx_cut", "t10k-images-idx3-ubyte", "damaged"),
    ("idx_cut_gz", "t10k-images-idx3-ubyte.gz", "damaged"),
    ("idx_magic", "t10k-images-idx3-ubyte", "wrong magic number"),
    ("idx_empty", "t10k-labels-idx1-ubyte", "damaged"),
    ("idx_unlabelled", "t10k-labels"),
    ("idx_train_only", "t10k-images"),
]


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, *words in DATA], ids=lambda v: str(v)[:30])
def test_bad_data_is_refused(name: str, words: list[str], unchanged: Path) -> None:
    assert_refused(slth(*VERIFY, "--data", name, cwd=unchanged), name, *words)


@pytest.mark.parametrize("name", ["unlabelled.npz", "three.npz", "negative_labels.npz", "idx_short", "missing"])
def test_data_that_cannot_be_learnt_is_refused(name: str, unchanged: Path) -> None:
    assert_refused(slth("train", "--data", name, "-o", "new.safetensors", cwd=unchanged), name)


def test_unexpected_failure_is_one_line_and_never_says_that_a_ticket_does_not_hold(
    unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("deep inside\nand more")

    monkeypatch.setattr("slth.certify.verify.verify", fail)
    assert_refused(slth(*VERIFY, cwd=unchanged), "unexpected ZeroDivisionError", "--debug")


def test_what_the_tracer_logs_and_prints_stays_out_of_sight(unchanged: Path) -> None:
    result = program("find", "--model", "zoo_of_nets:branch", "-o", "new.ticket", cwd=unchanged)
    assert_refused(result, "torch.export cannot trace")
