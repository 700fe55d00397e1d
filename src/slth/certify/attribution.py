"""Which layers an output error comes from: an estimate to first order, to choose by; no bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from slth.candidates import unfold
from slth.certify.expand import unrolled
from slth.certify.maps import AFFINE, on_one
from slth.certify.propagation import OF_SEVERAL, ONE, RULES, Steps, propagated
from slth.certify.state import State
from slth.domain import Domain
from slth.network.graph import INPUT, Node
from slth.network.operators import OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer


def contributions(target: Target, realised: Mapping[str, RealisedLayer], domain: Domain) -> dict[str, float]:
    """The largest output error that each layer alone is good for, to first order.

    Of a layer whose slopes are off by D and whose inputs lie around c, at most r away, that is the largest row of |V_L|
    ... |V_{l+1}| (|D c + bias error| + |D| r), with the ticket's slopes V behind it; of a layer that is used several
    times all of its uses count, and of functions that are kept what their rule makes of errors.

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
    target = unrolled(target)
    steps = Steps(target)
    with torch.no_grad():
        return {layer.name: _reached(steps, layer, realised, states) for layer in target}


def _reached(
    steps: Steps, layer: WeightLayer, realised: Mapping[str, RealisedLayer], states: Mapping[str, State]
) -> float:
    """What the deviations of one layer, wherever it is used, make of the output."""
    graph = steps.graph
    errors: dict[str, torch.Tensor | None] = {INPUT: None}
    for node in graph:
        read = [errors[source] for source in node.sources]
        before = states[node.sources[0]] if node.sources else ONE
        error = None
        if any(part is not None for part in read):
            given = [
                torch.zeros_like(states[source].lower) if part is None else part
                for source, part in zip(node.sources, read, strict=True)
            ]
            error = _grown(steps, node, realised.get(node.weights), [states[source] for source in node.sources], given)
        if node.weights == layer.name and node.op in AFFINE:
            own = _own(node, layer, realised[layer.name], before)
            error = own if error is None else own + error
        elif node.weights == layer.name:
            error = states[node.name].error
        errors[node.name] = error
    made = errors[graph.nodes[-1].name]
    return 0.0 if made is None else float(made.max())


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


def _grown(
    steps: Steps,
    node: Node,
    realised: RealisedLayer | None,
    states: Sequence[State],
    errors: Sequence[torch.Tensor],
) -> torch.Tensor:
    """What a later node makes of errors."""
    operator = OPERATORS[node.op]
    if node.op in AFFINE and realised is not None:
        gain = np.max([realised.gain(branch) for branch in _branches(states[0])], axis=0)
        return _apply(node, gain, errors[0], None)
    if isinstance(operator, Elementwise):
        return operator.activation(node.attributes).lipschitz * errors[0]
    if node.op in RULES:
        result: torch.Tensor = operator.module(node.attributes)(errors[0][None])[0]
        return result
    given = [replace(state, error=error, copies=None) for state, error in zip(states, errors, strict=True)]
    error = steps(node, given).error if node.op in OF_SEVERAL else steps.nothing(node).error
    # Where no rule says how errors grow they are taken to stay as large as they are.
    most = max(float(part.max()) for part in errors)
    return torch.where(torch.isfinite(error), error, most)


def _apply(node: Node, weight: NDArray[np.float64], x: torch.Tensor, bias: NDArray[np.float64] | None) -> torch.Tensor:
    """The layer's operation with other weights."""
    matrix = torch.from_numpy(weight).reshape(node.attributes["weight_shape"])
    constant = None if bias is None else torch.from_numpy(bias)
    return on_one(node)(matrix, x, constant)
