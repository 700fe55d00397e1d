"""Rounds in which every contender solves the same problems in turn, after its answers have been checked."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slth.bench.contenders import BASELINE, Contender, Question, Reply, solve_all
from slth.bench.judge import Verdict, judge
from slth.bench.problems import Problems, draw
from slth.bench.reference import Checker
from slth.bench.runners import FailedError, Here, OverrunError, Runner, runner
from slth.subsetsum.schedule import count_threads

MOST_PROBLEMS = 40_000
"""In one call (chosen): what a call costs besides the problems is then below a hundredth; checking takes seconds."""
RIVAL_SHARE = 5.0
"""How much more time than slth's own solvers the others get (chosen): they are slower, and would solve one problem."""
_FEW = 16
"""Who can solve fewer problems a round than this solves as many as fit the time once instead (chosen)."""
_GROWTH = 64
_TRIES = 3

Progress = Callable[[str, int, int], Any]


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes
    ----------
    sizes, objectives, base_sets : tuples
        Every combination is measured.
    tolerance : float
        Of `sparsest` and `first`.
    seconds : float
        Of one of slth's solvers at one combination, about; others get ``RIVAL_SHARE`` times as many.
    rounds : int
    limit : float
        Seconds for one search; who proves nothing within it is not asked for larger base sets.
    threads : int
        How many to compare with one.
    seed : int
    """

    sizes: tuple[int, ...]
    objectives: tuple[str, ...]
    base_sets: tuple[str, ...]
    tolerance: float
    seconds: float
    rounds: int
    limit: float
    threads: int
    seed: int


@dataclass(frozen=True)
class Line:
    """One contender at one combination; times are seconds a problem.

    Attributes
    ----------
    problems : int
    rounds : int
        Times are of so many calls.
    median_seconds, least_seconds : float
    ratio : float or None
        Median over that of the baseline.
    cut : int
        Problems that the time limit ended; if any, the times are lower bounds.
    verdict : Verdict or None
        None where no answer came.
    thread_ratio : float or None
        Time on one thread over that on several, for the baseline.
    """

    objective: str
    base_set: str
    m: int
    contender: str
    problems: int
    rounds: int
    median_seconds: float
    least_seconds: float
    ratio: float | None
    cut: int
    verdict: Verdict | None
    thread_ratio: float | None = None


@dataclass(frozen=True)
class Skipped:
    """A contender that was not measured, and why.

    Attributes
    ----------
    kind : str
        `unfit` where it does not take such problems at all, `missing` without its package, `slow` after it met the time
        limit, `failed` if it raised an error.
    """

    objective: str
    base_set: str
    m: int
    contender: str
    reason: str
    kind: str


@dataclass(frozen=True)
class Measurement:
    """All lines, in the order measured."""

    lines: tuple[Line, ...]
    skipped: tuple[Skipped, ...]


@dataclass
class _Entry:
    """A contender in the rounds of one combination."""

    contender: Contender
    runner: Runner
    count: int
    budget: float
    verdict: Verdict | None
    cut: int
    check_seconds: float
    once: bool = False
    tiles: int = 1
    times: list[float] = field(default_factory=list)

    @property
    def taken(self) -> list[float]:
        """Seconds a problem of each round; of the checked call where there were no rounds."""
        return self.times or [self.check_seconds]


def measure(settings: Settings, contenders: Sequence[Contender], on_progress: Progress | None = None) -> Measurement:
    """Measure all contenders at all combinations.

    Parameters
    ----------
    settings : Settings
    contenders : sequence of Contender
        Where one of them is called as ``BASELINE``, ratios are to its time.
    on_progress : callable, optional
        Called with a name, combinations done, and their number.
    """
    cells = [
        (objective, base_set, m)
        for m in sorted(settings.sizes)
        for base_set in settings.base_sets
        for objective in settings.objectives
    ]
    bench = _Bench(settings)
    checkers: dict[tuple[str, int], Checker] = {}
    with contextlib.ExitStack() as stack:
        runners = [(contender, stack.enter_context(runner(contender))) for contender in contenders]
        for done, (objective, base_set, m) in enumerate(cells):
            if on_progress is not None:
                on_progress("measuring", done, len(cells))
            key = (base_set, m)
            if key not in checkers:
                checkers.clear()
                checkers[key] = Checker(draw(base_set, m, MOST_PROBLEMS, settings.seed), settings.tolerance)
            bench.cell(runners, objective, base_set, checkers[key])
        if on_progress is not None:
            on_progress("measuring", len(cells), len(cells))
    return Measurement(tuple(bench.lines), tuple(bench.skipped))


class _Bench:
    """The lines so far, and who is out of the race."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lines: list[Line] = []
        self.skipped: list[Skipped] = []
        self.stopped: dict[tuple[str, str, str], tuple[str, str]] = {}
        self.warm: set[tuple[str, str]] = set()

    def cell(self, runners: list[tuple[Contender, Runner]], objective: str, base_set: str, checker: Checker) -> None:
        """Check and time all contenders on the same problems."""
        m = checker.problems.m
        entries = []
        for contender, its_runner in runners:
            key = (contender.name, objective, base_set)
            out = _unfit(contender, objective, m) or self.stopped.get(key)
            if out is None:
                try:
                    entries.append(self._prepare(contender, its_runner, objective, checker))
                    if entries[-1].cut == entries[-1].count:
                        self.stopped[key] = f"nothing proved within the time limit at m={m}", "slow"
                except OverrunError:
                    limit = self.settings.limit
                    entries.append(_Entry(contender, its_runner, 1, 0.0, None, 1, limit, once=True))
                    self.stopped[key] = f"no answer within the time limit at m={m}", "slow"
                except FailedError as error:
                    out = self.stopped[key] = str(error), "failed"
            if out is not None:
                self.skipped.append(Skipped(objective, base_set, m, contender.name, *out))
        self._rounds(entries, objective, checker)
        threads = self._compare_threads(entries, objective, checker)
        self._write(entries, objective, base_set, m, threads)

    def _question(self, problems: Problems, objective: str, seconds: float) -> Question:
        return Question(problems, objective, self.settings.tolerance, seconds, self.settings.limit)

    def _prepare(self, contender: Contender, its_runner: Runner, objective: str, checker: Checker) -> _Entry:
        """Find out how many problems fit the time, and check the answers to all of them."""
        if contender.own or (contender.name, objective) not in self.warm:
            # Compiles, or loads libraries and licences, outside all times.
            its_runner.run(self._question(checker.problems.first(1), objective, 0.0))
            self.warm.add((contender.name, objective))
        budget = self.settings.seconds * (1.0 if contender.own else RIVAL_SHARE)
        share, count = budget / self.settings.rounds, 1
        most = min(MOST_PROBLEMS, checker.affordable if objective == "best" or contender.approximate else MOST_PROBLEMS)
        while True:
            reply, seconds = self._quickest(contender, its_runner, objective, checker.problems.first(count), budget)
            fitting = int(share * len(reply) / seconds)
            if seconds > share / 2 or count == most or len(reply) < count or reply.cut.any():
                break
            count = min(most, max(fitting, 2 * count), _GROWTH * count)
        once = contender.name != BASELINE and fitting < _FEW
        more = int(budget * len(reply) / seconds)
        if once and more > len(reply) and not reply.cut.any():
            reply, seconds = its_runner.run(self._question(checker.problems.first(more), objective, budget))
        n = len(reply)
        verdict = judge(checker.problems.first(n), objective, reply, checker)
        # Where checking is what limits the number, the same problems several times over make a batch of usual length.
        tiles = max(1, min(int(share / seconds), MOST_PROBLEMS // n)) if n == most else 1
        return _Entry(contender, its_runner, n, budget, verdict, int(reply.cut.sum()), seconds / n, once, tiles)

    def _quickest(
        self, contender: Contender, its_runner: Runner, objective: str, problems: Problems, budget: float
    ) -> tuple[Reply, float]:
        """The reply, and the least time of a few calls if the first was a slow one.

        So one disturbance, or a kernel that is compiled for as many problems, does not decide how many are measured.
        """
        share = budget / self.settings.rounds
        reply, seconds = its_runner.run(self._question(problems, objective, budget))
        tries = _TRIES if contender.own or seconds < share else 1
        for _ in range(tries - 1):
            if seconds <= share / 2:
                break
            reply, again = its_runner.run(self._question(problems, objective, budget))
            seconds = min(seconds, again)
        return reply, seconds

    def _rounds(self, entries: list[_Entry], objective: str, checker: Checker) -> None:
        """Every contender once a round, each round beginning with another one."""
        for turn in range(self.settings.rounds):
            first = turn % max(1, len(entries))
            for entry in entries[first:] + entries[:first]:
                if entry.once or entry.count * entry.tiles * sum(entry.times) > entry.budget:
                    continue
                problems = checker.problems.first(entry.count).tiled(entry.tiles)
                question = self._question(problems, objective, 4 * entry.budget)
                try:
                    reply, seconds = entry.runner.run(question)
                except (OverrunError, FailedError):
                    # What it could do a moment ago was timed then.
                    entry.once = True
                    continue
                entry.times.append(seconds / len(reply))

    def _compare_threads(self, entries: list[_Entry], objective: str, checker: Checker) -> float | None:
        """Median over the rounds of the baseline's time on one thread over its time on several."""
        entry = next((e for e in entries if e.contender.name == BASELINE), None)
        if entry is None or entry.verdict is None or not 1 < self.settings.threads <= count_threads(None):
            return None
        call_seconds = entry.count * statistics.median(entry.taken)
        problems = checker.problems.first(entry.count)
        # Long enough that every thread gets several chunks of work.
        problems = problems.tiled(max(1, round(2 * entry.budget / self.settings.rounds / call_seconds)))
        question = self._question(problems, objective, 4 * entry.budget)
        ratios = []
        for _ in range(self.settings.rounds):
            seconds = [Here(_threaded(entry.contender, n)).run(question)[1] for n in (1, self.settings.threads)]
            ratios.append(seconds[0] / seconds[1])
        return statistics.median(ratios)

    def _write(self, entries: list[_Entry], objective: str, base_set: str, m: int, thread_ratio: float | None) -> None:
        medians = {entry.contender.name: statistics.median(entry.taken) for entry in entries}
        baseline = medians.get(BASELINE)
        for entry in entries:
            median = medians[entry.contender.name]
            self.lines.append(
                Line(
                    objective,
                    base_set,
                    m,
                    entry.contender.name,
                    entry.count,
                    len(entry.taken),
                    median,
                    min(entry.taken),
                    None if baseline is None else median / baseline,
                    entry.cut,
                    entry.verdict,
                    thread_ratio if entry.contender.name == BASELINE else None,
                )
            )


def _unfit(contender: Contender, objective: str, m: int) -> tuple[str, str] | None:
    """Why it is not even asked, and the kind of reason."""
    if objective not in contender.objectives:
        return "does not know this objective", "unfit"
    if m > contender.most_elements:
        return f"takes at most {contender.most_elements} elements", "unfit"
    return (f"{contender.missing} is not installed", "missing") if contender.missing else None


def _threaded(contender: Contender, threads: int) -> Contender:
    def answer(question: Question) -> Reply:
        return solve_all(contender.name, question, threads)

    return Contender(contender.name, contender.title, answer, contender.most_elements, apart=False)
