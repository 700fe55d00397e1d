"""docs/format.md is enough for `one-for-one` too: a reader written from that page computes what the ticket computes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from test_format import Reader, draw
from zoo import shake

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "hardtanh": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.25 * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
CARRIED = {"relu": ("max_pool", "average_pool"), "hardtanh": ("max_pool",), "leaky_relu": ("average_pool",)}


class CopyReader(Reader):
    """The part of the page on copies, constants and extra depth."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.shapes: list[tuple[int, ...]] = []
        self.nodes = self.deeper(self.header["graph"]["nodes"], self.header.get("extra_depth", 0))
        self.widths = [entry["block_width"] for entry in self.header["source"]["layers"]]

    @staticmethod
    def deeper(nodes: list[dict[str, Any]], extra_depth: int) -> list[dict[str, Any]]:
        """Identity layers behind the last activation that allows them; of vectors, and of maps with one axis."""
        if not extra_depth:
            return nodes
        weighted = [k for k, node in enumerate(nodes) if node["op"] in ("linear", "conv")]
        after = max(k for k, node in enumerate(nodes) if node["op"] in CARRIED and weighted[0] < k < weighted[-1])
        activation = nodes[after]
        while nodes[after + 1]["op"] in CARRIED[activation["op"]]:
            after += 1
        before = nodes[max(k for k in weighted if k < after)]
        channels, pairs = before["attributes"]["weight_shape"][0], activation["op"] == "leaky_relu"
        added = []
        for k in range(1, extra_depth + 1):
            shape = [channels * (2 if pairs else 1), channels * (2 if pairs and k > 1 else 1)]
            layer = {"name": f"identity_{k}", "op": "linear", "attributes": {"weight_shape": shape, "bias": False}}
            if before["op"] == "conv":
                own = {"weight_shape": [*shape, 1], "stride": [1], "padding": [0, 0], "dilation": [1], "groups": 1}
                layer |= {"op": "conv", "attributes": {"bias": False, **own}}
            added += [layer, {**activation, "name": f"identity_{k}_{activation['op']}"}]
        head = dict(nodes[min(k for k in weighted if k > after)])
        if pairs:
            outputs, inputs, *kernel = head["attributes"]["weight_shape"]
            head["attributes"] = {**head["attributes"], "weight_shape": [outputs, 2 * inputs, *kernel]}
        behind = [head if node["name"] == head["name"] else node for node in nodes[after + 1 :]]
        return nodes[: after + 1] + added + behind

    def made(self, number: int) -> tuple[int, int]:
        """Copies of each output, and constants, that a weight layer makes."""
        weighted = [node for node in self.nodes if node["op"] in ("linear", "conv")]
        if number + 1 == len(weighted):
            return 1, 0
        biased = any(node["attributes"]["bias"] for node in weighted[number + 1 :])
        return self.widths[number + 1], self.widths[number + 1] if biased else 0

    def first(self, node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first weight layer with copies and constants as its outputs."""
        outputs, *others = node["attributes"]["weight_shape"]
        copies, constants = self.made(0)
        attributes = {**node["attributes"], "weight_shape": [outputs * copies + constants, *others]}
        biased = {"attributes": {**attributes, "bias": attributes["bias"] or constants > 0}}
        channel, univariate, combine, kept = self.layer(0, biased)
        return channel, univariate * self.header["source"]["layers"][0].get("expand_scale", 1.0), combine, kept

    def later(self, number: int, node: dict[str, Any], positions: int, inside: list[int]) -> np.ndarray:
        """The kept weights of a later layer, (channels made, channels read, taps)."""
        outputs, inputs, *kernel = node["attributes"]["weight_shape"]
        taps, m = math.prod(kernel), self.widths[number]
        copies, constants = self.made(number)
        read = self.made(number - 1)[1]
        rows, columns = outputs * copies + constants, inputs * m + read * positions
        source = self.header["source"]
        w = draw(source["seed"], number, 0, (rows, columns, taps)) * np.float32(source["layers"][number]["scale"])
        kept = np.zeros(w.shape, bool)
        bits = np.unpackbits(self.tensors[f"layers.{number}.copies"]).reshape(outputs * copies, -1)
        for row in range(outputs * copies):
            position = 0
            for feature in range(inputs):
                channel, p = divmod(feature, positions)
                for tap in range(taps):
                    for copy in range(m):
                        kept[row, (channel * m + copy) * positions + p, tap] = bits[row, position]
                        position += 1
        with_bias = list(range(outputs * copies)) if node["attributes"]["bias"] else []
        with_bias += range(outputs * copies, rows)
        bits = np.unpackbits(self.tensors[f"layers.{number}.constants"]).reshape(len(with_bias) or rows, -1)
        tap = min(inside, key=lambda t: (abs(2 * t + 1 - taps), t))
        for row, own in zip(with_bias, bits, strict=False):
            for constant in range(read):
                kept[row, inputs * m + constant * positions, tap] = own[constant]
        self.survivors = w, kept
        return np.where(kept, w, 0).astype(np.float64)

    def run(self, x: np.ndarray) -> np.ndarray:
        """The network's output on one input."""
        number, positions = 0, 1
        for node in self.nodes:
            op, attributes = node["op"], node["attributes"]
            if op in ("linear", "conv") and number == 0:
                channel, univariate, combine, kept = self.first(node)
                phi = ACTIVATIONS[self.header["source"]["activation"]]
                x = self.two_layers(node, x, channel[kept], univariate[kept], combine[:, kept], phi)
                number += 1
            elif op in ("linear", "conv"):
                before, after = attributes.get("padding", [0, 0])
                taps = math.prod(attributes["weight_shape"][2:])
                length = x.shape[1] if op == "conv" else 1
                stride = attributes.get("stride", [1])[0]
                windows = (length + before + after - taps) // stride + 1 if op == "conv" else 1
                read = [(t, w * stride + t - before) for t in range(taps) for w in range(windows)]
                inside = [t for t in range(taps) if all(0 <= at < length for tap, at in read if tap == t)]
                weight = self.later(number, node, positions, inside or [0])
                if op == "linear":
                    x = weight[:, :, 0] @ x
                else:
                    x = np.pad(x, ((0, 0), (before, after)))
                    parts = [x[:, w * stride : w * stride + taps] for w in range(windows)]
                    x = np.stack([np.einsum("onk,nk->o", weight, part) for part in parts], 1)
                number, positions = number + 1, 1
            elif op == "reshape":
                positions = x.shape[1]
                x = x.ravel()
            elif op == "max_pool":
                x = x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2).max(axis=2)
            else:
                x = ACTIVATIONS[op](x)
        return x

    @staticmethod
    def two_layers(
        node: dict[str, Any],
        x: np.ndarray,
        channel: np.ndarray,
        univariate: np.ndarray,
        combine: np.ndarray,
        phi: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """The first weight layer with its kept neurons; without stride or dilation."""
        maps = x if node["op"] == "conv" else x[:, None]
        maps = np.pad(maps, ((0, 0), tuple(node["attributes"].get("padding", (0, 0)))))
        column = univariate[:, None]
        hidden = phi(np.where(channel[:, None] < 0, column, column * maps[channel]))
        taps = combine.shape[2]
        windows = [hidden[:, i : i + taps] for i in range(hidden.shape[1] - taps + 1)]
        result = np.stack([np.einsum("onk,nk->o", combine, window) for window in windows], 1)
        return result if node["op"] == "conv" else result[:, 0]


DENSE = (nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 2))
NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...], dict[str, Any]]] = {
    "perceptron": (nn.Sequential(*DENSE), (3,), {}),
    "no bias": (nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)), (3,), {}),
    "mirrored pairs": (
        nn.Sequential(*DENSE),
        (3,),
        {"initialisation": "looks-linear", "source_activation": "sigmoid", "activation_error": 1e-3},
    ),
    "convolutions": (
        nn.Sequential(
            nn.Conv1d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(3, 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        (2, 8),
        {},
    ),
    "deeper": (nn.Sequential(*DENSE), (3,), {"settings": {"extra_depth": 2}}),
    "deeper, leaky": (
        nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.25), nn.Linear(2, 2)),
        (3,),
        {"settings": {"extra_depth": 2}},
    ),
    "deeper convolutions": (
        nn.Sequential(nn.Conv1d(2, 3, 2), nn.ReLU6(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(9, 2)),
        (2, 7),
        {"settings": {"extra_depth": 1}},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, name: str) -> None:
    model, shape, options = NETWORKS[name]
    common = {"construction": "one-for-one", "base_set_size": 4, "domain": (-1, 1), "seed": 2**33 + 5}
    ticket = slth.find_ticket(shake(model, 2), torch.zeros(1, *shape), **common, **options)
    ticket.save(tmp_path / "a.ticket")
    reader = CopyReader(tmp_path / "a.ticket")
    assert reader.content_digest() == reader.header["content_digest"]
    network = ticket.module("sparse", dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        x = torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1
        with torch.no_grad():
            expected = network(x[None])[0].numpy()
        np.testing.assert_allclose(reader.run(x.numpy()), expected, rtol=1e-11, atol=1e-11)


def test_the_survivors_digest_of_copies_is_the_page_s(tmp_path: Path) -> None:
    model, shape, options = NETWORKS["deeper"]
    common = {"construction": "one-for-one", "base_set_size": 4, "domain": (-1, 1)}
    slth.find_ticket(shake(model, 2), torch.zeros(1, *shape), **common, **options).save(tmp_path / "a.ticket")
    reader = CopyReader(tmp_path / "a.ticket")
    weighted = [node for node in reader.nodes if node["op"] == "linear"]
    assert [entry["name"] for entry in reader.header["layers"]] == [node["name"] for node in weighted]
    for number, (node, facts) in enumerate(zip(weighted, reader.header["layers"], strict=True)):
        if number == 0:
            continue
        reader.later(number, node, 1, [0])
        w, kept = reader.survivors
        inputs = node["attributes"]["weight_shape"][1] * reader.widths[number]
        parts = [part[:, :inputs][flags[:, :inputs]] for part, flags in ((w, kept),)]
        parts.append(w[:, inputs:][kept[:, inputs:]])
        digest = hashlib.sha256(np.concatenate(parts).astype("<f4").tobytes()).hexdigest()
        assert digest == facts["survivors_digest"]
