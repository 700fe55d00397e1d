"""From traced calls to the graph and its weights; what is not covered is refused by name, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slth.activations import ACTIVATIONS
from slth.errors import UnsupportedError
from slth.network.calls import ITEM, WITH_INDICES, Call, Reference
from slth.network.constants import IDENTITIES, compute, constants
from slth.network.draft import Draft, Traced
from slth.network.fold import fold_scales
from slth.network.graph import INPUT
from slth.network.operators import FUNCTIONS, OPERATORS, Operator, WeightOperator
from slth.network.rules import RULES, SEVERAL_RULES
from slth.network.rules.tensors import SEVERAL
from slth.network.selection import Selection
from slth.network.target import Target

REMEDIES: Mapping[str, str] = {
    "batch_norm": "folding it into the layer before it (torch.nn.utils.fusion.fuse_conv_bn_eval, fuse_linear_bn_eval)",
    "add": "a network without residual connections; sums of branches are not supported yet",
    "cat": "a network without branches; concatenation is not supported yet",
    "mul": "folding constant factors into the next layer's weights",
    "sub": "folding constant shifts into the next layer's bias",
    "div": "folding constant factors into the next layer's weights",
    "mean": "AdaptiveAvgPool followed by Flatten, which computes the same mean",
    "matmul": "torch.nn.Linear, which computes the same product",
    "mm": "torch.nn.Linear, which computes the same product",
    "addmm": "torch.nn.Linear, which computes the same product",
    "permute": "a network without permuted axes, exported without run_decompositions",
    "conv_transpose": "a network without transposed convolutions",
    "packed_sequence": "sequences of equal lengths in one tensor, without pack_padded_sequence",
    "softmax": "ending the target at the logits, before the softmax",
    "log_softmax": "ending the target at the logits, before the log-softmax",
}
_OTHER_ACTIVATIONS = (
    "mish",
    "selu",
    "celu",
    "log_sigmoid",
    "hardsigmoid",
    "hardswish",
    "hardshrink",
    "softshrink",
    "threshold",
    "rrelu",
    "glu",
    "clamp",
)
_ENTRY_BY_ENTRY = frozenset(
    {"abs", "asinh", "atan", "cos", "cosh", "erf", "exp", "expm1", "log", "log1p", "maximum", "minimum", "neg", "pow"}
    | {"reciprocal", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "where"}
)
"""Of which people make activations of their own."""

_BY_ATEN: dict[str, Operator] = {aten: operator for operator in OPERATORS.values() for aten in operator.aten}
_SHAPED = frozenset(aten for name in ("max_pool", "average_pool", "reshape", "pad") for aten in OPERATORS[name].aten)
KNOWN = frozenset(_BY_ATEN) | IDENTITIES | FUNCTIONS | {f"{name}_" for name in FUNCTIONS}
KNOWN |= RULES.keys() | SEVERAL_RULES.keys()
"""Operations that a network may hold, some of them with certain arguments alone."""


def place(call: str, path: str, kind: str) -> str:
    """A traced call as its author knows it: the module that makes it, or the call's own name outside any."""
    return f"layer {path!r} ({kind.rpartition('.')[2]})" if path else f"layer {call!r}"


def refuse(where: str, op: str) -> UnsupportedError:
    """The error for an operation that no operator here covers."""
    op = op.rstrip("_")
    key = max((key for key in REMEDIES if key in op), key=len, default="")
    remedy = REMEDIES.get(key, "a network of Linear, Conv, activation, pooling, flatten and dropout layers")
    if op in _ENTRY_BY_ENTRY or any(op.startswith(activation) for activation in _OTHER_ACTIVATIONS):
        covered = ", ".join(name for name in ACTIVATIONS if name != "identity")
        remedy = f"an activation that is covered: {covered}; or slth.activations.register(..., module=...) for your own"
    return UnsupportedError(where, f"the operation {op}", "a supported layer", remedy)


