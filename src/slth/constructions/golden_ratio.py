"""Two source layers for one target layer, from hyperbolic weights: a weight is peeled off bit by bit.

Orseau, Hutter and Rivasplata 2020. With gamma in [1/phi, 1) and one number v_i in each bin w_max (gamma^(i+1), gamma^i]
the greedy sum (Lemma 9) starts at r = |w| and for i = 1, ..., k takes v_i off r if r >= w_max gamma^i; what is left is
between 0 and w_max gamma^k <= eps, for every w. The numbers are products v u of a neuron's outgoing and incoming
weight: with u > 0 they serve inputs x >= 0, with u < 0 inputs x <= 0. If the weights are hyperbolic, every bin of the
products is about equally likely (Lemma 28), so few neurons must be looked at.

Neurons are used again for other weights until one is kept (Algorithm 1, Theorem 30). The weights of a layer, inputs
times outputs (an output's taps counted as outputs, the bias as an input), fall into n = max(inputs, outputs) rounds, in
each of which every input and every output occurs at most once: so the products that a round looks at are independent. A
round has neurons of its own. It holds m of them, looks for each of its weights through them in order, keeps what the
greedy sum takes, and fills up with fresh ones. Which number stands for a bin is settled before the weight is looked at:
the first.

Differs: eps, not eps / 2, for each sign of the input, since only one is active at a time; the two scales of the weights
are one, in the combining layer; weights of an input that cannot be negative need one sign only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Construction, Found, Work
from slth.constructions.batch import batch_width, check_batch, match_group
from slth.constructions.peel import peel, refill
from slth.errors import ArgumentError
from slth.mask import BIAS, SlotMask
from slth.mask.slots import slot_targets, slots_per_group
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import Goal, LayerPlan, Plan, Size, Wishes, magnitudes
from slth.source.hyperbolic import Hyperbolic
from slth.source.spec import WholeSource
from slth.subsetsum.schedule import count_threads

GAMMA = 2.0 / 3.0
"""Ratio of the bins (the paper's choice)."""
LEAST_GAMMA = (math.sqrt(5.0) - 1.0) / 2.0
"""1 / phi: below it, what the greedy sum leaves may exceed the next bin (Lemma 9)."""
SAMPLINGS = ("recycled", "batch")

_FIRST_LOOK, _LOOK = 128, 256
"""Neurons looked at for a weight at first, and then at a time, until the greedy sum has what it needs (chosen)."""


@dataclass(frozen=True)
class Numbers:
    """The theorem's numbers for one layer, from its shape, its largest weight, eps and delta.

    Attributes
    ----------
    n_bits : int
        k, bins that the greedy sum may take from.
    n_bins : float
        k' = 1 + log_{1/gamma}(w_max / eps), bins that the products are spread over.
    held : int
        m, neurons that a round holds.
    rounds, steps : int
        Rounds of a group, and weights of a round.
    fresh : int
        Neurons that a round may use up.
    """

    n_bits: int
    n_bins: float
    held: int
    rounds: int
    steps: int
    fresh: int

    @property
    def width(self) -> int:
        """Intermediate neurons of a group."""
        return self.rounds * (self.held + self.fresh)


def numbers(
    layer: WeightLayer, groups: int, sign: Sign, eps: float, weight_delta: float, gamma: float = GAMMA
) -> Numbers:
    """Theorem 30's numbers for one layer.

    A neuron's product has a given bin, sign and sign of u with probability at least 1 / (8 k'), so m = ceil(8 k'
    ln(s k' / delta_w)) neurons have all s k' that a weight may need with probability 1 - delta_w, for s signs of the
    input and delta_w = delta / (weights of the network).
    """
    top = float(magnitudes(layer).max(initial=0.0))
    ratio = max(top / eps, 1.0)
    inverse = -math.log(gamma)
    # The slack keeps a ratio that is a power of gamma up to rounding from costing a bit more (theory's rule).
    n_bits = max(1, math.ceil(math.log(ratio) / inverse - 1e-12))
    n_bins = 1.0 + math.log(ratio) / inverse
    outputs, inputs, *kernel = layer.weight.shape
    n_in = inputs + (layer.bias is not None)
    n_out = outputs // groups * math.prod(kernel)
    n_signs = len(sign.branches)
    held = math.ceil(8.0 * n_bins * math.log(max(n_signs * n_bins / weight_delta, math.e)))
    steps = min(n_in, n_out)
    return Numbers(n_bits, n_bins, held, max(n_in, n_out), steps, n_signs * n_bits * steps)


class GoldenRatio(Construction):
    """Hyperbolic weights, and for every weight a greedy sum of products from golden bins."""

    name = "golden-ratio"
    source_type = WholeSource
    mask_type = SlotMask
    default_size = 1
    largest_size = 1
    initialisations = ("uniform",)
    keeps_tolerance = True
    settings = MappingProxyType({"gamma": GAMMA, "sampling": "recycled"})

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Gamma must not be below 1 / phi."""
        gamma, sampling = wishes.settings["gamma"], wishes.settings["sampling"]
        if not (isinstance(gamma, float) and LEAST_GAMMA <= gamma < 1.0):
            raise ArgumentError(
                "gamma", repr(gamma), f"from 1 / phi = {LEAST_GAMMA:.6f} to 1 (Lemma 9)", "--set gamma=0.7"
            )
        if sampling not in SAMPLINGS:
            raise ArgumentError("sampling", repr(sampling), " or ".join(SAMPLINGS), "--set sampling=recycled")

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Theorem 30's width, and weights hyperbolic on [gamma eps / w_max, 1] times a scale."""
        eps = _eps(goal.tolerance)
        top = max(float(magnitudes(layer).max(initial=0.0)), eps)
        groups = max(1, _groups(layer))
        gamma = wishes.settings["gamma"]
        least, largest = gamma**2 * eps, gamma * top
        # Products are then spread over [least, largest] as Lemma 28 has it: b^2 with b = largest / (least largest)^1/4.
        with np.errstate(over="ignore"):
            scale = float(np.float32(largest * math.sqrt(largest / least)))
        sizes = numbers(layer, groups, sign, eps, wishes.delta / wishes.n_weights, gamma)
        width = sizes.width
        if wishes.settings["sampling"] == "batch":
            n_slots = layer.n_weights // groups
            width = batch_width(n_slots, sizes.n_bins, len(sign.branches), wishes.n_weights, wishes.delta)
            check_batch(n_slots, width, layer.name)
        return Size(width, scale, Hyperbolic(float(np.float32(least / largest)), 1.0))

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Round after round, all of them side by side; or one batch and its matching."""
        eps, gamma = _eps(layer_plan.tolerance), plan.settings["gamma"]
        sizes = numbers(layer, source.groups, layer_plan.input_sign, eps, plan.delta / plan.n_weights, gamma)
        top = max(float(magnitudes(layer).max(initial=0.0)), eps)
        edges = _powers(top, gamma, sizes.n_bits)
        if plan.settings["sampling"] == "batch":
            return _match_all(source, layer, layer_plan.input_sign, edges, work)
        n_threads = count_threads(work.threads)
        ends = np.linspace(0, sizes.rounds, min(n_threads, sizes.rounds) + 1).astype(int)
        done = np.zeros(len(ends), np.int64)
        total = source.groups * sizes.rounds * sizes.steps
        parts = []

        def rounds(group: int, t: int) -> _Rounds:
            part = _Rounds(source, layer, sizes, layer_plan.input_sign, edges, group, int(ends[t]), int(ends[t + 1]))

            def step(n: int) -> None:
                done[t] += n
                work.report(int(done.sum()), total)

            part.run(step)
            return part

        for group in range(source.groups):
            with ThreadPoolExecutor(len(ends) - 1) as pool:
                parts += list(pool.map(rounds, [group] * (len(ends) - 1), range(len(ends) - 1)))
        return _join(source, layer, parts)


def _eps(tolerance: float | None) -> float:
    if tolerance is None:
        need = "the error allowed of a weight, from which the source's width follows"
        raise ArgumentError("tolerance", "none", need, "--tolerance 0.01")
    return tolerance


def _groups(layer: WeightLayer) -> int:
    groups: int = layer.node.attributes.get("groups", 1)
    return groups


class _Rounds:
    """Some rounds of one group, in step: the s-th weight of each is looked for at the same time."""

    def __init__(
        self,
        source: WholeSource,
        layer: WeightLayer,
        sizes: Numbers,
        sign: Sign,
        edges: NDArray[np.float64],
        group: int,
        start: int,
        stop: int,
    ) -> None:
        self.source, self.sizes, self.group, self.sign = source, sizes, group, sign
        rows = source.outputs_per_group
        weight, bias = layer.weight_array(), layer.bias_array()
        here = slice(group * rows, (group + 1) * rows)
        # Inputs, the bias last, by outputs and their taps.
        self.table = weight[here].transpose(1, 0, 2).reshape(source.inputs_per_group, -1)
        if bias is not None:
            row = np.zeros((rows, source.taps))
            row[:, source.taps // 2] = bias[here]
            self.table = np.concatenate([self.table, row.reshape(1, -1)])
        self.thresholds = edges
        self.rounds = np.arange(start, stop)
        first = self.rounds * (sizes.held + sizes.fresh)
        self.members = first[:, None] + np.arange(sizes.held)
        self.next = first + sizes.held
        self.slots: list[NDArray[np.int64]] = []
        self.neurons: list[NDArray[np.int64]] = []
        self.errors: list[NDArray[np.float64]] = []

    def run(self, report: Callable[[int], None]) -> None:
        """Look for all weights of the rounds."""
        n_in, n_out = self.table.shape
        for step in range(self.sizes.steps):
            other = (step + self.rounds) % self.sizes.rounds
            a, b = (np.full_like(other, step), other) if n_in <= n_out else (other, np.full_like(other, step))
            self._weights(a, b)
            report(len(self.rounds))

    def _weights(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Look for the weights between inputs `a` and outputs (and taps) `b`, one a round."""
        source, target = self.source, self.table[a, b]
        row, tap = np.divmod(b, source.taps)
        is_bias = a >= source.inputs_per_group
        # Other taps of a bias do not exist.
        real = ~is_bias | (tap == source.taps // 2)
        n_signs = len(self.sign.branches)
        chosen = np.full((len(a), n_signs * self.sizes.n_bits), -1, np.int64)
        first = np.full((len(a), n_signs, self.sizes.n_bits), -1, np.int64)
        value = np.zeros(first.shape)
        remainder = np.zeros((len(a), n_signs))
        signs = np.where(is_bias[:, None], np.where(np.arange(n_signs) == 0, 1, 0), np.array(self.sign.branches))
        open_ = np.flatnonzero(real & (target != 0.0))
        seen = 0
        while len(open_):
            stop = min(seen + (_LOOK if seen else _FIRST_LOOK), self.sizes.held)
            neuron = self.members[open_, seen:stop]
            channel = np.where(is_bias, BIAS, a)[open_, None]
            u = source.expand_at(neuron + self.group * source.neurons_per_group, np.broadcast_to(channel, neuron.shape))
            output = (row + self.group * source.outputs_per_group)[open_, None]
            v = source.combine_at(output, neuron, tap[open_, None])
            more = peel(u, v, target, signs, self.thresholds, seen, open_, first, value, chosen, remainder)
            seen = stop
            open_ = open_[more] if seen < self.sizes.held else open_[:0]
        self._note(a, row, tap, is_bias, real, target, chosen, remainder)

    def _note(
        self,
        a: NDArray[np.int64],
        row: NDArray[np.int64],
        tap: NDArray[np.int64],
        is_bias: NDArray[np.bool_],
        real: NDArray[np.bool_],
        target: NDArray[np.float64],
        chosen: NDArray[np.int64],
        remainder: NDArray[np.float64],
    ) -> None:
        source = self.source
        n_weights = source.outputs_per_group * source.inputs_per_group * source.taps
        slot = np.where(is_bias, n_weights + row, (row * source.inputs_per_group + a) * source.taps + tap)
        round_, place = np.nonzero(chosen >= 0)
        self.slots.append(slot[round_] + self.group * slots_per_group(source))
        self.neurons.append(self.members[round_, chosen[round_, place]])
        self.errors.append(np.abs(remainder).max(axis=1)[real])
        refill(self.members, self.next, chosen)


def _powers(top: float, gamma: float, n_bits: int) -> NDArray[np.float64]:
    """Edges of the bins: w_max gamma^i for i = 1, ..., k + 1; each a product of the one before, on every machine."""
    edges = [top * gamma]
    for _ in range(n_bits):
        edges.append(edges[-1] * gamma)
    return np.array(edges)


def _match_all(source: WholeSource, layer: WeightLayer, sign: Sign, edges: NDArray[np.float64], work: Work) -> Found:
    """One batch and one matching for each group."""
    weights, done = slot_targets(source, layer), 0

    def report() -> None:
        nonlocal done
        done += 1
        work.report(done, len(weights))

    per_group = np.split(weights, source.groups)
    parts = [match_group(source, q, own, sign.branches, edges, report) for q, own in enumerate(per_group)]
    slots, neurons, errors = (np.concatenate([part[k] for part in parts]) for k in range(3))
    order = np.lexsort((neurons, slots))
    return Found(SlotMask.build(source, np.bincount(slots, minlength=len(weights)), neurons[order]), errors)


def _join(source: WholeSource, layer: WeightLayer, parts: list[_Rounds]) -> Found:
    slots = np.concatenate([slot for part in parts for slot in part.slots])
    neurons = np.concatenate([neuron for part in parts for neuron in part.neurons])
    order = np.lexsort((neurons, slots))
    counts = np.bincount(slots, minlength=source.groups * slots_per_group(source))
    errors = np.concatenate([error for part in parts for error in part.errors])
    return Found(SlotMask.build(source, counts, neurons[order]), errors)
