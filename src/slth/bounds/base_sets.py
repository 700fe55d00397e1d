"""What a base set of a given size can be expected to reach, from the law of its elements alone.

An element is the product of two independent U[-1, 1] weights times the layer's scale; its absolute value has the
density -ln x on [0, 1]. A weight w > 0 is out of reach when all usable elements of its sign together are smaller. Where
a base set has m elements whatever is drawn, as exchanged neurons and mirrored pairs make it, half of them are such; of
2m neurons that serve the block they were drawn in, a quarter. The formulas here steer a plan and prove nothing about a
draw, except :func:`covering_size`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

MARGIN = 1.5
"""A weight counts as in reach when the elements of its sign sum to this many times the weight (chosen)."""

TAIL_FACTOR, TAIL_POWER = 1.1, 1.4
"""A weight in reach of m elements misses e with probability about min(1, (TAIL_FACTOR s 2^-m / e)^TAIL_POWER), for
scale s (fitted to simulated base sets of 10 to 30 elements)."""

ALLOWED_MISSES, ALLOWED_SHARE = 0.3, 1e-4
"""A size is enough for a tolerance that this many weights, and this share, are expected to miss (chosen)."""

LEFT_OUT, LEFT_OUT_SIZE = 0.03, 20
LEFT_OUT_SHARES = ((25_000, 1e-4), (math.inf, 2e-5))
"""Without a tolerance the scale makes that error least which LEFT_OUT weights, and these shares of the first 25,000 and
of the others, exceed with LEFT_OUT_SIZE elements or fewer; and half as many with every element more, as base sets with
hardly an element of one sign become rarer (chosen, by the outputs of 9 trained networks)."""

WORTH = 0.1
"""If that error is above this share of the largest weight, the scale makes the mean error least instead (chosen)."""

ALLOWED_TAIL = 0.1
"""Expected number of weights, besides a share of ALLOWED_SHARE, beyond the tail error of a layer (chosen)."""

_FAR = 2.0**100
_LEVELS = 64
_SCALES = 160
_ERRORS = 160


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
    probability: NDArray[np.float64] = np.exp(np.minimum(exponent, 0.0))
    return probability


def interior_failure(ratios: NDArray[np.float64], base_set_size: int, every: bool) -> NDArray[np.float64]:
    """Probability that a weight in reach is missed by more than ``ratios`` times the scale.

    The number of usable elements is m where ``every`` base set has as many, and binomial (2m, 1/2) otherwise.
    """
    m = base_set_size
    sizes = np.arange(2 * m + 1)
    weights = np.array([float(size == m) if every else math.comb(2 * m, int(size)) / 4.0**m for size in sizes])
    spacing = TAIL_FACTOR * 2.0 ** -sizes.astype(np.float64)
    with np.errstate(divide="ignore"):
        failure = np.minimum(1.0, (spacing / ratios.reshape(-1, 1)) ** TAIL_POWER)
    expected: NDArray[np.float64] = (failure @ weights).reshape(ratios.shape)
    return expected


def mean_error(base_set_size: int, every: bool) -> float:
    """Expected error of a weight in reach, in units of the scale, from the fitted tail of :func:`interior_failure`.

    With K elements the tail min(1, (a / e)^p), a = TAIL_FACTOR 2^-K, p = TAIL_POWER, has the mean a p / (p - 1); over K
    binomial (2m, 1/2), 2^-K is (3/4)^(2m) on average.
    """
    mean_power = 2.0**-base_set_size if every else 0.75 ** (2 * base_set_size)
    return TAIL_FACTOR * TAIL_POWER / (TAIL_POWER - 1.0) * mean_power


def expected_misses(
    magnitudes: NDArray[np.float64],
    base_set_size: int,
    every: bool,
    scales: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected number of a layer's n weights that are missed by more than an error, (scales, errors).

    About the sum over |w| > error of P(elements of the weight's sign sum to less than MARGIN |w| / scale), and n times
    P(a weight in reach is missed by more than the error).

    Parameters
    ----------
    magnitudes : array, (weights,)
        Absolute values of a layer's weights and biases; at least one is not 0.
    base_set_size : int
        Expected number m of usable elements.
    every : bool
        Whether every base set has m elements, instead of those of 2m neurons that have its sign.
    scales, errors : array
        Where to compute it.
    """
    positive = np.sort(magnitudes[magnitudes > 0])[::-1]
    # A group of weights is stood for by its largest.
    ends = np.unique(np.geomspace(1, positive.size + 1, num=_LEVELS).astype(np.int64)) - 1
    levels = positive[np.minimum(ends, positive.size - 1)]
    counts = np.diff(ends, append=positive.size)
    n_draws, share = (base_set_size, 0.5) if every else (2 * base_set_size, 0.25)
    ratios = (MARGIN * levels[None, :] / scales[:, None]).ravel()
    lost = np.cumsum(out_of_reach(ratios, n_draws, share).reshape(scales.size, -1) * counts, axis=1)
    larger = np.searchsorted(-levels, -errors)
    missed = np.where(larger > 0, lost[:, np.maximum(larger - 1, 0)], 0.0)
    return missed + positive.size * interior_failure(errors[None, :] / scales[:, None], base_set_size, every)


