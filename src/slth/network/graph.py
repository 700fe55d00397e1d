"""The graph around the weight layers, as plain data: enough to rebuild the network without its author's code."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from slth.errors import SlthError, TicketError

Attribute = Any
"""Numbers, strings, truth values, None, and tuples and mappings of such."""

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

    @property
    def opposite(self) -> Sign:
        """Of the negative."""
        other = {Sign.NONNEGATIVE: Sign.NONPOSITIVE, Sign.NONPOSITIVE: Sign.NONNEGATIVE}
        return other.get(self, Sign.SIGNED)

    def __or__(self, other: Sign) -> Sign:
        """What is known of an entry that is one of two."""
        return self if self is other else Sign.SIGNED


@dataclass(frozen=True)
class Layout:
    """The shape of one value.

    Attributes
    ----------
    shape : tuple of int
        Of one example where ``batched``; else of the whole tensor, in which -k stands for k times the batch's size.
    batched : bool
        Whether the batch axis is the first, and the only one whose size goes by the batch.
    only : int
        Size of the only batch that there is; 0 where it may have any.
    """

    shape: tuple[int, ...]
    batched: bool = True
    only: int = 0

    @property
    def rest(self) -> tuple[int, ...]:
        """The shape behind the first axis."""
        return self.shape if self.batched else self.shape[1:]

    def whole(self, batch: int) -> tuple[int, ...]:
        """The tensor's shape for a batch of a size."""
        if self.batched:
            return (batch, *self.shape)
        return tuple(-size * batch if size < 0 else size for size in self.shape)

    @classmethod
    def of(cls, whole: tuple[int, ...], only: int = 0) -> Layout:
        """From a whole shape with -k for k times the batch's size, or for a batch of the only size."""
        if whole and whole[0] == (only or -1) and min(whole[1:], default=1) > 0:
            return cls(whole[1:], only=only)
        return cls(whole, batched=False, only=only)


TRIAL_BATCHES = (2, 3)
"""Sizes of the batches with which shapes are found (chosen: two numbers without a common divisor)."""


