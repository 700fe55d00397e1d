"""A network that was just read beside what it was read from, on a few inputs."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.graph import Graph
from slth.network.module import target_module
from slth.network.target import Target

logger = logging.getLogger(__name__)

_STEP = 0.6180339887498949
"""Of a sequence that fills an interval evenly (chosen)."""


def trial_inputs(graph: Graph, n: int, example: torch.Tensor | None = None) -> torch.Tensor:
    """``n`` inputs that are not alike: of the size of an example's entries, or whole numbers that its entries are.

    Without an example, real numbers are in float64 between -1 and 1.
    """
    shape = (n, *graph.input_shape)
    steps = (torch.arange(math.prod(shape), dtype=torch.float64) * _STEP % 1.0).reshape(shape)
    if graph.classes:
        known = torch.arange(graph.classes) if example is None else example.flatten().unique()
        # Of an example of nothing but zeros, all classes.
        known = torch.arange(graph.classes) if known.numel() == 1 else known
        return known[(steps * known.numel()).long()].to(torch.int64 if example is None else example.dtype)
    if example is None or not example.is_floating_point():
        return 2 * steps - 1
    size = float(example.abs().max()) or 1.0
    low = -size if bool((example < 0).any()) or not bool(example.any()) else 0.0
    return (low + (size - low) * steps).to(example.dtype)


def outputs(target: Target, x: torch.Tensor) -> list[torch.Tensor]:
    """What a target gives, in float64 for inputs in float64 or of whole numbers, else in float32 at least."""
    dtype = torch.float64 if x.dtype == torch.float64 or not x.is_floating_point() else torch.float32
    with torch.no_grad():
        return tensors(target_module(target, dtype)(x.to(dtype) if x.is_floating_point() else x))


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


def check(target: Target, model: torch.nn.Module, example: torch.Tensor) -> None:
    """Compare a target with the module that it was read from, on other inputs than the example.

    A chain of operations that all have rules of their own needs no comparison, and gets none.

    Raises
    ------
    UnsupportedError
        If they differ by more than rounding, or if one input's outputs depend on the others of its batch.
    """
    graph = target.graph
    if graph.is_chain and not any(node.op in ("function", "recurrent") for node in graph):
        return
    n = graph.batch or 3
    x = trial_inputs(graph, n, example)
    theirs = _run(model, x)
    if theirs is None:
        return
    found = difference(outputs(target, x.cpu()), theirs)
    tolerance = _TOLERANCES.get(theirs[0].dtype, _TOLERANCES[torch.float32])
    if not found <= tolerance and not _same_in_double(target, model, x):
        raise UnsupportedError(
            "network",
            f"a module of which what was read gives other outputs, by {found:.2g} of the largest",
            "operations that are a function of their inputs alone",
            "reporting it; slth --debug tells more",
        )
    _refuse_mixing(target, x)


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


def _same_in_double(target: Target, model: torch.nn.Module, x: torch.Tensor) -> bool:
    """Whether the difference goes away where rounding does: steps and maxima may be taken otherwise."""
    try:
        precise = copy.deepcopy(model).double()
    except (RuntimeError, TypeError):
        return False
    theirs = _run(precise, x.double() if x.is_floating_point() else x)
    x = x.cpu().double() if x.is_floating_point() else x.cpu()
    return theirs is not None and difference(outputs(target, x), theirs) <= _TOLERANCES[torch.float64]


def _refuse_mixing(target: Target, x: torch.Tensor) -> None:
    """Refuse a network in which examples of a batch are not for themselves alone."""
    if len(x) < 2:
        return
    x = x.cpu()
    alike = x[:1].expand_as(x)
    first = [part[:1] for part in outputs(target, x)], [part[:1] for part in outputs(target, alike)]
    if difference(*first) > _TOLERANCES[torch.float32]:
        raise UnsupportedError(
            "network",
            "outputs of one input that depend on the others of its batch",
            "a function of one input",
            "BatchNorm with track_running_stats=True, and no sums or orders across the batch",
        )
