"""Networks as people bring them, from files of their own and in memory; and in which words others are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import slth
from command_line import assert_refused
from command_line import slth as command
from slth.errors import UnsupportedError
from slth.network.differences import difference
from slth.network.graph import Graph
from slth.network.trace import trace
from slth.network.trial import tensors

Made = tuple[nn.Module, Any]
OWN = Path(__file__)


def _seeded(build: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model, example = build()
        return model.eval(), example

    made.__name__ = build.__name__
    return made


class Cells(nn.Module):
    """Recurrent cells in a loop, with states that begin as plain zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.GRUCell(3, 5), nn.LSTMCell(5, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, c = x.new_zeros(x.size(0), 5), torch.zeros(x.size(0), 4)
        state = (c, c)
        for t in range(x.size(1)):
            h = self.first(x[:, t], h)
            state = self.second(h, state)
        return self.out(state[0])


class Heads(nn.Module):
    """A dict of results, one of them a number for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(6, 12), nn.Linear(12, 3), nn.Linear(12, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.relu(self.body(x))
        return {"policy": self.policy(h), "value": self.value(h).squeeze(-1)}


class Experts(nn.Module):
    """A mixture of experts whose weights lie in one tensor each."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.expand = nn.Linear(8, 4), nn.Parameter(torch.randn(4, 8, 16) / 3)
        self.shift, self.contract = nn.Parameter(torch.randn(4, 16) / 10), nn.Parameter(torch.randn(4, 16, 8) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(torch.einsum("bi,eio->beo", x, self.expand) + self.shift)
        mixed = torch.einsum("beo,eoj->bej", hidden, self.contract)
        return torch.einsum("be,bej->bj", torch.softmax(self.gate(x), -1), mixed)


class Language(nn.Module):
    """A causal language model whose table is its head as well."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.table, self.body = nn.Embedding(20, 8), nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        return self.head(self.body(self.table(x), mask=mask, is_causal=True))


class Translation(nn.Module):
    """An encoder that reads both ways, a decoder and attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6)
        self.encoder = nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.decoder, self.attend = nn.LSTM(10, 8, batch_first=True), nn.Linear(8, 10, bias=False)
        self.out = nn.Linear(18, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.encoder(self.table(x))
        d, _ = self.decoder(h)
        weights = torch.softmax(self.attend(d) @ h.transpose(1, 2) / math.sqrt(10), -1)
        return self.out(torch.cat([weights @ h, d], -1))


class Pair(nn.Module):
    """Two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.both, self.out = nn.Linear(5, 6), nn.Linear(3, 6), nn.Bilinear(6, 6, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.both(torch.relu(self.a(x)), torch.relu(self.b(y)))))


@_seeded
def cells() -> Made:
    return Cells(), torch.randn(2, 6, 3)


@_seeded
def heads() -> Made:
    return Heads(), torch.randn(2, 6)


@_seeded
def experts() -> Made:
    return Experts(), torch.randn(2, 8)


@_seeded
def language() -> Made:
    return Language(), torch.randint(0, 20, (2, 7))


@_seeded
def translation() -> Made:
    return Translation(), torch.randint(0, 20, (2, 5))


@_seeded
def pair() -> Made:
    return Pair(), (torch.randn(1, 5), torch.randn(1, 3))


@_seeded
def bag() -> Made:
    return nn.Sequential(nn.EmbeddingBag(20, 8, mode="mean"), nn.Linear(8, 2)), torch.randint(0, 20, (2, 5))


@_seeded
def parametrised() -> Made:
    norms = torch.nn.utils.parametrizations
    first, second = norms.weight_norm(nn.Conv1d(2, 6, 3)), norms.spectral_norm(nn.Conv1d(6, 4, 3, dilation=2))
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.Flatten(), nn.Linear(16, 3)), torch.randn(2, 2, 10)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "build", [cells, heads, experts, language, translation, pair, bag, parametrised], ids=lambda build: build.__name__
)
def test_its_ticket_computes_what_torch_does(build: Callable[[], Made], tmp_path: Path) -> None:
    model, example = build()
    ticket = slth.find_ticket(model, example, base_set_size=24, seed=1)
    given = example if isinstance(example, tuple) else (example,)
    assert ticket.ticketed_share == 1.0
    with torch.no_grad():
        wanted = tensors(model(*given))
        for form in ("folded", "sparse", "masked"):
            found = tensors(ticket.module(form)(given[0]))
            assert [part.shape for part in found] == [part.shape for part in wanted]
            for one, other in zip(found, wanted, strict=True):
                assert (one - other).abs().max() <= 1e-3 * other.abs().max(), form
    ticket.save(tmp_path / "net.ticket")
    assert slth.verify(slth.load(tmp_path / "net.ticket"), trace(model, example)).holds


class Padded(nn.Module):
    """An encoder whose padding is told by a mask of truth values."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.body, self.out = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(x, src_key_padding_mask=mask).mean(1))


@_seeded
def padded() -> Made:
    return Padded(), (torch.randn(2, 4, 8), torch.tensor([[False, False, False, True]] * 2))


def test_a_mask_of_truth_values_is_a_constant_of_the_target_and_of_its_certificate() -> None:
    target = trace(*padded())
    result = slth.verify(slth.find_ticket(target, base_set_size=16), target, domain=(-1, 1))
    assert result.holds and result.observed_error <= result.certified_error


@pytest.mark.parametrize("suffix", [".pt2", ""], ids=["program", "folder"])
def test_several_results_are_exported_in_their_order_and_shapes(suffix: str, tmp_path: Path) -> None:
    model, example = heads()
    ticket, path = slth.find_ticket(model, example, base_set_size=24), tmp_path / f"net{suffix}"
    assert ticket.export(path).relative_difference <= 1e-4
    network = torch.export.load(path).module() if suffix else slth.from_pretrained(path)
    assert [part.shape for part in tensors(network(example))] == [(2, 3), (2,)]


def test_a_factory_may_lie_in_a_file(tmp_path: Path) -> None:
    words = ("--model", f"{OWN}:heads", "-q")
    assert command("find", *words, "-o", "net.ticket", "--base-set-size", 8, cwd=tmp_path).status == 0
    assert command("verify", "net.ticket", *words, cwd=tmp_path).status == 0
    assert command("show", "net.ticket", "--html", "net.html", "-q", cwd=tmp_path).status == 0


class Branch(nn.Module):
    """A forward pass that goes by the values of its input, in one of several ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(4, 4), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "branch" and x.sum() > 0:
            return torch.relu(self.layer(x))
        if self.kind == "item":
            return self.layer(x) * x.max().item()
        if self.kind == "rows":
            return self.layer(x[x[:, 0] > 0])
        if self.kind == "numpy":
            return self.layer(torch.from_numpy(x.detach().numpy()))
        if self.kind == "packed":
            lengths = torch.tensor([2, 2])
            packed = nn.utils.rnn.pack_padded_sequence(x.reshape(2, 2, 2), lengths, batch_first=True)
            return self.layer(packed.data.reshape(-1, 4))
        return self.layer(x)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("branch", ("branch or loop", "test_user_networks.py line", 'self.kind == "branch" and x.sum() > 0', "where")),
        ("item", ("layer 'mul'", "by the values of the input", ".item()")),
        ("rows", ("by the values of the input", "mask")),
        ("numpy", ("taken out of a tensor", "x.detach().numpy()", "torch's own operation")),
        ("packed", ("pack_padded_sequence",)),
    ],
)
def test_what_goes_by_values_is_refused_by_its_line_and_without_torchs_symbols(
    kind: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        trace(Branch(kind), torch.randn(2, 4))
    message = str(caught.value)
    assert all(word in message for word in words), message
    for raw in ("u0", "zuf0", "FakeTensor", "guard", "unhinted", "\n"):
        assert raw not in message


def test_open_axes_of_a_program_are_refused_without_torchs_symbols() -> None:
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("length", min=4)}
    program = torch.export.export(nn.Conv1d(2, 4, 3), (torch.randn(3, 2, 9),), dynamic_shapes=(sizes,))
    with pytest.raises(UnsupportedError, match=r"another axis than the batch's.*Dim\('batch'\) for the first axis"):
        slth.find_ticket(program)


def test_an_input_of_another_kind_is_refused_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy, torch\nmake = lambda: (torch.nn.Linear(2, 2), numpy.zeros((1, 2)))\n"
    )
    assert_refused(command("find", "--model", "own.py:make", "-o", "net.ticket", cwd=tmp_path), "ndarray", "as_tensor")
    with pytest.raises(slth.errors.ArgumentError, match="at least one example"):
        trace(nn.Linear(2, 2), torch.zeros(0, 2))


def _network(channels: int = 8, stride: int = 1, act: nn.Module | None = None, *more: nn.Module) -> Graph:
    layers = (nn.Conv2d(3, channels, 3, stride, padding=1), act or nn.Softshrink(0.5), nn.AdaptiveAvgPool2d(4))
    return trace(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * channels, 4), *more), torch.zeros(1, 3, 8, 8)
    ).graph


@pytest.mark.parametrize(
    ("other", "got", "need"),
    [
        (_network(stride=2), "conv '0' stride (2, 2)", "conv '0' stride (1, 1)"),
        (_network(channels=9), "weight shape (9, 3, 3, 3)", "weight shape (8, 3, 3, 3)"),
        (_network(8, 1, nn.GELU()), "with gelu 'gelu'", "with softshrink 'softshrink'"),
        (
            _network(8, 1, nn.Softshrink(0.25)),
            "softshrink 'softshrink' lambd 0.25",
            "softshrink 'softshrink' lambd left out",
        ),
        (_network(8, 1, None, nn.ReLU()), "with relu 'relu' behind", "and nothing more"),
    ],
)
def test_where_two_networks_differ_is_said_in_words(other: Graph, got: str, need: str) -> None:
    ours, theirs = difference(other, _network())
    assert ours.endswith(got) and theirs.endswith(need)
    assert ours.startswith("a network of 2 weight layers, ") and "{" not in ours + theirs


def test_every_difference_of_two_graphs_is_found() -> None:
    graph = _network()
    for n, node in enumerate(graph.nodes):
        others = [replace(node, op="tanh", attributes={}), replace(node, attributes={**node.attributes, "x": 1})]
        others += [replace(node, sources=(*node.sources, "input"))]
        for other in others:
            changed = Graph(graph.input_shape, (*graph.nodes[:n], other, *graph.nodes[n + 1 :]), graph.classes, 0)
            ours, theirs = difference(changed, graph)
            assert ours != theirs and repr(node.name) in ours
    one = Graph(graph.input_shape, graph.nodes, graph.classes, 4)
    assert difference(one, graph)[0].endswith("batches of 4, no classes")
