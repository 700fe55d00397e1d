"""Everything that a neuron ticket claims, recomputed from the file and the samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError, DataError, MismatchError
from slth.neurons.find import function_coefficients
from slth.neurons.fit import Progress, fit, silent
from slth.neurons.measure import measure
from slth.neurons.prune import aims
from slth.neurons.samples import Samples, unit_ball
from slth.neurons.threads import linear_algebra
from slth.neurons.ticket import AIM_UNIT, FUNCTION, Measured, NeuronTicket, sampled_pairs

Floats = NDArray[np.float64]

ROOM = 1e-6
"""What the rounding of another machine's linear algebra may change in û and, relatively, in C (chosen)."""
CLAIM_ROOM = 1e-5
"""The same for measured numbers, of which a ticket keeps six digits (chosen)."""


@dataclass(frozen=True)
class NeuronVerification:
    """What was recomputed.

    Attributes
    ----------
    holds : bool
    reasons : tuple of str
        Why it does not hold; empty where it does.
    source_matches : bool
        Whether the kept weights are the regenerated source's.
    mask_bits, wrong_bits : int
        Of the mask; how many differ from the window rule for the refitted coefficients. ``wrong_bits`` is None where
        the coefficients are a function that was not given.
    error_bound : float
        Uniform over the unit ball, with probability 1 - delta over the second layer; not a certificate of this draw.
    train, test : Measured or None
        As found now.
    seconds : float
    """

    holds: bool
    reasons: tuple[str, ...]
    source_matches: bool
    mask_bits: int
    wrong_bits: int | None
    error_bound: float
    train: Measured | None
    test: Measured | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"construction": "neurons", **asdict(self), "reasons": list(self.reasons)}


def verify_neurons(
    ticket: NeuronTicket,
    samples: Samples | tuple[Any, Any] | None = None,
    test: Samples | tuple[Any, Any] | None = None,
    *,
    function: Callable[[Floats], Floats] | None = None,
    threads: int | None = None,
    on_progress: Progress = silent,
) -> NeuronVerification:
    """Check a ticket from anybody: its weights against the source, its mask and its errors against a fit of its own.

    Parameters
    ----------
    ticket : NeuronTicket
    samples, test : Samples or (inputs, labels), optional
        The training and the test part with which it was found.
    function : callable, optional
        h, of a ticket by :func:`slth.neurons.find.approximate_neurons`.
    threads : int, optional
        Of the linear algebra.
    on_progress : callable, optional
        Called with what is being done, how much of it is done and how much there is.

    Raises
    ------
    ArgumentError
        If the ticket was fitted to samples and none are given.
    MismatchError
        If they are others than those of the ticket.
    """
    begin = time.perf_counter()
    samples, test = (_samples(ticket, part) for part in (samples, test))
    matches = ticket.source.survivors_digest(ticket.mask) == ticket.survivors_digest
    reasons = [] if matches else ["kept weights differ from the regenerated source's"]
    wrong, found = None, dict[str, Measured]()
    with linear_algebra(threads, 0 if samples is None else len(samples.inputs), ticket.source.features):
        coefficients = _coefficients(ticket, samples, function, on_progress)
        if coefficients is not None:
            wrong = _wrong_bits(ticket, coefficients)
            reasons += _check_rule(ticket, coefficients, wrong)
            for name, part, claimed in (("training", samples, ticket.train), ("test", test, ticket.test)):
                if part is not None:
                    found[name] = measure(ticket, coefficients, part, on_progress, f"{name} part")
                    reasons += _false_claims(name, claimed, found[name])
    return NeuronVerification(
        holds=not reasons,
        reasons=tuple(reasons),
        source_matches=matches,
        mask_bits=ticket.mask.size,
        wrong_bits=wrong,
        error_bound=ticket.error_bound,
        train=found.get("training"),
        test=found.get("test"),
        seconds=time.perf_counter() - begin,
    )


