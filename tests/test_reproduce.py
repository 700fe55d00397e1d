"""Experiments: what a run leaves behind, that it goes on where it stopped, and what is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command_line import slth
from conftest import SHARED
from slth.errors import ArgumentError, DataError, OutputError
from slth.places import DATA, locate
from slth.reproduce import figures, markdown, page, zhang
from slth.reproduce.comparison import Comparison, Verdict, alone, at_most, compare
from slth.reproduce.experiment import SCALES, Experiment, Row, Scale, Table
from slth.reproduce.perform import reproduce
from slth.reproduce.registry import EXPERIMENTS, find
from slth.reproduce.run import Run
from slth.reproduce.statistics import mean_and_interval

TINY: dict[str, Mapping[str, Any]] = {
    "malach/widths": {"width": [5, 10], "eps": [0.1, 0.01]},
    "malach/pairs": {"lemmas": [(0.3, 0.1)], "weights": 20, "draws": 2},
    "malach/neurons": {"blocks": [10, 40], "points": 20, "draws": 2},
    "zhang/fig-2": {"inputs": 20, "samples": 100, "kept": [4, 20], "radius": [0.5, 2.0], "trials": 2, "iterations": 50},
    "zhang/fig-3": {"inputs": 20, "samples": 100, "kept": [4, 6, 9], "trials": 2, "iterations": 60, "soon": 30},
    "zhang/fig-4": {"inputs": 12, "kept": [3, 6], "samples_a_weight": [2, 30], "trials": 3, "iterations": 300},
    "zhang/fig-5": {"inputs": 20, "samples": 100, "kept": [2, 3, 4], "trials": 2, "iterations": 50},
    "zhang/fig-6": {"inputs": 10, "kept": 2, "samples": [60, 600], "fresh": 100, "trials": 2, "iterations": 50},
    "zhang/fig-7": {"samples": [60, 120], "epochs": 1, "rounds": 5, "images": 100},
    "orseau/examples": {},
    "orseau/fig-2": {"draws": 2, "samples": 8, "singles": 50},
    "burkholz/table-1": {
        "activations": ["tanh"],
        "rounds": 1,
        "recipe": {"epochs": 1},
        "base_set_size": 8,
        "eps": 1.0,
        "images": 600,
    },
    "burkholz/circle": {"L+1": (6, 3, ((4, 0.3),)), "2L": (6, 4, ((4, 0.3),)), "points": 50},
    "burkholz/table-2": {
        "activations": ["sigmoid"],
        "images": 100,
        "body": [16],
        "body epochs": 1,
        "epochs": 1,
        "hidden": 8,
        "problems": 500,
    },
    "dacunha/fig-3": {"n": [5, 8], "draws": 2, "images": 3},
    "dacunha/fig-4": {"n": [5, 8], "draws": 2, "images": 3},
    "pensia/table": {"hidden": 2, "epochs": 1, "variables": 10, "draws": 1},
    "beyond/calibration": {"laws": ["uniform", "half-product"], "eps": [0.1, 0.01], "draws": 80, "largest": 15},
    "beyond/constructions": {
        "hidden": [[2]],
        "lenet5": False,
        "epochs": 1,
        "sizes": {"two-for-one": 12, "pairs": 0},
        "images": 50,
    },
}
"""Of every experiment, settings with which it takes a second."""


def test_every_experiment_has_a_tiny_form() -> None:
    assert set(TINY) == set(EXPERIMENTS)


@pytest.mark.parametrize("name", TINY)
def test_every_experiment_leaves_data_table_pictures_and_configuration(name: str, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    if experiment.data and not (SHARED / "data").is_dir():
        pytest.skip("no real data")
    given = {"data": SHARED / "data", "settings": TINY[name]}
    report = reproduce(name, tmp_path, **given)
    rows = list(csv.DictReader((report.path / "data.csv").open()))
    table = list(csv.DictReader((report.path / "table.csv").open()))
    assert rows and len(table) == len(report.result["comparisons"])
    assert {entry["verdict"] for entry in table} <= {verdict.value for verdict in Verdict}
    for entry in report.result["comparisons"]:
        assert entry["quantity"] and entry["low"] <= entry["ours"] <= entry["high"]
        # What differs says by how much, what cannot be compared why.
        assert entry["verdict"] == "reproduced" or entry["note"]
    for ending in ("png", "svg") if experiment.draw else ():
        assert (report.path / f"figure.{ending}").stat().st_size > 5000
    kept = json.loads((report.path / "configuration.json").read_text())
    assert kept["configuration"]["seed"] == 0 and kept["configuration"]["settings"] == report.result["settings"]
    again = reproduce(name, tmp_path, **given)
    assert again.cached and again.result == report.result
    other = reproduce(name, tmp_path / "other", **given)
    for file in ("data.csv", "figure.png", "figure.svg"):
        ours, theirs = (each.path / file for each in (report, other))
        if file == "data.csv":
            drop = lambda path: [  # noqa: E731
                {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(path.open())
            ]
            assert drop(ours) == drop(theirs)
        elif experiment.draw:
            assert ours.read_bytes() == theirs.read_bytes()


def counting(calls: list[Any], fail_at: int | None = None) -> Experiment:
    """Four parts of one row each; may stop in one of them."""

    def rows(run: Run) -> list[Row]:
        def part(key: Any) -> list[Row]:
            if key == fail_at:
                raise KeyboardInterrupt
            calls.append(key)
            return [{"k": key, "value": key * run.settings["factor"] + run.seed}]

        return run.each(range(4), part)

    def compared(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
        return [compare("sum", 6.0, float(sum(int(row["value"] or 0) for row in rows)), reason="of the factor")]

    scales = {scale: Scale(0.01, {"factor": 1}) for scale in SCALES}
    return Experiment("test/counting", "Counts.", scales, rows, compared)


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Experiment], None]:
    """Adds an experiment to the list."""
    return lambda experiment: monkeypatch.setitem(EXPERIMENTS, experiment.name, experiment)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    calls: list[Any] = []
    put(counting(calls, fail_at=2))
    with pytest.raises(KeyboardInterrupt):
        reproduce("test/counting", tmp_path)
    assert calls == [0, 1] and not (tmp_path / "test" / "counting" / "result.json").exists()
    whole: list[Any] = []
    put(counting(whole))
    seen: list[tuple[int, int]] = []
    report = reproduce("test/counting", tmp_path, progress=lambda _, done, total: seen.append((done, total)))
    assert whole == [2, 3] and not report.cached and seen == [(k, 4) for k in range(5)]
    assert report.result["comparisons"][0]["verdict"] == "reproduced"


def test_a_pruning_has_a_place_for_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slth.learn import imp
    from slth.learn.datasets import Dataset
    from slth.reproduce import zhang_pruning

    def stopped(*_: Any, checkpoint: Path, resume: bool, **__: Any) -> None:
        assert resume
        checkpoint.write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(imp, "imp", stopped)
    settings = dict(EXPERIMENTS["zhang/fig-7"].scales["quick"].settings)
    data = Dataset.build(*[[[0.0], [1.0]], [0, 1]] * 2)
    with pytest.raises(KeyboardInterrupt):
        zhang_pruning._prune_lenet(Run(settings, 0, tmp_path / "parts" / "some"), data, 2, 0)
    assert len(list(tmp_path.glob("parts/some/*.checkpoint"))) == 1


def test_results_of_another_configuration_stay_as_they_are(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    put(counting([]))
    first = reproduce("test/counting", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for changed in ({"seed": 1}, {"settings": {"factor": 2}}, {"scale": "paper"}):
        with pytest.raises(OutputError, match="another configuration"):
            reproduce("test/counting", tmp_path, **changed)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    second = reproduce("test/counting", tmp_path, settings={"factor": 2}, again=True)
    assert second.path == first.path and second.result["comparisons"][0]["verdict"] == "differs"
    assert "2 times the paper's: of the factor" in second.result["comparisons"][0]["note"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    put(counting([]))
    (tmp_path / "test" / "counting").mkdir(parents=True)
    (tmp_path / "test" / "counting" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        reproduce("test/counting", tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dacunha/fig3", "dacunha/fig-3"),
        ("orseau", "orseau/examples or orseau/fig-2"),
        ("dacunha", "dacunha/fig-3 or dacunha/fig-4"),
        ("table1", "burkholz/table-1"),
        ("fig-3", "zhang/fig-3 or dacunha/fig-3"),
        ("DACUNHA/FIG-3", "dacunha/fig-3"),
        ("pensia/tabel", "pensia/table"),
    ],
)
def test_the_names_that_may_be_meant_are_suggested(name: str, near: str) -> None:
    with pytest.raises(ArgumentError, match=f"try {near}$"):
        find(name)


@pytest.mark.parametrize("damaged", ["", "[1]", '{"key": 1', "{}"])
def test_damaged_parts_and_results_are_made_again(
    damaged: str, tmp_path: Path, put: Callable[[Experiment], None]
) -> None:
    put(counting([]))
    first = reproduce("test/counting", tmp_path)
    (first.path / "result.json").write_text(damaged)
    next(iter(sorted(first.path.parents[1].glob("parts/*/*.json")))).write_text(damaged)
    again: list[Any] = []
    put(counting(again))
    second = reproduce("test/counting", tmp_path)
    assert len(again) == 1 and not second.cached
    assert second.result["comparisons"] == first.result["comparisons"]
    # Another experiment's page needs it whole.
    (first.path / "result.json").write_text(damaged)
    with pytest.raises(OutputError, match="need a result of slth"):
        page.write(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    put(counting([]))
    for where in (tmp_path / "out", tmp_path / "other" / "test" / "counting"):
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text("mine")
        with pytest.raises(OutputError, match="a folder that can be written"):
            reproduce("test/counting", tmp_path / where.relative_to(tmp_path).parts[0])
        assert where.read_text() == "mine"


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    from slth.commands.reproduce import reproduce as command
    from slth.errors import StoppedError

    put(counting([], fail_at=2))
    with pytest.raises(StoppedError, match="stopped in test/counting; the same command goes on there"):
        command("test/counting", output=tmp_path, quiet=True)
    assert len(list(tmp_path.glob("parts/*/*.json"))) == 2


def test_one_experiment_that_cannot_run_does_not_stop_the_others(
    tmp_path: Path, put: Callable[[Experiment], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(counting([]))
    keep = {name: one for name, one in EXPERIMENTS.items() if name in ("dacunha/fig-3", "test/counting")}
    for name in set(EXPERIMENTS) - set(keep):
        monkeypatch.delitem(EXPERIMENTS, name)
    (tmp_path / "nothing").mkdir()
    result = slth("reproduce", "--all", "-o", "out", "--data", "nothing", cwd=tmp_path)
    assert result.status == 2 and (tmp_path / "out" / "report.html").exists()
    assert result.err.count("\n") == 2 and "dacunha/fig-3" in result.err and "1 of 2 experiments" in result.err
    assert "test/counting" in result.out and not (tmp_path / "out" / "dacunha").exists()
    monkeypatch.delitem(EXPERIMENTS, "test/counting")
    result = slth("reproduce", "--all", "-o", "none", "--data", "nothing", cwd=tmp_path)
    assert result.status == 2 and result.out == "" and not (tmp_path / "none").exists()


def test_the_setting_that_differs_is_named(tmp_path: Path, put: Callable[[Experiment], None]) -> None:
    put(counting([]))
    reproduce("test/counting", tmp_path)
    with pytest.raises(OutputError, match="its factor is 1, not 2"):
        reproduce("test/counting", tmp_path, settings={"factor": 2})


def test_scales_and_settings_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="quick or paper"):
        reproduce("orseau/examples", tmp_path, scale="huge")
    with pytest.raises(ArgumentError, match="width"):
        reproduce("orseau/examples", tmp_path, settings={"widths": 3})
    assert not list(tmp_path.iterdir())


def test_missing_data_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        reproduce("dacunha/fig-3", tmp_path / "out", data=tmp_path)
    said = str(caught.value)
    assert str(tmp_path) in said and "train-images-idx3-ubyte" in said and "https://" in said and "--data" in said
    assert not (tmp_path / "out").exists()


def test_data_are_found_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLTH_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for names in DATA["mnist"].files:
        (tmp_path / names[-1]).write_bytes(b"")
    assert locate("mnist") == tmp_path / "mnist"
    with pytest.raises(DataError):
        locate("mnist", tmp_path / "elsewhere")


def test_the_page_shows_every_number_and_loads_nothing(tmp_path: Path) -> None:
    reproduce("orseau/examples", tmp_path)
    reproduce("orseau/fig-2", tmp_path, settings=TINY["orseau/fig-2"])
    text = page.write(tmp_path).read_text()
    for name in ("orseau/examples", "orseau/fig-2"):
        assert name in text
    assert text.count("<img") == 1 and not re.search(r'(src|href)="(?!data:|#)', text)
    for verdict in Verdict:
        assert verdict.value in text


def test_the_markdown_has_every_comparison_with_the_paper(tmp_path: Path) -> None:
    report = reproduce("orseau/examples", tmp_path)
    text = markdown.write(tmp_path).read_text()
    compared = [one for one in report.result["comparisons"] if one["verdict"] != "not comparable"]
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 4]
    assert len(rows) == len(compared) + 1 and all(any(one["quantity"] in row for row in rows) for one in compared)
    assert "| `orseau/examples` | quick, 0 | 5 | 0 | 4 |" in text and "4 numbers without" in text


@pytest.mark.parametrize(
    ("paper", "ours", "margin", "interval", "verdict"),
    [
        (1.0, 1.0, 0.0, None, "reproduced"),
        (1.0, 1.1, 0.05, None, "differs"),
        (1.0, 1.1, 0.2, None, "reproduced"),
        (1.0, 1.1, 0.0, (0.9, 1.2), "reproduced"),
        (1.0, 1.1, 0.0, (1.05, 1.2), "differs"),
        (1.0, float("nan"), 1.0, None, "differs"),
    ],
)
def test_verdicts(paper: float, ours: float, margin: float, interval: tuple[float, float] | None, verdict: str) -> None:
    assert compare("q", paper, ours, margin=margin, interval=interval).verdict.value == verdict


def test_at_most_is_one_sided() -> None:
    assert at_most("q", 1.0, 0.1).verdict is Verdict.REPRODUCED
    worse = at_most("q", 1.0, 5.0, reason="bad luck")
    assert worse.verdict is Verdict.DIFFERS and worse.note == "5 times the paper's: bad luck"
    assert at_most("q", 1.0, float("nan")).verdict is Verdict.DIFFERS


def test_a_papers_number_is_written_in_the_digits_that_it_has() -> None:
    written = [compare("q", paper, paper).paper for paper in (5.6e-4, 0.00105, 1e-4, 2133.0, -0.02, 0.0)]
    assert written == [
        "5.6 × 10⁻⁴".replace(" ", "\u202f"),
        "0.00105",
        "1 × 10⁻⁴".replace(" ", "\u202f"),
        "2,133",
        "−0.02",
        "0",
    ]


def test_what_stands_alone_is_folded_away_and_tables_are_shown(
    tmp_path: Path, put: Callable[[Experiment], None]
) -> None:
    def compared(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
        return [compare("with <paper>", 1.0, 1.0), *(alone(f"number {k}", k, "none") for k in range(3))]

    def tables(rows: Sequence[Row]) -> list[Table]:
        return [Table("side <by> side", ("", "a"), (("line", 1234.5678), ("nothing", None)))]

    put(replace(counting([]), compare=compared, tables=tables))
    result = slth("reproduce", "test/counting", "-o", "out", cwd=tmp_path)
    assert result.status == 0 and "number 0" not in result.out
    assert "3 more numbers without a counterpart in the paper in table.csv" in result.out
    assert "side <by> side" in result.out and "1,235" in result.out
    text = (tmp_path / "out" / "report.html").read_text()
    shown, _, folded = text.partition("<summary>3 numbers without a counterpart in the paper</summary>")
    assert "with &lt;paper&gt;" in shown and "number 0" not in shown and "number 0" in folded and "1,235" in folded
    assert len((tmp_path / "out" / "test" / "counting" / "table.csv").read_text().splitlines()) == 5
    assert "| line | 1,235 |" in markdown.write(tmp_path / "out").read_text()


@pytest.mark.parametrize("scale", SCALES)
def test_figure_4_has_a_line_for_every_number_of_kept_inputs(scale: str) -> None:
    settings = EXPERIMENTS["zhang/fig-4"].scales[scale].settings
    rows: list[Row] = [
        {"kept": kept, "samples": round(kept * ratio), "trials": 100, "successes": 100 * (ratio >= 6)}
        for kept in settings["kept"]
        for ratio in settings["samples_a_weight"]
    ]
    found = zhang._compare_figure_4(rows, settings)
    assert len(found) == len(settings["kept"]) + 1
    assert [one.quantity for one in found if one.verdict is Verdict.NOT_COMPARABLE] == [
        f"samples for half of the trials to succeed: r={kept}" for kept in settings["kept"] if kept in (50, 70)
    ]


def test_intervals_are_drawn_at_their_ends() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figures.plot_estimates(axes, [1.0, 2.0], [(3.0, (2.5, 4.0)), (5.0, (5.0, 5.0))], label="both")
    (bars,) = axes.collections
    assert [path.vertices.tolist() for path in bars.get_paths()] == [[[1, 2.5], [1, 4]], [[2, 5], [2, 5]]]


def test_intervals_end_where_values_do() -> None:
    mean, (low, high) = mean_and_interval([99.0, 100.0, 20.0], within=(0, 100))
    assert mean == 73 and (low, high) == (0, 100)
    inside = mean_and_interval([40.0, 41.0], within=(0, 100))
    assert inside == mean_and_interval([40.0, 41.0]) and inside[1][0] < 40 < 41 < inside[1][1]
