"""The masks of depth three: which candidate stands for a hidden neuron, and which neurons of its pools it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError
from slth.mask.base import Entries, Kept, Mask, UnivariateMask
from slth.mask.slots import SlotMask, numbers_below, places
from slth.source.candidates import CandidateSource, OutputSource
from slth.source.spec import SourceLayer

NONE = -1
"""Candidate of a group of which nothing is kept."""


@dataclass(frozen=True)
class CandidateMask(UnivariateMask):
    """Pools of which each surviving neuron is read by one row: by the candidate that stands for its group.

    Outputs of :meth:`entries` are groups.

    Attributes
    ----------
    slots : SlotMask
        The neurons that serve each weight and each bias of every group.
    candidates : unsigned array, (groups that keep any neuron,)
        The row of each that reads them, counted from the group's first.
    """

    slots: SlotMask
    candidates: NDArray[Any]

    @classmethod
    def build(cls, source: CandidateSource, slots: SlotMask, candidate: NDArray[np.int64]) -> CandidateMask:
        """The mask of these neurons and candidates, (groups,), of which those that read nothing are dropped."""
        kept = candidate[_groups(source, slots)]
        return cls(slots, kept.astype(numbers_below(source.candidates)))

    @property
    def n_kept(self) -> int:
        """An incoming and an outgoing weight of every neuron."""
        return self.slots.n_kept

    def candidate(self, source: SourceLayer) -> NDArray[np.int64]:
        """The candidate of each group that keeps weights, or :data:`NONE`, (groups,)."""
        source = candidates(source)
        found = np.full(source.outputs, NONE, np.int64)
        found[_groups(source, self.slots)] = self.candidates
        return found

    def expand(self, source: SourceLayer) -> Kept:
        """The neurons of the pools that live and what they keep."""
        return self.slots.expand(source)

    def entries(self, source: SourceLayer) -> Iterator[Entries]:
        """The surviving weights of the candidates, group by group."""
        return self.slots.entries(candidates(source).chosen(self.candidate(source)))

    def spread(self, source: SourceLayer, tensor: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Flags by group, (groups, ...), as flags by row of the second layer, (rows, ...)."""
        source = candidates(source)
        candidate = self.candidate(source)
        group = np.flatnonzero(candidate != NONE)
        result = np.zeros((source.combine_rows, *tensor.shape[1:]), np.bool_)
        result[group * source.candidates + candidate[group]] = tensor[group]
        return result

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Those of the slots, and the candidates."""
        return {**self.slots.tensors(), "candidates": self.candidates}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> CandidateMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        source = candidates(source)
        slots = SlotMask.read(source, tensors)
        n_groups = len(_groups(source, slots))
        return cls(slots, _read_candidates(tensors["candidates"], n_groups, source.candidates))


@dataclass(frozen=True)
class OutputMask(Mask):
    """The output weights that survive: for every group at most one, of its candidate.

    Attributes
    ----------
    groups : uint8 array, (ceil(groups / 8),)
        One bit for each group: whether a weight is kept.
    candidates : unsigned array, (groups that keep one,)
        From which candidate, counted from the group's first.
    """

    groups: NDArray[np.uint8]
    candidates: NDArray[Any]

    @classmethod
    def build(cls, source: OutputSource, candidate: NDArray[np.int64]) -> OutputMask:
        """The mask that keeps these candidates, (groups,), :data:`NONE` where a group keeps none."""
        kept = candidate != NONE
        return cls(np.packbits(kept), candidate[kept].astype(numbers_below(source.block_width)))

    @property
    def n_kept(self) -> int:
        """Surviving weights."""
        return len(self.candidates)

    def candidate(self, source: SourceLayer) -> NDArray[np.int64]:
        """The candidate of each group, or :data:`NONE`, (groups,)."""
        source = outputs(source)
        found = np.full(source.n_groups, NONE, np.int64)
        found[np.unpackbits(self.groups, count=source.n_groups).view(np.bool_)] = self.candidates
        return found

    def kept(self, source: SourceLayer) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Groups that keep a weight, ascending, and their weights."""
        source = outputs(source)
        candidate = self.candidate(source)
        group = np.flatnonzero(candidate != NONE)
        return group, source.weight_at(group, candidate[group])

    def survivors(self, source: SourceLayer) -> Iterator[NDArray[np.float32]]:
        """The weights, group by group."""
        yield self.kept(source)[1]

    def dense(self, source: SourceLayer) -> NDArray[np.bool_]:
        """The mask as a whole tensor, (outputs, columns)."""
        source = outputs(source)
        candidate = self.candidate(source)
        group = np.flatnonzero(candidate != NONE)
        flags = np.zeros((source.outputs, source.columns), np.bool_)
        flags[group // source.groups_per_output, group * source.block_width + candidate[group]] = True
        return flags

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Bits of the groups, and candidates."""
        return {"groups": self.groups, "candidates": self.candidates}

    @classmethod
    def read(cls, source: SourceLayer, tensors: dict[str, NDArray[np.generic]]) -> OutputMask:
        """The mask that a file holds; see :meth:`Mask.read`."""
        source = outputs(source)
        bits, expected = tensors["groups"], (source.n_groups + 7) // 8
        if bits.dtype != np.uint8 or bits.shape != (expected,):
            raise TicketError("mask", f"groups: {bits.dtype} {bits.shape}", f"{expected} bytes")
        groups = bits.view(np.uint8)
        flags = np.unpackbits(groups)
        if flags[source.n_groups :].any():
            raise TicketError("mask", "groups: bits behind the last group", "bytes padded with zeros")
        return cls(groups, _read_candidates(tensors["candidates"], int(flags.sum()), source.block_width))


def _read_candidates(found: NDArray[Any], count: int, width: int) -> NDArray[Any]:
    kind = numbers_below(width)
    if found.dtype != kind or found.shape != (count,):
        need = f"{np.dtype(kind)} ({count},), one for each group that keeps any weight"
        raise TicketError("mask", f"candidates: {found.dtype} {found.shape}", need)
    if count and int(found.max()) >= width:
        raise TicketError("mask", f"candidate {int(found.max())}", f"0 to {width - 1}")
    return found


def _groups(source: CandidateSource, slots: SlotMask) -> NDArray[np.int64]:
    """Groups of which any neuron is kept, ascending."""
    return np.unique(places(source, np.flatnonzero(slots.counts))[0])


def candidates(source: SourceLayer) -> CandidateSource:
    """The source, if its rows are candidates.

    Raises
    ------
    TypeError
        If they are not.
    """
    if not isinstance(source, CandidateSource):
        raise TypeError(f"a mask of candidates does not fit a {type(source).__name__}")
    return source


def outputs(source: SourceLayer) -> OutputSource:
    """The source, if it reads candidates.

    Raises
    ------
    TypeError
        If it does not.
    """
    if not isinstance(source, OutputSource):
        raise TypeError(f"a mask of output weights does not fit a {type(source).__name__}")
    return source
