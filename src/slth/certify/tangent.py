"""Smooth functions in the relaxation: the derivative in the middle, and how far the function is from it.

With c the middle of the bounds on the values t, f that on the differences e (0 but where products are concerned), and J
the derivative of the function F,

    F(t)            = F(c) + J(c) (t - c)                                           off by at most ``loose``,
    F(t + e) - F(t) = F(c + f) - F(c) + J(c + f) (e - f) + (J(c + f) - J(c)) (t - c)  by ``loose_difference``,

which each family of functions bounds by how far its derivative moves over the hull of both networks' values
(:mod:`slth.certify.functions.tangents`). Objectives go back by the transpose of J, computed by differentiation: a
coefficient is a sum of products whose absolute values, times what is multiplied, add up to at most ``size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from slth.certify.backward import Objective, added_up, dot, room_of, sizes_of, sums
from slth.certify.functions import Call
from slth.certify.functions.tangents import TANGENTS, Argument, Sphere
from slth.certify.relaxation import Pair
from slth.certify.shape import lifted
from slth.certify.state import UNIT, State
from slth.network.graph import Layout


@dataclass(frozen=True)
class Tangent:
    """A function of some values about their middles, of the result's shape without a batch axis.

    Attributes
    ----------
    call : Call
    sources : tuple of str
        The values that it reads; empty for indices and masks.
    layouts : tuple of Layout
        Of these.
    centres, shifts : tuples of tensors
        c and f, with a batch axis; of indices and masks themselves.
    """

    call: Call
    sources: tuple[str, ...]
    layouts: tuple[Layout, ...]
    centres: tuple[torch.Tensor, ...]
    shifts: tuple[torch.Tensor | None, ...]
    loose: torch.Tensor
    loose_difference: torch.Tensor
    size: torch.Tensor
    size_difference: torch.Tensor
    sphere: Sphere | None = None


def tangent_of(
    call: Call,
    sources: Sequence[str],
    states: Sequence[State],
    pairs: Sequence[Pair],
    layouts: Sequence[Layout],
    after: State,
) -> Tangent | None:
    """The tangent of a function; None where its family has none."""
    rule = TANGENTS.get(call.name)
    if rule is None:
        return None
    arguments = [_argument(state, pair, layout) for state, pair, layout in zip(states, pairs, layouts, strict=True)]
    made = rule(call, arguments)
    if made is None:
        return None

    def drop(part: torch.Tensor) -> torch.Tensor:
        return part.reshape(after.lower.shape)

    return Tangent(
        call,
        tuple("" if one.fixed else source for one, source in zip(arguments, sources, strict=True)),
        tuple(layouts),
        tuple(one.centre for one in arguments),
        tuple(
            one.shift if made.shifted and not one.fixed and bool((one.shift != 0).any()) else None for one in arguments
        ),
        drop(made.loose),
        drop(made.loose_difference),
        drop(made.size),
        drop(made.size_difference),
        made.sphere,
    )


def _argument(state: State, pair: Pair, layout: Layout) -> Argument:
    if state.exact is not None and not state.exact.is_floating_point():
        whole = lifted(state, layout)
        assert whole.exact is not None
        nothing = torch.zeros_like(whole.lower)
        return Argument(whole.exact, nothing, nothing, nothing, fixed=True)
    parts: list[torch.Tensor] = []
    for low, high in ((pair.lower, pair.upper), (pair.below, pair.above)):
        # Where an entry is left out by a mask it is -infinity in both networks.
        middle = torch.where(low == high, low, (low + high) / 2)
        half = torch.where(low == high, 0.0, torch.maximum(high - middle, middle - low) * (1 + 4 * UNIT))
        parts += [part[None] if layout.batched else part for part in (middle, half)]
    return Argument(parts[0], parts[1], parts[2], parts[3])


def through_tangent(made: Tangent, state: State, rows: Objective) -> tuple[list[tuple[str, Objective]], Objective]:
    """To every value that the function reads; ``state`` is of its result."""
    rows = rows.whole(state.lower.shape)
    value, difference = rows.value, rows.difference
    n_terms = 2 * value[0].numel() + sum(centre.numel() for centre in made.centres) + 64
    shifted = difference is not None and any(shift is not None for shift in made.shifts)
    at_centre = _Derivative(made, made.centres)
    constant = rows.constant + dot(value, at_centre.value)
    backs = at_centre(value)
    own: list[torch.Tensor | None] = [None] * len(backs)
    if difference is not None and not shifted:
        own = list(at_centre(difference))
    elif difference is not None:
        moved = tuple(
            centre if shift is None else centre + shift for centre, shift in zip(made.centres, made.shifts, strict=True)
        )
        there = _Derivative(made, moved)
        constant = constant + dot(difference, there.value - at_centre.value)
        own = list(there(difference))
        cross = [one - other for one, other in zip(own, at_centre(difference), strict=True)]  # type: ignore[operator]
        backs = [one + other for one, other in zip(backs, cross, strict=True)]
    parts, nothing = [], torch.zeros_like(rows.constant)
    kept = [number for number, source in enumerate(made.sources) if source]
    for number, back, part in zip(kept, backs, own, strict=True):
        layout, centre, shift = made.layouts[number], made.centres[number], made.shifts[number]
        middle = torch.where(torch.isinf(centre), 0.0, centre).flatten()
        constant = constant - back.flatten(1) @ middle
        if part is not None and shift is not None:
            constant = constant - part.flatten(1) @ shift.flatten()
        shape = centre.shape[1:] if layout.batched else centre.shape
        back, part = back.reshape(-1, *shape), None if part is None else part.reshape(-1, *shape)
        parts.append((made.sources[number], Objective(back, part, nothing, nothing)))
    size, loose = sums(value.abs(), made.size, made.loose)
    size_difference, loose_difference = sums(sizes_of(difference), made.size_difference, made.loose_difference)
    off = (loose + loose_difference) * (1 + 2 * n_terms * UNIT)
    room = room_of(rows, size + size_difference, n_terms, state)
    return parts, replace(rows, constant=constant, room=added_up(rows.room, room, 8 * UNIT * constant.abs(), off))


class _Derivative:
    """A function at a point, and the transpose of its derivative there."""

    def __init__(self, made: Tangent, point: Sequence[torch.Tensor]) -> None:
        self.places = [number for number, source in enumerate(made.sources) if source]
        self.batched = made.call.node.batched

        def function(*values: torch.Tensor) -> torch.Tensor:
            given = list(point)
            for place, value in zip(self.places, values, strict=True):
                given[place] = value
            result: torch.Tensor = made.call.module(*given)
            return result

        with torch.enable_grad():
            made_there = torch.func.vjp(function, *(point[place] for place in self.places))
        found, self._back = made_there[0], made_there[1]
        self.value = found.detach()[0] if self.batched else found.detach()

    def __call__(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Coefficients of every value, (rows, *whole shape), from those of the result."""
        whole = rows[:, None] if self.batched else rows
        return [part.detach() for part in torch.func.vmap(self._back)(whole)]
