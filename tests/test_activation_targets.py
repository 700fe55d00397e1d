"""Targets with every activation: traced, saved, loaded, refused, and from the command line to a verified ticket."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import slth
from command_line import slth as run
from slth.artifact import from_bytes, to_bytes
from slth.errors import TicketError
from slth.network.archive import read_archive
from slth.network.graph import Graph, Sign
from slth.network.load import TargetReference
from slth.network.operators import OPERATORS
from slth.network.trace import trace
from slth.runtime import evaluate, target_module
from zoo import inputs, mlp, shake

SPELLINGS: dict[
    str, tuple[Callable[[], nn.Module], list[Callable[[torch.Tensor], torch.Tensor]], str, dict[str, Any]]
] = {
    "relu": (nn.ReLU, [functional.relu, functional.relu_, torch.relu], "relu", {}),
    "leaky_relu:0.2": (
        lambda: nn.LeakyReLU(0.2),
        [lambda x: functional.leaky_relu(x, 0.2), lambda x: functional.leaky_relu(x, negative_slope=0.2, inplace=True)],
        "leaky_relu",
        {"slope": 0.2},
    ),
    "leaky_relu": (nn.LeakyReLU, [functional.leaky_relu], "leaky_relu", {"slope": 0.01}),
    "prelu:0.75": (lambda: nn.PReLU(init=0.75), [], "leaky_relu", {"slope": 0.75}),
    "tanh": (nn.Tanh, [torch.tanh, functional.tanh, torch.Tensor.tanh_], "tanh", {}),
    "sigmoid": (nn.Sigmoid, [torch.sigmoid, functional.sigmoid, torch.special.expit], "sigmoid", {}),
    "gelu": (nn.GELU, [functional.gelu], "gelu", {"approximate": "none"}),
    "gelu_tanh": (
        lambda: nn.GELU("tanh"),
        [lambda x: functional.gelu(x, approximate="tanh")],
        "gelu",
        {"approximate": "tanh"},
    ),
    "silu": (nn.SiLU, [functional.silu, lambda x: functional.silu(x, inplace=True)], "silu", {}),
    "elu": (nn.ELU, [functional.elu, functional.elu_], "elu", {"alpha": 1.0}),
    "elu:0.5": (lambda: nn.ELU(0.5), [lambda x: functional.elu(x, 0.5)], "elu", {"alpha": 0.5}),
    "softplus": (nn.Softplus, [functional.softplus], "softplus", {"beta": 1.0, "threshold": 20.0}),
    "softplus:2,5": (
        lambda: nn.Softplus(2, 5),
        [lambda x: functional.softplus(x, beta=2, threshold=5)],
        "softplus",
        {"beta": 2.0, "threshold": 5.0},
    ),
    "hardtanh": (nn.Hardtanh, [functional.hardtanh], "hardtanh", {"low": -1.0, "high": 1.0}),
    "hardtanh:-0.5,2": (lambda: nn.Hardtanh(-0.5, 2), [], "hardtanh", {"low": -0.5, "high": 2.0}),
    "relu6": (nn.ReLU6, [functional.relu6], "hardtanh", {"low": 0.0, "high": 6.0}),
}


class Between(nn.Module):
    """Two layers and something between them."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Linear(4, 6), nn.Linear(6, 3), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Layer, function, layer."""
        return self.second(self.between(self.first(x)))


def perceptron(activation: nn.Module) -> Between:
    """A perceptron whose activation keeps its own parameters."""
    model = Between(activation)
    shake(model.first, 0)
    shake(model.second, 1)
    return model.eval()


