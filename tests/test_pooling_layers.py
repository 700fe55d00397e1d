"""Average pooling as a convolution (da Cunha 2022, theory 5.5 item 2, check C10): the same network, its ticket."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import slth
from conftest import KINDS
from slth import artifact
from slth.certify.factors import Factors
from slth.certify.points import evaluate as evaluate_points
from slth.commands.find import parse_settings
from slth.commands.screen import order_lines
from slth.copies import realise_all
from slth.errors import ArgumentError, TicketError
from slth.network.graph import Graph, Sign
from slth.network.pooling_layers import CONVOLUTION, FIXED, pool, pooled
from slth.network.target import Target
from slth.network.trace import trace
from slth.report.page import render
from slth.runtime import evaluate
from slth.summary import summarise
from test_format import Reader
from zoo import Case, inputs, shake

CONV, AVERAGE = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
WITH = {"construction": "conv", "settings": {"pooling": CONVOLUTION}}


def ops(graph: Graph) -> list[str]:
    """Operations in order."""
    return [node.op for node in graph]


def traced(model: nn.Module, *shape: int, seed: int = 0) -> Target:
    """In float64, with random weights."""
    return trace(shake(model.double(), seed), torch.zeros(2, *shape, dtype=torch.float64))


def same(target: Target, seed: int = 0) -> Target:
    """The network without average pooling, after a look that it computes the same."""
    made = pool(target, CONVOLUTION)
    assert made.graph == pooled(target.graph, CONVOLUTION)
    assert Graph.from_json(made.graph.to_json()) == made.graph
    x = 3 * inputs(target.graph.input_shape, 12, seed=seed)
    torch.testing.assert_close(evaluate(made, x), evaluate(target, x), rtol=1e-13, atol=1e-13)
    return made


@st.composite
def windows(draw: st.DrawFn, n: int, most: int = 3) -> dict[str, Any]:
    """Kernel and stride on n axes."""
    sizes = st.tuples(*[st.integers(1, most)] * n)
    return {"kernel_size": draw(sizes), "stride": draw(sizes)}


@given(data=st.data(), n=st.integers(1, 3), behind=st.sampled_from(["conv", "relu", "tanh", "input"]))
def test_the_network_without_average_pooling_computes_the_same(data: st.DataObject, n: int, behind: str) -> None:
    """C10: exact, in one, two and three dimensions, whatever stride, padding, groups and bias."""
    window = data.draw(windows(n))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in window["kernel_size"])
    if n == 1:
        window, padding = {key: value[0] for key, value in window.items()}, padding[0]
    flags = {"ceil_mode": data.draw(st.booleans()), "count_include_pad": data.draw(st.booleans())}
    average = AVERAGE[n - 1](**window, padding=padding, **flags)
    groups, dilation = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(1, 2))
    own = data.draw(windows(n))
    layer = CONV[n - 1](2, 4, **own, padding=1, groups=groups, dilation=dilation, bias=data.draw(st.booleans()))
    sigma = {"relu": [nn.ReLU()], "tanh": [nn.Tanh()]}.get(behind, [])
    head = CONV[n - 1](2 if behind == "input" else 4, 3, 1)
    model = nn.Sequential(*([] if behind == "input" else [layer, *sigma]), average, head)
    shape = (2, *(data.draw(st.integers(5, 9)) for _ in range(n)))
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape))
    except RuntimeError:
        assume(False)
    target = traced(model, *shape, seed=data.draw(st.integers(0, 1000)))
    made = same(target)
    node = next(node for node in target.graph if node.op == "average_pool")
    whole = node.shape == tuple(trace(_floored(model), torch.zeros(2, *shape)).graph.shape_of(node.name))
    even = whole and (flags["count_include_pad"] or not np.any(padding))
    assert ("average_pool" in ops(made.graph)) == (not even)
    folds = even and behind == "conv" and dilation == 1 and not np.any(padding)
    assert len(made.layers) == len(target.layers) + (even and not folds)


def _floored(model: nn.Module) -> nn.Module:
    """The same without windows that are cut off."""
    for part in model:
        if isinstance(part, AVERAGE):
            part.ceil_mode = False
    return model.float()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    ("window", "layers"),
    [
        ({"stride": 1}, 1),
        ({"stride": 2}, 1),
        ({"stride": 3, "padding": 1}, 2),
        ({"stride": 2, "padding": 1, "ceil_mode": True}, 1),
        ({"stride": 2, "padding": 1, "count_include_pad": False}, 1),
    ],
)
def test_windows_behind_a_convolution(n: int, window: dict[str, Any], layers: int) -> None:
    """C10 with strides other than the kernel, padding that is counted and not, and windows that are cut off."""
    target = traced(nn.Sequential(CONV[n - 1](1, 2, 3, stride=2, padding=1), AVERAGE[n - 1](3, **window)), 1, *[11] * n)
    made = same(target)
    assert len(made.layers) == layers
    kept = "ceil_mode" in window or "count_include_pad" in window
    assert ("average_pool" in ops(made.graph)) == kept


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_folded_kernel_is_a_box_convolved_with_it(n: int) -> None:
    """Theory 5.5: K' = box * K / p^n of size d + p - 1, here against an exact convolution term by term."""
    d, p = 3, 2
    target = traced(nn.Sequential(CONV[n - 1](2, 3, d), AVERAGE[n - 1](p, stride=1)), 2, *[5] * n, seed=n)
    (layer,), (made,) = target.layers, same(target).layers
    assert made.weight.shape == (3, 2, *[d + p - 1] * n) and made.node.attributes["stride"] == (1,) * n
    kernel = layer.weight.numpy()
    for place in itertools.product(range(3), range(2), *[range(d + p - 1)] * n):
        out, into, *tap = place
        terms = [
            Fraction(float(kernel[(out, into, *(m - j for m, j in zip(tap, box, strict=True)))]))
            for box in itertools.product(range(p), repeat=n)
            if all(0 <= m - j < d for m, j in zip(tap, box, strict=True))
        ]
        exact = sum(terms, Fraction(0)) / p**n
        found, summed = Fraction(float(made.weight[place])), Fraction(float(made.summed[place]))
        assert abs(found - exact) <= Fraction(1, 2**52) * abs(exact)
        assert abs(found) <= summed
        assert abs(summed * p**n - sum(map(abs, terms))) <= Fraction(1, 2**51) * summed * p**n


