"""What find, verify and show do for neuron tickets, whose target is a data set."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from slth.commands.options import check_seed, parse_shape
from slth.commands.screen import print_json, print_table, progress_bar
from slth.errors import ArgumentError
from slth.imports import import_object

if TYPE_CHECKING:
    from rich.table import Table

    from slth.neurons.samples import Samples
    from slth.neurons.ticket import Measured, NeuronTicket


_FEW = 20
"""Whole numbers of at most so many kinds may be meant for classes (chosen)."""


def _flag(text: str) -> bool:
    return {"0": False, "1": True, "false": False, "true": True}[text]


SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "features": int,
    "blocks": int,
    "tau": float,
    "ridge": float,
    "law": str,
    "constant": _flag,
    "samples": int,
    "task": str,
    "delta": float,
}
"""What --set takes for neurons: arguments of :func:`slth.neurons.find.find_neurons`, and how they are read."""

ARGUMENTS = {"samples": "block_samples"}
"""Arguments that are called otherwise on the command line."""

KINDS: Mapping[Callable[[str], Any], str] = {int: "a whole number", float: "a number", _flag: "0 or 1"}


def refuse_with_neurons(given: Mapping[str, Any]) -> None:
    """Refuse options that are about a target network.

    Raises
    ------
    ArgumentError
        For the first one of ``given`` that is not None.
    """
    for option, value in given.items():
        if value is not None:
            need = "no such option for neurons, whose target is a data set"
            raise ArgumentError(option, str(value), need, "--data digits")


def parse_settings(given: Iterable[str]) -> dict[str, Any]:
    """Arguments from words like ``features=300,tau=0.3``.

    Raises
    ------
    ArgumentError
        If a name or a value is none.

    Examples
    --------
    >>> parse_settings(["features=300,tau=0.3", "constant=1"])
    {'features': 300, 'tau': 0.3, 'constant': True}
    """
    settings: dict[str, Any] = {}
    for part in ",".join(given).split(",") if given else []:
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in SETTINGS or not value or ARGUMENTS.get(name, name) in settings:
            need = f"NAME=VALUE with names of {', '.join(SETTINGS)}, each once"
            raise ArgumentError("--set", repr(part), need, "--set features=300,tau=0.3")
        try:
            settings[ARGUMENTS.get(name, name)] = SETTINGS[name](value)
        except (ValueError, KeyError) as error:
            raise ArgumentError("--set", repr(part), KINDS[SETTINGS[name]]) from error
    return settings


def find_on_data(
    output: Path,
    data: str | None,
    settings: list[str],
    activation: str,
    seed: int,
    threads: int | None,
    json: bool,
    quiet: bool,
) -> int:
    """slth find --construction neurons, for a data set."""
    from slth.files import check_writable

    if data is None:
        need = "a data set, the target of neuron pruning, or a function by --model"
        raise ArgumentError("--data", "nothing", need, "--data digits")
    chosen = parse_settings(settings)
    check_seed(seed)
    check_writable(output, (Path(data),))
    from slth.neurons.find import find_neurons
    from slth.neurons.samples import read_samples

    train, test = read_samples(data, chosen.get("task"))
    with progress_bar(not quiet) as bar:
        ticket = find_neurons(
            train, test=test, **chosen, activation=activation, seed=seed, threads=threads, on_progress=bar.update
        )
    _report(ticket, ticket.save(output), output, json, quiet, _hints(ticket, train))
    return 0


def find_for_function(
    output: Path,
    function: str,
    input_shape: str | None,
    settings: list[str],
    activation: str,
    seed: int,
    json: bool,
    quiet: bool,
) -> int:
    """slth find --construction neurons, for f(x) = E h(w) σ(⟨w, x⟩) with a function h of the user's own."""
    from slth.files import check_writable
    from slth.neurons.find import approximate_neurons

    shape = parse_shape(input_shape)
    if shape is None:
        raise ArgumentError("--input-shape", "nothing", "the number of entries of x", "--input-shape 3")
    chosen = parse_settings(settings)
    for name in ("ridge", "block_samples", "task"):
        if name in chosen:
            raise ArgumentError("--set", name, "settings of a function: features, blocks, tau, law, constant, delta")
    check_seed(seed)
    check_writable(output, ())
    h = import_object(function, "--model", _NEED_FUNCTION)
    with redirect_stdout(sys.stderr):
        ticket = approximate_neurons(h, math.prod(shape), **chosen, activation=activation, seed=seed)
    _report(ticket, ticket.save(output), output, json, quiet, [])
    return 0


_NEED_FUNCTION = "package.module:h, a function from weights (k, d) to (k,) or (k, outputs) numbers"


def _report(ticket: NeuronTicket, n_bytes: int, output: Path, json: bool, quiet: bool, hints: list[str]) -> None:
    if json:
        print_json({**ticket.to_json(), "ticket_bytes": n_bytes})
    elif not quiet:
        _print(
            ticket.train,
            ticket.test,
            [*_lines(ticket), f"{ticket.seconds:.1f} s, {n_bytes:,} bytes in {output}", *hints],
        )


