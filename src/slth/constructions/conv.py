"""Two source layers for one target layer, whole kernels first and a 1x1 layer after them.

Da Cunha, Natale and Viennot 2022, Lemmas 1 and 2 and Theorem 1. The first layer U has kernels of the target's size into
n channels, a block of them for every output l; the second, V, is 1x1. The mask T leaves of V the weights of each output
from its own block. The mask S leaves of U positive weights alone, so that for inputs x >= 0 nothing that reaches the
ReLU between the layers is negative; it changes nothing, and the two layers are one, with the kernel

    L[l, k, tap] = sum over t in block l of V[l, t] U[t, k, tap] S[t, k, tap].

Every entry of the target's kernel is one subset sum with the base set {V[l, t] U[t, k, tap] : t in block l, U > 0}. V
is shared by all entries of an output; half of a block of 2m channels is usable for each. For inputs x <= 0 the same
holds with U < 0.

A Linear layer is a 1x1 convolution on maps of one pixel. Stride, dilation, padding and groups are those of U; entries
that groups leave out need no subset sum. Padding with zeros is right because relu(0) = 0.

Where inputs of both signs occur, mixed channels would be cut off by the ReLU and the sums would not merge. Setting
``signed`` says what such a layer gets instead, each of which is right for any input, up to the border:

* ``pointwise``: the other order, 1x1 first, of :mod:`slth.constructions.two_for_one`;
* ``taps``: the paper's order with kernels that keep one tap each, of both signs, a block of them for every entry that
  every output may read: taps times as many channels;
* ``split``: a fixed first layer, relu(x) and relu(-x), neither of which is negative, and kernels for K and -K;
* ``shift``: x + s, with s from the declared domain and padding with s where the target pads with 0. What that adds,
  s times the sum of the kernel, is taken back by the bias, which is found after the kernel and for the kernel as it
  came out.

Average pooling stays the same operation in both networks, or with ``pooling`` is a convolution to be found
(:mod:`slth.network.pooling_layers`).

Differs: biases, which the paper leaves out, are one more entry of every kernel: a channel may keep its bias b > 0,
which leaves the ReLU open as well, is constant up to the border, and adds V[l, t] b to output l ("d^2 to d^2 + 1"); no
channels are set aside for it. V is drawn from U[-scale, scale], so that kernels need no normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions import subset_sums
from slth.constructions.base import Found, Work
from slth.constructions.shift import moved, shifts
from slth.constructions.subset_sums import Chosen, Piece, Solved, SubsetSumConstruction, solved
from slth.constructions.two_for_one import LARGEST_BASE_SET, BlockByBlock
from slth.errors import ArgumentError
from slth.mask import BlockMask, EitherSignMask, KernelMask, Mask
from slth.network.graph import Graph, Sign
from slth.network.pooling_layers import FIXED, pool
from slth.network.target import Target, WeightLayer
from slth.plan import Goal, LayerPlan, Plan, Size, Wishes
from slth.source.kernels import KernelSource
from slth.source.signed import ShiftedSource, SplitSource, TapSource
from slth.source.spec import BlockSource, SourceLayer

_POINTWISE_FIRST = BlockByBlock()
"""For inputs of both signs."""

POINTWISE, TAPS, SHIFT, SPLIT = "pointwise", "taps", "shift", "split"
_KINDS: dict[str, type[SourceLayer]] = {
    POINTWISE: BlockSource,
    TAPS: TapSource,
    SHIFT: ShiftedSource,
    SPLIT: SplitSource,
}
WAYS = tuple(_KINDS)
"""What to do with inputs of both signs."""


class Conv(SubsetSumConstruction):
    """A block of whole kernels for every output, merged by 1x1 weights."""

    name = "conv"
    source_type = KernelSource
    mask_type = KernelMask
    default_size = 20
    largest_size = LARGEST_BASE_SET
    initialisations = ("uniform",)
    even_width = True
    any_law = True
    settings = MappingProxyType({"signed": POINTWISE, "pooling": FIXED})

    def hidden(self, target: Target, settings: Mapping[str, Any]) -> Target:
        """The target, or the same with average pooling as a convolution."""
        return pool(target, settings.get("pooling", FIXED))

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse an unknown way, a shift of nobody knows what, and base sets too small to reach the tolerance."""
        way = wishes.settings["signed"]
        if way not in WAYS:
            raise ArgumentError("signed", repr(way), " or ".join(WAYS), f"--set signed={POINTWISE}")
        _POINTWISE_FIRST.check(_moved(target, wishes)[0], wishes, size)

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Blocks of 2m channels for an expected m usable ones; scales as for any product of two weights."""
        return _POINTWISE_FIRST.size(layer, sign, wishes, goal)

    def sizes(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
        """As :meth:`size`; where inputs are shifted, scales must do for biases that make up for it."""
        aims, shift = _moved(target, wishes)
        made = super().sizes(aims, signs, wishes, goals)
        return [
            replace(size, own={"shift": shift[layer.name]}) if layer.name in shift else size
            for layer, size in zip(target, made, strict=True)
        ]

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float] | None:
        """As for any product of two weights; where inputs are shifted, nothing is known of the biases."""
        return None if wishes.settings.get("signed") == SHIFT else _POINTWISE_FIRST.foresee(layer, wishes, size)

    def layout(self, order: str) -> type[SourceLayer]:
        """The source's type by what its two layers read and keep."""
        kinds: tuple[type[SourceLayer], ...] = (KernelSource, *_KINDS.values())
        return {kind.order: kind for kind in kinds}.get(order, BlockSource)

    def order(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any]) -> str:
        """Kernels first where one sign is known of the input; elsewhere as the setting has it."""
        if sign is not Sign.SIGNED:
            return KernelSource.order
        way = settings.get("signed", POINTWISE)
        # Of kernels with one tap both orders are the same.
        return _KINDS[POINTWISE if way == TAPS and layer.weight[0, 0].numel() == 1 else way].order

    def connect(self, graph: Graph, sources: tuple[SourceLayer, ...]) -> tuple[SourceLayer, ...]:
        """With biases wherever inputs are shifted."""
        return tuple(replace(source, bias=True) if isinstance(source, ShiftedSource) else source for source in sources)

    def mask_layout(self, source: SourceLayer) -> type[Mask]:
        """Of blocks where neurons keep one weight each."""
        if isinstance(source, BlockSource):
            return BlockMask
        return EitherSignMask if isinstance(source, SplitSource | ShiftedSource) else KernelMask

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Solve piece after piece, in the source's order."""
        if isinstance(source, BlockSource):
            return _POINTWISE_FIRST.find(source, layer, plan, layer_plan, work)
        if isinstance(source, ShiftedSource):
            return self._find_shifted(source, layer, plan, layer_plan, work)
        return super().find(source, layer, plan, layer_plan, work)

    def pieces(self, source: KernelSource, layer: WeightLayer, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """One problem an entry of a kernel and one a bias, output by output."""
        targets = layer.weight_array().reshape(source.outputs, -1)
        if isinstance(source, SplitSource):
            targets = np.concatenate([targets, -targets], axis=1)
        bias = layer.bias_array()
        if bias is not None:
            targets = np.concatenate([targets, bias[:, None]], axis=1)
        return _pieces(source, plan, targets, slice(None), elements)

    def _find_shifted(
        self, source: ShiftedSource, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work
    ) -> Found:
        """First the kernels, then biases that make up for what the shift adds with the kernels as they came out."""
        targets = layer.weight_array().reshape(source.outputs, -1)
        total = targets.size + source.outputs
        kernels = _pieces(source, layer_plan, targets, slice(0, -1), subset_sums.ELEMENTS_AT_ONCE)
        first = list(solved(kernels, plan, layer_plan, work, total))
        errors = np.concatenate([part.reshape(-1, targets.shape[1]) for _, _, part, _ in first])
        sums = np.concatenate([part.reshape(-1, targets.shape[1]) for _, _, _, part in first])
        own = layer.bias_array()
        aims = -source.shift * np.array([math.fsum(row) for row in sums]) + (0.0 if own is None else own)
        biases = _pieces(source, layer_plan, aims[:, None], slice(-1, None), subset_sums.ELEMENTS_AT_ONCE)
        second = list(solved(biases, plan, layer_plan, work, total, targets.size))
        left = np.concatenate([part for _, _, part, _ in second])
        chosen = [_joined(*parts) for parts in zip(first, second, strict=True)]
        if own is None:
            # Nobody's bias, but an error all the same: it counts with the first weight of its output.
            errors[:, 0] = np.maximum(errors[:, 0], left)
            left = left[:0]
        return Found(self.mask(source, layer_plan, chosen), np.concatenate([errors.ravel(), left]))

    def mask(self, source: KernelSource, plan: LayerPlan, chosen: list[Chosen]) -> Mask:
        """Keep the chosen entries."""
        branch = source.branch(plan.input_sign.branches)

        def flags() -> Iterator[NDArray[np.bool_]]:
            for answers in chosen:
                start, stop = answers.place
                _, member = source.base_sets(start, stop, branch)
                member[member] = answers.flags
                yield member.transpose(0, 2, 1).reshape(-1, source.entries)

        kind = EitherSignMask if self.mask_layout(source) is EitherSignMask else KernelMask
        return kind.build(source, branch, flags())

    def weight_errors(
        self, source: KernelSource, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The problems' own; where relu(x) and relu(-x) are read, the worse of the two for every weight."""
        if not isinstance(source, SplitSource):
            return errors
        rows = errors.reshape(-1, source.entries)
        halves = rows[:, : source.kernel_entries].reshape(len(rows), 2, -1)
        return np.concatenate([halves.max(axis=1).ravel(), rows[:, source.kernel_entries :].ravel()])


def _moved(target: Target, wishes: Wishes) -> tuple[Target, dict[str, float]]:
    """The target with biases as they are aimed at where inputs are shifted, and the shifts of those layers."""
    if wishes.settings["signed"] != SHIFT:
        return target, {}
    found = shifts(target, wishes.domain)
    layers = tuple(moved(layer, found[layer.name]) if layer.name in found else layer for layer in target)
    return replace(target, layers=layers), found


def _pieces(
    source: KernelSource, plan: LayerPlan, targets: NDArray[np.float64], entries: slice, elements: int
) -> Iterator[Piece]:
    """Problems of some entries of all kernels, the targets' (outputs, entries)."""
    for start, stop in source.ranges(elements):
        u, member = source.base_sets(start, stop, source.branch(plan.input_sign.branches))
        v = source.outgoing(np.arange(start * source.block_width, stop * source.block_width))
        u, member = u[:, entries], member[:, entries]
        products = u.astype(np.float64) * v.astype(np.float64).reshape(stop - start, 1, -1)
        yield Piece(products[member], member.sum(axis=2).ravel(), targets[start:stop].ravel(), (start, stop))


def _joined(kernels: Solved, biases: Solved) -> Chosen:
    """The answers of one range of outputs, of each output those of its kernel and then that of its bias."""
    parts = []
    for piece, flags, _, _ in (kernels, biases):
        start, stop = piece.place
        parts.append(np.split(flags, np.cumsum(piece.sizes.reshape(stop - start, -1).sum(axis=1))[:-1]))
    flags = np.concatenate([part for pair in zip(*parts, strict=True) for part in pair])
    return Chosen(kernels[0].place, np.packbits(flags), flags.size)
