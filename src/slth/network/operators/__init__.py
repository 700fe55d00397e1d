"""The operations that a network may hold: one file a family, one line of registration each."""

from __future__ import annotations

from slth.network.operators.activation import ELEMENTWISE, Elementwise, Own, operation_of
from slth.network.operators.affine import OPERATORS_OF_WEIGHTS, Conv, Linear, WeightOperator
from slth.network.operators.base import Operator
from slth.network.operators.function import FUNCTIONS, Function, Kept
from slth.network.operators.pooling import AveragePool, MaxPool
from slth.network.operators.recurrent import Recurrent
from slth.network.operators.shape import Join, Pad, Reshape
from slth.network.operators.wrapped import WRAPPED

WEIGHT_OPERATORS: dict[str, WeightOperator] = OPERATORS_OF_WEIGHTS
"""All operations with weights."""
WEIGHT_OPERATORS.update({operator.name: operator for operator in (*WRAPPED, Recurrent())})

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        *(*WEIGHT_OPERATORS.values(), *ELEMENTWISE, MaxPool(), AveragePool(), Reshape(), Pad()),
        *(Join(), Function(), Kept()),
    )
}

__all__ = [
    "FUNCTIONS",
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
