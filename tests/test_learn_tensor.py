"""Starts from moments: of exact ones the teacher itself, of samples nearer to it the more there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slth.errors import ArgumentError, InformationLostError
from slth.learn import matching, moments
from slth.learn.descent import Descent, descend
from slth.learn.moments import ChunkedSamples
from slth.learn.teachers import draw_samples, draw_teachers
from slth.learn.tensor_initialisation import Conditioning, recover, tensor_initialisation
from slth.learn.trials import Setting, run_trials
from slth.learn.views import METHODS, candidates, make_view
from test_learn_moments import distance, labelled, numbers, sparse

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


def closest(found: Tensor, truth: Tensor) -> float:
    """Relative, over all orders of the neurons."""
    orders = itertools.permutations(range(len(truth)))
    return min(distance(found[list(order)], truth) for order in orders)


# -- matching -------------------------------------------------------------------------------------------------------


def arc_cosine(a: Tensor, b: Tensor) -> Tensor:
    """E[relu(a . x) relu(b . x)] (Cho and Saul 2009)."""
    sizes = torch.linalg.vector_norm(a, dim=-1)[:, None] * torch.linalg.vector_norm(b, dim=-1)
    cosine = (a @ b.mT / sizes.clamp_min(1e-300)).clamp(-1, 1)
    angle = cosine.arccos()
    return sizes / (2 * math.pi) * (angle.sin() + (math.pi - angle) * cosine)


def exact_order(options: Tensor, weights: Tensor) -> Tensor:
    flat = options.flatten(0, 1)
    return matching.least_risk(arc_cosine(flat, flat), arc_cosine(flat, weights).mean(-1))


def test_products_beside_their_expectations() -> None:
    weights, supports = sparse(3)
    options = numbers(40, 3, 3, 12) * supports
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    samples = labelled(weights, 100_000, 41)
    products, with_output = matching.expected_products(ChunkedSamples(samples), options, signs)
    h = (samples[0] @ options.flatten(0, 1).mT).relu() * signs.repeat_interleave(3)
    torch.testing.assert_close(products, h.mT @ h / len(h))
    torch.testing.assert_close(with_output, h.mT @ samples[1] / len(h))
    flat = options.flatten(0, 1)
    exact = arc_cosine(flat, flat) * torch.outer(signs, signs).repeat_interleave(3, 0).repeat_interleave(3, 1)
    torch.testing.assert_close(products, exact, rtol=0, atol=0.3)


@pytest.mark.parametrize("n_neurons", [1, 2, 3, 4, 7])
def test_assignments_of_least_risk(n_neurons: int) -> None:
    """Beside the risk itself, of every order, on the samples; from seven on exchanges have to find it."""
    for seed in range(3):
        weights, supports = sparse(seed, n_neurons, 12, 6)
        shuffled = weights[torch.from_numpy(np.random.default_rng(seed).permutation(n_neurons))]
        shuffled = shuffled + 0.1 * numbers(seed, n_neurons, 12)
        options = shuffled[:, None, :] * supports
        samples = labelled(weights, 300, seed)
        ones = torch.ones(n_neurons, dtype=torch.float64)
        order = matching.least_risk(*matching.expected_products(ChunkedSamples(samples), options, ones))
        assert sorted(order.tolist()) == list(range(n_neurons))
        h = (samples[0] @ options.flatten(0, 1).mT).relu().reshape(-1, n_neurons, n_neurons)
        orders = torch.tensor(list(itertools.permutations(range(n_neurons))))
        outputs = sum(h[:, orders[:, j], j] for j in range(n_neurons)) / n_neurons
        risks = (outputs - samples[1][:, None]).square().mean(0)  # type: ignore[union-attr]
        assert orders[int(risks.argmin())].tolist() == order.tolist()


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=20)
def test_neurons_of_equal_masks_get_the_nearest_names_and_others_keep_theirs(seed: int, n_neurons: int) -> None:
    """Beside all orders that leave the masks as they are."""
    draws = np.random.default_rng(seed)
    kinds = torch.from_numpy(draws.random((2, 4)) < 0.5)
    masks = kinds[torch.from_numpy(draws.integers(2, size=(3, n_neurons)))]
    weights, truth = (numbers(seed + i, 3, n_neurons, 4) * masks for i in (0, 1))
    named = matching.name_alike(weights, masks, truth)
    for trial in range(3):
        orders = [list(order) for order in itertools.permutations(range(n_neurons))]
        allowed = [order for order in orders if torch.equal(masks[trial][order], masks[trial])]
        best = min(float((weights[trial][order] - truth[trial]).square().sum()) for order in allowed)
        assert float((named[trial] - truth[trial]).square().sum()) == pytest.approx(best)
        assert any(torch.equal(named[trial], weights[trial][order]) for order in allowed)


# -- from moments to weights ----------------------------------------------------------------------------------------


def from_exact_moments(
    weights: Tensor, supports: Tensor | None, method: str, contraction: str = "all", output: Tensor | None = None
) -> Tensor:
    n_neurons, n_inputs = weights.shape
    view = make_view(method, supports, n_neurons, n_inputs)
    seen = None if view.transform is None else weights @ view.transform.mT
    first, second, fourth = moments.of_neurons(weights, seen)

    def tensor(basis: Tensor, direction: Tensor | None) -> Tensor:
        whole = fourth(basis)
        return whole if direction is None else torch.einsum("ijkl,l->ijk", whole, basis.mT @ direction)

    found = recover(first, second, tensor, n_neurons, contraction=contraction)
    if supports is None:
        return found.vectors
    options = candidates(found.vectors, view, supports)
    return options[exact_order(options, weights), torch.arange(n_neurons)]


@pytest.mark.parametrize("contraction", ["all", "random"])
def test_exact_moments_give_the_teacher(contraction: str) -> None:
    """Z3, in R^d, with and without supports."""
    for seed in range(60):
        weights, supports = sparse(seed)
        assert closest(from_exact_moments(weights, None, "zhong", contraction), weights) < 1e-10
        found = from_exact_moments(weights, supports, "zhong", contraction)
        # Equal supports leave two neurons without a name.
        named = len({tuple(row) for row in supports.tolist()}) == 3
        assert (distance if named else closest)(found, weights) < 1e-10


@pytest.mark.parametrize("contraction", ["all", "random"])
def test_exact_moments_of_x_tilde_give_the_teacher_or_an_error(contraction: str) -> None:
    """Z3 for x-tilde; what is lost is what loses rank, as counted without the code under test."""
    lost = 0
    for seed in range(60):
        weights, supports = sparse(seed)
        embed = torch.eye(12, dtype=torch.float64)[supports.nonzero()[:, 1].reshape(3, 5)]
        merged = embed.sum(0)
        singular = any(int(torch.linalg.matrix_rank(merged @ each.mT)) < 5 for each in embed)
        lost += singular
        if singular:
            with pytest.raises(InformationLostError, match=r"condition number .*zhong"):
                from_exact_moments(weights, supports, "x-tilde", contraction)
            continue
        found = from_exact_moments(weights, supports, "x-tilde", contraction)
        named = len({tuple(row) for row in supports.tolist()}) == 3
        assert (distance if named else closest)(found, weights) < 1e-10
    assert lost > 0


def test_signs_of_output_weights_are_recovered() -> None:
    weights, output = sparse(5)[0], torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    parts = [moments.of_neurons(row[None]) for row in weights]
    first, second = (sum(o * part[n] for o, part in zip(output, parts, strict=True)) / 3 for n in (0, 1))

    def fourth(basis: Tensor, _: Tensor | None) -> Tensor:
        return sum(o * part[2](basis) for o, part in zip(output, parts, strict=True)) / 3  # type: ignore[return-value]

    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    found = recover(first, second, fourth, 3, recover_signs=True)
    order = torch.cdist(weights, found.vectors).argmin(1)
    assert distance(found.vectors[order], weights) < 1e-10
    assert found.signs[order].tolist() == output.tolist()


def test_x_tilde_of_disjoint_supports_scales_as_claimed() -> None:
    """Z4: the q-th moment is K^(-1 - q/2) times that of a sum, not a mean, of neurons in R^r."""
    weights = numbers(50, 3, 4)
    dense = torch.zeros(3, 12, dtype=torch.float64)
    for j in range(3):
        dense[j, 4 * j : 4 * j + 4] = weights[j]
    view = make_view("x-tilde-paper", dense != 0, 3, 12)
    assert view.transform is not None
    torch.testing.assert_close(view.conditions, torch.ones(3, dtype=torch.float64))
    found = moments.of_neurons(dense, dense @ view.transform.mT)
    plain, basis = moments.of_neurons(weights), numbers(51, 4, 3)
    torch.testing.assert_close(found[0], 3**-0.5 * plain[0])
    torch.testing.assert_close(found[1], 3**-1.0 * plain[1])
    torch.testing.assert_close(found[2](basis), 3**-2.0 * plain[2](basis))
    for method in METHODS:
        assert distance(from_exact_moments(dense, dense != 0, method), dense) < 1e-10


def test_x_tilde_as_printed_is_biased_where_supports_overlap() -> None:
    """Z4, on two million samples: with S below 3 percent, with I above 100."""
    weights, supports = sparse(3, 3, 12, 4)
    paper = make_view("x-tilde-paper", supports, 3, 12)
    right = make_view("x-tilde", supports, 3, 12)
    assert paper.transform is not None and right.transform is not None

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        for seed in range(10):
            yield labelled(weights, 200_000, 100 + seed)

    samples = ChunkedSamples(chunks)
    errors = []
    for view in (right, paper):
        assert view.transform is not None
        exact = moments.of_neurons(weights, weights @ view.transform.mT)[1]
        errors.append(distance(moments.second(samples.through(view.transform)), exact))
    assert errors[0] < 0.03 and errors[1] > 1


# -- from samples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("supported", [True, False])
def test_errors_fall_with_samples(supported: bool) -> None:
    """Z3; in the geometric mean over teachers, by the root of ten for ten times the samples, less what chance does."""
    logarithms = []
    for n_samples in (2_000, 20_000, 200_000):
        errors = []
        for seed in range(5):
            weights, supports = sparse(seed)
            start = tensor_initialisation(labelled(weights, n_samples, 60 + seed), 3, supports if supported else None)
            assert start.matched == supported
            errors.append(math.log((distance if supported else closest)(start.weights, weights)))
            if supported:
                assert not bool(start.weights[~supports].any())
        logarithms.append(sum(errors) / 5)
    falls = [math.exp(a - b) for a, b in itertools.pairwise(logarithms)]
    assert min(falls) > 2 and math.exp(logarithms[-1]) < 0.03


def test_fits_and_all_contractions_need_fewer_samples() -> None:
    weights = sparse(7, 3, 10, 10)[0]
    samples = labelled(weights, 20_000, 61)
    paper = tensor_initialisation(samples, 3, contraction="random", fitted=False)
    ours = tensor_initialisation(samples, 3)
    assert closest(ours.weights, weights) < 0.1
    assert closest(ours.weights, weights) < closest(paper.weights, weights) / 3


def test_a_third_of_the_samples_for_each_moment() -> None:
    weights, supports = sparse(6)
    samples = labelled(weights, 90_000, 62)
    start = tensor_initialisation(samples, 3, supports, split=True)
    assert 0 < distance(start.weights, weights) < 0.1
    x, y = samples
    other = y.clone()
    other[2::3] = 0
    changed = tensor_initialisation((x, other), 3, supports, split=True)
    # The last third is the fourth moment's alone.
    assert torch.equal(changed.conditioning.gap, start.conditioning.gap)
    assert not torch.equal(changed.conditioning.residual, start.conditioning.residual)


def test_x_tilde_from_samples() -> None:
    weights = torch.zeros(2, 8, dtype=torch.float64)
    weights[0, :4], weights[1, 4:] = torch.tensor([0.9, 0.4, 0.0, 0.1]), torch.tensor([-0.2, 0.1, 0.8, -0.5])
    supports = torch.zeros(2, 8, dtype=torch.bool)
    supports[0, :4] = supports[1, 4:] = True
    samples = labelled(weights, 300_000, 63)
    errors = [distance(tensor_initialisation(samples, 2, supports, method=m).weights, weights) for m in METHODS]
    assert errors[0] < errors[1] < 0.1 and errors[2] < 0.4


def test_trials_teachers_and_devices() -> None:
    teachers = draw_teachers(3, 3, 10, 4, seed=9)
    data = draw_samples(teachers, 4_000)
    together = tensor_initialisation((data.inputs, data.labels), 3, teachers.supports)
    assert together.weights.shape == (3, 3, 10) and together.conditioning.gap.shape == (3,)
    for n in range(3):
        alone = tensor_initialisation((data.inputs[n], data.labels[n]), 3, teachers.supports[n])
        torch.testing.assert_close(alone.weights, together.weights[n], rtol=0, atol=1e-10)
    again = tensor_initialisation((data.inputs, data.labels), 3, teachers.supports)
    assert torch.equal(again.weights, together.weights)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("method", METHODS)
def test_every_device_gives_the_same(device: str, method: str) -> None:
    weights, supports = sparse(6)
    samples = labelled(weights, 20_000, 64)
    here = tensor_initialisation(samples, 3, supports, method=method)
    there = tensor_initialisation(samples, 3, supports, method=method, device=device)
    assert there.weights.device.type == device
    torch.testing.assert_close(there.weights.cpu(), here.weights, rtol=0, atol=1e-6)


def test_descent_from_the_start_reaches_the_teacher() -> None:
    teachers = draw_teachers(2, 3, 20, 6, seed=4)
    data = draw_samples(teachers, 2_000)
    start = tensor_initialisation((data.inputs, data.labels), 3, teachers.supports)
    assert max(distance(start.weights[n], teachers.weights[n]) for n in range(2)) < 0.5
    state = descend(data, teachers.supports, start.weights, Descent(iterations=3000), truth=teachers.weights)
    assert max(distance(state.weights[n], teachers.weights[n]) for n in range(2)) < 1e-4


def test_trials_start_from_their_samples() -> None:
    setting = Setting(neurons=3, inputs=20, kept=6, samples=10_000, init="tensor", radius=7.0)
    together = run_trials(setting, 3, Descent(iterations=1))
    # One trial at a time where memory is short; the errors before the first step are the starts'.
    apart = run_trials(setting, 3, Descent(iterations=1), memory_bytes=1)
    torch.testing.assert_close(apart.state.errors, together.state.errors)
    assert float(together.state.errors[:, 0].max()) < 0.5
    assert together.conditioning is not None and apart.conditioning is not None
    for each in fields(Conditioning):
        torch.testing.assert_close(getattr(apart.conditioning, each.name), getattr(together.conditioning, each.name))
    with pytest.raises(ArgumentError, match=r"init: got tensor, for 4 neurons of 3 inputs"):
        run_trials(Setting(4, 3, 2, init="tensor"), 1)
    with pytest.raises(ArgumentError, match=r"init.*random or tensor"):
        run_trials(Setting(init="best"), 1)
    with pytest.raises(ArgumentError, match="sigmoids"):
        run_trials(Setting(init="tensor", binary=True), 1)


def test_students_of_equal_masks_start_near_their_teachers() -> None:
    setting = Setting(neurons=3, inputs=8, kept=8, samples=20_000, init="tensor")
    outcome = run_trials(setting, 3, Descent(iterations=1000))
    assert float(outcome.state.errors[:, 0].max()) < 0.3 and float(outcome.errors.max()) < 0.01


def test_one_neuron_and_one_input() -> None:
    for n_inputs, kept in ((1, 1), (6, 1), (6, 6)):
        weights, supports = sparse(1, 1, n_inputs, kept)
        for support in (None, supports):
            start = tensor_initialisation(labelled(weights, 20_000, 66), 1, support)
            assert distance(start.weights, weights) < 0.1 and not start.conditioning.doubts()


def test_directions_that_are_missing_are_said() -> None:
    """Two neurons that read the same input alone: a direction fewer, and no eigenvalue of noise beside it."""
    weights = torch.tensor([[0.4, 0, 0], [0.3, 0, 0], [0, 0, 0.2]], dtype=torch.float64)
    start = tensor_initialisation(labelled(weights, 2000, 67), 3, weights != 0)
    assert float(start.conditioning.gap) == 0.0
    assert any("eigenvalue of M_2 is 0 times" in doubt for doubt in start.conditioning.doubts())
    both = torch.stack([weights, torch.eye(3, dtype=torch.float64)])
    x = numbers(68, 2, 2000, 3)
    y = torch.stack([(x[n] @ both[n].mT).relu().mean(-1) for n in range(2)])
    doubts = tensor_initialisation((x, y), 3, both != 0).conditioning.doubts()
    assert any("(1 of 2 trials)" in doubt for doubt in doubts)


def test_too_few_samples_are_said() -> None:
    weights, _ = sparse(8, 3, 30, 6)
    few = tensor_initialisation(labelled(weights, 200, 65), 3)
    assert any("eigenvalue" in doubt for doubt in few.conditioning.doubts())
    assert not tensor_initialisation(labelled(weights, 50_000, 65), 3).conditioning.doubts()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "best"}, "zhong"),
        ({"contraction": "most"}, "random"),
        ({"n_neurons": 0}, "at least 1"),
        ({"n_neurons": 7}, "independent"),
        ({"method": "x-tilde"}, "support"),
        ({"support": torch.ones(2, 5)}, "shape"),
        ({"support": torch.zeros(2, 6)}, "reads nothing"),
        ({"support": torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]), "method": "x-tilde"}, "equally many"),
        ({"support": torch.eye(6)[:2], "method": "x-tilde"}, "independent"),
        ({"samples": iter([(torch.zeros(3, 6), torch.zeros(3))])}, "read once"),
    ],
)
def test_misuse(arguments: dict[str, object], words: str) -> None:
    given_ones: dict[str, object] = {"samples": (torch.ones(4, 6), torch.ones(4)), "n_neurons": 2} | arguments
    with pytest.raises(ArgumentError, match=words):
        tensor_initialisation(**given_ones)  # type: ignore[arg-type]
