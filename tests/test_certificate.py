"""slth.certify: no input errs more than is certified, for every kind of ticket; the file, its reader and its check."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slth
from slth.certify import regions
from slth.certify.bounds import METHODS, Bounds, bound, norm
from slth.certify.certificate import COUNTS, Certificate, from_bytes, load_certificate, rounded_up
from slth.certify.points import evaluate
from slth.certify.recheck import check_certificate
from slth.certify.region import Ball, Box, Region
from slth.certify.search import Found, search_regions
from slth.certify.subject import digest_of_ticket, prepare
from slth.errors import ArgumentError, CertificateError, MismatchError
from slth.network.graph import Sign
from slth.network.target import Target
from zoo import Case, convnet, inputs, mlp

HONEST = Case(mlp((4, 6, 5, 3)), (4,), {"base_set_size": 9, "domain": (0, 1), "tolerance": 0.05})
TARGET = HONEST.target()
TICKET = HONEST.find(TARGET)
X = inputs((4,), 6, (0, 1), 3)


def box_of(case: Case) -> tuple[float, float]:
    """The domain that a case is found for."""
    return case.options.get("domain") or (-1, 1)


@pytest.fixture(scope="module")
def certificates(case: Case, target: Target, ticket: slth.Ticket) -> dict[str, Certificate]:
    """Of one ticket of each kind, over a box, around inputs and at them."""
    box, x = box_of(case), inputs(case.shape, 3, box_of(case), 2)
    sets = {"box": box, "boxes": regions.around(x, 0.03, clip=box), "points": regions.points(x)}
    return {name: slth.certify(ticket, target, made, norm="l2") for name, made in sets.items()}


def test_no_input_errs_more_than_is_certified(
    case: Case, target: Target, ticket: slth.Ticket, certificates: dict[str, Certificate]
) -> None:
    box = box_of(case)
    subject = prepare(ticket, target)
    ours, theirs = subject.networks(regions.parse(box).domain.sign)  # type: ignore[union-attr]
    x = inputs(case.shape, 3, box, 2)
    near = (x[:, None] + 0.03 * inputs(case.shape, 40, (-1, 1), 5)).flatten(0, 1).clamp(*box)
    tried = {"box": inputs(case.shape, 200, box, 1), "boxes": near, "points": x}
    for name, made in certificates.items():
        with torch.no_grad():
            apart = (ours(tried[name]) - theirs(tried[name])).flatten(1)
        assert float(apart.norm(dim=1).max()) <= made.certified_error
        assert bool((apart.abs().amax(dim=0) <= torch.tensor(made.components, dtype=torch.float64)).all())
        assert made.observed_error is not None and made.observed_error <= made.certified_error
    assert certificates["points"].certified_error <= certificates["boxes"].certified_error
    assert certificates["boxes"].certified_error <= certificates["box"].certified_error


def test_float32_is_covered(
    case: Case, target: Target, ticket: slth.Ticket, certificates: dict[str, Certificate]
) -> None:
    made, box = certificates["box"], box_of(case)
    assert made.certified_in_float32 is not None
    x = inputs(case.shape, 100, box, 1).float()
    from slth.runtime import target_module

    with torch.no_grad():
        apart = ticket.module("folded", dtype=torch.float32)(x) - target_module(target, torch.float32)(x)
    assert float(apart.double().flatten(1).norm(dim=1).max()) <= made.certified_in_float32


def test_a_certificate_is_read_as_it_was_written_and_holds(
    case: Case, target: Target, ticket: slth.Ticket, certificates: dict[str, Certificate], tmp_path: Path
) -> None:
    for name, made in certificates.items():
        assert made.save(tmp_path / name) == (tmp_path / name).stat().st_size
        again = load_certificate(tmp_path / name)
        assert again == made
        checked = check_certificate(again, ticket, target, data=(inputs(case.shape, 3, box_of(case), 2), None))
        assert checked.holds and checked.reasons == ()


def test_copies_say_that_they_fall_back(case: Case, certificates: dict[str, Certificate], kind: str) -> None:
    fell_back = any("intervals" in note for note in certificates["box"].notes)
    assert fell_back == kind.startswith("copies")


# Bounds and norms.


def test_each_method_is_at_least_as_tight_as_the_one_before(case: Case, target: Target, ticket: slth.Ticket) -> None:
    subject = prepare(ticket, target)
    (region,) = regions.parse(box_of(case)).regions(case.shape)
    found = [bound(subject.hidden, subject.realised, region, method) for method in METHODS]
    for loose, tight in itertools.pairwise(found):
        assert bool((tight.components <= loose.components).all())
        assert tight.layer_errors.keys() == loose.layer_errors.keys() == {layer.name for layer in subject.hidden}


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=9))
def test_norms_are_rounded_up(numbers: list[float]) -> None:
    components = torch.tensor(numbers, dtype=torch.float64)
    exact = [Fraction(number) for number in numbers]
    assert norm(components, "max") == norm(components, "components") == max(numbers)
    assert Fraction(norm(components, "l1")) >= sum(exact)
    assert Fraction(norm(components, "l2")) ** 2 >= sum(number**2 for number in exact)
    assert norm(components, "l2") <= norm(components, "l1") * (1 + 1e-12)


def test_norms_of_tiny_and_of_no_errors() -> None:
    tiny = torch.full((3,), 1e-200, dtype=torch.float64)
    assert norm(tiny, "l2") >= 1.7320508075688772e-200
    assert norm(torch.zeros(3), "l2") == 0.0
    with pytest.raises(ArgumentError, match="norm: got 'l7'"):
        norm(tiny, "l7")


@given(st.floats(0, 1e308))
def test_a_stated_number_is_not_below_the_bound(number: float) -> None:
    assert number <= rounded_up(number) <= number * (1 + 1e-6) + 1e-300
    assert len(repr(rounded_up(number)).replace(".", "").partition("e")[0].strip("0")) <= 7 or number < 1e-300


def test_a_bound_that_is_no_number_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import slth.certify.prove as prove

    real = prove.Bounder.analysed

    def damaged(self: Any, region: Region) -> Any:
        found, known = real(self, region)
        return Bounds(found.components * math.inf, found.method, found.notes, found.layer_errors), known

    monkeypatch.setattr(prove.Bounder, "analysed", damaged)
    with pytest.raises(ArgumentError, match="no finite bound"):
        slth.certify(TICKET, TARGET, (0, 1))


def test_an_activation_without_a_relaxation_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from slth.certify import bounds, relaxation

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    ticket = slth.find_ticket(model, torch.zeros(1, 3), base_set_size=8)
    before = slth.certify(ticket, model, (-1, 1))
    assert before.notes == ()
    rules = {name: rule for name, rule in relaxation.RULES.items() if name != "tanh"}
    monkeypatch.setattr(relaxation, "RULES", rules)
    monkeypatch.setattr(bounds, "RULES", rules)
    after = slth.certify(ticket, model, (-1, 1))
    assert after.notes == ("node 'tanh': no relaxation of tanh, bounded by intervals",)
    assert after.certified_error >= before.certified_error


# Inputs by themselves.


def exact_outputs(model: torch.nn.Module, x: torch.Tensor) -> list[Fraction]:
    """A ReLU perceptron in rational numbers."""
    values = [Fraction(entry) for entry in x.tolist()]
    for layer in model:  # type: ignore[attr-defined]
        if isinstance(layer, torch.nn.ReLU):
            values = [max(value, Fraction(0)) for value in values]
            continue
        rows, biases = layer.weight.detach().double().tolist(), layer.bias.detach().double().tolist()
        products = [[Fraction(w) * v for w, v in zip(row, values, strict=True)] for row in rows]
        values = [sum(row, Fraction(bias)) for row, bias in zip(products, biases, strict=True)]
    return values


def test_exact_outputs_are_within_the_rounding_at_inputs() -> None:
    subject = prepare(TICKET, TARGET)
    found = evaluate(subject.hidden, subject.realised, X).target
    for x, values, offs in zip(X, found.value.tolist(), found.off.tolist(), strict=True):
        for exact, value, off in zip(exact_outputs(HONEST.model, x), values, offs, strict=True):
            assert abs(exact - Fraction(value)) <= Fraction(off) <= Fraction(1, 10**10)


def test_inputs_by_themselves_are_exact_up_to_rounding() -> None:
    made = slth.certify(TICKET, TARGET, regions.points(X))
    assert made.observed_error is not None
    assert made.observed_error <= made.certified_error <= made.observed_error * (1 + 1e-6) + 1e-11
    boxes = slth.certify(TICKET, TARGET, regions.points(X), method="interval")
    assert boxes.certified_error >= made.certified_error


# The search.


@given(st.integers(0, 99), st.sampled_from(["box", "ball 1", "ball 2", "clipped"]))
def test_the_search_stays_in_the_region(seed: int, kind: str) -> None:
    """The difference of the two networks is how far a point is outside."""
    made: dict[str, Region] = {
        "box": Box(X[0] - 0.1, X[0] + 0.2),
        "ball 1": Ball(X[0], 0.3, 1),
        "ball 2": Ball(X[0], 0.3, 2),
        "clipped": regions.around(X[:1], 0.4, 2, (0, 1)).regions((4,))[0],
    }
    region = made[kind]
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach())
            return x * torch.tensor([1.0, -2.0, 3.0, 0.5])

    found = search_regions(Recorder(), torch.nn.Identity(), [region], "l1", seed, 5, 8)
    x = torch.cat(seen)
    assert bool((x >= region.lower).all()) and bool((x <= region.upper).all())
    ball = getattr(region, "ball", region)
    if isinstance(ball, Ball):
        assert float((x - ball.centre).norm(p=ball.p, dim=1).max()) <= ball.radius
        assert float((x - ball.centre).norm(p=ball.p, dim=1).max()) >= 0.9 * ball.radius
    errors = (x * torch.tensor([0.0, -3.0, 2.0, -0.5])).abs().sum(dim=1)
    assert float(found.largest) == pytest.approx(float(errors.max()))


@pytest.mark.parametrize("domain", [(0, 1), regions.ball(0.1, 1.2), regions.ball(0.1, 2.0, 1)], ids=str)
def test_data_inside_count_and_data_outside_do_not(domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a search that finds nothing the data are all there is."""
    import slth.certify.prove as prove

    nothing = Found(torch.zeros(1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    monkeypatch.setattr(prove, "search_regions", lambda *_: nothing)
    case = Case(mlp((4, 6, 5, 3)), (4,), {"base_set_size": 9})
    ticket, target = case.find(), case.target()
    x = inputs((4,), 60, (-1, 1), 0)
    inside = {"[0, 1]": (x >= 0).all(dim=1) & (x <= 1).all(dim=1)}
    for p, radius in ((2, 1.2), (1, 2.0)):
        inside[regions.ball(0.1, radius, p).describe()] = (x - 0.1).norm(p=p, dim=1) < radius
    made = slth.certify(ticket, target, domain, data=(x, None))
    chosen = x[inside[made.words]]
    assert 0 < len(chosen) < 60
    ours, theirs = prepare(ticket, target).networks(Sign.SIGNED)
    with torch.no_grad():
        expected = float((ours(chosen) - theirs(chosen)).abs().max())
    assert made.observed_error == pytest.approx(expected)
    assert slth.certify(ticket, target, domain, data=(x * 0 - 50, None)).observed_error == 0.0


# Bad input.


def test_another_sign_another_shape_and_another_target_are_refused() -> None:
    with pytest.raises(ArgumentError, match="a sign that the ticket was not made for"):
        slth.certify(TICKET, TARGET, (-1, 1))
    with pytest.raises(ArgumentError, match="a sign"):
        slth.certify(TICKET, TARGET, regions.around(X, 2.0))
    with pytest.raises(ArgumentError, match="input shape"):
        slth.certify(TICKET, TARGET, regions.points(torch.zeros(2, 7)))
    with pytest.raises(ArgumentError, match="method"):
        slth.certify(TICKET, TARGET, (0, 1), method="magic")
    with pytest.raises(ArgumentError, match="norm"):
        slth.certify(TICKET, TARGET, (0, 1), norm="l7")
    with pytest.raises(MismatchError, match="target"):
        slth.certify(TICKET, mlp((4, 6, 5, 3), seed=1), (0, 1))


def test_what_is_found_beyond_what_is_proved_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import slth.certify.prove as prove

    real = prove.Bounder.analysed

    def damaged(self: Any, region: Region) -> Any:
        found, known = real(self, region)
        return Bounds(found.components / 100, found.method, found.notes, found.layer_errors), known

    monkeypatch.setattr(prove.Bounder, "analysed", damaged)
    with pytest.raises(ArgumentError, match="report it"):
        slth.certify(TICKET, TARGET, (0, 1))


def test_other_digests_are_named() -> None:
    made = slth.certify(TICKET, TARGET, (0, 1), search=False)
    assert made.observed_error is None and made.ratio is None
    assert made.target_digest == TARGET.digest() and made.ticket_digest == digest_of_ticket(TICKET)
    other = HONEST.find(TARGET, seed=1)
    assert digest_of_ticket(other) != made.ticket_digest
    with pytest.raises(MismatchError, match=r"^ticket: "):
        check_certificate(made, other, TARGET)
    with pytest.raises(MismatchError, match=r"^target: "):
        check_certificate(dataclasses.replace(made, target_digest="0" * 64), TICKET, TARGET)
    claims = tuple(dataclasses.replace(facts, missed=facts.missed + 1) for facts in TICKET.facts)
    assert digest_of_ticket(dataclasses.replace(TICKET, facts=claims)) == made.ticket_digest


AROUND = slth.certify(TICKET, TARGET, regions.around(X, 0.02, clip=(0, 1)), labels=True, data=(X, [0, 1, 2, 0, 1, 2]))

LIES: dict[str, dict[str, Any]] = {
    "a smaller error": {"certified_error": AROUND.certified_error * 0.999},
    "no error": {"certified_error": 0.0},
    "smaller components": {"components": tuple(bound * 0.999 for bound in AROUND.components)},
    "fewer components": {"components": AROUND.components[:1]},
    "another number of regions": {"regions": 5},
    "other words": {"words": "all reals"},
    "no notes": {"notes": ("none",)},
    "smaller quantiles": {"quantiles": {**(AROUND.quantiles or {}), "median": 0.0}},
    "a smaller bound behind a layer": {"layer_errors": {**AROUND.layer_errors, "0": 0.0}},
    "a layer that is not there": {"layer_errors": {"9": 1.0}},
    "a smaller float32 term": {"float32_error": 0.0},
    "more classes": {"labels": {**(AROUND.labels or {}), "same": 7}},
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_does_not_hold(name: str) -> None:
    lie = dataclasses.replace(AROUND, **LIES[name])
    checked = check_certificate(from_bytes(lie.to_bytes()), TICKET, TARGET, data=(X, [0, 1, 2, 0, 1, 2]))
    assert not checked.holds and checked.reasons
    json.dumps(checked.to_json(), allow_nan=False)


def test_a_larger_claim_holds() -> None:
    more = dataclasses.replace(AROUND, certified_error=AROUND.certified_error * 2, float32_error=None)
    assert check_certificate(more, TICKET, TARGET, data=(X, [0, 1, 2, 0, 1, 2])).holds


# The file.


def written(**changes: Any) -> bytes:
    """A file with other fields; a change to ``...`` takes the field out."""
    value = {**AROUND.to_json(), **changes}
    kept = {key: entry for key, entry in value.items() if entry is not ...}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_the_file_is_canonical() -> None:
    assert written() == AROUND.to_bytes()
    assert from_bytes(AROUND.to_bytes()) == AROUND
    for other in (AROUND.to_bytes() + b"\n", AROUND.to_bytes().replace(b',"', b', "'), AROUND.to_bytes()[:-1]):
        with pytest.raises(CertificateError, match="written as slth writes"):
            from_bytes(other)


@pytest.mark.parametrize("name", sorted(AROUND.to_json()))
def test_every_field_must_be_there_and_of_its_kind(name: str) -> None:
    for value in (..., [None], {"a": {}}, "\u00fc", True, -1, -1.0, math.nan, math.inf):
        if name == "words" and value == "\u00fc":
            continue
        with pytest.raises(CertificateError):
            from_bytes(written(**{name: value}))


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    bad = {
        b"": "not JSON",
        b"[]": "an object",
        b"{": "not JSON",
        b"\xff\xfe": "not JSON",
        b'{"format":1}': "no field",
        b'{"format":2}': "format",
        b"[" * 100_000: "not JSON",
        AROUND.to_bytes()[:200]: "truncated",
        written(colour="red"): "unknown field 'colour'",
        written()[:-2] + b',"words":"twice"}\n': "twice",
        TICKET_BYTES: "not JSON",
    }
    for content, words in bad.items():
        path = tmp_path / "c.json"
        path.write_bytes(content)
        with pytest.raises(CertificateError, match=words) as caught:
            load_certificate(path)
        assert str(path) in str(caught.value)
    with pytest.raises(CertificateError, match="no such file"):
        load_certificate(tmp_path / "missing.json")
    with pytest.raises(CertificateError):
        load_certificate(tmp_path)


def _ticket_bytes() -> bytes:
    from slth.artifact import to_bytes

    return to_bytes(TICKET)


TICKET_BYTES = _ticket_bytes()


def test_the_package_is_a_function_too() -> None:
    import slth.certify.verify

    assert callable(slth.certify) and slth.certify.verify is not None
    made = slth.certify(TICKET, HONEST.model, (0, 1), search=False)
    assert isinstance(made, slth.Certificate) and made.words == "[0, 1]" and made.labels is None
    assert set(AROUND.labels or {}) == set(COUNTS)


def test_a_convolution_over_preprocessed_pixels() -> None:
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 6, "domain": (-3, 3)})
    made = slth.certify(case.find(), case.target(), regions.preprocessed((0.4, 0.5, 0.4, 0.5), 0.25))
    assert made.words == "pixels in [0, 1] less [0.4, 0.5, 0.4, 0.5], divided by 0.25"
    assert made.observed_error is not None and 0 < made.observed_error <= made.certified_error
