"""Laws of magnitudes spread over many scales (Orseau, Hutter and Rivasplata 2020), each with a random sign."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.elementary import LOG2_E, exp2, log, log2
from slth.source.law import LEAST, Distribution, sign_and_unit

_LOG2_3, _LN_3 = 1.584962500721156, 1.0986122886681098
_LEAST_POWER = -126.0


@dataclass(frozen=True)
class Hyperbolic(Distribution):
    """Magnitudes log-uniform on [alpha, beta]: density 1 / (2 |v| ln(beta / alpha)) there and on the mirror image.

    Orseau et al. 2020, section 3.1: alpha (beta / alpha)^u. Of bins whose ends have equal ratios each is equally
    likely. The density is 0 on (-alpha, alpha), so the law contains no uniform around 0 in the sense of da Cunha et al.
    2022, Definition 2.

    Parameters
    ----------
    alpha, beta : float
        2^-126 <= alpha < beta <= 2^126; the defaults are those of the paper's figure 2.
    """

    name: ClassVar[str] = "hyperbolic"
    alpha: float = 0.001
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not LEAST <= self.alpha < self.beta <= 1.0 / LEAST:
            got, need = f"alpha {self.alpha:g} and beta {self.beta:g}", "2^-126 <= alpha < beta <= 2^126"
            raise ArgumentError("hyperbolic", got, need, "hyperbolic:0.001:1")

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        sign, u = sign_and_unit(words)
        low, high = log2(np.array([self.alpha, self.beta])).tolist()
        magnitude = (self.alpha * exp2(u * (high - low))).astype(np.float32)
        # Without this a bound that lies between two float32 numbers could be passed by rounding.
        magnitude = np.minimum(np.maximum(magnitude, np.float32(self.alpha)), np.float32(self.beta))
        return magnitude * sign.astype(np.float32)

    def density(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density."""
        inside = (np.abs(x) >= self.alpha) & (np.abs(x) <= self.beta)
        return np.where(inside, 0.5 / (np.where(inside, np.abs(x), 1.0) * math.log(self.beta / self.alpha)), 0.0)

    def product_density(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density of the product of two independent such numbers.

        The logarithms of the magnitudes add up to a triangular law, so with c = 1 / ln(beta / alpha) the density is
        c / (2 |x|) (1 - c |ln |x| - ln(alpha beta)|). On magnitudes from alpha sqrt(alpha beta) to beta
        sqrt(alpha beta), which have probability 3/4, that is at least c / (4 |x|) (ibid., Lemma 28, halved for the
        sign).
        """
        c = 1.0 / math.log(self.beta / self.alpha)
        magnitude = np.where(x == 0.0, 1.0, np.abs(x))
        triangle = 1.0 - c * np.abs(np.log(magnitude) - math.log(self.alpha) - math.log(self.beta))
        return np.where(x == 0.0, 0.0, 0.5 * c / magnitude * np.maximum(triangle, 0.0))

    @property
    def best_half_width(self) -> float:
        """0: there is none."""
        return 0.0

    def least_density(self, half_width: float) -> float:
        """0: the density vanishes near 0."""
        return 0.0


@dataclass(frozen=True)
class HyperbolicLog(Distribution):
    """Magnitudes on (0, gamma] with density ln(1/gamma) / (v ln^2 v): no accuracy need be known when it is drawn.

    Orseau et al. 2020, Remark 12, as intended (the printed density has ln(1/v) above the line and cannot be
    normalised): v = gamma^(1/u). A magnitude lies in the bin (gamma^(i+1), gamma^i] with probability exactly
    1 / (i (i + 1)).

    Differs: what would be below 2^-126 is set to 2^-126, with probability log2(1/gamma) / 126 (0.005 for 2/3).

    Parameters
    ----------
    gamma : float
        2^-125 <= gamma < 1; the default is the paper's ratio of bins.
    """

    name: ClassVar[str] = "hyperbolic-log"
    gamma: float = 2 / 3

    def __post_init__(self) -> None:
        _check_gamma(self.name, self.gamma)

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        sign, u = sign_and_unit(words)
        power = log2(np.array([self.gamma])) / u
        return _bounded(power, self.gamma) * sign.astype(np.float32)

    def density(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density; not bounded near 0, where it is given as 0."""
        inside = (x != 0.0) & (np.abs(x) <= self.gamma)
        magnitude = np.where(inside, np.abs(x), 0.5)
        return np.where(inside, -0.5 * math.log(self.gamma) / (magnitude * np.log(magnitude) ** 2), 0.0)

    @property
    def best_half_width(self) -> float:
        """Gamma: the share grows with a all the way."""
        return self.gamma

    def least_density(self, half_width: float) -> float:
        """The density at min(a, e^-2), up to where it falls."""
        return float(self.density(np.array([min(half_width, math.exp(-2))]))[0]) if half_width <= self.gamma else 0.0


@dataclass(frozen=True)
class HyperbolicLogLog(Distribution):
    """Magnitudes on (0, gamma] with density proportional to 1 / (v ln(3/v) (ln ln(3/v))^2).

    After Orseau et al. 2020, Remark 12, second density: a magnitude lies in the bin (gamma^(i+1), gamma^i] with
    probability ln c (1 / ln(ln 3 + i l) - 1 / ln(ln 3 + (i + 1) l)), where l = ln(1/gamma) and c = ln(3/gamma): about
    1 / (i ln^2 i) instead of 1 / i^2.

    Differs: the paper has ln(1/v) for the first ln(3/v), which leaves no closed form; the two are within a factor of
    1 + ln 3 / ln(1/gamma) of each other. With it, 3/v = e^(c^(1/u)). What would be below 2^-126 is set to 2^-126, with
    probability ln c / ln(126 ln 2 + ln 3) (0.09 for gamma = 2/3): so heavy is this law near 0.

    Parameters
    ----------
    gamma : float
        2^-125 <= gamma < 1.
    """

    name: ClassVar[str] = "hyperbolic-loglog"
    gamma: float = 2 / 3

    def __post_init__(self) -> None:
        _check_gamma(self.name, self.gamma)

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        sign, u = sign_and_unit(words)
        c = _LN_3 - log(np.array([self.gamma]))
        # At 2^8 the magnitude has long passed the least one, and what follows stays finite.
        grown = exp2(np.minimum(log2(c) / u, 8.0))
        return _bounded(_LOG2_3 - grown * LOG2_E, self.gamma) * sign.astype(np.float32)

    def density(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density; not bounded near 0, where it is given as 0."""
        inside = (x != 0.0) & (np.abs(x) <= self.gamma)
        magnitude = np.where(inside, np.abs(x), 0.5)
        s = np.log(3.0 / magnitude)
        scale = 0.5 * math.log(math.log(3.0 / self.gamma))
        return np.where(inside, scale / (magnitude * s * np.log(s) ** 2), 0.0)

    @property
    def best_half_width(self) -> float:
        """Gamma: the share grows with a all the way."""
        return self.gamma

    def least_density(self, half_width: float) -> float:
        """The density at min(a, 3 e^-s), up to where it falls: (s - 1) ln s = 2."""
        turn = 0.167291177147952
        return float(self.density(np.array([min(half_width, turn)]))[0]) if half_width <= self.gamma else 0.0


def _check_gamma(name: str, gamma: float) -> None:
    if not 2.0 * LEAST <= gamma < 1.0:
        raise ArgumentError(name, f"gamma {gamma:g}", "2^-125 <= gamma < 1", f"{name}:0.6667")


def _bounded(power: NDArray[np.float64], gamma: float) -> NDArray[np.float32]:
    """2^power as a float32 from 2^-126 to gamma."""
    magnitude = exp2(np.maximum(power, _LEAST_POWER)).astype(np.float32)
    return np.minimum(magnitude, np.float32(gamma))
