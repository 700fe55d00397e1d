"""What an element of a base set is: a weight, or the product of two, as the constructions make them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.distributions import DISTRIBUTIONS, Uniform, draw, parse
from slth.source.law import Containment, Distribution
from slth.source.philox import stream_key

PRODUCTS = {
    "product": "uniform*uniform",
    "half-product": "uniform*uniform+",
    "normal-product": "normal*normal",
    "hyperbolic-product": "hyperbolic*hyperbolic",
}
"""Short names: V U of the two-for-one construction; V max(0, U) of da Cunha et al. 2022, half of which is 0."""

MOST_ELEMENTS = 64
"""Elements set aside for every draw, so that no draw depends on how many are used."""

_LAYER = 2**32 - 1
"""Stands where a network has the number of a layer, so that no network's weights are drawn again."""

_FIRST, _SECOND, TARGETS = range(3)


@dataclass(frozen=True)
class ElementLaw:
    """The law of a base set's elements: of a weight X, a product X Y, or X max(0, Y).

    Attributes
    ----------
    first : Distribution
        X.
    second : Distribution, optional
        Y.
    positive_part : bool
        Whether max(0, Y) takes the place of Y, as behind a ReLU.
    """

    first: Distribution
    second: Distribution | None = None
    positive_part: bool = False

    @property
    def label(self) -> str:
        """What :func:`parse_elements` makes this law of, short where there is a short name."""
        if self.second is None:
            return self.first.label
        spelled = f"{self.first.label}*{self.second.label}{'+' if self.positive_part else ''}"
        return next((name for name, text in PRODUCTS.items() if parse_elements(text) == self), spelled)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, all parameters spelled out."""
        second = None if self.second is None else self.second.to_json()
        return {"first": self.first.to_json(), "second": second, "positive_part": self.positive_part}

    def draw(self, seed: int, start: int, count: int) -> NDArray[np.float64]:
        """Base sets ``start`` to ``start + count``, (count, MOST_ELEMENTS), each the same however many are drawn.

        A float32 product is exact in float64. For a base set of m elements take the first m: the sets are nested.
        """
        result = self._factor(self.first, seed, _FIRST, start, count)
        if self.second is not None:
            second = self._factor(self.second, seed, _SECOND, start, count)
            result *= np.maximum(second, 0.0) if self.positive_part else second
        return result.reshape(count, MOST_ELEMENTS)

    @staticmethod
    def _factor(law: Distribution, seed: int, tensor: int, start: int, count: int) -> NDArray[np.float64]:
        key = stream_key(seed, _LAYER, tensor)
        return draw(law, key, start * MOST_ELEMENTS, count * MOST_ELEMENTS).astype(np.float64)

    def containment(self, half_width: float | None = None) -> Containment | None:
        """The uniform law contained (da Cunha et al. 2022, Definition 2), or None if there is none or none is known.

        U V has the density -1/2 ln |x|, so b = -1/2 ln a, and the share 2 a b is largest, 1/e, at a = 1/e. V max(0, U)
        has half of that beside an atom at 0: ln 2 / 4 at a = 1/2, where the paper has ln 2 / 2, the constant of U V.
        """
        if self.second is None:
            return self.first.containment(half_width)
        if not (isinstance(self.first, Uniform) and isinstance(self.second, Uniform)):
            return None
        a = math.exp(-1.0) if half_width is None else half_width
        b = -0.5 * math.log(a) if 0.0 < a < 1.0 else 0.0
        return Containment(a, b / 2 if self.positive_part else b) if b > 0.0 else None


def targets(seed: int, count: int) -> NDArray[np.float64]:
    """One target for every draw, from U[-1, 1], independent of the base sets."""
    return draw(Uniform(), stream_key(seed, _LAYER, TARGETS), 0, count).astype(np.float64)


def parse_elements(text: str) -> ElementLaw:
    """The law of a name, or of two with a star between them; a plus behind the second takes its positive part.

    Raises
    ------
    ArgumentError
        For anything else.

    Examples
    --------
    >>> parse_elements("half-product") == parse_elements("uniform*uniform+")
    True
    >>> parse_elements("hyperbolic:0.01:1*hyperbolic:0.01:1").label
    'hyperbolic:0.01:1*hyperbolic:0.01:1'
    """
    text = text.strip()
    first, star, second = PRODUCTS.get(text, text).partition("*")
    try:
        if not star:
            return ElementLaw(parse(first))
        return ElementLaw(parse(first), parse(second.removesuffix("+")), second.endswith("+"))
    except ArgumentError as error:
        if error.where == "distribution" and error.got.strip("'").split(":")[0] not in DISTRIBUTIONS:
            need = f"{error.need}, {', '.join(PRODUCTS)}, or two laws with * between them"
            raise ArgumentError("--distribution", repr(text), need, "product") from None
        raise ArgumentError("--distribution", repr(text), error.need, error.remedy) from None
