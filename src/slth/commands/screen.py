"""What commands print: progress bars, tables, and JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from slth.commands.fitting import elided, fitted
from slth.network.accounts import SHARED, TICKETED

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from slth.network.accounts import Account
    from slth.summary import LayerSummary, TicketSummary

MOST_LAYERS = 6
"""Of a deeper network so many are named in a line (chosen)."""

LONGEST_NAME = 40
"""Of a longer name its beginning and its end stand in a line (chosen)."""

MOST_ROWS = 30
"""Of a table with more a third each of the first, the last and the worst are shown (chosen)."""

PATIENCE_SECONDS = 2.0
"""Work that is done sooner shows no progress bar."""


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output; numbers that JSON cannot hold become null."""
    typer.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(table: Table, lines: list[str], first: str = "") -> None:
    """A table and lines below it, on standard output, as wide as it needs where that is not a terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if first:
        console.print(first, markup=False)
    console.print(fitted(table, console.width))
    for line in lines:
        console.print(line, markup=False)


class Bar:
    """A progress bar with rate and time left that appears once the work has taken two seconds."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and sys.stderr.isatty()
        self.begin = time.monotonic()
        self.progress: Progress | None = None
        self.tasks: dict[str, Any] = {}

    def update(self, name: str, done: int, total: int) -> None:
        """Show ``done`` of ``total`` under a name."""
        if not self.enabled or (self.progress is None and time.monotonic() - self.begin < PATIENCE_SECONDS):
            return
        if self.progress is None:
            self.progress = _progress()
            self.progress.start()
        if name not in self.tasks:
            from rich.markup import escape

            self.tasks[name] = self.progress.add_task(escape(name), total=total)
        self.progress.update(self.tasks[name], completed=done, total=total)

    def stop(self) -> None:
        """Leave the screen as it was found."""
        if self.progress is not None:
            self.progress.stop()


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def progress_bar(enabled: bool) -> Iterator[Bar]:
    """A bar that is taken down whatever happens."""
    bar = Bar(enabled)
    try:
        yield bar
    finally:
        bar.stop()


_ENDLESS = {
    "neuron-by-neuron": "drawn neuron by neuron: a wider source begins with this one",
    "odd-multiples": "drawn neuron by neuron; neuron t has weights times 2^j besides, t an odd multiple of 2^j",
}
"""Orders of :mod:`slth.source.endless` in words."""


def search_lines(summary: TicketSummary) -> list[str]:
    """From which random network, and how the mask was found."""
    if summary.learnt:
        how = f"which weights to keep was learnt by {summary.objective}; no weight was trained"
        return [f"seed {summary.seed}, a random network of the network's own shape", how]
    tolerance = "no tolerance" if summary.tolerance is None else f"tolerance {summary.tolerance:g}"
    return [
        f"seed {summary.seed}, {summary.construction}, {summary.initialisation} initialisation",
        f"objective {summary.objective}, base sets of {summary.base_set_size}, {tolerance}",
    ]


def order_lines(summary: TicketSummary) -> list[str]:
    """What order layers have, and why, if not the construction's own; what copies there are; extra depth."""
    lines = [_ENDLESS[order] for order in sorted({layer.order for layer in summary.layers} & _ENDLESS.keys())]
    if summary.rerouted:
        lines.append(f"univariate neurons first, as the input may have either sign: {_few(summary.rerouted)}")
    for words, layers in summary.signed.items():
        names = [layer.name + (f" (s = {layer.shift:.6g})" if layer.shift else "") for layer in layers]
        lines.append(f"{words}, as the input may have either sign: {_few(names)}")
    if summary.copied:
        made = [
            f"{layer.name} {layer.copies}" + (f" and {layer.constants} constants" if layer.constants else "")
            for layer in summary.layers
        ]
        lines.append(f"copies that layers make of their outputs: {_few(made)}")
    if summary.candidates:
        lines.append(
            f"a source of {summary.source_depth} layers: hidden neurons of their own for every output, "
            f"each one of {summary.candidates} candidates"
        )
    if summary.extra_depth:
        lines.append(f"extra depth: {summary.extra_depth} identity layers besides the target's")
    if summary.pooling:
        parts = [f"{words}: {_few(names)}" for words, names in summary.pooling.items()]
        lines.append(f"average pooling as convolutions; {'; '.join(parts)}")
    return lines


