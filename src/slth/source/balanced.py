"""Blocks of neurons in which the draw's own signs decide which input a neuron serves.

Of a block of 2m neurons, each with an independent weight from the block's input, about half have either sign: some
blocks are poor, and the poorest one makes a layer's largest error. But every neuron of a group has a weight from every
input of it. Neurons that their own block cannot use are offered to the blocks that lack some, one after another, until
the weight from that block's input has the sign that is lacking; what is left over changes places with neurons that have
one. So nearly every base set has exactly m elements, from the same independent draw: which neuron serves which input is
a function of the source's signs alone, and no target has been seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.source.spec import BlockSource

BRANCHES = {"nonnegative": (1,), "nonpositive": (-1,), "signed": (1, -1)}
"""Signs that an input may have, by what is known of it."""
_BIAS = -1
_SIGNS = (1, -1)
_ROUNDS = 40
"""Rounds of offers in a group (chosen): each offer is taken with probability 1/2."""
_EXCHANGES = 64
"""Places of a group for which an exchange is looked for, at most (chosen; 9 were the most in some 2,000 groups)."""
_SLACK = 2.5
"""Standard deviations of a block's sign count by which groups of few blocks are wider (chosen)."""


def balanced_width(base_set_size: int, blocks: int) -> int:
    """Neurons a block so that all of a group's base sets are full: 2m, and more where there is little to exchange."""
    return 2 * base_set_size + 2 * math.ceil(_SLACK * math.sqrt(2 * base_set_size) / blocks) * (blocks <= 8)


@dataclass(frozen=True)
class BalancedSource(BlockSource):
    """Blocks whose neurons have been exchanged so that base sets are full.

    Differs: Burkholz 2022, Theorem 2.5, ties a neuron to its block; there m is the expected size of a base set.

    Attributes
    ----------
    elements : int
        Of every base set, if the draw allows it; never more.
    input_sign : str
        Of the layer's input: which base sets there are.
    """

    elements: int = 1
    input_sign: str = "signed"

    order = "balanced"

    @property
    def largest_base_set(self) -> int:
        """The elements."""
        return self.elements

    @cached_property
    def _served(self) -> _Served:
        """The base sets of all groups, filled."""
        served = _Served.at_home(self)
        for group in np.flatnonzero(served.missing.any(axis=(1, 2))):
            served.fill(self, int(group))
        return served

    @property
    def channels(self) -> NDArray[np.int64]:
        """The channel of its group that each neuron keeps, or -1 for its bias, (n_neurons,)."""
        return self._served.channel

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether a neuron is in a base set, (n_neurons,)."""
        return self._served.usable

    def signs(self, neuron: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.int64]:
        """Signs of the weights that :meth:`expand_at` gives."""
        return np.sign(self.expand_at(neuron, channel)).astype(np.int64)

    def own_json(self) -> dict[str, Any]:
        """The elements of a base set and the sign of the input."""
        return {"elements": self.elements, "input_sign": str(self.input_sign)}

    @classmethod
    def own_fields(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that :meth:`own_json` told.

        Raises
        ------
        ArgumentError
            If they are missing or out of their range.
        """
        elements, sign, width = stored.get("elements"), stored.get("input_sign"), stored.get("block_width")
        if type(elements) is not int or type(width) is not int or not 1 <= elements <= width:
            raise ArgumentError("elements", repr(elements), "1 to the block's width")
        if sign not in BRANCHES:
            raise ArgumentError("input_sign", repr(sign), " or ".join(BRANCHES))
        return {"elements": elements, "input_sign": sign}


@dataclass(frozen=True)
class _Served:
    """Which base set each neuron is in, while they are filled.

    A place is an element of a base set, told by the channel of its group (-1: the biases) and the sign. ``channel`` and
    ``sign`` are those of a neuron's place, or where it is not ``usable`` those of its own block and its weight from
    there; ``missing`` counts the empty places, (groups, signs, blocks).
    """

    channel: NDArray[np.int64]
    sign: NDArray[np.int64]
    usable: NDArray[np.bool_]
    missing: NDArray[np.int64]

    @classmethod
    def at_home(cls, source: BalancedSource) -> _Served:
        """In every base set the first neurons of its own block that have its sign."""
        neuron = np.arange(source.n_neurons, dtype=np.int64)
        block = neuron % source.neurons_per_group // source.block_width
        channel = np.where(block < source.input_blocks, block, _BIAS)
        sign = source.signs(neuron, channel)
        by_block = sign.reshape(source.groups, source.blocks_per_group, source.block_width)
        usable, missing = np.zeros(by_block.shape, np.bool_), []
        for branch in _SIGNS:
            is_input = np.arange(source.blocks_per_group) < source.input_blocks
            wanted = np.where(is_input, branch in BRANCHES[source.input_sign], branch == 1)
            fits = (by_block == branch) & wanted[:, None]
            stays = fits & (np.cumsum(fits, axis=2, dtype=np.int64) <= source.elements)
            usable |= stays
            missing.append(wanted * (source.elements - np.count_nonzero(stays, axis=2)))
        return cls(channel, sign, usable.ravel(), np.stack(missing, axis=1))

    def fill(self, source: BalancedSource, group: int) -> None:
        """Give the empty places of a group to neurons that are in no base set, or to others that these replace."""
        first = group * source.neurons_per_group
        free = first + np.flatnonzero(~self.usable[first : first + source.neurons_per_group])
        empty = self._empty(source, group)
        for _ in range(_ROUNDS):
            n = min(len(free), len(empty))
            if not n:
                return
            offered, place = free[:n], empty[:n]
            fits = source.signs(offered, place[:, 0]) == place[:, 1]
            self._put(offered[fits], place[fits])
            # What does not fit is paired anew: the one list turns by one against the other.
            rest = place[~fits]
            free = np.concatenate([free[n:], offered[~fits]])
            empty = np.concatenate([rest[1:], empty[n:], rest[:1]])
        for place in empty[:_EXCHANGES]:
            if len(free) and self._exchange(source, free[0], place):
                free = free[1:]

    def _empty(self, source: BalancedSource, group: int) -> NDArray[np.int64]:
        """Places of a group, (places, channel and sign): the positive ones from block to block, then the others."""
        channel = np.append(np.arange(source.input_blocks), [_BIAS] * source.bias)
        every = np.stack([np.tile(channel, 2), np.repeat(_SIGNS, len(channel))], axis=1)
        return np.repeat(every, self.missing[group].ravel(), axis=0)

    def _exchange(self, source: BalancedSource, newcomer: np.int64, place: NDArray[np.int64]) -> bool:
        """Give a place to the first neuron that fits and whose own place fits a newcomer; False if there is none."""
        first = newcomer // source.neurons_per_group * source.neurons_per_group
        others = first + np.flatnonzero(self.usable[first : first + source.neurons_per_group])
        fit = source.signs(others, np.full(len(others), place[0])) == place[1]
        fit &= source.signs(np.full(len(others), newcomer), self.channel[others]) == self.sign[others]
        if not fit.any():
            return False
        moved = others[fit.argmax()]
        self._put(newcomer, np.array([self.channel[moved], self.sign[moved]]))
        self._put(moved, place)
        return True

    def _put(self, neuron: NDArray[np.int64] | np.int64, place: NDArray[np.int64]) -> None:
        self.channel[neuron], self.sign[neuron], self.usable[neuron] = place[..., 0], place[..., 1], True
