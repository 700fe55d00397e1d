"""A program in memory, as ``torch.export`` makes it, as a list of calls."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.calls import FIRST_ALONE, ITEM, Call, Reference, usual
from slth.network.draft import Traced
from slth.network.refusals import unfixed
from slth.network.remedies import place, refuse
from slth.network.sizes import by_batch, prime_batch

Program = torch.export.ExportedProgram


@dataclass(frozen=True)
class BatchSize:
    """The size of a program's batch: ``symbol`` in its sizes, which are read with ``size`` in its place.

    ``symbol`` is None where the program is for ``size`` alone.
    """

    size: int
    symbol: Any = None

    def of(self, value: Any, where: str) -> Any:
        """A size, a list of them, or anything else, with whole numbers for symbols.

        Raises
        ------
        UnsupportedError
            If it goes by anything but the batch's size.
        """
        if isinstance(value, torch.fx.Node):
            made = value.meta.get("val")
            return Reference(value.name) if _is_tensor(made) else self.of(made, where)
        if isinstance(value, list | tuple):
            return [self.of(entry, where) for entry in value]
        if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return value
        expression = value.node.expr
        if expression.free_symbols - {self.symbol}:
            raise unfixed(where, str(expression))
        if not isinstance(value, torch.SymInt):
            return (
                bool(expression.subs({self.symbol: self.size}))
                if isinstance(value, torch.SymBool)
                else self._real(value)
            )
        return by_batch(where, lambda batch: int(expression.subs({self.symbol: batch})), self.size)

    def _real(self, value: Any) -> float:
        return float(value.node.expr.subs({self.symbol: self.size}))


def read_program(program: Program, batch: int = 0, in_memory: bool = True) -> tuple[list[Call], Traced]:
    """The calls of a program and what it says besides.

    Parameters
    ----------
    program : torch.export.ExportedProgram
    batch : int
        The size of its batch, where no other size in it is a multiple of that.
    in_memory : bool
        Whether its operations may be called to compute constants.

    Raises
    ------
    UnsupportedError
        If it has several inputs, sizes that go by more than the batch's, or control flow.
    """
    signature = program.graph_signature
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    parameters = _on_cpu({name: state[full] for name, full in names.items() if full in state})
    graph = _flat(program)
    nodes = {node.name: node for node in graph.nodes}
    inputs = [name for name in signature.user_inputs if isinstance(name, str)]
    (results,) = next(node.args for node in reversed(graph.nodes) if node.op == "output")
    outputs = [
        result.name
        for spec, result in zip(signature.output_specs, results, strict=True)
        if spec.kind is torch.export.graph_signature.OutputKind.USER_OUTPUT and isinstance(result, torch.fx.Node)
    ]
    if not outputs and inputs:
        raise UnsupportedError("network", "a result without a tensor", "tensors as outputs", "returning them")
    if len(inputs) != 1 or not outputs:
        raise UnsupportedError(
            "network",
            f"{len(inputs)} inputs and {len(outputs)} outputs",
            "one input tensor, and tensors as outputs",
            "a module around it that has one input, and knows the others",
        )
    example = nodes[inputs[0]].meta["val"]
    size = _batch_size(program, example, batch)
    calls = list(_calls(graph, size, parameters))
    traced = Traced(
        input_name=inputs[0],
        output_names=outputs,
        input_shape=tuple(size.of(list(example.shape), "network")[1:]),
        names=names,
        places={name: _place(node) for name, node in nodes.items()},
        parameters=parameters,
        trained=frozenset(signature.inputs_to_parameters),
        input_is_real=example.is_floating_point(),
        batch=size.size if batch or size.symbol is not None else 0,
        static_batch=0 if batch or size.symbol is not None else size.size,
        in_memory=in_memory,
    )
    return calls, traced


def _on_cpu(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Those that are tensors, wherever they are; what is one tensor stays one."""
    moved: dict[Any, torch.Tensor] = {}
    found = {}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.device.type != "cpu":
            place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            moved.setdefault(place, tensor.detach().cpu())
            tensor = moved[place]
        found[name] = tensor
    return found


