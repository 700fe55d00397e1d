"""What each operation says of itself is true of its module."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slth
from slth.activations import Activation, forget, register
from slth.network.graph import Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.base import spatial
from slth.network.operators.shape import PAD_MODES
from slth.runtime import target_module
from zoo import Case, cases, inputs

BOXES = {Sign.NONNEGATIVE: (0, 2), Sign.NONPOSITIVE: (-2, 0), Sign.SIGNED: (-2, 2)}


@given(cases(), st.integers(1, 3))
def test_shapes_are_those_of_the_values(case: Case, batch: int) -> None:
    target = case.target()
    network = target_module(target, torch.float64)
    x = inputs(case.shape, batch)
    for node in target.graph:
        x = network.get_submodule(node.name)(x)
        assert tuple(x.shape) == (batch, *node.shape), node


@given(cases(), st.sampled_from(list(Sign)))
def test_signs_are_those_of_the_values(case: Case, sign: Sign) -> None:
    target = case.target()
    network = target_module(target, torch.float64)
    x = inputs(case.shape, 16, BOXES[sign])
    known = {"input": sign}
    for node in target.graph:
        x = network.get_submodule(node.name)(x)
        known[node.name] = OPERATORS[node.op].sign(node.attributes, known[node.source])
        if known[node.name] is not Sign.SIGNED:
            assert (x * known[node.name].branches[0] >= 0).all(), node
    assert target.input_signs(sign) == {layer.name: known[layer.node.source] for layer in target}


def test_a_rectified_input_is_known_to_be_nonnegative_through_pooling_and_padding() -> None:
    target = Case(
        torch.nn.Sequential(
            torch.nn.Conv1d(1, 1, 1),
            torch.nn.ReLU(),
            torch.nn.MaxPool1d(2),
            torch.nn.ZeroPad1d(1),
            torch.nn.AvgPool1d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(2, 1),
            torch.nn.Linear(1, 1),
        ),
        (1, 4),
    ).target()
    assert [str(sign) for sign in target.input_signs(Sign.NONPOSITIVE).values()] == [
        "nonpositive",
        "nonnegative",
        "signed",
    ]


@given(cases())
def test_a_weight_operator_applied_is_its_module(case: Case) -> None:
    target = case.target()
    network = target_module(target, torch.float64)
    x = inputs(case.shape, 2)
    for node in target.graph:
        module = network.get_submodule(node.name)
        if node.op in WEIGHT_OPERATORS:
            owner = module.layer if isinstance(module, torch.nn.Sequential) else module
            applied = WEIGHT_OPERATORS[node.op].apply(node.attributes, x, owner.weight, owner.bias)
            torch.testing.assert_close(applied, module(x), rtol=1e-13, atol=1e-13)
        x = module(x)


@pytest.mark.parametrize(("value", "n", "expected"), [(3, 2, (3, 3)), ([3], 3, (3, 3, 3)), ([1, 2], 2, (1, 2))])
def test_one_number_stands_for_all_axes(value: object, n: int, expected: tuple[int, ...]) -> None:
    assert spatial(value, n) == expected


@pytest.mark.parametrize("name", OPERATORS)
def test_attributes_from_a_file_need_every_name_and_type(name: str, request: pytest.FixtureRequest) -> None:
    operator = OPERATORS[name]
    if name == "own":
        register(Activation.custom("constant", lambda x: 2 * x, 2, 2, 0, lambda eps: math.inf, 2))
        request.addfinalizer(lambda: forget("constant"))
    samples = {tuple: [1], bool: True, int: 1, float: 2.0, str: "constant"}
    own: dict[str, dict[str, object]] = {"gelu": {"approximate": "none"}, "hardtanh": {"low": -1.0, "high": 1.0}}
    own["function"] = {"function": "relu", "arguments": {"self": {"source": 0}}, "output": -1, "batch": []}
    good = own.get(name) or {key: samples[kind] for key, kind in operator.kinds.items()}
    assert set(operator.check(good)) == set(operator.kinds)
    with pytest.raises(ValueError, match=name):
        operator.check({**good, "other": 1})
    for key in good:
        with pytest.raises(ValueError, match=name):
            operator.check({**good, key: None})
        with pytest.raises(ValueError, match=name):
            operator.check({other: value for other, value in good.items() if other != key})


def test_every_operation_has_a_rule_in_the_proof() -> None:
    from slth.certify.propagation import OF_SEVERAL, RULES

    assert set(RULES) | OF_SEVERAL | set(WEIGHT_OPERATORS) == set(OPERATORS)
    assert slth.Domain.parse((0, 1)).sign is Sign.NONNEGATIVE


@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_windows_are_counted_as_torch_counts_them(
    data: st.DataObject, size: int, kernel: int, stride: int, dilation: int, ceil_mode: bool
) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    pool = torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    attributes = {
        "kernel": (kernel,),
        "stride": (stride,),
        "padding": (padding,),
        "dilation": (dilation,),
        "ceil_mode": ceil_mode,
    }
    try:
        expected = tuple(pool(torch.zeros(1, 3, size)).shape[1:])
    except RuntimeError:
        with pytest.raises(ValueError):
            OPERATORS["max_pool"].shape(attributes, (3, size))
    else:
        assert OPERATORS["max_pool"].shape(attributes, (3, size)) == expected


@given(st.integers(1, 6), st.integers(-3, 6), st.integers(-3, 6), st.sampled_from(sorted(PAD_MODES)))
def test_padded_sizes_are_torch_s(size: int, before: int, after: int, mode: str) -> None:
    attributes = {"widths": (before, after), "mode": mode}
    try:
        expected = tuple(OPERATORS["pad"].module(attributes)(torch.zeros(1, 2, size)).shape[1:])
    except RuntimeError:
        expected = ()
    if expected and min(expected) > 0 and (mode == "constant" or min(before, after) >= 0):
        assert OPERATORS["pad"].shape(attributes, (2, size)) == expected
    else:
        with pytest.raises(ValueError):
            OPERATORS["pad"].shape(attributes, (2, size))
