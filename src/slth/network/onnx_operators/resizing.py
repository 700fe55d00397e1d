"""ONNX Resize: a linear map along each axis, by torch's own interpolation where that is the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.network.onnx_operators.base import ANY_BATCH, OnnxNode, Value, bounded, operation, positive, tensor, whole


@operation("Resize")
def resize(
    node: OnnxNode,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> torch.Tensor:
    """Some axes with other lengths, entries between entries by interpolation."""
    if node.version < 11:
        scales, roi = roi, None
    x = tensor(x)
    axes = [positive(axis, x.dim()) for axis in node.get("axes") or range(x.dim())]
    lengths = [x.shape[axis] for axis in axes]
    if sizes is not None and _count(sizes):
        wanted = _kept_aspect(node, lengths, whole(node, sizes, "sizes"))
        wanted = [
            old if axis == node.get(ANY_BATCH) else new for axis, new, old in zip(axes, wanted, lengths, strict=True)
        ]
        factors = [_ratio(new, old) for new, old in zip(wanted, lengths, strict=True)]
    elif scales is not None:
        if isinstance(scales, torch.Tensor):
            raise node.refuse("scales that depend on the network's input", "scales that depend on shapes at most")
        factors = [float(factor) for factor in scales.reshape(-1).tolist()]
        wanted = [old if f == 1 else math.floor(old * f) for old, f in zip(lengths, factors, strict=True)]
    else:
        raise node.refuse("neither scales nor sizes", "one of them")
    bounded(node, wanted)
    moved = [i for i, factor in enumerate(factors) if factor != 1]
    how = node.get("coordinate_transformation_mode", "half_pixel" if node.version >= 11 else "asymmetric")
    if how == "tf_crop_and_resize":
        raise node.refuse("tf_crop_and_resize", "a resize of the whole input")
    nearest = node.get("nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor")
    chosen = tuple(axes[i] for i in moved)
    new, ratios = [wanted[i] for i in moved], [factors[i] for i in moved]
    return interpolated(node, x, chosen, new, ratios, node.get("mode", "nearest"), how, nearest)


def _count(value: Value) -> int:
    return value.numel() if isinstance(value, torch.Tensor) else value.size


def _ratio(new: Any, old: Any) -> float:
    """1 for a size that stays, which may be symbolic."""
    return 1.0 if new is old or new == old else new / old


def _kept_aspect(node: OnnxNode, lengths: Sequence[int], sizes: list[Any]) -> list[Any]:
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes
    factors = [new / old for new, old in zip(sizes, lengths, strict=True)]
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [int(factor * old + 0.5) for old in lengths]


def interpolated(
    node: OnnxNode,
    x: torch.Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    factors: Sequence[float],
    mode: str,
    how: str,
    nearest: str,
) -> torch.Tensor:
    """x with new lengths of some axes."""
    sizes = [int(size) for size in sizes]
    spatial = tuple(axes) == tuple(range(2, x.dim())) and x.dim() in (3, 4, 5)
    whole_factors = all(size == length * f for size, length, f in zip(sizes, _lengths(x, axes), factors, strict=True))
    plain = not node.get("antialias", 0) and not node.get("exclude_outside", 0) and spatial and whole_factors
    if plain and mode == "nearest" and how == "asymmetric" and nearest == "floor":
        return torch.nn.functional.interpolate(x, sizes, mode="nearest")
    names = {3: "linear", 4: "bilinear", 5: "trilinear"} if mode == "linear" else {4: "bicubic"}
    aligned = how == "align_corners"
    # Of a single entry the file wants the first one, torch the middle.
    torchs = aligned or how == "half_pixel" or (how == "pytorch_half_pixel" and 1 not in sizes)
    if plain and torchs and mode != "nearest" and x.dim() in names and node.get("cubic_coeff_a", -0.75) == -0.75:
        return torch.nn.functional.interpolate(x, sizes, mode=names[x.dim()], align_corners=aligned)
    for axis, size, factor in zip(axes, sizes, factors, strict=True):
        x = _along(node, x, axis, size, factor, mode, how, nearest)
    return x


def _lengths(x: torch.Tensor, axes: Sequence[int]) -> list[int]:
    return [int(x.shape[axis]) for axis in axes]


def _along(
    node: OnnxNode, x: torch.Tensor, axis: int, size: int, factor: float, mode: str, how: str, nearest: str
) -> torch.Tensor:
    """One axis: a choice of entries, or a matrix (new length, old length)."""
    length = int(x.shape[axis])
    places = _places(size, length, factor, how)
    if mode == "nearest":
        rounds: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
            "round_prefer_floor": lambda p: np.ceil(p - 0.5),
            "round_prefer_ceil": lambda p: np.floor(p + 0.5),
            "floor": np.floor,
            "ceil": np.ceil,
        }
        chosen = np.clip(rounds[nearest](places), 0, length - 1).astype(np.int64)
        return x.index_select(axis, torch.from_numpy(chosen).to(x.device))
    matrix = torch.from_numpy(_matrix(node, places, length, factor, mode)).to(x)
    return torch.movedim(torch.nn.functional.linear(torch.movedim(x, axis, -1), matrix), -1, axis)


def _places(size: int, length: int, factor: float, how: str) -> NDArray[np.float64]:
    """Where in the input the entries of the output lie."""
    index = np.arange(size, dtype=np.float64)
    if how == "align_corners":
        # The new length as the file has it, before it was rounded down.
        return index * (length - 1) / (length * factor - 1) if size > 1 else index * 0
    if how == "asymmetric":
        return index / factor
    if how == "pytorch_half_pixel" and size == 1:
        return index * 0
    if how == "half_pixel_symmetric":
        middle = length / 2 * (1 - size / (length * factor))
        return middle + (index + 0.5) / factor - 0.5
    return (index + 0.5) / factor - 0.5


def _matrix(node: OnnxNode, places: NDArray[np.float64], length: int, factor: float, mode: str) -> NDArray[np.float64]:
    """Weights of the input's entries for each of the output's."""
    narrow = min(1.0, factor) if node.get("antialias", 0) else 1.0
    reach = (1 if mode == "linear" else 2) / narrow
    if narrow == 1 and mode == "linear":
        places = np.clip(places, 0, length - 1)
    matrix = np.zeros((len(places), length))
    for row, place in enumerate(places):
        entries = np.arange(math.ceil(place - reach), math.floor(place + reach) + 1)
        distance = np.abs(entries - place) * narrow
        weights = 1 - distance if mode == "linear" else _cubic(distance, node.get("cubic_coeff_a", -0.75))
        weights = np.where(distance < reach * narrow, weights, 0.0)
        if node.get("exclude_outside", 0):
            weights = np.where((entries < 0) | (entries >= length), 0.0, weights)
        if narrow < 1 or node.get("exclude_outside", 0):
            weights = weights / weights.sum()
        np.add.at(matrix[row], np.clip(entries, 0, length - 1), weights)
    return matrix


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
