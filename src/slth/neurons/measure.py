"""How the pruned network, the average of the blocks and the labels differ on samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slth.neurons.fit import Progress, pieces, silent
from slth.neurons.prune import aims, kept_variance
from slth.neurons.samples import Samples, unit_ball
from slth.neurons.ticket import Measured, NeuronTicket

Floats = NDArray[np.float64]

MOST_MEASURED = 10_000
"""Samples of a part on which a ticket is measured: enough for a percentage to a third of a percent (chosen)."""


def measure(
    ticket: NeuronTicket,
    coefficients: Floats,
    samples: Samples,
    on_progress: Progress = silent,
    name: str = "measuring",
    most: int = MOST_MEASURED,
) -> Measured:
    """Compare a ticket with the average of the block predictors whose coefficients (outputs, width) it follows.

    On at most so many of the samples as :data:`MOST_MEASURED` says, the first in the ticket's random order.
    """
    whole = samples
    if len(whole.inputs) > most:
        samples = whole.take(np.sort(ticket.source.sample_order(len(whole.inputs))[:most]))
    x = unit_ball(samples.inputs, ticket.input_scale, ticket.source.constant)
    pruned = np.zeros_like(samples.targets)
    average, variance = np.zeros_like(pruned), np.zeros_like(pruned)
    kept = ticket.coefficients()
    spread = kept_variance(aims(coefficients, ticket.largest, ticket.tau), ticket.tau) * ticket.constants[:, None] ** 2
    for neurons, features in pieces(ticket.source, ticket.sigma, x):
        pruned += features @ kept[:, neurons].T
        average += features @ coefficients[:, neurons].T
        variance += features**2 @ spread[:, neurons].T
        on_progress(name, neurons.stop, ticket.source.width)
    average /= ticket.source.blocks
    norms = np.sqrt((whole.inputs**2).sum(axis=1))
    return Measured(
        digest=whole.digest(),
        samples=len(whole.inputs),
        outside=int((norms > ticket.input_scale).sum()),
        measured=len(x),
        spread=_six(samples.spread),
        error=_six(_root_mean_square(pruned - samples.targets)),
        average_error=_six(_root_mean_square(average - samples.targets)),
        difference=_six(_root_mean_square(pruned - average)),
        expected_difference=_six(math.sqrt(float(variance.mean()))),
        largest_difference=_six(float(np.abs(pruned - average).max())),
        accuracy=_six_percent(samples.accuracy(pruned)),
        average_accuracy=_six_percent(samples.accuracy(average)),
    )


def _root_mean_square(values: Floats) -> float:
    return math.sqrt(float((values**2).mean()))


def _six(value: float) -> float:
    """Six digits: the others differ from machine to machine."""
    return float(f"{value:.6g}")


def _six_percent(value: float | None) -> float | None:
    return None if value is None else _six(value)
