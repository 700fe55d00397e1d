"""Two source layers for one target layer, by univariate intermediate neurons.

Pensia et al. 2020, Theorem 1; Burkholz 2022, Theorem 2.5; da Cunha et al. 2022 for convolutions in 1x1-first order.

A target layer computes sum_j w[o, j] x_j + b[o] (for a convolution: at each tap of the kernel). Every intermediate
neuron of block j is pruned until it reads x_j alone, t = relu(u_t x_j), so that keeping the combining weights v[o, t]
of a subset of a block realises the slope

    sum of v[o, t] u_t over the kept t with u_t > 0    for x_j >= 0,
    sum of v[o, t] u_t over the kept t with u_t < 0    for x_j <= 0.

Each is one subset sum with the target w[o, j] (at each tap for itself), and a sign that x_j cannot take needs none. The
neurons of the bias block keep their bias alone, and the subset sum of v[o, t] relu(b_t) has the target b[o].

With the looks-linear initialisation neurons come in mirrored pairs, v relu(u x) - v relu(-u x) = v u x, so that one
subset sum over pairs serves both signs.

Other activations phi between the two layers (Burkholz 2022, Theorems 2.5 and 2.6): near 0 they are two lines, of slopes
m_plus and m_minus, through phi(0) = d. Univariate weights are then scaled down until that is true wherever the input
may be. With S_+ and S_- the sums over u > 0 and u < 0, the slope for x > 0 is m_plus S_+ + m_minus S_-, and the other
way round for x < 0, so both sums have the target w / (m_plus + m_minus). Where m_plus = m_minus and d = 0, one sum over
the whole block serves both signs. In mirrored pairs d and the even part of phi cancel, and one sum over pairs has the
target w / (m_plus + m_minus). The bias block adds v phi(b).

Differs: zero padding is applied to the layer's input rather than to the intermediate channels (equal for the input
blocks, because relu(u 0) = 0), so that the bias block is constant up to the border and any tap may carry it; the
central one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.bounds.base_sets import choose_scale, covering_size, foreseen_errors, sufficient_size
from slth.constructions.subset_sums import Chosen, Piece, SubsetSumConstruction
from slth.errors import ArgumentError
from slth.mask import BlockMask
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import INITIALISATIONS, Goal, LayerPlan, Size, Wishes, magnitudes
from slth.source.balanced import BalancedSource, balanced_width
from slth.source.spec import BlockSource, SourceLayer

LARGEST_BASE_SET = 40
"""Largest expected size of a base set (chosen): blocks vary, and a subset sum of 44 takes the solver milliseconds."""


@dataclass(frozen=True)
class _Columns:
    """Usable elements of one group, sorted by the problem that they serve.

    ``neurons`` holds the element's neuron, counted from the group's first (of a mirrored pair the first one), inputs
    before biases; ``counts`` the size of each (block, sign) base set of the inputs.
    """

    neurons: NDArray[np.int64]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    n_inputs: int


@dataclass(frozen=True)
class _Place:
    start: int
    stop: int
    group: int
    columns: _Columns
    n_blocks: int
    n_branches: int
    taps: int

    @property
    def n_problems(self) -> int:
        """Problems of the inputs; those of the biases follow."""
        return (self.stop - self.start) * self.taps * self.n_blocks * self.n_branches


class TwoForOne(SubsetSumConstruction):
    """Blocks of univariate neurons for every input channel, then a layer of the target's shape.

    Differs: neurons that their block cannot use serve other blocks, see :mod:`slth.source.balanced`.
    """

    name = "two-for-one"
    source_type = BlockSource
    mask_type = BlockMask
    default_size = 20
    largest_size = LARGEST_BASE_SET
    initialisations = INITIALISATIONS
    even_width = True
    any_activation = True
    any_law = True
    exchanges = True
    """Whether neurons may serve another block than their own."""

    def _balances(self, wishes: Wishes) -> bool:
        """Whether neurons are exchanged between blocks: of mirrored pairs, and of equal slopes, all are usable."""
        return self.exchanges and not wishes.mirrored and not wishes.activation.one_sum

    def _every(self, wishes: Wishes) -> bool:
        """Whether all base sets have as many elements as were asked for."""
        return wishes.mirrored or wishes.activation.one_sum or self._balances(wishes)

    def _width(self, layer: WeightLayer, wishes: Wishes, size: int) -> int:
        """Neurons a block."""
        if self._balances(wishes):
            return balanced_width(size, layer.weight.shape[1] + int(layer.bias is not None))
        return size + size % 2 if wishes.activation.one_sum and not wishes.mirrored else 2 * size

    def layout(self, order: str) -> type[SourceLayer]:
        """Balanced blocks, or plain ones where all of a block is usable anyway."""
        return BalancedSource if order == BalancedSource.order else BlockSource

    def _kind(
        self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any], own: Mapping[str, Any]
    ) -> type[SourceLayer]:
        """Balanced blocks where base sets have a size of their own."""
        return BalancedSource if "elements" in own else BlockSource

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse a base set too small to reach the tolerance for every weight."""
        if wishes.tolerance is not None:
            by_layer = {layer.name: magnitudes(layer) for layer in target}
            _check_reach(by_layer, size, wishes.tolerance, self._every(wishes))

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Blocks for m usable elements, and the scales that serve the layer's weights best.

        Half of the draws have the sign that a branch needs, so a block has 2m neurons, exchanged between blocks until
        each has its m, and a few more where there is little to exchange; with the looks-linear initialisation those are
        m mirrored pairs, each usable. Where one subset sum serves both signs of the input, m neurons (if m is odd, one
        more) are enough.
        """
        phi, size = wishes.activation, goal.base_set_size
        if phi.d != 0 and not wishes.mirrored:
            got = f"{phi.text}, which is {phi.d:.3g} at 0, with independent weights"
            raise ArgumentError(
                "source activation", got, "mirrored pairs, in which that cancels", "--initialisation looks-linear"
            )
        scale = choose_scale(magnitudes(layer), size, self._every(wishes), goal.tolerance)
        expand = _expand_scale(layer.name, wishes)
        with np.errstate(over="ignore"):
            scale = float(np.float32(scale / (expand * _factor(phi, wishes.mirrored, sign) * wishes.law.spread**2)))
        own = {"elements": size, "input_sign": sign} if self._balances(wishes) else {}
        return Size(self._width(layer, wishes, size), scale, wishes.law, expand, own=own)

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float]:
        """From the law of products of two uniform numbers."""
        return foreseen_errors(magnitudes(layer), size, self._every(wishes), layer.weight[0].numel())

    def cost(self, layer: WeightLayer, sign: Sign, wishes: Wishes, size: int) -> int:
        """Of blocks as wide as they will be."""
        width = self._width(layer, wishes, size)
        return self._shaped(layer, sign, wishes.settings, block_width=width).n_weights

    def pieces(self, source: BlockSource, layer: WeightLayer, plan: LayerPlan, elements: int) -> Iterator[Piece]:
        """One problem a weight and sign of its input, then one a bias, for some rows of one group at a time."""
        weight = layer.weight_array().reshape(source.outputs, source.input_blocks, source.combine_taps)
        bias = layer.bias_array()
        univariate = source.univariate_weights().reshape(source.groups, source.neurons_per_group)
        rows_per_group = source.outputs // source.groups
        step = max(1, elements // (source.neurons_per_group * source.combine_taps))
        branches = _branches(source, plan)
        for group in range(source.groups):
            columns = _columns(source, group, univariate[group], plan)
            for start in range(group * rows_per_group, (group + 1) * rows_per_group, step):
                stop = min(start + step, (group + 1) * rows_per_group)
                place = _Place(start, stop, group, columns, source.input_blocks, len(branches), source.combine_taps)
                yield _piece(source, place, weight[start:stop], None if bias is None else bias[start:stop])

    def mask(self, source: BlockSource, plan: LayerPlan, chosen: list[Chosen]) -> BlockMask:
        """Keep the chosen combining weights, and the neurons of which at least one is chosen."""
        neurons = np.zeros((source.groups, source.neurons_per_group), dtype=np.bool_)
        rectified = source.activation.name == "relu"
        both = source.mirrored and (len(plan.input_sign.branches) == 2 or not rectified)
        univariate = source.univariate_weights().reshape(source.groups, source.neurons_per_group)
        for answers in chosen:
            place: _Place = answers.place
            used = _bits(source, place, answers.flags).any(axis=(0, 2))
            for members in _members(source, plan, place.columns, univariate[place.group], both):
                neurons[place.group, members[used & (members >= 0)]] = True
        packed = []
        for answers in chosen:
            place = answers.place
            column_of = np.full(source.neurons_per_group, -1, dtype=np.int64)
            for members in _members(source, plan, place.columns, univariate[place.group], both):
                real = members >= 0
                column_of[members[real]] = np.flatnonzero(real)
            rows = _bits(source, place, answers.flags)[:, column_of[neurons[place.group]], :]
            packed.append(np.packbits(rows.reshape(len(rows), -1), axis=1).ravel())
        return BlockMask(neurons.ravel(), np.concatenate(packed) if packed else np.zeros(0, dtype=np.uint8))

    def weight_errors(
        self, source: BlockSource, piece: Piece, errors: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The worse of the two signs where a weight has both, then the biases.

        With an activation that is not 0 on one side, each sum works for both signs, in the shares of the two slopes.
        """
        place: _Place = piece.place
        n, phi = place.n_problems, source.activation
        inputs = errors[:n].reshape(-1, place.n_branches)
        if place.n_branches == 2 and phi.m_minus != 0.0:
            left = (piece.targets - sums)[:n].reshape(-1, 2)
            inputs = np.abs(phi.m_plus * left + phi.m_minus * left[:, ::-1]) / abs(phi.slope_sum)
        return np.concatenate([inputs.max(axis=1), errors[n:]])


