"""Recurrent layers and cells: two weight layers each, one of the input and one of the hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slth.errors import UnsupportedError
from slth.network.calls import Reference
from slth.network.operators.recurrent import GATES
from slth.network.rules.base import Call, Draft, Rule, SeveralRule, Value


@dataclass(frozen=True)
class _Weights:
    """Of one direction of one layer; ``project`` makes the hidden state of an LSTM smaller, if anything does."""

    input: Reference
    hidden: Reference
    input_bias: Reference | None = None
    hidden_bias: Reference | None = None
    project: Reference | None = None


@dataclass(frozen=True)
class _Run:
    """What the steps of one direction of one layer are like."""

    kind: str
    name: str
    batch_first: bool = False
    reverse: bool = False
    cells: bool = False

    @property
    def axis(self) -> int:
        """That of the steps."""
        return 1 if self.batch_first else 0


def layers(draft: Draft, call: Call) -> Sequence[str]:
    """``torch.nn.LSTM``, ``GRU`` and ``RNN``: the outputs of the last layer, and the last states of all."""
    if "batch_sizes" in call.arguments:
        place = draft.traced.places.get(call.name, call.name)
        need = "sequences of equal lengths, in one tensor"
        raise UnsupportedError(place, f"{call.op} of a packed sequence", need, "no pack_padded_sequence before it")
    own, first = call.arguments, call.arguments["hx"]
    firsts = list(first) if isinstance(first, list | tuple) else [first]
    directions = 2 if own["bidirectional"] else 1
    weights = _weights_of(own["params"], own["has_biases"], own["num_layers"] * directions)
    source, lasts = draft.source(own["input"]), list[tuple[str, ...]]()
    for layer in range(own["num_layers"]):
        made = []
        for direction in range(directions):
            number = directions * layer + direction
            ending = f"_l{layer}{'_reverse' if direction else ''}"
            cells = 2 in draft.read_items.get(call.name, ())
            run = _Run(call.op, f"{call.name}{ending}", bool(own["batch_first"]), bool(direction), cells)
            states = [_call(draft, "select", f"{run.name}_first", value, dim=0, index=number) for value in firsts]
            sequence, *last = _layer(draft, run, source, weights[number], states)
            made.append(sequence)
            lasts.append(tuple(last))
        source = made[0] if len(made) == 1 else _joined(draft, "cat", f"{call.name}_l{layer}", made, -1)
    ends = [_joined(draft, "stack", f"{call.name}_last", list(each), 0) for each in zip(*lasts, strict=True)]
    return [source, *ends]


def _weights_of(params: Sequence[Reference], has_biases: bool, n: int) -> list[_Weights]:
    each = len(params) // n
    groups = [list(params[k * each : (k + 1) * each]) for k in range(n)]
    made = []
    for ours, theirs, *rest in groups:
        biases, project = (rest[:2], rest[2:]) if has_biases else ((None, None), rest)
        made.append(_Weights(ours, theirs, *biases, *project))
    return made


def _layer(draft: Draft, run: _Run, source: str, weights: _Weights, states: list[str]) -> list[str]:
    """Nodes of the hidden states of all steps, of the last one and, where it is read, of the last cell state."""
    gates = _affine(draft, source, weights.input, weights.input_bias, f"{run.name}_input")
    parameters = [entry.name for entry in (weights.hidden, weights.hidden_bias) if entry is not None]
    known = all(name in draft.parameters for name in parameters)
    if weights.project is not None or not known or not all(map(draft.wants, parameters)):
        return _unrolled(draft, run, gates, weights, states)
    matrix = draft.parameters[weights.hidden.name]
    bias = None if weights.hidden_bias is None else draft.parameters[weights.hidden_bias.name]
    attributes = {"weight_shape": tuple(matrix.shape), "bias": bias is not None, "kind": run.kind}
    attributes |= {"reverse": run.reverse, "batch_first": run.batch_first, "cells": run.cells}
    made = draft.weigh("recurrent", [gates, *states], attributes, matrix, bias, parameters, f"{run.name}_hidden")
    last = _call(draft, "select", f"{run.name}_last", made, dim=run.axis, index=0 if run.reverse else -1)
    if not run.cells:
        return [made, last]
    width = matrix.shape[1]

    def part(value: str, start: int) -> str:
        return _call(draft, "narrow", f"{run.name}_part", value, dim=-1, start=start, length=width)

    return [part(made, 0), part(last, 0), part(last, width)]


def _unrolled(draft: Draft, run: _Run, gates: str, weights: _Weights, states: list[str]) -> list[str]:
    """Step by step, where the hidden state's matrix is kept as it is, or there are two."""
    layout = draft.layouts[gates]
    steps = layout.whole(1)[run.axis]
    if layout.whole(2)[run.axis] != steps:
        raise ValueError("a recurrent layer whose steps go along the batch axis")
    hidden = []
    for step in range(steps)[:: -1 if run.reverse else 1]:
        ours = _call(draft, "select", f"{run.name}_{step}", gates, dim=run.axis, index=step)
        states = _step(draft, run.kind, f"{run.name}_{step}", ours, states, weights)
        hidden.append(states[0])
    sequence = _joined(draft, "stack", f"{run.name}_all", hidden[:: -1 if run.reverse else 1], run.axis)
    return [sequence, states[0], *([states[1]] if run.cells else [])]


