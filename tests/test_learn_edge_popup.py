"""Masks over random networks, found by training scores: the ticket is the source's weights, nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import slth
from command_line import slth as command
from slth.artifact import to_bytes
from slth.data import Data
from slth.errors import ArgumentError, MismatchError, TicketError
from slth.learn.datasets import Dataset, load_dataset
from slth.learn.edge_popup import TRAINED, PopupSettings, edge_popup
from slth.learn.networks import make_network
from slth.learn.scored import WEIGHTS, ScoredNetwork, draw_source
from slth.learn.scores import BernoulliScores, TopScores
from slth.learn.training import Recipe
from slth.mask import PlainMask
from slth.mask.plain import METHODS
from slth.network.inputs import as_target
from slth.plain_layers import own_network
from slth.source.distributions import Grid, Normal, draw
from slth.source.philox import stream_key
from slth.ticket import Ticket

SHORT = Recipe(2, 64, "sgd", 1.0, "cosine")
METHOD_WEIGHTS = [(m, w) for m in METHODS for w in WEIGHTS if m != "multi-prize" or w == WEIGHTS[0]]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load_dataset("digits")
    assert whole.train.labels is not None
    return Dataset.of(Data(whole.train.inputs[:400], whole.train.labels[:400]), whole.test)


def biased() -> torch.nn.Module:
    """Convolutions in groups, with and without bias, padding on all sides, and a normalisation that is folded away."""
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 6, 3, groups=3, stride=2, bias=False),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(54, 10),
    ).eval()


def scored(method: str, weights: str, density: float | None = 0.3, seed: int = 5) -> ScoredNetwork:
    target = as_target(biased(), torch.zeros(1, 64))
    return ScoredNetwork(target, draw_source(target, seed, weights, density or 0.5), method, density, 1)


def by_hand(ticket: Ticket, number: int) -> np.ndarray:
    """The layer's pruned numbers as the page on the format says, one element at a time."""
    source, mask = ticket.spec.layers[number], ticket.masks[number]
    assert isinstance(mask, PlainMask)
    outputs, inputs, *kernel = ticket.graph.weighted[number].attributes["weight_shape"]
    fan_in = inputs * int(np.prod(kernel))
    n = outputs * (fan_in + int(ticket.graph.weighted[number].attributes["bias"]))
    words = draw(source.law, stream_key(ticket.spec.seed, number, 0), 0, n)
    scale = np.float32({"kaiming-normal": 2.0, "kaiming-uniform": 6.0}.get(source.law.name, 0.0) / fan_in) ** 0.5
    numbers = words * (np.float32(scale) if source.law.by_shape else np.float32(1)) * np.float32(source.scale)
    bits = np.unpackbits(mask.kept)[:n]
    return np.array([x if bit else 0.0 for x, bit in zip(numbers, bits, strict=True)], np.float32)


@pytest.mark.parametrize(("method", "weights"), METHOD_WEIGHTS)
def test_a_ticket_is_the_source_s_weights_and_computes_what_was_trained(
    method: str, weights: str, tmp_path: Path
) -> None:
    made = scored(method, weights)
    ticket = made.ticket()
    ticket.save(tmp_path / "a.ticket")
    again = slth.load(tmp_path / "a.ticket")
    assert again == ticket
    assert to_bytes(again) == (tmp_path / "a.ticket").read_bytes()
    made.module.eval()
    x = torch.rand(7, 64)
    for form in ("masked", "sparse", "folded"):
        torch.testing.assert_close(again.module(form)(x), made.module(x), rtol=1e-5, atol=1e-5)
    for number, layer in enumerate(own_network(again)):
        kept = by_hand(again, number)
        n = layer.weight.numel()
        np.testing.assert_allclose(layer.weight.numpy().ravel(), kept[:n], rtol=1e-6)
        assert np.array_equal(layer.weight.numpy().ravel() == 0, kept[:n] == 0)
        if weights == "signed-constant":
            assert np.array_equal(layer.weight.numpy().ravel(), kept[:n])
    result = slth.verify(again, None, domain=(0, 1))
    assert result.holds
    assert result.max_weight_error == 0.0
    assert all(layer.source_matches for layer in result.layers)


def test_the_masked_form_has_the_whole_source_and_its_mask() -> None:
    ticket = scored("edge-popup", "kaiming-normal").ticket()
    state = ticket.module("masked").state_dict()
    for number, source in enumerate(ticket.spec.layers):
        name = ticket.graph.weighted[number].name
        whole, mask = state[f"{name}.combine.weight_orig"], state[f"{name}.combine.weight_mask"]
        assert torch.equal(whole.ravel(), torch.from_numpy(source.numbers()[: whole.numel()]))  # type: ignore[attr-defined]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("method", ["edge-popup", "multi-prize"])
