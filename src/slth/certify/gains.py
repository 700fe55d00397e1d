"""How much the output of a network changes at most, to first order, when the weights of one layer are off by 1 each.

Errors are followed along all paths to the output: where paths meet they add up, and a layer that is used several times
counts each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from slth.certify.expand import unrolled
from slth.certify.maps import AFFINE, on_one
from slth.certify.propagation import OF_SEVERAL, ONE, RULES, Steps, propagated
from slth.certify.state import State
from slth.domain import Domain
from slth.network.graph import Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer

_SMALL = 2.0**-24
"""Error of what a function reads, relative to its values, at which its growth is looked at (chosen)."""


def unit_gains(target: Target, domain: Domain) -> tuple[dict[str, float], dict[str, State]]:
    """The largest output error, by layer, and what is known of every node of the target.

    Gains are of use where all nodes are bounded.

    Parameters
    ----------
    target : Target
    domain : Domain
        A box.
    """
    box = domain.bounds(target.graph.input_shape)
    states = propagated(target, {layer.name: _exact(layer) for layer in target}, *box)
    steps = Steps(unrolled(target))
    with torch.no_grad():
        return {layer.name: _gain(steps, layer, states) for layer in target}, states


def _exact(layer: WeightLayer) -> RealisedLayer:
    """The target's own slopes."""
    weight, bias = layer.weight_array(), layer.bias_array()
    return RealisedLayer(weight, weight, bias, np.abs(weight), None if bias is None else np.abs(bias), 1)


def _gain(steps: Steps, layer: WeightLayer, states: Mapping[str, State]) -> float:
    errors: dict[str, torch.Tensor] = {}
    for node in steps.graph:
        made = []
        if node.op in WEIGHT_OPERATORS and node.weights == layer.name:
            made.append(_off_by_one(node, states))
        if any(source in errors for source in node.sources):
            read = [states[source] for source in node.sources]
            before = [
                errors.get(source, torch.zeros_like(state.lower))
                for source, state in zip(node.sources, read, strict=True)
            ]
            made.append(_grown(steps, node, read, before))
        if made:
            errors[node.name] = sum(made[1:], made[0])
    last = errors.get(steps.graph.nodes[-1].name)
    return 0.0 if last is None else float(last.nan_to_num(nan=torch.inf, posinf=torch.inf).max())


def _off_by_one(node: Node, states: Mapping[str, State]) -> torch.Tensor:
    """What weights and biases that are off by 1, in any direction, make of a layer's output."""
    biased = node.attributes["bias"]
    if node.op not in AFFINE:
        # Of an embedding: one weight of a row, and a bias.
        return torch.full_like(states[node.name].lower, 1.0 + biased)
    shape = node.attributes["weight_shape"]
    bias = torch.ones(shape[0], dtype=torch.float64) if biased else None
    state = states[node.source] if node.sources else ONE
    return on_one(node)(torch.ones(shape, dtype=torch.float64), state.magnitude, bias)


def _grown(steps: Steps, node: Node, read: Sequence[State], errors: Sequence[torch.Tensor]) -> torch.Tensor:
    """What a node makes of errors of what it reads."""
    operator = OPERATORS[node.op]
    if node.op in AFFINE:
        weight = torch.from_numpy(np.abs(steps.layers[node.weights].weight_array()))
        return on_one(node)(weight.reshape(node.attributes["weight_shape"]), errors[0])
    if isinstance(operator, Elementwise):
        return operator.activation(node.attributes).lipschitz * errors[0]
    if node.op in RULES:
        result: torch.Tensor = operator.module(node.attributes)(errors[0][None])[0]
        return result
    largest = max(float(error.max()) for error in errors)
    if node.op not in OF_SEVERAL or largest == 0.0:
        return torch.zeros_like(steps.nothing(node).lower) if largest == 0.0 else steps.nothing(node).error
    size = max(float(state.magnitude.nan_to_num(posinf=1.0).max()) for state in read) or 1.0
    scale = _SMALL * size / largest
    off, exact = (
        steps.without_weights(node, [_with_error(state, error * by) for state, error in zip(read, errors, strict=True)])
        for by in (scale, 0.0)
    )
    # What is left of exact values is rounding.
    return (off.error - exact.error).clamp(min=0.0) / scale


def _with_error(state: State, error: torch.Tensor) -> State:
    return state if state.exact is not None else replace(state, error=error, copies=None)
