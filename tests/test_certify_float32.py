"""The bound on float32's own rounding: never below what is found, of any form, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from exact import exact_sparse, exact_target, fractions
from slth.certify.float32 import FORMS, UNIT32, float32_error, gamma, margin32, network_error
from slth.certify.linear import LinearBounds
from slth.certify.region import Box
from slth.certify.subject import prepare
from slth.copies import realise_all
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.operators import OPERATORS
from slth.network.target import Target
from slth.runtime import target_module
from test_certify_activation import MODULES, NODES
from zoo import Case, cases, inputs, mlp, shake

SOME_BOXES = st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.25, 0.75), (0, 0), (-1e3, 1e3)])


def realised(ticket: slth.Ticket) -> dict[str, Any]:
    """Slopes of every layer."""
    return realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])


def outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """In the inputs' precision, (batch, outputs)."""
    with torch.no_grad():
        return module(x).flatten(1)


def modules(ticket: slth.Ticket, target: Target, dtype: torch.dtype) -> dict[str, nn.Module]:
    """The target and every form of the ticket."""
    forms = {form: ticket.module(form, dtype=dtype) for form in FORMS}
    return {"target": target_module(target, dtype), **forms}


def region_of(box: Any, shape: tuple[int, ...]) -> Box:
    """A box of inputs."""
    return Box(*Domain.parse(box).bounds(shape))


def found(x: torch.Tensor, module: nn.Module, exact: list[list[Fraction]]) -> list[Fraction]:
    """The largest error of every output in float32."""
    rows = [fractions(row) for row in outputs(module, x)]
    return [max(abs(a[i] - b[i]) for a, b in zip(rows, exact, strict=True)) for i in range(len(rows[0]))]


