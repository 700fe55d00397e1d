"""Whether the subset sums of a base set come within eps of every number of an interval: exactly, in bounded memory.

The interval [-r, r] is covered iff of the sums in [-r - eps, r + eps] the first is at most -r + eps, the last at least
r - eps, and no two neighbours are more than 2 eps apart. Neighbours need not be sorted out one by one: the sums are
dealt into cells of width eps, of which only the least and the greatest sum are kept. Inside a cell no gap is wider than
eps; every wider one lies between the greatest sum of a cell and the least of the next that is not empty. So the memory
is a cell for every eps, whatever the number of sums, and more sums never undo a success: it can be noticed early.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LEAST_RATIO = 1e-6
"""Least eps, as a share of the interval's half-width (chosen): two million cells, 32 MB."""

_SORTED = 13
"""Elements whose sums are held and sorted (chosen): 2^13 of them fit the first two caches."""

_SLICE = 1 << 14
"""Sorted lists dealt before Python may stop the work (chosen): about 2^27 sums, a fifth of a second."""


@numba.njit(cache=True, nogil=True)
def _deal(chosen: Any, start: int, stop: int, sums: Any, edge: float, width: float, low: Any, high: Any) -> None:
    """Deal the sums of ``sums`` and each of the subsets ``start`` to ``stop`` of ``chosen`` into the cells."""
    for subset in range(start, stop):
        shift = 0.0
        for k in range(chosen.size):
            if subset >> k & 1:
                shift += chosen[k]
        first = np.searchsorted(sums, -edge - shift)
        for index in range(first, sums.size):
            value = shift + sums[index]
            if value > edge:
                break
            cell = min(max(int((value + edge) / width), 0), low.size - 1)
            low[cell] = min(low[cell], value)
            high[cell] = max(high[cell], value)


@numba.njit(cache=True, nogil=True)
def _without_gap(low: Any, high: Any, reach: float, eps: float) -> bool:
    last = -reach - eps
    for cell in range(low.size):
        if low[cell] <= high[cell]:
            if low[cell] - last > 2 * eps:
                return False
            last = high[cell]
    return bool(last >= reach - eps)


@numba.njit(cache=True, nogil=True)
def _sorted_sums(elements: Any) -> Any:
    sums = np.zeros(1 << elements.size)
    count = 1
    for element in elements:
        for k in range(count):
            sums[count + k] = sums[k] + element
        count *= 2
    sums.sort()
    return sums


def covers(elements: NDArray[np.float64], eps: float, reach: float = 1.0) -> bool:
    """Whether every z in [-reach, reach] is within eps of the sum of some subset.

    Sums are rounded to float64, so a gap within about m 2^-53 of 2 eps may be taken for either.

    Parameters
    ----------
    elements : (m,) float64
    eps, reach : float
        ``LEAST_RATIO * reach <= eps``.

    Examples
    --------
    >>> covers(np.array([-1.0, 0.5, 1.0]), 0.25), covers(np.array([-1.0, 0.5, 1.0]), 0.24)
    (True, False)
    """
    useful = np.ascontiguousarray(elements[elements != 0.0])
    # What can be said without looking at sums: the ends are out of reach, or 2^m intervals are too few.
    if min(useful[useful > 0].sum(), -useful[useful < 0].sum()) < (reach - eps) * (1 - 1e-12):
        return False
    if useful.size < 64 and 2.0**useful.size * eps < reach * (1 - 1e-12):
        return False
    sums = _sorted_sums(useful[:_SORTED])
    chosen = useful[_SORTED:]
    edge = reach + eps
    cells = math.ceil(2 * edge / eps) + 1
    low, high = np.full(cells, np.inf), np.full(cells, -np.inf)
    done, total = 0, 1 << chosen.size
    while done < total:
        # Twice as many subsets are those with one element more.
        stop = min(max(2 * done, 1), done + _SLICE, total)
        _deal(chosen, done, stop, sums, edge, eps, low, high)
        done = stop
        if _without_gap(low, high, reach, eps):
            return True
    return False
