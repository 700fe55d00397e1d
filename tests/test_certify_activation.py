"""Bounds through activations: no value outside, no error above, with zero slack; and not wider than they must be."""

from __future__ import annotations

import copy
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from torch import nn

import slth
from slth.certify import activation as rules
from slth.certify.affine import affine
from slth.certify.propagation import RULES, propagate
from slth.certify.state import UNIT, State
from slth.domain import Domain
from slth.network.graph import Node
from slth.network.operators import OPERATORS, Elementwise
from slth.realise import realise
from slth.runtime import target_module
from zoo import Case, cases, inputs, mlp

mp.dps = 50
NODES = {
    "relu": Node("a", "relu", "input", {}),
    "leaky": Node("a", "leaky_relu", "input", {"slope": 0.1}),
    "steep leaky": Node("a", "leaky_relu", "input", {"slope": 3.0}),
    "negative leaky": Node("a", "leaky_relu", "input", {"slope": -0.5}),
    "tanh": Node("a", "tanh", "input", {}),
    "sigmoid": Node("a", "sigmoid", "input", {}),
    "gelu": Node("a", "gelu", "input", {"approximate": "none"}),
    "gelu tanh": Node("a", "gelu", "input", {"approximate": "tanh"}),
    "silu": Node("a", "silu", "input", {}),
    "elu": Node("a", "elu", "input", {"alpha": 1.0}),
    "steep elu": Node("a", "elu", "input", {"alpha": 2.5}),
    "softplus": Node("a", "softplus", "input", {"beta": 1.0, "threshold": 20.0}),
    "coarse softplus": Node("a", "softplus", "input", {"beta": 4.0, "threshold": 3.0}),
    "hardtanh": Node("a", "hardtanh", "input", {"low": -0.5, "high": 2.0}),
    "hardtanh beside 0": Node("a", "hardtanh", "input", {"low": 0.5, "high": 2.0}),
    "relu6": Node("a", "hardtanh", "input", {"low": 0.0, "high": 6.0}),
}
MODULES: dict[str, nn.Module] = {
    "leaky": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(init=1.7),
    "negative leaky": nn.LeakyReLU(-0.7),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "elu": nn.ELU(1.5),
    "softplus": nn.Softplus(),
    "coarse softplus": nn.Softplus(4.0, 3.0),
    "hardtanh": nn.Hardtanh(-0.5, 2),
    "relu6": nn.ReLU6(),
    "identity": nn.Identity(),
}
PLACES = (
    0.0,
    0.75,
    -0.7517915,
    -0.7524614,
    -1.2784645,
    1.41421356,
    -1.41421356,
    2.39935728,
    -2.39935728,
    0.5,
    2,
    6,
    20,
)


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> Node:
    """Every activation, some with several parameters."""
    return NODES[request.param]


def hulls(seed: int, n: int) -> State:
    """Intervals of all widths around many places, some of them points, with errors of all sizes."""
    rng = np.random.default_rng(seed)
    centre = np.where(rng.random(n) < 0.5, rng.choice(PLACES, n), rng.normal(size=n) * 10.0 ** rng.uniform(-6, 2, n))
    centre += rng.normal(size=n) * 10.0 ** rng.uniform(-12, 1, n)
    width, error = (10.0 ** rng.uniform(-12, 1.5, n) * (rng.random(n) < 0.9) for _ in range(2))
    lower, upper, error = (torch.from_numpy(part) for part in (centre - width, centre + width, error))
    return State(lower, upper, error, False, False)


