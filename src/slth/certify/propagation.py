"""The proof: bounds propagated from the domain to the output, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from slth.candidates import unfold
from slth.certify import activation
from slth.certify.affine import affine
from slth.certify.copied import by_copy, copied
from slth.certify.factors import Factors
from slth.certify.pooling import average_pool, max_pool
from slth.certify.shape import move
from slth.certify.shifted import holding
from slth.certify.state import State
from slth.copies import CopiedLayer
from slth.domain import Domain
from slth.network.graph import INPUT, Node
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer

RULES: Mapping[str, Callable[[Node, State], State]] = {
    "relu": activation.relu,
    "leaky_relu": activation.leaky_relu,
    "tanh": activation.tanh,
    "sigmoid": activation.sigmoid,
    "gelu": activation.gelu,
    "silu": activation.silu,
    "elu": activation.elu,
    "softplus": activation.softplus,
    "hardtanh": activation.hardtanh,
    "own": activation.own,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "reshape": move,
    "pad": move,
}
"""One rule for each operation without weights."""


@dataclass(frozen=True)
class Bound:
    """A proved bound on the output error.

    Attributes
    ----------
    output_error : float
        sup over the domain of the largest |ticket output - target output|, bounded from above.
    layer_errors : mapping of str to float
        The same after each weight layer.
    """

    output_error: float
    layer_errors: Mapping[str, float]


def propagate(target: Target, realised: Mapping[str, RealisedLayer], domain: Domain) -> Bound:
    """Bound the output error over a box by the recursion of section 0.3, with outward rounding.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    domain : Domain
        A box; the bound holds for every input in it, exactly evaluated or in float64.

    Raises
    ------
    ArgumentError
        If the domain is not a box or does not fit the input's shape.
    """
    states = propagated(target, realised, *domain.bounds(target.graph.input_shape))
    layer_errors = {layer.name: float(states[layer.name].error.max()) for layer in target}
    return Bound(float(states[target.graph.nodes[-1].name].error.max()), layer_errors)


def propagated(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    lower: torch.Tensor,
    upper: torch.Tensor,
    factors: dict[str, Factors] | None = None,
) -> dict[str, State]:
    """What :func:`propagate` finds at every node, by name, for inputs between two tensors of the input's shape.

    With ``factors``, for many calls, what of a layer does not depend on the inputs is kept there.
    """
    target, realised = unfold(target, realised)
    realised = held(target, realised, lower, upper)
    nonnegative, nonpositive = bool((lower >= 0).all()), bool((upper <= 0).all())
    states = {INPUT: State(lower, upper, torch.zeros_like(lower), nonnegative, nonpositive)}
    layers = {layer.name: layer for layer in target}
    with torch.no_grad():
        for node in target.graph:
            layer, own = layers.get(node.name), realised.get(node.name)
            states[node.name] = step(node, states[node.source], layer, own, factors)
    return states


def held(
    target: Target, realised: Mapping[str, RealisedLayer], lower: torch.Tensor, upper: torch.Tensor
) -> Mapping[str, RealisedLayer]:
    """The layers with all slopes that hold for inputs between two tensors; see :func:`holding`."""
    return holding(target, realised, lower, upper, lambda node, state: step(node, state, None, None))


def step(
    node: Node,
    state: State,
    layer: WeightLayer | None,
    own: RealisedLayer | None,
    factors: dict[str, Factors] | None = None,
) -> State:
    """What follows for a node's outputs from what is known of its inputs."""
    if layer is None or own is None:
        return by_copy(RULES[node.op], node, state)
    if isinstance(own, CopiedLayer):
        return copied(node, state, layer, own)
    return affine(node, state, layer, own, None if factors is None else Factors.kept(factors, layer, own))
