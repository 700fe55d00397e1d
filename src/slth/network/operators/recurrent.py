"""Recurrent layers: the map of the hidden state is a weight layer, with the steps around it.

What the gates get from the input is a Linear layer of its own over the whole sequence
(:mod:`slth.network.rules.recurrent`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from slth.network.graph import Layout, Sign, trial_batches
from slth.network.operators.wrapped import Wrapped

State = tuple[torch.Tensor, ...]
Step = Callable[[torch.Tensor, torch.Tensor, State], State]
"""From what the gates get of the input and of the hidden state, and the last state, to the next."""


def _lstm(ours: torch.Tensor, theirs: torch.Tensor, state: State) -> State:
    entry, forget, new, output = (ours + theirs).chunk(4, -1)
    cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(entry) * torch.tanh(new)
    return torch.sigmoid(output) * torch.tanh(cell), cell


def _gru(ours: torch.Tensor, theirs: torch.Tensor, state: State) -> State:
    (reset, update, new), (own_reset, own_update, own_new) = ours.chunk(3, -1), theirs.chunk(3, -1)
    candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
    return (candidate + torch.sigmoid(update + own_update) * (state[0] - candidate),)


STEPS: Mapping[str, Step] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": lambda ours, theirs, state: (torch.tanh(ours + theirs),),
    "rnn_relu": lambda ours, theirs, state: (torch.relu(ours + theirs),),
}
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Number of gates of a kind, which are as many times the hidden size."""


class Recurrent(Wrapped):
    """One direction of one recurrent layer, from the gates' part of the input to the hidden state of every step.

    It reads (gates of the input, first hidden state[, first cell state]). Attributes: ``kind``, ``reverse``,
    ``batch_first`` and, of an LSTM, ``cells``: whether the cell states follow the hidden ones along the last axis.
    """

    name = "recurrent"
    kinds = {"weight_shape": tuple, "bias": bool, "kind": str, "reverse": bool, "batch_first": bool, "cells": bool}

    def core(self, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Linear, from the hidden state to the gates."""
        return "linear", {"weight_shape": attributes["weight_shape"], "bias": attributes["bias"]}

    def wrap(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> torch.nn.Module:
        """The steps around it."""
        return Steps(attributes, inner)

    def core_sign(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """The hidden state's: never negative behind ReLU if it is not at first."""
        return signs[1] | Sign.NONNEGATIVE if attributes["kind"] == "rnn_relu" else Sign.SIGNED

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """ReLU's, where that is what it ends with."""
        return Sign.NONNEGATIVE if attributes["kind"] == "rnn_relu" else Sign.SIGNED

    def core_reach(self, attributes: Mapping[str, Any], reaches: Sequence[float]) -> float:
        """The hidden state's: no larger than 1 where it comes from tanh, or what it is at first."""
        return math.inf if attributes["kind"] == "rnn_relu" else max(1.0, reaches[1])

    def reach(self, attributes: Mapping[str, Any], reaches: Sequence[float], gates: float) -> float:
        """As the hidden state's; a GRU keeps some of the first state."""
        if attributes["kind"] == "rnn_relu" or attributes["cells"]:
            return math.inf
        return max(1.0, reaches[1]) if attributes["kind"] == "gru" else 1.0

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """The gates', with the hidden size last.

        Raises
        ------
        ValueError
            If the steps go along the batch axis, or the sizes do not fit.
        """
        kind, cells = attributes["kind"], attributes["cells"]
        if kind not in GATES or (cells and kind != "lstm") or len(sources) != (3 if kind == "lstm" else 2):
            raise ValueError(f"a recurrent layer {kind!r} of {len(sources)} values")
        gates, hidden = attributes["weight_shape"]
        if hidden < 1 or gates != GATES[kind] * hidden:
            raise ValueError(f"a recurrent layer {kind!r} from {hidden} hidden values to {gates} gates")
        wholes = []
        for batch in trial_batches(sources):
            own, *states = (source.whole(batch) for source in sources)
            if len(own) != 3 or own[2] != gates:
                raise ValueError(f"a recurrent layer of {gates} gates on {sources[0].shape}")
            examples = own[0 if attributes["batch_first"] else 1]
            if any(state not in ((examples, hidden), (1, hidden)) for state in states):
                raise ValueError(f"a recurrent layer whose first state has shape {states}")
            wholes.append(own)
        steps = {own[1 if attributes["batch_first"] else 0] for own in wholes}
        if len(steps) != 1:
            raise ValueError("a recurrent layer whose steps go along the batch axis")
        return Layout((*sources[0].shape[:-1], 2 * hidden if cells else hidden), sources[0].batched)


class Steps(torch.nn.Module):
    """A module of the hidden state, step by step."""

    def __init__(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.step, self.cells = inner, STEPS[attributes["kind"]], bool(attributes["cells"])
        self.axis = 1 if attributes["batch_first"] else 0
        self.order = -1 if attributes["reverse"] else 1

    def forward(self, gates: torch.Tensor, *first: torch.Tensor) -> torch.Tensor:
        """Hidden states (and cell states) of all steps, laid out as the gates are."""
        of_steps = gates.unbind(self.axis)
        rows = of_steps[0].shape[0]
        state: State = tuple(value.expand(rows, value.shape[-1]) for value in first)
        # What a module makes of its weights at every call, it makes once for all steps.
        inner = getattr(self.inner, "prepared", lambda: self.inner)()
        made = []
        for ours in of_steps[:: self.order]:
            state = self.step(ours, inner(state[0]), state)
            made.append(torch.cat(state, -1) if self.cells else state[0])
        return torch.stack(made[:: self.order], self.axis)
