"""The LeNet5 of da Cunha, Natale and Viennot (2022): a factory for ``--model examples.lenet5:lenet5``."""

import torch
from torch.nn import functional


class LeNet5(torch.nn.Module):
    """Two convolutions with pooling, three fully connected layers; pixels in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = torch.nn.Conv2d(6, 16, 5, padding=2)
        self.fc1 = torch.nn.Linear(784, 120)
        self.fc2 = torch.nn.Linear(120, 84)
        self.fc3 = torch.nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores of images, (batch, 1, 28, 28) -> (batch, 10)."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(functional.relu(self.fc2(x)))


def lenet5() -> LeNet5:
    """The network, to be filled with weights."""
    return LeNet5()
