"""The joint relaxation: no point above it, with no slack, at any node; never above the intervals; tight at points."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from slth.certify import propagation
from slth.certify.backward import Objective, through_lines, through_max_pool
from slth.certify.linear import LinearBounds
from slth.certify.maxpool import winners
from slth.certify.propagation import propagate
from slth.certify.region import Ball, Box, Region
from slth.certify.relaxation import Pair, ends, relax
from slth.certify.state import State
from slth.copies import realise_all
from slth.domain import Domain
from slth.network.graph import INPUT, Node
from slth.network.operators import OPERATORS
from slth.network.target import Target
from slth.runtime import folded_module, target_module
from test_certify_activation import MODULES, NODES
from zoo import Case, cases, convnet, inputs, mlp, shake

BOXES = st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (-0.5, 2), (0.3, 0.3), (0, 0), (-1e3, 1e3), (0, 1e-6)])


def realised(ticket: slth.Ticket) -> dict[str, Any]:
    """Slopes of every layer."""
    return realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])


def values(module: nn.Module, names: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the nodes of a module made from a graph compute."""
    found: dict[str, torch.Tensor] = {}
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out))
        for name in names
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return found


def check(case: Case, ticket: slth.Ticket, target: Target, region: Region, x: torch.Tensor) -> float:
    """Compare bounds with points of the region, node by node, and hand back the bound on the output."""
    layers = realised(ticket)
    known = LinearBounds(target, layers).analyse(region)
    names = [node.name for node in target.graph]
    folded = folded_module(ticket, layers, torch.float64)
    ours, theirs = values(folded, names, x), values(target_module(target, torch.float64), names, x)
    for name in names:
        state, difference = known.states[name], ours[name] - theirs[name]
        assert bool((theirs[name] >= state.lower).all()) and bool((theirs[name] <= state.upper).all())
        assert bool((difference.abs() <= state.error).all())
        if name in known.pairs:
            pair = known.pairs[name]
            assert bool((difference >= pair.below).all()) and bool((difference <= pair.above).all())
    return float(known.states[names[-1]].error.max())


@settings(max_examples=max(60, settings.default.max_examples))
@given(cases(), BOXES, st.integers(0, 1000))
def test_no_point_of_a_box_is_outside(case: Case, box: tuple[float, float], seed: int) -> None:
    target = case.target()
    ticket = case.find(target, domain=None)
    region = Box(*Domain.parse(box).bounds(case.shape))
    x = inputs(case.shape, 24, box, seed)
    linear = check(case, ticket, target, region, x)
    assert linear <= propagate(target, realised(ticket), Domain.parse(box)).output_error


@settings(max_examples=max(30, settings.default.max_examples))
@given(cases(), st.sampled_from([1, 2]), st.floats(0, 2), st.integers(0, 1000))
def test_no_point_of_a_ball_is_outside(case: Case, p: int, radius: float, seed: int) -> None:
    target = case.target()
    ticket = case.find(target, domain=None)
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(case.shape, dtype=torch.float64, generator=generator)
    steps = torch.randn(24, *case.shape, dtype=torch.float64, generator=generator)
    steps[12:] = torch.where(steps[12:] == steps[12:].flatten(1).amax(1).reshape(-1, *[1] * len(case.shape)), 1.0, 0.0)
    norms = steps.flatten(1).norm(p=p, dim=1).reshape(-1, *[1] * len(case.shape))
    x = centre + steps / norms * radius * (1 - 1e-12)
    check(case, ticket, target, Ball(centre, radius, p), x)


@pytest.mark.parametrize("name", MODULES)
def test_all_activations(name: str) -> None:
    model = shake(nn.Sequential(nn.Linear(4, 9), MODULES[name], nn.Linear(9, 7), MODULES[name], nn.Linear(7, 2)), 3)
    case = Case(model, (4,), {"base_set_size": 12})
    target = case.target()
    ticket = case.find(target)
    for box in ((-1, 1), (-0.1, 0.3), (-30, 40)):
        region = Box(*Domain.parse(box).bounds((4,)))
        linear = check(case, ticket, target, region, inputs((4,), 200, box, 0))
        assert linear <= propagate(target, realised(ticket), Domain.parse(box)).output_error


def test_every_kind_of_ticket(case: Case, ticket: slth.Ticket) -> None:
    """Copies and other layouts fall back to intervals where no linear map is known."""
    target = case.target()
    box = case.options.get("domain") or (-1, 1)
    linear = LinearBounds(target, realised(ticket)) if not ticket.extra_depth else None
    if linear is None or len(realised(ticket)) != len(target.layers):
        pytest.skip("a graph of its own")
    known = linear.analyse(Box(*Domain.parse(box).bounds(case.shape)))
    x = inputs(case.shape, 64, box, 1)
    with torch.no_grad():
        found = (ticket.module("sparse", dtype=torch.float64)(x) - target_module(target, torch.float64)(x)).abs().max()
    assert float(found) <= float(known.states[target.graph.nodes[-1].name].error.max())


