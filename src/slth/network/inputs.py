"""Modules that came without an example input: its shape is found by trial, on tensors without storage."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import TypeAlias

import torch

from slth.errors import ArgumentError
from slth.network.adapted import Example
from slth.network.selection import EVERYTHING, Selection
from slth.network.target import Target
from slth.network.trace import from_program, trace

logger = logging.getLogger(__name__)

_COMMON = {
    1: (128, 256, 512, 1024, 16000, 64, 100, 784, 32),
    2: (32, 224, 64, 28, 96, 112, 128, 160, 192, 256, 299, 8, 16),
    3: (16, 32, 8, 28, 64),
}
"""Sizes of a spatial axis that are tried first, by the number of spatial axes."""
_LARGEST = {1: 4096, 2: 512, 3: 64}
_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


Model: TypeAlias = "torch.nn.Module | torch.export.ExportedProgram | Target"
"""What a network may be given as."""


def as_target(model: Model, example_input: Example | None = None, selection: Selection = EVERYTHING) -> Target:
    """The target that a module or a program computes, or the target itself.

    Raises
    ------
    ArgumentError
        If it is none of them, no example input is given and none can be found, or a selection is asked for of a target.
    TargetError
        As :func:`slth.network.trace.trace`.
    """
    if isinstance(model, Target):
        if selection and selection != model.selection:
            got = "a Target, of which it is settled which parameters are ticketed"
            raise ArgumentError("include, exclude", got, "the module itself, or none of both")
        return model
    if isinstance(model, torch.export.ExportedProgram):
        return from_program(model, selection)
    if not isinstance(model, torch.nn.Module):
        got = f"a {type(model).__name__}"
        raise ArgumentError("model", got, "a torch.nn.Module, a torch.export.ExportedProgram or a Target")
    example = infer_input(model, input_dtype(model)) if example_input is None else example_input
    return trace(model, example, selection)


def input_dtype(model: torch.nn.Module) -> torch.dtype:
    """What the module most likely reads: numbers like its first parameter's."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def infer_input(model: torch.nn.Module, dtype: torch.dtype) -> torch.Tensor:
    """A batch of one on which the module runs, its spatial axes of equal size.

    The first layer says how many channels or features there are. The spatial size before a flattening layer is found
    by trial, the usual sizes first (28 for one channel, 32 for more); with global pooling any size runs, and the first
    is taken.

    Raises
    ------
    ArgumentError
        If no size fits.
    """
    first = next((m for m in model.modules() if isinstance(m, (torch.nn.Linear, *_CONVOLUTIONS))), None)
    if first is None:
        raise _unknown("no Linear or Conv layer to tell it from")
    try:
        probe = copy.deepcopy(model).to("meta").eval()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise _unknown(str(error)) from error
    reason = ""
    for shape in _candidates(first):
        failure = _run(probe, shape, dtype)
        if not failure:
            logger.info("input shape %s found by trial", shape)
            return torch.zeros(1, *shape, dtype=dtype)
        reason = reason or f"{failure} on an input of shape {shape}"
    if isinstance(first, torch.nn.Linear) and first.in_features:
        # The layer leaves little to guess; a run on real numbers tells better what is wrong.
        return torch.zeros(1, first.in_features, dtype=dtype)
    raise _unknown(f"a first layer {first} and no input of a usual shape that the network runs on ({reason})")


def _candidates(first: torch.nn.Module) -> Iterator[tuple[int, ...]]:
    if isinstance(first, torch.nn.Linear):
        yield (first.in_features,)
        for channels in (1, 3):
            side = round((first.in_features / channels) ** 0.5)
            if channels * side * side == first.in_features:
                yield (channels, side, side)
        return
    assert isinstance(first, _CONVOLUTIONS)
    n = len(first.kernel_size)
    grey_images = (28,) if n == 2 and first.in_channels == 1 else ()
    for size in dict.fromkeys((*grey_images, *_COMMON[n], *range(1, _LARGEST[n] + 1))):
        yield (first.in_channels, *(size,) * n)


def _run(model: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> str:
    """What goes wrong on an input of this shape; empty if nothing does."""
    try:
        with torch.no_grad():
            output = model(torch.empty(1, *shape, dtype=dtype, device="meta"))
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "an output without a batch axis" if isinstance(output, torch.Tensor) and output.dim() < 2 else ""


def _unknown(got: str) -> ArgumentError:
    return ArgumentError(
        "input shape", got, "the shape of one input", "--input-shape 1,28,28, or a factory that returns (module, input)"
    )
