"""slth plan: what every theorem asks of a network, and what of it the network breaks."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.options import (
    Activation,
    DomainOption,
    Exclude,
    Import,
    Include,
    InputShape,
    Json,
    Model,
    Quiet,
    Weights,
    import_own,
    load_target,
)
from slth.commands.screen import print_json, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from slth.forecast.requirements import Requirements, Row

MOST_LAYERS = 12
"""Of a deeper network the first and the last few are shown (chosen)."""
WIDE = 100
"""Characters of a screen from which on numbers up to a million are shown in full (chosen)."""
SHORT = 10_000
"""Numbers from here on have an exponent on a narrower one."""


def plan(
    eps: Annotated[float, typer.Option(metavar="E", help="Error allowed of the network's output.")],
    delta: Annotated[float, typer.Option(metavar="D", help="Allowed probability that there is no ticket.")],
    target: Annotated[Path | None, typer.Argument(metavar="TARGET", help=".pt2, .safetensors or .pt file.")] = None,
    model: Model = None,
    weights: Weights = None,
    activation: Activation = "relu",
    input_shape: InputShape = None,
    include: Include = None,
    exclude: Exclude = None,
    domain: DomainOption = None,
    theorem: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Such as orseau-30,pensia-1. Default: all.")
    ] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated/--no-calibrated", help="Measured constants where theorems leave them open.")
    ] = True,
    own: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what every theorem asks of a network, and what it breaks."""
    from slth.bounds.exact import positive, probability
    from slth.forecast.requirements import check_theorems, requirements
    from slth.network.selection import Selection

    positive("eps", eps), probability("delta", delta)
    import_own(own)
    names = None if theorem is None else check_theorems([name.strip() for name in theorem.split(",")])
    loaded = load_target(target, model, weights, activation, input_shape, Selection.of(include, exclude))
    with progress_bar(not quiet) as bar:
        found = requirements(
            loaded,
            eps=eps,
            delta=delta,
            domain=domain,
            theorems=names,
            calibrated=calibrated,
            on_progress=bar.update,
        )
    if json:
        print_json(found.to_json())
    elif not quiet:
        _print(found)


def _print(found: Requirements) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    unlike = found.network.unlike
    if unlike is not None:
        console.print(_headline(found), style="bold", markup=False)
        console.print(_layers(found))
        console.print()
        console.print("All theorems are broken by this network", style="bold", markup=False)
        console.print(_listing([("", f"{unlike.text}: got {unlike.got}\n-> {unlike.remedy}")]))
        return
    notes = _notes(found.rows)
    constants = _constants(found)
    plain = 1_000_000 if console.width >= WIDE else SHORT
    parts: list[tuple[str, RenderableType]] = [
        (_headline(found), _layers(found)),
        (
            f"Output within {found.eps:g}, with probability {1 - found.delta:.6g}; each theorem in its own norm",
            _theorems(found, notes, plain),
        ),
    ]
    if constants:
        parts.append(("Constants that theorems leave open", _listing(constants)))
    if notes:
        title = "What the network breaks, and what restores it"
        parts.append((title, _listing([(str(i), text) for i, text in enumerate(notes.values(), 1)])))
    parts.append(("About what a ticket would be (estimates, on one core)", _estimates(found)))
    for title, content in parts:
        console.print(title, style="bold", markup=False)
        console.print(content)
        console.print()


def _headline(found: Requirements) -> str:
    shape, network = found.network.shape, found.network
    biases = sum(layer.biases for layer in shape.layers)
    names = "-".join(map(str, shape.widths if shape.depth <= MOST_LAYERS else (*shape.widths[:3], "...")))
    names = names if network.unlike is None else f"{shape.depth} layers with weights"
    inputs = f"inputs in {network.domain}, ‖x‖_2 <= {shape.input_2norm:.4g}"
    if shape.input_2norm == 1.0 and network.domain.startswith("the unit"):
        inputs = f"inputs in {network.domain} (--domain tells others)"
    return f"{names}: {shape.weights:,} weights, {biases:,} biases; {inputs}"


def _grid(*columns: str, left: Sequence[int] = (0,)) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index in left else "right", no_wrap=index == 0)
    return table


def _layers(found: Requirements) -> Table:
    from rich.markup import escape

    table = _grid("", "layer", "shape", "‖W‖_2", "‖W‖_max", "row sum", "row", "bias", "then", left=(0, 1, 2, 8))
    network = found.network
    depth = network.shape.depth
    for index, layer in enumerate(network.shape.layers):
        if depth > MOST_LAYERS and 5 <= index < depth - 3:
            if index == 5:
                table.add_row("...", f"{depth - 8} more")
            continue
        form = f"{layer.inputs:,} > {layer.outputs:,}"
        if layer.taps > 1:
            kernel = network.target.layers[index].weight.shape[2:]
            form += f", {'x'.join(map(str, kernel))}"
        if layer.groups > 1:
            form += f" /{layer.groups}"
        table.add_row(
            str(index + 1),
            escape(network.target.layers[index].name),
            form,
            ("" if network.spectral_exact[index] else "<= ") + f"{layer.spectral:.4g}",
            f"{layer.largest:.3g}",
            f"{layer.row_sum:.4g}",
            f"{layer.row_nonzeros:,}",
            f"{layer.largest_bias:.3g}" if layer.biases else "-",
            escape(layer.activation.text),
        )
    return table


