"""slth learn agd --data: a sparse student of every class of labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from slth.commands.learn.common import Run, stoppable
from slth.commands.screen import print_json, progress_bar

if TYPE_CHECKING:
    from slth.learn.one_vs_rest import ClassResult


def learn_data(data: str, asked: dict[str, Any], run: Run) -> None:
    """Train the students, write them as one network, and say what they reach."""
    from slth.learn.datasets import load_dataset
    from slth.learn.one_vs_rest import ClassSettings, learn_classes
    from slth.learn.training import find_device

    settings = ClassSettings(seed=run.seed, **{name: value for name, value in asked.items() if value is not None})
    settings.check()
    with stoppable(run.checkpoint), progress_bar(not run.quiet) as bar:
        result = learn_classes(
            load_dataset(data),
            settings,
            device=str(find_device(run.device)),
            threads=run.threads,
            checkpoint=run.checkpoint,
            resume=run.resume,
            on_progress=lambda done, total: bar.update("steps", done, total),
        )
    size = result.file.save(run.output)
    run.checkpoint.unlink(missing_ok=True)
    if run.json:
        print_json(result.file.facts | {"seconds": result.seconds, "output": str(run.output)})
    elif not run.quiet:
        _show(result, size, run.output)


def _show(result: ClassResult, size: int, output: Path) -> None:
    classes, neurons, inputs = result.masks.shape
    typer.echo(
        f"{result.accuracy:.2f} % with {int(result.masks.sum()):,} of {result.masks.numel():,} weights "
        f"({result.density:.1%}), {result.accuracy_dense:.2f} % before pruning"
    )
    typer.echo(f"{classes} students of {neurons} neurons that read {inputs} inputs: {_ends(result.states)}")
    typer.echo(f"{result.seconds:.1f} s, {size:,} bytes in {output}")


def _ends(states: list[str]) -> str:
    return ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(states))
