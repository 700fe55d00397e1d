"""Bounds through operations that only move entries."""

from __future__ import annotations

from slth.certify.state import State
from slth.network.graph import Node
from slth.network.operators import OPERATORS


def move(node: Node, state: State) -> State:
    """The same bounds in the same places as the values; padding adds exact zeros or copies."""
    module = OPERATORS[node.op].module(node.attributes)
    lower, upper, error = (module(part[None])[0] for part in (state.lower, state.upper, state.error))
    return State(lower, upper, error, state.nonnegative, state.nonpositive)
