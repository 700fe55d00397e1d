"""Ticket and target brought together: the source from its seed, the mask on it, and both as modules in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from slth.certify.region import Region
from slth.container import content_digest
from slth.copies import realise_all
from slth.domain import Domain
from slth.errors import ArgumentError, MismatchError
from slth.network.differences import difference
from slth.network.graph import Sign
from slth.network.module import Network
from slth.network.operators import Own
from slth.network.target import Target
from slth.realise import RealisedLayer
from slth.runtime import folded_module, joined, module, target_module
from slth.ticket import Ticket


@dataclass(frozen=True)
class Subject:
    """What is to be verified, everything of it recomputed.

    Attributes
    ----------
    ticket : Ticket
    target : Target
        With its layers called as in the ticket.
    hidden : Target
        What the ticket's source hides, which computes the same.
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    """

    ticket: Ticket
    target: Target
    hidden: Target
    realised: Mapping[str, RealisedLayer]

    def networks(self, sign: Sign) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Ticket and target in float64, for inputs of a sign."""
        ours = _network(self.ticket, self.realised, self.hidden.input_signs(sign))
        return _flat(ours), _flat(target_module(self.target, torch.float64))

    def own_names(self) -> tuple[str, ...]:
        """Users' own activations in the source and in the target, of which numbers are tried and not proved."""
        return tuple(sorted(_own_names(self.ticket, self.target)))

    def taken(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs of the type that the network reads."""
        return inputs.to(torch.int64) if self.target.graph.classes else inputs

    def check_tokens(self, regions: Sequence[Region]) -> None:
        """Refuse inputs that are no numbers of tokens, where the network reads such.

        Raises
        ------
        ArgumentError
        """
        classes = self.target.graph.classes
        if not classes:
            return
        for region in regions:
            ends = torch.stack([region.lower, region.upper])
            if bool((ends < 0).any()) or bool((ends > classes - 1).any()) or not torch.equal(ends, ends.round()):
                got = f"numbers in [{float(region.lower.min()):g}, {float(region.upper.max()):g}]"
                raise ArgumentError("domain", got, f"whole numbers from 0 to {classes - 1}", "--points DATA")

    def check_sign(self, sign: Sign, words: str) -> None:
        """Refuse inputs of a sign for which the ticket was not made.

        Raises
        ------
        ArgumentError
        """
        made_for = Domain.parse(self.ticket.domain)
        if not set(sign.branches) <= set(made_for.sign.branches):
            got = f"{words}, inputs of a sign that the ticket was not made for"
            raise ArgumentError("domain", got, f"inputs like those of {made_for.describe()}", "--domain 0,1")


def prepare(
    ticket: Ticket,
    model: torch.nn.Module | Target,
    example_input: torch.Tensor | None = None,
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Subject:
    """Regenerate a ticket's source, apply its mask, and find the target's layers in it.

    Raises
    ------
    MismatchError
        If the ticket was made for another target.
    """
    target = model if isinstance(model, Target) else _trace(model, ticket, example_input)
    target = _named_alike(ticket, target)
    hidden = ticket.hidden(target)
    pairs = [(source, mask) for source, mask, _ in ticket.layers]
    realised = realise_all(hidden.graph, pairs, lambda done: on_progress("regenerating", done, len(pairs)))
    return Subject(ticket, target, hidden, realised)


def digest_of_ticket(ticket: Ticket) -> str:
    """SHA-256 of the network that a ticket is: its architecture, its source's specification and its masks.

    What the file says of how the ticket was found and how good it is has no part in it.
    """
    header = {
        "graph": ticket.graph.structure(),
        "extra_depth": ticket.extra_depth,
        "pooling": ticket.pooling,
        "source": ticket.spec.to_json(),
        "input_signs": [facts.input_sign.value for facts in ticket.facts],
    }
    return content_digest(header, {name: part for name, part in ticket.tensors().items() if name != "probe_outputs"})


def _flat(network: torch.nn.Module) -> torch.nn.Module:
    """Several outputs as one."""
    return joined(network) if isinstance(network, Network) else network


def _network(ticket: Ticket, realised: Mapping[str, RealisedLayer], signs: Mapping[str, Sign]) -> torch.nn.Module:
    """The ticket in float64: folded, unless the activations between its source layers bend what they pass on."""
    if any(layer.bend.activation is not None or not layer.serves(signs[name]) for name, layer in realised.items()):
        # Folded, such an activation would be the lines that it is near to.
        return module(ticket, "sparse", torch.float64)
    return folded_module(ticket, realised, torch.float64, signs)


def _trace(model: torch.nn.Module, ticket: Ticket, example_input: torch.Tensor | None) -> Target:
    from slth.network.inputs import as_target, input_dtype

    if example_input is None and isinstance(model, torch.nn.Module):
        dtype = torch.int64 if ticket.graph.classes else input_dtype(model)
        example_input = torch.zeros(ticket.graph.batch or 1, *ticket.graph.input_shape, dtype=dtype)
    return as_target(model, example_input, ticket.selection)


def _named_alike(ticket: Ticket, target: Target) -> Target:
    """The target with its layers called as in the ticket, which may come from another file format.

    Raises
    ------
    MismatchError
        If it is not the target that the ticket was made for.
    """
    if ticket.graph.structure() != target.graph.structure():
        got, need = difference(target.graph, ticket.graph)
        raise MismatchError("target", got, f"{need}: the ticket's", "the target that it was found for")
    if ticket.target_digest != target.digest():
        raise MismatchError(
            "target",
            f"weights with digest {target.digest()[:16]}",
            f"{ticket.target_digest[:16]}, for which the ticket was made",
            "the target that it was found for, in the same precision; a factory must give the same weights each time",
        )
    nodes = ticket.graph.weighted
    layers = tuple(replace(layer, node=node) for layer, node in zip(target.layers, nodes, strict=True))
    kept = dict(zip((n.name for n in ticket.graph if n.op == "kept"), _kept(target), strict=True))
    return Target(ticket.graph, layers, kept, target.accounts, target.selection)


def _kept(target: Target) -> list[torch.Tensor]:
    """Tensors that are kept as they are, in the order of the graph."""
    return [target.kept[node.name] for node in target.graph if node.op == "kept"]


def _own_names(ticket: Ticket, target: Target) -> set[str]:
    """Users' own activations in the source and in the target."""
    inside = {layer.activation.name for layer in ticket.spec.layers if not layer.activation.proved}
    return inside | {str(node.attributes["name"]) for node in target.graph if node.op == Own.name}
