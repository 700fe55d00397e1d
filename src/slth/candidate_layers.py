"""Stage 9: the output layer of a source of depth three, as a torch module."""

from __future__ import annotations

import torch

from slth.mask import OutputMask
from slth.mask.candidates import outputs
from slth.masked_layers import Masked, prune_layer
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.source.spec import SourceLayer


class SparseOutputs(torch.nn.Module):
    """The surviving output weights, on the candidates that stand for their groups.

    Buffers: ``values`` (surviving weights), ``group`` (which entry of the input each reads), ``output`` (to which
    output each belongs).
    """

    values: torch.Tensor
    group: torch.Tensor
    output: torch.Tensor

    def __init__(self, source: SourceLayer, mask: OutputMask, dtype: torch.dtype) -> None:
        super().__init__()
        source = outputs(source)
        self.n_outputs = source.outputs
        group, values = mask.kept(source)
        self.register_buffer("values", torch.from_numpy(values).to(dtype))
        self.register_buffer("group", torch.from_numpy(group))
        self.register_buffer("output", torch.from_numpy(group // source.groups_per_output))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layer on a batch, (..., groups)."""
        result = x.new_zeros(*x.shape[:-1], self.n_outputs)
        return result.index_add(-1, self.output, x.index_select(-1, self.group) * self.values)


def masked_outputs(node: Node, source: SourceLayer, mask: OutputMask, dtype: torch.dtype) -> torch.nn.Module:
    """The whole output layer times its mask."""
    source = outputs(source)
    layer = WEIGHT_OPERATORS[node.op].layer(node.attributes, (source.outputs, source.columns), False)
    prune_layer(layer, "weight", source.weight(), mask.dense(source), dtype)
    sequence = Masked()
    sequence.add_module("combine", layer)
    return sequence
