"""The construction `golden-ratio`: CHECKS O2, O6, O7, O9 and O10 of Orseau et al. 2020."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slth
from slth.constructions.golden_numbers import GAMMA, Question, numbers
from slth.constructions.golden_ratio import LEAST_GAMMA
from slth.constructions.peel import peel, take, upcoming
from slth.errors import ArgumentError
from slth.source.hyperbolic import Hyperbolic
from slth.source.spec import WholeSource
from zoo import Case, convnet, mlp

OPTIONS = {"construction": "golden-ratio", "tolerance": 0.02}
CASES = {
    "signed": Case(mlp((4, 6, 2)), (4,), OPTIONS),
    "nonnegative": Case(mlp((7, 3, 2)), (7,), {**OPTIONS, "domain": (0, 1)}),
    "conv": Case(convnet(), (4, 6, 6), {**OPTIONS, "tolerance": 0.1}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_realised_weights_are_below_by_no_more_than_the_tolerance(case: Case) -> None:
    """O7: |w| - eps <= |realised w| <= |w|, and the same sign, for both signs of the input."""
    from slth.realise import realise

    ticket, target = case.find(), case.target()
    assert ticket.missed == 0
    for layer, (source, mask, facts) in zip(target, ticket.layers, strict=True):
        made = realise(source, mask)
        parts = [(layer.weight_array(), made.positive if s > 0 else made.negative) for s in facts.input_sign.branches]
        if layer.bias is not None:
            parts.append((layer.bias_array(), made.bias))
        for wanted, got in parts:
            short = np.abs(wanted) - got * np.sign(wanted)
            assert (short >= -1e-12).all() and (short <= ticket.tolerance + 1e-12).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_neuron_serves_one_weight_of_one_round(case: Case) -> None:
    """O6, O10: no neuron is used twice; a round's neurons serve pairs in which no input and no output recurs."""
    ticket, target = case.find(), case.target()
    for layer, (source, mask, facts) in zip(target, ticket.layers, strict=True):
        assert isinstance(source, WholeSource) and isinstance(source.law, Hyperbolic)
        sizes = numbers(layer, facts.input_sign, Question(ticket.tolerance, 0.05, ticket.n_weights))
        assert source.neurons_per_group == sizes.width
        kept = mask.expand(source)
        assert len(np.unique(kept.neuron)) == len(kept.neuron)
        n_in = source.inputs_per_group + source.bias
        n_out = source.outputs_per_group * source.taps
        for piece in mask.entries(source):
            neuron = kept.neuron[piece.kept] % source.neurons_per_group
            channel = kept.channel[piece.kept]
            a = np.where(channel < 0, source.inputs_per_group, channel)
            b = piece.output % source.outputs_per_group * source.taps + piece.tap
            distance = (b - a) % n_out if n_in <= n_out else (a - b) % n_in
            np.testing.assert_array_equal(neuron // sizes.per_round, distance)


@given(st.integers(0, 2**32), st.floats(1e-3, 1.0), st.sampled_from([GAMMA, 0.6180339887498949, 0.8]))
def test_the_greedy_sum_leaves_between_nothing_and_the_last_edge(seed: int, w: float, gamma: float) -> None:
    """O2, for one number in every bin, whatever it is."""
    rng, k = np.random.default_rng(seed), 12
    edges = np.cumprod(np.full(k + 1, gamma))
    values = edges[1:] + (edges[:-1] - edges[1:]) * rng.uniform(1e-9, 1, k)
    # Weights 1 in, v out: the products are float32 numbers.
    v = values.astype(np.float32)
    v = np.minimum(v, edges[:-1].astype(np.float32))
    inside = (v > edges[1:]) & (v <= edges[:-1])
    found, value = np.full((1, 1, k), -1), np.zeros((1, 1, k))
    chosen, rest = np.zeros((1, 1, k), bool), np.zeros((1, 1))
    more = peel(
        np.ones((1, k), np.float32), v[None], np.arange(k)[None], np.array([w]), np.ones((1, 1), int), edges, (0, k),
        np.array([0]), found, value, chosen, rest,
    )  # fmt: skip
    if inside.all():
        assert not more[0] and 0.0 <= rest[0, 0] <= max(edges[k - 1], 0.0) + 1e-15
        assert w - v[chosen[0, 0]].astype(float).sum() == pytest.approx(rest[0, 0], abs=1e-15)


def test_a_ratio_below_the_golden_one_leaves_more() -> None:
    """O2: gamma = 0.55 < 1 / phi breaks the invariant for some weight."""
    k, gamma = 20, 0.55
    edges = np.cumprod(np.full(k + 1, gamma))
    low = np.nextafter(edges[1:], 1.0)
    worst = 0.0
    for w in np.linspace(0, 1, 4001):
        rest = w
        for i in range(k):
            if rest >= edges[i]:
                rest -= low[i]
        worst = max(worst, rest)
    assert worst > 10 * edges[k - 1]


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_a_round_goes_on_with_the_neurons_that_nobody_took(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    taken, cursor = np.zeros((3, 40), bool), np.array([0, 3, 2])
    found, chosen = rng.integers(0, 12, (3, 2, 4)), rng.random((3, 2, 4)) < 0.5
    take(taken, found, chosen, 1, 4)
    for r in range(3):
        assert set(np.flatnonzero(taken[r])) == set(found[r, :, 1:][chosen[r, :, 1:]].tolist())
    free = [[n for n in range(start, 40) if not taken[r, n]][:count] for r, start in ((0, 0), (2, 2))]
    np.testing.assert_array_equal(upcoming(taken, cursor, np.array([0, 2]), count), free)
    assert cursor.tolist() == [free[0][-1] + 1, 3, free[1][-1] + 1]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_ticket_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    case = CASES["signed"]
    one = case.find()
    other = slth.find_ticket(case.target(), threads=threads, **OPTIONS)
    for a, b in zip(one.masks, other.masks, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
        np.testing.assert_array_equal(a.neurons, b.neurons)


def test_without_a_tolerance_there_is_no_width() -> None:
    with pytest.raises(ArgumentError, match="tolerance: got none"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), construction="golden-ratio")


def test_misses_are_counted_when_too_few_neurons_are_held() -> None:
    """Half of all draws may fail: some weight does, and it is said."""
    ticket = slth.find_ticket(
        mlp((12, 20, 5)), torch.zeros(1, 12), tolerance=1e-3, construction="golden-ratio", delta=0.999
    )
    assert ticket.missed == sum(facts.missed for facts in ticket.facts) >= 0
    assert ticket.max_weight_error <= 1e-3 or ticket.missed > 0


@pytest.mark.parametrize("gamma", [LEAST_GAMMA, 0.7, 0.85])
def test_any_ratio_from_the_golden_one_on_keeps_to_the_tolerance(gamma: float) -> None:
    for case in CASES.values():
        ticket = case.find(settings={"gamma": gamma})
        assert ticket.missed == 0 and ticket.max_weight_error <= ticket.tolerance + 1e-12


@pytest.mark.parametrize("options", [{}, {"domain": (0, 1)}], ids=["signed", "nonnegative"])
def test_a_batch_is_dealt_out_by_a_matching(options: dict) -> None:
    """O6, O7: each neuron once, errors from 0 to eps; wider than recycled neurons, as the theorems say."""
    case = Case(mlp((3, 4, 2)), (3,), {**OPTIONS, **options})
    ticket, recycled = case.find(settings={"sampling": "batch"}), case.find()
    assert ticket.missed == 0 and ticket.max_weight_error <= ticket.tolerance
    assert ticket.spec.n_weights > recycled.spec.n_weights
    for source, mask, _ in ticket.layers:
        kept = mask.expand(source)
        assert len(np.unique(kept.neuron)) == len(kept.neuron)
    x = torch.rand(50, 3, dtype=torch.float64)
    one, other = (ticket.module(form, dtype=torch.float64)(x) for form in ("masked", "folded"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_what_the_greedy_sum_cannot_do_is_refused() -> None:
    for wrong in ({"gamma": 0.6}, {"gamma": 1.0}, {"sampling": "none"}, {"colour": 1}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            CASES["signed"].find(settings=wrong)
    with pytest.raises(ArgumentError, match="sampling=recycled"):
        Case(mlp((200, 100)), (200,), OPTIONS).find(settings={"sampling": "batch"})
