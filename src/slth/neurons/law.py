"""Laws of a random feature's first-layer weights w, all of norm at most 1: bit-exact functions of random words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.distributions import Normal, draw, parse
from slth.source.elementary import exp2, log2
from slth.source.law import Distribution
from slth.source.philox import words

SPHERE, BALL = "sphere", "ball"

_BELOW_ONE = 1.0 - 2.0**-22
"""Takes norms so far below 1 that rounding the entries to float32, each by 2^-24 of itself, cannot exceed it."""


@dataclass(frozen=True)
class FeatureLaw:
    """D*: how one row w in R^d of the first layer is drawn.

    Malach et al. 2020, section 3: any law on ‖w‖ <= 1.

    Attributes
    ----------
    shape : str
        ``"sphere"``: uniform on the unit sphere. ``"ball"``: uniform in the unit ball. ``"entries"``: independent
        entries of the law ``entries`` over √d, the row divided by its norm where that is above 1.
    entries : Distribution
        For the sphere and the ball normal. With ``uniform`` w is uniform on the cube [-1/√d, 1/√d]^d, the law of
        Theorem 3.3 (ii), which stays within the ball by itself.
    """

    shape: str
    entries: Distribution = field(default_factory=Normal)

    @classmethod
    def parse(cls, text: str) -> FeatureLaw:
        """``"sphere"``, ``"ball"``, or the entries' law, as :func:`slth.source.distributions.parse` reads it.

        Raises
        ------
        ArgumentError
            If there is no such law.

        Examples
        --------
        >>> FeatureLaw.parse("uniform").text
        'uniform'
        """
        if text in (SPHERE, BALL):
            return cls(text)
        try:
            return cls("entries", parse(text))
        except ArgumentError as error:
            raise ArgumentError("law", error.got, f"sphere, ball or {error.need}", SPHERE) from error

    @property
    def text(self) -> str:
        """The form that :meth:`parse` reads."""
        return self.entries.label if self.shape == "entries" else self.shape

    def rows(
        self, entry_key: tuple[int, int], radius_key: tuple[int, int], start: int, stop: int, size: int
    ) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop`` of the first layer.

        Parameters
        ----------
        entry_key, radius_key : pair of int
            Streams of the entries, row by row, and, for the ball, of one radius a row.
        start, stop, size : int
            Rows, and their length d.

        Returns
        -------
        (stop - start, size) float32
            Of norm at most 1.
        """
        count = stop - start
        drawn = draw(self.entries, entry_key, start * size, count * size).reshape(count, size).astype(np.float64)
        norms = _norms(drawn)
        if self.shape == "entries":
            drawn /= math.sqrt(size)
            factor = _BELOW_ONE / np.maximum(norms / math.sqrt(size), 1.0)
        else:
            factor = _BELOW_ONE / norms
            if self.shape == BALL:
                factor *= _radii(radius_key, start, count, size)
        return (drawn * factor[:, None]).astype(np.float32)


def _norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """2-norms of rows, added column by column: numpy's own sums change their order with the machine."""
    total = np.zeros(len(rows))
    for column in rows.T:
        total = total + column * column
    return np.sqrt(total)


def _radii(key: tuple[int, int], start: int, count: int, size: int) -> NDArray[np.float64]:
    """U^(1/d) with U even in (0, 1): the distance from the centre of a uniform point of the ball."""
    odd = (words(key, start, count).astype(np.uint64) << np.uint64(1)) | np.uint64(1)
    return exp2(log2(odd.astype(np.float64) * 2.0**-33) / size)
