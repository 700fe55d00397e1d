"""Where the nodes and constants of an ONNX graph lie in the tree of modules."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import torch

from slth.network.onnx_constants import Prepared, as_tensor
from slth.network.onnx_network import OnnxNetwork
from slth.network.onnx_operators import Known

if TYPE_CHECKING:
    import onnx

_TAKEN = frozenset(
    {"steps", "outputs", "tensors", "arrays", "input_name", "node", "slots", "where", "captured", "then", "otherwise"}
)
"""What modules here have besides what all modules have."""


class Paths:
    """Adds modules and tensors to a module, each at a path of its own."""

    def __init__(self, root: torch.nn.Module) -> None:
        self.root = root
        self._tensors: dict[tuple[str, bool], torch.Tensor] = {}

    def free(self, path: str, for_tensor: bool = False) -> str:
        """A path at which there is nothing yet; for a module there may be others below it."""
        reserved = _TAKEN | {*dir(OnnxNetwork)}
        path = ".".join(f"{part}_" if part in reserved or part == "training" else part for part in path.split("."))
        while self._is_taken(path, for_tensor):
            path += "_"
        return path

    def _is_taken(self, path: str, for_tensor: bool) -> bool:
        here: Any = self.root
        for part in path.split("."):
            if not hasattr(here, part):
                return False
            here = getattr(here, part)
        return for_tensor or type(here) is not torch.nn.Module

    def add(self, path: str, module: torch.nn.Module) -> None:
        """Put a module at a free path, or in the place of one that only held others."""
        holder, _, last = path.rpartition(".")
        owner = self._container(holder)
        held = dict(owner.named_children()).get(last, torch.nn.Module())
        for name, child in held.named_children():
            module.add_module(name, child)
        for name, parameter in held.named_parameters(recurse=False):
            module.register_parameter(name, parameter)
        for name, buffer in held.named_buffers(recurse=False):
            module.register_buffer(name, buffer)
        owner.add_module(last, module)

    def _container(self, path: str) -> torch.nn.Module:
        here = self.root
        for part in path.split(".") if path else ():
            if part not in dict(here.named_children()):
                here.add_module(part, torch.nn.Module())
            here = here.get_submodule(part)
        return here

    def hold(self, name: str, array: Known, trained: bool) -> str:
        """Put a constant that is no layer's weight under its own name; gives its path."""
        path = self.free(sanitised(name) or "constant", for_tensor=True)
        holder, _, last = path.rpartition(".")
        self.register(self._container(holder), last, name, array, trained)
        return path

    def register(self, module: torch.nn.Module, name: str, key: str, array: Known, trained: bool) -> None:
        """A parameter of a module, or a buffer; constants of one key are one tensor."""
        *holders, last = name.split(".")
        for holder in holders:
            if holder not in dict(module.named_children()):
                module.add_module(holder, torch.nn.Module())
            module = module.get_submodule(holder)
        # Statistics that are equal to a weight are none all the same.
        tensor = self._tensors.get((key, trained))
        if tensor is None:
            tensor = as_tensor(array)
            tensor = torch.nn.Parameter(tensor) if trained and tensor.is_floating_point() else tensor
            self._tensors[key, trained] = tensor
        if isinstance(tensor, torch.nn.Parameter):
            module.register_parameter(last, tensor)
        else:
            module.register_buffer(last, tensor)


def sanitised(name: str) -> str:
    """A name of a file as a path of modules."""
    return ".".join(part for part in re.sub(r"[^0-9A-Za-z_.]+", ".", name).split(".") if part)


def path_of(proto: onnx.NodeProto, prepared: Prepared) -> str:
    """Where a node's module lies: where its weight says, or the module that it was exported from, or its name."""
    for name, (key, _) in prepared.arrays.items():
        own = key.split(" ")[0]
        for suffix in (f".{name}", f"_{name}"):
            if own.endswith(suffix) and sanitised(own.removesuffix(suffix)):
                return sanitised(own.removesuffix(suffix))
    scopes = _scopes(proto)
    if scopes:
        return sanitised(scopes[-2] if prepared.arrays and scopes[-2] else f"{scopes[-2]}.{scopes[-1]}")
    path = sanitised("/".join(_scope_parts(proto.name)))
    # Exporters call a layer's nodes /encoder/fc1/MatMul, /encoder/fc1/Add: the layer is what they have in common.
    layer = path.rpartition(".")[0] if "/" in proto.name and prepared.arrays else ""
    return layer or path or prepared.node.op.lower()


def _scope_parts(name: str) -> list[str]:
    """Parts of a name between slashes; one that says the one before it again, as in /layer1/layer1.0, replaces it."""
    parts: list[str] = []
    for part in name.split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts += [part] if part else []
    return parts


def _scopes(proto: onnx.NodeProto) -> list[str]:
    """Paths of the torch modules around a node, and the call's own name, where the exporter says them."""
    text = next((entry.value for entry in proto.metadata_props if entry.key.endswith("name_scopes")), "[]")
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    fits = isinstance(scopes, list) and len(scopes) > 1 and all(isinstance(scope, str) for scope in scopes)
    return scopes if fits else []
