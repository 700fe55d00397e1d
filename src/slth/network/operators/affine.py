"""Weight layers: Linear and convolutions in one, two and three dimensions.

Both are the same map for the constructions: a weight of shape (outputs, inputs per group, *kernel) where a Linear
layer has no kernel axes and one group. Weight layers of other kinds are one of these at heart, their core, with
something around it (:mod:`slth.network.operators.wrapped`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.calls import Call
from slth.network.graph import Attribute, Layout, Node, Sign
from slth.network.operators.base import Operator, slide, spatial
from slth.network.operators.shape import Padding


@functools.cache
def _unfilled(kind: type[torch.nn.Module]) -> Any:
    """The class without its random initialisation, which would cost time and move torch's own random state.

    Differs from ``torch.nn.utils.skip_init``: without the meta device, whose start alone takes half a second.
    """
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})


class WeightOperator(Operator):
    """An affine map. Attributes always hold ``weight_shape`` and ``bias``."""

    def sign(self, attributes: Mapping[str, Any], sign: Sign) -> Sign:
        """Nothing is known after an affine map."""
        return Sign.SIGNED

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """The same, whatever it reads."""
        return Sign.SIGNED

    def core(self, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Operation and attributes of the plain map that has the weights."""
        return self.name, dict(attributes)

    def wrap(self, attributes: Mapping[str, Any], inner: torch.nn.Module) -> torch.nn.Module:
        """The whole operation around a module that computes its core."""
        return inner

    def core_sign(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """Sign of what the core reads, given those of what the node reads."""
        return signs[0]

    def core_reach(self, attributes: Mapping[str, Any], reaches: Sequence[float]) -> float:
        """A bound on the absolute values of what the core reads, from bounds on what the node reads."""
        return max(reaches)

    def reach(self, attributes: Mapping[str, Any], reaches: Sequence[float], made: float) -> float:
        """A bound on the absolute values of the output, from one on what the core makes."""
        return made

    def shares(self, first: Node, other: Node) -> bool:
        """Whether a second node can use the weights of a first one."""
        mine, theirs = (OPERATORS_OF_WEIGHTS[node.op].core(node.attributes) for node in (first, other))
        kernel = mine[1]["weight_shape"], mine[1]["bias"], mine[1].get("groups", 1)
        return (
            kernel == (theirs[1]["weight_shape"], theirs[1]["bias"], theirs[1].get("groups", 1))
            and mine[0] == theirs[0]
        )

    def groups(self, attributes: Mapping[str, Any]) -> int:
        """Number of groups that share no weights."""
        return 1

    def padding(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """Zeros before and after each spatial axis, in ``torch.nn.functional.pad``'s order (last axis first)."""
        return ()

    def layer(
        self,
        attributes: Mapping[str, Any],
        weight_shape: tuple[int, ...],
        bias: bool,
        padding: tuple[int, ...] | str | None = None,
    ) -> torch.nn.Module:
        """A torch layer with uninitialised weights of ``weight_shape`` and this one's geometry, but for the padding."""
        raise NotImplementedError

    def pointwise(
        self, attributes: Mapping[str, Any], outputs: int, inputs_per_group: int, bias: bool
    ) -> torch.nn.Module:
        """A torch layer with uninitialised weights that maps each position by itself (a 1x1 convolution)."""
        raise NotImplementedError

    def apply(
        self, attributes: Mapping[str, Any], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The map on a batch, padding included."""
        raise NotImplementedError

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The target's own layer with uninitialised weights, padding included."""
        weight_shape = attributes["weight_shape"]
        layer = self.layer(attributes, weight_shape, attributes["bias"])
        padding = self.padding(attributes)
        if not any(padding):
            return layer
        pairs = [padding[i : i + 2] for i in range(0, len(padding), 2)][::-1]
        if all(low == high for low, high in pairs):
            return self.layer(attributes, weight_shape, attributes["bias"], tuple(low for low, _ in pairs))
        return _Padded(padding, layer)

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Output shape without the batch axis."""
        raise NotImplementedError


class _Padded(torch.nn.Sequential):
    """A layer behind padding of its own, which torch's layers cannot have on one side alone."""

    def __init__(self, padding: tuple[int, ...], layer: torch.nn.Module) -> None:
        super().__init__()
        self.pad, self.layer = Padding(padding), layer


class Linear(WeightOperator):
    """x W^T + b on the last axis."""

    name = "linear"
    aten = ("linear",)
    kinds = {"weight_shape": tuple, "bias": bool}

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Shape of the weight and whether there is a bias."""
        return {"weight_shape": tuple(call.weight.shape), "bias": call.bias is not None}

    def layer(
        self,
        attributes: Mapping[str, Any],
        weight_shape: tuple[int, ...],
        bias: bool,
        padding: tuple[int, ...] | str | None = None,
    ) -> torch.nn.Module:
        """``torch.nn.Linear``, which knows no padding."""
        outputs, inputs = weight_shape
        return self.pointwise(attributes, outputs, inputs, bias)

    def pointwise(
        self, attributes: Mapping[str, Any], outputs: int, inputs_per_group: int, bias: bool
    ) -> torch.nn.Module:
        """``torch.nn.Linear``."""
        layer: torch.nn.Module = _unfilled(torch.nn.Linear)(inputs_per_group, outputs, bias)
        return layer

    def apply(
        self, attributes: Mapping[str, Any], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """``torch.nn.functional.linear``."""
        return torch.nn.functional.linear(x, weight, bias)

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The input's with the last axis replaced."""
        outputs, inputs = attributes["weight_shape"]
        if not shape or shape[-1] != inputs:
            raise ValueError(f"a Linear layer of {inputs} inputs on {shape}")
        return (*shape[:-1], outputs)

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """The same wherever the batch axis is, as long as it is not the last."""
        (source,) = sources
        return Layout(self.shape(attributes, source.shape), source.batched)


class Conv(WeightOperator):
    """Cross-correlation with stride, zero padding, dilation and groups, as torch defines it."""

    name = "conv"
    aten = ("conv1d", "conv2d", "conv3d", "convolution")
    kinds = {
        "weight_shape": tuple,
        "bias": bool,
        "stride": tuple,
        "padding": tuple,
        "dilation": tuple,
        "groups": int,
    }

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Kernel shape, stride, padding before and after each axis, dilation and groups."""
        n = call.weight.dim() - 2
        if call.arguments.get("transposed"):
            raise UnsupportedError(call.name, "a transposed convolution", "Conv1d, Conv2d or Conv3d")
        dilation = spatial(call.arguments.get("dilation", 1), n)
        return {
            "weight_shape": tuple(call.weight.shape),
            "bias": call.bias is not None,
            "stride": spatial(call.arguments.get("stride", 1), n),
            "padding": _pairs(call.arguments.get("padding", 0), tuple(call.weight.shape[2:]), dilation),
            "dilation": dilation,
            "groups": int(call.arguments.get("groups", 1)),
        }

    def groups(self, attributes: Mapping[str, Any]) -> int:
        """Number of groups that share no weights."""
        groups: int = attributes["groups"]
        return groups

    def padding(self, attributes: Mapping[str, Any]) -> tuple[int, ...]:
        """Zeros before and after each spatial axis, last axis first."""
        padding: tuple[int, ...] = attributes["padding"]
        return padding

    def layer(
        self,
        attributes: Mapping[str, Any],
        weight_shape: tuple[int, ...],
        bias: bool,
        padding: tuple[int, ...] | str | None = None,
    ) -> torch.nn.Module:
        """``torch.nn.Conv1d``, ``2d`` or ``3d``, unpadded unless told otherwise."""
        geometry = {key: attributes[key] for key in ("stride", "dilation", "groups")}
        return self._convolution(weight_shape, bias, padding=padding or 0, **geometry)

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The target's own layer; uneven padding is called "same" where it is, so that the weights keep their names."""
        kernel = attributes["weight_shape"][2:]
        same = _pairs("same", kernel, attributes["dilation"])
        if attributes["padding"] == same and any(same) and set(attributes["stride"]) == {1}:
            return self.layer(attributes, attributes["weight_shape"], attributes["bias"], "same")
        return super().module(attributes)

    def pointwise(
        self, attributes: Mapping[str, Any], outputs: int, inputs_per_group: int, bias: bool
    ) -> torch.nn.Module:
        """A convolution with a kernel of one entry, in the target's groups."""
        ones = (1,) * (len(attributes["weight_shape"]) - 2)
        return self._convolution((outputs, inputs_per_group, *ones), bias, groups=attributes["groups"])

    def _convolution(self, weight_shape: tuple[int, ...], bias: bool, groups: int, **geometry: Any) -> torch.nn.Module:
        outputs, inputs_per_group, *kernel = weight_shape
        layer: torch.nn.Module = _unfilled(getattr(torch.nn, f"Conv{len(kernel)}d"))(
            inputs_per_group * groups,
            outputs,
            kernel,
            groups=groups,
            bias=bias,
            **geometry,
        )
        return layer

    def apply(
        self, attributes: Mapping[str, Any], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The functional convolution on an explicitly padded batch."""
        convolve = getattr(torch.nn.functional, f"conv{weight.dim() - 2}d")
        padded = torch.nn.functional.pad(x, attributes["padding"]) if any(attributes["padding"]) else x
        result: torch.Tensor = convolve(
            padded,
            weight,
            bias,
            stride=attributes["stride"],
            dilation=attributes["dilation"],
            groups=attributes["groups"],
        )
        return result

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Output channels, and positions of the kernel."""
        outputs, inputs_per_group, *kernel = attributes["weight_shape"]
        groups, widths = attributes["groups"], attributes["padding"]
        if len(shape) != len(kernel) + 1 or groups < 1 or shape[0] != inputs_per_group * groups:
            raise ValueError(f"a {len(kernel)}-D convolution of {inputs_per_group * groups} channels on {shape}")
        if len(kernel) not in (1, 2, 3) or outputs < 1 or outputs % groups or len(widths) != 2 * len(kernel):
            raise ValueError(f"a convolution with {attributes}")
        pairs = tuple(zip(widths[-2::-2], widths[::-2], strict=True))
        return (outputs, *slide(shape[1:], tuple(kernel), attributes["stride"], attributes["dilation"], pairs))


def _pairs(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Padding before and after each axis, last axis first, from torch's numbers or the words same and valid."""
    n = len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(width, width) for width in spatial(0 if padding == "valid" else padding, n)]
    return tuple(width for pair in reversed(pairs) for width in pair)


OPERATORS_OF_WEIGHTS: dict[str, WeightOperator] = {operator.name: operator for operator in (Linear(), Conv())}
"""Plain ones; :data:`slth.network.operators.WEIGHT_OPERATORS` has all."""
