"""The proof: never below what is observed, with no slack; monotone; equal to brute force on tiny networks."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from slth.activations import Activation, forget, register
from slth.certify.affine import affine
from slth.certify.propagation import RULES, Bound, propagate
from slth.certify.state import State, inflate
from slth.domain import Domain
from slth.network.graph import Node, Sign
from slth.network.operators import OPERATORS
from slth.network.target import Target
from slth.network.trace import trace
from slth.realise import RealisedLayer, realise
from slth.runtime import target_module
from zoo import Case, cases, inputs, mlp, shake

BOXES = st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (-0.5, 2), (0.3, 0.3), (0, 0), (-1e3, 1e3), (0, 1e-6)])


def realised(ticket: slth.Ticket) -> dict[str, RealisedLayer]:
    """Slopes of every layer."""
    return {facts.name: realise(source, mask) for source, mask, facts in ticket.layers}


def bound(ticket: slth.Ticket, target: Target, domain: Any) -> Bound:
    """The proof on a box."""
    return propagate(target, realised(ticket), Domain.parse(domain))


def difference(ticket: slth.Ticket, target: Target, x: torch.Tensor, form: str = "folded") -> float:
    """Largest output error on some inputs."""
    return float((ticket.module(form, dtype=torch.float64)(x) - target_module(target, torch.float64)(x)).abs().max())


@settings(max_examples=40)
@given(cases(), BOXES, st.integers(0, 1000))
def test_no_input_errs_more_than_is_certified(case: Case, box: tuple[float, float], seed: int) -> None:
    """Invariant 4, zero slack: random points and corners, every form of the ticket."""
    target = case.target()
    ticket = case.find(target, domain=None)
    certified = bound(ticket, target, box).output_error
    x = inputs(case.shape, 32, box, seed)
    for form in ("folded", "sparse", "masked"):
        assert difference(ticket, target, x, form) <= certified


@settings(max_examples=12)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.sampled_from(["uniform", "looks-linear"]),
    st.sampled_from([30, 34]),
    st.integers(0, 2**32),
    st.sampled_from([(0, 1), (-1, 1), (0.1, 0.1)]),
)
def test_no_input_errs_more_than_is_certified_when_errors_are_near_rounding(
    widths: list[int], initialisation: str, size: int, seed: int, box: tuple[float, float]
) -> None:
    options = {"base_set_size": size, "initialisation": initialisation, "seed": seed}
    case = Case(mlp(widths, seed=seed % 100), (widths[0],), options)
    target = case.target()
    ticket = case.find(target)
    certified = bound(ticket, target, box).output_error
    x = inputs(case.shape, 500, box, seed % 1000)
    assert difference(ticket, target, x) <= certified
    assert difference(ticket, target, x, "sparse") <= certified


@pytest.mark.parametrize("constant", [0.0, 0.3, -1.0, 1e8])
def test_a_single_point_is_certified_and_tight(constant: float) -> None:
    case = Case(mlp((4, 6, 3)), (4,), {"base_set_size": 14})
    target = case.target()
    ticket = case.find(target)
    x = torch.full((1, 4), constant, dtype=torch.float64)
    certified = bound(ticket, target, (constant, constant)).output_error
    observed = difference(ticket, target, x)
    assert observed <= certified
    assert certified <= 50 * max(observed, 1e-12 * (1 + constant))


@given(cases(), BOXES)
def test_layer_bounds_hold_after_every_layer(case: Case, box: tuple[float, float]) -> None:
    target = case.target()
    ticket = case.find(target, domain=None)
    found = bound(ticket, target, box).layer_errors
    ours, theirs = ticket.module(dtype=torch.float64), target_module(target, torch.float64)
    a = b = inputs(case.shape, 32, box)
    for node in target.graph:
        a, b = ours.get_submodule(node.name)(a), theirs.get_submodule(node.name)(b)
        if node.name in found:
            assert float((a - b).abs().max()) <= found[node.name]


@given(cases(), BOXES)
def test_intervals_contain_the_activations(case: Case, box: tuple[float, float]) -> None:
    """Bounds on the target's values, node by node, entry by entry, and on the ticket's signs."""
    target = case.target()
    ticket = case.find(target, domain=None)
    slopes, layers = realised(ticket), {layer.name: layer for layer in target}
    ours, theirs = ticket.module(dtype=torch.float64), target_module(target, torch.float64)
    a = b = inputs(case.shape, 64, box)
    lower, upper = Domain.parse(box).bounds(case.shape)
    state = State(lower, upper, torch.zeros_like(lower), box[0] >= 0, box[1] <= 0)
    for node in target.graph:
        a, b = ours.get_submodule(node.name)(a), theirs.get_submodule(node.name)(b)
        layer = layers.get(node.name)
        with torch.no_grad():
            state = RULES[node.op](node, state) if layer is None else affine(node, state, layer, slopes[node.name])
        assert tuple(state.lower.shape) == node.shape
        assert (state.lower <= b).all() and (b <= state.upper).all(), node
        assert ((a - b).abs() <= state.error).all(), node
        for values in (a, b):
            assert not state.nonnegative or (values >= 0).all()
            assert not state.nonpositive or (values <= 0).all()


@given(cases(), st.floats(-2, 2), st.floats(0, 2), st.floats(0, 2))
def test_a_larger_domain_never_has_a_smaller_bound(case: Case, low: float, width: float, more: float) -> None:
    target = case.target()
    ticket = case.find(target, domain=None)
    inner = bound(ticket, target, (low, low + width)).output_error
    outer = bound(ticket, target, (low - more, low + width + more)).output_error
    # Both are rounded outward, each by its own few units in the last place.
    assert inner <= outer * (1 + 1e-12)


def test_it_equals_brute_force_for_one_affine_layer() -> None:
    """Without a hidden layer the worst input is a corner, and the bound is what is found at the worst of all."""
    for box, initialisation in (((0, 1), "uniform"), ((-1, 1), "looks-linear"), ((-2, 0), "uniform")):
        options = {"base_set_size": 6, "initialisation": initialisation, "domain": box}
        case = Case(mlp((6, 3)), (6,), options)
        target = case.target()
        ticket = case.find(target)
        corners = torch.tensor(list(itertools.product(box, repeat=6)), dtype=torch.float64)
        observed = difference(ticket, target, corners)
        certified = bound(ticket, target, box).output_error
        assert observed <= certified <= observed * (1 + 1e-9)


def _patterns(ticket: slth.Ticket, target: Target) -> float:
    """Largest error on [0, 1]: both are piecewise linear, so it lies at a kink or an end; here in one dimension."""
    x = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    return difference(ticket, target, x)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(6, 12))
def test_it_is_within_a_small_factor_of_brute_force_on_tiny_networks(seed: int, width: int, size: int) -> None:
    case = Case(mlp((1, width, 1), seed=seed), (1,), {"base_set_size": size, "domain": (0, 1), "seed": seed})
    target = case.target()
    ticket = case.find(target)
    certified, densest = bound(ticket, target, (0, 1)).output_error, _patterns(ticket, target)
    assert densest <= certified
    # Sum over the hidden neurons of what each can add: the triangle inequality is all that may be lost.
    layers = realised(ticket)
    first, second = (layers[layer.name] for layer in target)
    w1, w2 = (layer.weight_array()[:, :, 0] for layer in target)
    b1, b2 = (layer.bias_array() for layer in target)
    hidden = np.maximum(np.abs(w1[:, 0] + b1), np.abs(b1)).max()
    d1 = np.abs(first.positive[:, 0, 0] - w1[:, 0]) + np.abs(first.bias - b1)
    gain = np.abs(second.positive[0, :, 0])
    reach = np.maximum(np.maximum(w1[:, 0], 0) + b1, b1) + np.abs(w1[:, 0])
    d2 = np.abs(second.positive[0, :, 0] - w2[0]) * np.minimum(np.maximum(reach, 0), hidden + np.abs(w1[:, 0]))
    assert certified <= (gain * d1).sum() + d2.sum() + abs(second.bias[0] - b2[0]) + 1e-9


def test_c5_the_networks_error_is_below_the_theorems_bound() -> None:
    """da Cunha et al. 2022, Theorem 1: per-kernel norms at most 1, layer errors eps / 2l give (1 + eps / 2l)^l - 1."""
    model = shake(
        nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 2, 3, bias=False), nn.ReLU()), 3
    )
    for layer in (model[0], model[2]):
        layer.weight.data /= layer.weight.data.abs().sum(dim=(1, 2, 3), keepdim=True) * 1.001
    case = Case(model, (1, 7, 7), {"base_set_size": 12, "domain": (0, 1)})
    target = case.target()
    ticket = case.find(target)
    slopes = realised(ticket)
    budgets = [np.abs(slopes[layer.name].positive - layer.weight_array()).sum(axis=(1, 2)).max() for layer in target]
    eps = 2 * len(budgets) * max(budgets)
    theorem = (1 + eps / 4) ** 2 - 1
    certified = bound(ticket, target, (0, 1)).output_error
    assert difference(ticket, target, inputs((1, 7, 7), 200, (0, 1))) <= certified <= theorem * (1 + 1e-9)


@given(st.integers(0, 1000), st.integers(1, 3), st.booleans())
def test_c1_a_convolution_is_bounded_by_the_norm_of_its_kernels(seed: int, channels: int, padded: bool) -> None:
    """Proposition 1: ||K * X||_max <= ||K||_1 ||X||_max, with the total and with the largest norm of a kernel."""
    layer = shake(nn.Conv2d(channels, 3, 3, padding=int(padded), bias=False), seed).double()
    x = inputs((channels, 5, 5), 20, seed=seed)
    output, kernel = layer(x).abs().max(), layer.weight.detach().abs()
    assert (
        float(output) <= float(kernel.sum(dim=(1, 2, 3)).max() * x.abs().max()) <= float(kernel.sum() * x.abs().max())
    )


@given(cases())
def test_c4_a_layers_error_is_at_most_the_sum_of_its_weights_errors(case: Case) -> None:
    """And C2 for the 1x1-first order: the pruned source layers are the layer with the realised weights, borders too."""
    target = case.target()
    ticket = case.find(target, domain=(-1, 1))
    masked = ticket.module("masked", dtype=torch.float64)
    for layer, (source, mask, _) in zip(target, ticket.layers, strict=True):
        slopes = realise(source, mask)
        x = inputs(target.graph.shape_of(layer.node.source), 8)
        own = target_module(target, torch.float64).get_submodule(layer.name)
        error = (masked.get_submodule(layer.name)(x) - own(x)).abs()
        deviation = np.maximum(
            np.abs(slopes.positive - layer.weight_array()), np.abs(slopes.negative - layer.weight_array())
        ).sum(axis=(1, 2))
        if slopes.bias is not None:
            deviation += np.abs(slopes.bias - layer.bias_array())
        axis = -1 if layer.node.op == "linear" else 1
        per_output = error.movedim(axis, 0).flatten(1).amax(dim=1).detach().numpy()
        assert (per_output <= deviation * (1 + 1e-9) + 1e-11).all()


def test_a_corrupted_slope_is_seen() -> None:
    """A bound that ignored a weight would stay small."""
    case = Case(mlp((3, 4, 2)), (3,), {"base_set_size": 12})
    target = case.target()
    ticket = case.find(target)
    honest = bound(ticket, target, (-1, 1)).output_error
    for name, part in itertools.product((layer.name for layer in target), ("positive", "negative", "bias")):
        slopes = realised(ticket)
        changed = copy.deepcopy(slopes[name])
        getattr(changed, part).flat[0] += 0.5
        worse = propagate(target, {**slopes, name: changed}, Domain.parse((-1, 1))).output_error
        # A hidden layer's input is never negative, so its negative slopes do not count.
        dead = part == "negative" and name != target.layers[0].name
        assert worse == honest if dead else worse > honest + 0.01


@given(st.floats(0, 1e300), st.integers(1, 10**6))
def test_inflating_never_makes_smaller(value: float, n: int) -> None:
    assert float(inflate(torch.tensor(value, dtype=torch.float64), n)) > value or value > 1e299


@pytest.mark.parametrize("op", RULES)
@pytest.mark.parametrize("sign", list(Sign))
def test_a_rule_claims_the_sign_that_its_operation_has(op: str, sign: Sign, request: pytest.FixtureRequest) -> None:
    """A claimed sign leaves one of the two slopes out of the proof."""
    if op == "own":
        register(Activation.custom("twice", lambda x: 2 * x, 2, 2, 0, lambda eps: math.inf, 2))
        request.addfinalizer(lambda: forget("twice"))
    window = {"kernel": (2,), "stride": (2,), "padding": (0,), "ceil_mode": False}
    attributes = {
        "max_pool": {**window, "dilation": (1,)},
        "average_pool": {**window, "count_include_pad": True},
        "reshape": {"shape": (8,)},
        "pad": {"widths": (1, 1), "mode": "constant"},
        "leaky_relu": {"slope": 0.1},
        "gelu": {"approximate": "none"},
        "elu": {"alpha": 1.0},
        "softplus": {"beta": 1.0, "threshold": 20.0},
        "hardtanh": {"low": -1.0, "high": 1.0},
        "own": {"name": "twice"},
    }
    node = Node(op, op, "input", attributes.get(op, {}), ())
    ones = torch.ones(2, 4, dtype=torch.float64)
    state = State(-ones, ones, ones, sign is Sign.NONNEGATIVE, sign is Sign.NONPOSITIVE)
    claimed = RULES[op](node, state)
    expected = OPERATORS[op].sign(node.attributes, sign)
    assert not claimed.nonnegative or expected is Sign.NONNEGATIVE
    # relu of what is not positive is 0, which has both signs.
    assert not claimed.nonpositive or expected is Sign.NONPOSITIVE or sign is Sign.NONPOSITIVE


@pytest.mark.parametrize("model", [nn.Sequential(nn.MaxPool1d(2)), nn.Sequential(nn.AvgPool1d(2))])
def test_pooling_before_the_first_layer_keeps_both_slopes_in_the_proof(model: nn.Module) -> None:
    network = shake(nn.Sequential(*model, nn.Flatten(), nn.Linear(6, 2)), 0)
    case = Case(network, (2, 6), {"base_set_size": 4})
    target = case.target()
    ticket = case.find(target)
    certified = bound(ticket, target, (-1, 1)).output_error
    assert difference(ticket, target, inputs((2, 6), 400)) <= certified


def _exact(weight: np.ndarray, bias: np.ndarray, x: list[float]) -> list[Fraction]:
    return [
        sum((Fraction(w) * Fraction(value) for w, value in zip(row, x, strict=True)), Fraction(b))
        for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_alone_is_within_the_bounds(seed: int) -> None:
    """Equal networks, evaluated in two orders and exactly: the weights' error is 0, and rounding is all there is."""
    n = 300
    rng = np.random.default_rng(seed)
    model = nn.Linear(n, 4).double()
    weight = rng.normal(size=(4, n)) * 10.0 ** rng.uniform(-3, 3, (4, n))
    model.weight.data, model.bias.data = torch.from_numpy(weight), torch.from_numpy(rng.normal(size=4))
    x = torch.from_numpy(rng.normal(size=(1, n)))
    target = trace(model, x)
    (layer,) = target
    own, bias = layer.weight_array(), layer.bias_array()
    same = RealisedLayer(own, own, bias, np.abs(own), np.abs(bias), n_terms=n)
    state = State(x[0], x[0], torch.zeros(n, dtype=torch.float64), False, False)
    with torch.no_grad():
        after = affine(layer.node, state, layer, same)
        one = model(x)[0]
    exact = _exact(weight, layer.bias_array(), x[0].tolist())
    for order in (np.arange(n), np.arange(n)[::-1], np.argsort(-np.abs(weight[0] * x[0].numpy()))):
        other = torch.tensor([sum((w[k] * float(x[0, k]) for k in order), 0.0) for w in weight]) + model.bias.data
        assert (after.lower <= other).all() and (other <= after.upper).all()
        assert ((one - other).abs() <= after.error).all()
    for lower, value, upper in zip(after.lower.tolist(), exact, after.upper.tolist(), strict=True):
        assert Fraction(lower) <= value <= Fraction(upper)
    # Bounds a thousand times wider would be as true and of no use.
    assert float(after.error.max()) < 1e-9 * float((np.abs(weight) @ np.abs(x[0].numpy())).max())
