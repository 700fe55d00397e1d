"""The proof: bounds propagated from the domain to the output, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from slth.candidates import unfold
from slth.certify import activation
from slth.certify.affine import affine
from slth.certify.copied import by_copy, copied
from slth.certify.expand import unrolled
from slth.certify.factors import Factors
from slth.certify.functions import RULES as FUNCTIONS
from slth.certify.functions import Call, through_function
from slth.certify.lookup import looked_up
from slth.certify.maps import AFFINE
from slth.certify.pooling import average_pool, max_pool
from slth.certify.shape import dropped, lifted, move
from slth.certify.shifted import holding
from slth.certify.state import State, constant, of_copies, unknown
from slth.copies import CopiedLayer
from slth.domain import Domain
from slth.network.graph import INPUT, Graph, Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target
from slth.realise import RealisedLayer

RULES: Mapping[str, Callable[[Node, State], State]] = {
    **activation.RULES,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "reshape": move,
    "pad": move,
}
"""One rule for each operation without weights that reads one value."""
OF_SEVERAL = frozenset({"function", "join", "kept"})
"""Operations that read any number of values, a kept tensor none; see :mod:`slth.certify.functions`."""
ONE = constant(torch.ones(1, dtype=torch.float64))
"""What a parameter reads."""
_SHOWN = 8
"""Layers that a note lists (chosen)."""


@dataclass(frozen=True)
class Bound:
    """A proved bound on the output error.

    Attributes
    ----------
    output_error : float
        sup over the domain of the largest |ticket output - target output|, bounded from above.
    layer_errors : mapping of str to float
        The same after each weight layer.
    """

    output_error: float
    layer_errors: Mapping[str, float]


def propagate(target: Target, realised: Mapping[str, RealisedLayer], domain: Domain) -> Bound:
    """Bound the output error over a box by the recursion of section 0.3, with outward rounding.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    domain : Domain
        A box; the bound holds for every input in it, exactly evaluated or in float64.

    Raises
    ------
    ArgumentError
        If the domain is not a box or does not fit the input's shape.
    """
    states = propagated(target, realised, *domain.bounds(target.graph.input_shape))
    return Bound(float(states[target.graph.nodes[-1].name].error.max()), errors_behind(target, states))


def errors_behind(target: Target, states: Mapping[str, State]) -> dict[str, float]:
    """The largest difference behind each weight layer, wherever it is used."""
    uses = {layer.name: [use.name for use in target.graph.uses(layer.name)] for layer in target}
    return {
        name: max(float(states[use].error.max()) for use in nodes if use in states)
        for name, nodes in uses.items()
        if any(use in states for use in nodes)
    }


def unbounded(target: Target, states: Mapping[str, State]) -> tuple[str, ...]:
    """Nodes from which on nothing is bounded, in words: up to where the certificate holds."""
    notes = []
    for node in target.graph:
        if states[node.name].bounded or not all(states[source].bounded for source in node.sources):
            continue
        name = node.attributes.get("function", node.op)
        has_rule = node.op in (*RULES, *AFFINE, "embedding", "recurrent") or name in FUNCTIONS
        what = "over this domain no bound is found" if has_rule else "no bound is known"
        before = [
            layer.name for layer in target if all(states[use.name].bounded for use in target.graph.uses(layer.name))
        ]
        shown = ", ".join(map(repr, before[:_SHOWN])) + (
            f" and {len(before) - _SHOWN} more" if len(before) > _SHOWN else ""
        )
        up_to = f"layers {shown}" if before else "what is before it"
        notes.append(f"node {node.name!r} ({name}): {what}; nothing is certified beyond it, errors are for {up_to}")
    return tuple(notes)


def propagated(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    lower: torch.Tensor,
    upper: torch.Tensor,
    factors: dict[str, Factors] | None = None,
) -> dict[str, State]:
    """What :func:`propagate` finds at every node, by name, for inputs between two tensors of the input's shape.

    With ``factors``, for many calls, what of a layer does not depend on the inputs is kept there.
    """
    target, realised = unfold(target, realised)
    return of_parts(unrolled(target), realised, lower, upper, factors)


def of_parts(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    lower: torch.Tensor,
    upper: torch.Tensor,
    factors: dict[str, Factors] | None = None,
) -> dict[str, State]:
    """The same, of a target that is written out already, in the units of the ticket."""
    steps = Steps(target, factors)
    uses = held(target, realised, lower, upper)
    states = {INPUT: given(target.graph, lower, upper)}
    with torch.no_grad():
        for node in target.graph:
            states[node.name] = steps(node, [states[source] for source in node.sources], uses.get(node.name))
    return states


def given(graph: Graph, lower: torch.Tensor, upper: torch.Tensor) -> State:
    """The state of the network's input; whole numbers are known where there is only one of them."""
    if graph.classes and torch.equal(lower, upper) and torch.equal(lower, lower.round()):
        return constant(lower.to(torch.int64))
    return State(lower, upper, torch.zeros_like(lower), bool((lower >= 0).all()), bool((upper <= 0).all()))


