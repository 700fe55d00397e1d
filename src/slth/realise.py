"""What a ticket's surviving weights amount to: the slope that each target weight is realised with, and their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.source.spec import SourceLayer
from slth.ticket import LayerMask


@dataclass(frozen=True)
class RealisedLayer:
    """Slopes of one layer of the pruned source network, computed in float64 from its float32 weights.

    Attributes
    ----------
    positive, negative : float64 array, (outputs, inputs per group, taps)
        Slope for an input x >= 0 and for x <= 0.
    bias : float64 array, (outputs,), or None
        What the bias block adds.
    slack : float64 array, (outputs, inputs per group, taps)
        Bound on the rounding error of either slope.
    bias_slack : float64 array, (outputs,), or None
        Bound on the rounding error of the bias.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    slack: NDArray[np.float64]
    bias_slack: NDArray[np.float64] | None

    @property
    def one_branch(self) -> bool:
        """Whether the slopes are the same for both signs of the input, bit for bit."""
        return bool(np.array_equal(self.positive, self.negative))


def realise(source: SourceLayer, mask: LayerMask) -> RealisedLayer:
    """Sum the surviving products of every block, for each sign of the input.

    A product of two float32 numbers is exact in float64; a sum of n of them, in any order, is off by at most
    (n - 1) 2^-53 / (1 - (n - 1) 2^-53) times the sum of their absolute values, which ``slack`` bounds from above.
    """
    shape = (source.outputs, source.inputs_per_group, source.taps)
    slopes = {1: np.zeros(shape), -1: np.zeros(shape)}
    slack = np.zeros(shape)
    bias = np.zeros(source.outputs) if source.bias else None
    bias_slack = np.zeros(source.outputs) if source.bias else None
    univariate = source.univariate_weights().astype(np.float64).reshape(source.groups, source.neurons_per_group)
    unit = 2.0**-52 * (source.block_width * source.taps + 2)
    for start, stop, group, kept, flags in mask.rows(source):
        values = univariate[group, kept]
        block = kept // source.block_width
        n_inputs = int(np.searchsorted(block, source.inputs_per_group))
        combine = source.combine_weight(start, stop)[:, kept, :].astype(np.float64)
        products = np.where(flags, combine * values[:, None], 0.0)
        for sign, slope in slopes.items():
            columns = np.flatnonzero(np.sign(values[:n_inputs]) == sign)
            if columns.size == 0:
                continue
            blocks, starts = np.unique(block[columns], return_index=True)
            slope[start:stop, blocks, :] = np.add.reduceat(products[:, columns, :], starts, axis=1)
            sizes = np.add.reduceat(np.abs(products[:, columns, :]), starts, axis=1)
            slack[start:stop, blocks, :] = np.maximum(slack[start:stop, blocks, :], sizes * unit)
        if bias is not None and bias_slack is not None:
            constant = products[:, n_inputs:, :] * (values[n_inputs:, None] > 0)
            bias[start:stop] = constant.sum(axis=(1, 2))
            bias_slack[start:stop] = np.abs(constant).sum(axis=(1, 2)) * unit
    return RealisedLayer(slopes[1], slopes[-1], bias, slack, bias_slack)


def survivors_digest(source: SourceLayer, mask: LayerMask) -> str:
    """SHA-256 of the surviving source weights as little-endian float32.

    First the kept neurons' univariate weights in ascending order, then the kept combining weights row by row.
    """
    sha = hashlib.sha256(source.univariate_weights()[mask.neurons].astype("<f4").tobytes())
    for start, stop, _, kept, flags in mask.rows(source):
        sha.update(source.combine_weight(start, stop)[:, kept, :][flags].astype("<f4").tobytes())
    return sha.hexdigest()
