"""Identity layers change nothing; where they go; and what cannot have any."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slth.errors import ArgumentError
from slth.network.deepen import LARGEST_EXTRA_DEPTH, deepen, deepened
from slth.network.graph import Graph
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target
from slth.network.trace import trace
from slth.runtime import evaluate
from zoo import inputs, mlp, shake

PLACED: dict[str, tuple[nn.Module, tuple[int, ...], list[str]]] = {
    "dense": (mlp((3, 4, 2)), (3,), ["linear", "relu", "+linear", "+relu", "linear"]),
    "rows": (mlp((3, 4, 2)), (5, 3), ["linear", "relu", "+linear", "+relu", "linear"]),
    "last of two": (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 2)),
        (3,),
        ["linear", "relu", "linear", "hardtanh", "+linear", "+hardtanh", "linear"],
    ),
    "not behind tanh": (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
        (3,),
        ["linear", "relu", "+linear", "+relu", "linear", "tanh", "linear"],
    ),
    "pooled maps": (
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 2)
        ),
        (2, 4, 4),
        ["conv", "relu", "max_pool", "average_pool", "+conv", "+relu", "reshape", "linear"],
    ),
    "a mean is not cut off": (
        nn.Sequential(nn.Conv1d(2, 3, 3), nn.Hardtanh(), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.Conv1d(3, 2, 1)),
        (2, 10),
        ["conv", "hardtanh", "max_pool", "+conv", "+hardtanh", "average_pool", "conv"],
    ),
    "leaky": (
        nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.3), nn.Linear(4, 2)),
        (3,),
        ["linear", "leaky_relu", "+linear", "+leaky_relu", "linear"],
    ),
    "leaky maps": (
        nn.Sequential(
            nn.Conv2d(2, 3, 3),
            nn.LeakyReLU(-0.25),
            nn.AvgPool2d(2),
            nn.ReflectionPad2d(1),
            nn.Flatten(),
            nn.Linear(48, 2),
        ),
        (2, 6, 6),
        ["conv", "leaky_relu", "average_pool", "+conv", "+leaky_relu", "pad", "reshape", "linear"],
    ),
    "leaky, a convolution behind": (
        nn.Sequential(nn.Conv1d(2, 3, 3), nn.LeakyReLU(0.5), nn.Conv1d(3, 2, 2, stride=2, padding=1)),
        (2, 8),
        ["conv", "leaky_relu", "+conv", "+leaky_relu", "conv"],
    ),
}
TARGETS = {name: trace(shake(model, 3), torch.zeros(2, *shape)) for name, (model, shape, _) in PLACED.items()}


@given(name=st.sampled_from(list(PLACED)), extra_depth=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_a_deeper_network_computes_the_same(name: str, extra_depth: int, seed: int) -> None:
    target = TARGETS[name]
    deeper = deepen(target, extra_depth)
    assert len(deeper.layers) == len(target.layers) + extra_depth
    assert deeper.graph == deepened(target.graph, extra_depth) and deeper.dtype == target.dtype
    assert Graph.from_json(deeper.graph.to_json()) == deeper.graph
    x = 3 * inputs(target.graph.input_shape, 20, seed=seed)
    expected, found = evaluate(target, x), evaluate(deeper, x)
    if "leaky" in name:
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", PLACED)
def test_where_they_go(name: str) -> None:
    """Behind the last activation that allows them and the pooling on it; the target's own nodes stay as they are."""
    target, (_, _, wanted) = TARGETS[name], PLACED[name]
    deeper = deepened(target.graph, 1)
    own = {node.name for node in target.graph}
    assert [node.op if node.name in own else f"+{node.op}" for node in deeper] == wanted
    assert [node.name for node in deeper if node.name in own] == [node.name for node in target.graph]
    assert [node.name for node in deeper if node.name not in own and node.op in WEIGHT_OPERATORS] == ["identity_1"]
    new = deepen(target, 1).layers[[layer.name for layer in deepen(target, 1)].index("identity_1")]
    assert new.bias is None and math.prod(new.weight.shape[2:]) == 1


def test_leaky_channels_are_doubled_once() -> None:
    target = TARGETS["leaky"]
    shapes = [tuple(layer.weight.shape) for layer in deepen(target, 3)]
    assert shapes == [(4, 3), (8, 4), (8, 8), (8, 8), (2, 8)]


def test_names_that_are_taken_get_underscores() -> None:
    model = nn.Sequential()
    model.add_module("identity_1", nn.Linear(3, 4))
    model.add_module("relu", nn.ReLU())
    model.add_module("identity_1_relu", nn.Linear(4, 2))
    target = trace(model, torch.zeros(1, 3))
    names = [node.name for node in deepened(target.graph, 2)]
    assert names[2:-1] == ["identity_1_", "identity_1_relu_", "identity_2", "identity_2_relu"]
    assert len(set(names)) == len(names)


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "tanh": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (3,), "tanh"),
    "nothing": (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), (3,), "no activation"),
    "only behind the last layer": (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (3,), "relu"),
    "absolute value": (nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(-1.0), nn.Linear(4, 2)), (3,), "leaky_relu"),
    "leaky, the largest": (
        nn.Sequential(nn.Conv1d(2, 3, 1), nn.LeakyReLU(0.1), nn.MaxPool1d(2), nn.Conv1d(3, 2, 1)),
        (2, 4),
        "leaky_relu",
    ),
    "leaky, then another": (
        nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Tanh(), nn.Linear(4, 2)),
        (3,),
        "leaky_relu",
    ),
    "leaky, padded channels": (
        nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.ZeroPad1d(1), nn.Linear(6, 2)),
        (2, 3),
        "leaky_relu",
    ),
    "leaky, flattened rows": (
        nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(8, 2)),
        (2, 3),
        "leaky_relu",
    ),
    "leaky, groups": (
        nn.Sequential(nn.Conv1d(2, 4, 1), nn.LeakyReLU(0.1), nn.Conv1d(4, 2, 1, groups=2)),
        (2, 4),
        "leaky_relu",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_identity_is_refused_by_name(name: str) -> None:
    model, shape, words = REFUSED[name]
    target: Target = trace(model.eval(), torch.zeros(2, *shape))
    with pytest.raises(ArgumentError, match=words):
        deepen(target, 1)
    assert deepen(target, 0) is target


@pytest.mark.parametrize("extra_depth", [-1, LARGEST_EXTRA_DEPTH + 1, 1.0, True])
def test_depths_that_are_none(extra_depth: object) -> None:
    with pytest.raises(ArgumentError, match="extra_depth"):
        deepen(TARGETS["dense"], extra_depth)  # type: ignore[arg-type]
