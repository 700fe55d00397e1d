"""Training under masks: against torch's own pruning, under any optimiser, interrupted or not."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from learn_nets import CPU, DATA, small, tensors_of, with_everything
from slth.errors import ArgumentError, DataError, TrainingError
from slth.learn.pruning import apply_masks, full_masks, prunable, prune_smallest, take_masks
from slth.learn.training import Recipe, Training, check_fit, examples, find_device

OPTIMISERS: dict[str, Any] = {
    "sgd": "sgd",
    "adam": "adam",
    "adamw": "adamw",
    "plain sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, weight_decay=0.1, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
    "asgd": lambda p: torch.optim.ASGD(p, 0.05, weight_decay=0.1),
}


def recipe_of(kind: str) -> Recipe:
    return Recipe(epochs=3, batch_size=16, optimiser=OPTIMISERS[kind], learning_rate=0.02, weight_decay=0.1)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_pruned_weights_are_zero_after_every_step_and_zero_survivors_are_trained(kind: str) -> None:
    net = small()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), 0.5)
    survivor = tuple(masks["0.weight"].nonzero()[0].tolist())
    with torch.no_grad():
        net.get_parameter("0.weight")[survivor] = 0.0
    training = Training(net, tensors_of(), recipe_of(kind), 0, masks)

    def look() -> None:
        for name, mask in masks.items():
            weight = net.get_parameter(name)
            assert bool((weight[~mask] == 0).all())
            gradient = weight.grad
            assert gradient is not None and bool((gradient[~mask] == 0).all())

    training.run(after_step=look)
    assert training.step == 12 and float(net.get_parameter("0.weight")[survivor].detach()) != 0.0


def test_momentum_from_before_does_not_move_what_is_pruned() -> None:
    net, recipe = small(), replace(recipe_of("adamw"), epochs=4)
    training = Training(net, tensors_of(), recipe, 0)
    training.run(8)
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), 0.5)
    later = Training(net, tensors_of(), recipe, 0, masks)
    later.restore(training.state(), 8)
    later.run()
    assert all(bool((net.get_parameter(name)[~mask] == 0).all()) for name, mask in masks.items())


def test_masked_training_is_what_torchs_own_pruning_gives() -> None:
    net = small()
    masks = prune_smallest(prunable(net), full_masks(prunable(net)), 0.4)
    other = apply_masks(copy.deepcopy(net), masks)
    recipe = Recipe(epochs=3, batch_size=16, optimiser="sgd", learning_rate=0.1, schedule="constant")
    part = tensors_of()
    training = Training(net, part, recipe, 0, masks)
    optimiser = torch.optim.SGD(other.parameters(), 0.1, 0.9)
    for step in range(training.total):
        batch = training._batch(step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(other(part.inputs[batch]), part.labels[batch]).backward()
        optimiser.step()
    training.run()
    take_masks(other)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("step", [0, 1, 5, 11])
def test_training_goes_on_bit_for_bit_under_any_optimiser(kind: str, step: int) -> None:
    def start() -> Training:
        return Training(with_everything(), tensors_of(), recipe_of(kind), 3)

    whole, first, second = start(), start(), start()
    whole.run()
    first.run(step)
    second.restore(first.state(), step)
    second.run()
    assert whole.state().keys() == second.state().keys()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_every_pass_takes_every_example_once_in_an_order_of_its_own() -> None:
    training = Training(small(), tensors_of(), Recipe(epochs=3, batch_size=10), 0)
    assert (training.steps_an_epoch, training.total) == (7, 21)
    orders = [[int(i) for step in range(7) for i in training._batch(7 * epoch + step)] for epoch in range(3)]
    assert all(sorted(order) == [*range(64)] for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    other = Training(small(), tensors_of(), Recipe(epochs=3, batch_size=10), 0, stream=1)
    assert other._batch(0).tolist() != orders[0][:10]


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.505), ("cosine", 0.505), ("constant", 1.0)])
def test_the_rate_is_a_function_of_the_step(schedule: Any, middle: float) -> None:
    recipe = Recipe(schedule=schedule)
    assert recipe.rate(0, 10) == 1.0 and recipe.rate(5, 10) == pytest.approx(middle)
    rates = [recipe.rate(step, 10) for step in range(11)]
    assert all(a >= b for a, b in itertools.pairwise(rates)) and rates[-1] >= 0.01 - 1e-12


def test_small_data_are_passed_more_often() -> None:
    assert Recipe(batch_size=100).steps(60_000) == (600, 4800)
    assert Recipe(batch_size=100).steps(1_000) == (10, 1500)
    assert Recipe(epochs=2, batch_size=100).steps(1_050) == (11, 22)


def test_the_callers_generator_and_modes_are_left_alone() -> None:
    net = with_everything().eval()
    net[0].train()
    before = torch.get_rng_state()
    Training(net, tensors_of(), Recipe(epochs=1, batch_size=16), 0).run()
    tensors_of().accuracy(net)
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in net] == [True] + [False] * 7


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_divergence_stops_with_the_step_and_the_loss(kind: str, rate: float) -> None:
    recipe = Recipe(epochs=50, batch_size=16, optimiser=kind, learning_rate=rate)
    with pytest.raises(
        TrainingError,
        match=rf"at step \d+: got a loss of .*smaller learning rate than {rate:g}".replace("+0", r"\+0").replace(
            "+3", r"\+3"
        ),
    ):
        Training(small(), tensors_of(), recipe, 0).run()


BAD_RECIPES: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs"),
    ({"batch_size": 0}, "batch_size"),
    ({"learning_rate": 0.0}, "learning_rate"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"weight_decay": -1.0}, "weight_decay"),
    ({"momentum": 1.0}, "momentum"),
    ({"schedule": "zigzag"}, "schedule"),
    ({"optimiser": "best"}, "optimiser"),
    ({"optimiser": lambda parameters: 3}, "optimiser: got int"),
    ({"optimiser": lambda parameters: torch.optim.LBFGS(parameters)}, "without a closure"),
]


@pytest.mark.parametrize(("change", "words"), BAD_RECIPES)
def test_recipes_are_checked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Training(small(), tensors_of(), Recipe(**change), 0)


class Told(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.layer, self.what = nn.Linear(6, 3), what

    def forward(self, x: torch.Tensor) -> Any:
        return self.what(x)


def test_a_network_that_fails_on_the_way_is_named_with_the_step() -> None:
    net = Told(None)
    net.what = lambda x: net.layer(x) if len(x) == 40 else net.layer(x).reshape(7, 7)
    with pytest.raises(ArgumentError, match=r"fails at step 1 on 24 inputs \(RuntimeError"):
        Training(net, tensors_of(), Recipe(epochs=1, batch_size=40), 0).run()


def test_an_example_that_is_left_over_joins_the_batch_before_it() -> None:
    sizes: list[int] = []
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Unflatten(1, (3, 1, 1)))
    net.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    recipe = Recipe(epochs=2, batch_size=21)
    assert recipe.steps(64) == (3, 6) and Recipe(epochs=2, batch_size=1).steps(64) == (64, 128)
    assert Recipe(epochs=1, batch_size=64).steps(1) == (1, 1) and Recipe(epochs=1, batch_size=20).steps(64) == (4, 4)
    Training(net, tensors_of(), recipe, 0).run()
    assert sizes == [21, 21, 22, 21, 21, 22]


def test_short_trainings_diverge_as_well() -> None:
    with pytest.raises(TrainingError, match=r"at step 3: got a loss of .* in the mean of 4 steps"):
        Training(small(), tensors_of(), Recipe(1, 16, "sgd", 1e3, "constant"), 0).run()
    with pytest.raises(TrainingError, match="after the last step, weights that are not finite"):
        Training(small(), tensors_of(), Recipe(1, 64, "sgd", 1e38, "constant", weight_decay=1e10), 0).run()


def test_networks_that_do_not_fit_the_data_are_refused() -> None:
    part = tensors_of()
    with pytest.raises(ArgumentError, match=r"refuses inputs of shape 6 .*--input-shape"):
        check_fit(nn.Linear(5, 3), part, 3, "data")
    with pytest.raises(DataError, match="the label 2 for a network of 2 outputs"):
        check_fit(nn.Linear(6, 2), part, 3, "data")
    with pytest.raises(DataError, match="input shape"):
        examples(DATA, CPU, (7,))
    for wrong, words in (
        (Told(lambda x: (x,)), "an output of type tuple for 3 inputs"),
        (Told(lambda x: x.T), r"an output of shape \(6, 3\) for 3 inputs"),
        (Told(lambda x: x / 0.0), "not finite before any training"),
        (Told(lambda x: {}[0]), r"refuses inputs of shape 6 \(KeyError: 0\)"),
    ):
        with pytest.raises(ArgumentError, match=words):
            check_fit(wrong, part, 3, "data")
    for name in ("cuda:99", "tpu", "meta", "nonsense"):
        with pytest.raises(ArgumentError, match="device"):
            find_device(name)
