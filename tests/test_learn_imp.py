"""Magnitude pruning: masks against sorting, training against torch's own pruning, runs against interrupted ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import slth
from learn_nets import CPU, DATA, blobs, small, tensors_of, with_everything
from slth.errors import ArgumentError, CheckpointError, MismatchError, TargetError
from slth.learn.datasets import Dataset
from slth.learn.imp import ImpResult, ImpSettings, imp, reinitialise
from slth.learn.pruning import (
    Masks,
    apply_masks,
    density,
    full_masks,
    n_left,
    plain_copy,
    prunable,
    prune_smallest,
    prune_to_teacher,
    take_masks,
)
from slth.learn.result import load_sparse
from slth.learn.training import Recipe, Training, examples
from slth.network.load import TargetReference
from slth.summary import summarise

FAST = ImpSettings(rounds=2, amount=0.3, recipe=Recipe(epochs=2, batch_size=16, learning_rate=0.01))


# Masks.

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=4)
VALUES = st.integers(-3, 3).map(lambda whole: whole / 2)
"""Few values, so that there are ties, zeros among them."""


@st.composite
def weights_and_masks(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], Masks]:
    weights, masks = {}, {}
    for number, size in enumerate(draw(SIZES)):
        weights[f"l{number}"] = torch.tensor(draw(st.lists(VALUES, min_size=size, max_size=size)))
        kept = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        masks[f"l{number}"] = torch.tensor(kept) if any(kept) else torch.ones(size, dtype=torch.bool)
    return weights, masks


def by_sorting(weights: dict[str, torch.Tensor], masks: Masks, count: int) -> Masks:
    """Prune one after the other."""
    entries = [(name, index) for name in weights for index in range(len(weights[name])) if masks[name][index]]
    order = sorted(entries, key=lambda entry: abs(float(weights[entry[0]][entry[1]])))
    result = {name: mask.clone() for name, mask in masks.items()}
    for name, index in order[:count]:
        result[name][index] = False
    return result


@given(weights_and_masks(), st.integers(1, 20), st.sampled_from(["global", "layer"]))
def test_exactly_so_many_are_pruned_the_smallest_and_of_equal_ones_the_first(
    drawn: tuple[dict[str, torch.Tensor], Masks], count: int, scope: Any
) -> None:
    weights, masks = drawn
    groups = [[name] for name in weights] if scope == "layer" else [[*weights]]
    expected: Masks = {}
    for names in groups:
        own = {name: masks[name] for name in names}
        expected |= by_sorting({name: weights[name] for name in names}, own, count)
    if not all(bool(mask.any()) for mask in expected.values()):
        with pytest.raises(ArgumentError, match=r"layer 'l\d': got a mask with no survivors"):
            prune_smallest(weights, masks, count, scope)
        return
    result = prune_smallest(weights, masks, count, scope)
    for name in weights:
        assert torch.equal(result[name], expected[name])
        assert not bool((result[name] & ~masks[name]).any())
    pruned = sum(int(masks[name].sum() - result[name].sum()) for name in weights)
    assert pruned == count * len(groups)


@given(st.integers(2, 300), st.floats(0.01, 0.9), st.integers(1, 6))
def test_one_round_for_many_prunes_as_many(n: int, fraction: float, rounds: int) -> None:
    weights = {"w": torch.linspace(-1, 2, n)}
    left = n
    for _ in range(rounds):
        left -= round(fraction * left)
    assume(left > 0)
    masks = full_masks(weights)
    at_once = prune_smallest(weights, masks, fraction, "global", rounds)
    for _ in range(rounds):
        masks = prune_smallest(weights, masks, fraction)
    assert int(at_once["w"].sum()) == left == n_left(n, fraction, rounds)
    assert torch.equal(at_once["w"], masks["w"])


def test_a_survivor_that_is_zero_stays_and_what_is_pruned_does_not_come_back() -> None:
    weights = {"w": torch.tensor([0.0, 5.0, 0.0, 1.0, 2.0])}
    masks = {"w": torch.tensor([True, False, False, True, True])}
    # Entry 1 is large but pruned; entries 0 and 2 are both zero, and only the first has survived.
    assert prune_smallest(weights, masks, 1)["w"].tolist() == [False, False, False, True, True]
    weights["w"][0] = 9.0
    assert prune_smallest(weights, masks, 1)["w"].tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("amount", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf"), True])
def test_fractions_lie_between_0_and_1(amount: float) -> None:
    with pytest.raises(ArgumentError, match=r"fraction: got .* between 0 and 1"):
        prune_smallest({"w": torch.ones(4)}, {"w": torch.ones(4, dtype=torch.bool)}, amount)


def test_a_weight_that_is_not_a_number_is_named() -> None:
    weights = {"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")])}
    with pytest.raises(ArgumentError, match="layer 'b': got a weight that is NaN"):
        prune_smallest(weights, full_masks(weights), 1)


def test_what_is_pruned_of_a_module() -> None:
    net = with_everything()
    assert [*prunable(net)] == ["0.weight", "5.weight", "7.weight"]
    assert [*prunable(net, ["7.*"])] == ["0.weight", "5.weight"]
    recurrent = nn.Sequential(nn.Embedding(4, 2), nn.LSTM(2, 3))
    assert [*prunable(recurrent)] == ["0.weight", "1.weight_ih_l0", "1.weight_hh_l0"]
    attention = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2, kdim=3, vdim=2)
    assert [*prunable(attention[0])] == ["in_proj_weight", "out_proj.weight"]
    assert [*prunable(attention[1])] == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    net[0].requires_grad_(False)
    assert [*prunable(net)] == ["5.weight", "7.weight"]
    with pytest.raises(ArgumentError, match="without weights to prune"):
        prunable(nn.BatchNorm1d(3))


def test_masks_are_those_of_torch_and_come_off_again() -> None:
    net = small()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), 0.5)
    before = copy.deepcopy(net)
    apply_masks(net, masks)
    assert prune.is_pruned(net) and {name for name, _ in net.named_buffers()} == {"0.weight_mask", "2.weight_mask"}
    net(torch.ones(2, 6)).sum().backward()
    copied, taken = plain_copy(net)
    assert not prune.is_pruned(copied) and prune.is_pruned(net)
    for name, mask in masks.items():
        assert torch.equal(taken[name], mask)
        assert torch.equal(copied.get_parameter(name), before.get_parameter(name) * mask)
    assert take_masks(copied) == {}


def test_masks_that_do_not_fit_are_refused_by_the_layer() -> None:
    for name, mask, words in (
        ("0.weight", torch.zeros(8, 6, dtype=torch.bool), "layer '0.weight': got a mask with no survivors"),
        ("0.weight", torch.ones(6, 8, dtype=torch.bool), "of shape"),
        ("9.weight", torch.ones(6, 8, dtype=torch.bool), "layer '9.weight'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            apply_masks(small(), {name: mask})


# The teacher's mask (Zhang et al. 2021, sections 2.2 and 4.1).


@given(st.integers(0, 10**6), st.floats(0.0, 2.0), st.sampled_from(["global", "layer"]))
def test_close_to_the_teacher_its_mask_is_found(seed: int, distance: float, scope: Any) -> None:
    draws = torch.Generator().manual_seed(seed)
    teacher = {}
    for number in range(2):
        dense = torch.rand(5, 4, generator=draws, dtype=torch.float64) - 0.5
        teacher[f"l{number}"] = dense * (torch.rand(5, 4, generator=draws) < 0.4)
        teacher[f"l{number}"][0, 0] = 0.3
    smallest = min(float(one[one != 0].abs().min()) for one in teacher.values())
    noise = {name: 2 * torch.rand(5, 4, generator=draws, dtype=torch.float64) - 1 for name in teacher}
    trained = {name: teacher[name] + 0.5 * smallest * distance * noise[name] for name in teacher}
    result = prune_to_teacher(trained, teacher, scope)
    assert result.bound == smallest / 2
    assert result.deviation == max(float((trained[name] - teacher[name]).abs().max()) for name in teacher)
    assert result.holds == (result.deviation < result.bound)
    assert sum(int(mask.sum()) for mask in result.masks.values()) == sum(int((t != 0).sum()) for t in teacher.values())
    assert result.equal == all(torch.equal(result.masks[name], teacher[name] != 0) for name in teacher)
    if result.holds:
        assert result.equal


def test_the_condition_is_not_met_where_the_mask_is_missed() -> None:
    teacher = {"w": torch.tensor([1.0, 0.0, 0.2])}
    missed = prune_to_teacher({"w": torch.tensor([1.0, 0.15, 0.1])}, teacher)
    assert not missed.holds and not missed.equal
    lucky = prune_to_teacher({"w": torch.tensor([1.0, 0.15, 0.3])}, teacher)
    assert not lucky.holds and lucky.equal
    with pytest.raises(ArgumentError, match="no survivors"):
        prune_to_teacher({"w": torch.ones(2)}, {"w": torch.zeros(2)})


# Runs.


def same(one: ImpResult, other: ImpResult, folder: Path) -> bool:
    one.file.save(folder / "one"), other.file.save(folder / "other")
    return (folder / "one").read_bytes() == (folder / "other").read_bytes()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("amount", [0.3, 5])
def test_a_run_prunes_exactly_and_every_mask_lies_in_the_one_before(scope: Any, amount: float | int) -> None:
    settings = replace(FAST, scope=scope, amount=amount, rounds=3)
    runs = [imp(small(), DATA, replace(settings, rounds=rounds)) for rounds in (1, 2, 3)]
    sizes = {"0.weight": 48, "2.weight": 24}
    for number, run in enumerate(runs, 1):
        if scope == "layer":
            expected = {name: n_left(size, amount, number) for name, size in sizes.items()}
            assert run.rounds[-1].kept_by_layer == expected
        assert run.rounds[-1].kept == sum(int(mask.sum()) for mask in run.masks.values())
        assert run.density == density(run.masks) == run.rounds[-1].kept / 72
        assert [one.number for one in run.rounds] == [*range(number + 1)]
    if scope == "global":
        assert [one.kept for one in runs[-1].rounds] == [n_left(72, amount, rounds) for rounds in range(4)]
    for before, after in itertools.pairwise(runs):
        assert all(not bool((after.masks[name] & ~before.masks[name]).any()) for name in sizes)
        assert before.rounds == after.rounds[:-1]


def test_the_result_is_a_pruned_module_and_its_file_says_all(tmp_path: Path) -> None:
    net = small()
    before = copy.deepcopy(net.state_dict())
    result = imp(net, DATA, FAST)
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    assert prune.is_pruned(result.network) and not result.network.training
    _, test = examples(DATA, CPU)
    assert test.accuracy(result.network) == result.accuracy == result.rounds[-1].accuracy
    result.file.save(tmp_path / "a.safetensors")
    loaded = load_sparse(tmp_path / "a.safetensors")
    plain = small()
    plain.load_state_dict(loaded.state)
    assert test.accuracy(plain) == result.accuracy
    for name, mask in loaded.masks.items():
        assert torch.equal(mask, result.masks[name]) and bool((loaded.state[name][~mask] == 0).all())
    assert all(torch.equal(loaded.rewind[name], one) for name, one in before.items())
    assert loaded.facts["accuracy_ticket"] == result.accuracy and loaded.facts["settings"]["fraction"] == 0.3
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-1])
    with pytest.raises(TargetError):
        load_sparse(tmp_path / "b.safetensors")


def test_the_pruned_network_is_a_target_whose_zeros_cost_nothing(tmp_path: Path) -> None:
    result = imp(small(), DATA, FAST)
    result.file.save(tmp_path / "a.safetensors")
    target = TargetReference(tmp_path / "a.safetensors").load()
    ticket = slth.find_ticket(target, base_set_size=14)
    found = {tuple(one.shape): one for one in ticket.module("folded").parameters()}
    for mask in result.masks.values():
        weight = found[tuple(mask.shape)]
        assert bool((weight[~mask] == 0).all()) and bool((weight[mask] != 0).all())
    dense = slth.find_ticket(small(), torch.zeros(1, 6), base_set_size=14)
    assert summarise(ticket).kept_weights < 0.75 * summarise(dense).kept_weights


def test_rewinding_goes_back_to_the_step_and_on_from_it() -> None:
    settings = replace(FAST, rewind_step=3, rounds=1)
    result = imp(small(), DATA, settings)
    net = small()
    training = Training(net, tensors_of(), settings.recipe, settings.seed)
    training.run(3)
    assert all(torch.equal(result.file.rewind[name], one) for name, one in net.state_dict().items())
    training.run()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), settings.amount)
    assert all(torch.equal(result.masks[name], mask) for name, mask in masks.items())
    net.load_state_dict(result.file.rewind)
    Training(net, tensors_of(), settings.recipe, settings.seed, masks, stream=1, first_step=3).run()
    assert all(torch.equal(result.file.state[name], one) for name, one in net.state_dict().items())


def test_fine_tuning_goes_on_from_where_it_is_and_reinitialising_does_not() -> None:
    net = small()
    Training(net, tensors_of(), FAST.recipe, 0).run()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), FAST.amount)
    tiny = replace(FAST.recipe, learning_rate=1e-12)
    runs = {
        after: imp(net, DATA, replace(FAST, rounds=1, recipe=tiny, after=after)) for after in ("rewind", "finetune")
    }
    runs["reinitialise"] = imp(net, DATA, replace(FAST, rounds=1, recipe=tiny, after="reinitialise"))
    for after, run in runs.items():
        near = all(
            torch.allclose(run.file.state[name], net.state_dict()[name] * mask, atol=1e-6)
            for name, mask in masks.items()
        )
        assert all(torch.equal(run.masks[name], mask) for name, mask in masks.items())
        assert near == (after != "reinitialise")


def test_weights_drawn_anew_are_a_function_of_the_seed() -> None:
    nets = [with_everything() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        reinitialise(net, seed)
    weights = [net.get_parameter("0.weight") for net in nets]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

    with pytest.raises(ArgumentError, match="module '0': got Own without reset_parameters"):
        reinitialise(nn.Sequential(Own()), 0)


def test_so_many_rounds_that_nothing_more_goes_are_counted_at_once() -> None:
    assert n_left(100, 0.2, 10**12) == 2 and n_left(100, 7, 10**12) < 0


def test_one_shot_leaves_as_many_in_one_round() -> None:
    result = imp(small(), DATA, replace(FAST, one_shot=True, rounds=4))
    assert [one.kept for one in result.rounds] == [72, n_left(72, 0.3, 4)]


def test_masks_that_the_module_has_are_where_pruning_begins() -> None:
    net = small()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), 0.25)
    result = imp(apply_masks(net, masks), DATA, FAST)
    assert result.rounds[0].kept == 54 and result.rounds[1].kept == 54 - round(0.3 * 54)
    assert all(not bool((result.masks[name] & ~mask).any()) for name, mask in masks.items())
    assert prune.is_pruned(net)


def test_excluded_layers_stay_whole() -> None:
    result = imp(small(), DATA, replace(FAST, exclude=("2.*",)))
    assert [*result.masks] == ["0.weight"] and result.rounds[-1].kept_by_layer == {"0.weight": n_left(48, 0.3, 2)}


def test_without_a_module_it_is_a_perceptron_of_the_seed() -> None:
    runs = [imp(None, DATA, replace(FAST, seed=seed), hidden=(5, 4)) for seed in (0, 0, 1)]
    shapes = [tuple(mask.shape) for mask in runs[0].masks.values()]
    assert shapes == [(5, 6), (4, 5), (3, 4)]
    rewinds = [run.file.rewind["0.weight"] for run in runs]
    assert torch.equal(rewinds[0], rewinds[1]) and not torch.equal(rewinds[0], rewinds[2])
    made = imp(small, DATA, FAST)
    assert torch.equal(made.file.rewind["0.weight"], small().get_parameter("0.weight"))


class KilledError(Exception):
    """Stands for a kill."""


def killed_at(steps: set[int]) -> Callable[[int, int], None]:
    def on_progress(done: int, total: int) -> None:
        if done in steps:
            raise KilledError

    return on_progress


SEVERAL = {
    "rewind": replace(FAST, rewind_step=2),
    "finetune": replace(FAST, after="finetune", scope="layer"),
    "reinitialise": replace(FAST, after="reinitialise", amount=4),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    settings, checkpoint = SEVERAL[kind], tmp_path / "a.checkpoint"
    whole = imp(with_everything(), DATA, settings)
    for step in [1, 3, 8, 9, 16]:
        checkpoint.unlink(missing_ok=True)
        for every, at in ((2, step), (3, step + 3)):
            with pytest.raises(KilledError):
                imp(
                    with_everything(),
                    DATA,
                    settings,
                    checkpoint=checkpoint,
                    resume=True,
                    every_steps=every,
                    on_progress=killed_at({at}),
                )
        resumed = imp(with_everything(), DATA, settings, checkpoint=checkpoint, resume=True)
        assert same(whole, resumed, tmp_path) and resumed.rounds == whole.rounds


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Path]:
    """The checkpoint of a run that was killed."""
    path = tmp_path / "a.checkpoint"
    with pytest.raises(KilledError):
        imp(small(), DATA, FAST, checkpoint=path, every_steps=5, on_progress=killed_at({11}))
    yield path


def test_another_runs_checkpoint_is_refused(stopped: Path) -> None:
    net = small()
    with torch.no_grad():
        net.get_parameter("0.bias")[0] += 1

    def momentum(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, 0.1, momentum=0.9)

    others: list[tuple[Any, Dataset, ImpSettings, str]] = [
        (small(), DATA, replace(FAST, seed=1), "seed was 0, and is 1"),
        (small(), DATA, replace(FAST, amount=0.2), "fraction was 0.3, and is 0.2"),
        (small(), DATA, replace(FAST, recipe=replace(FAST.recipe, weight_decay=0.1)), "weight_decay was 0.0"),
        (
            small(),
            DATA,
            replace(FAST, recipe=Recipe(optimiser=lambda p: torch.optim.SGD(p, 0.1))),
            "batch_size|optimiser|epochs",
        ),
        (small(), blobs(77), FAST, "data was"),
        (net, DATA, FAST, "model was"),
    ]
    for model, data, settings, words in others:
        with pytest.raises(MismatchError, match=words):
            imp(model, data, settings, checkpoint=stopped, resume=True)
    imp(small(), DATA, replace(FAST, seed=1), checkpoint=stopped)


def test_a_truncated_checkpoint_is_refused(stopped: Path) -> None:
    stopped.write_bytes(stopped.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="truncated"):
        imp(small(), DATA, FAST, checkpoint=stopped, resume=True)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"rounds": 0}, "rounds"),
    ({"amount": 0.0}, "fraction"),
    ({"amount": 1.0}, "fraction"),
    ({"amount": 0}, "count"),
    ({"scope": "row"}, "scope"),
    ({"after": "pray"}, "after"),
    ({"rewind_step": -1}, "rewind_step"),
    ({"rewind_step": 8}, "rewind_step: got 8; need a step before the end"),
    ({"rewind_step": 1, "after": "finetune"}, "rewind_step"),
    ({"amount": 36, "rounds": 2}, "count: got 36 a round, which leaves 0 of 72 weights after 2 rounds"),
    ({"amount": 12, "rounds": 2, "scope": "layer"}, "layer '2.weight': got a mask with no survivors among 24"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_settings_are_checked_before_any_work(
    change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "run", lambda *_: pytest.fail("work was done"))
    with pytest.raises(ArgumentError, match=words):
        imp(small(), DATA, replace(FAST, **change))


def test_a_layer_that_pruning_empties_is_named() -> None:
    net = small()
    with torch.no_grad():
        net.get_parameter("2.weight").mul_(1e-6)
    frozen = replace(FAST.recipe, learning_rate=1e-12)
    with pytest.raises(ArgumentError, match=r"layer '2\.weight': got a mask with no survivors.*--scope layer"):
        imp(net, DATA, replace(FAST, amount=0.4, recipe=frozen))


def test_it_learns() -> None:
    result = imp(small(16), blobs(400), ImpSettings(rounds=3, recipe=Recipe(epochs=20, batch_size=16)))
    assert result.accuracy > 70.0 and result.density == pytest.approx(0.8**3, abs=0.01)