class BlockByBlock(TwoForOne):
    """The same with neurons that serve their own block alone, as constructions have it that are made of it."""

    exchanges = False


_ANYWHERE = 2.0**100


def _expand_scale(name: str, wishes: Wishes) -> float:
    """The largest power of 2 up to 1 that keeps the activation near its lines wherever the layer's input may be.

    Burkholz 2022, Theorem 2.5: sigma = min(1, a(eps'') / M).

    Raises
    ------
    ArgumentError
        If it is not known where that is.
    """
    phi, remainder = wishes.activation, wishes.activation.remainder
    slope = min(abs(phi.m_plus), abs(phi.m_minus)) or 1.0
    if wishes.mirrored:
        remainder, slope = phi.odd_remainder, abs(phi.slope_sum)
    if remainder(_ANYWHERE) == 0.0:
        return 1.0
    reach = wishes.reaches[name]
    if not math.isfinite(reach):
        got = f"{phi.text}, which is a line only near 0, for inputs of any size"
        if wishes.unbounded and wishes.domain.bounded:
            need = f"a bound on what it reads, and none is known of what node {wishes.unbounded!r} gives"
            raise ArgumentError(f"layer {name!r}", got, need, "relu between the source layers")
        raise ArgumentError(f"layer {name!r}", got, "the domain of the network's input", "--domain 0,1")
    # Of biases the same is asked: they are drawn from the law too, times this scale.
    largest, power = max(reach, 1.0) * max(1.0, *map(abs, wishes.law.support)), 0
    while power > -126 and remainder(2.0**power * largest) > wishes.activation_error * slope * 2.0**power * largest:
        power -= 1
    return 2.0**power


