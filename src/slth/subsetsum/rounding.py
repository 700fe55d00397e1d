"""Sums of many problems at once, each the float64 nearest to the exact value; arrays of numpy or tensors of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.subsetsum import exact

EXACT_SCALE = 2.0**1000
"""Above this magnitude of |target| + sum |x| two-sums could overflow: such sums are taken in integers."""


def two_sum(x: Any, y: Any) -> tuple[Any, Any]:
    """x + y as the rounded sum and its error, exactly (Knuth); finite floats of any library's arrays."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def compensated(columns: Iterable[Any], targets: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Sums over columns, and how far from the targets they are, almost without error; numpy arrays or torch tensors.

    Parameters
    ----------
    columns : iterable of (P,) arrays
        The terms of all sums, 0 where an element is not chosen.
    targets : (P,) array

    Returns
    -------
    total, low : (P,) arrays
        The sum is about total + low.
    high, high_low : (P,) arrays
        target - sum is about high + high_low, high being the float64 nearest to both together.
    exact : (P,) bool array
        Where both are equalities.

    Notes
    -----
    Each two-sum is exact, so only adding up the errors can round. Over m columns that loses less than
    ``(m + 2)^2 * 2^-106`` times |target| + sum |x|, provided that is below 2^1000.
    """
    total, low, lost = targets * 0.0, targets * 0.0, targets * 0.0
    for column in columns:
        total, error = two_sum(total, column)
        low, rest = two_sum(low, error)
        lost = lost + abs(rest)
    gap, error = two_sum(targets, -total)
    gap_low, rest = two_sum(error, -low)
    high, high_low = two_sum(gap, gap_low)
    return total, low, high, high_low, lost + abs(rest) == 0.0


def round_answers(columns: Iterable[Any], m: int, targets: Any, scale: Any) -> tuple[Any, Any, Any]:
    """Sums of `m` columns and their errors, each the float64 nearest to the exact value, and (P,) where that is proved.

    `scale` is at least |target| + sum |x|, save for a few roundings. See :func:`compensated`.
    """
    total, low, high, high_low, exact_ = compensated(columns, targets)
    # Four times what can be lost, which also covers the rounding of low - slack and low + slack.
    slack = (m + 2.0) ** 2 * 2.0**-104 * scale
    sums, gaps = total + low, high + high_low
    proved = (total + (low - slack) == total + (low + slack)) & (high + (high_low - slack) == high + (high_low + slack))
    return sums + 0.0, abs(gaps), (proved | exact_) & (scale < EXACT_SCALE)


def evaluate(
    base: NDArray[np.float64], targets: NDArray[np.float64], masks: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and errors, (P,) each, of the choices `masks` from base sets (P, m), correctly rounded."""
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.abs(targets) + np.abs(base).sum(axis=1)
        columns = (np.where(masks >> np.uint64(k) & np.uint64(1), x, 0.0) for k, x in enumerate(base.T))
        sums, errors, proved = round_answers(columns, base.shape[1], targets, scale)
    for p in np.flatnonzero(~proved).tolist():
        sums[p], errors[p] = exact.evaluate(base[p].tolist(), float(targets[p]), int(masks[p]))
    return sums, errors
