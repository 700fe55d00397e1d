"""Norm propagation: equal to the recursion by hand, above the intervals, and above every point with no slack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from slth.certify.norms import norm_bound
from slth.certify.propagation import propagate
from slth.certify.region import Ball, Box
from slth.copies import realise_all
from slth.domain import Domain
from slth.network.trace import trace
from slth.realise import RealisedLayer
from slth.runtime import target_module
from zoo import Case, cases, inputs, shake

BOXES = st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (-0.5, 2), (0.3, 0.3), (0, 0), (0, 1e-6)])


def realised(ticket: slth.Ticket) -> dict[str, Any]:
    """Slopes of every layer."""
    return realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])


def layer(weight: list[list[float]], bias: list[float]) -> RealisedLayer:
    """Known slopes, the same for both signs."""
    slopes = np.array(weight)[:, :, None]
    return RealisedLayer(slopes, slopes, np.array(bias), np.abs(slopes), np.abs(np.array(bias)), 1)


def test_two_layers_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    for parameter, numbers in zip(
        model.parameters(), ([[1.0, -2.0], [0.5, 0.5]], [0.0, 1.0], [[1.0, 1.0], [2.0, -3.0]], [0.25, 0.0]), strict=True
    ):
        parameter.data = torch.tensor(numbers)
    target = trace(model, torch.zeros(1, 2))
    names = [one.name for one in target.layers]
    slopes = {
        names[0]: layer([[1.125, -2.0], [0.5, 0.25]], [0.5, 1.0]),
        names[1]: layer([[1.0, 1.25], [2.0, -3.5]], [0.25, 0.125]),
    }
    found = norm_bound(target, slopes, Box(torch.tensor([-1.0, 0.0]).double(), torch.tensor([2.0, 1.0]).double()))
    # |D| is 0.25 and |x| at most 2. The first error: 0.25 * 2 without a bias error, or 0.125 * 2 and one of 0.5.
    first = max(0.125 * 2 + 0.5, 0.25 * 2)
    # x - 2 y is at most 2 and (x + y) / 2 + 1 at most 2.5. Rows of the ticket sum to 2.25 and 5.5.
    reach = 2.5
    by_hand = [2.25 * first + 0.25 * reach, 5.5 * first + 0.5 * reach + 0.125]
    assert found.components.tolist() == pytest.approx(by_hand, rel=1e-12)
    assert bool((found.components >= torch.tensor(by_hand, dtype=torch.float64)).all())
    assert found.layer_errors[names[0]] == pytest.approx(first, rel=1e-12)


def test_rows_of_a_convolution_are_its_kernels() -> None:
    """A kernel on a map, and the same written out as a matrix."""
    conv = shake(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)), 4)
    case = Case(conv, (2, 4, 4), {"base_set_size": 10})
    target, ticket = case.target(), case.find()
    slopes = realised(ticket)
    first = slopes[target.layers[0].name]
    weight, bias = target.layers[0].weight_array(), target.layers[0].bias_array()
    off = np.maximum(np.abs(first.positive - weight), np.abs(first.negative - weight))
    rows = 3.0 * off.sum(axis=(1, 2)) + np.abs(first.bias - bias)
    found = norm_bound(target, slopes, Box(*Domain.parse((-3, 1)).bounds((2, 4, 4))))
    assert found.layer_errors[target.layers[0].name] == pytest.approx(float(rows.max()), rel=1e-9)


@settings(max_examples=40)
@given(cases(), BOXES, st.integers(0, 1000))
def test_no_point_is_outside_and_intervals_are_tighter(case: Case, box: tuple[float, float], seed: int) -> None:
    target = case.target()
    ticket = case.find(target, domain=None)
    slopes = realised(ticket)
    found = norm_bound(target, slopes, Box(*Domain.parse(box).bounds(case.shape)))
    x = inputs(case.shape, 32, box, seed)
    with torch.no_grad():
        off = (ticket.module("sparse", dtype=torch.float64)(x) - target_module(target, torch.float64)(x)).abs()
    assert bool((off.amax(dim=0) <= found.components).all())
    intervals = propagate(target, slopes, Domain.parse(box))
    assert intervals.output_error <= float(found.components.max())
    assert all(intervals.layer_errors[name] <= error for name, error in found.layer_errors.items())


def test_every_kind_of_ticket(case: Case, ticket: slth.Ticket) -> None:
    """Copies by their own norms, and tickets of another depth."""
    target = ticket.hidden(case.target())
    slopes, box = realised(ticket), case.domain
    found = norm_bound(target, slopes, Box(*Domain.parse(box).bounds(case.shape)))
    x = inputs(case.shape, 64, box, 1)
    with torch.no_grad():
        off = ticket.module("sparse", dtype=torch.float64)(x) - target_module(case.target(), torch.float64)(x)
    assert bool((off.abs().amax(dim=0) <= found.components).all())
    assert propagate(target, slopes, Domain.parse(box)).output_error <= float(found.components.max())


def test_a_ball_counts_as_the_box_around_it() -> None:
    case = Case(shake(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), 1), (3,), {"base_set_size": 10})
    target, ticket = case.target(), case.find()
    centre = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    balls = [norm_bound(target, realised(ticket), Ball(centre, 0.5, p)).components for p in (1, 2)]
    box = norm_bound(target, realised(ticket), Box(centre - 0.5, centre + 0.5)).components
    assert torch.equal(balls[0], balls[1]) and bool((balls[0] >= box).all())
    assert torch.allclose(balls[0], box, rtol=1e-12)
