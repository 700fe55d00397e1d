"""Stage 3: Target + wishes -> Plan. Nothing random happens here, and nothing of the source is seen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from slth.activations import Activation, check_first_layer
from slth.activations.registry import relu
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, WeightOperator
from slth.network.operators.activation import Elementwise
from slth.network.operators.ranges import Range, range_of, reach_of
from slth.network.target import Target, WeightLayer
from slth.source.distributions import Uniform
from slth.source.law import Distribution
from slth.source.spec import PLAIN

Objective = Literal["best", "sparsest"]
OBJECTIVES = get_args(Objective)
INITIALISATIONS = ("uniform", "looks-linear")
LARGEST_SEED = 2**64 - 1
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
SMALLEST_SCALE = 2.0**-102
"""At this scale the smallest combining weight, 2^-24 of it, is still a normal float32."""


@dataclass(frozen=True)
class LayerPlan:
    """How one target layer will be realised.

    Attributes
    ----------
    name : str
        The target layer's.
    groups : int
        Its groups.
    input_sign : Sign
        What is known of its input: a sign that cannot occur needs no subset sums.
    tolerance : float or None
        Error of a weight that its source is made for.
    block_width : int
        Intermediate neurons a block.
    scale : float
        What the combining weights are multiplied by.
    law : Distribution
        Of the source's weights.
    activation : Activation
        Between the two source layers.
    expand_scale : float
        What the expanding weights are multiplied by.
    within : float or None
        Error up to which a weight takes the fewest elements; None where it takes those with the least error.
    own : mapping
        Fields of the source layer that its layout alone has.
    """

    name: str
    groups: int
    input_sign: Sign
    tolerance: float | None
    block_width: int
    scale: float
    law: Distribution
    activation: Activation
    expand_scale: float
    within: float | None = None
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A construction's sizes, fixed before anything is drawn."""

    construction: str
    base_set_size: int
    tolerance: float | None
    objective: Objective
    initialisation: str
    domain: Domain
    delta: float
    settings: Mapping[str, Any]
    n_weights: int
    layers: tuple[LayerPlan, ...]


@dataclass(frozen=True)
class Wishes:
    """What a person asks for.

    Attributes
    ----------
    base_set_size : int, optional
        None leaves it to the construction.
    tolerance : float, optional
        Largest |weight - realised weight| that counts as found.
    objective : {"best", "sparsest"}
    initialisation : {"uniform", "looks-linear"}
    domain : Domain
    delta : float
        Probability with which a source as wide as a theorem asks may fail.
    activation : Activation
        Between the two source layers.
    activation_error : float
        How far the activation may be from its lines, relative to them, wherever inputs may be.
    law : Distribution
        Of the source's weights, where the construction leaves it open.
    settings : mapping
        What the construction alone knows, checked by it.
    reaches : mapping of str to float
        For each layer a bound on the magnitude of its input; infinite without a domain. :func:`make_plan` knows it.
    unbounded : str
        The first node of whose output no bound is known though there is one of what it reads. :func:`make_plan` knows
        it.
    n_weights : int
        Of the whole target, over which a probability of failure is split. :func:`make_plan` knows it.
    """

    base_set_size: int | None = None
    tolerance: float | None = None
    objective: str = "best"
    initialisation: str = "uniform"
    domain: Domain = dataclasses.field(default_factory=Domain)
    delta: float = 0.05
    activation: Activation = dataclasses.field(default_factory=relu)
    activation_error: float = 1e-6
    law: Distribution = PLAIN
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reaches: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unbounded: str = ""
    n_weights: int = 0

    @property
    def mirrored(self) -> bool:
        """Whether neurons come in mirrored pairs."""
        return self.initialisation == "looks-linear"


@dataclass(frozen=True)
class Goal:
    """What is asked of one layer: the size of its base sets, and the error of a weight that they should reach.

    With ``within`` the fewest elements are asked for whose error is no larger, in place of the least error.
    """

    base_set_size: int
    tolerance: float | None = None
    within: float | None = None


@dataclass(frozen=True)
class Size:
    """Of a layer's source: neurons a block, what combining and expanding weights are multiplied by, and their law.

    ``drawn_scale`` is what the law itself multiplies the combining weights by, before any factor; ``own`` are fields
    that its layout alone has.
    """

    block_width: int
    scale: float
    law: Distribution = PLAIN
    expand_scale: float = 1.0
    drawn_scale: float = 1.0
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Sizing(Protocol):
    """The part of a construction that a plan needs."""

    name: str
    default_size: int
    largest_size: int
    initialisations: tuple[str, ...]
    any_activation: bool
    any_law: bool
    settings: Mapping[str, Any]

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse wishes that no draw can fulfil."""

    def sizes(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
        """Block width, scale and law of every layer's source."""

    def transfer(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, sizes: Sequence[Size]) -> list[Size]:
        """The sizes with factors in place of scales, for a law that has scales of its own."""


