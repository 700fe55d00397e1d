"""Batch sampling: one batch of neurons for all weights of a layer, dealt out by a matching.

Orseau, Hutter and Rivasplata 2020, Theorem 3, whose proof deals neurons out by their category alone. But the category
of a neuron (sign of the input it serves, bin of its product) depends on the weight it is used for. Repaired: the batch
is so large that every weight finds n neurons in each of its categories, for n weights; then a matching of slots
(weight, sign, bin) to neurons exists by Hall's theorem, since no neuron fits more than n slots, and is found by the
algorithm of Hopcroft and Karp.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.mask import BIAS
from slth.mask.slots import places, slots_per_group
from slth.source.spec import WholeSource

LARGEST_GRAPH = 200_000_000
"""Weights times neurons beyond which a matching is not looked for (chosen): its edges would not fit into memory."""


def batch_width(n_weights: int, n_bins: float, n_signs: int, total: int, delta: float) -> int:
    """Neurons of a group: ceil(16 k' (n + ln(2 s k' N / delta))), Lemma 29 for every category of every weight.

    Differs from the printed 16 k' (n + ln(2 l k' / delta)), whose categories are not those of single weights.
    """
    return math.ceil(16.0 * n_bins * (n_weights + math.log(2.0 * n_signs * n_bins * total / delta)))


def check_batch(n_weights: int, width: int, name: str) -> None:
    """Refuse a matching that would not fit into memory.

    Raises
    ------
    ArgumentError
        Naming the layer.
    """
    if n_weights * width > LARGEST_GRAPH:
        got = f"{n_weights:,} weights and {width:,} neurons to match"
        raise ArgumentError(
            f"layer {name!r}", got, f"at most {LARGEST_GRAPH:,} pairs of them", "--set sampling=recycled"
        )


def match_group(
    source: WholeSource,
    group: int,
    targets: NDArray[np.float64],
    signs: tuple[int, ...],
    edges: NDArray[np.float64],
    report: Callable[[], None],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Slots, neurons and errors of one group.

    Parameters
    ----------
    source : WholeSource
    group : int
    targets : (slots,) float64
        The group's weights and biases in the order of its slots.
    signs : tuple of int
        Of the layer's input.
    edges : (k + 1,) float64
        Of the bins, from above.
    report : callable
        Called once a weight.

    Returns
    -------
    slots, neurons : (kept,) int64
        Counted over all groups, and from the group's first.
    errors : (slots,) float64
    """
    first = group * slots_per_group(source)
    columns, starts, values = _fits(source, first, targets, signs, edges, report)
    matched = _match(columns, starts, source.neurons_per_group)
    n_bits = len(edges) - 1
    slots, neurons, errors = [], [], np.zeros(len(targets))
    for s, target in enumerate(targets):
        for branch in range(len(signs)):
            rest = abs(target) if branch == 0 or places(source, np.array([first + s]))[1][0] != BIAS else 0.0
            for bit in range(n_bits):
                row = (s * len(signs) + branch) * n_bits + bit
                if rest >= edges[bit] and matched[row] >= 0:
                    here = slice(starts[row], starts[row + 1])
                    rest -= values[here][np.searchsorted(columns[here], matched[row])]
                    slots.append(first + s)
                    neurons.append(int(matched[row]))
            errors[s] = max(errors[s], rest)
    return np.array(slots, np.int64), np.array(neurons, np.int64), errors


def _fits(
    source: WholeSource,
    first: int,
    targets: NDArray[np.float64],
    signs: tuple[int, ...],
    edges: NDArray[np.float64],
    report: Callable[[], None],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
    """Neurons that fit each (weight, sign, bin), in compressed rows, and the magnitudes of their products."""
    neuron = np.arange(source.neurons_per_group)
    group = first // slots_per_group(source)
    columns, counts, values = [], [], []
    for s, target in enumerate(targets):
        output, channel, tap = (int(place[0]) for place in places(source, np.array([first + s])))
        u = source.expand_at(neuron + group * source.neurons_per_group, np.full_like(neuron, channel)).astype(
            np.float64
        )
        product = u * source.combine_at(np.full_like(neuron, output), neuron, np.full_like(neuron, tap))
        # Bin i holds magnitudes in (edges[i + 1], edges[i]].
        bins = len(edges) - 1 - np.searchsorted(edges[::-1], np.abs(product), side="left")
        right = (product * target > 0.0) & (bins >= 0) & (bins < len(edges) - 1)
        for number, sign in enumerate(signs):
            wanted = (1 if number == 0 else 0) if channel == BIAS else sign
            for bit in range(len(edges) - 1):
                found = np.flatnonzero(right & (bins == bit) & (u * wanted > 0))
                columns.append(found.astype(np.int32))
                values.append(np.abs(product[found]))
                counts.append(len(found))
        report()
    return np.concatenate(columns), np.concatenate([[0], np.cumsum(counts)]), np.concatenate(values)


def _match(columns: NDArray[np.int32], starts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    graph = csr_matrix((np.ones(len(columns), np.int8), columns, starts), shape=(len(starts) - 1, width))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column"), dtype=np.int64)
