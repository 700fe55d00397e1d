"""Activations between the weight layers, entry by entry; what each of them computes is in :mod:`slth.activations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from slth.activations import ACTIVATIONS, Activation
from slth.activations.own import named
from slth.errors import ArgumentError, UnsupportedError
from slth.network.calls import Call
from slth.network.graph import Attribute, Layout, Sign
from slth.network.operators.base import Operator

OWN_CALL = "own_activation"
"""What a traced call of a registered activation is called; see :mod:`slth.network.own`."""

Reader = Callable[[Call], dict[str, Attribute]]


class Elementwise(Operator):
    """An activation; its attributes are the parameters of the maker of the same name.

    Parameters
    ----------
    name : str
        Of the operation, and of the maker in :data:`slth.activations.ACTIVATIONS`.
    aten : sequence of str
        Names of the torch operations, without those that work in place.
    kinds : mapping of str to type
        Attribute names and their types.
    read : callable, optional
        Attributes of a traced call.
    """

    def __init__(
        self, name: str, *aten: str, kinds: Mapping[str, type] | None = None, read: Reader | None = None
    ) -> None:
        self.name, self.kinds, self._read = name, kinds or {}, read
        self.aten = tuple(f"{entry}{ending}" for entry in aten or (name,) for ending in ("", "_"))

    def activation(self, attributes: Mapping[str, Any]) -> Activation:
        """What it computes.

        Raises
        ------
        ArgumentError
            If a parameter is out of its range.
        """
        return ACTIVATIONS[self.name](**attributes)

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """The traced call's parameters."""
        attributes = self._read(call) if self._read is not None else {}
        try:
            self.activation(attributes)
        except ArgumentError as error:
            raise UnsupportedError(call.name, f"{error.where}: {error.got}", error.need) from error
        return attributes

    def check(self, attributes: dict[str, Any]) -> dict[str, Attribute]:
        """Attributes read from a file, in their ranges."""
        checked = super().check(attributes)
        self.activation(checked)
        return checked

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """The torch module of the activation."""
        return self.activation(attributes).torch_module()

    def sign(self, attributes: Mapping[str, Any], sign: Sign) -> Sign:
        """Never negative, the input's, or unknown."""
        activation = self.activation(attributes)
        if activation.nonnegative:
            return Sign.NONNEGATIVE
        return sign if activation.keeps_sign else Sign.SIGNED

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The input's."""
        return shape

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """The input's, wherever its batch axis is."""
        (source,) = sources
        return source


class Gelu(Elementwise):
    """GELU with the normal law itself (``approximate`` "none") or its usual approximation ("tanh")."""

    def activation(self, attributes: Mapping[str, Any]) -> Activation:
        """What it computes."""
        forms = {"none": "gelu", "tanh": "gelu_tanh"}
        form = attributes["approximate"]
        if form not in forms:
            raise ArgumentError("activation gelu, approximate", repr(form), " or ".join(forms))
        return ACTIVATIONS[forms[form]]()


class Own(Elementwise):
    """A user's own activation, which has been registered under the name ``name``."""

    name = "own"

    def __init__(self) -> None:
        super().__init__(self.name, OWN_CALL, kinds={"name": str}, read=_own)

    def activation(self, attributes: Mapping[str, Any]) -> Activation:
        """What it computes.

        Raises
        ------
        ArgumentError
            If none is registered under its name.
        """
        return named(str(attributes["name"]))


def _leaky_relu(call: Call) -> dict[str, Attribute]:
    """LeakyReLU, and PReLU with one slope: once trained it is a constant of the architecture."""
    if call.op != "prelu":
        return {"slope": float(call.arguments.get("negative_slope", 0.01))}
    slopes = call.weight
    if slopes.numel() != 1 or slopes.device.type == "meta":
        raise UnsupportedError(
            call.name,
            f"PReLU with {slopes.numel()} slopes on the device {slopes.device.type}",
            "one slope, with its value",
            "torch.nn.PReLU(1), whose slope all channels share",
        )
    return {"slope": float(slopes.detach().reshape(()))}


def _own(call: Call) -> dict[str, Attribute]:
    return {"name": str(call.arguments.get("name", ""))}


def _gelu(call: Call) -> dict[str, Attribute]:
    return {"approximate": str(call.arguments.get("approximate", "none"))}


def _elu(call: Call) -> dict[str, Attribute]:
    for scale in ("scale", "input_scale"):
        if call.arguments.get(scale, 1) != 1:
            raise UnsupportedError(
                call.name, f"ELU with {scale} {call.arguments[scale]}", "1", "folding it into the weights"
            )
    return {"alpha": float(call.arguments.get("alpha", 1))}


def _hardtanh(call: Call) -> dict[str, Attribute]:
    if call.op.startswith("relu6"):
        return {"low": 0.0, "high": 6.0}
    return _reader(low=("min_val", -1), high=("max_val", 1))(call)


def _reader(**names: tuple[str, float]) -> Reader:
    """Attributes by the names of torch's own arguments, and their defaults."""
    return lambda call: {name: float(call.arguments.get(own, default)) for name, (own, default) in names.items()}


ELEMENTWISE: tuple[Elementwise, ...] = (
    Elementwise("relu"),
    Elementwise("leaky_relu", "leaky_relu", "prelu", kinds={"slope": float}, read=_leaky_relu),
    Elementwise("tanh"),
    Elementwise("sigmoid", "sigmoid", "special_expit"),
    Gelu("gelu", kinds={"approximate": str}, read=_gelu),
    Elementwise("silu"),
    Elementwise("elu", kinds={"alpha": float}, read=_elu),
    Elementwise(
        "softplus",
        kinds={"beta": float, "threshold": float},
        read=_reader(beta=("beta", 1), threshold=("threshold", 20)),
    ),
    Elementwise(
        "hardtanh",
        "hardtanh",
        "relu6",
        kinds={"low": float, "high": float},
        read=_hardtanh,
    ),
    Own(),
)


def operation_of(activation: Activation) -> tuple[str, dict[str, Attribute]] | None:
    """Operation and attributes of an activation of the registry; None for the identity, which needs none."""
    match activation.name:
        case "identity":
            return None
        case "prelu":
            return "leaky_relu", {**activation.parameters}
        case "relu6":
            return "hardtanh", {"low": 0.0, "high": 6.0}
        case "gelu" | "gelu_tanh":
            return "gelu", {"approximate": "none" if activation.name == "gelu" else "tanh"}
    if not activation.proved:
        return "own", {"name": activation.name}
    return activation.name, {**activation.parameters}