@settings(max_examples=max(8, settings.default.max_examples // 3))
@given(cases(4), SOME_BOXES, st.integers(0, 1000), st.booleans())
def test_no_evaluation_of_any_form_is_farther_off(case: Case, box: Any, seed: int, followed: bool) -> None:
    target = case.target()
    ticket, region = case.find(target, domain=None), region_of(box, case.shape)
    layers = realised(ticket)
    known = LinearBounds(target, layers).analyse(region) if followed else None
    x = inputs(case.shape, 2, box, seed).to(torch.float32)
    x = torch.minimum(torch.maximum(x.double(), region.lower), region.upper).to(torch.float32)
    inside = ((x >= region.lower) & (x <= region.upper)).flatten(1).all(dim=1)
    x = x[inside]
    if not len(x):
        return
    exact = {"target": exact_target(target), "ticket": exact_sparse(target, ticket)}
    wanted = {name: [net(fractions(one)) for one in x] for name, net in exact.items()}
    for name, module in modules(ticket, target, torch.float32).items():
        bound = fractions(network_error(target, layers, region, name, known))
        errors = found(x, module, wanted["target" if name == "target" else "ticket"])
        assert all(error <= limit for error, limit in zip(errors, bound, strict=True)), name


def test_every_kind_of_ticket(case: Case, target: Target, ticket: slth.Ticket) -> None:
    box = case.options.get("domain") or (-1, 1)
    subject, region = prepare(ticket, target), region_of(box, case.shape)
    deep, layers = subject.hidden, subject.realised
    x = inputs(case.shape, 64, box, 3).to(torch.float32)
    doubles = {form: ticket.module(form, dtype=torch.float64) for form in ("folded", "sparse")}
    doubles |= {"target": target_module(target, torch.float64), "masked": doubles["sparse"]}
    for name, module in modules(ticket, target, torch.float32).items():
        bound = network_error(deep, layers, region, name)
        assert bool(torch.isfinite(bound).all())
        error = (outputs(module, x).double() - outputs(doubles[name], x.double())).abs().amax(dim=0)
        assert bool((error <= bound).all()), name
    total = float32_error(deep, layers, region)
    assert bool((total >= network_error(deep, layers, region, "target")).all())


@pytest.mark.parametrize("name", MODULES)
def test_all_activations(name: str) -> None:
    model = shake(nn.Sequential(nn.Linear(4, 9), MODULES[name], nn.Linear(9, 7), MODULES[name], nn.Linear(7, 2)), 3)
    case = Case(model, (4,), {"base_set_size": 8})
    target = case.target()
    layers = realised(case.find(target))
    for box in ((-1, 1), (-0.1, 0.3), (-30, 40)):
        bound = network_error(target, layers, region_of(box, (4,)), "target")
        x = inputs((4,), 2000, box, 0).to(torch.float32)
        pair = [outputs(target_module(target, dtype), x.to(dtype)) for dtype in (torch.float32, torch.float64)]
        assert bool(((pair[0].double() - pair[1]).abs().amax(dim=0) <= bound).all())
        assert float(bound.max()) < (0.2 if name == "coarse softplus" else 1e-2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [3, 100, 4096])
def test_long_sums_that_cancel(n: int, threads: int) -> None:
    """Weights that all round in one direction, and sums of large numbers of which nothing is left."""
    model = nn.Sequential(nn.Linear(n, 6), nn.ReLU(), nn.Linear(6, 2))
    shake(model, 0)
    weight = model[0].weight.data
    weight[0], weight[1] = 1.0 + 2.0**-23, 1.0
    weight[1, 1:] = 2.0**-24
    weight[2, ::2], weight[2, 1::2] = 3.1, -3.1
    weight[3] = weight[3].abs()
    target = Case(model, (n,)).target()
    # The ticket is not asked: its layers are only what the proof reads shapes from.
    layers = realised(Case(mlp((n, 6, 2)), (n,), {"base_set_size": 3}).find()) if n < 1000 else None
    region = region_of((0, 1), (n,))
    states = {"target": target, "region": region}
    if layers is None:
        layers = realised(Case(model, (n,), {"base_set_size": 2}).find(target))
    bound = fractions(network_error(states["target"], layers, region, "target"))
    x = inputs((n,), 8, (0, 1), 1).to(torch.float32)
    x[0], x[1] = 1.0, torch.linspace(0, 1, n)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = [fractions(row) for row in outputs(target_module(target, torch.float32), x)]
    finally:
        torch.set_num_threads(before)
    exact = exact_target(target)
    for one, row in zip(x, got, strict=True):
        assert all(abs(a - b) <= limit for a, b, limit in zip(row, exact(fractions(one)), bound, strict=True))


def test_a_dead_layer_has_no_error_of_the_layers_before() -> None:
    """Neurons that intervals prove inactive carry nothing on."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    shake(model, 1)
    model[0].bias.data[:] = -100.0
    case = Case(model, (3,), {"base_set_size": 6})
    target = case.target()
    bound = network_error(target, realised(case.find(target)), region_of((0, 1), (3,)), "target")
    assert float(bound.max()) <= float(model[2].bias.abs().max()) * 16 * UNIT32


def test_objectives_are_tighter_than_intervals() -> None:
    """What is carried back knows that the errors of a hidden layer count with signs."""
    case = Case(mlp((10, 60, 40, 3)), (10,), {"base_set_size": 6})
    target = case.target()
    layers, x = realised(case.find(target)), torch.full((10,), 0.5, dtype=torch.float64)
    region = Box(x - 1e-3, x + 1e-3)
    followed = network_error(target, layers, region, "target", LinearBounds(target, layers).analyse(region))
    import slth.certify.float32 as module

    original, module.LARGEST_TIGHTENED = module.LARGEST_TIGHTENED, 0
    try:
        loose = network_error(target, layers, region, "target")
    finally:
        module.LARGEST_TIGHTENED = original
    assert float(followed.max()) < 0.8 * float(loose.max())


def test_what_overflows_and_what_is_unknown_has_no_bound() -> None:
    case = Case(mlp(), (5,), {"base_set_size": 6})
    target = case.target()
    layers = realised(case.find(target))
    assert bool(torch.isinf(float32_error(target, layers, region_of((-1e38, 1e38), (5,)))).all())
    assert gamma(2**24) == float("inf") and gamma(1) > UNIT32
    with pytest.raises(ArgumentError):
        float32_error(target, layers, region_of((0, 1), (5,)), "whole")


@pytest.mark.parametrize("name", [name for name in NODES if name not in ("relu", "own")])
def test_functions_are_within_half_of_their_margins(name: str) -> None:
    """Those of torch in float32, over all sizes of arguments, beside float64."""
    node, generator = NODES[name], torch.Generator().manual_seed(0)
    sizes = 10 ** (torch.rand(200_000, generator=generator) * 12 - 8)
    x = torch.randn(200_000, generator=generator) * sizes.clamp(max=80)
    phi = OPERATORS[node.op].activation(node.attributes)
    module, wide = phi.torch_module(), x.double()
    if phi.jump:
        beta, threshold = phi.parameters["beta"], phi.parameters["threshold"]
        x = x[(beta * wide / threshold - 1).abs() > 1e-6]
        wide = x.double()
    error = (module(x).double() - module(wide)).abs()
    assert bool((error <= margin32(node, phi, wide.abs()) / 2).all())
