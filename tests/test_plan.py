"""The plan: what is asked is checked before any work, and nothing random is in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slth.activations import parse
from slth.bounds.base_sets import choose_scale, covering_size
from slth.constructions import CONSTRUCTIONS
from slth.constructions.two_for_one import LARGEST_BASE_SET
from slth.domain import Domain
from slth.errors import SlthError
from slth.network.graph import Sign
from slth.network.trace import trace
from slth.pipeline import find_ticket
from slth.plan import Wishes, make_plan
from zoo import Case, convnet, mlp

TARGET = Case(convnet(), (4, 6, 6)).target()


def plan(target: Any = TARGET, **changes: Any):
    wishes = {
        "base_set_size": 12,
        "tolerance": None,
        "objective": "best",
        "initialisation": "uniform",
        "domain": Domain(),
    }
    return make_plan(target, CONSTRUCTIONS["two-for-one"], Wishes(**{**wishes, **changes}))


def test_a_plan_says_what_each_layer_needs() -> None:
    made = plan(domain=Domain.parse((0, 1)), base_set_size=12)
    assert [layer.name for layer in made.layers] == ["0", "3", "6"]
    assert [layer.groups for layer in made.layers] == [2, 1, 1]
    assert [layer.input_sign for layer in made.layers] == [Sign.NONNEGATIVE] * 3
    # Of two, six and 24 channels, the first and the last with biases: few blocks have little to exchange.
    assert [layer.block_width for layer in made.layers] == [24 + 10, 24 + 6, 24]
    for layer, layer_plan in zip(TARGET, made.layers, strict=True):
        parts = [layer.weight_array().ravel()] + ([] if layer.bias is None else [layer.bias_array()])
        assert layer_plan.scale == choose_scale(np.abs(np.concatenate(parts)), 12, every=True)
        assert layer_plan.own == {"elements": 12, "input_sign": Sign.NONNEGATIVE}
    for changes in ({"initialisation": "looks-linear"}, {"activation": parse("tanh"), "domain": Domain.parse((0, 1))}):
        assert [layer.own for layer in plan(**changes).layers] == [{}] * 3
    assert plan().layers[0].input_sign is Sign.SIGNED
    assert plan(domain=Domain.parse((-1, 0))).layers[0].input_sign is Sign.NONPOSITIVE


def test_the_same_wishes_make_the_same_plan() -> None:
    assert plan() == plan()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_set_size": 0}, "base_set_size"),
        ({"base_set_size": LARGEST_BASE_SET + 1}, "base_set_size"),
        ({"base_set_size": True}, "base_set_size"),
        ({"base_set_size": 3.0}, "base_set_size"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": float("inf")}, "tolerance"),
        ({"objective": "worst"}, "objective"),
        ({"objective": "sparsest"}, "tolerance"),
        ({"initialisation": "zeros"}, "initialisation"),
    ],
)
def test_an_argument_out_of_range_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SlthError, match=named):
        plan(**changes)


def test_a_base_set_that_cannot_cover_is_refused_with_one_that_can() -> None:
    top = max(float(np.abs(layer.weight_array()).max()) for layer in TARGET)
    with pytest.raises(SlthError, match="a base set of") as refused:
        plan(base_set_size=8, tolerance=top / 1000)
    enough = int(refused.value.remedy.split("a base set of ")[1].split(",")[0])
    assert enough >= covering_size(top / 1.5, top / 1000)
    assert plan(base_set_size=enough, tolerance=top / 1000).base_set_size == enough
    with pytest.raises(SlthError, match="no base set up to 40"):
        plan(base_set_size=40, tolerance=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e39, 1e300, 1e-50, 5e-324])
def test_weights_that_no_float32_source_can_reach_are_refused(size: float) -> None:
    """A scale beyond float32 would be 0 or infinite, and the ticket could not be read back."""
    model = nn.Linear(2, 2).double()
    nn.init.constant_(model.weight, size)
    nn.init.zeros_(model.bias)
    with pytest.raises(SlthError, match="float32"):
        plan(trace(model, torch.zeros(1, 2, dtype=torch.float64)))


@pytest.mark.parametrize("size", [2.0**-95, 2.0**95])
def test_weights_far_from_one_are_realised_as_well_as_others(size: float) -> None:
    model = mlp((3, 2)).double()
    errors = []
    for factor in (1.0, size):
        scaled = mlp((3, 2)).double()
        for own, parameter in zip(scaled.parameters(), model.parameters(), strict=True):
            own.data = parameter.data * factor
        ticket = find_ticket(scaled, torch.zeros(1, 3, dtype=torch.float64), base_set_size=12)
        errors.append(ticket.max_weight_error / factor)
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)
