"""A traced network as a list of calls, whatever it was traced by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slth.errors import UnsupportedError

WITH_INDICES = frozenset(name for n in (1, 2, 3) for name in (f"adaptive_max_pool{n}d", f"max_pool{n}d_with_indices"))
"""Pooling that gives two tensors: pooled entries, and where they were. Such a call stands for the first alone."""

_NORMALISED = frozenset(
    {"native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit_no_training"}
)
FIRST_ALONE = WITH_INDICES | _NORMALISED
"""Calls with several outputs of which the first is what everybody wants: they stand for it alone."""

ITEM = "getitem"
"""What a call is named that takes one output of a call with several: its arguments are ``self`` and ``index``."""


@dataclass(frozen=True)
class Reference:
    """The output of another call, a parameter or an input, by name."""

    name: str


@dataclass(frozen=True)
class Call:
    """One traced operation with its arguments by the names of torch's schema.

    Attributes
    ----------
    name : str
        Name of the value it produces.
    op : str
        Name of the torch operation, without namespace and overload.
    arguments : mapping
        Numbers, strings and lists as they are; tensors as :class:`Reference`.
    shape : sequence
        Shape of the value it produces, batch axis first; a symbolic size is None. Empty where there are several.
    batch : int or None
        Size of the traced batch; None where it was traced as symbolic.
    parameters : mapping of str to tensor
        Parameters, buffers and constants that the arguments may refer to.
    dtype : torch.dtype or None
        Of the value; None where it is not known or there are several.
    """

    name: str
    op: str
    arguments: Mapping[str, Any]
    shape: Sequence[int | None]
    batch: int | None
    parameters: Mapping[str, torch.Tensor] = field(repr=False, default_factory=dict)
    dtype: torch.dtype | None = None

    @property
    def references(self) -> list[Reference]:
        """All tensors that the call reads, in the order of its arguments."""
        return list(references(list(self.arguments.values())))

    @property
    def tensors(self) -> list[str]:
        """Names of the values, not parameters, that the call reads."""
        return [entry.name for entry in self.references if entry.name not in self.parameters]

    @property
    def weight(self) -> torch.Tensor:
        """The weight, which must be a parameter as it is."""
        return self.parameter("weight")

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias, or None."""
        return None if self.arguments.get("bias") is None else self.parameter("bias")

    def is_parameter(self, key: str) -> bool:
        """Whether an argument is a parameter, or computed from parameters alone."""
        reference = self.arguments.get(key)
        return isinstance(reference, Reference) and reference.name in self.parameters

    def parameter(self, key: str) -> torch.Tensor:
        """An argument that must be a parameter.

        Raises
        ------
        UnsupportedError
            If it is computed from the input.
        """
        reference = self.arguments[key]
        if not isinstance(reference, Reference) or reference.name not in self.parameters:
            raise UnsupportedError(self.name, f"{self.op} whose {key} is computed from other values", "a parameter")
        return self.parameters[reference.name]


def references(value: Any) -> Iterator[Reference]:
    """All references in an argument, lists and what is in them included."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from references(entry)


_NEW = {f"new_{kind}": kind for kind in ("zeros", "ones", "full")}
"""New tensors that take nothing but their number type from another."""
_CREATED = frozenset({"zeros", "ones", "full", "eye", "linspace", "arange", "scalar_tensor"})
"""New tensors that have torch's default number type where none is said, which must be that of the network."""


def usual(op: str, arguments: Mapping[str, Any], dtype: torch.dtype | None) -> tuple[str, Mapping[str, Any]]:
    """A call in the form in which there are rules for it, given the number type of its value.

    Normalisations of decomposed programs are those of modules; new tensors that are like others do without them.
    """
    if op in _NEW:
        own = {key: arguments[key] for key in ("size", "fill_value") if key in arguments}
        return _NEW[op], {**own, "dtype": arguments.get("dtype") or dtype}
    if op in _CREATED and arguments.get("dtype") is None and dtype in (torch.float32, torch.float64):
        return op, {**arguments, "dtype": dtype}
    if op not in _NORMALISED:
        return op, arguments
    if op == "native_layer_norm":
        return "layer_norm", arguments
    if op == "native_group_norm":
        own = {key: arguments.get(key) for key in ("input", "weight", "bias", "eps")}
        return "group_norm", {**own, "num_groups": arguments["group"]}
    return "batch_norm", {"training": False, "cudnn_enabled": False, **arguments}
