"""ONNX operations that pick entries by their places, or put some there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slth.network.onnx_operators.base import (
    OnnxNode,
    Value,
    is_known,
    operation,
    positive,
    symbolic,
    tensor,
    whole,
)


def _from_front(places: torch.Tensor, length: Any) -> torch.Tensor:
    return torch.where(places < 0, places + length, places).to(torch.int64)


@operation("Gather", parameters=("weight",))
def gather(node: OnnxNode, x: Value, places: Value) -> torch.Tensor:
    """Slices of x at some places along an axis; rows of a table are an embedding."""
    x = tensor(x)
    axis = positive(node.get("axis", 0), x.dim())
    if not isinstance(places, torch.Tensor):
        if places.ndim == 0:
            return x.select(axis, places.item())
        if not symbolic(places):
            length = int(x.shape[axis]) if (places < 0).any() else 0
            chosen = torch.from_numpy(np.where(places < 0, places + length, places).astype(np.int64)).to(x.device)
            picked = x.index_select(axis, chosen.reshape(-1))
            return picked if places.ndim == 1 else picked.unflatten(axis, places.shape)
        places = tensor(places, x)
    if axis == 0 and x.dim() == 2 and x.is_floating_point():
        # Entries of a table that count from its end are none of a trained embedding; torch refuses them.
        return torch.nn.functional.embedding(places, x)
    index = _from_front(places, x.shape[axis])
    if not index.dim():
        return x.index_select(axis, index.reshape(1)).squeeze(axis)
    return torch.unflatten(x.index_select(axis, index.reshape(-1)), axis, [*index.shape])


@operation("GatherElements")
def gather_elements(node: OnnxNode, x: Value, places: Value) -> torch.Tensor:
    """One entry along an axis for each place."""
    x = tensor(x)
    axis = node.get("axis", 0)
    return x.gather(axis, _from_front(tensor(places, x), x.shape[axis]))


@operation("GatherND")
def gather_nd(node: OnnxNode, x: Value, places: Value) -> torch.Tensor:
    """Slices of x at places of several axes."""
    x, index, batch = tensor(x), tensor(places).to(torch.int64), node.get("batch_dims", 0)
    index = index.to(x.device)
    parts = [_from_front(part, x.shape[batch + i]) for i, part in enumerate(index.unbind(-1))]
    leading = [
        torch.arange(size, device=x.device).reshape(-1, *(1,) * (index.dim() - 2 - i))
        for i, size in enumerate(index.shape[:batch])
    ]
    return x[(*leading, *parts)]


@operation("ScatterND")
def scatter_nd(node: OnnxNode, x: Value, places: Value, updates: Value) -> torch.Tensor:
    """Slices of x replaced, or added to, at places of its first axes."""
    x, index = tensor(x), tensor(places).to(torch.int64)
    parts = tuple(_from_front(part, x.shape[i]) for i, part in enumerate(index.unbind(-1)))
    how, values = node.get("reduction", "none"), tensor(updates, x)
    if how not in ("none", "add"):
        raise node.refuse(f"the reduction {how!r}", "none or add")
    return x.index_put(parts, values, accumulate=how == "add")


@operation("ScatterElements", "Scatter")
def scatter_elements(node: OnnxNode, x: Value, places: Value, updates: Value) -> torch.Tensor:
    """Entries along an axis replaced, or added to."""
    x, axis, how = tensor(x), node.get("axis", 0), node.get("reduction", "none")
    index = _from_front(tensor(places, x), x.shape[axis])
    if how == "none":
        return x.scatter(axis, index, tensor(updates, x))
    names = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}
    return x.scatter_reduce(axis, index, tensor(updates, x), names[how])


@operation("OneHot")
def one_hot(node: OnnxNode, places: Value, depth: Value, values: Value) -> torch.Tensor:
    """One value at a place along a new axis, another one elsewhere."""
    (length,) = whole(node, depth, "a depth")
    index, off_on = tensor(places), tensor(values)
    axis = positive(node.get("axis", -1), index.dim() + 1)
    index = torch.where(index < 0, index + length, index).to(torch.int64).unsqueeze(axis)
    there = torch.arange(length, device=index.device).reshape(-1, *(1,) * (index.dim() - 1 - axis)) == index
    return torch.where(there, off_on[1], off_on[0])


@operation("NonZero")
def non_zero(node: OnnxNode, x: Value) -> np.ndarray[Any, Any]:
    """Places of entries that are not 0, of an array that is known."""
    if not is_known(x):
        raise node.refuse("an input that depends on the network's", "an output whose shape is known")
    return np.stack(np.nonzero(x)).astype(np.int64)


@operation("ReverseSequence")
def reverse_sequence(node: OnnxNode, x: Value, lengths: Value) -> torch.Tensor:
    """The first entries of each sequence, as many as it is long, in reverse order."""
    x, n = tensor(x), tensor(lengths).to(torch.int64)
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    steps = torch.arange(x.shape[time], device=x.device)
    rows = n.to(x.device)[:, None]
    index = torch.where(steps < rows, rows - 1 - steps, steps)
    index = index if batch < time else index.t()
    index = index.reshape(*index.shape, *(1,) * (x.dim() - 2)).expand(x.shape)
    return x.gather(time, index)
