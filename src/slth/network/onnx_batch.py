"""A network that its file has for one input, made one for any number of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from slth.network.onnx_network import OnnxNetwork, Operation
from slth.network.onnx_operators.base import ANY_BATCH, OnnxNode

Shape = tuple[int, ...]
Shapes = tuple[list[Shape], Shape]
"""Of the tensors that an operation reads, and of the first one that it gives."""

_TRIALS = 3
"""Inputs on which a network for one is tried on several (chosen: a factor that few sizes have)."""


def for_any_batch(network: OnnxNetwork, example: torch.Tensor) -> bool:
    """Let a network that its file has for one input work on several, if it gives each what it gives that one alone.

    The file's numbers say where a size is 1, or one of several that are multiplied, because there is one input. Run on
    one input and on several, side by side, every value shows which axis goes by their number, and reshapes that have
    the sizes of one input as numbers get it at the same place among the entries.

    Parameters
    ----------
    network : OnnxNetwork
        Left as it was where it does not work.
    example : tensor, (1, *input shape)
    """
    drawn = torch.sin(torch.arange(_TRIALS * example.numel(), dtype=torch.float64))
    inputs = drawn.reshape(_TRIALS, *example.shape[1:]).to(example.dtype)
    operations = [module for module in network.modules() if isinstance(module, Operation)]
    nodes = [operation.node for operation in operations]
    with torch.no_grad():
        shapes = _recorded(network, operations, inputs[:1])
        alone = [_whole(network(entry[None])) for entry in inputs]
        try:
            _adapt(network, operations, shapes, inputs)
            together = _whole(network(inputs))
            again = [_whole(network(entry[None])) for entry in inputs]
        except (RuntimeError, ValueError):
            together, again = None, []
    same = together is not None and _close(together, torch.cat(alone)) and all(map(_close, again, alone))
    if not same:
        for operation, node in zip(operations, nodes, strict=True):
            operation.node = node
    return same


def _recorded(network: OnnxNetwork, operations: Sequence[Operation], x: torch.Tensor) -> dict[Operation, Shapes]:
    """Shapes that every operation reads and gives."""
    shapes: dict[Operation, Shapes] = {}

    def record(operation: Any, inputs: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        shapes[operation] = ([tuple(value.shape) for value in _tensors(inputs)], tuple(first.shape))

    handles = [operation.register_forward_hook(record) for operation in operations]
    network(x)
    for handle in handles:
        handle.remove()
    return shapes


def _tensors(values: Sequence[Any]) -> list[torch.Tensor]:
    return [value for value in values if isinstance(value, torch.Tensor)]


def _adapt(
    network: OnnxNetwork, operations: Sequence[Operation], alone: dict[Operation, Shapes], x: torch.Tensor
) -> None:
    """Run on several inputs, and tell operations about them before each runs.

    Of a value one axis is longer than for one input. Inputs are its outermost part, but where a reshape put them behind
    something else: how many entries of the axis lie before them is kept as an attribute of the tensor.
    """

    def tell(operation: Any, inputs: tuple[Any, ...]) -> None:
        rule = _RULES.get(operation.node.op)
        if rule is not None and operation in alone:
            operation.node = rule(operation.node, alone[operation], _tensors(inputs))

    def carry(operation: Any, inputs: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if operation not in alone or not isinstance(first, torch.Tensor):
            return
        inner = operation.node.get(INNER, 1)
        if operation.node.op != "Reshape":
            inner = max((_inner(value) for value in _tensors(inputs)), default=1)
        setattr(first, INNER, inner)

    handles = [operation.register_forward_pre_hook(tell) for operation in operations]
    handles += [operation.register_forward_hook(carry) for operation in operations]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()


INNER = "entries before the inputs"
"""Attribute of a reshape and of its output: entries of the grown axis that lie before the inputs."""


def _inner(value: torch.Tensor) -> int:
    return int(getattr(value, INNER, 1))


def _grown(one: Shape, several: torch.Tensor) -> int | None:
    """The axis that goes by the number of inputs."""
    pairs = zip(one, several.shape, strict=True)
    return next((axis for axis, (size, other) in enumerate(pairs) if size != other), None)


def _reshape(node: OnnxNode, alone: Shapes, several: Sequence[torch.Tensor]) -> OnnxNode:
    """The output for one input, and which axis of it the number of inputs multiplies: as many entries lie before it."""
    (one, *_), wanted = alone
    axis = _grown(one, several[0])
    if axis is None or not wanted:
        return node
    before = math.prod(one[:axis]) * _inner(several[0])
    free = [place for place, size in enumerate(wanted) if size == 1 and math.prod(wanted[:place]) == before]
    if free:
        return _told(node, (free[0], wanted), 1)
    place = next((place for place in range(len(wanted)) if math.prod(wanted[: place + 1]) > before), len(wanted) - 1)
    inner = before // math.prod(wanted[:place])
    if inner == 1 and 0 < place == len(wanted) - 1:
        # Between two axes the inputs belong to either; the last one is that of features.
        place, inner = place - 1, wanted[place - 1]
    return _told(node, (place, wanted), inner)


def _common(node: OnnxNode, alone: Shapes, several: Sequence[torch.Tensor]) -> OnnxNode:
    """The axis on which some of the inputs go by their number: those that do not are repeated."""
    axes = {_grown(one, other) for one, other in zip(alone[0], several, strict=True)} - {None}
    return _told(node, axes.pop(), 1) if len(axes) == 1 else node


def _told(node: OnnxNode, what: Any, inner: int) -> OnnxNode:
    return replace(node, attributes={**node.attributes, ANY_BATCH: what, INNER: inner})


_RULES: dict[str, Callable[[OnnxNode, Shapes, Sequence[torch.Tensor]], OnnxNode]] = {
    "Reshape": _reshape,
    "Concat": _common,
    "Resize": _common,
}


def _whole(outputs: Any) -> torch.Tensor:
    """All outputs as one tensor, (inputs, entries)."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([part.reshape(len(part), -1).double() for part in parts], 1)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether outputs are equal but for what rounding in float32, or half of that, explains."""
    size = float(other.abs().max()) if other.numel() else 0.0
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=1e-3 * size, equal_nan=True))
