"""Activations and layer normalisation that exporters write as several ONNX operations, put together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slth.network.onnx_operators import Known

if TYPE_CHECKING:
    import onnx

Found = tuple[str, list[str], dict[str, Any]]
"""An operation, its inputs and its attributes."""

_MOST_FACTORS = 5


@dataclass(frozen=True)
class Product:
    """A number times values, by their names in order."""

    number: float
    values: tuple[str, ...]


class Nodes:
    """What makes every value of a graph.

    Parameters
    ----------
    nodes : sequence of NodeProto
    constants : mapping of str to array
    """

    def __init__(self, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Known]) -> None:
        self.makers = {name: node for node in nodes for name in node.output if name}
        self.constants = constants

    def maker(self, name: str, op: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is of that operation."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op else None

    def number(self, name: str) -> float | None:
        """A constant of one entry."""
        array = self.constants.get(name)
        return None if array is None or array.size != 1 or array.dtype.kind in "b" else float(array.reshape(-1)[0])

    def product(self, name: str) -> Product:
        """A value as a product of numbers and of values that are none."""
        number = 1.0
        values: list[str] = []
        waiting = [name]
        while waiting:
            current = waiting.pop()
            own = self.number(current)
            if own is not None:
                number *= own
                continue
            times, over = self.maker(current, "Mul"), self.maker(current, "Div")
            divisor = None if over is None else self.number(over.input[1])
            if times is not None and len(waiting) + len(values) < _MOST_FACTORS:
                waiting += times.input
            elif over is not None and divisor:
                number /= divisor
                waiting.append(over.input[0])
            else:
                values.append(current)
        return Product(number, tuple(sorted(values)))

    def plus(self, name: str) -> tuple[str, float] | None:
        """A value that is another one plus a number."""
        node = self.maker(name, "Add")
        for one, other in ((0, 1), (1, 0)) if node is not None else ():
            number = self.number(node.input[other])  # type: ignore[union-attr]
            if number is not None:
                return str(node.input[one]), number  # type: ignore[union-attr]
        return None


def recognised(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Known]) -> list[onnx.NodeProto]:
    """The nodes, some replaced by single ones that compute the same; what only those read is of no more use."""
    from onnx import helper

    graph, result = Nodes(nodes, constants), []
    for node in nodes:
        found = next(filter(None, (pattern(graph, node) for pattern in _PATTERNS.get(node.op_type, ()))), None)
        if found is not None:
            op, inputs, attributes = found
            made = helper.make_node(op, inputs, [node.output[0]], name=node.name, **attributes)
            made.metadata_props.extend(node.metadata_props)
            node = made
        result.append(node)
    return result


def _near(number: float | None, wanted: float) -> bool:
    return number is not None and math.isclose(number, wanted, rel_tol=1e-5)


def _pairs(product: Product) -> Iterable[tuple[str, str]]:
    """Two factors, either way."""
    if len(product.values) == 2:
        yield product.values[0], product.values[1]
        yield product.values[1], product.values[0]


def _gated(graph: Nodes, node: onnx.NodeProto) -> Found | None:
    """x times something of x: SiLU, hard swish, Mish, both forms of GELU."""
    product = graph.product(node.output[0])
    for x, gate in _pairs(product):
        for op, factor, is_gate in _GATES:
            if _near(product.number, factor) and is_gate(graph, x, gate):
                tanh = {"approximate": "tanh"} if is_gate is _tanh_gate else {}
                return op, [x], tanh
    return None


def _sigmoid_gate(graph: Nodes, x: str, gate: str) -> bool:
    node = graph.maker(gate, "Sigmoid")
    return node is not None and node.input[0] == x


def _hard_gate(graph: Nodes, x: str, gate: str) -> bool:
    node = graph.maker(gate, "HardSigmoid")
    if node is None or node.input[0] != x:
        return False
    attributes = {entry.name: entry.f for entry in node.attribute}
    return _near(attributes.get("alpha", 0.2), 1 / 6) and _near(attributes.get("beta", 0.5), 0.5)


def _clipped_gate(graph: Nodes, x: str, gate: str) -> bool:
    node = graph.maker(gate, "Clip")
    if node is None:
        return False
    attributes = {entry.name: entry.f for entry in node.attribute}
    edges = [attributes.get("min"), attributes.get("max")]
    edges = [graph.number(name) if name else edge for name, edge in zip([*node.input[1:], "", ""], edges, strict=False)]
    return graph.plus(node.input[0]) == (x, 3.0) and edges == [0.0, 6.0]


def _mish_gate(graph: Nodes, x: str, gate: str) -> bool:
    node = graph.maker(gate, "Tanh")
    inner = None if node is None else graph.maker(node.input[0], "Softplus")
    return inner is not None and inner.input[0] == x


def _error_gate(graph: Nodes, x: str, gate: str) -> bool:
    """1 + erf(x / sqrt 2)."""
    node = graph.maker((graph.plus(gate) or ("", 0.0))[0], "Erf")
    if node is None or (graph.plus(gate) or ("", 0.0))[1] != 1:
        return False
    inner = graph.product(node.input[0])
    return inner.values == (x,) and _near(inner.number, math.sqrt(0.5))


def _tanh_gate(graph: Nodes, x: str, gate: str) -> bool:
    """1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    node = graph.maker((graph.plus(gate) or ("", 0.0))[0], "Tanh")
    if node is None or (graph.plus(gate) or ("", 0.0))[1] != 1:
        return False
    outer = graph.product(node.input[0])
    total = graph.maker(outer.values[0], "Add") if len(outer.values) == 1 else None
    if total is None or not _near(outer.number, math.sqrt(2 / math.pi)) or x not in total.input:
        return False
    cubic = graph.product(next(name for name in reversed(total.input) if name != x or total.input[0] == total.input[1]))
    return _near(cubic.number, 0.044715) and _is_cube(graph, x, cubic.values)


