"""Layers that read x + s: whether no input that the ticket has in a region is below -s, so that their slopes hold.

The ticket's own values are bounded, by intervals and from the input on: of a layer whose inputs are large enough the
slopes are known, and with them how small the next layer's inputs can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch

from slth.certify.maps import AFFINE, on_one
from slth.certify.state import UNIT, State, inflate
from slth.network.graph import INPUT, Node
from slth.network.target import Target
from slth.realise import RealisedLayer


class Step(Protocol):
    """What follows for a node from what is known of all that it reads."""

    def __call__(self, node: Node, sources: Sequence[State], own: RealisedLayer | None = None) -> State:
        """One step."""


def holding(
    target: Target, realised: Mapping[str, RealisedLayer], start: State, step: Step
) -> Mapping[str, RealisedLayer]:
    """By node with weights, its layer, with the slopes for both signs wherever inputs are shifted far enough.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
        By layer.
    start : State
        Of the network's input.
    step : Step
    """
    result = {node.name: realised[node.weights] for node in target.graph.weighted_uses}
    if not any(layer.shift for layer in realised.values()):
        return result
    known = {INPUT: start}
    with torch.no_grad():
        for node in target.graph:
            sources = [known[source] for source in node.sources]
            if node.name not in result:
                known[node.name] = replace(step(node, sources), copies=None)
                continue
            own, one = result[node.name], torch.ones(1, dtype=torch.float64)
            low, high = (sources[0].lower, sources[0].upper) if sources else (one, one)
            if own.shift and bool((low >= -own.shift).all()):
                own = result[node.name] = own.shifted
            if node.op in AFFINE:
                known[node.name] = _between(*_range(node, own, low, high))
            else:
                after = step(node, sources, own)
                known[node.name] = _between(after.lower - 2 * after.error, after.upper + 2 * after.error)
    return result


def _between(lower: torch.Tensor, upper: torch.Tensor) -> State:
    """The ticket's own values, and no difference."""
    signs = bool((lower >= 0).all()), bool((upper <= 0).all())
    return State(lower, upper, torch.zeros_like(lower), *signs).sound()


def _range(
    node: Node, own: RealisedLayer, lower: torch.Tensor, upper: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds on a layer's outputs in the ticket, exactly evaluated or in float64, for inputs between two tensors."""
    shape = node.attributes["weight_shape"]
    positive, negative, size, slack = (
        torch.from_numpy(part).reshape(shape) for part in (own.positive, own.negative, own.size, own.slack)
    )
    nothing = torch.zeros(shape[0], dtype=torch.float64)
    bias, bias_size, bias_slack = (
        nothing if part is None else torch.from_numpy(part) for part in (own.bias, own.bias_size, own.bias_slack)
    )

    apply = on_one(node)
    reach = torch.maximum(lower.abs(), upper.abs())
    one_sign = bool((lower >= 0).all()) if own.only == 1 else bool((upper <= 0).all())
    if own.only is not None and not one_sign:
        middle, radius = apply(torch.zeros_like(size), reach, bias), apply(size, reach)
    elif own.one_branch:
        middle, radius = apply(positive, (lower + upper) / 2, bias), apply(positive.abs(), (upper - lower) / 2)
    else:
        # relu(x) and relu(-x) are each between their values at the ends.
        a, b, c, d = (part.clamp(min=0) for part in (lower, upper, -upper, -lower))
        middle = apply(positive, (a + b) / 2, bias) - apply(negative, (c + d) / 2)
        radius = apply(positive.abs(), (b - a) / 2) + apply(negative.abs(), (d - c) / 2)
    n_terms = max(2 * math.prod(shape[1:]) + 4, own.n_terms + 4)
    share = own.bend.share(float(reach.max()))
    largest = torch.maximum(torch.maximum(positive.abs(), negative.abs()), size)
    sizes = inflate(apply(largest, reach, torch.maximum(bias.abs(), bias_size)), n_terms)
    radius = (
        inflate(radius + apply(slack, reach, bias_slack) + share * sizes, n_terms) + 4 * (n_terms + 8) * UNIT * sizes
    )
    return middle - radius, middle + radius
