"""docs/format.md is enough: a reader written from that page alone, in numpy, computes what the ticket computes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import slth

KINDS = {"I8": np.int8, "U8": np.uint8, "U16": np.uint16, "F32": np.float32, "F64": np.float64}
KINDS |= {"I64": np.int64, "BOOL": np.bool_}


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def draw(seed: int, layer: int, tensor: int, shape: tuple[int, ...]) -> np.ndarray:
    key = tuple(philox((layer, tensor, 0, 0), (seed % 2**32, seed // 2**32))[:2])
    size = math.prod(shape)
    words = [w for i in range(-(-size // 4)) for w in philox((i % 2**32, i // 2**32, 0, 0), key)][:size]
    return np.array([np.float32((2 * (w // 256) + 1 - 2**24) / 2**24) for w in words], np.float32).reshape(shape)


def by_shape(law: str, fan_in: int, fan_out: int) -> np.float32:
    """What the law's numbers are multiplied by."""
    if law == "kaiming-uniform":
        return np.float32(math.sqrt(2) * math.sqrt(3) / math.sqrt(fan_in))
    return np.float32(math.sqrt(6 / (fan_in + fan_out)) if law == "xavier-uniform" else 1.0)


def exchange(signs: np.ndarray, width: int, m: int, base_sets: list[tuple[int, int]]) -> list[int]:
    """Column of ``signs`` that each neuron of a group keeps: of the weights from its channels, then of its bias."""
    place: dict[int, tuple[int, int]] = {}
    e: list[tuple[int, int]] = []
    for j, s in base_sets:
        fitting = [t for t in range(j * width, j * width + width) if signs[t, j] == s]
        for t in fitting[:m]:
            place[t] = (j, s)
        e.extend([(j, s)] * max(0, m - len(fitting)))
    f = sorted(set(range(len(signs))) - set(place))
    for _ in range(40):
        n, refused, r = min(len(e), len(f)), [], []
        for i in range(n):
            j, s = e[i]
            if signs[f[i], j] == s:
                place[f[i]] = e[i]
            else:
                refused.append(f[i])
                r.append(e[i])
        f, e = f[n:] + refused, r[1:] + e[n:] + r[:1]
    for j, s in e[:64]:
        for t in range(len(signs)):
            if f and t in place and signs[t, j] == s and signs[f[0], place[t][0]] == place[t][1]:
                place[f[0]], place[t] = place[t], (j, s)
                f = f[1:]
                break
    return [place[t][0] if t in place else t // width for t in range(len(signs))]


class Reader:
    """A ticket file, as the page describes it."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        container = json.loads(raw[8 : 8 + size])
        self.header: dict[str, Any] = json.loads(container.pop("__metadata__")["slth"])
        self.tensors = {}
        for name, entry in container.items():
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            kind = KINDS[entry["dtype"]]
            self.tensors[name] = np.frombuffer(raw[begin:end], kind).reshape(entry["shape"])

    def content_digest(self) -> str:
        header = {key: value for key, value in self.header.items() if key != "content_digest"}
        sha = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            sha.update(f"{name}:{tensor.dtype}:{tensor.shape}".encode() + tensor.tobytes())
        return sha.hexdigest()

    def layer(self, number: int, node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Channel (-1: none), univariate weight and the kept combining weights of the kept neurons."""
        source, attributes = self.header["source"], node["attributes"]
        width, scale = source["layers"][number]["block_width"], np.float32(source["layers"][number]["scale"])
        outputs, inputs, *kernel = attributes["weight_shape"]
        groups, taps = attributes.get("groups", 1), math.prod(kernel)
        per_group = (inputs + attributes["bias"]) * width
        neurons = groups * per_group
        mirrored = source["initialisation"] == "looks-linear"
        half = 2 if mirrored else 1
        first = by_shape(source["distribution"], inputs, neurons)
        second = by_shape(source["distribution"], per_group * taps, outputs * taps)
        u = first * draw(source["seed"], number, 0, (neurons // half, inputs))
        b = np.zeros(neurons // half)
        if attributes["bias"]:
            b = first * draw(source["seed"], number, 1, (neurons // half,))
        v = scale * (second * draw(source["seed"], number, 2, (outputs, per_group // half, taps)))
        if mirrored:
            u = np.stack([u, -u], 1).reshape(neurons, inputs)
            b = np.stack([b, -b], 1).reshape(neurons)
            v = np.stack([v, -v], 2).reshape(outputs, per_group, taps)
        kept = np.unpackbits(self.tensors[f"layers.{number}.neurons"])[:neurons].astype(bool)
        bits = np.unpackbits(self.tensors[f"layers.{number}.combine"])
        channel, univariate = np.full(neurons, -1), np.zeros(neurons)
        reads = self.reads(number, np.sign(np.column_stack([u, b])), per_group, inputs, attributes["bias"])
        for n in np.flatnonzero(kept):
            channel[n] = n // per_group * inputs + reads[n] if reads[n] < inputs else -1
            univariate[n] = u[n, reads[n]] if reads[n] < inputs else b[n]
        combine, position = np.zeros((outputs, neurons, taps)), 0
        for o in range(outputs):
            first = o // (outputs // groups) * per_group
            mine = first + np.flatnonzero(kept[first : first + per_group])
            row = bits[position : position + len(mine) * taps].reshape(len(mine), taps)
            combine[o, mine] = np.where(row, v[o, mine - first], 0)
            position += -(-len(mine) * taps // 8) * 8
        return channel, univariate, combine, kept

    def reads(self, number: int, signs: np.ndarray, per_group: int, inputs: int, bias: bool) -> list[int]:
        """The channel of its group that each neuron keeps, or the number of channels for its bias."""
        own = self.header["source"]["layers"][number]
        width = own["block_width"]
        if own.get("order") != "balanced":
            return [n % per_group // width for n in range(len(signs))]
        base_sets = [(j, 1) for j in range(inputs)] if own["input_sign"] != "nonpositive" else []
        base_sets += [(inputs, 1)] if bias else []
        base_sets += [(j, -1) for j in range(inputs)] if own["input_sign"] != "nonnegative" else []
        groups = [signs[first : first + per_group] for first in range(0, len(signs), per_group)]
        return [j for group in groups for j in exchange(group, width, own["elements"], base_sets)]

    def run(self, x: np.ndarray) -> np.ndarray:
        """The network's output on one input: linear layers and one-dimensional convolutions."""
        number, values = 0, {"input": x}
        for node in self.header["graph"]["nodes"]:
            x = values[node["source"]]
            if node["op"] in ("linear", "conv"):
                channel, univariate, combine, _ = self.layer(number, node)
                x = self.affine(node, x, channel, univariate, combine)
                number += 1
            elif node["op"] == "relu":
                x = np.maximum(x, 0)
            else:
                x = x.reshape(node["attributes"]["shape"])
            values[node["name"]] = x
        return x

    @staticmethod
    def affine(node: dict[str, Any], x: np.ndarray, channel: Any, univariate: Any, combine: Any) -> np.ndarray:
        if node["op"] == "linear":
            hidden = np.where(channel < 0, univariate, univariate * x[channel])
            return combine[:, :, 0] @ np.maximum(hidden, 0)
        a = node["attributes"]
        x = np.pad(x, ((0, 0), tuple(a["padding"])))
        hidden = np.maximum(np.where(channel[:, None] < 0, univariate[:, None], univariate[:, None] * x[channel]), 0)
        (stride,), (dilation,), taps = a["stride"], a["dilation"], combine.shape[2]
        length = (x.shape[1] - dilation * (taps - 1) - 1) // stride + 1
        windows = [hidden[:, i * stride : i * stride + dilation * taps : dilation][:, :taps] for i in range(length)]
        return np.stack([np.einsum("onk,nk->o", combine, window) for window in windows], 1)


NETWORKS = {
    "perceptron": (
        lambda: torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2, bias=False)),
        (4,),
    ),
    "wide": (lambda: torch.nn.Sequential(torch.nn.Linear(12, 3, bias=False)), (12,)),
    "convolution": (
        lambda: torch.nn.Sequential(
            torch.nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(16, 3),
        ),
        (2, 7),
    ),
}


@pytest.mark.parametrize("law", ["uniform", "kaiming-uniform", "xavier-uniform"])
@pytest.mark.parametrize("initialisation", ["uniform", "looks-linear"])
@pytest.mark.parametrize("domain", [None, (0, 1), (-1, 0)])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_reader_written_from_the_page_computes_the_same(
    tmp_path: Path, name: str, domain: Any, initialisation: str, law: str
) -> None:
    factory, shape = NETWORKS[name]
    torch.manual_seed(3)
    options = {"initialisation": initialisation, "distribution": law, "seed": 2**40 + 7}
    ticket = slth.find_ticket(factory(), torch.zeros(1, *shape), base_set_size=5, domain=domain, **options)
    ticket.save(tmp_path / "a.ticket")
    reader = Reader(tmp_path / "a.ticket")
    assert reader.content_digest() == reader.header["content_digest"]
    folded = ticket.module("folded", dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        x = torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1
        x = x.abs() * (1 if domain[1] else -1) if domain else x
        with torch.no_grad():
            expected = folded(x[None])[0].numpy()
        np.testing.assert_allclose(reader.run(x.numpy()), expected, rtol=1e-12, atol=1e-12)


def test_the_survivors_digest_is_the_page_s(tmp_path: Path) -> None:
    factory, shape = NETWORKS["convolution"]
    ticket = slth.find_ticket(factory(), torch.zeros(1, *shape), base_set_size=4)
    ticket.save(tmp_path / "a.ticket")
    reader = Reader(tmp_path / "a.ticket")
    nodes = [node for node in reader.header["graph"]["nodes"] if node["op"] in ("linear", "conv")]
    for number, (node, facts) in enumerate(zip(nodes, reader.header["layers"], strict=True)):
        _, univariate, combine, kept = reader.layer(number, node)
        weights = [combine[o, kept].ravel() for o in range(len(combine))]
        survivors = np.concatenate([univariate[kept], *(row[row != 0] for row in weights)])
        assert hashlib.sha256(survivors.astype("<f4").tobytes()).hexdigest() == facts["survivors_digest"]
