"""Stage 9: a ticket as a torch module, in three forms that compute the same function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from slth.candidate_layers import SparseOutputs, masked_outputs
from slth.candidates import has_candidates, own_graph
from slth.copies import CopiedLayer, is_copied, realise_all, widened
from slth.copy_layers import SparseCopies, kept_weights, masked_copies
from slth.errors import ArgumentError
from slth.mask import (
    BIAS,
    BlockMask,
    CandidateMask,
    CopyMask,
    KernelMask,
    Mask,
    OutputMask,
    PlainMask,
    UnivariateMask,
    univariate,
)
from slth.masked_layers import Masked, prune_layer
from slth.memory import memory_bytes
from slth.network.graph import Graph, Node, Sign
from slth.network.module import Network, filled
from slth.network.module import evaluate as evaluate
from slth.network.module import joined as joined
from slth.network.module import target_module as target_module
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.operators.shape import Padding
from slth.plain_layers import SparsePlain, masked_plain
from slth.realise import RealisedLayer
from slth.signed_layers import SparseTaps, before_kernels
from slth.source.copies import CopySource
from slth.source.plain import PlainSource
from slth.source.spec import SourceLayer
from slth.sparse_kernels import SparseKernels
from slth.ticket import Ticket

FORMS = ("masked", "sparse", "folded")
LARGEST_MASKED_BYTES = 8 << 30
_REALISED_BYTES = 24
"""A weight's slopes for both signs and their size, in float64."""
LARGEST_DENSE = 1 << 25
"""Numbers that a sparse layer holds at a time, beyond which it goes without a dense tensor (chosen)."""


