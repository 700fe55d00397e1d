"""The shape of an input, found by trial."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slth.errors import ArgumentError, TargetError
from slth.network.inputs import infer_input
from slth.pipeline import find_ticket
from zoo import LeNet5, mlp


def _image_net(channels: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.Linear(2 * (side - 2) ** 2, 3))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (mlp((7, 2)), (7,)),
        (LeNet5(), (1, 28, 28)),
        (_image_net(3, 32), (3, 32, 32)),
        (_image_net(3, 17), (3, 17, 17)),
        (_image_net(1, 32), (1, 32, 32)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)), (1, 28, 28)),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)), (3, 32, 32)),
        (nn.Sequential(nn.Conv1d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 98, 1)), (2, 100)),
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6**3, 1)), (1, 8, 8, 8)),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(4 * 36, 1)), (4, 8, 8)),
    ],
)
def test_the_first_shape_that_runs(model: nn.Module, shape: tuple[int, ...]) -> None:
    found = infer_input(model, torch.float32)
    assert tuple(found.shape) == (1, *shape)
    assert model(found).shape[0] == 1


def test_a_flattened_image_behind_a_first_linear_layer() -> None:
    class Unflattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            batch, channels, height, width = x.shape
            return self.fc(x.reshape(batch, channels * height * width))

    assert tuple(infer_input(Unflattened(), torch.float32).shape) == (1, 3, 4, 4)


@pytest.mark.parametrize(
    "model",
    [
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(7, 2)),
    ],
)
def test_no_shape_that_runs_is_an_error_that_names_the_option(model: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="--input-shape"):
        infer_input(model, torch.float32)


def test_the_module_and_the_precision_are_left_alone() -> None:
    model = mlp((3, 2)).double().train()
    example = infer_input(model, torch.float64)
    assert example.dtype == torch.float64 and model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_linear_layer_leaves_the_judgement_to_a_run_on_numbers() -> None:
    model = nn.Sequential(nn.Linear(7, 2), nn.Linear(3, 2))
    assert tuple(infer_input(model, torch.float32).shape) == (1, 7)
    with pytest.raises(TargetError, match="fits the network"):
        find_ticket(model)
