"""Train a plain ReLU perceptron: the target of the demo and of the MNIST example."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from slth.data import Data
from slth.errors import ArgumentError
from slth.threads import fitting_threads

BATCH = 128
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class TrainedPerceptron:
    """A trained network, its number of classes, its test accuracy in percent and how long it took."""

    network: torch.nn.Sequential
    n_classes: int
    accuracy: float
    seconds: float


def train_perceptron(
    train: Data,
    test: Data,
    hidden: Sequence[int] = (300, 100),
    epochs: int = 8,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainedPerceptron:
    """Minimise the cross-entropy by Adam (Kingma and Ba 2015), the rate falling linearly to zero.

    Parameters
    ----------
    train, test : Data
        With labels from 0.
    hidden : sequence of int
        Widths of the hidden layers.
    epochs : int
        Passes over the training part.
    seed : int
        Of initial weights and order.
    on_progress : callable, optional
        Called with steps done and steps in all.

    Raises
    ------
    ArgumentError
        If a width or the number of epochs is not positive.
    """
    if epochs < 1:
        raise ArgumentError("epochs", str(epochs), "at least 1")
    if any(width < 1 for width in hidden):
        raise ArgumentError("hidden", str(list(hidden)), "positive widths")
    assert train.labels is not None
    begin = time.perf_counter()
    x, y = train.inputs.flatten(1).to(torch.float32), train.labels
    n_classes = int(y.max()) + 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = perceptron([x.shape[1], *hidden, n_classes])
        with fitting_threads(sum(parameter.numel() for parameter in network.parameters())):
            _descend(network, x, y, epochs, on_progress)
    network.eval()
    accuracy = test.accuracy(network, test.inputs.flatten(1).to(torch.float32))
    return TrainedPerceptron(network, n_classes, accuracy, time.perf_counter() - begin)


def _descend(
    network: torch.nn.Sequential,
    x: torch.Tensor,
    y: torch.Tensor,
    epochs: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    n_batches = -(-len(x) // BATCH)
    total = epochs * n_batches
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, total)
    for epoch in range(epochs):
        for number, batch in enumerate(torch.randperm(len(x)).split(BATCH)):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
            if on_progress is not None:
                on_progress(epoch * n_batches + number + 1, total)


def perceptron(widths: Sequence[int]) -> torch.nn.Sequential:
    """A ReLU perceptron with torch's initial weights, from the widths of input, hidden layers and output."""
    layers: list[torch.nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += ([torch.nn.ReLU()] if number else []) + [torch.nn.Linear(inputs, outputs)]
    return torch.nn.Sequential(*layers)
