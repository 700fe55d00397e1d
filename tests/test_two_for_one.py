"""The construction against brute force: every weight, sign, tap, group and bias, without a tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from oracle import best_subset, masked_layers, served, usable, usable_constants, whole
from slth.artifact import to_bytes
from slth.attempt import draw_source
from slth.constructions.two_for_one import BlockByBlock, TwoForOne
from slth.domain import Domain
from slth.plan import Wishes, make_plan
from slth.realise import realise
from slth.source.spec import ENOUGH_ELEMENTS
from slth.subsetsum import MAX_ELEMENTS
from zoo import Case, cases, convnet, mlp, shake

SMALL = {
    "signed": Case(mlp((3, 4, 2)), (3,), {"base_set_size": 4}),
    "nonnegative": Case(mlp((3, 4, 2)), (3,), {"base_set_size": 5, "domain": (0, 1)}),
    "nonpositive": Case(mlp((3, 4, 2)), (3,), {"base_set_size": 5, "domain": (-1, 0)}),
    "looks-linear": Case(mlp((3, 4, 2)), (3,), {"base_set_size": 7, "initialisation": "looks-linear"}),
    "looks-linear, nonpositive": Case(
        mlp((3, 2)), (3,), {"base_set_size": 7, "initialisation": "looks-linear", "domain": (-1, 0)}
    ),
    "groups": Case(convnet(), (4, 6, 6), {"base_set_size": 2, "seed": 3}),
    "depthwise": Case(shake(nn.Sequential(nn.Conv1d(3, 6, 3, groups=3)), 1), (3, 5), {"base_set_size": 4}),
    "sparsest": Case(
        mlp((3, 4, 2)), (3,), {"base_set_size": 6, "domain": (0, 1), "objective": "sparsest", "tolerance": 0.1}
    ),
    "sparsest, looks-linear": Case(
        mlp((3, 4, 2)),
        (3,),
        {"base_set_size": 8, "initialisation": "looks-linear", "objective": "sparsest", "tolerance": 0.03},
    ),
    "sparsest, groups": Case(
        shake(nn.Sequential(nn.Conv1d(2, 2, 3, groups=2), nn.ReLU(), nn.Conv1d(2, 2, 2)), 1),
        (2, 6),
        {"base_set_size": 5, "objective": "sparsest", "tolerance": 0.1},
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_is_realised_by_the_exact_optimum_of_its_base_set(name: str) -> None:
    """min over all subsets, of every weight and sign of its input, every tap, and every bias, in exact integers."""
    case = SMALL[name]
    target = case.target()
    ticket = case.find(target)
    tolerance = whole(ticket.tolerance) if ticket.objective == "sparsest" else None
    checked = 0
    for layer, (source, facts, dense) in zip(target, masked_layers(ticket), strict=True):
        weight, mirrored, serves = layer.weight_array(), source.mirrored, served(source, dense)
        for output, channel, tap in np.ndindex(*weight.shape):
            for sign in facts.input_sign.branches:
                wanted = whole(weight[output, channel, tap])
                elements = usable(dense, serves, output, channel, tap, sign, mirrored)
                assert len(elements) == ticket.base_set_size
                least, fewest = best_subset(elements, wanted, tolerance)
                assert abs(dense.slope(output, channel, tap, sign) - wanted) == least
                if fewest >= 0:
                    group = dense.neurons(output)
                    kept = sum(
                        bool(dense.combine_mask[output, column, tap])
                        for column, t in enumerate(group)
                        if serves[t] == channel and dense.expand[t, channel] * sign > 0
                    )
                    assert kept == fewest
                checked += 1
        bias = layer.bias_array()
        for output, value in enumerate([] if bias is None else bias):
            elements = usable_constants(dense, serves, output, mirrored)
            assert len(elements) == ticket.base_set_size
            least, _ = best_subset(elements, whole(value), tolerance)
            assert abs(dense.constant(output) - whole(value)) == least
            checked += 1
    assert checked >= target.n_weights


@given(cases(largest_base_set=9))
def test_each_kept_neuron_keeps_exactly_one_weight_or_its_bias(case: Case) -> None:
    """Theory 0.4, C3, B2; and it is the one that it serves, which is known before any target is."""
    for source, _, dense in masked_layers(case.find()):
        for t, channel in enumerate(served(source, dense)):
            kept = np.flatnonzero(dense.expand_mask[t]).tolist()
            kept += [-1] if dense.bias_mask is not None and dense.bias_mask[t] else []
            assert kept in ([], [channel])


@given(cases(largest_base_set=9))
def test_a_neuron_is_kept_exactly_if_a_combining_weight_reads_it(case: Case) -> None:
    for _, _, dense in masked_layers(case.find()):
        read = np.zeros(len(dense.expand), dtype=bool)
        for output in range(len(dense.combine)):
            read[list(dense.neurons(output))] |= dense.combine_mask[output].any(axis=1)
        kept = dense.expand_mask.any(axis=1)
        np.testing.assert_array_equal(kept if dense.bias_mask is None else kept | (dense.bias_mask > 0), read)


@given(cases(largest_base_set=10))
def test_slopes_are_within_the_stated_error_on_both_signs(case: Case) -> None:
    """B3: of the weights that the search calls found, both slopes (of the signs that occur) are within tolerance."""
    target = case.target()
    ticket = case.find(target)
    for layer, (source, mask, facts) in zip(target, ticket.layers, strict=True):
        realised = realise(source, mask)
        slopes = {1: realised.positive, -1: realised.negative}
        errors = np.max([np.abs(slopes[sign] - layer.weight_array()) for sign in facts.input_sign.branches], axis=0)
        errors = errors.ravel()
        slack = realised.slack.ravel()
        bias = layer.bias_array()
        if bias is not None:
            errors = np.concatenate([errors, np.abs(realised.bias - bias)])
            slack = np.concatenate([slack, realised.bias_slack])
        assert abs(errors.max() - facts.max_weight_error) <= slack.max()
        assert abs(errors.mean() - facts.mean_weight_error) <= slack.max() + 1e-15 * errors.max()
        tolerance = np.inf if ticket.tolerance is None else ticket.tolerance
        assert (errors - slack > tolerance).sum() <= facts.missed <= (errors + slack > tolerance).sum()
        assert sum(facts.error_histogram) == facts.n_weights == layer.n_weights


@given(cases(largest_base_set=8))
def test_looks_linear_pairs_make_both_slopes_the_same_bit_for_bit(case: Case) -> None:
    ticket = case.find(initialisation="looks-linear", domain=(-1, 1))
    for source, mask, facts in ticket.layers:
        realised = realise(source, mask)
        if len(facts.input_sign.branches) == 2:
            assert realised.one_branch
            np.testing.assert_array_equal(realised.positive, realised.negative)


def test_a_sign_that_cannot_occur_costs_no_weight() -> None:
    case = Case(mlp((4, 3), bias=False), (4,), {"base_set_size": 6})
    for domain, lost in (((0, 1), -1), ((-1, 0), 1)):
        ((source, mask, _),) = case.find(domain=domain).layers
        kept = source.univariate_weights()[mask.neurons]
        assert kept.size and not (np.sign(kept) == lost).any()
    both = case.find().layers[0]
    assert {-1.0, 1.0} == set(np.sign(both[0].univariate_weights()[both[1].neurons]))


@given(cases(largest_base_set=8), st.integers(1, 3000))
def test_the_ticket_does_not_depend_on_the_size_of_the_pieces(case: Case, elements: int) -> None:
    target = case.target()
    whole_layers = to_bytes(case.find(target))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slth.constructions.subset_sums.ELEMENTS_AT_ONCE", elements)
        assert to_bytes(case.find(target)) == whole_layers


def _sizes(method: TwoForOne, base_set_size: int, seed: int) -> np.ndarray:
    """Elements that each problem of a small layer is given."""
    target = Case(mlp((3, 2), bias=True), (3,)).target()
    plan = make_plan(target, method, Wishes(base_set_size=base_set_size, domain=Domain.parse((0, 1))))
    (source,) = draw_source(target, plan, seed).layers
    (piece,) = method.pieces(source, target.layers[0], plan.layers[0], 1 << 30)
    return piece.sizes


@pytest.mark.parametrize(("base_set_size", "largest"), [(30, ENOUGH_ELEMENTS), (40, 40)])
def test_rich_blocks_are_used_up_to_what_is_enough(base_set_size: int, largest: int) -> None:
    """Where neurons serve their own block alone, as in the constructions that are made of this one."""
    sizes = [_sizes(BlockByBlock(), base_set_size, seed) for seed in range(30)]
    assert np.max(sizes) == largest <= MAX_ELEMENTS and np.min(sizes) < base_set_size


@pytest.mark.parametrize("base_set_size", [1, 5, 20, 40])
def test_exchanged_neurons_make_all_base_sets_the_same_size(base_set_size: int) -> None:
    assert {int(size) for seed in range(10) for size in _sizes(TwoForOne(), base_set_size, seed)} == {base_set_size}


def test_a_weight_of_zero_keeps_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    torch.nn.init.zeros_(model[0].weight), torch.nn.init.zeros_(model[0].bias)
    ticket = slth.find_ticket(model, torch.zeros(1, 3), base_set_size=5)
    assert ticket.n_kept == 0 and ticket.max_weight_error == 0
    for form in ("masked", "sparse", "folded"):
        assert (ticket.module(form)(torch.ones(2, 3)) == 0).all()
