"""Stage 9: what inputs of either sign need before, or instead of, whole kernels, as torch modules."""

from __future__ import annotations

import numpy as np
import torch

from slth.mask import BIAS, BlockMask
from slth.mask.blocks import blocks
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.source.signed import ShiftedSource, SplitSource
from slth.source.spec import SourceLayer

LARGEST_DENSE = 1 << 25
"""Kernel weights that are laid out at a time, beyond which a layer without groups goes part by part (chosen)."""


class SplitSigns(torch.nn.Module):
    """relu(x) and relu(-x) of every channel, in each group those of all channels one after the other."""

    def __init__(self, node: Node, groups: int) -> None:
        super().__init__()
        self.axis, self.groups = -1 if node.op == "linear" else 1, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice as many channels."""
        if self.axis == -1:
            return torch.cat([torch.relu(x), torch.relu(-x)], dim=-1)
        grouped = x.unflatten(1, (self.groups, -1))
        return torch.cat([torch.relu(grouped), torch.relu(-grouped)], dim=2).flatten(1, 2)


class Shift(torch.nn.Module):
    """x + s."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input plus the shift, padding included: zeros become what stands for them."""
        return x + self.shift


def before_kernels(node: Node, source: SourceLayer) -> torch.nn.Module | None:
    """What a padded input goes through before the expanding layer; it has no parameters."""
    if isinstance(source, SplitSource):
        return SplitSigns(node, source.groups)
    return Shift(source.shift) if isinstance(source, ShiftedSource) else None


class SparseTaps(torch.nn.Module):
    """The surviving neurons and weights of two source layers of which the first keeps one tap of each kernel.

    Buffers, of which the neurons of all groups are filled up with dead ones to equal width: ``entry`` (which entry of
    its kernel each neuron keeps, -1 for none), ``univariate`` (that, or its bias), ``values`` and ``index`` (surviving
    combining weights, and their places in the matrix of outputs and neurons of a group).
    """

    entry: torch.Tensor
    univariate: torch.Tensor
    values: torch.Tensor
    index: torch.Tensor

    def __init__(self, node: Node, source: SourceLayer, mask: BlockMask, dtype: torch.dtype) -> None:
        super().__init__()
        source = blocks(source)
        self.node, self.groups, self.n_outputs = node, source.groups, source.outputs
        self.kernel_shape, self.kernel_entries = (source.inputs_per_group, *source.kernel), source.incoming_per_neuron
        kept = mask.expand(source)
        group = kept.neuron // source.neurons_per_group
        counts = np.bincount(group, minlength=source.groups)
        self.width = max(1, int(counts.max()))
        place = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
        entry = np.full(source.groups * self.width, BIAS, np.int64)
        univariate = np.zeros(source.groups * self.width, np.float32)
        entry[group * self.width + place], univariate[group * self.width + place] = kept.channel, kept.value
        values, index = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
        for piece in mask.entries(source):
            values.append(piece.value)
            index.append(piece.output * self.width + place[piece.kept])
        self.register_buffer("entry", torch.from_numpy(entry))
        self.register_buffer("univariate", torch.from_numpy(univariate).to(dtype))
        self.register_buffer("values", torch.from_numpy(np.concatenate(values)).to(dtype))
        self.register_buffer("index", torch.from_numpy(np.concatenate(index)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layers on a batch."""
        operator, attributes = WEIGHT_OPERATORS[self.node.op], self.node.attributes
        ones = (1,) * (len(self.kernel_shape) - 1)
        pointwise = {"stride": ones, "dilation": ones, "padding": (0, 0) * len(ones), "groups": self.groups}
        weight = torch.zeros(self.n_outputs * self.width, dtype=x.dtype, device=x.device)
        weight[self.index] = self.values
        weight = weight.reshape(self.n_outputs, self.width, *ones)
        step = self.width if self.groups > 1 else max(1, LARGEST_DENSE // self.kernel_entries)
        out: torch.Tensor | None = None
        for start in range(0, self.width, step):
            # With groups there is one part, of all neurons.
            neurons = slice(start, start + step) if self.groups == 1 else slice(None)
            hidden = torch.relu(operator.apply(attributes, x, *self._kernels(neurons, x)))
            part = operator.apply(pointwise, hidden, weight[:, start : start + step], None)
            out = part if out is None else out + part
        assert out is not None
        return out

    def _kernels(self, neurons: slice, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Kernels of some neurons, each with one entry that is not 0 or none, and their biases."""
        entry, univariate = self.entry[neurons], self.univariate[neurons]
        reads = entry >= 0
        kernels = torch.zeros(len(entry), self.kernel_entries, dtype=x.dtype, device=x.device)
        kernels[torch.nonzero(reads).flatten(), entry[reads]] = univariate[reads]
        return kernels.reshape(len(entry), *self.kernel_shape), torch.where(reads, 0, univariate)
