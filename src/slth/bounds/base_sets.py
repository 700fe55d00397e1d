"""What a base set of a given size can be expected to reach, from the law of its elements alone.

An element is the product of two independent U[-1, 1] weights times the layer's scale; its absolute value has the
density -ln x on [0, 1]. A weight w > 0 is out of reach when all usable elements of its sign together are smaller; of
the 2m neurons of a uniformly drawn block a quarter give such an element, of m mirrored pairs a half. The formulas here
steer a plan and prove nothing about a draw, except :func:`covering_size`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

SECOND_MOMENT = 1.0 / 9.0
"""Of the product of two independent U[-1, 1] variables (exact)."""

MARGIN = 2.0
"""A weight counts as in reach when the elements of its sign sum to this many times the weight (chosen)."""

EXPECTED_OUT_OF_REACH = 0.1
"""Weights of a layer that may be expected out of reach (chosen)."""

NEAREST, FARTHEST = 60.0, 160.0
"""The largest weight is mapped to between m / FARTHEST and m / NEAREST (fitted: simulated errors are flat in between)."""

_LEVELS = 64
_SCALES = 192


@functools.cache
def _transform() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grid of t and the Laplace transform E exp(-t |X|) = E (1 - exp(-t U)) / (t U) of an element's magnitude."""
    grid = np.geomspace(1e-3, 1e5, 400)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    # Squared nodes crowd where the integrand bends, at small U.
    u = ((nodes + 1) / 2) ** 2
    product = grid[:, None] * u[None, :]
    values = -np.expm1(-product) / product
    return grid, values @ (weights * (nodes + 1) / 2)


def out_of_reach(levels: NDArray[np.float64], n_draws: int, share: float) -> NDArray[np.float64]:
    """Bound on the probability that the elements of one sign sum to less than a level (Chernoff), scale 1.

    Each of ``n_draws`` neurons (or pairs) gives an element of the sign with probability ``share``:

        P(S < z) <= min over t > 0 of exp(t z) (1 - share + share E exp(-t |X|))^n.
    """
    grid, transform = _transform()
    log_moment = n_draws * np.log1p(-share * (1 - transform))
    exponent = np.min(grid[None, :] * levels[:, None] + log_moment[None, :], axis=1)
    return np.exp(np.minimum(exponent, 0.0))


def choose_scale(
    magnitudes: NDArray[np.float64], base_set_size: int, mirrored: bool = False, tolerance: float = 0.0
) -> float:
    """Scale of a layer's base sets, from their law and the distribution of the layer's weights.

    Every error is proportional to the scale, but a scale too small leaves large weights out of reach. The scale s
    returned is the least at which

        sum over the weights of P(elements of the weight's sign sum to less than MARGIN |w| / s)

    is at most EXPECTED_OUT_OF_REACH, so that it is not the largest weight alone that decides, nor anything that was
    drawn; it is kept between NEAREST and FARTHEST times the largest weight over m.

    Parameters
    ----------
    magnitudes : array, (weights,)
        Absolute values of a layer's weights and biases.
    base_set_size : int
        Expected number m of usable elements.
    mirrored : bool
        Whether the base set is made of m mirrored pairs instead of about half of 2m neurons.
    tolerance : float
        Weights need to be reached to within this.

    Returns
    -------
    float
        A positive float32 value; 1 if there is nothing to reach.
    """
    positive = np.sort(magnitudes[magnitudes > 0])[::-1]
    if positive.size == 0:
        return 1.0
    n_draws, share = (base_set_size, 0.5) if mirrored else (2 * base_set_size, 0.25)
    # A group of weights is stood for by its largest.
    ends = np.unique(np.geomspace(1, positive.size + 1, num=_LEVELS).astype(np.int64)) - 1
    counts = np.diff(ends, append=positive.size)
    levels = MARGIN * np.maximum(positive[np.minimum(ends, positive.size - 1)] - tolerance, 0.0)
    scales = positive[0] / base_set_size * np.geomspace(NEAREST, FARTHEST, num=_SCALES)
    ratios = (levels[None, :] / scales[:, None]).ravel()
    missing = out_of_reach(ratios, n_draws, share).reshape(_SCALES, -1) * (levels > 0)
    enough = np.flatnonzero(missing @ counts <= EXPECTED_OUT_OF_REACH)
    return float(np.float32(scales[enough[0]] if enough.size else scales[-1]))


def expected_hits(base_set_size: int, magnitude: float, tolerance: float, scale: float) -> float:
    """Expected number of subset sums within ``tolerance`` of a weight, over the draw of the base set.

    A random subset of a random base set has a sum of mean 0 and variance m / 18 times the scale squared, close to
    normal.
    """
    deviation = scale * math.sqrt(base_set_size * SECOND_MOMENT / 2.0)
    density = math.exp(-0.5 * (magnitude / deviation) ** 2) / (deviation * math.sqrt(2.0 * math.pi))
    return 2.0**base_set_size * 2.0 * tolerance * density


def covering_size(magnitude: float, tolerance: float) -> int:
    """Fewest elements with which any base set could serve every weight up to ``magnitude`` (pigeonhole; proved).

    2^m sums cover an interval of length 2 * magnitude to within the tolerance only if 2^m * tolerance >= magnitude.
    """
    return max(0, math.ceil(math.log2(magnitude / tolerance))) if magnitude > tolerance else 0


def sufficient_size(magnitudes: NDArray[np.float64], tolerance: float, largest: int) -> int | None:
    """Smallest size at which the largest weight has ten subset sums within the tolerance to be expected.

    Ten is chosen: the draws are heavy-tailed, and at ten a single weight is missed in a few draws of a hundred.
    """
    top = float(magnitudes.max(initial=0.0))
    for size in range(1, largest + 1):
        if expected_hits(size, top, tolerance, choose_scale(magnitudes, size)) >= 10.0:
            return size
    return None