def verify_on_data(
    path: Path, data: Path | None, function: str | None, threads: int | None, json: bool, quiet: bool
) -> int:
    """slth verify of a neuron ticket, with the data or the function that it was made for."""
    from slth.neurons.file import load_neurons
    from slth.neurons.samples import read_samples
    from slth.neurons.ticket import FUNCTION
    from slth.neurons.verify import verify_neurons

    ticket = load_neurons(path)
    if function is not None and ticket.task != FUNCTION:
        raise ArgumentError("--model", function, "--data, to which the ticket was fitted", "--data digits")
    h = None if function is None else import_object(function, "--model", _NEED_FUNCTION)
    task, n_outputs = (None, None) if ticket.task == FUNCTION else (ticket.task, ticket.source.outputs)
    train, test = (None, None) if data is None else read_samples(str(data), task, n_outputs, ticket.labels)
    with progress_bar(not quiet) as bar, redirect_stdout(sys.stderr):
        result = verify_neurons(ticket, train, test, function=h, threads=threads, on_progress=bar.update)
    if json:
        print_json(result.to_json())
    elif not quiet:
        unknown = "not checked, without --model package.module:h" if result.wrong_bits is None else ""
        mask = unknown or f"{result.wrong_bits:,} of {result.mask_bits:,} bits differ from the window rule"
        lines = [f"source: kept weights {'equal' if result.source_matches else 'DIFFER'}; mask: {mask}", _bound(ticket)]
        lines += [f"does not hold: {reason}" for reason in result.reasons]
        lines += [f"holds ({result.seconds:.1f} s)"] if result.holds else []
        _print(result.train, result.test, lines)
    return 0 if result.holds else 1


def show_neurons(path: Path, html: Path | None, json: bool, quiet: bool) -> None:
    """slth show of a neuron ticket."""
    from slth.files import check_writable, write_atomically
    from slth.neurons.file import load_neurons

    if html is not None:
        check_writable(html, (path,))
    ticket = load_neurons(path)
    n_bytes = path.stat().st_size
    if html is not None:
        from slth.report.neurons import render_neurons

        write_atomically(html, render_neurons(ticket, title=path.name, file_bytes=n_bytes).encode())
    if json:
        print_json({**ticket.to_json(), "ticket_bytes": n_bytes, "html": None if html is None else str(html)})
    elif not quiet:
        page = "" if html is None else f", page in {html}"
        _print(ticket.train, ticket.test, [*_lines(ticket), f"{n_bytes:,} bytes{page}"])


def _lines(ticket: NeuronTicket) -> list[str]:
    source = ticket.source
    fitted = "coefficients of a function" if ticket.ridge is None else f"ridge {ticket.ridge:g}"
    fitted += "" if ticket.block_samples is None else f", {ticket.block_samples:,} samples a block"
    constants = ticket.constants
    return [
        _target(ticket),
        f"seed {source.seed}, {source.width:,} neurons: {source.blocks:,} blocks of {source.features:,}, "
        f"{ticket.activation}, w by {source.law.text}, {fitted}",
        f"tau {ticket.tau:g}: kept {ticket.density:.2%} of {ticket.mask.size:,} second-layer weights, "
        f"{ticket.n_live:,} neurons",
        f"constant {constants.min():.4g}" + (f" to {constants.max():.4g}" if len(constants) > 1 else ""),
        _bound(ticket),
        *([] if ticket.features_error is None else [_features_bound(ticket, ticket.features_error)]),
    ]


def _target(ticket: NeuronTicket) -> str:
    from slth.neurons.classes import shown

    inputs, outputs = (
        f"{count:,} {name}{'s' if count > 1 else ''}"
        for count, name in ((ticket.source.inputs, "input"), (ticket.source.outputs, "output"))
    )
    kinds = {"regression": f"regression, {outputs}", "function": f"a function of w, {outputs}"}
    task = kinds.get(ticket.task, f"{len(ticket.classes)} classes: {shown(ticket.classes)}")
    return f"{task}; {inputs}{' and a constant one' if ticket.source.constant else ''}"


def _hints(ticket: NeuronTicket, train: Samples) -> list[str]:
    """What a person may not have meant."""
    import numpy as np

    targets = train.targets
    if ticket.task == "regression" and targets.shape[1] == 1 and bool((targets == np.round(targets)).all()):
        kinds = len(np.unique(targets))
        if kinds <= _FEW:
            return [f"note: all labels are one of {kinds} whole numbers; classes? then --set task=classification"]
    return []


def _features_bound(ticket: NeuronTicket, error: float) -> str:
    largest = float(ticket.largest.max()) * ticket.source.features
    return f"average and function differ by at most {error:.4g} there, if |h| <= {largest:.4g} as on the drawn w"


def _bound(ticket: NeuronTicket) -> str:
    return (
        f"bound: pruned and average differ by at most {ticket.error_bound:.4g} on the unit ball, with probability "
        f"{1 - ticket.delta:g}"
    )


def _print(train: Measured | None, test: Measured | None, lines: list[str]) -> None:
    """What was measured, if anything was, and lines."""
    if train is None and test is None:
        typer.echo("\n".join(lines))
    else:
        print_table(_table(train, test), lines)


def _table(train: Measured | None, test: Measured | None) -> Table:
    """One row a part: errors against the labels and each other, and the share of classes or variance that is right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    explained = any(part is not None and part.explained is not None and part.accuracy is None for part in (train, test))
    last = "explained" if explained else "accuracy"
    for name in ("samples", "error", "of average", "difference", "expected", "largest", last, "of average"):
        table.add_column(name, justify="right")
    for part, measured in (("training", train), ("test", test)):
        if measured is None:
            continue
        percents = [measured.accuracy, measured.average_accuracy]
        if measured.accuracy is None:
            shares = (measured.explained, measured.average_explained)
            percents = [None if share is None else 100 * share for share in shares]
        table.add_row(
            part,
            f"{measured.samples:,}",
            f"{measured.error:.4g}",
            f"{measured.average_error:.4g}",
            f"{measured.difference:.4g}",
            f"{measured.expected_difference:.4g}",
            f"{measured.largest_difference:.4g}",
            *("-" if percent is None else f"{percent:.2f} %" for percent in percents),
        )
    return table
