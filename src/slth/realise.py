"""What a ticket's surviving weights amount to: the slope that each target weight is realised with, and their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.mask import BIAS, KernelMask, Mask, PlainMask, UnivariateMask, univariate
from slth.network.graph import Sign
from slth.source.plain import PlainSource
from slth.source.signed import ShiftedSource, SplitSource
from slth.source.spec import SourceLayer


@dataclass(frozen=True)
class Bend:
    """The distance between a layer's activation and its two lines, in terms of the largest input.

    Attributes
    ----------
    activation : Activation or None
        None where the two are equal.
    steepest : float
        Largest |univariate weight| kept.
    paired : bool
        Whether neurons live in mirrored pairs, each with both of its members.
    """

    activation: Activation | None = None
    steepest: float = 0.0
    paired: bool = False

    def share(self, reach: float) -> float:
        """The least kappa for which the output is off by at most kappa times :attr:`RealisedLayer.size` times |x|.

        Of a neuron with weight u that is |v| remainder(|u x|) <= kappa |v u x|, for all |x| up to ``reach``, because
        remainder(z) / z does not fall with z; of a mirrored pair, whose two members ``size`` counts both, the odd
        remainder takes its place.
        """
        if self.activation is None or self.steepest == 0.0 or reach == 0.0:
            return 0.0
        z = self.steepest * reach * (1.0 + 2.0**-50)
        left = self.activation.odd_remainder(z) / 2.0 if self.paired else self.activation.remainder(z)
        return left / z * (1.0 + 2.0**-50)


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
        Bounds on the sums of absolute values, from which rounding is bounded: of the products that work for one sign of
        the input, the larger one (of all products, where the activation lets all of them work for both).
    n_terms : int
        Products that the largest sum of one output has: slopes, and evaluations of the pruned source itself.
    bend : Bend
        How far the activation between the two source layers may be from its two lines.
    only : int or None
        The sign that all inputs must have together for the slopes to hold, where neurons read several inputs: the slope
        for the other sign is then anything up to :attr:`size`, in either direction, and written as 0. None where every
        input has its two slopes whatever the others are.
    shift : float
        Where it is above 0, inputs are shifted by it, and :attr:`positive` is the slope for all that are together no
        smaller than its negative; see :attr:`shifted`.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    size: NDArray[np.float64]
    bias_size: NDArray[np.float64] | None
    n_terms: int
    bend: Bend = Bend()
    only: int | None = None
    shift: float = 0.0

    def serves(self, sign: Sign) -> bool:
        """Whether the slopes hold for inputs of which so much is known."""
        return self.only is None or sign.branches == (self.only,)

    @cached_property
    def shifted(self) -> RealisedLayer:
        """The layer for inputs of which none is below the negative of the shift; itself where there is no shift.

        Otherwise neurons may be cut off where x + s < 0. At x = 0 they are all open, and no output changes faster than
        by :attr:`size`: the same is known as of kernels that were made for inputs of one sign.
        """
        return replace(self, negative=self.positive, only=None, shift=0.0) if self.shift else self

    def deviation(self, weight: NDArray[np.float64], branch: int) -> NDArray[np.float64]:
        """|slope - weight| for one sign of the input, or a bound on it where there is no slope."""
        if self.only not in (None, branch):
            return self.size + np.abs(weight)
        return np.abs((self.positive if branch > 0 else self.negative) - weight)

    def difference(self, weight: NDArray[np.float64], branch: int) -> NDArray[np.float64] | None:
        """Slope - weight for one sign of the input; None where there is no slope, or more than one."""
        if self.only not in (None, branch):
            return None
        return (self.positive if branch > 0 else self.negative) - weight

    def gain(self, branch: int) -> NDArray[np.float64]:
        """Largest factor by which an error of the input counts, for one sign of it; rounding is left out."""
        if self.only not in (None, branch):
            # relu(a - c) = a - theta c for a, c >= 0 and some theta in [0, 1]: any slope up to the sum of sizes.
            return self.size
        return np.abs(self.positive if branch > 0 else self.negative)

    def bias_deviation(self, bias: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """|bias - target's bias|, (outputs,); None where the layer has none."""
        if self.bias is None:
            return None
        return np.abs(self.bias - (0.0 if bias is None else bias))

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


ANYWHERE = 2.0**100
"""A distance from 0 at which every activation that leaves its lines has left them."""


