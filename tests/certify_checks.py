"""What tests of certificates over graphs share: every value and every difference beside its bounds; no tolerance.

What is compared is evaluated in float64, whose rounding is part of what is proved.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

import slth
from slth.certify.bounds import METHODS, Bounder, Bounds
from slth.certify.propagation import propagated
from slth.certify.region import Box
from slth.certify.relaxation import Pair
from slth.certify.state import State
from slth.certify.subject import Subject, prepare
from slth.domain import Domain
from slth.network.inputs import as_target


def subject_of(model: nn.Module, example: torch.Tensor, domain: Any, base_set_size: int = 6) -> Subject:
    """A ticket of a network beside it."""
    target = as_target(model, example)
    ticket = slth.find_ticket(target, base_set_size=base_set_size, threads=1, domain=domain)
    return prepare(ticket, target)


def points(subject: Subject, region: Box, n: int, seed: int = 0) -> torch.Tensor:
    """The middle, random points and corners of a box."""
    if subject.target.graph.classes:
        return region.lower[None].to(torch.int64)
    unit = torch.rand((n, *region.lower.shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit[n // 2 :] = unit[n // 2 :].round()
    unit[0] = 0.5
    x = region.lower + (region.upper - region.lower) * unit
    return torch.minimum(torch.maximum(x, region.lower), region.upper)


def climbed(ours: nn.Module, theirs: nn.Module, region: Box, x: torch.Tensor, n_steps: int = 6) -> torch.Tensor:
    """Points of a box at which the networks are farther apart, by projected gradient ascent."""
    for step in range(n_steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((ours(x) - theirs(x)).abs().flatten(1).amax(dim=1).sum(), x)
        x = x.detach() + gradient.sign() * (region.upper - region.lower) * (0.3 * (1 - step / n_steps))
        x = torch.minimum(torch.maximum(x, region.lower), region.upper)
    return x.detach()


def steps(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every node's values."""
    with torch.no_grad():
        return dict(network.steps(x))


def parts(subject: Subject, x: torch.Tensor) -> list[torch.Tensor]:
    """Batches; where the batch's axis is not the first of everything, bounds are on inputs one by one."""
    alike = all(node.batched or min(node.shape, default=1) > 0 for node in subject.hidden.graph)
    return [x] if alike else list(x[:6].split(1))


def check_nodes(
    states: Mapping[str, State], pairs: Mapping[str, Pair], both: tuple[Mapping[str, torch.Tensor], ...]
) -> None:
    """Values and differences of all nodes beside their bounds."""
    ours, theirs = both
    for name, value in theirs.items():
        state = states[name]
        if not value.is_floating_point():
            continue
        # What a mask leaves out is -infinity in both networks.
        difference = torch.where(value == ours[name], 0.0, ours[name] - value)
        assert bool(((value >= state.lower) & (value <= state.upper)).all()), name
        assert bool((difference.abs() <= state.error).all()), name
        assert not state.nonnegative or bool((ours[name] >= 0).all() and (value >= 0).all()), name
        assert not state.nonpositive or bool((ours[name] <= 0).all() and (value <= 0).all()), name
        if name in pairs:
            pair = pairs[name]
            assert bool(((value >= pair.lower) & (value <= pair.upper)).all()), name
            assert bool(((difference >= pair.below) & (difference <= pair.above)).all()), name


def check(subject: Subject, region: Box, x: torch.Tensor, linear: bool = True) -> dict[str, Bounds]:
    """Every method at every node; bounds on the output, from the loosest, each at least as tight as the one before."""
    ours, theirs = subject.networks(Domain.parse(subject.ticket.domain).sign)
    states = propagated(subject.hidden, subject.realised, region.lower, region.upper)
    analysed = {
        method: Bounder(subject.hidden, subject.realised, method).analysed(region)
        for method in (METHODS if linear else METHODS[:2])
    }
    known = analysed["linear"][1] if linear else None
    for part in parts(subject, x):
        both = steps(ours, part), steps(theirs, part)
        check_nodes(states, {}, both)
        if known is not None:
            check_nodes(known.states, known.pairs, both)
    found = {method: bounds for method, (bounds, _) in analysed.items()}
    rows = [made.components for made in found.values()]
    assert all(bool((tighter <= looser).all()) for looser, tighter in itertools.pairwise(rows))
    if x.is_floating_point():
        x = torch.cat([x, climbed(ours, theirs, region, x[::4])])
    with torch.no_grad():
        differences = (ours(x) - theirs(x)).flatten(1).abs()
    assert all(bool((differences <= made).all()) for made in rows)
    return found
