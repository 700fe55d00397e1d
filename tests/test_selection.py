"""Which parameters are ticketed: patterns, what becomes of the others, and files that say so."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import slth
from command_line import assert_refused, make_folder
from command_line import slth as slth_program
from slth.errors import ArgumentError
from slth.network.accounts import FOLDED, KEPT, SHARED, STATES, TICKETED, counted, ticketed_share
from slth.network.load import TargetReference
from slth.network.selection import EVERYTHING, Selection
from slth.network.trace import trace
from slth.runtime import evaluate
from zoo import ZOO, shake

NAMES = ("encoder.0.weight", "encoder.0.bias", "encoder.10.weight", "encoders.weight", "head.weight", "scale")


class Tied(nn.Module):
    """A table that is read and multiplied with, as in a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(torch.relu(self.inner(self.table(x))))


@given(st.lists(st.sampled_from(["encoder", "encoder.0", "enc*", "*.weight", "head", "?cale", "*.1?.*", "none"])))
def test_a_pattern_is_for_names_and_for_all_in_a_module(patterns: list[str]) -> None:
    """Beside the words of the definition, name by name and path by path."""
    for name in NAMES:
        parts = name.split(".")
        paths = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        # A star goes across dots, so that what fits a path may also fit a longer one.
        fits = any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns for path in paths)
        assert Selection(exclude=tuple(patterns)).wants(name) is not fits
        assert Selection(include=tuple(patterns)).wants(name) is (fits or not patterns)
        assert not Selection(("*",), tuple(patterns)).wants(name) if fits else True


@pytest.mark.parametrize(
    ("given", "patterns"),
    [("a", ("a",)), ("a,b.*", ("a", "b.*")), (["a", "b , c"], ("a", "b", "c")), (None, ()), ((), ())],
)
def test_patterns_come_in_strings_and_lists(given: object, patterns: tuple[str, ...]) -> None:
    assert Selection.of(given, given) == Selection(patterns, patterns)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", ",", "a,,b", [""], [3]])
def test_patterns_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(ArgumentError, match="exclude"):
        Selection.of(exclude=given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("pattern", "near"), [("encodr.0", "encoder.0"), ("heads", "head"), ("*.wieght", "weight")])
@pytest.mark.parametrize("where", ["include", "exclude"])
def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_names(pattern: str, near: str, where: str) -> None:
    with pytest.raises(ArgumentError, match=f"{where}: got .*{near}"):
        Selection.of(**{where: [pattern, "scale"]}).check(NAMES)


def test_a_selection_comes_back_from_json() -> None:
    for selection in (EVERYTHING, Selection(("a",), ("b", "c"))):
        assert Selection.from_json(selection.to_json()) == selection
    for bad in ({"include": ["a"]}, {"include": "a", "exclude": []}, {"include": [1], "exclude": []}):
        with pytest.raises((ValueError, KeyError)):
            Selection.from_json(bad)


@pytest.mark.parametrize(
    "name", ["resnet", "vit", "bert_like", "mobilenet", "mixer", "batchnorm1d_mlp", "shared_layer"]
)
@pytest.mark.parametrize("rest", ["weights", "first", "last"])
def test_what_is_excluded_is_kept_and_the_function_is_the_same(name: str, rest: str, tmp_path: Path) -> None:
    model, x = ZOO[name]()
    names = [key for key, _ in model.named_parameters()]
    chosen = {"weights": ["*weight*"], "first": [names[0]], "last": [names[-1].rpartition(".")[0] or names[-1]]}[rest]
    expected = Selection(exclude=tuple(chosen))
    if rest == "weights" and all(map(expected.wants, names)):
        pytest.skip("no weights")
    target = trace(model, x, expected) if any(map(expected.wants, names)) else None
    if target is None or not target.layers:
        pytest.skip("nothing is left")
    with torch.no_grad():
        torch.testing.assert_close(evaluate(target, x), model(x), rtol=1e-4, atol=1e-4)
    for account in target.accounts:
        assert account.state in STATES
        assert (account.state in (TICKETED, FOLDED)) <= expected.wants(account.name)
    assert any(account.state == KEPT and account.where == "excluded" for account in target.accounts)
    everything = trace(model, x)
    assert ticketed_share(target.accounts) < ticketed_share(everything.accounts)
    total = sum(account.n for account in target.accounts if account.state != SHARED)
    assert total == sum(parameter.numel() for parameter in model.parameters()) == sum(counted(target.accounts).values())


