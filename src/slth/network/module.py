"""A graph with weights as a torch module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.network.graph import INPUT, Graph, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.operators.affine import WeightOperator
from slth.network.operators.function import KeptTensor
from slth.network.target import Target


class Network(torch.nn.Module):
    """A graph of modules; each layer sits where the target's own module tree has it.

    ``layer`` makes the core of a weight layer from its node, which is the core's.
    """

    def __init__(
        self,
        graph: Graph,
        layer: Callable[[Node], torch.nn.Module],
        kept: Mapping[str, torch.Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._graph = graph
        self._paths: dict[str, str] = {}
        self.joined = False
        for node in graph:
            same = graph.by_name.get(node.layer)
            if same is not None and same.attributes == node.attributes:
                self._paths[node.name] = self._paths[node.layer]
                continue
            module = _operation(node, layer)
            if same is not None:
                _share(self.get_submodule(self._paths[node.layer]), module)
            if node.op == "kept":
                value = (kept or {})[node.name]
                real = value.is_floating_point() and dtype is not None
                module = KeptTensor(value.to(dtype) if real else value)
            self._place(node.name, module)
        self._readers = Counter(source for node in graph for source in node.sources)
        if dtype is not None:
            for buffer in self.modules():
                if "number" in buffer._buffers:
                    buffer.number = buffer.number.to(dtype)

    def _place(self, name: str, module: torch.nn.Module) -> None:
        holder: torch.nn.Module = self
        *parents, own = _safe_path(name)
        for parent in parents:
            if not hasattr(holder, parent):
                holder.add_module(parent, torch.nn.Module())
            holder = holder.get_submodule(parent)
        holder.add_module(own, module)
        self._paths[name] = ".".join([*parents, own])

    def forward(self, x: torch.Tensor) -> Any:
        """The network's output, (batch, *output shape); a tuple where it has several, unless ``joined`` is set."""
        if self._graph.batch and len(x) != self._graph.batch:
            return self._in_parts(x)
        values, left = {INPUT: x}, Counter(self._readers)
        *nodes, last = self._graph.nodes
        for node in nodes:
            values[node.name] = self._value(node, values)
            for source in node.sources:
                left[source] -= 1
                if not left[source]:
                    del values[source]
        if last.op == "join" and not self.joined:
            return tuple(values[source] for source in last.sources)
        return self._value(last, values)

    def steps(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Every node's name and values, in the order of evaluation."""
        values = {INPUT: x}
        for node in self._graph:
            values[node.name] = self._value(node, values)
            yield node.name, values[node.name]

    def _value(self, node: Node, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = self.get_submodule(self._paths[node.name])(*(values[source] for source in node.sources))
        return result

    def _in_parts(self, x: torch.Tensor) -> Any:
        """For a network that works on batches of one size alone, the last one filled up."""
        size = self._graph.batch
        parts: list[Any] = []
        for part in x.split(size):
            whole = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
            made = self.forward(whole)
            parts.append(tuple(each[: len(part)] for each in made) if isinstance(made, tuple) else made[: len(part)])
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(each) for each in zip(*parts, strict=True))
        return torch.cat(parts)


def joined(network: torch.nn.Module) -> Network:
    """The same network, giving several outputs as one."""
    assert isinstance(network, Network)
    network.joined = True
    return network


def _operation(node: Node, layer: Callable[[Node], torch.nn.Module]) -> torch.nn.Module:
    """A node's module; of a weight layer its core, with what is around it."""
    if node.op not in WEIGHT_OPERATORS:
        return OPERATORS[node.op].module(node.attributes)
    operator = WEIGHT_OPERATORS[node.op]
    return operator.wrap(node.attributes, layer(core_of(node)))


def core_of(node: Node) -> Node:
    """A weight layer as the plain map that has its weights, called as the layer is."""
    op, attributes = WEIGHT_OPERATORS[node.op].core(node.attributes)
    return replace(node, name=node.weights, op=op, attributes=attributes)


def _share(first: torch.nn.Module, other: torch.nn.Module) -> None:
    """Let a second module of another geometry have the very parameters and buffers of a first one."""
    for (path, own), (_, theirs) in zip(list(other.named_modules()), list(first.named_modules()), strict=True):
        del path
        for name in own._parameters:
            own._parameters[name] = theirs._parameters[name]
        for name in own._buffers:
            own._buffers[name] = theirs._buffers[name]


_OWN = frozenset({"_graph", "_paths", "_readers", "joined", "steps"})


def _safe_path(name: str) -> list[str]:
    """Module path of a node; names that torch.nn.Module itself uses get an underscore."""
    return [f"{part}_" if hasattr(torch.nn.Module, part) or part in _OWN else part for part in name.split(".")]


def filled(
    operator: WeightOperator,
    node: Node,
    weight: NDArray[np.float64] | torch.Tensor,
    bias: NDArray[np.float64] | torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.nn.Module:
    """The target's own layer with these weights."""
    attributes: Mapping[str, Any] = {**node.attributes, "bias": bias is not None}
    layer = operator.module(attributes)
    owner = layer.layer if isinstance(layer, torch.nn.Sequential) else layer
    assert isinstance(owner, torch.nn.Module)
    numbers = torch.as_tensor(weight).reshape(node.attributes["weight_shape"]).to(dtype)
    owner.weight = torch.nn.Parameter(numbers)
    if bias is not None:
        owner.bias = torch.nn.Parameter(torch.as_tensor(bias).to(dtype))
    return layer


def target_module(target: Target, dtype: torch.dtype | None = None) -> Network:
    """The target rebuilt from its graph and weights, in evaluation mode."""
    layers = {layer.name: layer for layer in target}

    number = dtype or target.dtype

    def build(node: Node) -> torch.nn.Module:
        layer = layers[node.name]
        operator = WEIGHT_OPERATORS[node.op]
        return filled(operator, node, layer.weight, layer.bias, number)

    return Network(target.graph, build, target.kept, number).eval()


def evaluate(target: Target, inputs: torch.Tensor) -> torch.Tensor:
    """The target's outputs in the inputs' precision, (batch, *output shape)."""
    with torch.no_grad():
        outputs: torch.Tensor = joined(target_module(target, inputs.dtype if inputs.is_floating_point() else None))(
            inputs
        )
    return outputs
