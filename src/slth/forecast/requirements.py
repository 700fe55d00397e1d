"""Target + eps + delta -> what every theorem asks, theorem by theorem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from slth.bounds.catalogue import THEOREMS, width_bound
from slth.bounds.exact import positive, probability
from slth.bounds.shape import Shape
from slth.bounds.theorem import Assumption, WidthBound
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.forecast.constants import Used, constants, measured
from slth.forecast.estimate import Estimate, estimate
from slth.forecast.network import Described, Progress, describe
from slth.network.inputs import as_target
from slth.network.target import Target

MAX_NORM = frozenset({"dacunha-1"})
"""Theorems whose norm no pooling or padding can expand."""


@dataclass(frozen=True)
class Row:
    """What one theorem asks of the network.

    Attributes
    ----------
    name : str
        Of :data:`slth.bounds.catalogue.THEOREMS`.
    as_it_is : WidthBound
        For the network as it is; a width whose assumptions are broken promises nothing.
    bound : WidthBound
        For the network divided by the bound's factors, where the theorem's norms ask for that and the activations
        allow it, at eps over their product: the same error of the whole. Otherwise ``as_it_is``.
    extra : tuple of Assumption
        About pooling and padding, which the theorems do not mention.
    constants : tuple of Used
    estimate : Estimate
    """

    name: str
    as_it_is: WidthBound
    bound: WidthBound
    extra: tuple[Assumption, ...]
    constants: tuple[Used, ...]
    estimate: Estimate

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """All, as the network is."""
        return (*self.as_it_is.assumptions, *self.extra)

    @property
    def broken(self) -> tuple[Assumption, ...]:
        """Those that the network breaks."""
        return tuple(each for each in self.assumptions if not each.holds)

    @property
    def left(self) -> tuple[Assumption, ...]:
        """Those that no division restores."""
        return tuple(each for each in (*self.bound.assumptions, *self.extra) if not each.holds)

    @property
    def divided(self) -> bool:
        """Whether ``bound`` is about divided layers."""
        return self.bound is not self.as_it_is

    @property
    def state(self) -> str:
        """``holds``, ``divided`` (holds for the divided network) or ``broken``."""
        return "broken" if self.left else "divided" if self.broken else "holds"

    @property
    def kind(self) -> str:
        """Where the constants come from, the least certain first: fitted, calibrated, chosen, or else proved."""
        kinds = {constant.kind for constant in self.constants}
        return next((kind for kind in ("fitted", "calibrated", "chosen") if kind in kinds), "proved")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        bound = self.bound
        return {
            "name": self.name,
            "theorem": bound.theorem,
            "paper": bound.paper,
            "norm": bound.norm,
            "source_law": bound.source_law,
            "state": self.state,
            "proved": self.state != "broken" and self.kind == "proved",
            "widths": list(bound.widths),
            "source_weights": bound.weights,
            "target_weights": bound.target_weights,
            "overparameterisation": bound.ratio,
            "tolerances": list(bound.tolerances),
            "divided": self.divided,
            "factors": list(bound.factors),
            "output_factor": bound.output_factor,
            "as_it_is": {"widths": list(self.as_it_is.widths), "source_weights": self.as_it_is.weights},
            "constants": [asdict(constant) for constant in self.constants],
            "assumptions": [asdict(each) for each in self.assumptions],
            "estimate": asdict(self.estimate),
        }


@dataclass(frozen=True)
class Requirements:
    """What the theorems ask of one network; iterate over it, or look a theorem up by its name.

    Attributes
    ----------
    network : Described
    eps, delta : float
    rows : tuple of Row
    """

    network: Described
    eps: float
    delta: float
    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; whole numbers of any size."""
        shape = self.network.shape
        return {
            "eps": self.eps,
            "delta": self.delta,
            "domain": self.network.domain,
            "input": {
                "norm_1": shape.input_1norm,
                "norm_2": shape.input_2norm,
                "largest": shape.input_max,
                "nonnegative": shape.input_nonnegative,
            },
            "layers": [self._layer(index) for index in range(shape.depth)],
            "theorems": [row.to_json() for row in self.rows],
        }

    def _layer(self, index: int) -> dict[str, Any]:
        layer = self.network.shape.layers[index]
        plain = {name: value for name, value in vars(layer).items() if name not in ("activation", "spectral")}
        return {
            "name": self.network.target.layers[index].name,
            "weights": layer.weights,
            **plain,
            "spectral": layer.spectral,
            "spectral_is": "exact" if self.network.spectral_exact[index] else "upper bound",
            "activation": layer.activation.text,
        }