@pytest.mark.parametrize("density", [0.003, 0.3, 0.5, 1.0])
def test_exactly_so_many_are_kept_in_every_layer(method: str, density: float) -> None:
    ticket = scored(method, "signed-constant", density).ticket()
    for source, mask, facts in ticket.layers:
        assert mask.n_kept == max(1, round(density * source.n_weights))
        assert facts.n_weights == source.n_weights


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0]), min_size=1, max_size=40), st.data())
def test_of_equal_scores_the_first_are_kept(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    kept = TopScores(len(values), k).final(torch.tensor(values))
    oracle = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert np.flatnonzero(kept.numpy()).tolist() == sorted(oracle)
    step = TopScores(len(values), k).step(torch.tensor(values))
    assert {i for i, flag in enumerate(step.tolist()) if flag} >= set(oracle)


@settings(max_examples=20)
@given(st.integers(1, 99))
def test_a_threshold_from_a_sample_keeps_about_as_many(percent: int) -> None:
    n = 1 << 18
    generator = torch.Generator().manual_seed(percent)
    chooser = TopScores.build(n, percent / 100, generator)
    assert chooser.sample is not None
    scores = torch.randn(n, generator=generator)
    assert abs(float(chooser.step(scores).mean()) - percent / 100) < 0.02
    assert int(chooser.final(scores).sum()) == round(percent / 100 * n)


def test_gradients_pass_straight_through() -> None:
    scores = torch.tensor([0.1, -3.0, 2.0, 0.5], requires_grad=True)
    (TopScores(4, 2).step(scores) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == [1.0, 2.0, 3.0, 4.0]
    scores = torch.tensor([0.1, -3.0, 2.0, 0.5], requires_grad=True)
    BernoulliScores().step(scores).sum().backward()
    p = torch.sigmoid(scores.detach())
    torch.testing.assert_close(scores.grad, p * (1 - p))


def test_bernoulli_masks_have_their_probabilities() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([-2.0, 0.0, 3.0])
    often = torch.stack([BernoulliScores().step(scores) for _ in range(4000)]).mean(dim=0)
    torch.testing.assert_close(often, torch.sigmoid(scores), atol=0.03, rtol=0)
    assert BernoulliScores().final(scores).tolist() == [False, False, True]
    assert BernoulliScores(2).final(scores).tolist() == [False, True, True]


def test_multi_prize_weights_are_signs_of_the_latent_ones_times_their_mean_size() -> None:
    key = stream_key(3, 0, 0)
    assert np.array_equal(draw(Grid(2), key, 0, 4000), np.sign(draw(Normal(), key, 0, 4000)))
    ticket = scored("multi-prize", "signed-constant").ticket()
    latent = scored("edge-popup", "kaiming-normal").spec
    for number, (source, mask, _) in enumerate(ticket.layers):
        assert isinstance(mask, PlainMask)
        magnitudes = np.abs(latent.layers[number].numbers())[mask.flags(source)]  # type: ignore[attr-defined]
        assert source.scale == pytest.approx(float(magnitudes.mean()), rel=1e-5)
        values = own_network(ticket).layers[number].weight.unique().tolist()
        assert set(values) <= {-source.scale, 0.0, source.scale}


def test_the_source_is_a_function_of_seed_and_shape_alone() -> None:
    target = as_target(biased(), torch.zeros(1, 64))
    other = biased()
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 3.0)
    for weights in WEIGHTS:
        first = draw_source(target, 9, weights, 0.5)
        assert first == draw_source(as_target(other, torch.zeros(1, 64)), 9, weights, 0.5)
        assert first != draw_source(target, 10, weights, 0.5)


@pytest.mark.parametrize(("method", "floor"), [("edge-popup", 88.0), ("multi-prize", 78.0), ("bernoulli", 78.0)])
def test_untrained_digits_are_told_apart(method: str, floor: float, digits: Dataset) -> None:
    recipe = Recipe(12, 32, *TRAINED[method], "cosine")
    result = edge_popup("mlp", digits, PopupSettings(method, recipe=recipe), hidden=(128,), device="cpu")
    assert result.accuracy > floor
    assert result.accuracy_before < 50.0
    assert slth.verify(result.ticket, None).holds
    x = digits.test.inputs.to(torch.float32)
    assert digits.test.accuracy(result.ticket.module("sparse"), x) == pytest.approx(result.accuracy, abs=0.3)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", [1, 8, 13])
def test_a_run_that_was_killed_goes_on_to_the_same_ticket(
    method: str, at: int, digits: Dataset, tmp_path: Path
) -> None:
    options = {"settings": PopupSettings(method, recipe=SHORT, seed=4), "hidden": (32,), "device": "cpu"}
    whole = edge_popup("mlp", digits, **options)  # type: ignore[arg-type]

    def kill(done: int, total: int) -> None:
        assert total == 14
        if done == at + 1:
            raise KilledError

    kept = {"checkpoint": tmp_path / "state", "every_steps": 1}
    with pytest.raises(KilledError):
        edge_popup("mlp", digits, **options, **kept, on_progress=kill)  # type: ignore[arg-type]
    again = edge_popup("mlp", digits, **options, **kept, resume=True)  # type: ignore[arg-type]
    assert to_bytes(again.ticket) == to_bytes(whole.ticket)
    other = dataclasses.replace(options["settings"], density=0.4)  # type: ignore[type-var]
    with pytest.raises(MismatchError, match="density"):
        edge_popup("mlp", digits, **{**options, "settings": other}, **kept, resume=True)  # type: ignore[arg-type]


def test_scores_change_and_weights_do_not(digits: Dataset) -> None:
    settings = PopupSettings(recipe=SHORT, seed=4)
    trained = edge_popup("mlp", digits, settings, hidden=(32,), device="cpu").ticket
    longer = PopupSettings(recipe=dataclasses.replace(SHORT, epochs=4), seed=4)
    other = edge_popup("mlp", digits, longer, hidden=(32,), device="cpu").ticket
    assert trained.spec == other.spec
    assert to_bytes(trained) != to_bytes(other)


def test_any_module_is_an_architecture(digits: Dataset) -> None:
    result = edge_popup(biased(), digits, PopupSettings(recipe=SHORT, density=0.7), device="cpu")
    assert [node.name for node in result.ticket.graph.weighted] == ["1", "4", "7"]
    assert slth.verify(result.ticket, None, data=digits.test).accuracy_ticket == pytest.approx(result.accuracy, abs=0.3)


@pytest.mark.parametrize("name", ["conv4", "lenet5-wide"])
def test_named_convolutions_take_images(name: str) -> None:
    network, shape = make_network(name, (28, 28), 10)
    assert network(torch.zeros(2, *shape)).shape == (2, 10)
    assert make_network(name, (784,), 10)[1] == make_network(name, (1, 28, 28), 10)[1] == (1, 28, 28)
    with pytest.raises(ArgumentError, match="images"):
        make_network(name, (3, 2), 10)
    with pytest.raises(ArgumentError, match="images"):
        make_network(name, (35,), 10)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "best"}, "method"),
        ({"weights": "normal"}, "weights"),
        ({"density": 0.0}, "density"),
        ({"density": 1.5}, "density"),
        ({"method": "multi-prize", "weights": "kaiming-normal"}, "signs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        PopupSettings(**options).check()  # type: ignore[arg-type]


def test_a_lie_in_the_file_is_found(tmp_path: Path) -> None:
    ticket = scored("edge-popup", "signed-constant").ticket()
    assert isinstance(ticket.masks[0], PlainMask)
    first = ticket.masks[0].kept.copy()
    first[0] ^= 0x80
    changed = dataclasses.replace(ticket, masks=(PlainMask(first), *ticket.masks[1:]))
    reasons = slth.verify(changed, None).reasons
    assert any("surviving weights" in reason for reason in reasons)
    assert any("digest" in reason for reason in reasons)
    assert not slth.verify(dataclasses.replace(ticket, target_digest="0" * 64), None).holds
    padded = ticket.masks[0].kept.copy()
    assert ticket.spec.layers[0].n_weights % 8
    padded[-1] |= 1
    with pytest.raises(TicketError, match="bits"):
        PlainMask.read(ticket.spec.layers[0], {"kept": padded})
    with pytest.raises(TicketError, match="bytes"):
        PlainMask.read(ticket.spec.layers[0], {"kept": padded[:-1]})
    wide = dataclasses.replace(ticket.spec.layers[0], block_width=2)
    spec = dataclasses.replace(ticket.spec, layers=(wide, *ticket.spec.layers[1:]))
    (tmp_path / "wide.ticket").write_bytes(to_bytes(dataclasses.replace(ticket, spec=spec)))
    with pytest.raises(TicketError, match="block width"):
        slth.load(tmp_path / "wide.ticket")


def test_a_ticket_for_a_target_is_not_verified_without_it() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    ticket = slth.find_ticket(model, torch.zeros(1, 3), base_set_size=12)
    with pytest.raises(ArgumentError, match="target"):
        slth.verify(ticket, None)


def test_the_command_s_ticket_is_shown_and_verified(digits: Dataset, tmp_path: Path) -> None:
    path, data = tmp_path / "d.ticket", tmp_path / "d.npz"
    inputs, labels = digits.train.inputs.numpy(), digits.train.labels
    assert labels is not None
    np.savez(data, x=inputs, y=labels.numpy())
    arguments = ("--data", data, "-o", path, "--hidden", "64", "--epochs", "8", "--json")
    made = command("learn", "edge-popup", *arguments, cwd=tmp_path)
    assert made.status == 0, made.err
    told = json.loads(made.out)
    assert set(told) >= {"accuracy_ticket", "density", "seconds"}
    assert told["density"] == 0.5
    assert not list(tmp_path.glob("*.checkpoint"))
    shown = json.loads(command("show", path, "--json", cwd=tmp_path).out)
    assert shown["density"] == 0.5
    assert shown["ticket_bytes"] == path.stat().st_size
    assert "random network" in command("show", path, "--html", tmp_path / "d.html", cwd=tmp_path).out
    page = (tmp_path / "d.html").read_text()
    assert "The first layer" in page
    assert f"{shown['kept_weights']:,}" in page
    assert command("verify", path, cwd=tmp_path).status == 0
    assert json.loads(command("verify", path, "--json", cwd=tmp_path).out)["holds"]
    altered = bytearray(path.read_bytes())
    altered[-3] ^= 4
    path.write_bytes(altered)
    assert command("verify", path, cwd=tmp_path).status == 2
