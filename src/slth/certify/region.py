"""Sets of inputs over which a linear form has a known largest value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from slth.certify.state import UNIT, inflate
from slth.certify.windows import Window, cut


class Region(Protocol):
    """A bounded set of inputs."""

    @property
    def lower(self) -> torch.Tensor:
        """Of the least box around it, float64 and of the input's shape."""

    @property
    def upper(self) -> torch.Tensor:
        """Of the least box around it, float64 and of the input's shape."""

    def highest(self, rows: torch.Tensor, sizes: torch.Tensor | None, window: Window = None) -> torch.Tensor:
        """Upper bounds on sup of <row, x> + <size, |x|>, (rows,), rounding of their own included.

        Coefficients are those of the entries in a window; there are none outside.
        """


@dataclass(frozen=True)
class Box:
    """All inputs between two bounds."""

    lower: torch.Tensor
    upper: torch.Tensor

    def highest(self, rows: torch.Tensor, sizes: torch.Tensor | None, window: Window = None) -> torch.Tensor:
        """Entry by entry the largest at an end, or at 0 between them."""
        rows, lower, upper = rows.flatten(1), cut(self.lower, window).flatten(), cut(self.upper, window).flatten()
        n_terms = 2 * rows.shape[1] + 4
        reach = torch.maximum(lower.abs(), upper.abs())
        if sizes is None:
            middle, radius = (lower + upper) / 2, (upper - lower) / 2
            magnitude = rows.abs()
            best = rows @ middle + magnitude @ (radius * (1 + 4 * UNIT))
            return best + (n_terms + 8) * UNIT * inflate(magnitude @ reach, n_terms)
        sizes = sizes.flatten(1)
        ends = torch.maximum(rows * lower + sizes * lower.abs(), rows * upper + sizes * upper.abs())
        crossing = (lower < 0) & (upper > 0)
        best = torch.where(crossing, ends.clamp(min=0), ends).sum(dim=1)
        return best + (n_terms + 8) * UNIT * inflate((rows.abs() + sizes.abs()) @ reach, n_terms)


@dataclass(frozen=True)
class Ball:
    """All inputs within a distance of one, in the Euclidean norm or the sum of absolute values.

    Attributes
    ----------
    centre : float64 tensor of the input's shape
    radius : float
    p : int
        1 or 2.
    """

    centre: torch.Tensor
    radius: float
    p: int

    @property
    def lower(self) -> torch.Tensor:
        """No entry is farther off than the radius."""
        return self.centre - self.radius - 4 * UNIT * (self.centre.abs() + self.radius)

    @property
    def upper(self) -> torch.Tensor:
        """No entry is farther off than the radius."""
        return self.centre + self.radius + 4 * UNIT * (self.centre.abs() + self.radius)

    def highest(self, rows: torch.Tensor, sizes: torch.Tensor | None, window: Window = None) -> torch.Tensor:
        """At the centre, and the radius times the dual norm."""
        rows, centre = rows.flatten(1), cut(self.centre, window).flatten()
        n_terms = rows.shape[1] + 8
        dual = rows.abs().amax(dim=1) if self.p == 1 else inflate(rows.square().sum(dim=1), n_terms).sqrt()
        best = rows @ centre + inflate(dual * self.radius, 4)
        best = best + (n_terms + 8) * UNIT * inflate(rows.abs() @ centre.abs(), n_terms)
        if sizes is not None:
            reach = (centre.abs() + self.radius) * (1 + 4 * UNIT)
            best = best + inflate(sizes.flatten(1).clamp(min=0) @ reach, n_terms)
        return inflate_signed(best)


def inflate_signed(bound: torch.Tensor) -> torch.Tensor:
    """A number above the sum of a few computed ones, whatever their signs."""
    return bound + 8 * UNIT * bound.abs() + math.ulp(0.0)