def dyadic(numbers: torch.Tensor) -> torch.Tensor:
    """Multiples of a power of 2, whose sums are exact."""
    return (numbers * 2**16).round() / 2**16


@pytest.mark.parametrize("name", NODES)
def test_lines_bound_every_pair_of_values(name: str) -> None:
    node, generator = NODES[name], torch.Generator().manual_seed(1)
    phi = OPERATORS[node.op].module(node.attributes)
    n = 400
    centre, width, step, low = (dyadic(torch.randn(n, dtype=torch.float64, generator=generator)) for _ in range(4))
    lower, upper, below = centre - width.abs(), centre + width.abs(), dyadic(low / 2)
    above = below + dyadic(step.abs() * 10 ** torch.randint(-4, 1, (n,), generator=generator).to(torch.float64))
    pair = Pair(lower, upper, below, above)
    after = propagation.RULES[node.op](node, State(lower, upper, torch.maximum(below.abs(), above.abs()), False, False))
    lines = relax(node, pair, after)
    bounds = ends(lines, pair, after)
    for share in torch.linspace(0, 1, 33, dtype=torch.float64):
        for other in torch.linspace(0, 1, 9, dtype=torch.float64):
            t, d = lower + (upper - lower) * share, below + (above - below) * other
            x, e = phi(t), phi(t + d) - phi(t)
            for v, at, (low, high) in ((x, t, lines.value), (e, d, lines.difference)):
                assert bool((v >= low.slope * at + low.intercept).all())
                assert bool((v <= high.slope * at + high.intercept).all())
            assert bool((e >= bounds.below).all()) and bool((e <= bounds.above).all())


@given(st.integers(0, 10**6), st.sampled_from([(2, 2, 0, 1), (3, 2, 1, 1), (2, 1, 0, 2), (3, 3, 1, 1)]))
def test_winners_bound_every_window(seed: int, shape: tuple[int, int, int, int]) -> None:
    kernel, stride, padding, dilation = shape
    attributes = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (padding,) * 2}
    attributes |= {"dilation": (dilation,) * 2, "ceil_mode": False}
    pool = OPERATORS["max_pool"].module(attributes)
    generator = torch.Generator().manual_seed(seed)
    one, two, three, four = dyadic(torch.randn(4, 3, 7, 7, dtype=torch.float64, generator=generator) * 0.3)
    lower, below = one.relu(), three / 4
    upper, above = lower + two.abs(), below + four.abs() / 4
    won = winners(attributes, Pair(lower, upper, below, above), tuple(pool(lower[None])[0].shape))
    for _ in range(40):
        shares = torch.rand(2, 3, 7, 7, dtype=torch.float64, generator=generator).round()
        t, d = lower + (upper - lower) * shares[0], below + (above - below) * shares[1]
        x, y = pool(t[None])[0], pool((t + d)[None])[0]
        assert bool((x <= won.top).all())
        assert bool((y - x >= won.below).all()) and bool((y - x <= won.above).all())
        first = t.flatten(1).gather(1, won.place.flatten(1)).reshape(x.shape)
        second = (t + d).flatten(1).gather(1, won.place.flatten(1)).reshape(x.shape)
        assert bool((x >= first).all())
        assert torch.equal(x[won.certain], first[won.certain]) and torch.equal(y[won.certain], second[won.certain])


def test_one_layer_and_one_point_are_exact_up_to_rounding() -> None:
    case = Case(mlp((6, 4)), (6,), {"base_set_size": 10})
    target, ticket = case.target(), case.find()
    layers = realised(ticket)
    weight = layers[target.layers[0].name].positive[:, :, 0] - target.layers[0].weight_array()[:, :, 0]
    offset = layers[target.layers[0].name].bias - target.layers[0].bias_array()
    known = LinearBounds(target, layers).analyse(Box(*Domain.parse((0, 1)).bounds((6,))))
    largest = max(weight.clip(0).sum(1).__add__(offset).max(), -(weight.clip(max=0).sum(1).__add__(offset)).min())
    assert float(known.states[target.graph.nodes[-1].name].error.max()) == pytest.approx(float(largest), rel=1e-9)
    deep = Case(convnet(), (4, 6, 6), {"base_set_size": 12})
    target, ticket = deep.target(), deep.find()
    x = inputs((4, 6, 6), 1, (0, 1), 5)
    known = LinearBounds(target, realised(ticket)).analyse(Box(x[0], x[0]))
    with torch.no_grad():
        error = (ticket.module("folded", dtype=torch.float64)(x) - target_module(target, torch.float64)(x)).abs().max()
    assert float(known.states[target.graph.nodes[-1].name].error.max()) == pytest.approx(float(error), rel=1e-6)


