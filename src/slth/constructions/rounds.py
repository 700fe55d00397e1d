"""Recycled neurons: the rounds of a layer, in each of which every input and every output occurs at most once.

Orseau, Hutter and Rivasplata 2020, Algorithm 1. A round has a run of neurons of its own. At every time it holds the
first m of each scale that are not used up yet, so that what a weight needs may be looked for from the first neuron on,
and neither the neurons that are held nor those that wait need be listed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slth.bounds.recycling import Shelf
from slth.constructions.peel import peel, take, upcoming
from slth.mask import BIAS
from slth.mask.slots import slots_per_group
from slth.network.graph import Sign
from slth.network.target import WeightLayer
from slth.source.spec import WholeSource

_FIRST_LOOK, _LOOK = 128, 256
"""Neurons looked at for a weight at first, and then at least, until the greedy sum has what it needs (chosen)."""
_AT_ONCE = 1 << 18
"""Neurons looked at for all weights at a time, about, where more are looked at than the least (chosen)."""


class Rounds:
    """Some rounds of one group, in step: the s-th weight of each is looked for at the same time.

    Parameters
    ----------
    source : WholeSource
    layer : WeightLayer
    shelves : tuple of Shelf
        From the largest scale to the smallest, as their bins are.
    scheduled : bool
        Whether neurons of different scales alternate (Remark 14).
    per_round : int
        Neurons of a round.
    sign : Sign
        Of the layer's input.
    edges : (k + 1,) float64
        Of the bins, from above.
    group, start, stop : int
        Which rounds.
    """

    def __init__(
        self,
        source: WholeSource,
        layer: WeightLayer,
        shelves: tuple[Shelf, ...],
        scheduled: bool,
        per_round: int,
        sign: Sign,
        edges: NDArray[np.float64],
        group: int,
        start: int,
        stop: int,
    ) -> None:
        self.source, self.group, self.sign, self.edges, self.shelves = source, group, sign, edges, shelves
        self.table = _table(source, layer, group)
        self.rounds = np.arange(start, stop)
        self.first = self.rounds * per_round
        # Neuron p of a shelf is offset + p * period of the round.
        self.offset = [2**shelf.power - 1 if scheduled else 0 for shelf in shelves]
        self.period = [2 ** (shelf.power + 1) if scheduled else 1 for shelf in shelves]
        self.taken = [np.zeros((len(self.rounds), shelf.held + shelf.fresh), np.bool_) for shelf in shelves]
        self.slots: list[NDArray[np.int64]] = []
        self.neurons: list[NDArray[np.int64]] = []
        self.errors: list[NDArray[np.float64]] = []

    @property
    def steps(self) -> int:
        """Weights of a round."""
        return int(min(self.table.shape))

    def run(self, report: Callable[[int], None]) -> None:
        """Look for all weights of the rounds."""
        n_in, n_out = self.table.shape
        for step in range(self.steps):
            other = (step + self.rounds) % max(n_in, n_out)
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
        n_signs, n_bits = len(self.sign.branches), len(self.edges) - 1
        found = np.full((len(a), n_signs, n_bits), -1, np.int64)
        value = np.zeros(found.shape)
        chosen = np.zeros(found.shape, np.bool_)
        remainder = np.zeros((len(a), n_signs))
        signs = np.where(is_bias[:, None], np.where(np.arange(n_signs) == 0, 1, 0), np.array(self.sign.branches))
        wanted = np.flatnonzero(real & (target != 0.0))
        channel, output = np.where(is_bias, BIAS, a), row + self.group * source.outputs_per_group
        for number, shelf in enumerate(self.shelves):
            # Before the first look nothing has been seen: many weights need nothing of these bins.
            open_, place, seen = wanted, np.zeros((len(wanted), 0), np.int64), 0
            cursor = np.zeros(len(a), np.int64)
            while True:
                neuron = self.first[open_, None] + self.offset[number] + self.period[number] * place
                u, v = self._pairs(neuron, channel[open_, None], output[open_, None], tap[open_, None])
                bins = (shelf.begin, shelf.end)
                more = peel(u, v, place, target, signs, self.edges, bins, open_, found, value, chosen, remainder)
                open_ = open_[more]
                look = max(_LOOK, min(seen // 2, _AT_ONCE // max(1, len(open_)))) if seen else _FIRST_LOOK
                stop = min(seen + look, shelf.held)
                if not len(open_) or seen == stop:
                    break
                place, seen = upcoming(self.taken[number], cursor, open_, stop - seen), stop
            take(self.taken[number], found, chosen, shelf.begin, shelf.end)
        self._note(a, row, tap, is_bias, real, found, chosen, remainder)

    def _pairs(
        self, neuron: NDArray[np.int64], channel: NDArray[np.int64], output: NDArray[np.int64], tap: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Incoming and outgoing weights of neurons, (n, c) each; channels, outputs and taps are (n, 1)."""
        if not neuron.size:
            return np.zeros(neuron.shape, np.float32), np.zeros(neuron.shape, np.float32)
        numbers = neuron + self.group * self.source.neurons_per_group
        u = self.source.expand_at(numbers, np.broadcast_to(channel, neuron.shape))
        return u, self.source.combine_at(output, neuron, tap)

    def _note(
        self,
        a: NDArray[np.int64],
        row: NDArray[np.int64],
        tap: NDArray[np.int64],
        is_bias: NDArray[np.bool_],
        real: NDArray[np.bool_],
        found: NDArray[np.int64],
        chosen: NDArray[np.bool_],
        remainder: NDArray[np.float64],
    ) -> None:
        source = self.source
        n_weights = source.outputs_per_group * source.inputs_per_group * source.taps
        slot = np.where(is_bias, n_weights + row, (row * source.inputs_per_group + a) * source.taps + tap)
        round_, sign, bin_ = np.nonzero(chosen)
        sizes = [shelf.end - shelf.begin for shelf in self.shelves]
        offset, period = np.repeat(self.offset, sizes), np.repeat(self.period, sizes)
        self.slots.append(slot[round_] + self.group * slots_per_group(source))
        self.neurons.append(self.first[round_] + offset[bin_] + period[bin_] * found[round_, sign, bin_])
        self.errors.append(np.abs(remainder).max(axis=1)[real])


def _table(source: WholeSource, layer: WeightLayer, group: int) -> NDArray[np.float64]:
    """A group's weights: inputs, the bias last, by outputs and their taps."""
    rows = source.outputs_per_group
    weight, bias = layer.weight_array(), layer.bias_array()
    here = slice(group * rows, (group + 1) * rows)
    table = weight[here].transpose(1, 0, 2).reshape(source.inputs_per_group, -1)
    if bias is None:
        return table
    row = np.zeros((rows, source.taps))
    row[:, source.taps // 2] = bias[here]
    return np.concatenate([table, row.reshape(1, -1)])
