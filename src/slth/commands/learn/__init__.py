"""slth learn: tickets found by training; a module a command."""

from __future__ import annotations

import typer

from slth.commands.learn.agd import agd
from slth.commands.learn.edge_popup import edge_popup
from slth.commands.learn.imp import imp

learn = typer.Typer(
    help="Find tickets by training, on labelled data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
learn.command("imp")(imp)
learn.command("edge-popup")(edge_popup)
learn.command("agd")(agd)
