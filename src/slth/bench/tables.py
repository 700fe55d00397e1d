"""The measurement in words: tables of text, which a terminal and a Markdown page show in their own ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slth.bench.contenders import BASELINE
from slth.bench.measure import Line
from slth.bench.report import Report

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Cells of text under a title; all columns but the first ``left`` ones are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def markdown(self) -> str:
        """As a table of GitHub's Markdown, without the title."""
        rules = [":--" if k < self.left else "--:" for k in range(len(self.columns))]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.columns, rules, *self.rows))


def time_text(seconds: float, at_least: bool = False) -> str:
    """A time with three digits in the unit that suits it.

    Examples
    --------
    >>> time_text(1.5e-7), time_text(0.01234), time_text(60.0, at_least=True)
    ('0.150 µs', '12.3 ms', '> 60.0 s')
    """
    # What rounds to 1,000 belongs to the next unit.
    scale, unit = next((s, u) for s, u in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")) if seconds * s < 999.5 or u == "s")
    value = seconds * scale
    digits = 3 if value < 0.9995 else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{'> ' if at_least else ''}{value:,.{digits}f} {unit}"


def ratio_text(ratio: float | None, at_least: bool = False) -> str:
    """How many times as long.

    Examples
    --------
    >>> ratio_text(0.5), ratio_text(12345.6), ratio_text(None)
    ('0.50x', '12,346x', '–')
    """
    if ratio is None:
        return NOTHING
    return f"{'> ' if at_least else ''}{ratio:,.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}x"


def error_text(line: Line) -> str:
    """How the answers compare with the optimum."""
    verdict = line.verdict
    if verdict is None:
        return "no answer"
    if verdict.impossible:
        return f"{verdict.impossible:,} better than the check's optimum"
    if not verdict.not_optimal:
        return "none" if line.objective != "first" else "in tolerance"
    factor = verdict.error_factor
    shown = f"{factor:.3g}" if factor < 1e3 else f"{factor:,.0f}" if factor < 1e6 else f"{factor:.1e}"
    return f"{shown}x ({_part(verdict.not_optimal, verdict.checked)})"


def _part(count: int, whole: int) -> str:
    return "all" if count == whole > 1 else f"{count:,} of {whole:,}"


def notes(line: Line) -> str:
    """What else must be known of a line."""
    said = []
    if line.verdict is not None and line.verdict.false_optimal:
        said.append(f"{line.verdict.false_optimal:,} wrongly called optimal")
    if line.cut:
        said.append(f"{_part(line.cut, line.problems)} cut off")
    if line.verdict is not None and line.verdict.checked < line.problems:
        said.append(f"{line.problems - line.verdict.checked:,} unchecked")
    return ", ".join(said)


def groups(report: Report) -> list[tuple[str, str, list[Line]]]:
    """Objective, base set, and the lines of both."""
    lines = report.measurement.lines
    return [
        (objective, base_set, chosen)
        for base_set in report.settings.base_sets
        for objective in report.settings.objectives
        if (chosen := [line for line in lines if (line.objective, line.base_set) == (objective, base_set)])
    ]


def heading(report: Report, objective: str, base_set: str) -> str:
    """What a group of lines is about."""
    within = "" if objective == "best" else f" within {report.settings.tolerance:g}"
    return f"{objective}{within}, {base_set} base sets"


def full_tables(report: Report) -> list[Table]:
    """One a group, with one row a line: everything but the times of single rounds."""
    columns = ("m", "solver", "problems", "median", "least", "ratio", "error", "")
    made = []
    for objective, base_set, lines in groups(report):
        rows = tuple(
            (
                str(line.m),
                line.contender,
                f"{line.problems:,}",
                time_text(line.median_seconds, bool(line.cut)),
                time_text(line.least_seconds, bool(line.cut)),
                ratio_text(line.ratio, bool(line.cut)),
                error_text(line),
                notes(line),
            )
            for line in lines
        )
        made.append(Table(heading(report, objective, base_set), columns, rows, 2))
    return made


def time_tables(report: Report) -> list[Table]:
    """One a group: solvers down, sizes across, the median time a problem and its ratio to the baseline's."""
    made = []
    for objective, base_set, lines in groups(report):
        sizes = sorted({line.m for line in lines})
        cells = {(line.contender, line.m): _cell(line) for line in lines}
        rows = tuple(
            (f"`{name}`", *(cells.get((name, m), NOTHING) for m in sizes))
            for name in report.contenders
            if any((name, m) in cells for m in sizes)
        )
        columns = ("solver", *(f"m = {m}" for m in sizes))
        made.append(Table(heading(report, objective, base_set), columns, rows))
    return made


def _cell(line: Line) -> str:
    time = time_text(line.median_seconds, bool(line.cut))
    if line.contender == BASELINE or line.ratio is None:
        return time
    return f"{time} ({ratio_text(line.ratio)})"


def shortfalls(report: Report) -> Table:
    """Where answers are not optimal: by how much in the median, in how many, and how many are called optimal."""
    lines = [line for line in report.measurement.lines if line.verdict is None or _bad(line)]
    sizes = sorted({line.m for line in lines})
    cells = {(line.contender, line.objective, line.base_set, line.m): _shortfall(line) for line in lines}
    rows = tuple(
        (f"`{name}`", objective, base_set, *(cells.get((name, objective, base_set, m), NOTHING) for m in sizes))
        for name in report.contenders
        for objective in report.settings.objectives
        for base_set in report.settings.base_sets
        if any((name, objective, base_set, m) in cells for m in sizes)
    )
    title = "Median error over the least possible one, where answers are not optimal (of how many)"
    return Table(title, ("solver", "objective", "base sets", *(f"m = {m}" for m in sizes)), rows, 3)


def _bad(line: Line) -> bool:
    return line.verdict is not None and bool(line.verdict.not_optimal or line.verdict.impossible)


def _shortfall(line: Line) -> str:
    false = 0 if line.verdict is None else line.verdict.false_optimal
    return error_text(line) + (f", {false:,} called optimal" if false else "")


def thread_table(report: Report) -> Table:
    """How much faster the baseline is on several threads."""
    found = [(o, b, {line.m: line for line in lines if line.thread_ratio}) for o, b, lines in groups(report)]
    sizes = sorted({m for _, _, lines in found for m in lines})
    rows = tuple(
        (o, b, *(ratio_text(lines[m].thread_ratio) if m in lines else NOTHING for m in sizes))
        for o, b, lines in found
        if lines
    )
    title = f"One thread's time over that of {report.settings.threads} threads, `{BASELINE}`"
    return Table(title, ("objective", "base sets", *(f"m = {m}" for m in sizes)), rows, 2)


def startup_table(report: Report) -> Table:
    """What the first call costs."""
    rows = tuple(
        (
            startup.objective,
            time_text(startup.compile_seconds),
            time_text(startup.cached_seconds),
            time_text(startup.library_seconds),
        )
        for startup in report.startups
    )
    columns = ("objective", "first call ever", "first call later", "numpy and numba before it")
    return Table("Import of the solver and first call, in a new process", columns, rows)


def summary(report: Report) -> list[str]:
    """Sentences on what was checked, what is wrong and what was left out."""
    judged = [(line.contender, line.verdict) for line in report.measurement.lines if line.verdict is not None]
    checked, bad = sum(v.checked for _, v in judged), dict.fromkeys(report.contenders, 0)
    for name, verdict in judged:
        bad[name] += verdict.not_optimal
    said = [f"{checked:,} answers checked, all of them what was asked for."]
    if any(bad.values()):
        whose = ", ".join(f"{count:,} of {name}" for name, count in bad.items() if count)
        false = sum(v.false_optimal for _, v in judged)
        said = [
            f"{checked:,} answers checked. Not optimal: {whose}; {false:,} of these called optimal by their solver."
        ]
    said += [f"Wrong: {line.contender}, {line.objective}, m={line.m}: {error_text(line)}." for line in report.wrong]
    return said + _left_out(report)


def _left_out(report: Report) -> list[str]:
    reasons: dict[tuple[str, str], set[int]] = {}
    for entry in report.measurement.skipped:
        # What a solver does not take by its nature shows in the table as a gap.
        if entry.kind != "unfit":
            reasons.setdefault((entry.contender, entry.reason), set()).add(entry.m)
    return [f"Not measured: {name} at m={_list(sizes)}: {reason}." for (name, reason), sizes in reasons.items()]


def _list(sizes: Sequence[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(sizes)))
