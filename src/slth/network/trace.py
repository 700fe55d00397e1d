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
from slth.network.calls import WITH_INDICES, Call, Reference
from slth.network.lower import lower, place, refuse
from slth.network.own import own_activations_whole
from slth.network.target import Target

logger = logging.getLogger(__name__)


def trace(model: torch.nn.Module, example_input: torch.Tensor) -> Target:
    """The target that a module computes in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was, its training flag included.
    example_input : tensor, (batch, *input shape)
        Only its shape and dtype matter.

    Raises
    ------
    TargetError
        If the module cannot be run on such an input or cannot be traced.
    UnsupportedError
        If it holds an operation that is not covered.
    """
    if example_input.dim() < 2:
        raise ArgumentError(
            "example_input",
            f"a tensor of shape {tuple(example_input.shape)}",
            "a batch axis first",
            "example_input.unsqueeze(0)",
        )
    _refuse_lazy(model)
    with _evaluation_mode(model):
        _try_run(model, example_input)
        with own_activations_whole(model):
            program = _export(model, example_input)
    return from_program(program)


def from_program(program: torch.export.ExportedProgram) -> Target:
    """The target that an exported program computes."""
    signature = program.graph_signature
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    parameters = {name: state[full] for name, full in names.items() if isinstance(state.get(full), torch.Tensor)}
    inputs, outputs = signature.user_inputs, signature.user_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedError(
            "network", f"{len(inputs)} inputs and {len(outputs)} outputs", "one input tensor and one output tensor"
        )
    nodes = {node.name: node for node in program.graph.nodes}
    shape = [_size(size) for size in nodes[str(inputs[0])].meta["val"].shape]
    operations = [node for node in program.graph.nodes if node.op not in ("placeholder", "output")]
    calls = [call for node in operations if (call := _call(node, shape[0], parameters)) is not None]
    if any(size is None for size in shape[1:]):
        raise UnsupportedError("network", f"an input of shape {shape}", "sizes that are fixed, but for the batch")
    graph, weights = lower(
        calls,
        tuple(size for size in shape[1:] if size is not None),
        str(inputs[0]),
        str(outputs[0]),
        names,
        {node.name: _place(node) for node in program.graph.nodes},
    )
    return Target.build(graph, weights)


def _call(node: torch.fx.Node, batch: int | None, parameters: Mapping[str, torch.Tensor]) -> Call | None:
    name, value, pooling = node.name, node.meta.get("val"), node.args[0] if node.target is operator.getitem else None
    if isinstance(pooling, torch.fx.Node) and _has_indices(pooling):
        if node.args[1] != 0:
            return None
        node = pooling
    elif _has_indices(node):
        return None
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        if isinstance(value, torch.Tensor):
            raise refuse(_place(node), str(getattr(node.target, "__name__", node.target)))
        return None
    if isinstance(value, list | tuple) and any(isinstance(entry, torch.Tensor) for entry in value):
        raise refuse(_place(node), node.target._schema.name.split("::")[-1])
    if not isinstance(value, torch.Tensor):
        return None
    schema = node.target._schema
    arguments = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    return Call(
        name=name,
        op=schema.name.split("::")[-1],
        arguments={key: _argument(entry) for key, entry in arguments.items()},
        shape=[_size(size) for size in value.shape],
        batch=batch,
        parameters=parameters,
    )


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
    disabled = logging.root.manager.disable
    try:
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