def _few(names: Sequence[str]) -> str:
    """The first few of a list in a line."""
    shown = names if len(names) <= MOST_LAYERS else names[: MOST_LAYERS - 1]
    more = [f"{len(names) - len(shown)} more"] if len(shown) < len(names) else []
    return ", ".join([*(elided(name, LONGEST_NAME, LONGEST_NAME // 3) for name in shown), *more])


def law_lines(summary: TicketSummary) -> list[str]:
    """The law of the source's weights with its scales and factors, layer by layer."""
    shown = summary.layers if len(summary.layers) <= MOST_LAYERS else summary.layers[: MOST_LAYERS - 1]
    by_shape = any(layer.drawn_scales != (1.0, 1.0) for layer in summary.layers)
    parts = [
        f"layer {elided(layer.name, LONGEST_NAME, LONGEST_NAME // 3)}: {_scales(layer, by_shape)}" for layer in shown
    ]
    if len(shown) < len(summary.layers):
        parts.append(f"{len(summary.layers) - len(shown)} more")
    what = "drawn with a scale x times a factor" if by_shape else "times a factor"
    lines = [f"weights {summary.distribution}, {what}: {', '.join(parts)}"]
    if by_shape and summary.output_factor is not None:
        lines.append(f"the factors are one factor on the output: {_power(summary.output_factor)}")
    elif by_shape:
        lines.append("the factors are the layers' own: biases or activations are in the way of one on the output")
    return lines


def _scales(layer: LayerSummary, by_shape: bool) -> str:
    """Of the expanding and of the combining layer, or of the one that there is."""
    pairs = list(zip(layer.drawn_scales, layer.factors, strict=True))[0 if layer.depth == 2 else 1 :]
    if by_shape:
        return " and ".join(f"{drawn:.3g} x {_power(factor)}" for drawn, factor in pairs)
    return " and ".join(f"{factor:.3g}" for _, factor in pairs)


def _power(factor: float) -> str:
    """A power of 2, as every factor of a law with scales of its own is."""
    exponent = math.frexp(factor)[1] - 1
    return "1" if exponent == 0 else f"2^{exponent}"


def some_of(badness: Sequence[float], most: int = MOST_ROWS) -> list[int | None]:
    """Which of many rows are shown: the first, the last and the worst, with None for each gap."""
    n = len(badness)
    if n <= most:
        return list(range(n))
    third = most // 3
    worst = sorted(range(n), key=lambda index: -badness[index])[:third]
    shown = sorted({*range(third), *range(n - third, n), *worst})
    rows: list[int | None] = []
    for before, index in zip([-1, *shown], shown, strict=False):
        rows += [index] if index == before + 1 else [None, index]
    return rows


def add_rows(table: Table, rows: Sequence[Sequence[str]], badness: Sequence[float], whole: bool) -> None:
    """Rows of a table, the middle of many left out."""
    shown = list(range(len(rows))) if whole else some_of(badness)
    for index in shown:
        table.add_row(*(["..."] if index is None else rows[index]))
    if None in shown:
        left = len(rows) - sum(index is not None for index in shown)
        table.caption = f"{left:,} more layers (slth show --all-layers); the worst are among those shown"
        table.caption_justify, table.caption_style = "left", "dim"


def parameter_table(accounts: Sequence[Account]) -> Table:
    """One row a parameter."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("parameter")
    table.add_column("numbers", justify="right")
    table.add_column("")
    table.add_column("in, or why")
    for account in accounts:
        state, where = account.state, account.where
        if state == TICKETED and "," in where:
            where += " (once for each role)"
        if state == SHARED:
            state, where = "", f"the same tensor as {where}"
        table.add_row(escape(account.name), f"{account.n:,}", state, escape(where))
    return table


def ticket_table(summary: TicketSummary, whole: bool = True) -> Table:
    """One row a layer, and the totals; without ``whole`` the middle of many layers is left out."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("layer", "total")
    if summary.learnt:
        return _learnt_table(table, summary, whole)
    columns = {
        "weights": f"{sum(layer.weights for layer in summary.layers):,}",
        "base set": str(summary.base_set_size),
        "source weights": f"{summary.source_weights:,}",
        "kept": f"{summary.kept_weights:,}",
        "density": f"{summary.density:.2%}",
        "worst error": f"{summary.max_weight_error:.1e}",
        "missed": "-" if summary.tolerance is None else f"{summary.missed:,}",
    }
    for name, total in columns.items():
        table.add_column(name, total, justify="right")
    rows = []
    for layer in summary.layers:
        low, high = layer.base_set_range
        row = [
            escape(layer.name),
            f"{layer.weights:,}",
            f"{layer.base_set_size:.1f} ({low}-{high})" if low != high else f"{low}",
            f"{layer.source_weights:,}",
            f"{layer.kept_weights:,}",
            f"{layer.density:.2%}",
            f"{layer.max_weight_error:.1e}",
            "-" if summary.tolerance is None else f"{layer.missed:,}",
        ]
        rows.append(row)
    add_rows(table, rows, [layer.max_weight_error for layer in summary.layers], whole)
    return table


def _learnt_table(table: Table, summary: TicketSummary, whole: bool) -> Table:
    """Of a mask over a network's own shape: how much of each layer is kept."""
    from rich.markup import escape

    for name, total in (
        ("random weights", f"{summary.source_weights:,}"),
        ("kept", f"{summary.kept_weights:,}"),
        ("density", f"{summary.density:.2%}"),
    ):
        table.add_column(name, total, justify="right")
    rows = [
        [escape(layer.name), f"{layer.source_weights:,}", f"{layer.kept_weights:,}", f"{layer.density:.2%}"]
        for layer in summary.layers
    ]
    add_rows(table, rows, [-layer.density for layer in summary.layers], whole)
    return table
