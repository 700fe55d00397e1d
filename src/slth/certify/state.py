"""What is proved about the values at one point of the two networks, and the arithmetic that keeps it a proof.

Everything is float64 and every bound is rounded outward: a sum of n products computed in any order is off by at most
n 2^-53 / (1 - n 2^-53) times the sum of their absolute values (Higham 2002, section 3.1), for which ``(n + 8) 2^-52``
stands throughout; ``TINY`` covers products that underflow. Convolutions in float64 are such sums: torch has no Winograd
or Fourier version of them on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from slth.network.graph import Sign

UNIT = 2.0**-52
TINY = 1e-290


@dataclass(frozen=True)
class State:
    """Bounds on one tensor of both networks, for every input of the domain, entry by entry and without a batch axis.

    They hold for exact arithmetic and for any evaluation of either network in float64.

    Attributes
    ----------
    lower, upper : tensor
        Bounds on the target's value.
    error : tensor
        Bound on |ticket's value - target's value|.
    nonnegative, nonpositive : bool
        Whether no value of *either* network can have the other sign.
    copies : tensor or None
        Where the ticket has several copies of every value, a bound for each of them, along the first axis; ``error`` is
        the largest.
    exact : tensor or None
        Where both networks have the very same known numbers, those, of their own type: indices, masks, tokens.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    error: torch.Tensor
    nonnegative: bool
    nonpositive: bool
    copies: torch.Tensor | None = None
    exact: torch.Tensor | None = None

    @property
    def magnitude(self) -> torch.Tensor:
        """Bound on the target's absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    @property
    def bounded(self) -> bool:
        """Whether something finite is known of every entry's difference."""
        return bool(torch.isfinite(self.error).all())

    @property
    def sign(self) -> Sign:
        """What is known of the sign of all entries, in both networks."""
        if self.nonnegative:
            return Sign.NONNEGATIVE
        return Sign.NONPOSITIVE if self.nonpositive else Sign.SIGNED

    @classmethod
    def of(cls, parts: Sequence[torch.Tensor], nonnegative: bool = False, nonpositive: bool = False) -> State:
        """From lower bounds, upper bounds and errors."""
        lower, upper, error = parts
        return cls(lower, upper, error, nonnegative, nonpositive)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> State:
        """The same entries in other places, of one copy."""
        parts = [change(part) for part in (self.lower, self.upper, self.error)]
        return State.of(parts, self.nonnegative, self.nonpositive)

    def sound(self) -> State:
        """The same where bounds are numbers; what could not be computed is no bound."""
        if not bool(torch.isnan(self.lower + self.upper + self.error).any()):
            return self
        lower = self.lower.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        upper, error = (part.nan_to_num(nan=math.inf, posinf=math.inf) for part in (self.upper, self.error))
        return replace(self, lower=lower, upper=upper, error=error, exact=None)


def constant(value: torch.Tensor) -> State:
    """Of numbers that are known and the same in both networks."""
    if value.is_complex():
        return replace(unknown(value.shape), error=torch.zeros(value.shape, dtype=torch.float64), exact=value)
    number = value.to(torch.float64)
    signs = bool((number >= 0).all()), bool((number <= 0).all())
    return State(number, number, torch.zeros_like(number), *signs, exact=value)


def unknown(shape: Sequence[int]) -> State:
    """Of values of which nothing is known."""
    ends = torch.full(tuple(shape), math.inf, dtype=torch.float64)
    return State(-ends, ends, ends, False, False)


def of_copies(states: Sequence[State]) -> State:
    """One state for what was derived copy by copy; each of them bounds the target's value."""
    errors = torch.stack([state.error for state in states])
    return replace(states[0], error=errors.amax(dim=0), copies=errors)


def choose(condition: torch.Tensor, yes: float, no: float) -> torch.Tensor:
    """One of two numbers for each entry, in float64: ``torch.where`` alone would round both to float32."""
    return torch.where(condition, torch.tensor(yes, dtype=torch.float64), torch.tensor(no, dtype=torch.float64))


def inflate(bound: torch.Tensor, n_terms: int) -> torch.Tensor:
    """An upper bound on a sum of ``n_terms`` non-negative products, from its computed value."""
    return bound * (1.0 + (n_terms + 8) * UNIT) + TINY
