"""A torch module in memory -> Target, by ``torch.export``."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from slth.errors import ArgumentError, TargetError, UnsupportedError
from slth.network.calls import ITEM, WITH_INDICES, Call, Reference
from slth.network.draft import Traced
from slth.network.lower import lower, place, refuse
from slth.network.own import own_activations_whole
from slth.network.selection import Selection
from slth.network.target import Target

logger = logging.getLogger(__name__)


BATCHES = (2003, 2011, 2017, 2027)
"""Sizes of the batch with which networks are traced (chosen: primes, so that a size that is a multiple goes by the batch).

Tensors have no numbers while they are traced, so that a large batch costs nothing.
"""
_MOST_CALLS = 100_000


def trace(model: torch.nn.Module, example_input: torch.Tensor, selection: Selection | None = None) -> Target:
    """The target that a module computes in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was, its training flag included.
    example_input : tensor, (batch, *input shape)
        Only its shape and dtype matter.
    selection : Selection, optional
        Which parameters are ticketed; all, without.

    Raises
    ------
    TargetError
        If the module cannot be run on such an input or cannot be traced.
    UnsupportedError
        If it holds an operation that is not covered.
    """
    if example_input.dim() < 1 or (example_input.dim() < 2 and example_input.is_floating_point()):
        raise ArgumentError(
            "example_input",
            f"a tensor of shape {tuple(example_input.shape)}",
            "a batch axis first",
            "example_input.unsqueeze(0)",
        )
    _refuse_lazy(model)
    with _evaluation_mode(model):
        _try_run(model, example_input)
        sizes = {size for tensor in model.state_dict().values() for size in tensor.shape} | set(example_input.shape[1:])
        batch = next((prime for prime in BATCHES if all(size % prime for size in sizes if size)), 0)
        with own_activations_whole(model):
            try:
                program = _export(model, example_input[:1].expand(batch, *example_input.shape[1:]))
            except UnsupportedError:
                # Some networks are for one size of the batch alone.
                program, batch = _export(model, example_input), 0
    return from_program(program, batch, selection)


def from_program(program: torch.export.ExportedProgram, batch: int = 0, selection: Selection | None = None) -> Target:
    """The target that an exported program computes.

    ``batch`` is the size of its batch, if no other size in it is a multiple of that.
    """
    signature = program.graph_signature
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    parameters = {name: state[full] for name, full in names.items() if isinstance(state.get(full), torch.Tensor)}
    inputs, outputs = signature.user_inputs, signature.user_outputs
    nodes = {node.name: node for node in program.graph.nodes}
    if len(inputs) != 1 or not outputs or any(not isinstance(output, str) for output in outputs):
        raise UnsupportedError(
            "network", f"{len(inputs)} inputs and {len(outputs)} outputs", "one input tensor, and tensors as outputs"
        )
    example = nodes[str(inputs[0])].meta["val"]
    shape = [_size(size) for size in example.shape]
    operations = [node for node in program.graph.nodes if node.op not in ("placeholder", "output")]
    calls = [call for node in operations if (call := _call(node, shape[0], parameters)) is not None]
    if any(size is None for size in shape[1:]):
        raise UnsupportedError("network", f"an input of shape {shape}", "sizes that are fixed, but for the batch")
    traced = Traced(
        str(inputs[0]),
        [str(output) for output in outputs],
        tuple(size for size in shape[1:] if size is not None),
        names,
        {node.name: _place(node) for node in program.graph.nodes},
        parameters,
        frozenset(signature.inputs_to_parameters),
        example.is_floating_point(),
        batch,
        in_memory=True,
    )
    return lower(calls, traced, selection)


def _call(node: torch.fx.Node, batch: int | None, parameters: Mapping[str, torch.Tensor]) -> Call | None:
    name, value, pooling = node.name, node.meta.get("val"), node.args[0] if node.target is operator.getitem else None
    if isinstance(pooling, torch.fx.Node) and _has_indices(pooling):
        if node.args[1] != 0:
            return None
        node = pooling
    elif _has_indices(node):
        return None
    elif isinstance(pooling, torch.fx.Node):
        index = {"self": Reference(pooling.name), "index": node.args[1]}
        return Call(name, ITEM, index, [_size(size) for size in value.shape], batch, parameters, value.dtype)
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        if isinstance(value, torch.Tensor):
            raise refuse(_place(node), str(getattr(node.target, "__name__", node.target)))
        return None
    several = isinstance(value, list | tuple) and any(isinstance(entry, torch.Tensor) for entry in value)
    if not isinstance(value, torch.Tensor) and not several:
        return None
    schema = node.target._schema
    arguments = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    return Call(
        name=name,
        op=_operation(schema.name),
        arguments={key: _argument(entry) for key, entry in arguments.items()},
        shape=[] if several else [_size(size) for size in value.shape],
        batch=batch,
        parameters=parameters,
        dtype=None if several else value.dtype,
    )


def _operation(name: str) -> str:
    """Without its namespace, but where that is neither torch's nor ours: another library's may be called the same."""
    space, _, own = name.rpartition("::")
    return own if space in ("aten", "prims", "slth") else name


def _has_indices(node: torch.fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.name.split("::")[-1] in WITH_INDICES


def _place(node: torch.fx.Node) -> str:
    owners = [entry for entry in (node.meta.get("nn_module_stack") or {}).values() if isinstance(entry, tuple)]
    path, kind = owners[-1] if owners else ("", "")
    return place(node.name, str(path), kind.__qualname__ if isinstance(kind, type) else str(kind))


def _argument(value: Any) -> Any:
    if isinstance(value, torch.fx.Node):
        return Reference(value.name)
    if isinstance(value, list | tuple):
        return [_argument(entry) for entry in value]
    return value


def _size(size: Any) -> int | None:
    return size if isinstance(size, int) else None


def _refuse_lazy(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if torch.nn.parameter.is_lazy(parameter):
            raise TargetError(f"parameter {name!r}", "a lazy parameter", "numbers", "running the model once")


@contextlib.contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def _try_run(model: torch.nn.Module, example_input: torch.Tensor) -> None:
    """Run once before tracing: its error about shapes is shorter than the tracer's."""
    try:
        with torch.no_grad():
            model(example_input)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TargetError(
            "target",
            f"{type(error).__name__} on an input of shape {tuple(example_input.shape)} ({reason})",
            "an input that fits the network",
            "another example input or --input-shape",
        ) from error


def _export(model: torch.nn.Module, example_input: torch.Tensor) -> torch.export.ExportedProgram:
    disabled, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    try:
        # The fast path of attention layers is one operation of its own, in which no weights can be told apart.
        torch.backends.mha.set_fastpath_enabled(False)
        # The tracer also logs and prints what it then raises, over many lines.
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.export.export(model, (example_input,), strict=False)
    except Exception as error:
        logging.disable(disabled)
        logger.debug("torch.export failed", exc_info=True)
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise UnsupportedError(
            "target",
            f"a module that torch.export cannot trace ({lines[0] if lines else type(error).__name__})",
            "a forward pass without control flow that depends on data",
            "rewriting the branch, or exporting the part that can be traced",
        ) from error
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fast)
