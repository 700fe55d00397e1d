"""Which sizes in a program for a batch of one size go by the batch: a guess, to be compared with the program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from slth.network.calls import Call
from slth.network.graph import Layout

_CREATIONS = frozenset({"zeros", "ones", "full", "empty"})


def may_go_by_batch(call: Call, batch: int) -> bool:
    """Whether a call on constants has the size of the batch among its arguments, as far as can be told."""
    if call.op == "expand":
        size = call.arguments["size"]
        return len(size) > 1 and size[0] == batch
    return call.op in _CREATIONS and _place(call.arguments["size"], batch) is not None


def guessed(function: str, arguments: Mapping[str, Any], sources: Sequence[Layout], batch: int) -> dict[str, Any]:
    """Arguments of a kept function, with ``{"batch": k}`` for sizes that seem to go by the batch.

    Parameters
    ----------
    function : str
    arguments : mapping
        With ``{"source": i}`` for values.
    sources : sequence of Layout
        Of the values.
    batch : int
        Size of the batch for which the arguments were written.
    """
    own = dict(arguments)
    first = own.get("self")
    layout = sources[first["source"]] if isinstance(first, Mapping) and "source" in first else None
    if function == "reshape" and layout is not None:
        own["shape"] = _reshaped(tuple(own["shape"]), layout, batch)
    elif function == "expand" and layout is not None:
        own["size"] = _expanded(tuple(own["size"]), layout, batch)
    elif function in _CREATIONS:
        place = _place(own["size"], batch)
        own["size"] = tuple({"batch": 1} if at == place else size for at, size in enumerate(own["size"]))
    return own


def _place(size: Sequence[Any], batch: int) -> int | None:
    """The axis of a new tensor that is the batch's: the first, or the second as in a state of recurrent layers.

    Of one example there need be none, as a size of 1 fits any.
    """
    if batch == 1:
        return None
    axes = (1, 0) if len(size) == 3 else (0, 1)
    return next((axis for axis in axes if axis < len(size) and size[axis] == batch), None)


def _reshaped(shape: tuple[Any, ...], layout: Layout, batch: int) -> tuple[Any, ...]:
    """The axis that is as large as the batch or a multiple of it, behind as many entries as before, if possible."""
    whole = layout.whole(-1) if layout.batched else layout.shape
    if -1 in shape or not any(size < 0 for size in whole):
        return shape
    before = math.prod(whole[: next(axis for axis, size in enumerate(whole) if size < 0)])
    products = list(itertools.accumulate((1, *shape[:-1]), lambda product, size: product * size))
    # The batch's own axis, in its place or elsewhere; then one that it was merged with, which the last, of features,
    # is not if another may be.
    own = [place for place, size in enumerate(shape) if size == batch]
    merged = [place for place, size in enumerate(shape[:-1] or shape) if size % batch == 0]
    for places in (own, merged):
        there = [place for place in places if products[place] == before] + places
        if there:
            place = there[0]
            return (*shape[:place], {"batch": shape[place] // batch}, *shape[place + 1 :])
    return shape


def _expanded(size: tuple[Any, ...], layout: Layout, batch: int) -> tuple[Any, ...]:
    """Axes that go by the batch already stay as they are; a first axis of 1 becomes the batch's."""
    whole = layout.whole(-1) if layout.batched else layout.shape
    padded = (1,) * (len(size) - len(whole)) + tuple(whole)
    made = [-1 if have < 0 else want for want, have in zip(size, padded, strict=True)]
    if made and made[0] == batch and padded[0] == 1:
        made[0] = {"batch": 1}
    return tuple(made)
