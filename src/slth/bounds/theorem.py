"""The common nouns: what a theorem asks for, which of its assumptions hold, and which constants it used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slth.bounds.exact import Number, floating, positive, ratio
from slth.bounds.shape import Layer, Shape
from slth.errors import ArgumentError

__all__ = ["Assumption", "Bound", "Constant", "Layer", "Requirement", "Shape", "Statement", "WidthBound"]

Kind = Literal["proved", "fitted", "chosen"]
Constants = Mapping[str, Number] | None

ROUNDING = 1e-9
"""A norm this much above its limit, relatively, still counts as at its limit: norms are computed in float64."""


@dataclass(frozen=True)
class Assumption:
    """Something that a theorem assumes of its target, and whether this target obeys.

    Attributes
    ----------
    text : str
        What is assumed.
    holds : bool
    got : str
        What the target has, with the name of the norm and the layer.
    remedy : str
        What would restore it; empty where nothing is broken.
    """

    text: str
    holds: bool
    got: str
    remedy: str = ""


@dataclass(frozen=True)
class Constant:
    """A constant that entered a bound.

    Attributes
    ----------
    name : str
    value : float
    kind : {"proved", "fitted", "chosen"}
        ``proved`` follows from the theorem; ``fitted`` was measured on random base sets; ``chosen`` is a free choice
        or the caller's.
    """

    name: str
    value: float
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What every theorem returns, whatever it is about.

    Attributes
    ----------
    theorem : str
        Its number in the paper.
    paper : str
        Authors and year.
    assumptions : tuple of Assumption
    constants : tuple of Constant
    """

    theorem: str
    paper: str
    assumptions: tuple[Assumption, ...] = ()
    constants: tuple[Constant, ...] = ()

    @property
    def broken(self) -> tuple[Assumption, ...]:
        """The assumptions that do not hold."""
        return tuple(each for each in self.assumptions if not each.holds)

    @property
    def holds(self) -> bool:
        """Whether all assumptions hold."""
        return not self.broken

    @property
    def proved(self) -> bool:
        """Whether all assumptions hold and every constant is the theorem's own."""
        return self.holds and all(constant.kind == "proved" for constant in self.constants)


@dataclass(frozen=True, kw_only=True)
class Requirement(Statement):
    """A number that must be reached: samples, features, iterations.

    Attributes
    ----------
    quantity : str
        What is counted.
    value : int
    """

    quantity: str
    value: int


@dataclass(frozen=True, kw_only=True)
class WidthBound(Statement):
    """How wide a source must be so that it holds a ticket for the target.

    Attributes
    ----------
    norm : str
        The error that ``eps`` bounds.
    source_law : str
        What the source's weights are drawn from.
    widths : tuple of int
        Of the source's layers, input first; empty if the theorem says nothing of such a target.
    weights : int
        Of the source, without biases.
    target_weights : int
        Of the target, zero or not.
    per_weight : tuple of float
        Intermediate neurons for each target weight, by target layer; empty where layers share their neurons.
    tolerances : tuple of float
        How far a target weight may be missed, by target layer.
    factors : tuple of float
        What the input and every layer must be divided by so that the norms obey; all 1 if they do.
    """

    norm: str
    source_law: str
    widths: tuple[int, ...]
    weights: int
    target_weights: int
    per_weight: tuple[float, ...] = ()
    tolerances: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether the theorem has widths for such a target at all."""
        return bool(self.widths)

    @property
    def ratio(self) -> float:
        """Overparameterisation: weights of the source per weight of the target."""
        return ratio(self.weights, self.target_weights)

    @property
    def output_factor(self) -> float:
        """All factors together: the divided network's output must be multiplied by it, and its error with it."""
        return math.prod(self.factors)


Bound = Callable[[Shape, Number, Number, Constants], WidthBound]
"""A registered theorem: (shape, eps, delta, constants) -> WidthBound."""


