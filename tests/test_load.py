"""Files and factories: state dicts put in order, factories called, and everything else refused by name."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from slth.errors import ArgumentError, SlthError, TargetError
from slth.network.load import TargetReference, natural, perceptron
from slth.network.trace import trace
from zoo import Case, LeNet5, convnet, mlp

WIDTHS = st.lists(st.integers(1, 30), min_size=2, max_size=6, unique=True)


@given(WIDTHS, st.sampled_from(["safetensors", "pt", "pth"]), st.booleans())
def test_a_state_dict_is_the_perceptron_it_came_from(
    tmp_path_factory: pytest.TempPathFactory, widths: list[int], suffix: str, bias: bool
) -> None:
    model = mlp(widths, bias=bias)
    path = tmp_path_factory.mktemp("state") / f"net.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(model.state_dict(), path)
    target = TargetReference(path).load()
    traced = trace(model, torch.zeros(1, widths[0]))
    assert target.digest() == traced.digest()
    assert [layer.name for layer in target] == [layer.name for layer in traced]


def _state(*shapes: tuple[str, int, int]) -> dict[str, torch.Tensor]:
    return {name: torch.ones(rows, columns) for name, rows, columns in shapes}


@pytest.mark.parametrize(
    ("state", "order"),
    [
        (_state(("fc10.weight", 2, 3), ("fc2.weight", 3, 4)), ["fc2", "fc10"]),
        (_state(("b.weight", 3, 4), ("a.weight", 2, 3)), ["b", "a"]),
        (_state(("out.weight", 2, 5), ("in.weight", 3, 4), ("mid.weight", 5, 3)), ["in", "mid", "out"]),
        (_state(("fc1.weight", 3, 3), ("fc2.weight", 3, 3), ("fc3.weight", 3, 3)), ["fc1", "fc2", "fc3"]),
        (_state(("W", 3, 4)), ["W"]),
    ],
)
def test_layers_are_put_in_the_one_order_that_fits(state: dict[str, torch.Tensor], order: list[str]) -> None:
    target = perceptron("net", state)
    assert [layer.name for layer in target] == order
    assert [node.op for node in target.graph] == (["linear", "relu"] * len(order))[:-1]


@pytest.mark.parametrize(
    "names",
    [("fc.weight", "fc.bias"), ("W", "b"), ("W1", "b1"), ("w", "b"), ("layer/weights", "layer/biases"), ("W", "B")],
)
def test_biases_are_found_by_their_names(names: tuple[str, str]) -> None:
    weight, bias = names
    (layer,) = perceptron("net", {weight: torch.ones(2, 3), bias: torch.tensor([5.0, 6.0])})
    assert layer.bias is not None and layer.bias.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({}, "without 2-D weights"),
        ({"b": torch.ones(3)}, "2-D"),
        (_state(("a.weight", 2, 3), ("b.weight", 5, 7)), "chain"),
        (_state(("a.weight", 3, 4), ("b.weight", 3, 5), ("c.weight", 2, 3)), "chain"),
        ({"conv.weight": torch.ones(2, 3, 3, 3)}, "conv"),
        ({"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(3)}, "bias"),
        ({"fc.weight": torch.ones(2, 3), "other": torch.ones(2)}, "other"),
        ({"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2), "bn.running_mean": torch.ones(2)}, "running_mean"),
        ({"fc.weight": torch.ones(2, 3, dtype=torch.int64)}, "int64"),
        ({"fc.weight": torch.full((2, 3), float("nan"))}, "nan"),
        ({"fc.weight": torch.ones(0, 3)}, "empty|fc"),
    ],
)
def test_a_state_that_is_no_perceptron_is_refused(state: dict[str, torch.Tensor], word: str) -> None:
    with pytest.raises(TargetError, match=word):
        perceptron("net", state)


@pytest.mark.parametrize("text", ["swish", "", "tanh:1", "leaky_relu:x", "leaky_relu:1,2", "elu:-1", "elu:nan"])
def test_an_activation_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="activation"):
        TargetReference(Path("net.safetensors"), activation=text).load()


def test_an_activation_is_for_a_state_dict_alone(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(mlp((3, 2)), (torch.zeros(1, 3),)), tmp_path / "net.pt2")
    for reference in ({"path": tmp_path / "net.pt2"}, {"model": "zoo:mlp"}):
        with pytest.raises(ArgumentError, match="bare state dict"):
            TargetReference(**reference, activation="tanh").load()


def test_natural_order() -> None:
    names = ["fc10", "fc2", "fc1", "a", "fc", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "fc", "fc1", "fc2", "fc10"]


def test_a_checkpoint_around_the_state_dict_is_opened(tmp_path: Path) -> None:
    model = mlp((3, 2))
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "c.pt")
    assert TargetReference(tmp_path / "c.pt").load().digest() == Case(model, (3,)).target().digest()


def test_a_program_under_another_ending_is_read_as_one(tmp_path: Path) -> None:
    model = convnet()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 4, 6, 6),)), tmp_path / "net.pt2")
    digest = Case(model, (4, 6, 6)).target().digest()
    assert TargetReference(tmp_path / "net.pt2").load().digest() == digest
    (tmp_path / "net.pt2").rename(tmp_path / "net.pt")
    assert TargetReference(tmp_path / "net.pt").load().digest() == digest


def test_a_factory_with_weights(tmp_path: Path) -> None:
    model = LeNet5()
    save_file(model.state_dict(), tmp_path / "lenet.safetensors")
    reference = TargetReference(model="zoo:LeNet5", weights=tmp_path / "lenet.safetensors")
    expected = trace(model, torch.zeros(1, 1, 28, 28)).digest()
    assert reference.load().digest() == expected
    shaped = TargetReference(model="zoo:LeNet5", weights=reference.weights, input_shape=(1, 28, 28))
    assert shaped.load().digest() == expected


def test_a_factory_may_give_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo

    monkeypatch.setattr(zoo, "made", lambda: (mlp((3, 2)), torch.zeros(1, 5, 3)), raising=False)
    assert TargetReference(model="zoo:made").load().graph.input_shape == (5, 3)
    monkeypatch.setattr(zoo, "made", mlp((3, 2)))
    assert TargetReference(model="zoo:made").load().graph.input_shape == (3,)


@pytest.mark.parametrize("reference", ["zoo", "zoo:", ":mlp", "no_module:f", "zoo:none", "zoo:inputs", "math:pi"])
def test_a_factory_that_is_none_is_refused(reference: str) -> None:
    with pytest.raises(ArgumentError, match="--model"):
        TargetReference(model=reference).load()


def test_neither_or_both_and_what_does_not_fit_together(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(mlp((3, 2)).state_dict(), path)
    bad: list[dict[str, Any]] = [
        {},
        {"path": path, "model": "zoo:mlp"},
        {"path": path, "weights": path},
        {"path": tmp_path / "none.pt"},
        {"path": tmp_path},
        {"model": "zoo:LeNet5", "weights": path},
        {"model": "zoo:mlp", "input_shape": (99,)},
    ]
    for reference in bad:
        with pytest.raises(SlthError):
            TargetReference(**reference).load()


class Bomb:
    """Would leave a file if anything unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save(OrderedDict(a=torch.ones(2, 2), b=Bomb(mark)), tmp_path / "bomb.pt")
    with pytest.raises(TargetError, match=r"bomb\.pt"):
        TargetReference(tmp_path / "bomb.pt").load()
    assert not mark.exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert mark.exists(), "the bomb was none"


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(mlp((3, 2)).state_dict(), path)
    content = path.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(TargetError, match=r"net\."):
            TargetReference(path).load()


@pytest.mark.parametrize("held", [torch.ones(2, 2), [torch.ones(2, 2)], 3, {"a": 3}, nn.Linear(2, 2)])
def test_a_pt_file_of_something_else_is_refused(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "net.pt")
    with pytest.raises(TargetError, match=r"net\.pt"):
        TargetReference(tmp_path / "net.pt").load()
