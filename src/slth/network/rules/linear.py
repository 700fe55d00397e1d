"""Maps that are linear in what they read, with a parameter as their matrix."""

from __future__ import annotations

import torch

from slth.network.operators import OPERATORS
from slth.network.operators.base import spatial
from slth.network.rules.base import Call, Draft, Rule, Value, names_of, ticketable


def linear(draft: Draft, call: Call) -> str | None:
    """``torch.nn.functional.linear``."""
    if not ticketable(draft, call, "weight", "bias"):
        return None
    attributes = OPERATORS["linear"].lower(call, ())
    parameters = names_of(call, "weight", "bias")
    source = draft.source(call.arguments["input"])
    return draft.weigh("linear", [source], attributes, call.weight, call.bias, parameters, call.name)


def convolution(draft: Draft, call: Call) -> str | None:
    """Convolutions, transposed ones included."""
    if not ticketable(draft, call, "weight", "bias"):
        return None
    if call.arguments.get("transposed"):
        return transposed(draft, call)
    source = draft.source(call.arguments["input"])
    attributes = OPERATORS["conv"].lower(call, draft.layouts[source].shape)
    return draft.weigh(
        "conv", [source], attributes, call.weight, call.bias, names_of(call, "weight", "bias"), call.name
    )


def transposed(draft: Draft, call: Call) -> str | None:
    """Transposed convolutions, whose bias is added by a channel's own: no single tap reaches every position."""
    if not ticketable(draft, call, "weight", "bias"):
        return None
    weight, groups = call.weight, int(call.arguments.get("groups", 1))
    inputs, outputs_per_group, *kernel = weight.shape
    n = len(kernel)
    own = weight.reshape(groups, inputs // groups, outputs_per_group, *kernel).transpose(1, 2)
    own = own.reshape(groups * outputs_per_group, inputs // groups, *kernel)
    attributes = {
        "weight_shape": tuple(own.shape),
        "bias": False,
        "stride": spatial(call.arguments.get("stride", 1), n),
        "crop": spatial(call.arguments.get("padding", 0), n),
        "extra": spatial(call.arguments.get("output_padding", 0), n),
        "dilation": spatial(call.arguments.get("dilation", 1), n),
        "groups": groups,
    }
    source = draft.source(call.arguments["input"])
    made = draft.weigh("conv_transpose", [source], attributes, own, None, names_of(call, "weight"), call.name)
    if call.bias is None:
        return made
    bias = draft.constant(call.arguments["bias"].name)
    shaped = draft.function("view", f"{call.name}_bias", {"self": Value(bias), "size": [-1, *[1] * n]})
    return draft.function("add", call.name, {"self": Value(made), "other": Value(shaped)})


def embedding(draft: Draft, call: Call) -> str | None:
    """Rows of a table."""
    if not ticketable(draft, call, "weight") or call.is_parameter("indices"):
        return None
    table = call.weight
    attributes = {"weight_shape": (table.shape[1], table.shape[0]), "bias": False}
    source = draft.source(call.arguments["indices"])
    return draft.weigh("embedding", [source], attributes, table.t(), None, names_of(call, "weight"), call.name, "rows")


def product(draft: Draft, call: Call) -> str | None:
    """A product of a value with a parameter that is a matrix, on either side."""
    right = "other" if "other" in call.arguments else "mat2"
    left = "self"
    if not call.is_parameter(left) and ticketable(draft, call, right) and call.parameter(right).dim() == 2:
        return _times(draft, draft.source(call.arguments[left]), call.parameter(right).t(), names_of(call, right), call)
    if not call.is_parameter(right) and ticketable(draft, call, left) and call.parameter(left).dim() == 2:
        value = draft.source(call.arguments[right])
        layout = draft.layouts[value]
        if len(layout.shape) + layout.batched < 2:
            return None
        turned = draft.function("transpose", f"{call.name}_turned", {"self": Value(value), "dim0": -1, "dim1": -2})
        made = _times(draft, turned, call.parameter(left), names_of(call, left), call)
        return draft.function("transpose", call.name, {"self": Value(made), "dim0": -1, "dim1": -2})
    return None


def _times(draft: Draft, source: str, matrix: torch.Tensor, parameters: list[str], call: Call) -> str:
    """x times the transpose of a matrix (outputs, inputs), along the last axis."""
    attributes = {"weight_shape": tuple(matrix.shape), "bias": False}
    return draft.weigh("linear", [source], attributes, matrix, None, parameters, call.name, "product")


def affine_product(draft: Draft, call: Call) -> str | None:
    """``addmm``: a bias plus a product."""
    plain = all(call.arguments.get(key, 1) == 1 for key in ("alpha", "beta"))
    if not plain or call.is_parameter("mat1") or not ticketable(draft, call, "mat2", "self"):
        return None
    matrix, bias = call.parameter("mat2").t(), call.parameter("self")
    if matrix.dim() != 2 or bias.numel() != len(matrix):
        return None
    attributes = {"weight_shape": tuple(matrix.shape), "bias": True}
    source = draft.source(call.arguments["mat1"])
    parameters = names_of(call, "mat2", "self")
    return draft.weigh("linear", [source], attributes, matrix, bias.reshape(-1), parameters, call.name, "product")


def prelu(draft: Draft, call: Call) -> str | None:
    """PReLU with a slope a channel: relu(x) + a min(x, 0), in which a is a map of its own."""
    from slth.network.rules.base import channel_scale

    if not call.is_parameter("weight") or call.weight.numel() == 1:
        return None
    source = draft.source(call.arguments["self"])
    if not ticketable(draft, call, "weight"):
        return draft.function("prelu", call.name, call.arguments)
    below = draft.function("clamp", f"{call.name}_below", {"self": Value(source), "max": 0})
    scaled = channel_scale(draft, below, call.weight, None, names_of(call, "weight"), call.name)
    above = draft.add("relu", [source], {}, draft.free_name(f"{call.name}_above"))
    return draft.function("add", f"{call.name}_sum", {"self": Value(above), "other": Value(scaled)})


LINEAR_RULES: dict[str, Rule] = {
    "linear": linear,
    **{f"conv{n}d": convolution for n in (1, 2, 3)},
    "convolution": convolution,
    **{f"conv_transpose{n}d": transposed for n in (1, 2, 3)},
    "embedding": embedding,
    "matmul": product,
    "mm": product,
    "addmm": affine_product,
    "prelu": prelu,
}
