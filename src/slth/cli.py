"""The command line: thin; every command is a module of :mod:`slth.commands`."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
from pathlib import Path

import typer

from slth.commands import bench, calibrate, certify, demo, export, find, learn, plan, reproduce, show, train, verify

OPTIONS = frozenset(
    {"base_set_size", "tolerance", "objective", "initialisation", "seed", "domain", "construction", "threads"}
    | {"eps", "delta", "theorem", "epochs", "hidden", "radius", "norm", "method", "labels", "mean", "std", "include"}
    | {"exclude", "source_activation", "form", "dtype"}
    | {"rounds", "fraction", "count", "scope", "after", "rewind_step", "learning_rate", "batch_size", "optimiser"}
    | {"weight_decay", "momentum", "device", "step_size", "iterations", "folds", "noise", "student_kept", "kept"}
    | {"neurons", "samples", "trials", "init"}
)
"""Arguments of the Python functions whose name on the command line is the same with dashes."""

app = typer.Typer(
    name="slth",
    help="Strong lottery tickets: find a trained network inside a larger random one, and prove how close it is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (find, verify, certify, show, export, demo, train, calibrate, plan, reproduce):
    app.command()(getattr(command, command.__name__.rpartition(".")[2]))
app.add_typer(learn.learn, name="learn")
app.add_typer(bench.bench, name="bench")


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


def _wait_quietly() -> None:
    """Let torch's threads sleep while they wait for each other, but for a moment's spinning.

    Where other work shares the cores, spinning costs minutes; where none does, falling asleep at once doubles the time
    of training small networks. So many turns, some ten microseconds, lose little in either case (measured with two
    threads).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def main() -> None:
    """Run the command line; exit status 0 for done, 1 for a ticket that does not hold, 2 for misuse."""
    _wait_quietly()
    from slth.errors import SlthError, StoppedError

    debug, goodbye = "--debug" in sys.argv[1:], "stopped; nothing was written"
    # Where a stream is closed, Python has None for it.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except SlthError as error:
        if debug:
            raise
        # In Python an argument is called base_set_size, here --base-set-size.
        line = str(error)
        if error.where in OPTIONS:
            line = f"--{error.where.replace('_', '-')}{line.removeprefix(error.where)}"
        _say(f"error: {line}")
        status = 2
    except typer.TyperException as error:
        # The help that a bare "slth" asks for is long; every other message is one line.
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "slth"
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
        else:
            _say(f"error: {where}: {error.format_message()}{_given(error)} (see {where} --help)")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except StoppedError as error:
        goodbye, status = str(error), 130
    except BrokenPipeError:
        _drop_output()
        status = 1
    except OSError as error:
        if debug:
            raise
        _say(f"error: {error.filename or 'output'}: {error.strerror or error}")
        _drop_output()
        status = 2
    except Exception as error:
        if debug:
            raise
        # A traceback would end with status 1, which says that a ticket does not hold.
        _say(f"error: unexpected {type(error).__name__}: {error} (please report it; slth --debug ... tells more)")
        status = 2
    if status == 130:
        _say(goodbye)
        # Nothing is left to tidy up, and taking torch down takes half a second.
        sys.stderr.flush()
        os._exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(" ".join(line.split()), err=True)


def _given(error: typer.TyperException) -> str:
    """The value that the command line gives an option that was refused; the message itself may not repeat it."""
    names = getattr(getattr(error, "param", None), "opts", [])
    for word, following in itertools.pairwise([*sys.argv, ""]):
        name, equals, value = word.partition("=")
        if name in names and isinstance(error, typer.BadParameter):
            return f", got {(value if equals else following)!r}"
    return ""


def _drop_output() -> None:
    """Send what is still to be written nowhere, so that the interpreter's last flush does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
