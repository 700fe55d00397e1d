"""slth reproduce: the papers' tables and figures, each number beside the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slth.commands.options import Json, Quiet, Threads, check_seed, set_threads
from slth.commands.screen import print_json, print_table, progress_bar
from slth.errors import ArgumentError, SlthError, StoppedError

if TYPE_CHECKING:
    from slth.reproduce.perform import Report


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the list that no name prints.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All experiments.")] = False,
    scale: Annotated[str, typer.Option(metavar="SCALE", help="quick, or as large as the paper's.")] = "quick",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="For all results.")] = Path(
        "reproduced"
    ),
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="That holds mnist/, fashion-mnist/, networks/.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Throw away the results that are there.")] = False,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the first draw.")] = 0,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a table or figure of the papers; or list them all."""
    from slth.reproduce.registry import EXPERIMENTS, find

    if every and name:
        raise ArgumentError("NAME", f"{name!r} and --all", "one of them", "leave one out")
    if not every and not name:
        _list(json)
        return
    names = list(EXPERIMENTS) if every else [find(name).name]
    check_seed(seed)
    set_threads(threads)
    from slth.reproduce import markdown, page
    from slth.reproduce.perform import reproduce as perform

    reports: list[Report] = []
    failed: list[str] = []
    for each in names:
        try:
            with progress_bar(not quiet) as bar:
                found = perform(
                    each, output, scale=scale, seed=seed, data=data, again=again,
                    progress=lambda what, done, total, each=each: bar.update(f"{each}, {what}", done, total),  # type: ignore[misc]
                )  # fmt: skip
        except SlthError as error:
            if not every:
                raise
            typer.echo(f"error: {each}: {error}", err=True)
            failed.append(each)
            continue
        except KeyboardInterrupt:
            raise StoppedError(f"stopped in {each}; the same command goes on there") from None
        reports.append(found)
        if not json and not quiet:
            _show(found)
    if not reports:
        raise ArgumentError("--all", "no experiment that could be run", "what the errors above name")
    path = page.write(output)
    markdown.write(output)
    if json:
        print_json({"results": [report.result | {"cached": report.cached} for report in reports], "page": str(path)})
    elif not quiet:
        typer.echo(f"page: {path}")
    if failed:
        got = f"{len(failed)} of {len(names)} experiments that could not be run: {', '.join(failed)}"
        raise ArgumentError("--all", got, "what the errors above name", "the same command then, which keeps the others")


def _list(json: bool) -> None:
    from rich.table import Table

    from slth.reproduce.registry import EXPERIMENTS

    if json:
        print_json(
            {
                each.name: {"shows": each.shows, "minutes": {key: scale.minutes for key, scale in each.scales.items()}}
                for each in EXPERIMENTS.values()
            }
        )
        return
    table = Table("name", "shows", "quick", "paper", box=None, pad_edge=False)
    for each in EXPERIMENTS.values():
        table.add_row(each.name, each.shows, *(_minutes(each.scales[key].minutes) for key in ("quick", "paper")))
    print_table(table, ["", "slth reproduce NAME [--scale paper] -o DIR runs one; --all runs every one of them."])


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _show(report: Report) -> None:
    from rich.table import Table

    from slth.report.words import number, plural
    from slth.reproduce.page import cell, divided

    result = report.result
    compared, alone = divided(result["comparisons"])
    known = " (done before)" if report.cached else ""
    table = Table("quantity", "paper", "ours", "interval", "verdict", box=None, pad_edge=False)
    notes: list[str] = []
    for entry in compared or alone:
        spread = f"{number(entry['low'])} to {number(entry['high'])}" if entry["interval"] else ""
        table.add_row(entry["quantity"], entry["paper"], number(entry["ours"], 4), spread, entry["verdict"])
        if entry["verdict"] == "differs":
            notes.append(f"differs: {entry['quantity']}: {entry['note']}")
    first = f"{result['name']}: {result['shows']}{known}"
    if compared and alone:
        notes.append(f"{plural(len(alone), 'more number')} without a counterpart in the paper in table.csv")
    listed = result.get("tables", ())
    last = f"{result['seconds']:g} s; files in {report.path}"
    print_table(table, notes if listed else [*notes, last, ""], first)
    for one in listed:
        table = Table(*one["columns"], box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in one["rows"]:
            table.add_row(*(cell(value) for value in row))
        print_table(table, [last, ""] if one is listed[-1] else [], f"\n{one['title']}")
