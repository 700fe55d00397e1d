"""Extreme eigenvalues of the empirical Hessian without forming it, for many trials at once.

Lanczos (1950) with full reorthogonalisation: the smallest eigenvalue is no harder than the largest here, as the Hessian
of Zhang et al. 2021, theorem 1, has a condition number of order K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slth.errors import ArgumentError, MismatchError
from slth.learn.draws import Stream
from slth.learn.risk import active, hessian_product

TOLERANCE = 1e-6
"""Of the residuals, relative to the largest eigenvalue (chosen)."""

MOST_STEPS = 400
"""Products after which the search ends where it has not converged (chosen)."""

_LOOK_EVERY = 10


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest eigenvalue of every trial's matrix.

    Attributes
    ----------
    smallest, largest : (trial,) float64
    smallest_residual, largest_residual : (trial,) float64
        ‖A v - λ v‖ of the unit Ritz vector: so near λ there is an eigenvalue.
    products : int
        Products with the matrix that it took.
    """

    smallest: Tensor
    largest: Tensor
    smallest_residual: Tensor
    largest_residual: Tensor
    products: int

    def unconverged(self, tolerance: float = TOLERANCE) -> Tensor:
        """(trial,) bool: a residual is above the tolerance times the largest eigenvalue, so the search ran out."""
        residual = torch.maximum(self.smallest_residual, self.largest_residual)
        return residual > tolerance * self.largest.abs()


def hessian_extremes(
    weights: Tensor,
    inputs: Tensor,
    masks: Tensor,
    *,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> Extremes:
    """Extreme eigenvalues of ∇²f̂(W) on the students' supports (square loss, ReLU).

    Zhang et al. 2021, theorem 1, has those at W near W* between Θ((1 - ε_0 - ε_1) / K²) and Θ(1 / K).

    Parameters
    ----------
    weights : (trial, neuron, input)
    inputs : (trial, sample, input)
        The trial axis may be 1: all trials share the inputs then.
    masks : (trial, neuron, input) bool
    tolerance : float
        Of the residuals, relative to the largest eigenvalue.
    most_steps : int
        Products at most; where they do not suffice, the residuals say so.
    seed : int
        Of the first vector.
    device : str

    Raises
    ------
    MismatchError
        If shapes do not fit.

    Notes
    -----
    A step takes two products with the inputs; it holds ``most_steps`` vectors of K d numbers for each trial.
    """
    fits = weights.shape == masks.shape and weights.ndim == inputs.ndim == 3 and weights.shape[2] == inputs.shape[2]
    if not fits or len(inputs) not in (1, len(weights)):
        got = f"weights {tuple(weights.shape)}, inputs {tuple(inputs.shape)}, masks {tuple(masks.shape)}"
        raise MismatchError("weights", got, "as many trials, neurons and inputs")
    kind = inputs.dtype
    x, kept = inputs.to(device), masks.to(device, kind)
    pattern = active(weights.to(device, kind) * kept, x)
    drawn = np.stack([Stream(seed, trial, "hessian").normals(*masks.shape[1:]) for trial in range(len(masks))])
    first = torch.from_numpy(drawn).to(device, kind) * kept

    def product(flat: Tensor) -> Tensor:
        return hessian_product(pattern, x, kept, flat.view_as(first)).flatten(1)

    free = int(masks.sum(dim=(1, 2)).max())
    return lanczos(product, first.flatten(1), min(free, most_steps), tolerance)


def lanczos(
    product: Callable[[Tensor], Tensor], first: Tensor, most_steps: int, tolerance: float = TOLERANCE
) -> Extremes:
    """Extreme eigenvalues of symmetric matrices, one a trial, that are known by their products.

    Parameters
    ----------
    product : callable
        (trial, n) -> (trial, n).
    first : (trial, n)
        A start with a part along every eigenvector that matters, such as a random one.
    most_steps : int
        At most the largest dimension of a trial's space.
    tolerance : float

    Raises
    ------
    ArgumentError
        If there is nothing to do, or the tolerance is not positive.
    """
    if most_steps < 1 or not 0.0 < tolerance < 1.0:
        got = f"{most_steps} steps, tolerance {tolerance:g}"
        raise ArgumentError("most_steps", got, "at least 1, and a tolerance between 0 and 1")
    trials, _ = first.shape
    basis = first.new_zeros((trials, most_steps + 1, first.shape[1]))
    basis[:, 0] = first / first.norm(dim=1, keepdim=True)
    diagonal, beside = first.new_zeros((trials, most_steps)), first.new_zeros((trials, most_steps))
    for step in range(most_steps):
        vector = product(basis[:, step])
        diagonal[:, step] = (vector * basis[:, step]).sum(dim=1)
        known = basis[:, : step + 1]
        # Twice is enough (Kahan; Parlett 1980, section 6.9).
        for _ in range(2):
            vector = vector - torch.einsum("tkn,tk->tn", known, torch.einsum("tkn,tn->tk", known, vector))
        length = vector.norm(dim=1)
        # A space that is exhausted: the rest of the matrix is decoupled, and stays out of the eigenvalues looked at.
        alive = length > 1e-12 * diagonal.abs().amax(dim=1)
        beside[:, step] = torch.where(alive, length, torch.zeros_like(length))
        basis[:, step + 1] = torch.where(alive[:, None], vector / length.clamp_min(1e-300)[:, None], 0.0)
        if (step + 1) % _LOOK_EVERY == 0 or step + 1 == most_steps or not bool(alive.any()):
            found = _ritz(diagonal[:, : step + 1], beside[:, : step + 1])
            if not bool(found.unconverged(tolerance).any()) or not bool(alive.any()):
                break
    return found


def _ritz(diagonal: Tensor, beside: Tensor) -> Extremes:
    """Eigenvalues of the tridiagonal matrices so far, with residuals |β s|, s the last component."""
    a, b = diagonal.double().cpu(), beside.double().cpu()
    trials, steps = a.shape
    # Where a trial's space is exhausted, repeat its first diagonal entry: it lies within the spectrum.
    ended = (torch.cat([torch.ones(trials, 1), b[:, :-1]], dim=1) == 0).cumsum(dim=1) > 0
    matrix = torch.diag_embed(torch.where(ended, a[:, :1].expand_as(a), a))
    if steps > 1:
        links = torch.where(ended[:, 1:], 0.0, b[:, :-1])
        matrix = matrix + torch.diag_embed(links, 1) + torch.diag_embed(links, -1)
    values, vectors = torch.linalg.eigh(matrix)
    ends = torch.where(ended.any(dim=1), torch.zeros(trials, dtype=torch.float64), b[:, -1])
    low, high = (ends * vectors[:, -1, column].abs() for column in (0, steps - 1))
    return Extremes(values[:, 0], values[:, -1], low, high, steps)
