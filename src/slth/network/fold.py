"""Normalisations multiplied into the weight layer before or behind them, where that changes nothing but rounding."""

from __future__ import annotations

import math

import torch

from slth.network.draft import Draft, Weights
from slth.network.graph import Node

_CHANNELS_FIRST = ("conv", "conv_transpose")


def fold_scales(draft: Draft, output: str) -> str:
    """Fold every movable scale of a draft into the layer that it follows, or into those that follow it.

    The order is that of the network. A scale stays a map of its own where the layer before has another reader or other
    uses, or where a shift would meet zero padding behind it. Returns the output's node, which may have been folded.
    """
    for name in [name for name, own in draft.weights.items() if own.movable]:
        node = draft.nodes[name]
        if any(other.layer == name for other in draft.nodes.values()):
            continue
        if _into_before(draft, node, output) or (name != output and _into_behind(draft, node)):
            _remove(draft, node)
            output = node.source if name == output else output
    return output


def _readers(draft: Draft, name: str) -> list[Node]:
    return [node for node in draft.nodes.values() if name in node.sources]


def _alone(draft: Draft, name: str) -> bool:
    """Whether a node is a weight layer that nothing else uses."""
    return name in draft.weights and not any(other.layer == name for other in draft.nodes.values())


def _into_before(draft: Draft, node: Node, output: str) -> bool:
    before = node.source
    if before == output or not _alone(draft, before) or len(_readers(draft, before)) != 1:
        return False
    first, own, scale = draft.nodes[before], draft.weights[before], draft.weights[node.name]
    if first.op not in ("linear", *_CHANNELS_FIRST) or (first.op == "linear") != (node.op == "scale"):
        # A Linear layer on several axes has its outputs last, where the channels of a normalisation are not.
        return False
    if first.op == "conv_transpose" and scale.bias is not None and bool(scale.bias.any()):
        return False
    factor = scale.weight.double().reshape(-1)
    weight = own.weight.double() * factor.reshape(-1, *[1] * (own.weight.dim() - 1))
    bias = None if own.bias is None else own.bias.double() * factor
    if scale.bias is not None:
        bias = scale.bias.double() if bias is None else bias + scale.bias.double()
    bias = None if first.op == "conv_transpose" else bias
    _replace(draft, first, own, weight, bias, scale)
    return True


def _into_behind(draft: Draft, node: Node) -> bool:
    """Into all layers that read the scale, directly or through a flatten."""
    readers = [_through_flatten(draft, reader) for reader in _readers(draft, node.name)]
    scale = draft.weights[node.name]
    if not readers or any(reader is None for reader in readers):
        return False
    plain = [reader for reader in readers if reader is not None]
    if any(not _takes(draft, reader, node, scale) for reader in plain) or len({r.name for r in plain}) != len(plain):
        return False
    for reader in plain:
        own = draft.weights[reader.name]
        factor, shift = _per_input(draft, reader, node, scale, own.weight)
        weight = own.weight.double() * factor
        bias = None if own.bias is None else own.bias.double()
        if shift is not None:
            moved = (own.weight.double() * shift).flatten(1).sum(dim=1)
            bias = moved if bias is None else bias + moved
        _replace(draft, reader, own, weight, bias, scale)
    return True


def _through_flatten(draft: Draft, reader: Node) -> Node | None:
    if reader.op == "reshape" and len(reader.shape) == 1:
        after = _readers(draft, reader.name)
        return after[0] if len(after) == 1 and after[0].op == "linear" else None
    return reader


def _takes(draft: Draft, reader: Node, node: Node, scale: Weights) -> bool:
    if not _alone(draft, reader.name) or draft.weights[reader.name].movable or not reader.batched:
        return False
    if reader.op == "linear":
        return node.op == "scale" or reader.source != node.name
    if reader.op != "conv" or node.op != "conv":
        return False
    return scale.bias is None or not any(reader.attributes["padding"]) or not bool(scale.bias.any())


def _per_input(
    draft: Draft, reader: Node, node: Node, scale: Weights, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Factor and shift of every entry of a reader's weight."""
    parts = [scale.weight.double().reshape(-1)] + ([] if scale.bias is None else [scale.bias.double()])
    made = []
    for part in parts:
        if reader.op == "linear":
            positions = math.prod(node.shape[1:]) if node.op == "conv" else 1
            made.append(part.repeat_interleave(positions))
            continue
        groups = reader.attributes["groups"]
        per_group = part.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
        made.append(per_group.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.dim() - 2)))
    return made[0], made[1] if len(made) == 2 else None


def _replace(
    draft: Draft, node: Node, own: Weights, weight: torch.Tensor, bias: torch.Tensor | None, scale: Weights
) -> None:
    """New weights for a layer, in its own number type."""
    dtype = own.weight.dtype
    own.weight, own.bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    own.folded |= scale.origins | scale.folded
    node.attributes["bias"] = bias is not None  # type: ignore[index]


def _remove(draft: Draft, node: Node) -> None:
    """Let the readers of a node read what it reads."""
    for name, other in draft.nodes.items():
        if node.name in other.sources:
            sources = tuple(node.source if source == node.name else source for source in other.sources)
            draft.nodes[name] = Node(name, other.op, sources, other.attributes, other.shape, other.batched, other.layer)
    del draft.nodes[node.name], draft.weights[node.name]
