"""LeNet5 of da Cunha et al. 2022 on MNIST: the numbers of the paper's figures, where the data are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import slth
from conftest import SHARED
from slth.data import Data, load_data
from slth.network.trace import trace
from zoo import LeNet5, LeNet5Features

NETWORK = SHARED / "data" / "networks" / "lenet5-mnist.safetensors"
IMAGES = SHARED / "data" / "mnist"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not (NETWORK.is_file() and IMAGES.is_dir()), reason=f"no real networks and data in {SHARED}"),
]


@pytest.fixture(scope="module")
def lenet() -> LeNet5:
    """The trained network."""
    model = LeNet5()
    model.load_state_dict(load_file(NETWORK))
    return model.eval()


@pytest.fixture(scope="module")
def test_part() -> Data:
    """The test images."""
    return load_data(IMAGES)


def features_of(model: torch.nn.Module) -> LeNet5Features:
    """The convolutional part with the weights of a whole or folded network."""
    part = LeNet5Features()
    part.load_state_dict({key: value for key, value in model.state_dict().items() if key.startswith("conv")})
    return part.eval()


def relative_error(ours: torch.nn.Module, theirs: torch.nn.Module, images: torch.Tensor) -> float:
    """Figure 4: over images the largest of max |difference| / max |activation| at the 16 x 7 x 7 tensor."""
    with torch.no_grad():
        a, b = ours(images).flatten(1), theirs(images).flatten(1)
    assert a.shape[1] == 7 * 7 * 16
    return float(((a - b).abs().amax(dim=1) / b.abs().amax(dim=1)).max())


def test_c7_the_convolutions_have_2572_parameters(lenet: LeNet5) -> None:
    target = trace(lenet, torch.zeros(1, 1, 28, 28))
    assert [layer.n_weights for layer in target] == [156, 2416, 94080 + 120, 10080 + 84, 850]
    assert sum(layer.n_weights for layer in target.layers[:2]) == 2572
    assert target.graph.shape_of("max_pool2d_1") == (16, 7, 7)


def test_the_networks_accuracy_is_the_papers(lenet: LeNet5, test_part: Data) -> None:
    images = test_part.inputs_for((1, 28, 28)).float()
    assert test_part.accuracy(lenet, images) == pytest.approx(98.99, abs=0.02)


def test_base_sets_of_20_give_the_network_to_a_few_percent_at_worst(lenet: LeNet5, test_part: Data) -> None:
    ticket = slth.find_ticket(lenet, torch.zeros(1, 1, 28, 28), base_set_size=20, domain=(0, 1))
    folded = ticket.module("folded")
    images = test_part.inputs_for((1, 28, 28))[:2000].float()
    few = Data(test_part.inputs[:2000], None if test_part.labels is None else test_part.labels[:2000])
    assert relative_error(features_of(folded), features_of(lenet), images) < 5e-2
    assert abs(few.accuracy(folded, images) - few.accuracy(lenet, images)) < 0.3
    checked = slth.verify(ticket, lenet, (0, 1), data=(few.inputs.reshape(-1, 1, 28, 28)[:200], few.labels[:200]))
    assert checked.holds and checked.observed_error <= checked.certified_error


def test_base_sets_of_30_give_the_convolutions_to_one_in_ten_thousand(lenet: LeNet5, test_part: Data) -> None:
    part = features_of(lenet)
    ticket = slth.find_ticket(part, torch.zeros(1, 1, 28, 28), base_set_size=30, domain=(0, 1))
    folded = ticket.module("folded", dtype=torch.float64)
    images = test_part.inputs_for((1, 28, 28))[:2000]
    assert ticket.n_weights == 2572
    assert relative_error(folded, features_of(lenet).double(), images) < 1e-4
    # C8: two orders of magnitude below what 20 elements reach.
    assert ticket.max_weight_error < 1e-4 and np.isfinite(ticket.max_weight_error)


def test_kernels_first_as_in_the_paper_give_the_convolutions_as_closely(lenet: LeNet5, test_part: Data) -> None:
    """The paper's own order, with products for base sets (its experiment draws them uniformly, without a source)."""
    part = features_of(lenet)
    options = {"domain": (0, 1), "construction": "conv"}
    ladder = [
        [slth.find_ticket(part, torch.zeros(1, 1, 28, 28), base_set_size=m, seed=seed, **options) for seed in range(5)]
        for m in (20, 25, 30)
    ]
    # C8: about one and a half orders of magnitude for every five elements more.
    median = [float(np.median([ticket.max_weight_error for ticket in tickets])) for tickets in ladder]
    assert median[0] < 0.1 and median[1] < 5e-3 and median[2] < 5e-4
    images = test_part.inputs_for((1, 28, 28))[:500]
    for form in ("sparse", "folded"):
        ours = ladder[2][0].module(form, dtype=torch.float64)
        assert relative_error(ours, part.double(), images) < 1e-4
    # The paper estimates 30 source weights for a weight; half of U is negative, and V is dense here.
    assert ladder[0][0].spec.n_weights / 2572 == pytest.approx(44.5, abs=0.1)
    assert slth.verify(ladder[2][0], part.float(), (0, 1)).holds
