"""docs/format.md is enough for graphs, too: a reader of every kind of node, written from that page alone.

What the page calls operations of torch are torch's own; all that is slth's is done here by hand.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import slth
from test_format import Reader
from zoo_kit import settle

KNOWN = frozenset({"linear", "conv", "scale", "embedding", "parameter", "conv_transpose", "recurrent"})
KNOWN_OTHERS = frozenset({"relu", "tanh", "sigmoid", "silu", "leaky_relu", "gelu", "elu", "softplus", "hardtanh"})
KNOWN_OTHERS |= {"max_pool", "average_pool", "reshape", "function", "kept", "join", "pad"}


class GraphReader(Reader):
    """A ticket of any graph, by ``two-for-one`` with ReLU, evaluated on batches in float64."""

    def run_batch(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output, several as one."""
        values, self.numbers = {"input": x}, dict[str, int]()
        self.kept_read = 0
        result = x
        for node in self.header["graph"]["nodes"]:
            names = node["source"] if isinstance(node["source"], list) else [node["source"]]
            own = [values[name] for name in names]
            if node["op"] in KNOWN and "layer" not in node:
                self.numbers[node["name"]] = len(self.numbers)
            result = values[node["name"]] = self.weighed(node, own) if node["op"] in KNOWN else self.other(node, own)
        return result

    def core(self, node: dict[str, Any], groups: int = 1) -> Any:
        """The weight layer at a node's heart: from (rows, channels, positions ...), with what sums up the neurons."""
        number = self.numbers[node.get("layer", node["name"])]
        attributes = {**node["attributes"], "groups": groups}
        channel, univariate, combine, _ = self.layer(number, {"attributes": attributes})
        u, reads = torch.from_numpy(univariate), torch.from_numpy(channel)
        weight = torch.from_numpy(combine).reshape(*combine.shape[:2], *node["attributes"]["weight_shape"][2:])

        def neurons(x: torch.Tensor) -> torch.Tensor:
            ones = [1] * (x.dim() - 2)
            taken = torch.where(reads.reshape(1, -1, *ones) < 0, 1.0, x[:, reads])
            return torch.relu(u.reshape(1, -1, *ones) * taken)

        return neurons, weight

    def dense(self, node: dict[str, Any]) -> Any:
        """A linear core along the last axis."""
        neurons, weight = self.core(node)
        matrix = weight.reshape(*weight.shape[:2])
        return lambda x: (neurons(x.reshape(-1, x.shape[-1])) @ matrix.T).reshape(*x.shape[:-1], len(matrix))

    def weighed(self, node: dict[str, Any], own: list[torch.Tensor]) -> torch.Tensor:
        op, a = node["op"], node["attributes"]
        outputs, inputs = a["weight_shape"][:2]
        if op == "linear":
            return self.dense(node)(own[0])
        if op == "conv":
            neurons, weight = self.core(node, a["groups"])
            convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.dim() - 3]
            return convolve(neurons(functional.pad(own[0], a["padding"])), weight, None, a["stride"], 0, a["dilation"])
        if op == "conv_transpose":
            neurons, weight = self.core(node, a["groups"])
            convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[
                weight.dim() - 3
            ]
            swapped = weight.transpose(0, 1)
            return convolve(neurons(own[0]), swapped, None, a["stride"], a["crop"], a["extra"], 1, a["dilation"])
        if op == "scale":
            neurons, weight = self.core(node, outputs)
            rows = own[0].reshape(-1, outputs, 1)
            return functional.conv1d(neurons(rows), weight).reshape(own[0].shape)
        if op == "embedding":
            return self.dense(node)(functional.one_hot(own[0], inputs).double())
        if op == "parameter":
            return self.dense(node)(torch.ones(1, 1, dtype=torch.float64)).reshape(a["shape"])
        return self.recurrent(node, own)

    def recurrent(self, node: dict[str, Any], own: list[torch.Tensor]) -> torch.Tensor:
        """As the formulas of torch's documentation have it."""
        a, gates = node["attributes"], self.dense(node)
        x = own[0].transpose(0, 1) if a["batch_first"] else own[0]
        hidden = a["weight_shape"][1]
        h, *rest = (state.expand(x.shape[1], hidden) for state in own[1:])
        made = []
        for given in reversed(x) if a["reverse"] else x:
            from_h = gates(h)
            if a["kind"] == "gru":
                r, z = torch.sigmoid((given + from_h)[:, : 2 * hidden]).chunk(2, 1)
                n = torch.tanh(given[:, 2 * hidden :] + r * from_h[:, 2 * hidden :])
                h = (1 - z) * n + z * h
            elif a["kind"] == "lstm":
                i, f, g, o = (given + from_h).chunk(4, 1)
                rest = [torch.sigmoid(f) * rest[0] + torch.sigmoid(i) * torch.tanh(g)]
                h = torch.sigmoid(o) * torch.tanh(rest[0])
            else:
                h = (torch.tanh if a["kind"] == "rnn_tanh" else torch.relu)(given + from_h)
            made.append(torch.cat([h, *rest], 1) if a["cells"] else h)
        result = torch.stack(made[::-1] if a["reverse"] else made)
        return result.transpose(0, 1) if a["batch_first"] else result

    def other(self, node: dict[str, Any], own: list[torch.Tensor]) -> torch.Tensor:
        op, a = node["op"], node["attributes"]
        assert op in KNOWN_OTHERS
        if op == "kept":
            tensor = torch.from_numpy(self.tensors[f"kept.{self.kept_read}"].reshape(a["shape"]).copy())
            self.kept_read += 1
            return tensor.double() if tensor.is_floating_point() else tensor
        if op == "join":
            return torch.cat([value.reshape(len(value), -1) for value in own], 1)
        if op == "function":
            return self.function(a, own)
        (x,) = own
        if op == "reshape":
            return x.reshape(len(x), *a["shape"])
        if op == "pad":
            return functional.pad(x, a["widths"], a["mode"])
        if op == "leaky_relu":
            return functional.leaky_relu(x, a["slope"])
        if op == "hardtanh":
            return x.clamp(a["low"], a["high"])
        if op == "max_pool":
            pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(a["kernel"]) - 1]
            return pool(x, a["kernel"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])
        if op == "average_pool":
            pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[len(a["kernel"]) - 1]
            return pool(x, a["kernel"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"])
        return getattr(functional, op, getattr(torch, op, None))(x, **a)

    def function(self, a: dict[str, Any], own: list[torch.Tensor]) -> torch.Tensor:
        """One of torch's operations, called with arguments as the page says."""
        size = own[a["batch"][0]].shape[a["batch"][1]] // a["batch"][2] if a["batch"] else 0

        def argument(value: Any) -> Any:
            if isinstance(value, list):
                return [argument(entry) for entry in value]
            if not isinstance(value, dict):
                return value
            ((kind, content),) = value.items()
            dtype = torch.float64 if content == "float" else getattr(torch, str(content), None)
            return {
                "source": lambda: own[content],
                "batch": lambda: content * size,
                "number": lambda: float(content),
                "dtype": lambda: dtype,
            }[kind]()

        called = getattr(torch.ops.aten, a["function"])
        result = called(**{key: argument(value) for key, value in a["arguments"].items()})
        return result if a["output"] < 0 else result[a["output"]]


class Tokens(nn.Module):
    """An embedding that is the head as well, positions, recurrence both ways, attention, a layer twice, two results."""

    def __init__(self, cell: type[nn.RNNBase], **own: Any) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(5, 4), nn.Parameter(torch.randn(3, 4))
        self.cell, self.norm = cell(4, 2, bidirectional=True, batch_first=True, **own), nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, _ = self.cell(self.table(x) + self.places)
        h = self.norm(torch.relu(self.mix(self.mix(h))))
        mask = torch.full((3, 3), -math.inf).triu(1)
        h = torch.softmax(h @ h.transpose(1, 2) + mask, -1) @ h + torch.zeros(x.size(0), 3, 1)
        return functional.linear(h, self.table.weight), h.mean(1)


class Pictures(nn.Module):
    """Groups, transposed convolution, pooling, padding, a skip, and activations with numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", groups=2)
        self.second = nn.Conv2d(4, 4, (1, 2), stride=(1, 2), dilation=(1, 2), padding=(0, 1))
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2, output_padding=1, groups=2, dilation=2, padding=1)
        self.norm, self.slope, self.out = nn.GroupNorm(2, 4), nn.PReLU(4), nn.Conv1d(4, 2, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = functional.relu6(self.first(x))
        h = functional.leaky_relu(self.second(h), 0.3)
        h = functional.max_pool2d(self.norm(h), 2, ceil_mode=True)
        h = self.slope(torch.cat([h, torch.tanh(h)], 1)[:, 1:5])
        h = functional.avg_pool2d(functional.elu(self.up(h)), 2, 2)
        return self.out(h.flatten(2))


CASES: dict[str, tuple[Any, torch.Tensor, frozenset[str]]] = {
    "gru": (lambda: Tokens(nn.GRU), torch.zeros(1, 3, dtype=torch.int64), frozenset()),
    "lstm": (lambda: Tokens(nn.LSTM), torch.zeros(1, 3, dtype=torch.int64), frozenset()),
    "rnn": (lambda: Tokens(nn.RNN, nonlinearity="relu"), torch.zeros(1, 3, dtype=torch.int64), frozenset()),
    "pictures": (Pictures, torch.zeros(1, 2, 4, 6), frozenset()),
    "kept": (Pictures, torch.zeros(1, 2, 4, 6), frozenset({"second", "norm.weight"})),
}


def _case(name: str, path: Path) -> tuple[slth.Ticket, GraphReader]:
    factory, example, exclude = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = factory()
        settle(model)
    ticket = slth.find_ticket(model.eval(), example, base_set_size=3, seed=9, exclude=",".join(sorted(exclude)) or None)
    ticket.save(path / "a.ticket")
    return ticket, GraphReader(path / "a.ticket")


@pytest.mark.parametrize("name", list(CASES))
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, name: str) -> None:
    ticket, reader = _case(name, tmp_path)
    assert reader.content_digest() == reader.header["content_digest"]
    generator = torch.Generator().manual_seed(1)
    shape, classes = (4, *ticket.graph.input_shape), reader.header["graph"].get("classes", 0)
    x = torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1
    x = ((x + 1) / 2 * classes).long() if classes else x
    with torch.no_grad():
        expected = ticket.module("folded", dtype=torch.float64)(x)
    parts = expected if isinstance(expected, tuple) else (expected,)
    wanted = torch.cat([part.reshape(len(x), -1) for part in parts], 1)
    found = reader.run_batch(x).reshape(len(x), -1)
    assert float(wanted.abs().max()) > 1e-3
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-10, atol=1e-12)


def test_the_reader_meets_every_kind_of_node_that_the_page_lists(tmp_path: Path) -> None:
    met, shared, constant, axes = set(), False, False, set()
    for name in CASES:
        _, reader = _case(name, tmp_path)
        for node in reader.header["graph"]["nodes"]:
            met.add(node["op"])
            shared |= "layer" in node
            constant |= node["op"] == "kept" and reader.header["accounts"] != []
            axes |= {str(node["attributes"].get("kind", ""))}
    assert KNOWN - met == set() and shared and constant
    assert {"function", "kept", "join", "max_pool", "average_pool", "pad", "hardtanh", "elu", "leaky_relu"} <= met
    assert {"gru", "lstm", "rnn_relu"} <= axes


def test_the_page_names_every_operation() -> None:
    from slth.network.operators import OPERATORS

    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    graph = page[page.index("### `graph`") : page.index("### `accounts`")]
    assert all(f"`{name}`" in graph for name in OPERATORS)
