"""slth train: a plain perceptron to find a ticket for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slth.commands.options import Json, Quiet, Threads, check_seed, set_threads
from slth.commands.screen import print_json, progress_bar
from slth.errors import ArgumentError


def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The .safetensors file to write.")],
    data: Annotated[
        str, typer.Option(metavar="DATA", help="digits, mnist, a folder of IDX files, or an .npz.")
    ] = "digits",
    hidden: Annotated[str, typer.Option(metavar="N,N", help="Widths of the hidden layers.")] = "300,100",
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the training part.")] = 8,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the training.")] = 0,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a ReLU perceptron on labelled data, as a target."""
    from slth.files import check_writable, write_atomically

    if output.suffix != ".safetensors":
        raise ArgumentError("--output", str(output), "a name ending in .safetensors", f"{output.stem}.safetensors")
    check_seed(seed)
    check_writable(output, (Path(data),))
    set_threads(threads)
    try:
        widths = [int(part) for part in hidden.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise ArgumentError("--hidden", hidden, "positive whole numbers between commas", "--hidden 300,100")
    from safetensors.torch import save

    from slth.learn.datasets import split_data
    from slth.learn.perceptron import train_perceptron

    train_part, test_part = split_data(data)
    with progress_bar(not quiet) as bar:
        trained = train_perceptron(
            train_part, test_part, widths, epochs, seed, lambda done, total: bar.update("training", done, total)
        )
    write_atomically(output, save(trained.network.state_dict()))
    shape = [train_part.inputs[0].numel(), *widths, trained.n_classes]
    if json:
        facts = {"accuracy": trained.accuracy, "widths": shape, "seconds": trained.seconds, "output": str(output)}
        print_json(facts)
    elif not quiet:
        widths_text = "-".join(str(width) for width in shape)
        typer.echo(f"{widths_text}: {trained.accuracy:.2f} % on the test part, {trained.seconds:.1f} s, in {output}")
