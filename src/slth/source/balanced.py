"""Blocks of neurons in which the draw's own signs decide which input a neuron serves.

Of a block of 2m neurons, each with an independent weight from the block's input, about half have either sign: some
blocks are poor, and the poorest one makes a layer's largest error. But every neuron of a group has a weight from every
input of it. Neurons that their own block cannot use are given to the blocks that lack some, one after another, where the
weight from that block's input has the sign that is lacking. So nearly every base set has exactly m elements, from the
same independent draw: the assignment is a function of the source's signs alone, and no target has been seen.
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
from slth.network.graph import Sign
from slth.source.spec import BlockSource

_BIAS = -1
_ROUNDS = 200
"""Offers a neuron gets at most (chosen): each is taken with probability 1/2."""
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
    input_sign : Sign
        Of the layer's input: which base sets there are.
    """

    elements: int = 1
    input_sign: Sign = Sign.SIGNED

    order = "balanced"

    @property
    def largest_base_set(self) -> int:
        """The elements."""
        return self.elements

    @cached_property
    def _assignment(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Channel that each neuron serves (-1: its bias), and whether a base set has it."""
        channel, usable = np.empty(self.n_neurons, np.int64), np.zeros(self.n_neurons, np.bool_)
        for group in range(self.groups):
            here = slice(group * self.neurons_per_group, (group + 1) * self.neurons_per_group)
            channel[here], usable[here] = self._group(here.start)
        return channel, usable

    @property
    def channels(self) -> NDArray[np.int64]:
        """The channel of its group that each neuron keeps, or -1 for its bias, (n_neurons,)."""
        return self._assignment[0]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether a neuron is in a base set, (n_neurons,)."""
        return self._assignment[1]

    def _group(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The same for the group whose neurons begin at ``first``."""
        neuron = np.arange(self.neurons_per_group)
        block = neuron // self.block_width
        channel = np.where(block < self.input_blocks, block, _BIAS)
        wanted = self._wanted()
        settled, lacking = self._at_home(channel, self._signs(first + neuron, channel), wanted)
        free = np.flatnonzero(~settled)
        for _ in range(_ROUNDS):
            if not len(lacking) or not len(free):
                break
            n = min(len(lacking), len(free))
            offered, place = free[:n], lacking[:n]
            taken = self._signs(first + offered, place[:, 0]) == place[:, 1]
            channel[offered[taken]], settled[offered[taken]] = place[taken, 0], True
            # Those that were turned down are offered to others: the one list turns by one against the other.
            free = np.concatenate([free[n:], offered[~taken]])
            lacking = np.concatenate([place[~taken][1:], lacking[n:], place[~taken][:1]])
        return channel, settled

    def _wanted(self) -> list[tuple[int, int]]:
        """Channel and sign of every base set of a group."""
        inputs = [(channel, sign) for channel in range(self.input_blocks) for sign in self.input_sign.branches]
        return inputs + ([(_BIAS, 1)] if self.bias else [])

    def _signs(self, neuron: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.sign(self.expand_at(neuron, channel)).astype(np.int64)

    def _at_home(
        self, channel: NDArray[np.int64], sign: NDArray[np.int64], wanted: list[tuple[int, int]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Neurons that stay in their block, and what is lacking, (places, channel and sign)."""
        settled = np.zeros(len(channel), np.bool_)
        by_block = sign.reshape(-1, self.block_width)
        lacking: list[NDArray[np.int64]] = []
        for branch in (1, -1):
            fits = by_block == branch
            first = fits & (np.cumsum(fits, axis=1) <= self.elements)
            served = np.array([number for number, (_, own) in enumerate(wanted) if own == branch], dtype=np.int64)
            blocks = np.array([wanted[number][0] for number in served], dtype=np.int64)
            rows = np.where(blocks == _BIAS, len(by_block) - 1, blocks)
            stays = np.zeros_like(first)
            stays[rows] = first[rows]
            settled |= stays.ravel()
            missing = self.elements - stays[rows].sum(axis=1)
            lacking.append(np.repeat(np.stack([blocks, np.full_like(blocks, branch)], axis=1), missing, axis=0))
        return settled, np.concatenate(lacking)

    def own_json(self) -> dict[str, Any]:
        """The elements of a base set and the sign of the input."""
        return {"elements": self.elements, "input_sign": self.input_sign.value}

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
        if sign not in list(Sign):
            raise ArgumentError("input_sign", repr(sign), " or ".join(Sign))
        return {"elements": elements, "input_sign": Sign(sign)}
