"""From an ONNX graph to its module: what is constant is computed, what is left gets names and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slth.errors import UnsupportedError
from slth.network.onnx_constants import Prepared, add_bias, as_array, as_tensor, bias_of, prepare, wants_known
from slth.network.onnx_network import Condition, OnnxGraph, OnnxNetwork, Slot, Step, operation_class, with_last_uses
from slth.network.onnx_operators import FUNCTIONS, ON_KNOWN, Known, OnnxNode
from slth.network.onnx_operators.base import Value, is_known
from slth.network.onnx_paths import Paths, path_of, sanitised
from slth.network.onnx_patterns import recognised

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_DRAWN = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
_MOVES = ("Identity", "Expand", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten", "Slice", "Split")
"""What leaves an initialiser's entries as they were trained."""
LARGEST_FOLDED = 1 << 28
"""Entries of constants beyond which what is computed from them is left to the network (chosen: 1 GiB of float32)."""


def build(model: onnx.ModelProto) -> OnnxNetwork:
    """The module of a file's graph.

    Raises
    ------
    UnsupportedError
        For the first operation that is not covered.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    graph = _expanded(model, version).graph
    constants = {tensor.name for tensor in graph.initializer}
    network = OnnxNetwork(next(entry.name for entry in graph.input if entry.name not in constants))
    Builder(version, {}, network).fill(graph)
    return network


def _expanded(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Operations that the standard itself defines by others, put in terms of those where no function is registered."""
    import onnx.defs
    import onnx.inliner

    unknown = set()
    for node in model.graph.node:
        if node.domain in _STANDARD and node.op_type not in FUNCTIONS and onnx.defs.has(node.op_type):
            schema: Any = onnx.defs.get_schema(node.op_type, version)
            if schema.has_function or schema.has_context_dependent_function:
                unknown.add(("", node.op_type))
    if not unknown:
        return model
    try:
        return onnx.inliner.inline_selected_functions(model, sorted(unknown), inline_schema_functions=True)
    except RuntimeError:
        # Types that the file leaves open: the operation will be refused by name.
        return model


