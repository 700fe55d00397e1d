"""What a construction has to say: its source's shape, its subset-sum problems, and the mask that their answers make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.network.target import WeightLayer
from slth.plan import LayerPlan, Plan
from slth.source.spec import SourceLayer
from slth.ticket import LayerMask


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


class Construction:
    """A published way to find a target layer inside random source layers."""

    name: str

    def source_layer(self, plan: Plan, layer_plan: LayerPlan, layer: WeightLayer, seed: int, index: int) -> SourceLayer:
        """Shape and law of the source layers for one target layer; knows the target's shape and nothing more."""
        raise NotImplementedError

    def pieces(self, source: SourceLayer, layer: WeightLayer, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """Subset-sum problems of a layer, at most about ``elements`` base-set elements a piece."""
        raise NotImplementedError

    def mask(self, source: SourceLayer, plan: LayerPlan, chosen: list[Chosen]) -> LayerMask:
        """The mask that the chosen elements of all pieces make."""
        raise NotImplementedError

    def weight_errors(self, source: SourceLayer, piece: Piece, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors by target weight, (weights and biases of the piece,), from the errors by problem."""
        raise NotImplementedError
