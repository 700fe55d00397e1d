"""Burkholz's circle: which of four rings a point of the square lies in, and ReLU networks that tell.

A network folds the plane along ever finer angles until a point lies on the first axis but for a small angle, squares
what is left by a broken line, and compares (the planted target of Burkholz et al. 2022's reference code, restated).
"""

from __future__ import annotations

import math

import torch

from slth.reproduce.draws import uniforms

THRESHOLDS = (0.2, 0.5, 0.7)
"""Of the squared norm, between the classes."""

_SLOPES = (0.125, 0.25, 0.5, 1.0)
_FOLDS = 8
"""Foldings after which a point is on the axis to within π / 2^9; a deeper network passes it on."""


def circle_points(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of [-1, 1]^2, (n, 2) float32, and their classes, (n,)."""
    points = torch.from_numpy(uniforms(seed, 2, 0, 2 * n).reshape(n, 2)).float()
    return points, torch.bucketize((points.double() ** 2).sum(1), torch.tensor(THRESHOLDS, dtype=torch.float64))


def circle_network(depth: int, knots: int) -> torch.nn.Sequential:
    """A ReLU network of so many weight layers, and of width max(4, 2 ``knots``).

    Parameters
    ----------
    depth : int
        At least 6: absolute values, foldings, broken lines, the squared norm, scores.
    knots : int
        Of the broken line for each coordinate.
    """
    layers = [torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])]
    # The first coordinate is the sum of two neurons, and so is the second; behind a folding [u, w, -w] they are others.
    first, second = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 0, 1, 1]])
    for fold in range(depth - 4):
        angle = math.pi / 2 ** (fold + 1) if fold < _FOLDS else 0.0
        u, w = first * math.cos(angle) + second * math.sin(angle), first * math.sin(angle) - second * math.cos(angle)
        layers.append(torch.cat((u, w, -w)) if fold < _FOLDS else torch.cat((u, -w, 0 * w)))
        first, second = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 1]])
    step = math.sqrt(2) / knots
    layers.append(torch.cat((first.expand(knots, -1), second.expand(knots, -1))))
    # From knot k on the chords of x^2 have slope (2 k + 1) step: the first begins with step, the others add twice that.
    rise = torch.full((knots,), 2 * step)
    rise[0] = step
    layers.append(torch.cat((rise, rise))[None])
    layers.append(torch.tensor(_SLOPES)[:, None])
    biases = [torch.zeros(len(weight)) for weight in layers]
    at = -step * torch.arange(knots)
    biases[-3] = torch.cat((at, at))
    # A radius is beyond a threshold exactly if its broken line is beyond the line's value there.
    radii = torch.tensor(THRESHOLDS).sqrt()
    limits = (rise[:, None] * (radii + at[:, None]).clamp(min=0)).sum(0)
    biases[-1][1:] = -(torch.tensor(_SLOPES).diff() * limits).cumsum(0)
    network = torch.nn.Sequential()
    for number, (weight, bias) in enumerate(zip(layers, biases, strict=True)):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        network.extend([torch.nn.ReLU(), linear] if number else [linear])
    return network.eval()
