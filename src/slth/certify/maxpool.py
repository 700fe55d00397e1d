"""Max pooling of both networks together.

Where one entry of a window is the largest in both networks, whatever the input is, the window is that entry. Elsewhere
its value is at least the entry with the largest lower bound, and at most the largest upper bound. The difference of the
two maxima is at most the difference at the ticket's largest entry, and at least that at the target's: of the entries
that can be those, the largest and the least bound; or what bounds on the two maxima themselves leave, if that is less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from slth.certify.relaxation import Pair
from slth.certify.state import TINY, UNIT


@dataclass(frozen=True)
class Winners:
    """Of every window, all of the output's shape.

    Attributes
    ----------
    place : integer tensor
        The entry with the largest lower bound, counted along the flattened spatial axes of the input.
    certain : boolean tensor
        Whether it is the largest in both networks.
    top : tensor
        Upper bound on the value.
    below, above : tensors
        Bounds on the difference.
    """

    place: torch.Tensor
    certain: torch.Tensor
    top: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor


def winners(attributes: Mapping[str, Any], before: Pair, shape: tuple[int, ...]) -> Winners:
    """Winners of all windows, given bounds on the input; ``shape`` is the output's."""
    index = windows_of(attributes, before.lower.shape[1:], shape[1:])
    missing = index < 0

    def gather(part: torch.Tensor, absent: float) -> torch.Tensor:
        found = part.flatten(1)[:, index.clamp(min=0)]
        return torch.where(missing, absent, found)

    infinity = float("inf")
    lower, upper = gather(before.lower, -infinity), gather(before.upper, -infinity)
    below, above = gather(before.below, 0.0), gather(before.above, 0.0)
    rounding = 4 * UNIT * (gather(before.lower, 0.0).abs() + gather(before.upper, 0.0).abs()) + TINY
    # Where there is no difference, both networks have the same numbers, and nothing is rounded.
    rounding = torch.where((below == 0) & (above == 0), 0.0, rounding + 4 * UNIT * (below.abs() + above.abs()))
    low, high = lower + below - rounding, upper + above + rounding
    # An entry without a lower bound is still one of the window, which the padding is not.
    some = lower.clamp(min=torch.finfo(lower.dtype).min)
    first = torch.where(missing, -infinity, some).argmax(dim=2, keepdim=True)
    certain = _beats(lower, upper, first) & _beats(low, high, first)
    in_target = upper >= lower.amax(dim=2, keepdim=True)
    in_ticket = high >= low.amax(dim=2, keepdim=True)
    reshaped = [
        index.expand(len(lower), -1, -1).gather(2, first)[..., 0],
        certain,
        upper.amax(dim=2),
        torch.maximum(torch.where(in_target & ~missing, below, infinity).amin(dim=2), _gap(low, upper)),
        torch.minimum(torch.where(in_ticket & ~missing, above, -infinity).amax(dim=2), -_gap(lower, high)),
    ]
    return Winners(*(part.reshape(shape) for part in reshaped))


def _gap(lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """The least that the maximum of numbers above ``lower`` can exceed that of numbers below ``upper`` by."""
    most, least = upper.amax(dim=2), lower.amax(dim=2)
    return least - most - 4 * UNIT * (least.abs() + most.abs())


def _beats(lower: torch.Tensor, upper: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Whether the chosen entry's lower bound is no less than the upper bounds of all others."""
    others = upper.scatter(2, first, float("-inf")).amax(dim=2)
    return lower.gather(2, first)[..., 0] >= others


def windows_of(attributes: Mapping[str, Any], sizes: torch.Size, counts: tuple[int, ...]) -> torch.Tensor:
    """Flat positions that each window reads, (windows, entries); -1 where it reaches into the padding."""
    n = len(sizes)
    flat = torch.zeros([1] * (2 * n), dtype=torch.int64)
    inside = torch.ones([1] * (2 * n), dtype=torch.bool)
    for axis in range(n):
        kernel, stride = attributes["kernel"][axis], attributes["stride"][axis]
        padding, dilation = attributes["padding"][axis], attributes["dilation"][axis]
        place = torch.arange(counts[axis])[:, None] * stride - padding + torch.arange(kernel)[None, :] * dilation
        spread = [1] * (2 * n)
        spread[axis], spread[n + axis] = counts[axis], kernel
        place = place.reshape(spread)
        flat = flat * sizes[axis] + place
        inside = inside & (place >= 0) & (place < sizes[axis])
    total = 1
    for count in counts:
        total *= count
    return torch.where(inside, flat, -1).reshape(total, -1)
