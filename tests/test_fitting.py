"""Tables on narrow terminals: no number is cut, no line is too long, names stay apart."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slth.commands.fitting import elided, fitted

HEADERS = ("weights", "base set", "source weights", "density", "mean error", "missed")
NAMES = st.lists(st.text("ab.0[]é層", min_size=1, max_size=60), min_size=1, max_size=8, unique=True)


def _table(names: list[str], numbers: list[list[int]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("layer", "total")
    for header in HEADERS:
        table.add_column(header, "7", justify="right")
    for name, row in zip(names, numbers, strict=False):
        table.add_row(escape(name), *(f"{number:,}" for number in row))
    return table


def _printed(table: Table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(fitted(table, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(NAMES, st.data(), st.integers(60, 140))
def test_no_number_is_cut_and_no_line_is_longer_than_the_terminal(
    names: list[str], data: st.DataObject, width: int
) -> None:
    row = st.lists(st.integers(0, 10**6), min_size=len(HEADERS), max_size=len(HEADERS))
    numbers = [data.draw(row) for _ in names]
    lines = _printed(_table(names, numbers), width)
    assert all(cell_len(line) <= width for line in lines)
    kept = [HEADERS.index(header) for header in ("weights", "source weights", "missed")]
    body = [line for line in lines if line.strip()][-len(names) - 1 : -1]
    for line, own in zip(body, numbers, strict=True):
        assert all(f" {own[index]:,} " in f"{line} " for index in kept), (line, own)


def test_a_table_that_fits_is_left_alone() -> None:
    table = _table(["a"], [[1] * len(HEADERS)])
    assert fitted(table, 120) is table
    assert len(fitted(_table(["a" * 200], [[10**6] * len(HEADERS)]), 120).columns) == len(HEADERS) + 1
    narrow = fitted(_table(["a" * 200], [[10**9] * len(HEADERS)]), 70)
    assert [str(column.header) for column in narrow.columns] == ["layer", "weights", "source\nweights", "missed"]


def test_names_whose_ends_are_alike_keep_their_beginnings() -> None:
    names = [f"{first}.{'middle.' * 8}weight" for first in ("encoder", "decoder")]
    lines = _printed(_table(names, [[10**6] * len(HEADERS)] * 2), 80)
    assert sum("encode" in line for line in lines) == 1 and sum("decode" in line for line in lines) == 1
    lines = _printed(_table([f"{'middle.' * 8}{n}.weight" for n in range(2)], [[10**6] * len(HEADERS)] * 2), 80)
    cut = [line.split()[0] for line in lines if "…" in line]
    assert [name[-9:] for name in cut] == [".0.weight", ".1.weight"] and all(name[0] == "…" for name in cut)


@given(st.text("ab.é層", max_size=80), st.integers(3, 80), st.integers(0, 20))
def test_an_elided_name_is_a_beginning_and_an_end(name: str, width: int, head: int) -> None:
    short = elided(name, width, min(head, width // 6))
    if "…" not in name:
        begin, mark, end = short.partition("…")
        assert name == short if not mark else name.startswith(begin) and name.endswith(end)
    assert cell_len(short) <= width
