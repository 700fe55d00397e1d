"""Random numbers of experiments: every trial has streams of its own, whatever batch it is in and wherever it runs.

The words are those of numpy's Philox bit generator, whose raw stream is fixed between releases (numpy's own normals are
not); uniforms and normals are made of them here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError

PURPOSES = ("support", "weights", "inputs", "noise", "start", "labels", "hessian", "tensor")
"""What a trial draws; each from a stream of its own, so that more of one changes nothing of another."""

_PURPOSE_BITS = 4

Floats = NDArray[np.float64]


class Stream:
    """Random numbers of one purpose in one trial.

    Parameters
    ----------
    seed : int
        From 0 to 2^64 - 1.
    trial : int
        Its number, from 0.
    purpose : str
        One of :data:`PURPOSES`.

    Raises
    ------
    ArgumentError
        If seed or trial is out of range.

    Examples
    --------
    >>> bool((Stream(7, 3, "noise").normals(4) == Stream(7, 3, "noise").normals(9)[:4]).all())
    True
    """

    def __init__(self, seed: int, trial: int, purpose: str) -> None:
        for name, value, bits in (("seed", seed, 64), ("trial", trial, 64 - _PURPOSE_BITS)):
            if not 0 <= value < 2**bits:
                raise ArgumentError(name, str(value), f"a whole number from 0 to 2^{bits} - 1")
        key = (trial << _PURPOSE_BITS) + PURPOSES.index(purpose)
        self._words = np.random.Philox(key=np.array([seed, key], dtype=np.uint64))

    def uniforms(self, *shape: int) -> Floats:
        """Uniform on [0, 1), multiples of 2^-53."""
        words = np.asarray(self._words.random_raw(math.prod(shape)), dtype=np.uint64)
        return (words >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53

    def normals(self, *shape: int) -> Floats:
        """Standard normals, two of every two words (Box and Muller 1958); whoever asks for more gets the same first."""
        n = math.prod(shape)
        pairs = self.uniforms(-(-n // 2), 2)
        # 1 - u lies in (0, 1], so that no logarithm is infinite.
        radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))
        angle = 2.0 * np.pi * pairs[:, 1]
        both = np.empty_like(pairs)
        np.multiply(radius, np.cos(angle), out=both[:, 0])
        np.multiply(radius, np.sin(angle), out=both[:, 1])
        return both.reshape(-1)[:n].reshape(shape)

    def order(self, rows: int, columns: int) -> NDArray[np.int64]:
        """(row, column) A random order of the columns for every row, ties of equal uniforms by column."""
        return np.asarray(np.argsort(self.uniforms(rows, columns), axis=1, kind="stable"), dtype=np.int64)
