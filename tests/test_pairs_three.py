"""Depth three: structure and lemmas of Malach et al. 2020, Theorem 2.3 (CHECKS M3, M4, M5), and proofs."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from slth.artifact import from_bytes, to_bytes
from slth.bounds.malach import lemma_a4
from slth.candidates import compared, own_graph, unfold
from slth.certify.propagation import propagate
from slth.copies import realise_all
from slth.mask import CandidateMask, OutputMask
from slth.mask.candidates import NONE
from slth.network.target import Target
from slth.source.candidates import CandidateSource, OutputSource
from slth.summary import summarise
from zoo import DOMAINS, Case, inputs, shake

FORMS = ("masked", "sparse", "folded")


def options(size: int = 14, candidates: int | None = 6, **others: Any) -> dict[str, Any]:
    settings = {"depth": "three"} | ({} if candidates is None else {"candidates": candidates})
    return {"construction": "pairs", "base_set_size": size, "settings": settings, "domain": (-1, 1), **others}


def network(
    first_bias: bool, last_bias: bool, widths: tuple[int, int, int] = (3, 4, 2), seed: int = 0
) -> nn.Sequential:
    n_in, n_hidden, n_out = widths
    return shake(
        nn.Sequential(nn.Linear(n_in, n_hidden, first_bias), nn.ReLU(), nn.Linear(n_hidden, n_out, last_bias)), seed
    )


def small_rows() -> nn.Sequential:
    """Whose output biases are far larger than anything in the first layer."""
    model = network(True, True)
    for parameter in model[0].parameters():
        parameter.data *= 0.03
    return model


CASES = {
    "small rows": Case(small_rows(), (3,), options(300, 12)),
    "both biases": Case(network(True, True), (3,), options(tolerance=0.05)),
    "hidden biases": Case(network(True, False), (3,), options(tolerance=0.05)),
    "output biases": Case(network(False, True), (3,), options(domain=(0, 1))),
    "no biases": Case(network(False, False, (3, 4, 3)), (3,), options(tolerance=0.1)),
    "one output": Case(network(True, True, (3, 5, 1)), (3,), options(domain=(-2, 0), tolerance=0.05)),
    "on the last axis": Case(network(True, True), (2, 3), options(tolerance=0.05)),
    "between other operations": Case(
        nn.Sequential(nn.Flatten(), *network(True, True, (4, 3, 2)), nn.Tanh()), (2, 2), options(10, 4)
    ),
}
FOUND = {name: functools.cache(case.find) for name, case in CASES.items()}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@dataclasses.dataclass(frozen=True)
class Dense:
    """The masked module's three layers: whole tensors, and what is kept of them."""

    ticket: slth.Ticket
    tensors: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]

    @classmethod
    def read(cls, ticket: slth.Ticket) -> Dense:
        state = ticket.module("masked", dtype=torch.float64).state_dict()
        first, last = (facts.name for facts in ticket.facts)
        keys = {"A": f"{first}.expand.weight", "a": f"{first}.expand.bias", "B": f"{first}.combine.weight"}
        keys |= {"v": f"{last}.combine.weight"}
        parts = {part: key for part, key in keys.items() if f"{key}_orig" in state}
        return cls(
            ticket,
            {part: state[f"{key}_orig"].numpy() for part, key in parts.items()},
            {part: state[f"{key}_mask"].numpy() > 0 for part, key in parts.items()},
        )

    def kept(self, part: str) -> np.ndarray:
        return self.tensors[part] * self.masks[part]

    def exact(self, x: np.ndarray) -> list[Fraction]:
        """The pruned source on one input, without rounding."""
        hidden = [Fraction(float(entry)) for entry in x]
        biases: Any = self.kept("a") if "a" in self.tensors else np.zeros(len(self.tensors["A"]))
        for weight, bias in ((self.kept("A"), biases), (self.kept("B"), np.zeros(len(self.tensors["B"])))):
            sums = [Fraction(float(entry)) for entry in bias]
            for row, column in zip(*np.nonzero(weight), strict=True):
                sums[row] += Fraction(float(weight[row, column])) * hidden[column]
            hidden = [max(Fraction(0), entry) for entry in sums]
        weight = self.kept("v")
        return [sum(Fraction(float(w)) * h for w, h in zip(row, hidden, strict=True) if w) for row in weight]