def trial_batches(sources: Sequence[Layout]) -> tuple[int, int]:
    """Sizes of two batches with which to find out how a shape goes by the batch's; the only size, if there is one."""
    only = max((source.only for source in sources), default=0)
    return (only, only) if only else TRIAL_BATCHES


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes
    ----------
    name : str
    op : str
        A name of :data:`slth.network.operators.OPERATORS`.
    sources : tuple of str
        The nodes that it reads, or the network's input; one may be given as a string.
    attributes : mapping
    shape : tuple of int
        The output's, without the batch axis where ``batched``; see :class:`Layout`.
    batched : bool
    layer : str
        The weight layer whose weights it uses; empty for its own.
    """

    name: str
    op: str
    sources: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    batched: bool = True
    layer: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.sources, str):
            object.__setattr__(self, "sources", (self.sources,))

    @property
    def source(self) -> str:
        """The first node that it reads."""
        return self.sources[0]

    @property
    def weights(self) -> str:
        """Name of the weight layer whose weights it uses."""
        return self.layer or self.name

    @property
    def layout(self) -> Layout:
        """Shape of its output."""
        return Layout(self.shape, self.batched)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        source: str | list[str] = self.sources[0] if len(self.sources) == 1 else list(self.sources)
        node = {"name": self.name, "op": self.op, "source": source, "attributes": plain(self.attributes)}
        return {**node, "layer": self.layer} if self.layer else node


@dataclass(frozen=True)
class Graph:
    """Operations in the order of evaluation; the last one is the output.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one input, without the batch axis.
    nodes : tuple of Node
        Each reads the outputs of earlier nodes, or the network's input (``"input"``).
    classes : int
        Where inputs are whole numbers from 0, how many there are; 0 where they are real numbers.
    batch : int
        Size of the only batch that the network works on; 0 for any.
    """

    input_shape: tuple[int, ...]
    nodes: tuple[Node, ...]
    classes: int = 0
    batch: int = 0

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output, without the batch axis."""
        return self.nodes[-1].shape if self.nodes else self.input_shape

    @property
    def is_chain(self) -> bool:
        """Whether every node reads the one before it, and nothing else, and has weights of its own."""
        names = [INPUT, *(node.name for node in self.nodes)]
        return all(
            node.sources == (before,) and not node.layer for before, node in zip(names, self.nodes, strict=False)
        )

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by their names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def weighted(self) -> tuple[Node, ...]:
        """The first node of every weight layer."""
        from slth.network.operators import WEIGHT_OPERATORS

        return tuple(node for node in self.nodes if node.op in WEIGHT_OPERATORS and not node.layer)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """For each node, and for the input, those that read it."""
        found: dict[str, list[Node]] = {INPUT: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for source in dict.fromkeys(node.sources):
                found[source].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def uses(self, layer: str) -> tuple[Node, ...]:
        """All nodes that use a weight layer."""
        return tuple(node for node in self.weighted_uses if node.weights == layer)

    @cached_property
    def weighted_uses(self) -> tuple[Node, ...]:
        """All nodes with weights, shared ones each time."""
        from slth.network.operators import WEIGHT_OPERATORS

        return tuple(node for node in self.nodes if node.op in WEIGHT_OPERATORS)

    def layout_of(self, name: str) -> Layout:
        """Shape of a node's output, or of the network's input."""
        return Layout(self.input_shape) if name == INPUT else self.by_name[name].layout

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of the network's input, without the batch axis."""
        return self.layout_of(name).shape

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; shapes are left out because they follow from the rest."""
        nodes = [node.to_json() for node in self.nodes]
        return {"input_shape": list(self.input_shape), "nodes": nodes, **self._own_json()}

    def _own_json(self) -> dict[str, int]:
        return {key: getattr(self, key) for key in ("classes", "batch") if getattr(self, key)}

    def structure(self) -> dict[str, Any]:
        """The JSON form with nodes numbered instead of named: equal for equal architectures."""
        number = {INPUT: -1} | {node.name: index for index, node in enumerate(self.nodes)}
        nodes = []
        for node in self.nodes:
            own = node.to_json()
            sources = [number[source] for source in node.sources]
            own |= {"name": number[node.name], "source": sources[0] if len(sources) == 1 else sources}
            nodes.append({**own, "layer": number[node.layer]} if node.layer else own)
        return {"input_shape": list(self.input_shape), "nodes": nodes, **self._own_json()}

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


def plain(value: Any) -> Any:
    """Attributes as JSON has them: lists for tuples."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _parse(value: Any) -> Graph:
    shape = tuple(_whole(size, 1) for size in value["input_shape"])
    classes, batch = (_whole(value.get(key, 0), 0) for key in ("classes", "batch"))
    known: dict[str, Layout] = {INPUT: Layout(shape, only=batch)}
    nodes: dict[str, Node] = {}
    for entry in value["nodes"]:
        node = _parse_node(entry, known, nodes)
        nodes[node.name] = node
        known[node.name] = replace(node.layout, only=batch)
    if not nodes:
        raise TicketError("graph", "no operation", "at least one weight layer")
    return Graph(shape, tuple(nodes.values()), classes, batch)


def _parse_node(entry: Any, known: Mapping[str, Layout], nodes: Mapping[str, Node]) -> Node:
    from slth.network.operators import OPERATORS, WEIGHT_OPERATORS

    name, op, layer = str(entry["name"]), str(entry["op"]), str(entry.get("layer", ""))
    sources = tuple(map(str, entry["source"])) if isinstance(entry["source"], list) else (str(entry["source"]),)
    if name in known or not set(sources) <= set(known) or op not in OPERATORS or not all(name.split(".")):
        raise TicketError("graph", f"node {name!r} ({op} of {sources!r})", "a known operation on nodes before it")
    if any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in known):
        raise TicketError("graph", f"node {name!r} inside another or around it", "nodes beside each other")
    operator = OPERATORS[op]
    attributes = operator.check(dict(entry["attributes"]))
    layout = operator.layout(attributes, [known[source] for source in sources])
    if 0 in layout.shape or (layout.batched and min(layout.shape, default=1) < 1):
        raise TicketError("graph", f"node {name!r} of shape {layout.shape}", "sizes of at least 1")
    node = Node(name, op, sources, attributes, layout.shape, layout.batched, layer)
    if layer:
        first = nodes.get(layer)
        fits = first is not None and op in WEIGHT_OPERATORS and not first.layer
        if not fits or first is None or not WEIGHT_OPERATORS[op].shares(first, node):
            raise TicketError("graph", f"node {name!r} with the weights of {layer!r}", "a weight layer of its shape")
    return node


def _whole(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is not a whole number of at least {least}")
    return value
