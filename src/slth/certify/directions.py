"""How small the deviation of what is normalised can be, by one direction for each group of entries.

The deviation s of n entries x, sqrt(mean (x - mean x)^2), is |P x| / sqrt(n) with P the projection that subtracts the
mean (the identity where none is subtracted), and for any u with |u| <= 1 and P u = u

    sqrt(n) s >= <u, x>,

an objective that the relaxation bounds from below: entries that move together are followed together, which intervals,
entry by entry, do not see. What is said holds of all inputs p with <u, p> at least as large: of both networks' values,
of the middle of the bounds, and of all that is between these.

Any direction gives a bound; a good one is that of the nearest point to 0. It is looked for by Frank and Wolfe's
algorithm (1956) on the linear forms of the entries in the network's input, where there are not too many of them, and is
the middle's elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from slth.certify.backward import Objective
from slth.certify.functions import Call
from slth.certify.functions.normalisation import rows_of
from slth.certify.relaxation import Pair
from slth.certify.state import UNIT

FORMS = 1024
"""Entries whose linear forms are carried back to find directions (chosen)."""
_STEPS = 64
"""Of the search for a direction (chosen)."""

Highest = Callable[[Objective], torch.Tensor]
"""Upper bounds on objectives at the node that is normalised."""


@dataclass(frozen=True)
class Forms:
    """x = weight z + constant, about, in the network's input z between two ends: (entries, inputs) and (entries,)."""

    weight: torch.Tensor
    constant: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor


def least_deviations(
    call: Call, batched: bool, pair: Pair, highest: Highest, forms: Callable[[], Forms]
) -> torch.Tensor | None:
    """Lower bounds on the deviations of the groups of entries that a function normalises, (*groups, 1); None of others.

    Parameters
    ----------
    call : Call
    batched : bool
        Whether the value that it reads has a batch axis, which bounds are without.
    pair : Pair
        Bounds on that value.
    highest : callable
    forms : callable
        Makes linear forms of its entries, for which they need not be bounds.
    """
    shape = torch.Size((1, *pair.lower.shape)) if batched else pair.lower.shape
    layout = rows_of(call, shape)
    if layout is None:
        return None
    rows, _, centred = layout
    n = rows[-1]
    centre = ((pair.lower + pair.upper) / 2).reshape(-1, n)
    direction = _towards(centre, centred)
    if pair.lower.numel() <= FORMS:
        direction = _best(forms(), direction, centred)
    low = torch.minimum(_along(direction, pair, highest), (direction * centre).sum(dim=1))
    # The direction's own length and mean are rounded, and so is the product with the middle.
    reach = torch.maximum(pair.lower.abs(), pair.upper.abs()) + torch.maximum(pair.below.abs(), pair.above.abs())
    room = 16 * (n + 8) * UNIT * reach.reshape(-1, n).sum(dim=1)
    found = (low - room) / (math.sqrt(n) * (1 + 16 * (n + 8) * UNIT))
    return found.nan_to_num(nan=0.0, neginf=0.0, posinf=0.0).clamp(min=0).reshape(*rows[:-1], 1)


def _along(direction: torch.Tensor, pair: Pair, highest: Highest) -> torch.Tensor:
    """The least value of <u, x> in either network, group by group."""
    found = []
    for number, own in enumerate(direction):
        row = torch.zeros_like(direction)
        row[number] = -own
        one = row.reshape(1, *pair.lower.shape)
        nothing = torch.zeros(1, dtype=torch.float64)
        both = torch.cat([one, one]), torch.cat([torch.zeros_like(one), one])
        found.append(-highest(Objective(both[0], both[1], nothing.expand(2), nothing.expand(2))).amax())
    return torch.stack(found)


def _towards(point: torch.Tensor, centred: bool) -> torch.Tensor:
    """Directions of points, without their mean, (groups, n); 0 where there is none."""
    for _ in range(2):
        point = point - point.mean(dim=1, keepdim=True) if centred else point
        length = point.square().sum(dim=1, keepdim=True).sqrt()
        point = torch.where((length > 1e-100) & torch.isfinite(length), point / length, 0.0)
    return point - point.mean(dim=1, keepdim=True) if centred else point


def _best(forms: Forms, direction: torch.Tensor, centred: bool) -> torch.Tensor:
    """The direction of a group's point nearest to 0, as far as its entries' forms tell."""
    groups, n = direction.shape
    weight = forms.weight.reshape(groups, n, -1)
    constant = forms.constant.reshape(groups, n, 1)
    if centred:
        weight, constant = weight - weight.mean(dim=1, keepdim=True), constant - constant.mean(dim=1, keepdim=True)
    low, high = (end.flatten()[None, :, None] for end in (forms.lower, forms.upper))
    at = ((low + high) / 2).expand(groups, -1, 1)
    best, most = direction, torch.full((groups,), -math.inf, dtype=torch.float64)
    for step in range(_STEPS):
        point = weight @ at + constant
        tried = _towards(point[..., 0], centred) if step else direction
        slope = weight.transpose(1, 2) @ tried[..., None]
        corner = torch.where(slope > 0, low, high)
        reached = weight @ corner + constant
        value = (tried[..., None] * reached).sum(dim=(1, 2))
        better = value > most
        best, most = torch.where(better[:, None], tried, best), torch.where(better, value, most)
        change = reached - point
        share = -(point * change).sum(dim=(1, 2)) / change.square().sum(dim=(1, 2)).clamp(min=1e-300)
        at = at + share.clamp(0, 1)[:, None, None] * (corner - at)
    return best