def convolutional(activation: nn.Module) -> nn.Sequential:
    """A small convolutional network; input (2, 6, 6)."""
    model = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), copy.deepcopy(activation), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 2, 2), copy.deepcopy(activation), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2)),
    )
    for number in (0, 3, 7):
        shake(model[number], number)
    return model.eval()


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_is_traced_into_one_graph(text: str) -> None:
    module, functions, op, attributes = SPELLINGS[text]
    model = perceptron(module())
    target = trace(model, torch.zeros(1, 4))
    assert [node.op for node in target.graph] == ["linear", op, "linear"]
    assert target.graph.nodes[1].attributes == attributes
    x = inputs((4,), 40, (-4, 4))
    expected = copy.deepcopy(model).double()(x)
    torch.testing.assert_close(evaluate(target, x), expected, rtol=1e-14, atol=1e-14)
    for function in functions:
        assert trace(perceptron(function), torch.zeros(1, 4)).digest() == target.digest()  # type: ignore[arg-type]
    again = trace(target_module(target), torch.zeros(1, 4))
    assert again.digest() == target.digest()
    assert Graph.from_json(json.loads(json.dumps(target.graph.to_json()))) == target.graph


def test_the_identity_leaves_no_node() -> None:
    assert [node.op for node in trace(perceptron(nn.Identity()), torch.zeros(1, 4)).graph] == ["linear", "linear"]


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_saved_program_and_a_state_dict_are_the_same_target(text: str, tmp_path: Path) -> None:
    model = perceptron(SPELLINGS[text][0]())
    target = trace(model, torch.zeros(1, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), tmp_path / "net.pt2")
    read = read_archive(tmp_path / "net.pt2")
    assert read.digest() == target.digest() and read.graph == target.graph
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("between")}
    save_file(state, tmp_path / "net.safetensors")
    loaded = TargetReference(tmp_path / "net.safetensors", activation=text).load()
    assert loaded.digest() == target.digest()


def test_a_state_dict_with_identities_is_one_linear_map(tmp_path: Path) -> None:
    save_file(mlp((3, 4, 2)).state_dict(), tmp_path / "net.safetensors")
    target = TargetReference(tmp_path / "net.safetensors", activation="identity").load()
    assert [node.op for node in target.graph] == ["linear", "linear"]


def test_a_learnt_slope_is_a_constant_of_the_architecture() -> None:
    """Two targets that differ in it alone are different targets; in half precision it is read as it is."""
    digests = {trace(perceptron(nn.PReLU(init=slope)), torch.zeros(1, 4)).digest() for slope in (0.1, 0.2)}
    assert len(digests) == 2
    half = perceptron(nn.PReLU(init=0.1)).half()
    target = trace(half, torch.zeros(1, 4, dtype=torch.float16))
    assert target.graph.nodes[1].attributes["slope"] == float(torch.tensor(0.1).half())
    assert not any("prelu" in key for key in target_module(target).state_dict())


def test_a_slope_computed_of_parameters_is_one_number() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.tensor([0.5]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.prelu(x, self.slope * 0.5)

    assert trace(perceptron(Computed()), torch.zeros(1, 4)).graph.nodes[1].attributes["slope"] == 0.25


def test_a_slope_computed_of_a_whole_batch_is_of_batches_of_one_size() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.prelu(x, self.slope(x).mean().reshape(1))

    target = trace(perceptron(Computed()), torch.zeros(1, 4))
    assert target.graph.batch == 1


LINEAR = {"name": "l", "op": "linear", "source": "input", "attributes": {"weight_shape": [2, 3], "bias": True}}
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("tanh", {"slope": 0.1}),
    ("relu", {"slope": 0.1}),
    ("leaky_relu", {}),
    *(("leaky_relu", {"slope": value}) for value in (None, "0.1", 1, True, [0.1], float("nan"), float("inf"), 1e300)),
    ("leaky_relu", {"slope": 0.1, "name": "tanh"}),
    ("prelu", {"slope": 0.1}),
    ("identity", {}),
    ("gelu", {}),
    *(("gelu", {"approximate": value}) for value in ("", "erf", "none\x00", None, 1, ["none"])),
    *(("elu", {"alpha": value}) for value in (0.0, -1.0, 1e9, float("nan"), "1")),
    *(
        ("softplus", {"beta": beta, "threshold": threshold})
        for beta, threshold in (
            (0.0, 20.0),
            (-1.0, 20.0),
            (1e-300, 20.0),
            (1.0, -5.0),
            (1.0, 1.0),
            (1.0, 1e5),
            (1.0, 2),
        )
    ),
    *(
        ("hardtanh", {"low": low, "high": high})
        for low, high in ((1.0, 1.0), (2.0, 1.0), (-1e9, 1.0), (-1.0, float("inf")))
    ),
]


