"""The window rule: which neurons stay, and the one constant that makes their sum the average of the blocks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from slth.bounds import malach
from slth.errors import ArgumentError

Floats = NDArray[np.float64]

_TRIED_TAUS = np.arange(1, 51) / 100.0


def check_tau(tau: float) -> float:
    """τ in (0, 1/2], so that every window lies within [-1, 1].

    Raises
    ------
    ArgumentError
        If it is not.
    """
    if not (isinstance(tau, int | float) and 0 < tau <= 0.5):
        raise ArgumentError("tau", repr(tau), "a number above 0 and at most 0.5", "tau=0.3")
    return float(tau)


def rounded_up(value: float) -> float:
    """The least number of 12 significant bits that is at least ``value`` >= 0.

    The last bits of a solution differ from machine to machine; 12 bits of it, but for one time in a billion, do not.

    Examples
    --------
    >>> rounded_up(1.0), rounded_up(1.00001)
    (1.0, 1.00048828125)
    """
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(mantissa * 4096), exponent - 12)


def largest_coefficients(coefficients: Floats) -> Floats:
    """C of every output: max |u|, rounded up, of coefficients (outputs, width).

    Differs: the paper has one C; each output is a network of its own, and so has its own.
    """
    return np.array([rounded_up(float(each)) for each in np.abs(coefficients).max(axis=1)])


def aims(coefficients: Floats, largest: Floats, tau: float) -> Floats:
    """û = (1 - τ) u / C, (outputs, width): where the windows lie, all within [-1, 1].

    Differs: the paper's window is about u / C itself; where |u| is near C part of it lies beyond [-1, 1], so that
    fewer neurons stay and the sum is biased.
    """
    scale = np.where(largest > 0, largest, 1.0)[:, None]
    return (1.0 - tau) * coefficients / scale


def window_mask(second: NDArray[np.float32], aim: Floats, tau: float) -> NDArray[np.bool_]:
    """b = 1 iff |v - û| <= τ (Malach et al. 2020, Remark 3.5).

    With v ~ U[-1, 1] independent of û, P(b = 1) = τ and E[b v] = τ û, exactly.

    Parameters
    ----------
    second : (outputs, width) float32
        v.
    aim : (outputs, width)
        û.
    tau : float
    """
    mask: NDArray[np.bool_] = np.abs(second.astype(np.float64) - aim) <= tau
    return mask


def output_constants(largest: Floats, tau: float, blocks: int) -> Floats:
    """c = C / (τ (1 - τ) m): then E[c Σ b v σ(⟨w, x⟩)] is the average of the blocks' predictors."""
    return largest / (tau * (1.0 - tau) * blocks)


def kept_variance(aim: Floats, tau: float) -> Floats:
    """Var[b v] = τ³ / 3 + τ (1 - τ) û²: E[b v²] is the integral of v² / 2 over the window."""
    return tau**3 / 3.0 + tau * (1.0 - tau) * aim**2


def best_tau(coefficients: Floats, mean_squares: Floats, largest: Floats) -> float:
    """The τ of 0.01, 0.02, ..., 0.50 that makes the pruned network's variance least.

    Summed over outputs, m² times the variance is τ C² A / (3 (1 - τ)²) + (1 - τ) B / τ, where A is the sum of E σ² of
    all features and B the sum of u² E σ². It depends on u but not on v, so that nothing above is disturbed.

    Parameters
    ----------
    coefficients : (outputs, width)
    mean_squares : (width,)
        E σ(⟨w, x⟩)² over the samples.
    largest : (outputs,)
        C.

    Notes
    -----
    Differs: the paper leaves the window's width open. Chosen: the grid.
    """
    noise = float((largest**2).sum() * mean_squares.sum())
    signal = float((coefficients**2 @ mean_squares).sum())
    τ = _TRIED_TAUS
    return float(τ[np.argmin(τ * noise / (3 * (1 - τ) ** 2) + (1 - τ) * signal / τ)])


def error_bound(features: int, blocks: int, largest: Floats, lipschitz: float, delta: float, tau: float) -> float:
    """Uniform bound on |c g(x) - average of the blocks| over ‖x‖_2 <= 1 and all outputs, with probability 1 - delta.

    :func:`slth.bounds.malach.pruning_error` at delta / outputs.
    """
    most = float(largest.max())
    if most == 0:
        return 0.0
    return malach.pruning_error(features, blocks, most, lipschitz, delta / len(largest), tau)
