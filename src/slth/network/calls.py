"""A traced network as a list of calls, whatever it was traced by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slth.errors import UnsupportedError

WITH_INDICES = frozenset(name for n in (1, 2, 3) for name in (f"adaptive_max_pool{n}d", f"max_pool{n}d_with_indices"))
"""Operations that give two tensors: pooled entries, and where they were. Such a call stands for the first alone."""


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
        Shape of the value it produces, batch axis first; a symbolic size is None.
    batch : int or None
        Size of the traced batch; None where it was traced as symbolic.
    parameters : mapping of str to tensor
        Parameters, buffers and constants that the arguments may refer to.
    """

    name: str
    op: str
    arguments: Mapping[str, Any]
    shape: Sequence[int | None]
    batch: int | None
    parameters: Mapping[str, torch.Tensor] = field(repr=False, default_factory=dict)

    @property
    def tensors(self) -> list[str]:
        """Names of the values, not parameters, that the call reads."""
        found: list[str] = []
        for value in self.arguments.values():
            for entry in value if isinstance(value, list | tuple) else (value,):
                if isinstance(entry, Reference) and entry.name not in self.parameters:
                    found.append(entry.name)
        return found

    @property
    def weight(self) -> torch.Tensor:
        """The weight, which must be a parameter as it is."""
        return self._parameter("weight")

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias, or None."""
        return None if self.arguments.get("bias") is None else self._parameter("bias")

    def _parameter(self, key: str) -> torch.Tensor:
        reference = self.arguments[key]
        if not isinstance(reference, Reference) or reference.name not in self.parameters:
            raise UnsupportedError(
                self.name,
                f"{self.op} whose {key} is computed from other values",
                "a plain parameter",
                "removing parametrisations (torch.nn.utils.parametrize.remove_parametrizations) first",
            )
        return self.parameters[reference.name]
