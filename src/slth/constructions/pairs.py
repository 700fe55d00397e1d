"""Two source layers for one target layer, with a pool of neurons of its own for every weight.

Malach, Yehudai, Shalev-Shwartz and Shamir 2020, Theorem 2.1 with lemmas A.1 to A.6. From the pool of a weight w, two
neurons are kept, of which each keeps one incoming weight u and one outgoing weight v: one with u > 0 for inputs
x >= 0 and one with u < 0 for x <= 0, because

    v relu(u x) = v u x    where u x >= 0, and 0 elsewhere.

A sign that x cannot take needs no neuron. The neuron is the one whose product v u is closest to w, which is at least as
close as the paper's rule (|u - w| <= eps and |v - 1| <= eps, or both negated). Weights within the tolerance of 0 keep
nothing, and so do weights to which 0 is closer than any product. Biases, which the paper has none of, are served by
pools of neurons that keep their bias b > 0 alone, v relu(b) = v b.

Differs: combining weights are drawn from U[-scale, scale], so that weights above 1 need no normalisation (the paper
multiplies the output instead, Remark 2.2).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Construction, Found, Work
from slth.mask import BIAS, SlotMask
from slth.mask.slots import places, slot_targets, slots_per_group
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import LayerPlan, Plan, Size, Wishes, magnitudes
from slth.source.spec import PoolSource
from slth.subsetsum.schedule import count_threads

_CANDIDATES_AT_ONCE = 1 << 19
"""Neurons looked at in one go by one thread (chosen): their weights stay in the cache."""

HEADROOM = 1.5
"""Scale over the largest weight (chosen): products of two uniform numbers thin out towards the ends of their range."""


@dataclass(frozen=True)
class _Choice:
    """For some slots and one sign: the neuron of each slot's pool that is kept (-1: none), and the error."""

    neuron: NDArray[np.int64]
    error: NDArray[np.float64]


class Pairs(Construction):
    """A pool for every weight; two neurons of it for the two signs of the input."""

    name = "pairs"
    source_type = PoolSource
    mask_type = SlotMask
    default_size = 1000
    largest_size = 1 << 24
    initialisations = ("uniform",)

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Any pool may turn out to reach any tolerance."""

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, size: int) -> Size:
        """Pools of the size asked for; a scale that reaches the layer's largest weight."""
        top = float(magnitudes(layer).max(initial=0.0))
        with np.errstate(over="ignore"):
            return Size(size, float(np.float32(HEADROOM * top)) if top else 1.0)

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Look through every pool."""
        targets = slot_targets(source, layer)
        step = max(1, _CANDIDATES_AT_ONCE // source.block_width)
        starts = range(0, len(targets), step)
        neurons: list[NDArray[np.int64]] = []
        errors: list[NDArray[np.float64]] = []

        def search(start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            return _search(source, targets, start, min(start + step, len(targets)), plan, layer_plan.input_sign)

        with ThreadPoolExecutor(count_threads(work.threads)) as pool:
            try:
                for start, (chosen, error) in zip(starts, pool.map(search, starts), strict=True):
                    neurons.append(chosen)
                    errors.append(error)
                    work.report(min(start + step, len(targets)), len(targets))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        # One column a sign; ascending within a slot, as the mask wants them.
        table = np.sort(np.concatenate(neurons), axis=1)
        return Found(SlotMask.build(source, (table >= 0).sum(axis=1), table[table >= 0]), np.concatenate(errors))


def _search(
    source: PoolSource, targets: NDArray[np.float64], start: int, stop: int, plan: Plan, sign: Sign
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Neurons kept, (slots, signs), and errors, (slots,), of the slots from `start` up to `stop`."""
    slot = np.arange(start, stop)
    output, channel, tap = (place[:, None] for place in places(source, slot))
    member = np.arange(source.block_width)
    neuron = slot[:, None] * source.block_width + member
    u = source.expand_at(neuron, np.broadcast_to(channel, neuron.shape)).astype(np.float64)
    local = slot[:, None] % slots_per_group(source) * source.block_width + member
    products = source.combine_at(output, local, tap).astype(np.float64) * u
    target = targets[start:stop]
    none = np.zeros(len(slot), np.bool_) if plan.tolerance is None else np.abs(target) <= plan.tolerance
    is_bias = channel[:, 0] == BIAS
    choices: list[_Choice] = []
    for branch in sign.branches:
        # A bias needs one neuron, whatever the signs of the input: the first branch has it.
        wanted = np.where(is_bias, 1, branch)
        choice = _closest(products, u * wanted[:, None] > 0, target, none)
        if choices:
            choice = _Choice(np.where(is_bias, -1, choice.neuron), choice.error)
        choices.append(choice)
    return np.stack([choice.neuron for choice in choices], axis=1), np.max([c.error for c in choices], axis=0)


def _closest(
    products: NDArray[np.float64], usable: NDArray[np.bool_], target: NDArray[np.float64], none: NDArray[np.bool_]
) -> _Choice:
    """The usable product closest to each target, or nothing where 0 is as close."""
    distance = np.where(usable, np.abs(products - target[:, None]), np.inf)
    best = distance.argmin(axis=1)
    error = distance[np.arange(len(best)), best]
    empty = none | (error >= np.abs(target))
    return _Choice(np.where(empty, -1, best), np.where(empty, np.abs(target), error))
