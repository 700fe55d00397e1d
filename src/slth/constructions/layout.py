"""What a file's reader has to know of a ticket's kind: the layouts of its source and of its masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from slth.mask import Mask
from slth.network.graph import Graph
from slth.plan import OBJECTIVES
from slth.source.spec import SourceLayer


class Layout:
    """How the source and the masks of a kind of ticket lie.

    Attributes
    ----------
    name : str
        In the file, as its construction.
    source_type, mask_type : type
        Layout of the source and of the mask.
    largest_size : int
        Of the base sets.
    initialisations : tuple of str
        Laws of the source that it knows.
    objectives : tuple of str
        By which a mask may have been found.
    even_width : bool
        Whether blocks have an even number of neurons.
    any_activation, any_law : bool
        Whether the source may have another activation than ReLU between its layers, or another law than it prescribes.
    settings : mapping of str to object
        What it alone knows, with the defaults.
    """

    name: str
    source_type: type[SourceLayer]
    mask_type: type[Mask]
    largest_size: int
    initialisations: tuple[str, ...]
    objectives: tuple[str, ...] = OBJECTIVES
    even_width: bool = False
    any_activation: bool = False
    any_law: bool = False
    settings: Mapping[str, Any] = MappingProxyType({})

    def layout(self, order: str) -> type[SourceLayer]:
        """The source's type by the order of its two layers, for constructions that have both orders."""
        return self.source_type

    def mask_layout(self, source: SourceLayer) -> type[Mask]:
        """The mask's type that fits a source layer."""
        return self.mask_type

    def connect(self, graph: Graph, sources: tuple[SourceLayer, ...]) -> tuple[SourceLayer, ...]:
        """The source's layers as they are where each knows of the others; made one by one they know their own shape.

        Raises
        ------
        ArgumentError
            If they do not fit together.
        """
        return sources

    def check_masks(self, graph: Graph, sources: Sequence[SourceLayer], masks: Sequence[Mask]) -> None:
        """Refuse masks that fit their layers one by one and not the construction.

        Raises
        ------
        TicketError
        """
