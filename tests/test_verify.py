"""Verification: true claims hold, and each kind of lie is named."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import slth
from slth.artifact import from_bytes, to_bytes
from slth.certify.search import largest_difference
from slth.errors import ArgumentError, MismatchError, SlthError
from slth.mask import BlockMask
from slth.network.graph import Sign
from slth.runtime import target_module
from slth.ticket import LayerFacts
from zoo import Case, cases, convnet, inputs, mlp

HONEST = Case(mlp((4, 5, 3)), (4,), {"base_set_size": 10, "domain": (0, 1), "tolerance": 1e-3})
TARGET = HONEST.target()
TICKET = HONEST.find(TARGET)


def with_facts(ticket: slth.Ticket, number: int = 0, **changes: Any) -> slth.Ticket:
    """The ticket with other claims about one layer."""
    facts: list[LayerFacts] = list(ticket.facts)
    facts[number] = dataclasses.replace(facts[number], **changes)
    return dataclasses.replace(ticket, facts=tuple(facts))


def with_mask(ticket: slth.Ticket, number: int, **changes: Any) -> slth.Ticket:
    """The ticket with another mask of one layer."""
    masks: list[BlockMask] = list(ticket.masks)
    masks[number] = dataclasses.replace(masks[number], **changes)
    return dataclasses.replace(ticket, masks=tuple(masks))


@settings(max_examples=12)
@given(cases(largest_base_set=9))
def test_every_ticket_that_was_found_holds(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    for candidate in (ticket, from_bytes(to_bytes(ticket))):
        checked = slth.verify(candidate, target, case.domain)
        assert checked.holds and checked.reasons == ()
        assert checked.certified_error is not None and checked.observed_error is not None
        assert checked.observed_error <= checked.certified_error
        assert checked.missed == ticket.missed
        assert all(layer.source_matches for layer in checked.layers)


def test_it_takes_a_module_for_a_target(case: Case, ticket: slth.Ticket) -> None:
    checked = slth.verify(ticket, case.model)
    assert checked.holds and checked.certified_error is None and checked.observed_error is None


def test_the_missed_are_those_counted_again_one_by_one() -> None:
    ticket = HONEST.find(TARGET, base_set_size=9, tolerance=3e-3)
    checked = slth.verify(ticket, TARGET, (0, 1))
    folded = ticket.module(dtype=torch.float64)
    expected = 0
    for layer in TARGET:
        own = folded.get_submodule(layer.name)
        expected += int((np.abs(own.weight.detach().numpy() - layer.weight_array()[:, :, 0]) > 3e-3).sum())
        expected += int((np.abs(own.bias.detach().numpy() - layer.bias_array()) > 3e-3).sum())
    assert ticket.missed == checked.missed == expected > 0
    assert ticket.missed == sum(facts.missed for facts in ticket.facts)


LIES = {
    "fewer missed": (lambda t: with_facts(t, missed=t.facts[0].missed - 1), "missed"),
    "more missed": (lambda t: with_facts(t, 1, missed=t.facts[1].missed + 1), "missed"),
    "a smaller error": (lambda t: with_facts(t, max_weight_error=t.facts[0].max_weight_error * 0.999), "max weight"),
    "a larger error": (lambda t: with_facts(t, max_weight_error=t.facts[0].max_weight_error * 1.001), "max weight"),
    "an error that is no number": (lambda t: with_facts(t, max_weight_error=math.nan), "max weight"),
    "another mean": (lambda t: with_facts(t, 1, mean_weight_error=t.facts[1].mean_weight_error * 0.999), "mean weight"),
    "another histogram": (
        lambda t: with_facts(t, error_histogram=(t.facts[0].n_weights, *(0,) * (len(t.facts[0].error_histogram) - 1))),
        "histogram",
    ),
    "more weights": (lambda t: with_facts(t, n_weights=t.facts[0].n_weights + 1), "weights"),
    "another digest": (lambda t: with_facts(t, survivors_digest="0" * 64), "surviving"),
    "a sign that does not occur": (lambda t: with_facts(t, 1, input_sign=Sign.NONPOSITIVE), "input is"),
    "other probes": (lambda t: dataclasses.replace(t, probe_outputs=t.probe_outputs + np.float32(0.01)), "probe"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name: str) -> None:
    ticket = HONEST.find(TARGET, base_set_size=9, tolerance=3e-3)
    assert slth.verify(ticket, TARGET, (0, 1)).holds and ticket.facts[0].missed > 0
    change, reason = LIES[name]
    checked = slth.verify(change(ticket), TARGET, (0, 1))
    assert not checked.holds
    assert any(reason in line for line in checked.reasons), checked.reasons


@pytest.mark.parametrize("number", [0, 1])
def test_any_flipped_mask_bit_is_noticed(number: int) -> None:
    ticket = TICKET
    source, mask, _ = ticket.layers[number]
    row_bits = int(mask.neurons.sum()) * source.taps
    n_bytes = (row_bits + 7) // 8
    for position in range(0, row_bits, 5):
        combine = mask.combine.copy()
        combine[n_bytes + position // 8] ^= 0x80 >> position % 8
        checked = slth.verify(with_mask(ticket, number, combine=combine), TARGET)
        assert not checked.holds and not checked.layers[number].source_matches
        assert checked.layers[1 - number].source_matches


def test_another_seed_or_scale_is_noticed() -> None:
    spec = TICKET.spec
    for changes in ({"seed": 1}, {"scale": spec.layers[0].scale / 2}):
        layers = (dataclasses.replace(spec.layers[0], **changes), *spec.layers[1:])
        checked = slth.verify(dataclasses.replace(TICKET, spec=dataclasses.replace(spec, layers=layers)), TARGET)
        assert not checked.holds and not checked.layers[0].source_matches


def test_a_lie_about_the_domain_does_not_widen_the_claim() -> None:
    """The ticket was made for [0, 1]; a header that says otherwise leaves the negative slopes as they are."""
    lie = dataclasses.replace(TICKET, domain=(-1.0, 1.0))
    checked = slth.verify(lie, TARGET, (-1, 1))
    assert not checked.holds and any("input is" in line for line in checked.reasons)
    signed = dataclasses.replace(with_facts(lie, input_sign=Sign.SIGNED), domain=(-1.0, 1.0))
    checked = slth.verify(signed, TARGET, (-1, 1))
    assert not checked.holds and checked.max_weight_error > 0.1


def test_a_domain_with_a_sign_beyond_the_tickets_does_not_hold() -> None:
    for domain in ((-1, 1), (-0.001, 1), (-1, 0)):
        checked = slth.verify(TICKET, TARGET, domain)
        assert not checked.holds
        assert any("sign" in line for line in checked.reasons)
    assert slth.verify(TICKET, TARGET, (0.5, 30)).holds


def test_eps_is_compared_with_what_is_proved() -> None:
    certified = slth.verify(TICKET, TARGET, (0, 1)).certified_error
    assert certified is not None
    assert slth.verify(TICKET, TARGET, (0, 1), eps=certified).holds
    below = slth.verify(TICKET, TARGET, (0, 1), eps=math.nextafter(certified, 0))
    assert not below.holds and "certified" in below.reasons[0]
    for eps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="eps"):
            slth.verify(TICKET, TARGET, (0, 1), eps=eps)
    with pytest.raises(ArgumentError, match="domain"):
        slth.verify(TICKET, TARGET, eps=0.1)


def test_another_target_is_refused() -> None:
    for other in (mlp((4, 5, 3), seed=1), mlp((4, 6, 3)), mlp((4, 5, 3), bias=False)):
        with pytest.raises(MismatchError, match="target"):
            slth.verify(TICKET, other, (0, 1))
    nudged = mlp((4, 5, 3))
    with torch.no_grad():
        nudged[0].weight[0, 0] = torch.nextafter(nudged[0].weight[0, 0], torch.tensor(9.0))
    with pytest.raises(MismatchError, match="digest"):
        slth.verify(TICKET, nudged)


def test_the_observed_error_is_what_the_folded_network_shows() -> None:
    checked = slth.verify(TICKET, TARGET, (0, 1))
    ours, theirs = TICKET.module(dtype=torch.float64), target_module(TARGET, torch.float64)
    assert checked.observed_error is not None and checked.certified_error is not None
    assert largest_difference(ours, theirs, inputs((4,), 500, (0, 1))) <= checked.observed_error * 1.05
    assert checked.observed_error > 0.2 * checked.certified_error


def test_data_give_accuracies_and_those_outside_the_domain_are_counted() -> None:
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:3] = 2.0
    y = HONEST.model(x.float()).argmax(dim=1)
    y[0] = (y[0] + 1) % 3
    checked = slth.verify(TICKET, TARGET, (0, 1), data=(x, y))
    assert (checked.n_data, checked.n_outside) == (50, 3)
    assert checked.accuracy_target == 98.0
    without = slth.verify(TICKET, TARGET, data=(x, None))
    assert without.accuracy_target is None and without.certified_error is None
    ours, theirs = TICKET.module(dtype=torch.float64), target_module(TARGET, torch.float64)
    assert without.observed_error == largest_difference(ours, theirs, x)
    assert checked.accuracy_ticket == 2 * int((ours(x).argmax(dim=1) == y).sum()) > 50


def test_a_tensor_domain_is_used_entry_by_entry() -> None:
    low, high = torch.tensor([0.0, 0.5, 0.0, 0.2]), torch.tensor([0.0, 0.5, 1.0, 0.3])
    narrow = slth.verify(TICKET, TARGET, (low, high))
    wide = slth.verify(TICKET, TARGET, (0, 1))
    assert narrow.holds and narrow.certified_error < wide.certified_error
    with pytest.raises(ArgumentError, match="shape"):
        slth.verify(TICKET, TARGET, (torch.zeros(5), torch.ones(5)))


def test_json_is_plain() -> None:
    checked = slth.verify(TICKET, TARGET, (0, 1), eps=10.0)
    value = json.loads(json.dumps(checked.to_json(), allow_nan=False))
    assert value["holds"] is True and value["reasons"] == [] and len(value["layers"]) == 2
    assert value["certified_error"] == checked.certified_error


def test_random_masks_are_judged_without_an_accident() -> None:
    """A mask from anybody: verification tells, it does not fail, and the proof still holds for it."""
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 4, "domain": (-1, 1)})
    target = case.target()
    ticket = case.find(target)
    rng = np.random.default_rng(0)
    for _ in range(4):
        masks = []
        for source, _, _ in ticket.layers:
            neurons = rng.random(source.n_neurons) < 0.5
            bare = BlockMask(neurons, np.zeros(0, np.uint8))
            rows = source.outputs // source.groups
            packed = []
            for group in range(source.groups):
                n_bits = len(bare.kept_neurons(source, group)) * source.taps
                packed.append(np.packbits(rng.random((rows, n_bits)) < 0.5, axis=1).ravel())
            masks.append(BlockMask(neurons, np.concatenate(packed)))
        made_up = from_bytes(to_bytes(dataclasses.replace(ticket, masks=tuple(masks))))
        checked = slth.verify(made_up, target, (-1, 1))
        assert not checked.holds
        assert checked.observed_error <= checked.certified_error
        x = inputs((4, 6, 6), 4)
        forms = [made_up.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse", "folded")]
        torch.testing.assert_close(forms[0], forms[1], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(forms[0], forms[2], rtol=1e-11, atol=1e-11)


def test_a_target_of_another_input_shape_needs_no_example() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 1))
    ticket = slth.find_ticket(model, torch.zeros(1, 1, 11), base_set_size=6)
    assert slth.verify(ticket, model).holds
    with pytest.raises(SlthError):
        slth.verify(ticket, model, example_input=torch.zeros(1, 1, 12))
