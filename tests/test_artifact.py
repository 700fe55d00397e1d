"""The file: exact round trips, and one clear refusal for anything that was altered, cut or made up."""

from __future__ import annotations

import dataclasses
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

import slth
from slth.artifact import TICKETS, from_bytes, to_bytes
from slth.container import content_digest
from slth.errors import ArgumentError, SlthError, TicketError
from test_graph import LEAVES, _paths, replaced
from zoo import Case, cases, convnet, inputs, mlp

SMALL = Case(mlp((2, 3, 1)), (2,), {"base_set_size": 3, "domain": (0, 1)}).find()
HEADER, TENSORS = TICKETS.header(SMALL), TICKETS.tensors(SMALL)


def forge(header: dict[str, Any], tensors: dict[str, np.ndarray] | None = None) -> bytes:
    """A container whose digest is right, whatever it holds."""
    tensors = TENSORS if tensors is None else tensors
    header = {**header, "content_digest": content_digest(header, tensors)}
    return save_tensors(tensors, metadata={"slth": json.dumps(header, sort_keys=True, separators=(",", ":"))})


def test_a_forged_file_without_changes_is_the_file_itself() -> None:
    assert forge(HEADER) == to_bytes(SMALL)


@given(cases(largest_base_set=8))
def test_round_trip_is_exact(case: Case) -> None:
    ticket = case.find()
    content = to_bytes(ticket)
    loaded = from_bytes(content)
    assert to_bytes(loaded) == content
    for name in ("graph", "spec", "facts", "construction", "objective", "base_set_size", "tolerance", "domain"):
        assert getattr(loaded, name) == getattr(ticket, name)
    for one, other in zip(ticket.masks, loaded.masks, strict=True):
        np.testing.assert_array_equal(one.neurons, other.neurons)
        np.testing.assert_array_equal(one.combine, other.combine)
    np.testing.assert_array_equal(loaded.probe_outputs, ticket.probe_outputs)
    x = inputs(case.shape, 3)
    assert torch.equal(loaded.module(dtype=torch.float64)(x), ticket.module(dtype=torch.float64)(x))


def test_save_and_load(ticket: slth.Ticket, tmp_path) -> None:
    path = tmp_path / "net.ticket"
    assert ticket.save(path) == path.stat().st_size
    assert path.read_bytes() == to_bytes(ticket) == to_bytes(slth.load(path)) == to_bytes(slth.load(str(path)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.ticket"]


def test_the_files_bytes_are_the_same_on_any_number_of_threads() -> None:
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 7, "tolerance": 0.05, "objective": "sparsest"})
    files = {to_bytes(case.find(threads=threads)) for threads in (1, 2, 2, 1)}
    assert len(files) == 1
    assert to_bytes(case.find(seed=1)) not in files


def test_how_long_the_search_took_is_not_in_the_file() -> None:
    assert to_bytes(SMALL) == to_bytes(dataclasses.replace(SMALL, seconds=1e9))


def test_tickets_are_equal_where_their_files_are() -> None:
    again = Case(mlp((2, 3, 1)), (2,), {"base_set_size": 3, "domain": (0, 1)}).find()
    assert SMALL == again == from_bytes(to_bytes(SMALL)) and hash(again) == hash(SMALL) and SMALL != "a ticket"
    assert dataclasses.replace(SMALL, seconds=1e9) == SMALL and SMALL in {again: 1}
    neurons = SMALL.masks[0].neurons.copy()
    neurons[0] ^= True
    mask, probes = dataclasses.replace(SMALL.masks[0], neurons=neurons), SMALL.probe_outputs.copy()
    probes[0, 0] += 1
    for change in (
        {"masks": (mask, *SMALL.masks[1:])},
        {"masks": SMALL.masks[:1]},
        {"probe_outputs": probes},
        {"probe_outputs": SMALL.probe_outputs.astype(np.float64)},
        {"tolerance": 0.5},
        {"domain": None},
        {"spec": dataclasses.replace(SMALL.spec, seed=1)},
        {"facts": SMALL.facts[::-1]},
    ):
        assert dataclasses.replace(SMALL, **change) != SMALL


