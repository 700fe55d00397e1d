"""ONNX recurrent layers, step by step: every gate is a Linear layer that all steps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from slth.network.onnx_operators.base import OnnxNode, Value, operation, tensor, whole

PARTS = ("input", "recurrent", "input_bias", "recurrent_bias")
ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": torch.nn.functional.softsign,
    "softplus": torch.nn.functional.softplus,
}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

State = tuple[torch.Tensor, ...]


@operation("RNN", "GRU", "LSTM")
def recurrent(
    node: OnnxNode,
    x: Value,
    weight: Sequence[torch.Tensor] | torch.Tensor,
    recurrence: Sequence[torch.Tensor] | torch.Tensor,
    bias: Sequence[Any] | torch.Tensor | None = None,
    lengths: Value | None = None,
    hidden: Value | None = None,
    cell: Value | None = None,
    peephole: Value | None = None,
) -> tuple[torch.Tensor, ...]:
    """Outputs of all steps, (steps, directions, batch, hidden), and the last states."""
    x, batch_first = tensor(x), bool(node.get("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
    _refuse(node, int(x.shape[0]), lengths, peephole)
    names = [name.lower() for name in node.get("activations") or _DEFAULTS[node.op] * 2]
    directions = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[node.get("direction", "forward")]
    per_direction = len(_DEFAULTS[node.op])
    outputs, states = [], []
    for number, direction in enumerate(directions):
        functions = [_activation(node, name) for name in names[number * per_direction :][:per_direction]]
        parts = _parts(weight[number], recurrence[number], None if bias is None else bias[number])
        width = int(parts["recurrent"].shape[-1])
        starts = (hidden, cell) if node.op == "LSTM" else (hidden,)
        state = tuple(_initial(start, number, batch_first, x, width) for start in starts)
        steps = []
        for step in range(int(x.shape[0]))[::direction]:
            state = _STEPS[node.op](node, x[step], state, parts, functions)
            steps.append(state[0])
        outputs.append(torch.stack(steps[::direction]))
        states.append(state)
    every = torch.stack(outputs, 1)
    last = [torch.stack([state[i] for state in states]) for i in range(len(states[0]))]
    if batch_first:
        every, last = every.permute(2, 0, 1, 3), [value.transpose(0, 1) for value in last]
    return (every, *last)


def _refuse(node: OnnxNode, steps: int, lengths: Value | None, peephole: Value | None) -> None:
    if lengths is not None and any(length != steps for length in whole(node, lengths, "sequence_lens")):
        raise node.refuse("sequence_lens", "sequences as long as the input")
    if peephole is not None:
        raise node.refuse("peepholes", "gates that do not read the cell")
    if node.get("clip") is not None or node.get("input_forget", 0):
        raise node.refuse("clip or input_forget", "gates as they are")


def _activation(node: OnnxNode, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name not in ACTIVATIONS:
        raise node.refuse(f"the activation {name}", ", ".join(ACTIVATIONS))
    return ACTIVATIONS[name]


def _parts(weight: torch.Tensor, recurrence: torch.Tensor, bias: Any) -> dict[str, Any]:
    """Weights of one direction; biases are one tensor in the file, and two where they are parameters."""
    half = recurrence.shape[0]
    biases = (None, None) if bias is None else (bias[:half], bias[half:]) if isinstance(bias, torch.Tensor) else bias
    return dict(zip(PARTS, (weight, recurrence, *biases), strict=True))


def _initial(start: Value | None, number: int, batch_first: bool, x: torch.Tensor, width: int) -> torch.Tensor:
    if start is None:
        return x.new_zeros(x.shape[1], width)
    value = tensor(start, x)
    return value[:, number] if batch_first else value[number]


def _read(x: torch.Tensor, hidden: torch.Tensor, parts: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the gates get from the input and from the hidden state."""
    linear = torch.nn.functional.linear
    return linear(x, parts["input"], parts["input_bias"]), linear(hidden, parts["recurrent"], parts["recurrent_bias"])


def _rnn_step(node: OnnxNode, x: torch.Tensor, state: State, parts: Mapping[str, Any], functions: list[Any]) -> State:
    ours, theirs = _read(x, state[0], parts)
    return (functions[0](ours + theirs),)


def _gru_step(node: OnnxNode, x: torch.Tensor, state: State, parts: Mapping[str, Any], functions: list[Any]) -> State:
    hidden = state[0]
    ours, theirs = _read(x, hidden, parts)
    (z, r, n), (hz, hr, hn) = ours.chunk(3, -1), theirs.chunk(3, -1)
    update, reset = functions[0](z + hz), functions[0](r + hr)
    if node.get("linear_before_reset", 0):
        candidate = functions[1](n + reset * hn)
    else:
        width = hidden.shape[-1]
        bias = parts["recurrent_bias"]
        own = torch.nn.functional.linear(
            reset * hidden, parts["recurrent"][2 * width :], None if bias is None else bias[2 * width :]
        )
        candidate = functions[1](n + own)
    return ((1 - update) * candidate + update * hidden,)


def _lstm_step(node: OnnxNode, x: torch.Tensor, state: State, parts: Mapping[str, Any], functions: list[Any]) -> State:
    hidden, cell = state
    ours, theirs = _read(x, hidden, parts)
    entry, output, forget, new = (ours + theirs).chunk(4, -1)
    cell = functions[0](forget) * cell + functions[0](entry) * functions[1](new)
    return functions[0](output) * functions[2](cell), cell


_STEPS: Mapping[str, Callable[..., State]] = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}
