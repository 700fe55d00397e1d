"""The source of depth three: two layers with candidates for every hidden neuron, and the layer that reads them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from slth.source.distributions import draw
from slth.source.philox import stream_key
from slth.source.spec import PoolSource, SourceLayer

_WEIGHT = 0


@dataclass(frozen=True)
class CandidateSource(PoolSource):
    """The first two source layers: pools of neurons, and several rows that may read them.

    Malach et al. 2020, Theorem 2.3. ``outputs`` counts groups: one for every hidden neuron of the target and every
    output that reads it, output by output; within an output, if it has a bias, one more, for a constant. A group has
    pools for the weights and the bias of a hidden neuron, and ``candidates`` rows of the second layer: row g *
    candidates + t is candidate t of group g. Like every row it has a weight from every neuron.

    Attributes
    ----------
    candidates : int
        Rows of each group.
    constants : int
        Outputs whose last group is a constant's: all of the target's, or none.
    """

    candidates: int = 1
    constants: int = 0

    order = "candidates"

    @property
    def combine_rows(self) -> int:
        """Neurons of the second layer: all candidates of all groups."""
        return self.outputs * self.candidates

    @property
    def n_weights(self) -> int:
        """All weights and biases of the first layer and all weights of the second."""
        return self.n_neurons * (self.inputs_per_group + int(self.bias)) + self.combine_rows * self.n_neurons

    def is_constant(self, group: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether groups stand for a constant, which reads no input."""
        if not self.constants:
            return np.zeros(group.shape, np.bool_)
        last: NDArray[np.bool_] = (group + 1) % (self.outputs // self.constants) == 0
        return last

    def chosen(self, candidate: NDArray[np.int64]) -> CandidateSource:
        """The same source with one row for each group, (groups,): what is said of output g is of its candidate."""
        common = {entry.name: getattr(self, entry.name) for entry in fields(CandidateSource)}
        return _ChosenSource(**common, candidate=candidate)


@dataclass(frozen=True)
class _ChosenSource(CandidateSource):
    """A :class:`CandidateSource` whose outputs are one candidate of each group."""

    candidate: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)

    def combine_at(
        self, output: NDArray[np.int64], neuron: NDArray[np.int64], tap: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Weights of the groups' candidates from single neurons."""
        return super().combine_at(output * self.candidates + self.candidate[output], neuron, tap)


@dataclass(frozen=True)
class OutputSource(SourceLayer):
    """The third source layer: a weight from every candidate to every output of the target, and no biases.

    Output o may keep weights from the candidates of its own groups: group o (n + 1) + i, for n hidden neurons, or o n +
    i where outputs have no biases. ``block_width`` is the number of candidates of a group, ``inputs_per_group`` is n,
    and ``bias`` says whether each output has a group for a constant.
    """

    order = "outputs"
    depth = 1

    @property
    def groups_per_output(self) -> int:
        """Hidden neurons, and one more for the constant."""
        return self.inputs_per_group + int(self.bias)

    @property
    def n_groups(self) -> int:
        """Groups of candidates, of all outputs."""
        return self.outputs * self.groups_per_output

    @property
    def blocks_per_group(self) -> int:
        """Groups of candidates: every output has a weight from each."""
        return self.n_groups

    @property
    def columns(self) -> int:
        """Candidates of all groups."""
        return self.n_groups * self.block_width

    @property
    def n_weights(self) -> int:
        """Of the one layer."""
        return self.outputs * self.columns

    def weight(self) -> NDArray[np.float32]:
        """The whole layer, (outputs, columns)."""
        drawn = draw(self.law, stream_key(self.seed, self.index, _WEIGHT), 0, self.n_weights)
        drawn *= np.float32(self.scale)
        return drawn.reshape(self.outputs, self.columns)

    def weight_at(self, group: NDArray[np.int64], candidate: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weights from candidates to the output that their group belongs to, in the arrays' shape."""
        output = group // self.groups_per_output
        index = output * self.columns + group * self.block_width + candidate
        drawn = self._drawn_at(_WEIGHT, index)
        drawn *= np.float32(self.scale)
        return drawn
