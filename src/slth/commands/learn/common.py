"""What the commands of ``slth learn`` share: data, device, checkpoints, and how they stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from slth.commands.options import check_seed, set_threads
from slth.errors import ArgumentError, StoppedError
from slth.files import check_writable

Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The .safetensors file to write.")]
DataOption = Annotated[
    str, typer.Option("--data", metavar="DATA", help="digits, mnist, folder (IDX, .npy), .npz, PKG.MOD:FN.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from OUT.checkpoint, if there is one.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu or cuda. Default: cuda if there is one.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Of all that is random.")]


@dataclass(frozen=True)
class Run:
    """Where a run is kept and how it is shown: what every command of ``slth learn`` is told."""

    output: Path
    checkpoint: Path
    seed: int
    device: str | None
    threads: int | None
    resume: bool
    json: bool
    quiet: bool


def prepare(output: Path, data: str, seed: int, threads: int | None, suffix: str | None = ".safetensors") -> Path:
    """Check before any work what can be checked, any suffix where None is asked for; returns the checkpoint's place.

    Raises
    ------
    SlthError
        If a place cannot be written, or a number is out of range.
    """
    if suffix is not None and output.suffix != suffix:
        raise ArgumentError("--output", str(output), f"a name ending in {suffix}", f"{output.stem}{suffix}")
    check_seed(seed)
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    for place in (output, checkpoint):
        check_writable(place, (Path(data),))
    set_threads(threads)
    return checkpoint


@contextlib.contextmanager
def stoppable(checkpoint: Path) -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    before = _written(checkpoint)
    try:
        yield
    except KeyboardInterrupt as error:
        now = _written(checkpoint)
        if now is None:
            raise
        # What lies there may be of another run, whose settings --resume would refuse.
        what = "" if now != before else "nothing new was kept; "
        raise StoppedError(f"stopped; {what}--resume goes on from {checkpoint}") from error


def _written(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