def held(
    target: Target, realised: Mapping[str, RealisedLayer], lower: torch.Tensor, upper: torch.Tensor
) -> Mapping[str, RealisedLayer]:
    """By node with weights, the layer with all slopes that hold for inputs between two tensors; see :func:`holding`."""
    return holding(target, realised, given(target.graph, lower, upper), Steps(target))


class Steps:
    """What follows for a node's values from what is known of all that it reads.

    Parameters
    ----------
    target : Target
    factors : dict of str to Factors, optional
        Where to keep what of a layer does not depend on the inputs.
    """

    def __init__(self, target: Target, factors: dict[str, Factors] | None = None) -> None:
        self.graph, self.kept = target.graph, target.kept
        self.layers = {layer.name: layer for layer in target}
        self.factors = {} if factors is None else factors

    def __call__(
        self,
        node: Node,
        sources: Sequence[State],
        own: RealisedLayer | None = None,
        floor: torch.Tensor | None = None,
    ) -> State:
        """One step; ``own`` is the ticket's layer, for a node with weights, ``floor`` as in a :class:`Call`."""
        if node.op in RULES:
            return by_copy(RULES[node.op], node, sources[0]).sound()
        if node.op not in WEIGHT_OPERATORS:
            return self.without_weights(node, sources, floor)
        if own is None or node.op not in (*AFFINE, "embedding"):
            return self.nothing(node)
        return self._weighted(node, sources[0] if sources else ONE, own).sound()

    def without_weights(self, node: Node, sources: Sequence[State], floor: torch.Tensor | None = None) -> State:
        """A function of any number of values, or a kept tensor."""
        if node.op == "kept":
            return constant(self.kept[node.name])
        copies = {len(state.copies) for state in sources if state.copies is not None}
        if len(copies) != 1:
            return self._function(node, [replace(state, copies=None) for state in sources], floor)
        # In a sum the copies of both terms line up.
        return of_copies([self._function(node, _of_copy(sources, k)) for k in range(copies.pop())])

    def _function(self, node: Node, sources: Sequence[State], floor: torch.Tensor | None = None) -> State:
        layouts = [self.graph.layout_of(source) for source in node.sources]
        batch = self.graph.batch or 1
        whole = [lifted(state, layout, batch) for state, layout in zip(sources, layouts, strict=True)]
        return dropped(through_function(Call(node, batch=batch, floor=floor), whole), node.layout)

    def _weighted(self, node: Node, state: State, own: RealisedLayer) -> State:
        layer = self.layers[node.weights]
        if node.op == "embedding":
            ones = own.by_copy() if isinstance(own, CopiedLayer) else [own]
            columns = node.attributes["weight_shape"][0]
            made = [looked_up(Factors.kept(self.factors, layer, one), state, columns)[0] for one in ones]
            return of_copies(made) if isinstance(own, CopiedLayer) else made[0]
        if isinstance(own, CopiedLayer):
            return copied(node, state, layer, own)
        return affine(node, state, layer, own, Factors.kept(self.factors, layer, own))

    def nothing(self, node: Node) -> State:
        """Of a node without a rule."""
        shape = node.shape if node.batched else node.layout.whole(self.graph.batch or 1)
        return unknown(shape)


def _of_copy(sources: Sequence[State], k: int) -> list[State]:
    """One copy of everything that there are copies of."""
    return [
        state if state.copies is None else replace(state, error=state.copies[k], copies=None, exact=None)
        for state in sources
    ]
