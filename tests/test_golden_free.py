"""Golden ratio without knowing eps or w_max (Orseau et al. 2020, Remarks 12 and 14): CHECKS O4, O6, O7, O10, O11."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from slth import artifact
from slth.artifact import from_bytes, to_bytes
from slth.constructions.golden_numbers import LAWS, Numbers, Question, numbers
from slth.constructions.golden_ratio import LARGEST_WIDTH
from slth.errors import ArgumentError, TicketError
from slth.network.graph import Sign
from slth.network.target import WeightLayer
from slth.realise import realise
from slth.source.distributions import DISTRIBUTIONS
from slth.source.endless import EndlessSource, OddMultiplesSource
from slth.source.hyperbolic import Hyperbolic, HyperbolicLog
from slth.source.spec import SourceLayer, WholeSource
from zoo import Case, convnet, inputs, mlp, shake

FREE = [(law, schedule) for law in LAWS for schedule in ("known", "odd-multiples")][1:]
NETWORKS = {
    "signed": Case(mlp((4, 6, 2)), (4,), {"tolerance": 0.02}),
    "nonnegative": Case(mlp((7, 3, 2)), (7,), {"tolerance": 0.02, "domain": (0, 1)}),
    "conv": Case(convnet(), (4, 6, 6), {"tolerance": 0.1, "domain": (-1, 1)}),
}


def large(factor: float) -> nn.Sequential:
    """A perceptron with weights up to about ``factor``."""
    net = mlp((3, 5, 2), seed=4)
    for parameter in net.parameters():
        parameter.data *= factor
    return net


def find(case: Case, law: str, schedule: str, **options: Any) -> slth.Ticket:
    settings = {"law": law, "schedule": schedule, **options.pop("settings", {})}
    return case.find(construction="golden-ratio", settings=settings, **options)


@pytest.mark.parametrize(("law", "schedule"), FREE)
@pytest.mark.parametrize("name", NETWORKS)
def test_realised_weights_are_below_by_no_more_than_the_tolerance(name: str, law: str, schedule: str) -> None:
    """O7; O6: every neuron at most once; the laws and scales are those of the settings."""
    ticket, target = find(NETWORKS[name], law, schedule, delta=1e-3), NETWORKS[name].target()
    assert ticket.missed == 0
    for layer, (source, mask, facts) in zip(target, ticket.layers, strict=True):
        assert type(source) is (OddMultiplesSource if schedule == "odd-multiples" else EndlessSource)
        assert type(source.law) is DISTRIBUTIONS[law]
        made = realise(source, mask)
        parts = [(layer.weight_array(), made.positive if s > 0 else made.negative) for s in facts.input_sign.branches]
        parts += [] if layer.bias is None else [(layer.bias_array(), made.bias)]
        for wanted, got in parts:
            short = np.abs(wanted) - got * np.sign(wanted)
            assert (short >= -1e-12).all() and (short <= ticket.tolerance + 1e-12).all()
        kept = mask.expand(source)
        assert len(np.unique(kept.neuron)) == len(kept.neuron)


@pytest.mark.parametrize(("law", "schedule"), FREE)
def test_three_forms_agree_and_a_file_says_all_of_it(law: str, schedule: str) -> None:
    net = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    case = Case(shake(net, 3), (2, 3), {"tolerance": 0.3, "domain": (-1, 1)})
    ticket, target = find(case, law, schedule), case.target()
    loaded = from_bytes(to_bytes(ticket))
    assert loaded.spec == ticket.spec and to_bytes(loaded) == to_bytes(ticket)
    x = inputs(case.shape, 20, case.domain)
    wanted = loaded.module("folded", dtype=torch.float64)(x)
    for form in ("masked", "sparse"):
        torch.testing.assert_close(ticket.module(form, dtype=torch.float64)(x), wanted, rtol=0, atol=1e-10)
    assert slth.verify(loaded, target, domain=(-1, 1)).holds


# What the source knows.


def common(one: SourceLayer, other: SourceLayer) -> None:
    """Both begin with the same neurons, bit for bit, in every group."""
    n = min(one.neurons_per_group, other.neurons_per_group, 200)
    assert n == 200 and one.groups == other.groups
    for group in range(one.groups):
        rows = [
            layer.expand_rows(group * layer.neurons_per_group, group * layer.neurons_per_group + n)
            for layer in (one, other)
        ]
        biases = [
            layer.expand_biases(group * layer.neurons_per_group, group * layer.neurons_per_group + n)
            for layer in (one, other)
        ]
        np.testing.assert_array_equal(*rows)
        np.testing.assert_array_equal(*biases)
    grid = np.meshgrid(np.arange(one.outputs), np.arange(n), np.arange(one.taps), indexing="ij")
    np.testing.assert_array_equal(one.combine_at(*grid), other.combine_at(*grid))


def without_width(source: SourceLayer) -> SourceLayer:
    return dataclasses.replace(source, block_width=1)


@pytest.mark.parametrize(("law", "schedule"), FREE[1:])
@pytest.mark.parametrize("name", ["signed", "conv"])
def test_the_source_does_not_know_the_tolerance(name: str, law: str, schedule: str) -> None:
    """Remark 12: only how many neurons there are follows from it. With the theorem's own law that is not so."""
    coarse, fine = (find(NETWORKS[name], law, schedule, tolerance=t) for t in (0.3, 0.03))
    for one, other in zip(coarse.spec.layers, fine.spec.layers, strict=True):
        assert one.block_width < other.block_width
        if law == "hyperbolic":
            assert one.law != other.law
        else:
            assert without_width(one) == without_width(other)
            common(one, other)


