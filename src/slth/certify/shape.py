"""Bounds through operations that only move entries, and tensors with a batch axis and without one."""

from __future__ import annotations

from dataclasses import replace

import torch

from slth.certify.state import State
from slth.network.graph import Layout, Node
from slth.network.operators import OPERATORS


def move(node: Node, state: State) -> State:
    """The same bounds in the same places as the values; padding adds exact zeros or copies."""
    module = OPERATORS[node.op].module(node.attributes)
    lower, upper, error = (module(part[None])[0] for part in (state.lower, state.upper, state.error))
    return State(lower, upper, error, state.nonnegative, state.nonpositive)


def lifted(state: State, layout: Layout, batch: int = 1) -> State:
    """With a batch axis, all inputs being of the same region, where values have one in front."""
    if not layout.batched:
        return state

    def lift(part: torch.Tensor) -> torch.Tensor:
        return part[None] if batch == 1 else part.expand(batch, *part.shape)

    exact = None if state.exact is None else lift(state.exact)
    return replace(state, lower=lift(state.lower), upper=lift(state.upper), error=lift(state.error), exact=exact)


def dropped(state: State, layout: Layout) -> State:
    """Without the batch axis: what holds for every input."""
    if not layout.batched:
        return state
    exact = None if state.exact is None else state.exact[0]
    lower, upper, error = state.lower.amin(dim=0), state.upper.amax(dim=0), state.error.amax(dim=0)
    return replace(state, lower=lower, upper=upper, error=error, exact=exact)
