"""One source layer for one target layer, after a first target layer that takes two: depth L + 1.

Burkholz 2022, Theorems 2.7 and 2.9. Source layer 1 has the univariate neurons of two-for-one, source layer 2 several
copies of every neuron of target layer 1: two-for-one with every row repeated, each copy with random weights of its own.
From there on a source layer reads m copies x_j^(1), ..., x_j^(m) of every neuron j of the layer before, and copy r of
output o keeps of its own random weights w the subset I_j of each base set that adds up to the target's weight,

    sum over k in I_j of w[o, r, j, k] x_j^(k)  =  about W[o, j] x_j.

The elements are the weights themselves, whatever the sign of x and whatever the activation. A layer makes as many
copies as the base sets of the next layer have elements; the last one makes 1. Copies agree up to their errors only, so
that there is no network of the target's own architecture that computes exactly the same.

Biases of later layers have nothing but constants to come from. Source layer 2 makes m constant channels from its
biases, each a subset sum near some number above 0, and every later layer makes those of the next one from those that it
reads. A bias is a subset sum over w c with c the constants as they came out, behind the target's activation, so that
their errors do not add up.

Where branches meet, x + f(x), copy k of x is added to copy k of f(x), with equally many copies of both, and one of the
layers makes the constants while the others prune those channels (:mod:`slth.network.streams`). Every layer that reads
the network's input takes two source layers, as the first one does.

With the looks-linear initialisation the neurons of source layer 1 come in mirrored pairs, so that any activation may
lie between the first two layers (Theorem 2.6). Later layers have independent weights.

Extra depth: the target is given identity layers first (:mod:`slth.network.deepen`), each of which is then one more
layer of the source.

Differs: convolutions, where a base set belongs to one tap, and constants are read at a tap that sees no padding; base
sets have a size and not a theorem's width; weights are drawn from U[-s, s] with s from the layer's largest weight, or
from another law of the same variance, and the constants are aimed at what half of their base sets can reach, at most 1;
later layers are not laid out as [[M, -M], [-M, M]] (Assumption 2.2), as copies of -x serve no weight there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.constructions.base import Found, Work
from slth.constructions.subset_sums import Chosen, Piece, SubsetSumConstruction
from slth.constructions.two_for_one import LARGEST_BASE_SET, BlockByBlock
from slth.copies import NONE, ConstantFlow, Constants, first_constants, next_constants, widened
from slth.errors import ArgumentError
from slth.mask import BlockMask, CopyMask, Mask
from slth.mask.copies import pack
from slth.network.deepen import deepen
from slth.network.graph import Graph, Sign
from slth.network.streams import streams
from slth.network.target import Target, WeightLayer
from slth.network.widen import CopyLayout, Widened, widen
from slth.plan import INITIALISATIONS, Goal, LayerPlan, Plan, Size, Wishes, magnitudes
from slth.source.copies import CopySource
from slth.source.scales import float32_above
from slth.source.spec import BlockSource, SourceLayer


class _FirstHalf(BlockByBlock):
    """Two-for-one with errors row by row: the weights of an output, then its bias."""

    def weight_errors(
        self, source: BlockSource, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """As the parent's, in another order."""
        flat = super().weight_errors(source, piece, errors, sums)
        if not source.bias:
            return flat
        n_rows = piece.place.stop - piece.place.start
        inputs, biases = flat[:-n_rows].reshape(n_rows, -1), flat[-n_rows:, None]
        return np.concatenate([inputs, biases], axis=1).ravel()


_FIRST = _FirstHalf()


@dataclass(frozen=True)
class _Fed(WeightLayer):
    """A target layer, the constants that its source layer reads, and whether it makes some."""

    constants: Constants = NONE
    makes_constants: bool = False


