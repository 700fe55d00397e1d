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

import torch

from slth.certify.affine import affine_and_rounding
from slth.certify.state import State, inflate
from slth.copies import CopiedLayer
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import WeightLayer
from slth.realise import RealisedLayer


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


def maps_of(layer: WeightLayer, realised: RealisedLayer, nonnegative: bool, nonpositive: bool) -> Maps | None:
    """The linear part of a layer, given what is known of its input's sign; None where there is none to follow."""
    if isinstance(realised, CopiedLayer):
        return None
    if realised.only is not None and not (nonnegative if realised.only > 0 else nonpositive):
        return None
    shape = layer.node.attributes["weight_shape"]
    positive, negative = (torch.from_numpy(part).reshape(shape) for part in (realised.positive, realised.negative))
    weight = torch.from_numpy(layer.weight_array()).reshape(shape)
    bias = layer.bias_array()
    zeros = torch.zeros(shape[0], dtype=torch.float64)
    own = zeros if bias is None else torch.from_numpy(bias)
    kink = None
    if nonnegative or nonpositive:
        slope = positive if nonnegative else negative
    elif realised.one_branch:
        slope = positive
    else:
        slope, kink = (positive + negative) / 2, (positive - negative) / 2
    slack = inflate(torch.from_numpy(realised.slack).reshape(shape), 4)
    # The mean of two slopes, their difference from the weight and half their own are rounded once or twice each.
    slack = slack + 8 * 2.0**-52 * (positive.abs() + negative.abs() + weight.abs())
    offset = (zeros if realised.bias is None else torch.from_numpy(realised.bias)) - own
    return Maps(weight, own, slope, slope - weight, offset, kink, slack)


def join(
    node: Node, layer: WeightLayer, realised: RealisedLayer, maps: Maps | None, state: State, after: State
) -> Joint:
    """The layer's bounds for inputs of which ``state`` is known and ``after`` follows by intervals."""
    weight = torch.from_numpy(layer.weight_array()).reshape(node.attributes["weight_shape"])
    bias = layer.bias_array()
    own = torch.zeros(len(weight), dtype=torch.float64) if bias is None else torch.from_numpy(bias)
    n_terms = 2 * weight[0].numel() + realised.n_terms + 8

    def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
        made = WEIGHT_OPERATORS[node.op].apply(node.attributes, x[None], matrix, constant)[0]
        return inflate(made, n_terms)

    rounding = affine_and_rounding(node, _one(state), layer, realised)[1]
    size_value = apply(weight.abs(), state.magnitude, own.abs())
    if maps is None:
        return Joint(None, weight, own, rounding, after.error, size_value, after.error)
    ticket = state.magnitude + state.error
    loose = apply(maps.slack + _bent(realised, maps, ticket), ticket)
    if realised.bias_slack is not None:
        spread = torch.from_numpy(realised.bias_slack) + 4 * 2.0**-52 * (maps.offset.abs() + own.abs())
        loose = loose + spread.reshape(_per_output(node))
    size = apply(maps.slope.abs(), state.error) + apply(maps.difference.abs(), state.magnitude, maps.offset.abs())
    if maps.kink is not None:
        size = size + apply(maps.kink.abs(), ticket)
    return Joint(maps, weight, own, rounding, inflate(loose + rounding, 4), size_value, size)


def _one(state: State) -> State:
    """The state of a ticket that has one copy of everything, as far as rounding goes."""
    return State(state.lower, state.upper, state.error, state.nonnegative, state.nonpositive)


def _bent(realised: RealisedLayer, maps: Maps, ticket: torch.Tensor) -> torch.Tensor | float:
    share = realised.bend.share(float(ticket.max()))
    return (
        inflate(torch.from_numpy(realised.size).reshape(maps.weight.shape) * share, realised.n_terms) if share else 0.0
    )


def _per_output(node: Node) -> tuple[int, ...]:
    """Shape in which one number an output stands beside the output's tensor."""
    return (-1,) if node.op == "linear" else (-1, *([1] * (len(node.attributes["weight_shape"]) - 2)))