def _factor(phi: Activation, mirrored: bool, sign: Sign) -> float:
    """What a product v u is multiplied by to be an element of a base set: a slope, or the sum of both."""
    if mirrored or (len(sign.branches) == 2 and not phi.one_sum):
        return phi.slope_sum
    return phi.m_plus


def _branches(source: BlockSource, plan: LayerPlan) -> tuple[int, ...]:
    """Signs of the input that need subset sums of their own; 0 where one serves both."""
    return (0,) if source.mirrored or source.activation.one_sum else plan.input_sign.branches


def _columns(source: BlockSource, group: int, univariate: NDArray[np.float32], plan: LayerPlan) -> _Columns:
    """Sort a group's usable elements by channel and sign; at most the source's largest base set each."""
    branches, sign = _branches(source, plan), plan.input_sign
    here = slice(group * source.neurons_per_group, (group + 1) * source.neurons_per_group)
    channels, usable = source.channels[here], None if source.usable is None else source.usable[here]
    phi = source.activation
    neuron = np.arange(source.neurons_per_group, dtype=np.int64)
    block = channels
    is_input = block >= 0
    if source.mirrored:
        first = neuron % 2 == 0
        problem = np.where(first & is_input, block, -1)
        is_bias = first & ~is_input
    elif phi.one_sum:
        problem, is_bias = np.where(is_input, block, -1), ~is_input
    else:
        branch_of = {sign: number for number, sign in enumerate(branches)}
        branch = np.where(univariate > 0, branch_of.get(1, -1), branch_of.get(-1, -1))
        problem = np.where(is_input & (branch >= 0), block * len(branches) + branch, -1)
        is_bias = ~is_input & ((univariate > 0) | (phi.m_minus != 0.0))
    if usable is not None:
        problem, is_bias = np.where(usable, problem, -1), is_bias & usable
    order = np.argsort(problem, kind="stable")
    order = order[problem[order] >= 0]
    counts = np.bincount(problem[order], minlength=source.input_blocks * len(branches))
    order = order[_ranks(counts) < source.largest_base_set]
    counts = np.minimum(counts, source.largest_base_set)
    biases = np.flatnonzero(is_bias)[: source.largest_base_set]
    u, b = univariate[order].astype(np.float64), univariate[biases].astype(np.float64)
    constants = phi.value(b) - phi.value(-b) if source.mirrored else phi.value(b)
    values = np.concatenate([u * _factor(phi, source.mirrored, sign), constants])
    return _Columns(np.concatenate([order, biases]), values, counts.astype(np.int64), len(order))


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ..., count - 1 for each count, one after another."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return np.arange(starts.size, dtype=np.int64) - starts