def evaluate(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The operation in float64."""
    return OPERATORS[node.op].module(node.attributes)(x)


@pytest.mark.parametrize("seed", range(4))
def test_no_value_is_outside_and_no_error_above(node: Node, seed: int) -> None:
    state = hulls(seed, 4000)
    bounds = RULES[node.op](node, state)
    rng = np.random.default_rng(seed + 100)
    for share in (0.0, 1.0, *rng.random(60)):
        t = torch.minimum(state.lower + share * (state.upper - state.lower), state.upper)
        value = evaluate(node, t)
        assert (bounds.lower <= value).all() and (value <= bounds.upper).all()
        for move in (-1.0, 1.0, *(2 * rng.random(6) - 1)):
            # Rounding may carry s farther from t than the error; then it is no possible value.
            s = t + move * state.error
            possible = (s - t).abs() <= state.error
            assert ((evaluate(node, s) - value).abs() <= bounds.error)[possible].all()


@pytest.mark.parametrize("seed", range(2))
def test_bounds_are_nearly_the_range_and_the_largest_change(node: Node, seed: int) -> None:
    state = hulls(seed, 1500)
    bounds = RULES[node.op](node, state)
    shares = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
    values = evaluate(node, state.lower + shares * (state.upper - state.lower))
    width, found = bounds.upper - bounds.lower, values.amax(0) - values.amin(0)
    jump = 3 * OPERATORS[node.op].activation(node.attributes).jump
    size = 1 + state.magnitude + state.error
    assert (width <= found * 1.01 + 1e-13 * size + jump).all()
    # Between points that far apart nothing is lost but what the hull's two ends add.
    hull = evaluate(node, (state.lower - state.error) + shares * (state.upper - state.lower + 2 * state.error))
    assert (bounds.error <= (hull.amax(0) - hull.amin(0)) * 1.01 + 1e-13 * size + 2 * jump).all()


def test_a_small_error_grows_by_the_local_slope(node: Node) -> None:
    x = torch.linspace(-8, 8, 3001, dtype=torch.float64) + 1e-3
    state = State(x, x, torch.full_like(x, 1e-6), False, False)
    slope = ((evaluate(node, x + 1e-6) - evaluate(node, x - 1e-6)) / 2e-6).abs()
    growth = RULES[node.op](node, state).error / 1e-6
    jumps = OPERATORS[node.op].activation(node.attributes).jump > 1e-6
    allowed = 1.13 if node.attributes.get("approximate") == "tanh" else 1e-4
    bad = growth > slope + (allowed + 3e-9 / 1e-6 * jumps)
    assert int(bad.sum()) <= (2 if jumps or node.op == "hardtanh" else 0)


@pytest.mark.parametrize("low", [0.0, -5.0])
def test_claimed_signs_are_those_of_the_values(node: Node, low: float) -> None:
    x = torch.from_numpy(
        np.concatenate([np.linspace(low, low + 5, 100_001), (low + 2.5) * np.geomspace(1e-300, 400, 500)])
    )
    state = State(x, x, torch.zeros_like(x), low == 0, low < 0)
    bounds = RULES[node.op](node, state)
    value = evaluate(node, x)
    assert not bounds.nonnegative or ((value >= 0).all() and (bounds.lower >= 0).all())
    assert not bounds.nonpositive or ((value <= 0).all() and (bounds.upper <= 0).all())
    operator = OPERATORS[node.op]
    assert isinstance(operator, Elementwise)
    if operator.activation(node.attributes).keeps_sign:
        assert bounds.nonnegative if low == 0 else (bounds.nonpositive or bounds.nonnegative)


def exact(node: Node, x: Any) -> Any:
    """50 digits; the formulas of test_activations are of the activations, these of torch's documentation."""
    match node.op:
        case "tanh":
            return mpmath.tanh(x)
        case "sigmoid":
            return 1 / (1 + mpmath.exp(-x))
        case "silu":
            return x / (1 + mpmath.exp(-x))
        case "elu":
            return x if x > 0 else mpf(node.attributes["alpha"]) * mpmath.expm1(x)
        case "softplus":
            beta = mpf(node.attributes["beta"])
            return x if beta * x > node.attributes["threshold"] else mpmath.log1p(mpmath.exp(beta * x)) / beta
        case "gelu" if node.attributes["approximate"] == "none":
            return x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        case "gelu":
            return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpf(0.044715) * x**3)))
    raise NotImplementedError(node.op)


@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "silu", "elu", "steep elu", "softplus", "coarse softplus", "gelu", "gelu tanh"]
)
def test_torch_is_within_an_eighth_of_the_margin(name: str) -> None:
    """The margin is taken from the rule: the error that it gives to a point is two evaluations' rounding."""
    node, rng = NODES[name], np.random.default_rng(0)
    x = torch.from_numpy(np.concatenate([rng.normal(size=300) * scale for scale in (1e-3, 0.1, 1, 5, 40, 700)]))
    x = x[(x.abs() - 0.75).abs() > 1e-6]
    if node.op == "softplus":
        x = x[(node.attributes["beta"] * x - node.attributes["threshold"]).abs() > 1e-6]
    bounds = RULES[node.op](node, State(x, x, torch.zeros_like(x), False, False))
    values = [exact(node, mpf(entry)) for entry in x.tolist()]
    errors = [float(abs(mpf(found) - true)) for found, true in zip(evaluate(node, x).tolist(), values, strict=True)]
    assert (torch.tensor(errors, dtype=torch.float64) <= (bounds.upper - bounds.lower) / 4 / 8).all()
    for lower, true, upper in zip(bounds.lower.tolist(), values, bounds.upper.tolist(), strict=True):
        assert lower <= true <= upper


@pytest.mark.parametrize(
    ("name", "valley"),
    [("gelu", rules.GELU_VALLEY), ("gelu tanh", rules.GELU_TANH_VALLEY), ("silu", rules.SILU_VALLEY)],
)
def test_the_valleys_are_where_the_slope_changes_its_sign(name: str, valley: rules.Valley) -> None:
    begin, end, bottom = valley
    node = NODES[name]
    assert mpmath.diff(lambda x: exact(node, x), begin) < 0 < mpmath.diff(lambda x: exact(node, x), end)
    place = mpmath.findroot(lambda x: mpmath.diff(lambda y: exact(node, y), x), (begin + end) / 2)
    assert begin < place < end and end - begin < 2e-9
    assert 0 < exact(node, place) - mpf(bottom) < 1e-16
    for x in np.concatenate([-np.geomspace(1e-6, 6, 500), np.geomspace(1e-6, 6, 100)]).tolist():
        slope = mpmath.diff(lambda y: exact(node, y), x)
        assert slope < 0 if x < begin else slope > 0


