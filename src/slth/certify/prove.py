"""slth.certify: the proof over a set of inputs, and the search beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

import slth
from slth.certify.bounds import Bounder, check_method, check_norm
from slth.certify.bounds import norm as norm_of
from slth.certify.carry import Analysis
from slth.certify.certificate import ARITHMETIC, QUANTILES, Certificate, rounded_up
from slth.certify.cost import linear_seconds
from slth.certify.float32 import float32_error
from slth.certify.labels import Classes
from slth.certify.points import Outputs, evaluate, exactly_known, joined
from slth.certify.propagation import propagated, unbounded
from slth.certify.region import Ball, Region
from slth.certify.regions import Around, InputSet, parse
from slth.certify.search import RESTARTS, STEPS, Found, Progress, search_regions, silent, size_of
from slth.certify.subject import Subject, digest_of_ticket, prepare
from slth.data import Data
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.target import Target
from slth.threads import fitting_threads
from slth.ticket import Ticket

_AT_ONCE = 256
"""Inputs that are evaluated together (chosen)."""
FLOAT32_REGIONS = 32
"""Of more regions nothing is proved of float32, which would take as long again (chosen)."""
PATIENCE_SECONDS = 60.0
"""A relaxation that is not asked for is not made if it would take longer (chosen)."""
_RESTARTS, _STEPS = 4, 20
"""Of the search in each region, where there are several (chosen)."""


@dataclass(frozen=True)
class Proof:
    """Bounds over all regions of a set of inputs.

    Attributes
    ----------
    errors : tensor, (regions,)
        In the norm that was asked for.
    components : tensor, (outputs,)
        The largest over the regions.
    layer_errors : mapping of str to float
    notes : tuple of str
    float32 : tensor, (outputs,), or None
        What evaluation in float32 adds, output by output.
    classes : Classes or None
        Of the inputs in the middle of the regions, where they were asked for.
    """

    errors: torch.Tensor
    components: torch.Tensor
    layer_errors: Mapping[str, float]
    notes: tuple[str, ...]
    float32: torch.Tensor | None = None
    classes: Classes | None = None


def certify(
    ticket: Ticket,
    model: torch.nn.Module | Target,
    domain: Any,
    *,
    norm: str = "max",
    method: str = "linear",
    data: Data | tuple[Any, Any] | None = None,
    labels: bool = False,
    search: bool = True,
    example_input: torch.Tensor | None = None,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Certificate:
    """Prove how far a ticket's outputs can be from its target's over a set of inputs.

    The source is regenerated from the seed and the mask applied; nothing that the ticket says of itself is trusted.

    Parameters
    ----------
    ticket : Ticket
    model : torch.nn.Module or Target
        The target that the ticket was made for.
    domain : InputSet, Domain or pair of numbers or of tensors
        See :mod:`slth.certify.regions` for balls, sets of inputs, and boxes and balls around them.
    norm : {"max", "l1", "l2", "components"}
        Of the output error.
    method : {"linear", "interval", "norm"}
        From the tightest to the cheapest.
    data : Data or (inputs, labels or None), optional
        Tried besides random points and ascent, where they lie in a box or a ball. With ``labels``, those of the inputs
        that the domain is made of.
    labels : bool
        Whether to count, too, for how many of the inputs that the domain is made of target and ticket provably answer
        the same class, there and in the region around it.
    search : bool
        Whether to look for the largest error too.
    example_input : tensor, optional
        For a module whose input shape differs from the ticket's.
    seed : int
        Of the search.
    on_progress : callable, optional
        Called with what is being done, how much of it is done and how much there is.

    Raises
    ------
    MismatchError
        If the ticket was made for another target.
    ArgumentError
        If the domain does not fit the network or holds inputs of a sign that the ticket was not made for, or nothing
        finite can be proved though every operation has a bound. Where one has none the certificate's error is infinite,
        and its notes say up to where it holds.
    """
    begin = time.perf_counter()
    check_norm(norm)
    check_method(method)
    subject = prepare(ticket, model, example_input, on_progress)
    wanted = Wanted(norm, method, labels, search, seed)
    return certify_subject(subject, parse(domain), wanted, data, on_progress, begin)


@dataclass(frozen=True)
class Wanted:
    """What a certificate is to say."""

    norm: str
    method: str
    labels: bool
    search: bool
    seed: int


def certify_subject(
    subject: Subject,
    inputs: InputSet,
    wanted: Wanted,
    data: Data | tuple[Any, Any] | None,
    on_progress: Progress,
    begin: float,
) -> Certificate:
    """As :func:`certify`, of what was brought together before."""
    norm, given = wanted.norm, data if data is None or isinstance(data, Data) else Data.build(*data)
    regions = inputs.regions(subject.target.graph.input_shape)
    subject.check_tokens(regions)
    sign = sign_of(regions)
    subject.check_sign(sign, inputs.describe())
    proof = prove(subject, inputs, regions, wanted, on_progress)
    largest = float(proof.errors.max())
    if not math.isfinite(largest) and not proof.notes:
        got = f"{inputs.describe()}, over which no finite bound was found"
        raise ArgumentError("domain", got, "a smaller set of inputs", "a smaller radius")
    found = None
    if wanted.search:
        with fitting_threads(subject.target.n_weights):
            found = observe(subject, regions, sign, given, wanted, on_progress)
        _check_found(found, proof, subject)
    stated = [rounded_up(bound) for bound in proof.components.tolist()]
    return Certificate(
        target_digest=subject.target.digest(),
        ticket_digest=digest_of_ticket(subject.ticket),
        domain=inputs.to_json(),
        words=inputs.describe(),
        norm=norm,
        method=wanted.method,
        certified_error=rounded_up(largest),
        components=tuple(stated),
        regions=len(regions),
        quantiles=_quantiles(proof.errors) if len(regions) > 1 else None,
        layer_errors={name: rounded_up(error) for name, error in proof.layer_errors.items()},
        float32_error=None if proof.float32 is None else rounded_up(norm_of(proof.float32, norm)),
        observed_error=None if found is None else float(found.largest.max()),
        median_ratio=None if found is None else _median_ratio(proof.errors, found.largest),
        notes=proof.notes,
        assumed=subject.own_names(),
        arithmetic=ARITHMETIC,
        seed=wanted.seed,
        labels=None if proof.classes is None else _counts(proof.classes, given),
        versions={"slth": slth.__version__, "torch": torch.__version__},
        seconds=time.perf_counter() - begin,
    )


def prove(subject: Subject, inputs: InputSet, regions: list[Region], wanted: Wanted, on_progress: Progress) -> Proof:
    """Bounds over all regions by a method; inputs by themselves are evaluated where the method is the tightest."""
    bounder = Bounder(subject.hidden, subject.realised, wanted.method)
    sign = sign_of(regions)
    classes = _classes(bounder, inputs, regions, sign, on_progress) if wanted.labels else None
    is_points = isinstance(inputs, Around) and inputs.radius == 0.0
    if is_points and wanted.method == "linear" and exactly_known(subject.hidden, subject.realised, sign):
        return _at_points(subject, bounder, regions, wanted, classes, on_progress)
    all_errors, components, layers, notes = [], None, dict[str, float](), dict[str, None]()
    analyses: dict[int, Analysis | None] = {}
    for number, region in enumerate(regions):
        on_progress("proof", number, len(regions))
        bounds, known = bounder.analysed(region)
        if classes is not None and known is not None:
            classes.add(number, region, known)
        if len(regions) <= FLOAT32_REGIONS:
            analyses[number] = known
        all_errors.append(norm_of(bounds.components, wanted.norm))
        components = bounds.components if components is None else torch.maximum(components, bounds.components)
        layers = {name: max(error, layers.get(name, 0.0)) for name, error in bounds.layer_errors.items()}
        notes |= dict.fromkeys(bounds.notes)
    on_progress("proof", len(regions), len(regions))
    assert components is not None
    errors = torch.tensor(all_errors, dtype=torch.float64)
    single = _float32(subject, regions, analyses, on_progress)
    return Proof(errors, components, layers, tuple(notes), single, classes)


def _at_points(
    subject: Subject,
    bounder: Bounder,
    regions: list[Region],
    wanted: Wanted,
    classes: Classes | None,
    on_progress: Progress,
) -> Proof:
    """Inputs by themselves: both networks evaluated. Where the bound on the rounding is larger than what differs, some
    inputs are bounded by the relaxation, too.
    """
    points = torch.stack([region.lower for region in regions])
    made = joined(list(_evaluated(subject, points, on_progress)))
    found, apart = made.components, (made.ticket.value - made.target.value).abs()
    notes = {"each input by itself: the difference as evaluated, and a bound on its rounding": None}
    errors = [norm_of(row, wanted.norm) for row in found]
    loose = [number for number, row in enumerate(apart) if errors[number] > 2 * norm_of(row, wanted.norm)]
    worst = sorted(loose, key=lambda number: -errors[number])[:FLOAT32_REGIONS]
    analyses: dict[int, Analysis | None] = {}
    if worst and linear_seconds(subject.hidden, subject.realised) <= PATIENCE_SECONDS:
        for done, number in enumerate(worst):
            bounds, analyses[number] = bounder.analysed(regions[number])
            found[number] = torch.minimum(found[number], bounds.components)
            errors[number] = min(errors[number], norm_of(bounds.components, wanted.norm))
            notes |= dict.fromkeys(bounds.notes)
            on_progress("proof", done + 1, len(worst))
    elif worst and math.isinf(errors[worst[0]]):
        one = regions[worst[0]]
        states = propagated(subject.hidden, subject.realised, one.lower, one.upper)
        notes |= dict.fromkeys(unbounded(subject.hidden, states))
    single = _float32(subject, regions, analyses, on_progress)
    return Proof(torch.tensor(errors, dtype=torch.float64), found.amax(dim=0), {}, tuple(notes), single, classes)


def _float32(
    subject: Subject, regions: list[Region], known: Mapping[int, Analysis | None], on_progress: Progress
) -> torch.Tensor | None:
    """What evaluation in float32 adds in any of the regions; None where that is not proved."""
    if len(regions) > FLOAT32_REGIONS:
        return None
    found = []
    for number, region in enumerate(regions):
        found.append(float32_error(subject.hidden, subject.realised, region, known=known.get(number)))
        on_progress("float32", number + 1, len(regions))
    most = torch.stack(found).amax(dim=0)
    return most if bool(torch.isfinite(most).all()) else None


def _classes(bounder: Bounder, inputs: InputSet, regions: list[Region], sign: Sign, on_progress: Progress) -> Classes:
    """What collects the classes of the inputs that a domain is made of.

    Raises
    ------
    ArgumentError
        If it is made of none, or the method is not the one that proves classes.
    """
    if not isinstance(inputs, Around):
        need = "inputs, or what is around inputs"
        raise ArgumentError("labels", f"a domain that is not made of inputs: {inputs.describe()}", need, "--around")
    if bounder.linear is None:
        raise ArgumentError("labels", f"the method {bounder.method}", "linear, which proves classes", "--method linear")
    centres = inputs.centres.reshape(-1, *regions[0].lower.shape)
    return Classes(bounder, centres, inputs.radius > 0.0, sign, on_progress)


def _counts(classes: Classes, data: Data | None) -> dict[str, int | None]:
    labels = None if data is None or data.labels is None else data.labels[: len(classes.same)]
    return classes.count(labels if labels is not None and len(labels) == len(classes.same) else None).to_json()


def _evaluated(subject: Subject, points: torch.Tensor, on_progress: Progress) -> Iterator[Outputs]:
    done = 0
    for chunk in points.split(_AT_ONCE):
        yield evaluate(subject.hidden, subject.realised, chunk)
        done += len(chunk)
        on_progress("inputs", done, len(points))


def observe(
    subject: Subject,
    regions: list[Region],
    sign: Sign,
    data: Data | None,
    wanted: Wanted,
    on_progress: Progress,
) -> Found:
    """The largest error found in each region: in the middle, at random, by ascent, and on data in a single region."""
    ours, theirs = subject.networks(sign)
    kind, seed = "max" if wanted.norm == "components" else wanted.norm, wanted.seed
    whole = subject.target.graph.classes > 0
    if all(torch.equal(region.lower, region.upper) for region in regions):
        return search_regions(ours, theirs, regions, kind, seed, 1, 0, on_progress, whole)
    if len(regions) > 1:
        return search_regions(ours, theirs, regions, kind, seed, _RESTARTS, _STEPS, on_progress, whole)
    found = search_regions(ours, theirs, regions, kind, seed, RESTARTS, STEPS, on_progress, whole)
    if data is None:
        return found
    given = subject.taken(data.inputs_for(subject.target.graph.input_shape))
    inside = given[_within(regions[0], given)]
    largest, components = float(found.largest[0]), found.components
    for chunk in inside.split(_AT_ONCE) if len(inside) else ():
        with torch.no_grad():
            differences = (ours(chunk) - theirs(chunk)).flatten(1)
        largest = max(largest, float(size_of(differences, kind).max()))
        components = torch.maximum(components, differences.abs().amax(dim=0))
    return Found(torch.tensor([largest], dtype=torch.float64), components)


def _within(region: Region, inputs: torch.Tensor) -> torch.Tensor:
    inside = ((inputs >= region.lower) & (inputs <= region.upper)).flatten(1).all(dim=1)
    ball = getattr(region, "ball", region)
    if isinstance(ball, Ball):
        distance = torch.linalg.vector_norm((inputs - ball.centre).flatten(1), ord=ball.p, dim=1)
        # Closer than the radius by more than the rounding of the distance.
        inside &= distance <= ball.radius * (1 - 1e-9)
    return inside


def sign_of(regions: list[Region]) -> Sign:
    """Sign of every entry of every input in some regions."""
    if all(bool((region.lower >= 0).all()) for region in regions):
        return Sign.NONNEGATIVE
    return Sign.NONPOSITIVE if all(bool((region.upper <= 0).all()) for region in regions) else Sign.SIGNED


def _check_found(found: Found, proof: Proof, subject: Subject) -> None:
    """What is found is never beyond what is proved, unless what was registered of an activation is not true.

    Raises
    ------
    ArgumentError
    """
    beyond = (found.largest > proof.errors).nonzero().flatten().tolist()
    if beyond:
        worst = beyond[0]
        got = f"an error of {found.largest[worst]:.6g} where {proof.errors[worst]:.6g} was proved"
        names = ", ".join(subject.own_names())
        need = f"what was registered of {names} to be true" if names else "a bound that holds (please report it)"
        raise ArgumentError("certificate", got, need)


def _quantiles(errors: torch.Tensor) -> dict[str, float]:
    shares = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    # Each an error that is there, the next larger one, so that a share of the regions is really below it.
    places = (shares * (len(errors) - 1)).ceil().long()
    return dict(zip(QUANTILES, map(rounded_up, errors.sort().values[places].tolist()), strict=True))


def _median_ratio(certified: torch.Tensor, observed: torch.Tensor) -> float | None:
    found = (observed > 0) & torch.isfinite(certified)
    return float((certified[found] / observed[found]).median()) if bool(found.any()) else None
