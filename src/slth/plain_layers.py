"""Stage 9: source layers in the network's own shape as torch modules, and the network that they are."""

from __future__ import annotations

import numpy as np
import torch

from slth.errors import ArgumentError
from slth.mask import PlainMask
from slth.mask.plain import plain
from slth.masked_layers import Masked, prune_layer
from slth.network.graph import Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.operators.shape import Padding
from slth.network.target import Target
from slth.source.plain import PlainSource
from slth.ticket import Ticket


class SparsePlain(torch.nn.Module):
    """The surviving weights and biases of one source layer, and nothing else.

    Buffers: ``values`` and ``index`` (surviving weights and their places in the whole tensor), ``bias`` (if any).
    """

    values: torch.Tensor
    index: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, node: Node, source: PlainSource, mask: PlainMask, dtype: torch.dtype) -> None:
        super().__init__()
        self.node = node
        weight, bias = source.split(mask.pruned(source))
        index = np.flatnonzero(source.split(mask.flags(source))[0])
        self.register_buffer("values", torch.from_numpy(weight.ravel()[index]).to(dtype))
        self.register_buffer("index", torch.from_numpy(index))
        self.register_buffer("bias", None if bias is None else torch.from_numpy(bias.copy()).to(dtype))
        self.weight_shape = (source.outputs, source.inputs_per_group, *source.kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layer on a batch."""
        weight = torch.zeros(self.weight_shape, dtype=self.values.dtype, device=self.values.device)
        weight.view(-1)[self.index] = self.values
        return WEIGHT_OPERATORS[self.node.op].apply(self.node.attributes, x, weight, self.bias)


def masked_plain(node: Node, source: PlainSource, mask: PlainMask, dtype: torch.dtype) -> torch.nn.Module:
    """The whole source layer times its mask; the network's zero padding comes first."""
    operator = WEIGHT_OPERATORS[node.op]
    layer = operator.layer(node.attributes, (source.outputs, source.inputs_per_group, *source.kernel), source.bias)
    parts = zip(source.split(source.numbers()), source.split(mask.flags(source)), strict=True)
    for name, (values, flags) in zip(("weight", "bias"), parts, strict=True):
        if values is not None and flags is not None:
            prune_layer(layer, name, values, flags, dtype)
    sequence = Masked()
    padding = operator.padding(node.attributes)
    if any(padding):
        sequence.add_module("pad", Padding(padding))
    sequence.add_module("combine", layer)
    return sequence


def is_plain(ticket: Ticket) -> bool:
    """Whether a ticket is a mask over a source of its network's own shape, and so has no target beside itself."""
    return all(isinstance(source, PlainSource) for source in ticket.spec.layers)


def own_network(ticket: Ticket) -> Target:
    """The network that such a ticket is: its source's weights from the seed, with zeros for those that are dropped.

    Raises
    ------
    ArgumentError
        If the ticket was made for a target.
    """
    if not is_plain(ticket):
        got = f"a ticket of the construction {ticket.construction!r}, which was made for a target, and no target"
        raise ArgumentError("target", got, "the target that it was made for", "--target FILE or --model PKG.MOD:FN")
    weights = {}
    for node, source, mask in zip(ticket.graph.weighted, ticket.spec.layers, ticket.masks, strict=True):
        assert isinstance(mask, PlainMask)
        weight, bias = plain(source).split(mask.pruned(source))
        whole = torch.from_numpy(weight.reshape(node.attributes["weight_shape"]))
        weights[node.name] = (whole, None if bias is None else torch.from_numpy(bias))
    return Target.build(ticket.graph, weights, ticket.kept, ticket.accounts, ticket.selection)
