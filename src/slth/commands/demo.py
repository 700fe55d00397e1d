"""slth demo: the whole job with nothing but the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slth.commands.options import Json, Quiet, Threads, check_seed, set_threads
from slth.commands.screen import print_json, print_table, progress_bar, ticket_table


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(metavar="S", help="Of the random network.")] = 0,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Do the whole job on scikit-learn's digits.

    Trains a small network, finds its ticket, verifies and runs it, and leaves a page of pictures.
    """
    from slth.demo import make_folder, run_demo

    check_seed(seed)
    set_threads(threads)
    folder = make_folder(output)

    def say(line: str) -> None:
        if not (quiet or json):
            typer.echo(line)

    with progress_bar(not quiet) as bar:
        result = run_demo(folder, seed, threads, say, bar.update)
    if json:
        print_json(result.to_json())
    elif not quiet:
        print_table(ticket_table(result.summary), [f"open {result.page} in a browser"])
    return 0 if result.verification.holds else 1