def parts(ticket: slth.Ticket) -> tuple[CandidateSource, OutputSource, CandidateMask, OutputMask]:
    (first, rows, _), (last, weights, _) = ticket.layers
    assert isinstance(first, CandidateSource) and isinstance(last, OutputSource)
    assert isinstance(rows, CandidateMask) and isinstance(weights, OutputMask)
    return first, last, rows, weights


def test_the_source_has_three_layers_of_the_theorems_shapes(name: str) -> None:
    ticket, dense = FOUND[name](), Dense.read(FOUND[name]())
    first, last, *_ = parts(ticket)
    n_in, n_hidden, n_out = (CASES[name].target().layers[k].weight.shape[j] for k, j in ((0, 1), (0, 0), (1, 0)))
    groups = n_out * (n_hidden + int(CASES[name].target().layers[1].bias is not None))
    assert first.outputs == groups == last.n_groups
    assert dense.tensors["A"].shape == (first.n_neurons, n_in)
    assert first.n_neurons == groups * (n_in + int(first.bias)) * first.block_width
    assert dense.tensors["B"].shape == (groups * first.candidates, first.n_neurons)
    assert dense.tensors["v"].shape == (n_out, groups * first.candidates)
    summary = summarise(ticket)
    assert summary.source_depth == 3
    assert summary.source_weights == sum(tensor.size for tensor in dense.tensors.values())
    assert [layer.order for layer in summary.layers] == ["candidates", "outputs"]
    assert [layer.base_set_size for layer in summary.layers] == [first.block_width, last.block_width]


def test_masks_have_the_theorems_structure(name: str) -> None:
    """M3: one weight in and one out of every neuron of A that lives, from its own pool to its own group's candidate."""
    ticket, dense = FOUND[name](), Dense.read(FOUND[name]())
    first, last, *_ = parts(ticket)
    masks, width = dense.masks, first.block_width
    incoming = masks["A"].sum(axis=1) + masks.get("a", 0)
    assert set(incoming.tolist()) <= {0, 1}
    np.testing.assert_array_equal(masks["B"].sum(axis=0), incoming)
    readers = masks["v"].sum(axis=0)
    assert set(readers.tolist()) <= {0, 1}
    for row in np.flatnonzero(masks["B"].any(axis=1)):
        assert readers[row] == 1, "a row that no output reads"
    for output, column in zip(*np.nonzero(masks["v"]), strict=True):
        assert column // first.candidates // last.groups_per_output == output
    for group in range(first.outputs):
        assert readers[group * first.candidates : (group + 1) * first.candidates].sum() <= 1
    n_weights = first.outputs * first.inputs_per_group
    for row, neuron in zip(*np.nonzero(masks["B"]), strict=True):
        group, pool = row // first.candidates, neuron // width
        if pool < n_weights:
            assert divmod(pool, first.inputs_per_group) == (group, np.flatnonzero(masks["A"][neuron])[0])
            assert not first.is_constant(np.array(group))
        else:
            assert pool - n_weights == group and masks["a"][neuron]


def test_no_more_weights_are_active_than_the_theorem_says() -> None:
    """4ns + n for each output; for biases 2 more a hidden neuron, and 3 an output. All of them, where none is small."""
    for bias in (False, True):
        model = network(bias, bias, (4, 5, 3))
        for parameter in model.parameters():
            parameter.data = torch.where(parameter.abs() < 0.1, 0.1, parameter)
        dense = Dense.read(Case(model, (4,), options(150, 12, tolerance=0.01)).find())
        n_in, n_hidden, n_out = 4, 5, 3
        active = sum(int(mask.sum()) for mask in dense.masks.values())
        assert active == dense.ticket.n_kept
        assert active == n_out * (4 * n_hidden * n_in + n_hidden + (2 * n_hidden + 3 if bias else 0))
        assert dense.masks["v"].sum() == n_out * (n_hidden + int(bias))


def test_weights_within_the_tolerance_of_0_keep_nothing() -> None:
    model = network(True, True, (3, 4, 2))
    for layer in (model[0], model[2]):
        layer.weight.data[0, 1] = 0.009
        layer.bias.data[1] = -0.009
    ticket = Case(model, (3,), options(40, tolerance=0.01)).find()
    first, last, rows, weights = parts(ticket)
    chosen = weights.candidate(last).reshape(2, 5)
    assert (chosen[0, 1], chosen[1, 4]) == (NONE, NONE) and (chosen != NONE).sum() == 8
    counts = rows.slots.counts[: first.outputs * 3].reshape(2, 5, 3)
    assert not counts[:, 0, 1].any() and not counts[0, 1].any() and (counts[1, :4].sum(axis=1) >= 4).all()
    biases = rows.slots.counts[first.outputs * 3 :].reshape(2, 5)
    np.testing.assert_array_equal(biases, [[1, 0, 1, 1, 1], [1, 0, 1, 1, 0]])


