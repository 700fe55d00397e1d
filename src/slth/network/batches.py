"""Programs for a batch of one size, read as networks for batches of any size where that is the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from slth.errors import SlthError, UnsupportedError
from slth.network.calls import Call
from slth.network.draft import Traced
from slth.network.lower import lower
from slth.network.selection import EVERYTHING, Selection
from slth.network.target import Target
from slth.network.trial import outputs, same, trial_inputs

logger = logging.getLogger(__name__)

_SIZES = ("shape", "size", "sizes", "repeats")
"""Arguments that say how large something is."""
_ROUNDING = 1e-9
"""Largest relative difference, in float64, of two networks that are the same but for rounding (chosen)."""


def read(calls: Sequence[Call], traced: Traced, selection: Selection = EVERYTHING) -> Target:
    """The target that calls are, for batches of any size if they say or can be shown to be.

    Where it is not told which sizes go by the batch, they are guessed, and the network is compared with the one that
    works on that batch alone, example by example or batch by batch: if they differ, it is that one.

    Raises
    ------
    UnsupportedError
        As :func:`slth.network.lower.lower`.
    """
    if not traced.static_batch:
        return lower(calls, traced, selection)
    alone = replace(traced, static_batch=0, fixed_batch=traced.static_batch)
    try:
        free = lower(calls, traced, selection)
    except UnsupportedError as error:
        try:
            fixed = lower(calls, alone, selection)
        except UnsupportedError:
            raise error from None
        logger.info("for batches of %d alone: %s", traced.static_batch, error)
        return fixed
    if not _holds_sizes(free):
        return free
    fixed = lower(calls, alone, selection)
    return free if _alike(free, fixed, traced.static_batch) else fixed


def _holds_sizes(target: Target) -> bool:
    arguments = [node.attributes["arguments"] for node in target.graph if node.op == "function"]
    kept = any(len(tensor.shape) > 1 for tensor in target.kept.values())
    return kept or any(key in _SIZES for each in arguments for key in each)


def _alike(free: Target, fixed: Target, batch: int) -> bool:
    """Whether two networks are the same on more examples than there are in a batch."""
    x = trial_inputs(free.graph, 2 * batch + 1)
    try:
        found = same(outputs(free, x), outputs(fixed, x), _ROUNDING)
    except (SlthError, RuntimeError, IndexError, ValueError):
        found = False
    logger.info("for batches of %s", "any size" if found else f"{batch} alone")
    return found
