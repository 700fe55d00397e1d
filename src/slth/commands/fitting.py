"""Tables that are wider than the terminal, made narrower: nothing is cut off but the beginnings of long names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

NAME_WIDTH = 16
"""So much room names should have at least before a column goes (chosen)."""
_LEAST = 6
_DISPENSABLE = ("density", "mean error", "base set")
"""Columns that follow from others or say least, the first to go first."""


@dataclass(frozen=True)
class _Column:
    """Header, cells and footer in plain text; numbers stand to the right."""

    header: str
    cells: tuple[str, ...]
    footer: str
    right: bool

    @property
    def width(self) -> int:
        """Of its longest line."""
        from rich.cells import cell_len

        return max(cell_len(line) for text in (self.header, *self.cells, self.footer) for line in text.split("\n"))

    @property
    def narrowed(self) -> _Column:
        """With its header on two lines."""
        return replace(self, header="\n".join(self.header.rsplit(" ", 1)))


def fitted(table: Table, width: int) -> Table:
    """The table itself if it is at most that wide; else with narrow headers, without what can be spared, names cut.

    Numbers are never cut: where there is no room for them either, rows are longer than the terminal is wide.
    """
    columns = [_plain(table, number) for number in range(len(table.columns))]
    if not columns or _sum(columns) + 3 * len(columns) - 1 <= width:
        return table
    columns = [column.narrowed if column.right else column for column in columns]
    for name in _DISPENSABLE:
        if _room(columns, width) < _wanted(columns):
            columns = [column for column in columns if column.header.replace("\n", " ") != name or not column.right]
    names = [column for column in columns if not column.right]
    widths = iter(_shares([column.width for column in names], _room(columns, width)))
    return _built(table, [column if column.right else _cut(column, next(widths)) for column in columns])


def elided(name: str, width: int, head: int = 0) -> str:
    """The end of a name, which tells most, and a beginning, if it is longer than so many characters."""
    from rich.cells import cell_len

    if cell_len(name) <= width:
        return name
    begin, end = name[:head], name[head:]
    while end and cell_len(begin + end) >= width:
        end = end[1:]
    return f"{begin}…{end}"


def _plain(table: Table, number: int) -> _Column:
    from rich.text import Text

    def text(cell: object) -> str:
        return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)

    column = table.columns[number]
    footer = text(column.footer) if table.show_footer else ""
    return _Column(text(column.header), tuple(map(text, column.cells)), footer, column.justify == "right")


def _sum(columns: list[_Column]) -> int:
    return sum(column.width for column in columns)


def _room(columns: list[_Column], width: int) -> int:
    """What numbers, with two spaces around them, leave for names."""
    return width - 2 * len(columns) - _sum([column for column in columns if column.right])


def _wanted(columns: list[_Column]) -> int:
    return sum(min(column.width, NAME_WIDTH) for column in columns if not column.right)


def _shares(wanted: list[int], room: int) -> list[int]:
    """Equal shares of some room, but no more than is wanted; what one does not want goes to the others."""
    shares = [0] * len(wanted)
    for done, index in enumerate(sorted(range(len(wanted)), key=lambda index: wanted[index])):
        shares[index] = max(_LEAST, min(wanted[index], (room - sum(shares)) // (len(wanted) - done)))
    return shares


def _cut(column: _Column, width: int) -> _Column:
    """Names cut at their beginnings; texts of several words stay whole, on several lines."""
    from textwrap import wrap

    words = {word for text in column.cells for word in text.split(" ")}
    # Names of which the ends are alike may have other beginnings.
    head = 0 if len({elided(word, width) for word in words}) == len(words) else width // 3

    def cell(text: str) -> str:
        words = (elided(word, width, head) for word in text.split(" "))
        return "\n".join(wrap(" ".join(words), width, break_long_words=False, break_on_hyphens=False))

    return replace(column, cells=tuple(map(cell, column.cells)), footer=cell(column.footer))


def _built(table: Table, columns: list[_Column]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=table.box, show_footer=table.show_footer, pad_edge=False, padding=(0, 1, 0, 0))
    made.caption, made.caption_justify, made.caption_style = table.caption, table.caption_justify, table.caption_style
    for column in columns:
        header, footer = escape(column.header), escape(column.footer)
        side: Literal["left", "right"] = "right" if column.right else "left"
        made.add_column(header, footer, justify=side, no_wrap=True, min_width=column.width)
    for row in zip(*(column.cells for column in columns), strict=True):
        made.add_row(*map(escape, row))
    return made