def realise(source: SourceLayer, mask: Mask) -> RealisedLayer:
    """Sum the surviving products of every weight, for each sign of the input.

    With the activation's slopes m_plus and m_minus, a product v u adds m_plus v u where u x >= 0 and m_minus v u
    elsewhere; a neuron that keeps its bias b adds v phi(b), and every other one v phi(0).
    """
    if isinstance(mask, KernelMask):
        return _realise_kernels(source, mask)
    if isinstance(source, PlainSource) and isinstance(mask, PlainMask):
        return _realise_plain(source, mask)
    mask = univariate(mask)
    shape = (source.outputs, source.inputs_per_group, source.taps)
    slopes, sizes = (np.zeros((2, *shape)) for _ in range(2))
    biases, bias_sizes = (np.zeros(source.outputs) for _ in range(2))
    kept = mask.expand(source)
    value, phi = kept.value.astype(np.float64), source.activation
    is_bias = kept.channel == BIAS
    constant = np.full(len(value), phi.d)
    constant[is_bias] = phi.value(value[is_bias])
    rectified, steepest = phi.name == "relu", max(1.0, phi.lipschitz, abs(phi.m_plus), abs(phi.m_minus))
    n_terms = 1
    for piece in mask.entries(source):
        n_rows = piece.stop - piece.start
        if not len(piece.output):
            continue
        row, v = piece.output - piece.start, piece.value.astype(np.float64)
        n_terms = max(n_terms, int(np.bincount(row).max()))
        reads = ~is_bias[piece.kept]
        u = value[piece.kept[reads]]
        product = v[reads] * u
        entry = row[reads] * source.incoming_per_neuron + kept.channel[piece.kept[reads]]
        place = entry * source.combine_taps + piece.tap[reads]
        for branch, sign in enumerate((1.0, -1.0)):
            # Slopes of 0 and 1 leave products exact.
            part = np.where(u * sign > 0, phi.m_plus, phi.m_minus) * product
            size = np.abs(part if rectified else product * steepest)
            for into, terms in ((slopes, part), (sizes, size)):
                sums = np.bincount(place, terms, minlength=n_rows * shape[1] * shape[2])
                into[branch, piece.start : piece.stop] = sums.reshape(n_rows, *shape[1:])
        offset = v * constant[piece.kept]
        for total, terms in ((biases, offset), (bias_sizes, np.abs(offset))):
            total[piece.start : piece.stop] = np.bincount(row, terms, minlength=n_rows)
    bent = phi.remainder(ANYWHERE) > 0.0
    bend = Bend(phi, float(np.abs(value[~is_bias]).max(initial=0.0)), _paired(source, mask)) if bent else Bend()
    # A slope that is not 0 or 1 is rounded once more, and a library's function by more than that.
    n_terms += 0 if rectified else 2 + phi.rounding_units
    some = source.bias or bool(bias_sizes.any())
    return RealisedLayer(
        slopes[0], slopes[1], biases if some else None, sizes.max(axis=0), bias_sizes if some else None, n_terms, bend
    )


def _realise_plain(source: PlainSource, mask: PlainMask) -> RealisedLayer:
    """The kept weights themselves."""
    weight, bias = source.split(mask.pruned(source).astype(np.float64))
    flags, bias_flags = source.split(mask.flags(source))
    counts = flags.sum(axis=(1, 2)) + (0 if bias_flags is None else bias_flags)
    n_terms = max(1, int(counts.max()))
    return RealisedLayer(weight, weight, bias, np.abs(weight), None if bias is None else np.abs(bias), n_terms)


def _realise_kernels(source: SourceLayer, mask: KernelMask) -> RealisedLayer:
    """Effective kernels, for inputs of the mask's sign alone: the sums of the products, and no slope for the other.

    Where relu(x) and relu(-x) are read, slopes for both signs.
    """
    sums, n_weights = mask.sums(source), source.incoming_per_neuron
    shape = (source.outputs, -1, source.inputs_per_group, source.taps)
    kernels, sizes = (part[:, :n_weights].reshape(shape) for part in (sums.total, sums.size))
    bias, bias_size = (part[:, -1].copy() if source.bias else None for part in (sums.total, sums.size))
    n_terms = max(1, int(sums.count.sum(axis=1).max()))
    if isinstance(source, SplitSource):
        return RealisedLayer(kernels[:, 0], -kernels[:, 1], bias, sizes.max(axis=1), bias_size, n_terms)
    kernel, size, shift = kernels[:, 0], sizes[:, 0], 0.0
    if isinstance(source, ShiftedSource):
        assert bias is not None and bias_size is not None
        shift = source.shift
        bias, bias_size = bias + shift * kernel.sum(axis=(1, 2)), bias_size + shift * size.sum(axis=(1, 2))
        # One more rounding of every product, by the shift, and of every input.
        n_terms += 4
    none = np.zeros(kernel.shape)
    positive, negative = (kernel, none) if mask.sign > 0 else (none, kernel)
    return RealisedLayer(positive, negative, bias, size, bias_size, n_terms, only=mask.sign, shift=shift)


def _paired(source: SourceLayer, mask: UnivariateMask) -> bool:
    """Whether every neuron that lives has its mirror image beside it, read by the same outputs at the same taps."""
    neuron = mask.expand(source).neuron
    if not source.mirrored or len(neuron) % 2 or (neuron[::2] % 2).any() or (neuron[1::2] != neuron[::2] + 1).any():
        return False
    for piece in mask.entries(source):
        place = (piece.output * len(neuron) + piece.kept // 2) * source.combine_taps + piece.tap
        first = piece.kept % 2 == 0
        if not np.array_equal(np.sort(place[first]), np.sort(place[~first])):
            return False
    return True


def survivors_digest(source: SourceLayer, mask: Mask) -> str:
    """SHA-256 of the surviving source weights as little-endian float32.

    First the kept neurons' incoming weights (or biases) in ascending order, then the kept combining weights output by
    output, within it neuron by neuron and tap by tap; of kernels a neuron's weights tap by tap, the bias last. Of a
    source in the network's own shape the kept weights, then the kept biases.
    """
    sha = hashlib.sha256()
    for values in mask.survivors(source):
        sha.update(values.astype("<f4").tobytes())
    return sha.hexdigest()
