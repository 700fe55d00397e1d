"""ONNX operations that move entries as they are: shapes, axes, parts, padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from slth.network.onnx_operators.base import (
    ANY_BATCH,
    LARGEST_MADE,
    Known,
    OnnxNode,
    Value,
    bounded,
    given,
    known,
    operation,
    positive,
    symbolic,
    tensor,
    whole,
)


@operation("Shape")
def shape(node: OnnxNode, x: Value) -> Known:
    """Sizes of all axes, or of some that follow each other."""
    return known([*x.shape][slice(node.get("start", 0), node.get("end"))])


@operation("Size")
def size(node: OnnxNode, x: Value) -> Known:
    """The number of entries."""
    return known(x.numel() if isinstance(x, torch.Tensor) else x.size)


@operation("Reshape")
def reshape(node: OnnxNode, x: Value, wanted: Value | None = None) -> torch.Tensor:
    """The same entries in another shape, in which 0 keeps a size and -1 is what is left."""
    x, sizes = tensor(x), given(node, wanted, "shape") or []
    if not node.get("allowzero", 0):
        # A symbolic size is none of an axis that is empty.
        sizes = [x.shape[axis] if isinstance(size, int) and size == 0 else size for axis, size in enumerate(sizes)]
    if node.get(ANY_BATCH) is not None:
        axis, sizes = node.get(ANY_BATCH)[0], list(node.get(ANY_BATCH)[1])
        sizes[axis] = sizes[axis] * (x.numel() // math.prod(sizes))
    return x.reshape(sizes)


@operation("Flatten")
def flatten(node: OnnxNode, x: Value) -> torch.Tensor:
    """Two axes: those before one, and the rest."""
    x = tensor(x)
    axis = positive(node.get("axis", 1), x.dim())
    if axis == 1:
        return x.flatten(1) if x.dim() > 1 else x[:, None]
    before: Any = 1
    for length in x.shape[:axis]:
        before = before * length
    return x.reshape(before, -1) if x.numel() else x.reshape(before, int(np.prod(x.shape[axis:])))


@operation("Squeeze")
def squeeze(node: OnnxNode, x: Value, axes: Value | None = None) -> torch.Tensor:
    """Without axes of one entry."""
    x, chosen = tensor(x), given(node, axes, "axes")
    if chosen is None:
        chosen = [axis for axis, length in enumerate(x.shape) if isinstance(length, int) and length == 1]
    return x.squeeze(tuple(chosen)) if len(chosen) != 1 else x.squeeze(chosen[0])


@operation("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Value, axes: Value | None = None) -> torch.Tensor:
    """With axes of one entry, counted in the result."""
    x, chosen = tensor(x), given(node, axes, "axes") or []
    for axis in sorted(positive(axis, x.dim() + len(chosen)) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


@operation("Transpose")
def transpose(node: OnnxNode, x: Value) -> torch.Tensor:
    """Axes in another order, by default the reverse one."""
    x = tensor(x)
    order = list(node.get("perm") or range(x.dim())[::-1])
    return x if order == [*range(x.dim())] else x.permute(order)


@operation("Concat")
def concat(node: OnnxNode, *parts: Value) -> torch.Tensor:
    """Parts one after the other along an axis."""
    like = next((part for part in parts if isinstance(part, torch.Tensor)), None)
    tensors, axis = [tensor(part, like) for part in parts], node.get("axis", 1)
    batch = node.get(ANY_BATCH)
    if batch is not None and batch != positive(axis, tensors[0].dim()):
        most = max(
            (part.shape[batch] for part in tensors), key=lambda size: size if isinstance(size, int) else math.inf
        )
        tensors = [_repeated(part, batch, most) for part in tensors]
    return torch.cat(tensors, axis)


def _repeated(part: torch.Tensor, axis: int, size: Any) -> torch.Tensor:
    """A part that is the same for all inputs, for each of them."""
    own = part.shape[axis]
    if not isinstance(own, int) or own == size:
        return part
    return part.expand([size if place == axis else length for place, length in enumerate(part.shape)])


@operation("Split")
def split(node: OnnxNode, x: Value, sizes: Value | None = None) -> tuple[torch.Tensor, ...]:
    """Parts along an axis, of given or of equal sizes."""
    x, axis = tensor(x), node.get("axis", 0)
    lengths = given(node, sizes, "split")
    if lengths is None:
        length, n = x.shape[axis], node.get("num_outputs", node.n_outputs)
        step = -(-length // n)
        lengths = [min(step, length - start) for start in range(0, step * n, step)]
    return torch.split(x, lengths, axis)


@operation("Slice")
def cut(
    node: OnnxNode,
    x: Value,
    starts: Value | None = None,
    ends: Value | None = None,
    axes: Value | None = None,
    steps: Value | None = None,
) -> torch.Tensor:
    """A part along some axes, with steps that may go backwards."""
    x = tensor(x)
    first, last = given(node, starts, "starts") or [], given(node, ends, "ends") or []
    chosen = given(node, axes, "axes") or [*range(len(first))]
    paces = given(node, steps, "steps") or [1] * len(first)
    for start, stop, axis, step in zip(first, last, chosen, paces, strict=True):
        x = _part(x, positive(axis, x.dim()), start, stop, step)
    return x


def _part(x: torch.Tensor, axis: int, start: Any, stop: Any, step: int) -> torch.Tensor:
    length = x.shape[axis]
    if step > 0:
        unlimited = isinstance(stop, int) and (stop >= 2**31 - 1 or (isinstance(length, int) and stop >= length))
        if isinstance(start, int) and start == 0 and unlimited and step == 1:
            return x
        return x[(slice(None),) * axis + (slice(start, None if unlimited else stop, step),)]
    entries = torch.tensor(range(*slice(_backwards(start, length), _backwards(stop, length), step).indices(length)))
    return x.index_select(axis, entries.to(torch.int64).to(x.device))


def _backwards(edge: int, length: int) -> int | None:
    """An edge of a part that is read backwards; ONNX's smallest number is the end behind the first entry."""
    return None if edge < -length else edge