def choose_scale(
    magnitudes: NDArray[np.float64], base_set_size: int, every: bool = False, tolerance: float | None = None
) -> float:
    """Scale of a layer's base sets, from their law and the distribution of the layer's weights.

    Every error is proportional to the scale, but a scale too small leaves large weights out of reach. The scale
    returned makes :func:`expected_misses` least at the tolerance; without one it makes that error least which a few
    weights (LEFT_OUT, LEFT_OUT_SHARES) are expected to exceed, or where base sets are too small for that, the mean
    error. So it is not the largest weight alone that decides, nor anything that was drawn.

    Parameters
    ----------
    magnitudes, base_set_size, every
        As in :func:`expected_misses`.
    tolerance : float, optional
        Weights need to be reached to within this.

    Returns
    -------
    float
        A float32 value, 0 or infinite where it would be out of range; 1 if there is nothing to reach.
    """
    values, power = _near_one(magnitudes)
    top = float(values.max(initial=0.0))
    if top == 0.0:
        return 1.0
    scales = top * np.geomspace(0.5, 64.0, num=_SCALES)
    errors = top * np.geomspace(1e-13, 1.0, num=_ERRORS) if tolerance is None else _relative(tolerance, power)
    missed = expected_misses(values, base_set_size, every, scales, errors)
    if tolerance is None:
        left_out = _left_out(int(np.count_nonzero(values)), base_set_size)
        reached = np.flatnonzero((missed.min(axis=0) <= left_out) & (errors <= WORTH * top))
        best = (
            _smallest(missed[:, reached[0]], 0.01 * left_out)
            if reached.size
            else int(_means(missed, errors, values).argmin())
        )
    else:
        best = _smallest(missed[:, 0], 0.01)
    with np.errstate(over="ignore"):
        return float(np.float32(np.ldexp(scales[best], power)))


def _left_out(n_weights: int, base_set_size: int) -> float:
    """How many weights of a layer the error is not made least for."""
    left_out, before = LEFT_OUT, 0.0
    for upto, share in LEFT_OUT_SHARES:
        left_out += share * (min(n_weights, upto) - before)
        before = min(n_weights, upto)
    return left_out * 2.0 ** -max(0, base_set_size - LEFT_OUT_SIZE)


def _smallest(missed: NDArray[np.float64], tie: float) -> int:
    """The first of the scales that do about equally well: it makes every other error smaller."""
    return int(np.flatnonzero(missed <= 1.1 * missed.min() + tie)[0])


def _means(
    missed: NDArray[np.float64], errors: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean error of a weight at every scale: the integral of the probabilities of larger ones."""
    steps = np.diff(errors, prepend=0.0)
    means: NDArray[np.float64] = (np.minimum(missed, values.size) * steps).sum(axis=1) / values.size
    return means


def _near_one(magnitudes: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Magnitudes times a power of 2 with which the largest is in [1/2, 1), and the exponent of its inverse."""
    power = math.frexp(float(magnitudes.max(initial=0.0)))[1]
    return np.ldexp(magnitudes, -power), power


def _relative(tolerance: float, power: int) -> NDArray[np.float64]:
    """A tolerance in the units of magnitudes near one, (1,); how far it is above or below all of them is no matter."""
    with np.errstate(over="ignore"):
        relative: NDArray[np.float64] = np.ldexp(np.array([tolerance]), -power)
    return np.clip(relative, 1 / _FAR, _FAR)


def foreseen_errors(
    magnitudes: NDArray[np.float64], base_set_size: int, every: bool, n_mean: float
) -> tuple[float, float]:
    """What base sets of a size can be expected to leave, at the best scale: mean error, and the tail's.

    The tail error is the one that ALLOWED_TAIL weights and a share of ALLOWED_SHARE are expected to exceed; the best
    scale makes ``n_mean`` mean errors and one tail error least.

    Parameters
    ----------
    magnitudes, base_set_size, every
        As in :func:`expected_misses`.
    n_mean : float
        How many weights of about the mean error go with one of the tail's.
    """
    values, power = _near_one(magnitudes)
    top = float(values.max())
    scales = top * np.geomspace(0.5, 64.0, num=_SCALES // 4)
    errors = top * np.geomspace(1e-14, 1.0, num=_ERRORS)
    missed = expected_misses(values, base_set_size, every, scales, errors)
    # With the largest weight itself as the error, nothing is missed: it may be left at 0.
    within = missed <= ALLOWED_TAIL + ALLOWED_SHARE * values.size
    tails = np.where(within.any(axis=1), errors[within.argmax(axis=1)], top)
    means = _means(missed, errors, values)
    best = int((n_mean * means + tails).argmin())
    return math.ldexp(float(means[best]), power), math.ldexp(float(tails[best]), power)


def covering_size(magnitude: float, tolerance: float) -> int:
    """Fewest elements with which any base set could serve every weight up to ``magnitude`` (pigeonhole; proved).

    2^m sums cover an interval of length 2 * magnitude to within the tolerance only if 2^m * tolerance >= magnitude.
    """
    return max(0, math.ceil(math.log2(magnitude / tolerance))) if magnitude > tolerance else 0


def sufficient_size(
    magnitudes: NDArray[np.float64], tolerance: float, every: bool, smallest: int, largest: int
) -> int | None:
    """Smallest size at which no more than ALLOWED_MISSES and a share of ALLOWED_SHARE of the weights are missed.

    In expectation, at the best scale; None if none from ``smallest`` to ``largest`` is.
    """
    values, power = _near_one(magnitudes)
    top = float(values.max(initial=0.0))
    if top == 0.0:
        return smallest
    scales, error = top * np.geomspace(0.5, 64.0, num=_SCALES // 4), _relative(tolerance, power)
    allowed = ALLOWED_MISSES + ALLOWED_SHARE * np.count_nonzero(values)
    for size in range(smallest, largest + 1):
        if expected_misses(values, size, every, scales, error).min() <= allowed:
            return size
    return None