def test_the_candidate_is_the_closest_of_its_sign_and_depends_on_output_weights_alone(name: str) -> None:
    """Against a loop over the whole output layer."""
    ticket, target = FOUND[name](), CASES[name].target()
    _, last, _, weights = parts(ticket)
    v, chosen = Dense.read(ticket).tensors["v"], weights.candidate(last)
    top = max(float(part.abs().max()) for part in (target.layers[0].weight, target.layers[0].bias) if part is not None)
    for output in range(last.outputs):
        wanted = target.layers[1].weight_array()[output, :, 0].tolist()
        wanted += [] if not last.bias else [float(target.layers[1].bias[output]) / top]
        for hidden, value in enumerate(wanted):
            group = output * last.groups_per_output + hidden
            own = v[output, group * last.block_width : (group + 1) * last.block_width]
            same = [t for t in range(len(own)) if own[t] * value > 0]
            limit = (ticket.tolerance or 0.0) / (top if hidden == last.inputs_per_group else 1.0)
            best = min(same, key=lambda t: abs(own[t] - value)) if same and abs(value) > limit else NONE
            assert chosen[group] == best


def test_kept_products_are_the_closest_of_their_pools(name: str) -> None:
    """Against a loop over every neuron: the row times v is closest to the target's row times its output weight."""
    ticket, target, dense = FOUND[name](), CASES[name].target(), Dense.read(FOUND[name]())
    first, last, _, weights = parts(ticket)
    chosen, tolerance = weights.candidate(last), ticket.tolerance or 0.0
    weight, behind = target.layers[0].weight_array()[:, :, 0], target.layers[1].weight_array()[:, :, 0]
    worst = 0.0
    for group in np.flatnonzero((chosen != NONE) & ~first.is_constant(np.arange(first.outputs))):
        output, hidden = divmod(int(group), last.groups_per_output)
        row = group * first.candidates + chosen[group]
        factor = dense.tensors["v"][output, row] / behind[output, hidden]
        for channel, w in enumerate(weight[hidden]):
            pool = (group * first.inputs_per_group + channel) * first.block_width
            neurons = np.arange(pool, pool + first.block_width)
            u, b = dense.tensors["A"][neurons, channel], dense.tensors["B"][row, neurons]
            for sign in ticket.facts[0].input_sign.branches:
                errors = np.abs(u * b * factor - w)[u * sign > 0]
                error = abs(w) if abs(w) <= tolerance else min(abs(w), errors.min(initial=np.inf))
                slope = (dense.kept("A")[neurons, channel] * dense.kept("B")[row, neurons])[u * sign > 0].sum() * factor
                assert abs(slope - w) == pytest.approx(error, abs=1e-12)
                worst = max(worst, error)
    assert worst <= ticket.facts[0].max_weight_error * (1 + 1e-12)
    for group in np.flatnonzero((chosen != NONE) & first.is_constant(np.arange(first.outputs))):
        row, output = group * first.candidates + chosen[group], group // last.groups_per_output
        neurons = (first.outputs * first.inputs_per_group + group) * first.block_width + np.arange(first.block_width)
        made = dense.tensors["v"][output, row] * dense.tensors["B"][row, neurons] * dense.tensors["a"][neurons]
        wanted = float(target.layers[1].bias[output])
        best = min(abs(wanted), np.abs(made - wanted)[dense.tensors["a"][neurons] > 0].min())
        kept = (dense.kept("B")[row, neurons] * dense.kept("a")[neurons]).sum() * dense.tensors["v"][output, row]
        assert abs(kept - wanted) == pytest.approx(best, abs=1e-12)