def test_a_whole_number_is_read_as_it_was_written() -> None:
    for change in ({"tolerance": 1}, {"tolerance": 1.0}, {"domain": (0, 1)}):
        content = to_bytes(dataclasses.replace(SMALL, **change))  # type: ignore[arg-type]
        assert to_bytes(from_bytes(content)) == content


def test_every_damaged_byte_is_found() -> None:
    content = to_bytes(SMALL)
    assert from_bytes(content)
    rng = np.random.default_rng(0)
    header_size = struct.unpack("<Q", content[:8])[0]
    positions = {*range(8 + 40), header_size + 7, header_size + 8, len(content) - 1}
    positions |= set(rng.choice(len(content), 400, replace=False).tolist())
    for position in sorted(positions):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        with pytest.raises(TicketError):
            from_bytes(bytes(damaged))


def test_every_cut_is_found() -> None:
    content = to_bytes(SMALL)
    for length in {0, 1, 7, 8, 9, *range(0, len(content), 37), len(content) - 1}:
        with pytest.raises(TicketError, match="truncated"):
            from_bytes(content[:length])
    for tail in (b"\0", b"x" * 100):
        with pytest.raises(TicketError):
            from_bytes(content + tail)


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(TicketError):
        from_bytes(content)


@given(st.binary(max_size=200), st.integers(0, 2**63))
def test_other_bytes_behind_a_plausible_start_are_refused(content: bytes, size: int) -> None:
    for start in (size, len(content)):
        with pytest.raises(TicketError):
            from_bytes(struct.pack("<Q", start) + content)


@given(st.sampled_from(_paths(HEADER)[1:]), LEAVES)
def test_any_single_change_of_the_header_is_read_or_refused(path: tuple[Any, ...], leaf: Any) -> None:
    """The digest is right: a hostile author can compute it. What is read must be fit for use."""
    try:
        ticket = from_bytes(forge(replaced(HEADER, path, leaf)))
    except TicketError as error:
        assert "\n" not in str(error)
        return
    assert to_bytes(from_bytes(to_bytes(ticket))) == to_bytes(ticket)
    try:
        ticket.module("folded")
        ticket.module("sparse")
    except SlthError as error:
        assert "\n" not in str(error)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.pop(key)


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *outer, last, value = path

    def change(header: Any) -> None:
        for key in outer:
            header = header[key]
        header[last] = value

    return change


def _rename(header: dict[str, Any], number: int, name: str) -> None:
    """Call a node otherwise, wherever it is mentioned."""
    old = header["graph"]["nodes"][number]["name"]
    for entry in (*header["graph"]["nodes"], *header["layers"]):
        for key in ("name", "source"):
            if entry.get(key) == old:
                entry[key] = name