def test_the_relaxation_is_tighter_than_intervals() -> None:
    case = Case(mlp((10, 60, 40, 3)), (10,), {"base_set_size": 10})
    target, ticket = case.target(), case.find()
    linear, intervals = [], []
    for x in inputs((10,), 5, (0, 1), 2):
        box = (x - 0.02, x + 0.02)
        known = LinearBounds(target, realised(ticket)).analyse(Box(*box))
        linear.append(float(known.states[target.graph.nodes[-1].name].error.max()))
        intervals.append(propagate(target, realised(ticket), Domain.parse(box)).output_error)
    assert sum(linear) < 0.7 * sum(intervals)


def test_a_damaged_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: with half of the target's weights gone from the difference, points are outside."""
    import slth.certify.joint as joint

    real = joint.maps_of

    def damaged(*arguments: Any) -> Any:
        maps = real(*arguments)
        return None if maps is None else joint.Maps(**{**maps.__dict__, "difference": maps.difference / 2})

    monkeypatch.setattr("slth.certify.linear.maps_of", damaged)
    case = Case(mlp((6, 4)), (6,), {"base_set_size": 6})
    with pytest.raises(AssertionError):
        check(
            case, case.find(), case.target(), Box(*Domain.parse((0.9, 1)).bounds((6,))), inputs((6,), 50, (0.9, 1), 0)
        )


@given(st.integers(0, 10**6), st.booleans())
def test_steps_are_those_by_signs(seed: int, values_only: bool) -> None:
    """One line or entry for positive coefficients and another for negative ones, as they are defined."""
    generator = torch.Generator().manual_seed(seed)
    state, rows, pools = _drawn(generator)
    pair = Pair(state.lower, state.upper, -state.error / 2, state.error)
    objective = Objective(rows[0], None if values_only else rows[1], rows[0, :, 0, 0, 0], torch.zeros(5).double())
    lines = relax(NODES["relu"], pair, propagation.RULES["relu"](NODES["relu"], state))
    made = through_lines(lines, state, objective)
    constant = objective.constant.clone()
    for part, found, (low, high) in zip(
        rows, (made.value, made.difference), (lines.value, lines.difference), strict=True
    ):
        if found is None:
            continue
        slope, at = (
            torch.where(part > 0, *both) for both in ((high.slope, low.slope), (high.intercept, low.intercept))
        )
        assert torch.allclose(found, part * slope, rtol=1e-12, atol=1e-14)
        constant += (part * at).flatten(1).sum(dim=1)
    assert torch.allclose(made.constant, constant, rtol=1e-12, atol=1e-12)
    node, wanted = (
        pools,
        Objective(rows[0][..., :2, :2], None if values_only else rows[1][..., :2, :2], *[constant] * 2),
    )
    won = winners(node.attributes, pair, node.shape)
    made, constant = through_max_pool(node, won, state, wanted), constant.clone()
    value, difference = torch.zeros_like(rows[0]).flatten(2), torch.zeros_like(rows[0]).flatten(2)
    for row, channel, at in itertools.product(range(5), range(3), range(4)):
        place, i, j = int(won.place[channel].flatten()[at]), at // 2, at % 2
        a, c = float(wanted.value[row, channel, i, j]), float(rows[1][row, channel, i, j])
        if won.certain[channel, i, j] or a < 0:
            value[row, channel, place] += a
        else:
            constant[row] += a * won.top[channel, i, j]
        if won.certain[channel, i, j]:
            difference[row, channel, place] += c
        elif not values_only:
            constant[row] += c * (won.above if c > 0 else won.below)[channel, i, j]
    assert torch.allclose(made.value.flatten(2), value, rtol=1e-12, atol=1e-14)
    assert made.difference is None or torch.allclose(made.difference.flatten(2), difference, rtol=1e-12, atol=1e-14)
    assert (made.difference is None) is values_only
    assert torch.allclose(made.constant, constant, rtol=1e-12, atol=1e-12)


def _drawn(generator: torch.Generator) -> tuple[State, torch.Tensor, Node]:
    """Bounds on a map of 3 channels, coefficients of five objectives, and a pooling node."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    centre, width = normal(3, 4, 4), normal(3, 4, 4).abs() * 0.3
    state = State(centre - width, centre + width, normal(3, 4, 4).abs() * 0.2, False, False)
    attributes = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    return state, normal(2, 5, 3, 4, 4), Node("pool", "max_pool", "input", attributes, (3, 2, 2))


def test_input_is_where_the_differences_begin() -> None:
    case = Case(mlp(), (5,), {"base_set_size": 8})
    known = LinearBounds(case.target(), realised(case.find())).analyse(Box(*Domain.parse((0, 1)).bounds((5,))))
    assert float(known.states[INPUT].error.max()) == 0.0
