"""What a base set of a given size can be expected to reach, from the law of its elements alone.

An element is the product of two independent U[-1, 1] weights times the layer's scale (theory: density -ln|x| / 2). The
sums of the 2^m subsets of m such elements are close to normal: given the elements, their mean is half the elements' sum
and their variance a quarter of the sum of squares, and both the mean and the standard deviation are sqrt(m / 36) in
typical size. The formulas here follow from that; they steer a plan and prove nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SECOND_MOMENT = 1.0 / 9.0
"""Of the product of two independent U[-1, 1] variables (exact)."""

_STEPS = 256


def spread(base_set_size: int) -> float:
    """Typical standard deviation of the subset sums of ``base_set_size`` products, scale 1."""
    return math.sqrt(base_set_size * SECOND_MOMENT / 4.0)


def choose_scale(magnitudes: NDArray[np.float64], base_set_size: int) -> float:
    """Scale of a layer's base sets that makes the largest expected weight error least.

    A larger scale makes the sums coarser, in proportion; a smaller one pushes the large weights into the tail of the
    sums, where few lie. The worst of n draws has its mean about q = sqrt(2 ln n) standard deviations on the wrong side,
    so a weight a that n weights exceed is reached to about

        scale * exp((a / (scale * s) + q(n))^2 / 2),    s = sqrt(m / 36),

    and the scale returned minimises the maximum of this over the weights. It depends on the law and the weights, never
    on the draw.

    Parameters
    ----------
    magnitudes : array, (weights,)
        Absolute values of a layer's weights and biases.
    base_set_size : int
        Expected number m of usable elements.

    Returns
    -------
    float
        A positive float32 value; 1 if all weights are 0.
    """
    positive = np.sort(magnitudes[magnitudes > 0])[::-1]
    if positive.size == 0:
        return 1.0
    ranks = np.unique(np.geomspace(1, positive.size, num=64).astype(np.int64))
    levels = positive[ranks - 1] / spread(base_set_size)
    tails = np.sqrt(2.0 * np.log(ranks))
    scales = levels[0] * np.geomspace(2.0**-4, 2.0**6, num=_STEPS)
    reach = levels[None, :] / scales[:, None] + tails[None, :]
    worst = np.log(scales) + 0.5 * np.max(reach, axis=1) ** 2
    return float(np.float32(scales[int(np.argmin(worst))]))


def expected_hits(base_set_size: int, magnitude: float, tolerance: float, scale: float) -> float:
    """Expected number of subset sums within ``tolerance`` of a weight, over the draw of the base set.

    A random subset of a random base set has a sum of mean 0 and variance m / 18 times the scale squared.
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
