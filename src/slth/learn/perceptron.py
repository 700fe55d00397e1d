"""Train a plain ReLU perceptron: the target of the demo and of the MNIST example."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from slth.data import Data, held_out, load_data, load_digits
from slth.errors import ArgumentError, DataError
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


def split_data(reference: str) -> tuple[Data, Data]:
    """Training and test part of ``"digits"`` (scikit-learn's), a folder of IDX files, or an ``.npz``.

    Digits and ``.npz`` files hold no split of their own: every fifth input is a test input.

    Raises
    ------
    DataError
        If the data cannot be read or has no labels.
    """
    if reference == "digits":
        return _hold_out(Data.build(*load_digits()))
    path = Path(reference)
    if path.is_dir():
        return load_data(path, "train"), load_data(path, "test")
    return _hold_out(load_data(path))


def _hold_out(data: Data) -> tuple[Data, Data]:
    if data.labels is None:
        raise DataError(data.where, "inputs without labels", "an array y of labels")
    test = torch.from_numpy(held_out(len(data.inputs)))
    if not bool(test.any()):
        raise DataError(data.where, f"{len(test)} inputs", "at least 5, as every fifth is a test input")
    return (
        Data(data.inputs[~test], data.labels[~test], data.where),
        Data(data.inputs[test], data.labels[test], data.where),
    )


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
        network = _perceptron([x.shape[1], *hidden, n_classes])
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


def _perceptron(widths: Sequence[int]) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += ([torch.nn.ReLU()] if number else []) + [torch.nn.Linear(inputs, outputs)]
    return torch.nn.Sequential(*layers)
