"""Files and factories -> Target, the same way for every command."""

from __future__ import annotations

import contextlib
import itertools
import re
import stat
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slth.activations import ACTIVATIONS, Activation, parse
from slth.errors import ArgumentError, SlthError, TargetError
from slth.files import reason
from slth.imports import import_object
from slth.network.archive import read_archive
from slth.network.calls import Call, Reference
from slth.network.draft import Draft, Traced
from slth.network.graph import INPUT
from slth.network.inputs import as_target, input_dtype
from slth.network.onnx_file import read_onnx
from slth.network.operators import operation_of
from slth.network.rules.linear import linear
from slth.network.selection import EVERYTHING, Selection
from slth.network.target import Target, check_numbers

SUFFIXES = (".pt2", ".onnx", ".safetensors", ".pt", ".pth")
_NETWORKS = (torch.nn.Module, torch.export.ExportedProgram)
_EXAMPLES = (torch.Tensor, tuple, list, Mapping)
STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where a checkpoint usually keeps its state dict."""

BESIDE = "slth/"
"""What names begin with of tensors that ``slth learn`` keeps beside a state dict: masks, the rewinding point."""


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
        Activation between the layers of a bare state dict, such as ``tanh`` or ``leaky_relu:0.1``.
    input_shape : tuple of int, optional
        Shape of one input, without the batch axis; found by trial where it is not given.
    selection : Selection
        Which parameters are ticketed.
    """

    path: Path | None = None
    model: str | None = None
    weights: Path | None = None
    activation: str = "relu"
    input_shape: tuple[int, ...] | None = None
    selection: Selection = EVERYTHING

    def load(self) -> Target:
        """Read, trace and check the target.

        Raises
        ------
        ArgumentError, TargetError, UnsupportedError
            Before any other work, with one line that names the file or layer.
        """
        need = "a .pt2, .safetensors or .pt file, or --model package.module:function"
        if self.path is not None and self.model is not None:
            raise ArgumentError("target", f"both {self.path} and --model {self.model}", f"one of them: {need}")
        activation = parse(self.activation, "--activation")
        if self.model is not None:
            self._refuse_activation()
            # A factory may print; standard output belongs to the result.
            with contextlib.redirect_stdout(sys.stderr):
                return self._from_factory(self.model)
        if self.weights is not None:
            raise ArgumentError("--weights", str(self.weights), "--model, whose weights it holds")
        if self.path is not None and self.path.suffix == ".onnx":
            self._refuse_activation()
            return as_target(*read_onnx(existing_file(self.path), self.input_shape), self.selection)
        if self.input_shape is not None:
            shape = ",".join(map(str, self.input_shape))
            raise ArgumentError("--input-shape", shape, "--model, whose input it describes; a file tells its own")
        if self.path is None:
            raise ArgumentError("target", "none", need)
        path = existing_file(self.path)
        if path.suffix == ".pt2":
            self._refuse_activation()
            return read_archive(path, self.selection)
        if path.suffix not in SUFFIXES:
            raise TargetError(str(path), f"a file ending in {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
        if is_program(path):
            self._refuse_activation()
            return read_archive(path, self.selection)
        return perceptron(str(path), read_state(path), activation, self.selection)

    def _refuse_activation(self) -> None:
        if self.activation != "relu":
            need = "a bare state dict; a program and a module hold their activations"
            raise ArgumentError("--activation", self.activation, need)

    def _from_factory(self, reference: str) -> Target:
        model, example = call_factory(reference)
        if not isinstance(model, torch.nn.Module):
            if self.weights is not None or self.input_shape is not None:
                raise ArgumentError("--model", f"{reference}, which gave a program", "no --weights and --input-shape")
            return as_target(model, None, self.selection)
        if self.weights is not None:
            load_weights(model, existing_file(self.weights))
        if self.input_shape is not None:
            example = torch.zeros(1, *self.input_shape, dtype=input_dtype(model))
        return as_target(model, example, self.selection)


def existing_file(path: Path) -> Path:
    """The path, if it is a file.

    Raises
    ------
    TargetError
        If it is not.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(str(path), "no such file", "an existing file") from None
    except OSError as error:
        raise TargetError(str(path), f"{reason(error)!r}", "a file that can be read") from error
    if not stat.S_ISREG(mode):
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
            return {name: tensor for name, tensor in load_file(path).items() if not name.startswith(BESIDE)}
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise TargetError(
                str(path), f"a damaged safetensors file ({error})", "a complete file", "copying it again"
            ) from error
    if path.suffix == ".pt2" or is_program(path):
        raise TargetError(str(path), "an exported program", "a state dict of tensors", "naming it as the target itself")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TargetError(
            str(path), _why_unreadable(path), "a state dict of tensors", "torch.save(model.state_dict(), path)"
        ) from error
    if isinstance(state, Mapping):
        state = next((state[key] for key in STATE_KEYS if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        keys = ", ".join(repr(key) for key in [*state][:4]) if isinstance(state, Mapping) else ""
        what = f"a dict of {keys}" if keys else f"one object of type {type(state).__name__}"
        raise TargetError(
            str(path), f"{what}, which is not a state dict", "tensors by name", "torch.save(model.state_dict(), path)"
        )
    for key, value in state.items():
        if value.layout is not torch.strided or value.is_quantized:
            raise TargetError(f"{path}, tensor {key!r}", "a sparse or quantized tensor", "a dense one")
    return {str(key): value for key, value in state.items()}


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        return "an empty file"
    if zipfile.is_zipfile(path) or start[:1] == b"\x80":
        return "a pickle that holds code, such as a whole module, or is damaged (nothing of it was executed)"
    return "a damaged or truncated file" if start[:2] == b"PK" else "a file that torch.save did not write"


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts fc2 before fc10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def perceptron(
    where: str,
    state: Mapping[str, torch.Tensor],
    activation: Activation | None = None,
    selection: Selection = EVERYTHING,
) -> Target:
    """The multilayer perceptron of a bare state dict: 2-D weights in order, each with its bias if there is one.

    ``activation`` stands between them; ReLU if there is none.

    A file that keeps no order (safetensors sorts by size and name) is put in the one order in which each layer's
    outputs feed the next layer's inputs; natural order of the names decides where several do.

    Raises
    ------
    TargetError
        If the state holds anything but 2-D weights and their biases, or the shapes do not chain.
    """
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
    for key in order:
        name = key.removesuffix(".weight")
        check_numbers(f"layer {name!r}, weight", weights[key])
        if key in biases:
            check_numbers(f"layer {name!r}, bias", biases[key])
        if key in biases and biases[key].shape[0] != weights[key].shape[0]:
            n, n_needed = biases[key].shape[0], weights[key].shape[0]
            raise TargetError(f"{where}, bias of {key!r}", f"{n} entries", f"{n_needed}, one for each output")
    names = {owner: name for name, tensor in state.items() for owner in biases if biases[owner] is tensor}
    shape, whole = (int(weights[order[0]].shape[1]),), {name: name for name in state}
    traced = Traced(INPUT, [], shape, whole, {}, state, frozenset(state))
    draft = Draft(traced, selection)
    between, source = operation_of(activation or ACTIVATIONS["relu"]()), INPUT
    for number, key in enumerate(order):
        if number and between is not None:
            op, parameters = between
            source = draft.add(op, [source], parameters, draft.free_name(f"{op}_{number}"))
        draft.values[source] = source
        bias = Reference(names[key]) if key in names else None
        arguments = {"input": Reference(source), "weight": Reference(key), "bias": bias}
        call = Call(f"linear_{number}", "linear", arguments, (), None, state)
        source = linear(draft, call) or draft.function("linear", call.name, arguments)
    graph = draft.finish(source)
    return Target.build(graph, draft.weights_of(graph), draft.kept, draft.accounts(), selection)


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


def call_factory(reference: str) -> tuple[torch.nn.Module | torch.export.ExportedProgram, Any]:
    """The module or program (and example input, if it gives one) that ``package.module:function`` returns.

    Raises
    ------
    ArgumentError
        If the module cannot be imported, has no such function, or the function fails or returns something else.
    """
    module_name, _, function_name = reference.rpartition(":")
    need = "package.module:function or FILE.py:function, which takes no argument and returns a torch.nn.Module"
    if not module_name or not function_name:
        raise ArgumentError("--model", reference, need)
    try:
        result = import_object(reference, "--model", need)
        result = result if isinstance(result, _NETWORKS) else result()
    except SlthError:
        raise
    except (Exception, SystemExit) as error:
        raise ArgumentError("--model", f"{reference} ({type(error).__name__}: {error})", need) from error
    example = None
    if isinstance(result, tuple) and len(result) >= 2:
        result, example, *others = result
        example = (example, *others) if others else example
    if not isinstance(result, _NETWORKS):
        raise ArgumentError("--model", f"{reference}, which gave an object of type {type(result).__name__}", need)
    if not (example is None or isinstance(example, _EXAMPLES)):
        got = f"{reference}, which gave a module and as its input an object of type {type(example).__name__}"
        raise ArgumentError("--model", got, "a tensor as input", "torch.as_tensor(...)")
    return result, example


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict into a module.

    Raises
    ------
    TargetError
        If names or shapes do not fit.
    """
    state, own = read_state(path), model.state_dict()
    shapes = [
        f"{key} of shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and isinstance(own[key], torch.Tensor) and own[key].shape != state[key].shape
    ]
    faults = {"missing": [*(own.keys() - state.keys())], "unexpected": [*(state.keys() - own.keys())], "": shapes}
    found = [
        f"{fault} {sorted(keys, key=natural)[0]}{f' and {len(keys) - 1} more' if keys[1:] else ''}".strip()
        for fault, keys in faults.items()
        if keys
    ]
    need = "the state dict of --model's module"
    if found:
        raise TargetError(str(path), "; ".join(found), need)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TargetError(str(path), " ".join(str(error).split()), need) from error