@operation("Expand")
def expand(node: OnnxNode, x: Value, wanted: Value) -> torch.Tensor:
    """Broadcast with a shape, either way."""
    x, sizes = tensor(x), bounded(node, whole(node, wanted, "a shape"))
    rank = max(x.dim(), len(sizes))
    own: list[Any] = [1] * (rank - x.dim()) + [*x.shape]
    sizes = [1] * (rank - len(sizes)) + sizes
    result = [mine if isinstance(size, int) and size == 1 else size for mine, size in zip(own, sizes, strict=True)]
    return x.expand(result)


@operation("Pad")
def pad(
    node: OnnxNode, x: Value, widths: Value | None = None, value: Value | None = None, axes: Value | None = None
) -> torch.Tensor:
    """Entries around the input: a constant, its edge, its reflection, or its other end."""
    x = tensor(x)
    pads = given(node, widths, "pads") or list(node.get("paddings", ()))
    chosen = [*range(x.dim())] if axes is None else whole(node, axes, "axes")
    pairs = {
        positive(axis, x.dim()): pair
        for axis, pair in zip(chosen, zip(pads[: len(chosen)], pads[len(chosen) :], strict=True), strict=True)
    }
    mode = node.get("mode", "constant")
    if mode == "constant":
        return torch.nn.functional.pad(x, _last_axes_first(pairs, x.dim()), value=_fill(node, value))
    return _mirrored(node, x, pairs, mode)


def _fill(node: OnnxNode, value: Value | None) -> Any:
    if isinstance(value, torch.Tensor):
        raise node.refuse("a value that depends on the network's input", "a constant value")
    return node.get("value", 0.0) if value is None or not value.size else value.item()


