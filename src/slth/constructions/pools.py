"""Exhaustion: in the pool of every weight the neuron whose product is closest to it, for each sign of the input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Work
from slth.mask import BIAS
from slth.mask.slots import places, slots_per_group
from slth.network.graph import Sign
from slth.source.spec import PoolSource
from slth.subsetsum.schedule import count_threads

NEURONS_AT_ONCE = 1 << 19
"""Neurons looked at in one go by one thread (chosen): their weights stay in the cache."""

HEADROOM = 1.5
"""Scale over the largest weight (chosen): products of two uniform numbers thin out towards the ends of their range."""


@dataclass(frozen=True)
class Pools:
    """What was found in all pools.

    Attributes
    ----------
    counts : int64 array, (slots,)
        Neurons kept of each pool.
    neurons : int64 array, (kept neurons,)
        Their numbers within the pool, slot by slot, ascending.
    errors : float64 array, (slots,)
        Distance between the target and the product, the larger one of the two signs.
    """

    counts: NDArray[np.int64]
    neurons: NDArray[np.int64]
    errors: NDArray[np.float64]


@dataclass(frozen=True)
class _Choice:
    """For some slots and one sign: the neuron of each slot's pool that is kept (-1: none), and the error."""

    neuron: NDArray[np.int64]
    error: NDArray[np.float64]


def search_pools(
    source: PoolSource, targets: NDArray[np.float64], least: NDArray[np.float64], sign: Sign, work: Work
) -> Pools:
    """Look through every pool.

    Parameters
    ----------
    source : PoolSource
    targets : (slots,) float64
    least : (slots,) float64
        Targets that are no larger in size keep nothing.
    sign : Sign
        Of the layer's input.
    work : Work
    """
    step = max(1, NEURONS_AT_ONCE // source.block_width)
    starts = range(0, len(targets), step)
    neurons, errors = [np.zeros((0, len(sign.branches)), np.int64)], [np.zeros(0)]

    def search(start: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        here = np.arange(start, min(start + step, len(targets)))
        return _search(source, here, targets[here], least[here], sign)

    with ThreadPoolExecutor(count_threads(work.threads)) as pool:
        try:
            for start, (chosen, error) in zip(starts, pool.map(search, starts), strict=True):
                neurons.append(chosen)
                errors.append(error)
                work.report(min(start + step, len(targets)), len(targets))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    # One column a sign; ascending within a slot, as masks want them.
    table = np.sort(np.concatenate(neurons), axis=1)
    return Pools((table >= 0).sum(axis=1), table[table >= 0], np.concatenate(errors))


def _search(
    source: PoolSource, slot: NDArray[np.int64], target: NDArray[np.float64], least: NDArray[np.float64], sign: Sign
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Neurons kept, (slots, signs), and errors, (slots,), of some slots."""
    output, channel, tap = (place[:, None] for place in places(source, slot))
    member = np.arange(source.block_width)
    neuron = slot[:, None] * source.block_width + member
    u = source.expand_at(neuron, np.broadcast_to(channel, neuron.shape)).astype(np.float64)
    local = slot[:, None] % slots_per_group(source) * source.block_width + member
    products = source.combine_at(output, local, tap).astype(np.float64) * u
    is_bias = channel[:, 0] == BIAS
    choices: list[_Choice] = []
    for branch in sign.branches:
        # A bias needs one neuron, whatever the signs of the input: the first branch has it.
        wanted = np.where(is_bias, 1, branch)
        choice = _closest(products, u * wanted[:, None] > 0, target, np.abs(target) <= least)
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
