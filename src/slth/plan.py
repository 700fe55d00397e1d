"""Stage 3: Target + wishes -> Plan. Nothing random happens here, and nothing of the source is seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target, WeightLayer
from slth.source.distributions import Uniform
from slth.source.law import Distribution

Objective = Literal["best", "sparsest"]
OBJECTIVES = get_args(Objective)
INITIALISATIONS = ("uniform", "looks-linear")
LARGEST_SEED = 2**64 - 1
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
    block_width : int
        Intermediate neurons a block.
    scale : float
        What the combining weights are multiplied by.
    law : Distribution
        Of the source's weights.
    """

    name: str
    groups: int
    input_sign: Sign
    block_width: int
    scale: float
    law: Distribution


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
    layers: tuple[LayerPlan, ...]


@dataclass(frozen=True)
class Wishes:
    """What a person asks for, checked.

    Attributes
    ----------
    base_set_size : int or None
        None leaves it to the construction.
    tolerance : float or None
        Largest |weight - realised weight| that counts as found.
    objective : {"best", "sparsest"}
    initialisation : {"uniform", "looks-linear"}
    domain : Domain
    delta : float
        Probability with which a source as wide as a theorem asks may fail.
    """

    base_set_size: int | None
    tolerance: float | None
    objective: Objective
    initialisation: str
    domain: Domain
    delta: float

    @property
    def mirrored(self) -> bool:
        """Whether neurons come in mirrored pairs."""
        return self.initialisation == "looks-linear"


@dataclass(frozen=True)
class Size:
    """Of a layer's source: neurons a block, what combining weights are multiplied by, and the law of all weights."""

    block_width: int
    scale: float
    law: Distribution = Uniform()


class Sizing(Protocol):
    """The part of a construction that a plan needs."""

    name: str
    default_size: int
    largest_size: int
    initialisations: tuple[str, ...]

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse wishes that no draw can fulfil."""

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, size: int) -> Size:
        """Block width, scale and law of a layer's source."""


def make_plan(
    target: Target,
    sizing: Sizing,
    *,
    base_set_size: int | None = None,
    tolerance: float | None = None,
    objective: str = "best",
    initialisation: str = "uniform",
    domain: Domain,
    delta: float = 0.05,
) -> Plan:
    """Block widths and scales of the source, layer by layer.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or no draw could reach the tolerance for every weight.
    """
    size = sizing.default_size if base_set_size is None else base_set_size
    _check(sizing, size, tolerance, objective, initialisation, delta)
    wishes = Wishes(base_set_size, tolerance, cast(Objective, objective), initialisation, domain, delta)
    signs = target.input_signs(domain.sign)
    sizing.check(target, wishes, size)
    layers = []
    for layer in target:
        made = sizing.size(layer, signs[layer.name], wishes, size)
        _check_scale(layer.name, float(magnitudes(layer).max(initial=0.0)), made.scale)
        groups = WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes)
        layers.append(LayerPlan(layer.name, groups, signs[layer.name], made.block_width, made.scale, made.law))
    return Plan(sizing.name, size, tolerance, wishes.objective, initialisation, domain, delta, tuple(layers))


def magnitudes(layer: WeightLayer) -> NDArray[np.float64]:
    """Absolute values of a layer's weights and biases, (weights,)."""
    bias = layer.bias_array()
    parts = [layer.weight_array().ravel()] + ([] if bias is None else [bias])
    return np.abs(np.concatenate(parts))


def _check(
    sizing: Sizing, size: int, tolerance: float | None, objective: str, initialisation: str, delta: float
) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise ArgumentError("base_set_size", repr(size), "a whole number")
    if not 1 <= size <= sizing.largest_size:
        need = f"1 to {sizing.largest_size} with the construction {sizing.name!r}"
        raise ArgumentError("base_set_size", str(size), need, f"{sizing.default_size}")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise ArgumentError("tolerance", str(tolerance), "a number above 0, in the weights' own units", "0.01")
    if objective not in OBJECTIVES:
        raise ArgumentError("objective", objective, " or ".join(OBJECTIVES))
    if objective == "sparsest" and tolerance is None:
        raise ArgumentError("objective", "sparsest without a tolerance", "a tolerance", "--tolerance 0.01")
    if initialisation not in INITIALISATIONS:
        raise ArgumentError("initialisation", initialisation, " or ".join(INITIALISATIONS))
    if initialisation not in sizing.initialisations:
        need = f"{' or '.join(sizing.initialisations)} with the construction {sizing.name!r}"
        raise ArgumentError("initialisation", initialisation, need, "--construction two-for-one")
    if not 0 < delta < 1:
        raise ArgumentError("delta", str(delta), "a probability above 0 and below 1", "0.05")


def _check_scale(name: str, top: float, scale: float) -> None:
    if not SMALLEST_SCALE <= scale <= 1 / SMALLEST_SCALE:
        raise ArgumentError(
            f"layer {name!r}",
            f"weights up to {top:.3g}",
            f"a source scale from {SMALLEST_SCALE:.1g} to {1 / SMALLEST_SCALE:.1g}, within float32",
            "multiplying the layer by a power of 2 and dividing the next one by it, which ReLU allows",
        )