@pytest.mark.parametrize("law", LAWS)
def test_the_source_does_not_know_the_target(law: str) -> None:
    """Remark 14: not even its largest weight. Without a schedule the scale is in proportion to that."""
    cases = [Case(large(factor), (3,), {"tolerance": 0.2}) for factor in (0.5, 6.0)]
    one, other = (find(case, law, "odd-multiples").spec.layers for case in cases)
    known = [find(case, law, "known").spec.layers for case in cases]
    for small, big in zip(one, other, strict=True):
        assert without_width(small) == without_width(big) and small.block_width < big.block_width
        common(small, big)
    for small, big in zip(*known, strict=True):
        assert small.scale < big.scale
        if law != "hyperbolic":
            assert big.scale / small.scale == pytest.approx(12, rel=1e-6)


# The source, drawn neuron by neuron.


@st.composite
def endless(draw: st.DrawFn) -> EndlessSource:
    groups = draw(st.sampled_from([1, 2, 3]))
    kernel = draw(st.sampled_from([(), (3,), (2, 2)]))
    kind = draw(st.sampled_from([EndlessSource, OddMultiplesSource]))
    width, bias = draw(st.integers(1, 40)), draw(st.booleans())
    shape = {"inputs_per_group": draw(st.integers(1, 3)), "outputs": groups * draw(st.integers(1, 3)), "groups": groups}
    return kind(
        seed=5, index=1, kernel=kernel, bias=bias, block_width=width, scale=1.5, initialisation="uniform",
        law=Hyperbolic(2.0**-60, 1.0), **shape,
    )  # fmt: skip


@given(endless())
def test_whole_tensors_are_the_single_weights(source: EndlessSource) -> None:
    neuron, channel = np.meshgrid(np.arange(source.n_neurons), np.arange(source.inputs_per_group), indexing="ij")
    np.testing.assert_array_equal(source.expand_weight(), source.expand_at(neuron, channel))
    every = np.arange(source.n_neurons)
    np.testing.assert_array_equal(source.expand_bias(), source.expand_at(every, np.full_like(every, -1)))
    per_group = np.arange(source.neurons_per_group)
    output, own, tap = np.meshgrid(np.arange(source.outputs), per_group, np.arange(source.taps), indexing="ij")
    whole = source.combine_weight(0, source.outputs)
    assert whole.dtype == np.float32 and whole.shape == output.shape
    np.testing.assert_array_equal(whole, source.combine_at(output, own, tap))
    np.testing.assert_array_equal(whole[1:2], source.combine_weight(1, 2))
    # No two weights are the same random number.
    assert len(np.unique(np.abs(source.expand_weight()))) == source.expand_weight().size
    plain = whole / np.reshape(source.neuron_scale(per_group) * np.ones(len(per_group), np.float32), (-1, 1))
    assert len(np.unique(np.abs(plain))) == whole.size


@given(endless(), st.integers(1, 60))
def test_a_wider_source_begins_with_the_narrower_one(source: EndlessSource, more: int) -> None:
    wide = dataclasses.replace(source, block_width=source.block_width + more)
    n = source.neurons_per_group
    shape = (source.groups, -1, source.inputs_per_group)
    np.testing.assert_array_equal(source.expand_weight().reshape(shape), wide.expand_weight().reshape(shape)[:, :n])
    np.testing.assert_array_equal(
        source.combine_weight(0, source.outputs), wide.combine_weight(0, source.outputs)[:, :n]
    )


