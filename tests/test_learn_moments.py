"""Moments beside their definitions and closed forms; decompositions beside what was planted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from slth.errors import ArgumentError, DataError
from slth.learn import decomposition, moments
from slth.learn.moments import ChunkedSamples, Fit
from slth.learn.teachers import draw_teachers

SEEDS = st.integers(0, 2**32 - 1)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def distance(found: Tensor, truth: Tensor) -> float:
    """Relative, neuron by neuron."""
    return float(torch.linalg.norm(found - truth) / torch.linalg.norm(truth))


def sparse(seed: int, n_neurons: int = 3, n_inputs: int = 12, kept: int = 5) -> tuple[Tensor, Tensor]:
    """Weights and supports."""
    teachers = draw_teachers(1, n_neurons, n_inputs, kept, seed)
    return teachers.weights[0], teachers.supports[0]


def labelled(weights: Tensor, n_samples: int, seed: int) -> tuple[Tensor, Tensor]:
    x = numbers(seed, n_samples, weights.shape[-1])
    return x, (x @ weights.mT).relu().mean(-1)


# -- moments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", range(5))
def test_coefficients_of_relu(degree: int) -> None:
    hermite = np.polynomial.hermite_e.HermiteE.basis(degree)
    value = quad(lambda z: z * hermite(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0, 40, epsabs=1e-13)[0]
    assert value == pytest.approx(moments.RELU[degree], abs=1e-12)


def hermite_tensor(x: Tensor, degree: int) -> Tensor:
    """He_q(x) of one sample, dense, from polynomials of one variable: no formula of the fast code."""
    d = len(x)
    polynomials = [np.polynomial.hermite_e.HermiteE.basis(q) for q in range(degree + 1)]
    values = [[float(polynomial(float(value))) for polynomial in polynomials] for value in x]
    tensor = np.empty((d,) * degree)
    for index in itertools.product(range(d), repeat=degree):
        # The tensor's entry is a product of one-dimensional polynomials of each input's multiplicity.
        tensor[index] = math.prod(values[i][index.count(i)] for i in range(d))
    return torch.from_numpy(tensor)


def test_moments_are_their_definitions() -> None:
    x, y = numbers(1, 7, 3), numbers(2, 7)
    basis, alpha = numbers(3, 3, 2), numbers(4, 3)
    dense = {q: sum(y[n] * hermite_tensor(x[n], q) for n in range(7)) / 7 for q in (1, 2, 4)}
    torch.testing.assert_close(moments.first((x, y)), dense[1], rtol=0, atol=1e-13)
    torch.testing.assert_close(moments.second((x, y)), dense[2], rtol=0, atol=1e-13)
    small = torch.einsum("abcd,ai,bj,ck,dl->ijkl", dense[4], basis, basis, basis, basis)
    torch.testing.assert_close(moments.fourth((x, y), basis), small, rtol=0, atol=1e-11)
    contracted = torch.einsum("abcd,ai,bj,ck,d->ijk", dense[4], basis, basis, basis, alpha)
    torch.testing.assert_close(moments.fourth_contracted((x, y), basis, alpha), contracted, rtol=0, atol=1e-11)


def on_the_plane(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and outputs times weights of a quadrature in polar coordinates, exact but for the kinks' angles."""
    nodes, radial = np.polynomial.legendre.leggauss(80)
    radius = 6.5 * (nodes + 1)
    mass = 6.5 * radial * radius * np.exp(-(radius**2) / 2)
    n_angles = 4000
    angle = 2 * math.pi * np.arange(n_angles) / n_angles
    x = (radius[:, None, None] * np.stack((np.cos(angle), np.sin(angle)), -1)).reshape(-1, 2)
    mean = np.repeat(mass, n_angles) / n_angles * len(x)
    points = torch.from_numpy(x)
    return points, (points @ weights.mT).relu().mean(-1) * torch.from_numpy(mean)


