"""docs/format.md is enough for masks over a network's own shape, too: a reader written from that page alone."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slth.learn.scored import ScoredNetwork, draw_source
from slth.mask.plain import METHODS
from slth.network.inputs import as_target
from test_format import NETWORKS, Reader, by_shape, draw, philox


class DirectReader(Reader):
    """A file with the construction ``direct``, as the page describes it."""

    def numbers(self, number: int, node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """All numbers of a layer, and which are kept."""
        source, own = self.header["source"], self.header["source"]["layers"][number]
        outputs, inputs, *kernel = node["attributes"]["weight_shape"]
        fan_in, taps = inputs * math.prod(kernel), math.prod(kernel)
        n = outputs * (fan_in + node["attributes"]["bias"])
        if source["distribution"] == "grid":
            assert own["law"] == {"levels": 2}
            key = tuple(philox((number, 0, 0, 0), (source["seed"] % 2**32, source["seed"] // 2**32))[:2])
            words = [w for i in range(-(-n // 4)) for w in philox((i, 0, 0, 0), key)][:n]
            drawn = np.array([1 if w >> 31 else -1 for w in words], np.float32)
        else:
            drawn = by_shape(source["distribution"], fan_in, outputs * taps) * draw(source["seed"], number, 0, (n,))
        return drawn * np.float32(own["scale"]), np.unpackbits(self.tensors[f"layers.{number}.kept"])[:n].astype(bool)

    def run(self, x: np.ndarray) -> np.ndarray:
        """The network's output on one input: linear layers and one-dimensional convolutions."""
        number = 0
        for node in self.header["graph"]["nodes"]:
            if node["op"] in ("linear", "conv"):
                drawn, kept = self.numbers(number, node)
                shape, number = node["attributes"]["weight_shape"], number + 1
                weights, n = np.where(kept, drawn, 0).astype(np.float64), math.prod(shape)
                x = affine(node, x, weights[:n].reshape(shape), weights[n:] if len(weights) > n else np.zeros(shape[0]))
            elif node["op"] == "relu":
                x = np.maximum(x, 0)
            else:
                x = x.reshape(node["attributes"]["shape"])
        return x


def affine(node: dict[str, Any], x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    if node["op"] == "linear":
        return weight @ x + bias
    a = node["attributes"]
    x = np.pad(x, ((0, 0), tuple(a["padding"])))
    (stride,), (dilation,), (outputs, inputs, taps) = a["stride"], a["dilation"], weight.shape
    length = (x.shape[1] - dilation * (taps - 1) - 1) // stride + 1
    result = np.zeros((outputs, length))
    for o in range(outputs):
        first = o // (outputs // a["groups"]) * inputs
        for i in range(length):
            window = x[first : first + inputs, i * stride : i * stride + dilation * taps : dilation][:, :taps]
            result[o, i] = (weight[o] * window).sum() + bias[o]
    return result


@pytest.mark.parametrize(
    ("method", "weights"), [*((method, "signed-constant") for method in METHODS), ("edge-popup", "kaiming-uniform")]
)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, name: str, method: str, weights: str) -> None:
    factory, shape = NETWORKS[name]
    target = as_target(factory(), torch.zeros(1, *shape))
    ticket = ScoredNetwork(target, draw_source(target, 2**40 + 7, weights, 0.4), method, 0.4, 1).ticket()
    ticket.save(tmp_path / "a.ticket")
    reader = DirectReader(tmp_path / "a.ticket")
    assert reader.content_digest() == reader.header["content_digest"]
    folded = ticket.module("folded", dtype=torch.float64)
    for x in torch.rand(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        with torch.no_grad():
            expected = folded(x[None])[0].numpy()
        np.testing.assert_allclose(reader.run(x.numpy()), expected, rtol=1e-12, atol=1e-12)
    nodes = [node for node in reader.header["graph"]["nodes"] if node["op"] in ("linear", "conv")]
    for number, (node, facts) in enumerate(zip(nodes, reader.header["layers"], strict=True)):
        drawn, kept = reader.numbers(number, node)
        assert kept.sum() == max(1, round(0.4 * len(kept)))
        assert hashlib.sha256(drawn[kept].astype("<f4").tobytes()).hexdigest() == facts["survivors_digest"]