def make_plan(target: Target, sizing: Sizing, wishes: Wishes, goals: Sequence[Goal] | None = None) -> Plan:
    """Block widths and scales of the source, layer by layer.

    Parameters
    ----------
    target : Target
    sizing : Sizing
        The construction.
    wishes : Wishes
    goals : sequence of Goal, optional
        One for each layer, in place of the same for all.

    Raises
    ------
    ArgumentError
        If a wish is out of range, or no draw could reach the tolerance for every weight.
    """
    size = sizing.default_size if wishes.base_set_size is None else wishes.base_set_size
    size = max(goal.base_set_size for goal in goals) if goals else size
    _check(sizing, size, wishes, by_layer=goals is not None)
    reaches, unbounded = _reaches(target, wishes.domain)
    wishes = replace(
        wishes,
        reaches=reaches,
        unbounded=unbounded,
        settings=_own_settings(sizing, wishes.settings),
        n_weights=target.n_weights,
    )
    within = wishes.tolerance if wishes.objective == "sparsest" else None
    goals = goals or [Goal(int(size), wishes.tolerance, within)] * len(target.layers)
    signs = target.input_signs(wishes.domain.sign)
    sizing.check(target, wishes, size)
    made = sizing.sizes(target, signs, wishes, goals)
    if wishes.law.by_shape:
        for layer, plain in zip(target, made, strict=True):
            _check_scale(layer.name, float(magnitudes(layer).max(initial=0.0)), plain.scale)
        made = sizing.transfer(target, signs, wishes, made)
    return Plan(
        sizing.name,
        size,
        wishes.tolerance,
        cast(Objective, wishes.objective),
        wishes.initialisation,
        wishes.domain,
        wishes.delta,
        wishes.settings,
        target.n_weights,
        tuple(
            _layer_plan(layer, signs[layer.name], wishes, goal, size)
            for layer, goal, size in zip(target, goals, made, strict=True)
        ),
    )


def _layer_plan(layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal, size: Size) -> LayerPlan:
    if size.expand_scale < SMALLEST_SCALE:
        got = f"{wishes.activation.text}, and inputs that may be as large as {wishes.reaches[layer.name]:.3g}"
        need = "inputs on which it is a line to within the activation error"
        raise ArgumentError(f"layer {layer.name!r}", got, need, "relu between the source layers, or a smaller domain")
    _check_scale(layer.name, float(magnitudes(layer).max(initial=0.0)), size.scale * size.drawn_scale)
    return LayerPlan(
        name=layer.name,
        groups=WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes),
        input_sign=sign,
        tolerance=goal.tolerance,
        block_width=size.block_width,
        scale=size.scale,
        law=size.law,
        activation=wishes.activation,
        expand_scale=size.expand_scale,
        within=goal.within,
        own=size.own,
    )


def magnitudes(layer: WeightLayer) -> NDArray[np.float64]:
    """Absolute values of a layer's weights and biases, (weights,)."""
    bias = layer.bias_array()
    parts = [layer.weight_array().ravel()] + ([] if bias is None else [bias])
    return np.abs(np.concatenate(parts))


def _check(sizing: Sizing, size: int, wishes: Wishes, by_layer: bool) -> None:
    tolerance, objective, initialisation = wishes.tolerance, wishes.objective, wishes.initialisation
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise ArgumentError("base_set_size", repr(size), "a whole number")
    if not 1 <= size <= sizing.largest_size:
        need = f"1 to {sizing.largest_size} with the construction {sizing.name!r}"
        raise ArgumentError("base_set_size", str(size), need, f"{sizing.default_size}")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise ArgumentError("tolerance", str(tolerance), "a number above 0, in the weights' own units", "0.01")
    check_objective(objective)
    if objective == "sparsest" and tolerance is None and not by_layer:
        raise ArgumentError("objective", "sparsest without a tolerance", "a tolerance", "--tolerance 0.01")
    if initialisation not in INITIALISATIONS:
        raise ArgumentError("initialisation", initialisation, " or ".join(INITIALISATIONS))
    if initialisation not in sizing.initialisations:
        need = f"{' or '.join(sizing.initialisations)} with the construction {sizing.name!r}"
        raise ArgumentError("initialisation", initialisation, need, "--construction two-for-one")
    if not 0 < wishes.delta < 1:
        raise ArgumentError("delta", str(wishes.delta), "a probability above 0 and below 1", "0.05")
    _check_source(sizing, wishes.activation, wishes.activation_error, wishes.law)


