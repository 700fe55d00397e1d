"""The source of da Cunha et al. 2022: a layer of whole kernels, then a layer of 1x1 kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.source.spec import ENOUGH_ELEMENTS, SourceLayer


@dataclass(frozen=True)
class KernelSource(SourceLayer):
    """Kernels of the target's size into intermediate channels, a block of them for every output, then 1x1 kernels.

    Block by block in the order of the outputs, so that channel t of output l's block is neuron l * block_width + t,
    whatever the groups. An *entry* of a neuron is one of the weights of its kernel (channel by channel, tap by tap) or,
    where the layer has biases, its bias, which comes last.

    Da Cunha, Natale and Viennot 2022, Lemma 2: U of shape d x d x c0 x n and V of shape 1 x 1 x n x c1.
    Differs: U has biases where the target has.
    """

    order = "kernels-first"
    kernel_first = True

    @property
    def blocks_per_group(self) -> int:
        """Outputs of a group."""
        return self.outputs_per_group

    @property
    def kernel_entries(self) -> int:
        """Weights of one output's kernel."""
        return self.incoming_per_neuron

    @property
    def entries(self) -> int:
        """Weights of one output's kernel and its bias."""
        return self.kernel_entries + int(self.bias)

    @property
    def largest_base_set(self) -> int:
        """Usable elements that a base set takes at most, in the neurons' order."""
        return max(self.block_width // 2, ENOUGH_ELEMENTS)

    def branch(self, branches: tuple[int, ...]) -> int:
        """The sign of what the kernels read, given the signs that the layer's input may have: the one that there is."""
        (sign,) = branches
        return sign

    def incoming(self, start: int, stop: int) -> NDArray[np.float32]:
        """Entries of the neurons from ``start`` up to ``stop``, (neurons, entries)."""
        kernels = self.expand_rows(start, stop)
        return np.concatenate([kernels, self.expand_biases(start, stop)[:, None]], axis=1) if self.bias else kernels

    def outgoing(self, neuron: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weights with which neurons are read by the outputs of their own blocks, (neurons,)."""
        return self.combine_at(neuron // self.block_width, neuron % self.neurons_per_group, np.zeros_like(neuron))

    def usable(self, incoming: NDArray[np.float32], sign: int) -> NDArray[np.bool_]:
        """Entries that leave the ReLU open for inputs of one sign, of the shape of ``incoming``.

        A kernel's weights of that sign, and positive biases: what adds up before the ReLU is then never negative.
        """
        result = incoming * np.float32(sign) > 0
        if self.bias:
            result[:, -1] = incoming[:, -1] > 0
        return result

    def ranges(self, entries: int) -> Iterator[tuple[int, int]]:
        """Outputs whose blocks have at most about so many entries, at least one at a time."""
        step = max(1, entries // (self.block_width * self.entries))
        for start in range(0, self.outputs, step):
            yield start, min(start + step, self.outputs)

    def base_sets(self, start: int, stop: int, sign: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Entries of the blocks of some outputs, and which of them their base sets have, (outputs, entries, neurons).

        At most :attr:`largest_base_set` of the usable ones.
        """
        u = self.incoming(start * self.block_width, stop * self.block_width)
        usable = self.usable(u, sign)
        shape = (stop - start, self.block_width, self.entries)
        values, member = u.reshape(shape).transpose(0, 2, 1), usable.reshape(shape).transpose(0, 2, 1)
        return values, member & (np.cumsum(member, axis=2, dtype=np.int32) <= self.largest_base_set)
