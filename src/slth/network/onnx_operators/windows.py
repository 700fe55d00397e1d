"""ONNX operations on windows: pooling, and the padding that they share with convolutions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch

from slth.network.onnx_operators.base import OnnxNode, Value, operation, single, tensor

Pair = tuple[int, int]


def lists(node: OnnxNode, name: str, n: int, default: int = 1) -> list[int]:
    """A number for each of n axes."""
    values = node.get(name)
    return [default] * n if not values else [int(value) for value in values]


def paddings(
    node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[Pair]:
    """Padding before and after each axis, from the file's numbers or its words."""
    kind, n = node.get("auto_pad", "NOTSET"), len(kernel)
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, k, step, d in zip(sizes, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // step) - 1) * step + d * (k - 1) + 1 - size)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if kind == "SAME_UPPER" else (large, small))
        return pairs
    pads = [0] * (2 * n) if kind == "VALID" else lists(node, "pads", 2 * n, 0)
    return list(zip(pads[:n], pads[n:], strict=True))


def _windows(node: OnnxNode, x: torch.Tensor) -> tuple[list[int], list[int], list[int], list[Pair], bool]:
    """Kernel, strides, dilations, paddings, and whether a last window may stick out."""
    kernel = [int(size) for size in node.get("kernel_shape")]
    n, ceil_mode = len(kernel), bool(node.get("ceil_mode", 0))
    if n not in (1, 2, 3) or n != x.dim() - 2:
        raise node.refuse(f"a window of {n} axes on {x.dim() - 2}", "one, two or three, as many as the input has")
    strides, dilations = lists(node, "strides", n), lists(node, "dilations", n)
    return kernel, strides, dilations, paddings(node, x.shape[2:], kernel, strides, dilations), ceil_mode


def _even(pads: Sequence[Pair], kernel: Sequence[int]) -> bool:
    """Whether torch's own pooling knows such padding."""
    return all(low == high and 2 * low <= k for (low, high), k in zip(pads, kernel, strict=True))


def _flat(pads: Sequence[Pair]) -> list[int]:
    return [width for pair in reversed(pads) for width in pair]


def _begun_inside(
    pooled: torch.Tensor, padded: torch.Tensor, strides: Sequence[int], pads: Sequence[Pair]
) -> torch.Tensor:
    """Without windows that begin in the padding behind the input, which torch takes for input here."""
    for axis, (step, (_, high)) in enumerate(zip(strides, pads, strict=True), 2):
        most = -(-(int(padded.shape[axis]) - high) // step)
        pooled = pooled.narrow(axis, 0, min(most, int(pooled.shape[axis])))
    return pooled


@operation("MaxPool")
def max_pool(node: OnnxNode, x: Value) -> torch.Tensor:
    """The largest entry of each window."""
    single(node, "indices")
    x = tensor(x)
    kernel, strides, dilations, pads, ceil_mode = _windows(node, x)
    if x.dtype in (torch.int8, torch.uint8):
        of_reals: torch.Tensor = max_pool(node, x.to(torch.float32))
        return of_reals.to(x.dtype)
    even = _even(pads, kernel)
    if not even:
        x = torch.nn.functional.pad(x, _flat(pads), value=-math.inf)
    pool = getattr(torch.nn.functional, f"max_pool{len(kernel)}d")
    result: torch.Tensor = pool(x, kernel, strides, [low for low, _ in pads] if even else 0, dilations, ceil_mode)
    return result if even else _begun_inside(result, x, strides, pads)


@operation("AveragePool")
def average_pool(node: OnnxNode, x: Value) -> torch.Tensor:
    """The mean of each window, with or without the padding in it."""
    x = tensor(x)
    kernel, strides, dilations, pads, ceil_mode = _windows(node, x)
    counted = bool(node.get("count_include_pad", 0))
    if max(dilations) > 1:
        return _dilated_mean(node, x, counted)
    pool = getattr(torch.nn.functional, f"avg_pool{len(kernel)}d")
    if _even(pads, kernel):
        widths = [low for low, _ in pads]
        result: torch.Tensor = pool(x, kernel, strides, widths, ceil_mode, counted)
        return result
    padded = torch.nn.functional.pad(x, _flat(pads))
    mean: torch.Tensor = _begun_inside(pool(padded, kernel, strides, 0, ceil_mode), padded, strides, pads)
    if counted:
        return mean
    inside = torch.nn.functional.pad(torch.ones_like(x[:1, :1]), _flat(pads))
    share = _begun_inside(pool(inside, kernel, strides, 0, ceil_mode), inside, strides, pads)
    return mean / share


def _dilated_mean(node: OnnxNode, x: torch.Tensor, counted: bool) -> torch.Tensor:
    """As a convolution: torch's average pooling knows no dilation."""
    kernel, strides, dilations, pads, ceil_mode = _windows(node, x)
    if ceil_mode:
        raise node.refuse("ceil_mode and dilations", "one of them")
    convolve = getattr(torch.nn.functional, f"conv{len(kernel)}d")
    weight = torch.full((1, 1, *kernel), 1 / math.prod(kernel), dtype=x.dtype, device=x.device)
    channels = int(x.shape[1])
    padded = torch.nn.functional.pad(x, _flat(pads))
    every = weight.expand(channels, *weight.shape[1:])
    mean: torch.Tensor = convolve(padded, every, None, strides, 0, dilations, channels)
    if counted or not any(map(max, pads)):
        return mean
    inside = torch.nn.functional.pad(torch.ones_like(x[:1, :1]), _flat(pads))
    share: torch.Tensor = convolve(inside, weight, None, strides, 0, dilations)
    return mean / share


@operation("LpPool")
def lp_pool(node: OnnxNode, x: Value) -> torch.Tensor:
    """The p-norm of each window, as a convolution of powers with ones."""
    x, p = tensor(x), node.get("p", 2)
    kernel, strides, dilations, pads, ceil_mode = _windows(node, x)
    if ceil_mode:
        raise node.refuse("ceil_mode", "windows that lie within the input and its padding")
    convolve = getattr(torch.nn.functional, f"conv{len(kernel)}d")
    channels = int(x.shape[1])
    ones = torch.ones((channels, 1, *kernel), dtype=x.dtype, device=x.device)
    powers = torch.nn.functional.pad(x.abs() ** p, _flat(pads))
    sums: torch.Tensor = convolve(powers, ones, None, strides, 0, dilations, channels)
    return torch.pow(sums, 1 / p)


def _global(kind: str, node: OnnxNode, x: Value) -> torch.Tensor:
    x = tensor(x)
    n = x.dim() - 2
    if n in (1, 2, 3):
        pooled: torch.Tensor = getattr(torch.nn.functional, f"adaptive_{kind}_pool{n}d")(x, 1)
        return pooled
    axes = tuple(range(2, x.dim()))
    return x.mean(axes, keepdim=True) if kind == "avg" else x.amax(axes, keepdim=True)


operation("GlobalAveragePool")(functools.partial(_global, "avg"))
operation("GlobalMaxPool")(functools.partial(_global, "max"))


@operation("GlobalLpPool")
def global_lp_pool(node: OnnxNode, x: Value) -> torch.Tensor:
    """The p-norm of each channel."""
    x, p = tensor(x), node.get("p", 2)
    norm: Any = torch.linalg.vector_norm(x, p, tuple(range(2, x.dim())), keepdim=True)
    return torch.as_tensor(norm)
