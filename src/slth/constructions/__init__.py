"""Stage 6: which random weights form the base set of which target weight. One file a published construction."""

from __future__ import annotations

from slth.constructions.base import Construction
from slth.constructions.conv import Conv
from slth.constructions.direct import Direct
from slth.constructions.golden_ratio import GoldenRatio
from slth.constructions.layout import Layout
from slth.constructions.one_for_one import OneForOne
from slth.constructions.pairs import Pairs
from slth.constructions.two_for_one import TwoForOne

CONSTRUCTIONS: dict[str, Construction] = {
    construction.name: construction for construction in (TwoForOne(), OneForOne(), Pairs(), GoldenRatio(), Conv())
}
"""By which tickets are found for targets."""

LAYOUTS: dict[str, Layout] = {**CONSTRUCTIONS, Direct.name: Direct()}
"""Every kind of ticket that a file may hold."""

__all__ = ["CONSTRUCTIONS", "LAYOUTS", "Construction", "Layout"]
