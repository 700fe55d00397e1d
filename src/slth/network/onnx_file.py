"""A ``.onnx`` file -> torch module, read as data: protobuf and raw tensors, through one table of operations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slth.errors import ArgumentError, TargetError, UnsupportedError

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)

INSTALL = 'pip install "slth[onnx]"'
_DAMAGE = (
    *(TypeError, ValueError, KeyError, IndexError, AttributeError, StopIteration),
    *(RuntimeError, ArithmeticError, MemoryError),
)
"""What building a module from a graph that does not fit together may raise."""
_BATCH = 2
"""Inputs of the example where the file leaves the batch open: with one, an axis of one entry could be taken for it."""


def read_onnx(path: str | Path, input_shape: tuple[int, ...] | None = None) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network in an ONNX file as a torch module, with an example input.

    Initialisers become parameters under their own names; the module can be traced by ``torch.export`` with a batch of
    any size, if the file allows that. Nothing in the file can run: it is protobuf, its operations are looked up in one
    table (:mod:`slth.network.onnx_operators`), and tensors that lie in other files are read from its own folder alone.

    A file for a batch of one alone, as most exporters write it, becomes a module for any batch where it is found to
    give each of several inputs what it gives that input alone.

    Parameters
    ----------
    path : path
    input_shape : tuple of int, optional
        Shape of one input, without the batch axis, where the file leaves sizes open.

    Returns
    -------
    The module in evaluation mode, and zeros of the input's shape and type, (batch, *input shape).

    Raises
    ------
    ArgumentError
        If the extra ``onnx`` is not installed, or ``input_shape`` is missing or at odds with the file.
    TargetError
        If the file is missing, damaged, or no ONNX file.
    UnsupportedError
        If it holds an operation that is not covered, by name, or more than one input.
    """
    from slth.network.onnx_batch import for_any_batch
    from slth.network.onnx_graph import build

    path = Path(path)
    model = load_model(path)
    example = _example(path, model, input_shape)
    try:
        network = build(model).eval()
        if len(example) == 1 and example.dim() > 1 and for_any_batch(network, example):
            example = example.expand(_BATCH, *example.shape[1:]).contiguous()
    except UnsupportedError:
        raise
    except _DAMAGE as error:
        logger.debug("reading ONNX failed", exc_info=True)
        reason = " ".join(str(error).split())[:200]
        got = f"a graph that does not fit together ({type(error).__name__}: {reason})"
        remedy = "onnx.checker.check_model, which may say more"
        raise TargetError(str(path), got, "a valid ONNX file", remedy) from error
    return network, example


def load_model(path: Path) -> onnx.ModelProto:
    """A file's content with its tensors, functions of its own put in their places.

    Raises
    ------
    ArgumentError, TargetError
        As :func:`read_onnx`.
    """
    onnx = require_onnx(str(path))
    if not path.is_file():
        raise TargetError(str(path), "no such file", "an existing file")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        if not model.graph.node or not model.opset_import:
            raise ValueError("no operation in it")
        _load_external(path, model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model  # type: ignore[no-any-return]
    except Exception as error:
        if isinstance(error, TargetError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TargetError(
            str(path), f"a file that is not readable ONNX ({type(error).__name__}: {reason})", "a complete .onnx file"
        ) from error


def require_onnx(where: str) -> Any:
    """The onnx package.

    Raises
    ------
    ArgumentError
        If it is not installed.
    """
    try:
        import onnx
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError as error:
        raise ArgumentError(where, "no package onnx on this machine", "the extra onnx", INSTALL) from error
    return onnx


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    """Tensors of large files lie beside them; from nowhere else is anything read.

    Raises
    ------
    TargetError
        If one is said to lie elsewhere, or is missing.
    """
    from onnx import external_data_helper as helper

    folder = path.resolve().parent
    for tensor in helper._get_all_tensors(model):
        if not helper.uses_external_data(tensor):
            continue
        location = helper.ExternalDataInfo(tensor).location
        place = folder / location
        if place.resolve().parent != folder or not place.is_file():
            where = f"{path}, tensor {tensor.name!r}"
            raise TargetError(
                where, f"numbers in {location!r}", "a file in the same folder", "copying both files together"
            )
        helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _example(path: Path, model: onnx.ModelProto, input_shape: tuple[int, ...] | None) -> torch.Tensor:
    """Zeros as the file describes its input."""
    from slth.network.onnx_operators.arithmetic import DTYPES

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1 or not model.graph.output:
        got = f"{len(inputs)} inputs ({', '.join(entry.name for entry in inputs)}), {len(model.graph.output)} outputs"
        name = inputs[1].name if len(inputs) > 1 else ""
        remedy = f"a value for {name!r} and the others in graph.initializer, which makes them constants" if name else ""
        raise UnsupportedError(str(path), got, "one input tensor, and outputs", remedy)
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in DTYPES:
        raise UnsupportedError(str(path), f"an input of element type {kind.elem_type}", "numbers")
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    if input_shape is not None:
        fits = not dims or len(dims) == len(input_shape) + 1
        if not fits or any(size not in (None, given) for size, given in zip(dims[1:], input_shape, strict=False)):
            raise ArgumentError("--input-shape", ",".join(map(str, input_shape)), f"the file's own, {_shown(dims[1:])}")
        dims = [dims[0] if dims else None, *input_shape]
    elif not kind.HasField("shape") or None in dims[1:]:
        got = f"an input of shape {_shown(dims)}" if dims else "an input without a shape"
        raise ArgumentError(str(path), got, "the shape of one input", "--input-shape 3,224,224")
    return torch.zeros([size or _BATCH for size in dims], dtype=DTYPES[kind.elem_type])


def _shown(dims: list[int | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in dims) + ")"