def _piece(source: BlockSource, place: _Place, weight: NDArray[np.float64], bias: NDArray[np.float64] | None) -> Piece:
    columns, n_rows, taps = place.columns, place.stop - place.start, source.combine_taps
    combine, n = source.combine_weight(place.start, place.stop), columns.n_inputs
    n_biases = 0 if bias is None else len(columns.neurons) - n
    # One array for all products, each computed where it stays: a layer's are far more than a cache holds.
    base_sets = np.empty(n_rows * (taps * n + n_biases))
    inputs = base_sets[: n_rows * taps * n].reshape(n_rows, taps, n)
    np.multiply(np.take(combine, columns.neurons[:n], axis=1).transpose(0, 2, 1), columns.values[:n], out=inputs)
    sizes = [np.tile(columns.counts, n_rows * taps)]
    targets = [np.repeat(weight.transpose(0, 2, 1).ravel(), place.n_branches)]
    if bias is not None:
        constants = base_sets[n_rows * taps * n :].reshape(n_rows, n_biases)
        np.multiply(combine[:, columns.neurons[n:], taps // 2], columns.values[n:], out=constants)
        sizes.append(np.full(n_rows, n_biases, dtype=np.int64))
        targets.append(bias)
    return Piece(base_sets, np.concatenate(sizes), np.concatenate(targets), place)


def _bits(source: BlockSource, place: _Place, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Chosen elements as (outputs, columns, taps)."""
    columns, n_rows = place.columns, place.stop - place.start
    bits = np.zeros((n_rows, source.combine_taps, len(columns.neurons)), dtype=np.bool_)
    n_inputs = n_rows * source.combine_taps * columns.n_inputs
    bits[:, :, : columns.n_inputs] = flags[:n_inputs].reshape(n_rows, source.combine_taps, columns.n_inputs)
    bits[:, source.combine_taps // 2, columns.n_inputs :] = flags[n_inputs:].reshape(n_rows, -1)
    return bits.transpose(0, 2, 1)


def _members(
    source: BlockSource, plan: LayerPlan, columns: _Columns, univariate: NDArray[np.float32], both: bool
) -> list[NDArray[np.int64]]:
    """Neurons that an element stands for: itself, or of a mirrored pair the active one or both (-1: none).

    With another activation than ReLU, both are active for every input, and for biases too.
    """
    if not source.mirrored:
        return [columns.neurons]
    if source.activation.name != "relu":
        return [columns.neurons, columns.neurons + 1]
    wanted = -1 if plan.input_sign.branches == (-1,) else 1
    is_bias = np.arange(len(columns.neurons)) >= columns.n_inputs
    sign = np.where(is_bias, 1, wanted)
    active = columns.neurons + (np.sign(univariate[columns.neurons]) != sign)
    if not both:
        return [active]
    other = columns.neurons + (active == columns.neurons)
    return [active, np.where(is_bias, -1, other)]


def _check_reach(
    magnitudes: Mapping[str, NDArray[np.float64]], base_set_size: int, tolerance: float, every: bool
) -> None:
    """Refuse a size that cannot serve the layer with the largest weight; name one that can serve them all."""
    tops = {name: float(values.max(initial=0.0)) for name, values in magnitudes.items()}
    name = max(tops, key=tops.__getitem__)
    needed = covering_size(tops[name], tolerance)
    if base_set_size >= needed:
        return
    enough: int | None = max(needed, 1)
    for values in magnitudes.values():
        enough = None if enough is None else sufficient_size(values, tolerance, every, enough, LARGEST_BASE_SET)
    remedy = (
        f"a base set of {enough}, the smallest that can be expected to, or a larger tolerance"
        if enough is not None
        else f"a larger tolerance: no base set up to {LARGEST_BASE_SET} can be expected to reach this one"
    )
    raise ArgumentError(
        f"layer {name!r}",
        f"base sets of {base_set_size} for weights up to {tops[name]:.3g} at tolerance {tolerance:g}",
        f"at least {needed} elements: 2^{base_set_size} sums cannot cover that range",
        remedy,
    )
