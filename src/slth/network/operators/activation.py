"""Activations between the weight layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slth.network.graph import Sign
from slth.network.operators.base import Operator


class Relu(Operator):
    """max(0, x)."""

    name = "relu"
    aten = ("relu", "relu_")

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """``torch.nn.ReLU``."""
        return torch.nn.ReLU()

    def sign(self, sign: Sign) -> Sign:
        """Never negative."""
        return Sign.NONNEGATIVE

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The input's."""
        return shape