def choose(constants: Constants, *defaults: Constant) -> dict[str, Constant]:
    """The defaults by name, replaced by what the caller chose.

    Raises
    ------
    ArgumentError
        If a name is not among the defaults, or a value is not a finite number above 0.
    """
    known = {default.name: default for default in defaults}
    for name, value in (constants or {}).items():
        if name not in known:
            raise ArgumentError("constants", repr(name), " or ".join(map(repr, known)) or "none for this theorem")
        known[name] = Constant(name, floating(positive(f"constants[{name!r}]", value)), "chosen")
    return known


def two_layer_source(shape: Shape, intermediate: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Widths and weights of a source with one intermediate layer before each target layer.

    The intermediate layer has the target layer's kernel, the other one is 1 x 1.
    """
    widths, weights = [shape.layers[0].inputs], 0
    for layer, between in zip(shape.layers, intermediate, strict=True):
        widths += [between, layer.outputs]
        weights += between * (layer.fan_in + layer.outputs)
    return tuple(widths), weights


def _worst(values: Iterable[tuple[float, str]]) -> tuple[float, str]:
    return max(values, key=lambda pair: pair[0])


def norms_at_most(
    text: str, values: Sequence[tuple[float, str]], remedy: str, limit: float = 1.0, *, strict: bool = False
) -> Assumption:
    """An assumption that every norm is at most (or below) a limit; ``got`` names the one that is largest."""
    value, name = _worst(values)
    holds = value < limit if strict else value <= limit * (1 + ROUNDING)
    return Assumption(text, holds, f"{name} = {value:.6g}", "" if holds else remedy)


def divide_remedy(shape: Shape, factors: Sequence[float], rule: str) -> str:
    """What to divide by, and what it costs."""
    total = math.prod(factors)
    if not all(layer.activation.homogeneous for layer in shape.layers[:-1]):
        return (
            "a target trained under this limit; its activation is not positively homogeneous, so nothing can be scaled"
        )
    return (
        f"divide the input and each W_i by its factor, {rule}: {', '.join(f'{factor:.4g}' for factor in factors)}; "
        f"multiply the output by their product {total:.4g} and ask for eps / {total:.4g}"
    )


def eps_below_one(eps: float) -> Assumption:
    """The proofs' 1 + eps <= 2."""
    return norms_at_most("eps < 1", [(eps, "eps")], "a smaller eps", strict=True)


def dense(shape: Shape) -> Assumption:
    """Every layer is a matrix."""
    found = [f"layer {i} has {layer.taps} taps" for i, layer in enumerate(shape.layers, 1) if layer.taps > 1]
    found += [f"layer {i} has {layer.groups} groups" for i, layer in enumerate(shape.layers, 1) if layer.groups > 1]
    return Assumption(
        "dense layers",
        not found,
        found[0] if found else "dense layers only",
        "dacunha-1, which is about convolutions; the widths here are those of a dense layer on one patch"
        if found
        else "",
    )


def no_biases(shape: Shape) -> Assumption:
    """No layer adds anything to W x."""
    found = [(layer.biases, i) for i, layer in enumerate(shape.layers, 1) if layer.biases]
    return Assumption(
        "no biases",
        not found,
        f"{found[0][0]} biases in layer {found[0][1]}" if found else "none",
        "an input that is always 1, so that a bias is one more weight of its row; or burkholz-2.5, which has biases"
        if found
        else "",
    )


def relu_network(shape: Shape, *, last_linear: bool = True) -> Assumption:
    """ReLU after every layer but the last, which may be linear too."""
    names = [layer.activation.text for layer in shape.layers]
    hidden = [(name, i) for i, name in enumerate(names[:-1], 1) if name != "relu"]
    last = [] if names[-1] in (("relu", "linear") if last_linear else ("relu",)) else [(names[-1], len(names))]
    found = hidden + last
    return Assumption(
        "ReLU activations",
        not found,
        f"{found[0][0]} after layer {found[0][1]}" if found else "ReLU",
        "burkholz-2.5 or burkholz-2.9, which cover other activations" if found else "",
    )
