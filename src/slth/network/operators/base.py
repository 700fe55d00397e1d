"""What every operation says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slth.network.calls import Call
from slth.network.graph import Attribute, Layout, Sign


class Operator:
    """An operation without weights; subclasses with weights are in :mod:`slth.network.operators.affine`."""

    name: str
    aten: tuple[str, ...] = ()
    """Names (without overload) of the torch operations that this one stands for."""
    kinds: Mapping[str, type] = {}
    """Attribute names and their types; a ``tuple`` is one of whole numbers, a ``float`` is finite."""

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Attributes of a traced call on an input of ``shape`` (no batch axis); refuses what is not covered."""
        return {}

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The torch module that evaluates the operation on a batch."""
        raise NotImplementedError

    def sign(self, attributes: Mapping[str, Any], sign: Sign) -> Sign:
        """Sign of the output, given the input's."""
        return sign

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """Sign of the output, given those of all that it reads."""
        return self.sign(attributes, signs[0])

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """Shape of the output, given those of all that it reads.

        Raises
        ------
        ValueError
            If the operation does not fit them.
        """
        if len(sources) != 1:
            raise ValueError(f"{self.name} of {len(sources)} values instead of one")
        source = sources[0]
        if source.batched:
            return Layout(self.shape(attributes, source.shape))
        # Any first axis will do, such as one of all time steps of all examples.
        if len(source.shape) < 2 or min(source.shape[1:]) < 1:
            raise ValueError(f"{self.name} of a value without a batch axis in front, {source.shape}")
        return Layout((source.shape[0], *self.shape(attributes, source.rest)), batched=False)

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Output shape without the batch axis, by arithmetic: nothing is allocated for a shape that a file claims.

        Raises
        ------
        ValueError
            If the operation does not fit the shape.
        """
        raise NotImplementedError

    def check(self, attributes: dict[str, Any]) -> dict[str, Attribute]:
        """Attributes read from a file: names and types checked, lists made tuples."""
        if set(attributes) != set(self.kinds):
            raise ValueError(f"{self.name}: attributes {sorted(attributes)} instead of {sorted(self.kinds)}")
        return {key: _checked(f"{self.name}.{key}", attributes[key], kind) for key, kind in self.kinds.items()}


def _checked(where: str, value: Any, kind: type) -> Attribute:
    result: Attribute = tuple(value) if kind is tuple and isinstance(value, list) else value
    if type(result) is not kind:
        raise ValueError(f"{where}: {value!r} is not a {kind.__name__}")
    if isinstance(result, tuple) and any(type(entry) is not int for entry in result):
        raise ValueError(f"{where}: {value!r} holds something that is not a whole number")
    if isinstance(result, float) and not math.isfinite(result):
        raise ValueError(f"{where}: {value!r} is not finite")
    return result


def spatial(value: Any, n: int) -> tuple[int, ...]:
    """``n`` whole numbers from one or ``n`` of them, as torch's pooling and convolution arguments allow."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def slide(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Positions of a window along each spatial axis, as torch counts them.

    Raises
    ------
    ValueError
        If the numbers do not belong together or no window fits.
    """
    n = len(sizes)
    if not n == len(kernel) == len(stride) == len(dilation) == len(padding):
        raise ValueError(f"a window {kernel} with stride {stride} and dilation {dilation} on {n} axes")
    if min((*kernel, *stride, *dilation)) < 1 or min(min(pair) for pair in padding) < 0:
        raise ValueError(f"a window {kernel} with stride {stride}, dilation {dilation} and padding {padding}")
    counts = []
    for size, k, step, d, (before, after) in zip(sizes, kernel, stride, dilation, padding, strict=True):
        room = size + before + after - d * (k - 1) - 1
        count = (room + (step - 1 if ceil_mode else 0)) // step + 1
        # A window that would begin in the padding after the input is left out.
        if ceil_mode and (count - 1) * step >= size + before:
            count -= 1
        if count < 1:
            raise ValueError(f"a window {kernel} with dilation {dilation} and padding {padding} on {sizes}")
        counts.append(count)
    return tuple(counts)
