"""ONNX operations with weights: convolutions and matrix products; and those that work on whole images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slth.network.onnx_operators.base import OnnxNode, Value, given, operation, tensor
from slth.network.onnx_operators.resizing import interpolated
from slth.network.onnx_operators.windows import lists, paddings

LINEAR = "Linear"
"""What Gemm and MatMul with constant weights become when a file is read: weight (outputs, inputs), and a bias."""


@operation("Conv", parameters=("", "weight", "bias"))
def conv(node: OnnxNode, x: Value, weight: Value, bias: Value | None = None) -> torch.Tensor:
    """Cross-correlation in one, two or three dimensions."""
    x, weight = tensor(x), tensor(weight)
    n = weight.dim() - 2
    if n not in (1, 2, 3):
        raise node.refuse(f"a kernel of {n} axes", "one, two or three")
    kernel = [int(size) for size in weight.shape[2:]]
    strides, dilations = lists(node, "strides", n), lists(node, "dilations", n)
    pads = paddings(node, x.shape[2:], kernel, strides, dilations)
    symmetric = all(low == high for low, high in pads)
    if not symmetric:
        x = torch.nn.functional.pad(x, [width for pair in reversed(pads) for width in pair])
    convolve = getattr(torch.nn.functional, f"conv{n}d")
    result: torch.Tensor = convolve(
        x,
        weight,
        None if bias is None else tensor(bias),
        stride=strides,
        padding=[low for low, _ in pads] if symmetric else 0,
        dilation=dilations,
        groups=node.get("group", 1),
    )
    return result


@operation("ConvTranspose", parameters=("", "weight", "bias"))
def conv_transpose(node: OnnxNode, x: Value, weight: Value, bias: Value | None = None) -> torch.Tensor:
    """The transposed map of a convolution; rows outside the output that is asked for are cut off."""
    x, weight = tensor(x), tensor(weight)
    n = weight.dim() - 2
    if n not in (1, 2, 3):
        raise node.refuse(f"a kernel of {n} axes", "one, two or three")
    kernel = [int(size) for size in weight.shape[2:]]
    strides, dilations = lists(node, "strides", n), lists(node, "dilations", n)
    more = lists(node, "output_padding", n, 0)
    spread = zip(x.shape[2:], strides, dilations, kernel, more, strict=True)
    whole = [(size - 1) * step + d * (k - 1) + 1 + extra for size, step, d, k, extra in spread]
    pads = _transposed_pads(node, x.shape[2:], strides, whole)
    convolve = getattr(torch.nn.functional, f"conv_transpose{n}d")
    symmetric = all(low == high >= 0 for low, high in pads)
    result: torch.Tensor = convolve(
        x,
        weight,
        None if bias is None else tensor(bias),
        stride=strides,
        padding=[low for low, _ in pads] if symmetric else 0,
        output_padding=more,
        groups=node.get("group", 1),
        dilation=dilations,
    )
    # A negative width is rows that only the bias reaches.
    return result if symmetric else _cropped(result, pads, bias)


def _cropped(x: torch.Tensor, pads: Sequence[tuple[int, int]], bias: Value | None) -> torch.Tensor:
    widths = [-width for pair in reversed(pads) for width in pair]
    if bias is None or min(-width for width in widths) >= 0:
        return torch.nn.functional.pad(x, widths)
    b = tensor(bias).reshape(-1, *(1,) * len(pads))
    return torch.nn.functional.pad(x - b, widths) + b


def _transposed_pads(
    node: OnnxNode, sizes: Sequence[int], strides: Sequence[int], whole: Sequence[int]
) -> list[tuple[int, int]]:
    """Rows to cut off before and after each axis."""
    kind, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and kind in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * step for size, step in zip(sizes, strides, strict=True)]
    if wanted is None:
        pads = node.get("pads") or [0] * (2 * len(sizes))
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    pairs = []
    for size, length in zip(wanted[-len(sizes) :], whole, strict=True):
        total = length - size
        small, large = max(0, total) // 2, total - max(0, total) // 2
        pairs.append((small, large) if kind == "SAME_UPPER" or total < 0 else (large, small))
    return pairs


@operation(LINEAR, parameters=("", "weight", "bias"))
def linear(node: OnnxNode, x: Value, weight: Value, bias: Value | None = None) -> torch.Tensor:
    """x W^T + b on the last axis."""
    return torch.nn.functional.linear(tensor(x), tensor(weight), None if bias is None else tensor(bias))


@operation("MatMul")
def matmul(node: OnnxNode, a: Value, b: Value) -> torch.Tensor:
    """The product of stacks of matrices."""
    return torch.matmul(tensor(a), tensor(b))


@operation("Gemm")
def gemm(node: OnnxNode, a: Value, b: Value, c: Value | None = None) -> torch.Tensor:
    """alpha A B + beta C, either matrix transposed where the file says so."""
    a, b = (tensor(m).t() if node.get(key, 0) else tensor(m) for m, key in ((a, "transA"), (b, "transB")))
    product = _times(torch.matmul(a, b), node.get("alpha", 1.0))
    return product if c is None else product + _times(tensor(c), node.get("beta", 1.0))


def _times(x: torch.Tensor, factor: float) -> torch.Tensor:
    if factor == 1:
        return x
    return x * (factor if x.is_floating_point() else int(factor))


@operation("Einsum")
def einsum(node: OnnxNode, *operands: Value) -> torch.Tensor:
    """Sums of products by Einstein's notation."""
    equation = node.get("equation")
    result: torch.Tensor = torch.einsum(equation, *map(tensor, operands))
    return result