@pytest.mark.parametrize("name", ["resnet", "vit", "unet", "upsample_pixelshuffle"])
def test_a_layer_without_its_bias_is_the_same_layer(name: str) -> None:
    model, x = ZOO[name]()
    target = trace(model, x, Selection(exclude=("*bias",)))
    ops = {layer.name: layer.node.op for layer in trace(model, x)}
    assert all(layer.bias is None for layer in target)
    assert all(layer.node.op == ops[layer.name] for layer in target if layer.node.op != "parameter")
    torch.testing.assert_close(evaluate(target, x), model(x), rtol=1e-4, atol=1e-4)
    weights = {account.name: account.state for account in target.accounts if "weight" in account.name}
    assert set(weights.values()) <= {TICKETED, FOLDED}


def test_excluded_tensors_are_in_the_file_and_verify_reads_the_target_alike(tmp_path: Path) -> None:
    model, x = ZOO["resnet"]()
    names = [key for key, _ in model.named_parameters()]
    pattern = names[-1].rpartition(".")[0]
    ticket = slth.find_ticket(model, x, base_set_size=8, exclude=pattern)
    assert ticket.selection == Selection(exclude=(pattern,)) and ticket.kept
    ticket.save(tmp_path / "net.ticket")
    loaded = slth.load(tmp_path / "net.ticket")
    assert loaded == ticket and loaded.selection == ticket.selection
    assert slth.verify(loaded, model).holds
    whole = slth.find_ticket(model, x, base_set_size=8)
    assert whole.selection == EVERYTHING and whole != ticket


def test_a_tied_tensor_is_one_with_two_names() -> None:
    model, x = shake(Tied(), 0), torch.tensor([[0, 4], [1, 2]])
    accounts = {account.name: account for account in trace(model, x).accounts}
    shared, used = sorted(("table.weight", "head.weight"), key=lambda name: accounts[name].state)
    assert (accounts[shared].state, accounts[shared].where) == (SHARED, used)
    assert accounts[used].state == TICKETED and accounts[used].where.count(",") == 1, "one layer for each role"
    assert sum(counted(accounts.values()).values()) == 20 + 20
    for name in ("table", "head"):
        excluded = trace(model, x, Selection(exclude=(name,)))
        assert {a.name for a in excluded.accounts if a.state == KEPT} == {used}
        assert ticketed_share(excluded.accounts) == 0.5


def test_a_selection_of_a_state_dict(tmp_path: Path) -> None:
    model = shake(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), 0)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    target = TargetReference(tmp_path / "net.safetensors", selection=Selection(exclude=("0",))).load()
    assert [layer.name for layer in target] == ["2"]
    assert {a.name: a.state for a in target.accounts}["0.weight"] == KEPT
    x = torch.randn(5, 3)
    torch.testing.assert_close(evaluate(target, x), model(x))


def test_a_target_has_its_selection_already() -> None:
    model, x = shake(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), 0), torch.zeros(1, 3)
    target = trace(model, x, Selection(include=("0",)))
    assert slth.find_ticket(target, base_set_size=6, include="0").selection == target.selection
    with pytest.raises(ArgumentError, match="settled"):
        slth.find_ticket(target, base_set_size=6, include="1")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder."""
    return make_folder(tmp_path / "home")


def test_the_command_line_takes_patterns_and_verify_needs_none(home: Path) -> None:
    words = ("--model", "zoo_of_nets:small", "-o", "net.ticket", "--base-set-size", 8)
    for options in (("--exclude", "0,2"), ("--exclude", "0", "--exclude", "2.*"), ("--include", "4")):
        found = slth_program("find", *words, *options, "--json", cwd=home)
        assert (found.status, found.err) == (0, ""), found.err
        assert [layer["name"] for layer in json.loads(found.out)["layers"]] == ["4"]
        assert slth_program("verify", "net.ticket", "--target", "net.pt", cwd=home).status == 0
    planned = slth_program("plan", "net.pt", "--eps", 1, "--delta", 0.1, "--exclude", "5", cwd=home)
    assert_refused(planned, "--exclude", "'5'")
    assert_refused(slth_program("find", *words, "--include", "4,6", cwd=home), "--include: got '6'", "0.weight")
    assert_refused(slth_program("find", *words, "--exclude", "*", cwd=home), "without a weight layer")


def test_the_sources_own_activation_has_an_option_of_its_own(home: Path) -> None:
    words = ("find", "net.pt", "-o", "net.ticket", "--base-set-size", 8, "--domain", "0,1", "--quiet")
    for option in (("--source-activation", "tanh"), ("--set", "activation=tanh")):
        assert slth_program(*words, *option, cwd=home).status == 0
        assert slth.load(home / "net.ticket").spec.layers[0].activation.name == "tanh"
    both = slth_program(*words, "--source-activation", "tanh", "--set", "activation=tanh", cwd=home)
    assert_refused(both, "--source-activation", "--set activation")
    assert_refused(slth_program(*words, "--source-activation", "tan", cwd=home), "--source-activation: got tan")
