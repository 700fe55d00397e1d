"""A node without weights as the rules see it: its arguments, and how it is evaluated.

Rules work on whole tensors, the batch axis in front where there is one, so that they serve one input and many alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from slth.certify.state import UNIT, State, constant
from slth.network.graph import Node
from slth.network.operators import OPERATORS


@dataclass(frozen=True)
class Call:
    """One call of a function.

    Attributes
    ----------
    node : Node
    unit : float
        Of rounding: twice the relative error of one operation, 2^-52 for float64.
    batch : int
        How many inputs there are.
    floor : tensor or None
        Lower bounds on the deviations of what a normalisation normalises, (*groups, 1), between any two of the values
        of both networks and the middle of their bounds.
    """

    node: Node
    unit: float = UNIT
    batch: int = 1
    floor: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """The function's."""
        return str(self.node.attributes["function"]) if self.node.op == "function" else self.node.op

    @property
    def within(self) -> float | None:
        """A number that no state of a recurrent layer is beyond, in either network; weights are shares then."""
        found: float | None = self.node.attributes.get("within")
        return found

    @property
    def arguments(self) -> Mapping[str, Any]:
        """By name."""
        found: Mapping[str, Any] = self.node.attributes.get("arguments", {})
        return found

    @property
    def output(self) -> int:
        """Which of several outputs it is; -1 where there is one."""
        return int(self.node.attributes.get("output", -1))

    @cached_property
    def module(self) -> torch.nn.Module:
        return OPERATORS[self.node.op].module(self.node.attributes).to(torch.float64)

    def __call__(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """The function's value of other numbers."""
        with torch.no_grad():
            result: torch.Tensor = self.module(*values)
        return result

    def source(self, *names: str) -> int | None:
        """Which value an argument is; the first of the names that is there counts. None where it is no value."""
        for name in names:
            value = self.arguments.get(name)
            if isinstance(value, Mapping) and "source" in value:
                return int(value["source"])
        return None

    def state(self, states: Sequence[State], *names: str) -> State | None:
        """What is known of an argument, a value or a number; None where it is neither."""
        index = self.source(*names)
        if index is not None:
            return states[index]
        number = self.number(*names)
        return None if number is None else self.known(number)

    def known(self, number: float) -> State:
        """A number that is written in the network, as it is rounded on the way."""
        made = constant(torch.tensor(number, dtype=torch.float64))
        if self.unit == UNIT:
            return made
        return State(made.lower, made.upper, self.unit * made.magnitude, made.nonnegative, made.nonpositive)

    def number(self, *names: str) -> float | None:
        """An argument that is a number; None where there is none."""
        for name in names:
            value = self.arguments.get(name)
            if isinstance(value, Mapping) and "number" in value:
                return float(value["number"])
            if isinstance(value, int | float):
                return float(value)
        return None

    def is_none(self, *names: str) -> bool:
        """Whether arguments are not given."""
        return all(self.arguments.get(name) is None for name in names)

    def axes(self, name: str, dims: int) -> tuple[int, ...]:
        """Axes that an argument names, counted from 0; all where it names none."""
        value = self.arguments.get(name)
        listed = (value,) if isinstance(value, int) else tuple(value or ())
        return tuple(sorted({axis % dims for axis in listed})) if listed else tuple(range(dims))


def operands(states: Sequence[State], part: str) -> list[torch.Tensor]:
    """One part of what is known of every value; the very numbers where they are indices or masks."""
    found = []
    for state in states:
        exact = state.exact
        indices = exact is not None and not exact.is_floating_point()
        found.append(exact if indices and exact is not None else getattr(state, part))
    return found
