"""A ``.pt2`` file -> Target, read as data: the archive's JSON and raw tensors, never its pickles."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slth.errors import SlthError, TargetError, UnsupportedError
from slth.network.calls import WITH_INDICES, Call, Reference
from slth.network.draft import Traced
from slth.network.lower import lower, place, refuse
from slth.network.selection import EVERYTHING, Selection
from slth.network.target import Target

_DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64}
_DTYPES |= {6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}
"""Scalar types by the number that the archive's schema gives them."""


_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, RuntimeError, MemoryError),
)
"""What reading a damaged or malicious archive may raise."""


def read_archive(path: Path, selection: Selection = EVERYTHING) -> Target:
    """The target in a file written by ``torch.export.save``.

    Differs from ``torch.export.load``: only the graph (JSON) and tensors stored as raw bytes are read, so that no code
    in the file can run; a tensor stored as a pickle is refused.

    Raises
    ------
    TargetError
        If the file is damaged or not such an archive.
    UnsupportedError
        If the program holds an operation that is not covered.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise TargetError(str(path), f"a damaged entry {bad}", "an undamaged .pt2 file", "exporting it again")
            return _read(path, archive, selection)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, SlthError):
            raise
        raise TargetError(
            str(path),
            f"a file that is not a readable .pt2 archive ({type(error).__name__}: {error})",
            "a file written by torch.export.save (torch 2.8 or later)",
            "exporting it again",
        ) from error


def _read(path: Path, archive: zipfile.ZipFile, selection: Selection) -> Target:
    entries = {name.partition("/")[2]: name for name in archive.namelist()}
    if "models/model.json" not in entries:
        raise ValueError("no models/model.json in it")
    model = json.loads(archive.read(entries["models/model.json"]))
    graph = model["graph_module"]["graph"]
    signature = model["graph_module"]["signature"]
    names, inputs = _inputs(signature)
    outputs = [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"]]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedError(
            str(path), f"{len(inputs)} inputs and {len(outputs)} outputs", "one input tensor and one output tensor"
        )
    tensors = _tensors(path, archive, entries)
    parameters = {name: tensors[full] for name, full in names.items() if full in tensors}
    shape = _sizes(graph["tensor_values"][inputs[0]])
    if any(size is None for size in shape[1:]):
        raise UnsupportedError(str(path), f"an input of shape {shape}", "sizes that are fixed, but for the batch")
    calls = [call for node in graph["nodes"] if (call := _call(node, graph, shape[0], parameters)) is not None]
    places = {node["outputs"][0]["as_tensor"]["name"]: _place(node) for node in graph["nodes"] if _is_tensor(node)}
    trained = [
        name for spec in signature["input_specs"] if (name := spec.get("parameter", {}).get("arg", {}).get("name"))
    ]
    traced = Traced(
        inputs[0], outputs, tuple(size or 0 for size in shape[1:]), names, places, parameters, frozenset(trained)
    )
    return lower(calls, traced, selection)


def _inputs(signature: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    names: dict[str, str] = {}
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, value),) = spec.items()
        if kind == "user_input":
            inputs.append(value["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            names[value["arg"]["name"]] = value[f"{kind}_name"]
    return names, inputs


def _tensors(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, str]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for folder, config in (("weights", "model_weights_config"), ("constants", "model_constants_config")):
        listing = entries.get(f"data/{folder}/{config}.json")
        if listing is None:
            continue
        for name, entry in json.loads(archive.read(listing))["config"].items():
            if entry["use_pickle"]:
                raise TargetError(
                    f"{path}, tensor {name!r}", "a tensor stored as a pickle", "tensors stored as plain bytes"
                )
            raw = archive.read(entries[f"data/{folder}/{entry['path_name']}"])
            tensors[name] = _tensor(raw, entry["tensor_meta"])
    return tensors


def _tensor(raw: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    if meta["dtype"] not in _DTYPES:
        raise ValueError(f"a tensor of unknown type {meta['dtype']}")
    sizes = [size["as_int"] for size in meta["sizes"]]
    strides = [stride["as_int"] for stride in meta["strides"]]
    if math.prod(sizes) == 0:
        return torch.empty(sizes, dtype=_DTYPES[meta["dtype"]])
    flat = torch.frombuffer(bytearray(raw), dtype=_DTYPES[meta["dtype"]])
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).contiguous()


def _sizes(value: Mapping[str, Any]) -> list[int | None]:
    return [size.get("as_int") for size in value["sizes"]]


def _call(
    node: Mapping[str, Any], graph: Mapping[str, Any], batch: int | None, parameters: Mapping[str, torch.Tensor]
) -> Call | None:
    outputs = node["outputs"]
    parts = str(node["target"]).split(".")
    if not _is_tensor(node):
        if any("as_tensor" in output or "as_tensors" in output for output in outputs):
            raise refuse(_place(node), parts[-2] if len(parts) > 1 else parts[0])
        return None
    name = outputs[0]["as_tensor"]["name"]
    return Call(
        name=name,
        op=parts[-2] if parts[:2] == ["torch", "ops"] else str(node["target"]),
        arguments={entry["name"]: _argument(entry["arg"]) for entry in node["inputs"]},
        shape=_sizes(graph["tensor_values"][name]),
        batch=batch,
        parameters=parameters,
    )


def _is_tensor(node: Mapping[str, Any]) -> bool:
    """Whether a call gives a single tensor, or stands for its first."""
    outputs, op = node["outputs"], str(node["target"])
    single = len(outputs) == 1 or any(name in WITH_INDICES for name in op.split("."))
    return single and "as_tensor" in outputs[0]


def _place(node: Mapping[str, Any]) -> str:
    """The innermost module in "key,path,class;key,path,class", the stack of modules that the program records."""
    owner = str(node.get("metadata", {}).get("nn_module_stack", "")).rpartition(";")[2].split(",")
    path, kind = owner[1:] if len(owner) == 3 else ("", "")
    return place(str(node.get("name")), path, kind)


def _argument(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Reference(content["name"])
    if kind == "as_tensors":
        return [Reference(entry["name"]) for entry in content]
    if kind == "as_optional_tensor":
        return _argument(content)
    return content
