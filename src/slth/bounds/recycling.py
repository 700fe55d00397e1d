"""How many neurons a round of recycled ones must hold, for any law of the weights and for scales that are not known.

Orseau, Hutter and Rivasplata 2020, Theorem 30 with Remarks 12 and 14. A weight is put together from products of two
independent random weights, one for every bin w_max (gamma^(i+1), gamma^i]. The remarks draw the random weights from
laws that know neither the error allowed nor w_max, and leave to the reader how likely the bins of *products* then are.
Here products are placed by x = log_gamma |v u|, which is the sum of the two magnitudes' own logarithms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HYPERBOLIC, LOG, LOGLOG = "hyperbolic", "hyperbolic-log", "hyperbolic-loglog"
"""The paper's laws by the names that they have in :mod:`slth.source.distributions`."""

_LN_3 = math.log(3.0)
_FINENESS = 1.002
"""Ratio of the cells of a lower sum (chosen): it is about half a percent below the integral."""
_WINDOW_CELLS = 256
_ROUNDING = 1.0 - 1e-9
"""A lower sum of some thousand float64 terms, each off by a few units in the last place, is lowered by this."""


def log_mass(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(low <= x < high) for two magnitudes of density ln(1/gamma) / (v ln^2 v) on (0, gamma] (Remark 12).

    Each magnitude's logarithm to base gamma is 1/U, so it exceeds t >= 1 with probability 1/t; with the partial
    fractions of 1 / (t^2 (x - t)) the sum of two exceeds x >= 2 with probability 2/x + 2 ln(x - 1) / x^2. Whatever
    gamma is.

    Parameters
    ----------
    low, high : float64 arrays of one shape

    Examples
    --------
    >>> log_mass(np.array([2.0, 3.0]), np.array([3.0, np.inf])).round(4).tolist()
    [0.1793, 0.8207]
    """
    mass: NDArray[np.float64] = np.maximum(_log_tail(low) - _log_tail(high), 0.0)
    return mass


def _log_tail(edge: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.maximum(edge, 2.0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(x), 0.0, 2.0 / x + 2.0 * np.log(x - 1.0) / (x * x))


def loglog_mass(low: NDArray[np.float64], high: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """A lower bound on P(low <= x < high) for two magnitudes of density proportional to 1 / (v s ln^2 s), s = ln(3/v).

    With c = ln(3/gamma), s exceeds t >= c with probability ln c / ln t, and the two s add up to 2 ln 3 + x ln(1/gamma).
    The probability that the sum lies between A and B has no closed form. For a first s = t up to A - c the chance of
    the second, F(B - t) - F(A - t), rises with t, since F's density falls; beyond, it is F(B - t) and falls. So a sum
    over cells of t, with the chance at the end where it is least, is below the integral.

    Parameters
    ----------
    low, high : float64 arrays, (bins,)
        Finite.
    gamma : float

    Examples
    --------
    >>> loglog_mass(np.array([2.0, 3.0]), np.array([3.0, 4.0]), 2 / 3).round(2).tolist()
    [0.09, 0.11]
    """
    step = -math.log(gamma)
    sums = [(2.0 * _LN_3 + a * step, 2.0 * _LN_3 + b * step) for a, b in zip(low, high, strict=True)]
    return np.array([_lower_sum(a, b, _LN_3 + step) for a, b in sums])


def _lower_sum(low: float, high: float, c: float) -> float:
    """P(low <= s + s' < high) from below, for independent s and s' that exceed t >= c with probability ln c / ln t."""
    if high <= 2.0 * c:
        return 0.0
    low = max(low, 2.0 * c)
    half = 0.5 * low
    near = c * _FINENESS ** np.arange(math.ceil(math.log(half / c) / math.log(_FINENESS)) + 1)
    near[-1] = half
    rising = np.concatenate([near, (low - near[::-1])[1:]])
    falling = np.linspace(max(low - c, c), high - c, _WINDOW_CELLS + 1)
    log_c = math.log(c)

    def up_to(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(1.0 - log_c / np.log(np.maximum(t, c)), 0.0)

    first = np.diff(up_to(rising)) * (up_to(high - rising) - up_to(low - rising))[:-1]
    second = np.diff(up_to(falling)) * up_to(high - falling)[1:]
    return float((np.maximum(first, 0.0).sum() + np.maximum(second, 0.0).sum()) * _ROUNDING)


def bin_probabilities(
    law: str, gamma: float, start: NDArray[np.float64], n_bins: float, guard: float = 0.0
) -> NDArray[np.float64]:
    """Lower bounds on the probability that a product's magnitude lies in each of some bins, (bins,).

    Parameters
    ----------
    law : str
        Of both weights.
    gamma : float
        Ratio of the bins, and the law's largest magnitude where it has one.
    start : (bins,) float64
        log_gamma of the bins' upper ends, in units of the square of the law's unit: a bin spans 1 from there.
    n_bins : float
        k', bins that a hyperbolic law of bounded support spreads its products over; half of 1/k' is each bin's
        (Lemma 28), if it lies where the lemma says. Other laws do not have this number.
    guard : float
        Relative rounding error of a product, by which bins are made smaller on either side.
    """
    if law == HYPERBOLIC:
        return np.full(len(start), 0.5 / n_bins)
    margin = -guard / math.log(gamma)
    low, high = start + margin, start + 1.0 - margin
    return log_mass(low, high) if law == LOG else loglog_mass(low, high, gamma)


def samples_to_find(probabilities: NDArray[np.float64], log_failure: float) -> int:
    """The least m with sum_i (1 - p_i)^m <= failure: m samples hit all categories but for that probability.

    Parameters
    ----------
    probabilities : (categories,) float64
        Above 0.
    log_failure : float
        Natural logarithm of the failure probability, which may be below every float64.

    Examples
    --------
    >>> samples_to_find(np.array([0.5, 0.5]), math.log(0.01))
    8
    """
    rates = np.log1p(-probabilities)

    def enough(m: int) -> bool:
        terms = m * rates
        top = terms.max()
        return bool(top + math.log(np.exp(terms - top).sum()) <= log_failure)

    high = max(1, math.ceil((math.log(len(rates)) - log_failure) / -float(rates.max())))
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Bins:
    """Where the bins of a layer's weights lie among the products, from the largest bin to the smallest.

    Attributes
    ----------
    powers : (bins,) int64
        j of the neurons that serve each bin, whose products are spread from gamma 2^j downwards; never rising.
    start : (bins,) float64
        x of each bin's upper end, 2 for the largest products of such a neuron.
    share : (bins,) float64
        Least probability that a neuron's product lies in a bin, has a given sign, and comes of an incoming weight of a
        given sign.
    """

    powers: NDArray[np.int64]
    start: NDArray[np.float64]
    share: NDArray[np.float64]

    def held(self, part: slice, signs: int, log_failure: float) -> int:
        """Neurons among which some of the bins are all filled, for each sign of the input; each bin may fail as often.

        Parameters
        ----------
        part : slice
            The bins.
        signs : int
            Signs that the input may have.
        log_failure : float
            Natural logarithm of the probability with which any of all bins may fail.
        """
        share = self.share[part]
        return samples_to_find(share, log_failure + math.log(len(share) / (len(self.share) * signs)))


def place_bins(
    law: str, gamma: float, n_bits: int, n_bins: float, log2_top: float | None = None, guard: float = 0.0
) -> Bins:
    """The bins w_max (gamma^(i+1), gamma^i], i = 1, ..., n_bits.

    Parameters
    ----------
    law : str
        Of both weights, whose scale is such that products of the first bin are the largest there are.
    gamma : float
    n_bits : int
    n_bins : float
        As in :func:`bin_probabilities`.
    log2_top : float, optional
        log2 w_max, where scales do not know it: of neurons whose largest products are gamma 2^j, j = 0, 1, ..., each
        bin is served by the least j that reaches it, so that many neurons serve small weights, and only the largest
        bins wait for rare ones (Remark 14).
    guard : float
        As in :func:`bin_probabilities`.
    """
    start, powers = np.arange(n_bits, dtype=np.float64) + 2.0, np.zeros(n_bits, np.int64)
    if log2_top is not None:
        above = log2_top + np.arange(n_bits) * math.log2(gamma)
        # A power of 2 that is one up to rounding needs no neuron of twice the scale.
        powers = np.maximum(np.ceil(above - 1e-12), 0.0).astype(np.int64)
        start = start + (log2_top - powers) / math.log2(gamma)
    return Bins(powers, start, bin_probabilities(law, gamma, start, n_bins, guard) / 4.0)


@dataclass(frozen=True)
class Shelf:
    """The neurons of one scale, and the bins that they serve.

    Attributes
    ----------
    power : int
        j: their products are spread from 2^j downwards (Remark 14); 0 where all neurons have one scale.
    begin, end : int
        Bins, counted from the largest.
    held : int
        Neurons of this scale that a round holds.
    fresh : int
        Neurons of this scale that a round may use up.
    """

    power: int
    begin: int
    end: int
    held: int
    fresh: int


def shelves(powers: NDArray[np.int64], held: Callable[[slice], int], each: int) -> tuple[Shelf, ...]:
    """The shelves of a layer, from the largest scale to the smallest.

    Parameters
    ----------
    powers : (bins,) int64
        Of the neurons that serve each bin; never rising.
    held : callable
        Neurons that a round must hold so that all of some bins are filled.
    each : int
        Neurons of one bin that a round may use up.
    """
    edges = [0, *(np.flatnonzero(np.diff(powers)) + 1).tolist(), len(powers)]
    return tuple(
        Shelf(int(powers[begin]), begin, end, held(slice(begin, end)), (end - begin) * each)
        for begin, end in itertools.pairwise(edges)
    )


def neurons_of_a_round(parts: tuple[Shelf, ...], scheduled: bool) -> int:
    """Neurons in a row that have as many of each scale as the shelves ask for.

    If ``scheduled``, of 2^(j+1) neurons in a row one has the scale 2^j (Remark 14); the number is then a multiple of
    the largest such period, so that rounds may follow one another. Otherwise there is one shelf.
    """
    needs = [(part.power, part.held + part.fresh) for part in parts]
    if not scheduled:
        return needs[0][1]
    largest = max(power for power, _ in needs)
    most = max(math.ceil(need / (1 << (largest - power))) for power, need in needs)
    return most << (largest + 1)