def test_the_steepest_places_are_enclosed() -> None:
    begin, end = rules._SILU_STEEPEST
    assert begin * mpmath.tanh(mpf(begin) / 2) < 2 < end * mpmath.tanh(mpf(end) / 2)
    assert mpf(1.4142135623) < mpmath.sqrt(2) < mpf(1.4142135624)


def activated(model: nn.Module, activation: nn.Module) -> nn.Module:
    """A copy of a sequence with another activation in the place of its ReLUs, and one at its end."""
    layers = [copy.deepcopy(activation) if isinstance(layer, nn.ReLU) else layer for layer in model]
    return nn.Sequential(*layers, copy.deepcopy(activation)).eval()


@st.composite
def activated_cases(draw: st.DrawFn) -> Case:
    """A random network of zoo's with another activation."""
    case = draw(cases(largest_base_set=9))
    return Case(activated(case.model, MODULES[draw(st.sampled_from(sorted(MODULES)))]), case.shape, case.options)


BOXES = st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (0.3, 0.3), (0, 0), (-1e3, 1e3), (0, 1e-6)])


@settings(max_examples=60)
@given(activated_cases(), BOXES, st.integers(0, 1000))
def test_no_input_errs_more_than_is_certified(case: Case, box: tuple[float, float], seed: int) -> None:
    """Invariant 4, zero slack, after every node: values, errors and signs, in every form of the ticket."""
    target = case.target()
    ticket = case.find(target, domain=None)
    slopes = {facts.name: realise(source, mask) for source, mask, facts in ticket.layers}
    certified = propagate(target, slopes, Domain.parse(box)).output_error
    theirs, layers = target_module(target, torch.float64), {layer.name: layer for layer in target}
    for form in ("folded", "sparse", "masked"):
        ours = ticket.module(form, dtype=torch.float64)
        a = b = inputs(case.shape, 48, box, seed)
        lower, upper = Domain.parse(box).bounds(case.shape)
        state = State(lower, upper, torch.zeros_like(lower), box[0] >= 0, box[1] <= 0)
        for node in target.graph:
            with torch.no_grad():
                a, b = ours.get_submodule(node.name)(a), theirs.get_submodule(node.name)(b)
                layer = layers.get(node.name)
                state = RULES[node.op](node, state) if layer is None else affine(node, state, layer, slopes[node.name])
            assert (state.lower <= b).all() and (b <= state.upper).all(), node
            assert ((a - b).abs() <= state.error).all(), node
            for values in (a, b):
                assert not state.nonnegative or (values >= 0).all()
                assert not state.nonpositive or (values <= 0).all()
        assert float((a - b).abs().max()) <= certified == float(state.error.max())


@settings(max_examples=14)
@given(st.sampled_from(sorted(MODULES)), st.integers(0, 2**32), st.sampled_from([30, 34]))
def test_nor_when_errors_are_near_rounding(name: str, seed: int, size: int) -> None:
    model = activated(mlp((3, 4, 2), seed=seed % 100), MODULES[name])
    case = Case(model, (3,), {"base_set_size": size, "seed": seed, "domain": (-1, 1)})
    target = case.target()
    ticket = case.find(target)
    slopes = {facts.name: realise(source, mask) for source, mask, facts in ticket.layers}
    certified = propagate(target, slopes, Domain.parse((-1, 1))).output_error
    x = inputs((3,), 500, (-1, 1), seed % 1000)
    for form in ("folded", "sparse"):
        with torch.no_grad():
            change = ticket.module(form, dtype=torch.float64)(x) - target_module(target, torch.float64)(x)
        largest = max(facts.max_weight_error for facts in ticket.facts)
        assert float(change.abs().max()) <= certified < 300 * (largest + 1e-12 + (name == "coarse softplus"))


@settings(max_examples=20)
@given(activated_cases())
def test_every_ticket_that_was_found_is_verified(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    checked = slth.verify(ticket, target, case.domain)
    assert checked.holds and checked.certified_error is not None and checked.observed_error is not None
    assert checked.observed_error <= checked.certified_error


@settings(max_examples=15)
@given(
    st.sampled_from(sorted(NODES)), st.floats(-3, 3), st.floats(0, 3), st.floats(0, 1), st.floats(0, 2), st.floats(0, 1)
)
def test_a_larger_hull_never_has_smaller_bounds(
    name: str, low: float, width: float, error: float, more: float, more_error: float
) -> None:
    node = NODES[name]

    def bounds(low: float, high: float, error: float) -> State:
        parts = (torch.tensor([value], dtype=torch.float64) for value in (low, high, error))
        return RULES[node.op](node, State(*parts, False, False))

    inner, outer = bounds(low, low + width, error), bounds(low - more, low + width + more, error + more_error)
    slack = 64 * UNIT * 10
    assert outer.lower <= inner.lower + slack and inner.upper <= outer.upper + slack
    assert inner.error <= outer.error + slack
