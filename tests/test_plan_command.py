"""slth plan as a person runs it: tables that fit, one JSON object with everything, errors with their remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import Result, assert_refused, files_in, make_folder, program, slth
from slth.bounds.catalogue import THEOREMS, width_bound
from slth.domain import Domain
from slth.forecast.network import describe
from slth.network.load import TargetReference

KEYS = {"eps", "delta", "domain", "input", "layers", "theorems"}
LAYER_KEYS = {
    "name",
    "inputs",
    "outputs",
    "taps",
    "groups",
    "positions",
    "weights",
    "nonzeros",
    "row_nonzeros",
    "biases",
}
LAYER_KEYS |= {"largest_bias", "largest", "row_sum", "column_sum", "entry_sum", "spectral", "spectral_is", "activation"}
THEOREM_KEYS = {"name", "theorem", "paper", "norm", "source_law", "state", "proved", "widths", "source_weights"}
THEOREM_KEYS |= {
    "target_weights",
    "overparameterisation",
    "tolerances",
    "factors",
    "output_factor",
    "as_it_is",
    "divided",
}
THEOREM_KEYS |= {"constants", "assumptions", "estimate"}
ESTIMATE_KEYS = {"construction", "kept_weights", "ticket_bytes", "find_seconds", "refused"}

NETS = """
import torch
from torch import nn


def tanh_conv():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)
    ), torch.zeros(1, 1, 8, 8)


def deep():
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(20) for part in (nn.Linear(6, 6), nn.ReLU())), nn.Linear(6, 2))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small net, two factories, and no calibration but this test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = make_folder(tmp_path / "home")
    (home / "nets_to_plan.py").write_text(NETS)
    return home


def ask(folder: Path, *words: object) -> Result:
    """``slth plan`` with the theorems' own constants."""
    return slth("plan", "--eps", "0.01", "--delta", "0.05", "--no-calibrated", *words, cwd=folder)


def answer(folder: Path, *words: object) -> Any:
    """The JSON object."""
    result = ask(folder, *words, "--json")
    assert (result.status, result.err) == (0, "")
    return json.loads(result.out, parse_constant=lambda name: pytest.fail(name))


def test_a_table_theorem_by_theorem(folder: Path) -> None:
    before = files_in(folder)
    result = ask(folder, "net.safetensors", "--domain", "0,1")
    assert (result.status, result.err) == (0, "") and files_in(folder) == before
    lines = result.out.splitlines()
    assert lines[0] == "12-8-6-4: 168 weights, 18 biases; inputs in [0, 1], ‖x‖_2 <= 3.464"
    assert max(map(len, lines)) <= 120
    for name in THEOREMS:
        assert sum(line.startswith(f"{name} ") for line in lines) == 2
    for words in ("no biases: got 8 biases in layer 1", "fitted to simulated half-product", "‖W_i‖_2 <= 1: got ‖W_"):
        assert words in result.out
    assert "e+" not in result.out.split("Constants")[0]


def test_the_table_fits_a_terminal_of_80_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich import console

    real = console.Console
    monkeypatch.setattr(console, "Console", lambda **options: real(**{**options, "width": 80}))
    for words in (("net.safetensors",), ("--model", "nets_to_plan:tanh_conv"), ("--model", "nets_to_plan:deep")):
        lines = ask(folder, *words, "--domain", "0,1").out.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line for line in lines if line.split(" ")[0] in THEOREMS]
        assert len(rows) == 2 * len(THEOREMS)
    # Of twenty-one layers the first five and the last three are shown.
    assert sum(line.rstrip().endswith("relu") for line in lines) == 7 and "... 13 more" in " ".join(lines[8].split())


def test_json_holds_everything_and_the_bounds_own_numbers(folder: Path) -> None:
    value = answer(folder, "net.safetensors", "--domain", "0,1")
    assert value.keys() == KEYS and [theorem["name"] for theorem in value["theorems"]] == list(THEOREMS)
    assert [layer["name"] for layer in value["layers"]] == ["0", "2", "4"]
    assert value["input"] == {"norm_1": 12.0, "norm_2": pytest.approx(12**0.5), "largest": 1.0, "nonnegative": True}
    for layer in value["layers"]:
        assert layer.keys() == LAYER_KEYS and layer["spectral_is"] == "exact"
    shape = describe(TargetReference(folder / "net.safetensors").load(), Domain.parse("0,1")).shape
    for theorem in value["theorems"]:
        assert theorem.keys() == THEOREM_KEYS and theorem["estimate"].keys() == ESTIMATE_KEYS
        bound = width_bound(theorem["name"], shape, 0.01, 0.05, normalise=True)
        assert (theorem["widths"], theorem["source_weights"]) == (list(bound.widths), bound.weights)
        assert theorem["output_factor"] == bound.output_factor
        for assumption in theorem["assumptions"]:
            assert assumption.keys() == {"text", "holds", "got", "remedy"}
            assert assumption["holds"] != bool(assumption["remedy"])
        for constant in theorem["constants"]:
            assert constant["kind"] in ("proved", "fitted")
        assert theorem["state"] in ("holds", "divided", "broken")


