"""Bit-exact maps from random words to weights: the laws there are, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.elementary import normal_tail_quantile
from slth.source.hyperbolic import Hyperbolic, HyperbolicLog, HyperbolicLogLog
from slth.source.law import Distribution, sign_and_unit
from slth.source.philox import words, words_at
from slth.source.quantiles import Quantiles

UNIFORM = "uniform"

_MOST_LEVELS = 1 << 24


def uniform(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Uniform on [-1, 1]: (2k + 1 - 2^24) / 2^24, where k is the upper 24 bits of the word.

    Every value is an odd multiple of 2^-24 and so a float32 without rounding; none is 0, and the law is symmetric.

    Examples
    --------
    >>> [float(u) * 2**24 for u in uniform(np.array([0, 2**31, 2**32 - 1], dtype=np.uint32))]
    [-16777215.0, 1.0, 16777215.0]
    """
    odd = (words >> np.uint32(7)) | np.uint32(1)
    return (odd.astype(np.int32) - np.int32(1 << 24)).astype(np.float32) * np.float32(2.0**-24)


@dataclass(frozen=True)
class Uniform(Distribution):
    """U[-1, 1], by :func:`uniform`; contains itself (a = 1, b = 1/2)."""

    name: ClassVar[str] = UNIFORM

    def sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        """As :func:`uniform`."""
        return uniform(words)

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        return uniform(words)

    @property
    def spread(self) -> float:
        """1."""
        return 1.0

    @property
    def best_half_width(self) -> float:
        """1."""
        return 1.0

    def least_density(self, half_width: float) -> float:
        """1/2 up to 1."""
        return 0.5 if half_width <= 1.0 else 0.0


@dataclass(frozen=True)
class Normal(Distribution):
    """N(0, 1), cut off at 6.34 where less than 2^-33 is left on either side: quantiles of (2 k + 1) / 2^33.

    Its density is at least b = e^(-a^2 / 2) / sqrt(2 pi) on [-a, a]; the share 2 a b is largest at a = 1, 0.484.
    """

    name: ClassVar[str] = "normal"

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        sign, u = sign_and_unit(words)
        # 1 - u is as even as u, and like it exact: the tail is (2 k' + 1) / 2^33.
        magnitude = normal_tail_quantile(0.5 * (1.0 - u))
        return magnitude.astype(np.float32) * sign.astype(np.float32)

    @property
    def best_half_width(self) -> float:
        """1."""
        return 1.0

    def least_density(self, half_width: float) -> float:
        """The density at a."""
        return math.exp(-0.5 * half_width * half_width) / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Grid(Distribution):
    """Equally likely levels, evenly from -1 to 1: the weights of a quantised source.

    With n levels they are (2 j - (n - 1)) / (n - 1). n = 2^b levels, all equally likely to the last bit, leave 0 out;
    2 b + 1 levels hold 0, which is drawn once in n times, and differ in probability by less than 2^-31. Two levels are
    the random signs of a signed-constant initialisation. No density, so no uniform law is contained.

    Parameters
    ----------
    levels : int
        From 2 to 2^24.
    """

    name: ClassVar[str] = "grid"
    levels: int = 16

    def __post_init__(self) -> None:
        if self.levels != int(self.levels) or not 2 <= self.levels <= _MOST_LEVELS:
            raise ArgumentError("grid", f"{self.levels} levels", "a whole number from 2 to 2^24", "grid:16")
        object.__setattr__(self, "levels", int(self.levels))

    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        # Odd multiples of 2^-33 never fall on a border between levels, so the mirror image of a word is exactly that.
        odd = (words.astype(np.uint64) << np.uint64(1)) | np.uint64(1)
        level = ((odd * np.uint64(self.levels)) >> np.uint64(33)).astype(np.float64)
        return ((2.0 * level - (self.levels - 1)) / (self.levels - 1)).astype(np.float32)

    @property
    def best_half_width(self) -> float:
        """0: there is none."""
        return 0.0

    def least_density(self, half_width: float) -> float:
        """0: there is no density."""
        return 0.0


DISTRIBUTIONS: dict[str, type[Distribution]] = {
    UNIFORM: Uniform,
    "normal": Normal,
    "hyperbolic": Hyperbolic,
    "hyperbolic-log": HyperbolicLog,
    "hyperbolic-loglog": HyperbolicLogLog,
    "grid": Grid,
    "quantiles": Quantiles,
}
"""Every law by its name."""


def parse(text: str) -> Distribution:
    """The law that a name and parameters between colons stand for; parameters left out keep their defaults.

    Raises
    ------
    ArgumentError
        For a name or parameter that no law has.

    Examples
    --------
    >>> parse("hyperbolic:0.01")
    Hyperbolic(alpha=0.01, beta=1.0)
    """
    name, *given = text.strip().split(":")
    spoken = [known for known in DISTRIBUTIONS if known != Quantiles.name]
    if name not in spoken:
        raise ArgumentError("distribution", repr(text), f"one of {', '.join(spoken)}", UNIFORM)
    law = DISTRIBUTIONS[name]
    names = list(law().parameters)
    try:
        values = [float(part) for part in given]
    except ValueError:
        values = []
    if len(values) != len(given) or len(given) > len(names) or not all(map(math.isfinite, values)):
        need = f"{' and '.join(names)} as numbers between colons" if names else "no parameters"
        raise ArgumentError("distribution", repr(text), need, law().label)
    return law(*values)


def from_json(stored: Mapping[str, Any]) -> Distribution:
    """The law that :meth:`Distribution.to_json` stored.

    Raises
    ------
    ArgumentError
        If it is none, or its parameters are not a law's.
    """
    parameters = dict(stored)
    name = parameters.pop("name", None)
    law = DISTRIBUTIONS.get(name) if isinstance(name, str) else None
    if law is None:
        raise ArgumentError("distribution", repr(name), f"one of {', '.join(DISTRIBUTIONS)}")
    try:
        made = law(**parameters)
    except ArgumentError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError("distribution", f"{name} with {error}", "this law's parameters as numbers") from error
    return made


def draw(law: Distribution, key: tuple[int, int], start: int, count: int) -> NDArray[np.float32]:
    """Elements ``start`` to ``start + count`` of the stream of a key."""
    n = law.words_per_element
    return law.sample(words(key, start * n, count * n))


def draw_at(law: Distribution, key: tuple[int, int], indices: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Scattered elements of the stream of a key, in the order asked."""
    n = law.words_per_element
    each = np.repeat(indices.astype(np.uint64) * np.uint64(n), n) + np.tile(np.arange(n, dtype=np.uint64), indices.size)
    return law.sample(words_at(key, each.astype(np.uint64)))
