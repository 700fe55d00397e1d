"""Which layers an output error comes from: an estimate to first order, to choose by; no bound."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from slth.candidates import unfold
from slth.certify.propagation import propagated
from slth.certify.state import State
from slth.domain import Domain
from slth.network.graph import Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer


def contributions(target: Target, realised: Mapping[str, RealisedLayer], domain: Domain) -> dict[str, float]:
    """The largest output error that each layer alone is good for, to first order.

    Of a layer whose slopes are off by D and whose inputs lie around c, at most r away, that is the largest row of
    |V_L| ... |V_{l+1}| (|D c + bias error| + |D| r), with the ticket's slopes V behind it.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
    domain : Domain
        A box.

    Returns
    -------
    dict of str to float
        By layer, in the target's order.
    """
    states = propagated(target, realised, *domain.bounds(target.graph.input_shape))
    target, realised = unfold(target, realised)
    layers = {layer.name: layer for layer in target}
    made = {}
    with torch.no_grad():
        for number, node in enumerate(target.graph):
            if node.name not in layers:
                continue
            error = _own(node, layers[node.name], realised[node.name], states[node.source])
            for later in target.graph.nodes[number + 1 :]:
                error = _grown(later, realised.get(later.name), states[later.source], error)
            made[node.name] = float(error.max())
    return made


def _branches(state: State) -> tuple[int, ...]:
    """Signs that the inputs may have."""
    return (1,) if state.nonnegative else (-1,) if state.nonpositive else (1, -1)


def _own(node: Node, layer: WeightLayer, realised: RealisedLayer, state: State) -> torch.Tensor:
    """What the layer's own deviations make of its inputs."""
    weight, bias, branches = layer.weight_array(), layer.bias_array(), _branches(state)
    deviation = np.max([realised.deviation(weight, branch) for branch in branches], axis=0)
    difference = realised.difference(weight, branches[0]) if len(branches) == 1 or realised.one_branch else None
    if difference is None:
        return _apply(node, deviation, state.magnitude, realised.bias_deviation(bias))
    shift = None if realised.bias is None else realised.bias - (0.0 if bias is None else bias)
    centre, radius = (state.lower + state.upper) / 2, (state.upper - state.lower) / 2
    return _apply(node, difference, centre, shift).abs() + _apply(node, deviation, radius, None)


def _grown(node: Node, realised: RealisedLayer | None, state: State, error: torch.Tensor) -> torch.Tensor:
    """What a later node makes of an error."""
    operator = OPERATORS[node.op]
    if realised is not None:
        gain = np.max([realised.gain(branch) for branch in _branches(state)], axis=0)
        return _apply(node, gain, error, None)
    if isinstance(operator, Elementwise):
        return operator.activation(node.attributes).lipschitz * error
    result: torch.Tensor = operator.module(node.attributes)(error[None])[0]
    return result


def _apply(node: Node, weight: NDArray[np.float64], x: torch.Tensor, bias: NDArray[np.float64] | None) -> torch.Tensor:
    """The layer's operation with other weights."""
    matrix = torch.from_numpy(weight).reshape(node.attributes["weight_shape"])
    constant = None if bias is None else torch.from_numpy(bias)
    return WEIGHT_OPERATORS[node.op].apply(node.attributes, x[None], matrix, constant)[0]
