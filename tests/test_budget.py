"""The budget: gains against what small changes of weights do, shares that cost least, and a certificate within eps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.bounds.base_sets import mean_error
from slth.budget import allocate, element_cost, output_gains
from slth.certify.verify import verify
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.trace import trace
from slth.runtime import target_module
from zoo import Case, convnet, mlp

BOX = Domain.parse((-1, 1))
CASES = {
    "mlp": Case(mlp((6, 30, 4)), (6,)),
    "conv": Case(convnet(), (4, 6, 6)),
    "tanh": Case(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), (3,)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gains_bound_what_small_changes_of_a_layer_do(case: Case) -> None:
    target, generator = case.target(), torch.Generator().manual_seed(0)
    model = target_module(target, torch.float64)
    x = 2 * torch.rand(200, *target.graph.input_shape, dtype=torch.float64, generator=generator) - 1
    with torch.no_grad():
        before = model(x)
        for layer, gain in zip(target, output_gains(target, BOX), strict=True):
            module = model.get_submodule(layer.name)
            for parameter in module.parameters():
                step = 1e-6 * torch.sign(torch.rand(parameter.shape, dtype=torch.float64, generator=generator) - 0.5)
                parameter += step
                assert float((model(x) - before).abs().max()) <= 1e-6 * gain * (1 + 1e-4)
                parameter -= step
            assert gain > 0


def test_gain_of_one_layer_is_the_sum_of_its_inputs() -> None:
    target = trace(nn.Linear(7, 3), torch.zeros(1, 7))
    assert output_gains(target, Domain.parse((-2, 1))) == [15.0]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("eps", [1.0, 0.01])
def test_the_certificate_keeps_to_eps(case: Case, eps: float) -> None:
    target = case.target()
    ticket = slth.find_ticket(target, domain=(-1, 1), eps=eps)
    sizes = [layer.base_set_size for layer in allocate(target, BOX, eps)]
    assert [source.block_width for source in ticket.spec.layers] == [2 * size for size in sizes]
    assert verify(ticket, target, domain=(-1, 1), eps=eps).holds


def test_unequal_layers_get_unequal_shares_and_the_source_is_smaller() -> None:
    target = Case(mlp((200, 100, 4)), (200,)).target()
    own, equal = (allocate(target, BOX, 0.01, split=split) for split in ("own", "uniform"))
    assert sum(layer.share for layer in own) == pytest.approx(0.01) == sum(layer.share for layer in equal)
    assert own[0].share / own[1].share == pytest.approx(element_cost(target.layers[0]) / element_cost(target.layers[1]))
    assert own[0].base_set_size < equal[0].base_set_size
    assert sum(layer.source_weights for layer in own) < sum(layer.source_weights for layer in equal)


def test_a_smaller_error_never_needs_smaller_base_sets() -> None:
    target = CASES["conv"].target()
    sizes = [[layer.base_set_size for layer in allocate(target, BOX, eps)] for eps in (10, 1, 0.1, 1e-2, 1e-3)]
    assert all((np.diff(column) >= 0).all() for column in np.array(sizes).T)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_expected_error_is_that_of_base_sets(mirrored: bool) -> None:
    from slth.subsetsum import solve

    rng, m = np.random.default_rng(0), 9
    n = np.full(4000, m) if mirrored else rng.binomial(2 * m, 0.5, 4000)
    elements = rng.uniform(-1, 1, n.sum()) * rng.uniform(-1, 1, n.sum())
    errors = solve(elements, rng.uniform(-0.3, 0.3, 4000), offsets=np.concatenate([[0], np.cumsum(n)])).errors
    assert mean_error(m, mirrored) / 5 < errors.mean() < 5 * mean_error(m, mirrored)


def test_what_cannot_be_is_refused() -> None:
    target = CASES["mlp"].target()
    for eps in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="eps"):
            allocate(target, BOX, eps)
    with pytest.raises(ArgumentError, match="all reals"):
        slth.find_ticket(target, eps=0.1)
    with pytest.raises(ArgumentError, match="a larger --eps"):
        allocate(target, BOX, 1e-14)
    with pytest.raises(ArgumentError, match="one of the two"):
        slth.find_ticket(target, domain=(-1, 1), eps=0.1, base_set_size=20)
    with pytest.raises(ArgumentError, match="two-for-one"):
        slth.find_ticket(target, domain=(-1, 1), eps=0.1, construction="pairs")
    with pytest.raises(ArgumentError, match="own or uniform"):
        allocate(target, BOX, 0.1, split="best")
