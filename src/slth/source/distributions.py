"""Bit-exact maps from random words to weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIFORM = "uniform"


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