def _last_axes_first(pairs: dict[int, tuple[Any, Any]], rank: int) -> list[Any]:
    """Torch's order, without axes at the front that are left alone."""
    used = [axis for axis, pair in pairs.items() if any(not isinstance(w, int) or w != 0 for w in pair)]
    return [w for axis in range(rank - 1, min(used, default=rank) - 1, -1) for w in pairs.get(axis, (0, 0))]


def _mirrored(node: OnnxNode, x: torch.Tensor, pairs: dict[int, tuple[int, int]], mode: str) -> torch.Tensor:
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise node.refuse(f"the mode {mode!r}", "constant, reflect, edge or wrap")
    spatial = [pairs.get(axis, (0, 0)) for axis in range(2, x.dim())]
    # Torch knows such padding of spatial axes alone, within one length of the input, and never less than none.
    fits = len(spatial) in (1, 2, 3) and not any(map(any, (pairs.get(0, (0,)), pairs.get(1, (0,)))))
    if fits and all(0 <= w < length for pair, length in zip(spatial, x.shape[2:], strict=True) for w in pair):
        return torch.nn.functional.pad(x, [w for pair in reversed(spatial) for w in pair], names[mode])
    for axis, (before, after) in pairs.items():
        if not before and not after:
            continue
        cut_before, cut_after = max(0, -before), max(0, -after)
        entries = np.arange(x.shape[axis])[cut_before : x.shape[axis] - cut_after]
        places = np.pad(entries, (max(0, before), max(0, after)), mode=mode)  # type: ignore[call-overload]
        x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


@operation("ConstantOfShape")
def constant_of_shape(node: OnnxNode, wanted: Value) -> Value:
    """One number everywhere; known where it is a whole one and its shape has known sizes."""
    sizes = bounded(node, whole(node, wanted, "a shape"))
    fill = node.get("value", np.zeros(1, np.float32)).reshape(-1)[:1]
    plain = all(isinstance(size, int) for size in sizes)
    if plain and fill.dtype.kind in "iub" and np.prod(sizes) <= LARGEST_MADE:
        return np.full(sizes, fill[0])
    return torch.full(sizes, fill[0].item(), dtype=torch.from_numpy(fill.copy()).dtype)


@operation("Range")
def number_range(node: OnnxNode, start: Value, limit: Value, delta: Value) -> Value:
    """Numbers at equal distances."""
    ends = [start, limit, delta]
    if any(isinstance(end, torch.Tensor) for end in ends):
        raise node.refuse("ends that depend on the network's input", "ends that depend on shapes at most")
    numbers = [end.reshape(-1)[0] for end in ends if not isinstance(end, torch.Tensor)]
    if any(not isinstance(end, torch.Tensor) and symbolic(end) for end in ends):
        return torch.arange(*numbers)
    count = max(0, int(np.ceil((numbers[1] - numbers[0]) / numbers[2])))
    bounded(node, [count])
    if count > LARGEST_MADE:
        return torch.arange(*(number.item() for number in numbers), dtype=tensor(np.asarray(numbers[0])).dtype)
    made: Known = (numbers[0] + np.arange(count) * numbers[2]).astype(np.asarray(numbers[0]).dtype)
    return made


@operation("Trilu")
def triangle(node: OnnxNode, x: Value, k: Value | None = None) -> torch.Tensor:
    """The upper or the lower triangle of matrices."""
    (diagonal,) = whole(node, k, "a diagonal") or [0]
    return torch.triu(tensor(x), diagonal) if node.get("upper", 1) else torch.tril(tensor(x), diagonal)


@operation("EyeLike")
def eye_like(node: OnnxNode, x: Value) -> torch.Tensor:
    """Ones on a diagonal."""
    from slth.network.onnx_operators.arithmetic import DTYPES

    x = tensor(x)
    dtype = DTYPES.get(node.get("dtype"), x.dtype)
    ones = torch.ones(x.shape, dtype=torch.int64)
    k = node.get("k", 0)
    return (torch.triu(ones, k) - torch.triu(ones, k + 1)).to(dtype)
