"""Bounds through activations."""

from __future__ import annotations

import torch

from slth.certify.state import State, inflate
from slth.network.graph import Node


def relu(node: Node, state: State) -> State:
    """max(0, x) is non-expansive; where the target's value is at most u < 0 both results lie in [0, max(0, u + e)]."""
    reach = inflate((state.upper + state.error).clamp(min=0), 2)
    error = torch.minimum(state.error, reach)
    return State(state.lower.clamp(min=0), state.upper.clamp(min=0), error, True, state.nonpositive)
