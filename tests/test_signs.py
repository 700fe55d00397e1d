"""Signs of what functions give, against the values that torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slth.network.graph import Sign
from slth.network.intervals import value_signs
from slth.network.module import target_module
from slth.network.operators.function import FunctionModule
from slth.network.operators.signs import SIGNS
from slth.network.trace import trace
from zoo import ZOO

X, Y = {"source": 0}, {"source": 1}
NUMBERS = (-1.5, -1, 0, 0.0, 2, 0.25)
CALLS: list[tuple[str, dict[str, Any], int]] = [
    *((name, {"self": X}, -1) for name in ("neg", "floor", "ceil", "expm1", "log1p", "round", "abs", "exp", "tanh")),
    *((name, {"self": X, "other": Y}, -1) for name in ("maximum", "minimum", "add", "sub", "rsub", "mul", "div")),
    *((name, {"self": X, "other": n}, -1) for name in ("add", "sub", "rsub", "mul") for n in NUMBERS),
    *(("sub", {"self": X, "other": Y, "alpha": alpha}, -1) for alpha in (2, -2, 0)),
    *((name, {"self": X, "dim": 1, "half_to_float": False}, -1) for name in ("_log_softmax", "_softmax")),
    ("log_sigmoid", {"self": X}, -1),
    ("topk", {"self": X, "k": 2}, 0),
    ("sort", {"self": X}, 0),
    ("where", {"condition": {"source": 2}, "self": X, "other": Y}, -1),
    *(("masked_fill", {"self": X, "mask": {"source": 2}, "value": n}, -1) for n in NUMBERS),
    *(("full", {"size": (2, 3), "fill_value": n}, -1) for n in NUMBERS),
    *(("pow", {"self": X, "exponent": n}, -1) for n in (2, 3)),
]
OF = {Sign.NONNEGATIVE: torch.abs, Sign.NONPOSITIVE: lambda x: -x.abs(), Sign.SIGNED: lambda x: x}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CALLS), st.sampled_from(list(Sign)), st.sampled_from(list(Sign)), st.integers(0, 2**31))
def test_no_value_has_another_sign(call: tuple[str, dict[str, Any], int], one: Sign, other: Sign, seed: int) -> None:
    function, arguments, output = call
    generator = torch.Generator().manual_seed(seed)
    x, y = (OF[sign](torch.randn(2, 3, generator=generator)) for sign in (one, other))
    sources = [x, y, torch.rand(2, 3, generator=generator) > 0.5]
    read = 3 if {"source": 2} in arguments.values() else 2 if Y in arguments.values() else 1
    found = SIGNS[function](arguments, [one, other, Sign.NONNEGATIVE][:read])
    module = FunctionModule({"function": function, "arguments": arguments, "output": output, "batch": ()})
    value = module(*sources)
    value = value[value == value]
    assert found is not Sign.NONNEGATIVE or bool((value >= 0).all())
    assert found is not Sign.NONPOSITIVE or bool((value <= 0).all())


class Masked(nn.Module):
    """Values times constants of one sign, and what is left of a square."""

    def __init__(self, constant: torch.Tensor) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("constant", constant)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)) * self.constant)


@pytest.mark.parametrize(
    ("constant", "sign"),
    [((1.0, 0, 0, 2), Sign.NONNEGATIVE), ((-1.0, 0, 0, -2), Sign.NONPOSITIVE), ((-1.0, 0, 0, 2), Sign.SIGNED)],
)
def test_tensors_that_are_kept_have_the_signs_of_their_entries(constant: tuple[float, ...], sign: Sign) -> None:
    target = trace(Masked(torch.tensor(constant)), torch.zeros(1, 3))
    assert target.input_signs(Sign.SIGNED)["last"] is sign


@pytest.mark.parametrize(
    ("function", "sign"),
    [
        (lambda x: -(x**2), Sign.NONPOSITIVE),
        (lambda x: torch.exp(x) - 0.0, Sign.NONNEGATIVE),
        (lambda x: torch.log_softmax(x, -1), Sign.NONPOSITIVE),
        (lambda x: torch.maximum(x, torch.relu(-x)), Sign.NONNEGATIVE),
        (lambda x: torch.where(x > 1, x.abs(), 0.0), Sign.NONNEGATIVE),
        (lambda x: x - 1, Sign.SIGNED),
    ],
)
def test_a_layer_behind_knows(function: Any, sign: Sign) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(function(self.first(x)))

    assert trace(Net(), torch.zeros(1, 3)).input_signs(Sign.SIGNED)["last"] is sign


class Between(nn.Module):
    """Two layers, and something between that only intervals know the sign of."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.between(self.first(x)))
        return y


@pytest.mark.parametrize(
    ("between", "sign"),
    [
        (lambda x: torch.sigmoid(x) - 1, Sign.NONPOSITIVE),
        (lambda x: torch.tanh(x) + 1, Sign.NONNEGATIVE),
        (lambda x: 2 - torch.tanh(x) * 2, Sign.NONNEGATIVE),
        (lambda x: nn.functional.relu6(x) - 6, Sign.NONPOSITIVE),
        (lambda x: nn.functional.hardtanh(x) - 0.5, Sign.SIGNED),
        (lambda x: torch.sigmoid(x) - 0.99, Sign.SIGNED),
        (lambda x: torch.softmax(x, -1) - 1, Sign.NONPOSITIVE),
        (lambda x: torch.relu(x) + 0.5, Sign.NONNEGATIVE),
        (lambda x: torch.relu(x) - 0.5, Sign.SIGNED),
        # In other sums the bound is on the other side of 0 by rounding.
        (lambda x: (torch.sigmoid(x) * 0.1 + 0.2) - 0.3, Sign.SIGNED),
        (lambda x: torch.cos(x) + torch.sin(x) + 2, Sign.NONNEGATIVE),
    ],
)
def test_intervals_prove_signs(between: Callable[[torch.Tensor], torch.Tensor], sign: Sign) -> None:
    target = trace(Between(between), torch.zeros(1, 3))
    assert target.input_signs(Sign.SIGNED)["last"] is sign
    x = torch.linspace(-30, 30, 3000).reshape(-1, 3)
    with torch.no_grad():
        found = between(x)
    assert sign is not Sign.NONNEGATIVE or bool((found >= 0).all())
    assert sign is not Sign.NONPOSITIVE or bool((found <= 0).all())


@pytest.mark.parametrize("domain_sign", list(Sign))
def test_no_value_of_the_zoo_has_another_sign(domain_sign: Sign) -> None:
    """Every node of every network of the zoo that reads real numbers, on inputs of that sign."""
    for make in list(ZOO.values())[::3]:
        model, example = make()
        if not isinstance(example, torch.Tensor) or not example.is_floating_point():
            continue
        target = trace(model, example)
        signs = value_signs(target.graph, target.kept, domain_sign)
        x = OF[domain_sign](torch.randn(3, *target.graph.input_shape, dtype=torch.float64))
        for name, value in target_module(target, torch.float64).steps(x):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                assert signs[name] is not Sign.NONNEGATIVE or bool((value >= 0).all()), name
                assert signs[name] is not Sign.NONPOSITIVE or bool((value <= 0).all()), name
