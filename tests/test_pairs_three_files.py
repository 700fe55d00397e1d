"""Depth three: what is refused, files that are damaged, and the page."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import slth
from command_line import slth as run
from slth.artifact import from_bytes, to_bytes
from slth.container import pack, unpack
from slth.errors import ArgumentError, TicketError
from slth.mask import CandidateMask, OutputMask
from slth.report.facts import BIAS_NAME, NEGATIVE, POSITIVE, subset_sizes
from slth.report.page import render
from test_format import Reader, draw
from test_pairs_three import CASES, FOUND, network, options, parts
from zoo import Case, convnet, inputs, mlp

REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "three layers": (mlp((3, 4, 4, 2)), (3,), "3 weight layers"),
    "one layer": (mlp((3, 2)), (3,), "1 weight layer;"),
    "convolutions": (convnet(), (4, 6, 6), "node '0': got a conv layer"),
    "another activation": (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)), (3,), "got tanh between"),
    "ReLU twice over": (nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Sigmoid(), nn.Linear(2, 1)), (3,), "sigmoid"),
    "nothing": (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)), (3,), "nothing between the two layers"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_targets_are_refused_with_the_remedy(reason: str) -> None:
    model, shape, words = REFUSED[reason]
    with pytest.raises(ArgumentError, match=rf"{words}.*depth=three.*--set depth=double"):
        slth.find_ticket(model, torch.zeros(1, *shape), **options())


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"depth": "four"}, "double or three"),
        ({"depth": "three", "candidates": 0}, "1 to 16777216"),
        ({"depth": "three", "candidates": True}, "1 to 16777216"),
        ({"candidates": 5}, "depth=three"),
        ({"depth": "three", "candidates": 1 << 24}, "fewer candidates"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        slth.find_ticket(
            mlp((90, 90, 90)), torch.zeros(1, 90), construction="pairs", base_set_size=1 << 24, settings=settings
        )


def test_a_source_that_does_not_fit_is_refused_masked_and_works_sparse() -> None:
    ticket = Case(network(True, True), (3,), options(2000, None)).find()
    with pytest.raises(ArgumentError, match=r"masked, which would take [0-9.]+ GiB"):
        ticket.module("masked")
    x = inputs((3,), 5)
    one, other = (ticket.module(form, dtype=torch.float64)(x) for form in ("sparse", "folded"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def _damaged(ticket: slth.Ticket, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    header, tensors = unpack(to_bytes(ticket))
    header.pop("content_digest", None)
    tensors = {key: np.array(value) for key, value in tensors.items()}
    change(header, tensors)
    return pack(header, tensors)


def _set(path: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(header: dict[str, Any], tensors: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for key in outer:
            header = header[int(key) if key.isdigit() else key]
        header[last] = value

    return change


def _tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda header, tensors: tensors.__setitem__(name, change(tensors[name]))


def _bumped(array: np.ndarray) -> np.ndarray:
    return np.concatenate([(array[:1] + 1) % 6, array[1:]]).astype(array.dtype)


HOSTILE = {
    "another candidate in the rows": _tensor("layers.0.candidates", _bumped),
    "another candidate in the outputs": _tensor("layers.1.candidates", _bumped),
    "a candidate beyond the last": _tensor("layers.0.candidates", lambda a: a + 6),
    "too many candidates": _tensor("layers.1.candidates", lambda a: np.append(a, a[:1])),
    "candidates of another type": _tensor("layers.0.candidates", lambda a: a.astype(np.uint32)),
    "a padding bit": _tensor("layers.1.groups", lambda a: a | np.array([0, 1], np.uint8)),
    "a group without its weight": _tensor("layers.1.groups", lambda a: a & np.array([127, 255], np.uint8)),
    "groups cut off": _tensor("layers.1.groups", lambda a: a[:1]),
    "a tensor missing": lambda header, tensors: tensors.pop("layers.0.candidates"),
    "orders that do not belong together": _set("source.layers.0.order", "outputs"),
    "no order": lambda header, tensors: header["source"]["layers"][1].pop("order"),
    "an unknown order": _set("source.layers.1.order", "elsewhere"),
    "a width that cannot be numbered": _set("source.layers.1.block_width", 1 << 39),
    "another construction": _set("construction", "two-for-one"),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_hostile_files_are_refused(damage: str) -> None:
    ticket = FOUND["both biases"]()
    assert from_bytes(_damaged(ticket, lambda header, tensors: None)).n_kept == ticket.n_kept
    with pytest.raises(TicketError):
        from_bytes(_damaged(ticket, HOSTILE[damage]))


def test_a_constant_that_reads_an_input_is_refused_for_that_reason() -> None:
    """The slot of weight (output 0, constant, input 0) instead of that of its bias."""
    ticket = FOUND["both biases"]()
    with pytest.raises(TicketError, match="constants made of biases alone"):
        from_bytes(_damaged(ticket, _moved(ticket)))


def _moved(ticket: slth.Ticket) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    first = parts(ticket)[0]
    bias, weight = first.outputs * 3 + 4, 4 * 3

    def change(header: dict[str, Any], tensors: dict[str, Any]) -> None:
        counts, neurons = tensors["layers.0.counts"], tensors["layers.0.neurons"]
        assert (counts[bias], counts[weight]) == (1, 0) and first.is_constant(np.array(4))
        at, to = (int(counts[:slot].sum(dtype=int)) for slot in (bias, weight))
        tensors["layers.0.neurons"] = np.insert(np.delete(neurons, at), to, neurons[at])
        counts[bias], counts[weight] = 0, 1

    return change


def test_a_changed_mask_does_not_verify() -> None:
    """Another candidate in both masks is a sound file with false claims."""
    ticket, target = FOUND["both biases"](), CASES["both biases"].target()
    first, last, rows, weights = parts(ticket)
    candidate = weights.candidate(last)
    candidate[0] = (candidate[0] + 1) % 6
    masks = (CandidateMask.build(first, rows.slots, candidate), OutputMask.build(last, candidate))
    wrong = from_bytes(to_bytes(dataclasses.replace(ticket, masks=masks)))
    found = slth.verify(wrong, target, (-1, 1))
    assert not found.holds and not any(layer.source_matches for layer in found.layers)
    assert any("surviving weights differ" in reason for reason in found.reasons)


@pytest.mark.parametrize("name", CASES)
def test_the_page_counts_and_spells_out(name: str) -> None:
    ticket, case = FOUND[name](), CASES[name]
    target = case.target()
    (source, rows, facts), (last, weights, _) = ticket.layers
    sizes = subset_sizes(source, rows, facts.input_sign)
    own = {key: part.astype(int) for key, part in sizes.items()}
    assert sum(own[key].sum() for key in (POSITIVE, NEGATIVE) if key in own) + own.get(
        BIAS_NAME, np.zeros(1)
    ).sum() == len(rows.slots.neurons)
    outer = subset_sizes(last, weights, ticket.facts[1].input_sign)
    assert sum(int(part.sum()) for part in outer.values()) == weights.n_kept
    page = render(ticket, title="net.ticket", target=target)
    assert "reads the neuron with" in page and "what it is aimed at" in page and "one for the other" in page
    assert ("hidden neurons of their own" in page) == (last.outputs > 1)
    assert "is realised as follows" in render(ticket, title="net.ticket")


class ThreeReader(Reader):
    """A file of depth three, as docs/format.md describes it: in numpy, with whole tensors."""

    def tensors_of(self) -> tuple[np.ndarray, ...]:
        """A, its biases, B and v, with zeros for what is pruned; and the kept weights of each in the digest's order."""
        source = self.header["source"]
        first, last = (node["attributes"] for node in self.header["graph"]["nodes"] if node["op"] == "linear")
        (n, d), o = first["weight_shape"], last["weight_shape"][0]
        (w, k), scales = ([entry[key] for entry in source["layers"]] for key in ("block_width", "scale"))
        m, seed, biased = n + last["bias"], source["seed"], first["bias"] or last["bias"]
        neurons = o * m * (d + biased) * w
        drawn_a, drawn_bias = draw(seed, 0, 0, (neurons, d)), draw(seed, 0, 1, (neurons,))
        drawn_b = np.float32(scales[0]) * draw(seed, 0, 2, (o * m * k, neurons))
        drawn_v = np.float32(scales[1]) * draw(seed, 1, 0, (o, o * m * k))
        a, bias, b, v = (np.zeros_like(part) for part in (drawn_a, drawn_bias, drawn_b, drawn_v))
        counts, numbers = self.tensors["layers.0.counts"], iter(self.tensors["layers.0.neurons"].tolist())
        kept = [[next(numbers) for _ in range(count)] for count in counts]
        group_of = [slot // d if slot < o * m * d else slot - o * m * d for slot in range(len(counts))]
        live = sorted({group for group, own in zip(group_of, kept, strict=True) if own})
        candidate = dict(zip(live, self.tensors["layers.0.candidates"].tolist(), strict=True))
        for slot, (group, own) in enumerate(zip(group_of, kept, strict=True)):
            for neuron in (slot * w + number for number in own):
                if slot < o * m * d:
                    a[neuron, slot % d] = drawn_a[neuron, slot % d]
                else:
                    bias[neuron] = drawn_bias[neuron]
                row = group * k + candidate[group]
                b[row, neuron] = drawn_b[row, neuron]
        groups = np.flatnonzero(np.unpackbits(self.tensors["layers.1.groups"]))
        for group, chosen in zip(groups, self.tensors["layers.1.candidates"], strict=True):
            v[group // m, group * k + chosen] = drawn_v[group // m, group * k + chosen]
        return a, bias, b, v


@pytest.mark.parametrize("name", ["both biases", "hidden biases", "output biases", "no biases", "one output"])
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    ticket = case.find(base_set_size=5, settings={"depth": "three", "candidates": 3}, seed=2**40 + 7)
    ticket.save(tmp_path / "a.ticket")
    reader = ThreeReader(tmp_path / "a.ticket")
    assert reader.content_digest() == reader.header["content_digest"]
    a, bias, b, v = (part.astype(np.float64) for part in reader.tensors_of())
    x = inputs((3,), 20, case.domain).numpy().T
    made = v @ np.maximum(b @ np.maximum(a @ x + bias[:, None], 0), 0)
    with torch.no_grad():
        expected = ticket.module("folded", dtype=torch.float64)(torch.from_numpy(x.T)).numpy().T
    np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)
    univariate = [row[row != 0].tolist() or [own] for row, own in zip(a, bias, strict=True) if row.any() or own]
    rows = [row[row != 0].tolist() for row in b]
    for number, parts_ in enumerate(([*univariate, *rows], [row[row != 0].tolist() for row in v])):
        survivors = np.array([value for part in parts_ for value in part], "<f4")
        digest = hashlib.sha256(survivors.tobytes()).hexdigest()
        assert digest == reader.header["layers"][number]["survivors_digest"]


def test_command_line(tmp_path: Path) -> None:
    save_file(network(True, True, (4, 6, 3)).state_dict(), tmp_path / "net.safetensors")
    find = ["find", "net.safetensors", "-o", "net.ticket", "--construction", "pairs", "--domain", "0,1"]
    find += ["--set", "depth=three", "--set", "candidates=30", "--base-set-size", "400", "--tolerance", "0.02"]
    made = run(*find, cwd=tmp_path)
    assert made.status == 0, made.err
    assert "a source of 3 layers" in made.out and "30 candidates" in made.out
    found = run("verify", "net.ticket", "--target", "net.safetensors", "--domain", "0,1", cwd=tmp_path)
    assert found.status == 0, found.err
    shown = run("show", "net.ticket", "--html", "net.html", cwd=tmp_path)
    assert shown.status == 0 and "a source of 3 layers" in shown.out
    assert "hidden neurons of their own for every output" in (tmp_path / "net.html").read_text()
    refused = run(*find[:-4], "--set", "depth=four", cwd=tmp_path)
    assert refused.status == 2 and "double or three" in refused.err
