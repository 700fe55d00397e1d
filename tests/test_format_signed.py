"""docs/format.md is enough for `conv` with inputs of either sign: a reader written from that page, in numpy."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from test_format import Reader, by_shape, draw
from zoo import shake


class KernelReader(Reader):
    """The part of the page on kernels, taps, splits and shifts: linear layers and one-dimensional convolutions."""

    def drawn(self, number: int, node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expanding weights (neurons, channels, taps), biases and combining weights (outputs, neurons of a group)."""
        source, attributes = self.header["source"], node["attributes"]
        own = source["layers"][number]
        outputs, inputs, *kernel = attributes["weight_shape"]
        groups, taps, width = attributes.get("groups", 1), math.prod(kernel), own["block_width"]
        read = 2 * inputs if own["order"].endswith("split") else inputs
        blocks = outputs // groups
        if own["order"] == "taps-first":
            blocks = inputs * taps + attributes["bias"]
        n, per_group = groups * blocks * width, blocks * width
        first = by_shape(source["distribution"], read * taps, n * taps)
        second = by_shape(source["distribution"], per_group, outputs)
        u = first * draw(source["seed"], number, 0, (n, read, taps))
        biased = attributes["bias"] or own["order"].endswith("shifted")
        b = first * draw(source["seed"], number, 1, (n,)) if biased else np.zeros(0, np.float32)
        return u, b, np.float32(own["scale"]) * (second * draw(source["seed"], number, 2, (outputs, per_group)))

    def kept(self, number: int, node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same with zeros for what is pruned; and the survivors, in the order of the digest."""
        u, b, v = self.drawn(number, node)
        source, per_group = self.header["source"]["layers"][number], v.shape[1]
        rows = len(v) // node["attributes"].get("groups", 1)
        live = np.unpackbits(self.tensors[f"layers.{number}.neurons"])[: len(u)].astype(bool)
        kernels, biases, combine = np.zeros_like(u), np.zeros_like(b), np.zeros_like(v)
        first, second = [], []
        if source["order"] == "taps-first":
            bits, position = np.unpackbits(self.tensors[f"layers.{number}.combine"]), 0
            for t in np.flatnonzero(live):
                block = t % per_group // source["block_width"]
                into, of = (biases, b) if block == u[0].size else (kernels.reshape(len(u), -1), u.reshape(len(u), -1))
                place = t if block == u[0].size else (t, block)
                into[place] = of[place]
                first.append(of[place])
            for o in range(len(v)):
                mine = np.flatnonzero(live[o // rows * per_group :][:per_group])
                row = bits[position : position + len(mine)].astype(bool)
                combine[o, mine[row]] = v[o, mine[row]]
                second += v[o, mine[row]].tolist()
                position += -(-len(mine) // 8) * 8
            return kernels, biases, combine, np.array([*first, *second])
        assert self.tensors[f"layers.{number}.sign"].view(np.int8).tolist() == [1]
        bits = iter(np.unpackbits(self.tensors[f"layers.{number}.kernels"]))
        for t in np.flatnonzero(live):
            for place in np.ndindex(*u.shape[1:]):
                if u[t][place] > 0 and next(bits):
                    kernels[t][place] = u[t][place]
                    first.append(u[t][place])
            if len(b) and b[t] > 0 and next(bits):
                biases[t] = b[t]
                first.append(b[t])
            o = t // source["block_width"]
            combine[o, t % per_group] = v[o, t % per_group]
            second.append(v[o, t % per_group])
        return kernels, biases, combine, np.array([*first, *second])

    def run(self, x: np.ndarray) -> np.ndarray:
        """The network's output on one input."""
        number = 0
        for node in self.header["graph"]["nodes"]:
            if node["op"] in ("linear", "conv"):
                x, number = self.layer_of(number, node, x), number + 1
            else:
                x = {"tanh": np.tanh, "reshape": np.ravel}[node["op"]](x)
        return x

    def layer_of(self, number: int, node: dict[str, Any], x: np.ndarray) -> np.ndarray:
        """One layer on one input, (channels, length) or (channels,)."""
        own, a = self.header["source"]["layers"][number], node["attributes"]
        groups = a.get("groups", 1)
        vector = x.ndim == 1
        x = x[:, None] if vector else np.pad(x, ((0, 0), tuple(a["padding"])))
        if own["order"].endswith("shifted"):
            x = x + own["shift"]
        if own["order"].endswith("split"):
            parts = [[np.maximum(part, 0), np.maximum(-part, 0)] for part in np.split(x, groups)]
            x = np.concatenate([half for pair in parts for half in pair])
        kernels, biases, combine, _ = self.kept(number, node)
        (stride,), (dilation,) = a.get("stride", [1]), a.get("dilation", [1])
        n, read, taps = kernels.shape
        length = (x.shape[1] - dilation * (taps - 1) - 1) // stride + 1
        out = np.zeros((len(combine), length))
        rows, per_group = len(combine) // groups, n // groups
        for group in range(groups):
            channels = x[group * read : (group + 1) * read]
            mine = slice(group * per_group, (group + 1) * per_group)
            for at in range(length):
                window = channels[:, at * stride : at * stride + dilation * (taps - 1) + 1 : dilation]
                hidden = np.einsum("nct,ct->n", kernels[mine].astype(float), window)
                hidden = np.maximum(hidden + (biases[mine] if len(biases) else 0.0), 0)
                out[group * rows : (group + 1) * rows, at] = combine[group * rows : (group + 1) * rows] @ hidden
        return out[:, 0] if vector else out


def network(bias: bool) -> nn.Module:
    """Strides, padding, dilation and groups; a hidden layer whose inputs have either sign, and a dense one."""
    layers = [nn.Conv1d(2, 4, 3, 2, 2, 2, groups=2, bias=bias), nn.Tanh(), nn.Conv1d(4, 2, 2, bias=bias), nn.Tanh()]
    return shake(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 2, bias=bias)), 1)


@pytest.mark.parametrize("law", ["uniform", "kaiming-uniform", "xavier-uniform"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("way", ["split", "shift", "taps"])
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, way: str, bias: bool, law: str) -> None:
    model = network(bias) if way != "taps" else network(bias)[:3]
    ticket = slth.find_ticket(
        *(model, torch.zeros(1, 2, 7)),
        construction="conv",
        settings={"signed": way},
        domain=(-1, 1),
        distribution=law,
        base_set_size=5,
        seed=2**35 + 3,
    )
    ticket.save(tmp_path / "a.ticket")
    reader = KernelReader(tmp_path / "a.ticket")
    nodes = [node for node in reader.header["graph"]["nodes"] if node["op"] in ("linear", "conv")]
    for number, (node, facts) in enumerate(zip(nodes, reader.header["layers"], strict=True)):
        assert facts["input_sign"] == "signed"
        survivors = reader.kept(number, node)[3].astype("<f4")
        assert hashlib.sha256(survivors.tobytes()).hexdigest() == facts["survivors_digest"]
    folded = ticket.module("folded", dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        x = torch.rand((2, 7), dtype=torch.float64, generator=generator) * 2 - 1
        with torch.no_grad():
            expected = folded(x[None])[0].numpy()
        np.testing.assert_allclose(reader.run(x.numpy()), expected, rtol=1e-10, atol=1e-10)
