"""About how many weights a theorem's ticket keeps, how large its file is, and how long slth takes to find it.

The counts follow from the constructions; bytes are those of the masks as files hold them; seconds come from rates that
were measured once. None of them is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.bounds.recycling import HYPERBOLIC, LOG, LOGLOG, place_bins
from slth.bounds.shape import Layer
from slth.bounds.theorem import WidthBound
from slth.constructions import CONSTRUCTIONS
from slth.forecast.network import Described
from slth.forecast.numbers import readable
from slth.forecast.subsets import golden_pieces, mean_smallest_subset, used
from slth.mask.slots import numbers_below

NEURON_SECONDS = 1.0e-7
"""To look at a neuron of a pool (fitted: 0.5 to 2 billion neurons of a perceptron, one core of an AMD EPYC, Zen 4)."""
BIN_SECONDS = 2.1e-6
"""For each bin of a greedy sum (fitted: 12 to 35 bins; likewise)."""
SAMPLE_SECONDS = 1.6e-7
"""For a greedy sum, over the least probability of a bin where bins differ (fitted: 11 to 45 bins; likewise)."""
OVERHEAD_BYTES = 5_700
"""What a file holds besides its masks (fitted to three layers)."""
FINEST = 2.0**-48
"""Least tolerance over the largest weight at which sums in float64 still mean something (chosen)."""
NO_SEARCH = "slth has no such search"


@dataclass(frozen=True)
class Estimate:
    """What a ticket of one theorem would be like.

    Attributes
    ----------
    construction : str
        Of the proof, by slth's name; empty if slth has none.
    kept_weights : int or None
        Expected number of source weights that the mask keeps; None where the theorem has no widths.
    ticket_bytes : int or None
        Of the file, if slth makes one.
    find_seconds : float or None
        On one core; None where slth cannot search this source.
    refused : str
        Why it cannot.
    """

    construction: str = ""
    kept_weights: int | None = None
    ticket_bytes: int | None = None
    find_seconds: float | None = None
    refused: str = ""


@dataclass(frozen=True)
class _Case:
    """One layer under one theorem.

    There are ``between`` neurons in front of it. ``tolerance`` and ``magnitudes`` are in the target's units. ``signs``
    counts those of its input that need a subset sum of their own, and where ``split``, half of the elements serve each.
    """

    layer: Layer
    magnitudes: NDArray[np.float64]
    between: int
    tolerance: float
    factor: float
    signs: int
    split: bool

    @property
    def needed(self) -> int:
        """Weights that are not within the tolerance of 0."""
        return round(self.layer.weights * float((self.magnitudes > self.tolerance).mean()))


def estimate(name: str, bound: WidthBound, network: Described, eps: float, factors: tuple[float, ...]) -> Estimate:
    """The estimate for a registered theorem.

    Parameters
    ----------
    name : str
        Of :data:`slth.bounds.catalogue.THEOREMS`.
    bound : WidthBound
    network : Described
    eps : float
        Asked of the target as it is.
    factors : tuple of float
        What the input and every layer were divided by; tolerances are taken back to the target's own units.
    """
    if not bound.applies:
        return Estimate(refused="no widths for this depth" if network.unlike is None else "no chain of layers")
    made = _FAMILIES[name](bound, _cases(name, bound, network, eps, factors))
    if made.construction and made.construction not in CONSTRUCTIONS:
        return Estimate(made.construction, made.kept_weights, None, None, "not in slth yet")
    return made


def _cases(name: str, bound: WidthBound, network: Described, eps: float, factors: tuple[float, ...]) -> list[_Case]:
    layers, share = network.shape.layers, eps / math.prod(factors)
    # Pensia et al. name no tolerance: eps / (d_{i-1} d_i l) is what their width's logarithm holds.
    tolerances = bound.tolerances or tuple(share / (layer.weights * len(layers)) for layer in layers)
    between = bound.widths[1:-1] if name in ("burkholz-2.9", "malach-2.3") else bound.widths[1::2]
    split = layers[0].activation.split or not name.startswith("burkholz")
    return [
        _Case(
            layer,
            network.magnitudes[index],
            between[index],
            tolerances[index] * factors[index + 1],
            factors[index + 1],
            len(network.signs[index].branches) if split else 1,
            split,
        )
        for index, layer in enumerate(layers)
    ]


def _pairs(sparse: bool) -> Callable[[WidthBound, list[_Case]], Estimate]:
    """Two neurons for each weight, one for each sign that its input can have; each keeps two weights."""

    def made(bound: WidthBound, cases: list[_Case]) -> Estimate:
        neurons = [case.signs * case.needed for case in cases]
        rows = [max(1, case.layer.row_nonzeros) if sparse else case.layer.fan_in for case in cases]
        pools = [case.between // (case.layer.outputs * row) for case, row in zip(cases, rows, strict=True)]
        refused, most = _too_fine(cases), CONSTRUCTIONS["pairs"].largest_size
        if max(pools) > most:
            refused = f"pools of {readable(max(pools))} > {readable(most)}"
        if refused:
            return Estimate("pairs", 2 * sum(neurons), refused=refused)
        size = sum(
            case.layer.weights + _index_bytes(pool) * n for case, pool, n in zip(cases, pools, neurons, strict=True)
        )
        seconds = NEURON_SECONDS * sum(pool * case.layer.weights for pool, case in zip(pools, cases, strict=True))
        return Estimate("pairs", 2 * sum(neurons), size + OVERHEAD_BYTES, seconds)

    return made


def _index_bytes(width: int) -> int:
    """Of a neuron's number among so many, in a mask."""
    return np.dtype(numbers_below(width)).itemsize


