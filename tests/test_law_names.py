"""Every law by name on the command line: tables in files, functions, grids; and the uniform law that each contains."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import slth
from command_line import make_folder
from command_line import slth as command
from slth.commands.laws import read_elements, read_law
from slth.errors import ArgumentError
from slth.source.distributions import DISTRIBUTIONS, Grid
from slth.source.initialised import NAMES
from slth.source.quantiles import Quantiles

LAWS = """
import math

def laplace(p):
    return math.log(2 * p) if p < 0.5 else -math.log(2 * (1 - p))

def square(p):
    return p * p

def down(p):
    return -p

def broken(p):
    raise RuntimeError("no")

number = 3
"""
TRIANGLE = {"probabilities": [0, 0.5, 1], "values": [-1, 0, 1]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a net, a table and a module of functions."""
    make_folder(tmp_path)
    (tmp_path / "table.json").write_text(json.dumps(TRIANGLE))
    (tmp_path / "laws_of_mine.py").write_text(LAWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("law", [*(name for name in NAMES if name != Quantiles.name), "grid:5", "quantiles:table.json"])
def test_every_law_gives_a_ticket_that_holds(home: Path, law: str) -> None:
    found = command(
        *("find", "net.safetensors", "-o", "a.ticket", "--set", f"distribution={law}", "--base-set-size", 8, "--quiet"),
        cwd=home,
    )
    assert (found.status, found.err) == (0, "")
    ticket = slth.load(home / "a.ticket")
    assert ticket.spec.distribution == law.split(":")[0]
    checked = command("verify", "a.ticket", "--target", "net.safetensors", "--domain=-1,1", cwd=home)
    assert checked.status == 0 and "holds" in checked.out
    assert f"weights {ticket.spec.layers[0].law.label}" in command("show", "a.ticket", cwd=home).out


def test_weights_from_a_grid_have_its_levels_alone(home: Path) -> None:
    command("find", "net.safetensors", "-o", "a.ticket", "--set", "distribution=grid:4", "-q", cwd=home)
    for source, mask, _ in slth.load(home / "a.ticket").layers:
        expand, combine = (np.concatenate(parts) for parts in _split(list(mask.survivors(source))))
        levels = np.array([-1, -1 / 3, 1 / 3, 1], np.float32)
        assert set(expand.tolist()) <= set(levels.tolist())
        assert set(combine.tolist()) <= set((levels * np.float32(source.scale)).tolist())
        assert source.law == Grid(4)


def _split(parts: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return parts[:1], parts[1:]


def test_a_function_becomes_a_table_that_the_file_holds(home: Path) -> None:
    """And the ticket is read where the function is not."""
    setting = "distribution=quantiles:laws_of_mine:laplace"
    assert command("find", "net.safetensors", "-o", "a.ticket", "--set", setting, "-q", cwd=home).status == 0
    (home / "laws_of_mine.py").unlink()
    law = slth.load(home / "a.ticket").spec.layers[0].law
    assert isinstance(law, Quantiles) and law.symmetric and len(law.values) == 1025
    assert law.values[768] == pytest.approx(math.log(2)) and law.support[0] == -law.support[1]
    skewed = read_law("quantiles:laws_of_mine:square")
    assert isinstance(skewed, Quantiles) and not skewed.symmetric and skewed.support[0] >= 0
    assert command("verify", "a.ticket", "--target", "net.safetensors", cwd=home).status == 0


@pytest.mark.parametrize(
    "text",
    [
        *("quantiles:", "quantiles:nix.json", "quantiles:net.safetensors.json", "quantiles:table"),
        *("quantiles:laws_of_mine:broken", "quantiles:laws_of_mine:down", "quantiles:laws_of_mine:nix"),
        *("quantiles:laws_of_mine:number", "quantiles:no_module:nix", "quantiles:bad.json", "quantiles:list.json"),
    ],
)
def test_what_gives_no_table_is_refused_in_one_line(home: Path, text: str) -> None:
    (home / "bad.json").write_text('{"probabilities": [0, 1], "values": [1, 0]}')
    (home / "list.json").write_text("[1, 2]")
    for read in (read_law, read_elements):
        with pytest.raises(ArgumentError):
            read(text)
    found = command("find", "net.safetensors", "-o", "a.ticket", "--set", f"distribution={text}", cwd=home)
    assert found.status == 2 and found.err.startswith("error: ") and found.err.count("\n") == 1
    assert not (home / "a.ticket").exists()


def test_calibrate_says_which_uniform_law_each_contains(home: Path) -> None:
    asked = ("--eps", 0.3, "--delta", 0.3, "--draws", 100, "--no-cache")
    laws = "uniform,normal,grid:16,product,hyperbolic-log:0.5,quantiles:table.json,quantiles:laws_of_mine:laplace"
    shown = command("calibrate", "--distribution", laws, *asked, cwd=home)
    lines = {line.split(": ")[0]: line for line in shown.out.splitlines() if "contained" in line or "density" in line}
    assert shown.status == 0 and len(lines) == 7
    assert "b = 0.5 on [-a, a], a = 1; share 2 a b = 1" in lines["uniform"]
    assert f"b = {math.exp(-0.5) / math.sqrt(2 * math.pi):.4g}" in lines["normal"]
    assert "no uniform law" in lines["grid:16"] and "a = 0.3679" in lines["product"]
    assert "a = 1; share" in lines["quantiles:3 values"]
    asked = (*asked, "--json")
    answers = json.loads(command("calibrate", "--distribution", "normal,grid:3", *asked, cwd=home).out)["calibrations"]
    contained = DISTRIBUTIONS["normal"]().containment()
    assert contained is not None
    assert answers[0]["containment"] == {"half_width": 1.0, "density": contained.density, "share": contained.share}
    assert answers[1]["containment"] is None


def test_a_law_by_shape_has_no_place_where_there_is_no_layer(home: Path) -> None:
    assert command("calibrate", "--distribution", "kaiming-uniform", cwd=home).status == 2
