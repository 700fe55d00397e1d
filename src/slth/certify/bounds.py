"""Bounds on the difference of target and ticket over one region, by the method that was asked for.

``norm`` carries one number from layer to layer (section 0.3), ``interval`` one an entry, ``linear`` follows linear
objectives back to the input. Norms are never below the intervals by their construction, and the relaxation takes the
least of its own bound and of the intervals'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from slth.candidates import unfold
from slth.certify.carry import Analysis, finite
from slth.certify.factors import Factors
from slth.certify.linear import LinearBounds
from slth.certify.norms import norm_bound
from slth.certify.propagation import errors_behind, propagated, unbounded
from slth.certify.region import Region
from slth.certify.relaxation import RULES
from slth.certify.state import UNIT, inflate
from slth.copies import CopiedLayer
from slth.errors import ArgumentError
from slth.network.target import Target
from slth.realise import RealisedLayer

METHODS = ("norm", "interval", "linear")
"""From the loosest and cheapest to the tightest."""
NORMS = ("max", "l1", "l2", "components")
"""Of the output error; ``components`` is one bound an output."""

_FOLLOWED = frozenset({"max_pool", "average_pool", "reshape", "pad"})
"""Operations without weights that the relaxation carries objectives through by rules of their own."""


@dataclass(frozen=True)
class Bounds:
    """What is proved over one region.

    Attributes
    ----------
    components : float64 tensor, (outputs,)
        Upper bounds on |ticket's output - target's output|, output by output, outputs flattened.
    method : str
        One of :data:`METHODS`.
    notes : tuple of str
        Where the method fell back to a looser one, in words.
    layer_errors : mapping of str to float
        A bound on the largest difference after each weight layer.
    """

    components: torch.Tensor
    method: str
    notes: tuple[str, ...]
    layer_errors: Mapping[str, float]

    @property
    def output_error(self) -> float:
        """The largest of the components."""
        return float(self.components.max())


class Bounder:
    """Bounds for any number of regions of one target and one ticket.

    Parameters
    ----------
    target : Target
        With the identity layers that the ticket was made with (:func:`slth.network.deepen.deepen`).
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    method : str
        One of :data:`METHODS`.

    Raises
    ------
    ArgumentError
        If there is no such method.
    """

    def __init__(self, target: Target, realised: Mapping[str, RealisedLayer], method: str = "linear") -> None:
        check_method(method)
        self.target, self.realised, self.method = target, realised, method
        self.linear = LinearBounds(target, realised) if method == "linear" else None
        self.factors: dict[str, Factors] = {} if self.linear is None else self.linear.factors
        self.output = target.graph.nodes[-1].name

    def __call__(self, region: Region) -> Bounds:
        """Bound the difference over a region."""
        return self.analysed(region)[0]

    def analysed(self, region: Region) -> tuple[Bounds, Analysis | None]:
        """The same, and all that the relaxation found, where it is the method."""
        if self.method == "norm":
            loose = norm_bound(self.target, self.realised, region, self.factors)
            return Bounds(_sound(loose.components), self.method, loose.notes, loose.layer_errors), None
        states = propagated(self.target, self.realised, region.lower, region.upper, self.factors)
        components = _sound(states[self.output].error)
        errors = errors_behind(self.target, states)
        if self.linear is None:
            return Bounds(components, self.method, unbounded(self.target, states), errors), None
        known = self.linear.analyse(region)
        return self._from_analysis(known, components, errors), known

    def _from_analysis(self, known: Analysis, components: torch.Tensor, errors: Mapping[str, float]) -> Bounds:
        """The least of what intervals and the relaxation found."""
        components = torch.minimum(components, _sound(known.states[self.output].error))
        found = errors_behind(self.linear.target, known.states) if self.linear is not None else {}
        layers = {name: min(error, found.get(name, error)) for name, error in errors.items()}
        return Bounds(components, self.method, fallbacks(self.target, self.realised, known), layers)


def bound(target: Target, realised: Mapping[str, RealisedLayer], region: Region, method: str = "linear") -> Bounds:
    """Upper bounds on the difference of target and ticket over one region; see :class:`Bounder` for many.

    Parameters
    ----------
    target : Target
        With the identity layers that the ticket was made with.
    realised : mapping of str to RealisedLayer
    region : Region
    method : str
        One of :data:`METHODS`; each is at least as tight as those before it.

    Raises
    ------
    ArgumentError
        If there is no such method.
    """
    return Bounder(target, realised, method)(region)


def fallbacks(target: Target, realised: Mapping[str, RealisedLayer], known: Analysis) -> tuple[str, ...]:
    """Where the relaxation had nothing better than intervals, in words, in the order of the network."""
    target, realised = unfold(target, realised)
    notes = []
    for node in target.graph:
        joint, state = known.joints.get(node.name), known.states[node.name]
        if not node.sources or state.exact is not None or not finite(state):
            continue
        if joint is not None and joint.maps is None:
            why = (
                "several copies of every neuron" if isinstance(realised[node.weights], CopiedLayer) else "no linear map"
            )
            notes.append(f"layer {node.name!r}: {why}, its difference is bounded by intervals")
        elif joint is None and node.op not in (*RULES, *_FOLLOWED, "embedding") and not known.follows(node):
            name = node.attributes.get("name") or node.attributes.get("function") or node.op
            notes.append(f"node {node.name!r}: no relaxation of {name}, bounded by intervals")
    return (*notes, *unbounded(target, known.states))


def norm(components: torch.Tensor, kind: str) -> float:
    """A norm of bounds on components, rounded upward: ``max`` (which ``components`` stands for too), ``l1`` or ``l2``.

    Raises
    ------
    ArgumentError
        If there is no such norm.
    """
    check_norm(kind)
    components = components.flatten().to(torch.float64)
    largest = float(components.max())
    if kind in ("max", "components") or largest == 0.0 or not math.isfinite(largest):
        return largest
    n = components.numel()
    if kind == "l1":
        return float(components.sum()) * (1.0 + (n + 8) * UNIT)
    # Divided by the largest, no square overflows, and one that underflows is far below the rounding.
    shares = components / largest
    return math.sqrt(float(inflate(shares.square().sum(), n + 4))) * largest * (1.0 + 16 * UNIT)


def check_method(method: str) -> None:
    """Refuse what is no method.

    Raises
    ------
    ArgumentError
    """
    if method not in METHODS:
        raise ArgumentError("method", repr(method), " or ".join(METHODS), "linear")


def check_norm(kind: str) -> None:
    """Refuse what is no norm.

    Raises
    ------
    ArgumentError
    """
    if kind not in NORMS:
        raise ArgumentError("norm", repr(kind), " or ".join(NORMS), "max")


def _sound(error: torch.Tensor) -> torch.Tensor:
    """A bound that could not be computed is none at all."""
    error = error.flatten()
    return torch.where(torch.isnan(error), math.inf, error)