def test_what_is_folded_what_is_a_layer_and_what_stays() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, stride=2),  # 9x9 -> 5x5
        nn.AvgPool2d(2, stride=1),  # folded
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1, padding=1),  # a layer, 5x5
        nn.Conv2d(2, 2, 1),
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),  # kept
        nn.Tanh(),
        nn.AvgPool2d(2, ceil_mode=True),  # kept, 3x3
        nn.AvgPool2d(2, stride=1),  # a layer, but nothing is known of its sign
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    target = traced(model, 1, 9, 9)
    made = same(target)
    wanted = [
        "conv",
        "relu",
        "conv",
        "relu",
        "conv",
        "average_pool",
        "tanh",
        "average_pool",
        "conv",
        "reshape",
        "linear",
    ]
    assert ops(made.graph) == wanted
    assert [layer.name for layer in made] == ["0", "avg_pool2d_1", "4", "avg_pool2d_4", "10"]
    assert made.layers[0].weight.shape == (2, 1, 5, 5) and made.layers[0].bias is target.layers[0].bias
    assert torch.equal(made.layers[1].weight, torch.full((2, 1, 2, 2), 0.25, dtype=torch.float64))
    assert made.layers[1].node.attributes["groups"] == 2 and made.layers[1].bias is None
    assert made.input_signs(Sign.SIGNED)["4"] is Sign.NONNEGATIVE
    assert pool(target, FIXED) is target and pooled(target.graph, FIXED) is target.graph


def test_pooling_twice_is_folded_twice() -> None:
    target = traced(nn.Sequential(nn.Conv1d(1, 2, 3), nn.AvgPool1d(3, 2), nn.AvgPool1d(2)), 1, 20)
    made = same(target)
    assert ops(made.graph) == ["conv"]
    assert made.layers[0].weight.shape == (2, 1, 3 + 2 + 2) and made.layers[0].node.attributes["stride"] == (4,)


