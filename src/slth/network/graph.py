"""The graph around the weight layers, as plain data: enough to rebuild the network without its author's code."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slth.errors import SlthError, TicketError

Attribute = bool | int | float | str | tuple[int, ...]

INPUT = "input"


class Sign(enum.StrEnum):
    """What is known of the sign of every entry of a tensor."""

    NONNEGATIVE = "nonnegative"
    NONPOSITIVE = "nonpositive"
    SIGNED = "signed"

    @property
    def branches(self) -> tuple[int, ...]:
        """Signs that an entry may take: +1, -1 or both (an entry 0 belongs to both)."""
        return {"nonnegative": (1,), "nonpositive": (-1,), "signed": (1, -1)}[self.value]


@dataclass(frozen=True)
class Node:
    """One operation. ``shape`` is the output's, without the batch axis."""

    name: str
    op: str
    source: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        attributes = {key: list(value) if isinstance(value, tuple) else value for key, value in self.attributes.items()}
        return {"name": self.name, "op": self.op, "source": self.source, "attributes": attributes}


@dataclass(frozen=True)
class Graph:
    """Operations in the order of evaluation; the last one is the output.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one input, without the batch axis.
    nodes : tuple of Node
        Each reads the output of an earlier node, or the network's input (``"input"``).
    """

    input_shape: tuple[int, ...]
    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output, without the batch axis."""
        return self.nodes[-1].shape if self.nodes else self.input_shape

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of the network's input."""
        if name == INPUT:
            return self.input_shape
        return next(node.shape for node in self.nodes if node.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; shapes are left out because they follow from the rest."""
        return {"input_shape": list(self.input_shape), "nodes": [node.to_json() for node in self.nodes]}

    def structure(self) -> dict[str, Any]:
        """The JSON form with nodes numbered instead of named: equal for equal architectures."""
        number = {INPUT: -1} | {node.name: index for index, node in enumerate(self.nodes)}
        nodes = [{**node.to_json(), "name": number[node.name], "source": number[node.source]} for node in self.nodes]
        return {"input_shape": list(self.input_shape), "nodes": nodes}

    @classmethod
    def from_json(cls, value: object) -> Graph:
        """Rebuild and check a graph that may come from anybody.

        Raises
        ------
        TicketError
            If a field is missing or of the wrong kind, an operation is unknown, a node reads a later one or an
            output shape cannot be computed.
        """
        try:
            return _parse(value)
        except SlthError as error:
            if isinstance(error, TicketError):
                raise
            raise TicketError("graph", error.got, error.need) from error
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise TicketError("graph", f"a malformed description ({error})", "the fields of docs/format.md") from error


def _parse(value: Any) -> Graph:
    from slth.network.operators import OPERATORS

    shape = tuple(_whole(size, 1) for size in value["input_shape"])
    known: dict[str, tuple[int, ...]] = {INPUT: shape}
    nodes: list[Node] = []
    for entry in value["nodes"]:
        name, op, source = str(entry["name"]), str(entry["op"]), str(entry["source"])
        previous = nodes[-1].name if nodes else INPUT
        if name in known or source != previous or op not in OPERATORS or not all(name.split(".")):
            raise TicketError("graph", f"node {name!r} ({op} of {source!r})", "a known operation on the node before it")
        if any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in known):
            raise TicketError("graph", f"node {name!r} inside another or around it", "nodes beside each other")
        operator = OPERATORS[op]
        attributes = operator.check(dict(entry["attributes"]))
        known[name] = operator.shape(attributes, known[source])
        if any(size < 1 for size in known[name]):
            raise TicketError("graph", f"node {name!r} of shape {known[name]}", "sizes of at least 1")
        nodes.append(Node(name, op, source, attributes, known[name]))
    if not nodes:
        raise TicketError("graph", "no operation", "at least one weight layer")
    return Graph(shape, tuple(nodes))


def _whole(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is not a whole number of at least {least}")
    return value
