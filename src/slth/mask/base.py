"""What every mask can tell: the intermediate neurons that live, and the combining weights that read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.network.graph import Sign
from slth.source.spec import SourceLayer

BIAS = -1
"""Channel of a neuron that keeps its bias instead of a weight."""


@dataclass(frozen=True)
class Kept:
    """Intermediate neurons that keep one of their incoming weights, or their bias.

    Attributes
    ----------
    neuron : int64 array, (kept,)
        Ascending, counted over all groups.
    channel : int64 array, (kept,)
        The input channel that each reads, counted from its group's first, or :data:`BIAS`.
    value : float32 array, (kept,)
        The weight or bias kept.
    """

    neuron: NDArray[np.int64]
    channel: NDArray[np.int64]
    value: NDArray[np.float32]


@dataclass(frozen=True)
class Entries:
    """Surviving combining weights of the outputs ``start`` to ``stop``, output by output.

    Attributes
    ----------
    start, stop : int
    output, tap : int64 array, (entries,)
        Place of each.
    kept : int64 array, (entries,)
        The neuron that each reads, as its place in :class:`Kept`.
    value : float32 array, (entries,)
    """

    start: int
    stop: int
    output: NDArray[np.int64]
    kept: NDArray[np.int64]
    tap: NDArray[np.int64]
    value: NDArray[np.float32]


class Mask(ABC):
    """Bits over the two source layers that stand for one target layer."""

    @abstractmethod
    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The surviving weights: first those of the expanding layer, then those of the combining one."""

    def serves(self, sign: Sign) -> bool:
        """Whether the pruned layers are an affine map, or one for each sign of each input, on such inputs."""
        return True

    @property
    @abstractmethod
    def n_kept(self) -> int:
        """Surviving weights and biases of both source layers."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """What a file stores, by name."""

    @classmethod
    @abstractmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> Mask:
        """The mask that a file holds.

        Raises
        ------
        TicketError
            If the tensors are not such a mask for this source.
        """


class UnivariateMask(Mask):
    """A mask under which every living neuron keeps one incoming weight, or its bias."""

    @abstractmethod
    def expand(self, source: SourceLayer) -> Kept:
        """The neurons that live and what they keep."""

    @abstractmethod
    def entries(self, source: SourceLayer) -> Iterator[Entries]:
        """The surviving combining weights, from the first output to the last, in pieces of bounded size."""

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The neurons' weights in ascending order, then the combining ones output by output."""
        yield self.expand(source).value
        for piece in self.entries(source):
            yield piece.value


def univariate(mask: Mask) -> UnivariateMask:
    """The mask, if its neurons keep one weight each.

    Raises
    ------
    TypeError
        If they keep more.
    """
    if not isinstance(mask, UnivariateMask):
        raise TypeError(f"neurons of a {type(mask).__name__} keep more than one weight")
    return mask