class TwoBranches(torch.nn.Module):
    """An affine map with a slope of its own for each sign of its input: P relu(x) - N relu(-x) + b."""

    def __init__(self, positive: torch.nn.Module, negative: torch.nn.Module) -> None:
        super().__init__()
        self.positive, self.negative = positive, negative

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map on a batch."""
        result: torch.Tensor = self.positive(torch.relu(x)) - self.negative(torch.relu(-x))
        return result


class SparseLayer(torch.nn.Module):
    """The surviving neurons and weights of two source layers, and nothing else.

    Buffers: ``channel`` (which input channel each neuron reads, -1 for none), ``univariate`` (its weight, or its bias),
    ``values`` and ``index`` (surviving combining weights and their places in the tensor over the survivors).
    """

    channel: torch.Tensor
    univariate: torch.Tensor
    values: torch.Tensor
    index: torch.Tensor

    def __init__(self, node: Node, source: SourceLayer, mask: UnivariateMask, dtype: torch.dtype) -> None:
        super().__init__()
        self.node = node
        self.axis = -1 if node.op == "linear" else 1
        channel, univariate, place, self.width = _survivors(source, mask)
        values, index = _surviving_weights(source, mask, place, self.width)
        self.register_buffer("channel", torch.from_numpy(channel))
        self.register_buffer("univariate", torch.from_numpy(univariate).to(dtype))
        self.register_buffer("values", torch.from_numpy(values).to(dtype))
        self.register_buffer("index", torch.from_numpy(index))
        self.weight_shape = (source.outputs, self.width, *source.kernel)
        self.activation = source.activation.torch_module()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pruned source layers on a batch."""
        return self._mapped(x, None if self._is_large else self._dense())

    def prepared(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The same for many batches one after the other, the tensor over the survivors made once."""
        weight = None if self._is_large else self._dense()
        return lambda x: self._mapped(x, weight)

    @property
    def _is_large(self) -> bool:
        return self.node.op == "linear" and math.prod(self.weight_shape) > LARGEST_DENSE

    def _dense(self) -> torch.Tensor:
        weight = torch.zeros(math.prod(self.weight_shape), dtype=self.values.dtype, device=self.values.device)
        weight[self.index] = self.values
        return weight.reshape(self.weight_shape)

    def _mapped(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        operator = WEIGHT_OPERATORS[self.node.op]
        padding = operator.padding(self.node.attributes)
        padded = torch.nn.functional.pad(x, padding) if any(padding) else x
        if weight is None:
            return self._scattered(padded)
        plain = {**self.node.attributes, "padding": (0,) * len(padding)}
        return operator.apply(plain, self._hidden(padded, slice(None)), weight, None)

    def _hidden(self, x: torch.Tensor, neurons: slice) -> torch.Tensor:
        """Activations of some surviving neurons."""
        shape = [1] * x.dim()
        shape[self.axis] = -1
        channel, univariate = self.channel[neurons], self.univariate[neurons]
        reads = channel >= 0
        slope = torch.where(reads, univariate, 0).reshape(shape)
        constant = torch.where(reads, 0, univariate).reshape(shape)
        hidden: torch.Tensor = self.activation(x.index_select(self.axis, channel.clamp(min=0)) * slope + constant)
        return hidden

    def _scattered(self, x: torch.Tensor) -> torch.Tensor:
        """A Linear layer's outputs without the tensor over the survivors, which would be far larger than they are."""
        flat = x.reshape(-1, x.shape[-1])
        out = torch.zeros(len(flat), self.weight_shape[0], dtype=x.dtype, device=x.device)
        output, neuron = self.index // self.width, self.index % self.width
        step = max(1, LARGEST_DENSE // max(1, len(flat)))
        for start in range(0, len(output), step):
            here = slice(start, start + step)
            reads, u = self.channel[neuron[here]], self.univariate[neuron[here]]
            hidden = flat[:, reads.clamp(min=0)] * torch.where(reads >= 0, u, 0) + torch.where(reads >= 0, 0, u)
            out.index_add_(1, output[here], self.activation(hidden) * self.values[here])
        return out.reshape(*x.shape[:-1], -1)


def _survivors(
    source: SourceLayer, mask: UnivariateMask
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], int]:
    """Channel and univariate weight of the kept neurons, groups filled up with dead ones to equal width.

    Then each kept neuron's place within its group, and the width.
    """
    kept = mask.expand(source)
    group = kept.neuron // source.neurons_per_group
    counts = np.bincount(group, minlength=source.groups)
    width = max(1, int(counts.max()))
    place = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
    channel = np.full(source.groups * width, -1, dtype=np.int64)
    univariate = np.zeros(source.groups * width, dtype=np.float32)
    at = group * width + place
    channel[at] = np.where(kept.channel == BIAS, -1, kept.channel + group * source.inputs_per_group)
    univariate[at] = kept.value
    return channel, univariate, place, width


def _surviving_weights(
    source: SourceLayer, mask: UnivariateMask, place: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    values, index = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for piece in mask.entries(source):
        values.append(piece.value)
        index.append((piece.output * width + place[piece.kept]) * source.taps + piece.tap)
    return np.concatenate(values), np.concatenate(index)


def sparse_layer(node: Node, source: SourceLayer, mask: Mask, dtype: torch.dtype) -> torch.nn.Module:
    """What survives of one target layer's two source layers."""
    if isinstance(source, CopySource) and isinstance(mask, CopyMask):
        return SparseCopies(node, source, mask, dtype)
    if isinstance(source, PlainSource) and isinstance(mask, PlainMask):
        return SparsePlain(node, source, mask, dtype)
    if isinstance(mask, KernelMask):
        return SparseKernels(node, source, mask, dtype)
    if source.kernel_first and isinstance(mask, BlockMask):
        return SparseTaps(node, source, mask, dtype)
    if isinstance(mask, OutputMask):
        return SparseOutputs(source, mask, dtype)
    return SparseLayer(node, source, univariate(mask), dtype)


def module(ticket: Ticket, form: str = "folded", dtype: torch.dtype | None = None) -> torch.nn.Module:
    """The ticket as a torch module in evaluation mode, without gradients on the source's weights.

    Parameters
    ----------
    ticket : Ticket
    form : {"masked", "sparse", "folded"}
        ``"masked"``: the whole source network times its mask, weight_orig and weight_mask as torch.nn.utils.prune lays
        them out. ``"sparse"``: the surviving neurons and weights alone. ``"folded"``: the target's own architecture
        with the realised weights; where the input's sign is not known and the slopes differ, a layer has two branches.
        Of copies (``one-for-one``), which agree up to their errors only, the network of the copies with the first two
        source layers in one: averaging them would compute something else. So with a source of depth three, where every
        output has hidden neurons of its own; with one output that is the target's own architecture.
    dtype : torch.dtype, optional
        Default: the target's (float32 for half precisions).

    Raises
    ------
    ArgumentError
        For an unknown form, or a masked or folded module that would not fit into memory (the message says how large it
        is).
    """
    if form not in FORMS:
        raise ArgumentError("form", repr(form), ", ".join(FORMS))
    number = dtype or getattr(torch, ticket.target_dtype)
    layers = {facts.name: (source, mask) for source, mask, facts in ticket.layers}
    if form == "masked":
        _check_size(ticket, number)
    if form == "folded":
        _check_memory(ticket)
        return folded_module(ticket, realise_all(ticket.hidden_graph, list(layers.values())), number)

    def build(node: Node) -> torch.nn.Module:
        source, mask = layers[node.name]
        if form == "masked":
            return _masked(node, source, mask, number)
        return sparse_layer(node, source, mask, number)

    return Network(_own_graph(ticket), build, ticket.kept, number).eval().requires_grad_(False)


def _own_graph(ticket: Ticket) -> Graph:
    """The target's, with its extra depth, or that with copies."""
    sources, graph = ticket.spec.layers, ticket.hidden_graph
    if has_candidates(sources):
        return own_graph(graph, sources[-1].outputs)
    return widened(graph, sources).graph if is_copied(sources) else graph


def folded_module(
    ticket: Ticket,
    realised: Mapping[str, RealisedLayer],
    dtype: torch.dtype,
    signs: Mapping[str, Sign] | None = None,
) -> torch.nn.Module:
    """The target's own architecture with slopes that were realised before, by layer.

    ``signs`` are those that each layer's input can have, where they are not the ones that the ticket was made for.
    """
    signs = signs or {entry.name: entry.input_sign for entry in ticket.facts}
    layers = {facts.name: (source, mask) for source, mask, facts in ticket.layers}

    def build(node: Node) -> torch.nn.Module:
        source, mask = layers[node.name]
        if isinstance(source, CopySource) and isinstance(mask, CopyMask):
            return filled(WEIGHT_OPERATORS[node.op], node, kept_weights(source, mask), None, dtype)
        layer = realised[node.name]
        if isinstance(layer, CopiedLayer) and layer.wide is not None:
            layer = layer.wide
        return _folded(node, layer, signs[node.name], dtype)

    return Network(_own_graph(ticket), build, ticket.kept, dtype).eval()


def _check_size(ticket: Ticket, dtype: torch.dtype) -> None:
    # torch.nn.utils.prune keeps the original, the mask and their product.
    n_bytes = 3 * ticket.spec.n_weights * (8 if dtype == torch.float64 else 4)
    if n_bytes > LARGEST_MASKED_BYTES:
        raise ArgumentError(
            "form",
            f"masked, which would take {n_bytes / 2**30:.1f} GiB",
            f"at most {LARGEST_MASKED_BYTES >> 30} GiB",
            'module("sparse") or module("folded")',
        )


def _check_memory(ticket: Ticket) -> None:
    """Refuse layers of which a file says that they are huge, before slopes and sizes of all their weights are made."""
    n_bytes = _REALISED_BYTES * ticket.n_weights
    if n_bytes > memory_bytes():
        raise ArgumentError(
            "form",
            f"folded, which would take {n_bytes / 2**30:.1f} GiB for {ticket.n_weights:,} weights",
            f"at most the {memory_bytes() / 2**30:.1f} GiB of this machine",
            'module("sparse")',
        )


def _masked(node: Node, source: SourceLayer, mask: Mask, dtype: torch.dtype) -> torch.nn.Module:
    """expand, activation, combine; the target's zero padding comes first."""
    operator = WEIGHT_OPERATORS[node.op]
    if isinstance(source, CopySource) and isinstance(mask, CopyMask):
        return masked_copies(node, source, mask, dtype)
    if isinstance(mask, OutputMask):
        return masked_outputs(node, source, mask, dtype)
    if isinstance(source, PlainSource) and isinstance(mask, PlainMask):
        return masked_plain(node, source, mask, dtype)
    flags = mask.dense(source) if isinstance(mask, KernelMask) else _dense(source, univariate(mask))
    if source.kernel_first:
        width = (source.n_neurons, source.reads_per_group, *source.kernel)
        expand = operator.layer(node.attributes, width, source.bias)
        combine = operator.pointwise(node.attributes, source.outputs, source.neurons_per_group, False)
    else:
        width = (source.combine_rows, source.neurons_per_group, *source.kernel)
        expand = operator.pointwise(node.attributes, source.n_neurons, source.inputs_per_group, source.bias)
        combine = operator.layer(node.attributes, width, False)
    prune_layer(expand, "weight", source.expand_weight(), flags[0], dtype)
    if source.bias:
        prune_layer(expand, "bias", source.expand_bias(), flags[1], dtype)
    prune_layer(combine, "weight", source.combine_weight(0, source.combine_rows), flags[2], dtype)
    sequence = Masked()
    padding = operator.padding(node.attributes)
    if any(padding):
        sequence.add_module("pad", Padding(padding))
    before = before_kernels(node, source)
    if before is not None:
        sequence.add_module("before", before)
    sequence.add_module("expand", expand)
    sequence.add_module("activation", source.activation.torch_module())
    sequence.add_module("combine", combine)
    return sequence


def _dense(source: SourceLayer, mask: UnivariateMask) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The masks of the expanding weights, the biases and the combining weights as whole tensors."""
    kept = mask.expand(source)
    reads = kept.channel != BIAS
    expand = np.zeros((source.n_neurons, source.incoming_per_neuron), dtype=np.bool_)
    expand[kept.neuron[reads], kept.channel[reads]] = True
    bias = np.zeros(source.n_neurons, dtype=np.bool_)
    bias[kept.neuron[~reads]] = True
    combine = np.zeros((source.outputs, source.neurons_per_group, source.combine_taps), dtype=np.bool_)
    neuron = kept.neuron % source.neurons_per_group
    for piece in mask.entries(source):
        combine[piece.output, neuron[piece.kept], piece.tap] = True
    return expand, bias, mask.spread(source, combine) if isinstance(mask, CandidateMask) else combine


def _folded(node: Node, realised: RealisedLayer, sign: Sign, dtype: torch.dtype) -> torch.nn.Module:
    operator, realised = WEIGHT_OPERATORS[node.op], realised.shifted
    if sign is Sign.SIGNED and not realised.one_branch:
        positive = filled(operator, node, realised.positive, realised.bias, dtype)
        return TwoBranches(positive, filled(operator, node, realised.negative, None, dtype))
    slopes = realised.negative if sign is Sign.NONPOSITIVE else realised.positive
    return filled(operator, node, slopes, realised.bias, dtype)
