"""Modules that take more than one tensor, or give other things than tensors, as functions of one tensor."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from slth.errors import ArgumentError, TargetError
from slth.network.trial import tensors

Example: TypeAlias = "torch.Tensor | Sequence[Any] | Mapping[str, Any]"
"""What a module is called with: a tensor, several arguments in order, or by name. The first one is its input."""

Others: TypeAlias = "tuple[list[Any], dict[str, Any]]"


def split(example: Example) -> tuple[torch.Tensor, Others]:
    """The input, and all else that a module is called with, in order and by name.

    Raises
    ------
    ArgumentError
        If the first is no tensor.
    """
    if isinstance(example, torch.Tensor):
        return example, ([], {})
    if isinstance(example, Mapping):
        first, *names = example
        others: Others = ([], {name: example[name] for name in names})
        given = example[first]
        others[1][""] = first
    else:
        given, others = (example[0], (list(example[1:]), {})) if len(example) else (None, ([], {}))
    if not isinstance(given, torch.Tensor):
        got = f"{type(given).__name__} as what the module reads"
        raise ArgumentError("example_input", got, "a tensor, or several arguments of which the first is one")
    return given, others


@contextlib.contextmanager
def adapted(model: torch.nn.Module, first: torch.Tensor, others: Others) -> Iterator[torch.Tensor]:
    """Within it, a module is a function of its first argument; then it is as it was.

    Yields the input on the module's own device. All other arguments are constants. One with a batch axis must have rows
    that are alike, and has as many of them as there are inputs.

    Raises
    ------
    ArgumentError
        If the module needs more arguments than were given.
    """
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), first.device)
    first = first.to(device)
    positions, names = others
    name = names.pop("", None)
    _refuse_missing(model, len(positions) + 1, {*names, *([name] if name else [])})
    if not positions and not names and not name:
        yield first
        return
    forward = model.forward
    positions = [_on(value, device) for value in positions]
    names = {key: _on(value, device) for key, value in names.items()}

    def run(x: torch.Tensor, prepare: Callable[[Any, torch.Tensor], Any]) -> Any:
        more = [prepare(value, x) for value in positions]
        by_name = {key: prepare(value, x) for key, value in names.items()}
        return forward(*more, **{name: x, **by_name}) if name else forward(x, *more, **by_name)

    def for_each(value: Any, x: torch.Tensor) -> Any:
        return value[:1].expand(len(x), *value.shape[1:]) if _has_rows(value, first) else value

    prepare = _as_it_is
    if not _runs(lambda: run(_other_batch(first), _as_it_is)):
        prepare = for_each
        for value in (*positions, *names.values()):
            _check_rows(value, first)
    with _replaced(model, lambda x: run(x, prepare)):
        yield first


@contextlib.contextmanager
def giving_tensors(model: torch.nn.Module, result: Any) -> Iterator[None]:
    """Within it, a module that gives such a result gives all tensors in it, in order; then it is as it was."""
    if _is_plain(result):
        yield
        return
    forward = model.forward
    with _replaced(model, lambda x: tuple(tensors(forward(x)))):
        yield


@contextlib.contextmanager
def _replaced(model: torch.nn.Module, forward: Callable[[torch.Tensor], Any]) -> Iterator[None]:
    own = model.__dict__.get("forward")

    def one(x: torch.Tensor) -> Any:
        return forward(x)

    model.forward = one
    try:
        yield
    finally:
        del model.forward
        if own is not None:
            model.forward = own


def _other_batch(first: torch.Tensor) -> torch.Tensor:
    return first[:1].expand(len(first) + 1, *first.shape[1:])


def _runs(call: Any) -> bool:
    try:
        with torch.no_grad():
            call()
    except Exception:
        return False
    return True


def _is_plain(result: Any) -> bool:
    return isinstance(result, torch.Tensor) or (
        isinstance(result, list | tuple) and all(isinstance(entry, torch.Tensor) for entry in result)
    )


def _on(value: Any, device: torch.device) -> Any:
    return value.detach().to(device) if isinstance(value, torch.Tensor) else value


def _as_it_is(value: Any, x: torch.Tensor) -> Any:
    return value


def _has_rows(value: Any, first: torch.Tensor) -> bool:
    """Whether an argument beside the input may have a row for each example."""
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == len(first)


def _check_rows(value: Any, first: torch.Tensor) -> None:
    if _has_rows(value, first) and not bool((value == value[:1]).all()):
        got = f"a second argument of shape {tuple(value.shape)} with another row for every example"
        need = "the same row for all, which is kept as a constant"
        remedy = "rows that are equal, or a module around it that computes them from its input"
        raise ArgumentError("example_input", got, need, remedy)


def _refuse_missing(model: torch.nn.Module, n_given: int, names: set[str]) -> None:
    """Name an argument that a module needs and was not given."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    missing = [
        p.name
        for p in places[n_given - len(names) if names else n_given :]
        if p.default is p.empty and p.name not in names
    ]
    if missing:
        raise TargetError(
            "target",
            f"a module that needs {missing[0]!r} besides its input",
            "one input; all else is a constant of the target",
            "example_input=(x, others...), or a module around it that has one input",
        )
