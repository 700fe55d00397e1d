"""Matrices of a weight layer's shape on inputs without a batch axis, or with one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS

AFFINE = frozenset({"linear", "conv", "conv_transpose", "scale", "parameter"})
"""Weight layers that are an affine map of numbers that they read; a parameter reads a 1."""


class Apply(Protocol):
    """A matrix, in any shape with the weight's entries, on an input, and a number for every output."""

    def __call__(self, matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        """The layer's map with these numbers in place of its own."""


def on_one(node: Node) -> Apply:
    """The map on one input, which for a parameter is a 1."""
    batched = on_batch(node)
    if node.op == "parameter":
        return batched

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return batched(matrix, x[None], constant)[0]

    return apply


def on_batch(node: Node) -> Apply:
    """The map on a batch of inputs."""
    operator, attributes = WEIGHT_OPERATORS[node.op], node.attributes

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        if node.op == "scale":
            made = x * matrix.reshape(scaled_shape(attributes, x.shape))
        elif node.op == "parameter":
            made = (matrix.flatten() * x.flatten()).reshape(attributes["shape"])
        else:
            return operator.apply(attributes, x, matrix, constant)
        return made if constant is None else made + per_output(node, constant, x.shape)

    return apply


def scaled_shape(attributes: Mapping[str, Any], shape: torch.Size) -> torch.Size:
    """Of the factors of a scale, beside what it reads."""
    return shape[len(shape) - attributes["axes"] :]


def per_output(node: Node, numbers: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """One number an output, (outputs,), in a shape in which they stand beside the outputs; ``shape`` is the input's."""
    match node.op:
        case "linear":
            return numbers
        case "scale":
            return numbers.reshape(scaled_shape(node.attributes, shape))
        case "parameter":
            return numbers.reshape(node.attributes["shape"])
    return numbers.reshape(-1, *[1] * (len(node.attributes["weight_shape"]) - 2))


def fan_in(node: Node) -> int:
    """Products that are added up in one output."""
    return math.prod(node.attributes["weight_shape"][1:])
