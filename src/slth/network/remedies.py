"""What to do about an operation that no network here may hold, and how its place is called."""

from __future__ import annotations

import re

from slth.errors import UnsupportedError

_RANDOM = "a network that gives the same each time in evaluation mode: no noise, and dropout off"
BY_VALUES = "a network whose sizes and branches do not depend on the values of its input"
"""What is needed of control flow."""
_PACKED = r"pack(ed|_padded)?_sequence"
_FLOAT = "the network of real numbers that it was made of, before it was quantised"
_ACTIVATION = "an activation that slth knows, or slth.activations.register(..., module=...) for your own"
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"rand|normal|bernoulli|multinomial|poisson|dropout|exponential|cauchy|geometric|uniform", _RANDOM),
    (r"cond|while_loop|map_impl|scan|nonzero|masked_select|unique|item|_local_scalar_dense|bincount|histc", BY_VALUES),
    (r"quant|qconv|qlinear|int_repr", _FLOAT),
    (_PACKED, "sequences of equal lengths in one tensor, without pack_padded_sequence"),
    (r"sparse|_to_dense|coalesce", "dense tensors"),
    (r"set_grad_enabled|autocast", "a forward pass without torch.no_grad() and torch.autocast inside it"),
    (r"gamma|erfinv|bessel|special_|heaviside|xlogy|sinc|i0|polygamma|airy|zeta", _ACTIVATION),
)
"""Patterns of operations that are not covered, and what to do instead; the first that fits counts."""
_ELSE = "operations that slth covers (README, 'What can be a target'), or leaving this part out of the target"


def place(call: str, path: str, kind: str) -> str:
    """A traced call as its author knows it: the module that makes it, or the call's own name outside any."""
    return f"layer {path!r} ({kind.rpartition('.')[2]})" if path else f"layer {call!r}"


def remedy_for(line: str) -> str:
    """What to do about a line of code at which a trace ends; empty where nothing is known."""
    return next((remedy for pattern, remedy in _REMEDIES if pattern == _PACKED and re.search(pattern, line)), "")


def refuse(where: str, op: str) -> UnsupportedError:
    """The error for an operation that is not covered."""
    op = op.rstrip("_")
    if "::" in op:
        remedy = "torch's own operations in place of another library's, or leaving this part out of the target"
    else:
        remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, op)), _ELSE)
    return UnsupportedError(where, f"the operation {op}", "an operation that is covered", remedy)