def _samples(ticket: NeuronTicket, given: Samples | tuple[Any, Any] | None) -> Samples | None:
    if given is None or isinstance(given, Samples):
        samples = given
    else:
        task = None if ticket.task == FUNCTION else ticket.task
        samples = Samples.build(*given, task, ticket.source.outputs, names=ticket.labels)
    if samples is not None:
        for name, need in (("inputs", ticket.source.inputs), ("targets", ticket.source.outputs)):
            got = getattr(samples, name).shape[1]
            if got != need:
                raise MismatchError(samples.where, f"{name} of {got} entries", f"{need}, as in the ticket")
    return samples


def _coefficients(
    ticket: NeuronTicket, samples: Samples | None, function: Callable[[Floats], Floats] | None, on_progress: Progress
) -> Floats | None:
    if ticket.task == FUNCTION:
        return None if function is None else function_coefficients(ticket.source, function)
    assert ticket.train is not None and ticket.ridge is not None
    if samples is None:
        raise ArgumentError("--data", "nothing", "the data that the ticket was fitted to", "--data digits")
    if samples.digest() != ticket.train.digest:
        got = f"{len(samples.inputs):,} training samples with digest {samples.digest()[:16]}"
        need = f"{ticket.train.samples:,} with {ticket.train.digest[:16]}, to which the ticket was fitted"
        raise MismatchError(samples.where, got, need)
    x = unit_ball(samples.inputs, ticket.input_scale, ticket.source.constant)
    return fit(ticket.source, ticket.sigma, x, samples.targets, ticket.ridge, on_progress, ticket.block_samples)[0]


def _wrong_bits(ticket: NeuronTicket, coefficients: Floats) -> int:
    """Bits that no rounding explains: kept though |v - û| is above τ, or pruned though it is below."""
    distance = np.abs(ticket.source.second().astype(np.float64) - aims(coefficients, ticket.largest, ticket.tau))
    wrong = np.where(ticket.mask, distance > ticket.tau + ROOM, distance < ticket.tau - ROOM)
    return int(wrong.sum())


def _check_rule(ticket: NeuronTicket, coefficients: Floats, wrong: int) -> list[str]:
    """No bit is wrong, and C is max |u|, rounded up to 12 bits, which adds less than 2^-11 of it."""
    reasons = [f"{wrong:,} of {ticket.mask.size:,} mask bits are not what the window rule says"] if wrong else []
    if ticket.aims is not None:
        aim = aims(coefficients, ticket.largest, ticket.tau)[sampled_pairs(ticket.source)]
        false = int((np.abs(ticket.aims * AIM_UNIT - aim) > AIM_UNIT / 2 + ROOM).sum())
        reasons += [f"{false:,} of the {len(aim):,} coefficients kept for pictures are others"] if false else []
    found = np.abs(coefficients).max(axis=1)
    fits = (ticket.largest >= found * (1 - ROOM)) & (ticket.largest <= found * (1 + ROOM) * (1 + 2.0**-11))
    if fits.all():
        return reasons
    worst = int(np.argmin(fits))
    claim = f"claims {ticket.largest[worst]:.6g} as largest coefficient of output {worst}, which is {found[worst]:.6g}"
    return [*reasons, claim]


def _false_claims(name: str, claimed: Measured | None, found: Measured) -> list[str]:
    if claimed is None:
        return []
    if claimed.digest != found.digest:
        got = f"{found.samples:,} {name} samples with digest {found.digest[:16]}"
        raise DataError("data", got, f"{claimed.samples:,} with {claimed.digest[:16]}, as in the ticket")
    reasons = []
    for key, number in asdict(found).items():
        said = getattr(claimed, key)
        same = said == number
        if key == "spread" and said is None:
            continue
        if isinstance(number, float) and isinstance(said, float):
            same = abs(said - number) <= CLAIM_ROOM * (abs(number) + 1e-3)
        if not same:
            reasons.append(f"{name} part: claims {key.replace('_', ' ')} {said}, has {number}")
    return reasons
