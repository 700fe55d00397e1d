"""Whether a network is a chain of layers, each of which reads the one before it and nothing else; where it is none."""

from __future__ import annotations

from slth.network.graph import INPUT, Graph, Node


def broken_at(graph: Graph) -> tuple[Node, str] | None:
    """The first node at which a graph is no chain, and what is there in words; None for a chain."""
    before = INPUT
    for node in graph:
        if node.layer:
            return node, f"the weights of {node.layer!r} once more"
        if node.sources != (before,):
            return node, f"{_called(node)} {_read(node, before)}"
        before = node.name
    return None


def _called(node: Node) -> str:
    function = node.attributes["function"] if node.op == "function" else node.op
    return {"add": "a sum", "cat": "a concatenation", "kept": "a kept tensor"}.get(function, function)


def _read(node: Node, before: str) -> str:
    if not node.sources:
        return "beside the layers"
    if len(node.sources) > 1:
        return f"of {', '.join(map(repr, node.sources))}"
    return f"that reads {node.source!r} instead of {before!r}"
