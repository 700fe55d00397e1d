"""The target's numbers: checked, in order, and with a digest of what counts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from slth.errors import TargetError
from slth.network.graph import Graph, Node
from slth.network.target import Target
from zoo import Case, convnet, mlp


def build(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Target:
    """One Linear layer of these numbers."""
    attributes = {"weight_shape": tuple(weight.shape), "bias": bias is not None}
    node = Node("fc", "linear", "input", attributes, (weight.shape[0],))
    return Target.build(Graph((weight.shape[1],), (node,)), {"fc": (weight, bias)})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_number_that_is_none_is_named_with_its_place(bad: float, part: str) -> None:
    weight, bias = torch.zeros(3, 4), torch.zeros(3)
    (weight if part == "weight" else bias)[2] = bad
    place = r"\(2, 0\)" if part == "weight" else r"\(2,\)"
    with pytest.raises(TargetError, match=rf"'fc', {part}.*{place}"):
        build(weight, bias)


@pytest.mark.parametrize(
    ("weight", "word"),
    [
        (torch.zeros(2, 3, dtype=torch.int8), "int8"),
        (torch.zeros(2, 3, dtype=torch.complex64), "complex"),
        (torch.zeros(2, 3, device="meta"), "meta"),
        (torch.zeros(0, 3), "empty"),
    ],
)
def test_weights_without_numbers_are_refused(weight: torch.Tensor, word: str) -> None:
    with pytest.raises(TargetError, match=word):
        build(weight)


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(TargetError, match="without a weight layer"):
        Target.build(Graph((3,), (Node("relu", "relu", "input", {}, (3,)),)), {})


def test_arrays_are_those_of_the_module() -> None:
    model = convnet()
    target = Case(model, (4, 6, 6)).target()
    for layer, name in zip(target, ("0", "3", "6"), strict=True):
        own = model.get_submodule(name)
        expected = own.weight.detach().double().numpy()
        assert layer.name == name
        np.testing.assert_array_equal(layer.weight_array(), expected.reshape(*expected.shape[:2], -1))
        if own.bias is None:
            assert layer.bias_array() is None and layer.bias is None
        else:
            np.testing.assert_array_equal(layer.bias_array(), own.bias.detach().double())
        assert layer.n_weights == sum(parameter.numel() for parameter in own.parameters())
    assert target.n_weights == sum(parameter.numel() for parameter in model.parameters())


def test_the_digest_is_of_architecture_and_numbers_and_not_of_names() -> None:
    model = mlp((3, 4, 2))
    named = nn.Sequential()
    for name, module in zip(("first", "between", "last"), copy.deepcopy(model), strict=True):
        named.add_module(name, module)
    digest = Case(model, (3,)).target().digest()
    assert Case(named, (3,)).target().digest() == digest
    for change in range(4):
        other = copy.deepcopy(model)
        parameter = list(other.parameters())[change]
        with torch.no_grad():
            parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
        assert Case(other, (3,)).target().digest() != digest
    assert Case(nn.Sequential(*model[::2]), (3,)).target().digest() != digest
    assert Case(model, (5, 3)).target().digest() != digest


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precisions_are_evaluated_in_float32(dtype: torch.dtype, expected: torch.dtype) -> None:
    assert build(torch.zeros(2, 3, dtype=dtype)).dtype == expected
