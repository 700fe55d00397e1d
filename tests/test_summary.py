"""The facts of a ticket in numbers, counted again from its tensors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import slth
from slth import activations
from slth.constructions import CONSTRUCTIONS
from slth.constructions.two_for_one import TwoForOne
from slth.domain import Domain
from slth.network.target import Target
from slth.plan import Wishes, make_plan
from slth.summary import base_set_sizes, summarise
from zoo import Case, mlp


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
