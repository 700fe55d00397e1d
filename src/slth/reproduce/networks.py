"""Networks of the papers' experiments."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional


class LeNet5Features(torch.nn.Module):
    """The convolutional part of da Cunha et al.'s LeNet5: (image, 1, 28, 28) -> (image, 16, 7, 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = torch.nn.Conv2d(6, 16, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations behind the second pooling."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        return functional.max_pool2d(functional.relu(self.conv2(x)), 2)


def lenet5_features(path: Path) -> LeNet5Features:
    """With the weights of a trained LeNet5, in float64."""
    module = LeNet5Features()
    state = {name: tensor for name, tensor in load_file(path).items() if name.startswith("conv")}
    module.load_state_dict(state)
    return module.double().eval()
