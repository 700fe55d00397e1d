"""An ONNX graph as a torch module: one child for each node, constants as parameters under the names of the file."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.onnx_operators import FUNCTIONS, ON_KNOWN, Known, OnnxNode
from slth.network.onnx_operators.base import Value, is_known, tensor

Held = str | tuple[Any, ...]
"""Which parameters of an operation an input is: the name of one, or names nested as the operation wants them."""


@dataclass(frozen=True)
class Slot:
    """One input of an operation: what was computed before, parameters of its own, or a known array.

    Attributes
    ----------
    value : str
        Name of the value; "" where it is none.
    held : str or tuple
        Names of parameters of the operation itself.
    known : array or None
        With neither of the others; None is an input that is left out.
    """

    value: str = ""
    held: Held = ""
    known: Known | None = None


class Operation(torch.nn.Module):
    """One node. Its subclasses only differ in their names, by which messages and summaries call them."""

    def __init__(self, node: OnnxNode, slots: Sequence[Slot]) -> None:
        super().__init__()
        self.node, self.slots = node, tuple(slots)

    def forward(self, *values: Value) -> Any:
        """Outputs from the inputs that are values, in order."""
        waiting = iter(values)
        inputs = [self._input(slot, waiting) for slot in self.slots]
        if inputs and all(map(is_known, inputs)) and self.node.op in ON_KNOWN:
            result = ON_KNOWN[self.node.op](self.node, *inputs)
            if result is not NotImplemented:
                return result
        return FUNCTIONS[self.node.op](self.node, *inputs)

    def _input(self, slot: Slot, values: Iterator[Value]) -> Any:
        if slot.value:
            return next(values)
        return self._held(slot.held) if slot.held else slot.known

    def _held(self, names: Held) -> Any:
        if isinstance(names, str):
            return operator.attrgetter(names)(self) if names else None
        return [self._held(name) for name in names]

    def extra_repr(self) -> str:
        """The numbers of the node."""
        return ", ".join(f"{key}={value}" for key, value in self.node.attributes.items() if not hasattr(value, "shape"))


class Condition(torch.nn.Module):
    """If: one of two graphs, by a condition that is known while the network is traced."""

    def __init__(self, where: str, branches: Sequence[OnnxGraph], captured: Sequence[str]) -> None:
        super().__init__()
        self.where, self.captured = where, tuple(captured)
        self.otherwise, self.then = branches

    def forward(self, condition: Value, *values: Value) -> Any:
        """What the chosen graph gives."""
        if not is_known(condition):
            raise UnsupportedError(
                self.where, "a condition that depends on the network's input", "one of shapes at most"
            )
        chosen = self.then if bool(condition.reshape(-1)[0]) else self.otherwise
        results = chosen.run(dict(zip(self.captured, values, strict=True)))
        return results[0] if len(results) == 1 else tuple(results)


@functools.cache
def operation_class(op: str) -> type[Operation]:
    """The class of an operation's nodes."""
    return type(op, (Operation,), {})


@dataclass(frozen=True)
class Step:
    """One evaluation: a module's path, names of its inputs and outputs, and of values that nothing reads after it."""

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()


class OnnxGraph(torch.nn.Module):
    """Operations in their order.

    Attributes
    ----------
    steps : tuple of Step
    outputs : tuple of str
        Names of the values that it gives.
    tensors : mapping of str to str
        Values that are parameters or buffers, by the names that steps have for them.
    arrays : mapping of str to array
        Outputs that are known arrays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: tuple[Step, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.tensors: dict[str, str] = {}
        self.arrays: dict[str, Known] = {}

    def run(self, values: Mapping[str, Value]) -> list[Value]:
        """Outputs from the values that the graph reads, by name."""
        here: dict[str, Any] = {**self.arrays, **values}
        here |= {name: operator.attrgetter(path)(self) for name, path in self.tensors.items()}
        for step in self.steps:
            results = self.get_submodule(step.path)(*(here[name] for name in step.inputs))
            results = results if isinstance(results, tuple) else (results,)
            here.update((name, result) for name, result in zip(step.outputs, results, strict=False) if name)
            for name in step.done:
                here.pop(name, None)
        return [here[name] for name in self.outputs]


class OnnxNetwork(OnnxGraph):
    """A whole file's graph, of one input."""

    def __init__(self, input_name: str) -> None:
        super().__init__()
        self.input_name = input_name

    def forward(self, x: torch.Tensor) -> Any:
        """The output, or a tuple of them."""
        results = [tensor(value) for value in self.run({self.input_name: x})]
        return results[0] if len(results) == 1 else tuple(results)


def with_last_uses(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[Step, ...]:
    """The steps, each with the values that no later one reads."""
    last = {name: index for index, step in enumerate(steps) for name in (*step.inputs, *step.outputs)}
    done: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in outputs:
            done.setdefault(index, []).append(name)
    return tuple(
        Step(step.path, step.inputs, step.outputs, tuple(done.get(index, ()))) for index, step in enumerate(steps)
    )
