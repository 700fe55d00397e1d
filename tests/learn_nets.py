"""Data and networks that the tests of ``slth.learn`` share."""

from __future__ import annotations

import torch
from torch import nn

from slth.learn.datasets import Dataset
from slth.learn.training import Examples, examples

CPU = torch.device("cpu")


def blobs(n: int = 80) -> Dataset:
    """Three classes that a small network tells apart."""
    draws = torch.Generator().manual_seed(5)
    y = torch.arange(n) % 3
    x = torch.randn(n, 6, generator=draws) + 2.0 * torch.eye(6)[y]
    return Dataset.build(x[:64], y[:64], x[64:], y[64:])


DATA = blobs()


def small(hidden: int = 8) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def with_everything() -> nn.Sequential:
    """Draws of its own, buffers, parameters that are not pruned."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        body = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.PReLU(12), nn.Dropout(0.3)
        return nn.Sequential(*body, nn.Unflatten(1, (3, 4)), nn.Conv1d(3, 2, 2), nn.Flatten(), nn.Linear(6, 3))


def tensors_of(data: Dataset = DATA) -> Examples:
    """The training part."""
    return examples(data, CPU)[0]