def cell(draft: Draft, call: Call) -> Sequence[str]:
    """``torch.nn.LSTMCell``, ``GRUCell`` and ``RNNCell``: the next states."""
    own, kind = call.arguments, call.op.removesuffix("_cell")
    first = own["hx"]
    firsts = list(first) if isinstance(first, list | tuple) else [first]
    weights = _Weights(own["w_ih"], own["w_hh"], own.get("b_ih"), own.get("b_hh"))
    gates = _affine(draft, draft.source(own["input"]), weights.input, weights.input_bias, f"{call.name}_input")
    return _step(draft, kind, call.name, gates, [draft.source(value) for value in firsts], weights)


def cell_of_one(draft: Draft, call: Call) -> str:
    """A cell with one state."""
    return cell(draft, call)[0]


def _step(draft: Draft, kind: str, name: str, ours: str, states: Sequence[str], weights: _Weights) -> list[str]:
    """The next states, from the gates' part of the input and the last states."""
    theirs = _affine(draft, states[0], weights.hidden, weights.hidden_bias, f"{name}_hidden")

    def of_two(function: str, one: str, two: str, ending: str = "") -> str:
        return draft.function(function, f"{name}{ending}", {"self": Value(one), "other": Value(two)})

    def act(value: str, function: str, ending: str = "") -> str:
        return draft.add(function, [value], {}, draft.free_name(f"{name}{ending}"))

    def gate(value: str, number: int) -> str:
        arguments = {"self": Value(value), "chunks": GATES[kind], "dim": -1}
        return draft.function("chunk", f"{name}_gate{number}", arguments, number)

    if kind == "gru":
        reset, update = (
            act(of_two("add", gate(ours, k), gate(theirs, k), f"_sum{k}"), "sigmoid", f"_{called}")
            for k, called in enumerate(("reset", "update"))
        )
        own = of_two("mul", reset, gate(theirs, 2), "_own")
        new = act(of_two("add", gate(ours, 2), own, "_sum2"), "tanh", "_new")
        return [of_two("add", new, of_two("mul", update, of_two("sub", states[0], new, "_change"), "_changed"))]
    both = of_two("add", ours, theirs, "_sum")
    if kind != "lstm":
        return [act(both, kind.removeprefix("rnn_"))]
    entry, forget, output = (
        act(gate(both, k), "sigmoid", f"_{called}") for k, called in ((0, "entry"), (1, "forget"), (3, "output"))
    )
    entered = of_two("mul", entry, act(gate(both, 2), "tanh", "_new"), "_entered")
    inside = of_two("add", of_two("mul", forget, states[1], "_left"), entered, "_cell")
    hidden = of_two("mul", output, act(inside, "tanh", "_bent"))
    if weights.project is not None:
        hidden = _affine(draft, hidden, weights.project, None, f"{name}_project")
    return [hidden, inside]


def _affine(draft: Draft, source: str, weight: Reference, bias: Reference | None, name: str) -> str:
    """A Linear layer, or the function where its matrix is not to be ticketed."""
    parameters = [entry.name for entry in (weight, bias) if entry is not None]
    if not all(parameter in draft.parameters and draft.wants(parameter) for parameter in parameters):
        return draft.function("linear", name, {"input": Value(source), "weight": weight, "bias": bias})
    matrix = draft.parameters[weight.name]
    attributes = {"weight_shape": tuple(matrix.shape), "bias": bias is not None}
    own = None if bias is None else draft.parameters[bias.name]
    return draft.weigh("linear", [source], attributes, matrix, own, parameters, name)


def _call(draft: Draft, function: str, name: str, value: Reference | str, **arguments: Any) -> str:
    """A function of one value."""
    first = Value(value) if isinstance(value, str) else value
    return draft.function(function, name, {"self": first, **arguments})


def _joined(draft: Draft, function: str, name: str, values: Sequence[str], dim: int) -> str:
    """Several values along an axis."""
    return draft.function(function, name, {"tensors": [Value(value) for value in values], "dim": dim})


RECURRENT_RULES: dict[str, Rule] = dict.fromkeys(("gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), cell_of_one)
RECURRENT_SEVERAL: dict[str, SeveralRule] = {**dict.fromkeys(GATES, layers), "lstm_cell": cell}