class OneForOne(SubsetSumConstruction):
    """Copies of every neuron, and for each of them its own subset of the copies before."""

    name = "one-for-one"
    source_type = BlockSource
    mask_type = BlockMask
    default_size = 20
    largest_size = LARGEST_BASE_SET
    initialisations = INITIALISATIONS
    any_activation = True
    any_law = True
    settings = MappingProxyType({"extra_depth": 0})

    def hidden(self, target: Target, settings: Mapping[str, Any]) -> Target:
        """The target with the identity layers of its extra depth."""
        if not settings.get("extra_depth", 0):
            # What copies cannot be carried through is refused before any work.
            streams(target.graph)
        return deepen(target, settings.get("extra_depth", 0))

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse a graph in which copies cannot be carried, and base sets too small to reach the tolerance."""
        widen(target.graph, [size] * len(target.layers))
        _FIRST.check(target, wishes, size)

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Of the first layer; see :meth:`sizes`."""
        return _FIRST.size(layer, sign, wishes, goal)

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float]:
        """As for any product of two weights; what copies differ by, and what that adds up to, is not foreseen."""
        return _FIRST.foresee(layer, wishes, size)

    def level(self, target: Target, goals: Sequence[Goal]) -> list[Goal]:
        """Base sets as large as the largest of a stream, for all layers that read it."""
        sizes = streams(target.graph).even([int(goal.base_set_size) for goal in goals])
        return [dataclasses.replace(goal, base_set_size=size) for goal, size in zip(goals, sizes, strict=True)]

    def sizes(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
        """Blocks of the first layers as in two-for-one; then m copies, and scales that reach the weights.

        Layers that read the same, or what meets in a sum, read as many copies as the largest of their base sets has.
        """
        sizes = [int(goal.base_set_size) for goal in self.level(target, goals)]
        made = []
        for layer, layout, goal, size in zip(target, widen(target.graph, sizes).layouts, goals, sizes, strict=True):
            if not layout.reads_copies:
                made.append(self.size(_repeated(layer, layout.copies_out), signs[layer.name], wishes, goal))
                continue
            # Copies differ, and what they differ by counts with the sum of the kept weights: no scale beyond need.
            scale = float32_above(float(magnitudes(layer).max(initial=0.0)) / wishes.law.spread) or 1.0
            made.append(Size(size, scale, wishes.law))
        return made

    def connect(self, graph: Graph, sources: tuple[SourceLayer, ...]) -> tuple[SourceLayer, ...]:
        """The first layers with all of their rows, the others with their copies."""
        layouts = widened(graph, sources).layouts
        for source, layout in zip(sources, layouts, strict=True):
            width = source.block_width
            if layout.reads_copies and not 1 <= width <= self.largest_size:
                raise ArgumentError("block_width", str(width), f"1 to {self.largest_size} copies")
            if not layout.reads_copies and source.mirrored and width % 2:
                raise ArgumentError("block_width", str(width), "an even number, for mirrored pairs")
        return tuple(map(_connected, sources, layouts))

    def mask_layout(self, source: SourceLayer) -> type[Mask]:
        """Of blocks for the first layer, then of copies."""
        return CopyMask if isinstance(source, CopySource) else BlockMask

    def check_masks(self, graph: Graph, sources: Sequence[SourceLayer], masks: Sequence[Mask]) -> None:
        """Refuse constants that are not."""
        for source, mask, layout in zip(sources, masks, widened(graph, sources).layouts, strict=True):
            if not layout.reads_copies:
                first_constants(source, mask, layout.constants_out)

    def find_layers(
        self,
        target: Target,
        sources: Sequence[SourceLayer],
        plan: Plan,
        work: Callable[[WeightLayer], Work],
        known: Sequence[Mask | None],
    ) -> Iterator[Found | None]:
        """Layer after layer, with the constants as they come out; known masks stand as long as all before them do."""
        wide, flow, stands = widened(target.graph, sources), ConstantFlow(target.graph), True
        for number, (layer, source, layer_plan) in enumerate(zip(target, sources, plan.layers, strict=True)):
            mask, found, layout = known[number], None, wide.layouts[number]
            constants, stands = flow.read_by(layer.node), stands and mask is not None
            if isinstance(source, CopySource):
                if mask is None or not stands:
                    makes = layout.makes_constants
                    fed = _Fed(layer.node, layer.weight, layer.bias, constants=constants, makes_constants=makes)
                    found = self.find(source, fed, plan, layer_plan, work(layer))
                    mask = found.mask
                assert isinstance(mask, CopyMask)
                flow.made_by(layer.node, next_constants(source, mask, constants))
            else:
                if mask is None or not stands:
                    found = _find_first(wide, layout, source, layer, plan, layer_plan, work(layer))
                    mask = found.mask
                flow.made_by(layer.node, first_constants(source, mask, layout.constants_out))
            yield found

    def n_problems(self, source: CopySource, layer: WeightLayer, plan: LayerPlan) -> int:
        """Of all copies, about."""
        return layer.n_weights * source.copies_out

    def pieces(self, source: CopySource, layer: Any, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """One problem a copy of a weight, then one a copy of a bias; those of the constants are the last piece.

        Rows for constants that another layer makes have no problem, and keep nothing.
        """
        targets, bias = layer.weight_array(), layer.bias_array()
        constants: Constants = layer.constants
        reach = source.whole_scales[1] * source.law.spread * float(np.abs(constants.values).sum()) / 4
        for start, stop in source.ranges(elements):
            if start >= source.data_rows and not layer.makes_constants:
                continue
            weight = source.weight(start, stop)
            base_sets, sizes, wanted = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0)]
            if start < source.data_rows:
                parts = source.inputs(weight).astype(np.float64)
                rows = targets[start // source.copies_out : stop // source.copies_out]
                base_sets.append(parts.ravel())
                sizes.append(np.full(parts[..., 0].size, source.block_width, np.int64))
                wanted.append(np.repeat(rows, source.copies_out, axis=0).ravel())
            if start >= source.first_constant_row:
                base_sets.append((source.constants(weight).astype(np.float64) * constants.values).ravel())
                sizes.append(np.full(stop - start, source.constants_in, np.int64))
                if start >= source.data_rows:
                    wanted.append(np.full(stop - start, _aim(reach)))
                else:
                    own = bias[start // source.copies_out : stop // source.copies_out]
                    wanted.append(np.repeat(own, source.copies_out))
            yield Piece(np.concatenate(base_sets), np.concatenate(sizes), np.concatenate(wanted), (start, stop))

    def mask(self, source: CopySource, plan: LayerPlan, chosen: list[Chosen]) -> CopyMask:
        """Keep the chosen weights."""
        copies, constants, done = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)], 0
        for answers in chosen:
            start, stop = answers.place
            done = stop
            flags, n_rows, n_inputs = answers.flags, stop - start, 0
            if start < source.data_rows:
                n_inputs = n_rows * source.inputs_per_group * source.taps * source.block_width
                copies.append(pack(flags[:n_inputs].reshape(n_rows, -1)))
            if start >= source.first_constant_row:
                constants.append(pack(flags[n_inputs:].reshape(n_rows, -1)))
        if done < source.rows:
            constants.append(pack(np.zeros((source.rows - done, source.constants_in), np.bool_)))
        return CopyMask(np.concatenate(copies), np.concatenate(constants))

    def weight_errors(
        self, source: CopySource, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The worst of the copies, weights before biases; constants are nobody's weights."""
        start, stop = piece.place
        if start >= source.data_rows:
            return np.zeros(0)
        n_rows = stop - start
        n_inputs = n_rows * source.inputs_per_group * source.taps
        inputs = errors[:n_inputs].reshape(-1, source.copies_out, n_inputs // n_rows).max(axis=1).ravel()
        return np.concatenate([inputs, errors[n_inputs:].reshape(-1, source.copies_out).max(axis=1)])


def _first_reach(source: SourceLayer) -> float:
    """What the elements of one sign of a bias block are expected to add up to.

    About a quarter of its neurons serve one, those with a positive bias and an element of the right sign. An element is
    about half of the scale, times what the activation makes of half of the biases' scale.
    """
    (expand, combine), phi = source.whole_scales, source.activation
    middle = expand * source.law.spread / 2
    passed = float(phi.value(middle)) - (float(phi.value(-middle)) if source.mirrored else 0.0)
    return combine * source.law.spread * abs(passed) * source.block_width / 8


def _aim(reach: float) -> float:
    """What constants are aimed at, given what the elements of one sign are expected to add up to."""
    return min(1.0, reach)


def _repeated(layer: WeightLayer, times: int) -> WeightLayer:
    """The layer with every row several times."""
    bias = None if layer.bias is None else layer.bias.repeat_interleave(times)
    return WeightLayer(layer.node, layer.weight.repeat_interleave(times, dim=0), bias)


def _connected(source: SourceLayer, layout: CopyLayout) -> SourceLayer:
    if not layout.reads_copies:
        outputs = source.outputs * layout.copies_out + layout.constants_out
        bias = source.bias or (layout.makes_constants and layout.constants_out > 0)
        return dataclasses.replace(source, outputs=outputs, bias=bias)
    common = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    return CopySource(
        **common,
        copies_out=layout.copies_out,
        constants_in=layout.constants_in,
        constants_out=layout.constants_out,
        positions=layout.positions,
        constant_tap=layout.constant_tap,
    )


def _find_first(
    wide: Widened,
    layout: CopyLayout,
    source: SourceLayer,
    layer: WeightLayer,
    plan: Plan,
    layer_plan: LayerPlan,
    work: Work,
) -> Found:
    """Two-for-one for a layer with every row repeated, and rows of nothing but a bias for the constants."""
    node = wide.graph.by_name[layer.name]
    data = _repeated(layer, layout.copies_out)
    weight = torch.cat([data.weight, data.weight.new_zeros((layout.constants_out, *data.weight.shape[1:]))])
    bias = None
    if source.bias:
        own = data.weight.new_zeros(len(data.weight)) if data.bias is None else data.bias
        reach = _first_reach(source)
        constants = own.new_full((layout.constants_out,), _aim(reach) if layout.makes_constants else 0.0)
        bias = torch.cat([own, constants])
    found = _FIRST.find(source, WeightLayer(node, weight, bias), plan, layer_plan, work)
    rows = found.errors.reshape(len(weight), -1)[: len(layer.weight) * layout.copies_out]
    errors = rows.reshape(len(layer.weight), layout.copies_out, -1).max(axis=1)
    n_inputs = layer.weight[0].numel()
    parts = [errors[:, :n_inputs].ravel()] + ([] if layer.bias is None else [errors[:, n_inputs]])
    return Found(found.mask, np.concatenate(parts))
