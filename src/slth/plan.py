"""Stage 3: Target + wishes -> Plan. Nothing random happens here, and nothing of the source is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from slth.bounds.base_sets import choose_scale, covering_size, sufficient_size
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target, WeightLayer

LARGEST_BASE_SET = 40
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
        Of the combining weights' law.
    """

    name: str
    groups: int
    input_sign: Sign
    block_width: int
    scale: float


@dataclass(frozen=True)
class Plan:
    """A construction's sizes, fixed before anything is drawn."""

    construction: str
    base_set_size: int
    tolerance: float | None
    objective: Objective
    initialisation: str
    domain: Domain
    layers: tuple[LayerPlan, ...]


def make_plan(
    target: Target,
    *,
    base_set_size: int,
    tolerance: float | None,
    objective: str,
    initialisation: str,
    domain: Domain,
    construction: str = "two-for-one",
) -> Plan:
    """Block widths and scales of the source, layer by layer.

    The ``base_set_size`` is the expected number of *usable* elements. Half of the uniform draws have the sign that a
    branch needs, so a block of 2m neurons gives m of them in expectation; with the looks-linear initialisation 2m
    neurons are m mirrored pairs, each usable.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or the base set is too small to reach the tolerance for every weight.
    """
    _check(base_set_size, tolerance, objective, initialisation)
    signs = target.input_signs(domain.sign)
    mirrored = initialisation == "looks-linear"
    magnitudes = {layer.name: _magnitudes(layer) for layer in target}
    if tolerance is not None:
        _check_reach(magnitudes, base_set_size, tolerance, mirrored)
    layers = []
    for layer in target:
        scale = choose_scale(magnitudes[layer.name], base_set_size, mirrored, tolerance)
        _check_scale(layer.name, float(magnitudes[layer.name].max(initial=0.0)), scale)
        layers.append(
            LayerPlan(
                name=layer.name,
                groups=WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes),
                input_sign=signs[layer.name],
                block_width=2 * base_set_size,
                scale=scale,
            )
        )
    return Plan(
        construction, base_set_size, tolerance, cast(Objective, objective), initialisation, domain, tuple(layers)
    )


def _magnitudes(layer: WeightLayer) -> NDArray[np.float64]:
    bias = layer.bias_array()
    parts = [layer.weight_array().ravel()] + ([] if bias is None else [bias])
    return np.abs(np.concatenate(parts))


def _check(base_set_size: int, tolerance: float | None, objective: str, initialisation: str) -> None:
    if isinstance(base_set_size, bool) or not isinstance(base_set_size, int | np.integer):
        raise ArgumentError("base_set_size", repr(base_set_size), "a whole number")
    if not 1 <= base_set_size <= LARGEST_BASE_SET:
        raise ArgumentError("base_set_size", str(base_set_size), f"1 to {LARGEST_BASE_SET}", "20, or 30 for 1e-5")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise ArgumentError("tolerance", str(tolerance), "a number above 0, in the weights' own units", "0.01")
    if objective not in OBJECTIVES:
        raise ArgumentError("objective", objective, " or ".join(OBJECTIVES))
    if objective == "sparsest" and tolerance is None:
        raise ArgumentError("objective", "sparsest without a tolerance", "a tolerance", "--tolerance 0.01")
    if initialisation not in INITIALISATIONS:
        raise ArgumentError("initialisation", initialisation, " or ".join(INITIALISATIONS))


def _check_scale(name: str, top: float, scale: float) -> None:
    if not SMALLEST_SCALE <= scale <= 1 / SMALLEST_SCALE:
        raise ArgumentError(
            f"layer {name!r}",
            f"weights up to {top:.3g}",
            f"a source scale from {SMALLEST_SCALE:.1g} to {1 / SMALLEST_SCALE:.1g}, within float32",
            "multiplying the layer by a power of 2 and dividing the next one by it, which ReLU allows",
        )


def _check_reach(
    magnitudes: Mapping[str, NDArray[np.float64]], base_set_size: int, tolerance: float, mirrored: bool
) -> None:
    """Refuse a size that cannot serve the layer with the largest weight; name one that can serve them all."""
    tops = {name: float(values.max(initial=0.0)) for name, values in magnitudes.items()}
    name = max(tops, key=tops.__getitem__)
    needed = covering_size(tops[name], tolerance)
    if base_set_size >= needed:
        return
    enough: int | None = max(needed, 1)
    for values in magnitudes.values():
        enough = None if enough is None else sufficient_size(values, tolerance, mirrored, enough, LARGEST_BASE_SET)
    remedy = (
        f"a base set of {enough}, the smallest that can be expected to, or a larger tolerance"
        if enough is not None
        else f"a larger tolerance: no base set up to {LARGEST_BASE_SET} can be expected to reach this one"
    )
    raise ArgumentError(
        f"layer {name!r}",
        f"base sets of {base_set_size} for weights up to {tops[name]:.3g} at tolerance {tolerance:g}",
        f"at least {needed} elements: 2^{base_set_size} sums cannot cover that range",
        remedy,
    )