@pytest.mark.parametrize(("op", "attributes"), HOSTILE, ids=lambda value: str(value)[:40])
def test_attributes_out_of_range_are_refused_in_one_line(op: str, attributes: dict[str, Any]) -> None:
    nodes = [LINEAR, {"name": "a", "op": op, "source": "l", "attributes": attributes}]
    with pytest.raises(TicketError, match="graph") as refused:
        Graph.from_json({"input_shape": [3], "nodes": nodes})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_next_layers_input_has_the_sign_of_the_activation(text: str) -> None:
    target = trace(perceptron(SPELLINGS[text][0]()), torch.zeros(1, 4))
    node = target.graph.nodes[1]
    always = text.split(":")[0] in ("relu", "relu6", "sigmoid", "softplus")
    for sign in Sign:
        assert OPERATORS[node.op].sign(node.attributes, sign) is (Sign.NONNEGATIVE if always else sign)
    expected = Sign.NONNEGATIVE if always else Sign.SIGNED
    assert list(target.input_signs(Sign.NONNEGATIVE).values()) == [Sign.NONNEGATIVE, expected]


@pytest.mark.parametrize("text", SPELLINGS)
@pytest.mark.parametrize("network", [perceptron, convolutional])
def test_a_ticket_is_found_saved_and_computes_the_same_in_every_form(network: Any, text: str) -> None:
    model = network(SPELLINGS[text][0]())
    shape = (4,) if network is perceptron else (2, 6, 6)
    ticket = slth.find_ticket(model, torch.zeros(1, *shape), base_set_size=14, domain=(-1, 1), threads=1)
    ticket = from_bytes(to_bytes(ticket))
    x = inputs(shape, 24)
    outputs = [ticket.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse", "folded")]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-12, atol=1e-12)
    expected = copy.deepcopy(model).double()(x).detach()
    checked = slth.verify(ticket, model, (-1, 1))
    assert checked.holds and checked.certified_error is not None and checked.observed_error is not None
    assert float((outputs[0] - expected).abs().max()) <= checked.certified_error
    assert checked.observed_error <= checked.certified_error < 1


@pytest.mark.parametrize("text", [*SPELLINGS, "identity"])
def test_the_command_line_finds_verifies_and_shows(text: str, tmp_path: Path) -> None:
    save_file(mlp((4, 6, 3)).state_dict(), tmp_path / "net.safetensors")
    arguments = ("--activation", text, "--domain", "-1,1")
    size = ("--base-set-size", 10)
    assert run("find", "net.safetensors", "-o", "net.ticket", *arguments, *size, "-q", cwd=tmp_path).status == 0
    checked = run("verify", "net.ticket", "--target", "net.safetensors", *arguments, "--json", cwd=tmp_path)
    assert checked.status == 0, checked
    facts = json.loads(checked.out)
    assert facts["holds"] and facts["observed_error"] <= facts["certified_error"]
    assert run("show", "net.ticket", cwd=tmp_path).status == 0
    other = "tanh" if text != "tanh" else "sigmoid"
    refused = run("verify", "net.ticket", "--target", "net.safetensors", "--activation", other, cwd=tmp_path)
    assert refused.status == 2 and f", with {other} '{other}" in refused.err.partition("; need")[0]
