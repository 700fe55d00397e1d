"""Calls that give several tensors, and conversions of number types."""

from __future__ import annotations

from typing import Any

from slth.network.calls import ITEM, Reference
from slth.network.rules.base import Call, Draft, Rule, Value

SEVERAL = frozenset(
    [
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "tensor_split",
        "var_mean",
        "std_mean",
        "topk",
        "sort",
        "max",
        "min",
        "native_layer_norm",
        "native_group_norm",
        "meshgrid",
        "max_pool2d_with_indices",
        "_native_batch_norm_legit_no_training",
    ]
)
"""Kept functions with several outputs."""


def item(draft: Draft, call: Call) -> str | None:
    """One output of a call with several: a node that its rule made, or the call evaluated anew for it."""
    reference, index = call.arguments["self"], call.arguments["index"]
    if reference.name in draft.outputs:
        outputs = draft.outputs[reference.name]
        return outputs[index] if index < len(outputs) else None
    several = draft.several.get(reference.name)
    if several is None:
        return None
    if several.op in ("split", "split_with_sizes", "chunk", "tensor_split", "unbind"):
        return _part(draft, several, index, call)
    return draft.function(
        several.op, call.name, several.arguments, index, _floats(draft, several) and several.op != "argmax"
    )


def _part(draft: Draft, several: Call, index: int, call: Call) -> str:
    """A slice of what was split: nothing else of it is made."""
    value, dim = draft.source(several.arguments["self"]), several.arguments.get("dim", 0)
    floating = draft.floating[value]
    if several.op == "unbind":
        return draft.function("select", call.name, {"self": Value(value), "dim": dim, "index": index}, -1, floating)
    return draft.function(several.op, call.name, several.arguments, index, floating)


def _floats(draft: Draft, call: Call) -> bool:
    first = next(iter(call.references), None)
    return first is None or draft.floating.get(draft.values.get(first.name, ""), True)


def convert(draft: Draft, call: Call) -> str | None:
    """A conversion between real numbers is none; to whole numbers and back it is kept."""
    reference = call.arguments["self"]
    assert isinstance(reference, Reference)
    value = draft.source(reference)
    floating = call.dtype is None or call.dtype.is_floating_point
    if draft.floating[value] and floating:
        return value
    arguments: dict[str, Any] = {"self": Value(value), "dtype": call.dtype}
    return draft.function("_to_copy", call.name, arguments, -1, floating)


TENSOR_RULES: dict[str, Rule] = {
    ITEM: item,
    "to": convert,
    "_to_copy": convert,
    "type_as": convert,
    "float": convert,
}
