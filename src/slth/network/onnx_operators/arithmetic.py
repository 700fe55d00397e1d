"""ONNX operations entry by entry: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from slth.network.onnx_operators.base import (
    OnnxNode,
    Value,
    number,
    numbers,
    operation,
    tensor,
)

UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": torch.nn.functional.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": torch.nn.functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": torch.nn.functional.softplus,
    "Softsign": torch.nn.functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "And": lambda a, b: a & b,
    "Or": lambda a, b: a | b,
    "Xor": lambda a, b: a ^ b,
    "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b,
    "BitwiseXor": lambda a, b: a ^ b,
    "Equal": lambda a, b: a == b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
}
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""Element types by the number that ONNX gives them."""
NUMPY = {1: "f4", 2: "u1", 3: "i1", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8"}
"""The same for known arrays."""


def _unary(function: Callable[[torch.Tensor], torch.Tensor], node: OnnxNode, x: Value) -> torch.Tensor:
    return function(tensor(x))


def _binary(function: Callable[[Any, Any], Any], node: OnnxNode, a: Value, b: Value) -> Any:
    a, b = numbers(node, *_aligned(node, a, b))
    return function(a, b)


def _aligned(node: OnnxNode, a: Value, b: Value) -> tuple[Value, Value]:
    """Operands of old files, which say from which axis of the first the second one is broadcast."""
    axis = node.get("axis")
    if node.version >= 7 or not node.get("broadcast") or axis is None:
        return a, b
    after = tensor(a).dim() - (axis % tensor(a).dim()) - tensor(b).dim()
    return a, b.reshape(*b.shape, *(1,) * after)


for _name, _of_one in UNARY.items():
    operation(_name)(functools.partial(_unary, _of_one))
for _name, _of_two in BINARY.items():
    operation(_name)(functools.partial(_binary, _of_two))


@operation("Div")
def div(node: OnnxNode, a: Value, b: Value) -> Any:
    """a / b, of whole numbers towards 0."""
    x, y = numbers(node, *_aligned(node, a, b))
    like = x if isinstance(x, torch.Tensor) else y
    if like.is_floating_point():
        return x / y
    return torch.div(x if isinstance(x, torch.Tensor) else torch.full_like(y, x), y, rounding_mode="trunc")


@operation("Mod")
def mod(node: OnnxNode, a: Value, b: Value) -> Any:
    """The remainder, with the sign of the divisor, or with ``fmod`` that of the dividend."""
    x, y = tensor(a), tensor(b)
    return torch.fmod(x, y) if node.get("fmod", 0) else torch.remainder(x, y)


@operation("Pow")
def power(node: OnnxNode, a: Value, b: Value) -> Any:
    """a to the power of b, in the type of a."""
    x, y = numbers(node, *_aligned(node, a, b))
    return (x**y).to(tensor(a).dtype)


def _extreme(first: bool, node: OnnxNode, *values: Value) -> Any:
    found = numbers(node, *values)
    result = next(value for value in found if isinstance(value, torch.Tensor))
    rest = [value for value in found if value is not result]
    for value in rest:
        if isinstance(value, torch.Tensor):
            result = torch.minimum(result, value) if first else torch.maximum(result, value)
        else:
            result = torch.clamp(result, max=value) if first else torch.clamp(result, min=value)
    return result


operation("Min")(functools.partial(_extreme, True))
operation("Max")(functools.partial(_extreme, False))


@operation("Sum")
def add_all(node: OnnxNode, *values: Value) -> Any:
    """The sum of any number of operands."""
    return functools.reduce(lambda a, b: a + b, numbers(node, *values))


@operation("Mean")
def mean_of_all(node: OnnxNode, *values: Value) -> Any:
    """The mean of any number of operands."""
    return add_all(node, *values) / len(values)


@operation("Clip")
def clip(node: OnnxNode, x: Value, low: Value | None = None, high: Value | None = None) -> torch.Tensor:
    """The entry of [low, high] next to x; a ReLU or a Hardtanh where it is one."""
    x = tensor(x)
    least = node.get("min") if low is None else number(low, x)
    most = node.get("max") if high is None else number(high, x)
    plain = not isinstance(least, torch.Tensor) and not isinstance(most, torch.Tensor)
    if plain and x.is_floating_point():
        if least is not None and most is not None and -1e30 < least < most < 1e30:
            return torch.nn.functional.hardtanh(x, least, most)
        if least == 0 and (most is None or most > 1e30):
            return torch.relu(x)
    if least is None and most is None:
        return x
    if plain:
        return torch.clamp(x, least, most)
    # torch refuses a number beside a tensor.
    bounds = [None if bound is None else torch.as_tensor(bound, dtype=x.dtype) for bound in (least, most)]
    return torch.clamp(x, bounds[0], bounds[1])


@operation("LeakyRelu")
def leaky_relu(node: OnnxNode, x: Value) -> torch.Tensor:
    """x, times alpha below 0."""
    return torch.nn.functional.leaky_relu(tensor(x), node.get("alpha", 0.01))


@operation("PRelu", parameters=("", "weight"))
def prelu(node: OnnxNode, x: Value, slope: Value) -> torch.Tensor:
    """x, times a slope below 0, which the file broadcasts from the last axis on."""
    x, slopes = tensor(x), tensor(slope, tensor(x))
    # Slopes that load time made flat: one for each channel, or one for all.
    rank = node.get("slope_rank", slopes.dim())
    if slopes.dim() == 1 and (slopes.numel() == 1 or rank == x.dim() - 1):
        return torch.nn.functional.prelu(x, slopes)
    return torch.where(x < 0, slopes.reshape(-1, *(1,) * (rank - 1)) * x if rank > slopes.dim() else slopes * x, x)


@operation("Elu")
def elu(node: OnnxNode, x: Value) -> torch.Tensor:
    """x, below 0 alpha (exp(x) - 1)."""
    return torch.nn.functional.elu(tensor(x), node.get("alpha", 1.0))


@operation("Celu")
def celu(node: OnnxNode, x: Value) -> torch.Tensor:
    """x, below 0 alpha (exp(x / alpha) - 1)."""
    return torch.nn.functional.celu(tensor(x), node.get("alpha", 1.0))


@operation("Selu")
def selu(node: OnnxNode, x: Value) -> torch.Tensor:
    """gamma x, below 0 gamma alpha (exp(x) - 1)."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return torch.nn.functional.selu(tensor(x))
    return torch.mul(torch.nn.functional.elu(tensor(x), alpha), gamma)


@operation("Gelu")
def gelu(node: OnnxNode, x: Value) -> torch.Tensor:
    """x times the normal distribution function, or its approximation by tanh."""
    return torch.nn.functional.gelu(tensor(x), approximate=node.get("approximate", "none"))


@operation("Swish")
def swish(node: OnnxNode, x: Value) -> torch.Tensor:
    """x sigmoid(alpha x)."""
    x, alpha = tensor(x), node.get("alpha", 1.0)
    return torch.nn.functional.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operation("HardSigmoid")
def hard_sigmoid(node: OnnxNode, x: Value) -> torch.Tensor:
    """alpha x + beta, cut off at 0 and 1."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return torch.nn.functional.hardsigmoid(tensor(x))
    return torch.nn.functional.hardtanh(alpha * tensor(x) + beta, 0.0, 1.0)


@operation("ThresholdedRelu")
def thresholded_relu(node: OnnxNode, x: Value) -> torch.Tensor:
    """x above alpha, 0 below."""
    return torch.nn.functional.threshold(tensor(x), node.get("alpha", 1.0), 0.0)


@operation("Shrink")
def shrink(node: OnnxNode, x: Value) -> torch.Tensor:
    """0 between -lambd and lambd; outside it x nearer to 0 by bias."""
    x, edge, bias = tensor(x), node.get("lambd", 0.5), node.get("bias", 0.0)
    outside = torch.where(x < -edge, x + bias, torch.zeros_like(x))
    return torch.where(x > edge, x - bias, outside)


@operation("IsInf")
def is_inf(node: OnnxNode, x: Value) -> torch.Tensor:
    """Whether entries are infinite, of the signs asked for."""
    x = tensor(x)
    above = torch.isposinf(x) if node.get("detect_positive", 1) else torch.zeros_like(x, dtype=torch.bool)
    return above | torch.isneginf(x) if node.get("detect_negative", 1) else above


@operation("Where")
def where(node: OnnxNode, condition: Value, a: Value, b: Value) -> torch.Tensor:
    """a where the condition holds, else b."""
    like = next((value for value in (a, b, condition) if isinstance(value, torch.Tensor)), None)
    choice = tensor(condition, like)
    a, b = tensor(a, like), tensor(b, like)
    return torch.where(choice, a, b)


@operation("Cast")
def cast(node: OnnxNode, x: Value) -> torch.Tensor:
    """Entries in another type."""
    if node.get("to") not in DTYPES:
        raise node.refuse(f"the element type {node.get('to')}", "whole numbers, booleans or float16 to float64")
    x, dtype = tensor(x), DTYPES[node.get("to")]
    return x if x.dtype == dtype else x.to(dtype)


@operation("CastLike")
def cast_like(node: OnnxNode, x: Value, other: Value) -> torch.Tensor:
    """Entries in the type of another tensor."""
    return tensor(x).to(tensor(other).dtype)


@operation("Identity", "Dropout")
def identity(node: OnnxNode, x: Value, *others: Value | None) -> Value | tuple[Value, torch.Tensor]:
    """The input: nothing is dropped outside training."""
    if len(others) > 1 and others[1] is not None and bool(tensor(others[1]).any()):
        raise node.refuse("training_mode", "a network in evaluation mode")
    return (x, torch.ones_like(tensor(x), dtype=torch.bool)) if node.n_used > 1 else x
