"""Base-set sizes by measurement: the covering test against looking everywhere, counts, intervals, cache, command."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from command_line import PROGRAM, slth
from slth.calibration import covering, sizes, store
from slth.calibration.confidence import fewest_draws, interval
from slth.calibration.covering import covers
from slth.calibration.elements import MOST_ELEMENTS, PRODUCTS, ElementLaw, parse_elements, targets
from slth.calibration.sizes import Question, calibrate, counts, default_draws
from slth.errors import ArgumentError
from slth.source.distributions import Uniform

FAST = Question(ElementLaw(Uniform()), eps=0.1, delta=0.1, draws=100)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slth" / "calibration"


def every_sum(elements: NDArray[np.float64]) -> NDArray[np.float64]:
    """All subset sums, sorted."""
    sums = np.zeros(1)
    for element in elements:
        sums = np.concatenate([sums, sums + element])
    return np.sort(sums)


def covering_radius(elements: NDArray[np.float64], reach: float) -> float:
    """The least eps: the distance of the worst z, which is an end or half way between two sums."""
    sums = every_sum(elements)
    middles = (sums[1:] + sums[:-1]) / 2
    z = np.concatenate([[-reach, reach], middles[np.abs(middles) <= reach]])
    return float(max(np.abs(sums - one).min() for one in z) if z.size < 5000 else _nearest(sums, z).max())


def _nearest(sums: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    right = np.clip(np.searchsorted(sums, z), 1, sums.size - 1)
    return np.minimum(np.abs(sums[right] - z), np.abs(sums[right - 1] - z))


# Covering.


@pytest.mark.parametrize("name", ["uniform", "product", "half-product", "normal", "hyperbolic-product", "grid:5"])
def test_an_interval_is_covered_from_its_covering_radius_on(name: str) -> None:
    law = parse_elements(name)
    base = law.draw(3, 0, 120)
    for draw, elements in enumerate(base):
        m, reach = 1 + draw % 16, (1.0, 0.3, 2.5)[draw % 3]
        radius = covering_radius(elements[:m], reach)
        if radius < 1e-6 * reach:
            continue
        assert covers(elements[:m], radius * (1 + 1e-9), reach)
        assert not covers(elements[:m], radius * (1 - 1e-9), reach)


@given(st.lists(st.integers(-8, 8), max_size=9), st.integers(1, 12), st.integers(1, 12))
def test_whole_numbers_are_covered_where_every_point_is(values: list[int], eps: int, reach: int) -> None:
    """Sums, ends and gaps of whole numbers are exact, so that ties count: within eps includes eps."""
    sums = {sum(chosen) for n in range(len(values) + 1) for chosen in itertools.combinations(values, n)}
    points = [k / 2 for k in range(-2 * reach, 2 * reach + 1)]
    expected = all(min(abs(z - total) for total in sums) <= eps for z in points)
    assert covers(np.array(values, dtype=np.float64), float(eps), float(reach)) == expected


def test_many_elements_are_dealt_in_slices_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    base = parse_elements("uniform").draw(5, 0, 60)[:, :17]
    radii = [covering_radius(elements, 1.0) for elements in base]
    whole = [covers(elements, 0.0007) for elements in base]
    assert whole == [radius <= 0.0007 for radius in radii] and 5 < sum(whole) < 55
    monkeypatch.setattr(covering, "_SLICE", 3)
    monkeypatch.setattr(covering, "_SORTED", 4)
    assert [covers(elements, 0.0007) for elements in base] == whole


def test_what_few_or_one_sided_elements_cannot_cover() -> None:
    assert not covers(np.zeros(0), 0.5) and covers(np.zeros(0), 1.0)
    assert not covers(np.zeros(40), 0.99) and not covers(np.full(20, 0.1), 0.9)
    assert covers(np.array([-1.0, 1.0, *np.zeros(40)]), 0.5)


def test_memory_does_not_grow_with_the_elements() -> None:
    """2^30 sums would be 8 GB; those of one sign of tiny elements are skipped at once, others stop early."""
    elements = parse_elements("uniform").draw(1, 0, 1)[0, :30]
    begin = time.perf_counter()
    assert covers(elements, 1e-4) and time.perf_counter() - begin < 5


# Elements and intervals.


def test_base_sets_are_nested_seeded_and_independent_of_their_number() -> None:
    law = parse_elements("product")
    many, few = law.draw(9, 0, 40), law.draw(9, 25, 5)
    assert many.shape == (40, MOST_ELEMENTS) and (many[25:30] == few).all()
    assert (law.draw(10, 0, 5) != many[:5]).all()
    first, second = parse_elements("uniform").draw(9, 0, 40), parse_elements("half-product").draw(9, 0, 40)
    np.testing.assert_array_equal(np.where(second != 0, many, 0), second)
    assert abs(np.corrcoef(first.ravel(), (many / first).ravel())[0, 1]) < 0.1
    assert abs(targets(9, 4000).mean()) < 0.05 and abs(targets(9, 4000)).max() > 0.99


@pytest.mark.parametrize("name", [*PRODUCTS, "uniform", "normal*hyperbolic:0.01:1+", "grid:16*uniform"])
def test_a_law_of_elements_is_named_as_it_is_parsed(name: str) -> None:
    assert parse_elements(name).label == name
    assert parse_elements(PRODUCTS.get(name, name)) == parse_elements(name)


def test_products_contain_the_uniforms_of_theory() -> None:
    """C6: ln2/2 and ln2/4 at a = 1/2; the best share of U V is 1/e."""
    for name, part in (("product", 1.0), ("half-product", 0.5)):
        law = parse_elements(name)
        half, best = law.containment(0.5), law.containment()
        assert half is not None and half.density == pytest.approx(part * math.log(2) / 2)
        assert best is not None and best.share == pytest.approx(part / math.e)
        assert law.containment(1.0) is None
        counted, edges = np.histogram(law.draw(0, 0, 8000), np.linspace(-0.5, 0.5, 21))
        expected = half.density * np.diff(edges) * 8000 * MOST_ELEMENTS
        assert (counted > expected - 5 * np.sqrt(expected)).all()
    assert parse_elements("normal").containment() is not None
    assert parse_elements("normal-product").containment() is None


@pytest.mark.parametrize(("successes", "draws"), [(0, 50), (1, 50), (30, 50), (49, 50), (50, 50), (1980, 2000)])
def test_intervals_are_clopper_and_pearsons(successes: int, draws: int) -> None:
    """The ends are where as many successes, or as few, have probability 2.5 %."""
    low, high = interval(successes, draws)
    assert 0 <= low <= successes / draws <= high <= 1
    if successes:
        assert binom.sf(successes - 1, draws, low) == pytest.approx(0.025)
    if successes < draws:
        assert binom.cdf(successes, draws, high) == pytest.approx(0.025)


@given(st.floats(1e-4, 0.9))
def test_the_fewest_draws_are_just_enough(delta: float) -> None:
    n = fewest_draws(delta)
    assert interval(n, n)[0] >= 1 - delta - 1e-12
    assert n == 1 or interval(n - 1, n - 1)[0] < 1 - delta
    assert default_draws(delta) > n


# Calibration against counting, and against theory.md.


def test_all_targets_are_counted_as_by_looking_everywhere() -> None:
    question = replace(FAST, eps=0.05, reach=0.8, largest=11, elements=parse_elements("product"))
    base = question.elements.draw(0, 0, 100)
    for count in counts(question):
        radii = [covering_radius(elements[: count.m], 0.8) for elements in base]
        assert count.successes == sum(radius <= 0.05 for radius in radii)
        assert (count.low, count.high) == interval(count.successes, 100)


@pytest.mark.parametrize("target", [None, -0.4])
def test_one_target_is_counted_as_by_looking_at_every_subset(target: float | None) -> None:
    question = replace(FAST, targets="one", target=target, reach=0.5, eps=0.004, largest=10)
    question = replace(question, elements=parse_elements("half-product"))
    base, z = question.elements.draw(0, 0, 100), np.full(100, target) if target else targets(0, 100) * 0.5
    for count in counts(question, threads=1):
        errors = [np.abs(every_sum(row[: count.m]) - one).min() for row, one in zip(base, z, strict=True)]
        assert count.successes == sum(error <= 0.004 for error in errors)
    assert 10 < count.successes < 90


def test_the_size_found_is_the_first_that_is_shown_to_suffice() -> None:
    found = calibrate(FAST)
    assert found.size == found.counts[-1].m == len(found.counts)
    assert found.counts[-1].low >= 0.9 > found.counts[-2].low
    assert [count.successes for count in found.counts] == sorted(count.successes for count in found.counts)
    assert calibrate(replace(FAST, largest=5)).size is None
    assert calibrate(FAST) == found and calibrate(replace(FAST, seed=1)).counts != found.counts


TABLE = {
    "uniform": [".95/.21/.00", ".99/.90/.16", "1/.98/.82", "1/1/.98"],
    "product": [".38/.04/.00", ".79/.64/.08", ".85/.79/.53", ".97/.97/.88"],
    "half-product": [".03/.00/.00", ".11/.01/.00", ".18/.02/.00", ".33/.17/.02"],
    "normal": [".90/.09/.00", "1/.94/.07", "1/.99/.71", "1/1/1"],
}
"""theory.md 0.1, all targets: m = 10, 14, 16, 20; eps = .1/.01/.001."""

SINGLE = {
    "uniform": {10: ".07/.56", 15: ".003/.03", 20: ".003/.005"},
    "product": {10: ".15/.56", 15: ".03/.04", 20: ".008/.008"},
    "half-product": {20: ".22/.51", 30: ".03/.11"},
}
"""theory.md 0.1, one random target, probability of a miss: eps = .01/.001."""


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_all_targets_comes_out(name: str) -> None:
    """To four standard deviations, if the table is from 100 draws (it fits no more than that)."""
    draws = 400
    for column, eps in enumerate((0.1, 0.01, 0.001)):
        question = Question(parse_elements(name), eps, 0.05, draws=draws, largest=20)
        seen = {count.m: count.successes / draws for count in counts(question)}
        for m, row in zip((10, 14, 16, 20), TABLE[name], strict=True):
            stated = float(row.split("/")[column])
            spread = (max(stated * (1 - stated), seen[m] * (1 - seen[m]), 0.01) * (1 / draws + 1 / 100)) ** 0.5
            assert seen[m] == pytest.approx(stated, abs=4 * spread), (m, eps)


@pytest.mark.parametrize("name", SINGLE)
def test_the_numbers_for_one_target_come_out(name: str) -> None:
    """To four standard deviations; every number stated is a multiple of 1/400, as if from 400 draws."""
    draws = 4000
    for column, eps in enumerate((0.01, 0.001)):
        law = parse_elements(name)
        question = Question(law, eps, 0.05, "one", draws=draws, largest=max(SINGLE[name]))
        missed = {count.m: 1 - count.successes / draws for count in counts(question, threads=1)}
        for m, row in SINGLE[name].items():
            stated = float(row.split("/")[column])
            spread = (max(stated, missed[m]) * (1 / draws + 1 / 400)) ** 0.5
            assert missed[m] == pytest.approx(stated, abs=4 * spread), (m, eps)


# Cache.


def test_an_answer_is_read_back_and_an_other_question_is_not_answered_by_it(own_cache: Path) -> None:
    found = calibrate(FAST)
    assert store.load(FAST) is None
    store.save(found)
    assert store.folder() == own_cache and len(list(own_cache.iterdir())) == 1
    again = store.load(FAST)
    assert again == replace(found, cached=True)
    changes: list[dict[str, Any]] = [{"eps": 0.11}, {"delta": 0.11}, {"seed": 1}, {"draws": 101}, {"largest": 25}]
    changes += [{"reach": 1.1}, {"targets": "one"}, {"elements": parse_elements("normal")}]
    assert all(store.load(replace(FAST, **change)) is None for change in changes)


def test_another_version_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(calibrate(FAST))
    monkeypatch.setattr(store, "__version__", "99")
    assert store.load(FAST) is None


def test_a_damaged_answer_is_worked_out_again(own_cache: Path) -> None:
    found = calibrate(FAST)
    store.save(found)
    (path,) = own_cache.iterdir()
    good = json.loads(path.read_text())
    for successes in ([], [1.5], ["1"], [True], [-1], [101], [5, 4], [100] * 20, None, 7, [0], [0, 0, {}]):
        path.write_text(json.dumps({**good, "successes": successes}))
        assert store.load(FAST) is None, successes
    for text in ("", "{", "[]", "null", "{}", "[" * 100_000, json.dumps({**good, "key": {}})):
        path.write_text(text)
        assert store.load(FAST) is None, text[:10]
    path.write_bytes(b"\xff\xfe")
    assert store.load(FAST) is None
    store.save(found)
    assert store.load(FAST) is not None


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    store.save(calibrate(FAST))
    assert store.load(FAST) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".cache" / "slth" / "calibration"


# The command.

WORDS = ("calibrate", "--distribution", "uniform,half-product", "--eps", "0.1", "--delta", "0.1", "--draws", "100")


def test_the_command_prints_a_table_and_the_same_from_the_cache(tmp_path: Path, own_cache: Path) -> None:
    first = slth(*WORDS, cwd=tmp_path)
    assert (first.status, first.err) == (0, "")
    assert "half-product" in first.out and "95 % interval" in first.out and "every number from -1 to 1" in first.out
    assert len(list(own_cache.iterdir())) == 2
    assert slth(*WORDS, cwd=tmp_path).out == first.out
    result = json.loads(slth(*WORDS, "--json", cwd=tmp_path).out)["calibrations"]
    assert [one["cached"] for one in result] == [True, True]
    assert [one["distribution"] for one in result] == ["uniform", "half-product"]
    assert result[0]["size"] == calibrate(FAST).size < result[1]["size"]
    fresh = json.loads(slth(*WORDS, "--json", "--no-cache", cwd=tmp_path).out)["calibrations"]
    assert [one["cached"] for one in fresh] == [False, False]
    assert [one["counts"] for one in fresh] == [one["counts"] for one in result]


def test_one_target_needs_no_more_than_all(tmp_path: Path) -> None:
    words = ("calibrate", "--distribution", "product", "--delta", "0.1", "--draws", "200", "--no-cache", "--json")
    found = {kind: json.loads(slth(*words, *given, cwd=tmp_path).out)["calibrations"][0]["size"] for kind, given in {
        "all": ("--eps", "0.05"),
        "one": ("--eps", "0.05", "--targets", "one"),
        "fixed": ("--eps", "0.05", "--targets", "one", "--target", "0.3"),
        "less": ("--eps", "0.05", "--reach", "0.5"),
    }.items()}  # fmt: skip
    assert found["one"] <= found["all"] and found["fixed"] <= found["all"] and found["less"] <= found["all"]


def test_a_size_that_does_not_suffice_is_said_and_fails(tmp_path: Path) -> None:
    result = slth(*WORDS, "--largest", "8", "--quiet", cwd=tmp_path)
    assert result.status == 1 and result.out == ""
    assert "uniform: 8 elements reach" in result.err and "--largest" in result.err
    assert "> 8" in slth(*WORDS, "--largest", "8", cwd=tmp_path).out


def test_its_help_fits_a_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = slth("calibrate", "--help", cwd=tmp_path).out.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80
    assert "..." not in "".join(lines[2:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--distribution", "gauss"), ("--distribution", "'gauss'", "half-product")),
        (("--distribution", "uniform,"), ("--distribution", "''")),
        (("--distribution", "normal*gauss"), ("--distribution", "'normal*gauss'")),
        (("--distribution", "hyperbolic:2:1"), ("--distribution", "alpha < beta")),
        (("--eps", "0"), ("--eps", "got 0")),
        (("--eps", "nan"), ("--eps", "nan")),
        (("--eps", "1e-9"), ("--eps", "1e-09", "at least 1e-06")),
        (("--delta", "1"), ("--delta", "got 1")),
        (("--delta", "0"), ("--delta", "got 0")),
        (("--delta", "0.01", "--draws", "100"), ("--draws", "at least 368", "--draws 2000")),
        (("--targets", "some"), ("--targets", "'some'")),
        (("--target", "0.5"), ("--target", "one target")),
        (("--targets", "one", "--target", "1.5"), ("--target", "1.5")),
        (("--reach", "-1"), ("--reach", "-1")),
        (("--seed", "-1"), ("--seed", "-1")),
        (("--largest", "0"), ("--largest", "got 0")),
        (("--largest", "33"), ("--largest", "from 1 to 32")),
        (("--threads", "0"), ("--threads", "got 0")),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    result = slth("calibrate", *words, cwd=tmp_path)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert all(part in result.err for part in said), result.err


def test_errors_are_argument_errors_in_python_too() -> None:
    with pytest.raises(ArgumentError, match="need"):
        replace(FAST, draws=3)
    assert sizes.largest_size(parse_elements("half-product"), "all") == 64


def test_ctrl_c_stops_it_with_one_line(tmp_path: Path) -> None:
    words = ["--debug", "calibrate", "--distribution", "hyperbolic", "--eps", "1e-6", "--largest", "32"]
    process = subprocess.Popen(
        [*PROGRAM, *words, "--threads", "1"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # It says when it has begun: how long Python takes to start depends on what else the machine does.
    assert process.stderr is not None and "drawing" in process.stderr.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "stopped; nothing was written\n")
