"""Stage 9: a source layer that reads copies, as a torch module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from slth.mask import CopyMask
from slth.mask.copies import copies
from slth.masked_layers import Masked, prune_layer
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.operators.shape import Padding
from slth.source.copies import CopySource


class SparseCopies(torch.nn.Module):
    """The surviving weights of one source layer, and nothing else.

    Buffers: ``values`` and ``index`` (surviving weights and their places in the whole tensor).
    """

    values: torch.Tensor
    index: torch.Tensor

    def __init__(self, node: Node, source: CopySource, mask: CopyMask, dtype: torch.dtype) -> None:
        super().__init__()
        self.node = node
        values, index = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
        for start, stop, flags in mask.dense(source):
            values.append(source.weight(start, stop)[flags])
            index.append(np.flatnonzero(flags) + start * source.columns * source.taps)
        self.register_buffer("values", torch.from_numpy(np.concatenate(values)).to(dtype))
        self.register_buffer("index", torch.from_numpy(np.concatenate(index)))
        self.weight_shape = (source.rows, source.columns, *source.kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layer on a batch."""
        weight = torch.zeros(self.weight_shape, dtype=self.values.dtype, device=self.values.device)
        weight.view(-1)[self.index] = self.values
        return WEIGHT_OPERATORS[self.node.op].apply(self.node.attributes, x, weight, None)


def masked_copies(node: Node, source: CopySource, mask: CopyMask, dtype: torch.dtype) -> torch.nn.Module:
    """The whole source layer times its mask; the target's zero padding comes first."""
    operator = WEIGHT_OPERATORS[node.op]
    layer = operator.layer(node.attributes, (source.rows, source.columns, *source.kernel), False)
    flags = np.concatenate([part for _, _, part in mask.dense(source)])
    prune_layer(layer, "weight", source.weight(0, source.rows), flags, dtype)
    sequence = Masked()
    padding = operator.padding(node.attributes)
    if any(padding):
        sequence.add_module("pad", Padding(padding))
    sequence.add_module("combine", layer)
    return sequence


def kept_weights(source: CopySource, mask: CopyMask) -> NDArray[np.float64]:
    """The source's weights with zeros for those that the mask prunes, (rows, columns, taps)."""
    source = copies(source)
    parts = [source.weight(start, stop) * flags for start, stop, flags in mask.dense(source)]
    return np.concatenate(parts).astype(np.float64)
