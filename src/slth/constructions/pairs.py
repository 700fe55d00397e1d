"""Two source layers for one target layer, with a pool of neurons of its own for every weight.

Malach, Yehudai, Shalev-Shwartz and Shamir 2020, Theorem 2.1 with lemmas A.1 to A.6. From the pool of a weight w, two
neurons are kept, of which each keeps one incoming weight u and one outgoing weight v: one with u > 0 for inputs
x >= 0 and one with u < 0 for x <= 0, because

    v relu(u x) = v u x    where u x >= 0, and 0 elsewhere.

A sign that x cannot take needs no neuron. The neuron is the one whose product v u is closest to w, which is at least as
close as the paper's rule (|u - w| <= eps and |v - 1| <= eps, or both negated). Weights within the tolerance of 0 keep
nothing, and so do weights to which 0 is closer than any product. Biases, which the paper has none of, are served by
pools of neurons that keep their bias b > 0 alone, v relu(b) = v b.

A target of two layers may have a source of three instead, :mod:`slth.constructions.pairs_three`.

Differs: combining weights are drawn from U[-scale, scale], so that weights above 1 need no normalisation (the paper
multiplies the output instead, Remark 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from slth.bounds.base_sets import ALLOWED_TAIL
from slth.candidates import check_masks, connected, has_candidates
from slth.constructions.base import Construction, Found, Work
from slth.constructions.pairs_three import PARTS, as_part, find_layers, unneeded
from slth.constructions.pairs_three import check as check_three
from slth.constructions.pairs_three import sizes as sizes_three
from slth.constructions.pools import HEADROOM, search_pools
from slth.errors import ArgumentError
from slth.mask import CandidateMask, Mask, OutputMask, SlotMask
from slth.mask.slots import slot_targets
from slth.network.graph import Graph, Sign
from slth.network.target import Target, WeightLayer
from slth.plan import NO_SETTINGS, Goal, LayerPlan, Plan, Size, Wishes, magnitudes
from slth.source.candidates import CandidateSource, OutputSource
from slth.source.spec import PoolSource, SourceLayer

_LEVELS = 256
"""Weights of a layer, at most about, that a forecast of errors looks at."""

DOUBLE, THREE = "double", "three"
"""Depths of the source: two layers for each of the target's, or three for a target of two."""


class Pairs(Construction):
    """A pool for every weight; two neurons of it for the two signs of the input."""

    name = "pairs"
    source_type = PoolSource
    mask_type = SlotMask
    default_size = 1000
    largest_size = 1 << 24
    initialisations = ("uniform",)
    settings = MappingProxyType({"depth": DOUBLE, "candidates": None})

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Any pool may turn out to reach any tolerance; but depth three is for targets of two layers."""
        depth = wishes.settings["depth"]
        if depth not in (DOUBLE, THREE):
            raise ArgumentError("depth", repr(depth), f"{DOUBLE} or {THREE}", f"--set depth={DOUBLE}")
        if _is_three(wishes.settings):
            check_three(target, wishes)
        elif wishes.settings["candidates"] is not None:
            raise ArgumentError("candidates", f"depth={DOUBLE}", "a source that has candidates", f"--set depth={THREE}")

    def sizes(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
        """Layer by layer, or of depth three both together."""
        if _is_three(wishes.settings):
            return sizes_three(target, wishes, goals)
        return super().sizes(target, signs, wishes, goals)

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Pools of the size asked for; a scale that reaches the layer's largest weight."""
        top = float(magnitudes(layer).max(initial=0.0))
        with np.errstate(over="ignore"):
            return Size(goal.base_set_size, float(np.float32(HEADROOM * top)) if top else 1.0)

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float]:
        """From the density of products near a weight, -ln(|w| / scale) / (4 scale) for either sign of u."""
        values = magnitudes(layer)
        scale = HEADROOM * float(values.max())
        values = np.sort(values[values > 0])[:: max(1, values.size // _LEVELS)]
        hits = -np.log(values / scale) / (2 * scale) * size
        # Of the neurons within e of w there are hits e on average, so none with probability exp(-hits e); the worse of
        # two signs is then off by 1.5 / hits on average.
        return float(np.minimum(1.5 / hits, values).mean()), float(math.log(values.size / ALLOWED_TAIL) / hits.min())

    def element_cost(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any] = NO_SETTINGS) -> int:
        """Source weights for one neuron in each pool."""
        return super().element_cost(layer, sign, settings) // 2

    def layout(self, order: str) -> type[SourceLayer]:
        """Of depth three by its two parts, else pools."""
        return next((part for part in PARTS if part.order == order), PoolSource)

    def mask_layout(self, source: SourceLayer) -> type[Mask]:
        """The mask's type that fits a source layer."""
        if isinstance(source, CandidateSource):
            return CandidateMask
        return OutputMask if isinstance(source, OutputSource) else SlotMask

    def source_layer(self, plan: Plan, layer_plan: LayerPlan, layer: WeightLayer, seed: int, index: int) -> SourceLayer:
        """Pools, or of depth three one part for each of the two target layers."""
        made = super().source_layer(plan, layer_plan, layer, seed, index)
        return as_part(made, index) if _is_three(plan.settings) else made

    def connect(self, graph: Graph, sources: tuple[SourceLayer, ...]) -> tuple[SourceLayer, ...]:
        """Of depth three the first part with the groups that the second has."""
        return connected(graph, sources) if has_candidates(sources) else sources

    def check_masks(self, graph: Graph, sources: Sequence[SourceLayer], masks: Sequence[Mask]) -> None:
        """Of depth three the two masks have to keep the same candidates."""
        if has_candidates(sources):
            check_masks(sources, masks)

    def find_layers(
        self,
        target: Target,
        sources: Sequence[SourceLayer],
        plan: Plan,
        work: Callable[[WeightLayer], Work],
        known: Sequence[Mask | None],
    ) -> Iterator[Found | None]:
        """Layer after layer, or of depth three both together."""
        if has_candidates(sources):
            together = find_layers(target, sources, plan, work)
            return iter((None, None)) if all(mask is not None for mask in known) else together
        return super().find_layers(target, sources, plan, work, known)

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Look through every pool."""
        targets = slot_targets(source, layer)
        least = np.full(len(targets), unneeded(plan, layer_plan))
        pools = search_pools(source, targets, least, layer_plan.input_sign, work)
        return Found(SlotMask.build(source, pools.counts, pools.neurons), pools.errors)


def _is_three(settings: Mapping[str, Any]) -> bool:
    """Whether the source is to have depth three."""
    return bool(settings.get("depth", DOUBLE) == THREE)
