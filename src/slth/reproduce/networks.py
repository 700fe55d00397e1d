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


def lenet5(kind: str) -> torch.nn.Sequential:
    """LeNet-5 for images of 28 x 28, with Xavier normal weights and standard normal biases, as Zhang et al. begin.

    Parameters
    ----------
    kind : {"classical", "repository"}
        That of LeCun et al. (1998) with ReLUs and max pooling, or what the code that Zhang et al. ran calls so: two
        convolutions of 64 channels, one pooling, three dense layers.
    """
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

    if kind == "classical":
        features = [Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Conv2d(6, 16, 5), ReLU(), MaxPool2d(2)]
        widths = (400, 120, 84)
    else:
        features = [Conv2d(1, 64, 3, padding=1), ReLU(), Conv2d(64, 64, 3, padding=1), ReLU(), MaxPool2d(2)]
        widths = (12_544, 256, 256)
    dense = [Linear(widths[0], widths[1]), ReLU(), Linear(widths[1], widths[2]), ReLU(), Linear(widths[2], 10)]
    network = Sequential(*features, Flatten(), *dense)
    for part in network:
        if isinstance(part, Conv2d | Linear):
            torch.nn.init.xavier_normal_(part.weight)
            assert part.bias is not None
            torch.nn.init.normal_(part.bias)
    return network
