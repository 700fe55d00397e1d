"""A ``.pt2`` file -> Target, read as data: the archive's JSON and raw tensors, never its pickles."""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slth.errors import SlthError, TargetError, UnsupportedError
from slth.network.batches import read
from slth.network.calls import FIRST_ALONE, ITEM, Call, Reference, usual
from slth.network.draft import Traced
from slth.network.refusals import unfixed
from slth.network.remedies import place, refuse
from slth.network.selection import EVERYTHING, Selection
from slth.network.sizes import by_batch, parse, prime_batch
from slth.network.target import Target
from slth.network.trial import check

_DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64}
_DTYPES |= {6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}
_DTYPES |= {10: torch.complex64, 11: torch.complex128}
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
    module = json.loads(archive.read(entries["models/model.json"]))["graph_module"]
    graph, signature = module["graph"], module["signature"]
    names, inputs = _inputs(signature)
    outputs = [name for spec in signature["output_specs"] if (name := _output(spec))]
    if len(inputs) != 1 or not outputs:
        got, need = f"{len(inputs)} inputs and {len(outputs)} outputs", "one input tensor, and tensors as outputs"
        raise UnsupportedError(str(path), got, need, "exporting a module that has one input, and knows the others")
    tensors = _tensors(path, archive, entries)
    parameters = {name: tensors[full] for name, full in names.items() if full in tensors}
    values = Values.of(str(path), graph, inputs[0])
    shape = values.shape(inputs[0])
    calls = [call for node in graph["nodes"] for call in _calls(node, values, parameters)]
    places = {name: _place(node) for node in graph["nodes"] for name in _names(node)}
    places |= {_whole(node, made): _place(node) for node in graph["nodes"] if (made := _names(node))}
    trained = [
        name for spec in signature["input_specs"] if (name := spec.get("parameter", {}).get("arg", {}).get("name"))
    ]
    traced = Traced(
        input_name=inputs[0],
        output_names=outputs,
        input_shape=tuple(shape[1:]),
        names=names,
        places=places,
        parameters=parameters,
        trained=frozenset(trained),
        input_is_real=values.dtype(inputs[0]).is_floating_point,
        batch=values.batch if values.symbol else 0,
        static_batch=0 if values.symbol else values.batch,
    )
    target = read(calls, traced, selection)
    check(target)
    return target


@dataclass(frozen=True)
class Values:
    """What a file says of its values: shapes and number types, with one size of the batch for its symbol.

    Attributes
    ----------
    path : str
        Of the file.
    graph : mapping
    batch : int
        Size of the batch.
    symbol : str
        For which that stands in sizes; empty where the program is for that size alone.
    """

    path: str
    graph: Mapping[str, Any]
    batch: int
    symbol: str = ""

    @classmethod
    def of(cls, path: str, graph: Mapping[str, Any], input_name: str) -> Values:
        """With the size of the batch, or a prime where it is a symbol."""
        sizes = graph["tensor_values"][input_name]["sizes"]
        if not sizes:
            raise UnsupportedError(path, "an input without axes", "a batch axis first")
        if "as_int" in sizes[0]:
            return cls(path, graph, int(sizes[0]["as_int"]))
        text = sizes[0]["as_expr"]["expr_str"]
        found = re.fullmatch(r"(?:Symbol\()?'?(\w+)'?(?:,.*\))?", text)
        others = (size.get("as_int", 0) for value in graph["tensor_values"].values() for size in value["sizes"])
        prime = prime_batch(others)
        if found is None or not prime:
            raise UnsupportedError(path, f"a batch of {text} examples", "a batch of any size", "Dim('batch') for it")
        return cls(path, graph, prime, found[1])

    def size(self, value: Mapping[str, Any], where: str) -> int:
        """A size, which may be an expression.

        Raises
        ------
        UnsupportedError
            If it goes by anything but the batch.
        """
        if "as_int" in value:
            return int(value["as_int"])
        text = value["as_expr"]["expr_str"]
        try:
            return by_batch(where, lambda batch: parse(text, {self.symbol: batch}), self.batch)
        except ValueError as error:
            if isinstance(error, SlthError):
                raise
            raise unfixed(f"{self.path}, {where}", text) from error

    def shape(self, name: str) -> list[int]:
        """Of a tensor."""
        return [self.size(size, f"value {name!r}") for size in self.graph["tensor_values"][name]["sizes"]]

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor; float32 where the file's number is not known."""
        return _DTYPES.get(self.graph["tensor_values"][name]["dtype"], torch.float32)

    def number(self, value: Mapping[str, Any], where: str) -> Any:
        """A whole number, or what a name that stands for one is."""
        ((kind, content),) = value.items()
        if kind != "as_name":
            return content
        return self.size(self.graph["sym_int_values"][content], where)


