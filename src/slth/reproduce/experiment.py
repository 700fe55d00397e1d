"""What an experiment is: settings for each scale, a function that makes rows, and what is read off the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slth.reproduce.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slth.reproduce.run import Run

Cell = float | int | str | bool | None
Row = dict[str, Cell]
"""One line of the raw data, by column."""

SCALES = ("quick", "paper")
"""A few minutes at most for an experiment; the paper's own sizes and numbers of draws."""


@dataclass(frozen=True)
class Scale:
    """How large an experiment is.

    Attributes
    ----------
    minutes : float
        That it took on two cores, about.
    settings : mapping
        What its function reads; JSON.
    """

    minutes: float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows as a person reads them, for numbers that stand side by side and beside no paper's.

    Attributes
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuples
        Of one cell for each column, the first a name; None where there is nothing.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Experiment:
    """A table or a figure of a paper.

    Attributes
    ----------
    name : str
        ``paper/what``.
    shows : str
        A sentence.
    scales : mapping of str to Scale
        By the names of :data:`SCALES`.
    rows : callable
        From a run to the raw data, part by part: everything else follows from these.
    compare : callable
        From rows and settings to the papers' numbers beside ours.
    draw : callable, optional
        Draws the rows into a figure, with the paper's axes.
    data : tuple of str
        Data sets that it needs: names of :data:`slth.places.DATA`.
    optional : tuple of str
        Data sets that it takes where they are at hand.
    tables : callable, optional
        From rows to tables shown below what is compared.
    version : int
        Counted up when the function changes what it computes: results of an older one are not shown as its own.
    """

    name: str
    shows: str
    scales: Mapping[str, Scale]
    rows: Callable[[Run], list[Row]]
    compare: Callable[[Sequence[Row], Mapping[str, Any]], list[Comparison]]
    draw: Callable[[Figure, Sequence[Row]], None] | None = None
    data: tuple[str, ...] = field(default=())
    version: int = 1
    optional: tuple[str, ...] = field(default=())
    tables: Callable[[Sequence[Row]], list[Table]] | None = None