def test_closed_forms() -> None:
    """Z2: the coefficients, times |w|, of first, second and fourth moment; the third vanishes."""
    weights = torch.tensor([[0.7, -0.2], [-0.1, -1.3], [0.4, 0.5]], dtype=torch.float64)
    samples, basis = on_the_plane(weights), numbers(5, 2, 2)
    first, second, fourth = moments.of_neurons(weights)
    torch.testing.assert_close(moments.first(samples), first, rtol=0, atol=1e-5)
    torch.testing.assert_close(moments.second(samples), second, rtol=0, atol=1e-5)
    torch.testing.assert_close(moments.fourth(samples, basis), fourth(basis), rtol=0, atol=1e-3)
    x, y = samples
    third = torch.einsum("n,na,nb,nc->abc", y, x, x, x) / len(y)
    line = torch.einsum("a,bc->abc", y @ x / len(y), torch.eye(2, dtype=torch.float64))
    third -= line + line.movedim(0, 1) + line.movedim(0, 2)
    assert float(third.abs().max()) < 1e-5


@given(SEEDS, st.lists(st.integers(1, 39), unique=True, max_size=5))
@settings(deadline=None, max_examples=30)
def test_chunks_change_nothing(seed: int, cuts: list[int]) -> None:
    x, y, basis = numbers(seed, 40, 4), numbers(seed + 1, 40), numbers(seed + 2, 4, 3)
    edges = [0, *sorted(cuts), 40]
    chunks = [(x[a:b], y[a:b]) for a, b in itertools.pairwise(edges)]
    for moment in (moments.first, moments.second, lambda samples: moments.fourth(samples, basis)):
        whole = moment((x, y))
        for form in (chunks, tuple(chunks) if len(chunks) != 2 else chunks, lambda: iter(chunks), iter(chunks)):
            torch.testing.assert_close(moment(form), whole, rtol=0, atol=1e-12)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_moments_turn_with_the_inputs(seed: int) -> None:
    x, y, basis, alpha = numbers(seed, 30, 4), numbers(seed + 1, 30), numbers(seed + 2, 4, 3), numbers(seed + 3, 4)
    turn = torch.linalg.qr(numbers(seed + 4, 4, 4)).Q
    turned = (x @ turn.mT, y)
    torch.testing.assert_close(moments.second(turned), turn @ moments.second((x, y)) @ turn.mT)
    torch.testing.assert_close(moments.fourth(turned, turn @ basis), moments.fourth((x, y), basis))
    found = moments.fourth_contracted(turned, turn @ basis, turn @ alpha)
    torch.testing.assert_close(found, moments.fourth_contracted((x, y), basis, alpha))
    # Contracting what was already contracted with the basis is contracting with a direction in its span.
    whole, inside = moments.fourth((x, y), basis), numbers(seed + 5, 3)
    torch.testing.assert_close(
        moments.fourth_contracted((x, y), basis, basis @ inside), torch.einsum("ijkl,l->ijk", whole, inside)
    )


def test_trials_at_once_are_trials_alone() -> None:
    x, y, basis = numbers(6, 3, 50, 4), numbers(7, 3, 50), numbers(8, 3, 4, 2)
    alpha = numbers(9, 3, 4)
    for n in range(3):
        alone = (x[n], y[n])
        torch.testing.assert_close(moments.second((x, y))[n], moments.second(alone))
        torch.testing.assert_close(moments.fourth((x, y), basis)[n], moments.fourth(alone, basis[n]))
        together = moments.fourth_contracted((x, y), basis, alpha)[n]
        torch.testing.assert_close(together, moments.fourth_contracted(alone, basis[n], alpha[n]))
        shared = moments.second((x[:1], y))[n]
        torch.testing.assert_close(shared, moments.second((x[0], y[n])))


def test_a_fit_takes_all_of_low_degree_and_nothing_else() -> None:
    x, directions = numbers(10, 200, 5), torch.linalg.qr(numbers(11, 5, 2)).Q
    fit = Fit(torch.tensor(0.3, dtype=torch.float64), numbers(12, 5), directions, numbers(13, 2))
    y = 0.3 + x @ fit.linear
    for k in range(2):
        y = y + fit.curvatures[k] / 2 * ((x @ directions[:, k]) ** 2 - 1)  # type: ignore[index]
    assert float(fit.residual(x, y).abs().max()) < 1e-12
    # Expectations stay what they are and the samples' errors shrink.
    weights = sparse(0)[0]
    basis = torch.linalg.qr(weights.mT).Q
    exact = moments.of_neurons(weights)[2](basis)
    samples = ChunkedSamples(labelled(weights, 50_000, 14))
    low = moments.linear_fit(samples)
    curvatures, vectors = torch.linalg.eigh(moments.second(samples.less(low)))
    full = Fit(low.constant, low.linear, vectors, curvatures)
    plain, fitted = (distance(moments.fourth(s, basis), exact) for s in (samples, samples.less(full)))
    assert fitted < plain / 3 and fitted < 0.15


