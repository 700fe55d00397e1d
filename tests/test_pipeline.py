"""find_ticket: the source comes first and stays, nothing but the mask is fitted, the same in is the same out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from slth.artifact import to_bytes
from slth.attempt import draw_source
from slth.constructions import CONSTRUCTIONS
from slth.domain import Domain
from slth.errors import ArgumentError, SlthError
from slth.plan import Wishes, make_plan
from slth.realise import survivors_digest
from slth.source.spec import SourceSpec
from zoo import Case, cases, convnet, inputs, mlp, shake


@given(cases(largest_base_set=9))
def test_the_source_is_drawn_before_any_subset_sum(case: Case) -> None:
    """Invariant 1: the specification follows from plan and seed alone, and the ticket's is that one."""
    target = case.target()
    options = dict(case.options)
    seed, domain = options.pop("seed"), Domain.parse(options.pop("domain"))
    plan = make_plan(target, CONSTRUCTIONS["two-for-one"], Wishes(**options, domain=domain))
    assert case.find(target).spec == draw_source(target, plan, seed)


def _shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The same numbers in other places and with other signs, layer by layer."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    for layer in other.modules():
        parts = [p for p in (getattr(layer, "weight", None), getattr(layer, "bias", None)) if p is not None]
        if parts:
            numbers = torch.cat([p.data.ravel() for p in parts])
            numbers = numbers[torch.randperm(len(numbers), generator=generator)]
            numbers *= torch.randint(0, 2, numbers.shape, generator=generator) * 2 - 1
            for p, chunk in zip(parts, numbers.split([p.numel() for p in parts]), strict=True):
                p.data = chunk.reshape(p.shape)
    return other


@given(cases(largest_base_set=9), st.integers(0, 1000))
def test_permuting_the_targets_weights_leaves_the_source_as_it_was(case: Case, seed: int) -> None:
    """Invariant 2: of the target the source knows shapes, sign of the input, and one scale a layer."""
    one = case.find()
    other = Case(_shuffled(case.model, seed), case.shape, case.options).find()
    assert one.spec == other.spec
    for a, b in zip(one.spec.layers, other.spec.layers, strict=True):
        np.testing.assert_array_equal(a.combine_weight(0, a.outputs), b.combine_weight(0, b.outputs))


def test_other_weights_at_the_same_scale_are_found_in_the_same_source() -> None:
    case = Case(mlp(), (5,), {"base_set_size": 8})
    changed = copy.deepcopy(case.model)
    top = int(changed[0].weight.detach().abs().argmax())
    with torch.no_grad():
        smallest = int(changed[0].weight.abs().argmin())
        assert smallest != top
        changed[0].weight.view(-1)[smallest] *= 0.999
    one, other = case.find(), Case(changed, (5,), case.options).find()
    assert one.spec == other.spec
    assert one.target_digest != other.target_digest


def test_a_fit_that_misses_is_counted_and_never_drawn_again() -> None:
    case = Case(mlp((3, 4)), (3,), {"base_set_size": 4, "tolerance": 0.2})
    specs: list[SourceSpec] = []
    missed = []
    for seed in range(20):
        ticket = case.find(seed=seed)
        specs.append(ticket.spec)
        missed.append(ticket.missed)
        assert ticket.spec.seed == seed and {layer.seed for layer in ticket.spec.layers} == {seed}
    assert max(missed) > 0 and len({spec.layers[0].scale for spec in specs}) == 1


def test_seeds_differ_and_runs_do_not() -> None:
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 5})
    files = [to_bytes(case.find(seed=seed)) for seed in (0, 1, 2**32, 2**64 - 1)]
    assert len(set(files)) == 4
    assert to_bytes(case.find(seed=0)) == files[0]


def test_the_digest_of_the_survivors_is_of_the_weights_in_order() -> None:
    import hashlib

    ticket = Case(mlp((2, 2)), (2,), {"base_set_size": 4}).find()
    ((source, mask, facts),) = ticket.layers
    masked = ticket.module("masked", dtype=torch.float32).get_submodule(facts.name).state_dict()
    kept = source.univariate_weights()[mask.neurons]
    chosen = masked["combine.weight_orig"][masked["combine.weight_mask"] > 0].numpy()
    expected = hashlib.sha256(kept.tobytes() + chosen.tobytes()).hexdigest()
    assert facts.survivors_digest == survivors_digest(source, mask) == expected


