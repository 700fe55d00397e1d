"""The budget: gains against what small changes of weights do, shares that cost least, and a certificate within eps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.bounds.base_sets import foreseen_errors, mean_error
from slth.budget import SAFETY, LayerBudget, allocate, output_gains
from slth.certify.verify import verify
from slth.constructions import CONSTRUCTIONS
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.target import Target
from slth.network.trace import trace
from slth.plan import Wishes
from slth.runtime import target_module
from zoo import Case, convnet, mlp, shake

BOX = Domain.parse((-1, 1))
CASES = {
    "mlp": Case(mlp((6, 30, 4)), (6,)),
    "conv": Case(convnet(), (4, 6, 6)),
    "tanh": Case(shake(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), 0), (3,)),
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


def budget(
    target: Target, eps: float, split: str = "own", construction: str = "two-for-one"
) -> tuple[LayerBudget, ...]:
    return allocate(target, CONSTRUCTIONS[construction], Wishes(domain=BOX), eps, split=split)


def costs(target: Target) -> list[int]:
    method = CONSTRUCTIONS["two-for-one"]
    return [method.element_cost(layer, Sign.SIGNED) for layer in target]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("eps", [1.0, 0.01])
@pytest.mark.parametrize("construction", ["two-for-one", "conv", "golden-ratio"])
def test_the_certificate_keeps_to_eps(case: Case, eps: float, construction: str) -> None:
    target = case.target()
    ticket = slth.find_ticket(target, domain=(-1, 1), eps=eps, construction=construction)
    goals = [layer.goal for layer in budget(target, eps, construction=construction)]
    if construction != "golden-ratio":
        assert [source.block_width for source in ticket.spec.layers] == [2 * goal.base_set_size for goal in goals]
    else:
        worst = [facts.max_weight_error for facts in ticket.facts]
        assert all(error <= goal.tolerance for error, goal in zip(worst, goals, strict=True))
    assert verify(ticket, target, domain=(-1, 1), eps=eps).holds


def test_pools_keep_to_eps() -> None:
    target = CASES["mlp"].target()
    ticket = slth.find_ticket(target, domain=(-1, 1), eps=1.0, construction="pairs")
    assert verify(ticket, target, domain=(-1, 1), eps=1.0).holds


def test_elements_cost_what_the_source_grows_by() -> None:
    target = CASES["conv"].target()
    small, large = (slth.find_ticket(target, base_set_size=m).spec.layers for m in (5, 6))
    assert [b.n_weights - a.n_weights for a, b in zip(small, large, strict=True)] == costs(target)


def brute_force(target: Target, eps: float, largest: int) -> int:
    """The least number of source weights of all combinations of sizes that are foreseen to keep to eps."""
    method, cost = CONSTRUCTIONS["two-for-one"], costs(target)
    gains = output_gains(target, BOX)
    errors = []
    for layer, gain in zip(target, gains, strict=True):
        n_inputs = layer.weight[0].numel()
        foreseen = [method.foresee(layer, Wishes(), m) for m in range(1, largest + 1)]
        errors.append([gain * (SAFETY * mean + tail / (n_inputs + 1)) for mean, tail in foreseen])
    sums = (
        sum(c * m for c, m in zip(cost, sizes, strict=True))
        for sizes in itertools.product(range(1, largest + 1), repeat=len(cost))
        if sum(e[m - 1] for e, m in zip(errors, sizes, strict=True)) <= eps
    )
    return min(sums)


@pytest.mark.parametrize("eps", [5.0, 0.5, 0.05])
@pytest.mark.parametrize("name", ["mlp", "tanh"])
def test_hardly_any_sizes_are_cheaper(name: str, eps: float) -> None:
    target = CASES[name].target()
    own = budget(target, eps)
    assert sum(layer.share for layer in own) <= eps
    found = sum(c * layer.goal.base_set_size for c, layer in zip(costs(target), own, strict=True))
    assert brute_force(target, eps, 32) <= found <= 1.03 * brute_force(target, eps, 32)


def test_unequal_layers_get_unequal_shares_and_the_source_is_smaller() -> None:
    target = Case(mlp((200, 100, 4)), (200,)).target()
    own, equal = (budget(target, 0.01, split) for split in ("own", "uniform"))
    assert own[0].share > own[1].share
    assert all(layer.share <= 0.005 for layer in equal)
    assert own[0].goal.base_set_size < equal[0].goal.base_set_size
    assert sum(layer.source_weights for layer in own) < sum(layer.source_weights for layer in equal)


def test_a_smaller_error_never_costs_less() -> None:
    target = CASES["conv"].target()
    cost = [sum(layer.source_weights for layer in budget(target, eps)) for eps in (10, 1, 0.1, 1e-2, 1e-3)]
    assert (np.diff(cost) > 0).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_foreseen_errors_bound_most_of_those_that_come(mirrored: bool) -> None:
    """Nine times in ten the tail error bounds all of them, and the mean is never far above what was foreseen."""
    rng, held = np.random.default_rng(0), 0
    initialisation = "looks-linear" if mirrored else "uniform"
    for seed in range(20):
        model = nn.Linear(20, 5)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(rng.uniform(-0.3, 0.3, (5, 20))))
        target = trace(nn.Sequential(model), torch.zeros(1, 20))
        values = np.abs(target.layers[0].weight_array()).ravel()
        mean, tail = foreseen_errors(values, 14, mirrored, 20)
        options = {"base_set_size": 14, "domain": (0, 1), "initialisation": initialisation}
        (facts,) = slth.find_ticket(target, seed=seed, **options).facts
        assert facts.mean_weight_error < 5 * mean
        held += facts.max_weight_error <= tail
    assert held >= 16


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
            budget(target, eps)
    with pytest.raises(ArgumentError, match="all reals"):
        slth.find_ticket(target, eps=0.1)
    with pytest.raises(ArgumentError, match="a larger --eps"):
        budget(target, 1e-14)
    with pytest.raises(ArgumentError, match="one of the two"):
        slth.find_ticket(target, domain=(-1, 1), eps=0.1, base_set_size=20)
    with pytest.raises(ArgumentError, match=r"a tolerance of 0\.1 besides"):
        slth.find_ticket(target, domain=(-1, 1), eps=0.1, objective="sparsest", tolerance=0.1)
    with pytest.raises(ArgumentError, match="own or uniform"):
        budget(target, 0.1, split="best")