def nest(depth: int) -> str:
    """Lists within lists."""
    return "[" * depth + "]" * depth


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": _set("format", "zip"),
    "a version of the future": _set("format_version", 2),
    "a version that is a word": _set("format_version", "1"),
    "a version that is true": _set("format_version", True),
    "no graph": _without("graph"),
    "no layers": _without("layers"),
    "a layer less": lambda header: header["layers"].pop(),
    "a source layer less": lambda header: header["source"]["layers"].pop(),
    "another generator": _set("source", "generator", "mt19937"),
    "another distribution": _set("source", "distribution", "cauchy"),
    "another initialisation": _set("source", "initialisation", "zeros"),
    "a negative seed": _set("source", "seed", -1),
    "a seed of 65 bits": _set("source", "seed", 2**64),
    "a seed that is true": _set("source", "seed", True),
    "an odd width": _set("source", "layers", 0, "block_width", 5),
    "no width": _set("source", "layers", 0, "block_width", 0),
    "a width of 2^60": _set("source", "layers", 0, "block_width", 2**60),
    "a width that does not fit the mask": _set("source", "layers", 0, "block_width", 1 << 20),
    "a scale of 0": _set("source", "layers", 0, "scale", 0.0),
    "a scale that is not a float32": _set("source", "layers", 0, "scale", 0.1),
    "a scale that is not a number": _set("source", "layers", 0, "scale", float("nan")),
    "an infinite scale": _set("source", "layers", 0, "scale", float("inf")),
    "another construction": _set("construction", "pairs"),
    "another objective": _set("objective", "worst"),
    "another precision": _set("target_dtype", "int8"),
    "a negative tolerance": _set("tolerance", -1.0),
    "a tolerance that is not a number": _set("tolerance", float("nan")),
    "a tolerance that is true": _set("tolerance", True),
    "an infinite tolerance": _set("tolerance", float("inf")),
    "a domain that is not a number": _set("domain", [float("nan"), 1.0]),
    "an infinite domain": _set("domain", [float("-inf"), 1.0]),
    "an empty domain": _set("domain", [1.0, 0.0]),
    "half a domain": _set("domain", [1.0]),
    "a third bound": _set("domain", [0.0, 1.0, 2.0]),
    "a base set of nothing": _set("base_set_size", 0),
    "a base set of 10^9": _set("base_set_size", 10**9),
    "a half base set": _set("base_set_size", 3.5),
    "a huge target": _set("graph", "nodes", 0, "attributes", "weight_shape", [2**61, 2]),
    "a huge input": _set("graph", "input_shape", [2**61]),
    "a negative count": _set("layers", 0, "missed", -1),
    "a count that is not the layer's": _set("layers", 0, "weights", 7),
    "a count that is a float": lambda header: header["layers"][0].update(weights=9.0),
    "a short histogram": _set("layers", 0, "error_histogram", [1]),
    "a negative histogram": lambda header: header["layers"][0]["error_histogram"].__setitem__(0, -1),
    "an error that is not a number": _set("layers", 0, "max_weight_error", float("nan")),
    "a negative error": _set("layers", 0, "mean_weight_error", -1.0),
    "an unknown sign": _set("layers", 0, "input_sign", "imaginary"),
    "a layer of another name": _set("layers", 0, "name", "other"),
    "a digest that is none": _set("layers", 0, "survivors_digest", "?"),
    "a target digest that is none": _set("target_digest", 5),
    "an empty name": lambda header: _rename(header, 0, ""),
    "a name without an end": lambda header: _rename(header, 0, "a."),
    "a node within another": lambda header: _rename(header, 1, "0.weight"),
    "a layer of two values": _set("graph", "nodes", 2, "source", ["0", "1"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_with_a_right_digest_is_refused(name: str) -> None:
    header = json.loads(json.dumps(HEADER))
    HOSTILE[name](header)
    begin = time.perf_counter()
    with pytest.raises(TicketError):
        from_bytes(forge(header))
    assert time.perf_counter() - begin < 1


def with_outputs(n_outputs: int) -> bytes:
    """A file of a few bytes that says that its last layer has so many outputs, all of them 0."""
    header, tensors = json.loads(json.dumps(HEADER)), dict(TENSORS)
    header["graph"]["nodes"][-1]["attributes"]["weight_shape"][0] = n_outputs
    header["layers"][-1] |= {"weights": 4 * n_outputs, "error_histogram": [4 * n_outputs] + [0] * 53}
    tensors["layers.1.neurons"] = np.zeros_like(tensors["layers.1.neurons"])
    tensors["layers.1.combine"] = np.zeros(0, np.uint8)
    tensors["probe_outputs"] = np.zeros((64, min(16, n_outputs)), np.float32)
    return forge(header, tensors)


def test_a_small_file_cannot_ask_for_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.perf_counter()
    for n_outputs in (1 << 30, 1 << 45):
        with pytest.raises(TicketError, match="at most 2147483648"):
            from_bytes(with_outputs(n_outputs))
    large = from_bytes(with_outputs(1 << 29))
    monkeypatch.setattr("slth.runtime.memory_bytes", lambda: 8 << 30)
    for form, words in (("folded", "48.0 GiB for 2,147,483,657 weights"), ("masked", "at most 8 GiB")):
        with pytest.raises(ArgumentError, match=words):
            large.module(form)
    assert time.perf_counter() - begin < 1
    assert from_bytes(with_outputs(3)).module()(torch.ones(1, 2)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("layers.0.neurons", None),
        ("layers.0.combine", None),
        ("probe_outputs", None),
        ("layers.2.neurons", np.zeros(1, np.uint8)),
        ("something", np.zeros(1, np.uint8)),
        ("layers.0.neurons", np.zeros(1, np.uint8)),
        ("layers.0.neurons", np.full(TENSORS["layers.0.neurons"].shape, 255, np.uint8)),
        ("layers.0.neurons", TENSORS["layers.0.neurons"].astype(np.int8)),
        ("layers.0.combine", TENSORS["layers.0.combine"].reshape(1, -1)),
        ("layers.0.combine", np.zeros(1 << 16, np.uint8)),
        ("probe_outputs", TENSORS["probe_outputs"].astype(np.float64)),
        ("probe_outputs", TENSORS["probe_outputs"][0]),
        ("probe_outputs", TENSORS["probe_outputs"][:3]),
        ("probe_outputs", np.full_like(TENSORS["probe_outputs"], np.nan)),
        ("probe_outputs", np.zeros((64, 500), np.float32)),
    ],
)
def test_missing_extra_and_odd_tensors_are_refused(name: str, tensor: np.ndarray | None) -> None:
    tensors = {key: value for key, value in TENSORS.items() if key != name}
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(TicketError):
        from_bytes(forge(HEADER, tensors))


def test_bits_that_belong_to_no_weight_are_refused() -> None:
    """Else the same mask would have many files, and the count of kept weights would be off."""
    refused = 0
    for index, (source, mask, _) in enumerate(SMALL.layers):
        n_bits = int(mask.neurons.sum()) * source.taps
        for name, position in ((f"layers.{index}.combine", n_bits), (f"layers.{index}.neurons", source.n_neurons)):
            if position % 8:
                tensor = TENSORS[name].copy()
                tensor[position // 8] |= 1
                with pytest.raises(TicketError):
                    from_bytes(forge(HEADER, {**TENSORS, name: tensor}))
                refused += 1
    assert refused


def _with_metadata(metadata: dict[str, str] | None) -> bytes:
    return save_tensors({"x": np.zeros(3, np.float32)}, metadata=metadata)


@pytest.mark.parametrize(
    "content",
    [
        _with_metadata(None),
        _with_metadata({}),
        _with_metadata({"slth": ""}),
        _with_metadata({"slth": "null"}),
        _with_metadata({"slth": "[]"}),
        _with_metadata({"slth": "{}"}),
        _with_metadata({"slth": "[" * 100_000}),
        _with_metadata({"slth": "9" * 10_000}),
        *(_with_metadata({"slth": f'{{"a":{nest(depth)}}}'}) for depth in (400, 900, 990, 2000, 99_000)),
        *(
            _with_metadata({"slth": json.dumps(HEADER)[:-1] + f', "graph": {nest(depth)}}}'})
            for depth in (400, 900, 990, 2000)
        ),
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        b"PK\x03\x04",
    ],
)
def test_other_containers_are_refused_quickly(content: bytes) -> None:
    begin = time.perf_counter()
    with pytest.raises(TicketError):
        from_bytes(content)
    assert time.perf_counter() - begin < 1


def test_the_file_is_named_in_the_refusal(tmp_path) -> None:
    with pytest.raises(TicketError, match="no such file"):
        slth.load(tmp_path / "none.ticket")
    with pytest.raises(TicketError, match="something that is not a file"):
        slth.load(tmp_path)
    path = tmp_path / "cut.ticket"
    path.write_bytes(to_bytes(SMALL)[:-1])
    with pytest.raises(TicketError, match=r"cut\.ticket.*truncated"):
        slth.load(path)
