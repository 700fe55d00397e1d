"""Calls of covered operations that are no function of one input, refused by name before any work."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from slth.errors import UnsupportedError
from slth.network.calls import Call
from slth.network.draft import Traced


def refuse_states(calls: Sequence[Call], traced: Traced) -> None:
    """Refuse randomness, statistics of a batch, and changes of tensors that have other names.

    Raises
    ------
    UnsupportedError
    """
    uses = Counter(reference.name for call in calls for reference in call.references)
    by_name = {call.name: call for call in calls}
    for call in calls:
        where = traced.places.get(call.name, call.name)
        if _is_random(call):
            need, remedy = "none in evaluation mode", "dropout(x, p, training=self.training), or torch.nn.Dropout"
            raise UnsupportedError(where, f"{call.op.rstrip('_')} that is always on", need, remedy)
        if call.op == "batch_norm" and (call.arguments.get("training") or call.arguments.get("running_mean") is None):
            got = "a normalisation by the statistics of the batch, which depend on the other inputs in it"
            raise UnsupportedError(where, got, "stored statistics", "track_running_stats=True, and training once more")
        if _changes(call) and not _is_own(call.references[0].name, by_name, uses):
            got = f"{call.op}, a change in place of a tensor that has other names"
            raise UnsupportedError(where, got, "operations that give new tensors", "program.run_decompositions({})")


def _changes(call: Call) -> bool:
    return call.op.endswith("_") and not call.op.startswith("_") and bool(call.references)


def _is_own(name: str, by_name: Mapping[str, Call], uses: Mapping[str, int]) -> bool:
    """Whether what is changed was made by a call for its one reader, directly or by changes of what was."""
    call = by_name.get(name)
    if call is None or uses[name] > 1:
        return False
    return _is_own(call.references[0].name, by_name, uses) if _changes(call) else not _is_view(call.op)


def _is_random(call: Call) -> bool:
    arguments = call.arguments
    if "dropout" in call.op and "_to_" not in call.op:
        return bool(arguments.get("train")) and bool(arguments.get("p", 0.5))
    if call.op == "rrelu":
        return bool(arguments.get("training"))
    return bool(arguments.get("dropout_p")) or bool(arguments.get("train") and arguments.get("dropout"))


@functools.cache
def _is_view(op: str) -> bool:
    """Whether what a call gives may be part of what it reads."""
    packet = getattr(torch.ops.aten, op, None)
    overloads = [] if packet is None else [getattr(packet, name) for name in packet.overloads() if "out" not in name]
    return op == "getitem" or any(value.alias_info for overload in overloads for value in overload._schema.returns)
