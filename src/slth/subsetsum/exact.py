"""Subset sums in whole numbers of any length: slow, without exception, and without a rounding anywhere.

Takes over where the fast kernels give up: sums that tie by the thousand (equal elements, coarse grids) and magnitudes
that fixed-point or float64 sums cannot span. Every element is an integer in the finest unit that occurs. Equal sums are
kept once, with the choice that the tie rule prefers, so that grids collapse instead of exploding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

Choice = tuple[int, int]
"""(elements, mask), compared in this order: the tie rule."""


def in_units(numbers: Sequence[float]) -> tuple[list[int], int]:
    """The numbers as integers and the (power of two) units in 1.0."""
    ratios = [x.as_integer_ratio() for x in numbers]
    unit = max((d for _, d in ratios), default=1)
    return [n * (unit // d) for n, d in ratios], unit


def to_float(units: int, unit: int) -> float:
    """``units / unit`` correctly rounded, infinite beyond the range of float64."""
    try:
        return units / unit
    except OverflowError:
        return inf if units > 0 else -inf


def evaluate(base: Sequence[float], target: float, mask: int) -> tuple[float, float]:
    """(sum, error) of a choice, correctly rounded."""
    *units, goal, unit = _split(base, target)
    total = sum(u for k, u in enumerate(units) if mask >> k & 1)
    return to_float(total, unit), to_float(abs(goal - total), unit)


def residual(base: Sequence[float], target: float, mask: int) -> int:
    """|target - sum| in the finest unit of this problem: exact, to be compared."""
    *units, goal, _ = _split(base, target)
    return abs(goal - sum(u for k, u in enumerate(units) if mask >> k & 1))


def _split(base: Sequence[float], target: float) -> list[int]:
    units, unit = in_units([*base, target])
    return [*units, unit]


def best(base: Sequence[float], target: float) -> int:
    """The mask of the subset whose sum is closest to the target; ties: fewest elements, then the lowest mask.

    Meet in the middle: sorted sums of either half, one walked up while the other is walked down.
    """
    (*units, goal), _ = in_units([*base, target])
    half = len(units) // 2
    left, right = _sums(units[:half], 0), _sums(units[half:], half)
    return _closest(left, right, goal)[1][1]


def sparsest(base: Sequence[float], target: float, tolerance: float) -> int | None:
    """The mask of the smallest subset with error <= tolerance, of those the closest; None where there is none."""
    (*units, goal), unit = in_units([*base, target])
    half = len(units) // 2
    left, right = _sums_by_size(units[:half], 0), _sums_by_size(units[half:], half)
    for size in range(len(units) + 1):
        found = [
            _closest(left[a], right[size - a], goal)
            for a in range(max(0, size - len(right) + 1), min(size, len(left) - 1) + 1)
        ]
        error, (_, mask) = min(found)
        if to_float(error, unit) <= tolerance:
            return mask
    return None


def _sums(units: Iterable[int], shift: int) -> dict[int, Choice]:
    sums: dict[int, Choice] = {0: (0, 0)}
    for k, x in enumerate(units):
        bit = 1 << (shift + k)
        grown = dict(sums)
        for total, (size, mask) in sums.items():
            choice = (size + 1, mask | bit)
            if total + x not in grown or choice < grown[total + x]:
                grown[total + x] = choice
        sums = grown
    return sums


def _sums_by_size(units: Sequence[int], shift: int) -> list[dict[int, Choice]]:
    classes: list[dict[int, Choice]] = [{0: (0, 0)}] + [{} for _ in units]
    for k, x in enumerate(units):
        bit = 1 << (shift + k)
        for size in range(k + 1, 0, -1):
            into = classes[size]
            for total, (_, mask) in classes[size - 1].items():
                choice = (size, mask | bit)
                if total + x not in into or choice < into[total + x]:
                    into[total + x] = choice
    return classes


def _closest(left: dict[int, Choice], right: dict[int, Choice], goal: int) -> tuple[int, Choice]:
    """The least (error, (elements, mask)). With equal sums merged, the walk meets every pair that ties for it."""
    up, down = sorted(left), sorted(right)
    i, j = 0, len(down) - 1
    found: tuple[int, Choice] | None = None
    while i < len(up) and j >= 0:
        gap = up[i] + down[j] - goal
        if found is None or abs(gap) <= found[0]:
            (n, a), (k, b) = left[up[i]], right[down[j]]
            now = (abs(gap), (n + k, a | b))
            found = now if found is None else min(found, now)
        if gap < 0:
            i += 1
        else:
            j -= 1
    assert found is not None, "neither list is ever empty"
    return found
