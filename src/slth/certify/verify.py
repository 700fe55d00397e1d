"""slth verify: everything that a ticket claims, recomputed from the file and the target."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.candidates import compared
from slth.certify.bounds import Bounds
from slth.certify.bounds import bound as bound_over
from slth.certify.cost import linear_seconds
from slth.certify.region import Box
from slth.certify.search import Progress, largest_difference, search, silent
from slth.certify.subject import Subject, prepare
from slth.data import Data
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Graph, Sign
from slth.network.target import Target, WeightLayer
from slth.plain_layers import own_network
from slth.probes import target_probe_outputs
from slth.realise import RealisedLayer, survivors_digest
from slth.threads import fitting_threads
from slth.ticket import ERROR_EDGES, LayerFacts, Ticket

PATIENCE_SECONDS = 60.0
"""Linear bounds that would take longer are made when they are asked for (chosen)."""


@dataclass(frozen=True)
class LayerVerification:
    """What was recomputed for one layer; ``certified_error`` is None without a domain."""

    name: str
    weights: int
    source_matches: bool
    max_weight_error: float
    mean_weight_error: float
    missed: int
    certified_error: float | None


@dataclass(frozen=True)
class Verification:
    """What is proved and what was found.

    Attributes
    ----------
    holds : bool
        Whether every claim of the ticket is true and, where ``eps`` was given, the certified error is at most that.
    reasons : tuple of str
        Why it does not hold; empty where it does.
    eps : float or None
        Output error that was asked for.
    certified_error : float or None
        Proved upper bound on the largest output error over the domain; None without a domain, infinite (in JSON null)
        where an operation has no bound, of which the notes say which one.
    observed_error : float or None
        Largest output error found by search in the domain and on the data; None without either.
    max_weight_error : float
        Largest |weight - realised weight|.
    missed : int
        Weights farther off than the ticket's tolerance.
    accuracy_target, accuracy_ticket : float or None
        Percent of the labelled data that each classifies right.
    domain : str
        The domain in words.
    n_data, n_outside : int
        Inputs of the data, and how many of them lie outside the domain (left out of ``observed_error``).
    seconds : float
    layers : tuple of LayerVerification
    assumed : tuple of str
        Names of users' own activations whose numbers were tried, not proved: what is certified holds if they are true.
    method : str or None
        By which the certified errors were proved, one of :data:`slth.certify.bounds.METHODS`; None without a domain.
    notes : tuple of str
        Where a looser method had to do, and why.
    """

    holds: bool
    reasons: tuple[str, ...]
    eps: float | None
    certified_error: float | None
    observed_error: float | None
    max_weight_error: float
    missed: int
    accuracy_target: float | None
    accuracy_ticket: float | None
    domain: str
    n_data: int
    n_outside: int
    seconds: float
    layers: tuple[LayerVerification, ...]
    assumed: tuple[str, ...] = ()
    method: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Certified over observed error; None where there is none of one or nothing was found."""
        return (
            None
            if self.certified_error is None or not self.observed_error or math.isinf(self.certified_error)
            else (self.certified_error / self.observed_error)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, null for what is infinite."""
        layers = [asdict(layer) | {"certified_error": _stated(layer.certified_error)} for layer in self.layers]
        lists = {"reasons": list(self.reasons), "layers": layers, "certified_error": _stated(self.certified_error)}
        more = {"assumed": list(self.assumed), "notes": list(self.notes), "ratio": self.ratio}
        return {**asdict(self), **lists, **more}


def _stated(bound: float | None) -> float | None:
    return None if bound is None or math.isinf(bound) else bound


def verify(
    ticket: Ticket,
    model: torch.nn.Module | Target | None,
    domain: Any = None,
    *,
    data: Data | tuple[Any, Any] | None = None,
    eps: float | None = None,
    seed: int = 0,
    method: str | None = None,
    example_input: torch.Tensor | None = None,
    on_progress: Progress = silent,
) -> Verification:
    """Check a ticket from anybody against the target, trusting nothing that it says.

    The source is regenerated from the seed, the mask applied, every realised weight compared with the target's, and
    the output error bounded over the domain.

    Parameters
    ----------
    ticket : Ticket
    model : torch.nn.Module, Target or None
        The target that the ticket claims to be. None for one that has none, a mask over a random network of its own
        shape: the network that seed and mask give, which must be the one that the file says it is.
    domain : pair of numbers or of tensors, optional
        Box for the proof and the search; without one nothing is proved about outputs.
    data : Data or (inputs, labels or None), optional
        For the observed error and, where there are labels, the accuracies.
    eps : float, optional
        Output error that must be certified for the ticket to hold; needs a domain.
    seed : int
        Of the search for the largest error.
    method : {"linear", "interval", "norm"}, optional
        Of the proof. Default: linear, or interval with a note where linear bounds would take long.
    example_input : tensor, optional
        For a module whose input shape differs from the ticket's.
    on_progress : callable, optional
        Called with what is being done, how much of it is done and how much there is.

    Raises
    ------
    MismatchError
        If the ticket was made for another target.
    ArgumentError
        If there is no target and the ticket was made for one, the domain does not fit, or ``eps`` is not a positive
        number.
    """
    begin = time.perf_counter()
    box = Domain.parse(domain)
    _check_eps(eps, box)
    own, model = model is None, own_network(ticket) if model is None else model
    claimed = ticket.target_digest
    if own and isinstance(model, Target):
        ticket = replace(ticket, target_digest=model.digest())
    subject = prepare(ticket, model, example_input, on_progress)
    target, hidden, realised = subject.target, subject.hidden, subject.realised
    if data is not None and not isinstance(data, Data):
        data = Data.build(*data)
    inputs = None if data is None else subject.taken(data.inputs_for(target.graph.input_shape))
    if box.bounded:
        subject.check_tokens([Box(*box.bounds(target.graph.input_shape))])
    bound = _bound(subject, box, method, on_progress) if box.bounded else None
    layers, reasons = _check_layers(ticket, hidden, compared(hidden, realised), bound)
    reasons += _check_probes(ticket, target)
    if own and claimed != ticket.target_digest:
        reasons.append(f"claims the digest {claimed[:16]} of a network that is {ticket.target_digest[:16]}")
    if box.bounded:
        reasons += _check_domain(ticket, box)
    ours, theirs = subject.networks(box.sign)
    with fitting_threads(target.n_weights):
        observed, n_outside = _observe(ours, theirs, target.graph, box, inputs, seed, on_progress)
    reasons += _check_outputs(bound, observed, eps)
    of_theirs, of_ours = (_accuracy(network, data, inputs, target.dtype) for network in (theirs, ours))
    return Verification(
        holds=not reasons,
        reasons=tuple(reasons),
        eps=eps,
        certified_error=None if bound is None else bound.output_error,
        observed_error=observed,
        max_weight_error=max(layer.max_weight_error for layer in layers),
        missed=sum(layer.missed for layer in layers),
        accuracy_target=of_theirs,
        accuracy_ticket=of_ours,
        domain=box.describe(),
        n_data=0 if inputs is None else len(inputs),
        n_outside=n_outside,
        seconds=time.perf_counter() - begin,
        layers=tuple(layers),
        assumed=subject.own_names(),
        method=None if bound is None else bound.method,
        notes=() if bound is None else bound.notes,
    )


def _bound(subject: Subject, box: Domain, method: str | None, on_progress: Progress) -> Bounds:
    """Bounds over a box, by the tightest method that does not take long unless one is asked for."""
    region = Box(*box.bounds(subject.target.graph.input_shape))
    chosen, notes = method or "linear", tuple[str, ...]()
    if method is None:
        seconds = linear_seconds(subject.hidden, subject.realised)
        if seconds > PATIENCE_SECONDS:
            chosen = "interval"
            about = f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.0f} hours"
            notes = (f"interval bounds: linear ones would take about {about} (slth certify makes them)",)
    on_progress("proof", 0, 1)
    found = bound_over(subject.hidden, subject.realised, region, chosen)
    on_progress("proof", 1, 1)
    return replace(found, notes=(*notes, *found.notes))


def _check_eps(eps: float | None, box: Domain) -> None:
    if eps is not None and not (math.isfinite(eps) and eps > 0):
        raise ArgumentError("eps", str(eps), "a number above 0")
    if eps is not None and not box.bounded:
        raise ArgumentError("eps", "no domain to prove it on", "a domain", "--domain 0,1")


def _accuracy(
    network: torch.nn.Module, data: Data | None, inputs: torch.Tensor | None, dtype: torch.dtype
) -> float | None:
    """Percent of the labelled data that a network classifies right, in the precision in which a person runs it."""
    if data is None or inputs is None or data.labels is None:
        return None
    return data.accuracy(network.to(dtype), inputs.to(dtype) if inputs.is_floating_point() else inputs)


def _layer_errors(
    layer: WeightLayer, realised: RealisedLayer, sign: Sign
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|weight - realised weight| over the signs that count, then of the biases, each with its rounding slack.

    Where inputs are shifted and the target has no biases, what is left of the shift counts with the first weight.
    """
    weight, bias, shifted = layer.weight_array(), layer.bias_array(), realised.shifted
    errors = np.max([shifted.deviation(weight, branch) for branch in sign.branches], axis=0)
    bias_errors, slack, bias_slack = shifted.bias_deviation(bias), shifted.slack, shifted.bias_slack
    if bias_errors is None or bias_slack is None or (bias is None and not realised.shift):
        return errors.ravel(), slack.ravel()
    if bias is not None:
        return np.concatenate([errors.ravel(), bias_errors]), np.concatenate([slack.ravel(), bias_slack])
    slack = slack.copy()
    for into, part in ((errors, bias_errors), (slack, bias_slack)):
        into[:, 0, 0] = np.maximum(into[:, 0, 0], part)
    return errors.ravel(), slack.ravel()


def _check_layers(
    ticket: Ticket, target: Target, realised: Mapping[str, RealisedLayer], bound: Bounds | None
) -> tuple[list[LayerVerification], list[str]]:
    """Recompute each layer's facts and compare them with the ticket's claims."""
    layers, reasons = [], []
    signs = target.input_signs(Domain.parse(ticket.domain).sign)
    for layer, (source, mask, facts) in zip(target, ticket.layers, strict=True):
        errors, slack = _layer_errors(layer, realised[facts.name], facts.input_sign)
        tolerance = math.inf if ticket.tolerance is None else ticket.tolerance
        matches = survivors_digest(source, mask) == facts.survivors_digest
        checked = LayerVerification(
            name=layer.name,
            weights=layer.n_weights,
            source_matches=matches,
            max_weight_error=float(errors.max()),
            mean_weight_error=float(errors.mean()),
            missed=int((errors > tolerance).sum()),
            certified_error=None if bound is None else bound.layer_errors[facts.name],
        )
        layers.append(checked)
        reasons += [
            f"layer {layer.name!r}: {reason}" for reason in _false_claims(facts, checked, errors, slack, tolerance)
        ]
        if facts.input_sign is not signs[layer.name] and facts.input_sign is not Sign.SIGNED:
            reasons.append(f"layer {layer.name!r}: its input is {signs[layer.name]}, not {facts.input_sign}")
    return layers, reasons


def _false_claims(
    facts: LayerFacts,
    checked: LayerVerification,
    errors: NDArray[np.float64],
    slack: NDArray[np.float64],
    tolerance: float,
) -> list[str]:
    reasons = []
    if not checked.source_matches:
        reasons.append("surviving weights differ from the regenerated source's")
    if facts.n_weights != checked.weights:
        reasons.append(f"claims {facts.n_weights} weights, has {checked.weights}")
    # What rounding leaves open; 1e-15 is more than the subtraction's own.
    least, largest = errors * (1 - 1e-15) - slack, errors * (1 + 1e-15) + slack
    if not (least > tolerance).sum() <= facts.missed <= (largest > tolerance).sum():
        reasons.append(f"claims {facts.missed} missed weights, has {checked.missed}")
    if not _fits_histogram(facts.error_histogram, least, largest):
        reasons.append("claims an error histogram that is not its errors'")
    room = float(slack.max()) + 1e-15 * checked.max_weight_error
    for name in ("max_weight_error", "mean_weight_error"):
        claimed, found = getattr(facts, name), getattr(checked, name)
        if not abs(claimed - found) <= room:
            reasons.append(f"claims a {name.replace('_', ' ')} of {claimed:.6g}, has {found:.6g}")
    return reasons


def _fits_histogram(claimed: Sequence[int], least: NDArray[np.float64], largest: NDArray[np.float64]) -> bool:
    """Whether up to each edge there are as many errors as claimed; an error is known to lie between two bounds."""
    up_to = np.cumsum(claimed)
    fewest = np.searchsorted(np.sort(largest), ERROR_EDGES, side="right")
    most = np.searchsorted(np.sort(least), ERROR_EDGES, side="right")
    return bool(up_to[-1] == least.size and ((fewest <= up_to[:-1]) & (up_to[:-1] <= most)).all())


def _check_probes(ticket: Ticket, target: Target) -> list[str]:
    """Compare the target's stored outputs on the seeded inputs; other machines may add in another order."""
    expected = target_probe_outputs(target, ticket.spec.seed, Domain.parse(ticket.domain), len(ticket.probe_outputs))
    room = 1e-5 * float(np.abs(expected).max())
    if ticket.probe_outputs.shape == expected.shape and (np.abs(ticket.probe_outputs - expected) <= room).all():
        return []
    return ["claims outputs of the target on the probes that it does not have"]


def _check_domain(ticket: Ticket, box: Domain) -> list[str]:
    made_for = Domain.parse(ticket.domain)
    if set(box.sign.branches) <= set(made_for.sign.branches):
        return []
    return [
        f"the domain {box.describe()} holds inputs of a sign that the ticket was not made for ({made_for.describe()})"
    ]


def _observe(
    ours: torch.nn.Module,
    theirs: torch.nn.Module,
    graph: Graph,
    box: Domain,
    inputs: torch.Tensor | None,
    seed: int,
    on_progress: Progress,
) -> tuple[float | None, int]:
    """Largest error found, and how many of the data lie outside the domain."""
    shape = graph.input_shape
    if inputs is None and not box.bounded:
        return None, 0
    observed, n_outside = 0.0, 0
    inside = inputs
    if inputs is not None and box.bounded:
        lower, upper = box.bounds(shape)
        within = ((inputs >= lower) & (inputs <= upper)).flatten(1).all(dim=1)
        inside, n_outside = inputs[within], int((~within).sum())
    if inside is not None and len(inside):
        observed = largest_difference(ours, theirs, inside, on_progress)
    if box.bounded:
        observed = max(observed, search(ours, theirs, box, shape, inside, seed, on_progress, graph.classes > 0))
    return observed, n_outside


def _check_outputs(bound: Bounds | None, observed: float | None, eps: float | None) -> list[str]:
    reasons = []
    if bound is not None and eps is not None and not bound.output_error <= eps:
        proved = math.isfinite(bound.output_error)
        what = (
            f"the certified error {bound.output_error:.4g} is larger than" if proved else "nothing is certified within"
        )
        reasons.append(f"{what} {eps:g}")
    if bound is not None and observed is not None and not observed <= bound.output_error:
        reasons.append(f"an error of {observed:.6g} was observed beyond the certified {bound.output_error:.6g}")
    return reasons
