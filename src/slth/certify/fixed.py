"""Moves of entries and means with fixed weights in the relaxation: the transposes of linear maps without weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from slth.certify.backward import Objective, added_up, dot, room_of, sizes_of, sums
from slth.certify.functions import Call
from slth.certify.functions.linear import INTERPOLATIONS
from slth.certify.relaxation import Pair, within
from slth.certify.shape import lifted
from slth.certify.state import UNIT, State
from slth.certify.windows import cut
from slth.network.graph import Layout


@dataclass(frozen=True)
class Piece:
    """Where the entries of one value go.

    Attributes
    ----------
    source : str
    shape : tuple of int
        Of the value.
    place : integer tensor, (moved,)
        Entries of the result, counted along its flattened axes.
    entry : integer tensor, (moved,)
        The value's entries that are there.
    channels : (int, int, int) or None
        Where the move keeps positions: the first channel in the result, the first one in the value, and how many.
    repeats : int
        How often one entry occurs at most.
    """

    source: str
    shape: tuple[int, ...]
    place: torch.Tensor
    entry: torch.Tensor
    channels: tuple[int, int, int] | None
    repeats: int


@dataclass(frozen=True)
class Move:
    """Entries in other places, and numbers where there are none."""

    pieces: tuple[Piece, ...]
    offset: torch.Tensor


def move_of(call: Call, sources: Sequence[str], states: Sequence[State], layouts: Sequence[Layout]) -> Move | None:
    """Where a function puts the entries of what it reads, found by numbering them; None where it does something else.

    Parameters
    ----------
    call : Call
    sources, states, layouts : sequences
        Of all that it reads, without a batch axis.
    """
    whole = [lifted(state, layout) for state, layout in zip(states, layouts, strict=True)]
    fixed = [_fixed(state) for state in whole]
    plain = call(
        [torch.zeros_like(state.lower) if part is None else part for state, part in zip(whole, fixed, strict=True)]
    )
    if not plain.is_floating_point() or bool((torch.isnan(plain) | (plain == math.inf)).any()):
        return None
    pieces = []
    for number, (source, state, own) in enumerate(zip(sources, states, fixed, strict=True)):
        if own is not None:
            continue
        given = [torch.zeros_like(one.lower) if part is None else part for one, part in zip(whole, fixed, strict=True)]
        given[number] = torch.arange(1.0, state.lower.numel() + 1, dtype=torch.float64).reshape(
            whole[number].lower.shape
        )
        found = torch.where(torch.isinf(plain), 0.0, call(given) - plain).flatten()
        place = found.nonzero().flatten()
        entry = (found[place] - 1).long()
        repeats = int(torch.bincount(entry, minlength=1).max()) if len(entry) else 0
        shape = tuple(state.lower.shape)
        out = tuple(plain.shape[1:]) if call.node.batched else tuple(plain.shape)
        pieces.append(Piece(source, shape, place, entry, _channels(shape, out, place, entry), repeats))
    return Move(tuple(pieces), plain[0] if call.node.batched else plain)


def _fixed(state: State) -> torch.Tensor | None:
    """Indices and masks, which are no values that are moved."""
    return state.exact if state.exact is not None and not state.exact.is_floating_point() else None


def _channels(
    shape: tuple[int, ...], out: tuple[int, ...], place: torch.Tensor, entry: torch.Tensor
) -> tuple[int, int, int] | None:
    """Whether whole channels, one after another, go to channels one after another."""
    if len(shape) < 2 or shape[1:] != out[1:] or not len(place):
        return None
    per_channel = int(torch.tensor(shape[1:]).prod())
    count, rest = divmod(len(place), per_channel)
    steps = torch.arange(len(place))
    if rest or int(place[0]) % per_channel or int(entry[0]) % per_channel:
        return None
    if not (torch.equal(place - place[0], steps) and torch.equal(entry - entry[0], steps)):
        return None
    return int(place[0]) // per_channel, int(entry[0]) // per_channel, count


def moved_pair(
    call: Call, pairs: Sequence[Pair], states: Sequence[State], layouts: Sequence[Layout], after: State
) -> Pair:
    """Bounds on the difference, moved as the values are."""
    found = []
    for part in ("below", "above"):
        given = []
        for pair, state, layout in zip(pairs, states, layouts, strict=True):
            own, bound = _fixed(lifted(state, layout)), getattr(pair, part)
            given.append((bound[None] if layout.batched else bound) if own is None else own)
        made = call(given)
        found.append(made[0] if call.node.batched else made)
    return Pair(after.lower, after.upper, *within(found[0], found[1], after.error))


def through_move(made: Move, state: State, rows: Objective) -> tuple[list[tuple[str, Objective]], Objective]:
    """Coefficients to where the entries came from; those of one that is in several places are added up."""
    if rows.window is not None and any(piece.channels is None for piece in made.pieces):
        rows = rows.whole(state.lower.shape)
    window = rows.window
    repeats = max((piece.repeats for piece in made.pieces), default=0)
    constant, room = rows.constant, rows.room
    if bool((made.offset != 0).any()) or repeats > 1:
        offset, left_out = cut(made.offset, window), torch.isinf(cut(made.offset, window))
        if bool(left_out.any()):
            # What is left out by a mask is -infinity, of which only a coefficient of 0 is any bound.
            read = (rows.value != 0) if rows.difference is None else (rows.value != 0) | (rows.difference != 0)
            lost = (read & left_out).flatten(1).any(dim=1)
            room = torch.where(lost, math.inf, room)
            offset, state = torch.where(left_out, 0.0, offset), _without(state, torch.isinf(made.offset))
        n_terms = rows.value[0].numel() + repeats + 8
        (size,) = sums(rows.value.abs(), cut(state.magnitude, window))
        (size_difference,) = sums(sizes_of(rows.difference), cut(state.error, window))
        constant = constant + dot(rows.value, offset)
        room = added_up(room, room_of(rows, size + size_difference, n_terms, state), 4 * UNIT * constant.abs())
    nothing = torch.zeros_like(rows.constant)
    parts = []
    for piece in made.pieces:
        own = rows.each(lambda part, piece=piece: _put_back(piece, part, window))  # type: ignore[misc]
        parts.append((piece.source, replace(own, constant=nothing, room=nothing, sizes=None)))
    return parts, replace(rows, constant=constant, room=room)


def _without(state: State, left_out: torch.Tensor) -> State:
    return state.each(lambda part: torch.where(left_out, 0.0, part))


def _put_back(piece: Piece, part: torch.Tensor, window: object) -> torch.Tensor:
    if piece.channels is not None:
        first, own, count = piece.channels
        into = part.new_zeros(len(part), piece.shape[0], *part.shape[2:])
        into[:, own : own + count] = part[:, first : first + count]
        return into
    flat = part.flatten(1)[:, piece.place]
    size = int(torch.tensor(piece.shape).prod()) if piece.shape else 1
    return part.new_zeros(len(part), size).index_add_(1, piece.entry, flat).reshape(len(part), *piece.shape)


def linear_pair(call: Call, pair: Pair, after: State) -> Pair:
    """Bounds on the difference behind a mean or a sum with weights that are not negative."""
    low, high = (call([part[None]])[0] for part in (pair.below, pair.above))
    reach = call([torch.maximum(pair.below.abs(), pair.above.abs())[None]])[0]
    n_terms = pair.lower.numel() + 64
    values = torch.maximum(after.lower.abs(), after.upper.abs()) + reach
    room = 8 * n_terms * UNIT * (reach + values) + _positions(call, pair.lower.numel(), _reach(pair))
    return Pair(after.lower, after.upper, *within(low - room, high + room, after.error))


def _reach(pair: Pair) -> torch.Tensor:
    return torch.maximum(pair.lower.abs(), pair.upper.abs()) + torch.maximum(pair.below.abs(), pair.above.abs())


def _positions(call: Call, numbers: int, reach: torch.Tensor) -> float:
    """What weights that are computed from positions may be off by."""
    return 32 * (numbers + 64) * UNIT * float(reach.max()) if call.name in INTERPOLATIONS else 0.0


def through_linear(call: Call, state: State, after: State, rows: Objective) -> Objective:
    """The transpose of a linear function of one value with a batch axis in front, by differentiation."""
    rows = rows.whole(after.lower.shape)

    def transposed(part: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = torch.zeros(len(part), *state.lower.shape, dtype=torch.float64, requires_grad=True)
            made: torch.Tensor = torch.autograd.grad(call.module(x), x, part)[0]
        return made

    values = state.magnitude + state.error
    reach = call([values[None]])[0]
    n_terms = after.lower.numel() + state.lower.numel() + 64
    made = sums(rows.value.abs(), reach)[0] + sums(sizes_of(rows.difference), reach)[0]
    off = _positions(call, state.lower.numel(), values)
    counts = (
        sums(rows.value.abs(), torch.ones_like(reach))[0] + sums(sizes_of(rows.difference), torch.ones_like(reach))[0]
    )
    room = added_up(rows.room, 2 * room_of(rows, made, n_terms, state), 2 * off * counts)
    return replace(rows.each(transposed), room=room)
