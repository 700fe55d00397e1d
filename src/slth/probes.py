"""A few seeded inputs on which target and ticket are compared in a picture."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from slth.domain import Domain
from slth.network.target import Target
from slth.runtime import evaluate
from slth.source.distributions import uniform
from slth.source.philox import stream_key, words
from slth.threads import fitting_threads

N_PROBES = 64
N_OUTPUTS = 16
_PROBE_LAYER = 0xFFFFFFFF
"""Layer number of the probes' stream, which no weight layer has."""


def probe_inputs(shape: tuple[int, ...], seed: int, lower: float, upper: float) -> torch.Tensor:
    """Seeded inputs, uniform between two numbers, (probes, *shape), float64."""
    drawn = uniform(words(stream_key(seed, _PROBE_LAYER, 0), 0, N_PROBES * math.prod(shape))).astype(np.float64)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    return torch.from_numpy(middle + half * drawn).reshape(N_PROBES, *shape)


def probe_range(domain: tuple[float, float] | None) -> tuple[float, float]:
    """Range of the probes: the domain's, or [-1, 1] for all reals."""
    return domain or (-1.0, 1.0)


def target_probe_outputs(target: Target, seed: int, domain: Domain) -> NDArray[np.float32]:
    """The target's first outputs on the probes, (probes, outputs), in float64 rounded to float32.

    One thread, so that the same sums are added in the same order whatever the machine is told to use.
    """
    box = None
    if domain.lower is not None and domain.upper is not None:
        box = (float(domain.lower.min()), float(domain.upper.max()))
    inputs = probe_inputs(target.graph.input_shape, seed, *probe_range(box))
    with fitting_threads(0):
        outputs = evaluate(target, inputs)
    return outputs.reshape(N_PROBES, -1)[:, :N_OUTPUTS].to(torch.float32).numpy()
