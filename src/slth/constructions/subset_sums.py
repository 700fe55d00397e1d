"""Constructions that choose subsets: the loop from pieces of problems to a mask, shared by all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Construction, Found, Work
from slth.mask import Mask
from slth.network.target import WeightLayer
from slth.plan import LayerPlan, Plan
from slth.subsetsum import solve

ELEMENTS_AT_ONCE = 1 << 22
"""Base-set elements that are held at a time (32 MiB)."""


@dataclass(frozen=True)
class Piece:
    """Subset-sum problems of some outputs of one group, in the order that ``mask`` expects their answers.

    Attributes
    ----------
    base_sets : float64 array, (elements,)
        Base sets one after another.
    sizes : int64 array, (problems,)
        Elements of each.
    targets : float64 array, (problems,)
        The target weights.
    place : object
        The construction's own note of where the answers belong.
    """

    base_sets: NDArray[np.float64]
    sizes: NDArray[np.int64]
    targets: NDArray[np.float64]
    place: Any


@dataclass(frozen=True)
class Chosen:
    """The answers of one piece: a flag for each element of its base sets, packed, and the piece's ``place``."""

    place: Any
    packed: NDArray[np.uint8]
    n_elements: int

    @classmethod
    def pack(cls, piece: Piece, flags: NDArray[np.bool_]) -> Chosen:
        """Keep the answers and let the base sets go."""
        return cls(piece.place, np.packbits(flags), flags.size)

    @property
    def flags(self) -> NDArray[np.bool_]:
        """One flag an element."""
        return np.unpackbits(self.packed, count=self.n_elements).view(np.bool_)


class SubsetSumConstruction(Construction):
    """A construction in which every target weight is one subset sum, or one for each sign of its input."""

    @abstractmethod
    def pieces(self, source: Any, layer: WeightLayer, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """Subset-sum problems of a layer, at most about ``elements`` base-set elements a piece."""

    @abstractmethod
    def mask(self, source: Any, plan: LayerPlan, chosen: list[Chosen]) -> Mask:
        """The mask that the chosen elements of all pieces make."""

    @abstractmethod
    def weight_errors(
        self, source: Any, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Errors by target weight, (weights and biases of the piece,), from the errors and sums by problem."""

    def n_problems(self, source: Any, layer: WeightLayer, plan: LayerPlan) -> int:
        """About how many problems a layer has."""
        return layer.n_weights * max(1, len(plan.input_sign.branches))

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Solve piece after piece."""
        chosen: list[Chosen] = []
        errors: list[NDArray[np.float64]] = []
        pieces = self.pieces(source, layer, layer_plan, ELEMENTS_AT_ONCE)
        for piece, flags, piece_errors, sums in solved(
            pieces, plan, layer_plan, work, self.n_problems(source, layer, layer_plan)
        ):
            chosen.append(Chosen.pack(piece, flags))
            errors.append(self.weight_errors(source, piece, piece_errors, sums))
        return Found(self.mask(source, layer_plan, chosen), np.concatenate(errors))


Solved = tuple[Piece, NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]
"""A piece, the chosen elements of its base sets, and the errors and the sums of its problems."""


def solved(
    pieces: Iterable[Piece], plan: Plan, layer_plan: LayerPlan, work: Work, total: int, done: int = 0
) -> Iterator[Solved]:
    """The answers to pieces of a layer's problems, in their order; as many are solved at a time as are held.

    ``total`` and ``done`` are for the report: problems of the layer, and how many of them are solved already.
    """
    waiting: list[Piece] = []

    def answers() -> Iterator[Solved]:
        nonlocal done
        before, within = done, (layer_plan.within, plan.tolerance)
        found = _solve(waiting, *within, work.threads, lambda n: work.report(min(before + n, total), total))
        for piece, (flags, errors, sums) in zip(waiting, found, strict=True):
            done += len(piece.targets)
            yield piece, flags, errors, sums
        waiting.clear()

    for piece in pieces:
        waiting.append(piece)
        if sum(entry.base_sets.size for entry in waiting) >= ELEMENTS_AT_ONCE:
            yield from answers()
    if waiting:
        yield from answers()


def _solve(
    pieces: list[Piece],
    within: float | None,
    tolerance: float | None,
    threads: int | None,
    report: Callable[[int], None],
) -> list[tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]]:
    """Solve the problems of some pieces in one batch; chosen elements, errors and sums, piece by piece."""
    sizes = np.concatenate([piece.sizes for piece in pieces])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    answers = solve(
        np.concatenate([piece.base_sets for piece in pieces]),
        np.concatenate([piece.targets for piece in pieces]),
        offsets=offsets,
        objective="best" if within is None else "sparsest",
        tolerance=tolerance if within is None else within,
        threads=threads,
        on_progress=report,
    )
    flags = _flags(answers.selected, sizes)
    element_ends = np.cumsum([piece.base_sets.size for piece in pieces])[:-1]
    problem_ends = np.cumsum([piece.targets.size for piece in pieces])[:-1]
    by_problem = (np.split(answers.errors, problem_ends), np.split(answers.sums, problem_ends))
    return list(zip(np.split(flags, element_ends), *by_problem, strict=True))


def _flags(selected: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """One flag an element, from one word a problem whose lowest bit is its first element."""
    most = int(sizes.max(initial=0))
    octets = selected.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, : (most + 7) // 8]
    bits = np.unpackbits(octets, axis=1, count=most, bitorder="little").view(np.bool_)
    if int(sizes.min(initial=most)) == most:
        return bits.ravel()
    return bits[np.arange(most) < sizes[:, None]]
