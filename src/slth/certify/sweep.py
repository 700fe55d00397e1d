"""Objectives carried back over a whole graph: node by node in the reverse of its order, and added up where they meet.

At any time what is bounded is the sum over some nodes of <a, x> + <c, e>, a constant and a room. The last of these
nodes is taken out and carried to what it reads. Where two objectives meet at one node their coefficients are added,
which is off by half a unit of each sum, whatever it multiplies: the room grows by twice that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from slth.certify.backward import Objective, added_up, sizes_of, sums, underflow
from slth.certify.functions.tangents import Sphere
from slth.certify.relaxation import Pair
from slth.certify.state import TINY, UNIT, State
from slth.certify.windows import Window, cropped, cut, filled
from slth.network.graph import INPUT, Node


@dataclass(frozen=True)
class Carried:
    """An objective behind one step.

    Attributes
    ----------
    parts : sequence of (str, Objective)
        By node coefficients of what it gives; their own constants and rooms count for nothing.
    constant, room : tensors, (rows,)
        Of all of them together.
    """

    parts: Sequence[tuple[str, Objective]]
    constant: torch.Tensor
    room: torch.Tensor


Carry = Callable[[Node, Objective], Carried]
"""One step: an objective at a node's output in terms of what the node reads."""


def to(source: str, rows: Objective) -> Carried:
    """To one value."""
    return Carried([(source, rows)], rows.constant, rows.room)


def carried_back(
    nodes: Sequence[Node], start: str, rows: Objective, carry: Carry, state_of: Callable[[str], State]
) -> Objective:
    """What an objective at a node amounts to at the network's input.

    Parameters
    ----------
    nodes : sequence of Node
        In the order of evaluation.
    start : str
        The node's name, or the input's.
    rows : Objective
    carry : callable
    state_of : callable
        What is known of a node's values.
    """
    pending, constant, room = {start: rows}, rows.constant, rows.room
    for node in reversed(nodes):
        part = pending.pop(node.name, None)
        if part is None:
            continue
        made = carry(node, replace(part, constant=constant, room=room))
        constant, room = made.constant, made.room
        for source, piece in made.parts:
            if source == INPUT:
                # The two networks read the same input.
                piece = replace(piece, difference=None)
            before = pending.get(source)
            if before is None:
                pending[source] = piece
                continue
            pending[source], more = met(before, piece, state_of(source))
            room = added_up(room, more)
    end = pending.get(INPUT)
    if end is None:
        nothing = torch.zeros(len(constant), *state_of(INPUT).lower.shape, dtype=torch.float64)
        end = Objective(nothing, None, constant, room)
    return replace(end, constant=constant, room=room)


def met(one: Objective, other: Objective, state: State) -> tuple[Objective, torch.Tensor]:
    """Two objectives at the same node as one, and what the addition of coefficients may be off by."""
    window, shape = _around(one.window, other.window), state.lower.shape
    one, other = (_moved(part, window, shape) for part in (one, other))
    value = one.value + other.value
    difference = _added(one.difference, other.difference)
    sizes = _added(one.sizes, other.sizes)
    reach = cut(state.magnitude, window), cut(state.error, window)
    (off,) = sums(value.abs(), reach[0])
    (off_difference,) = sums(sizes_of(difference), reach[1])
    (off_sizes,) = sums(sizes_of(sizes), reach[0])
    share = UNIT * (1 + 2 * (value[0].numel() + 8) * UNIT)
    return replace(one, value=value, difference=difference, sizes=sizes, window=window), added_up(
        2 * share * off, 2 * share * off_difference, 2 * share * off_sizes, underflow(state)
    )


def _added(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _around(one: Window, other: Window) -> Window:
    """The least window around two; None, all of a tensor, around anything."""
    if one is None or other is None:
        return None
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))


def _moved(rows: Objective, window: Window, shape: torch.Size) -> Objective:
    def move(part: torch.Tensor) -> torch.Tensor:
        if rows.window is None or window is None:
            return filled(part, rows.window, shape)
        return cropped(part, rows.window, window)

    sizes = None if rows.sizes is None else move(rows.sizes)
    return replace(rows.each(move), sizes=sizes, window=window)


def concretised(pair: Pair, rows: Objective, sphere: Sphere | None = None) -> Carried:
    """The largest value that bounds on a node's values leave an objective there: a constant.

    With a sphere, the lesser of the two for each of its groups.
    """
    constant, total = rows.constant, torch.zeros_like(rows.room)
    ends = ((rows.value, pair.lower, pair.upper), (rows.difference, pair.below, pair.above))
    for number, (part, low, high) in enumerate(ends):
        if part is None:
            continue
        low, high = cut(low, rows.window), cut(high, rows.window)
        best = torch.where(part > 0, part * high, part * low)
        # Where a coefficient is 0 it does not matter that nothing is known of what it multiplies.
        best = torch.where(part == 0, 0.0, best).flatten(1)
        if sphere is not None:
            grouped = best.reshape(len(best), -1, sphere.n)
            total = total + best.abs().sum(dim=1)
            best = torch.minimum(grouped.sum(dim=2), _on_sphere(sphere, part, number > 0))
        constant, total = constant + best.sum(dim=1), total + best.abs().sum(dim=1)
    n_terms = 4 * rows.value[0].numel() + 8
    off = 2 * (n_terms + 8) * UNIT * total + 4 * UNIT * constant.abs()
    return Carried((), constant, added_up(rows.room, off))


def _on_sphere(sphere: Sphere, part: torch.Tensor, difference: bool) -> torch.Tensor:
    """The largest values, (rows, groups), of coefficients times what a sphere bounds."""
    groups = part.reshape(len(part), -1, sphere.n)
    sizes = groups.abs().sum(dim=2)
    if sphere.centred:
        groups = groups - groups.mean(dim=2, keepdim=True)
    length = groups.square().sum(dim=2).sqrt() + 8 * (sphere.n + 8) * UNIT * sizes + TINY**0.5 * sphere.n
    radius, slack = (sphere.difference, 2 * sphere.slack) if difference else (sphere.value, sphere.slack)
    reach: torch.Tensor = (length * radius + sizes * slack) * (1 + 8 * (sphere.n + 8) * UNIT)
    return reach
