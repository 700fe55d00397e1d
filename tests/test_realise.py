"""Realised slopes against loops in exact integers, and the bound on their rounding."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

import slth
from oracle import _UNIT, masked_layers, whole
from slth.realise import realise
from slth.ticket import LayerMask
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


def test_slack_is_a_few_units_in_the_last_place_and_not_more(ticket: slth.Ticket) -> None:
    """A bound that is always true because it is huge would ruin every proof."""
    for source, mask, _ in ticket.layers:
        realised = realise(source, mask)
        size = source.block_width * source.scale
        assert (realised.slack <= 2.0**-51 * (source.block_width * source.taps + 2) * size).all()
        assert (realised.slack > 0).any()


def test_products_of_float32_are_exact_in_float64(ticket: slth.Ticket) -> None:
    for source, _, _ in ticket.layers:
        u, v = source.univariate_weights()[:20].astype(float), source.combine_weight(0, 1)[0, :20, 0].astype(float)
        for a, b in zip(u, v, strict=True):
            assert Fraction(a * b) == Fraction(a) * Fraction(b)
    assert _UNIT == 2**260


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_rows_are_walked_whole_whatever_the_piece(ticket: slth.Ticket, at_once: int) -> None:
    for source, mask, _ in ticket.layers:
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
    empty = LayerMask(np.zeros_like(mask.neurons), np.zeros(0, np.uint8))
    realised = realise(source, empty)
    assert empty.n_kept == empty.n_combine_bytes(source) == 0
    assert not realised.positive.any() and not realised.negative.any() and realised.one_branch
    assert realised.bias is not None and not realised.bias.any()
