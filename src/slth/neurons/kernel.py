"""The kernel H_ij = E σ(⟨w, x_i⟩) σ(⟨w, x_j⟩) of a feature law: in closed form where there is one, else by draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.neurons.fit import pieces
from slth.neurons.law import BALL, SPHERE, FeatureLaw
from slth.neurons.source import NeuronSource

Floats = NDArray[np.float64]


def kernel(x: Floats, activation: Activation, law: FeatureLaw, n_draws: int = 1 << 16, seed: int = 0) -> Floats:
    """H of the inputs.

    Parameters
    ----------
    x : (n, d)
        In the unit ball.
    activation : Activation
    law : FeatureLaw
    n_draws : int
        Features for the mean, where there is no closed form; entries are then off by about 4 L² / √n_draws at most.
    seed : int
        Of the draws.

    Returns
    -------
    (n, n)

    Notes
    -----
    For ReLU and w uniform on the sphere H_ij = ‖x_i‖ ‖x_j‖ (sin θ + (π - θ) cos θ) / (2 π d), θ the angle between the
    inputs (Cho and Saul 2009, degree 1, whose normal w has E ‖w‖² = d); in the ball E ‖w‖² = d / (d + 2).
    """
    if activation.name == "relu" and law.shape in (SPHERE, BALL):
        d = x.shape[1]
        return _arc_cosine(x, float(d if law.shape == SPHERE else d + 2))
    source = NeuronSource(seed, x.shape[1], 1, n_draws, 1, law)
    total = np.zeros((len(x), len(x)))
    for _, features in pieces(source, activation, x):
        total += features @ features.T
    mean: Floats = total / float(source.width)
    return mean


def _arc_cosine(x: Floats, divisor: float) -> Floats:
    """E relu(⟨w, x_i⟩) relu(⟨w, x_j⟩) for w ~ N(0, I), divided."""
    norms = np.sqrt((x * x).sum(axis=1))
    lengths = norms[:, None] * norms
    cosine = np.clip((x @ x.T) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
    angle = np.arccos(cosine)
    result: Floats = lengths * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi * divisor)
    return result
