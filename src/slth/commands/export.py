"""slth export: a ticket as a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slth.commands.options import Import, Json, Quiet, import_own
from slth.commands.screen import print_json


def export(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="The .ticket file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help=".pt2, .onnx, or a folder.")],
    form: Annotated[str, typer.Option(metavar="NAME", help="folded, sparse or masked.")] = "folded",
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="float32 or float64; the target's without.", show_default=False)
    ] = None,
    own: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Write a ticket as a network for other programs, checked.

    .pt2 is read by torch.export.load, .onnx by any ONNX runtime (extra "onnx"),
    a folder by slth.export.from_pretrained.
    """
    from slth.artifact import load
    from slth.errors import ArgumentError, ExportError
    from slth.export import export as write
    from slth.neurons.file import is_neurons

    import_own(own)
    if is_neurons(ticket):
        got, need = "a ticket of pruned neurons", "a ticket of a network"
        raise ArgumentError(str(ticket), got, need, "slth.load_neurons(...).module(), a torch module")
    try:
        made = write(load(ticket), output, form, dtype)
    except ExportError as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    if json:
        facts = {key: getattr(made, key) for key in made.__dataclass_fields__}
        print_json({**facts, "path": str(made.path)})
    elif not quiet:
        batch = "batches of any size" if made.any_batch else f"batches of {made.batch} alone"
        typer.echo(f"{made.form}, {made.dtype}, {batch}: {made.n_bytes:,} bytes in {made.path}")
        size = f"{made.difference:.3g}, {made.relative_difference:.3g} of the largest"
        typer.echo(f"checked over {made.n_inputs} seeded inputs by {made.checked_by}: outputs differ by at most {size}")
    return 0