def check_objective(objective: str) -> None:
    """Refuse what is none.

    Raises
    ------
    ArgumentError
    """
    if objective not in OBJECTIVES:
        raise ArgumentError("objective", objective, " or ".join(OBJECTIVES))


def _own_settings(sizing: Sizing, given: Mapping[str, Any]) -> dict[str, Any]:
    """The construction's own settings, the given ones in place of its defaults."""
    for name in given:
        if name not in sizing.settings:
            known = ", ".join(sizing.settings) or "no settings of its own"
            raise ArgumentError("settings", name, f"{known}, with the construction {sizing.name!r}")
    return {**sizing.settings, **given}


def _check_source(sizing: Sizing, activation: Activation, activation_error: float, law: Distribution) -> None:
    remedy = "--construction two-for-one"
    if activation.name != "relu" and not sizing.any_activation:
        need = f"relu between the source layers of the construction {sizing.name!r}"
        raise ArgumentError("source activation", activation.text, need, remedy)
    if law.name != Uniform.name and not sizing.any_law:
        need = f"the law that the construction {sizing.name!r} prescribes"
        raise ArgumentError("distribution", law.label, need, remedy)
    check_first_layer(activation)
    if not 0 < activation_error < 1:
        raise ArgumentError("activation_error", str(activation_error), "a share above 0 and below 1", "1e-6")


def input_reaches(target: Target, domain: Domain) -> dict[str, float]:
    """For each weight layer a bound on the magnitude of its input; infinite where none is known."""
    return _reaches(target, domain)[0]


def _reaches(target: Target, domain: Domain) -> tuple[dict[str, float], str]:
    """The same, and the first node that gives any number although it reads none without a bound; empty without one."""
    graph, layers = target.graph, {layer.name: layer for layer in target}
    ranges, signs = {INPUT: _range(_input_reach(target, domain), domain.sign)}, {INPUT: domain.sign}
    found, unbounded = dict[str, float](), ""
    for node in graph:
        operator, read = OPERATORS[node.op], [ranges[source] for source in node.sources]
        own = [reach_of(range_) for range_ in read]
        signs[node.name] = operator.signs(node.attributes, [signs[source] for source in node.sources])
        reach = max(own, default=1.0)
        if isinstance(operator, WeightOperator):
            reach = operator.core_reach(node.attributes, own)
            found[node.weights] = max(found.get(node.weights, 0.0), reach)
            if math.isfinite(reach):
                rows = np.abs(layers[node.weights].weight_array()).sum(axis=(1, 2)) * reach
                bias = layers[node.weights].bias_array()
                reach = float((rows + (0.0 if bias is None else np.abs(bias))).max())
            reach = operator.reach(node.attributes, own, reach)
        elif isinstance(operator, Elementwise):
            phi = operator.activation(node.attributes)
            reach = abs(phi.d) + phi.lipschitz * reach + phi.jump if math.isfinite(reach) else reach
        ranges[node.name] = _range(reach, signs[node.name])
        if node.op == "kept":
            value = target.kept[node.name].double()
            ranges[node.name] = float(value.min()), float(value.max())
        elif node.op == "function":
            ranges[node.name] = range_of(node, read, [graph.layout_of(source) for source in node.sources])
        if not unbounded and all(map(math.isfinite, own)) and not math.isfinite(reach_of(ranges[node.name])):
            unbounded = node.name
    return found, unbounded


def _input_reach(target: Target, domain: Domain) -> float:
    if target.graph.classes:
        return float(target.graph.classes - 1)
    if domain.lower is None or domain.upper is None:
        return math.inf
    return float(torch.maximum(domain.lower.abs().max(), domain.upper.abs().max()))


def _range(reach: float, sign: Sign) -> Range:
    """Numbers of a sign that are no larger."""
    return (0.0 if sign is Sign.NONNEGATIVE else -reach, 0.0 if sign is Sign.NONPOSITIVE else reach)


def _check_scale(name: str, top: float, scale: float) -> None:
    if not SMALLEST_SCALE <= scale <= 1 / SMALLEST_SCALE:
        raise ArgumentError(
            f"layer {name!r}",
            f"weights up to {top:.3g}",
            f"a source scale from {SMALLEST_SCALE:.1g} to {1 / SMALLEST_SCALE:.1g}, within float32",
            "multiplying the layer by a power of 2 and dividing the next one by it, which ReLU allows",
        )
