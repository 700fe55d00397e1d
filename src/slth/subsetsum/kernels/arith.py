"""Sums of float64 numbers without error, for settling what the fixed-point search leaves open.

A sum is first taken in compensated form (Knuth's two-sum, the errors added up on the side) with a bound on what that
may be off. Only where the bound leaves the rounding or an order undecided is it taken exactly, as an expansion of
non-overlapping terms (Shewchuk 1997, the method of ``math.fsum``).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

inner: Any = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
"""For functions called by kernels only: the wrappers for Python would cost as much to compile as the function."""
_ONE = np.uint64(1)
_NONE = np.int64(0)
EXACT_SCALE = 2.0**1000
"""Above this magnitude of |target| + sum |x| the two-sums could overflow: such problems are solved in integers."""
VALUE_BITS = 59
"""Bits of all magnitudes of a problem together in fixed point, the bits below for the subset included."""
ANYTHING = 2**60
"""A band that every pair lies in and no sentinel does."""
ROUNDING = 2.0**-104


@inner
def grow(parts, n, x):  # type: ignore[no-untyped-def]
    """Add x to the expansion ``parts[:n]`` exactly; return its new length."""
    kept = 0
    for j in range(n):
        y = parts[j]
        if abs(x) < abs(y):
            x, y = y, x
        high = x + y
        low = y - (high - x)
        if low != 0.0:
            parts[kept] = low
            kept += 1
        x = high
    parts[kept] = x
    return kept + 1


@inner
def rounded(parts, n):  # type: ignore[no-untyped-def]
    """The float64 nearest to the expansion ``parts[:n]``, ties to even."""
    high = parts[n - 1]
    low = 0.0
    k = n - 1
    while k > 0 and low == 0.0:
        k -= 1
        x = high
        high = x + parts[k]
        low = parts[k] - (high - x)
    # Half way between two floats, what is left below decides.
    if k > 0 and ((low < 0.0 and parts[k - 1] < 0.0) or (low > 0.0 and parts[k - 1] > 0.0)):
        twice = low * 2.0
        x = high + twice
        if twice == x - high:
            high = x
    return high


@inner
def sign(parts, n):  # type: ignore[no-untyped-def]
    """-1, 0 or 1. The terms do not overlap, so the largest one that is not zero decides (the last may cancel)."""
    for k in range(n - 1, -1, -1):
        if parts[k] != 0.0:
            return -1.0 if parts[k] < 0.0 else 1.0
    return 0.0


@inner
def grow_residual(parts, n, base, m, mask, target, factor):  # type: ignore[no-untyped-def]
    """Add ``factor * (target - sum of the chosen elements)`` to the expansion; return its new length."""
    n = grow(parts, n, factor * target)
    for k in range(m):
        if (mask >> np.uint64(k)) & _ONE:
            n = grow(parts, n, -factor * base[k])
    return n


@inner
def exact_order(base, m, target, one, two, parts):  # type: ignore[no-untyped-def]
    """-1, 0 or 1 as |target - sum(one)| is below, equal to or above |target - sum(two)|, exactly."""
    first = sign(parts, grow_residual(parts, _NONE, base, m, one, target, 1.0))
    second = sign(parts, grow_residual(parts, _NONE, base, m, two, target, 1.0))
    n = grow_residual(parts, _NONE, base, m, one, target, first)
    n = grow_residual(parts, n, base, m, two, target, -second)
    return sign(parts, n)


@inner
def compensated(base, m, mask, target):  # type: ignore[no-untyped-def]
    """The chosen sum as high + low, the residual target - sum as high + low, and whether both are exact.

    Each two-sum is exact, so only adding up the errors can round: by less than ``(m + 2)^2 * 2^-104`` times the sum of
    all magnitudes. That too is watched, because on a coarse grid (random numbers often have 2^53 values only) nothing
    is rounded at all and sums lie half way between two floats often.
    """
    total, low, lost = 0.0, 0.0, 0.0
    for k in range(m):
        x = base[k] if (mask >> np.uint64(k)) & _ONE else 0.0
        new = total + x
        back = new - total
        error = (total - (new - back)) + (x - back)
        total = new
        new = low + error
        back = new - low
        lost += abs((low - (new - back)) + (error - back))
        low = new
    gap = target - total
    back = gap - target
    error = (target - (gap - back)) + (-total - back)
    gap_low = error - low
    back = gap_low - error
    lost += abs((error - (gap_low - back)) + (-low - back))
    high = gap + gap_low
    back = high - gap
    return total, low, high, (gap - (high - back)) + (gap_low - back), lost == 0.0


@inner
def exact_answer(base, m, mask, target, parts):  # type: ignore[no-untyped-def]
    """(sum, error) of a choice, correctly rounded by expansions."""
    n = grow_residual(parts, _NONE, base, m, mask, 0.0, -1.0)
    total = rounded(parts, n)
    n = grow_residual(parts, _NONE, base, m, mask, target, 1.0)
    return total + 0.0, abs(rounded(parts, n))


@inner
def answer(base, m, mask, target, scale, parts):  # type: ignore[no-untyped-def]
    """(sum, error) of a choice, each the float64 nearest to the exact value.

    `scale` is at least |target| + sum |x|.
    """
    total, low, high, high_low, exact = compensated(base, m, mask, target)
    if exact:
        return total + low, abs(high)
    slack = (m + 2.0) * (m + 2.0) * ROUNDING * scale
    if total + (low - slack) == total + (low + slack) and high + (high_low - slack) == high + (high_low + slack):
        return total + low, abs(high + high_low)
    return exact_answer(base, m, mask, target, parts)


@inner
def popcount(mask):  # type: ignore[no-untyped-def]
    """Number of bits set."""
    mask = mask - ((mask >> _ONE) & np.uint64(0x5555555555555555))
    mask = (mask & np.uint64(0x3333333333333333)) + ((mask >> np.uint64(2)) & np.uint64(0x3333333333333333))
    mask = (mask + (mask >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((mask * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inner
def better(base, m, target, scale, one, two, parts):  # type: ignore[no-untyped-def]
    """Whether choice `one` beats choice `two`: closer, or as close with fewer elements, or with the lower mask."""
    _, _, high_1, low_1, exact_1 = compensated(base, m, one, target)
    _, _, high_2, low_2, exact_2 = compensated(base, m, two, target)
    first, second = abs(high_1) - abs(high_2), low_1 if high_1 >= 0.0 else -low_1
    second -= low_2 if high_2 >= 0.0 else -low_2
    slack = 4.0 * (m + 2.0) * (m + 2.0) * ROUNDING * scale + 2.0**-50 * (abs(low_1) + abs(low_2))
    slack += 2.0**-52 * abs(first)
    if abs(first + second) > slack:
        return first + second < 0.0
    order = 0.0
    if exact_1 and exact_2:
        # Thousands of ties on a coarse grid come here: the differences may be rounded, their signs are right.
        order = first if first != 0.0 else second
    else:
        order = exact_order(base, m, target, one, two, parts)
    if order != 0:
        return order < 0
    size_1, size_2 = popcount(one), popcount(two)
    return size_1 < size_2 or (size_1 == size_2 and one < two)


@inner
def gather(values, start, stop, base, place):  # type: ignore[no-untyped-def]
    """Copy the elements that are not zero; return how many there are and the sum of their magnitudes."""
    m, scale = 0, 0.0
    for k in range(start, stop):
        x = values[k]
        if x != 0.0:
            base[m] = x
            place[m] = k - start
            m += 1
            scale += abs(x)
    return m, scale


@inner
def scattered(mask, m, place):  # type: ignore[no-untyped-def]
    """A choice among the elements that :func:`gather` copied, as a choice among all."""
    chosen = np.uint64(0)
    for k in range(m):
        chosen |= ((mask >> np.uint64(k)) & _ONE) << np.uint64(place[k])
    return chosen


@inner
def quantise(base, m, target, scale, bits, quanta):  # type: ignore[no-untyped-def]
    """Magnitudes in whole quanta (into `quanta`), `bits` bits for all together; `scale` is their sum.

    Returns the target in quanta, moved by the flipped elements; the set of these; the margin: the optimum's fixed-point
    residual is at most that much above the least; whether no element was rounded; and what the target lost.
    """
    exponent = bits - math.frexp(scale)[1]
    half = exponent >> 1
    one, two = math.ldexp(1.0, half), math.ldexp(1.0, exponent - half)
    flipped = np.uint64(0)
    total, negative, least = np.int64(0), np.int64(0), np.int64(2**62)
    up, down, turned = 0.0, 0.0, 0.0
    for k in range(m):
        x = abs(base[k]) * one * two
        rounded = np.rint(x)
        rest = x - rounded
        up += max(rest, 0.0)
        down += min(rest, 0.0)
        q = np.int64(rounded)
        quanta[k] = q
        total += q
        least = min(least, q)
        if base[k] < 0.0:
            flipped |= np.uint64(1) << np.uint64(k)
            negative += q
            turned += rest
    scaled = min(max(target * one * two, -(2.0**60)), 2.0**60)
    rest = scaled - np.rint(scaled) + turned
    whole = np.int64(np.rint(scaled)) + negative
    # Beyond everything or nothing, that choice is the answer, which no rounding hides; distances no longer matter.
    goal = min(max(whole, -2 * m - 2), total + 2 * m + 2)
    if goal != whole:
        rest = 0.0
    # What underflows to nothing has not been rounded to whole quanta, though nothing seems lost.
    whole_quanta = up == 0.0 and down == 0.0 and least >= 1 and (scaled != 0.0 or target == 0.0)
    return goal, flipped, np.int64(2.0 * max(abs(rest - up), abs(rest - down)) + 1e-6), whole_quanta, rest


@inner
def first_band(quanta, m, goal):  # type: ignore[no-untyped-def]
    """A band around the target that holds a few sums: they spread about like a normal distribution."""
    total, squares = 0.0, 0.0
    for k in range(m):
        x = float(quanta[k])
        total += x
        squares += x * x
    deviation = math.sqrt(squares) * 0.5
    away = (goal - 0.5 * total) / deviation
    guess = 5.0 * deviation * math.exp(min(0.5 * away * away, 300.0)) * math.ldexp(1.0, -m)
    return np.int64(min(guess, 2.0**58))
