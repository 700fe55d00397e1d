"""Realised slopes against loops in exact integers, and the bound on their rounding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

import slth
from oracle import _UNIT, masked_layers, whole
from slth.mask import BIAS, BlockMask, CandidateMask, KernelMask, Mask, SlotMask
from slth.mask.slots import slots_per_group
from slth.realise import realise
from slth.source.spec import SourceLayer
from slth.ticket import LayerFacts
from zoo import Case, cases


@settings(max_examples=15)
@given(cases(largest_base_set=6))
def test_slopes_and_biases_equal_the_exact_sums_to_within_the_stated_slack(case: Case) -> None:
    ticket = case.find()
    for (source, mask, _), (_, _, dense) in zip(ticket.layers, masked_layers(ticket), strict=True):
        realised = realise(source, mask)
        for index in np.ndindex(*realised.positive.shape):
            for sign, slopes in ((1, realised.positive), (-1, realised.negative)):
                exact = dense.slope(*index, sign)
                assert abs(whole(slopes[index]) - exact) <= whole(realised.slack[index])
        for output in range(0 if realised.bias is None else source.outputs):
            assert abs(whole(realised.bias[output]) - dense.constant(output)) <= whole(realised.bias_slack[output])


def _expanded(ticket: slth.Ticket) -> list[tuple[SourceLayer, Mask, LayerFacts]]:
    """Layers for which the source has two, with neurons between them."""
    return [layer for layer in ticket.layers if layer[0].depth == 2]


def test_slack_is_a_few_units_in_the_last_place_and_not_more(ticket: slth.Ticket) -> None:
    """A bound that is always true because it is huge would ruin every proof."""
    for source, mask, _ in _expanded(ticket):
        realised = realise(source, mask)
        size = source.block_width * source.scale
        assert (realised.slack <= 2.0**-51 * (source.block_width * source.taps + 2) * size).all()
        assert (realised.slack > 0).any()


def _paths(source: SourceLayer, mask: Mask) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Incoming and outgoing weights of kept paths."""
    if isinstance(mask, KernelMask):
        for kernels in mask.pieces(source):
            row, entry = np.nonzero(kernels.flags)
            yield kernels.incoming[row, entry], kernels.outgoing[row]
        return
    kept = mask.expand(source)
    for piece in mask.entries(source):
        yield kept.value[piece.kept], piece.value


def test_products_of_float32_are_exact_in_float64(ticket: slth.Ticket) -> None:
    for source, mask, _ in _expanded(ticket):
        for u, v in _paths(source, mask):
            for a, b in list(zip(u.tolist(), v.tolist(), strict=True))[:20]:
                assert Fraction(a * b) == Fraction(a) * Fraction(b)
    assert _UNIT == 2**260


def test_survivors_are_the_weights_of_the_whole_source_and_as_many_as_stated(ticket: slth.Ticket) -> None:
    for source, mask, _ in _expanded(ticket):
        if isinstance(mask, KernelMask):
            _check_kernels(source, mask)
            continue
        kept = mask.expand(source)
        assert (np.diff(kept.neuron) > 0).all()
        expand, group = source.expand_weight(), kept.neuron // source.neurons_per_group
        for neuron, channel, value in zip(kept.neuron, kept.channel, kept.value, strict=True):
            assert value == (source.expand_bias()[neuron] if channel == BIAS else expand[neuron, channel])
        combine, n_entries, stop = source.combine_weight(0, source.combine_rows), 0, 0
        if isinstance(mask, CandidateMask):
            combine = combine[np.arange(source.outputs) * source.candidates + np.maximum(mask.candidate(source), 0)]
        for piece in mask.entries(source):
            assert piece.start == stop
            stop, n_entries = piece.stop, n_entries + len(piece.value)
            assert (np.diff(piece.output) >= 0).all() and ((piece.output >= piece.start) & (piece.output < stop)).all()
            assert (group[piece.kept] == piece.output // source.outputs_per_group).all()
            local = kept.neuron[piece.kept] % source.neurons_per_group
            np.testing.assert_array_equal(piece.value, combine[piece.output, local, piece.tap])
        assert stop == source.outputs and mask.n_kept == len(kept.neuron) + n_entries


def _check_kernels(source: SourceLayer, mask: KernelMask) -> None:
    """The same of kernels, by the dense masks and the whole tensors."""
    weights, biases, diagonal = mask.dense(source)
    combine = source.combine_weight(0, source.outputs)
    kept = [source.expand_weight()[neuron][weights[neuron]] for neuron in range(source.n_neurons)]
    if source.bias:
        kept = [np.append(k, source.expand_bias()[t : t + 1][biases[t : t + 1]]) for t, k in enumerate(kept)]
    expected = np.concatenate([*kept, combine[diagonal]])
    np.testing.assert_array_equal(np.concatenate(list(mask.survivors(source))), expected)
    assert mask.n_kept == len(expected) == weights.sum() + biases.sum() + diagonal.sum()


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_rows_are_walked_whole_whatever_the_piece(ticket: slth.Ticket, at_once: int) -> None:
    for source, mask, _ in ticket.layers:
        if not isinstance(mask, BlockMask):
            pytest.skip("a mask without rows")
        pieces = list(mask.rows(source, at_once))
        assert pieces[0][0] == 0 and pieces[-1][1] == source.outputs
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
        whole_rows = {start + row: flags[row] for start, _, _, _, flags in pieces for row in range(len(flags))}
        for start, _, _, _, flags in mask.rows(source):
            for row in range(len(flags)):
                np.testing.assert_array_equal(whole_rows[start + row], flags[row])
        assert sum(flags.sum() for flags in whole_rows.values()) + mask.neurons.sum() == mask.n_kept


def test_an_empty_mask_realises_zeros(ticket: slth.Ticket) -> None:
    source, mask, _ = ticket.layers[0]
    empty: Mask = SlotMask.build(source, np.zeros(source.groups * slots_per_group(source), int), np.zeros(0, int))
    if isinstance(mask, BlockMask):
        empty = BlockMask(np.zeros_like(mask.neurons), np.zeros(0, np.uint8))
    if isinstance(mask, KernelMask):
        empty = KernelMask(mask.sign, np.zeros_like(mask.neurons), np.zeros(0, np.uint8))
    realised = realise(source, empty)
    assert empty.n_kept == 0
    assert not realised.positive.any() and not realised.negative.any() and realised.one_branch
    assert realised.bias is not None and not realised.bias.any()
