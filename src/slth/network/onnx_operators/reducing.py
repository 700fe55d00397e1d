"""ONNX operations along axes: sums and other reductions, softmax, normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from slth.network.onnx_operators.base import OnnxNode, Value, given, operation, positive, single, tensor, whole

Reduction = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(x: torch.Tensor, axes: list[int], keep: bool, largest: bool) -> torch.Tensor:
    if x.dtype == torch.bool:
        return _extreme(x.to(torch.uint8), axes, keep, largest).to(torch.bool)
    return x.amax(axes, keepdim=keep) if largest else x.amin(axes, keepdim=keep)


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    """The mean; global average pooling where it is that."""
    n = x.dim() - 2
    if n in (1, 2, 3) and axes == [*range(2, x.dim())] and x.is_floating_point():
        pooled: torch.Tensor = getattr(torch.nn.functional, f"adaptive_avg_pool{n}d")(x, 1)
        return pooled if keep else pooled.flatten(1)
    if not x.is_floating_point():
        return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)
    return x.mean(axes, keepdim=keep)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMean": _mean,
    "ReduceMax": functools.partial(_extreme, largest=True),
    "ReduceMin": functools.partial(_extreme, largest=False),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt().to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log().to(x.dtype),
    "ReduceLogSumExp": lambda x, axes, keep: (
        x.to(torch.get_default_dtype()).logsumexp(axes, keepdim=keep).to(x.dtype)
        if not x.is_floating_point()
        else x.logsumexp(axes, keepdim=keep)
    ),
}


def _reduce(function: Reduction, node: OnnxNode, x: Value, axes: Value | None = None) -> torch.Tensor:
    x = tensor(x)
    chosen = given(node, axes, "axes")
    if not chosen:
        if node.get("noop_with_empty_axes", 0):
            return function(x[None], [0], False)
        chosen = [*range(x.dim())]
    chosen = sorted(positive(axis, x.dim()) for axis in chosen)
    # Of a single number all axes are none.
    return function(x, chosen, bool(node.get("keepdims", 1))) if chosen else function(x[None], [0], False)


for _name, _function in REDUCTIONS.items():
    operation(_name)(functools.partial(_reduce, _function))


def _softmax(function: Callable[..., torch.Tensor], node: OnnxNode, x: Value) -> torch.Tensor:
    x = tensor(x)
    if node.version >= 13:
        return function(x, node.get("axis", -1))
    # Old files take all axes from this one on together.
    axis = positive(node.get("axis", 1), x.dim())
    return function(x, -1) if axis == x.dim() - 1 else function(x.flatten(axis), -1).reshape(x.shape)


def _hardmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)


operation("Softmax")(functools.partial(_softmax, torch.softmax))
operation("LogSoftmax")(functools.partial(_softmax, torch.log_softmax))
operation("Hardmax")(functools.partial(_softmax, _hardmax))


def _arg(largest: bool, node: OnnxNode, x: Value) -> torch.Tensor:
    x, axis, keep = tensor(x), node.get("axis", 0), bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return x.argmax(axis, keepdim=keep) if largest else x.argmin(axis, keepdim=keep)
    flipped = x.flip(axis)
    found = flipped.argmax(axis, keepdim=keep) if largest else flipped.argmin(axis, keepdim=keep)
    return torch.rsub(found, x.shape[axis] - 1)


operation("ArgMax")(functools.partial(_arg, True))
operation("ArgMin")(functools.partial(_arg, False))


@operation("TopK")
def top_k(node: OnnxNode, x: Value, k: Value | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest or smallest entries along an axis, and where they were."""
    (count,) = given(node, k, "k") or [1]
    axis = node.get("axis", -1)
    # Of equal entries the first one comes first, which torch.topk does not promise.
    values, indices = torch.sort(tensor(x), dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@operation("CumSum")
def cumulated(node: OnnxNode, x: Value, axis: Value) -> torch.Tensor:
    """Sums of all entries up to each along an axis, with or without itself, from either end."""
    x, (along,) = tensor(x), whole(node, axis, "an axis")
    x = x.flip(along) if node.get("reverse", 0) else x
    sums = x.cumsum(along, dtype=x.dtype)
    sums = sums - x if node.get("exclusive", 0) else sums
    return sums.flip(along) if node.get("reverse", 0) else sums


@operation("BatchNormalization", parameters=("", "weight", "bias", "running_mean", "running_var"))
def batch_norm(node: OnnxNode, x: Value, scale: Value, bias: Value, mean: Value, var: Value) -> torch.Tensor:
    """Each channel by the mean and variance of training."""
    if node.get("training_mode", 0) or (node.version < 7 and not node.get("is_test", 0)):
        raise node.refuse("training_mode", "a network in evaluation mode")
    if not node.get("spatial", 1):
        raise node.refuse("spatial 0", "a mean for each channel")
    x = tensor(x)
    if node.get("computed"):
        shape = (-1, *(1,) * (x.dim() - 2))
        factor = tensor(scale, x) / torch.sqrt(tensor(var, x) + node.get("epsilon", 1e-5))
        centred = x - tensor(mean, x).reshape(shape)
        return centred * factor.reshape(shape) + tensor(bias, x).reshape(shape)
    return torch.nn.functional.batch_norm(
        x, tensor(mean), tensor(var), tensor(scale), tensor(bias), False, 0.0, node.get("epsilon", 1e-5)
    )


@operation("InstanceNormalization", parameters=("", "weight", "bias"))
def instance_norm(node: OnnxNode, x: Value, scale: Value, bias: Value) -> torch.Tensor:
    """Each channel of each input by its own mean and variance."""
    x = tensor(x)
    weight, shift = tensor(scale, x), tensor(bias, x)
    return torch.nn.functional.group_norm(x, int(x.shape[1]), weight, shift, node.get("epsilon", 1e-5))


@operation("LayerNormalization", parameters=("", "weight", "bias"))
def layer_norm(node: OnnxNode, x: Value, scale: Value, bias: Value | None = None) -> torch.Tensor:
    """Entries by the mean and variance over the last axes."""
    single(node, "mean and deviation")
    x = tensor(x)
    shape = [int(size) for size in x.shape[positive(node.get("axis", -1), x.dim()) :]]
    weight, shift = tensor(scale, x), None if bias is None else tensor(bias, x)
    epsilon = node.get("epsilon", 1e-5)
    if [*weight.shape] == shape and (shift is None or [*shift.shape] == shape):
        return torch.nn.functional.layer_norm(x, shape, weight, shift, epsilon)
    plain = torch.nn.functional.layer_norm(x, shape, None, None, epsilon) * weight
    return plain if shift is None else plain + shift


@operation("RMSNormalization", parameters=("", "weight"))
def rms_norm(node: OnnxNode, x: Value, scale: Value) -> torch.Tensor:
    """Entries by the root mean square over the last axes."""
    x = tensor(x)
    shape = [int(size) for size in x.shape[positive(node.get("axis", -1), x.dim()) :]]
    weight, epsilon = tensor(scale, x), node.get("epsilon", 1e-5)
    if [*weight.shape] == shape:
        return torch.nn.functional.rms_norm(x, shape, weight, epsilon)
    return torch.nn.functional.rms_norm(x, shape, None, epsilon) * weight


@operation("GroupNormalization", parameters=("", "weight", "bias"))
def group_norm(node: OnnxNode, x: Value, scale: Value, bias: Value) -> torch.Tensor:
    """Groups of channels by their own mean and variance; before version 21 with one scale a group."""
    x, groups = tensor(x), node.get("num_groups")
    weight, shift = tensor(scale, x), tensor(bias, x)
    if weight.numel() != x.shape[1]:
        times = int(x.shape[1]) // groups
        weight, shift = weight.repeat_interleave(times), shift.repeat_interleave(times)
    return torch.nn.functional.group_norm(x, groups, weight, shift, node.get("epsilon", 1e-5))


@operation("LRN")
def local_response(node: OnnxNode, x: Value) -> torch.Tensor:
    """Entries by the squares of their neighbours in other channels."""
    x, size = tensor(x), node.get("size")
    alpha, beta, bias = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    if size % 2:
        return torch.nn.functional.local_response_norm(x, size, alpha, beta, bias)
    squares = torch.nn.functional.pad((x * x).flatten(2)[:, None], (0, 0, (size - 1) // 2, size // 2))
    means = torch.nn.functional.avg_pool2d(squares, (size, 1), 1)[:, 0].reshape(x.shape)
    return x / torch.pow(bias + alpha * means, beta)


@operation("LpNormalization")
def lp_normalisation(node: OnnxNode, x: Value) -> torch.Tensor:
    """Entries by their norm along an axis; 0 where that is 0."""
    x = tensor(x)
    norm: Any = torch.linalg.vector_norm(x, node.get("p", 2), node.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operation("MeanVarianceNormalization")
def mean_variance(node: OnnxNode, x: Value) -> torch.Tensor:
    """Entries by mean and deviation along axes."""
    x, axes = tensor(x), list(node.get("axes", (0, 2, 3)))
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)