def test_scales_are_the_odd_multiples_powers_and_exact() -> None:
    """Remark 14: sample t, an odd multiple of 2^j, has 2^j times the scale of sample 1, exactly, up to 2^40."""
    shape = {"seed": 1, "index": 0, "inputs_per_group": 1, "outputs": 1, "groups": 1, "kernel": (), "bias": False}
    made = [
        kind(**shape, block_width=1, scale=1.5, initialisation="uniform", law=HyperbolicLog())
        for kind in (EndlessSource, OddMultiplesSource)
    ]
    t = np.array([1, 2, 3, 4, 6, 8, 96, 2**39, 2**40 - 1, 2**40])
    plain, scaled = (source.combine_at(np.zeros_like(t), t - 1, np.zeros_like(t)) for source in made)
    assert (scaled / plain).tolist() == [1, 2, 1, 4, 2, 8, 32, 2**39, 1, 2**40]


# The search.


def plain_rounds(source: WholeSource, layer: WeightLayer, made: Numbers, sign: Sign) -> dict[int, list[int]]:
    """Algorithm 1 word by word for a dense layer: lists of held neurons, refilled; slot -> neurons."""
    weight, bias = layer.weight_array()[:, :, 0], layer.bias_array()
    table = weight.T if bias is None else np.concatenate([weight.T, bias[None]])
    n_in, n_out = table.shape
    scheduled, served = isinstance(source, OddMultiplesSource), {}
    for j in range(made.rounds):
        run = range(j * made.per_round, (j + 1) * made.per_round)
        power = {n: ((n + 1) & -(n + 1)).bit_length() - 1 if scheduled else 0 for n in run}
        waiting = {shelf.power: [n for n in run if power[n] == shelf.power] for shelf in made.shelves}
        held = {s.power: [waiting[s.power].pop(0) for _ in range(s.held)] for s in made.shelves}
        for step in range(made.steps):
            a, b = (step, (step + j) % n_out) if n_in <= n_out else ((step + j) % n_in, step)
            is_bias = bias is not None and a == n_in - 1
            target, slot = table[a, b], weight.size + b if is_bias else b * weight.shape[1] + a
            used = []
            for branch in (1,) if is_bias else sign.branches:
                rest = abs(target)
                for shelf in made.shelves:
                    for i in range(shelf.begin, shelf.end):
                        if rest < made.edges[i] or target == 0:
                            continue
                        for n in held[shelf.power]:
                            at = np.array([n]), np.array([-1 if is_bias else a])
                            u = float(source.expand_at(*at)[0])
                            v = float(source.combine_at(np.array([b]), np.array([n]), np.array([0]))[0])
                            if (
                                u * branch > 0
                                and u * v * target > 0
                                and made.edges[i + 1] < abs(u * v) <= made.edges[i]
                            ):
                                rest -= abs(u * v)
                                used.append(n)
                                break
            served[slot] = sorted(used)
            for n in used:
                held[power[n]].remove(n)
                held[power[n]].append(waiting[power[n]].pop(0))
    return served


@pytest.mark.parametrize(("law", "schedule"), [("hyperbolic", "known"), *FREE])
@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_the_search_is_algorithm_1(law: str, schedule: str, factor: float) -> None:
    """O10, against lists of neurons that are refilled; with a schedule each scale has a list and bins of its own."""
    net = nn.Sequential(nn.Linear(2, 3, bias=factor > 1))
    net[0].weight.data = factor * torch.tensor([[1.0, -0.3], [0.02, 0.55], [-0.8, 0.0]])
    case = Case(net, (2,), {"tolerance": 0.15})
    ticket, (layer,) = find(case, law, schedule), case.target().layers
    ((source, mask, facts),) = ticket.layers
    made = numbers(layer, facts.input_sign, Question(0.15, 0.05, ticket.n_weights, law=law, schedule=schedule))
    assert source.neurons_per_group == made.width and source.scale == made.scale and source.law == made.law
    assert all(shelf.fresh == 2 * (shelf.end - shelf.begin) * made.steps for shelf in made.shelves)
    powers = [shelf.power for shelf in made.shelves]
    assert powers == ([2, 1, 0] if schedule == "odd-multiples" and factor > 1 else [0])
    starts = np.concatenate([[0], np.cumsum(mask.counts.astype(int))])
    wanted = plain_rounds(source, layer, made, facts.input_sign)
    for slot, neurons in wanted.items():
        assert mask.neurons[starts[slot] : starts[slot + 1]].tolist() == neurons
    assert ticket.missed == 0 and sum(map(len, wanted.values())) == len(mask.neurons)


@pytest.mark.parametrize(("law", "schedule"), FREE)
def test_weights_are_missed_no_more_often_than_is_allowed(law: str, schedule: str) -> None:
    """O4, for whole tickets: at delta = 1/2 at most half of them miss a weight."""
    case = Case(large(1.7), (3,), {"tolerance": 0.2, "delta": 0.5})
    target = case.target()
    missed = sum(find(case, law, schedule, target=target, seed=seed).missed > 0 for seed in range(30))
    assert missed <= 15 + 3 * math.sqrt(30 / 4)


