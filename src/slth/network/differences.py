"""Two networks that are not the same, and where: in words, for messages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from slth.network.graph import INPUT, Graph, Node


def difference(got: Graph, need: Graph) -> tuple[str, str]:
    """What two graphs of other structure are, each with the first operation that the other does not have there."""
    ours, theirs = (f"{_size(graph)}, input {graph.input_shape}" for graph in (got, need))
    numbers = [{INPUT: -1} | {node.name: n for n, node in enumerate(graph.nodes)} for graph in (got, need)]
    for one, other in itertools.zip_longest(got.nodes, need.nodes):
        if one is None or other is None:
            return f"{ours}, {_ending(one)}", f"{theirs}, {_ending(other)}"
        words = [_facts(node, number) for node, number in zip((one, other), numbers, strict=True)]
        if words[0] != words[1]:
            # Of one kind of operation what differs is enough.
            keys = [key for key in words[0] | words[1] if words[0].get(key) != words[1].get(key)]
            keys = [key for key in keys if key != _RESULT] or keys
            mine, its = (_words(node, facts, keys) for node, facts in zip((one, other), words, strict=True))
            return f"{ours}, with {mine}", f"{theirs}, with {its}"
    batches = [f"batches of {graph.batch or 'any size'}, {graph.classes or 'no'} classes" for graph in (got, need)]
    return f"{ours}, {batches[0]}", f"{theirs}, {batches[1]}"


def _size(graph: Graph) -> str:
    shapes = [(node.attributes["weight_shape"], node.attributes["bias"]) for node in graph.weighted]
    n, n_weights = len(shapes), sum(math.prod(shape) + bias * shape[0] for shape, bias in shapes)
    return f"a network of {n} weight layer{'' if n == 1 else 's'}, {n_weights:,} weights"


def _ending(node: Node | None) -> str:
    return "and nothing more" if node is None else f"with {_kind(node)} {node.name!r} behind"


def _kind(node: Node) -> str:
    return str(node.attributes["function"]) if node.op == "function" else node.op


def _facts(node: Node, number: Mapping[str, int]) -> dict[str, Any]:
    own = dict(node.attributes)
    arguments = own.pop("arguments", {})
    own = {"kind": _kind(node), **own, **arguments, _RESULT: node.shape}
    return {**own, "reads": tuple(number[name] for name in node.sources), "layer": number.get(node.layer)}


def _words(node: Node, facts: Mapping[str, Any], keys: list[str]) -> str:
    """A node, and what it has for each key; its own kind says most."""
    if "kind" in keys:
        return f"{_kind(node)} {node.name!r}"
    own = [f"{key.replace('_', ' ')} {_plain(facts.get(key, 'left out'))}" for key in keys if key not in _LINKS]
    own += [f"of {' and '.join(node.sources) or 'nothing'}"] if {"reads"} & {*keys} else []
    own += [f"with {f'weights of {node.layer}' if node.layer else 'weights of its own'}"] if "layer" in keys else []
    return " ".join([f"{_kind(node)} {node.name!r}", *([", ".join(own)] if own else [])])


_LINKS = ("kind", "reads", "layer")
_RESULT = "output"
"""Follows from all else, for the most part."""


def _plain(value: Any) -> str:
    """An argument as its author would write it."""
    if isinstance(value, Mapping):
        ((kind, content),) = value.items()
        batch = "batch" if content == 1 else f"{content} * batch"
        return {"batch": batch, "source": "a tensor"}.get(kind, f"{content}")
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value}"
