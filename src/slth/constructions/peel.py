"""Compiled loops of the golden ratio: sorting products into bins, the greedy sum, and the neurons of a round."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def peel(
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    target: NDArray[np.float64],
    signs: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    seen: int,
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    value: NDArray[np.float64],
    chosen: NDArray[np.int64],
    remainder: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Note the first product of each bin and take the greedy sum as far as it goes.

    Parameters
    ----------
    u, v : (n, c) float32
        Incoming and outgoing weights of the neurons in the columns ``seen`` to ``seen + c``.
    target : (rounds,) float64
    signs : (rounds, signs) int64
        Signs of u that are asked for; 0 asks for none.
    thresholds : (k + 1,) float64
        Edges of the bins from above: bin i holds magnitudes in (thresholds[i + 1], thresholds[i]].
    rows : (n,) int64
        The round of each row of `u` and `v`.
    first, value : (rounds, signs, k)
        Column of the first product in each bin (-1: none yet) and the product's magnitude; added to.
    chosen : (rounds, signs * k) int64
        Columns that the greedy sum takes, -1 elsewhere; written.
    remainder : (rounds, signs) float64
        What the greedy sum leaves of the target's magnitude; written.

    Returns
    -------
    (n,) bool
        Whether a bin that the greedy sum needs is still empty.
    """
    more = np.zeros(len(rows), np.bool_)
    _peel(u, v, target, signs, thresholds, seen, rows, first, value, chosen, remainder, more)
    return more


@numba.njit(cache=True, nogil=True)
def _peel(
    u: Any, v: Any, target: Any, signs: Any, thresholds: Any, seen: Any, rows: Any,
    first: Any, value: Any, chosen: Any, remainder: Any, more: Any,
) -> None:  # fmt: skip
    n_bits = thresholds.size - 1
    for n in range(rows.size):
        r = rows[n]
        for c in range(u.shape[1]):
            product = np.float64(u[n, c]) * np.float64(v[n, c])
            size = abs(product)
            if product * target[r] <= 0.0 or size > thresholds[0] or size <= thresholds[n_bits]:
                continue
            low, high = 0, n_bits - 1
            while low < high:
                middle = (low + high) >> 1
                if size > thresholds[middle + 1]:
                    high = middle
                else:
                    low = middle + 1
            for s in range(signs.shape[1]):
                if signs[r, s] != 0 and (u[n, c] > 0.0) == (signs[r, s] > 0) and first[r, s, low] < 0:
                    first[r, s, low] = seen + c
                    value[r, s, low] = size
        for s in range(signs.shape[1]):
            rest = abs(target[r]) if signs[r, s] != 0 else 0.0
            for i in range(n_bits):
                chosen[r, s * n_bits + i] = -1
                if rest >= thresholds[i]:
                    if first[r, s, i] < 0:
                        more[n] = True
                    else:
                        rest -= value[r, s, i]
                        chosen[r, s * n_bits + i] = first[r, s, i]
            remainder[r, s] = rest


@numba.njit(cache=True, nogil=True)
def refill(members: Any, following: Any, chosen: Any) -> None:
    """Take the chosen columns out of every row of `members`, move up the rest, and fill up with fresh neurons.

    Parameters
    ----------
    members : (rounds, m) int64
    following : (rounds,) int64
        The next fresh neuron of each round.
    chosen : (rounds, n) int64
        Columns, -1 for none.
    """
    width = members.shape[1]
    for r in range(members.shape[0]):
        for k in range(chosen.shape[1]):
            if chosen[r, k] >= 0:
                members[r, chosen[r, k]] = -1
        to = 0
        for c in range(width):
            if members[r, c] >= 0:
                members[r, to] = members[r, c]
                to += 1
        while to < width:
            members[r, to] = following[r]
            following[r] += 1
            to += 1
