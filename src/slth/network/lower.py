"""From traced calls to the graph and its weights; what is not covered is refused by name, before any work."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import torch

from slth.activations import ACTIVATIONS
from slth.errors import UnsupportedError
from slth.network.calls import WITH_INDICES, Call, Reference
from slth.network.graph import INPUT, Attribute, Graph, Node
from slth.network.operators import OPERATORS, Operator, WeightOperator

IDENTITIES = frozenset(
    {"dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
    | {
        "native_dropout",
        "detach",
        "detach_",
        "alias",
        "contiguous",
        "clone",
        "lift_fresh_copy",
        "_to_copy",
        "to",
    }
)
"""Calls that give back their input when the network is not in training."""

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
    "weight_norm": "torch.nn.utils.parametrize.remove_parametrizations, which keeps the weights as they are",
    "lstm": "a network without recurrent layers",
    "gru": "a network without recurrent layers",
    "rnn": "a network without recurrent layers",
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


def lower(
    calls: Sequence[Call],
    input_shape: tuple[int, ...],
    input_name: str,
    output_name: str,
    names: Mapping[str, str],
    places: Mapping[str, str],
) -> tuple[Graph, dict[str, tuple[torch.Tensor, torch.Tensor | None]]]:
    """Graph and weights of a traced network.

    Parameters
    ----------
    calls : sequence of Call
        In the order of evaluation.
    input_shape : tuple of int
        Shape of one input, without the batch axis.
    input_name, output_name : str
        Names of the traced values that are the network's input and output.
    names : mapping of str to str
        Names of the parameters in the target's own state dict, by traced name.
    places : mapping of str to str
        Where each call is made, for messages; see :func:`place`.

    Returns
    -------
    Graph, and for each weight layer its weight and bias (or None).

    Raises
    ------
    UnsupportedError
        For the first operation that is not covered, by name and with what to do instead.
    """
    for call in calls:
        if call.op not in _BY_ATEN and call.op not in IDENTITIES:
            raise refuse(places[call.name], call.op)
    taken = _taken_paths(calls, names)
    value_of = {input_name: INPUT}
    shapes = {INPUT: input_shape}
    nodes: list[Node] = []
    weights: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    for call in calls:
        here = value_of[_single_source(call, places, value_of)]
        if call.op in IDENTITIES:
            value_of[call.name] = here
            continue
        operator = _BY_ATEN[call.op]
        attributes = operator.lower(call, shapes[here])
        if isinstance(operator, WeightOperator):
            name = _layer_name(call, names, weights)
            weights[name] = (call.weight, call.bias)
        else:
            name = _free_name(operator.name if call.op in WITH_INDICES else call.name, taken | shapes.keys())
        node = Node(name, operator.name, here, attributes, _shape(name, operator, attributes, shapes[here]))
        nodes.append(node)
        shapes[name] = node.shape
        value_of[call.name] = name
    return _cut(Graph(input_shape, tuple(nodes)), value_of.get(output_name, "")), weights


def _layer_name(call: Call, names: Mapping[str, str], others: Container[str]) -> str:
    """What a weight layer is called: by the path of its module, or like the call outside any."""
    name = _module_path(call, names) or call.name
    if name in others:
        raise UnsupportedError(
            f"layer {name!r}", "a weight that two layers share", "one use of each weight", "copying the layer"
        )
    return name


def _free_name(name: str, taken: Container[str]) -> str:
    """A name that no other node has."""
    while name in taken:
        name += "_"
    return name


def _taken_paths(calls: Sequence[Call], names: Mapping[str, str]) -> set[str]:
    """Paths of the weight layers and of the modules around them, which no other node may be called."""
    paths = {_module_path(call, names) for call in calls if isinstance(_BY_ATEN.get(call.op), WeightOperator)}
    around = {path.rsplit(".", n)[0] for path in paths for n in range(1, path.count(".") + 1)}
    for path in sorted(paths & around):
        raise UnsupportedError(f"layer {path!r}", "a weight layer inside another", "weight layers beside each other")
    return paths | around


def _shape(
    name: str, operator: Operator, attributes: Mapping[str, Attribute], shape: tuple[int, ...]
) -> tuple[int, ...]:
    try:
        return operator.shape(attributes, shape)
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(f"layer {name!r}", f"{error}", "layers that keep the batch axis first") from error


def _cut(graph: Graph, output: str) -> Graph:
    """The chain that leads to the output; other branches do not reach it."""
    by_name = {node.name: node for node in graph}
    chain: list[Node] = []
    while output in by_name:
        chain.append(by_name[output])
        output = by_name[output].source
    if output != INPUT:
        raise UnsupportedError("network", "an output that is not computed from the input", "one input and one output")
    return Graph(graph.input_shape, tuple(reversed(chain)))


def _single_source(call: Call, places: Mapping[str, str], values: Container[str]) -> str:
    sources = call.tensors
    if len(sources) != 1:
        raise refuse(places[call.name], call.op)
    if sources[0] not in values:
        got, need = "a value other than those of the layers, such as indices of pooled entries", "one chain of layers"
        raise UnsupportedError(places[call.name], got, need, "pooling with return_indices=False")
    return sources[0]


def _module_path(call: Call, names: Mapping[str, str]) -> str:
    reference = call.arguments.get("weight")
    full = names.get(reference.name, "") if isinstance(reference, Reference) else ""
    return full.rpartition(".")[0]
