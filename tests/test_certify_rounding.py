"""The relaxation's rounding, where it is hardest: sums that lose every small term, underflow, and numbers without end.

Every inequality is checked in exact rational arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from slth.certify.backward import Objective, through_fixed, through_lines, through_max_pool, through_weights
from slth.certify.joint import Joint, Maps
from slth.certify.linear import LinearBounds
from slth.certify.maxpool import winners
from slth.certify.region import Ball, Box
from slth.certify.relaxation import Line, Lines, Pair, ends
from slth.certify.state import State
from slth.copies import realise_all
from slth.network.graph import Node
from zoo import Case, mlp, shake

LOST = 2.0**-53 * 0.99
"""Less than what is left of 1 by one rounding."""


def tensor(*numbers: float) -> torch.Tensor:
    """In float64."""
    return torch.tensor(numbers, dtype=torch.float64)


def fractions(part: torch.Tensor) -> list[Fraction]:
    """The entries, exactly."""
    return [Fraction(number) for number in part.flatten().tolist()]


def dot(one: torch.Tensor, other: torch.Tensor) -> Fraction:
    """Exactly."""
    return sum((a * b for a, b in zip(fractions(one), fractions(other), strict=True)), Fraction(0))


def objective(value: torch.Tensor, difference: torch.Tensor, constant: float = 0.0, room: float = 0.0) -> Objective:
    """One row."""
    return Objective(value[None], difference[None], tensor(constant), tensor(room))


def at(rows: Objective, x: torch.Tensor, e: torch.Tensor) -> Fraction:
    """The value of the only row's bound at one point, without sizes."""
    return dot(rows.value[0], x) + dot(rows.difference[0], e) + sum(fractions(rows.constant) + fractions(rows.room))


def point(x: torch.Tensor) -> State:
    """The state of which one value is known, and that there is no difference."""
    return State(x, x, torch.zeros_like(x), False, False)


def layer(weight: torch.Tensor, difference: torch.Tensor, kink: torch.Tensor | None = None) -> tuple[Joint, Node]:
    """A dense layer without biases of which everything is known exactly, for inputs of at most 1."""
    nothing = torch.zeros(len(weight), dtype=torch.float64)
    maps = Maps(weight, nothing, weight, difference, nothing, kink, torch.zeros_like(weight))
    size = [part.abs().sum(dim=1) for part in (weight, difference if kink is None else difference.abs() + kink.abs())]
    joint = Joint(maps, weight, nothing, nothing, nothing, size[0], size[0] + size[1])
    attributes = {"weight_shape": tuple(weight.shape), "bias": False}
    return joint, Node("a", "linear", "b", attributes, (len(weight),))


@pytest.mark.parametrize("lead", range(0, 64, 7))
def test_kinks_of_more_inputs_than_outputs(lead: int) -> None:
    """|y| behind a kink is summed over the inputs, whose number has nothing to do with the outputs'."""
    kink = torch.full((1, 5000), LOST, dtype=torch.float64)
    kink[0, lead] = 1.0
    ones = torch.ones(5000, dtype=torch.float64)
    joint, node = layer(torch.zeros_like(kink), torch.zeros_like(kink), kink)
    rows = through_weights(joint, node, point(ones), objective(tensor(0.0), tensor(1.0)))
    assert at(rows, ones, torch.zeros_like(ones)) >= dot(kink, ones)


def test_coefficients_that_underflow_times_values_that_are_huge() -> None:
    weight = torch.full((1, 3), 1e-170, dtype=torch.float64)
    x = torch.full((3,), 1e200, dtype=torch.float64)
    joint, node = layer(weight, weight)
    huge = replace(joint, size_value=tensor(4e30), size_difference=tensor(4e30))
    rows = through_weights(huge, node, point(x), objective(tensor(1e-170), tensor(0.0)))
    assert at(rows, x, torch.zeros_like(x)) >= Fraction(1e-170) * dot(weight, x)
    none = torch.zeros(3, dtype=torch.float64)
    line = Line(torch.full_like(x, 1e-170), none)
    rows = through_lines(
        Lines((line, line), (line, line)), point(x), objective(torch.full_like(x, 1e-170), torch.zeros_like(x))
    )
    assert at(rows, x, none) >= Fraction(1e-170) * Fraction(1e-170) * sum(fractions(x))


