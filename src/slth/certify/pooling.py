"""Bounds through pooling: both kinds are monotone and non-expansive in the largest entry of a window."""

from __future__ import annotations

import math

import torch

from slth.certify.state import UNIT, State, inflate
from slth.network.graph import Node
from slth.network.operators import OPERATORS


def _pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = OPERATORS[node.op].module(node.attributes)(x[None])[0]
    return result


def max_pool(node: Node, state: State) -> State:
    """|max a - max b| <= max |a - b| over a window, and the maximum of bounds bounds the maximum."""
    lower, upper, error = (_pool(node, part) for part in (state.lower, state.upper, state.error))
    return State(lower, upper, error, state.nonnegative, state.nonpositive)


def average_pool(node: Node, state: State) -> State:
    """A mean with non-negative weights maps bounds to bounds and errors to errors."""
    n_terms = math.prod(node.attributes["kernel"]) + 1
    rounding = (n_terms + 8) * UNIT * inflate(_pool(node, state.magnitude + state.error), n_terms)
    error = inflate(inflate(_pool(node, state.error), n_terms) + 2 * rounding, 2)
    lower, upper = _pool(node, state.lower) - rounding, _pool(node, state.upper) + rounding
    if state.nonnegative:
        lower = lower.clamp(min=0)
    if state.nonpositive:
        upper = upper.clamp(max=0)
    return State(lower, upper, error, state.nonnegative, state.nonpositive)
