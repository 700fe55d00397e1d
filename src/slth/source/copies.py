"""The source layer that reads copies of the target layer before, and makes copies of its own outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.source.distributions import draw
from slth.source.philox import stream_key
from slth.source.spec import SourceLayer

_WEIGHT = 0


@dataclass(frozen=True)
class CopySource(SourceLayer):
    """One source layer for one target layer: a row for every copy of every output, a column for every copy of an input.

    Burkholz 2022, Theorem 2.7. ``block_width`` copies of every input channel are read, and constant channels behind
    them; it has no biases. Row o * copies_out + r is copy r of output o; rows of constant channels come last. An input
    that was flattened from ``positions`` entries of a channel is at (channel * block_width + copy) * positions +
    position, a constant at its channel's first position.

    Attributes
    ----------
    copies_out : int
        Of every output.
    constants_in, constants_out : int
        Constant channels that it reads and makes.
    positions : int
        Entries of each channel that are inputs of their own; ``inputs_per_group`` counts them all.
    constant_tap : int
        At which constant channels are read.
    """

    copies_out: int = 1
    constants_in: int = 0
    constants_out: int = 0
    positions: int = 1
    constant_tap: int = 0

    order = "copies"
    depth = 1

    @property
    def blocks_per_group(self) -> int:
        """Inputs, and one more for the constants."""
        return self.inputs_per_group + int(self.constants_in > 0)

    @property
    def data_rows(self) -> int:
        """Copies of outputs."""
        return self.outputs * self.copies_out

    @property
    def rows(self) -> int:
        """Copies of outputs, and constants."""
        return self.data_rows + self.constants_out

    @property
    def first_constant_row(self) -> int:
        """The first row that may keep weights from constants: all have a bias, or only the constants have."""
        if not self.constants_in:
            return self.rows
        return 0 if self.bias else self.data_rows

    @property
    def columns(self) -> int:
        """Copies of inputs, and constants at every position."""
        return self.inputs_per_group * self.block_width + self.constants_in * self.positions

    @property
    def drawn_scales(self) -> tuple[float, float]:
        """1, as there is no expanding layer, and what the law's numbers are multiplied by as weights."""
        return 1.0, self.law.layer_scale(self.columns * self.taps, self.rows * self.taps)

    @property
    def n_weights(self) -> int:
        """Of the one layer."""
        return self.rows * self.columns * self.taps

    def weight(self, start: int, stop: int) -> NDArray[np.float32]:
        """Weights of the rows ``start`` to ``stop``, (rows, columns, taps)."""
        width = self.columns * self.taps
        drawn = draw(self.law, stream_key(self.seed, self.index, _WEIGHT), start * width, (stop - start) * width)
        if self.law.by_shape:
            drawn *= np.float32(self.drawn_scales[1])
        drawn *= np.float32(self.scale)
        return drawn.reshape(stop - start, self.columns, self.taps)

    def ranges(self, elements: int) -> Iterator[tuple[int, int]]:
        """Rows of whole outputs with at most about so many weights, then, if there are any, those of the constants."""
        step = max(1, elements // (self.columns * self.taps * self.copies_out)) * self.copies_out
        for start in range(0, self.data_rows, step):
            yield start, min(start + step, self.data_rows)
        if self.constants_out:
            yield self.data_rows, self.rows

    def inputs(self, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part of a tensor (rows, columns, taps) that reads copies of inputs, (rows, inputs, taps, copies)."""
        channels = self.inputs_per_group // self.positions
        part = tensor[:, : self.inputs_per_group * self.block_width]
        part = part.reshape(len(tensor), channels, self.block_width, self.positions, self.taps)
        return part.transpose(0, 1, 3, 4, 2).reshape(len(tensor), self.inputs_per_group, self.taps, self.block_width)

    def constants(self, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
        """The part of a tensor (rows, columns, taps) that reads constants where they may be read, (rows, constants)."""
        first = self.inputs_per_group * self.block_width
        return tensor[:, first :: self.positions, self.constant_tap]

    def whole(self, inputs: NDArray[np.bool_], constants: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Flags (rows, columns, taps) from those of the two parts; the reverse of :meth:`inputs`, :meth:`constants`."""
        n_rows, channels = len(constants), self.inputs_per_group // self.positions
        result = np.zeros((n_rows, self.columns, self.taps), np.bool_)
        part = inputs.reshape(n_rows, channels, self.positions, self.taps, self.block_width).transpose(0, 1, 4, 2, 3)
        result[:, : self.inputs_per_group * self.block_width] = part.reshape(n_rows, -1, self.taps)
        self.constants(result)[:] = constants
        return result
