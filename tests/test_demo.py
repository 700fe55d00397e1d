"""slth demo: the whole job with nothing but the installed package."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import slth as package
from command_line import Result, assert_refused, files_in, program, slth
from slth import demo
from slth.learn.datasets import split_data
from slth.network.load import TargetReference


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo is run."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def result(home: Path) -> Result:
    """The demo as a new user runs it, in a folder of its own."""
    return program("demo", "--json", cwd=home)


@pytest.fixture(scope="module")
def facts(result: Result) -> Any:
    """The object that it printed."""
    assert result.err == ""
    return json.loads(result.out)


def test_demo_leaves_a_target_a_ticket_and_a_page_and_nothing_else(result: Result, home: Path) -> None:
    assert result.status == 0
    assert sorted(files_in(home)) == ["demo", "demo/digits.html", "demo/digits.safetensors", "demo/digits.ticket"]
    page = (home / "demo" / "digits.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page and 'href="http' not in page


def test_demo_trains_a_net_that_knows_digits_and_its_ticket_knows_as_much(facts: Any) -> None:
    assert facts["accuracy"] > 95
    assert abs(facts["accuracy"] - facts["folded_accuracy"]) <= 0.5
    verification = facts["verification"]
    assert verification["holds"] is True
    assert verification["accuracy_ticket"] == pytest.approx(facts["folded_accuracy"], abs=0.3)
    assert 0 < verification["observed_error"] <= verification["certified_error"]
    assert facts["ticket"]["kept_weights"] < facts["ticket"]["source_weights"] / 2


def test_files_of_the_demo_are_what_it_says(facts: Any, home: Path) -> None:
    folder = home / "demo"
    assert facts["ticket"]["ticket_bytes"] == (folder / "digits.ticket").stat().st_size
    assert facts["page"] == "demo/digits.html"
    ticket = package.load(folder / "digits.ticket")
    target = TargetReference(path=folder / "digits.safetensors").load()
    assert target.digest() == ticket.target_digest == facts["ticket"]["target_digest"]
    _, test = split_data("digits")
    accuracy = test.accuracy(ticket.module("folded"), test.inputs.to(torch.float32))
    assert accuracy == facts["folded_accuracy"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of a second."""
    monkeypatch.setattr(demo, "HIDDEN", (4, 3))
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "BASE_SET_SIZE", 6)


@pytest.mark.usefixtures("quick")
def test_demo_tells_each_step_and_where_the_page_is(tmp_path: Path) -> None:
    told = slth("demo", "-o", "deep/er", cwd=tmp_path)
    assert (told.status, told.err) == (0, "")
    steps = [line.split()[0] for line in told.out.splitlines()[:4]]
    assert steps == ["trained", "found", "verified:", "ran"]
    assert told.out.splitlines()[-1] == "open deep/er/digits.html in a browser"
    quiet = slth("demo", "-o", "deep/er", "--quiet", cwd=tmp_path)
    assert quiet == Result(0, "", "")


@pytest.mark.usefixtures("quick")
def test_seed_of_the_demo_draws_another_random_net_for_the_same_target(tmp_path: Path) -> None:
    for seed in (1, 2):
        assert slth("demo", "-o", str(seed), "--seed", seed, "-q", cwd=tmp_path).status == 0
    one, two = tmp_path / "1", tmp_path / "2"
    assert (one / "digits.safetensors").read_bytes() == (two / "digits.safetensors").read_bytes()
    assert (one / "digits.ticket").read_bytes() != (two / "digits.ticket").read_bytes()


@pytest.mark.parametrize("place", ["plain", "plain/demo", "/proc/demo", "n" * 300])
def test_folder_that_cannot_be_made_is_refused_before_any_work(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: pytest.fail("work was done"))
    (tmp_path / "plain").touch()
    assert_refused(slth("demo", "-o", place, cwd=tmp_path), place, "--output DIR")
    assert list(files_in(tmp_path)) == ["plain"]


def test_library_runs_the_demo_without_printing(tmp_path: Path, quick: None, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with contextlib.chdir(tmp_path):
        done = demo.run_demo(demo.make_folder(tmp_path), 0, None, lines.append, lambda *_: None)
    assert len(lines) == 4 and done.page == tmp_path / "digits.html"
    assert capfd.readouterr() == ("", "")
