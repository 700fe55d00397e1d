"""What becomes of an ONNX node's constants: weights laid out as torch's layers have them, and additions made biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from slth.network.onnx_network import Held
from slth.network.onnx_operators import PARAMETERS, Known, OnnxNode
from slth.network.onnx_operators.base import LARGEST_KNOWN
from slth.network.onnx_operators.layers import LINEAR

Constants = dict[int, tuple[str, Known]]
"""By place among the inputs: a constant's name in the file, and the array."""


@dataclass
class Prepared:
    """A node as it will be evaluated.

    Attributes
    ----------
    node : OnnxNode
    inputs : list of str
        Names of its inputs, "" for one that is left out.
    held : dict of int to Held
        Which of them are parameters of the operation's own, and their names there.
    arrays : dict of str to (key, array)
        Those parameters; the key is the same for the same constant in the same layout.
    """

    node: OnnxNode
    inputs: list[str]
    held: dict[int, Held] = field(default_factory=dict)
    arrays: dict[str, tuple[str, Known]] = field(default_factory=dict)


Preparation = Callable[[Prepared, Constants], None]


def _is_number(array: Known) -> bool:
    return array.dtype.kind not in "iub"


def prepare(node: OnnxNode, inputs: list[str], constants: Constants) -> Prepared:
    """Constants in the places of weights made parameters of the operation."""
    prepared = Prepared(node, list(inputs))
    if node.op in _PREPARATIONS:
        _PREPARATIONS[node.op](prepared, constants)
    for place, name in enumerate(PARAMETERS.get(prepared.node.op, ())):
        if name and place in constants and place not in prepared.held and _is_number(constants[place][1]):
            prepared.held[place] = name
            prepared.arrays[name] = constants[place]
    return prepared


def _matmul(prepared: Prepared, constants: Constants) -> None:
    """A product with a constant matrix is a Linear layer."""
    key, array = constants.get(1, ("", np.zeros(())))
    if array.ndim == 2 and _is_number(array) and 0 not in constants:
        _linear(prepared, f"{key} transposed", array.T)


def _gemm(prepared: Prepared, constants: Constants) -> None:
    node = prepared.node
    key, array = constants.get(1, ("", np.zeros(())))
    if array.ndim != 2 or not _is_number(array) or 0 in constants or node.get("transA", 0):
        return
    rows = array if node.get("transB", 0) else array.T
    alpha, beta, outputs = node.get("alpha", 1.0), node.get("beta", 1.0), len(rows)
    bias = None
    if len(prepared.inputs) > 2 and prepared.inputs[2]:
        if 2 not in constants or not _is_row(constants[2][1], outputs):
            return
        name, row = constants[2]
        bias = (f"{name} {beta}", _times(np.broadcast_to(row.reshape(-1), (outputs,)), beta))
    _linear(prepared, key if node.get("transB", 0) and alpha == 1 else f"{key} {alpha} as rows", _times(rows, alpha))
    del prepared.inputs[2:]
    if bias is not None:
        add_bias(prepared, *bias)


def _times(array: Known, factor: float) -> Known:
    return array if factor == 1 else array * np.asarray(factor).astype(array.dtype)


def _linear(prepared: Prepared, key: str, rows: Known) -> None:
    prepared.node = replace(prepared.node, op=LINEAR, attributes={})
    prepared.held[1] = "weight"
    prepared.arrays["weight"] = (key, np.ascontiguousarray(rows))


def _is_row(array: Known, outputs: int) -> bool:
    """Whether an array is one number for each output whatever it is added to, matrices at least."""
    row = array.size in (1, outputs) and array.size == max(array.shape[-1:], default=1)
    return row and array.ndim <= 2 and _is_number(array)


