"""Sources that are drawn neuron after neuron, without end: how many neurons there are changes none of them.

Orseau, Hutter and Rivasplata 2020, Remarks 12 and 14: where neither the law of the weights nor their scale knows the
target, how exact a ticket is and how large its weights are is decided by where the source is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.source.distributions import draw
from slth.source.spec import _COMBINE_WEIGHT, WholeSource


@dataclass(frozen=True)
class EndlessSource(WholeSource):
    """One block whose neurons come one after another: a wider source begins with the narrower one, bit for bit.

    Weights are numbered neuron by neuron: the first neuron of every group, then the second, each with all of its
    incoming weights, or all of its outgoing ones, output by output and tap by tap.
    """

    order = "neuron-by-neuron"

    def neuron_scale(self, neuron: NDArray[np.int64]) -> NDArray[np.float32] | np.float32:
        """What outgoing weights are multiplied by besides the scale, by the neuron's number in its group: 1."""
        return np.float32(1)

    def expand_at(self, neuron: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weights of single neurons from single channels of their group; channel -1 asks for the neuron's bias."""
        return super().expand_at(self._drawn_row(neuron), channel)

    def combine_at(
        self, output: NDArray[np.int64], neuron: NDArray[np.int64], tap: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Weights of single outputs from single neurons, counted from the first of the output's group, at a tap."""
        drawn = self._drawn_at(_COMBINE_WEIGHT, (neuron * self.outputs + output) * self.combine_taps + tap)
        drawn *= np.float32(self.scale)
        return drawn * self.neuron_scale(neuron)

    def combine_weight(self, start: int, stop: int) -> NDArray[np.float32]:
        """Second weight tensor of the outputs ``start`` to ``stop``, (outputs, neurons_per_group, taps)."""
        n_neurons = self.neurons_per_group
        shape = (n_neurons, self.outputs, self.combine_taps)
        drawn = draw(self.law, self._key(_COMBINE_WEIGHT), 0, n_neurons * self.outputs * self.combine_taps)
        drawn = drawn.reshape(shape)[:, start:stop] * np.float32(self.scale)
        drawn *= np.reshape(self.neuron_scale(np.arange(n_neurons)), (-1, 1, 1))
        return np.ascontiguousarray(drawn.transpose(1, 0, 2))

    def _rows(self, tensor: int, start: int, stop: int, width: int) -> NDArray[np.float32]:
        if self.groups == 1:
            return super()._rows(tensor, start, stop, width)
        row = self._drawn_row(np.arange(start, stop, dtype=np.int64))
        return self._drawn_at(tensor, row[:, None] * width + np.arange(width)) * np.float32(self.expand_scale)

    def _drawn_row(self, neuron: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of a neuron, counted over all groups, among the neurons in the order in which they are drawn."""
        if self.groups == 1:
            return neuron
        group, own = np.divmod(neuron, self.neurons_per_group)
        return own * self.groups + group


@dataclass(frozen=True)
class OddMultiplesSource(EndlessSource):
    """The same, and the outgoing weights of neuron t = 1, 2, ... of a group are multiplied by 2^j, t = 2^j odd.

    Remark 14: every second neuron is made for weights up to the scale, every fourth for up to twice, every eighth for
    up to four times the scale, and so on. A power of 2 changes no digit of a weight. With at most 2^40 neurons it is
    at most 2^40, and a float32 holds its product with any scale up to 2^86.
    """

    order = "odd-multiples"

    def neuron_scale(self, neuron: NDArray[np.int64]) -> NDArray[np.float32] | np.float32:
        """The largest power of 2 that divides t."""
        number = neuron + 1
        power: NDArray[np.float32] = (number & -number).astype(np.float32)
        return power
