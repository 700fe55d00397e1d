"""The optimum by a second method that shares nothing with the solvers: sorted sums in plain float64.

Its sums are rounded: of m additions of numbers up to m, for elements of at most 1 in magnitude, each is off by at most
m 2^-53. Errors recomputed from a mask are rounded the same way, so that an answer and the optimum are held to be equal
within :func:`slack`. Seeded problems do not come that close to a tie by chance below m = 40.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.bench.problems import Problems

_SAMPLE = 256
"""Answers for `first` of which it is found out how far from the least error they are (chosen)."""
_MOST_SUMS = 2**24
"""Sums to sort and look up in each half for all problems (chosen)."""
_BLOCK = 2**21
"""Numbers held at a time (chosen)."""
_MOST_SUBSETS = 2**22
_MOST_WORK = 10**9
"""What `sparsest` may cost to check (chosen), in sums for one problem and for all; what lies beyond is not checked."""


@dataclass(frozen=True)
class Optimum:
    """What the best answers to P problems look like.

    Attributes
    ----------
    errors : (P,) float64
        |target - sum| of a best subset; NaN where it is not known and need not be.
    sizes : (P,) int64
        For `sparsest`, its number of elements where it is within the tolerance; -1 where it does not matter.
    known : (P,) bool
        False where finding out would have taken too long.
    """

    errors: NDArray[np.float64]
    sizes: NDArray[np.int64]
    known: NDArray[np.bool_]


def slack(m: int) -> float:
    """Two errors closer than this are equal as far as float64 can tell (proved for elements in [-1, 1])."""
    return 2.0 * m * m * 2.0**-53


def errors_of(problems: Problems, selected: NDArray[np.uint64]) -> NDArray[np.float64]:
    """|target - sum| of chosen subsets, (P,); whoever chose them has no say in it."""
    bits = selected[:, None] >> np.arange(problems.m, dtype=np.uint64) & np.uint64(1)
    sums: NDArray[np.float64] = np.where(bits == 1, problems.base, 0.0).sum(axis=1)
    return np.abs(sums - problems.targets)


def sizes_of(selected: NDArray[np.uint64], m: int) -> NDArray[np.int64]:
    """Elements in each subset, (P,)."""
    bits = selected[:, None] >> np.arange(m, dtype=np.uint64) & np.uint64(1)
    return np.asarray(bits.sum(axis=1), np.int64)


def least_errors(problems: Problems) -> NDArray[np.float64]:
    """The least |target - sum| over all subsets, (P,): one half's sums looked up among the other's."""
    step = max(1, _BLOCK >> (problems.m + 1) // 2)
    blocks = []
    for start in range(0, len(problems), step):
        base, targets = problems.base[start : start + step], problems.targets[start : start + step]
        others, sums = _subset_sums(base[:, ::2]), np.sort(_subset_sums(base[:, 1::2]), axis=1)
        # One sorted list is looked up in another: far faster than in any order once they outgrow the cache.
        needed = targets[:, None] - np.sort(others, axis=1)
        blocks.append(np.array([_nearest(*pair) for pair in zip(needed, sums, strict=True)]))
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _subset_sums(base: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.zeros((len(base), 1))
    for k in range(base.shape[1]):
        sums = np.concatenate([sums, sums + base[:, k : k + 1]], axis=1)
    return sums


def _nearest(needed: NDArray[np.float64], sums: NDArray[np.float64]) -> float:
    at = np.searchsorted(sums, needed)
    below, above = sums[np.maximum(at - 1, 0)], sums[np.minimum(at, len(sums) - 1)]
    return float(min(np.abs(needed - below).min(), np.abs(needed - above).min()))


class Checker:
    """The optima of a set of problems, found out as they are asked for.

    Parameters
    ----------
    problems : Problems
    tolerance : float
        Of `sparsest` and `first`.
    """

    def __init__(self, problems: Problems, tolerance: float) -> None:
        self.problems, self.tolerance = problems, tolerance
        self.least = np.full(len(problems), np.nan)
        self.fewest: Optimum | None = None

    @property
    def affordable(self) -> int:
        """How many least errors take about a second to find."""
        return max(1, _MOST_SUMS >> (self.problems.m + 1) // 2)

    def optimum(self, objective: str, errors: NDArray[np.float64]) -> Optimum:
        """What there was to find in the first of the problems.

        Parameters
        ----------
        objective : str
            `best`, `sparsest` or `first`.
        errors : (n,) float64
            Of the answers to the first n problems: for `first`, what is within the tolerance needs no second opinion.
        """
        count = len(errors)
        if objective == "sparsest":
            if self.fewest is None or len(self.fewest.sizes) < count:
                self.fewest = self._fewest(count)
            return Optimum(*(column[:count] for column in vars(self.fewest).values()))
        wanted = np.arange(count)
        if objective == "first":
            wanted = wanted[(errors > self.tolerance) | (wanted < _SAMPLE)]
        self._find_least(wanted)
        return Optimum(self.least[:count].copy(), np.full(count, -1), np.ones(count, bool))

    def _find_least(self, which: NDArray[np.int64]) -> None:
        new = which[np.isnan(self.least[which])]
        self.least[new] = least_errors(Problems(self.problems.base[new], self.problems.targets[new]))

    def _fewest(self, count: int) -> Optimum:
        """Sizes in ascending order; once they get long, only for problems that have an answer at all."""
        m = self.problems.m
        errors, sizes, known = np.full(count, np.nan), np.full(count, -1), np.ones(count, bool)
        open_problems, weeded = np.arange(count), False
        for k in range(m + 1):
            n_subsets = math.comb(m, k)
            if n_subsets > 2 ** (m / 2) and not weeded:
                self._find_least(open_problems)
                errors[open_problems] = self.least[open_problems]
                open_problems, weeded = open_problems[self.least[open_problems] <= self.tolerance], True
            if not len(open_problems):
                break
            affordable = min(len(open_problems), _MOST_WORK // n_subsets) if n_subsets <= _MOST_SUBSETS else 0
            known[open_problems[affordable:]] = False
            open_problems = open_problems[:affordable]
            found = _least_of_size(self.problems, open_problems, k)
            within = found <= self.tolerance
            errors[open_problems[within]], sizes[open_problems[within]] = found[within], k
            open_problems = open_problems[~within]
        # All subsets have been looked at; after weeding, this is what rounding puts beyond the tolerance.
        known[open_problems] = not weeded
        if not weeded:
            self._find_least(open_problems)
            errors[open_problems] = self.least[open_problems]
        return Optimum(errors, sizes, known)


def _least_of_size(problems: Problems, which: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """The least |target - sum| over subsets of so many elements."""
    step = max(1, _BLOCK // math.comb(problems.m, size))
    blocks = [
        np.abs(_sums_of_size(problems.base[part], size) - problems.targets[part, None]).min(axis=1)
        for part in (which[start : start + step] for start in range(0, len(which), step))
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _sums_of_size(base: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sums of all subsets of so many elements, ordered by their last element."""
    m = base.shape[1]
    sums = np.zeros((len(base), 1))
    for k in range(size):
        # Those of k elements before element i come first, so that i can follow any of them.
        parts = [sums[:, : math.comb(i, k)] + base[:, i : i + 1] for i in range(m)]
        sums = np.concatenate(parts, axis=1)
    return sums
