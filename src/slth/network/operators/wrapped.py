"""Weight layers that are a linear map or a convolution at heart, with something around it.

The weight that a layer keeps is its core's: (outputs, inputs per group, *kernel).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slth.network.graph import Layout, Sign
from slth.network.operators.affine import OPERATORS_OF_WEIGHTS, WeightOperator


class Wrapped(WeightOperator):
    """A weight layer with something around its core."""

    def groups(self, attributes: Mapping[str, Any]) -> int:
        """The core's."""
        op, own = self.core(attributes)
        return OPERATORS_OF_WEIGHTS[op].groups(own)

    def padding(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """The core's."""
        op, own = self.core(attributes)
        return OPERATORS_OF_WEIGHTS[op].padding(own)

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The core's own layer, wrapped."""
        op, own = self.core(attributes)
        return self.wrap(attributes, OPERATORS_OF_WEIGHTS[op].module(own))


class Scale(Wrapped):
    """x times a weight, plus a bias, entry by entry along the last ``axes`` axes: a normalisation's, or a gain.

    Its core is a convolution in as many groups as there are entries, with a kernel of one.
    """

    name = "scale"
    kinds = {"weight_shape": tuple, "bias": bool, "axes": int}

    def core(self, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """One convolution group an entry."""
        own = {
            "weight_shape": attributes["weight_shape"],
            "bias": attributes["bias"],
            "groups": attributes["weight_shape"][0],
        }
        return "conv", {**own, "stride": (1,), "padding": (0, 0), "dilation": (1,)}

    def wrap(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> torch.nn.Module:
        """The entries as channels; of plain weights a product and a sum."""
        if isinstance(inner, torch.nn.Conv1d):
            return EntryScale(inner, attributes["axes"])
        return _AcrossEntries(inner, attributes["axes"])

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """The input's."""
        (source,) = sources
        axes, entries = attributes["axes"], attributes["weight_shape"][0]
        shape = source.shape[len(source.shape) - axes :]
        fits = 1 <= axes <= len(source.shape) and math.prod(shape) == entries and min(shape) > 0
        if not fits or attributes["weight_shape"] != (entries, 1, 1):
            raise ValueError(f"{entries} factors along {axes} axes of {source.shape}")
        return source

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The input's."""
        return self.layout(attributes, [Layout(shape)]).shape


class EntryScale(torch.nn.Module):
    """x * weight + bias along the last axes."""

    def __init__(self, conv: torch.nn.Conv1d, axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.weight = torch.nn.Parameter(conv.weight.detach().reshape(-1))
        self.bias = None if conv.bias is None else torch.nn.Parameter(conv.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map on a batch."""
        shape = x.shape[x.dim() - self.axes :]
        scaled = x * self.weight.reshape(shape)
        return scaled if self.bias is None else scaled + self.bias.reshape(shape)


class _AcrossEntries(torch.nn.Module):
    """A module over channels, for entries of the last axes."""

    def __init__(self, inner: torch.nn.Module, axes: int) -> None:
        super().__init__()
        self.inner, self.axes = inner, axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map on a batch."""
        entries = math.prod(x.shape[x.dim() - self.axes :])
        result: torch.Tensor = self.inner(x.reshape(-1, entries, 1))
        return result.reshape(x.shape)


class Embedding(Wrapped):
    """Rows of a table by their numbers: a linear map of one-hot vectors, which are never negative."""

    name = "embedding"
    kinds = {"weight_shape": tuple, "bias": bool}

    def core(self, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Linear, from as many inputs as the table has rows."""
        return "linear", {"weight_shape": attributes["weight_shape"], "bias": attributes["bias"]}

    def wrap(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> torch.nn.Module:
        """One-hot vectors before it; of plain weights ``torch.nn.Embedding``."""
        if isinstance(inner, torch.nn.Linear) and inner.bias is None:
            table = inner.weight.detach().t().contiguous()
            return torch.nn.Embedding.from_pretrained(table, freeze=False)
        return _OneHot(inner, attributes["weight_shape"][1])

    def core_sign(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """One-hot vectors are never negative."""
        return Sign.NONNEGATIVE

    def core_reach(self, attributes: Mapping[str, Any], reaches: Sequence[float]) -> float:
        """Their entries are 0 or 1."""
        return 1.0

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """One more axis."""
        (source,) = sources
        return Layout((*source.shape, attributes["weight_shape"][0]), source.batched)


class _OneHot(torch.nn.Module):
    """Numbers of rows as one-hot vectors, before a module."""

    def __init__(self, inner: torch.nn.Module, rows: int) -> None:
        super().__init__()
        self.inner, self.rows = inner, rows
        self.register_buffer("number", torch.empty(0), persistent=False)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        """The rows, (*index shape, columns)."""
        assert isinstance(self.number, torch.Tensor)
        # Each row is computed once, however often it occurs.
        rows, place = torch.unique(index, return_inverse=True)
        table: torch.Tensor = self.inner(torch.nn.functional.one_hot(rows.long(), self.rows).to(self.number.dtype))
        return table[place]


class Parameter(Wrapped):
    """A tensor that is learned as it is, such as a class token: a linear map of the constant 1."""

    name = "parameter"
    kinds = {"weight_shape": tuple, "bias": bool, "shape": tuple}

    def core(self, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Linear, from one input."""
        return "linear", {"weight_shape": attributes["weight_shape"], "bias": attributes["bias"]}

    def wrap(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> torch.nn.Module:
        """A 1 before it, and the tensor's shape behind; of plain weights the tensor."""
        if isinstance(inner, torch.nn.Linear) and inner.bias is None:
            return LearnedTensor(inner.weight.detach().reshape(attributes["shape"]))
        return _OfOne(inner, attributes["shape"])

    def core_sign(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """1 is not negative."""
        return Sign.NONNEGATIVE

    def core_reach(self, attributes: Mapping[str, Any], reaches: Sequence[float]) -> float:
        """1."""
        return 1.0

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """Its own, whatever the batch."""
        shape: tuple[int, ...] = attributes["shape"]
        if sources or attributes["weight_shape"] != (math.prod(shape), 1) or min(shape, default=1) < 1:
            raise ValueError(f"a parameter of shape {shape} of {len(sources)} values")
        return Layout(shape, batched=False)


class LearnedTensor(torch.nn.Module):
    """A tensor by itself."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(value)

    def forward(self) -> torch.Tensor:
        """The tensor."""
        return self.value


class _OfOne(torch.nn.Module):
    """A module of the constant 1."""

    def __init__(self, inner: torch.nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.shape = inner, shape
        self.register_buffer("number", torch.ones(1, 1), persistent=False)

    def forward(self) -> torch.Tensor:
        """The tensor."""
        result: torch.Tensor = self.inner(self.number)
        return result.reshape(self.shape)


class ConvTranspose(WeightOperator):
    """Transposed convolution with stride, cropping, dilation and groups, as torch defines it, without a bias.

    Its weight is (outputs, inputs per group, *kernel), where torch has (inputs, outputs per group, *kernel).
    """

    name = "conv_transpose"
    kinds = {"weight_shape": tuple, "bias": bool, "stride": tuple, "crop": tuple, "extra": tuple, "dilation": tuple} | {
        "groups": int
    }

    def groups(self, attributes: Mapping[str, Any]) -> int:
        """Number of groups that share no weights."""
        groups: int = attributes["groups"]
        return groups

    def layer(
        self,
        attributes: Mapping[str, Any],
        weight_shape: tuple[int, ...],
        bias: bool,
        padding: tuple[int, ...] | str | None = None,
    ) -> torch.nn.Module:
        """A transposed convolution whose weight is laid out like that of others."""
        return TransposedConvolution(attributes, torch.empty(weight_shape))

    def pointwise(
        self, attributes: Mapping[str, Any], outputs: int, inputs_per_group: int, bias: bool
    ) -> torch.nn.Module:
        """A convolution with a kernel of one entry, in the target's groups."""
        own = {key: attributes[key] for key in ("stride", "dilation", "groups")}
        kernel = attributes["weight_shape"][2:]
        like = {**own, "weight_shape": attributes["weight_shape"], "padding": (0,) * (2 * len(kernel))}
        return OPERATORS_OF_WEIGHTS["conv"].pointwise(like, outputs, inputs_per_group, bias)

    def apply(
        self, attributes: Mapping[str, Any], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The functional transposed convolution."""
        result = _transposed(attributes, x, weight)
        return result if bias is None else result + bias.reshape(-1, *([1] * (weight.dim() - 2)))

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The same as :meth:`layer`."""
        return self.layer(attributes, attributes["weight_shape"], attributes["bias"])

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Output channels, and positions that kernels reach."""
        outputs, inputs_per_group, *kernel = attributes["weight_shape"]
        groups, n = attributes["groups"], len(kernel)
        numbers = [attributes[key] for key in ("stride", "crop", "extra", "dilation")]
        fits = n in (1, 2, 3) and groups >= 1 and outputs % groups == 0 and not attributes["bias"]
        fits = (
            fits
            and len(shape) == n + 1
            and shape[0] == inputs_per_group * groups
            and all(len(part) == n for part in numbers)
        )
        if not fits or min(attributes["stride"]) < 1 or min(attributes["dilation"]) < 1:
            raise ValueError(f"a transposed convolution with {attributes} on {shape}")
        sizes = []
        for size, k, stride, crop, extra, dilation in zip(shape[1:], kernel, *numbers, strict=True):
            sizes.append((size - 1) * stride - 2 * crop + dilation * (k - 1) + extra + 1)
            if sizes[-1] < 1 or not 0 <= extra < max(stride, dilation) or crop < 0:
                raise ValueError(f"a transposed convolution with {attributes} on {shape}")
        return (outputs, *sizes)


def _transposed(attributes: Mapping[str, Any], x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    groups = attributes["groups"]
    outputs, inputs_per_group, *kernel = weight.shape
    own = weight.reshape(groups, outputs // groups, inputs_per_group, *kernel).transpose(1, 2)
    own = own.reshape(groups * inputs_per_group, outputs // groups, *kernel)
    convolve = getattr(torch.nn.functional, f"conv_transpose{len(kernel)}d")
    result: torch.Tensor = convolve(
        x, own, None, attributes["stride"], attributes["crop"], attributes["extra"], groups, attributes["dilation"]
    )
    return result


class TransposedConvolution(torch.nn.Module):
    """A transposed convolution whose weight is (outputs, inputs per group, *kernel)."""

    def __init__(self, attributes: Mapping[str, Any], weight: torch.Tensor) -> None:
        super().__init__()
        self.attributes = dict(attributes)
        self.weight = torch.nn.Parameter(weight)
        self.register_parameter("bias", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map on a batch."""
        return _transposed(self.attributes, x, self.weight)


WRAPPED: tuple[WeightOperator, ...] = (Scale(), Embedding(), Parameter(), ConvTranspose())
