"""An error allowed on the network's output, split over its layers so that the source is as small as it can be.

If every weight of layer l is off by e_l on average, the output is off by about the sum over l of G_l e_l: G_l says what
that does to the layer's outputs (the magnitudes of its inputs, added up) and what the layers behind make of it (the
absolute values of their weights, multiplied along all paths). This is the recursion of section 0.3 to first order, with
the network's own weights and magnitudes instead of norms.

A base set of m elements leaves an error of about c_l 2^(-m) (with a basis a little below 2 where its size varies), and
costs a_l source weights an element. The sum of a_l m_l is least, for a given sum of G_l c_l 2^(-m_l), where the shares
of the error are in proportion to a_l: a layer with many weights is given much of the error and saves elements.

What is computed here plans, and proves nothing: the certificate of the ticket does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from slth.bounds.base_sets import choose_scale, mean_error
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer
from slth.plan import magnitudes

SAFETY = 1.2
"""How many times the expected error a layer is planned for (chosen): errors of base sets are heavy-tailed."""

SPLITS = ("own", "uniform")


@dataclass(frozen=True)
class LayerBudget:
    """What one layer is given.

    Attributes
    ----------
    name : str
    gain : float
        G: largest output error for weights that are off by 1.
    share : float
        Part of the output error that the layer may make.
    weight_error : float
        Mean error of its weights with which it keeps to that.
    base_set_size : int
        Fewest elements with which it is expected to.
    source_weights : int
    """

    name: str
    gain: float
    share: float
    weight_error: float
    base_set_size: int
    source_weights: int


def allocate(
    target: Target, domain: Domain, eps: float, *, mirrored: bool = False, split: str = "own", largest: int = 40
) -> tuple[LayerBudget, ...]:
    """Base-set sizes, layer by layer, with which the output is expected to be within ``eps`` over the domain.

    Parameters
    ----------
    target : Target
    domain : Domain
        A box.
    eps : float
        Largest |ticket output - target output|.
    mirrored : bool
        Whether base sets are made of mirrored pairs.
    split : {"own", "uniform"}
        The error in proportion to what layers cost, or in equal parts.
    largest : int
        Size that no base set may exceed.

    Raises
    ------
    ArgumentError
        If eps is not a number above 0, the domain is all reals, or a layer would need larger base sets.
    """
    if not (eps > 0 and math.isfinite(eps)):
        raise ArgumentError("eps", str(eps), "a number above 0", "--eps 0.1")
    if split not in SPLITS:
        raise ArgumentError("split", repr(split), " or ".join(SPLITS))
    gains = output_gains(target, domain)
    costs = [element_cost(layer) for layer in target]
    total = sum(costs)
    layers = []
    for layer, gain, cost in zip(target, gains, costs, strict=True):
        share = eps * (cost / total if split == "own" else 1.0 / len(costs))
        error = share / (SAFETY * gain) if gain else math.inf
        size = _smallest(layer, error, mirrored, largest, eps)
        layers.append(LayerBudget(layer.name, gain, share, error, size, 2 * size * cost))
    return tuple(layers)


def element_cost(layer: WeightLayer) -> int:
    """Source weights that one more neuron in every block of a layer costs."""
    outputs, inputs, *kernel = layer.weight.shape
    groups = WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes)
    blocks = inputs + (layer.bias is not None)
    return blocks * (groups * (inputs + (layer.bias is not None)) + outputs * math.prod(kernel))


def _smallest(layer: WeightLayer, error: float, mirrored: bool, largest: int, eps: float) -> int:
    values = magnitudes(layer)
    if not values.any():
        return 1
    for size in range(1, largest + 1):
        if mean_error(size, mirrored) * choose_scale(values, size, mirrored) <= error:
            return size
    raise ArgumentError(
        f"layer {layer.name!r}",
        f"an error of {error:.2g} for its weights, for {eps:g} on the output",
        f"at least what base sets of {largest} leave",
        "a larger --eps, or a smaller domain",
    )


def output_gains(target: Target, domain: Domain) -> list[float]:
    """G of every layer: the largest output error, to first order, for weights and biases that are off by 1."""
    lower, upper = domain.bounds(target.graph.input_shape)
    layers = {layer.name: layer for layer in target}
    sizes = {INPUT: torch.maximum(lower.abs(), upper.abs())}
    with torch.no_grad():
        for node in target.graph:
            sizes[node.name] = _magnitude(node, layers.get(node.name), sizes[node.source])
        gains = []
        for number, node in enumerate(target.graph):
            if node.name not in layers:
                continue
            biased = layers[node.name].bias is not None
            bias = torch.ones(node.attributes["weight_shape"][0], dtype=torch.float64) if biased else None
            ones = torch.ones(node.attributes["weight_shape"], dtype=torch.float64)
            error = WEIGHT_OPERATORS[node.op].apply(node.attributes, sizes[node.source][None], ones, bias)[0]
            for later in target.graph.nodes[number + 1 :]:
                error = _grown(later, layers.get(later.name), error)
            gains.append(float(error.max()))
    return gains


def _absolute(node: Node, layer: WeightLayer, x: torch.Tensor, biased: bool) -> torch.Tensor:
    """A layer with the absolute values of its weights (and biases) on a magnitude."""
    weight = torch.from_numpy(np.abs(layer.weight_array())).reshape(node.attributes["weight_shape"])
    bias_array = layer.bias_array() if biased else None
    bias = None if bias_array is None else torch.from_numpy(np.abs(bias_array))
    return WEIGHT_OPERATORS[node.op].apply(node.attributes, x[None], weight, bias)[0]


def _magnitude(node: Node, layer: WeightLayer | None, x: torch.Tensor) -> torch.Tensor:
    """A bound on the magnitudes of a node's outputs from one on its input's."""
    operator = OPERATORS[node.op]
    if layer is not None:
        return _absolute(node, layer, x, biased=True)
    if isinstance(operator, Elementwise):
        phi = operator.activation(node.attributes)
        return abs(phi.d) + phi.lipschitz * x + phi.jump
    result: torch.Tensor = operator.module(node.attributes)(x[None])[0]
    return result


def _grown(node: Node, layer: WeightLayer | None, error: torch.Tensor) -> torch.Tensor:
    """What a node makes of errors at its input, at most."""
    operator = OPERATORS[node.op]
    if layer is not None:
        return _absolute(node, layer, error, biased=False)
    if isinstance(operator, Elementwise):
        return operator.activation(node.attributes).lipschitz * error
    result: torch.Tensor = operator.module(node.attributes)(error[None])[0]
    return result