def test_forms_are_one_function_the_exact_one_and_no_input_errs_more_than_is_certified(name: str) -> None:
    ticket, case = FOUND[name](), CASES[name]
    found = slth.verify(ticket, case.target(), case.domain)
    assert found.holds, found.reasons
    assert found.certified_error is not None and found.observed_error is not None
    assert 0 < found.observed_error <= found.certified_error < 40 * found.observed_error
    assert found.max_weight_error == pytest.approx(ticket.max_weight_error, rel=1e-12)
    x = inputs(case.shape, 200, case.domain)
    with torch.no_grad():
        wanted = copy.deepcopy(case.model).double()(x)
        results = {form: ticket.module(form, dtype=torch.float64)(x) for form in FORMS}
    for form in FORMS:
        torch.testing.assert_close(results[form], results["masked"], rtol=1e-13, atol=1e-13)
        assert float((results[form] - wanted).abs().max()) <= found.certified_error
    if len(case.shape) == 1:
        dense = Dense.read(ticket)
        for k in range(3):
            exact = [float(value) for value in dense.exact(x[k].numpy())]
            np.testing.assert_allclose(results["sparse"][k].numpy(), exact, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("signs", list(itertools.product([1.0, -1.0], repeat=3)), ids=str)
def test_each_sign_of_weight_input_and_output_weight_comes_out(signs: tuple[float, float, float]) -> None:
    """M5: v relu(w x) for all eight signs; two of the four pairs of w and x give 0."""
    w, x, v = 0.6 * signs[0], signs[1], 0.5 * signs[2]
    model = nn.Sequential(nn.Linear(1, 1, False), nn.ReLU(), nn.Linear(1, 1, False))
    model[0].weight.data.fill_(w)
    model[2].weight.data.fill_(v)
    ticket = slth.find_ticket(model, torch.zeros(1, 1), **options(4000, 50, tolerance=0.01))
    with torch.no_grad():
        output = float(ticket.module("sparse", dtype=torch.float64)(torch.full((1, 1), x, dtype=torch.float64)))
    assert abs(output - v * max(0.0, w * x)) <= 0.005 and (w * x > 0) == (output != 0.0)
    assert ticket.n_kept == 5 and ticket.missed == 0


def test_a_source_as_wide_as_lemma_a4_says_errs_by_no_more_than_it_says() -> None:
    """M4 for depth three: d = n = 3, eps = 0.3, the lemma's widths, over 5000 points of the unit ball."""
    eps, delta, n = 0.3, 0.1, 3
    model = network(False, False, (n, n, 1), seed=5)
    model[0].weight.data *= 1 / (np.sqrt(n) * float(model[0].weight.detach().abs().max()))
    model[2].weight.data /= float(model[2].weight.detach().abs().max())
    k1, k2 = lemma_a4(n, n, eps, delta)
    ticket = slth.find_ticket(model, torch.zeros(1, n), **options(k1 // n**2, k2 // n))
    assert ticket.spec.layers[0].n_neurons >= k1 - n**2 and ticket.spec.layers[1].columns >= k2 - n
    x = inputs((n,), 5000)
    x = x / x.norm(dim=1, keepdim=True).clamp(min=1.0)
    with torch.no_grad():
        error = float((ticket.module("sparse", dtype=torch.float64)(x) - model.double()(x)).abs().max())
    assert error <= eps / 20


def test_an_output_weight_that_is_off_is_no_error() -> None:
    """Few candidates cost little, since rows make up for them: with the paper's aim the error would be that of v."""
    case = Case(network(True, True, (6, 8, 2), seed=3), (6,), {})
    target = case.target()
    few, many = (case.find(target, **options(300, count)) for count in (12, 1000))
    bounds = [slth.verify(ticket, target, (-1, 1)).certified_error for ticket in (few, many)]
    assert bounds[0] < 2 * bounds[1]
    _, last, _, weights = parts(few)
    group, v = weights.kept(last)
    wanted = np.concatenate([target.layers[1].weight_array()[:, :, 0], np.zeros((2, 1))], axis=1).ravel()[group]
    hidden = group % 9 < 8
    apart = np.abs(v - wanted)[hidden]
    reach = float(np.abs(target.layers[0].weight_array()).sum(axis=(1, 2)).max())
    assert apart.sum() * reach > 2 * bounds[0], "the candidates are too close for the test to tell"
    assert few.facts[1].max_weight_error == abs(few.facts[1].max_weight_error) < 0.05


@st.composite
def drawn(draw: st.DrawFn) -> Case:
    """Small networks of two layers with weights of all sizes, zeros among them."""
    widths = tuple(draw(st.integers(1, 4)) for _ in range(3))
    model = network(draw(st.booleans()), draw(st.booleans()), widths, draw(st.integers(0, 2**32)))
    for parameter in model.parameters():
        if draw(st.integers(0, 2)) == 0:
            parameter.data[torch.arange(parameter.shape[0]) % 2 == 0] *= draw(
                st.sampled_from([0.0, 1e-4, -30.0, 1e-30])
            )
    size, many = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    domain, tolerance = draw(st.sampled_from(DOMAINS)), draw(st.sampled_from([None, 1e-3, 0.2]))
    given = options(size, many, domain=domain, tolerance=tolerance, seed=draw(st.integers(0, 2**64 - 1)))
    return Case(model, (widths[0],), given)


@given(drawn())
def test_any_network_of_two_layers_is_found_stored_and_certified(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    again = from_bytes(to_bytes(ticket))
    assert to_bytes(again) == to_bytes(ticket)
    found = slth.verify(again, target, case.domain)
    assert found.holds, found.reasons
    x = inputs(case.shape, 40, case.domain, seed=1)
    wanted = slth.runtime.evaluate(target, x)
    for form in FORMS:
        with torch.no_grad():
            difference = (again.module(form, dtype=torch.float64)(x) - wanted).abs().max()
        assert float(difference) <= found.certified_error


def scrambled(ticket: slth.Ticket, seed: int) -> slth.Ticket:
    """With candidates of the wrong sign, missing ones, and rows that were made for others."""
    rng, (first, last, rows, weights) = np.random.default_rng(seed), parts(ticket)
    candidate = weights.candidate(last)
    other = np.where(rng.random(len(candidate)) < 0.5, rng.integers(0, last.block_width, len(candidate)), candidate)
    needed = rows.candidate(first) != NONE
    other = np.where((rng.random(len(candidate)) < 0.3) & ~needed, NONE, np.where(needed, np.maximum(other, 0), other))
    masks = (CandidateMask.build(first, rows.slots, other), OutputMask.build(last, other))
    return from_bytes(to_bytes(dataclasses.replace(ticket, masks=masks)))


@given(drawn(), st.integers(0, 2**32))
def test_the_bound_holds_for_masks_that_nobody_would_choose(case: Case, seed: int) -> None:
    target = case.target()
    wrong = scrambled(case.find(target), seed)
    realised = realise_all(wrong.graph, [(source, mask) for source, mask, _ in wrong.layers])
    bound = propagate(target, realised, slth.Domain.parse(case.domain)).output_error
    x = inputs(case.shape, 40, case.domain, seed=2)
    with torch.no_grad():
        difference = (wrong.module("masked", dtype=torch.float64)(x) - slth.runtime.evaluate(target, x)).abs().max()
    assert float(difference) <= bound


@given(drawn())
def test_the_unfolded_target_and_ticket_compute_what_they_did(case: Case) -> None:
    target = case.target()
    _check_unfolded(case, target, case.find(target))


@pytest.mark.parametrize("seed", range(4))
def test_unfolded_they_compute_what_they_did_whatever_the_mask(seed: int) -> None:
    case = Case(network(True, True, seed=seed), (3,), options(10, 5))
    target = case.target()
    ticket = scrambled(case.find(target), seed)
    _check_unfolded(case, target, ticket)


def _check_unfolded(case: Case, target: Target, ticket: slth.Ticket) -> None:
    realised = realise_all(ticket.graph, [(source, mask) for source, mask, _ in ticket.layers])
    wide, own = unfold(target, realised)
    assert [node.shape for node in own_graph(target.graph, len(target.layers[1].weight))] == [
        n.shape for n in wide.graph
    ]
    x = inputs(case.shape, 10, case.domain)
    torch.testing.assert_close(slth.runtime.evaluate(wide, x), slth.runtime.evaluate(target, x), rtol=1e-12, atol=1e-12)
    first, last = (own[layer.name] for layer in target)
    signed = first.positive[:, :, 0] @ x.clamp(min=0).numpy().T + first.negative[:, :, 0] @ x.clamp(max=0).numpy().T
    hidden = np.maximum(signed + (0.0 if first.bias is None else first.bias[:, None]), 0.0)
    made = last.positive[:, :, 0] @ hidden + (0.0 if last.bias is None else last.bias[:, None])
    expected = ticket.module("masked", dtype=torch.float64)(x).detach().numpy().T
    np.testing.assert_allclose(made, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max()))
    worst = compared(target, realised)
    for layer in target:
        assert worst[layer.name].positive.shape == layer.weight_array().shape


def test_survivors_are_the_sources_weights_bit_for_bit(name: str) -> None:
    ticket = FOUND[name]()
    first, last, rows, weights = parts(ticket)
    state = ticket.module("masked", dtype=torch.float32).state_dict()
    held = {key: value.numpy() for key, value in state.items()}
    hidden, output = (facts.name for facts in ticket.facts)
    assert held[f"{hidden}.expand.weight_orig"].tobytes() == first.expand_weight().tobytes()
    assert held[f"{hidden}.combine.weight_orig"].tobytes() == first.combine_weight(0, first.combine_rows).tobytes()
    assert held[f"{output}.combine.weight_orig"].tobytes() == last.weight().tobytes()
    kept = held[f"{hidden}.expand.weight_orig"][held[f"{hidden}.expand.weight_mask"] > 0].tolist()
    if first.bias:
        assert held[f"{hidden}.expand.bias_orig"].tobytes() == first.expand_bias().tobytes()
        kept += held[f"{hidden}.expand.bias_orig"][held[f"{hidden}.expand.bias_mask"] > 0].tolist()
    kept += held[f"{hidden}.combine.weight_orig"][held[f"{hidden}.combine.weight_mask"] > 0].tolist()
    assert sorted(np.concatenate(list(rows.survivors(first))).tolist()) == sorted(kept)
    flags = held[f"{output}.combine.weight_mask"] > 0
    np.testing.assert_array_equal(next(weights.survivors(last)), held[f"{output}.combine.weight_orig"][flags])


def test_the_source_is_a_function_of_seed_shape_and_scale() -> None:
    """Another target of the same shape has the same source up to the two scales; no group is drawn again."""
    one, other = (Case(network(True, True, seed=k), (3,), options(seed=7)).find() for k in (1, 2))
    for mine, theirs in zip(one.spec.layers, other.spec.layers, strict=True):
        assert dataclasses.replace(theirs, scale=mine.scale) == mine
    permuted = network(True, True, seed=1)
    for layer in (permuted[0], permuted[2]):
        layer.weight.data, layer.bias.data = layer.weight.data.flip(0, 1), layer.bias.data.flip(0)
    assert Case(permuted, (3,), options(seed=7)).find().spec == one.spec


def test_a_neuron_that_no_output_needs_has_no_error() -> None:
    """Nor has one of its copies, where another output needs it."""
    model = network(True, True, (3, 4, 2))
    model[2].weight.data[:, 1] = 0.0
    model[2].weight.data[0, 2] = 0.0
    ticket = Case(model, (3,), options(60, 12)).find()
    realised = realise_all(ticket.graph, [(source, mask) for source, mask, _ in ticket.layers])
    target = Case(model, (3,)).target()
    first = compared(target, realised)[ticket.facts[0].name]
    weight, bias = target.layers[0].weight_array(), target.layers[0].bias_array()
    errors = np.maximum(first.deviation(weight, 1), first.deviation(weight, -1))[:, :, 0]
    assert not errors[1].any() and first.bias_deviation(bias)[1] == 0.0
    assert (errors[[0, 2, 3]] > 0).all() and float(np.median(errors[2])) < 0.1
    assert slth.verify(ticket, target, (-1, 1)).holds and ticket.facts[1].error_histogram[0] == 8


def test_an_output_error_that_is_asked_for_is_kept_to() -> None:
    """Planned as for two layers a target layer, of which the second here has next to no error."""
    case = Case(network(True, True, (6, 8, 2)), (6,), options(14, None))
    target = case.target()
    for eps in (1.0, 0.2):
        ticket = case.find(target, base_set_size=None, eps=eps)
        bound = slth.verify(ticket, target, (-1, 1), eps=eps)
        assert bound.holds and eps / 20 < bound.certified_error <= eps
        # No tolerance was asked for, so that nothing is pruned for being small.
        assert ticket.tolerance is None and ticket.masks[1].n_kept == 2 * 9


def test_threads_do_not_change_the_file() -> None:
    case = Case(network(True, True, (5, 6, 3)), (5,), options(3000, 40))
    target = case.target()
    assert to_bytes(case.find(target, threads=1)) == to_bytes(case.find(target, threads=2))


def test_misses_are_counted_and_nothing_is_drawn_again() -> None:
    case = Case(network(True, True, (4, 6, 2)), (4,), options(4, 2, tolerance=0.01))
    ticket = case.find()
    found = slth.verify(ticket, case.target(), (-1, 1))
    assert found.holds and found.missed == ticket.missed > 10


def test_without_a_number_there_are_as_many_candidates_as_neurons_in_a_pool() -> None:
    ticket = Case(network(True, True), (3,), options(11, None)).find()
    assert [source.block_width for source in ticket.spec.layers] == [11, 11]
    double = slth.find_ticket(network(True, True), torch.zeros(1, 3), construction="pairs", base_set_size=11)
    assert double.spec.depth == 4 and ticket.spec.depth == 3
