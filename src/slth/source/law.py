"""What a law of the source's weights is: a pure function from random words to float32 numbers, and facts about it."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

LEAST = 2.0**-126
"""The least normal float32. Smaller numbers are flushed to 0 by some devices, so no law gives them."""

_BLOCK = 1 << 14
"""Elements made at a time (chosen): the intermediate float64 arrays then fit the second-level cache."""

_EVEN_WORDS = (np.arange(1 << 12, dtype=np.uint64) * (1 << 20) + (1 << 19)).astype(np.uint32)
_EXTREME_WORDS = np.array([0, 2**31 - 1, 2**31, 2**32 - 1], dtype=np.uint32)


@dataclass(frozen=True)
class Containment:
    """A law whose density is at least b on [-a, a] contains a b-scaled Unif[-a, a].

    Lueker 1998; da Cunha, Natale and Viennot 2022, Definition 2.

    Attributes
    ----------
    half_width : float
        a.
    density : float
        b.
    """

    half_width: float
    density: float

    @property
    def share(self) -> float:
        """2 a b: the law is Unif[-a, a] with this probability and something else otherwise (Burkholz's alpha)."""
        return 2.0 * self.half_width * self.density


@dataclass(frozen=True)
class Distribution(ABC):
    """A law, as a frozen object that holds its parameters.

    An element is a function of its own random words alone, so that any block of a tensor can be drawn alone, and has
    the same bits on every machine (see :mod:`slth.source.elementary`). Unless a law says otherwise it is exactly
    symmetric, bounded, and never 0. Densities and containment are those of the law before it is rounded to a float32,
    and no weight depends on them.
    """

    name: ClassVar[str]
    words_per_element: ClassVar[int] = 1
    by_shape: ClassVar[bool] = False
    """Whether a layer's shape decides what the numbers are multiplied by (:meth:`layer_scale`)."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The numbers that, with the name, say which law it is; plain JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def label(self) -> str:
        """Name and parameters in one word, from which :func:`slth.source.distributions.parse` makes the law."""
        return ":".join([self.name, *(repr(value).removesuffix(".0") for value in self.parameters.values())])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which :func:`slth.source.distributions.from_json` makes the same law."""
        return {"name": self.name, **self.parameters}

    def layer_scale(self, fan_in: int, fan_out: int) -> float:
        """What the weights of a layer with so many inputs and outputs are multiplied by as they are drawn: 1.

        A float32. As in torch, a kernel's entries count as inputs, or as outputs, of their own.
        """
        return 1.0

    def sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Weights from random words.

        Parameters
        ----------
        words : (n * words_per_element,) uint32
            Element i is made of the words from ``i * words_per_element`` on.

        Returns
        -------
        (n,) float32
        """
        result = np.empty(words.size // self.words_per_element, dtype=np.float32)
        for start in range(0, result.size, _BLOCK):
            stop = min(start + _BLOCK, result.size)
            result[start:stop] = self._sample(words[start * self.words_per_element : stop * self.words_per_element])
        return result

    @abstractmethod
    def _sample(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Weights from random words, few enough to be made at once."""

    @property
    def symmetric(self) -> bool:
        """Whether every number is exactly as likely as its negative."""
        return True

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest number that is ever drawn."""
        ends = self.sample(_EXTREME_WORDS)
        return float(ends.min()), float(ends.max())

    @property
    def least_magnitude(self) -> float:
        """The least absolute value that is ever drawn; 0 only for laws that say so."""
        return float(np.abs(self.sample(_EXTREME_WORDS)).min())

    @property
    def spread(self) -> float:
        """The standard deviation of 4096 numbers from even words, over that of U[-1, 1]."""
        return float(self.sample(_EVEN_WORDS).astype(np.float64).std()) * math.sqrt(3.0)

    @property
    @abstractmethod
    def best_half_width(self) -> float:
        """The a with the largest share 2 a b, where b is the least density on [-a, a]; 0 if every b is 0."""

    @abstractmethod
    def least_density(self, half_width: float) -> float:
        """The least density b on [-a, a], the point 0 apart."""

    def containment(self, half_width: float | None = None) -> Containment | None:
        """The uniform law that this one contains, or None if there is none.

        Parameters
        ----------
        half_width : float, optional
            a; by default the one with the largest share 2 a b.
        """
        a = self.best_half_width if half_width is None else half_width
        b = self.least_density(a) if a > 0.0 else 0.0
        return Containment(a, b) if b > 0.0 else None


def sign_and_unit(words: NDArray[np.uint32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A sign, from the word's highest bit (1 is plus), and u = (2 k + 1) / 2^32, from the 31 others, k.

    u lies evenly in (0, 1) and is exact. The word with only its highest bit changed gives the negative number, which
    makes a law symmetric to the last bit.
    """
    sign = (words >> np.uint32(31)).astype(np.float64) * 2.0 - 1.0
    odd = (words << np.uint32(1)) | np.uint32(1)
    return sign, odd.astype(np.float64) * 2.0**-32
