"""Bounds through embeddings: rows of a table, picked by whole numbers that both networks read.

Row i is what the layer makes of the i-th unit vector: the target's weights of column i and the ticket's, off by their
deviations. Where the number itself is not known but lies between two others, every row between them may be picked.
"""

from __future__ import annotations

import torch

from slth.certify.factors import Factors
from slth.certify.relaxation import Pair
from slth.certify.state import UNIT, State, inflate, unknown


def looked_up(factors: Factors, state: State, columns: int) -> tuple[State, Pair]:
    """What is known of the rows that are picked, and of the difference with its sign.

    Parameters
    ----------
    factors : Factors
        Of the layer, whose weight is (columns, rows).
    state : State
        Of the numbers of rows.
    columns : int
        Length of a row.
    """
    value, below, above, rounding = _tables(factors)
    parts = (value - rounding, value + rounding, below, above)
    if state.exact is not None and not state.exact.is_floating_point():
        index = state.exact.long()
        if not bool(((index >= 0) & (index < len(value))).all()):
            return _nothing((*index.shape, columns))
        found = [part[index] for part in parts]
    else:
        picked = _between(parts, state)
        if picked is None:
            return _nothing((*state.lower.shape, columns))
        found = picked
    lower, upper, below, above = found
    error = torch.maximum(below.abs(), above.abs())
    signs = bool((lower - error >= 0).all()), bool((upper + error <= 0).all())
    return State(lower, upper, error, *signs), Pair(lower, upper, below, above)


def _nothing(shape: tuple[int, ...]) -> tuple[State, Pair]:
    state = unknown(shape)
    return state, Pair(state.lower, state.upper, -state.error, state.error)


def _tables(factors: Factors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The target's rows, bounds on the ticket's less them, and the rounding of one evaluation of either."""
    signs = (True, False)
    deviation = factors.gain_and_deviation(signs)[1]
    largest = factors.largest(signs)
    bent = factors.bent(1.0)
    if bent is not None:
        deviation, largest = deviation + bent, largest + bent
    rounding = (factors.n_terms + 8) * UNIT * inflate(largest + factors.constant[:, None], factors.n_terms)
    room = 2 * rounding
    only = factors.realised.only
    if factors.has_differences and only in (None, 1) and bent is None:
        difference = factors.difference(1) + factors.shift[:, None]
        room = room + inflate(factors.slack + factors.shift_slack[:, None] + 4 * UNIT * deviation, 4)
        room = room + 4 * UNIT * (factors.shift.abs()[:, None] + factors.weight_size + factors.constant[:, None])
        below, above = difference - room, difference + room
    else:
        above = inflate(deviation + factors.offset[:, None] + room, 4)
        below = -above
    value = factors.weight + factors.bias[:, None]
    return value.t(), below.t(), above.t(), rounding.t()


def _between(parts: tuple[torch.Tensor, ...], state: State) -> list[torch.Tensor] | None:
    """The least lower and the largest upper bound over the rows that each number may stand for."""
    last = len(parts[0]) - 1
    if not bool((torch.isfinite(state.lower) & torch.isfinite(state.upper)).all()):
        return None
    low = state.lower.ceil().clamp(min=0).long()
    high = state.upper.floor().clamp(max=last).long()
    if bool((low > high).any()):
        return None
    pairs = torch.stack([low.flatten(), high.flatten()], dim=1)
    ranges, place = torch.unique(pairs, dim=0, return_inverse=True)
    picked = []
    for part, largest in zip(parts, (False, True, False, True), strict=True):
        rows = [part[a : b + 1] for a, b in ranges.tolist()]
        ends = torch.stack([row.amax(dim=0) if largest else row.amin(dim=0) for row in rows])
        picked.append(ends[place].reshape(*low.shape, -1))
    return picked