def test_progress_is_told_in_order_and_reaches_the_end() -> None:
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 5})
    calls: list[tuple[str, int, int]] = []
    ticket = case.find(on_progress=lambda *call: calls.append(call))
    for facts in ticket.facts:
        done = [call[1] for call in calls if call[0] == facts.name]
        totals = {call[2] for call in calls if call[0] == facts.name}
        assert done == sorted(done) and len(totals) == 1 and done[-1] <= totals.pop()


def test_the_target_is_neither_changed_nor_kept() -> None:
    model = mlp().train()
    before = copy.deepcopy(model.state_dict())
    ticket = slth.find_ticket(model, torch.zeros(1, 5), base_set_size=4)
    assert model.training and all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    content = to_bytes(ticket)
    model[0].weight.data.zero_()
    assert to_bytes(ticket) == content


def test_an_example_is_not_needed_where_the_first_layer_tells() -> None:
    options: dict[str, Any] = {"base_set_size": 4}
    assert to_bytes(slth.find_ticket(mlp(), **options)) == to_bytes(
        slth.find_ticket(mlp(), torch.zeros(1, 5), **options)
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"construction": "golden"}, "construction"),
        ({"threads": 0}, "threads"),
        ({"domain": (1, 0)}, "domain"),
        ({"domain": "0;1"}, "domain"),
        ({"domain": (torch.zeros(3), torch.ones(3))}, "domain"),
        ({"base_set_size": 99}, "base_set_size"),
    ],
)
def test_misuse_is_named_before_any_work(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SlthError, match=named):
        slth.find_ticket(mlp(), torch.zeros(1, 5), **changes)


@pytest.mark.parametrize(
    ("model", "shape"), [(nn.Linear(3, 2), (3,)), (nn.Conv1d(2, 2, 3), (2, 5))], ids=["Linear", "Conv"]
)
def test_a_layer_alone_is_a_network(model: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    """It has no path in a module tree; its node is called as torch calls the operation."""
    model = shake(model, 1)
    ticket = slth.find_ticket(model, torch.zeros(1, *shape), base_set_size=16, domain=(0, 1))
    assert [node.name for node in ticket.graph] == ["linear" if shape == (3,) else "conv1d"]
    ticket.save(tmp_path / "a.ticket")
    x = inputs(shape, 5, (0, 1))
    for one in (ticket, slth.load(tmp_path / "a.ticket")):
        result = slth.verify(one, model, domain=(0, 1))
        assert result.holds and result.certified_error is not None
        for form in ("folded", "sparse", "masked"):
            error = float((one.module(form, dtype=torch.float64)(x) - copy.deepcopy(model).double()(x)).abs().max())
            assert error <= result.certified_error


@pytest.mark.parametrize("model", [None, "net.pt", {"0.weight": torch.zeros(2, 2)}])
def test_something_that_is_no_module_is_named(model: Any) -> None:
    with pytest.raises(ArgumentError, match=r"torch\.nn\.Module"):
        slth.find_ticket(model, torch.zeros(1, 5))


def test_facts_are_recounted_from_the_errors_of_a_known_ticket() -> None:
    """One weight, and the first three neurons that are open for its input: everything can be computed by hand."""
    model = shake(nn.Sequential(nn.Linear(1, 1, bias=False)), 0)
    ticket = slth.find_ticket(model, torch.zeros(1, 1), base_set_size=3, domain=(0, 1), seed=7)
    ((source, _, facts),) = ticket.layers
    weight = float(model[0].weight)
    u, v = source.univariate_weights().astype(float), source.combine_weight(0, 1)[0, :, 0].astype(float)
    elements = [a * b for a, b in zip(u, v, strict=True) if a > 0][:3]
    sums = [sum(x for k, x in enumerate(elements) if i >> k & 1) for i in range(2 ** len(elements))]
    assert len(sums) == 8 and facts.max_weight_error == min(abs(weight - total) for total in sums) < abs(weight)
    assert facts.mean_weight_error == facts.max_weight_error and facts.n_weights == 1
