"""The random numbers of experiments, from the generator that draws the sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slth.source.philox import stream_key, words

_RESOLUTION = 2.0**-53


def uniforms(seed: int, stream: int, draw: int, n: int, low: float = -1.0, high: float = 1.0) -> NDArray[np.float64]:
    """``n`` numbers between two bounds; a longer row of the same stream and draw begins with them."""
    pairs = words(stream_key(seed, stream, draw), 0, 2 * n).astype(np.uint64).reshape(n, 2)
    whole = ((pairs[:, 0] << np.uint64(21)) ^ (pairs[:, 1] >> np.uint64(11))).astype(np.float64)
    return low + (high - low) * ((whole + 0.5) * _RESOLUTION)
