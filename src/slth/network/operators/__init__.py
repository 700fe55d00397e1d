"""The operations that a network may hold: one file a family, one line of registration each."""

from __future__ import annotations

from slth.network.operators.activation import ELEMENTWISE, Elementwise, Own, operation_of
from slth.network.operators.affine import WEIGHT_OPERATORS, Conv, Linear, WeightOperator
from slth.network.operators.base import Operator
from slth.network.operators.pooling import AveragePool, MaxPool
from slth.network.operators.shape import Pad, Reshape

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (*WEIGHT_OPERATORS.values(), *ELEMENTWISE, MaxPool(), AveragePool(), Reshape(), Pad())
}

__all__ = [
    "OPERATORS",
    "WEIGHT_OPERATORS",
    "Conv",
    "Elementwise",
    "Linear",
    "Operator",
    "Own",
    "WeightOperator",
    "operation_of",
]
