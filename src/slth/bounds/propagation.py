"""How weight errors become output errors: the recursion behind the papers' lemmas, for three norms.

It subsumes lemma 1 of Orseau et al. 2020, lemma 2.8 of Burkholz 2022 and the proof of theorem 1 of da Cunha et al.
2022 (theory, section 0.3). Bounds are rounded up, so they hold with zero slack unless numbers vanish below 10^-300.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slth.bounds.shape import Norm
from slth.errors import ArgumentError

Matrix = NDArray[np.float64]
DUAL: dict[Norm, Norm] = {"1": "inf", "2": "2", "inf": "1"}
POWER_STEPS = 30
"""Of the power iteration; however few, the bound holds (chosen: within 1 % on random matrices)."""


@dataclass(frozen=True)
class LayerError:
    """One layer's weights, target and ticket.

    Attributes
    ----------
    change : array, (outputs, inputs)
        D >= |W - Ŵ|; of a ticket whose positive and negative inputs see different weights, the larger of both.
    ticket : array, (outputs, inputs)
        A >= |Ŵ|, likewise.
    bias_change : array, (outputs,), optional
        d >= |b - b̂|.
    lipschitz : float
        T of the activation.
    activation_error : float
        η, in the norm used: how far the ticket's activation is from the target's.
    """

    change: Matrix
    ticket: Matrix
    bias_change: Matrix | None = None
    lipschitz: float = 1.0
    activation_error: float = 0.0


def between(
    target: Matrix,
    ticket: Matrix,
    target_bias: Matrix | None = None,
    ticket_bias: Matrix | None = None,
    *,
    negative: Matrix | None = None,
    lipschitz: float = 1.0,
    activation_error: float = 0.0,
) -> LayerError:
    """The :class:`LayerError` of two matrices.

    Parameters
    ----------
    target, ticket : array, (outputs, inputs)
    target_bias, ticket_bias : array, (outputs,), optional
        0 if not given.
    negative : array, (outputs, inputs), optional
        The ticket's weights for negative inputs, if they are others.
    """
    branches = [ticket] if negative is None else [ticket, negative]
    change = np.max([np.abs(target - branch) for branch in branches], axis=0)
    zero = np.zeros(len(target))
    bias_change = np.abs(
        (zero if target_bias is None else target_bias) - (zero if ticket_bias is None else ticket_bias)
    )
    largest = np.max([np.abs(branch) for branch in branches], axis=0)
    # One ulp up: a difference of two floats is rounded once.
    return LayerError(
        np.nextafter(change, np.inf), largest, np.nextafter(bias_change, np.inf), lipschitz, activation_error
    )


def _up(value: float, operations: int) -> float:
    """At least the exact result of a computation with so many roundings of non-negative numbers."""
    return math.nextafter(value * (1 + (operations + 4) * 2.0**-52), math.inf) if value else 0.0


def operator_norm(matrix: Matrix, norm: Norm) -> float:
    """Upper bound on ‖M‖ of a matrix with entries >= 0: largest column sum, spectral norm or largest row sum.

    The spectral norm is bounded by Collatz and Wielandt: ‖M‖_2² <= max_i (Mᵀ M v)_i / v_i for every v > 0, an
    equality at the singular vector; and by √(‖M‖_1 ‖M‖_∞) and ‖M‖_F, where v is far from it.
    """
    _check_norm(norm)
    outputs, inputs = matrix.shape
    if norm != "2":
        return _up(float(matrix.sum(axis=0 if norm == "1" else 1).max(initial=0.0)), outputs + inputs)
    schur = math.sqrt(operator_norm(matrix, "1")) * math.sqrt(operator_norm(matrix, "inf"))
    bounds = [_up(schur, 3), frobenius(matrix)]
    # Entries beyond 10^±140 could overflow or vanish when squared; the other bounds serve them.
    top = float(matrix.max(initial=0.0))
    if 1e-140 < top < 1e140:
        vector = np.ones(inputs)
        for _ in range(POWER_STEPS):
            vector = matrix.T @ (matrix @ vector)
            # A zero column would leave a zero, and nothing may be divided by that.
            vector = vector / vector.max() + 1e-9
        quotient = float((matrix.T @ (matrix @ vector) / vector).max())
        bounds.append(_up(math.sqrt(_up(quotient, 2 * (outputs + inputs))), 1))
    return min(bounds)


def frobenius(matrix: Matrix) -> float:
    """Upper bound on ‖M‖_F."""
    top = float(np.abs(matrix).max(initial=0.0))
    return _up(top * math.sqrt(float(((matrix / top) ** 2).sum())), matrix.size) if top else 0.0


def vector_norm(vector: Matrix, norm: Norm) -> float:
    """Upper bound on the norm of a vector."""
    _check_norm(norm)
    if norm == "2":
        return frobenius(vector)
    magnitude = np.abs(vector)
    return _up(float(magnitude.sum()), vector.size) if norm == "1" else float(magnitude.max(initial=0.0))


def _check_norm(norm: str) -> None:
    if norm not in DUAL:
        raise ArgumentError("norm", repr(norm), "'1', '2' or 'inf'")


def propagate(layers: Sequence[LayerError], input_norms: Sequence[float], norm: Norm) -> tuple[float, ...]:
    """e_0 = 0, e_l <= T_l (‖A_l‖ e_{l-1} + ‖D_l‖ X_{l-1} + ‖d_l‖) + η_l.

    Parameters
    ----------
    layers : sequence of LayerError
    input_norms : sequence of float
        X_0 ... X_{l-1}: sup over the domain of the norm of every layer's input **in the target**.
    norm : {"1", "2", "inf"}
        Vector norm p; matrices have the operator norm that it induces, which for p = 2 is at most ‖D‖_F.

    Returns
    -------
    tuple of float
        e_0 ... e_l.
    """
    _check(layers, input_norms)
    errors = [0.0]
    for layer, size in zip(layers, input_norms, strict=True):
        change = operator_norm(layer.change, norm)
        bias = 0.0 if layer.bias_change is None else vector_norm(layer.bias_change, norm)
        grown = operator_norm(layer.ticket, norm) * errors[-1] + change * size + bias
        errors.append(_up(layer.lipschitz * grown + layer.activation_error, 6))
    return tuple(errors)


def component_errors(layers: Sequence[LayerError], input_norms: Sequence[float], norm: Norm) -> Matrix:
    """Error of every output alone: the last step with rows instead of matrices.

    |row| x <= ‖row‖_q ‖x‖_p with 1/p + 1/q = 1.

    Parameters
    ----------
    layers, input_norms, norm
        As in :func:`propagate`; the last layer's ``activation_error`` holds for every component.

    Returns
    -------
    array, (outputs,)
    """
    _check(layers, input_norms)
    _check_norm(norm)
    *before, last = layers
    incoming = propagate(before, input_norms[:-1], norm)[-1] if before else 0.0
    dual = DUAL[norm]
    offsets = np.zeros(len(last.change)) if last.bias_change is None else last.bias_change
    return np.array(
        [
            _up(
                last.lipschitz * (vector_norm(a, dual) * incoming + vector_norm(d, dual) * input_norms[-1] + float(b))
                + last.activation_error,
                6,
            )
            for a, d, b in zip(last.ticket, last.change, offsets, strict=True)
        ]
    )


def _check(layers: Sequence[LayerError], input_norms: Sequence[float]) -> None:
    if not layers or len(layers) != len(input_norms):
        raise ArgumentError(
            "input_norms", f"{len(input_norms)} for {len(layers)} layers", "one for each of 1 or more layers"
        )
    for i, layer in enumerate(layers, 1):
        arrays = [layer.change, layer.ticket] + ([] if layer.bias_change is None else [layer.bias_change])
        if not all(np.isfinite(array).all() and (array >= 0).all() for array in arrays):
            raise ArgumentError(f"layer {i}", "magnitudes below 0 or not finite", "bounds on magnitudes")
        if layer.change.shape != layer.ticket.shape:
            raise ArgumentError(f"layer {i}", f"{layer.change.shape} and {layer.ticket.shape}", "two of one shape")


def activation_norms(
    weights: Sequence[Matrix],
    biases: Sequence[Matrix | None],
    input_norm: float,
    norm: Norm,
    lipschitz: float = 1.0,
    at_zero: float = 0.0,
) -> tuple[float, ...]:
    """X_0 ... X_{l-1} of a target: X_l <= T (‖W_l‖ X_{l-1} + ‖b_l‖) + ‖φ(0)‖.

    Parameters
    ----------
    weights : sequence of array, (outputs, inputs)
    biases : sequence of array or None
    input_norm : float
        X_0.
    norm : {"1", "2", "inf"}
    lipschitz, at_zero : float
        T and φ(0) of all activations.
    """
    norms = [float(input_norm)]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        matrix = np.abs(weight)
        constant = vector_norm(np.full(len(weight), abs(at_zero)), norm)
        added = 0.0 if bias is None else vector_norm(bias, norm)
        norms.append(_up(lipschitz * (operator_norm(matrix, norm) * norms[-1] + added) + constant, 6))
    return tuple(norms)
