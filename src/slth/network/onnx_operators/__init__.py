"""What ONNX operations are in torch: one file a family, one registration each."""

from __future__ import annotations

from slth.network.onnx_operators import (
    arithmetic,
    indexing,
    known,
    layers,
    quantising,
    recurrent,
    reducing,
    resizing,
    shaping,
    windows,
)
from slth.network.onnx_operators.base import FUNCTIONS, ON_KNOWN, PARAMETERS, Known, OnnxNode, Value

__all__ = [
    "FUNCTIONS",
    "ON_KNOWN",
    "PARAMETERS",
    "Known",
    "OnnxNode",
    "Value",
    "arithmetic",
    "indexing",
    "known",
    "layers",
    "quantising",
    "recurrent",
    "reducing",
    "resizing",
    "shaping",
    "windows",
]