def test_parts_are_disjoint_and_complete() -> None:
    x, y = numbers(15, 20, 2), torch.arange(20, dtype=torch.float64)
    parts = [torch.cat([value for _, value in ChunkedSamples((x, y)).keep(n, 3).chunks()]) for n in range(3)]
    assert sorted(torch.cat(parts).tolist()) == y.tolist()


@pytest.mark.parametrize(
    "samples",
    [
        (torch.zeros(3, 2), torch.zeros(4)),
        (torch.zeros(3), torch.zeros(3)),
        (torch.zeros(2, 3, 2), torch.zeros(3, 3)),
        (torch.tensor([[1.0, math.nan]]), torch.zeros(1)),
        (torch.zeros(1, 2), torch.tensor([math.inf])),
        [],
    ],
)
def test_samples_that_are_none(samples: object) -> None:
    with pytest.raises(DataError, match="samples"):
        moments.second(samples)  # type: ignore[arg-type]


# -- decomposition --------------------------------------------------------------------------------------------------


def planted(seed: int, k: int, order: int, n_trials: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of moderate condition, their weights, and the tensors."""
    u = numbers(seed, n_trials, k, k) / (2 * math.sqrt(k)) + torch.eye(k, dtype=torch.float64)
    u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    weights = 0.5 + torch.from_numpy(np.random.default_rng(seed).uniform(size=(n_trials, k)))
    letters = "abcd"[:order]
    spec = "nj," + ",".join(f"nj{letter}" for letter in letters) + f"->n{letters}"
    return u, weights, torch.einsum(spec, weights, *[u] * order)


def farthest(found: Tensor, truth: Tensor) -> float:
    """Largest distance of a planted unit vector from the found one nearest to it, up to sign."""
    cosines = (truth @ found.mT).abs().amax(-1).clamp_max(1)
    return float((2 - 2 * cosines).clamp_min(0).sqrt().max())


@pytest.mark.parametrize("metric", [True, False])
@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_planted_components_are_found(k: int, order: int, metric: bool) -> None:
    u, weights, tensor = planted(k, k, order)
    matrix = torch.einsum("nj,nja,njb->nab", weights.flip(-1), u, u) if metric else None
    found = decomposition.decompose_order(tensor, order, matrix)
    assert set(found.methods) == {"rotations" if metric else "diagonalisation"}
    assert float(found.residual.max()) < 1e-9 and farthest(found.components, u) < 1e-7
    torch.testing.assert_close(found.weights, weights.sort(-1, descending=True).values, rtol=1e-6, atol=0)


@pytest.mark.parametrize("order", [3, 4])
def test_noise_moves_components_in_proportion(order: int) -> None:
    u, weights, tensor = planted(20, 4, order, 1)
    noise = numbers(21, *tensor.shape[1:])
    noise = sum(noise.permute(*p) for p in itertools.permutations(range(order)))  # type: ignore[assignment]
    noise = noise / torch.linalg.norm(noise) * torch.linalg.norm(tensor)
    matrix = torch.einsum("nj,nja,njb->nab", weights, u, u)[0]
    for given_metric in (matrix, None):
        moved = [
            farthest(decomposition.decompose(tensor[0] + size * noise, given_metric).components, u[0])
            for size in (1e-6, 1e-4, 1e-2)
        ]
        assert moved[0] < 1e-5 and moved[1] < 1e-3 and moved[2] < 0.1
        assert moved[1] == pytest.approx(100 * moved[0], rel=0.1)


@given(SEEDS, st.sampled_from([3, 4]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_components_turn_with_the_tensor(seed: int, order: int, metric: bool) -> None:
    u, weights, tensor = planted(seed, 3, order, 1)
    matrix = torch.einsum("nj,nja,njb->nab", weights, u, u) if metric else None
    turn = torch.linalg.qr(numbers(seed + 1, 3, 3)).Q
    letters, new = "abcd"[:order], "wxyz"[:order]
    spec = f"n{letters}," + ",".join(f"{b}{a}" for a, b in zip(letters, new, strict=True)) + f"->n{new}"
    turned = torch.einsum(spec, tensor, *[turn] * order)
    found = decomposition.decompose_order(turned, order, None if matrix is None else turn @ matrix @ turn.mT)
    alone = decomposition.decompose_order(tensor, order, matrix)
    torch.testing.assert_close(found.weights, alone.weights, rtol=1e-6, atol=0)
    assert farthest(found.components, alone.components @ turn.mT) < 1e-6


def test_negative_weights_and_signs() -> None:
    u, weights, _ = planted(30, 3, 4, 1)
    weights = weights * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    quartic = torch.einsum("nj,nja,njb,njc,njd->nabcd", weights, u, u, u, u)[0]
    found = decomposition.decompose(quartic)
    assert float(found.residual) < 1e-10 and sorted(found.weights.sign().tolist()) == [-1, -1, 1]
    cubic = torch.einsum("nj,nja,njb,njc->nabc", weights, u, u, u)[0]
    found = decomposition.decompose(cubic)
    assert bool((found.weights > 0).all())
    signed = u[0] * weights[0].sign()[:, None]
    order = weights[0].abs().argsort(descending=True)
    torch.testing.assert_close(found.components, signed[order], rtol=0, atol=1e-7)


def test_rotations_are_eigenvectors_of_one_slice_and_the_best_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    one = numbers(31, 5, 5)
    one = one + one.mT
    rotation = decomposition.joint_rotation(one[None])
    turned = rotation @ one @ rotation.mT
    torch.testing.assert_close(turned.diagonal().sort().values, torch.linalg.eigvalsh(one))
    # Two slices that no basis diagonalises: no angle of a fine grid does better in the plane.
    slices = numbers(32, 2, 2, 2)
    slices = slices + slices.mT
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    grid = torch.stack((angles.cos(), angles.sin(), -angles.sin(), angles.cos()), -1).reshape(-1, 1, 2, 2)
    best = float(((grid @ slices @ grid.mT)[..., 0, 1] ** 2).sum(-1).min())
    monkeypatch.setattr(decomposition, "_SWEEPS", 1)
    rotation = decomposition.joint_rotation(slices)
    assert float(((rotation @ slices @ rotation.mT)[:, 0, 1] ** 2).sum()) <= best + 1e-12


def test_the_fallback_alone_finds_what_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    u, _, tensor = planted(33, 3, 3)
    monkeypatch.setattr(decomposition, "_diagonalise", lambda t, *_: (t[:, 0], torch.zeros(len(t), dtype=torch.bool)))
    found = decomposition.decompose_order(tensor, 3)
    assert set(found.methods) == {"alternating"}
    assert float(found.residual.max()) < 1e-6 and farthest(found.components, u) < 1e-5


def test_a_broken_trial_leaves_the_others_alone() -> None:
    u, weights, tensor = planted(34, 3, 3)
    metric = torch.einsum("nj,nja,njb->nab", weights, u, u)
    metric[1] = -metric[1]
    found = decomposition.decompose_order(tensor, 3, metric)
    assert found.methods == ("rotations", "diagonalisation", "rotations", "rotations")
    assert farthest(found.components, u) < 1e-7
    for n in range(4):
        alone = decomposition.decompose(tensor[n], metric[n])
        torch.testing.assert_close(alone.components, found.components[n], rtol=0, atol=1e-12)


def test_tensors_that_are_none() -> None:
    for wrong in (torch.zeros(2, 2), torch.zeros(2, 2, 3), torch.full((2, 2, 2), math.nan)):
        with pytest.raises(ArgumentError, match="tensor"):
            decomposition.decompose(wrong)
