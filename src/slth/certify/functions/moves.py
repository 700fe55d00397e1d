"""Functions that put entries in other places, leave some out or repeat them: they do the same to bounds on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from slth.certify.functions.algebra import selected
from slth.certify.functions.call import Call, operands
from slth.certify.state import State, constant

Rule = Callable[[Call, Sequence[State]], State | None]
"""What follows from what is known of the values that are read; None where nothing does."""

_RESHAPED = "view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as reshape_as clone contiguous"
_TURNED = "transpose permute t numpy_T movedim moveaxis swapaxes adjoint mT flip roll rot90"
_REPEATED = "expand expand_as repeat tile broadcast_to repeat_interleave unfold im2col diagonal diag_embed tril triu"
_JOINED = "cat concat stack hstack vstack split split_with_sizes chunk unbind tensor_split slice select narrow"
_PICKED = "index_select gather take_along_dim index"
_SPREAD = "pixel_shuffle pixel_unshuffle channel_shuffle reflection_pad1d reflection_pad2d replication_pad1d"
_SPREAD += " replication_pad2d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d"
_SPREAD += " _upsample_nearest_exact2d"
MOVES = frozenset(" ".join((_RESHAPED, _TURNED, _REPEATED, _JOINED, _PICKED, _SPREAD, "join")).split())
"""Names of such functions."""
_INDEXED = frozenset({"index_select", "gather", "take_along_dim", "index", "repeat_interleave"})


def move(call: Call, states: Sequence[State]) -> State | None:
    """The function itself, of bounds in place of values; none where a place depends on a value that is not known."""
    if call.name in _INDEXED and not all(_is_index(state) for state in states[1:]):
        return None
    parts = [call(operands(states, part)) for part in ("lower", "upper", "error")]
    flags = [all(getattr(state, flag) for state in states) for flag in ("nonnegative", "nonpositive")]
    return State.of(parts, *flags)


def _is_index(state: State) -> bool:
    return state.exact is not None and not state.exact.is_floating_point()


def padded(call: Call, states: Sequence[State]) -> State | None:
    """Padding with a number, which is no bound on anything but itself; or with entries."""
    mode = call.arguments.get("mode", "constant")
    value = call.arguments.get("value")
    if mode != "constant":
        return move(call, states)
    if value not in (None, 0) and call.number("value") is None:
        return None
    filled = call.known(call.number("value") or 0.0)
    made = [call([getattr(states[0], part)]) for part in ("lower", "upper")]
    inside = call([torch.ones_like(states[0].lower)]) - call([torch.zeros_like(states[0].lower)]) > 0
    # Around the error there are as many zeros as there are numbers around the value.
    error = torch.where(inside, call([states[0].error]), filled.error)
    flags = states[0].nonnegative and filled.nonnegative, states[0].nonpositive and filled.nonpositive
    return State(made[0], made[1], error, *flags)


def converted(call: Call, states: Sequence[State]) -> State | None:
    """Another number type: the same number where it is that of the network; what is cut off is not followed."""
    kind = call.arguments.get("dtype")
    floats = kind is None or (isinstance(kind, dict) and kind.get("dtype") == "float")
    return states[0] if floats and all(state.exact is None for state in states) else None


def looked_up(call: Call, states: Sequence[State]) -> State | None:
    """Rows of a table by known numbers."""
    table, index = call.state(states, "weight"), call.state(states, "indices")
    if table is None or index is None or index.exact is None or index.exact.is_floating_point():
        return None
    if call.arguments.get("max_norm") is not None:
        return None
    place = index.exact.long()
    if not bool(((place >= 0) & (place < len(table.lower))).all()):
        return None
    parts = [part[place] for part in (table.lower, table.upper, table.error)]
    return State.of(parts, table.nonnegative, table.nonpositive)


def where(call: Call, states: Sequence[State]) -> State | None:
    """One value or the other, by a condition that is known."""
    condition = call.state(states, "condition")
    yes, no = call.state(states, "self", "input"), call.state(states, "other")
    if condition is None or condition.exact is None or yes is None or no is None:
        return None
    return selected(condition.exact.bool(), yes, no)


def masked(call: Call, states: Sequence[State]) -> State | None:
    """A number in place of some entries."""
    mask, value, filled = call.state(states, "mask"), call.state(states, "self"), call.state(states, "value")
    if mask is None or mask.exact is None or value is None or filled is None:
        return None
    return selected(mask.exact.bool(), filled, value)


def created(call: Call, states: Sequence[State]) -> State | None:
    """Numbers that do not depend on values, but at most on their shapes."""
    if call.source("fill_value") is not None:
        return None
    return constant(call([state.lower if state.exact is None else state.exact for state in states]))


CREATED = frozenset(
    (
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "eye",
        "arange",
    )
)
"""Functions of shapes alone."""
CONVERTED = frozenset({"to", "_to_copy", "type_as"})

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    **dict.fromkeys(CONVERTED, converted),
    **dict.fromkeys(CREATED, created),
    "embedding": looked_up,
    "where": where,
    "masked_fill": masked,
}
"""By function."""
