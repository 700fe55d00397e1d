"""``slth bench``: answers are checked before they are timed, what is wrong is shown, and files are written whole."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import PROGRAM, slth
from slth.bench import page, plot, subset_sum, tables
from slth.bench.contenders import BASELINE, Contender, Question, Reply, all_claimed, own_contenders, solve_all
from slth.bench.judge import Verdict, judge
from slth.bench.machine import describe
from slth.bench.measure import Line, Measurement, Settings, Skipped, measure
from slth.bench.problems import BASE_SETS, Problems, draw
from slth.bench.reference import Checker, errors_of, least_errors, sizes_of, slack
from slth.bench.report import Report
from slth.bench.rivals import RIVALS
from slth.bench.runners import Apart, FailedError, OverrunError
from slth.errors import OutputError
from slth.subsetsum.problem import OBJECTIVES

TINY = Settings((6,), ("best",), ("uniform",), 0.05, 0.002, 2, 1.0, 1, 0)
WORDS = ("bench", "subset-sum", "--seconds", "0.002", "--repeats", "2", "--threads", "1", "--no-startup")


def obvious(problems: Problems, objective: str, tolerance: float) -> list[int]:
    """The best masks, by looking at every one in the plainest way."""
    masks = []
    for base, target in zip(problems.base.tolist(), problems.targets.tolist(), strict=True):
        every = []
        for mask in range(2 ** len(base)):
            error = abs(math.fsum(x for k, x in enumerate(base) if mask >> k & 1) - target)
            every.append((mask.bit_count() if objective == "sparsest" and error <= tolerance else 99, error, mask))
        masks.append(min(every)[2])
    return masks


def question(problems: Problems, objective: str = "best", tolerance: float = 0.05) -> Question:
    """One without hurry."""
    return Question(problems, objective, tolerance, 60.0, 60.0)


def fake(name: str, claimed: bool = True, **changes: Any) -> Contender:
    """A contender that never chooses anything."""

    def answer(asked: Question) -> Reply:
        n = len(asked.problems)
        return Reply(np.zeros(n, np.uint64), np.full(n, claimed), np.zeros(n, bool))

    return Contender(name, "a liar", answer, 44, apart=False, **changes)


# Problems and their optima.


@pytest.mark.parametrize("base_set", BASE_SETS)
def test_problems_are_seeded_and_the_first_of_them_are_the_same_however_many_there_are(base_set: str) -> None:
    many, few = draw(base_set, 7, 500, 3), draw(base_set, 7, 20, 3)
    assert (many.first(20).base == few.base).all() and (many.first(20).targets == few.targets).all()
    assert (draw(base_set, 7, 20, 4).base != few.base).all() and (draw(base_set, 8, 20, 3).targets != few.targets).all()
    variance = 1 / 3 if base_set == "uniform" else 1 / 9
    assert abs(many.base).max() <= 1 and many.base.var() == pytest.approx(variance, rel=0.1)
    assert abs(many.targets).max() <= 0.5 and many.targets.var() == pytest.approx(1 / 12, rel=0.2)
    tiled = few.tiled(3)
    assert len(tiled) == 60 and (tiled.base[20:40] == few.base).all() and (tiled.targets[40:] == few.targets).all()


@pytest.mark.parametrize(("objective", "m"), list(itertools.product(("best", "sparsest"), (1, 2, 5, 8))))
def test_the_reference_finds_what_looking_at_every_subset_finds(objective: str, m: int) -> None:
    problems = draw("product", m, 40, 1)
    masks = np.array(obvious(problems, objective, 0.02), np.uint64)
    errors = errors_of(problems, masks)
    found = Checker(problems, 0.02).optimum(objective, errors)
    assert found.known.all()
    assert found.errors == pytest.approx(errors, abs=slack(m))
    if objective == "sparsest":
        within = errors <= 0.02
        assert 0 < within.sum() < 40 or m < 5
        assert (found.sizes[within] == sizes_of(masks, m)[within]).all() and (found.sizes[~within] == -1).all()
    else:
        assert least_errors(problems) == pytest.approx(errors, abs=slack(m))


def test_sparsest_is_checked_where_sizes_get_long_too(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = draw("uniform", 12, 30, 0)
    masks = np.array(obvious(problems, "sparsest", 3e-4), np.uint64)
    found = Checker(problems, 3e-4).optimum("sparsest", errors_of(problems, masks))
    within = found.sizes >= 0
    assert found.known.all() and 0 < within.sum() < 30
    assert (found.sizes[within] == sizes_of(masks, 12)[within]).all()
    monkeypatch.setattr("slth.bench.reference._MOST_SUBSETS", 100)
    short = Checker(problems, 3e-4).optimum("sparsest", errors_of(problems, masks))
    assert not short.known.all() and (short.sizes[short.known] == found.sizes[short.known]).all()


# Contenders.


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", [BASELINE, "enumeration", "sort-search", "flsss", "gurobi"])
def test_every_contender_gives_the_optimum_and_says_so(name: str, objective: str) -> None:
    known = {contender.name: contender for contender in (*own_contenders(False), *RIVALS.values())}
    contender = known[name]
    if contender.missing or objective not in contender.objectives:
        pytest.skip(f"no {contender.missing}" if contender.missing else f"not for {objective}")
    for base_set, m in itertools.product(BASE_SETS, (1, 6, 13)):
        problems = draw(base_set, m, 5, 2)
        verdict = judge(problems, objective, contender.answer(question(problems, objective)), Checker(problems, 0.05))
        assert (verdict.checked, verdict.not_optimal, verdict.impossible) == (5, 0, 0)


def test_a_contender_that_needs_a_package_says_which() -> None:
    assert fake("x", packages=("json", "no_such_package_at_all")).missing == "no_such_package_at_all"
    run = measure(TINY, [fake("x", packages=("no_such_package_at_all",))])
    assert run.lines == () and run.skipped[0].reason == "no_such_package_at_all is not installed"
    assert run.skipped[0].kind == "missing"


def test_one_by_one_stops_when_its_time_is_up() -> None:
    problems = draw("uniform", 10, 300, 0)
    reply = RIVALS["enumeration"].answer(Question(problems, "best", 0.05, 0.0, 1.0))
    assert len(reply) == 1


# Verdicts.


def test_the_judge_tells_wrong_from_wrongly_called_optimal() -> None:
    problems = draw("uniform", 8, 4, 0)
    masks = np.array(obvious(problems, "best", 0.0), np.uint64)
    masks[1:3] ^= np.uint64(1)
    reply = Reply(masks, np.array([True, True, False, True]), np.zeros(4, bool))
    verdict = judge(problems, "best", reply, Checker(problems, 0.05))
    assert dataclasses.astuple(verdict)[:4] == (4, 2, 1, 0)
    assert verdict.error_factor > 1 and verdict.excess > 0


def test_sparsest_is_about_the_number_of_elements_first() -> None:
    problems = Problems(np.array([[0.5, 0.25, 0.26, 0.0]]), np.array([0.5]))
    checker = Checker(problems, 0.02)
    for mask, wrong in ((0b0001, 0), (0b0110, 1), (0b1001, 1), (0b0100, 1), (0b0000, 1)):
        assert judge(problems, "sparsest", all_claimed([mask]), checker).not_optimal == wrong, bin(mask)
    for mask, wrong in ((0b0001, 0), (0b0110, 0), (0b1001, 0), (0b0100, 1)):
        assert judge(problems, "first", all_claimed([mask]), checker).not_optimal == wrong, bin(mask)


def test_an_answer_that_beats_the_optimum_accuses_the_check() -> None:
    problems = draw("uniform", 6, 3, 0)
    checker = Checker(problems, 0.05)
    reply = all_claimed(obvious(problems, "best", 0.0))
    checker.optimum("best", np.zeros(3))
    checker.least += 0.1
    assert judge(problems, "best", reply, checker).impossible == 3


def test_where_nothing_is_within_the_tolerance_first_may_answer_anything() -> None:
    problems = Problems(np.array([[0.5, 0.25]]), np.array([-0.4]))
    assert judge(problems, "first", all_claimed([3]), Checker(problems, 0.02)).not_optimal == 0


# Measuring.


def test_a_liar_is_shown_and_not_hidden() -> None:
    settings = dataclasses.replace(TINY, objectives=("best", "sparsest"))
    own = own_contenders(False)[0]
    who = [own, fake("liar"), fake("modest", claimed=False, own=True), fake("own liar", own=True)]
    run = measure(settings, who)
    lines = {(line.contender, line.objective): line for line in run.lines}
    assert len(lines) == 8 and run.skipped == ()
    for objective in settings.objectives:
        honest, liar, modest = (lines[name, objective].verdict for name in (BASELINE, "liar", "modest"))
        assert honest is not None and liar is not None and modest is not None
        assert honest.not_optimal == 0 and honest.checked == lines[BASELINE, objective].problems
        assert liar.not_optimal == liar.false_optimal > 0.5 * liar.checked
        assert modest.not_optimal > modest.false_optimal == 0
        assert lines[BASELINE, objective].ratio == 1.0
    report = Report(settings, {}, {c.name: c.title for c in who}, frozenset({BASELINE, "modest", "own liar"}), run)
    assert {line.contender for line in report.wrong} == {"own liar"}
    assert "called optimal by their solver" in tables.summary(report)[0]
    assert any("own liar" in sentence for sentence in tables.summary(report))
    assert {row[0] for row in tables.shortfalls(report).rows} == {"`liar`", "`modest`", "`own liar`"}
    assert "wrongly called optimal" in tables.notes(lines["liar", "best"])


def test_who_fails_or_does_not_know_the_job_is_named() -> None:
    def broken(asked: Question) -> Reply:
        raise ZeroDivisionError("no")

    settings = dataclasses.replace(TINY, objectives=("best", "first"))
    who = [Contender("broken", "", broken, 44, ("best",), apart=False), fake("small")]
    who[1] = dataclasses.replace(who[1], most_elements=3)
    run = measure(settings, who)
    reasons = {(s.contender, s.objective): s.reason for s in run.skipped}
    assert reasons["broken", "best"] == "ZeroDivisionError: no"
    assert reasons["broken", "first"] == "does not know this objective"
    assert reasons["small", "best"] == "takes at most 3 elements"
    report = Report(settings, {}, {}, frozenset({"broken", "small"}), run)
    assert [(out.contender, out.objective) for out in report.failed] == [("broken", "best")]
    assert "Not measured: broken at m=6: ZeroDivisionError: no." in tables.summary(report)


def test_who_proves_nothing_in_time_is_not_asked_for_larger_sets() -> None:
    def slow(asked: Question) -> Reply:
        return Reply(np.zeros(1, np.uint64), np.zeros(1, bool), np.ones(1, bool))

    run = measure(dataclasses.replace(TINY, sizes=(6, 8)), [Contender("slow", "", slow, 44, apart=False)])
    assert [(line.m, line.cut) for line in run.lines] == [(6, 1)]
    assert [(entry.m, entry.reason) for entry in run.skipped] == [(8, "nothing proved within the time limit at m=6")]
    assert tables.notes(run.lines[0]).startswith("1 of 1 cut off")


def test_where_checking_is_dear_few_problems_are_timed_in_long_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slth.bench.reference._MOST_SUMS", 2**6)
    asked = []

    def answer(question: Question) -> Reply:
        asked.append(len(question.problems))
        return fake("quick", claimed=False).answer(question)

    who = [Contender("quick", "", answer, 44, approximate=True, apart=False)]
    run = measure(dataclasses.replace(TINY, seconds=0.1), who)
    assert run.lines[0].problems == 8 == run.lines[0].verdict.checked  # type: ignore[union-attr]
    assert asked[-1] > 8 and asked[-1] % 8 == 0


def sleeper(asked: Question) -> Reply:
    """Longer than anyone waits; found by name in another process."""
    if asked.problems.m > 3:
        time.sleep(600)
    raise RuntimeError("awake")


def test_a_process_of_its_own_is_stopped_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slth.bench.runners.GRACE_SECONDS", 0.2)
    apart = Apart(Contender("sleeper", "", sleeper, 44))
    small, large = draw("uniform", 2, 1, 0), draw("uniform", 4, 1, 0)
    try:
        with pytest.raises(OverrunError):
            apart.run(Question(large, "best", 0.1, 0.0, 0.0))
        assert apart.process is None
        monkeypatch.undo()
        with pytest.raises(FailedError, match="RuntimeError: awake"):
            apart.run(question(small))
        apart.process.kill()
        with pytest.raises(FailedError, match="its process ended"):
            apart.run(question(small))
    finally:
        apart.close()


def test_threads_are_compared_where_asked() -> None:
    run = measure(dataclasses.replace(TINY, threads=2), own_contenders(False)[:1])
    ratio = run.lines[0].thread_ratio
    assert ratio is None or ratio > 0


def test_own_solvers_answer_as_solve_does() -> None:
    problems = draw("uniform", 9, 20, 0)
    reply = solve_all(BASELINE, question(problems), threads=2)
    assert reply.selected.tolist() == obvious(problems, "best", 0.0) and reply.claimed.all()


# What is said.


def line(**changes: Any) -> Line:
    """A line of which something is to be shown."""
    verdict = Verdict(10, 0, 0, 0, 1.0, 0.0)
    return dataclasses.replace(
        Line("best", "uniform", 10, BASELINE, 10, 5, 2.5e-6, 2e-6, 1.0, 0, verdict, 1.95), **changes
    )


@pytest.fixture
def report() -> Report:
    """One of each: a good line, one cut off with an error, one that claims too much, one without an answer."""
    lines = (
        line(),
        line(m=20, median_seconds=1e-5),
        line(contender="rival", median_seconds=0.25, ratio=1e5, verdict=Verdict(10, 3, 2, 0, 1.5, 1e-3)),
        line(contender="rival", m=20, median_seconds=60.0, ratio=6e6, cut=10, verdict=Verdict(10, 9, 0, 0, 2e6, 1e-3)),
        line(contender="late", median_seconds=60.0, ratio=2.4e7, cut=1, problems=1, verdict=None),
    )
    settings = dataclasses.replace(TINY, sizes=(10, 20))
    skipped = (Skipped("best", "uniform", 20, "late", "no answer within the time limit at m=10", "slow"),)
    names = {BASELINE: "ours", "rival": "theirs", "late": "no one's"}
    return Report(settings, {"processor": "P"}, names, frozenset({BASELINE}), Measurement(lines, skipped))


def test_tables_say_time_ratio_and_error(report: Report) -> None:
    table = tables.time_tables(report)[0]
    assert table.title == "best, uniform base sets"
    assert table.markdown().splitlines() == [
        "| solver | m = 10 | m = 20 |",
        "| :-- | --: | --: |",
        "| `mitm` | 2.50 µs | 10.0 µs |",
        "| `rival` | 250 ms (100,000x) | > 60.0 s (6,000,000x) |",
        "| `late` | > 60.0 s (24,000,000x) | – |",
    ]
    assert tables.shortfalls(report).markdown().splitlines()[2:] == [
        "| `rival` | best | uniform | 1.5x (3 of 10), 2 called optimal | 2.0e+06x (9 of 10) |",
        "| `late` | best | uniform | no answer | – |",
    ]
    assert tables.thread_table(report).rows == (("best", "uniform", "1.95x", "1.95x"),)
    assert tables.summary(report) == [
        "40 answers checked. Not optimal: 12 of rival; 2 of these called optimal by their solver.",
        "Not measured: late at m=20: no answer within the time limit at m=10.",
    ]
    assert tables.full_tables(report)[0].rows[0] == ("10", "mitm", "10", "2.50 µs", "2.00 µs", "1.00x", "none", "")
    assert report.wrong == ()


def test_the_plot_is_a_png_and_names_do_not_cover_each_other(report: Report) -> None:
    assert plot.draw(report).startswith(b"\x89PNG")
    places = plot._spread([0.0, 0.01, 0.02, 5.0, 5.0, 4.0][:5], 0.5)
    assert all(b - a >= 0.5 - 1e-12 for a, b in itertools.pairwise(places))
    assert plot._spread([1.0, 2.0], 0.5) == [1.0, 2.0]


def test_a_page_keeps_what_stands_around_the_measurement(report: Report, tmp_path: Path) -> None:
    page.prepare(tmp_path / "new")
    written, picture = page.write(tmp_path / "new", report, "the command")
    assert "`the command`" in written.read_text() and picture.read_bytes().startswith(b"\x89PNG")
    written.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write(tmp_path / "new", report, "the command")
    text = written.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    page.write(tmp_path / "new", report, "the command")
    assert written.read_text() == text
    written.write_text("a page of someone else's\n")
    with pytest.raises(OutputError, match="without a place for the measurement"):
        page.prepare(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [page.PAGE, page.PICTURE]


def test_the_documentation_has_a_place_for_the_measurement() -> None:
    folder = Path(__file__).resolve().parent.parent / "docs"
    before, _ = page.split(folder / page.PAGE, "")
    assert "## Why the answers are optimal" in before


def test_the_machine_is_described_without_names_of_hosts() -> None:
    import platform

    facts = describe(["torch", "no_such_package_at_all"])
    assert facts["processor"] and "torch" in facts and "no_such_package_at_all" not in facts
    assert platform.node() not in facts.values()


# The command.


def test_command_prints_tables(tmp_path: Path) -> None:
    result = slth(*WORDS, "--sizes", "6", "--objective", "best", "--solvers", "mitm,plain", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "best, uniform base sets" in result.out and "mitm" in result.out and "answers checked, all" in result.out
    assert list(tmp_path.iterdir()) == []


def test_command_prints_one_json_object_and_writes_both_files(tmp_path: Path) -> None:
    words = ("--sizes", "6,4", "--solvers", "mitm,enumeration,sort-search", "--json", "-o", "made/here")
    result = slth(*WORDS, *words, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    value = json.loads(result.out)
    assert set(value) == {"settings", "machine", "contenders", "startup", "results", "skipped"}
    assert set(value["results"][0]) == {field.name for field in dataclasses.fields(Line)}
    assert set(value["results"][0]["verdict"]) == {field.name for field in dataclasses.fields(Verdict)}
    seen = {(entry["contender"], entry["objective"], entry["m"]) for entry in value["results"]}
    assert {(name, "best", m) for name in ("mitm", "enumeration", "sort-search") for m in (4, 6)} <= seen
    assert all(entry["verdict"]["not_optimal"] == 0 for entry in value["results"])
    assert {entry["contender"] for entry in value["skipped"]} == {"sort-search"}
    text = (tmp_path / "made" / "here" / page.PAGE).read_text()
    assert "`sort-search`" in text and "slth bench subset-sum --sizes 6,4" in text
    assert (tmp_path / "made" / "here" / page.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_a_wrong_answer_of_slths_own_ends_with_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset_sum, "own_contenders", lambda foreign: [fake("mitm", own=True)])
    result = slth(*WORDS, "--sizes", "6", "--objective", "best", "--quiet", cwd=tmp_path)
    assert result.status == 1 and result.out == ""
    assert result.err == "wrong: mitm, best, m=6, seed 0: an answer is not the optimum\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sizes", "6,x"), "error: --sizes: got 6,x; need whole numbers from 1 to"),
        (("--sizes", "99"), "error: --sizes: got 99; need whole numbers from 1 to"),
        (("--objective", "worst"), "error: --objective: got 'worst'; need names out of best, sparsest"),
        (("--base-sets", "gauss"), "error: --base-sets: got 'gauss'; need names out of uniform, product; try"),
        (("--solvers", "abacus"), "error: --solvers: got 'abacus'; need names out of mitm, "),
        (("--tolerance", "-1"), "error: --tolerance: got -1; need a number >= 0; try --tolerance 0.01"),
        (("--tolerance", "nan"), "error: --tolerance: got nan; need a number >= 0; try --tolerance 0.01"),
        (("--seconds", "0"), "error: --seconds: got 0; need seconds above 0"),
        (("--time-limit", "inf"), "error: --time-limit: got inf; need seconds above 0"),
        (("--repeats", "0"), "error: --repeats: got 0; need at least 1; try --repeats 2"),
        (("--threads", "0"), "error: --threads: got 0; need at least 1; try --threads 2"),
        (("--seed", "-1"), "error: --seed: got -1; need a whole number from 0 to 2^64 - 1"),
        (("-o", "taken/x"), "error: taken/x: got Not a directory; need a folder that can be made"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(words: tuple[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = slth("bench", "subset-sum", *words, cwd=tmp_path)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert result.err.startswith(message), result.err


def test_ctrl_c_stops_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["bench", "subset-sum", "--solvers", "enumeration", "--sizes", "20", "--seconds", "600", "-o", "made"]
    process = subprocess.Popen(
        [*PROGRAM, *words, "--no-startup"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "made").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "stopped; nothing was written\n")
    assert list((tmp_path / "made").iterdir()) == []