class Builder:
    """Fills a module with the operations of a graph.

    Parameters
    ----------
    version : int
        Of the operation set.
    constants : mapping of str to array
        Those of the graphs around it.
    graph : OnnxGraph
        The module to fill.
    """

    def __init__(self, version: int, constants: Mapping[str, Known], graph: OnnxGraph) -> None:
        self.version, self.graph = version, graph
        self.paths = Paths(graph)
        self.constants = dict(constants)
        self.trained: set[str] = set()
        self.used: set[str] = set()
        self.steps: list[Step] = []
        self._aliases: dict[str, str] = {}
        self._shared: dict[tuple[str, ...], str] = {}

    def fill(self, proto: onnx.GraphProto) -> set[str]:
        """Read a graph; gives the names of values that it takes from around it."""
        from onnx import numpy_helper

        if proto.sparse_initializer:
            raise UnsupportedError("network", "sparse tensors", "dense ones")
        for tensor in proto.initializer:
            self.constants[tensor.name] = numpy_helper.to_array(tensor)
            self.trained.add(tensor.name)
        outputs = [entry.name for entry in proto.output]
        nodes = _needed(proto.node, outputs)
        self.used = {*outputs, *(name for node in nodes for name in _reads(node))}
        nodes = _needed(recognised(self._folded(nodes), self.constants), outputs)
        self._check(nodes)
        self._emit(nodes, outputs)
        made = {name for step in self.steps for name in step.outputs} | {entry.name for entry in proto.input}
        self.graph.outputs = tuple(self._alias(name) for name in outputs)
        self.graph.steps = with_last_uses(self.steps, self.graph.outputs)
        for name in self.graph.outputs:
            if name not in made and name in self.constants:
                self.graph.arrays[name] = self.constants[name]
        read = {name for step in self.steps for name in step.inputs} | {*self.graph.outputs}
        return read - made - self.graph.tensors.keys() - self.graph.arrays.keys()

    def _alias(self, name: str) -> str:
        """The initialiser that a name stands for, so that copies of it stay one tensor."""
        return self._aliases.get(name, name)

    def _node(self, proto: onnx.NodeProto) -> OnnxNode:
        return read_node(proto, self.version, self.used)

    # What is constant

    def _folded(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Compute what depends on constants alone; the nodes that are left."""
        left = []
        for proto in nodes:
            if proto.op_type == "Constant":
                self.constants[proto.output[0]] = _constant(self._node(proto))
            elif proto.op_type == "If" and proto.input[0] in self.constants:
                branch = "then_branch" if bool(self.constants[proto.input[0]].reshape(-1)[0]) else "else_branch"
                left += self._inlined(proto, next(entry.g for entry in proto.attribute if entry.name == branch))
            elif not self._fold(proto):
                left.append(proto)
        return left

    def _inlined(self, proto: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
        """The branch of an If, whose names are none of the graph around it, under the outputs' names."""
        from onnx import helper, numpy_helper

        for tensor in graph.initializer:
            self.constants[tensor.name] = numpy_helper.to_array(tensor)
        pairs = zip(graph.output, proto.output, strict=True)
        named = [helper.make_node("Identity", [inner.name], [outer]) for inner, outer in pairs]
        return self._folded([*graph.node, *named])

    def _fold(self, proto: onnx.NodeProto) -> bool:
        """Compute a node if its inputs are constants."""
        names, op = [name for name in proto.input if name], proto.op_type
        if not names or op in _DRAWN or op not in FUNCTIONS or not all(name in self.constants for name in names):
            return False
        if sum(self.constants[name].size for name in names) > LARGEST_FOLDED:
            return False
        inputs = [self.constants[name] if name else None for name in proto.input]
        while inputs[-1] is None:
            inputs.pop()
        results = evaluate(self._node(proto), inputs)
        self.constants.update((name, array) for name, array in zip(proto.output, results, strict=False) if name)
        if names[0] in self.trained and op in _MOVES:
            self.trained.add(proto.output[0])
            if np.array_equal(results[0], self.constants[names[0]]):
                self._aliases[proto.output[0]] = self._alias(names[0])
        return True

    # What is left

    def _check(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for proto in nodes:
            domain = "" if proto.domain in _STANDARD else f"{proto.domain}."
            if domain or proto.op_type not in {*FUNCTIONS, "If"}:
                raise UnsupportedError(
                    self._node(proto).where,
                    f"the ONNX operation {domain}{proto.op_type} (version {self.version})",
                    "an operation that is covered",
                    "a .pt2 file of the network (torch.export.save), or --model package.module:function",
                )

    def _emit(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> None:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for proto in nodes:
            for name in _reads(proto):
                readers.setdefault(name, []).append(proto)
        merged: set[str] = set()
        for proto in nodes:
            if proto.output[0] in merged:
                continue
            if proto.op_type == "If":
                self._emit_condition(proto)
                continue
            prepared, results = self._prepared(proto), [*proto.output]
            following = readers.get(results[0], []) if results[0] not in outputs else []
            if len(following) == 1 and self._takes_bias(prepared, following[0], results[0]):
                results = [*following[0].output]
                merged.add(results[0])
            self._emit_operation(proto, prepared, results)

    def _prepared(self, proto: onnx.NodeProto) -> Prepared:
        names = [self._alias(name) for name in proto.input]
        while names and not names[-1]:
            names.pop()
        constants = {place: (name, self.constants[name]) for place, name in enumerate(names) if name in self.constants}
        return prepare(self._node(proto), names, constants)

    def _takes_bias(self, prepared: Prepared, following: onnx.NodeProto, result: str) -> bool:
        """Whether what follows a layer adds a constant that is made its bias."""
        if following.op_type != "Add" or following.domain not in _STANDARD:
            return False
        other = next((self._alias(name) for name in following.input if name != result), "")
        bias = bias_of(prepared, self.constants[other]) if other in self.constants else None
        if bias is None:
            return False
        add_bias(prepared, other, bias)
        return True

    def _emit_operation(self, proto: onnx.NodeProto, prepared: Prepared, results: Sequence[str]) -> None:
        slots = [self._slot(prepared, place) for place in range(len(prepared.inputs))]
        path = self._shared.get(_likeness(prepared, slots), "")
        if not path:
            path = self.paths.free(path_of(proto, prepared))
            module = operation_class(prepared.node.op)(prepared.node, slots)
            self.paths.add(path, module)
            for name, (key, array) in prepared.arrays.items():
                self.paths.register(module, name, key, array, trained=not name.startswith("running_"))
            if prepared.arrays:
                self._shared[_likeness(prepared, slots)] = path
        values = tuple(slot.value for slot in slots if slot.value)
        self.steps.append(Step(path, values, tuple(results)))

    def _slot(self, prepared: Prepared, place: int) -> Slot:
        """One input of a node; a constant that is no weight of a layer becomes a tensor of the whole network."""
        name = prepared.inputs[place]
        if place in prepared.held:
            return Slot(held=prepared.held[place])
        if not name:
            return Slot()
        if name not in self.constants:
            return Slot(value=name)
        array = self.constants[name]
        if wants_known(prepared.node, place, array):
            return Slot(known=array)
        if name not in self.graph.tensors:
            trained = name in self.trained and bool(np.isfinite(array.astype(np.float64)).all())
            self.graph.tensors[name] = self.paths.hold(name, array, trained)
        return Slot(value=name)

    def _emit_condition(self, proto: onnx.NodeProto) -> None:
        branches, captured = [], set[str]()
        for name in ("else_branch", "then_branch"):
            branch = OnnxGraph()
            graph = next(entry.g for entry in proto.attribute if entry.name == name)
            captured |= Builder(self.version, self.constants, branch).fill(graph)
            branches.append(branch)
        names = sorted(map(self._alias, captured))
        path = self.paths.free(sanitised(proto.name) or "if")
        self.paths.add(path, Condition(self._node(proto).where, branches, names))
        self.steps.append(Step(path, (self._alias(proto.input[0]), *names), tuple(proto.output)))


def _likeness(prepared: Prepared, slots: Sequence[Slot]) -> tuple[str, ...]:
    """What is equal for two uses of one layer: everything but the value that it reads."""
    keys = (key for key, _ in prepared.arrays.values())
    unnamed = [replace(slot, value="x" if slot.value else "") for slot in slots]
    return (prepared.node.op, repr(prepared.node.attributes), repr(unnamed), *keys)


def evaluate(node: OnnxNode, inputs: Sequence[Known | None]) -> list[Known]:
    """Outputs of a node whose inputs are constants."""
    import torch

    result: Any = NotImplemented
    if node.op in ON_KNOWN and all(array is None or array.dtype.kind in "iufb" for array in inputs):
        result = ON_KNOWN[node.op](node, *inputs)
    if result is NotImplemented:
        with torch.no_grad():
            values: list[Any] = [
                array if array is None or wants_known(node, place, array) else as_tensor(array)
                for place, array in enumerate(inputs)
            ]
            result = FUNCTIONS[node.op](node, *values)
    results: Sequence[Value] = result if isinstance(result, tuple) else (result,)
    return [as_array(value) if not is_known(value) else value for value in results]  # type: ignore[misc,arg-type]


def read_node(proto: onnx.NodeProto, version: int, used: Iterable[str]) -> OnnxNode:
    """A node as the functions for its operation see it."""
    from onnx import AttributeProto, helper, numpy_helper

    attributes: dict[str, Any] = {}
    for entry in proto.attribute:
        if entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            continue
        value = helper.get_attribute_value(entry)
        if entry.type == AttributeProto.TENSOR:
            value = numpy_helper.to_array(value)
        elif isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list | tuple):
            value = [part.decode() if isinstance(part, bytes) else part for part in value]
        attributes[entry.name] = value
    named = [index for index, name in enumerate(proto.output, 1) if name]
    read = [index for index, name in enumerate(proto.output, 1) if name in used]
    where = f"node {proto.name or proto.output[0]!r}"
    return OnnxNode(where, proto.op_type, version, attributes, max(named, default=1), max(read, default=1))


def _constant(node: OnnxNode) -> Known:
    """The array of a Constant node."""
    ((name, value),) = node.attributes.items()
    dtypes = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    if name == "value":
        return np.asarray(value)
    if name not in dtypes:
        raise UnsupportedError(node.where, f"a constant of kind {name}", "numbers")
    return np.asarray(value, dtype=dtypes[name])


def _reads(proto: onnx.NodeProto) -> list[str]:
    """Names that a node reads, those of its branches included."""
    names = [name for name in proto.input if name]
    for entry in proto.attribute:
        for inner in entry.g.node:
            names += _reads(inner)
        names += [output.name for output in entry.g.output]
    return names


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Nodes on which the outputs depend, in the file's order."""
    wanted, kept = {*outputs}, []
    for proto in reversed(nodes):
        if wanted & {name for name in proto.output if name}:
            kept.append(proto)
            wanted.update(_reads(proto))
    return kept[::-1]
