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

Where inputs of both signs occur, mixed channels would be cut off by the ReLU and the sums would not merge. Such a layer
gets the other order, 1x1 first, of :mod:`slth.constructions.two_for_one`, which is right for any input.

Differs: biases, which the paper leaves out, are one more entry of every kernel: a channel may keep its bias b > 0,
which leaves the ReLU open as well, is constant up to the border, and adds V[l, t] b to output l ("d^2 to d^2 + 1"); no
channels are set aside for it. V is drawn from U[-scale, scale], so that kernels need no normalisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Found, Work
from slth.constructions.subset_sums import Chosen, Piece, SubsetSumConstruction
from slth.constructions.two_for_one import LARGEST_BASE_SET, TwoForOne
from slth.mask import BlockMask, KernelMask, Mask
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import Goal, LayerPlan, Plan, Size, Wishes
from slth.source.kernels import KernelSource
from slth.source.spec import BlockSource, SourceLayer

_POINTWISE_FIRST = TwoForOne()
"""For inputs of both signs."""


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

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse a base set too small to reach the tolerance for every weight."""
        _POINTWISE_FIRST.check(target, wishes, size)

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Blocks of 2m channels for an expected m usable ones; scales as for any product of two weights."""
        return _POINTWISE_FIRST.size(layer, sign, wishes, goal)

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float]:
        """As for any product of two weights."""
        return _POINTWISE_FIRST.foresee(layer, wishes, size)

    def layout(self, order: str) -> type[SourceLayer]:
        """The source's type by the order of its two layers."""
        return KernelSource if order == KernelSource.order else BlockSource

    def order(self, sign: Sign) -> str:
        """Kernels first where one sign is known of the input."""
        return BlockSource.order if sign is Sign.SIGNED else KernelSource.order

    def mask_layout(self, source: SourceLayer) -> type[Mask]:
        """Of blocks for layers in the other order."""
        return BlockMask if isinstance(source, BlockSource) else KernelMask

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Solve piece after piece, in the source's order."""
        if isinstance(source, BlockSource):
            return _POINTWISE_FIRST.find(source, layer, plan, layer_plan, work)
        return super().find(source, layer, plan, layer_plan, work)

    def pieces(self, source: KernelSource, layer: WeightLayer, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """One problem an entry of a kernel and one a bias, output by output."""
        targets = layer.weight_array().reshape(source.outputs, -1)
        bias = layer.bias_array()
        if bias is not None:
            targets = np.concatenate([targets, bias[:, None]], axis=1)
        for start, stop in source.ranges(elements):
            u, member = source.base_sets(start, stop, _sign(plan))
            v = source.outgoing(np.arange(start * source.block_width, stop * source.block_width))
            products = u.astype(np.float64) * v.astype(np.float64).reshape(stop - start, 1, -1)
            sizes = member.sum(axis=2).ravel()
            yield Piece(products[member], sizes, targets[start:stop].ravel(), (start, stop))

    def mask(self, source: KernelSource, plan: LayerPlan, chosen: list[Chosen]) -> Mask:
        """Keep the chosen entries."""

        def flags() -> Iterator[NDArray[np.bool_]]:
            for answers in chosen:
                start, stop = answers.place
                _, member = source.base_sets(start, stop, _sign(plan))
                member[member] = answers.flags
                yield member.transpose(0, 2, 1).reshape(-1, source.entries)

        return KernelMask.build(source, _sign(plan), flags())

    def weight_errors(
        self, source: KernelSource, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The problems' own: there is one for every weight and bias."""
        return errors


def _sign(plan: LayerPlan) -> int:
    (branch,) = plan.input_sign.branches
    return branch
