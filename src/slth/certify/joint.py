"""What one weight layer is to both networks: linear maps that are known, and bounds on all that is not linear in them.

For the target's input x and the ticket's y = x + e, both layers' outputs are

    t = W x + b + (at most loose_value),
    d = V e + (V - W) x + K |y| + (b' - b) + (at most loose_difference),

with V the mean of the ticket's two slopes and K half their difference, where inputs of both signs occur. Loose is what
is bounded and not followed: slopes known up to their rounding, activations between the two source layers that are not
quite their lines, and the rounding of one evaluation of either network in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from slth.certify.factors import Factors
from slth.certify.maps import on_one, per_output
from slth.certify.state import State, inflate
from slth.copies import CopiedLayer
from slth.network.graph import Node


@dataclass(frozen=True)
class Maps:
    """Of one weight layer, all of the weight's shape or (outputs,).

    Attributes
    ----------
    weight, bias : tensors
        The target's.
    slope : tensor
        V.
    difference, offset : tensors
        V - W and b' - b, as computed.
    kink : tensor or None
        K; None where one slope holds for all inputs.
    slack : tensor
        Bound on what any entry of the ticket's slopes may be off by.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    slope: torch.Tensor
    difference: torch.Tensor
    offset: torch.Tensor
    kink: torch.Tensor | None
    slack: torch.Tensor

    @cached_property
    def sizes(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Absolute values of V, of V - W and of K."""
        return self.slope.abs(), self.difference.abs(), None if self.kink is None else self.kink.abs()


@dataclass(frozen=True)
class Joint:
    """The maps of a layer, and its bounds for one region.

    Attributes
    ----------
    maps : Maps or None
        None where the ticket's layer is no linear map that is known; d is then bounded by ``loose_difference`` alone.
    loose_value, loose_difference : tensors of the output's shape
    size_value, size_difference : tensors of the output's shape
        Sums of the absolute values of all terms of t and of d, from which rounding is bounded.
    """

    maps: Maps | None
    weight: torch.Tensor
    bias: torch.Tensor
    loose_value: torch.Tensor
    loose_difference: torch.Tensor
    size_value: torch.Tensor
    size_difference: torch.Tensor


def maps_of(factors: Factors, nonnegative: bool, nonpositive: bool) -> Maps | None:
    """The linear part of a layer, given what is known of its input's sign; None where there is none to follow."""
    realised = factors.realised
    if isinstance(realised, CopiedLayer):
        return None
    if realised.only is not None and not (nonnegative if realised.only > 0 else nonpositive):
        return None
    positive, negative = (
        torch.from_numpy(part).reshape(factors.shape) for part in (realised.positive, realised.negative)
    )
    kink = None
    if nonnegative or nonpositive:
        slope = positive if nonnegative else negative
    elif factors.one_branch:
        slope = positive
    else:
        slope, kink = (positive + negative) / 2, (positive - negative) / 2
    # The mean of two slopes, their difference from the weight and half their own are rounded once or twice each.
    slack = inflate(factors.slack, 4) + 8 * 2.0**-52 * (positive.abs() + negative.abs() + factors.weight_size)
    return Maps(factors.weight, factors.bias, slope, slope - factors.weight, factors.shift, kink, slack)


def join(node: Node, factors: Factors, maps: Maps | None, state: State, after: State, rounding: torch.Tensor) -> Joint:
    """The layer's bounds for inputs of which ``state`` is known and ``after`` follows by intervals.

    ``rounding`` is twice that of one evaluation of the layer.
    """
    n_terms = 2 * factors.weight[0].numel() + factors.realised.n_terms + 8
    batchless = on_one(node)

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        return inflate(batchless(matrix, x, constant), n_terms)

    size_value = apply(factors.weight_size, state.magnitude, factors.bias.abs())
    if maps is None:
        return Joint(None, factors.weight, factors.bias, rounding, after.error, size_value, after.error)
    ticket = state.magnitude + state.error
    bent = factors.bent(float(ticket.max()))
    loose = apply(maps.slack if bent is None else maps.slack + bent, ticket)
    if factors.realised.bias_slack is not None:
        spread = factors.shift_slack + 4 * 2.0**-52 * (maps.offset.abs() + factors.bias.abs())
        loose = loose + per_output(node, spread, state.lower.shape)
    slope, difference, kink = maps.sizes
    size = apply(slope, state.error) + apply(difference, state.magnitude, maps.offset.abs())
    if kink is not None:
        size = size + apply(kink, ticket)
    return Joint(maps, factors.weight, factors.bias, rounding, inflate(loose + rounding, 4), size_value, size)
