"""Classes that are proved: no sampled neighbour has another one, and at the inputs themselves it is what is seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import slth
from slth.certify import regions
from slth.certify.bounds import Bounder
from slth.certify.labels import Classes, class_of
from slth.certify.points import Values
from slth.certify.prove import sign_of
from slth.certify.subject import Subject, prepare
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.target import Target
from zoo import Case, inputs, mlp

N = 8


def classes(outputs: torch.Tensor) -> torch.Tensor:
    """The class of outputs (n, outputs), by the plainest rule."""
    return (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)


def proved(subject: Subject, x: torch.Tensor, radius: float, box: tuple[float, float]) -> Classes:
    """Classes proved at some inputs and around them."""
    bounder = Bounder(subject.hidden, subject.realised)
    around = regions.around(x, radius, clip=box).regions(tuple(x.shape[1:]))
    found = Classes(bounder, x, True, sign_of(around))
    for number, region in enumerate(around):
        known = bounder.analysed(region)[1]
        assert known is not None
        found.add(number, region, known)
    return found


def check(
    subject: Subject, found: Classes, x: torch.Tensor, radius: float, box: tuple[float, float], sign: Sign
) -> None:
    """No sample has another class than the proved one, in either network."""
    assert found.around is not None
    networks = subject.networks(sign)
    for number, (at, around) in enumerate(zip(found.same.tolist(), found.around.tolist(), strict=True)):
        assert around in (-1, at)
        near = x[number] + radius * inputs(tuple(x.shape[1:]), 60, (-1, 1), number)
        near = torch.cat([x[number : number + 1], near]).clamp(*box)
        for network in networks:
            with torch.no_grad():
                seen = classes(network(near).flatten(1))
            assert at in (-1, int(seen[0]))
            assert around == -1 or bool((seen == around).all())


def test_no_neighbour_has_another_class(case: Case, target: Target, ticket: slth.Ticket) -> None:
    box, subject = case.options.get("domain") or (-1, 1), prepare(ticket, target)
    x = inputs(case.shape, N, box, 4)
    sign = sign_of(regions.parse(box).regions(case.shape))
    for radius in (1e-4, 0.02, 0.3):
        check(subject, proved(subject, x, radius, box), x, radius, box, sign)


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_at_inputs_what_is_proved_is_what_is_seen(outputs: int) -> None:
    """But for near-ties, of which there are none here."""
    case = Case(mlp((5, 9, outputs)), (5,), {"base_set_size": 12, "domain": (-1, 1)})
    subject = prepare(case.find(), case.target())
    x = inputs((5,), 200, (-1, 1), 0)
    made = slth.certify(subject.ticket, subject.target, regions.points(x), labels=True, search=False)
    ours, theirs = (classes(network(x).detach()) for network in subject.networks(Sign.SIGNED))
    assert made.labels == {
        "inputs": 200,
        "same": int((ours == theirs).sum()),
        "same_around": None,
        "right": None,
        "right_around": None,
    }
    assert int((ours == theirs).sum()) > 0
    near = slth.certify(subject.ticket, subject.target, regions.around(x[:20], 1e-9), labels=True, search=False)
    assert near.labels is not None
    assert near.labels["same_around"] == near.labels["same"] == int((ours == theirs)[:20].sum())
    found = proved(subject, x[:20], 0.2, (-1, 1))
    assert found.around is not None and 0 < int((found.around >= 0).sum()) < 20, "some are proved and some are not"
    check(subject, found, x[:20], 0.2, (-1, 1), Sign.SIGNED)


def test_right_answers_are_those_of_the_labels() -> None:
    case = Case(mlp((5, 9, 3)), (5,), {"base_set_size": 20, "domain": (0, 1)})
    ticket, target = case.find(), case.target()
    x = inputs((5,), 40, (0, 1), 0)
    y = classes(case.model(x.float()).detach())
    y[:10] = (y[:10] + 1) % 3
    made = slth.certify(ticket, target, regions.around(x, 1e-6, clip=(0, 1)), labels=True, data=(x, y), search=False)
    assert made.labels is not None
    assert made.labels["inputs"] == made.labels["same"] == made.labels["same_around"] == 40
    assert made.labels["right"] == made.labels["right_around"] == 30


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_tie_is_not_proved(outputs: int) -> None:
    """Equal outputs, and of one output 0."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, outputs, bias=False))
    with torch.no_grad():
        model[2].weight[:] = model[2].weight[:1] if outputs == 2 else model[2].weight
    ticket = slth.find_ticket(model, torch.zeros(1, 2), base_set_size=10)
    made = slth.certify(ticket, model, regions.points(torch.zeros(1, 2)), labels=True, search=False)
    assert made.labels is not None and made.labels["same"] == 0


def test_certain_classes_are_apart_by_more_than_the_rounding() -> None:
    value = torch.tensor([[1.0, 2.0], [1.0, 1.1], [2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    off = torch.full_like(value, 0.1)
    assert class_of(Values(value, off)).tolist() == [1, -1, 0, -1]
    assert class_of(Values(value[:, :1] - 1.5, off[:, :1])).tolist() == [0, 0, 1, 0]
    assert class_of(Values(torch.tensor([[0.0], [0.15], [0.25]]), torch.full((3, 1), 0.1))).tolist() == [-1, -1, 1]
    exact = torch.tensor([[1.0, 1.0 + 2**-52], [0.1, 0.3]], dtype=torch.float64)
    assert class_of(Values(exact, torch.zeros_like(exact))).tolist() == [-1, 1]


def test_a_damaged_ticket_is_not_proved_the_same() -> None:
    """Brute force beside it: a ticket of few elements answers otherwise somewhere, and that is never proved."""
    case = Case(mlp((5, 9, 4)), (5,), {"base_set_size": 4, "domain": (-1, 1)})
    subject = prepare(case.find(), case.target())
    x = inputs((5,), 300, (-1, 1), 0)
    ours, theirs = (classes(network(x).detach()) for network in subject.networks(Sign.SIGNED))
    assert int((ours != theirs).sum()) > 0
    found = Classes(Bounder(subject.hidden, subject.realised), x, False, Sign.SIGNED)
    assert torch.equal(found.same >= 0, ours == theirs)


def test_labels_need_inputs_and_the_relaxation() -> None:
    case = Case(mlp(), (5,), {"base_set_size": 8})
    ticket, target = case.find(), case.target()
    with pytest.raises(ArgumentError, match="labels: got a domain"):
        slth.certify(ticket, target, (-1, 1), labels=True)
    with pytest.raises(ArgumentError, match="labels: got the method interval"):
        slth.certify(ticket, target, regions.points(torch.zeros(1, 5)), labels=True, method="interval")
