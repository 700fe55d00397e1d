"""Pruning of modules of other kinds: attention, frozen weights, parameters that nothing draws anew."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from learn_nets import DATA, small
from slth.errors import ArgumentError
from slth.learn.imp import ImpSettings, imp, reinitialise
from slth.learn.training import Recipe

FAST = ImpSettings(rounds=2, amount=0.3, recipe=Recipe(epochs=2, batch_size=16, learning_rate=0.01))


def test_attention_is_drawn_anew_as_it_is_made() -> None:
    net = nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 2))
    reinitialise(net, 3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for part in (net[0].out_proj, net[0], net[1]):
            (part._reset_parameters if part is net[0] else part.reset_parameters)()
    made = copy.deepcopy(net)
    reinitialise(net, 3)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), made.parameters(), strict=True))
    assert not bool(net[0].out_proj.bias.any())


@pytest.mark.parametrize("after", ["rewind", "finetune", "reinitialise"])
@pytest.mark.parametrize("masked", [False, True])
def test_frozen_weights_stay_as_they_are(after: Any, masked: bool) -> None:
    net = nn.Sequential(small(), nn.Linear(3, 3))
    if masked:
        prune.random_unstructured(net[0][2], "weight", 5)
    net[0][2].requires_grad_(False)
    before = net[0][2].weight.detach().clone()
    result = imp(net, DATA, replace(FAST, after=after))
    assert torch.equal(result.network.get_submodule("0.2").weight, before)
    assert [*result.rounds[0].kept_by_layer] == ["0.0.weight", "1.weight"]
    assert ("0.2.weight" in result.masks) == masked


def test_what_cannot_be_drawn_anew_is_said_before_any_training() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = small(), nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.body(x) * self.scale)

    steps: list[int] = []
    with pytest.raises(ArgumentError, match="module '': got Scaled without reset_parameters"):
        imp(Scaled(), DATA, replace(FAST, after="reinitialise"), on_progress=lambda done, _: steps.append(done))
    assert not steps
