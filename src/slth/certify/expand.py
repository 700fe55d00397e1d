"""Operations that are written out as several simpler ones, each of which has rules of its own.

Recurrent layers are written out step by step, for every method; attention and gates are so for objectives that are
carried back. In exact arithmetic all of these compute what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from slth.certify.functions.moves import MOVES
from slth.network.graph import Graph, Layout, Node
from slth.network.operators import OPERATORS
from slth.network.target import Target

_BELOW = {"number": "-inf"}
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros"})


class _Draft:
    """Nodes in place of one; the last of them has its name."""

    def __init__(self, graph: Graph, node: Node, kept: dict[str, torch.Tensor]) -> None:
        self.graph, self.node, self.kept = graph, node, kept
        self.arguments: Mapping[str, Any] = node.attributes.get("arguments", {})
        self.nodes: list[Node] = []
        self._layouts: dict[str, Layout] = {}

    def value(self, name: str) -> str | None:
        """The value that an argument is."""
        argument = self.arguments.get(name)
        return self.node.sources[argument["source"]] if isinstance(argument, Mapping) and "source" in argument else None

    def layout(self, name: str) -> Layout:
        """Of a value."""
        return self._layouts.get(name) or self.graph.layout_of(name)

    def add(self, op: str, sources: Sequence[str], attributes: Mapping[str, Any], what: str, layer: str = "") -> str:
        """One node."""
        layout = OPERATORS[op].layout(attributes, [self.layout(source) for source in sources])
        name = f"{self.node.name}: {len(self.nodes)} {what}"
        self._layouts[name] = layout
        self.nodes.append(Node(name, op, tuple(sources), attributes, layout.shape, layout.batched, layer))
        return name

    def call(self, function: str, names: Sequence[str], sources: Sequence[str], output: int = -1, **others: Any) -> str:
        """A function of values, by their names among its arguments."""
        arguments = {**{name: {"source": place} for place, name in enumerate(names)}, **others}
        attributes = {"function": function, "arguments": arguments, "output": output, "batch": ()}
        return self.add("function", sources, attributes, function)

    def both(self, function: str, one: str, other: str) -> str:
        """A sum, a difference or a product."""
        return self.call(function, ("self", "other"), (one, other))

    def of(self, function: str, source: str) -> str:
        """A function entry by entry."""
        return self.call(function, ("self",), (source,))

    def joined(self, function: str, sources: Sequence[str], dim: int) -> str:
        """Values side by side."""
        tensors = tuple({"source": place} for place in range(len(sources)))
        attributes = {"function": function, "arguments": {"tensors": tensors, "dim": dim}, "output": -1, "batch": ()}
        return self.add("function", sources, attributes, function)

    def parts(self, source: str, count: int, dim: int = -1) -> list[str]:
        """Equal parts of an axis."""
        return [self.call("chunk", ("self",), (source,), part, chunks=count, dim=dim) for part in range(count)]

    def constant(self, value: torch.Tensor) -> str:
        """A kept tensor."""
        attributes = {"shape": tuple(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        name = self.add("kept", (), attributes, "kept")
        self.kept[name] = value
        return name

    def confine(self, within: float | None) -> None:
        """Say of the last node that no value is beyond a number in either network."""
        if within is not None:
            node = self.nodes[-1]
            self.nodes[-1] = replace(node, attributes={**node.attributes, "within": within})

    def largest(self, name: str) -> float | None:
        """The largest entry of a value that is known: a kept tensor, zeros, or entries of these."""
        if name in self.kept:
            return float(self.kept[name].abs().max())
        node = self.graph.by_name.get(name)
        if node is not None and node.attributes.get("function") in MOVES and len(node.sources) == 1:
            return self.largest(node.source)
        return 0.0 if node is not None and node.attributes.get("function") in _ZEROS else None

    def end(self) -> list[Node]:
        """The nodes, of which the last takes the place of what is written out."""
        return [*self.nodes[:-1], replace(self.nodes[-1], name=self.node.name)]


def _attention(draft: _Draft) -> bool:
    """softmax(Q K^T scale + mask) V."""
    query, key, value, mask = (draft.value(name) for name in ("query", "key", "value", "attn_mask"))
    if query is None or key is None or value is None or draft.arguments.get("enable_gqa"):
        return False
    if draft.arguments.get("dropout_p") or (draft.arguments.get("attn_mask") is not None and mask not in draft.kept):
        return False
    scale = draft.arguments.get("scale")
    factor = draft.layout(query).shape[-1] ** -0.5 if scale is None else float(scale)
    turned = draft.call("transpose", ("self",), (key,), dim0=-2, dim1=-1)
    scores = draft.call("mul", ("self",), (draft.both("matmul", query, turned),), other=factor)
    hidden = None
    if draft.arguments.get("is_causal"):
        sizes = draft.layout(query).shape[-2], draft.layout(key).shape[-2]
        hidden = ~torch.ones(sizes, dtype=torch.bool).tril()
    elif mask is not None and draft.kept[mask].dtype == torch.bool:
        hidden = ~draft.kept[mask]
    elif mask is not None:
        hidden = ~torch.isfinite(draft.kept[mask])
        scores = draft.both("add", scores, draft.constant(draft.kept[mask].masked_fill(hidden, 0)))
    if hidden is not None:
        scores = draft.call("masked_fill", ("self", "mask"), (scores, draft.constant(hidden)), value=_BELOW)
    draft.both("matmul", draft.call("softmax", ("self",), (scores,), dim=-1), value)
    return True


def _gate(draft: _Draft) -> bool:
    """a sigmoid(b), of the two halves of an axis."""
    source, dim = draft.value("self"), draft.arguments.get("dim")
    if source is None:
        return False
    first, second = draft.parts(source, 2, -1 if dim is None else dim)
    draft.both("mul", first, draft.of("sigmoid", second))
    return True


def _mixture(draft: _Draft) -> bool:
    """x + w (y - x)."""
    one, other, weight = (draft.value(name) for name in ("self", "end", "weight"))
    if one is None or other is None:
        return False
    apart = draft.both("sub", other, one)
    if weight is None:
        share = draft.call("mul", ("self",), (apart,), other=draft.arguments["weight"])
    else:
        share = draft.both("mul", weight, apart)
    draft.both("add", one, share)
    return True


def _recurrent(draft: _Draft) -> bool:
    """Step by step: the layer of the hidden state is used in each of them."""
    node, attributes = draft.node, draft.node.attributes
    gates, *state = node.sources
    axis = 1 if attributes["batch_first"] else 0
    plain = {key: attributes[key] for key in ("weight_shape", "bias")}
    made: list[str] = []
    start = draft.largest(state[0])
    within = None if start is None else max(1.0, start)
    steps = range(draft.layout(gates).whole(1)[axis])
    for step in steps[::-1] if attributes["reverse"] else steps:
        ours = draft.call("select", ("self",), (gates,), dim=axis, index=step)
        theirs = draft.add("linear", (state[0],), plain, "hidden", node.weights)
        state = _STEPS[attributes["kind"]](draft, ours, theirs, state, within)
        made.append(draft.joined("cat", state, -1) if attributes["cells"] else state[0])
    draft.joined("stack", made[::-1] if attributes["reverse"] else made, axis)
    return True


def _lstm(draft: _Draft, ours: str, theirs: str, state: Sequence[str], within: float | None) -> list[str]:
    entry, forget, new, output = draft.parts(draft.both("add", ours, theirs), 4)
    kept = draft.both("mul", draft.of("sigmoid", forget), state[1])
    cell = draft.both("add", kept, draft.both("mul", draft.of("sigmoid", entry), draft.of("tanh", new)))
    made = draft.both("mul", draft.of("sigmoid", output), draft.of("tanh", cell))
    draft.confine(1.0)
    return [made, cell]


def _gru(draft: _Draft, ours: str, theirs: str, state: Sequence[str], within: float | None) -> list[str]:
    (reset, update, new), (own_reset, own_update, own_new) = draft.parts(ours, 3), draft.parts(theirs, 3)
    share = draft.both("mul", draft.of("sigmoid", draft.both("add", reset, own_reset)), own_new)
    candidate = draft.of("tanh", draft.both("add", new, share))
    stays = draft.of("sigmoid", draft.both("add", update, own_update))
    made = draft.call("lerp", ("self", "end", "weight"), (candidate, state[0], stays))
    # Between the candidate and the state before, which is so, too.
    draft.confine(within)
    return [made]


_Step = Callable[[_Draft, str, str, Sequence[str], float | None], list[str]]
"""The next state from both parts of the gates, the state, and a number that no hidden state is beyond, if known."""


def _rnn(function: str) -> _Step:
    return lambda draft, ours, theirs, state, within: [draft.of(function, draft.both("add", ours, theirs))]


_STEPS: Mapping[str, _Step] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _rnn("tanh"),
    "rnn_relu": _rnn("relu"),
}
Rule = Callable[[_Draft], bool]
LAYERS: Mapping[str, Rule] = {"recurrent": _recurrent}
FUNCTIONS: Mapping[str, Rule] = {"scaled_dot_product_attention": _attention, "glu": _gate, "lerp": _mixture}
"""By operation and by function; each says whether it wrote it out."""


def unrolled(target: Target) -> Target:
    """The same network with recurrent layers step by step."""
    return _written_out(target, lambda node: LAYERS.get(node.op))


def expanded(target: Target) -> Target:
    """The same network with all written out that has rules of its own in parts."""
    return _written_out(unrolled(target), lambda node: FUNCTIONS.get(node.attributes.get("function", "")))


def _written_out(target: Target, rule_of: Callable[[Node], Rule | None]) -> Target:
    if target.graph.batch:
        return target
    kept, nodes = dict(target.kept), list[Node]()
    for node in target.graph:
        draft, rule = _Draft(target.graph, node, kept), rule_of(node)
        nodes += draft.end() if rule is not None and rule(draft) else [node]
    if len(nodes) == len(target.graph.nodes):
        return target
    return replace(target, graph=replace(target.graph, nodes=tuple(nodes)), kept=kept)
