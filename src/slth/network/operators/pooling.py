"""Max and average pooling in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.calls import WITH_INDICES, Call
from slth.network.graph import Attribute
from slth.network.operators.base import Operator, slide, spatial


def _adaptive_kernel(call: Call, shape: tuple[int, ...], n: int) -> tuple[int, ...]:
    sizes = call.arguments["output_size"]
    wanted = [size if out is None else out for out, size in zip(spatial(sizes, n), shape[-n:], strict=True)]
    if any(size % out for size, out in zip(shape[-n:], wanted, strict=True)):
        raise UnsupportedError(
            call.name,
            f"adaptive pooling from {shape[-n:]} to {tuple(wanted)}",
            "an output size that divides the input's",
            "pooling with an explicit kernel size",
        )
    return tuple(size // out for size, out in zip(shape[-n:], wanted, strict=True))


def _pooled(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape after pooling the last axes of one input."""
    kernel, padding = attributes["kernel"], attributes["padding"]
    n = len(kernel)
    if n not in (1, 2, 3) or len(shape) != n + 1 or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"a pooling window {kernel} with padding {padding} on {shape}")
    dilation = attributes.get("dilation", (1,) * n)
    pairs = tuple((width, width) for width in padding)
    return (shape[0], *slide(shape[1:], kernel, attributes["stride"], dilation, pairs, attributes["ceil_mode"]))


def _window(call: Call, shape: tuple[int, ...]) -> tuple[int, dict[str, Attribute]]:
    n = next(int(letter) for letter in call.op if letter.isdigit())
    if call.op.startswith("adaptive"):
        kernel = _adaptive_kernel(call, shape, n)
        return n, {"kernel": kernel, "stride": kernel, "padding": (0,) * n, "ceil_mode": False}
    kernel = spatial(call.arguments["kernel_size"], n)
    stride = call.arguments.get("stride") or kernel
    return n, {
        "kernel": kernel,
        "stride": spatial(stride, n),
        "padding": spatial(call.arguments.get("padding", 0), n),
        "ceil_mode": bool(call.arguments.get("ceil_mode", False)),
    }


class MaxPool(Operator):
    """Largest entry of each window; padding never wins."""

    name = "max_pool"
    aten = (*(f"max_pool{n}d" for n in (1, 2, 3)), *sorted(WITH_INDICES))
    kinds = {"kernel": tuple, "stride": tuple, "padding": tuple, "dilation": tuple, "ceil_mode": bool}

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Window of a pooling call; an adaptive one becomes the fixed window that it amounts to."""
        n, window = _window(call, shape)
        return {**window, "dilation": spatial(call.arguments.get("dilation", 1), n)}

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """``torch.nn.MaxPool1d``, ``2d`` or ``3d``."""
        kind = getattr(torch.nn, f"MaxPool{len(attributes['kernel'])}d")
        module: torch.nn.Module = kind(
            attributes["kernel"],
            attributes["stride"],
            attributes["padding"],
            attributes["dilation"],
            ceil_mode=attributes["ceil_mode"],
        )
        return module

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Channels, and positions of the window."""
        return _pooled(attributes, shape)


class AveragePool(Operator):
    """Mean of each window."""

    name = "average_pool"
    aten = tuple(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))
    kinds = {"kernel": tuple, "stride": tuple, "padding": tuple, "ceil_mode": bool, "count_include_pad": bool}

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Window of a pooling call; an adaptive one becomes the fixed window that it amounts to."""
        _, window = _window(call, shape)
        if call.arguments.get("divisor_override") is not None:
            raise UnsupportedError(
                call.name, "average pooling with divisor_override", "the plain mean", "a convolution instead"
            )
        return {**window, "count_include_pad": bool(call.arguments.get("count_include_pad", True))}

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """``torch.nn.AvgPool1d``, ``2d`` or ``3d``."""
        kind = getattr(torch.nn, f"AvgPool{len(attributes['kernel'])}d")
        module: torch.nn.Module = kind(
            attributes["kernel"],
            attributes["stride"],
            attributes["padding"],
            ceil_mode=attributes["ceil_mode"],
            count_include_pad=attributes["count_include_pad"],
        )
        return module

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Channels, and positions of the window."""
        return _pooled(attributes, shape)
