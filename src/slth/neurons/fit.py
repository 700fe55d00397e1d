"""A random-features predictor for every block: coefficients u of the features σ(⟨w_i, x⟩), without a look at v."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.bounds import malach
from slth.errors import ArgumentError
from slth.neurons.source import NeuronSource

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

_PIECE = 1 << 22
"""Features, samples times neurons, that are held at a time (chosen)."""


def silent(name: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def lipschitz(activation: Activation) -> float:
    """L: the Lipschitz constant, or |σ(0)| where that is larger (section 3 asks for |σ(0)| <= L)."""
    return max(activation.lipschitz, abs(activation.d))


def hidden(source: NeuronSource, activation: Activation, neurons: slice, x: Floats) -> Floats:
    """Features σ(⟨w, x⟩) of some neurons on inputs (n, row_size) in the unit ball: (n, neurons) float64."""
    return activation.value(x @ source.first(neurons.start, neurons.stop).T.astype(np.float64))


def pieces(source: NeuronSource, activation: Activation, x: Floats) -> Iterator[tuple[slice, Floats]]:
    """All neurons in order, and their features (n, neurons), as many at a time as fit the memory well."""
    most = max(source.row_size, _PIECE // len(x) * source.row_size)
    for neurons in source.pieces(min(most, _PIECE)):
        yield neurons, hidden(source, activation, neurons, x)


def ridge_regression(features: Floats, targets: Floats, ridge: float) -> Floats:
    """argmin over u of ‖Φ u - y‖² / n + ridge s ‖u‖²; for ridge 0 the least-squares u of least norm.

    s is the mean of Φ², so that ridge means the same for inputs of any size and number.

    Parameters
    ----------
    features : (n, k)
        Φ.
    targets : (n, outputs)
    ridge : float

    Returns
    -------
    (k, outputs)

    Notes
    -----
    Differs: the paper fits without a penalty. The error of pruning grows with max |u|, which a penalty keeps small.
    """
    n, k = features.shape
    penalty = ridge * float((features**2).mean())
    if penalty == 0:
        solution = np.linalg.lstsq(features, targets, rcond=None)[0]
    elif k <= n:
        solution = np.linalg.solve(features.T @ features / n + penalty * np.eye(k), features.T @ targets / n)
    else:
        solution = features.T @ np.linalg.solve(features @ features.T + n * penalty * np.eye(n), targets)
    result: Floats = solution.astype(np.float64)
    return result


def fit(
    source: NeuronSource,
    activation: Activation,
    x: Floats,
    targets: Floats,
    ridge: float,
    on_progress: Progress = silent,
    block_samples: int | None = None,
) -> tuple[Floats, Floats]:
    """Fit every block. Uses w and the samples alone: u and v stay independent.

    Differs: the paper fits every block to all samples. A block of k features gains little from more than some ten times
    as many, and the average of blocks that see different ones has seen them all.

    Returns
    -------
    coefficients : (outputs, width)
    mean_squares : (width,)
        Mean of σ(⟨w, x⟩)² over the block's samples.

    Raises
    ------
    ArgumentError
        If there is no finite solution.
    """
    coefficients, mean_squares = np.empty((source.outputs, source.width)), np.empty(source.width)
    some = block_samples is not None and block_samples < len(x)
    order = source.sample_order(len(x)) if some else None
    for number in range(source.blocks):
        neurons = slice(number * source.features, (number + 1) * source.features)
        rows = slice(None) if order is None else np.roll(order, -number * (block_samples or 0))[:block_samples]
        features = hidden(source, activation, neurons, x[rows])
        mean_squares[neurons] = np.einsum("nk,nk->k", features, features) / len(features)
        try:
            coefficients[:, neurons] = ridge_regression(features, targets[rows], ridge).T
        except np.linalg.LinAlgError as error:
            raise ArgumentError("ridge", f"{ridge:g}, with which a fit fails ({error})", "a larger one") from error
        on_progress("fitting", number + 1, source.blocks)
    if not np.isfinite(coefficients).all():
        raise ArgumentError("ridge", f"{ridge:g}, with which coefficients are not finite", "a larger one", "ridge=0.2")
    return coefficients, mean_squares


@dataclass(frozen=True)
class Interpolation:
    """A block that passes through all samples (Malach et al. 2020, proposition C.2).

    Attributes
    ----------
    coefficients : (k, outputs) array
        u = Φᵀ (Φ Φᵀ)^-1 y, with Φ (n, k): the u of least norm with Φ u = y.
    residual : float
        Largest |Φ u - y|.
    largest : float
        Largest |u|.
    proved_largest : float
        2 L √n ‖(Φ Φᵀ)^-1 y‖_2, which ``largest`` cannot exceed: a feature is at most 2 L.
    smallest_eigenvalue : float
        Of the empirical kernel Φ Φᵀ / k.
    """

    coefficients: Floats
    residual: float
    largest: float
    proved_largest: float
    smallest_eigenvalue: float


def interpolate(features: Floats, targets: Floats, bound: float) -> Interpolation:
    """Solve Φ u = y through the kernel matrix, as in the proof of proposition C.2.

    Parameters
    ----------
    features : (n, k)
    targets : (n, outputs)
    bound : float
        L of the activation.

    Raises
    ------
    ArgumentError
        If the kernel matrix is singular, so that some labels have no solution.
    """
    n, k = features.shape
    kernel = features @ features.T / k
    smallest = float(np.linalg.eigvalsh(kernel)[0])
    if not smallest > n * np.finfo(np.float64).eps * float(np.abs(kernel).max()):
        got = f"a kernel matrix of {n} samples and {k} features with smallest eigenvalue {smallest:.3g}"
        raise ArgumentError("features", got, "one above 0", "more features than samples, or no equal inputs")
    dual = np.linalg.solve(features @ features.T, targets)
    coefficients = features.T @ dual
    return Interpolation(
        coefficients=coefficients,
        residual=float(np.abs(features @ coefficients - targets).max()),
        largest=float(np.abs(coefficients).max()),
        proved_largest=2 * bound * math.sqrt(n) * float(np.sqrt((dual**2).sum(axis=0)).max()),
        smallest_eigenvalue=smallest,
    )


@dataclass(frozen=True)
class FiniteSample:
    """What Theorem 3.3 (i) asks for on these samples.

    Attributes
    ----------
    smallest_eigenvalue : float
        λ of H_ij = E σ(⟨w, x_i⟩) σ(⟨w, x_j⟩).
    one_block : int
        Features with which one block keeps 3 λ / 4 of it with probability 1 - delta.
    proved_largest : float
        8 L M / (3 k λ): then no coefficient of that block is larger, for |y| <= 1.
    width : malach.NeuronPruning
        Features and blocks with which c g is within eps of every label.
    """

    smallest_eigenvalue: float
    one_block: int
    proved_largest: float
    width: malach.NeuronPruning


def finite_sample(
    kernel: Floats, activation: Activation, eps: float, delta: float = 0.1, tau: float = 0.5
) -> FiniteSample:
    """Theorem 3.3 (i) for the kernel matrix H of the samples; see :func:`slth.neurons.kernel.kernel`.

    Raises
    ------
    ArgumentError
        If H has no eigenvalue above 0, or another number is out of range.
    """
    n, bound = len(kernel), lipschitz(activation)
    λ = float(np.linalg.eigvalsh(kernel)[0])
    if not λ > 0:
        raise ArgumentError(
            "kernel", f"a smallest eigenvalue of {λ:.3g}", "one above 0", "samples without equal inputs"
        )
    one = malach.features_finite(n, bound, λ, delta)
    width = malach.theorem_33_finite(n, bound, λ, eps, delta, tau)
    return FiniteSample(λ, one, 8 * bound * n / (3 * one * λ), width)