@pytest.mark.parametrize("mode", ["replicate", "circular", "reflect", "constant"])
def test_padding_that_reads_one_entry_often(mode: str) -> None:
    """A corner is read from far more places than an axis has."""
    width = 1 if mode in ("circular", "reflect") else 40
    node = Node("a", "pad", "b", {"widths": (width,) * 4, "mode": mode}, (1, 2 * width + 2, 2 * width + 2))
    value = torch.full(node.shape, LOST, dtype=torch.float64)
    value[0, 0, 0] = 1.0
    x = torch.ones(1, 2, 2, dtype=torch.float64)
    rows = through_fixed(node, point(x), objective(value, torch.zeros_like(value)))
    padded = torch.nn.functional.pad(x[None], (width,) * 4, mode)[0]
    assert at(rows, x, torch.zeros_like(x)) >= dot(value, padded)


def test_room_of_many_steps_is_added_up() -> None:
    """A hundred layers, of which each adds too little to what is loose for a rounding to show it."""
    joint, node = layer(tensor(1.0)[:, None], tensor(0.0)[:, None])
    joint = replace(joint, loose_value=tensor(LOST), size_value=tensor(0.0))
    rows, exact = objective(tensor(1.0), tensor(0.0), room=1.0), Fraction(1)
    for _ in range(100):
        rows = through_weights(joint, node, point(tensor(0.0)), rows)
        exact += Fraction(LOST)
    assert Fraction(float(rows.room)) >= exact


def test_ends_of_steep_lines_are_moved_by_their_own_rounding() -> None:
    """Lines that are exact at one end; what is left there is far less than what cancels."""
    generator = torch.Generator().manual_seed(0)
    for slope, end in (10 ** (4 * torch.rand(2000, 2, dtype=torch.float64, generator=generator))).tolist():
        intercept = -slope * end
        line = Line(tensor(slope), tensor(intercept))
        after = State(tensor(0.0), tensor(1.0), tensor(1.0), True, False)
        found = ends(Lines((line, line), (line, line)), Pair(tensor(0.0), tensor(1.0), tensor(end), tensor(end)), after)
        exact = Fraction(slope) * Fraction(end) + Fraction(intercept)
        assert Fraction(float(found.below)) <= exact <= Fraction(float(found.above))


def test_bounds_without_end_say_nothing_and_are_no_bounds() -> None:
    """Where intervals overflow, no bound is a finite one; behind what saturates, bounds are finite again."""
    case = Case(shake(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)), 0), (3,))
    ticket, target = case.find(base_set_size=8), case.target()
    layers = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    x = torch.full((3,), 1.7e308, dtype=torch.float64)
    linear = LinearBounds(target, layers)
    for region in (Box(-x, x), Box(x, x), Ball(x / 2, 1.0, 2), Ball(-x, 1e300, 1)):
        error = linear.analyse(region).states[target.graph.nodes[-1].name].error
        assert not bool(torch.isfinite(error).any())
    saturating = Case(
        shake(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)), 0), (3,)
    )
    ticket, target = saturating.find(base_set_size=8), saturating.target()
    layers = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    error = LinearBounds(target, layers).analyse(Box(-x, x)).states[target.graph.nodes[-1].name].error
    assert bool(torch.isfinite(error).all())


def test_the_winner_of_a_window_without_lower_bounds_is_in_the_window() -> None:
    attributes = {"kernel": (2,), "stride": (2,), "padding": (1,), "dilation": (1,), "ceil_mode": False}
    lower = torch.full((1, 4), -math.inf, dtype=torch.float64)
    nothing = torch.zeros_like(lower)
    won = winners(attributes, Pair(lower, nothing, nothing, nothing), (1, 3))
    assert won.place.tolist()[0][0] == 0 and won.place.tolist()[0][2] == 3
    node = Node("a", "max_pool", "b", attributes, (1, 3))
    ones = torch.ones(1, 3, dtype=torch.float64)
    through_max_pool(node, won, point(nothing), objective(ones, ones))


def test_padding_wider_than_what_some_outputs_read() -> None:
    """Objectives of outputs that read nothing but padding."""
    case = Case(shake(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, padding=4), torch.nn.ReLU()), 0), (1, 3, 3))
    ticket, target = case.find(base_set_size=8), case.target()
    layers = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    x = torch.ones(1, 3, 3, dtype=torch.float64)
    known: Any = LinearBounds(target, layers).analyse(Box(-x, x))
    assert bool(torch.isfinite(known.states[target.graph.nodes[-1].name].error).all())


def test_a_point_is_a_box() -> None:
    """Zero width: lines have no slope to take from their ends."""
    case = Case(mlp((4, 5, 3)), (4,), {"base_set_size": 8})
    ticket, target = case.find(), case.target()
    layers = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    for x in (torch.zeros(4, dtype=torch.float64), torch.full((4,), 1e-320, dtype=torch.float64)):
        known = LinearBounds(target, layers).analyse(Box(x, x))
        assert bool(torch.isfinite(known.states[target.graph.nodes[-1].name].error).all())
