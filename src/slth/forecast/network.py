"""A target as the theorems see it: widths, norms and activations of its layers, and how large its inputs are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from slth.activations import Activation, composed
from slth.bounds.shape import LARGEST_WORK, LINEAR, Layer, Shape
from slth.bounds.theorem import Assumption
from slth.certify.propagation import RULES
from slth.certify.state import State
from slth.domain import Domain
from slth.network.chain import broken_at
from slth.network.graph import INPUT, Graph, Node, Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise
from slth.network.target import Target, WeightLayer

UNIT_BALL = "the unit ball ‖x‖_2 <= 1"
LARGEST_SAMPLE = 1_000_000
"""Weights of a layer that stand for all of a larger one in estimates (chosen)."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""


@dataclass(frozen=True)
class Described:
    """A target in numbers.

    Attributes
    ----------
    target : Target
    shape : Shape
        Everything that the theorems look at.
    spectral_exact : tuple of bool
        By layer, whether ‖W‖_2 is the largest singular value itself and not an upper bound of it.
    signs : tuple of Sign
        Of every layer's input.
    domain : str
        The inputs, in words.
    expansions : tuple of str
        Operations between the layers that may make a 1-norm or 2-norm larger, with their factor on the 1-norm.
    unlike : Assumption or None
        That the network is a chain of layers, which all theorems speak of, where it is none: then the shape has the
        layers' own numbers and those of the input, and nothing of how one follows on the other.
    """

    target: Target
    shape: Shape
    spectral_exact: tuple[bool, ...]
    signs: tuple[Sign, ...]
    domain: str
    expansions: tuple[str, ...]
    unlike: Assumption | None = None

    @cached_property
    def magnitudes(self) -> tuple[NDArray[np.float64], ...]:
        """Absolute values of each layer's weights, without its biases; of a very large layer every n-th of them."""
        weights = (layer.weight.detach().reshape(-1) for layer in self.target)
        samples = (weight[:: -(-weight.numel() // LARGEST_SAMPLE)] for weight in weights)
        return tuple(np.abs(sample.to(torch.float64).numpy()) for sample in samples)

    @property
    def expansion(self) -> tuple[Assumption, ...]:
        """What theorems in the 1-norm or 2-norm assume of operations that they do not mention; empty without any."""
        names = {node.op for node in self.target.graph} & {"max_pool", "average_pool", "pad"}
        if not names:
            return ()
        text, remedy = "pooling and padding expand no norm", "windows that do not overlap, and zeros for padding"
        got = self.expansions[0] if self.expansions else "none does"
        return (Assumption(text, not self.expansions, got, remedy if self.expansions else ""),)


def describe(target: Target, domain: Domain, on_progress: Progress | None = None) -> Described:
    """Measure a target.

    Parameters
    ----------
    target : Target
    domain : Domain
        Its inputs. All reals stand for the unit ball, which most theorems assume. The input of the theorems is what
        the first layer with weights reads.
    on_progress : callable, optional
        Called with what is done, layers measured and all of them: norms of wide layers take seconds.

    Returns
    -------
    Described
        Activations are bounded by interval arithmetic over the box around the inputs and, unless an operation expands
        norms, by the layers' norms, whichever is less.
    """
    layers = []
    for layer in target:
        layers.append(_measured(layer, _after(target.graph, layer.node)))
        if on_progress is not None:
            on_progress("norms of layers", len(layers), len(target.layers))
    unlike = _unlike(target.graph)
    if unlike is not None:
        return _branching(target, domain, layers, unlike)
    groups = _groups(target)
    lower, upper = (domain if domain.bounded else Domain.parse((-1, 1))).bounds(target.graph.input_shape)
    ranges = _ranges(target, lower, upper)
    first = ranges[0]
    # Nothing that comes before the first layer leaves the ball, unless it is an activation or expands norms.
    ball = not domain.bounded and not any(_expansion(node, target) or _elementwise(node) for node in groups[0])
    expansions = tuple(text for nodes in groups[1:] for node in nodes for text in _expansion(node, target))
    signs = target.input_signs(domain.sign)
    shape = Shape(
        layers=tuple(layers),
        input_2norm=1.0 if ball else float(first.norm()),
        input_max=1.0 if ball else float(first.max()),
        input_1norm=math.sqrt(lower.numel()) if ball else float(first.sum()),
        input_nonnegative=signs[target.layers[0].name] is Sign.NONNEGATIVE,
    )
    return Described(
        target,
        _bounded(shape, ranges, free=not expansions),
        tuple(map(_exact, target.layers, layers)),
        tuple(signs[layer.name] for layer in target),
        domain.describe() if domain.bounded else UNIT_BALL,
        expansions,
    )


def _branching(target: Target, domain: Domain, layers: Sequence[Layer], unlike: Assumption) -> Described:
    """What can be said of a network that is no chain of layers."""
    signs = target.input_signs(domain.sign)
    size, words = math.prod(target.graph.input_shape), domain.describe() if domain.bounded else UNIT_BALL
    norms = 1.0, 1.0, math.sqrt(size)
    if target.graph.classes:
        largest = float(target.graph.classes - 1)
        norms, words = (largest * math.sqrt(size), largest, largest * size), f"whole numbers up to {largest:.0f}"
    elif domain.bounded:
        lower, upper = domain.bounds(target.graph.input_shape)
        most = torch.maximum(lower.abs(), upper.abs())
        norms = float(most.norm()), float(most.max()), float(most.sum())
    shape = Shape(layers=tuple(layers), input_2norm=norms[0], input_max=norms[1], input_1norm=norms[2])
    exact, of_layers = tuple(map(_exact, target.layers, layers)), tuple(signs[layer.name] for layer in target)
    return Described(target, shape, exact, of_layers, words, (), unlike)


def _unlike(graph: Graph) -> Assumption | None:
    """The first thing for which a network is not what theorems speak of."""
    branch = broken_at(graph)
    got = None if branch is None else f"{branch[1]} at node {branch[0].name!r}"
    for node in graph:
        if got is None and node.op in WEIGHT_OPERATORS and node.op not in ("linear", "conv"):
            got = f"a layer of the kind {node.op} at node {node.name!r}"
        elif got is None and node.op in ("function", "join"):
            got = f"{node.attributes.get('function', node.op)} at node {node.name!r}"
    if got is None:
        return None
    remedy = "no theorem is about such a network; slth find makes a ticket of it, and slth verify bounds its error"
    return Assumption("a chain of layers", False, got, remedy)


def _after(graph: Graph, node: Node) -> list[Node]:
    """Operations without weights behind a layer, each of which is all that reads the one before it."""
    found: list[Node] = []
    while len(graph.consumers[node.name]) == 1:
        (node,) = graph.consumers[node.name]
        if node.op in WEIGHT_OPERATORS or node.op == "function":
            break
        found.append(node)
    return found


def _measured(layer: WeightLayer, after: Sequence[Node]) -> Layer:
    """A layer's numbers, with the activations among the operations after it."""
    activations = [_activation(node) for node in after if _elementwise(node)]
    return Layer.of_matrix(
        layer.weight.detach().to(torch.float64).numpy(),
        layer.bias_array(),
        groups=WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes),
        positions=positions(layer.node),
        activation=composed(activations) if activations else LINEAR,
    )


def _bounded(shape: Shape, ranges: Sequence[torch.Tensor], free: bool) -> Shape:
    """The shape with the least bounds known on its activations; those by norms only hold ``free`` of expansions."""
    sums = [float(size.sum()) for size in ranges]
    largest = max(float(size.max()) for size in ranges)
    if free:
        sums = [min(pair) for pair in zip(sums, shape.activation_bounds("1"), strict=True)]
        largest = min(largest, shape.largest_activation)
    return replace(shape, activation_1norms=tuple(sums), activation_max=largest)


def _groups(target: Target) -> list[list[Node]]:
    """Operations without weights: before the first layer, after it, and so on."""
    groups: list[list[Node]] = [[]]
    for node in target.graph:
        if node.op in WEIGHT_OPERATORS:
            groups.append([])
        else:
            groups[-1].append(node)
    return groups


def positions(node: Node) -> int:
    """Places where a layer's output lies: pixels of a convolution, rows that a Linear layer is applied to, steps."""
    if node.op == "recurrent":
        return abs(math.prod(node.shape[:-1]))
    return abs(math.prod(node.shape)) // int(node.attributes["weight_shape"][0])


def _exact(layer: WeightLayer, described: Layer) -> bool:
    """As :meth:`Layer.of_matrix` decides: singular values of matrices that are not too large."""
    side = min(layer.weight.shape[0] // described.groups, layer.weight.shape[1])
    return described.taps == 1 and described.groups * side**3 <= LARGEST_WORK


def _elementwise(node: Node) -> bool:
    return isinstance(OPERATORS[node.op], Elementwise)


def _activation(node: Node) -> Activation:
    operator = OPERATORS[node.op]
    assert isinstance(operator, Elementwise)
    return operator.activation(node.attributes)


def _expansion(node: Node, target: Target) -> list[str]:
    """In words, if the operation can make a 1-norm larger."""
    before = target.graph.shape_of(node.source)
    gain = 1.0
    if node.op == "max_pool":
        windows = zip(node.attributes["kernel"], node.attributes["stride"], strict=True)
        gain = float(math.prod(math.ceil(kernel / stride) for kernel, stride in windows))
    elif node.op in ("average_pool", "pad"):
        # Both are linear without negative coefficients: the gradient of the sum holds the column sums.
        ones = torch.ones((1, *before), dtype=torch.float64, requires_grad=True)
        OPERATORS[node.op].module(node.attributes)(ones).sum().backward()
        assert ones.grad is not None
        gain = float(ones.grad.max())
    return [f"{node.op} {node.name!r} may count an entry {gain:.4g} times"] if gain > 1 + 1e-9 else []


def _ranges(target: Target, lower: torch.Tensor, upper: torch.Tensor) -> list[torch.Tensor]:
    """Bounds on the magnitude of every entry of every layer's input, by interval arithmetic."""
    zero = torch.zeros_like(lower)
    states = {INPUT: State(lower, upper, zero, bool((lower >= 0).all()), bool((upper <= 0).all()))}
    layers = {layer.name: layer for layer in target}
    sizes = []
    with torch.no_grad():
        for node in target.graph:
            state = states[node.source]
            if node.name in layers:
                sizes.append(state.magnitude)
                states[node.name] = _affine(node, state, layers[node.name])
            else:
                states[node.name] = RULES[node.op](node, state)
    return sizes


def _affine(node: Node, state: State, layer: WeightLayer) -> State:
    weight, bias = layer.weight.detach().to(torch.float64), layer.bias_array()
    operator, offset = WEIGHT_OPERATORS[node.op], None if bias is None else torch.from_numpy(bias)
    middle, half = (state.lower + state.upper) / 2, (state.upper - state.lower) / 2
    centre = operator.apply(node.attributes, middle[None], weight, offset)[0]
    radius = operator.apply(node.attributes, half[None], weight.abs(), None)[0]
    return State(centre - radius, centre + radius, torch.zeros_like(centre), False, False)
