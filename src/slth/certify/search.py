"""The lower bound: the largest error that can be found, on data and by projected gradient ascent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slth.certify.region import Ball, Box, Region
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


@dataclass(frozen=True)
class Found:
    """The largest norm of the difference found in each region, (regions,), and its entries' in all, (outputs,)."""

    largest: torch.Tensor
    components: torch.Tensor


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
    whole: bool = False,
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
    whole : bool
        Whether inputs are whole numbers, which are drawn at random as often as there would be steps.
    """
    lower, upper = domain.bounds(shape)
    if whole:
        found = search_regions(a, b, [Box(lower, upper)], "max", seed, on_progress=on_progress, whole=True)
        return float(found.largest[0])
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


def search_regions(
    a: torch.nn.Module,
    b: torch.nn.Module,
    regions: Sequence[Region],
    kind: str = "max",
    seed: int = 0,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    on_progress: Progress = silent,
    whole: bool = False,
) -> Found:
    """Largest norm of a(x) - b(x) that projected gradient ascent finds in each of some regions.

    One start is the middle, half of the others are uniform in the least box around the region and half are its corners,
    all taken to the nearest point of the region. The step shrinks from a quarter of the width to nothing; it follows
    the gradient's signs in a box, the gradient in a Euclidean ball and its largest entry in an L1 ball.

    Parameters
    ----------
    a, b : torch.nn.Module
        Both in float64.
    regions : sequence of Region
    kind : str
        Of norm: ``max``, ``l1`` or ``l2``.
    seed : int
        Of the random starts.
    restarts, steps : int
    whole : bool
        Whether inputs are whole numbers: then others are drawn in place of every step.
    """
    largest, components = torch.zeros(len(regions), dtype=torch.float64), None
    at_once = max(1, _BATCH // restarts)
    end = time.monotonic() + SECONDS * max(1.0, len(regions) / 10)
    for first in range(0, len(regions), at_once):
        these = regions[first : first + at_once]
        places = _Places(these, restarts)
        x = places.starts(seed, first)
        for step in range(steps + 1):
            x = places.tokens(seed, first * (steps + 1) + step) if whole else x.detach().requires_grad_(step < steps)
            differences = (a(x) - b(x)).flatten(1)
            sizes = size_of(differences, kind)
            best = sizes.detach().reshape(len(these), restarts).amax(dim=1)
            largest[first : first + len(these)] = torch.maximum(largest[first : first + len(these)], best)
            most = differences.detach().abs().amax(dim=0)
            components = most if components is None else torch.maximum(components, most)
            if step == steps or time.monotonic() > end:
                break
            if whole:
                continue
            (gradient,) = torch.autograd.grad(sizes.sum(), x)
            # The Euclidean norm has no gradient where nothing differs.
            x = places.project(x.detach() + places.along(torch.nan_to_num(gradient)) * (0.5 * (1 - step / steps)))
        on_progress("search", first + len(these), len(regions))
    assert components is not None
    return Found(largest, components)


def size_of(differences: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "l1":
        return differences.abs().sum(dim=1)
    return differences.square().sum(dim=1).sqrt() if kind == "l2" else differences.abs().amax(dim=1)


class _Places:
    """Points of some regions, ``restarts`` in each, region by region."""

    def __init__(self, regions: Sequence[Region], restarts: int) -> None:
        self.regions, self.restarts = regions, restarts
        self.lower, self.upper = (
            torch.stack([getattr(region, name) for region in regions]).repeat_interleave(restarts, dim=0)
            for name in ("lower", "upper")
        )
        around = (getattr(region, "ball", region) for region in regions)
        balls = [ball for ball in around if isinstance(ball, Ball)]
        self.p = balls[0].p if balls else None
        if balls:
            self.centre = torch.stack([ball.centre for ball in balls]).repeat_interleave(restarts, dim=0)
            # Less than the radius by more than the rounding of a distance.
            inner = torch.tensor([ball.radius for ball in balls], dtype=torch.float64) * (1 - 1e-9)
            self.radius = inner.repeat_interleave(restarts).reshape(-1, *[1] * (self.centre.dim() - 1))

    def starts(self, seed: int, first: int) -> torch.Tensor:
        """The middle, points drawn uniformly from the box, and corners."""
        n = self.lower.numel()
        drawn = uniform(words(stream_key(seed, _SEARCH_LAYER, 1 + first), 0, n)).astype(np.float64)
        unit = torch.from_numpy(drawn).reshape(len(self.regions), self.restarts, *self.lower.shape[1:])
        half = (self.restarts + 1) // 2
        unit[:, half:] = unit[:, half:].sign()
        unit[:, 0] = 0.0
        return self.project((self.lower + self.upper) / 2 + (self.upper - self.lower) / 2 * unit.flatten(0, 1))

    def tokens(self, seed: int, number: int) -> torch.Tensor:
        """Whole numbers drawn from the box."""
        drawn = uniform(words(stream_key(seed, _SEARCH_LAYER, 1 + number), 0, self.lower.numel())).astype(np.float64)
        share = (torch.from_numpy(drawn).reshape(self.lower.shape) + 1) / 2
        made = (self.lower + (self.upper - self.lower + 1) * share).floor()
        return torch.minimum(torch.maximum(made, self.lower), self.upper).to(torch.int64)

    def along(self, gradient: torch.Tensor) -> torch.Tensor:
        """The direction in which a linear function rises fastest, half as long as the region is wide."""
        if self.p is None:
            return gradient.sign() * (self.upper - self.lower) / 2
        if self.p == 1:
            sizes = gradient.abs().flatten(1)
            first = torch.zeros_like(sizes).scatter_(1, sizes.argmax(dim=1, keepdim=True), 1.0)
            return gradient.sign() * first.reshape(gradient.shape) * self.radius
        return gradient / _norms(gradient, 2).clamp(min=1e-300) * self.radius

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Back into the ball, by its radius, and then into the box, which holds the centre."""
        if self.p is not None:
            step = x - self.centre
            x = self.centre + step * (self.radius / _norms(step, self.p).clamp(min=1e-300)).clamp(max=1.0)
        return torch.minimum(torch.maximum(x, self.lower), self.upper)


def _norms(x: torch.Tensor, p: int) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(x.flatten(1), ord=p, dim=1)
    return norms.reshape(-1, *[1] * (x.dim() - 1))
