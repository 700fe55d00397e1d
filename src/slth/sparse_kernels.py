"""Stage 9: what survives of two source layers with kernels first, as a torch module."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from slth.mask import KernelMask
from slth.mask.kernels import kernels
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.signed_layers import before_kernels
from slth.source.spec import SourceLayer

LARGEST_DENSE = 1 << 25
"""Kernel weights that are laid out at a time, beyond which a layer without groups goes part by part (chosen)."""


class SparseKernels(torch.nn.Module):
    """The surviving neurons and weights of two source layers with kernels first, and nothing else.

    The grouped form of da Cunha et al. 2022: where the second layer has one group for every output, its block-diagonal
    mask is not needed. A neuron's activation times its outgoing weight is added to its own output.

    Buffers, of which the neurons of all groups are filled up with dead ones to equal width: ``incoming`` and ``index``
    (surviving entries of kernels, and their places in the tensor over the neurons), ``bias`` (neurons,), ``values``
    (outgoing weights of the living neurons), ``place`` (theirs among the neurons) and ``output`` (which each serves).
    """

    incoming: torch.Tensor
    index: torch.Tensor
    bias: torch.Tensor
    values: torch.Tensor
    place: torch.Tensor
    output: torch.Tensor

    def __init__(self, node: Node, source: SourceLayer, mask: KernelMask, dtype: torch.dtype) -> None:
        super().__init__()
        source = kernels(source)
        self.node, self.n_outputs, self.groups = node, source.outputs, source.groups
        self.axis = -1 if node.op == "linear" else 1
        self.padding = WEIGHT_OPERATORS[node.op].padding(node.attributes)
        self.before = before_kernels(node, source)
        self.kernel_shape = (source.reads_per_group, *source.kernel)
        self.kernel_entries = source.kernel_entries
        live = np.flatnonzero(mask.neurons)
        group = live // source.neurons_per_group
        counts = np.bincount(group, minlength=source.groups)
        self.width = max(1, int(counts.max()))
        place = group * self.width + np.arange(len(live)) - (np.cumsum(counts) - counts)[group]
        incoming, index, values = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        bias, done = np.zeros(source.groups * self.width, np.float32), 0
        for piece in mask.pieces(source):
            here = place[done : done + len(piece.neuron)]
            row, entry = np.nonzero(piece.flags[:, : self.kernel_entries])
            incoming.append(piece.incoming[row, entry])
            index.append(here[row] * self.kernel_entries + entry)
            values.append(piece.outgoing)
            if source.bias:
                bias[here] = piece.incoming[:, -1] * piece.flags[:, -1]
            done += len(here)
        for name, array in (("incoming", incoming), ("values", values)):
            self.register_buffer(name, torch.from_numpy(np.concatenate(array)).to(dtype))
        self.register_buffer("bias", torch.from_numpy(bias).to(dtype))
        self.register_buffer("index", torch.from_numpy(np.concatenate(index)))
        self.register_buffer("place", torch.from_numpy(place))
        self.register_buffer("output", torch.from_numpy(live // source.block_width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layers on a batch."""
        x = torch.nn.functional.pad(x, self.padding) if any(self.padding) else x
        x = x if self.before is None else self.before(x)
        out: torch.Tensor | None = None
        for start, stop in self._parts():
            hidden = self._hidden(x, start, stop)
            if out is None:
                shape = list(hidden.shape)
                shape[self.axis] = self.n_outputs
                out = torch.zeros(shape, dtype=hidden.dtype, device=hidden.device)
            first, last = self._between(self.place, start, stop, 1)
            scale = [1] * hidden.dim()
            scale[self.axis] = -1
            chosen = hidden.index_select(self.axis, self.place[first:last] - start)
            out = out.index_add(self.axis, self.output[first:last], chosen * self.values[first:last].reshape(scale))
        assert out is not None
        return out

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Ranges of neurons that are evaluated at a time; all groups at once."""
        n_neurons = self.groups * self.width
        step = n_neurons if self.groups > 1 else max(1, LARGEST_DENSE // self.kernel_entries)
        for start in range(0, n_neurons, step):
            yield start, min(start + step, n_neurons)

    def _between(self, places: torch.Tensor, start: int, stop: int, entries: int) -> tuple[int, int]:
        """Which of some ascending places lie in a part; of the only part all, without a look at them."""
        if stop - start >= self.groups * self.width:
            return 0, len(places)
        edges = torch.tensor([start, stop], device=places.device) * entries
        first, last = torch.searchsorted(places, edges).tolist()
        return first, last

    def _hidden(self, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Activations of some neurons for a padded input."""
        first, last = self._between(self.index, start, stop, self.kernel_entries)
        weight = torch.zeros((stop - start) * self.kernel_entries, dtype=x.dtype, device=x.device)
        weight[self.index[first:last] - start * self.kernel_entries] = self.incoming[first:last]
        weight = weight.reshape(stop - start, *self.kernel_shape)
        plain = {**self.node.attributes, "padding": (0,) * len(self.padding)}
        return torch.relu(WEIGHT_OPERATORS[self.node.op].apply(plain, x, weight, self.bias[start:stop]))
