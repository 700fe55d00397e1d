"""The set of inputs for which something is claimed: a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from slth.errors import ArgumentError
from slth.network.graph import Sign


@dataclass(frozen=True)
class Domain:
    """All inputs between ``lower`` and ``upper``, entry by entry.

    Attributes
    ----------
    lower, upper : tensor (float64) or None
        Scalars or tensors of the input's shape; None for all reals.
    """

    lower: torch.Tensor | None = None
    upper: torch.Tensor | None = None

    @classmethod
    def parse(cls, value: Any) -> Domain:
        """A domain from None, a :class:`Domain`, ``"0,1"``, or a pair of numbers or tensors.

        Raises
        ------
        ArgumentError
            If it is not such a pair, not a number or empty.
        """
        if value is None or isinstance(value, Domain):
            return value or cls()
        need = "a lower and an upper bound, the lower one not above the upper one"
        parts = value.split(",") if isinstance(value, str) else value
        try:
            low, high = (torch.as_tensor(_number(part), dtype=torch.float64) for part in parts)
            finite = bool(torch.isfinite(torch.cat([low.ravel(), high.ravel()])).all())
            empty = not finite or 0 in (low.numel(), high.numel()) or bool((~(low <= high)).any())
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError("domain", repr(value), need, "--domain 0,1") from error
        if empty:
            raise ArgumentError("domain", repr(value), f"{need}, both finite", "--domain 0,1")
        return cls(low, high)

    @property
    def bounded(self) -> bool:
        """Whether it is a box rather than all reals."""
        return self.lower is not None

    @property
    def sign(self) -> Sign:
        """Sign of every entry of every input."""
        if self.lower is None or self.upper is None:
            return Sign.SIGNED
        if bool((self.lower >= 0).all()):
            return Sign.NONNEGATIVE
        return Sign.NONPOSITIVE if bool((self.upper <= 0).all()) else Sign.SIGNED

    def bounds(self, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper bound as float64 tensors of the input's shape.

        Raises
        ------
        ArgumentError
            If the domain is all reals or does not fit the shape.
        """
        if self.lower is None or self.upper is None:
            raise ArgumentError("domain", "all reals", "a box", "--domain 0,1")
        try:
            return self.lower.expand(shape).clone(), self.upper.expand(shape).clone()
        except RuntimeError as error:
            got = f"bounds of shape {tuple(self.lower.shape)} and {tuple(self.upper.shape)}"
            raise ArgumentError("domain", got, f"numbers or tensors of the input's shape {shape}") from error

    def describe(self) -> str:
        """The box in a few characters."""
        if self.lower is None or self.upper is None:
            return "all reals"
        low, high = float(self.lower.min()), float(self.upper.max())
        box = f"[{low:g}, {high:g}]"
        return box if self.lower.dim() == self.upper.dim() == 0 else f"a box within {box}"


def _number(part: Any) -> Any:
    if isinstance(part, str):
        return float(part)
    if isinstance(part, int | float) and math.isnan(part):
        raise ValueError("not a number")
    return part.detach().cpu() if isinstance(part, torch.Tensor) else part
