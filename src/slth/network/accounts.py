"""What became of every parameter of a target: ticketed, folded into another, or kept, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from slth.network.graph import Graph

TICKETED, FOLDED, KEPT, UNUSED, SHARED = STATES = ("ticketed", "folded", "kept", "unused", "shared")


@dataclass(frozen=True)
class Account:
    """One parameter.

    Attributes
    ----------
    name : str
        In the target's own state dict.
    n : int
        Numbers in it.
    state : str
        One of :data:`STATES`. Folded: multiplied into the weights of a layer. Unused: the output does not depend on it.
        Shared: the same tensor as another parameter, which counts in its place.
    where : str
        The weight layers that it is in (one for each role that it has), why it is kept, or with what it is shared.
    """

    name: str
    n: int
    state: str
    where: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Account:
        """From :meth:`to_json`.

        Raises
        ------
        ValueError
            If it is not such a description.
        """
        account = cls(str(value["name"]), value["n"], str(value["state"]), str(value["where"]))
        if type(account.n) is not int or account.n < 0 or account.state not in STATES:
            raise ValueError(f"{value!r} is no account of a parameter")
        return account


def of_layers(graph: Graph, kept: Mapping[str, torch.Tensor]) -> tuple[Account, ...]:
    """What a network's tensors are where it is not known of which parameters they were made."""
    entries = []
    for node in graph.weighted:
        shape = node.attributes["weight_shape"]
        entries.append(Account(f"{node.name}.weight", math.prod(shape), TICKETED, node.name))
        if node.attributes["bias"]:
            entries.append(Account(f"{node.name}.bias", shape[0], TICKETED, node.name))
    return (*entries, *(Account(name, tensor.numel(), KEPT, "kept") for name, tensor in kept.items()))


def counted(accounts: Iterable[Account]) -> dict[str, int]:
    """Numbers in parameters, by state; of tensors that are shared once."""
    totals = dict.fromkeys(STATES, 0)
    for account in accounts:
        totals[account.state] += account.n
    return {state: n for state, n in totals.items() if state != SHARED}


def ticketed_share(accounts: Iterable[Account]) -> float:
    """The fraction of a network's parameters that are ticketed or folded; of those that are used."""
    totals = counted(accounts)
    used = sum(totals.values()) - totals[UNUSED]
    return (totals[TICKETED] + totals[FOLDED]) / used if used else 1.0