def requirements(
    model: torch.nn.Module | Target,
    example_input: torch.Tensor | None = None,
    *,
    eps: float,
    delta: float,
    domain: Any = None,
    theorems: Sequence[str] | None = None,
    calibrated: bool = True,
    on_progress: Progress | None = None,
) -> Requirements:
    """What every theorem asks of a network, and what of it the network breaks.

    Parameters
    ----------
    model : torch.nn.Module or Target
    example_input : tensor, (batch, *input shape)
        What the module reads; required with a module, unless its first layer tells.
    eps : float
        Error of the network's output, in each theorem's own norm.
    delta : float
        Probability that the random network holds no ticket.
    domain : pair of numbers or of tensors, optional
        Smallest and largest input; by default the inputs are the unit ball's, ‖x‖_2 <= 1.
    theorems : sequence of str, optional
        Names of :data:`slth.bounds.catalogue.THEOREMS`; all by default.
    calibrated : bool
        Replace constants that a theorem leaves open by base sets measured at (eps, delta): those that ``slth
        calibrate`` kept, and others if both numbers are at least 0.01, which takes seconds once.
    on_progress : callable, optional
        Called with what is being measured, how much of it is done, and how much there is.

    Returns
    -------
    Requirements

    Raises
    ------
    SlthError
        If the network or an argument cannot be used.
    """
    positive("eps", eps), probability("delta", delta)
    names = list(THEOREMS) if theorems is None else check_theorems(theorems)
    network = describe(as_target(model, example_input), Domain.parse(domain), on_progress)
    rows = tuple(_row(name, network, float(eps), float(delta), calibrated, on_progress) for name in names)
    return Requirements(network, float(eps), float(delta), rows)


def check_theorems(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises
    ------
    ArgumentError
        If there is none, or no such theorem.
    """
    for name in names or ("",):
        if name not in THEOREMS:
            raise ArgumentError("theorem", repr(name), "one of " + ", ".join(THEOREMS))
    return list(dict.fromkeys(names))


def _row(
    name: str, network: Described, eps: float, delta: float, calibrated: bool, on_progress: Progress | None
) -> Row:
    if network.unlike is not None:
        return _unlike(name, eps, delta, network.unlike, network)
    stated = THEOREMS[name](network.shape, eps, delta, None)
    replaced = measured(stated, eps, delta, on_progress) if calibrated else ()
    chosen = {used.name: used.value for used in replaced}
    as_it_is = THEOREMS[name](network.shape, eps, delta, chosen) if replaced else stated
    bound = width_bound(name, network.shape, eps, delta, chosen, normalise=True)
    # Equal if the norms obey already, or nothing can be divided.
    bound = as_it_is if bound == as_it_is else bound
    factors = bound.factors if bound is not as_it_is else (1.0,) * len(bound.factors)
    extra = () if name in MAX_NORM else network.expansion
    return Row(name, as_it_is, bound, extra, constants(bound, replaced), estimate(name, bound, network, eps, factors))


def _unlike(name: str, eps: float, delta: float, unlike: Assumption, network: Described) -> Row:
    """What a theorem says of a network that it is not about: nothing, in its own words."""
    bound = replace(
        THEOREMS[name](Shape.uniform(2, 2), eps, delta, None),
        assumptions=(),
        constants=(),
        widths=(),
        weights=0,
        target_weights=network.shape.weights,
        per_weight=(),
        tolerances=(),
        factors=(),
    )
    return Row(name, bound, bound, (unlike,), (), estimate(name, bound, network, eps, ()))