def _output(spec: Mapping[str, Any]) -> str:
    """Name of an output; empty where it is no tensor, or none of the user's."""
    arg: dict[str, Any] = spec.get("user_output", {}).get("arg", {})
    return str(arg["as_tensor"]["name"]) if "as_tensor" in arg else ""


def _inputs(signature: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    names: dict[str, str] = {}
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, value),) = spec.items()
        if kind == "user_input" and "as_tensor" in value["arg"]:
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
        # Tensors that share an entry are one tensor with several names.
        found: dict[str, torch.Tensor] = {}
        for name, entry in json.loads(archive.read(listing))["config"].items():
            if entry["use_pickle"]:
                raise TargetError(
                    f"{path}, tensor {name!r}", "a tensor stored as a pickle", "tensors stored as plain bytes"
                )
            place, meta = entry["path_name"], entry["tensor_meta"]
            key = json.dumps([place, meta], sort_keys=True)
            if key not in found:
                found[key] = _tensor(archive.read(entries[f"data/{folder}/{place}"]), meta)
            tensors[name] = found[key]
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


def _calls(node: Mapping[str, Any], values: Values, parameters: Mapping[str, torch.Tensor]) -> Iterator[Call]:
    """The call that a node is, and one for each of its outputs where it has several."""
    names, where = _names(node), _place(node)
    if not names:
        return
    target = str(node["target"])
    parts = target.split(".")
    if parts[:2] != ["torch", "ops"] or len(parts) < 4 or parts[2] == "higher_order":
        raise refuse(where, parts[-1])
    space, own = parts[2], parts[3]
    op = own if space in ("aten", "prims", "slth") else f"{space}::{own}"
    arguments: Mapping[str, Any] = {entry["name"]: _argument(entry["arg"], values, where) for entry in node["inputs"]}
    first, several = names[0], len(names) > 1 or "as_tensors" in node["outputs"][0]
    shape, dtype = values.shape(first), values.dtype(first)
    if not several or op in FIRST_ALONE:
        op, arguments = usual(op, arguments, dtype)
        yield Call(first, op, arguments, shape, values.batch, parameters, dtype)
        return
    whole = _whole(node, names)
    yield Call(whole, op, arguments, [], values.batch, parameters)
    for index, name in enumerate(names):
        own_arguments = {"self": Reference(whole), "index": index}
        yield Call(name, ITEM, own_arguments, values.shape(name), values.batch, parameters, values.dtype(name))


def _whole(node: Mapping[str, Any], names: Sequence[str]) -> str:
    """What a call with several outputs is called; older files do not say it."""
    own = node.get("name")
    return str(own) if own and own not in names else f"all of {names[0]}"


def _names(node: Mapping[str, Any]) -> list[str]:
    """Of all tensors that a call gives."""
    found: list[str] = []
    for output in node["outputs"]:
        ((kind, content),) = output.items()
        if kind == "as_tensor":
            found.append(str(content["name"]))
        elif kind == "as_tensors":
            found += [str(entry["name"]) for entry in content]
    return found


def _place(node: Mapping[str, Any]) -> str:
    """The innermost module in "key,path,class;key,path,class", the stack of modules that the program records."""
    owner = str(node.get("metadata", {}).get("nn_module_stack", "")).rpartition(";")[2].split(",")
    path, kind = owner[1:] if len(owner) == 3 else ("", "")
    return place(str(node.get("name")), path, kind)


def _argument(value: Mapping[str, Any], values: Values, where: str) -> Any:
    ((kind, content),) = value.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Reference(content["name"])
    if kind == "as_tensors":
        return [Reference(entry["name"]) for entry in content]
    if kind == "as_optional_tensors":
        return [_argument(entry, values, where) for entry in content]
    if kind == "as_optional_tensor":
        return _argument(content, values, where)
    if kind == "as_sym_int":
        return values.number(content, where)
    if kind == "as_sym_ints":
        return [values.number(entry, where) for entry in content]
    if kind in ("as_float", "as_floats"):
        # JSON has no infinite numbers; programs write them as words.
        return list(map(float, content)) if kind == "as_floats" else float(content)
    if kind == "as_scalar_type":
        return _DTYPES.get(content, content)
    return content
