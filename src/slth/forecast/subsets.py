"""How many elements a ticket keeps for a weight, on average and without searching."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TAKEN = 1 / 3
"""Share of the bins that the golden-ratio greedy sum takes from (measured: 0.322 at 20 bins, 0.332 at 150).

What is left is about uniform below γ^(i-1), and at least γ^i with probability 1 - γ.
"""

_POINTS = 512
"""Quantiles that stand for a layer's weights (chosen)."""
_ENOUGH = 40.0
"""Expected subsets beyond which none is not an issue: exp(-40)."""


def mean_smallest_subset(
    magnitudes: NDArray[np.float64], size: int, tolerance: float, *, product: bool, scale: float = 1.0
) -> float:
    """Mean number of elements of the smallest subset whose sum is within the tolerance of a weight.

    The number of subsets of up to k elements that hit is taken for Poisson, so that none does with probability
    exp(-λ_k), λ_k = sum over j <= k of C(m, j) 2 tolerance f_j(w), with f_j the density of a sum of j elements: their
    own for j = 1, normal from j = 2 on. The mean of the least k is the sum of those probabilities. Weights within the
    tolerance of 0 need none.

    Parameters
    ----------
    magnitudes : array, (weights,)
        |w|.
    size : int
        m elements of U[-scale, scale], or scale times products of two U[-1, 1].
    tolerance : float
    product : bool
    scale : float

    Returns
    -------
    float
        At most m / 2, the mean size of all subsets, where even that many do not suffice.

    Examples
    --------
    Burkholz 2022 (theory, 4.6) measured 1.9 to 2.1:

    >>> round(mean_smallest_subset(np.linspace(0, 1, 1000), 20, 0.01, product=False), 2)
    2.0
    """
    if magnitudes.size == 0 or size < 1:
        return 0.0
    points = np.quantile(magnitudes, (np.arange(_POINTS) + 0.5) / _POINTS) if magnitudes.size > _POINTS else magnitudes
    needed, z = points > tolerance, np.maximum(points, tolerance) / scale
    variance = 1 / 9 if product else 1 / 3
    single = np.where(z < 1, -0.5 * np.log(np.minimum(z, 1)) if product else 0.5, 0.0)
    mean, expected = np.array(needed, dtype=np.float64), np.zeros(len(z))
    window = math.log(2 * tolerance / scale)
    for k in range(1, size // 2 + 1):
        subsets = math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1)
        spread = k * variance
        with np.errstate(divide="ignore"):
            density = np.log(single) if k == 1 else -(z**2) / (2 * spread) - 0.5 * math.log(2 * math.pi * spread)
        expected += np.exp(np.minimum(subsets + window + density, 700.0))
        none = np.exp(-expected)
        mean += needed * none
        if expected.min() > _ENOUGH:
            break
    return float(np.minimum(mean, size / 2).mean())


def used(elements: int, size: float, times: int) -> float:
    """How many of so many elements occur in at least one of ``times`` subsets of that mean size."""
    share = min(1.0, size / elements)
    return elements * (1 - (1 - share) ** times)


def golden_pieces(magnitudes: NDArray[np.float64], tolerance: float, gamma: float = 2 / 3) -> float:
    """Mean number of pieces that the greedy sum takes for a weight: a share of the bins between |w| and the tolerance.

    Parameters
    ----------
    magnitudes : array, (weights,)
    tolerance : float
        What may be left of a weight.
    gamma : float
    """
    bins = np.log(np.maximum(magnitudes / tolerance, 1.0)) / -math.log(gamma)
    return float(TAKEN * np.ceil(bins).mean()) if magnitudes.size else 0.0
