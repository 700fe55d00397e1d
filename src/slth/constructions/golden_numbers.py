"""What the golden ratio's theorems say of one layer: the bins of its weights, the source's law and scale, the width.

Orseau, Hutter and Rivasplata 2020. Theorem 30's source knows the error allowed, by the law of its weights, and the
layer's largest weight, by their scale. Remark 12 has laws that do not know the error, and Remark 14 scales that do not
know the largest weight: how many neurons there are is then all that the target decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slth.bounds.recycling import HYPERBOLIC, LOG, LOGLOG, Bins, Shelf, neurons_of_a_round, place_bins, shelves
from slth.constructions.batch import batch_width
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import WeightLayer
from slth.plan import magnitudes
from slth.source.hyperbolic import Hyperbolic, HyperbolicLog, HyperbolicLogLog
from slth.source.law import LEAST, Distribution

GAMMA = 2.0 / 3.0
"""Ratio of the bins (the paper's choice)."""
LAWS = (HYPERBOLIC, LOG, LOGLOG)
SAMPLINGS = ("recycled", "batch")
SCHEDULES = ("known", "odd-multiples")
"""Whether the scale follows from the layer's largest weight, or is 2^j for neurons that are odd multiples of 2^j."""

_COARSEST = 0.5
"""Largest error that a law of bounded support is made for where w_max is not known: neurons of the scale 2^j then reach
from gamma 2^j down to gamma^2 2^(j-1) at least, which is where those of the next smaller scale begin (Remark 14)."""
_GUARD = 2.0**-22
"""Two float32 weights, a float32 scale and its product with one of them are each off by 2^-24 at most."""
_WORD_SHARE = 2.0**-30
"""What the probability of a bin may lack where two magnitudes have 31 random bits each."""


@dataclass(frozen=True)
class Question:
    """Of what the numbers of a layer follow.

    Attributes
    ----------
    eps : float
        Error allowed of a weight.
    delta : float
        Probability with which any weight of the network may fail.
    n_weights : int
        Weights of the network.
    gamma : float
        Ratio of the bins.
    law, schedule, sampling : str
        Of :data:`LAWS`, :data:`SCHEDULES` and :data:`SAMPLINGS`.
    """

    eps: float
    delta: float
    n_weights: int
    gamma: float = GAMMA
    law: str = HYPERBOLIC
    schedule: str = "known"
    sampling: str = "recycled"

    @property
    def scheduled(self) -> bool:
        """Whether neurons have different scales."""
        return self.schedule != "known"

    @property
    def endless(self) -> bool:
        """Whether the source, but for its width, knows less of the target than the theorem's own."""
        return self.scheduled or self.law != HYPERBOLIC


@dataclass(frozen=True)
class Numbers:
    """The theorem's numbers for one layer.

    Attributes
    ----------
    edges : (k + 1,) float64
        Of the bins, from above: w_max gamma^i for i = 1, ..., k + 1.
    n_bins : float
        k', bins that the products of a hyperbolic law are spread over: 1 + log_{1/gamma} (largest / least).
    shelves : tuple of Shelf
        Neurons that a round (or the batch) has of each scale.
    per_round : int
        Neurons of a round, or of the batch.
    rounds, steps : int
        Rounds of a group, and weights of a round; a batch is one round.
    law : Distribution
    scale : float
        A float32.
    """

    edges: NDArray[np.float64]
    n_bins: float
    shelves: tuple[Shelf, ...]
    per_round: int
    rounds: int
    steps: int
    law: Distribution
    scale: float

    @property
    def n_bits(self) -> int:
        """k, bins that the greedy sum may take from."""
        return len(self.edges) - 1

    @property
    def width(self) -> int:
        """Intermediate neurons of a group."""
        return self.rounds * self.per_round


def numbers(layer: WeightLayer, sign: Sign, asked: Question) -> Numbers:
    """Theorem 30's numbers, or those of Theorem 3's batch, for one layer.

    In Theorem 30's own source a neuron's product has a given bin, sign and sign of u with probability at least
    1 / (8 k'), so m = ceil(8 k' ln(s k' / delta_w)) neurons have all s k' that a weight may need with probability 1 -
    delta_w, for s signs of the input and delta_w = delta / (weights of the network). With other laws bins are not
    equally likely, and m is the least number with sum_i s (1 - p_i / 4)^m <= delta_w.

    Raises
    ------
    ArgumentError
        If float32 weights are too coarse for the tolerance.
    """
    largest, gamma, n_signs = float(magnitudes(layer).max(initial=0.0)), asked.gamma, len(sign.branches)
    top, finest = _reach(largest, asked)
    inverse = -math.log(gamma)
    ratio = max(top / asked.eps, 1.0)
    # The slack keeps a ratio that is a power of gamma up to rounding from costing a bit more (theory's rule).
    n_bits = max(1, math.ceil(math.log(ratio) / inverse - 1e-12))
    n_bins = 1.0 + math.log(1.0 / finest if asked.scheduled else ratio) / inverse
    bins = _bins(top, n_bits, n_bins, asked, layer.name)
    n_in, n_out, n_slots = _shape(layer)
    weight_delta = asked.delta / asked.n_weights

    def held(part: slice) -> int:
        if asked.sampling == "batch":
            if not asked.endless:
                return batch_width(n_slots, n_bins, n_signs, asked.n_weights, asked.delta)
            inner = math.log(n_signs * n_bits / weight_delta)
            return math.ceil(2.0 / float(bins.share[part].min()) * (n_slots + inner))
        if not asked.endless:
            return math.ceil(8.0 * n_bins * math.log(max(n_signs * n_bins / weight_delta, math.e)))
        return bins.held(part, n_signs, math.log(weight_delta))

    batch = asked.sampling == "batch"
    made = shelves(bins.powers, held, 0 if batch else n_signs * min(n_in, n_out))
    per_round = neurons_of_a_round(made, asked.scheduled)
    rounds, steps = (1, n_slots) if batch else (max(n_in, n_out), min(n_in, n_out))
    return Numbers(_edges(top, gamma, n_bits), n_bins, made, per_round, rounds, steps, *_law(top, finest, asked))


def _reach(largest: float, asked: Question) -> tuple[float, float]:
    """The magnitude that bins are counted from, and the error that a hyperbolic law is made for."""
    if asked.scheduled:
        finest = min(asked.eps, _COARSEST)
        return max(largest, finest), finest
    if asked.law == HYPERBOLIC:
        return max(largest, asked.eps), asked.eps
    return largest or 1.0, asked.eps


def _bins(top: float, n_bits: int, n_bins: float, asked: Question, name: str) -> Bins:
    bins = place_bins(asked.law, asked.gamma, n_bits, n_bins, math.log2(top) if asked.scheduled else None, _GUARD)
    if asked.law == HYPERBOLIC:
        return bins
    bins = replace(bins, share=bins.share - _WORD_SHARE / 4.0)
    # One weight is at least the product over gamma; what a law would have below LEAST is set to it.
    least = asked.gamma ** float(bins.start.max())
    if bins.share.min() <= 0.0 or not min(least, asked.gamma * asked.eps) > LEAST:
        got = f"{asked.eps:g} for layer {name!r}, whose weights reach {top:.3g}"
        raise ArgumentError("tolerance", got, "one that products of two float32 weights can have", "a larger one")
    return bins


def _law(top: float, finest: float, asked: Question) -> tuple[Distribution, float]:
    """The source's law and scale."""
    gamma, reach = asked.gamma, 1.0 if asked.scheduled else top
    if asked.law != HYPERBOLIC:
        kind = HyperbolicLog if asked.law == LOG else HyperbolicLogLog
        return kind(gamma), _float32(reach / gamma)
    least, largest = gamma**2 * finest, gamma * reach
    # Products are then spread over [least, largest] as Lemma 28 has it: b^2 with b = largest / (least largest)^1/4.
    return Hyperbolic(_float32(least / largest), 1.0), _float32(largest * math.sqrt(largest / least))


def _float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _shape(layer: WeightLayer) -> tuple[int, int, int]:
    """Inputs of a group with the bias, outputs of a group and their taps, weights and biases of a group."""
    outputs, inputs, *kernel = layer.weight.shape
    groups = max(1, WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes))
    n_out = outputs // groups * math.prod(kernel)
    return inputs + (layer.bias is not None), n_out, layer.n_weights // groups


def _edges(top: float, gamma: float, n_bits: int) -> NDArray[np.float64]:
    """Each a product of the one before, on every machine."""
    edges = [top * gamma]
    for _ in range(n_bits):
        edges.append(edges[-1] * gamma)
    return np.array(edges)