def lower(calls: Sequence[Call], traced: Traced, selection: Selection | None = None) -> Target:
    """The target that a traced network is.

    Parameters
    ----------
    calls : sequence of Call
        In the order of evaluation.
    traced : Traced
    selection : Selection, optional
        Which parameters are ticketed; all, without.

    Raises
    ------
    UnsupportedError
        For the first operation that is not covered, by name and with what to do instead.
    """
    draft = Draft(traced, selection or Selection())
    draft.read_items = _read_items(calls, traced.output_names)
    computed = constants(calls, traced)
    for call in calls:
        if call.op not in KNOWN and call.name not in computed:
            raise refuse(traced.places.get(call.name, call.name), call.op)
    for call in calls:
        if call.op == ITEM and call.arguments["index"] not in draft.read_items.get(call.arguments["self"].name, ()):
            continue
        call = replace(call, parameters=draft.parameters)
        try:
            if call.name in computed:
                compute(draft, call)
                continue
            if not call.shape and _several(draft, call):
                continue
            draft.values[call.name] = _node(draft, call)
        except ValueError as error:
            raise refuse(traced.places.get(call.name, call.name), call.op) from error
    outputs = [draft.values.get(name, "") for name in traced.output_names]
    if "" in outputs or outputs == [INPUT]:
        raise UnsupportedError("network", "an output that is not computed from the input", "one input and one output")
    output = outputs[0] if len(outputs) == 1 else draft.add("join", outputs, {}, draft.free_name("outputs"))
    graph = draft.finish(fold_scales(draft, output))
    return Target.build(graph, draft.weights_of(graph), draft.kept, draft.accounts(), draft.selection)


def _read_items(calls: Sequence[Call], outputs: Sequence[str]) -> dict[str, set[int]]:
    """For each call with several outputs the numbers of those that something reads."""
    read = {reference.name for call in calls for reference in call.references} | set(outputs)
    found: dict[str, set[int]] = {}
    for call in calls:
        if call.op == ITEM and call.name in read:
            found.setdefault(call.arguments["self"].name, set()).add(call.arguments["index"])
    return found


def _several(draft: Draft, call: Call) -> bool:
    """Take note of a call with several outputs; whether it is one."""
    rule = SEVERAL_RULES.get(call.op)
    made = None if rule is None else rule(draft, call)
    if made is not None:
        draft.outputs[call.name] = made
    elif call.op in SEVERAL:
        draft.several[call.name] = call
    return made is not None or call.op in SEVERAL


def _node(draft: Draft, call: Call) -> str:
    """The node that a call becomes: by its rule, as an operation of its own kind, or as a function that is kept."""
    rule = RULES.get(call.op)
    made = None if rule is None else rule(draft, call)
    if made is not None:
        return made
    if call.op in IDENTITIES:
        return draft.source(call.references[0])
    operator, plain = _BY_ATEN.get(call.op), call.op.rstrip("_") if call.op.endswith("_") else call.op
    if operator is not None and not isinstance(operator, WeightOperator) and len(call.tensors) == 1:
        try:
            made = _operation(draft, call, operator)
        except UnsupportedError:
            if plain not in FUNCTIONS:
                raise
    if made is None:
        floating = call.dtype is None or call.dtype.is_floating_point or call.dtype.is_complex
        made = draft.function(plain, call.name, call.arguments, -1, floating)
    if call.op.endswith("_") and not call.op.startswith("_"):
        # What is changed in place is read by its own name from then on.
        draft.values[call.references[0].name] = made
    return made


def _operation(draft: Draft, call: Call, operator: Operator) -> str:
    source = draft.source(Reference(call.tensors[0]))
    if not draft.layouts[source].batched and operator.aten and call.op in _SHAPED:
        raise UnsupportedError(call.name, f"{call.op} across the batch axis", "the batch axis first")
    attributes = operator.lower(call, draft.layouts[source].shape)
    name = operator.name if call.op in WITH_INDICES else call.name
    return draft.add(operator.name, [source], attributes, draft.free_name(name), floating=draft.floating[source])
