"""The budget: gains against what small changes of weights do, shares that cost least, and a certificate within eps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.activations import parse
from slth.attempt import draw_source
from slth.bounds.base_sets import foreseen_errors, mean_error
from slth.budget import SAFETY, LayerBudget, allocate, output_gains
from slth.certify.verify import verify
from slth.constructions import CONSTRUCTIONS
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.target import Target
from slth.network.trace import trace
from slth.plan import Wishes, magnitudes, make_plan
from slth.runtime import target_module
from slth.source.balanced import balanced_width
from slth.summary import base_set_sizes
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


def cost(target: Target, sizes: Sequence[int]) -> int:
    """Source weights of the base sets' sizes, one a layer."""
    method = CONSTRUCTIONS["two-for-one"]
    return sum(method.cost(layer, Sign.SIGNED, Wishes(), m) for layer, m in zip(target, sizes, strict=True))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("eps", [1.0, 0.01])
@pytest.mark.parametrize("construction", ["two-for-one", "conv", "golden-ratio"])
def test_the_certificate_keeps_to_eps(case: Case, eps: float, construction: str) -> None:
    target = case.target()
    ticket = slth.find_ticket(target, domain=(-1, 1), eps=eps, construction=construction)
    planned = budget(target, eps, construction=construction)
    for layer, source, facts in zip(planned, ticket.spec.layers, ticket.facts, strict=True):
        size = layer.goal.base_set_size
        if construction == "golden-ratio":
            assert facts.max_weight_error <= layer.goal.tolerance
            continue
        assert layer.source_weights == source.n_weights
        if construction == "conv":
            assert source.block_width == 2 * size
            continue
        assert source.block_width == balanced_width(size, source.blocks_per_group)
        assert (base_set_sizes(source, facts.input_sign) == size).all()
    assert verify(ticket, target, domain=(-1, 1), eps=eps).holds


def test_pools_keep_to_eps() -> None:
    target = CASES["mlp"].target()
    ticket = slth.find_ticket(target, domain=(-1, 1), eps=1.0, construction="pairs")
    assert verify(ticket, target, domain=(-1, 1), eps=1.0).holds


@pytest.mark.parametrize(
    ("construction", "own"),
    [
        ("two-for-one", {}),
        ("two-for-one", {"activation": parse("leaky_relu:0.3")}),
        ("two-for-one", {"activation": parse("tanh")}),
        ("two-for-one", {"initialisation": "looks-linear"}),
        ("conv", {}),
        ("pairs", {}),
    ],
)
def test_a_layer_costs_what_its_source_weighs(construction: str, own: dict[str, Any]) -> None:
    target, method = CASES["conv"].target(), CONSTRUCTIONS[construction]
    for size in (5, 6, 21):
        wishes = Wishes(base_set_size=size, domain=BOX, **own)
        plan = make_plan(target, method, wishes)
        sources = draw_source(target, plan, 0).layers
        for layer, layer_plan, source in zip(target, plan.layers, sources, strict=True):
            assert method.cost(layer, layer_plan.input_sign, wishes, size) == source.n_weights


def test_a_larger_base_set_that_costs_nothing_more_is_taken() -> None:
    """Of equal slopes all of a block is usable, and it has an even number of neurons."""
    target, wishes = CASES["mlp"].target(), Wishes(domain=BOX, activation=parse("tanh"))
    made = allocate(target, CONSTRUCTIONS["two-for-one"], wishes, 0.1)
    assert sum(layer.share for layer in made) <= 0.1
    for layer, budget_ in zip(target, made, strict=True):
        size = budget_.goal.base_set_size
        method = CONSTRUCTIONS["two-for-one"]
        smaller, larger = (method.cost(layer, Sign.SIGNED, wishes, m) for m in (size - 1, size))
        assert budget_.source_weights == larger and (size % 2 or smaller == larger)


def brute_force(target: Target, eps: float, largest: int) -> int:
    """The least number of source weights of all combinations of sizes that are foreseen to keep to eps."""
    method = CONSTRUCTIONS["two-for-one"]
    gains = output_gains(target, BOX)
    errors = []
    for layer, gain in zip(target, gains, strict=True):
        n_inputs = layer.weight[0].numel()
        foreseen = [method.foresee(layer, Wishes(), m) for m in range(1, largest + 1)]
        errors.append([gain * (SAFETY * mean + tail / (n_inputs + 1)) for mean, tail in foreseen])
    table = [[method.cost(layer, Sign.SIGNED, Wishes(), m) for m in range(1, largest + 1)] for layer in target]
    sums = (
        sum(c[m - 1] for c, m in zip(table, sizes, strict=True))
        for sizes in itertools.product(range(1, largest + 1), repeat=len(table))
        if sum(e[m - 1] for e, m in zip(errors, sizes, strict=True)) <= eps
    )
    return min(sums)


@pytest.mark.parametrize("eps", [5.0, 0.5, 0.05])
@pytest.mark.parametrize("name", ["mlp", "tanh"])
def test_hardly_any_sizes_are_cheaper(name: str, eps: float) -> None:
    target = CASES[name].target()
    own = budget(target, eps)
    assert sum(layer.share for layer in own) <= eps
    found = cost(target, [layer.goal.base_set_size for layer in own])
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
    costs = [sum(layer.source_weights for layer in budget(target, eps)) for eps in (10, 1, 0.1, 1e-2, 1e-3)]
    assert (np.diff(costs) > 0).all()


@pytest.mark.parametrize(
    ("construction", "initialisation", "every"),
    [("two-for-one", "uniform", True), ("two-for-one", "looks-linear", True), ("one-for-one", "uniform", False)],
)
def test_foreseen_errors_bound_most_of_those_that_come(construction: str, initialisation: str, every: bool) -> None:
    """Nine times in ten the tail error bounds all of them, and the mean is never far above what was foreseen."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(20):
        model = nn.Linear(20, 5)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(rng.uniform(-0.3, 0.3, (5, 20))))
        target = trace(nn.Sequential(model), torch.zeros(1, 20))
        wishes = Wishes(initialisation=initialisation)
        mean, tail = CONSTRUCTIONS[construction].foresee(target.layers[0], wishes, 14)
        assert (mean, tail) == foreseen_errors(magnitudes(target.layers[0]), 14, every, 20)
        options = {"base_set_size": 14, "domain": (0, 1), "initialisation": initialisation}
        (facts,) = slth.find_ticket(target, seed=seed, construction=construction, **options).facts
        assert facts.mean_weight_error < 5 * mean
        held += facts.max_weight_error <= tail
    assert held >= 16


@pytest.mark.parametrize("every", [False, True])
def test_the_expected_error_is_that_of_base_sets(every: bool) -> None:
    from slth.subsetsum import solve

    rng, m = np.random.default_rng(0), 9
    n = np.full(4000, m) if every else rng.binomial(2 * m, 0.5, 4000)
    elements = rng.uniform(-1, 1, n.sum()) * rng.uniform(-1, 1, n.sum())
    errors = solve(elements, rng.uniform(-0.3, 0.3, 4000), offsets=np.concatenate([[0], np.cumsum(n)])).errors
    assert mean_error(m, every) / 5 < errors.mean() < 5 * mean_error(m, every)


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
