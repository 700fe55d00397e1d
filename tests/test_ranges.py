"""Ranges of functions, and of what weight layers read, beside the numbers that come out."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.constructions.shift import shifts
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Layout, Node, Sign
from slth.network.operators.function import FUNCTIONS, FunctionModule
from slth.network.operators.ranges import ANYTHING, RULES, range_of
from slth.network.operators.signs import SIGNS
from slth.network.target import Target
from slth.network.trace import trace
from slth.plan import input_reaches
from slth.runtime import target_module
from zoo import ZOO

X, Y = {"source": 0}, {"source": 1}
ONE: dict[str, dict[str, Any]] = {
    **{
        name: {"self": X} for name in ("sin", "cos", "neg", "abs", "square", "exp", "tanh", "hardswish", "mish", "silu")
    },
    **{name: {"self": X} for name in ("selu", "hardsigmoid", "erf", "sign", "trunc", "relu")},
    **{
        name: {"self": X}
        for name in ("rsqrt", "sqrt", "tril", "mT", "sigmoid", "hardshrink", "zeros_like", "ones_like")
    },
    "elu": {"self": X, "alpha": 1.0},
    "clamp": {"self": X, "min": -0.5, "max": 0.25},
    "clamp_min": {"self": X, "min": 0.125},
    "pow": {"self": X, "exponent": 2},
    "rsub": {"self": X, "other": 1},
    "sum": {"self": X, "dim": (1,)},
    "mean": {"self": X, "dim": (2,), "keepdim": True},
    "amax": {"self": X, "dim": (1,)},
    "max": {"self": X, "dim": 1},
    "chunk": {"self": X, "chunks": 2, "dim": 2},
    "softmax": {"self": X, "dim": 2},
    "log_softmax": {"self": X, "dim": 2},
    "layer_norm": {"input": X, "normalized_shape": (4,), "eps": 1e-5},
    "rms_norm": {"input": X, "normalized_shape": (4,), "eps": 1e-6},
    "group_norm": {"input": X, "num_groups": 2},
    "glu": {"self": X, "dim": 2},
    "linalg_vector_norm": {"self": X, "ord": 2.0, "dim": (1,)},
    "masked_fill": {"self": X, "mask": {"source": 2}, "value": {"number": "-inf"}},
    "constant_pad_nd": {"self": X, "pad": (1, 1), "value": 0.75},
    "reflection_pad1d": {"self": X, "padding": (1, 1)},
    "im2col": {"self": X, "kernel_size": (2, 2), "dilation": (1, 1), "padding": (1, 1), "stride": (1, 1)},
    "_to_copy": {"self": X, "dtype": {"dtype": "int64"}},
}
TWO: dict[str, dict[str, Any]] = {
    "add": {"self": X, "other": Y, "alpha": -2},
    "sub": {"self": X, "other": Y, "alpha": 0.5},
    "mul": {"self": X, "other": Y},
    "div": {"self": X, "other": Y},
    "cat": {"tensors": (X, Y), "dim": 1},
    "maximum": {"self": X, "other": Y},
    "where": {"condition": {"source": 2}, "self": X, "other": Y},
    "matmul": {"self": X, "other": Y},
    "bmm": {"self": X, "mat2": Y},
    "einsum": {"equation": "bij,bkj->bik", "tensors": (X, Y)},
    "scaled_dot_product_attention": {"query": Y, "key": Y, "value": X},
}
CASES = {**ONE, **TWO}


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float]:
    low = draw(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0]))
    return low, low + draw(st.sampled_from([0.0, 0.5, 1.5, 4.0]))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12)
@given(one=boxes(), other=boxes(), seed=st.integers(0, 2**32))
def test_no_number_is_outside(name: str, one: tuple[float, float], other: tuple[float, float], seed: int) -> None:
    """Random numbers of two ranges, ends included, in a function of one or two of them."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand((2, 8, 4, 4), generator=generator, dtype=torch.float64)
    unit = torch.where(unit < 0.2, 0.0, torch.where(unit > 0.8, 1.0, unit))
    values = [low + (high - low) * part for (low, high), part in zip((one, other), unit, strict=True)]
    values.append(unit[0] > 0.5)
    output = 0 if name in ("max", "chunk") else -1
    attributes = {"function": name, "arguments": CASES[name], "output": output, "batch": ()}
    made = FunctionModule(attributes).double()(*values).double()
    node = Node("f", "function", ("x", "y", "z"), attributes, tuple(made.shape[1:]))
    low, high = range_of(node, [one, other, (0.0, 1.0)], [Layout((4, 4))] * 3)
    made = made[~made.isnan()]
    room = 1e-12 * (1 + max(map(abs, (low, high)))) if math.isfinite(low + high) else 1e-9
    assert bool((made >= low - room).all()) and bool((made <= high + room).all())
    if name not in ("div", "rsqrt"):
        assert (low, high) != ANYTHING, "a rule that says nothing"


def test_every_rule_is_one_of_a_function_that_may_occur() -> None:
    assert set(RULES) <= FUNCTIONS and set(SIGNS) <= FUNCTIONS


@functools.cache
def target(name: str) -> Target:
    return trace(*ZOO[name]())


@functools.cache
def values(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Inputs in [0, 1], of tokens any, and every node's values."""
    _, example = ZOO[name]()
    x = (
        example
        if target(name).graph.classes
        else torch.rand((6, *example.shape[1:]), dtype=torch.float64).round(decimals=1)
    )
    with torch.no_grad():
        return x, {"input": x, **dict(target_module(target(name), torch.float64).steps(x))}


@pytest.mark.parametrize("name", ZOO)
def test_nothing_that_a_layer_reads_is_beyond_its_reach(name: str) -> None:
    reaches, known = input_reaches(target(name), Domain.parse((0, 1))), values(name)[1]
    for node in target(name).graph.weighted_uses:
        if node.op in ("linear", "conv", "scale", "conv_transpose"):
            assert float(known[node.source].abs().max()) <= reaches[node.weights] * (1 + 1e-9)


@pytest.mark.parametrize("name", ZOO)
def test_nothing_that_is_shifted_is_negative(name: str) -> None:
    """What layers read whose shift is known; a network is refused by the name of a layer, or shifted everywhere."""
    domain = Domain.parse((0, 1))
    try:
        found = shifts(target(name), domain)
    except ArgumentError as error:
        assert error.where.startswith(("layer", "node"))
        return
    known = values(name)[1]
    signs = target(name).input_signs(domain.sign)
    assert set(found) == {layer for layer, sign in signs.items() if sign is Sign.SIGNED}
    for node in target(name).graph.weighted_uses:
        if node.op in ("linear", "conv", "scale") and node.weights in found:
            assert float(known[node.source].min()) >= -found[node.weights]
