"""ONNX quantisation around ordinary layers: constants become plain weights when a file is read."""

from __future__ import annotations

import numpy as np
import torch

from slth.network.onnx_operators.arithmetic import DTYPES
from slth.network.onnx_operators.base import OnnxNode, Value, operation, tensor

_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-(2**15), 2**15 - 1)}


def _along(node: OnnxNode, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Scales or zero points: one for all, one for each slice of an axis, or one for each block of it."""
    axis = node.get("axis", 1) % max(1, x.dim())
    if values.numel() == 1:
        return values.reshape(())
    if values.dim() == 1:
        return values.reshape(-1, *(1,) * (x.dim() - axis - 1))
    size = node.get("block_size", 0)
    return values.repeat_interleave(size, axis).narrow(axis, 0, int(x.shape[axis])) if size else values


@operation("DequantizeLinear")
def dequantize(node: OnnxNode, x: Value, scale: Value, zero: Value | None = None) -> torch.Tensor:
    """(x - zero point) scale."""
    x, factor = tensor(x), tensor(scale, tensor(x))
    shift = 0 if zero is None else _along(node, tensor(zero, x), x).to(factor.dtype)
    return (x.to(factor.dtype) - shift) * _along(node, factor, x)


@operation("QuantizeLinear")
def quantize(node: OnnxNode, x: Value, scale: Value, zero: Value | None = None) -> torch.Tensor:
    """x / scale + zero point, rounded to the nearest whole number (of two the even one) of its type."""
    x, factor = tensor(x), tensor(scale, tensor(x))
    point = None if zero is None else tensor(zero, x)
    dtype = DTYPES.get(node.get("output_dtype"), torch.uint8) if point is None else point.dtype
    if dtype not in _RANGES:
        raise node.refuse(f"the type {dtype}", "int8, uint8 or int16")
    rounded = torch.round(x / _along(node, factor, x).to(x.dtype))
    shifted = rounded if point is None else rounded + _along(node, point, x).to(x.dtype)
    return torch.clamp(shifted, *_RANGES[dtype]).to(dtype)


@operation("DynamicQuantizeLinear")
def dynamic_quantize(node: OnnxNode, x: Value) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """uint8 over the input's own range."""
    x = tensor(x)
    low, high = torch.clamp(x.min(), max=0.0), torch.clamp(x.max(), min=0.0)
    scale = (high - low) / np.float32(255).item()
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    return torch.clamp(torch.round(x / scale) + zero, 0, 255).to(torch.uint8), scale, zero.to(torch.uint8)
