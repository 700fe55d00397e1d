"""A network that was just read beside what it was read from, on a few inputs."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.graph import Graph
from slth.network.independence import examples_are_apart
from slth.network.module import target_module
from slth.network.target import Target

logger = logging.getLogger(__name__)

_MANY = 10_000_000
"""Weights from which on a network is tried on two inputs instead of three (chosen)."""
_SMALL, _FEW = 100_000, 8
"""A network of fewer weights is tried on so many (chosen)."""
_STEP = 0.6180339887498949
"""Of a sequence that fills an interval evenly (chosen)."""


def trial_inputs(graph: Graph, n: int, example: torch.Tensor | None = None) -> torch.Tensor:
    """``n`` inputs that are not alike: of the size of an example's entries, or whole numbers that its entries are.

    Without an example, real numbers are in float64 between -1 and 1.
    """
    shape = (n, *graph.input_shape)
    steps = (torch.arange(math.prod(shape), dtype=torch.float64) * _STEP % 1.0).reshape(shape)
    if graph.classes:
        known = torch.arange(graph.classes) if example is None else example.flatten().unique().cpu()
        # Of an example of nothing but zeros, all classes.
        known = torch.arange(graph.classes) if known.numel() == 1 else known
        return known[(steps * known.numel()).long()].to(torch.int64 if example is None else example.dtype)
    if example is None or not example.is_floating_point():
        return 2 * steps - 1
    size = float(example.abs().max()) or 1.0
    low = -size if bool((example < 0).any()) or not bool(example.any()) else 0.0
    return (low + (size - low) * steps).to(example.dtype)


def outputs(target: Target, x: torch.Tensor) -> list[torch.Tensor]:
    """What a target gives, in float64 for inputs in float64 or of whole numbers, else in float32."""
    return _of(target_module(target, _precision(x)), x)


def _precision(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 or not x.is_floating_point() else torch.float32


def _of(module: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return tensors(module(x.to(_precision(x)) if x.is_floating_point() else x))


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in what a network gives, in order."""
    if isinstance(value, torch.Tensor):
        return [value.detach()]
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    return [tensor for entry in value for tensor in tensors(entry)] if isinstance(value, list | tuple) else []


def difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference of two networks' outputs, relative to the largest output; infinite if shapes differ."""
    if [part.shape for part in ours] != [part.shape for part in theirs]:
        return math.inf
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        a, b = (part.cpu().to(torch.complex128 if part.is_complex() else torch.float64) for part in (one, other))
        undefined = a.isnan() & b.isnan() | (a == b)
        gap = torch.where(undefined, 0.0, (a - b).abs())
        finite = b[b.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        found = float(gap.max()) if gap.numel() else 0.0
        worst = max(worst, found / size if size else (math.inf if found else 0.0))
    return math.inf if math.isnan(worst) else worst


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor], tolerance: float) -> bool:
    """Whether no output differs by more, relative to the largest one."""
    return difference(ours, theirs) <= tolerance


def check(target: Target, model: torch.nn.Module | None = None, example: torch.Tensor | None = None) -> None:
    """Try a target on a few inputs, and compare it with the module that it was read from, if there is one.

    A chain of operations that all have rules of their own needs no trial, and gets none.

    Raises
    ------
    UnsupportedError
        If they differ by more than rounding, or if one input's outputs depend on the others of its batch.
    """
    graph = target.graph
    if graph.is_chain and not any(node.op in ("function", "recurrent") for node in graph):
        return
    if model is None and examples_are_apart(graph):
        return
    few = 2 if target.n_weights > _MANY and (example is None or len(example) != 2) else 3
    n = graph.batch or (_FEW if target.n_weights < _SMALL else few)
    x = trial_inputs(graph, n, example)
    x = x if example is not None or not x.is_floating_point() else x.to(target.dtype)
    theirs = None if model is None or example is None else _run(model, x.to(example.device))
    ours = target_module(target, _precision(x))
    x = x.cpu()
    try:
        found = _of(ours, x)
    except (RuntimeError, IndexError, ValueError):
        if theirs is not None:
            raise
        # Inputs that were made up may be none that the network can read.
        return
    if theirs is not None:
        _refuse_other(target, model, x, difference(found, theirs), theirs[0].dtype)
    if len(x) > 1 and not examples_are_apart(graph):
        for one in range(len(x) if target.n_weights < _SMALL else 1):
            _refuse_mixing(one, found, _of(ours, x[one : one + 1].expand_as(x)))


_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Largest relative difference that is rounding, by the number type in which the module runs (chosen)."""


def _run(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor] | None:
    """What a module gives; None where it cannot be run on such inputs."""
    try:
        with torch.no_grad():
            return tensors(model(x)) or None
    except Exception:
        logger.info("the module does not run on other inputs than the example", exc_info=True)
        return None


def _refuse_other(
    target: Target, model: torch.nn.Module | None, x: torch.Tensor, found: float, dtype: torch.dtype
) -> None:
    """Refuse a target that is not the module, unless the difference goes away where rounding does.

    Steps and maxima may be taken otherwise where two values are equal but for rounding.
    """
    if found <= _TOLERANCES.get(dtype, _TOLERANCES[torch.float32]):
        return
    try:
        precise = copy.deepcopy(model).double().cpu() if model is not None else None
    except (RuntimeError, TypeError):
        precise = None
    x = x.double() if x.is_floating_point() else x
    theirs = None if precise is None else _run(precise, x)
    if theirs is None or not difference(outputs(target, x), theirs) <= _TOLERANCES[torch.float64]:
        raise UnsupportedError(
            "network",
            f"a module of which what was read gives other outputs, by {found:.2g} of the largest",
            "operations that are a function of their inputs alone",
            "reporting it; slth --debug tells more",
        )


def _refuse_mixing(one: int, found: list[torch.Tensor], alike: list[torch.Tensor]) -> None:
    """Refuse a network whose outputs of one input are others where the others of its batch are."""
    mine, alone = ([part[one : one + 1] for part in parts] for parts in (found, alike))
    if difference(mine, alone) > _TOLERANCES[torch.float32]:
        raise UnsupportedError(
            "network",
            "outputs of one input that depend on the others of its batch",
            "a function of one input",
            "BatchNorm with track_running_stats=True, and no sums or orders across the batch",
        )
