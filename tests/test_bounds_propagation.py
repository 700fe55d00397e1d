"""The certificate's recursion against exact rational runs of random ReLU networks, and its norms against theirs."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slth.bounds import propagation
from slth.bounds.propagation import LayerError, activation_norms, between, component_errors, operator_norm, propagate
from slth.bounds.shape import Norm
from slth.errors import ArgumentError

NORMS: list[Norm] = ["1", "2", "inf"]
SEEDS = st.integers(0, 2**32)


def rational(array: np.ndarray) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(array)


def norm_at_most(vector: np.ndarray, norm: Norm, bound: float) -> bool:
    """Exactly, for a vector of fractions."""
    magnitudes = [abs(each) for each in vector]
    if norm == "2":
        return sum(each**2 for each in magnitudes) <= Fraction(bound) ** 2
    return (sum(magnitudes) if norm == "1" else max(magnitudes)) <= Fraction(bound)


def forward(weights, negatives, biases, x):  # type: ignore[no-untyped-def]
    """ReLU after all but the last; W for the positive part of the input, N for the negative one."""
    for i, (w, n, b) in enumerate(zip(weights, negatives, biases, strict=True)):
        x = w @ np.maximum(x, 0) + n @ np.minimum(x, 0) + b
        if i + 1 < len(weights):
            x = np.maximum(x, 0)
    return x


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 3), st.sampled_from(NORMS), st.sampled_from([1e-6, 0.1, 2.0]), st.booleans())
def test_the_bound_holds_with_zero_slack(seed: int, depth: int, norm: Norm, size: float, adversarial: bool) -> None:
    """Target and ticket are run in fractions, so not a bit is lost on the way."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 5, depth + 1)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.normal(size=(b, a)) for a, b in pairs]
    biases = [rng.normal(size=b) for b in widths[1:]]

    def moved(array: np.ndarray) -> np.ndarray:
        return array + size * (1.0 if adversarial else rng.uniform(-1, 1, array.shape))

    positive, negative, offsets = [moved(w) for w in weights], [moved(w) for w in weights], [moved(b) for b in biases]
    layers = [
        between(w, p, b, o, negative=n)
        for w, p, n, b, o in zip(weights, positive, negative, biases, offsets, strict=True)
    ]
    errors = propagate(layers, activation_norms(weights, biases, 1.0, norm), norm)
    each = component_errors(layers, activation_norms(weights, biases, 1.0, norm), norm)
    assert (each <= errors[-1] * (1 + 1e-9)).all()
    exact = [rational(w) for w in weights], [rational(w) for w in weights], [rational(b) for b in biases]
    ticket = [rational(w) for w in positive], [rational(w) for w in negative], [rational(b) for b in offsets]
    for _ in range(8):
        x = rng.normal(size=int(widths[0]))
        # Rounded towards 0, so that the norm is at most 1 exactly.
        x = x / np.linalg.norm(x, {"1": 1, "2": 2, "inf": np.inf}[norm]) * (1 - 1e-15)
        difference = forward(*exact, rational(x)) - forward(*ticket, rational(x))
        assert norm_at_most(difference, norm, errors[-1])
        assert all(abs(d) <= Fraction(float(e)) for d, e in zip(difference, each, strict=True))


@pytest.mark.parametrize("norm", NORMS)
def test_the_bound_is_reached(norm: Norm) -> None:
    """Non-negative matrices of rank 1, fed with the vector that every step stretches most."""
    n, depth, size = 4, 3, 0.01
    weights = [np.full((n, n), 0.3)] * depth
    layers = [between(w, w + size) for w in weights]
    x = {"1": np.eye(n)[0], "2": np.full(n, 0.5), "inf": np.ones(n)}[norm]
    norms = activation_norms(weights, [None] * depth, 1.0, norm)
    f = g = x
    for i, w in enumerate(weights):
        assert norms[i] == pytest.approx(np.linalg.norm(f, {"1": 1, "2": 2, "inf": np.inf}[norm]), rel=1e-9)
        f, g = w @ f, (w + size) @ g
    order = {"1": 1, "2": 2, "inf": np.inf}[norm]
    assert propagate(layers, norms, norm)[-1] == pytest.approx(np.linalg.norm(f - g, order), rel=1e-9)
    assert component_errors(layers, norms, norm) == pytest.approx(np.abs(f - g), rel=1e-9)