def test_a_name_that_is_taken_gets_an_underscore() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.phi, self.mean = nn.Conv1d(1, 2, 1), nn.ReLU(), nn.AvgPool1d(2)
            self.avg_pool1d_relu = nn.Conv1d(2, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.avg_pool1d_relu(self.mean(self.phi(self.first(x))))

    made = same(traced(Named(), 1, 6))
    assert [node.name for node in made.graph if node.op == "relu"][1] == "avg_pool1d_relu_"


def test_rounding_goes_by_what_is_added_up_not_by_what_cancels() -> None:
    """The target itself is evaluated unfolded: 2^40 and -2^40 that cancel leave more rounding than their mean is."""
    layer = nn.Conv1d(1, 1, 2, bias=False).double()
    layer.weight.data = torch.tensor([[[2.0**40 / 3, -(2.0**40) / 3 * (1 + 2.0**-40)]]], dtype=torch.float64)
    target = trace(nn.Sequential(layer, nn.AvgPool1d(2)).eval(), torch.zeros(1, 1, 7, dtype=torch.float64))
    options = {"base_set_size": 12, "domain": (0, 1), **WITH}
    ticket = slth.find_ticket(target, **options)
    hidden = ticket.hidden(target)
    realised = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    (made,) = hidden.layers
    middle = float(made.weight[0, 0, 1].abs())
    assert middle < 1 < 2**37 < float(Factors(made, realised["0"]).weight_size[0, 0, 1])
    x = inputs((1, 7), 50, (0, 1))
    exact = [
        [
            sum(
                Fraction(float(w)) * (Fraction(row[0, 2 * q + i].item()) + Fraction(row[0, 2 * q + i + 1].item())) / 2
                for i, w in enumerate(layer.weight.detach().flatten())
            )
            for q in range(3)
        ]
        for row in x
    ]
    outputs = evaluate_points(hidden, realised, x)
    for value, off, true in zip(outputs.target.value, outputs.target.off, exact, strict=True):
        assert all(abs(Fraction(v.item()) - t) <= Fraction(o.item()) for v, o, t in zip(value, off, true, strict=True))
    unfolded = evaluate(target, x).flatten(1)
    for value, off, true in zip(unfolded, outputs.target.off, exact, strict=True):
        assert all(abs(Fraction(v.item()) - t) <= Fraction(o.item()) for v, o, t in zip(value, off, true, strict=True))


POOLED = Case(KINDS["kernels, pooled"].model, (2, 6, 6), {**KINDS["kernels, pooled"].options, "base_set_size": 20})


@pytest.mark.parametrize("signed", ["pointwise", "taps", "split", "shift"])
@pytest.mark.parametrize("domain", [(0, 1), (-1, 1)])
def test_a_ticket_without_average_pooling(tmp_path: Path, signed: str, domain: tuple[int, int]) -> None:
    """Found, stored, read, verified by every method, shown and evaluated in three forms."""
    target = POOLED.target()
    options = {**POOLED.options, "domain": domain, "settings": {"pooling": CONVOLUTION, "signed": signed}}
    ticket = slth.find_ticket(target, **options)
    assert ticket.pooling == CONVOLUTION and "average_pool" in ops(ticket.graph)
    assert "average_pool" not in ops(ticket.hidden_graph)
    assert len(ticket.spec.layers) == len(target.layers) + 1
    ticket.save(tmp_path / "t.ticket")
    read = slth.load(tmp_path / "t.ticket")
    assert read == ticket and artifact.to_bytes(read) == (tmp_path / "t.ticket").read_bytes()
    for method in ("linear", "interval", "norm"):
        found = slth.verify(read, target, domain, method=method)
        assert found.holds and found.observed_error <= found.certified_error
    x = inputs((2, 6, 6), 60, domain)
    gaps = []
    for form in ("folded", "sparse", "masked"):
        with torch.no_grad():
            gaps.append((read.module(form, dtype=torch.float64)(x) - evaluate(target, x)).abs().max().item())
    assert max(gaps) <= found.certified_error and max(gaps) - min(gaps) < 1e-12
    assert 0 < max(gaps) < 0.1


def test_what_is_shown() -> None:
    ticket = POOLED.find()
    summary = summarise(ticket)
    assert summary.pooling == {
        "layers of their own": ("avg_pool2d_1",),
        "folded into the layer before": ("avg_pool2d",),
    }
    lines = [line for line in order_lines(summary) if "average pooling" in line]
    assert lines == [
        "average pooling as convolutions; layers of their own: avg_pool2d_1; folded into the layer before: avg_pool2d"
    ]
    page = render(ticket, title="pooled", target=POOLED.target())
    assert "Average pooling, layers of their own: avg_pool2d_1." in page and "conv 3 × 1 × 2 × 2" in page
    assert summarise(Case(POOLED.model, (2, 6, 6), {"construction": "conv"}).find()).pooling == {}


def test_an_error_asked_of_the_output_counts_found_pooling() -> None:
    ticket = slth.find_ticket(POOLED.target(), eps=0.5, domain=(0, 1), **WITH)
    assert slth.verify(ticket, POOLED.target(), (0, 1), eps=0.5).holds
    assert {layer.name for layer in ticket.rounds[-1].layers} == {"0", "avg_pool2d_1", "4", "7"}


def test_ways_that_are_none_are_refused() -> None:
    target = POOLED.target()
    for way in ("conv", "", None, True):
        with pytest.raises(ArgumentError, match="pooling"):
            slth.find_ticket(target, construction="conv", settings={"pooling": way})
    with pytest.raises(ArgumentError, match=r"(?s)pooling.*two-for-one"):
        slth.find_ticket(target, settings={"pooling": CONVOLUTION})
    assert parse_settings(["pooling=convolution"]) == {"settings": {"pooling": CONVOLUTION}}


@pytest.mark.parametrize("value", ["conv", "", None, 1, ["convolution"], "fixed"])
def test_files_with_another_way_are_refused(value: object) -> None:
    """Another word, and another way than the layers in the file are of."""
    header, tensors = artifact._fields(POOLED.find()) | {"pooling": value}, POOLED.find().tensors()
    with pytest.raises(TicketError):
        artifact._ticket(header, tensors)


def test_only_conv_has_pooling_in_its_files() -> None:
    ticket = KINDS["nonnegative"].find()
    artifact._ticket(artifact._fields(ticket), ticket.tensors())
    with pytest.raises(TicketError, match="pooling"):
        artifact._ticket(artifact._fields(ticket) | {"pooling": CONVOLUTION}, ticket.tensors())
    assert "pooling" not in artifact._fields(Case(POOLED.model, (2, 6, 6), {"construction": "conv"}).find())


def without_pooling(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """The part of docs/format.md on pooling, for graphs with one spatial axis and no windows that are cut off."""
    nodes: list[dict[str, Any]] = []
    channels, positive, last = graph["input_shape"][0], False, None
    for node in graph["nodes"]:
        own, before = node["attributes"], nodes[-1]["name"] if nodes else "input"
        if node["op"] == "average_pool" and last == "conv" and own["padding"] == [0]:
            conv = nodes[-1]["attributes"]
            outputs, inputs, size = conv["weight_shape"]
            (stride,) = conv["stride"]
            conv["weight_shape"] = [outputs, inputs, stride * (own["kernel"][0] - 1) + size]
            conv["stride"] = [stride * own["stride"][0]]
        elif node["op"] == "average_pool":
            shape = {"weight_shape": [channels, 1, *own["kernel"]], "padding": own["padding"] * 2}
            geometry = {"stride": own["stride"], "dilation": [1], "groups": channels, "bias": False}
            nodes.append({"name": node["name"], "op": "conv", "source": before, "attributes": shape | geometry})
            last = "pooling"
            if positive:
                nodes.append({"name": f"{node['name']}_relu", "op": "relu", "source": node["name"], "attributes": {}})
        else:
            nodes.append({**node, "source": before})
            last, positive = node["op"], node["op"] == "relu" or (positive and node["op"] not in WEIGHTS)
            channels = own["weight_shape"][0] if node["op"] in WEIGHTS else channels
    return nodes


WEIGHTS = ("conv", "linear")
ONE_AXIS = {
    "signed": [nn.Conv1d(2, 4, 3, stride=2, padding=2, groups=2), nn.AvgPool1d(2, 1), nn.AvgPool1d(2, 2, padding=1)],
    "at first": [nn.AvgPool1d(3, 2), nn.AvgPool1d(2, 1), nn.Conv1d(2, 2, 2)],
    "behind relu": [nn.Conv1d(2, 3, 2), nn.ReLU(), nn.AvgPool1d(2), nn.AvgPool1d(2, 1), nn.Conv1d(3, 2, 1)],
}


@pytest.mark.parametrize("name", ONE_AXIS)
def test_a_reader_written_from_the_page_finds_the_same_layers(tmp_path: Path, name: str) -> None:
    model = shake(nn.Sequential(*ONE_AXIS[name]), 4)
    ticket = slth.find_ticket(model, torch.zeros(1, 2, 11), base_set_size=6, **WITH)
    graph = ticket.hidden_graph.to_json()
    assert without_pooling(json.loads(json.dumps(artifact._fields(ticket)["graph"]))) == graph["nodes"]
    if name == "behind relu":
        # Kernels come first there, which the reader below does not know.
        return
    ticket.save(tmp_path / "t.ticket")
    reader = Reader(tmp_path / "t.ticket")
    assert reader.header["pooling"] == CONVOLUTION
    reader.header["graph"]["nodes"] = without_pooling(reader.header["graph"])
    x = inputs((2, 11), 6)
    with torch.no_grad():
        expected = ticket.module("folded", dtype=torch.float64)(x).numpy()
    for row, wanted in zip(x.numpy(), expected, strict=True):
        np.testing.assert_allclose(reader.run(row), wanted, rtol=1e-12, atol=1e-12)
