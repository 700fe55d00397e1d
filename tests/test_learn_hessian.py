"""Extreme eigenvalues of the empirical Hessian: against the whole matrix, and the bounds of theorem 1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from slth.errors import ArgumentError, MismatchError
from slth.learn.descent import Descent
from slth.learn.hessian import hessian_extremes, lanczos
from slth.learn.risk import active, hessian_product, risk
from slth.learn.teachers import draw_samples, draw_students, draw_teachers
from slth.learn.trials import Setting, curvature_at_teachers, run_trials


def whole_hessian(weights: Tensor, inputs: Tensor, masks: Tensor) -> Tensor:
    """The matrix of one trial, sample by sample, on its support."""
    k, n = len(weights), len(inputs)
    total = torch.zeros(int(masks.sum()), int(masks.sum()), dtype=torch.float64)
    for x in inputs:
        on = (weights @ x > 0).double()
        row = (on[:, None] * x)[masks]
        total += torch.outer(row, row) / (n * k**2)
    return total


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 40), st.data())
def test_extremes_are_those_of_the_whole_matrix(
    seed: int, neurons: int, inputs: int, samples: int, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.integers(1, inputs), min_size=neurons, max_size=neurons))
    teachers = draw_teachers(3, neurons, inputs, kept, seed)
    masks = draw_students(teachers, [data.draw(st.integers(least, inputs)) for least in kept])
    # Trials of different sizes in one batch: the first loses a weight if it can spare one.
    if int(masks[0].sum()) > 1:
        masks[0].view(-1)[masks[0].view(-1).nonzero()[0]] = False
    x = draw_samples(teachers, samples).inputs
    found = hessian_extremes(teachers.weights, x, masks)
    for trial in range(3):
        whole = whole_hessian(teachers.weights[trial] * masks[trial], x[trial], masks[trial])
        values = torch.linalg.eigvalsh(whole)
        size = max(float(values[-1]), 1e-12)
        assert float(found.largest[trial]) == pytest.approx(float(values[-1]), abs=1e-8 * size)
        assert float(found.smallest[trial]) == pytest.approx(float(values[0]), abs=1e-8 * size)


@given(st.integers(0, 10**6))
def test_product_is_the_derivative_of_the_gradient(seed: int) -> None:
    """Within a region where no neuron changes its activity the gradient is linear."""
    teachers = draw_teachers(2, 3, 5, 3, seed)
    masks = draw_students(teachers, 4)
    samples = draw_samples(teachers, 20)
    w = teachers.weights
    v = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * masks
    sums, moved = (torch.bmm(each, samples.inputs.transpose(1, 2)) for each in (w, v))
    h = 0.5 * float((sums / moved).abs().min())
    before, after = (risk(w + t * v, samples.inputs, samples.labels)[1] * masks for t in (0.0, h))
    product = hessian_product(active(w, samples.inputs), samples.inputs, masks, v)
    torch.testing.assert_close(product * h, after - before, rtol=1e-6, atol=1e-13)
    assert bool((product[~masks] == 0).all())


def test_curvature_at_the_teacher_is_that_of_theorem_1() -> None:
    """Z6: N = 4 K r samples."""
    for neurons, kept in ((2, 10), (4, 20), (5, 40)):
        setting = Setting(neurons, 40, kept, 4 * neurons * kept)
        outcome = run_trials(setting, 6, Descent(iterations=1))
        found = curvature_at_teachers(setting, outcome)
        assert bool((found.smallest > 0).all())
        assert bool((found.largest <= 1 / neurons).all())
        assert float(found.smallest.min()) * neurons**2 > 0.01 and float(found.largest.min()) * neurons > 0.1
        in_parts = curvature_at_teachers(setting, outcome, memory_bytes=1)
        torch.testing.assert_close(in_parts.smallest, found.smallest, rtol=1e-7, atol=0)
        assert not bool(found.unconverged().any())
    few = Setting(4, 40, 20, 60)
    flat = curvature_at_teachers(few, run_trials(few, 2, Descent(iterations=1)))
    assert float(flat.smallest.abs().max()) < 1e-10


def test_500_weights_in_a_few_products_beside_the_whole_matrix() -> None:
    teachers = draw_teachers(1, 5, 100, 100, seed=0)
    x, weights = draw_samples(teachers, 2000).inputs, teachers.weights
    on = active(weights, x)[0]
    rows = (on.T[:, :, None] * x[0][:, None, :]).flatten(1)
    values = torch.linalg.eigvalsh(rows.T @ rows / (2000 * 5**2))
    found = hessian_extremes(weights, x, teachers.supports)
    assert found.products <= 200 and not bool(found.unconverged().any())
    assert float(found.smallest) == pytest.approx(float(values[0]), rel=1e-7)
    assert float(found.largest) == pytest.approx(float(values[-1]), rel=1e-12)
    few = hessian_extremes(weights, x, teachers.supports, most_steps=20)
    assert bool(few.unconverged().all())


def test_shared_inputs_are_those_of_every_trial() -> None:
    teachers = draw_teachers(3, 2, 6, 3, seed=1)
    x = draw_samples(teachers, 60).inputs[:1]
    shared = hessian_extremes(teachers.weights, x, teachers.supports)
    for trial in range(3):
        whole = whole_hessian(teachers.weights[trial], x[0], teachers.supports[trial])
        values = torch.linalg.eigvalsh(whole)
        found = torch.stack([shared.smallest[trial], shared.largest[trial]])
        torch.testing.assert_close(found, values[[0, -1]], rtol=1e-8, atol=1e-12)
    for wrong in (x[:, :, :5], x.expand(2, -1, -1), x[0]):
        with pytest.raises(MismatchError, match="weights"):
            hessian_extremes(teachers.weights, wrong, teachers.supports)


def test_matrix_of_known_eigenvalues_in_few_products() -> None:
    """Of 1,000 eigenvalues between 0.1 and 1 the ends are found, and the residuals say how near."""
    values = torch.stack([torch.linspace(low, 1.0, 1000, dtype=torch.float64) for low in (0.1, 0.5)])
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 1000, dtype=torch.float64, generator=generator)
    found = lanczos(lambda v: values * v, first, 400)
    assert found.products <= 200
    for trial, low in enumerate((0.1, 0.5)):
        assert float(found.smallest[trial]) == pytest.approx(low, abs=1e-5)
        assert float(found.largest[trial]) == pytest.approx(1.0, abs=1e-5)
    assert float(torch.maximum(found.smallest_residual, found.largest_residual).max()) <= 1e-6
    rough = lanczos(lambda v: values * v, first, 5)
    gap = (values[:, None, :] - torch.stack([rough.smallest, rough.largest], dim=1)[:, :, None]).abs().amin(dim=2)
    assert bool((gap <= torch.stack([rough.smallest_residual, rough.largest_residual], dim=1)).all())
    assert float(rough.smallest_residual.min()) > 1e-6
    for steps, tolerance in ((0, 1e-6), (5, 0.0), (5, float("nan"))):
        with pytest.raises(ArgumentError, match="most_steps"):
            lanczos(lambda v: v, first, steps, tolerance)
