"""Compiled loops of the golden ratio: sorting products into bins, the greedy sum, and the neurons of a round."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def peel(
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    place: NDArray[np.int64],
    target: NDArray[np.float64],
    signs: NDArray[np.int64],
    edges: NDArray[np.float64],
    bins: tuple[int, int],
    rows: NDArray[np.int64],
    found: NDArray[np.int64],
    value: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    remainder: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Note the first product of each bin and take the greedy sum as far as it goes.

    Parameters
    ----------
    u, v : (n, c) float32
        Incoming and outgoing weights of neurons.
    place : (n, c) int64
        The neurons' numbers, ascending in each row and above those seen before.
    target : (rounds,) float64
    signs : (rounds, signs) int64
        Signs of u that are asked for; 0 asks for none.
    edges : (k + 1,) float64
        Of the bins, from above: bin i holds magnitudes in (edges[i + 1], edges[i]].
    bins : pair of int
        The bins that these neurons serve, first and one past the last.
    rows : (n,) int64
        The round of each row of `u` and `v`.
    found, value : (rounds, signs, k)
        Number of the first neuron whose product lies in each bin (-1: none yet) and the magnitude; added to.
    chosen : (rounds, signs, k) bool
        Bins that the greedy sum takes; written.
    remainder : (rounds, signs) float64
        What the greedy sum leaves of the target's magnitude; written.

    Returns
    -------
    (n,) bool
        Whether one of these bins, which the greedy sum needs, is still empty.
    """
    more = np.zeros(len(rows), np.bool_)
    _peel(u, v, place, target, signs, edges, *bins, rows, found, value, chosen, remainder, more)
    return more


@numba.njit(cache=True, nogil=True)
def _peel(
    u: Any, v: Any, place: Any, target: Any, signs: Any, edges: Any, begin: Any, end: Any, rows: Any,
    found: Any, value: Any, chosen: Any, remainder: Any, more: Any,
) -> None:  # fmt: skip
    n_bits = edges.size - 1
    for n in range(rows.size):
        r = rows[n]
        for c in range(u.shape[1]):
            product = np.float64(u[n, c]) * np.float64(v[n, c])
            size = abs(product)
            if product * target[r] <= 0.0 or size > edges[begin] or size <= edges[end]:
                continue
            low, high = begin, end - 1
            while low < high:
                middle = (low + high) >> 1
                if size > edges[middle + 1]:
                    high = middle
                else:
                    low = middle + 1
            for s in range(signs.shape[1]):
                if signs[r, s] != 0 and (u[n, c] > 0.0) == (signs[r, s] > 0) and found[r, s, low] < 0:
                    found[r, s, low] = place[n, c]
                    value[r, s, low] = size
        for s in range(signs.shape[1]):
            rest = abs(target[r]) if signs[r, s] != 0 else 0.0
            for i in range(n_bits):
                taken = False
                if rest >= edges[i]:
                    if found[r, s, i] >= 0:
                        rest -= value[r, s, i]
                        taken = True
                    elif begin <= i < end:
                        more[n] = True
                chosen[r, s, i] = taken
            remainder[r, s] = rest


@numba.njit(cache=True, nogil=True)
def upcoming(taken: Any, cursor: Any, rows: Any, count: Any) -> Any:
    """The next neurons of some rounds that no weight has taken yet, ascending.

    Parameters
    ----------
    taken : (rounds, neurons) bool
    cursor : (rounds,) int64
        Where each round goes on; moved on.
    rows : (n,) int64
        The rounds.
    count : int
        How many; there must be as many.

    Returns
    -------
    (n, count) int64
    """
    place = np.empty((rows.size, count), np.int64)
    for n in range(rows.size):
        at = cursor[rows[n]]
        for c in range(count):
            while taken[rows[n], at]:
                at += 1
            place[n, c] = at
            at += 1
        cursor[rows[n]] = at
    return place


@numba.njit(cache=True, nogil=True)
def take(taken: Any, found: Any, chosen: Any, begin: Any, end: Any) -> None:
    """Note the neurons that the greedy sums have taken for some bins.

    Parameters
    ----------
    taken : (rounds, neurons) bool
        Added to.
    found, chosen : (rounds, signs, k)
        As in :func:`peel`.
    begin, end : int
        Which bins.
    """
    for r in range(found.shape[0]):
        for s in range(found.shape[1]):
            for i in range(begin, end):
                if chosen[r, s, i]:
                    taken[r, found[r, s, i]] = True
