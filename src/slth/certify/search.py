"""The lower bound: the largest error that can be found, on data and by projected gradient ascent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from slth.domain import Domain
from slth.source.distributions import uniform
from slth.source.philox import stream_key, words

RESTARTS = 32
STEPS = 40
SECONDS = 10.0
"""The search stops at the first step after this long."""
_BATCH = 256
_SEARCH_LAYER = 0xFFFFFFFE


Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done and how much there is."""


def silent(name: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def largest_difference(
    a: torch.nn.Module, b: torch.nn.Module, inputs: torch.Tensor, on_progress: Progress = silent
) -> float:
    """Largest |a(x) - b(x)| over the inputs and outputs, evaluated in the inputs' precision."""
    largest = 0.0
    with torch.no_grad():
        for number, chunk in enumerate(inputs.split(_BATCH)):
            largest = max(largest, float((a(chunk) - b(chunk)).abs().max()))
            on_progress("data", min((number + 1) * _BATCH, len(inputs)), len(inputs))
    return largest


def search(
    a: torch.nn.Module,
    b: torch.nn.Module,
    domain: Domain,
    shape: tuple[int, ...],
    starts: torch.Tensor | None = None,
    seed: int = 0,
    on_progress: Progress = silent,
) -> float:
    """Largest |a(x) - b(x)| that projected sign-gradient ascent finds in a box.

    Half of the starts are uniform in the box and half are corners; ``starts`` (of data) replace some. The step shrinks
    from a quarter of the box's width to nothing. Seeded, so that it finds the same each time.

    Parameters
    ----------
    a, b : torch.nn.Module
        Both in float64.
    domain : Domain
        A box.
    shape : tuple of int
        Of one input.
    starts : tensor, (n, *shape), optional
    seed : int
        Of the random starts, 0 to 2^64 - 1.
    on_progress : callable
        Told how many steps are done.
    """
    lower, upper = domain.bounds(shape)
    begin = time.monotonic()
    drawn = uniform(words(stream_key(seed, _SEARCH_LAYER, 0), 0, RESTARTS * math.prod(shape))).astype(np.float64)
    unit = torch.from_numpy(drawn).reshape(RESTARTS, *shape)
    unit[RESTARTS // 2 :] = unit[RESTARTS // 2 :].sign()
    x = (lower + upper) / 2 + (upper - lower) / 2 * unit
    if starts is not None:
        count = min(len(starts), RESTARTS // 4)
        x[:count] = starts[:count].to(torch.float64)
    best = 0.0
    for step in range(STEPS):
        x = torch.minimum(torch.maximum(x, lower), upper).detach().requires_grad_()
        differences = (a(x) - b(x)).abs().flatten(1).amax(dim=1)
        best = max(best, float(differences.max().detach()))
        on_progress("search", step + 1, STEPS)
        if time.monotonic() - begin > SECONDS:
            break
        (gradient,) = torch.autograd.grad(differences.sum(), x)
        x = x.detach() + gradient.sign() * (upper - lower) * (0.25 * (1 - step / STEPS))
    final = torch.minimum(torch.maximum(x.detach(), lower), upper)
    return max(best, largest_difference(a, b, final))
