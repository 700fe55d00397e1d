"""What the functions for ONNX operations share: their tables, the node they read, and the two kinds of values.

A value is a tensor, or an array that is known while the network is traced: constants of few entries, and what is
computed from shapes. Known arrays may hold symbolic sizes (``torch.SymInt``), as objects; that is how the sizes of a
dynamic batch go through chains of Shape, Gather, Concat and Reshape without becoming data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.errors import UnsupportedError

Known = NDArray[Any]
Value = torch.Tensor | Known
Function = Callable[..., Any]

FUNCTIONS: dict[str, Function] = {}
"""By ONNX operation: (node, *inputs) -> output, or a tuple of them; an input that is left out is None."""
ON_KNOWN: dict[str, Function] = {}
"""The same where all inputs are known arrays; gives NotImplemented where only tensors will do."""
PARAMETERS: dict[str, tuple[str, ...]] = {}
"""What inputs that are constants are called in the state dict, by operation; "" where that is left to their place."""

ANY_BATCH = "any batch"
"""Attribute of operations of a file for one input, which are to work on several; :mod:`slth.network.onnx_batch`."""

LARGEST_ENTRIES = 1 << 31
"""Entries of a tensor that a constant may ask for (chosen: 8 GiB of float32)."""
LARGEST_KNOWN = 1 << 16
"""Entries of an array of whole numbers in the file that counts as known where it could as well be a tensor (chosen)."""
LARGEST_MADE = 1 << 10
"""The same for arrays made from shapes (chosen: less than the batch with which networks are traced)."""


@dataclass(frozen=True)
class OnnxNode:
    """One operation of the file.

    Attributes
    ----------
    where : str
        Its name for messages.
    op : str
        The ONNX operation.
    version : int
        Version of the operation set that the file names.
    attributes : mapping
        Numbers, strings, lists, and tensors as arrays.
    n_outputs : int
        How many of its outputs the file gives a name.
    n_used : int
        Up to which of them something reads them.
    """

    where: str
    op: str
    version: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int = 1
    n_used: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is where the file leaves it out."""
        return self.attributes.get(name, default)

    def refuse(self, got: str, need: str, remedy: str = "") -> UnsupportedError:
        """The error for a form of the operation that is not covered."""
        return UnsupportedError(self.where, f"{self.op} with {got}", need, remedy)


def operation(*names: str, parameters: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Register a function for ONNX operations."""

    def register(function: Function) -> Function:
        for name in names:
            FUNCTIONS[name], PARAMETERS[name] = function, parameters
        return function

    return register


def on_known(*names: str) -> Callable[[Function], Function]:
    """Register a function for ONNX operations on known arrays."""

    def register(function: Function) -> Function:
        ON_KNOWN.update(dict.fromkeys(names, function))
        return function

    return register


def is_known(value: object) -> bool:
    """Whether a value is a known array (or left out)."""
    return not isinstance(value, torch.Tensor)


def known(entries: Any) -> Known:
    """An array of whole numbers from nested lists or an array of objects; of objects if some are symbolic."""
    array = np.asarray(entries, dtype=object)
    if all(isinstance(entry, int | np.integer) and not isinstance(entry, bool) for entry in array.flat):
        return array.astype(np.int64)
    return array


def symbolic(array: Known) -> bool:
    """Whether an array holds symbolic sizes."""
    return array.dtype == object


def tensor(value: Value, like: torch.Tensor | None = None) -> torch.Tensor:
    """A value as a tensor, on the device of ``like``."""
    if isinstance(value, torch.Tensor):
        return value
    if symbolic(value):
        entries = [torch.scalar_tensor(entry, dtype=torch.int64) for entry in value.flat]
        made = torch.stack(entries).reshape(value.shape)
    else:
        made = torch.from_numpy(np.array(value, order="C"))
    return made if like is None else made.to(like.device)


def number(value: Value, like: torch.Tensor) -> Any:
    """A Python number where a known array is one that broadcasts against ``like``; otherwise a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    if value.size == 1 and value.ndim <= like.dim():
        entry = value.reshape(-1)[0]
        return entry if symbolic(value) else entry.item()
    return tensor(value, like)


def numbers(node: OnnxNode, *values: Value) -> tuple[Any, ...]:
    """Operands of an operation entry by entry: Python numbers beside tensors, tensors where all are known."""
    like = next((value for value in values if isinstance(value, torch.Tensor)), None)
    if like is None:
        return tuple(tensor(value) for value in values)
    return tuple(number(value, like) for value in values)


def whole(node: OnnxNode, value: Value | None, what: str) -> list[Any]:
    """Whole numbers of an input that must be known.

    Raises
    ------
    UnsupportedError
        If they depend on the network's input.
    """
    if value is None:
        return []
    if isinstance(value, torch.Tensor):
        raise node.refuse(f"{what} that depend on the network's input", f"{what} that depend on shapes at most")
    entries = value.reshape(-1).tolist()
    return [int(entry) if isinstance(entry, float) else entry for entry in entries]


def given(node: OnnxNode, value: Value | None, name: str) -> list[Any] | None:
    """Whole numbers that older files have as an attribute and newer ones as an input; None where neither is there."""
    if value is not None:
        return whole(node, value, name)
    attribute = node.get(name)
    if attribute is None:
        return None
    return list(attribute) if isinstance(attribute, list | tuple) else [attribute]


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def bounded(node: OnnxNode, shape: Sequence[Any]) -> list[Any]:
    """A shape that the file asks for, if memory may hold it.

    Raises
    ------
    UnsupportedError
        If it is too large, or has a negative size.
    """
    sizes = [size for size in shape if isinstance(size, int)]
    if any(size < 0 for size in sizes) or math.prod(sizes) > LARGEST_ENTRIES:
        raise node.refuse(f"a shape {sizes}", f"sizes from 0, and at most {LARGEST_ENTRIES:,} entries")
    return list(shape)


def single(node: OnnxNode, what: str) -> None:
    """Refuse outputs besides the first.

    Raises
    ------
    UnsupportedError
        If something reads them.
    """
    if node.n_used > 1:
        raise node.refuse(what, "its first output alone")