@operation("Det")
def determinant(node: OnnxNode, x: Value) -> torch.Tensor:
    """Determinants of square matrices."""
    result: torch.Tensor = torch.linalg.det(tensor(x))
    return result


@operation("GridSample")
def grid_sample(node: OnnxNode, x: Value, grid: Value) -> torch.Tensor:
    """Entries of x at places given by a grid."""
    modes = {"linear": "bilinear", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
    return torch.nn.functional.grid_sample(
        tensor(x),
        tensor(grid),
        mode=modes.get(node.get("mode", "linear"), "nearest"),
        padding_mode=node.get("padding_mode", "zeros"),
        align_corners=bool(node.get("align_corners", 0)),
    )


@operation("Upsample")
def upsample(node: OnnxNode, x: Value, scales: Value | None = None) -> torch.Tensor:
    """What Resize was called before version 10: entry i of the output is entry i over scale, rounded down."""
    factors = node.get("scales") if scales is None else tensor(scales).tolist()
    if factors is None:
        factors = [1.0, 1.0, node.get("height_scale", 1.0), node.get("width_scale", 1.0)]
    x = tensor(x)
    sizes = [int(size * factor) for size, factor in zip(x.shape[2:], factors[2:], strict=True)]
    mode = {"bilinear": "linear"}.get(node.get("mode", "nearest"), node.get("mode", "nearest"))
    return interpolated(node, x, tuple(range(2, x.dim())), sizes, factors[2:], mode, "asymmetric", "floor")


@operation("DepthToSpace")
def depth_to_space(node: OnnxNode, x: Value) -> torch.Tensor:
    """Blocks of channels become blocks of pixels."""
    x, size = tensor(x), node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return torch.nn.functional.pixel_shuffle(x, size)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, channels // size**2, height * size, width * size)


@operation("SpaceToDepth")
def space_to_depth(node: OnnxNode, x: Value) -> torch.Tensor:
    """Blocks of pixels become blocks of channels."""
    x, size = tensor(x), node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return torch.nn.functional.pixel_unshuffle(x, size)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, channels * size**2, height // size, width // size)


@operation("Tile")
def tile(node: OnnxNode, x: Value, repeats: Value) -> torch.Tensor:
    """The input again and again along each axis."""
    return tensor(x).repeat(*(given(node, repeats, "repeats") or ()))