def _is_cube(graph: Nodes, x: str, values: tuple[str, ...]) -> bool:
    power = graph.maker(values[0], "Pow") if len(values) == 1 else None
    return values == (x, x, x) or (power is not None and power.input[0] == x and graph.number(power.input[1]) == 3)


_GATES: Sequence[tuple[str, float, Callable[[Nodes, str, str], bool]]] = (
    ("Swish", 1.0, _sigmoid_gate),
    ("HardSwish", 1.0, _hard_gate),
    ("HardSwish", 1 / 6, _clipped_gate),
    ("Mish", 1.0, _mish_gate),
    ("Gelu", 0.5, _error_gate),
    ("Gelu", 0.5, _tanh_gate),
)
"""What x times a gate times a number is."""


def _layer_norm(graph: Nodes, node: onnx.NodeProto) -> Found | None:
    """(x - mean) / sqrt(variance + epsilon) w + b, over the last axis."""
    scaled = next((name for name in node.input if graph.maker(name, "Mul")), "")
    times, shift = graph.maker(scaled, "Mul"), next((name for name in node.input if _is_row(graph, name)), "")
    if times is None or not shift:
        return None
    scale = next((name for name in times.input if _is_row(graph, name)), "")
    ratio = graph.maker(next((name for name in times.input if name != scale), ""), "Div")
    if not scale or ratio is None or graph.constants[scale].shape != graph.constants[shift].shape:
        return None
    centred, root = graph.maker(ratio.input[0], "Sub"), graph.maker(ratio.input[1], "Sqrt")
    if centred is None or root is None or _mean_of(graph, centred.input[1]) != centred.input[0]:
        return None
    variance = graph.plus(root.input[0])
    square = None if variance is None else _mean_of(graph, variance[0])
    if variance is None or square is None or not _is_square(graph, square, centred.output[0]):
        return None
    return "LayerNormalization", [centred.input[0], scale, shift], {"axis": -1, "epsilon": variance[1]}


def _is_row(graph: Nodes, name: str) -> bool:
    array = graph.constants.get(name)
    return array is not None and array.ndim == 1 and array.dtype.kind not in "iub"


def _mean_of(graph: Nodes, name: str) -> str | None:
    """What a value is the mean of, over the last axis, which stays."""
    node = graph.maker(name, "ReduceMean")
    if node is None:
        return None
    attributes = {entry.name: [*entry.ints] or entry.i for entry in node.attribute}
    axes = attributes.get("axes", graph.constants[node.input[1]].tolist() if len(node.input) > 1 else None)
    return str(node.input[0]) if axes == [-1] and attributes.get("keepdims", 1) == 1 else None


def _is_square(graph: Nodes, name: str, root: str) -> bool:
    power, times = graph.maker(name, "Pow"), graph.maker(name, "Mul")
    if power is not None:
        return power.input[0] == root and graph.number(power.input[1]) == 2
    return times is not None and [*times.input] == [root, root]


_PATTERNS: Mapping[str, Sequence[Callable[[Nodes, Any], Found | None]]] = {
    "Mul": (_gated,),
    "Div": (_gated,),
    "Add": (_layer_norm,),
}
"""By the last of the operations, what they may be together."""
