"""What is proved about the values at one point of the two networks, and the arithmetic that keeps it a proof.

Everything is float64 and every bound is rounded outward: a sum of n products computed in any order is off by at most
n 2^-53 / (1 - n 2^-53) times the sum of their absolute values (Higham 2002, section 3.1), for which ``(n + 8) 2^-52``
stands throughout; ``TINY`` covers products that underflow. Convolutions in float64 are such sums: torch has no Winograd
or Fourier version of them on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

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
    """

    lower: torch.Tensor
    upper: torch.Tensor
    error: torch.Tensor
    nonnegative: bool
    nonpositive: bool
    copies: torch.Tensor | None = None

    @property
    def magnitude(self) -> torch.Tensor:
        """Bound on the target's absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


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
