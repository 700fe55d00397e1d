"""The construction `pairs`: structure and lemmas of Malach et al. 2020 (CHECKS M1, M3, M5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.constructions import CONSTRUCTIONS
from slth.errors import ArgumentError
from slth.mask import BIAS
from slth.source.spec import PoolSource
from zoo import Case, convnet, mlp

OPTIONS = {"construction": "pairs", "base_set_size": 80, "tolerance": 0.03}
CASES = {
    "signed": Case(mlp((4, 6, 2)), (4,), OPTIONS),
    "nonnegative": Case(mlp((4, 6, 2)), (4,), {**OPTIONS, "domain": (0, 1)}),
    "conv": Case(convnet(), (4, 6, 6), {**OPTIONS, "base_set_size": 25}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_neuron_keeps_one_weight_in_and_one_out_and_serves_its_own_pool(case: Case) -> None:
    """M3: at most one True a row of A, rows and columns paired."""
    for source, mask, _ in case.find().layers:
        assert isinstance(source, PoolSource)
        kept = mask.expand(source)
        readers = np.zeros(len(kept.neuron), int)
        for piece in mask.entries(source):
            readers += np.bincount(piece.kept, minlength=len(readers))
            pool = kept.neuron[piece.kept] % source.neurons_per_group // source.block_width
            row = piece.output % source.outputs_per_group
            weight = (row * source.inputs_per_group + kept.channel[piece.kept]) * source.taps + piece.tap
            n_weights = source.outputs_per_group * source.inputs_per_group * source.taps
            np.testing.assert_array_equal(pool, np.where(kept.channel[piece.kept] == BIAS, n_weights + row, weight))
        assert (readers == 1).all()


def test_four_weights_are_kept_for_every_weight_above_the_tolerance() -> None:
    """M3: active = 4 #{|w| > eps} for inputs of both signs, 2 where there is one, 2 for a bias."""
    for name in ("signed", "nonnegative"):
        ticket, target = CASES[name].find(), CASES[name].target()
        for layer, (_, mask, facts) in zip(target, ticket.layers, strict=True):
            per_weight = 2 * len(facts.input_sign.branches)
            weights, biases = np.abs(layer.weight_array()), np.abs(layer.bias_array())
            # A weight to which nothing is closer than 0 keeps nothing; with pools of 80 there is none.
            assert mask.n_kept == per_weight * (weights > 0.03).sum() + 2 * (biases > 0.03).sum()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_kept_product_is_the_closest_of_its_pool(case: Case) -> None:
    """Against a loop over every neuron of the whole source."""
    target, ticket = case.target(), case.find()
    for layer, (source, _, facts) in zip(target, ticket.layers, strict=True):
        expand, combine = source.expand_weight().astype(float), source.combine_weight(0, source.outputs).astype(float)
        worst, rng = 0.0, np.random.default_rng(0)
        weight = layer.weight_array()
        for _ in range(40):
            o, i, t = (int(rng.integers(n)) for n in weight.shape)
            w, row = weight[o, i, t], o % source.outputs_per_group
            pool = (row * source.inputs_per_group + i) * source.taps + t
            local = np.arange(pool * source.block_width, (pool + 1) * source.block_width)
            u = expand[local + o // source.outputs_per_group * source.neurons_per_group, i]
            for sign in facts.input_sign.branches:
                products = (combine[o, local, t] * u)[np.sign(u) == sign]
                error = abs(w) if abs(w) <= 0.03 else min(abs(w), np.abs(products - w).min(initial=np.inf))
                worst = max(worst, error)
        assert worst <= facts.max_weight_error


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("weight", [0.6, -0.6, 0.004])
def test_each_sign_of_weight_and_input_comes_out(weight: float, sign: float) -> None:
    """M5: all four cases within the tolerance; a weight within it of 0 keeps nothing."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(weight)
    ticket = slth.find_ticket(model, torch.zeros(1, 1), construction="pairs", base_set_size=4000, tolerance=0.01)
    with torch.no_grad():
        output = ticket.module("masked", dtype=torch.float64)(torch.full((1, 1), sign, dtype=torch.float64))
    assert abs(float(output) - weight * sign) <= 0.01
    assert ticket.n_kept == (0 if abs(weight) <= 0.01 else 4)


def test_pools_as_wide_as_lemma_a1_says_fail_no_more_often_than_it_says() -> None:
    """M1: k = 4 / eps^2 ln(2 / delta) neurons for |alpha| <= 1, error 2 eps."""
    eps, delta = 0.2, 0.1
    model = nn.Linear(10, 30, bias=False)
    model.weight.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    size = int(np.ceil(4 / eps**2 * np.log(2 / delta)))
    ticket = slth.find_ticket(model, torch.zeros(1, 10), construction="pairs", base_set_size=size, tolerance=2 * eps)
    assert ticket.missed <= delta * 300


def test_what_pools_do_not_know_is_refused() -> None:
    with pytest.raises(ArgumentError, match="uniform with the construction 'pairs'"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), construction="pairs", initialisation="looks-linear")
    with pytest.raises(ArgumentError, match="base_set_size"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), construction="pairs", base_set_size=1 << 25)
    assert CONSTRUCTIONS["pairs"].default_size == 1000


def test_a_source_that_does_not_fit_says_how_large_it_is() -> None:
    ticket = slth.find_ticket(mlp((50, 60)), torch.zeros(1, 50), construction="pairs", base_set_size=3000)
    with pytest.raises(ArgumentError, match=r"masked, which would take [0-9.]+ GiB"):
        ticket.module("masked")
    x = torch.rand(3, 50, dtype=torch.float64) - 0.5
    one, other = (ticket.module(form, dtype=torch.float64)(x) for form in ("sparse", "folded"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
