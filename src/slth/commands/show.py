"""slth show: explain a ticket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slth.commands.neurons import show_neurons
from slth.commands.options import Import, Json, Quiet, import_own
from slth.commands.screen import (
    law_lines,
    order_lines,
    parameter_table,
    print_json,
    print_table,
    search_lines,
    ticket_table,
)
from slth.network.accounts import KEPT, UNUSED

MOST_KEPT = 12
"""Parameters that are kept or unused are listed up to so many (chosen)."""


def show(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="The .ticket file.")],
    html: Annotated[Path | None, typer.Option(metavar="PAGE", help="Write a self-contained page of pictures.")] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List every parameter of the target.")] = False,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Of a deep network as well.")] = False,
    own: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain a ticket in the terminal, or as a page of pictures."""
    from slth.artifact import load
    from slth.files import check_writable, write_atomically
    from slth.neurons.file import is_neurons

    import_own(own)
    if is_neurons(ticket):
        return show_neurons(ticket, html, json, quiet)
    if html is not None:
        check_writable(html, (ticket,))
    loaded = load(ticket)
    from slth.summary import summarise

    n_bytes = ticket.stat().st_size
    summary = summarise(loaded, n_bytes)
    if html is not None:
        from slth.report.page import render

        write_atomically(html, render(loaded, title=ticket.name, file_bytes=n_bytes).encode())
    if json:
        print_json({**summary.to_json(), "html": None if html is None else str(html)})
    elif not quiet:
        lines = [
            *search_lines(summary),
            f"{'network' if summary.learnt else 'target'} {summary.target_digest[:16]}, {n_bytes:,} bytes"
            + ("" if html is None else f", page in {html}"),
            *law_lines(summary),
            *order_lines(summary),
        ]
        kept = [account for account in summary.parameters.accounts if account.state in (KEPT, UNUSED)]
        listed = list(summary.parameters.accounts) if parameters else kept[:MOST_KEPT]
        whole = summary.learnt and summary.parameters.share == 1.0
        print_table(ticket_table(summary, all_layers), lines, "" if whole else summary.parameters.line)
        if listed:
            more = len(kept) - len(listed)
            rest = [] if parameters or not more else [f"{more:,} more (--parameters)"]
            print_table(parameter_table(listed), rest)