def test_rows_where_columns_are_meant_would_not_bound_the_1_norm() -> None:
    """What lemma 2.8 prints: ten outputs that read one input."""
    layers = [between(np.ones((1, 1)), np.full((1, 1), 1.1)), between(np.ones((10, 1)), np.ones((10, 1)))]
    assert propagate(layers, (1.0, 1.0), "1")[-1] >= 10 * 0.1
    assert propagate(layers, (1.0, 1.0), "inf")[-1] == pytest.approx(0.1)


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.sampled_from([1e-200, 1e-3, 1.0, 1e200]))
@settings(max_examples=60, deadline=None)
def test_operator_norms_are_bounds_and_tight(seed: int, outputs: int, inputs: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((outputs, inputs)) * scale * (rng.random((outputs, inputs)) < 0.8)
    exact = rational(matrix)
    column, row = operator_norm(matrix, "1"), operator_norm(matrix, "inf")
    assert max(exact.sum(axis=0)) <= Fraction(column) <= max(exact.sum(axis=0)) * (1 + Fraction(1, 10**14))
    assert max(exact.sum(axis=1)) <= Fraction(row) <= max(exact.sum(axis=1)) * (1 + Fraction(1, 10**14))
    spectral = operator_norm(matrix, "2")
    v = rational(np.abs(np.linalg.svd(matrix / scale)[2][0]))
    image = exact @ v
    # The Rayleigh quotient at the singular vector, exactly, is below the squared norm.
    assert (image @ image) <= Fraction(spectral) ** 2 * (v @ v)
    assert Fraction(propagation.frobenius(matrix)) ** 2 >= (exact**2).sum() >= 0
    assert spectral <= propagation.frobenius(matrix)
    if scale in (1e-3, 1.0) and (matrix > 0).all():
        assert spectral <= np.linalg.norm(matrix, 2) * 1.001


def test_the_spectral_bound_survives_matrices_that_mislead_the_power_iteration() -> None:
    for matrix in (np.zeros((3, 3)), np.eye(3), np.diag([1.0, 1e-8, 0.0]), np.kron(np.eye(2), np.ones((2, 2)))):
        assert np.linalg.norm(matrix, 2) <= operator_norm(matrix, "2") <= np.linalg.norm(matrix, 2) * (1 + 1e-6)


def test_activation_errors_and_lipschitz_constants_enter() -> None:
    layer = LayerError(np.full((1, 1), 0.1), np.ones((1, 1)), np.full(1, 0.2), lipschitz=2.0, activation_error=0.05)
    first = 2 * (0.1 * 3 + 0.2) + 0.05
    assert propagate([layer], (3.0,), "1") == (0.0, pytest.approx(first))
    assert propagate([layer, layer], (3.0, 3.0), "1")[-1] == pytest.approx(2 * (first + 0.1 * 3 + 0.2) + 0.05)
    assert activation_norms([np.ones((4, 1))] * 2, [np.ones(4)] * 2, 1.0, "1", 0.25, 0.5) == (1.0, pytest.approx(4.0))


def test_no_change_is_no_error() -> None:
    same = LayerError(np.zeros((2, 2)), np.ones((2, 2)))
    assert propagate([same, same], (1.0, 2.0), "2") == (0.0, 0.0, 0.0)


def test_what_is_no_bound_is_refused() -> None:
    good = LayerError(np.zeros((2, 2)), np.ones((2, 2)))
    for layers, norms, norm in (
        ([], (), "1"),
        ([good], (1.0, 1.0), "1"),
        ([good], (1.0,), "3"),
        ([LayerError(-np.ones((2, 2)), np.ones((2, 2)))], (1.0,), "1"),
        ([LayerError(np.ones((2, 2)), np.full((2, 2), math.nan))], (1.0,), "1"),
        ([LayerError(np.ones((1, 2)), np.ones((2, 2)))], (1.0,), "1"),
    ):
        for function in (propagate, component_errors):
            with pytest.raises(ArgumentError):
                function(layers, norms, norm)  # type: ignore[arg-type]
