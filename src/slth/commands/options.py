"""Arguments that several commands share, and how they become objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.errors import ArgumentError

if TYPE_CHECKING:
    from slth.activations import Activation as OwnActivation
    from slth.network.selection import Selection
    from slth.network.target import Target

Model = Annotated[str | None, typer.Option(metavar="PKG.MOD:FN", help="Function that returns the target module.")]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="State dict for --model.")]
Activation = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of a state dict: relu (default), elu:0.5 and others.",
        show_default=False,
    ),
]
InputShape = Annotated[str | None, typer.Option(metavar="C,H,W", hidden=True)]
Include = Annotated[list[str] | None, typer.Option(metavar="PATTERN", hidden=True)]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PAT", help="Parameters to keep (--include: to ticket).")]
DomainOption = Annotated[str | None, typer.Option(metavar="LO,HI", help="Smallest and largest input value.")]
Import = Annotated[list[str] | None, typer.Option("--import", metavar="CODE", hidden=True)]
"""Code of the user's own: ``FILE.py`` or ``package.module``, which registers activations; with ``:NAME`` one of it."""
Threads = Annotated[int | None, typer.Option(metavar="N", help="Default: all cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def load_target(
    path: Path | None,
    model: str | None,
    weights: Path | None,
    activation: str,
    input_shape: str | None,
    selection: Selection | None = None,
) -> Target:
    """The target that the shared arguments name; without a selection all of its parameters are to be ticketed.

    Raises
    ------
    SlthError
        If they name none, or one that cannot be used.
    """
    from slth.network.load import TargetReference
    from slth.network.selection import EVERYTHING

    name, shape = activation_name(activation), parse_shape(input_shape)
    return TargetReference(path, model, weights, name, shape, selection or EVERYTHING).load()


def import_own(references: list[str] | None) -> None:
    """Import what ``--import`` names, so that activations of the user's own are known by their names.

    Raises
    ------
    ArgumentError
        If it cannot be imported, or what is named is no activation.
    """
    for reference in references or ():
        if _names_object(reference):
            own_activation(reference, "--import")
        else:
            from slth.imports import import_code

            import_code(reference, "--import")


def activation_name(text: str, where: str = "--activation") -> str:
    """The text form of an activation; one that is named as ``package.module:NAME`` is imported and registered.

    Raises
    ------
    ArgumentError
        As :func:`import_own`.
    """
    return own_activation(text, where).name if _names_object(text) else text


def own_activation(reference: str, where: str) -> OwnActivation:
    """The activation at ``package.module:NAME`` or ``FILE.py:NAME``, registered if it was not.

    Raises
    ------
    ArgumentError
        If it cannot be imported, is no activation, or another one has its name.
    """
    from slth.activations import Activation, register
    from slth.imports import import_object

    need = "package.module:NAME of a slth.activations.Activation"
    found: Any = import_object(reference, where, need)
    if not isinstance(found, Activation):
        raise ArgumentError(where, f"{reference}, of type {type(found).__name__}", need, "Activation.custom(...)")
    return found if found.proved else register(found)


def _names_object(text: str) -> bool:
    """Whether a text is ``package.module:NAME`` and not an activation such as ``leaky_relu:0.1``."""
    from slth.activations import ACTIVATIONS

    module, colon, name = text.rpartition(":")
    return bool(colon) and module not in ACTIVATIONS and name.isidentifier()


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Whole numbers between commas.

    Raises
    ------
    ArgumentError
        If they are not.
    """
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ArgumentError("--input-shape", text, "positive whole numbers", "--input-shape 1,28,28")
    return shape


def check_seed(seed: int) -> None:
    """Refuse a seed that is not a 64-bit number.

    Raises
    ------
    ArgumentError
        If it is out of range.
    """
    if not 0 <= seed < 2**64:
        raise ArgumentError("seed", str(seed), "a whole number from 0 to 2^64 - 1")


def set_threads(threads: int | None) -> None:
    """Let torch use as many threads as the subset sums.

    Raises
    ------
    ArgumentError
        If the number is below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ArgumentError("--threads", str(threads), "at least 1")
    import torch

    torch.set_num_threads(threads)