def _three_layers(bound: WidthBound, cases: list[_Case]) -> Estimate:
    """For each output pairs for the first layer, and one weight for each hidden neuron; for biases what slth keeps."""
    first, last = cases
    outputs, groups = last.layer.outputs, last.layer.outputs * first.layer.outputs
    pool = first.between // (groups * max(1, first.layer.row_nonzeros))
    neurons = outputs * (first.signs * first.layer.nonzeros + first.layer.biases) + last.layer.biases
    kept = 2 * neurons + last.layer.nonzeros + last.layer.biases
    refused, most = _too_fine(cases), CONSTRUCTIONS["pairs"].largest_size
    widest = max(pool, last.between // groups)
    if widest > most:
        refused = f"pools of {readable(widest)} > {readable(most)}"
    if refused:
        return Estimate("pairs", kept, refused=refused)
    slots = outputs * (first.layer.weights + first.layer.biases) + last.layer.biases
    size = slots + _index_bytes(pool) * neurons + 4 * groups + OVERHEAD_BYTES
    return Estimate("pairs", kept, size, NEURON_SECONDS * pool * slots)


def _golden(construction: str, law: str = HYPERBOLIC) -> Callable[[WidthBound, list[_Case]], Estimate]:
    """A neuron, of two weights, for each piece of a weight and each sign of its input.

    slth recycles samples (theorem 30); the batches of theorem 3 have the same tickets.
    """

    def made(bound: WidthBound, cases: list[_Case]) -> Estimate:
        neurons, seconds, size = 0.0, 0.0, OVERHEAD_BYTES
        for case in cases:
            here = case.signs * case.layer.weights * golden_pieces(case.magnitudes, case.tolerance)
            bins = 1 + np.log(max(case.layer.largest / case.tolerance, 1.0)) / np.log(1.5)
            neurons += here
            each = BIN_SECONDS * float(bins)
            if law != HYPERBOLIC:
                each = SAMPLE_SECONDS / float(place_bins(law, 2 / 3, int(bins), 1.0).share[-1])
            seconds += each * case.signs * case.layer.weights
            size += case.layer.weights + round(here * _index_bytes(case.between))
        refused = _too_fine(cases) if construction else NO_SEARCH
        if refused:
            return Estimate(construction, round(2 * neurons), refused=refused)
        return Estimate(construction, round(2 * neurons), size, seconds)

    return made


def _blocks(case: _Case, constant: bool) -> int:
    """Neurons of a block: one block for each weight of a row, and perhaps one for constants."""
    return case.between // (case.layer.fan_in * case.layer.groups + constant)


def _two_for_one(mirrored: bool = False, biases: bool = True) -> Callable[[WidthBound, list[_Case]], Estimate]:
    """A smallest subset for each weight and sign of its input, and the univariate neurons that any of them use.

    Half of a block serves each sign, unless the activation treats both alike; mirrored pairs serve both at once.
    """

    def made(bound: WidthBound, cases: list[_Case]) -> Estimate:
        kept, bits, seconds, largest = 0.0, 0.0, 0.0, 0
        for case in cases:
            block = _blocks(case, biases and case.layer.biases > 0)
            usable = max(1, block // 2 if mirrored or case.split else block)
            problems = 1 if mirrored else case.signs
            subset = _subset(case, usable, product=True)
            n_inputs = case.layer.inputs * case.layer.taps
            alive = problems * n_inputs * used(usable, subset, case.layer.outputs // case.layer.groups)
            terms = problems * subset * case.layer.weights + subset * case.layer.biases
            kept += (2 if mirrored else 1) * (terms + alive)
            bits += alive * case.layer.outputs / case.layer.groups
            seconds += _subset_seconds(usable) * (problems * case.layer.weights + case.layer.biases)
            largest = max(largest, usable)
        return _by_subset_sums("two-for-one", cases, largest, kept, bits, seconds)

    return made


def _by_subset_sums(name: str, cases: list[_Case], largest: int, kept: float, bits: float, seconds: float) -> Estimate:
    """The estimate for one of the constructions whose base sets slth can only search up to a size."""
    construction = CONSTRUCTIONS.get(name)
    refused = _too_fine(cases)
    if construction is not None and largest > construction.largest_size:
        refused = f"base sets of {readable(largest)} > {construction.largest_size}"
    if refused:
        return Estimate(name, round(kept), refused=refused)
    return Estimate(name, round(kept), round(bits / 8) + OVERHEAD_BYTES, seconds)


def _too_fine(cases: list[_Case]) -> str:
    """Why no search in float64 can reach the tolerance, or nothing."""
    finest = min(case.tolerance / max(case.layer.largest, 1e-300) for case in cases)
    return f"errors of {finest:.0e} in float64" if finest < FINEST else ""


def _subset(case: _Case, usable: int, *, product: bool) -> float:
    """The theorems' base sets reach to 1, where the divided weights lie."""
    return mean_smallest_subset(case.magnitudes / case.factor, usable, case.tolerance / case.factor, product=product)


def _subset_seconds(size: float) -> float:
    """Of one best subset sum, with the drawing (fitted to base sets of 20, 28 and 30, whose sizes vary)."""
    seconds: float = 5e-6 + 3e-6 * 2.0 ** (0.55 * (size - 20))
    return seconds


def _one_for_one(bound: WidthBound, cases: list[_Case]) -> Estimate:
    """Every copy of a layer has subsets of its own; as many copies as the next layer's blocks have neurons."""
    constants = [any(later.layer.biases for later in cases[i:]) for i in range(len(cases))]
    blocks = [_blocks(case, constant) for case, constant in zip(cases, constants, strict=True)]
    looks_linear = cases[0].layer.activation.d != 0
    copies = [*blocks[1:], 1]
    kept, bits, seconds, largest = 0.0, 0.0, 0.0, 0
    for i, (case, block, many) in enumerate(zip(cases, blocks, copies, strict=True)):
        usable = max(1, block // 2 if i == 0 and (looks_linear or case.split) else block)
        signs = case.signs if i == 0 else 1
        subset = _subset(case, usable, product=i == 0)
        problems = many * (signs * case.layer.nonzeros + case.layer.biases)
        kept, bits = kept + problems * subset, bits + problems * usable
        seconds, largest = seconds + problems * _subset_seconds(usable), max(largest, usable)
        if i == 0:
            kept += signs * case.layer.fan_in * used(usable, subset, many * case.layer.outputs)
    return _by_subset_sums("one-for-one", cases, largest, kept, bits, seconds)


def _convolution(bound: WidthBound, cases: list[_Case]) -> Estimate:
    """A smallest subset for each entry of a kernel among the half of its block with positive entries, and all of V."""
    kept, bits, seconds, largest = 0.0, 0.0, 0.0, 0
    for case in cases:
        usable = max(1, case.between // case.layer.outputs // 2)
        problems = case.layer.weights + case.layer.biases
        kept += _subset(case, usable, product=True) * problems + case.between
        bits, largest = bits + usable * problems, max(largest, usable)
        seconds += problems * _subset_seconds(usable)
    return _by_subset_sums("conv", cases, largest, kept, bits, seconds)


_FAMILIES: dict[str, Callable[[WidthBound, list[_Case]], Estimate]] = {
    "malach-2.1": _pairs(sparse=False),
    "malach-a6": _pairs(sparse=True),
    "malach-2.3": _three_layers,
    "orseau-3": _golden(""),
    "orseau-3-repaired": _golden(""),
    "orseau-30": _golden("golden-ratio"),
    "orseau-3-or-30": _golden(""),
    "orseau-12": _golden("golden-ratio", LOG),
    "orseau-12-loglog": _golden("golden-ratio", LOGLOG),
    "orseau-14": _golden("golden-ratio"),
    "pensia-1": _two_for_one(biases=False),
    "burkholz-2.5": _two_for_one(),
    "burkholz-2.6": _two_for_one(mirrored=True),
    "burkholz-2.9": _one_for_one,
    "dacunha-1": _convolution,
}
"""By theorem; every one of :data:`slth.bounds.catalogue.THEOREMS` has its line."""
