"""ONNX operations on arrays that are known while the network is traced: what becomes of shapes.

Arrays of objects hold symbolic sizes; NumPy's arithmetic and indexing work on them as on numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from slth.network.onnx_operators.arithmetic import NUMPY
from slth.network.onnx_operators.base import (
    LARGEST_MADE,
    Known,
    OnnxNode,
    bounded,
    given,
    known,
    on_known,
    symbolic,
    whole,
)


def tidy(array: Any) -> Known:
    """An array of whole numbers where no entry is symbolic any more."""
    array = np.asarray(array)
    return known(array) if symbolic(array) else array


def _quotient(a: Known, b: Known) -> Known:
    if symbolic(a) or symbolic(b):
        return a // b
    if a.dtype.kind == "f":
        return a / b
    # Whole numbers are divided towards 0.
    quotient: Known = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return quotient


def _compared(function: Callable[[Any, Any], Any], a: Known, b: Known) -> Known:
    if not symbolic(a) and not symbolic(b):
        return np.asarray(function(a, b))
    pairs = np.broadcast(a, b)
    return np.array([bool(function(x, y)) for x, y in pairs], dtype=np.bool_).reshape(pairs.shape)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _quotient,
    "Mod": lambda a, b: a % b,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
    "Neg": lambda a: -a,
    "Abs": np.abs,
    "Identity": lambda a: a,
    "Equal": functools.partial(_compared, lambda x, y: x == y),
    "Less": functools.partial(_compared, lambda x, y: x < y),
    "LessOrEqual": functools.partial(_compared, lambda x, y: x <= y),
    "Greater": functools.partial(_compared, lambda x, y: x > y),
    "GreaterOrEqual": functools.partial(_compared, lambda x, y: x >= y),
}
OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda a: 1 / a,
    "Pow": lambda a, b: (a**b).astype(a.dtype),
}
"""What symbolic sizes do not go through."""


def _arithmetic(function: Callable[..., Any], node: OnnxNode, *arrays: Known) -> Any:
    result = np.asarray(function(*arrays))
    if not any(map(symbolic, arrays)) and result.dtype.kind in "iuf" and len({array.dtype for array in arrays}) == 1:
        return result.astype(arrays[0].dtype)
    return tidy(result)


def _of_numbers(function: Callable[..., Any], node: OnnxNode, *arrays: Known) -> Any:
    return NotImplemented if any(map(symbolic, arrays)) else _arithmetic(function, node, *arrays)


for _name, _function in ARITHMETIC.items():
    on_known(_name)(functools.partial(_arithmetic, _function))
for _name, _function in OF_NUMBERS.items():
    on_known(_name)(functools.partial(_of_numbers, _function))


def _extreme(least: bool, node: OnnxNode, *arrays: Known) -> Known:
    if any(map(symbolic, arrays)):
        pick = torch.sym_min if least else torch.sym_max
        return tidy(functools.reduce(np.frompyfunc(pick, 2, 1), arrays))
    return np.asarray(functools.reduce(np.minimum if least else np.maximum, arrays))


on_known("Min")(functools.partial(_extreme, True))
on_known("Max")(functools.partial(_extreme, False))


@on_known("Cast")
def cast(node: OnnxNode, x: Known) -> Any:
    """Entries in another type; symbolic sizes stay whole numbers, or become tensors."""
    dtype = NUMPY.get(node.get("to"))
    if dtype is None:
        return NotImplemented
    if symbolic(x):
        return x if dtype in ("i4", "i8") else NotImplemented
    return x.astype(dtype)


@on_known("Gather")
def gather(node: OnnxNode, x: Known, places: Known) -> Any:
    """Entries at some places."""
    return NotImplemented if symbolic(places) else tidy(np.take(x, places.astype(np.int64), node.get("axis", 0)))


@on_known("Concat")
def concat(node: OnnxNode, *parts: Known) -> Known:
    """Parts one after the other; whole numbers of different width count as int64."""
    return tidy(np.concatenate(parts, axis=node.get("axis", 1)))


@on_known("Slice")
def cut(node: OnnxNode, x: Known, *edges: Known | None) -> Any:
    """A part along some axes."""
    if any(edge is not None and symbolic(edge) for edge in edges):
        return NotImplemented
    starts, ends, axes, steps = [*edges, None, None, None, None][:4]
    first, last = given(node, starts, "starts") or [], given(node, ends, "ends") or []
    chosen = given(node, axes, "axes") or [*range(len(first))]
    paces = given(node, steps, "steps") or [1] * len(first)
    index = [slice(None)] * x.ndim
    for start, stop, axis, step in zip(first, last, chosen, paces, strict=True):
        length = x.shape[axis]
        index[axis] = slice(start, None if step < 0 and stop < -length else stop, step)
    return tidy(x[tuple(index)])


@on_known("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Known, axes: Known | None = None) -> Known:
    """With axes of one entry."""
    return np.expand_dims(x, tuple(given(node, axes, "axes") or ()))


@on_known("Squeeze")
def squeeze(node: OnnxNode, x: Known, axes: Known | None = None) -> Known:
    """Without axes of one entry."""
    chosen = given(node, axes, "axes")
    return np.squeeze(x, None if chosen is None else tuple(chosen))


@on_known("Reshape")
def reshape(node: OnnxNode, x: Known, wanted: Known | None = None) -> Any:
    """The same entries in another shape."""
    sizes = given(node, wanted, "shape") or []
    if not all(isinstance(size, int) for size in sizes):
        return NotImplemented
    zeros = not node.get("allowzero", 0)
    return x.reshape([x.shape[axis] if zeros and size == 0 else size for axis, size in enumerate(sizes)])


@on_known("Flatten")
def flatten(node: OnnxNode, x: Known) -> Known:
    """Two axes."""
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


@on_known("Transpose")
def transpose(node: OnnxNode, x: Known) -> Known:
    """Axes in another order."""
    return np.transpose(x, node.get("perm"))


@on_known("Expand")
def expand(node: OnnxNode, x: Known, wanted: Known) -> Any:
    """Broadcast with a shape."""
    sizes = bounded(node, whole(node, wanted, "a shape"))
    if symbolic(wanted) or math.prod(sizes) > LARGEST_MADE:
        return NotImplemented
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes))).copy()


@on_known("Where")
def where(node: OnnxNode, condition: Known, a: Known, b: Known) -> Known:
    """a where the condition holds, else b."""
    return tidy(np.where(condition, a, b))


@on_known("Tile")
def tile(node: OnnxNode, x: Known, repeats: Known) -> Any:
    """The array again and again."""
    times = whole(node, repeats, "repeats")
    if symbolic(repeats) or x.size * math.prod(times) > LARGEST_MADE:
        return NotImplemented
    return np.tile(x, times)


@on_known("Split")
def split(node: OnnxNode, x: Known, sizes: Known | None = None) -> Any:
    """Parts along an axis."""
    axis, lengths = node.get("axis", 0), given(node, sizes, "split")
    if lengths is None:
        n = node.get("num_outputs", node.n_outputs)
        lengths = [-(-x.shape[axis] // n)] * (n - 1)
        return tuple(tidy(part) for part in np.split(x, np.cumsum(lengths), axis))
    return tuple(tidy(part) for part in np.split(x, np.cumsum(lengths)[:-1], axis))


def _reduced(function: Callable[..., Any], node: OnnxNode, x: Known, axes: Known | None = None) -> Known:
    chosen = given(node, axes, "axes")
    if not chosen and node.get("noop_with_empty_axes", 0):
        return x
    along = tuple(chosen) if chosen else tuple(range(x.ndim))
    result = np.asarray(function(x, axis=along, keepdims=bool(node.get("keepdims", 1))))
    return tidy(result) if symbolic(x) else result.astype(x.dtype)


on_known("ReduceProd")(functools.partial(_reduced, np.prod))
on_known("ReduceSum")(functools.partial(_reduced, np.sum))


def _reduced_numbers(function: Callable[..., Any], node: OnnxNode, x: Known, axes: Known | None = None) -> Any:
    return NotImplemented if symbolic(x) else _reduced(function, node, x, axes)


on_known("ReduceMax")(functools.partial(_reduced_numbers, np.max))
on_known("ReduceMin")(functools.partial(_reduced_numbers, np.min))
