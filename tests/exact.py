"""Networks in exact rational arithmetic, without a line of the library's own evaluation or proofs.

Maps without activations are taken apart entry by entry, so that convolutions and pooling are matrices here; every entry
of such a matrix is one weight, and nothing is added up in floating point.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from slth.network.graph import Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.target import Target
from slth.runtime import SparseLayer

Row = list[tuple[int, Fraction]]
Vector = list[Fraction]


def fractions(part: Any) -> Vector:
    """The entries of a tensor, exactly."""
    return [Fraction(number) for number in torch.as_tensor(part).to(torch.float64).flatten().tolist()]


def rows_of(matrix: torch.Tensor) -> list[Row]:
    """The entries other than 0 of each row."""
    rows: list[Row] = [[] for _ in range(len(matrix))]
    for i, j in matrix.nonzero().tolist():
        rows[i].append((j, Fraction(float(matrix[i, j]))))
    return rows


def matrix_of(apply: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """A linear map on tensors of a shape, (outputs, inputs), from its values at the unit tensors."""
    n = int(torch.tensor(shape).prod())
    with torch.no_grad():
        return apply(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1).T


def weights_of(node: Node, weight: torch.Tensor, shape: tuple[int, ...], **geometry: Any) -> list[Row]:
    """A weight layer's matrix."""
    attributes = {**node.attributes, **geometry}
    return rows_of(matrix_of(lambda x: WEIGHT_OPERATORS[node.op].apply(attributes, x, weight, None), shape))


def biases_of(node: Node, bias: Any, n_outputs: int) -> Vector:
    """One bias for every entry of a layer's output."""
    if bias is None:
        return [Fraction(0)] * n_outputs
    numbers = fractions(bias)
    if node.op == "linear":
        return numbers * (n_outputs // len(numbers))
    return [number for number in numbers for _ in range(n_outputs // len(numbers))]


def product(rows: list[Row], x: Vector, constant: Vector) -> Vector:
    """Exactly."""
    return [sum((w * x[j] for j, w in row), c) for row, c in zip(rows, constant, strict=True)]


def fixed_of(node: Node, shape: tuple[int, ...]) -> list[Row]:
    """Average pooling, padding and reshaping as a matrix; a mean's weights are 1/n itself."""
    module = OPERATORS[node.op].module(node.attributes)
    rows = rows_of(matrix_of(module, shape))
    if node.op != "average_pool":
        return rows
    return [[(j, Fraction(1, round(1 / w))) for j, w in row] for row in rows]


def windows_of(node: Node, shape: tuple[int, ...]) -> list[list[int]]:
    """The entries that each window of max pooling reads."""
    n = int(torch.tensor(shape).prod())
    found: list[list[int]] = []
    ones = torch.full((n, n), -1.0, dtype=torch.float64)
    ones.fill_diagonal_(1.0)
    made = OPERATORS[node.op].module(node.attributes)(ones.reshape(n, *shape)).reshape(n, -1)
    for output in range(made.shape[1]):
        found.append((made[:, output] == 1.0).nonzero().flatten().tolist())
    return found


class Exact:
    """A ReLU network in rational arithmetic: the target, the ticket by its slopes, or by its surviving weights.

    ``layers`` hold for each weight layer the matrices for inputs above and below 0, and the bias; or a sparse module.
    """

    def __init__(self, target: Target, layers: dict[str, Any]) -> None:
        self.steps: list[tuple[str, Any]] = []
        shape = target.graph.input_shape
        for node in target.graph:
            n_outputs = int(torch.tensor(node.shape).prod())
            if node.op in WEIGHT_OPERATORS:
                layer = layers[node.name]
                if isinstance(layer, SparseLayer):
                    self.steps.append(("sparse", _sparse(node, layer, shape)))
                else:
                    positive, negative, bias = layer
                    parts = [weights_of(node, part, shape) for part in (positive, negative)]
                    self.steps.append(("affine", (*parts, biases_of(node, bias, n_outputs))))
            elif node.op == "relu":
                self.steps.append(("relu", None))
            elif node.op == "max_pool":
                self.steps.append(("max", windows_of(node, shape)))
            else:
                self.steps.append(("fixed", fixed_of(node, shape)))
            shape = node.shape

    def __call__(self, x: Vector) -> Vector:
        """The outputs at one input."""
        for kind, part in self.steps:
            if kind == "affine":
                x = [
                    a - b
                    for a, b in zip(
                        product(part[0], [max(v, Fraction(0)) for v in x], part[2]),
                        product(part[1], [max(-v, Fraction(0)) for v in x], [Fraction(0)] * len(part[2])),
                        strict=True,
                    )
                ]
            elif kind == "sparse":
                x = part(x)
            elif kind == "relu":
                x = [max(v, Fraction(0)) for v in x]
            elif kind == "max":
                x = [max(x[j] for j in window) for window in part]
            else:
                x = product(part, x, [Fraction(0)] * len(part))
        return x


def _sparse(node: Node, layer: SparseLayer, shape: tuple[int, ...]) -> Any:
    """Two layers of the pruned source: every surviving neuron, at every position, then the surviving weights."""
    padding = WEIGHT_OPERATORS[node.op].padding(node.attributes)
    pad = rows_of(matrix_of(lambda x: torch.nn.functional.pad(x, padding) if any(padding) else x, shape))
    padded = tuple(torch.nn.functional.pad(torch.zeros(1, *shape), padding)[0].shape) if any(padding) else shape
    axis = layer.axis if layer.axis < 0 else layer.axis - 1
    index = torch.arange(len(pad)).reshape(padded)
    channel, univariate = layer.channel, fractions(layer.univariate)
    places = index.index_select(axis, channel.clamp(min=0))
    number = torch.arange(len(channel)).reshape(
        [-1 if i == places.dim() + axis or i == axis else 1 for i in range(places.dim())]
    )
    number = number.expand(places.shape)
    neurons = list(zip(places.flatten().tolist(), number.flatten().tolist(), strict=True))
    weight = torch.zeros(layer.weight_shape, dtype=torch.float64)
    weight.view(-1)[layer.index] = layer.values.to(torch.float64)
    combine = weights_of(node, weight, tuple(places.shape), padding=(0,) * len(padding))

    def evaluate(x: Vector) -> Vector:
        x = product(pad, x, [Fraction(0)] * len(pad))
        zero = Fraction(0)
        hidden = [max(x[place] * univariate[n] if channel[n] >= 0 else univariate[n], zero) for place, n in neurons]
        return product(combine, hidden, [zero] * len(combine))

    return evaluate


def exact_target(target: Target) -> Exact:
    """The target itself."""
    layers = {}
    for layer in target:
        weight = torch.from_numpy(layer.weight_array()).reshape(layer.node.attributes["weight_shape"])
        layers[layer.name] = (weight, weight, layer.bias_array())
    return Exact(target, layers)


def exact_folded(target: Target, realised: Any) -> Exact:
    """The ticket by its slopes in float64."""
    layers = {}
    for layer in target:
        own, shape = realised[layer.name], layer.node.attributes["weight_shape"]
        layers[layer.name] = (
            torch.from_numpy(own.positive).reshape(shape),
            torch.from_numpy(own.negative).reshape(shape),
            own.bias,
        )
    return Exact(target, layers)


def exact_sparse(target: Target, ticket: Any) -> Exact:
    """The ticket by what survives of the source: the network itself."""
    module = ticket.module("sparse")
    return Exact(target, {layer.name: module.get_submodule(layer.name) for layer in target})
