"""Matrices of a weight layer's shape on inputs without a batch axis, or with one."""

from __future__ import annotations

from typing import Protocol

import torch

from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS


class Apply(Protocol):
    """A matrix, in any shape with the weight's entries, on an input, and a number for every output."""

    def __call__(self, matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        """The layer's map with these numbers in place of its own."""


def on_one(node: Node) -> Apply:
    """The map on one input."""
    batched = on_batch(node)

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return batched(matrix, x[None], constant)[0]

    return apply


def on_batch(node: Node) -> Apply:
    """The map on a batch of inputs."""
    operator = WEIGHT_OPERATORS[node.op]

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return operator.apply(node.attributes, x, matrix, constant)

    return apply