def _batch_size(program: Program, example: torch.Tensor, batch: int) -> BatchSize:
    if example.dim() < 1:
        raise UnsupportedError("network", "an input without axes", "a batch axis first")
    first = example.shape[0]
    if not isinstance(first, torch.SymInt):
        return BatchSize(batch or int(first))
    if not first.node.expr.is_Symbol:
        raise UnsupportedError("network", f"a batch of {first} examples", "a batch of any size", "Dim('batch') for it")
    sizes = {
        int(size)
        for node in program.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
        for size in node.meta["val"].shape
        if not isinstance(size, torch.SymInt)
    }
    prime = prime_batch(sizes)
    if not prime:
        raise UnsupportedError(
            "network", "sizes that are multiples of many primes", "a program with a batch of one size"
        )
    return BatchSize(prime, first.node.expr)


_WRAPPED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Calls of a graph within the graph that compute what it does, by the place of that graph among their arguments."""


def _flat(program: Program) -> torch.fx.Graph:
    """The program's graph, with those within it that only say how to compute in their places."""
    graph: torch.fx.Graph = program.graph
    while any(_wrapped(node) for node in graph.nodes):
        flat, values = torch.fx.Graph(), dict[torch.fx.Node, Any]()
        for node in graph.nodes:
            if _wrapped(node):
                place = _WRAPPED[node.target.name()]
                inner = program.graph_module.get_submodule(str(node.args[place].target))
                given = torch.fx.map_arg(node.args[place + 1 :], values.__getitem__)
                values[node] = _copied(flat, inner.graph, given)
            elif node.target is operator.getitem and isinstance(values.get(node.args[0]), list | tuple):
                values[node] = values[node.args[0]][node.args[1]]
            else:
                values[node] = flat.node_copy(node, values.__getitem__)
        graph = flat
    return graph


def _wrapped(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.HigherOrderOperator) and node.target.name() in _WRAPPED


def _copied(into: torch.fx.Graph, graph: torch.fx.Graph, given: Any) -> Any:
    """Values of a graph's outputs, its nodes copied into another."""
    waiting, values = iter(given), dict[torch.fx.Node, Any]()
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = next(waiting)
        elif node.op == "output":
            return torch.fx.map_arg(node.args[0], values.__getitem__)
        else:
            values[node] = into.node_copy(node, values.__getitem__)
    return ()


def _calls(graph: torch.fx.Graph, size: BatchSize, parameters: Mapping[str, torch.Tensor]) -> Iterator[Call]:
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        call = _call(node, size, parameters)
        if call is not None:
            yield call


def _call(node: torch.fx.Node, size: BatchSize, parameters: Mapping[str, torch.Tensor]) -> Call | None:
    name, where = node.name, _place(node)
    value: Any = node.meta.get("val")
    from_several = node.args[0] if node.target is operator.getitem else None
    if isinstance(from_several, torch.fx.Node) and not _stands_for_first(from_several):
        item = {"self": Reference(from_several.name), "index": node.args[1]}
        return Call(name, ITEM, item, size.of(list(value.shape), where), size.size, parameters, value.dtype)
    if isinstance(from_several, torch.fx.Node):
        if node.args[1] != 0:
            return None
        node = from_several
    elif _stands_for_first(node):
        return None
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        if _is_tensor(value):
            # A call of a graph within the graph, such as a branch of torch.cond.
            raise refuse(where, str(getattr(node.target, "__name__", node.target)))
        return None
    if not _is_tensor(value):
        return None
    several = not isinstance(value, torch.Tensor)
    schema = node.target._schema
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    dtype = None if several else value.dtype
    own = {key: size.of(entry, where) for key, entry in given.items()}
    op, arguments = usual(_operation(schema.name), own, dtype)
    return Call(
        name=name,
        op=op,
        arguments=arguments,
        shape=[] if several else size.of(list(value.shape), where),
        batch=size.size,
        parameters=parameters,
        dtype=dtype,
    )


def _operation(name: str) -> str:
    """Without its namespace, but where that is neither torch's nor ours: another library's may be called the same."""
    space, _, own = name.rpartition("::")
    return own if space in ("aten", "prims", "slth") else name


def _is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or several."""
    several = isinstance(value, list | tuple) and any(isinstance(entry, torch.Tensor) for entry in value)
    return several or isinstance(value, torch.Tensor)


def _stands_for_first(node: torch.fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.name.split("::")[-1] in FIRST_ALONE


def _place(node: torch.fx.Node) -> str:
    owners = [entry for entry in (node.meta.get("nn_module_stack") or {}).values() if isinstance(entry, tuple)]
    path, kind = owners[-1] if owners else ("", "")
    return place(node.name, str(path), kind.__qualname__ if isinstance(kind, type) else str(kind))
