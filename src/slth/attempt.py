"""Stages 4 to 6 for one plan: the source is drawn, and the masks are found in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slth.constructions import CONSTRUCTIONS
from slth.constructions.base import Found, Work
from slth.mask import Mask
from slth.network.target import Target, WeightLayer
from slth.plan import LayerPlan, Plan
from slth.realise import survivors_digest
from slth.source.spec import SourceLayer, SourceSpec
from slth.ticket import ERROR_EDGES, LayerFacts

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, the problems of it that are solved, and about how many it has."""


@dataclass(frozen=True)
class Attempt:
    """What came of one plan."""

    plan: Plan
    spec: SourceSpec
    masks: tuple[Mask, ...]
    facts: tuple[LayerFacts, ...]

    @property
    def n_kept(self) -> int:
        """Surviving weights and biases of the source."""
        return sum(mask.n_kept for mask in self.masks)


def attempt(
    target: Target,
    plan: Plan,
    seed: int,
    threads: int | None,
    on_progress: Progress | None = None,
    before: Attempt | None = None,
) -> Attempt:
    """Draw the source of a plan and find the masks.

    Parameters
    ----------
    target : Target
    plan : Plan
    seed : int
    threads : int or None
        None: all cores.
    on_progress : callable, optional
    before : Attempt, optional
        With another plan for the same target and seed: layers whose source and plan are the same keep their masks.

    Returns
    -------
    Attempt
        The same with and without ``before``.
    """

    def work(layer: WeightLayer) -> Work:
        def report(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(layer.name, done, total)

        return Work(threads, report)

    spec = draw_source(target, plan, seed)
    known = _standing(plan, spec, before)
    found = CONSTRUCTIONS[plan.construction].find_layers(target, spec.layers, plan, work, known)
    masks, facts = [], []
    for number, (answer, layer) in enumerate(zip(found, target, strict=True)):
        if answer is None:
            assert before is not None
            masks.append(before.masks[number])
            facts.append(before.facts[number])
        else:
            masks.append(answer.mask)
            facts.append(_facts(plan, plan.layers[number], layer, spec.layers[number], answer))
    return Attempt(plan, spec, tuple(masks), tuple(facts))


def draw_source(target: Target, plan: Plan, seed: int) -> SourceSpec:
    """The source network, before any subset sum is looked at."""
    method = CONSTRUCTIONS[plan.construction]
    layers = tuple(
        method.source_layer(plan, layer_plan, layer, seed, index)
        for index, (layer_plan, layer) in enumerate(zip(plan.layers, target.layers, strict=True))
    )
    return SourceSpec(seed, plan.initialisation, method.connect(target.graph, layers))


def _standing(plan: Plan, spec: SourceSpec, before: Attempt | None) -> list[Mask | None]:
    """Masks of layers in which nothing has changed."""
    if before is None or before.spec.seed != spec.seed:
        return [None] * len(plan.layers)
    now, then = (
        list(zip(of.layers, drawn.layers, strict=True)) for of, drawn in ((plan, spec), (before.plan, before.spec))
    )
    return [mask if new == old else None for new, old, mask in zip(now, then, before.masks, strict=True)]


def _facts(plan: Plan, layer_plan: LayerPlan, layer: WeightLayer, source: SourceLayer, found: Found) -> LayerFacts:
    errors = found.errors
    histogram = np.bincount(np.searchsorted(ERROR_EDGES, errors), minlength=len(ERROR_EDGES) + 1)
    return LayerFacts(
        name=layer.name,
        input_sign=layer_plan.input_sign,
        n_weights=layer.n_weights,
        missed=0 if plan.tolerance is None else int((errors > plan.tolerance).sum()),
        max_weight_error=float(errors.max()),
        # Rounded once, so that it does not depend on the order in which the pieces come.
        mean_weight_error=math.fsum(errors) / errors.size,
        error_histogram=tuple(int(count) for count in histogram),
        survivors_digest=survivors_digest(source, found.mask),
    )
