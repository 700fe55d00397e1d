"""A certificate checked again: everything that it claims is proved anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from slth.certify.certificate import QUANTILES, Certificate
from slth.certify.prove import Wanted, certify_subject
from slth.certify.region_file import from_json
from slth.certify.search import Progress, silent
from slth.certify.subject import digest_of_ticket, prepare
from slth.data import Data
from slth.errors import MismatchError
from slth.network.target import Target
from slth.ticket import Ticket


@dataclass(frozen=True)
class CertificateCheck:
    """A certificate checked again.

    Attributes
    ----------
    holds : bool
        Whether everything that it claims was proved again and nothing was found beyond it.
    reasons : tuple of str
        Why it does not hold; empty where it does.
    claimed : Certificate
    again : Certificate
        What was proved and found now.
    """

    holds: bool
    reasons: tuple[str, ...]
    claimed: Certificate
    again: Certificate
    seconds: float = field(default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        both = {"claimed": self.claimed.to_json(), "again": self.again.to_json()}
        return {**asdict(self), "reasons": list(self.reasons), **both}


def check_certificate(
    certificate: Certificate,
    ticket: Ticket,
    model: torch.nn.Module | Target,
    *,
    data: Data | tuple[Any, Any] | None = None,
    example_input: torch.Tensor | None = None,
    seed: int = 0,
    on_progress: Progress = silent,
) -> CertificateCheck:
    """Prove again what a certificate claims, trusting nothing that it says.

    Parameters
    ----------
    certificate : Certificate
    ticket : Ticket
    model : torch.nn.Module or Target
    data : Data or (inputs, labels or None), optional
        The inputs that the claim is made for, where it is made for inputs; else tried besides.
    example_input, seed, on_progress
        As in :func:`certify`.

    Raises
    ------
    MismatchError
        If target, ticket or data are not those of which the certificate speaks.
    ArgumentError
        If it is made for inputs, and there are none.
    """
    begin = time.perf_counter()
    subject = prepare(ticket, model, example_input, on_progress)
    for what, claimed, found in (
        ("target", certificate.target_digest, subject.target.digest()),
        ("ticket", certificate.ticket_digest, digest_of_ticket(ticket)),
    ):
        if claimed != found:
            need = f"{claimed[:16]}, for which the certificate was made"
            raise MismatchError(what, f"one with digest {found[:16]}", need, f"the {what} that was certified")
    labelled = data if data is None or isinstance(data, Data) else Data.build(*data)
    inputs = from_json(certificate.domain, None if labelled is None else labelled.inputs)
    wanted = Wanted(certificate.norm, certificate.method, certificate.labels is not None, True, seed)
    again = certify_subject(subject, inputs, wanted, labelled, on_progress, begin)
    reasons = tuple(_false_claims(certificate, again))
    return CertificateCheck(not reasons, reasons, certificate, again, time.perf_counter() - begin)


def _false_claims(claimed: Certificate, again: Certificate) -> Iterator[str]:
    stated, found = claimed.certified_error, again.observed_error
    if not again.certified_error <= stated:
        yield f"it claims an error of at most {stated:.7g}, {again.certified_error:.7g} is what is proved"
    if found is None or not found <= stated:
        yield f"an error of {found:.7g} was found, beyond the {stated:.7g} that it claims"
    if len(claimed.components) != len(again.components):
        yield f"it has bounds on {len(claimed.components)} outputs, the network {len(again.components)}"
    elif any(not ours <= theirs for ours, theirs in zip(again.components, claimed.components, strict=True)):
        yield "bounds on single outputs are below those that are proved"
    for name in ("words", "regions", "notes", "assumed"):
        if getattr(claimed, name) != getattr(again, name):
            yield f"its {name} are {getattr(claimed, name)!r}, not {getattr(again, name)!r}"
    yield from _false_numbers(claimed, again)
    for name, number in (claimed.labels or {}).items():
        proved = (again.labels or {}).get(name)
        if number is not None and not (proved is not None and number <= proved):
            yield f"it claims {number} inputs for {name.replace('_', ' ')!r}, {proved} is what is proved"


def _false_numbers(claimed: Certificate, again: Certificate) -> Iterator[str]:
    """Bounds besides the first one; where there is none, nothing is claimed."""
    pairs = {"float32_error": (claimed.float32_error, again.float32_error)}
    for name in QUANTILES:
        pairs[f"quantile {name!r}"] = tuple(  # type: ignore[assignment]
            None if one.quantiles is None else one.quantiles[name] for one in (claimed, again)
        )
    for layer, error in claimed.layer_errors.items():
        pairs[f"bound behind layer {layer!r}"] = (error, again.layer_errors.get(layer))
    for what, (theirs, ours) in pairs.items():
        if theirs is not None and not (ours is not None and ours <= theirs):
            yield f"its {what} is {theirs:.7g}, {'nothing' if ours is None else f'{ours:.7g}'} is what is proved"
