"""What a ticket's surviving weights amount to: the slope that each target weight is realised with, and their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.mask import BIAS, Mask
from slth.source.spec import SourceLayer


@dataclass(frozen=True)
class RealisedLayer:
    """Slopes of one layer of the pruned source network, computed in float64 from its float32 weights.

    Attributes
    ----------
    positive, negative : float64 array, (outputs, inputs per group, taps)
        Slope for an input x >= 0 and for x <= 0.
    bias : float64 array, (outputs,), or None
        What the bias block adds.
    size, bias_size : float64 arrays of the same shapes
        Sums of the products' absolute values, of the larger of the two signs, from which rounding is bounded.
    n_terms : int
        Products that the largest sum of one output has: slopes, and evaluations of the pruned source itself.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    size: NDArray[np.float64]
    bias_size: NDArray[np.float64] | None
    n_terms: int

    @property
    def one_branch(self) -> bool:
        """Whether the slopes are the same for both signs of the input, bit for bit."""
        return bool(np.array_equal(self.positive, self.negative))

    @property
    def _unit(self) -> float:
        return 2.0**-52 * (self.n_terms + 2)

    @property
    def slack(self) -> NDArray[np.float64]:
        """Bound on the rounding error of either slope, (outputs, inputs per group, taps).

        A product of two float32 numbers is exact in float64; a sum of n of them, in any order, is off by at most
        (n - 1) 2^-53 / (1 - (n - 1) 2^-53) times the sum of their absolute values.
        """
        return self.size * self._unit

    @property
    def bias_slack(self) -> NDArray[np.float64] | None:
        """Bound on the rounding error of the bias, (outputs,), or None."""
        return None if self.bias_size is None else self.bias_size * self._unit


def realise(source: SourceLayer, mask: Mask) -> RealisedLayer:
    """Sum the surviving products of every weight, for each sign of the input."""
    shape = (source.outputs, source.inputs_per_group, source.taps)
    slopes, sizes = (np.zeros((2, *shape)) for _ in range(2))
    biases, bias_sizes = (np.zeros(source.outputs) for _ in range(2))
    kept = mask.expand(source)
    value = kept.value.astype(np.float64)
    n_terms = 1
    for piece in mask.entries(source):
        n_rows = piece.stop - piece.start
        if not len(piece.output):
            continue
        row, channel, u = piece.output - piece.start, kept.channel[piece.kept], value[piece.kept]
        product = piece.value.astype(np.float64) * u
        n_terms = max(n_terms, int(np.bincount(row).max()))
        place = (row * source.inputs_per_group + channel) * source.taps + piece.tap
        for branch, here in enumerate(((channel != BIAS) & (u > 0), (channel != BIAS) & (u < 0))):
            for into, part in ((slopes, product[here]), (sizes, np.abs(product[here]))):
                sums = np.bincount(place[here], part, minlength=n_rows * shape[1] * shape[2])
                into[branch, piece.start : piece.stop] = sums.reshape(n_rows, *shape[1:])
        here = (channel == BIAS) & (u > 0)
        for total, part in ((biases, product[here]), (bias_sizes, np.abs(product[here]))):
            total[piece.start : piece.stop] = np.bincount(row[here], part, minlength=n_rows)
    bias, bias_size = (biases, bias_sizes) if source.bias else (None, None)
    return RealisedLayer(slopes[0], slopes[1], bias, sizes.max(axis=0), bias_size, n_terms)


def survivors_digest(source: SourceLayer, mask: Mask) -> str:
    """SHA-256 of the surviving source weights as little-endian float32.

    First the kept neurons' incoming weights (or biases) in ascending order, then the kept combining weights output by
    output, within it neuron by neuron and tap by tap.
    """
    sha = hashlib.sha256(mask.expand(source).value.astype("<f4").tobytes())
    for piece in mask.entries(source):
        sha.update(piece.value.astype("<f4").tobytes())
    return sha.hexdigest()
