"""A torch module in memory -> Target, by ``torch.export``."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from slth.errors import ArgumentError, SlthError, TargetError, UnsupportedError
from slth.memory import memory_bytes
from slth.network.adapted import Example, adapted, giving_tensors, split
from slth.network.batches import read
from slth.network.own import own_activations_whole
from slth.network.programs import Program, read_program
from slth.network.refusals import untraceable
from slth.network.selection import EVERYTHING, Selection
from slth.network.sizes import prime_batch
from slth.network.target import Target
from slth.network.trial import check

logger = logging.getLogger(__name__)

_BYTES = 24
"""Of memory that a ticketed number takes at least, in float64, while a ticket is found (chosen)."""


def trace(model: torch.nn.Module, example_input: Example, selection: Selection = EVERYTHING) -> Target:
    """The target that a module computes in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was, its training flag included.
    example_input : tensor, (batch, *input shape), or tuple or dict of what the module is called with
        Only the shape and dtype of the first matter; all others are constants of the target.
    selection : Selection, optional
        Which parameters are ticketed; all, without.

    Raises
    ------
    TargetError
        If the module cannot be run on such an input or cannot be traced.
    UnsupportedError
        If it holds an operation that is not covered, or what was read of it computes something else.
    """
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TargetError("target", "a scripted module", "the module that it was scripted from")
    first, others = split(example_input)
    if first.dim() < 1 or (first.dim() < 2 and first.is_floating_point()):
        got = f"a tensor of shape {tuple(first.shape)}"
        raise ArgumentError("example_input", got, "a batch axis first", "example_input.unsqueeze(0)")
    if not first.numel():
        raise ArgumentError("example_input", f"a tensor of shape {tuple(first.shape)}", "at least one example in it")
    _refuse_without_numbers(model)
    with _evaluation_mode(model), adapted(model, first, others) as example:
        result = _try_run(model, example)
        with giving_tensors(model, result):
            return _any_batch(model, example, selection)


def from_program(program: Program, selection: Selection = EVERYTHING) -> Target:
    """The target that an exported program computes, for the batch that it was exported for: any, or one alone.

    Raises
    ------
    UnsupportedError
        As :func:`trace`.
    """
    target = read(*read_program(_functional(program)), selection)
    check(target)
    return target


def _any_batch(model: torch.nn.Module, example: torch.Tensor, selection: Selection) -> Target:
    """The network for batches of any size, or for the example's alone where it is one for that."""
    sizes = {size for tensor in model.state_dict().values() for size in getattr(tensor, "shape", ())}
    batch = prime_batch(sizes | set(example.shape[1:]))
    try:
        whole = example[:1].expand(batch, *example.shape[1:])
        target = read(*read_program(_program(model, whole), batch), selection)
        check(target, model, example)
        return target
    except UnsupportedError as error:
        try:
            calls, traced = read_program(_program(model, example))
            target = read(calls, traced, selection)
            check(target, model, example)
        except UnsupportedError:
            raise error from None
        logger.info("a network for batches of one size: %s", error)
        return target


def _program(model: torch.nn.Module, example: torch.Tensor) -> Program:
    """By ``torch.export``, which may need the help of ``torch.fx.symbolic_trace``; without changes in place."""
    with own_activations_whole(model), _without_caches(model):
        try:
            program = _export(model, example)
        except UnsupportedError:
            second = _by_fx(model, example)
            if second is None:
                raise
            program = second
    return _functional(program)


@contextlib.contextmanager
def _without_caches(model: torch.nn.Module) -> Iterator[None]:
    """Within it and behind it, modules remember nothing that they computed of their parameters in evaluation mode.

    Those that do forget it when they are in training; otherwise it would be a constant of the program, and what is
    computed while tracing, which has no numbers, would stay with the user's module.
    """
    model.train().eval()
    try:
        yield
    finally:
        model.train().eval()


