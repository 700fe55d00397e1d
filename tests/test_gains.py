"""Gains on networks with branches: beside what small changes of weights do, and refused by the node without a bound."""

from __future__ import annotations

import functools
import math

import pytest
import torch

import slth
from slth.budget import output_gains
from slth.certify.gains import unit_gains
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.target import Target
from slth.network.trace import trace
from slth.runtime import joined, target_module
from zoo import ZOO

BOX = Domain.parse((-1, 1))
_SMALL = "shared_layer highway two_heads residual_mlp einsum_net bilinear learned_scale glu_net upsample_pixelshuffle"
SMALL = [*_SMALL.split(), "lstm_cells", "rnn_tanh", "data_normaliser", "functional_ops", "unet"]


@functools.cache
def target(name: str) -> Target:
    return trace(*ZOO[name]())


@pytest.mark.parametrize("name", SMALL)
def test_gains_bound_what_small_changes_of_a_layer_do(name: str) -> None:
    """All uses of a layer change together; random signs of the changes, and those of the weights' own."""
    network, generator = target(name), torch.Generator().manual_seed(0)
    model = joined(target_module(network, torch.float64))
    x = 2 * torch.rand(50, *network.graph.input_shape, dtype=torch.float64, generator=generator) - 1
    used = 0.0
    with torch.no_grad():
        before = model(x)
        for layer, gain in zip(network, output_gains(network, BOX), strict=True):
            parameters = list(model.get_submodule(model._paths[layer.name]).parameters())
            assert sum(parameter.numel() for parameter in parameters) == layer.n_weights
            for way in ("random", "up"):
                signs = [torch.rand(p.shape, dtype=torch.float64, generator=generator) - 0.5 for p in parameters]
                steps = [1e-7 * (torch.ones_like(sign) if way == "up" else sign.sign()) for sign in signs]
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter += step
                change = float((model(x) - before).abs().max()) / 1e-7
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter -= step
                assert change <= gain * (1 + 1e-3) + 1e-6
                used = max(used, change / gain if gain else 0.0)
    assert used > 1e-3, "bounds that say nothing"


@pytest.mark.parametrize("name", ZOO)
def test_gains_are_numbers_or_refused_by_name(name: str) -> None:
    try:
        gains = output_gains(target(name), BOX)
    except ArgumentError as error:
        kind, called = error.where.split(" ", 1)
        assert kind in ("node", "layer") and "--eps" in (error.remedy or "")
        assert called.strip("'") in {node.name for node in target(name).graph}
        return
    assert len(gains) == len(target(name).layers) and all(0 <= gain < math.inf for gain in gains)


def test_a_layer_used_twice_counts_twice() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:, :3]) + self.layer(x[:, 3:])

    found = unit_gains(trace(Twice(), torch.zeros(2, 6)), Domain.parse((-2, 1)))[0]
    assert found == {"layer": pytest.approx(2 * 7.0)}


@pytest.mark.parametrize("name", ["shared_layer", "two_heads", "upsample_pixelshuffle"])
def test_an_error_on_the_output_is_kept(name: str) -> None:
    ticket = slth.find_ticket(target(name), eps=0.5, domain=(-1, 1), threads=1)
    found = slth.verify(ticket, target(name), (-1, 1), eps=0.5)
    assert found.holds, found.reasons
    assert found.certified_error is not None and found.certified_error <= 0.5


def test_what_no_bound_is_known_of_is_refused_by_its_node() -> None:
    class Spectrum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 6), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(torch.fft.rfft(self.one(x)).real)

    with pytest.raises(ArgumentError, match=r"node '\w*fft\w*'.*fft_rfft, of which no bound is known.*--base-set-size"):
        slth.find_ticket(Spectrum(), torch.zeros(2, 4), eps=0.5, domain=(-1, 1))
