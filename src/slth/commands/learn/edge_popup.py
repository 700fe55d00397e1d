"""slth learn edge-popup: a mask over a random network, by training scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.learn.common import DataOption, Device, Resume, Seed, prepare, stoppable
from slth.commands.options import InputShape, Json, Model, Quiet, Threads, parse_shape
from slth.commands.screen import print_json, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from slth.learn.training import Recipe


def edge_popup(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The .ticket file to write.")],
    data: DataOption = "digits",
    network: Annotated[str | None, typer.Option(metavar="NAME", help="mlp (default), conv4, lenet5-wide.")] = None,
    hidden: Annotated[str | None, typer.Option(metavar="N,N", help="Widths of mlp (1024,1024).")] = None,
    model: Model = None,
    input_shape: InputShape = None,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="edge-popup (default), multi-prize, bernoulli.", show_default=False),
    ] = "edge-popup",
    weights: Annotated[
        str,
        typer.Option(metavar="LAW", help="signed-constant, kaiming-normal or -uniform.", show_default=False),
    ] = "signed-constant",
    density: Annotated[float | None, typer.Option(metavar="D", help="Kept fraction of every layer (0.5).")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training part (6).")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Inputs a step (256).")] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="R", help="Of the scores, at first.")] = None,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
    resume: Resume = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn which weights of a random network to keep; none is trained."""
    checkpoint = prepare(output, data, seed, threads, suffix=None)
    if model is not None and (network is not None or hidden is not None):
        got = f"--{'network' if network is not None else 'hidden'} besides"
        raise ArgumentError("--model", got, "one of them: a module has its own architecture")
    if hidden is not None and network not in (None, "mlp"):
        raise ArgumentError("--hidden", f"widths of {network}", "no widths, or --network mlp")
    from slth.learn.datasets import load_dataset
    from slth.learn.edge_popup import PopupSettings
    from slth.learn.edge_popup import edge_popup as learn
    from slth.learn.networks import HIDDEN

    settings = PopupSettings(method, weights, density, None, seed)
    settings.check()
    widths = HIDDEN if hidden is None else _widths(hidden)
    architecture, shape = (network or "mlp", parse_shape(input_shape)) if model is None else _made(model, input_shape)
    loaded = load_dataset(data)
    recipe = _recipe(settings.recipe_for(len(loaded.train.inputs)), epochs, batch_size, learning_rate)
    settings = PopupSettings(method, weights, density, recipe, seed)
    settings.check()
    with stoppable(checkpoint), progress_bar(not quiet) as bar:
        result = learn(
            architecture,
            loaded,
            settings,
            input_shape=shape,
            hidden=widths,
            device=device,
            checkpoint=checkpoint,
            resume=resume,
            on_progress=lambda done, total: bar.update("training", done, total),
        )
        n_bytes = result.ticket.save(output)
    checkpoint.unlink(missing_ok=True)
    ticket = result.ticket
    if json:
        facts: dict[str, Any] = {"accuracy_ticket": result.accuracy, "accuracy_before": result.accuracy_before}
        facts |= {"density": result.density, "kept": ticket.n_kept, "source_weights": ticket.spec.n_weights}
        facts |= {"ticket_bytes": n_bytes, "seconds": result.seconds, "output": str(output)}
        print_json(facts)
    elif not quiet:
        typer.echo(
            f"{result.accuracy:.2f} % with {ticket.n_kept:,} of {ticket.spec.n_weights:,} random weights "
            f"({result.density:.1%}), {result.accuracy_before:.2f} % before; {result.seconds:.1f} s, "
            f"{n_bytes:,} bytes in {output}"
        )


def _recipe(recipe: Recipe, epochs: int | None, batch_size: int | None, learning_rate: float | None) -> Recipe:
    """The defaults, with what was asked for."""
    from dataclasses import replace

    asked: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    return replace(recipe, **{name: value for name, value in asked.items() if value is not None})


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError("--hidden", text, "whole numbers between commas", "--hidden 1024,1024") from None


def _made(reference: str, input_shape: str | None) -> tuple[torch.nn.Module, tuple[int, ...] | None]:
    """The module of ``package.module:function``, and the shape of an input, if one is told."""
    import torch

    from slth.network.load import call_factory

    with torch.random.fork_rng(devices=[]):
        module, example = call_factory(reference)
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError("--model", f"{reference}, which gave a program", "a function that returns a module")
    shape = parse_shape(input_shape)
    if shape is None and isinstance(example, torch.Tensor):
        shape = tuple(example.shape[1:])
    return module, shape
