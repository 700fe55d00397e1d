"""The source layer in the shape of the network's own layer: the random network whose weights are kept or dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from slth.source.distributions import draw
from slth.source.philox import stream_key
from slth.source.spec import SourceLayer

_NUMBERS = 0

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class PlainSource(SourceLayer):
    """One source layer for one layer of the network, with a weight where that has a weight and a bias where a bias.

    Ramanujan et al. 2020. The layer's numbers are its weights in the order of the tensor (outputs, inputs per group,
    taps), then its biases: one stream of one law, biases as large as weights. ``block_width`` is 1.
    """

    order = "plain"
    depth = 1

    @property
    def blocks_per_group(self) -> int:
        """Inputs of a group."""
        return self.inputs_per_group

    @property
    def fan_in(self) -> int:
        """Weights of one output."""
        return self.inputs_per_group * self.taps

    @property
    def drawn_scales(self) -> tuple[float, float]:
        """1, as there is no expanding layer, and what the law's numbers are multiplied by as weights."""
        return 1.0, self.law.layer_scale(self.fan_in, self.outputs * self.taps)

    @property
    def n_weights(self) -> int:
        """Weights and biases of the one layer."""
        return self.outputs * (self.fan_in + int(self.bias))

    def numbers(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Numbers ``start`` to ``stop`` of the layer, (numbers,); by default all."""
        stop = self.n_weights if stop is None else stop
        drawn = draw(self.law, stream_key(self.seed, self.index, _NUMBERS), start, stop - start)
        if self.law.by_shape:
            drawn *= np.float32(self.drawn_scales[1])
        drawn *= np.float32(self.scale)
        return drawn

    def split(self, numbers: NDArray[T]) -> tuple[NDArray[T], NDArray[T] | None]:
        """What stands for all numbers of the layer as (outputs, inputs per group, taps) and (outputs,), if any."""
        n = self.outputs * self.fan_in
        weights = numbers[:n].reshape(self.outputs, self.inputs_per_group, self.taps)
        return weights, numbers[n:] if self.bias else None
