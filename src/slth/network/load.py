"""Files and factories -> Target, the same way for every command."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slth.errors import ArgumentError, TargetError
from slth.network.archive import read_archive
from slth.network.graph import INPUT, Graph, Node
from slth.network.inputs import infer_input
from slth.network.operators import OPERATORS, Linear
from slth.network.target import Target
from slth.network.trace import trace

SUFFIXES = (".pt2", ".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class TargetReference:
    """How a person names a target: a file, or a factory with or without a weights file.

    Attributes
    ----------
    path : path, optional
        A ``.pt2`` program, or a state dict (``.safetensors``, ``.pt``) of a plain multilayer perceptron.
    model : str, optional
        ``package.module:function``; the function takes no argument and returns a module, or a module and an example
        input.
    weights : path, optional
        State dict for ``model``.
    activation : str
        Activation between the layers of a bare state dict.
    input_shape : tuple of int, optional
        Shape of one input, without the batch axis; found by trial where it is not given.
    """

    path: Path | None = None
    model: str | None = None
    weights: Path | None = None
    activation: str = "relu"
    input_shape: tuple[int, ...] | None = None

    def load(self) -> Target:
        """Read, trace and check the target.

        Raises
        ------
        ArgumentError, TargetError, UnsupportedError
            Before any other work, with one line that names the file or layer.
        """
        if (self.path is None) == (self.model is None):
            raise ArgumentError(
                "TARGET",
                "both or neither of a file and --model",
                "one of them",
                "slth find net.safetensors -o net.ticket",
            )
        if self.model is not None:
            return self._from_factory(self.model)
        assert self.path is not None
        path = existing_file(self.path)
        if self.weights is not None:
            raise ArgumentError("--weights", str(self.weights), "--model, whose weights it holds")
        if path.suffix == ".pt2":
            return read_archive(path)
        if path.suffix not in SUFFIXES:
            raise TargetError(str(path), f"a file ending in {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
        if is_program(path):
            return read_archive(path)
        return perceptron(str(path), read_state(path), self.activation)

    def _from_factory(self, reference: str) -> Target:
        model, example = call_factory(reference)
        if self.weights is not None:
            load_weights(model, existing_file(self.weights))
        if self.input_shape is not None:
            example = torch.zeros(1, *self.input_shape, dtype=_input_dtype(model))
        if example is None:
            example = infer_input(model, _input_dtype(model))
        return trace(model, example)


def existing_file(path: Path) -> Path:
    """The path, if it is a file.

    Raises
    ------
    TargetError
        If it is not.
    """
    if not path.exists():
        raise TargetError(str(path), "no such file", "an existing file")
    if not path.is_file():
        raise TargetError(str(path), "something that is not a file", "a file")
    return path


def is_program(path: Path) -> bool:
    """Whether a ``.pt`` file is in fact an exported program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("models/model.json") for name in archive.namelist())


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a ``.safetensors`` or ``.pt`` state dict; nothing in the file is ever executed.

    Raises
    ------
    TargetError
        If the file is damaged, or a ``.pt`` holds anything but tensors in plain containers.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise TargetError(
                str(path), f"a damaged safetensors file ({error})", "a complete file", "copying it again"
            ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        damaged = not zipfile.is_zipfile(path) and path.stat().st_size and path.read_bytes()[:1] != b"\x80"
        what = "a damaged or truncated file" if damaged else "a pickle that holds code or is damaged"
        raise TargetError(
            str(path),
            f"{what} (it was not executed)",
            "a state dict of tensors",
            "torch.save(model.state_dict(), path), or a .safetensors file",
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise TargetError(
            str(path), f"a {type(state).__name__} that is not a state dict", "tensors by name", "model.state_dict()"
        )
    return {str(key): value for key, value in state.items()}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts fc2 before fc10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def perceptron(where: str, state: Mapping[str, torch.Tensor], activation: str) -> Target:
    """The multilayer perceptron of a bare state dict: 2-D weights in order, each with its bias if there is one.

    A file that keeps no order (safetensors sorts by size and name) is put in the one order in which each layer's
    outputs feed the next layer's inputs; natural order of the names decides where several do.

    Raises
    ------
    ArgumentError
        If the activation is not supported.
    TargetError
        If the state holds anything but 2-D weights and their biases, or the shapes do not chain.
    """
    if activation != "relu":
        raise ArgumentError("--activation", activation, "relu", "a network with ReLU between its layers")
    weights = {name: tensor for name, tensor in state.items() if tensor.dim() == 2}
    biases: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        owner = _weight_of_bias(name, weights)
        if name in weights:
            continue
        if tensor.dim() != 1 or owner is None or owner in biases:
            raise TargetError(
                f"{where}, tensor {name!r}",
                f"shape {tuple(tensor.shape)}",
                "2-D weights and their 1-D biases (a plain multilayer perceptron)",
                "--model package.module:function --weights FILE, or a .pt2 program",
            )
        biases[owner] = tensor
    if not weights:
        raise TargetError(where, "a file without 2-D weights", "a plain multilayer perceptron's weights")
    order = _chain(where, weights)
    nodes: list[Node] = []
    layers: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    source, shape = INPUT, (int(weights[order[0]].shape[1]),)
    for number, key in enumerate(order):
        weight, bias = weights[key], biases.get(key)
        if bias is not None and bias.shape[0] != weight.shape[0]:
            raise TargetError(
                f"{where}, bias of {key!r}", f"{bias.shape[0]} entries", f"{weight.shape[0]}, one for each output"
            )
        if number:
            nodes.append(Node(f"relu_{number}", "relu", source, {}, shape))
            source = nodes[-1].name
        name = key.removesuffix(".weight") if key.endswith(".weight") else key
        shape = (int(weight.shape[0]),)
        attributes = {"weight_shape": tuple(weight.shape), "bias": bias is not None}
        nodes.append(Node(name, Linear.name, source, OPERATORS[Linear.name].check(attributes), shape))
        layers[name] = (weight, bias)
        source = name
    return Target.build(Graph((int(weights[order[0]].shape[1]),), tuple(nodes)), layers)


def _weight_of_bias(name: str, weights: Mapping[str, torch.Tensor]) -> str | None:
    """The weight that a bias belongs to: the same name with weight (W, w) in the place of bias (B, b)."""
    for bias, weight in (("bias", "weight"), ("biases", "weights"), ("b", "w"), ("b", "W"), ("B", "W")):
        head, found, tail = name.rpartition(bias)
        if found and f"{head}{weight}{tail}" in weights:
            return f"{head}{weight}{tail}"
    return None


def _chain(where: str, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Keys in the order of evaluation: the file's, the names', or the only one that fits the shapes."""

    def fits(order: list[str]) -> bool:
        return all(weights[a].shape[0] == weights[b].shape[1] for a, b in itertools.pairwise(order))

    for order in (sorted(weights, key=natural), list(weights)):
        if fits(order):
            return order
    starts = [key for key in weights if all(weights[key].shape[1] != weights[other].shape[0] for other in weights)]
    order = starts[:1]
    while order and len(order) < len(weights):
        following = [
            key for key in weights if key not in order and weights[key].shape[1] == weights[order[-1]].shape[0]
        ]
        if len(following) != 1:
            break
        order += following
    if len(order) == len(weights):
        return order
    shapes = ", ".join(f"{key} {tuple(weights[key].shape)}" for key in sorted(weights, key=natural))
    raise TargetError(
        where, f"weights that do not chain ({shapes})", "each layer's outputs equal to the next one's inputs"
    )


def call_factory(reference: str) -> tuple[torch.nn.Module, torch.Tensor | None]:
    """The module (and example input, if it gives one) that ``package.module:function`` returns.

    Raises
    ------
    ArgumentError
        If the module cannot be imported, has no such function, or the function fails or returns something else.
    """
    module_name, _, function_name = reference.partition(":")
    need = "package.module:function, where the function takes no argument and returns a torch.nn.Module"
    if not module_name or not function_name:
        raise ArgumentError("--model", reference, need)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        result: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            result = getattr(result, part)
        result = result if isinstance(result, torch.nn.Module) else result()
    except Exception as error:
        raise ArgumentError("--model", f"{reference} ({type(error).__name__}: {error})", need) from error
    example = None
    if isinstance(result, tuple) and len(result) == 2:
        result, example = result
    if not isinstance(result, torch.nn.Module) or not (example is None or isinstance(example, torch.Tensor)):
        raise ArgumentError("--model", f"{reference}, which returned a {type(result).__name__}", need)
    return result, example


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict into a module.

    Raises
    ------
    TargetError
        If names or shapes do not fit.
    """
    try:
        model.load_state_dict(read_state(path))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TargetError(str(path), " ".join(lines[1:3]), "the state dict of --model's module") from error


def _input_dtype(model: torch.nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