def test_chosen_theorems_alone_in_their_order(folder: Path) -> None:
    value = answer(folder, "net.safetensors", "--theorem", "pensia-1, orseau-30,pensia-1")
    assert [theorem["name"] for theorem in value["theorems"]] == ["pensia-1", "orseau-30"]
    assert value["domain"].startswith("the unit ball") and value["input"]["norm_2"] == 1.0
    quiet = ask(folder, "net.safetensors", "--quiet")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_a_convolution_with_tanh(folder: Path) -> None:
    value = answer(folder, "--model", "nets_to_plan:tanh_conv", "--domain", "0,1")
    assert [layer["spectral_is"] for layer in value["layers"]] == ["upper bound", "exact"]
    assert [layer["activation"] for layer in value["layers"]] == ["tanh", "linear"]
    by_name = {theorem["name"]: theorem for theorem in value["theorems"]}
    got = {each["text"]: each["got"] for each in by_name["dacunha-1"]["assumptions"] if not each["holds"]}
    assert got["ReLU activations"] == "tanh after layer 1"
    table = ask(folder, "--model", "nets_to_plan:tanh_conv", "--domain", "0,1").out
    assert "1 > 3, 3x3" in table and "dense layers: got layer 1 has 9 taps" in table


def test_measured_constants_are_named(folder: Path) -> None:
    words = ("net.safetensors", "--eps", "0.5", "--delta", "0.5", "--theorem", "burkholz-2.9")
    result = slth("plan", *words, cwd=folder)
    assert (result.status, result.err) == (0, "") and "calibrated: " in result.out
    again = json.loads(slth("plan", *words, "--json", cwd=folder).out)
    kinds = {constant["name"]: constant["kind"] for constant in again["theorems"][0]["constants"]}
    assert kinds == {"C": "calibrated", "C_two": "calibrated", "rho": "proved"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--eps", "0"), ("--eps", "above 0")),
        (("--eps", "nan"), ("--eps",)),
        (("--delta", "1"), ("--delta", "below 1", "try 0.01")),
        (("--delta", "-0.1"), ("--delta",)),
        (("--theorem", "malach"), ("--theorem", "'malach'", *THEOREMS)),
        (("--theorem", ""), ("--theorem",)),
        (("--domain", "1,0"), ("--domain",)),
        (("--domain", "a"), ("--domain",)),
    ],
)
def test_bad_arguments_are_refused_in_one_line(folder: Path, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    assert_refused(ask(folder, "net.safetensors", *words), *said)


def test_networks_that_cannot_be_used_are_refused(folder: Path) -> None:
    assert_refused(ask(folder), "target")
    assert_refused(ask(folder, "nowhere.safetensors"), "nowhere.safetensors")
    assert_refused(slth("plan", "net.safetensors", "--eps", "0.1", cwd=folder), "--delta")


def test_a_network_that_is_no_chain_has_layers_and_no_theorem(folder: Path) -> None:
    result = ask(folder, "--model", "zoo_of_nets:lstm")
    assert result.status == 0 and "weight_hh_l0" in result.out and "malach" not in result.out
    assert "broken" in result.out and "a chain of layers: got" in result.out
    found = json.loads(ask(folder, "--model", "zoo_of_nets:lstm", "--json").out)
    assert {row["state"] for row in found["theorems"]} == {"broken"} and len(found["layers"]) == 3
    assert all(not row["proved"] and row["widths"] == [] for row in found["theorems"])
    (assumption,) = found["theorems"][0]["assumptions"]
    assert assumption["text"] == "a chain of layers" and not assumption["holds"]


def test_help_fits_a_screen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = slth("plan", "--help", cwd=folder).out.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80


def test_the_program(folder: Path) -> None:
    words = ("net.safetensors", "--eps", "0.01", "--delta", "0.05", "--theorem", "orseau-30", "--domain", "0,1")
    result = program("plan", *words, cwd=folder)
    assert (result.status, result.err) == (0, "") and "golden-ratio" in result.out
