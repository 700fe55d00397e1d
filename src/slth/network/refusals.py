"""What is no function of one input, or cannot be traced at all, refused by name before any work."""

from __future__ import annotations

import functools
import re
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from slth import errors
from slth.errors import UnsupportedError
from slth.network.calls import Call
from slth.network.draft import Traced
from slth.network.remedies import BY_VALUES, remedy_for

_BY_VALUES_KINDS = re.compile("data-dependent|control flow|guard|Symbolic|TraceError", re.IGNORECASE)
_TAKEN_OUT = re.compile(r"\.numpy\(|\.tolist\(|numpy\(\)|__array__|to numpy|tolist")
_UNBACKED = re.compile(r"\bz?u[a-z]?\d+\b")
"""How torch calls numbers that go by the values of tensors."""
_LONGEST_LINE = 80
"""Of a line of code in a message (chosen)."""


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


def unfixed(where: str, size: str) -> UnsupportedError:
    """The error for a size, or another number, that goes by more than the batch's size."""
    if _UNBACKED.search(size):
        got = "a size, or another number, that goes by the values of the input"
        remedy = "a mask in place of chosen entries, and tensors in place of .item()"
        return UnsupportedError(where, got, BY_VALUES, remedy)
    got = "a size that goes by another axis than the batch's, which the program leaves open"
    need, remedy = "sizes that are fixed, but for the batch", "Dim('batch') for the first axis alone"
    return UnsupportedError(where, got, need, remedy)


def untraceable(error: Exception) -> UnsupportedError:
    """The error for a module that ``torch.export`` refuses, by the line of the module's own code where it does."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    need, remedy = "a forward pass that can be traced", "exporting the part that can be traced"
    line, place = _own_line(error)
    if _TAKEN_OUT.search(f"{line} {error}"):
        reason, need = "numbers taken out of a tensor", "operations on tensors all the way"
        remedy = "torch's own operation in place of numpy's or of Python's"
    elif _BY_VALUES_KINDS.search(f"{type(error).__name__} {error}"):
        reason, need = "a branch or loop that goes by the values of the input", BY_VALUES
        remedy = "torch.where in place of the branch, or exporting the part that can be traced"
    elif packed := remedy_for(line):
        reason, remedy = "a sequence that is packed", packed
    return UnsupportedError("target", f"a module that torch.export cannot trace ({reason}{place})", need, remedy)


def _own_line(error: Exception) -> tuple[str, str]:
    """The innermost line of code that is neither torch's nor ours, and its place in words; empty if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own_code(frame.filename)]
    if not frames or not frames[-1].line:
        return "", ""
    line = " ".join(frames[-1].line.split())
    shown = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."
    return line, f", {Path(frames[-1].filename).name} line {frames[-1].lineno}: {shown}"


def _is_own_code(filename: str) -> bool:
    """Whether a file is a user's: not torch's or what torch calls, not ours, not Python's own."""
    path = Path(filename)
    ours = any(path.is_relative_to(Path(known).parent) for known in (torch.__file__, errors.__file__))
    pythons = path.is_relative_to(Path(functools.__file__).parent) and "site-packages" not in path.parts
    return not ours and not pythons and "sympy" not in path.parts and path.is_file()


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
