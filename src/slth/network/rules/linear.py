"""Maps that are linear in what they read, with a parameter as their matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slth.network.operators import OPERATORS
from slth.network.operators.base import spatial
from slth.network.rules.base import Call, Draft, Rule, SeveralRule, Value, names_of, ticketable


def linear(draft: Draft, call: Call) -> str | None:
    """``torch.nn.functional.linear``."""
    if not ticketable(draft, call, "weight"):
        return None
    if not ticketable(draft, call, "weight", "bias"):
        return _bias_apart(draft, call, linear, 0)
    attributes = OPERATORS["linear"].lower(call, ())
    parameters = names_of(call, "weight", "bias")
    source = draft.source(call.arguments["input"])
    return draft.weigh("linear", [source], attributes, call.weight, call.bias, parameters, call.name)


def convolution(draft: Draft, call: Call) -> str | None:
    """Convolutions, transposed ones included."""
    if not ticketable(draft, call, "weight"):
        return None
    if call.arguments.get("transposed"):
        return transposed(draft, call)
    if not ticketable(draft, call, "weight", "bias"):
        return _bias_apart(draft, call, convolution, call.weight.dim() - 2)
    source = draft.source(call.arguments["input"])
    attributes = OPERATORS["conv"].lower(call, draft.layouts[source].rest)
    return draft.weigh(
        "conv", [source], attributes, call.weight, call.bias, names_of(call, "weight", "bias"), call.name
    )


def _bias_apart(draft: Draft, call: Call, rule: Rule, n: int) -> str | None:
    """A map whose bias is not in its layer, but added behind it: one that is kept, or is computed from values."""
    made = rule(draft, replace(call, arguments={**call.arguments, "bias": None}))
    if made is None:
        return None
    bias = draft.source(call.arguments["bias"])
    if n:
        bias = draft.function("view", f"{call.name}_bias", {"self": Value(bias), "size": [-1, *[1] * n]})
    return draft.function("add", call.name, {"self": Value(made), "other": Value(bias)})


def transposed(draft: Draft, call: Call) -> str | None:
    """Transposed convolutions, whose bias is added by a channel's own: no single tap reaches every position."""
    if not ticketable(draft, call, "weight"):
        return None
    if call.arguments.get("bias") is not None:
        return _bias_apart(draft, call, transposed, call.weight.dim() - 2)
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
    return draft.weigh("conv_transpose", [source], attributes, own, None, names_of(call, "weight"), call.name)


def embedding(draft: Draft, call: Call) -> str | None:
    """Rows of a table."""
    if not ticketable(draft, call, "weight") or call.is_parameter("indices"):
        return None
    table = call.weight
    attributes = {"weight_shape": (table.shape[1], table.shape[0]), "bias": False}
    source = draft.source(call.arguments["indices"])
    return draft.weigh("embedding", [source], attributes, table.t(), None, names_of(call, "weight"), call.name, "rows")


def embedding_bag(draft: Draft, call: Call) -> Sequence[str] | None:
    """Sums, means or maxima of rows of a table, in bags of one size: one for each row of a batch of numbers."""
    own = call.arguments
    indices, offsets = draft.nodes.get(draft.source(own["indices"])), draft.nodes.get(draft.source(own["offsets"]))
    plain = own.get("per_sample_weights") is None and own.get("padding_idx") is None
    if indices is None or offsets is None or not plain or not ticketable(draft, call, "weight"):
        return None
    bags = draft.layouts[indices.source] if len(indices.sources) == 1 else None
    starts = offsets.attributes["arguments"] if offsets.attributes.get("function") == "arange" else {}
    if bags is None or indices.attributes.get("function") != "reshape" or not bags.batched or len(bags.shape) != 1:
        return None
    (size,) = bags.shape
    if starts.get("start", 0) != 0 or starts.get("step", 1) != size or starts["end"] != {"batch": size}:
        return None
    table = call.weight
    attributes = {"weight_shape": (table.shape[1], table.shape[0]), "bias": False}
    parameters = names_of(call, "weight")
    rows = draft.weigh("embedding", [indices.source], attributes, table.t(), None, parameters, call.name, "rows")
    reduce = ("sum", "mean", "amax")[own.get("mode", 0)]
    return [draft.function(reduce, f"{call.name}_{reduce}", {"self": Value(rows), "dim": [1], "keepdim": False})]


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
    "prelu": prelu,
}

LINEAR_SEVERAL: dict[str, SeveralRule] = {"embedding_bag": embedding_bag}