def bias_of(prepared: Prepared, array: Known) -> Known | None:
    """A constant that is added to a layer's output as its bias, if it is one."""
    if prepared.node.op == LINEAR and "weight" in prepared.arrays and "bias" not in prepared.arrays:
        outputs = len(prepared.arrays["weight"][1])
        return np.broadcast_to(array.reshape(-1), (outputs,)) if _is_row(array, outputs) else None
    if prepared.node.op == "Conv" and "weight" in prepared.arrays and not any(prepared.inputs[2:]):
        outputs, axes = len(prepared.arrays["weight"][1]), prepared.arrays["weight"][1].ndim - 2
        plain = array.shape[-axes - 1 :] == (outputs, *(1,) * axes) and array.size == outputs
        return array.reshape(-1) if plain and array.ndim <= axes + 2 and _is_number(array) else None
    return None


def add_bias(prepared: Prepared, key: str, array: Known) -> None:
    """Give a layer a bias."""
    del prepared.inputs[2:]
    prepared.inputs.append(key)
    prepared.held[2] = "bias"
    prepared.arrays["bias"] = (key, np.ascontiguousarray(array))


def _batch_norm(prepared: Prepared, constants: Constants) -> None:
    """Whether mean and variance are computed, as some exporters write layer normalisation."""
    if not {3, 4} <= constants.keys():
        prepared.node = replace(prepared.node, attributes={**prepared.node.attributes, "computed": True})


def _prelu(prepared: Prepared, constants: Constants) -> None:
    """Flat slopes, and the rank that they had: torch has one for each channel where ONNX broadcasts."""
    key, array = constants.get(1, ("", np.zeros((1, 2))))
    if array.size == 1 or array.shape[:1] == (array.size,):
        prepared.node = replace(prepared.node, attributes={**prepared.node.attributes, "slope_rank": array.ndim})
        prepared.held[1] = "weight"
        prepared.arrays["weight"] = (f"{key} flat", array.reshape(-1))


def _recurrent(prepared: Prepared, constants: Constants) -> None:
    """Each direction's weights as two Linear layers, one of the input and one of the hidden state."""
    if 7 in constants and not constants[7][1].any():
        del prepared.inputs[7:]
    if (
        1 not in constants
        or 2 not in constants
        or (len(prepared.inputs) > 3 and prepared.inputs[3] and 3 not in constants)
    ):
        return
    layers = ("input", "recurrent")
    weights, biases = [], []
    for number in range(len(constants[1][1])):
        suffix = "_reverse" if number else ""
        for place, layer in enumerate(layers, 1):
            key, array = constants[place]
            prepared.arrays[f"{layer}{suffix}.weight"] = (f"{key} {number}", array[number])
        weights.append(suffix)
        if 3 in constants:
            key, array = constants[3]
            for layer, half in zip(layers, np.split(array[number], 2), strict=True):
                prepared.arrays[f"{layer}{suffix}.bias"] = (f"{key} {number} {layer}", half)
            biases.append(tuple(f"{layer}{suffix}.bias" for layer in layers))
    for place, layer in enumerate(layers, 1):
        prepared.held[place] = tuple(f"{layer}{suffix}.weight" for suffix in weights)
    if biases:
        prepared.held[3] = tuple(biases)


_PREPARATIONS: Mapping[str, Preparation] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "PRelu": _prelu,
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
}


def wants_known(node: OnnxNode, place: int, array: Known) -> bool:
    """Whether a constant is given to an operation as a known array, not as a tensor."""
    numbers: Mapping[str, Any] = {"Resize": (1, 2, 3), "Upsample": (1,), "Pad": (2,), "Clip": (1, 2), "OneHot": (2,)}
    if not _is_number(array):
        return array.size <= LARGEST_KNOWN
    return array.size <= 1 or place in numbers.get(node.op, ())


def as_tensor(array: Known) -> torch.Tensor:
    """A constant as a tensor of its own; NumPy itself has no bfloat16."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def as_array(value: torch.Tensor) -> Known:
    """A constant as an array."""
    value = value.detach().contiguous()
    if value.dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        return np.asarray(value.view(torch.int16).numpy()).view(bfloat16)
    return np.asarray(value.numpy())