def _theorems(found: Requirements, notes: dict[str, str], plain: int) -> Table:
    from slth.forecast.numbers import readable

    columns = ("theorem", "intermediate widths", "source\nweights", "per\nweight", "constants", "state")
    table = _grid(*columns, left=(0, 1, 4, 5))
    numbers = {remedy: str(i) for i, remedy in enumerate(notes, 1)}
    styles = {"holds": "green", "divided": "yellow", "broken": "red"}
    for row in found:
        bound = row.bound
        state = " ".join(
            [f"[{styles[row.state]}]{row.state}[/]", *dict.fromkeys(numbers[b.remedy] for b in row.broken)]
        )
        if not bound.applies:
            table.add_row(row.name, "-", "-", "-", "-", state)
            continue
        sizes = (readable(bound.weights, plain), readable(bound.ratio, plain))
        table.add_row(row.name, _widths(_between(row), plain), *sizes, row.kind, state)
    if any(row.divided for row in found):
        table.caption = "sizes: of the network divided as the notes say, at eps over the product"
        table.caption_justify, table.caption_style = "left", "dim"
    return table


def _between(row: Row) -> tuple[int, ...]:
    """Widths of the layers that the theorem adds; the others are the target's."""
    widths = row.bound.widths
    return widths[1::2] if len(widths) == 2 * len(row.bound.factors) - 1 else widths[1:-1]


def _widths(widths: Sequence[int], plain: int) -> str:
    from slth.forecast.numbers import readable

    shown = [readable(width, plain) for width in widths]
    # Where numbers are short the screen is narrow.
    first = 2 if plain > SHORT else 1
    return " ".join(shown if len(shown) <= 5 else [*shown[:first], "...", shown[-1]])


def _estimates(found: Requirements) -> Table:
    from slth.forecast.numbers import readable

    table = _grid("theorem", "construction", "weights\nkept", "file", "slth find", left=(0, 1, 4))
    for row in found:
        made = row.estimate
        seconds = made.find_seconds
        table.add_row(
            row.name,
            made.construction or "-",
            "-" if made.kept_weights is None else readable(made.kept_weights),
            "-" if made.ticket_bytes is None else _bytes(made.ticket_bytes),
            f"no: {made.refused}" if seconds is None else f"{_seconds(seconds)}{_tolerance(row)}",
        )
    return table


def _tolerance(row: Row) -> str:
    """The argument with which slth searches a source for this theorem."""
    factors = row.bound.factors[1:] if row.divided else (1.0,) * len(row.bound.tolerances)
    least = min((t * f for t, f in zip(row.bound.tolerances, factors, strict=False)), default=None)
    return "" if least is None else f", --tolerance {least:.2g}"


def _constants(found: Requirements) -> list[tuple[str, str]]:
    """Which value each constant has and where it is from; theorems with the same one share a line."""
    lines: dict[str, list[str]] = {}
    for row in found:
        for used in row.constants:
            if used.kind == "proved" or not row.bound.applies:
                continue
            line = f"{used.value:.4g} {used.kind}"
            if used.base_set_size is not None:
                line += f": {used.base_set_size} {used.elements} elements reach {found.eps:g}"
                line += f" with probability {1 - found.delta:.6g}"
            elif used.kind == "fitted":
                line += f" to simulated {used.elements} elements"
            lines.setdefault(f"{used.name}\0{line}", []).append(row.name)
    return [(line.split("\0")[0], f"{line.split(chr(0))[1]} ({', '.join(names)})") for line, names in lines.items()]


def _notes(rows: Sequence[Row]) -> dict[str, str]:
    """Remedy -> what it restores; the key numbers the notes."""
    notes: dict[str, dict[str, None]] = {}
    for row in rows:
        for each in row.broken:
            notes.setdefault(each.remedy, {})[f"{each.text}: got {each.got}"] = None
    return {remedy: _tidy("\n".join(broken) + f"\n-> {remedy}") for remedy, broken in notes.items()}


def _tidy(text: str) -> str:
    """Leave out the middle of a long list of numbers, and what exponents do not need."""
    text = re.sub(r"(\d)e([+-])0?(\d+)", lambda found: f"{found[1]}e{found[2].strip('+')}{found[3]}", text)
    return re.sub(r"((?:[\d.e+-]+, ){4})(?:[\d.e+-]+, ){4,}", r"\1..., ", text)


def _listing(lines: Sequence[tuple[str, str]]) -> Any:
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for head, text in lines:
        table.add_row(escape(head), escape(text))
    return Padding(table, (1, 0, 0, 1))


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def _seconds(number: float) -> str:
    from slth.forecast.numbers import readable

    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if number >= 2 * size:
            return f"{number / size:.2g} {unit}" if number < 1e4 * size else f"{readable(number / size)} {unit}"
    return f"{number:.2g} s"
