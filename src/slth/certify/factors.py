"""What a weight layer multiplies bounds with: made once, for all regions in which its inputs have the same signs."""

from __future__ import annotations

import math
from functools import cached_property

import torch

from slth.certify.state import inflate
from slth.network.target import WeightLayer
from slth.realise import RealisedLayer

Signs = tuple[bool, bool]
"""Whether no input of either network is negative, and whether none is positive."""


class Factors:
    """Matrices of one layer, in the weight's own shape, float64.

    Parameters
    ----------
    layer : WeightLayer
    realised : RealisedLayer
    """

    def __init__(self, layer: WeightLayer, realised: RealisedLayer) -> None:
        self.realised, self.shape = realised, tuple(layer.node.attributes["weight_shape"])
        self._array, self._bias_array, self._summed = layer.weight_array(), layer.bias_array(), layer.summed
        self.weight = torch.from_numpy(self._array).reshape(self.shape)
        zeros = torch.zeros(self.shape[0], dtype=torch.float64)
        self.bias = zeros if self._bias_array is None else torch.from_numpy(self._bias_array)
        # A folded map with two branches adds twice as many products as one; the pruned source adds all that survive.
        self.n_terms = max(2 * math.prod(self.shape[1:]) + 2, realised.n_terms + 2)
        self._gains: dict[Signs, tuple[torch.Tensor, torch.Tensor]] = {}
        self._largest: dict[Signs, torch.Tensor] = {}
        self._differences: dict[int, torch.Tensor] = {}

    @cached_property
    def slack(self) -> torch.Tensor:
        """Bound on the rounding of the slopes."""
        return torch.from_numpy(self.realised.slack).reshape(self.shape)

    @cached_property
    def size(self) -> torch.Tensor:
        """Bound on the sums of the absolute values of all products."""
        return torch.from_numpy(self.realised.size).reshape(self.shape)

    @cached_property
    def weight_size(self) -> torch.Tensor:
        """Absolute values of the target's weights, or of what they were added up from."""
        return self.weight.abs() if self._summed is None else self._summed

    @cached_property
    def shift(self) -> torch.Tensor:
        """The ticket's bias less the target's, (outputs,); 0 where the ticket has none."""
        if self.realised.bias is None:
            return torch.zeros_like(self.bias)
        return torch.from_numpy(self.realised.bias) - self.bias

    @cached_property
    def shift_slack(self) -> torch.Tensor:
        """Bound on the rounding of the ticket's bias, (outputs,)."""
        slack = self.realised.bias_slack
        return torch.zeros_like(self.bias) if slack is None else torch.from_numpy(slack)

    @cached_property
    def offset(self) -> torch.Tensor:
        """Bound on |ticket's bias - target's|, (outputs,)."""
        deviation, slack = self.realised.bias_deviation(self._bias_array), self.realised.bias_slack
        if deviation is None or slack is None:
            return torch.zeros_like(self.bias)
        return inflate(torch.from_numpy(deviation) + torch.from_numpy(slack), 2)

    @cached_property
    def constant(self) -> torch.Tensor:
        """Bound on the sums of the absolute values of what either network adds, (outputs,)."""
        sizes = self.realised.bias_size
        if sizes is None:
            return self.bias.abs()
        return torch.maximum(self.bias.abs() + self.offset, inflate(torch.from_numpy(sizes), self.realised.n_terms))

    @cached_property
    def one_branch(self) -> bool:
        """Whether slopes are the same for both signs."""
        return self.realised.one_branch

    @cached_property
    def has_differences(self) -> bool:
        """Whether the layer has one slope for each weight and sign that it serves."""
        return self.realised.difference(self.realised.positive, self.realised.only or 1) is not None

    def difference(self, branch: int) -> torch.Tensor:
        """Slope less weight for one sign of the input."""
        if branch not in self._differences:
            made = self.realised.difference(self._array, branch)
            assert made is not None
            self._differences[branch] = torch.from_numpy(made).reshape(self.shape)
        return self._differences[branch]

    def gain_and_deviation(self, signs: Signs) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest |ticket weight| and |ticket weight - weight| over the signs that the input can have."""
        if signs not in self._gains:
            self._gains[signs] = self._gain_and_deviation(signs)
        return self._gains[signs]

    def largest(self, signs: Signs) -> torch.Tensor:
        """The largest absolute value of a weight of either network, and of all products in its place."""
        if signs not in self._largest:
            gain = self.gain_and_deviation(signs)[0]
            sizes = inflate(self.size, self.n_terms)
            self._largest[signs] = torch.maximum(torch.maximum(gain, self.weight_size), sizes)
        return self._largest[signs]

    def bent(self, reach: float) -> torch.Tensor | None:
        """How far the source's own activation is from its lines, for inputs up to this large; None where nowhere."""
        share = self.realised.bend.share(reach)
        return inflate(self.size * share, self.realised.n_terms) if share else None

    @classmethod
    def kept(cls, known: dict[str, Factors], layer: WeightLayer, realised: RealisedLayer) -> Factors:
        """A layer's, made where there are none of it yet, or of other slopes."""
        if layer.name not in known or known[layer.name].realised is not realised:
            known[layer.name] = cls(layer, realised)
        return known[layer.name]

    def _gain_and_deviation(self, signs: Signs) -> tuple[torch.Tensor, torch.Tensor]:
        gain, deviation = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        for branch, impossible in ((1, signs[1]), (-1, signs[0])):
            if impossible:
                continue
            # Where neurons read several inputs, slopes for the other sign may have as many roundings as the layer has.
            n_terms = 2 if self.realised.only in (None, branch) else self.realised.n_terms
            own = torch.from_numpy(self.realised.gain(branch)).reshape(self.shape)
            off = torch.from_numpy(self.realised.deviation(self._array, branch)).reshape(self.shape)
            gain = torch.maximum(gain, inflate(own + self.slack, n_terms))
            deviation = torch.maximum(deviation, inflate(off + self.slack, n_terms))
        return gain, deviation
