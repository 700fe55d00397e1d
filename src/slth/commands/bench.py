"""slth bench: times slth's parts against what others use, after checking the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slth.commands.options import Json, Quiet, check_seed
from slth.commands.screen import print_json, print_table, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from slth.bench.contenders import Contender
    from slth.bench.measure import Settings
    from slth.bench.report import Report
    from slth.bench.tables import Table

bench = typer.Typer(
    help="Time slth against what others use; every answer checked first.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@bench.command("subset-sum")
def subset_sum(
    sizes: Annotated[str, typer.Option(metavar="M,M", help="Elements of the base sets.")] = "10,15,20,24,30",
    objective: Annotated[
        str, typer.Option(metavar="GOAL,GOAL", help="Of best, sparsest, first. Default: all.", show_default=False)
    ] = "",
    base_sets: Annotated[str, typer.Option(metavar="LAW,LAW", help="Of uniform, product.")] = "uniform",
    tolerance: Annotated[float, typer.Option(metavar="T", help="Of sparsest and first.")] = 0.01,
    rivals: Annotated[bool, typer.Option("--rivals/--no-rivals", help="Also what others use. Minutes.")] = False,
    solvers: Annotated[str, typer.Option(metavar="NAME,NAME", help="Only these solvers and rivals.")] = "",
    seconds: Annotated[float, typer.Option(metavar="S", help="A solver at a size; rivals get five times this.")] = 0.1,
    repeats: Annotated[int, typer.Option(metavar="N", help="Rounds of which the median is taken.")] = 5,
    time_limit: Annotated[float, typer.Option(metavar="S", help="Of a search that has such a limit.")] = 10.0,
    threads: Annotated[int, typer.Option(metavar="N", help="To compare with one; 1 for no comparison.")] = 2,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the problems.")] = 0,
    startup: Annotated[bool, typer.Option("--startup/--no-startup", help="Also compile and start times.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="For subset-sum.md and subset-sum.png.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Time the subset-sum solvers on random problems, after checking their answers."""
    from slth.bench import page
    from slth.bench.measure import Settings
    from slth.bench.problems import BASE_SETS
    from slth.bench.subset_sum import run
    from slth.subsetsum.problem import OBJECTIVES

    settings = Settings(
        sizes=_sizes(sizes),
        objectives=_names("--objective", objective or ",".join(OBJECTIVES), OBJECTIVES),
        base_sets=_names("--base-sets", base_sets, BASE_SETS),
        tolerance=tolerance,
        seconds=seconds,
        rounds=repeats,
        limit=time_limit,
        threads=threads,
        seed=seed,
    )
    _check(settings)
    who = _contenders(rivals, solvers)
    if output is not None:
        page.prepare(output)
    with progress_bar(not quiet) as bar:
        report = run(settings, who, startup, bar.update)
    written = [] if output is None else page.write(output, report, _command(settings, rivals, solvers))
    if json:
        print_json(report.to_json())
    elif not quiet:
        _show(report, written)
    for line in report.wrong:
        said = f"wrong: {line.contender}, {line.objective}, m={line.m}, seed {seed}: an answer is not the optimum"
        typer.echo(said, err=True)
    for out in report.failed:
        typer.echo(f"failed: {out.contender}, {out.objective}, m={out.m}, seed {seed}: {out.reason}", err=True)
    return 1 if report.wrong or report.failed else 0


def _sizes(text: str) -> tuple[int, ...]:
    from slth.subsetsum.problem import MAX_ELEMENTS

    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or max(sizes) > MAX_ELEMENTS:
        raise ArgumentError("--sizes", text, f"whole numbers from 1 to {MAX_ELEMENTS}", "--sizes 10,20,30")
    return sizes


def _names(where: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise ArgumentError(where, repr(name), f"names out of {', '.join(known)}", f"{where} {known[0]}")
    return names


def _check(settings: Settings) -> None:
    check_seed(settings.seed)
    if not 0.0 <= settings.tolerance < float("inf"):
        raise ArgumentError("--tolerance", f"{settings.tolerance:g}", "a number >= 0", "--tolerance 0.01")
    for where, value in (("--seconds", settings.seconds), ("--time-limit", settings.limit)):
        if not 0.0 < value <= 86400.0:
            raise ArgumentError(where, f"{value:g}", "seconds above 0, at most a day", f"{where} 1")
    for where, number in (("--repeats", settings.rounds), ("--threads", settings.threads)):
        if number < 1:
            raise ArgumentError(where, str(number), "at least 1", f"{where} 2")


def _contenders(rivals: bool, solvers: str) -> list[Contender]:
    from slth.bench.subset_sum import contenders

    if not solvers:
        return contenders(rivals)
    known = [contender.name for contender in contenders(True)]
    return contenders(True, _names("--solvers", solvers, known))


def _command(settings: Settings, rivals: bool, solvers: str) -> str:
    """The command that repeats this."""
    words = [
        "slth bench subset-sum",
        f"--sizes {','.join(map(str, settings.sizes))}",
        f"--objective {','.join(settings.objectives)}",
        f"--base-sets {','.join(settings.base_sets)}",
        f"--tolerance {settings.tolerance:g}",
        f"--seconds {settings.seconds:g}",
        f"--repeats {settings.rounds}",
        f"--time-limit {settings.limit:g}",
        f"--seed {settings.seed}",
    ]
    return " ".join([*words, *(["--rivals"] if rivals else []), *([f"--solvers {solvers}"] if solvers else [])])


def _show(report: Report, written: Sequence[Path]) -> None:
    from slth.bench import tables

    typer.echo(", ".join(f"{name}: {value}" for name, value in report.machine.items()))
    for table in (*tables.full_tables(report), tables.thread_table(report), tables.startup_table(report)):
        if table.rows:
            typer.echo(f"\n{table.title.replace('`', '')}")
            print_table(_rich(table), [])
    for sentence in tables.summary(report):
        typer.echo(sentence)
    if written:
        typer.echo(f"in {' and '.join(str(path) for path in written)}")


def _rich(table: Table) -> RichTable:
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(table.columns):
        made.add_column(column, justify="left" if k < table.left or not column else "right")
    for row in table.rows:
        made.add_row(*map(escape, row))
    return made
