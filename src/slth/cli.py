"""The command line: thin; every command is a module of :mod:`slth.commands`."""

from __future__ import annotations

import logging
import os
import sys

import typer

from slth.commands import demo, find, show, train, verify

app = typer.Typer(
    name="slth",
    help="Strong lottery tickets: find a trained network inside a larger random one, and prove how close it is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (find, verify, show, demo, train):
    app.command()(getattr(command, command.__name__.rpartition(".")[2]))


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Log what happens, and show tracebacks."),
) -> None:
    """Set up what all commands share."""
    if version:
        from slth import __version__

        typer.echo(f"slth {__version__}")
        raise typer.Exit
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("numba").setLevel(logging.ERROR)


def main() -> None:
    """Run the command line; exit status 0 for done, 1 for a ticket that does not hold, 2 for misuse."""
    from slth.errors import SlthError

    try:
        status = app(standalone_mode=False)
    except SlthError as error:
        if "--debug" in sys.argv:
            raise
        _say(f"error: {error}")
        status = 2
    except typer.TyperException as error:
        # The help that a bare "slth" asks for is long; every other message is one line.
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "slth"
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
        else:
            _say(f"error: {where}: {error.format_message()} (see {where} --help)")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    if status == 130:
        _say("stopped; nothing was written")
    sys.exit(status if isinstance(status, int) else 0)


def _say(line: str) -> None:
    typer.echo(" ".join(line.split()), err=True)
