"""Classes that target and ticket provably share: of inputs, and of all inputs within a distance of them.

For a whole region the class is k where every t_j - t_k is below 0, t the target's outputs; so with the ticket's,
s_j - s_k = (t_j - t_k) + (d_j - d_k), d = s - t, whose largest values over the region the relaxation bounds as one
objective each. A network of one output has two classes, by its sign. A tie is no class, and nothing is proved of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from slth.certify.backward import Objective
from slth.certify.bounds import Bounder
from slth.certify.carry import Analysis
from slth.certify.linear import LinearBounds
from slth.certify.points import Values, evaluate, exactly_known
from slth.certify.region import Box, Region
from slth.certify.search import Progress, silent
from slth.network.graph import Sign
from slth.runtime import evaluate as evaluate_target

_AT_ONCE = 256
"""Inputs that are evaluated together (chosen)."""


@dataclass(frozen=True)
class LabelCounts:
    """How many inputs have a class that is provably the same for target and ticket.

    Attributes
    ----------
    inputs : int
        All of them.
    same : int
        Those for which both networks provably answer the same class.
    same_around : int or None
        Those for which both provably answer one and the same class everywhere in the region around the input.
    right, right_around : int or None
        Of these two, those whose class is the label; None without labels.
    """

    inputs: int
    same: int
    same_around: int | None
    right: int | None
    right_around: int | None

    def to_json(self) -> dict[str, int | None]:
        """Plain values."""
        return asdict(self)


class Classes:
    """Collects which inputs have a class that is proved.

    Parameters
    ----------
    bounder : Bounder
        Whose method is linear.
    centres : float64 tensor, (n, *input shape)
    around : bool
        Whether there are regions around them.
    sign : Sign
        Of every entry of every input.
    """

    def __init__(
        self,
        bounder: Bounder,
        centres: torch.Tensor,
        around: bool,
        sign: Sign,
        on_progress: Progress = silent,
    ) -> None:
        assert bounder.linear is not None
        self.bounds = bounder.linear
        self.same = classes_at(bounder, centres, sign, on_progress)
        self.around = torch.full_like(self.same, -1) if around else None

    def add(self, number: int, region: Region, known: Analysis) -> None:
        """Take in what is known of the region around one of them."""
        guess = int(self.same[number])
        if self.around is not None and guess >= 0 and class_around(self.bounds, known, region, guess):
            self.around[number] = guess

    def count(self, labels: torch.Tensor | None = None) -> LabelCounts:
        """Numbers of inputs, with labels (n,) also of those whose class is the label."""

        def number(classes: torch.Tensor) -> int:
            return int((classes >= 0).sum())

        def right(classes: torch.Tensor) -> int | None:
            return None if labels is None else int(((classes >= 0) & (classes == labels)).sum())

        if self.around is None:
            return LabelCounts(len(self.same), number(self.same), None, right(self.same), None)
        same, around = self.same, self.around
        return LabelCounts(len(same), number(same), number(around), right(same), right(around))


def class_of(values: Values) -> torch.Tensor:
    """The class that is certain whatever the rounding was, (n,); -1 where none is."""
    value, off = values.value, 2 * values.off
    if value.shape[1] == 1:
        value, off = value[:, 0], off[:, 0]
        return torch.where(value > off, 1, torch.where(value < -off, 0, -1))
    # A number that is below another by less than one rounding is not: both are moved apart by more than that.
    low, high = value - off - 4e-16 * value.abs(), value + off + 4e-16 * value.abs()
    best = value.argmax(dim=1)
    others = high.scatter(1, best[:, None], -torch.inf).amax(dim=1)
    return torch.where(low.gather(1, best[:, None])[:, 0] > others, best, -1)


def classes_at(bounder: Bounder, inputs: torch.Tensor, sign: Sign, on_progress: Progress = silent) -> torch.Tensor:
    """The class that target and ticket provably share, of each input, (n,); -1 where none is proved.

    Parameters
    ----------
    bounder : Bounder
    inputs : float64 tensor, (n, *input shape)
    sign : Sign
        Of every entry of every input.
    """
    if not exactly_known(bounder.target, bounder.realised, sign):
        assert bounder.linear is not None
        return _analysed(bounder.linear, inputs, on_progress)
    found: list[torch.Tensor] = []
    for chunk in inputs.split(_AT_ONCE):
        outputs = evaluate(bounder.target, bounder.realised, chunk)
        ours, theirs = class_of(outputs.ticket), class_of(outputs.target)
        found.append(torch.where(ours == theirs, ours, -1))
        on_progress("classes", sum(map(len, found)), len(inputs))
    return torch.cat(found)


def _analysed(bounds: LinearBounds, inputs: torch.Tensor, on_progress: Progress) -> torch.Tensor:
    """The same of a ticket whose layers are not known exactly: each input is a region."""
    guesses = class_of_outputs(evaluate_target(bounds.target, inputs).flatten(1))
    for number, x in enumerate(inputs):
        region = Box(x, x)
        if not class_around(bounds, bounds.analyse(region), region, int(guesses[number])):
            guesses[number] = -1
        on_progress("classes", number + 1, len(inputs))
    return guesses


def class_of_outputs(outputs: torch.Tensor) -> torch.Tensor:
    """The class of computed outputs (n, outputs): the largest, or of one output its sign."""
    return (outputs[:, 0] > 0).to(torch.int64) if outputs.shape[1] == 1 else outputs.argmax(dim=1)


def class_around(bounds: LinearBounds, known: Analysis, region: Region, guess: int) -> bool:
    """Whether both networks provably answer the class ``guess`` everywhere in a region.

    Parameters
    ----------
    bounds : LinearBounds
    known : Analysis
        What ``bounds.analyse(region)`` says.
    region : Region
    guess : int
        Of a network of one output 0 or 1, else the number of an output.
    """
    node = bounds.target.graph.nodes[-1]
    rows = _others_less_it(known.states[node.name].lower.numel(), guess)
    shaped = rows.reshape(-1, *known.states[node.name].lower.shape)
    nothing = torch.zeros(2 * len(rows), dtype=torch.float64)
    both = Objective(torch.cat([shaped, shaped]), torch.cat([torch.zeros_like(shaped), shaped]), nothing, nothing)
    with torch.no_grad():
        return bool((bounds.highest(known, region, node, both) < 0).all())


def _others_less_it(outputs: int, guess: int) -> torch.Tensor:
    """Rows whose products with the outputs are below 0 where the class is ``guess``."""
    if outputs == 1:
        return torch.tensor([[-1.0 if guess == 1 else 1.0]], dtype=torch.float64)
    rows = torch.eye(outputs, dtype=torch.float64)
    rows[:, guess] -= 1.0
    return rows[torch.arange(outputs) != guess]
