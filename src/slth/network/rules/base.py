"""What all rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from slth.network.calls import Call, Reference
from slth.network.draft import Draft, Value

Rule = Callable[[Draft, Call], str | None]
"""The node that a call becomes; None where the rule has nothing to say of it."""
SeveralRule = Callable[[Draft, Call], Sequence[str] | None]
"""The nodes that a call with several outputs becomes, in their order; those behind the last that is read may lack."""


def ticketable(draft: Draft, call: Call, weight: str, bias: str | None = None) -> bool:
    """Whether a weight, and a bias where there is one, are parameters that are to be ticketed."""
    if not call.is_parameter(weight) or not draft.wants(call.arguments[weight].name):
        return False
    if bias is None or call.arguments.get(bias) is None:
        return True
    return call.is_parameter(bias) and draft.wants(call.arguments[bias].name)


def names_of(call: Call, *keys: str) -> list[str]:
    """Traced names of those arguments that are there."""
    return [call.arguments[key].name for key in keys if call.arguments.get(key) is not None]


def channel_scale(
    draft: Draft,
    source: str,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    parameters: list[str],
    call: str,
    **own: Any,
) -> str:
    """Each channel (the first axis after the batch) times a weight, plus a bias.

    Raises
    ------
    UnsupportedError
        If the value has no channels.
    """
    shape, channels = draft.layouts[source].rest, weight.numel()
    n = len(shape) - 1
    attributes: dict[str, Any] = {"bias": bias is not None}
    kernel: tuple[int, ...]
    if n == 0:
        attributes |= {"weight_shape": (channels, 1, 1), "axes": 1}
        op, kernel = "scale", (1,)
    elif n <= 3:
        ones = (1,) * n
        attributes |= {"weight_shape": (channels, 1, *ones), "stride": ones, "padding": (0, 0) * n}
        attributes |= {"dilation": ones, "groups": channels}
        op, kernel = "conv", ones
    else:
        flat = draft.function("flatten", f"{call}_flat", {"self": Value(source), "start_dim": 2, "end_dim": -1})
        scaled = channel_scale(draft, flat, weight, bias, parameters, call, **own)
        return draft.function("unflatten", f"{call}_whole", {"self": Value(scaled), "dim": 2, "sizes": list(shape[1:])})
    return draft.weigh(
        op, [source], attributes, weight.reshape(channels, 1, *kernel), bias, parameters, call, "scale", **own
    )


__all__ = ["Call", "Draft", "Reference", "Rule", "SeveralRule", "Value", "channel_scale", "names_of", "ticketable"]
