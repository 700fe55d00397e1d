"""Tickets without a target: a mask over a random network of the very architecture, found by training scores.

Ramanujan et al. 2020; Zhou et al. 2019; Diffenderfer and Kailkhura 2021. :mod:`slth.learn` finds them; nothing is
searched for here.
"""

from __future__ import annotations

from slth.constructions.layout import Layout
from slth.errors import ArgumentError
from slth.mask import PlainMask
from slth.mask.plain import METHODS
from slth.network.graph import Graph
from slth.source.plain import PlainSource
from slth.source.spec import SourceLayer


class Direct(Layout):
    """A source of the network's own shape, and one bit for each of its weights."""

    name = "direct"
    source_type = PlainSource
    mask_type = PlainMask
    largest_size = 1
    initialisations = ("uniform",)
    objectives = METHODS
    any_law = True

    def connect(self, graph: Graph, sources: tuple[SourceLayer, ...]) -> tuple[SourceLayer, ...]:
        """The layers, which have no blocks and nothing before them.

        Raises
        ------
        ArgumentError
            If one says that it has.
        """
        for source in sources:
            if source.block_width != 1 or source.expand_scale != 1.0:
                got = f"a block width of {source.block_width}, an expanding scale of {source.expand_scale:g}"
                raise ArgumentError(f"source layer {source.index}", got, "1 and 1 in a source of one layer each")
        return sources
