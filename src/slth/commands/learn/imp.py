"""slth learn imp: iterative magnitude pruning."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.learn.common import DataOption, Device, Output, Resume, Seed, prepare, stoppable
from slth.commands.options import InputShape, Json, Model, Quiet, Threads, parse_shape
from slth.commands.screen import print_json, print_table, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from slth.learn.imp import ImpResult


def imp(
    output: Output,
    data: DataOption = "digits",
    model: Model = None,
    input_shape: InputShape = None,
    hidden: Annotated[str, typer.Option(metavar="N,N", help="Widths of the perceptron without --model.")] = "300,100",
    rounds: Annotated[int, typer.Option(metavar="R", help="Rounds after the dense training.")] = 12,
    fraction: Annotated[float | None, typer.Option(metavar="P", help="Of survivors, pruned a round (0.2).")] = None,
    count: Annotated[int | None, typer.Option(metavar="N", help="So many weights a round instead.")] = None,
    scope: Annotated[str, typer.Option(metavar="global|layer", help="The smallest of all, or of each.")] = "global",
    one_shot: Annotated[bool, typer.Option("--one-shot", help="Prune as many in one round.")] = False,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PAT", hidden=True)] = None,
    after: Annotated[
        str, typer.Option(metavar="WHAT", help="rewind (default), finetune, reinitialise.", show_default=False)
    ] = "rewind",
    rewind_step: Annotated[int, typer.Option(metavar="K", help="Of the dense training; 0: initial weights.")] = 0,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Of every training.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", hidden=True)] = None,
    optimiser: Annotated[str | None, typer.Option(metavar="NAME", hidden=True)] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="R", help="At first.")] = None,
    weight_decay: Annotated[float | None, typer.Option(metavar="D", hidden=True)] = None,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
    resume: Resume = False,
    checkpoint_seconds: Annotated[float, typer.Option(metavar="S", hidden=True)] = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train, prune the smallest weights, rewind, again; OUT is a target for slth find."""
    checkpoint = prepare(output, data, seed, threads)
    if fraction is not None and count is not None:
        raise ArgumentError("--count", f"{count} besides --fraction {fraction:g}", "one of them")
    from slth.learn.datasets import load_dataset
    from slth.learn.imp import ImpSettings
    from slth.learn.imp import imp as prune
    from slth.learn.training import Recipe

    recipe: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "optimiser": optimiser}
    recipe |= {"learning_rate": learning_rate, "weight_decay": weight_decay}
    settings = ImpSettings(
        rounds=rounds,
        amount=count if count is not None else 0.2 if fraction is None else fraction,
        scope=scope,  # type: ignore[arg-type]  # checked there
        after=after,  # type: ignore[arg-type]
        rewind_step=rewind_step,
        one_shot=one_shot,
        exclude=tuple(exclude or ()),
        recipe=Recipe(**{name: value for name, value in recipe.items() if value is not None}),
        seed=seed,
    )
    settings.check()
    widths = _widths(hidden)
    network = None if model is None else partial(_make, model)
    with stoppable(checkpoint), progress_bar(not quiet) as bar:
        result = prune(
            network,
            load_dataset(data),
            settings,
            input_shape=parse_shape(input_shape),
            hidden=widths,
            device=device,
            checkpoint=checkpoint,
            resume=resume,
            every_seconds=checkpoint_seconds,
            on_progress=lambda done, total: bar.update("training", done, total),
        )
    size = result.file.save(output)
    checkpoint.unlink(missing_ok=True)
    last = result.rounds[-1]
    if json:
        facts = {**result.file.facts, "accuracy_dense": result.rounds[0].accuracy, "kept": last.kept}
        print_json(facts | {"seconds": result.seconds, "output": str(output)})
    elif not quiet:
        line = f"{last.accuracy:.2f} % with {last.density:.2%} of the weights, {result.seconds:.1f} s, {size:,} bytes"
        print_table(_table(result), [f"{line} in {output}"])


def _make(reference: str) -> torch.nn.Module:
    """The module that ``package.module:function`` returns."""
    import torch

    from slth.network.load import call_factory

    # A factory may print; standard output belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        network, _ = call_factory(reference)
    if not isinstance(network, torch.nn.Module):
        raise ArgumentError("--model", f"{reference}, which gave a program", "a function that returns a module")
    return network


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise ArgumentError("--hidden", text, "positive whole numbers between commas", "--hidden 300,100")
    return widths


def _table(result: ImpResult) -> Table:
    """One row a round."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("round", "kept", "density", "accuracy"):
        table.add_column(name, justify="right")
    for one in result.rounds:
        table.add_row(str(one.number), f"{one.kept:,}", f"{one.density:.2%}", f"{one.accuracy:.2f} %")
    return table
