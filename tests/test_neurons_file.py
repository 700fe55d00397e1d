"""The neuron ticket's file: exact round trips, refusals of anything altered, and a reader by docs/format.md alone."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

import slth
from slth.container import content_digest
from slth.errors import TicketError
from slth.neurons.file import NEURON_TICKETS, from_bytes, is_neurons, to_bytes
from slth.neurons.find import approximate_neurons, find_neurons
from slth.neurons.ticket import NeuronTicket
from test_format import philox

X = np.random.default_rng(0).normal(size=(25, 3))
LABELS = np.argmax(X, axis=1)


def small(**options: Any) -> NeuronTicket:
    settings = {"features": 5, "blocks": 7, "tau": 0.3, "test": (X[:5], LABELS[:5]), "seed": 2**63 + 1} | options
    return find_neurons(X, LABELS, **settings)


SMALL = small()
HEADER, TENSORS = NEURON_TICKETS.header(SMALL), NEURON_TICKETS.tensors(SMALL)


NAMED = find_neurons(X, np.array(["cat", "dog", "emu"])[LABELS], features=2, blocks=2, block_samples=9, ridge=1.0)


def forge(header: dict[str, Any], tensors: dict[str, np.ndarray] | None = None) -> bytes:
    """A container whose digest is right, whatever it holds."""
    tensors = TENSORS if tensors is None else tensors
    header = {**header, "content_digest": content_digest(header, tensors)}
    return save_tensors(tensors, metadata={"slth": json.dumps(header, sort_keys=True, separators=(",", ":"))})


def test_a_forged_file_without_changes_is_the_file_itself() -> None:
    assert forge(HEADER) == to_bytes(SMALL)


@pytest.mark.parametrize(
    "ticket",
    [
        SMALL,
        small(law="ball", activation="leaky_relu:0.1", constant=True, test=None, tau=None),
        find_neurons(X, X[:, :2], features=3, blocks=11, law="hyperbolic:0.01", ridge=0),
        approximate_neurons(lambda w: np.stack([w[:, 0], 0 * w[:, 1]], 1), 3, features=4, blocks=4),
    ],
    ids=["classes", "ball", "regression", "function"],
)
def test_round_trip_is_exact(ticket: NeuronTicket, tmp_path: Path) -> None:
    content = to_bytes(ticket)
    loaded = from_bytes(content)
    assert to_bytes(loaded) == content and loaded.to_json() == {**ticket.to_json(), "seconds": None}
    np.testing.assert_array_equal(loaded.outputs(X), ticket.outputs(X))
    path = tmp_path / "a.ticket"
    assert ticket.save(path) == path.stat().st_size == len(content)
    assert is_neurons(path) and to_bytes(slth.load_neurons(path)) == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ticket"]


def test_the_files_bytes_are_those_of_the_arguments() -> None:
    files = {to_bytes(small(threads=threads)) for threads in (1, 2, None, 1)}
    assert files == {to_bytes(SMALL)}
    assert not files & {to_bytes(small(seed=1)), to_bytes(small(tau=0.31)), to_bytes(small(ridge=0.1))}


def test_each_kind_of_file_names_its_loader(tmp_path: Path, small_ticket: slth.Ticket) -> None:
    SMALL.save(tmp_path / "n.ticket")
    small_ticket.save(tmp_path / "w.ticket")
    assert not is_neurons(tmp_path / "w.ticket") and not is_neurons(tmp_path) and not is_neurons(tmp_path / "none")
    with pytest.raises(TicketError, match=r"try slth\.load_neurons"):
        slth.load(tmp_path / "n.ticket")
    with pytest.raises(TicketError, match=r"try slth\.load$"):
        slth.load_neurons(tmp_path / "w.ticket")
    with pytest.raises(TicketError, match="no such file"):
        slth.load_neurons(tmp_path / "none")


def test_every_damaged_byte_and_every_cut_is_found() -> None:
    content = to_bytes(SMALL)
    rng = np.random.default_rng(0)
    size = struct.unpack("<Q", content[:8])[0]
    for position in sorted({*range(48), size + 7, size + 8, len(content) - 1, *rng.choice(len(content), 300).tolist()}):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        with pytest.raises(TicketError):
            from_bytes(bytes(damaged))
    for length in {0, 1, 7, 8, 9, *range(0, len(content), 61), len(content) - 1}:
        with pytest.raises(TicketError, match="truncated"):
            from_bytes(content[:length])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(content: bytes) -> None:
    for start in (b"", struct.pack("<Q", len(content))):
        with pytest.raises(TicketError):
            from_bytes(start + content)


BAD = [None, True, 0, -1, 2**63, 1e300, math.nan, math.inf, "x", "", [], {}, [[]], {"a": 1}, "0" * 64]


def paths(value: Any, start: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [start]
    return (
        [start, *(path for key in value for path in paths(value[key], (*start, key)))]
        if start
        else [path for key in value for path in paths(value[key], (key,))]
    )


def changed(
    header: dict[str, Any], path: tuple[str, ...], change: Callable[[dict[str, Any], str], None]
) -> dict[str, Any]:
    copy = json.loads(json.dumps(header))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return copy


@pytest.mark.parametrize("path", paths(HEADER), ids=".".join)
def test_every_hostile_value_of_every_field_is_refused(path: tuple[str, ...]) -> None:
    begin = time.perf_counter()
    original = HEADER
    for key in path:
        original = original[key]

    def drop(holder: dict[str, Any], key: str) -> None:
        del holder[key]

    for bad in BAD:
        header = changed(HEADER, path, lambda holder, key, bad=bad: holder.update({key: bad}))  # type: ignore[misc]
        if json.dumps(bad) == json.dumps(original):
            continue
        try:
            loaded = from_bytes(forge(header))
        except TicketError:
            continue
        # What is not refused is another ticket, sound in itself: its file is the same again.
        assert to_bytes(loaded) == forge(header)
        allowed = {"seed", "generator_version", "survivors_digest", "test", "digest", "law", "input_scale", "constant"}
        allowed |= {"ridge", "samples", "outside", "spread", "block_samples"}
        assert path[-1] in allowed or "error" in path[-1] or "difference" in path[-1]
    # What older files lack may be left out: then it is not known.
    drops = () if path[-1] in ("spread", "labels", "block_samples") else (drop,)
    for change in (*drops, lambda holder, key: holder.update({key + "_": 1})):
        with pytest.raises(TicketError):
            from_bytes(forge(changed(HEADER, path, change)))
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("labels", [["cat", "dog"], ["cat", "dog", "dog"], ["cat", "dog", 1.0], [0, 1, 2], [1, 2, True], [1, 2, None]]),
        ("labels", [["cat", "dog", "x" * 201], "cat", {"cat": 1}, [1, 2, 2**64], [["cat"], 1, 2]]),
        ("block_samples", [0, -1, 25, 10**9, 9.0, True, "9", [9]]),
    ],
)
def test_names_of_classes_and_samples_a_block_are_checked(field: str, values: list[Any]) -> None:
    header, tensors = NEURON_TICKETS.header(NAMED), NEURON_TICKETS.tensors(NAMED)
    assert header[field] == {"labels": ["cat", "dog", "emu"], "block_samples": 9}[field]
    loaded = from_bytes(to_bytes(NAMED))
    assert loaded.classes == ("cat", "dog", "emu") and loaded.block_samples == 9
    for value in values:
        with pytest.raises(TicketError):
            from_bytes(forge({**header, field: value}, tensors))


def test_a_file_that_does_not_hold_what_older_ones_lack_is_read() -> None:
    header = {**HEADER, "train": {key: value for key, value in HEADER["train"].items() if key != "spread"}}
    old = from_bytes(forge(header, {name: TENSORS[name] for name in ("mask", "largest")}))
    assert old.aims is None and old.train is not None and old.train.spread is None and old.train.explained is None
    assert slth.verify_neurons(old, (X, LABELS), (X[:5], LABELS[:5])).holds


def test_tensors_that_do_not_belong_are_refused() -> None:
    mask, largest = TENSORS["mask"], TENSORS["largest"]
    padding = mask.copy()
    padding[0, -1] |= 1
    wrong: list[dict[str, Any]] = [
        {"mask": padding},
        {"mask": mask[:, :-1].copy()},
        {"mask": mask.astype(np.int8)},
        {"mask": mask[0]},
        {"largest": largest.astype(np.float32)},
        {"largest": -largest},
        {"largest": largest * np.nan},
        {"largest": largest * np.inf},
        {"largest": largest[:-1]},
        {"besides": largest},
        {"aims": TENSORS["aims"].astype(np.int32)},
        {"aims": TENSORS["aims"][:-1]},
        {"aims": np.full_like(TENSORS["aims"], -(2**15))},
    ]
    for change in wrong:
        with pytest.raises(TicketError):
            from_bytes(forge(HEADER, {**TENSORS, **change}))
    for name in ("mask", "largest"):
        with pytest.raises(TicketError):
            from_bytes(forge(HEADER, {key: value for key, value in TENSORS.items() if key != name}))


def test_a_small_file_cannot_ask_for_a_large_network() -> None:
    for source in ({"features": 2**31}, {"features": 2**20, "blocks": 2**11}, {"outputs": 2**31}):
        begin = time.perf_counter()
        with pytest.raises(TicketError):
            from_bytes(forge({**HEADER, "source": {**HEADER["source"], **source}}))
        assert time.perf_counter() - begin < 1
    large = from_bytes(forge({**HEADER, "source": {**HEADER["source"], "inputs": 2**30}}))
    assert large.to_json()["inputs"] == 2**30
    with pytest.raises(slth.SlthError, match="at most"):
        large.module()


def test_the_format_page_is_enough_to_compute_the_network(tmp_path: Path) -> None:
    """A reader written from docs/format.md alone, for w uniform on the cube and tanh."""
    ticket = find_neurons(X, X[:, :2], features=5, blocks=3, law="uniform", activation="tanh", constant=True, tau=0.4)
    raw = to_bytes(ticket)
    size = int.from_bytes(raw[:8], "little")
    container = json.loads(raw[8 : 8 + size])
    header = json.loads(container.pop("__metadata__")["slth"])
    tensors = {}
    for name, entry in container.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        kind = {"U8": np.uint8, "F64": np.float64, "I16": np.int16}[entry["dtype"]]
        tensors[name] = np.frombuffer(raw[begin:end], kind).reshape(entry["shape"])
    source = header["source"]
    seed, width, d = source["seed"], source["features"] * source["blocks"], source["inputs"] + source["constant"]

    def draw(tensor: int, n: int) -> np.ndarray:
        key = tuple(philox((0, tensor, 0, 0), (seed % 2**32, seed // 2**32))[:2])
        drawn = [w for i in range(-(-n // 4)) for w in philox((i, 0, 0, 0), key)][:n]
        return np.array([(2 * (w // 256) + 1 - 2**24) / 2**24 for w in drawn])

    w = draw(0, width * d).reshape(width, d) / math.sqrt(d)
    w = (w * ((1 - 2**-22) / np.maximum(np.sqrt((w**2).sum(1, keepdims=True)), 1))).astype(np.float32)
    v = draw(2, source["outputs"] * width).reshape(source["outputs"], width)
    b = np.unpackbits(tensors["mask"], axis=1)[:, :width]
    tau = header["tau"]
    c = tensors["largest"] / (tau * (1 - tau) * source["blocks"])
    x = np.concatenate([X / header["input_scale"], np.ones((25, 1))], 1) / math.sqrt(2)
    np.testing.assert_allclose(c * (np.tanh(x @ w.T) @ (b * v).T), ticket.outputs(X), atol=1e-12)
    kept = hashlib.sha256(w[b.any(0)].astype("<f4").tobytes() + v[b == 1].astype("<f4").tobytes())
    assert kept.hexdigest() == header["survivors_digest"]
    del header["content_digest"]
    whole = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        whole.update(f"{name}:{tensors[name].dtype}:{tensors[name].shape}".encode() + tensors[name].tobytes())
    assert whole.hexdigest() == json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["slth"])["content_digest"]
