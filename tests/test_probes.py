"""The probes: a function of seed, domain and target alone, and numbers or a refusal."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.domain import Domain
from slth.errors import TargetError
from slth.network.trace import trace
from slth.probes import N_OUTPUTS, N_PROBES, probe_inputs, target_probe_outputs
from zoo import mlp, shake


def test_outputs_are_the_targets_on_inputs_within_the_domain() -> None:
    model = shake(mlp((3, 40)), 1)
    found = target_probe_outputs(trace(model, torch.zeros(1, 3)), 7, Domain.parse((2, 5)))
    x = probe_inputs(trace(model, torch.zeros(1, 3)).graph, 7, 2.0, 5.0)
    assert found.shape == (N_PROBES, N_OUTPUTS) and found.dtype == np.float32
    assert bool((x >= 2).all()) and bool((x <= 5).all()) and float(x.max() - x.min()) > 2.5
    with torch.no_grad():
        np.testing.assert_allclose(found, model.double()(x)[:, :N_OUTPUTS].numpy(), rtol=1e-6)


def enlarged(**weights: float) -> nn.Sequential:
    """A perceptron in float64 whose layers' weights are all one number, but for their signs."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for name, layer in model.named_children():
            if isinstance(layer, nn.Linear):
                layer.weight.fill_(weights.get(f"layer_{name}", 1.0))
                layer.bias.zero_()
                layer.weight[1] *= -1
    return model


@pytest.mark.parametrize(
    ("weights", "layer"),
    [
        ({"layer_2": 1e39}, "2"),
        ({"layer_0": 1e25, "layer_4": 1e25}, "4"),
        ({"layer_0": 1e200, "layer_2": 1e200}, "0"),
        ({"layer_0": 1e30, "layer_2": 1e-30, "layer_4": 1e300}, "4"),
    ],
)
def test_values_that_are_no_numbers_are_refused_by_layer(weights: dict[str, float], layer: str) -> None:
    target, said = trace(enlarged(**weights), torch.zeros(1, 3).double()), re.escape(f"{weights[f'layer_{layer}']:g}")
    with pytest.raises(TargetError, match=rf"layer '{layer}'.*beyond float32 on inputs from 0 to 1.*{said}") as refused:
        target_probe_outputs(target, 0, Domain.parse((0, 1)))
    assert "\n" not in str(refused.value)


def test_a_target_without_numbers_is_refused_when_its_ticket_is_to_be_found() -> None:
    model = enlarged(layer_0=1e25, layer_4=1e25).float()
    with pytest.raises(TargetError, match="layer '4'"):
        slth.find_ticket(model, torch.zeros(1, 3), base_set_size=6)


def test_large_values_that_are_numbers_are_kept() -> None:
    model = enlarged(layer_0=1e30, layer_2=1e-20, layer_4=1e10)
    assert np.isfinite(target_probe_outputs(trace(model, torch.zeros(1, 3).double()), 0, Domain.parse((0, 1)))).all()
