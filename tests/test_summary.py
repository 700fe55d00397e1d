"""The facts of a ticket in numbers, counted again from its tensors."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slth
from slth import activations
from slth.commands.screen import some_of
from slth.constructions import CONSTRUCTIONS
from slth.constructions.two_for_one import TwoForOne
from slth.domain import Domain
from slth.network.accounts import Account
from slth.network.target import Target
from slth.plan import Wishes, make_plan
from slth.summary import base_set_sizes, parameter_summary, summarise
from zoo import ZOO, Case, mlp


def test_counts_are_those_of_the_masked_module(target: Target, ticket: slth.Ticket) -> None:
    summary = summarise(ticket, 1234)
    state = ticket.module("masked").state_dict()
    originals = [value for key, value in state.items() if key.endswith("_orig")]
    masks = [value for key, value in state.items() if key.endswith("_mask")]
    assert summary.source_weights == sum(value.numel() for value in originals)
    assert summary.kept_weights == sum(int(value.sum()) for value in masks) == ticket.n_kept
    assert summary.density == summary.kept_weights / summary.source_weights
    assert summary.target_weights == target.n_weights == ticket.n_target_weights
    assert sum(layer.weights for layer in summary.layers) == ticket.n_weights
    assert summary.missed == sum(layer.missed for layer in summary.layers) == ticket.missed
    assert summary.max_weight_error == max(layer.max_weight_error for layer in summary.layers)
    assert (summary.ticket_bytes, summary.seed) == (1234, ticket.spec.seed)
    for layer, (source, mask, facts) in zip(summary.layers, ticket.layers, strict=True):
        assert (layer.source_weights, layer.kept_weights) == (source.n_weights, mask.n_kept)
        assert layer.density == mask.n_kept / source.n_weights
        assert (layer.name, layer.weights, layer.missed) == (facts.name, facts.n_weights, facts.missed)


@pytest.mark.parametrize("domain", [(-1, 1), (0, 1), (-1, 0)])
@pytest.mark.parametrize(
    ("initialisation", "activation"),
    [("uniform", "relu"), ("looks-linear", "relu"), ("uniform", "leaky_relu"), ("uniform", "tanh")],
)
@pytest.mark.parametrize("size", [5, 40])
def test_base_set_sizes_are_those_of_the_problems_solved(
    domain: object, initialisation: str, activation: str, size: int
) -> None:
    """At 40 elements some draws have more than the solver takes, and those do not count."""
    target = Case(mlp((4, 1)), (4,)).target()
    wishes = {"base_set_size": size, "initialisation": initialisation, "domain": Domain.parse(domain)}
    wishes["activation"] = activations.parse(activation)
    plan = make_plan(target, CONSTRUCTIONS["two-for-one"], Wishes(**wishes))
    method = TwoForOne()
    for seed in range(5):
        source = method.source_layer(plan, plan.layers[0], target.layers[0], seed, 0)
        (piece,) = method.pieces(source, target.layers[0], plan.layers[0], 1 << 30)
        assert sorted(base_set_sizes(source, plan.layers[0].input_sign)) == sorted(piece.sizes)


def test_the_table_shows_mean_least_and_largest(ticket: slth.Ticket) -> None:
    for layer, (source, _, facts) in zip(summarise(ticket).layers, ticket.layers, strict=True):
        sizes = base_set_sizes(source, facts.input_sign)
        assert layer.base_set_size == sizes.mean() and layer.base_set_range == (sizes.min(), sizes.max())


def test_json_is_plain_and_complete(ticket: slth.Ticket) -> None:
    value = json.loads(json.dumps(summarise(ticket).to_json(), allow_nan=False))
    assert value["ticket_bytes"] is None and len(value["layers"]) == len(ticket.masks)
    assert set(value["layers"][0]) == {
        "name",
        "order",
        "input_sign",
        "weights",
        "base_set_size",
        "base_set_range",
        "source_weights",
        "kept_weights",
        "density",
        "missed",
        "max_weight_error",
        "mean_weight_error",
        "copies",
        "constants",
        "depth",
        "shift",
        "drawn_scales",
        "factors",
    }


def test_a_layer_without_a_kept_weight_has_density_zero() -> None:
    model = mlp((2, 1))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    summary = summarise(slth.find_ticket(model, torch.zeros(1, 2), base_set_size=3))
    assert summary.density == 0.0 and np.isfinite(summary.layers[0].base_set_size)


@pytest.mark.parametrize("name", ["resnet", "tied_embedding", "vit"])
def test_every_parameter_counts_once(name: str) -> None:
    model, x = ZOO[name]()
    first = next(key for key, _ in model.named_parameters())
    for exclude in ((), (first,)):
        ticket = slth.find_ticket(model, x, base_set_size=4, exclude=exclude)
        found = summarise(ticket).parameters
        sizes = {id(p): p.numel() for p in model.parameters()}
        assert found.total + found.unused == sum(sizes.values())
        assert found.ticketed + found.folded + found.kept == found.total
        left_out = dict(model.named_parameters())[first].numel() if exclude else 0
        assert found.kept == left_out and found.share == 1 - left_out / found.total
        assert (found.percent == "100 %") == (not exclude)
        assert f"{found.ticketed:,} ticketed, {found.folded:,} folded, {found.kept:,} kept" in found.line
        assert found.constants == sum(tensor.numel() for tensor in ticket.kept.values())


def test_a_file_without_accounts_counts_its_tensors(ticket: slth.Ticket) -> None:
    bare = dataclasses.replace(ticket, accounts=())
    found = summarise(bare).parameters
    assert (found.total, found.ticketed, found.share) == (ticket.n_target_weights, ticket.n_target_weights, 1.0)
    assert (
        found.line
        == f"100 % of {found.total:,} parameters ticketed or folded: {found.total:,} ticketed, 0 folded, 0 kept"
    )


def test_a_share_is_never_rounded_up_to_all() -> None:
    accounts = (Account("a", 99_999, "ticketed", "a"), Account("b", 1, "kept", "excluded"), Account("c", 7, "unused"))
    found = parameter_summary(SimpleNamespace(parameters=accounts, kept={}))  # type: ignore[arg-type]
    assert found.line.startswith(
        "99.9 % of 100,000 parameters ticketed or folded: 99,999 ticketed, 0 folded, 1 kept (7"
    )


@given(st.lists(st.floats(0, 1), max_size=80), st.integers(3, 40))
def test_the_first_the_last_and_the_worst_rows_are_shown(badness: list[float], most: int) -> None:
    shown = some_of(badness, most)
    rows = [index for index in shown if index is not None]
    assert rows == sorted(set(rows)) and len(rows) <= max(most, len(badness) if len(badness) <= most else 0)
    n, third = len(badness), most // 3
    if n <= most:
        assert rows == shown == list(range(n))
        return
    assert {*range(third), *range(n - third, n)} <= set(rows)
    left = set(range(n)) - set(rows)
    assert sum(badness[index] >= max((badness[k] for k in left), default=0) for index in rows) >= third
    for before, index, after in zip(shown, shown[1:], shown[2:], strict=False):
        if index is None:
            assert before is not None and after is not None and after > before + 1