def _by_fx(model: torch.nn.Module, example: torch.Tensor) -> Program | None:
    """The program by way of ``torch.fx.symbolic_trace``; None if that cannot trace the module either."""
    own = dict(model.__dict__)
    try:
        program = _export(torch.fx.symbolic_trace(model), example)
    except Exception:
        logger.debug("torch.fx failed as well", exc_info=True)
        return None
    finally:
        # It leaves constants on the module.
        for name in model.__dict__.keys() - own.keys():
            del model.__dict__[name]
    logger.info("traced by torch.fx, as torch.export could not trace the module itself")
    return program


def _functional(program: Program) -> Program:
    """A program in which no tensor is changed that has another name; any other is left as it is."""
    if not any(_changes_others(node) for node in program.graph.nodes):
        return program
    with _silence():
        functional: Program = program.run_decompositions({})
        return functional


def _changes_others(node: torch.fx.Node) -> bool:
    """Whether a call changes a tensor that is known by other names than the call's and its own."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable and not _is_own(node.args[:1])


def _is_own(changed: tuple[Any, ...]) -> bool:
    """Whether what is changed was made by a call for its one reader, directly or by changes of what was."""
    made = changed[0] if changed else None
    if not isinstance(made, torch.fx.Node) or len(made.users) > 1 or not isinstance(made.target, torch._ops.OpOverload):
        return False
    if made.target._schema.is_mutable:
        return _is_own(made.args[:1])
    return not any(value.alias_info for value in made.target._schema.returns)


def _refuse_without_numbers(model: torch.nn.Module) -> None:
    """Parameters that are lazy, without storage, of a kind that no ticket can realise, or too many."""
    for name, module in model.named_modules():
        if re.match(r"torch\..*\bquantized\b", type(module).__module__):
            got = f"a quantised {type(module).__name__}"
            raise TargetError(f"layer {name!r}", got, "real numbers", "the network before it was quantised")
    total = 0
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        where = f"parameter {name!r}"
        if torch.nn.parameter.is_lazy(tensor):
            raise TargetError(where, "a lazy parameter", "numbers", "running the model once")
        if tensor.device.type == "meta":
            raise TargetError(where, "a tensor on the meta device", "numbers", "loading the weights first")
        if tensor.is_quantized or tensor.layout is not torch.strided:
            raise TargetError(where, "a quantised or sparse tensor", "dense real numbers", "tensor.dequantize()")
        if isinstance(tensor, torch.nn.Parameter):
            total += tensor.numel()
            if tensor.is_complex():
                need, remedy = "real parameters", "two real ones in its place, torch.view_as_real(parameter)"
                raise TargetError(where, f"{tensor.dtype} numbers".removeprefix("torch."), need, remedy)
    if total * _BYTES > memory_bytes():
        got = f"{total:,} parameters, which take at least {total * _BYTES / 2**30:.0f} GiB"
        need = f"at most the {memory_bytes() / 2**30:.0f} GiB of this machine"
        raise TargetError("target", got, need, "a part of the network as the target")


@contextlib.contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def _try_run(model: torch.nn.Module, example_input: torch.Tensor) -> Any:
    """Run once before tracing: its error about shapes is shorter than the tracer's."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Advice on how to use the module, which its author has had.
            warnings.simplefilter("ignore")
            return model(example_input)
    except SlthError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TargetError(
            "target",
            f"{type(error).__name__} on an input of shape {tuple(example_input.shape)} ({reason})",
            "an input that fits the network",
            "another example input or --input-shape",
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What the tracer logs and prints, over many lines, it also raises."""
    disabled, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    try:
        # The fast path of attention layers is one operation of its own, in which no weights can be told apart.
        torch.backends.mha.set_fastpath_enabled(False)
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fast)


def _export(model: Any, example_input: torch.Tensor) -> Program:
    try:
        with _silence():
            return torch.export.export(model, (example_input,), strict=False)
    except Exception as error:
        logger.debug("torch.export failed", exc_info=True)
        raise untraceable(error) from error
