"""Tensors as plain JSON values and back, the digest of inputs, and the names of fields."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch

from slth.errors import ArgumentError

_MOST_NUMBERS = 1 << 24
"""Of one tensor in a file (chosen)."""


def digest_of(inputs: torch.Tensor) -> str:
    """SHA-256 of the number of inputs and of their entries in order, as float64, whatever the shape of one."""
    flat = np.ascontiguousarray(inputs.detach().to(torch.float64).flatten(1).numpy())
    return hashlib.sha256(f"{len(flat)}:".encode() + flat.astype("<f8").tobytes()).hexdigest()


def numbers(tensor: torch.Tensor) -> Any:
    """One number where all are the same, else their list and their shape."""
    flat = tensor.flatten().tolist()
    if flat.count(flat[0]) == len(flat):
        return flat[0]
    return {"shape": list(tensor.shape), "values": flat}


def read(value: Any) -> torch.Tensor:
    """The tensor that :func:`numbers` wrote."""
    need = "a number, or an object of shape and values"
    if isinstance(value, dict):
        check_names("domain", set(value), {"shape", "values"}, set())
        shape, values = value["shape"], value["values"]
        if not isinstance(shape, list) or not isinstance(values, list) or len(values) > _MOST_NUMBERS:
            raise ArgumentError("domain", "a shape and values that are no lists", need)
        if not all(type(size) is int and size > 0 for size in shape) or math.prod(shape) != len(values):
            raise ArgumentError("domain", f"{len(values)} values for the shape {shape}"[:80], need)
        flat = values
    else:
        shape, flat = [], [value]
    if not all(type(entry) in (int, float) and math.isfinite(entry) for entry in flat):
        raise ArgumentError("domain", "something that is not a finite number", need)
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def check_names(where: str, names: set[str], needed: set[str], allowed: set[str]) -> None:
    wrong = sorted(needed - names) or sorted(names - needed - allowed)
    if wrong:
        got = f"no field {wrong[0]!r}" if wrong[0] in needed else f"an unknown field {wrong[0]!r}"
        raise ArgumentError(where, got, f"the fields {', '.join(sorted(needed))}")