@pytest.mark.parametrize(("law", "schedule"), FREE)
def test_a_batch_is_dealt_out_by_a_matching(law: str, schedule: str) -> None:
    """Each category, of neurons of the scale that serves its bin, has as many neurons as there are weights."""
    case = Case(large(1.7), (3,), {"tolerance": 0.2})
    ticket = find(case, law, schedule, settings={"sampling": "batch"})
    assert ticket.missed == 0 and ticket.max_weight_error <= 0.2
    for source, mask, _ in ticket.layers:
        kept = mask.expand(source)
        assert len(np.unique(kept.neuron)) == len(kept.neuron)
    assert from_bytes(to_bytes(ticket)).spec == ticket.spec


def test_what_does_not_know_costs_more() -> None:
    """Widths: an unknown w_max at most 4 w_max times as many (Remark 14), up to a round's last period."""
    for factor in (0.3, 1.0, 5.0):
        case = Case(large(factor), (3,), {"tolerance": 0.05})
        for law in LAWS:
            known, free = (find(case, law, schedule).spec.layers for schedule in ("known", "odd-multiples"))
            for layer, a, b in zip(case.target(), known, free, strict=True):
                top = max(1.0, float(layer.weight.abs().max()), float(layer.bias.abs().max()))
                # Below 1 bins lie further down than they need; above, small weights do not wait for large scales.
                assert b.block_width > a.block_width and (factor < 1 or b.block_width <= 4.5 * top * a.block_width)


def test_what_cannot_be_is_refused() -> None:
    signed = NETWORKS["signed"]
    for wrong in ({"law": "uniform"}, {"schedule": "even"}, {"law": "hyperbolic-log-log"}):
        with pytest.raises(ArgumentError, match=f"{next(iter(wrong))}: got .*--set {next(iter(wrong))}="):
            signed.find(construction="golden-ratio", settings=wrong)
    for law in LAWS[1:]:
        with pytest.raises(ArgumentError, match="float32"):
            find(signed, law, "known", tolerance=1e-38)
        with pytest.raises(ArgumentError, match="float32"):
            find(Case(large(1e10), (3,)), law, "known", tolerance=1e-30)
    assert LARGEST_WIDTH == artifact.LARGEST_WIDTH == 2**40
    with pytest.raises(ArgumentError, match="at most 1099511627776"):
        find(Case(large(1e9), (3,)), "hyperbolic-log", "odd-multiples", tolerance=1e-3)


def test_a_layout_that_nobody_knows_is_refused() -> None:
    ticket = find(Case(mlp((2, 2)), (2,), {"tolerance": 0.3}), "hyperbolic-log", "odd-multiples")
    assert b'"order":"odd-multiples"' in to_bytes(ticket).replace(b'\\"', b'"')
    broken = dataclasses.replace(
        ticket, spec=dataclasses.replace(ticket.spec, layers=tuple(_renamed(s) for s in ticket.spec.layers))
    )
    with pytest.raises(TicketError):
        from_bytes(to_bytes(broken))


def _renamed(source: SourceLayer) -> SourceLayer:
    class Odd(OddMultiplesSource):
        order = "even-multiples"

    return Odd(**{field.name: getattr(source, field.name) for field in dataclasses.fields(source)})


@pytest.mark.parametrize(
    ("schedule", "words"), [("known", "a wider source begins"), ("odd-multiples", "odd multiple of 2")]
)
def test_the_terminal_says_how_the_source_is_drawn(schedule: str, words: str) -> None:
    from slth.commands.screen import order_lines
    from slth.summary import summarise

    ticket = find(Case(mlp((2, 2)), (2,), {"tolerance": 0.3}), "hyperbolic-log", schedule)
    (line,) = order_lines(summarise(ticket))
    assert words in line
    assert {source.order for source in ticket.spec.layers} == {layer.order for layer in summarise(ticket).layers}


@pytest.mark.parametrize(("law", "schedule"), FREE)
@pytest.mark.parametrize(("factor", "tolerance"), [(0.0, 0.1), (0.01, 0.5), (1.0, 40.0), (50.0, 7.0), (1e-9, 1e-10)])
def test_tolerances_and_weights_of_any_size(law: str, schedule: str, factor: float, tolerance: float) -> None:
    """Weights that are all 0, or within the tolerance; tolerances above 1; weights far below 1."""
    ticket = find(Case(large(factor), (3,), {"tolerance": tolerance, "delta": 1e-3}), law, schedule)
    assert ticket.missed == 0 and ticket.max_weight_error <= tolerance
    assert from_bytes(to_bytes(ticket)).spec == ticket.spec
