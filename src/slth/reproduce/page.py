"""One HTML page of all results in a folder: verdicts first, then every experiment with its figure and its table."""

from __future__ import annotations

import base64
import html
from collections import Counter
from pathlib import Path
from typing import Any

from slth.files import write_atomically
from slth.report.frame import cards, foot, head, table
from slth.report.words import escaped, number, plural
from slth.reproduce.comparison import Verdict
from slth.reproduce.experiment import Cell
from slth.reproduce.registry import EXPERIMENTS
from slth.reproduce.store import finished

_CLASSES = {Verdict.REPRODUCED.value: "good", Verdict.DIFFERS.value: "bad", Verdict.NOT_COMPARABLE.value: ""}
_COLUMNS = ("quantity", "verdict", "paper", "ours", "interval")
"""On a telephone the interval alone takes scrolling."""


def write(root: Path) -> Path:
    """Write ``report.html`` of all finished experiments in a folder; returns its path."""
    path = root / "report.html"
    write_atomically(path, render(in_order(root)).encode())
    return path


def in_order(root: Path) -> list[tuple[dict[str, Any], Path]]:
    """All finished results in a folder with their folders, in the order of the list of experiments."""
    results = {result["name"]: (result, path) for result, path in finished(root)}
    names = [name for name in EXPERIMENTS if name in results] + sorted(set(results) - set(EXPERIMENTS))
    return [results[name] for name in names]


def render(results: list[tuple[dict[str, Any], Path]]) -> str:
    """The page as HTML; it loads nothing from the network."""
    from slth import __version__

    counts = Counter(entry["verdict"] for result, _ in results for entry in result["comparisons"])
    lead = f"{plural(len(results), 'table')} and figures of the papers, run here, each number beside the paper's."
    facts = [(verdict.value, f"{counts[verdict.value]:,}") for verdict in Verdict]
    facts.append(("seconds", number(sum(float(result["seconds"]) for result, _ in results))))
    opening = (
        '<header><p class="kicker">slth reproduce</p><h1>The papers, reproduced</h1>'
        f'<p class="lead">{lead}</p></header>'
    )
    body = "".join(_section(result, path) for result, path in results)
    return head("The papers, reproduced") + opening + cards(facts) + _contents(results) + body + foot(__version__)


def _contents(results: list[tuple[dict[str, Any], Path]]) -> str:
    rows = []
    for result, _ in results:
        verdicts = Counter(entry["verdict"] for entry in result["comparisons"])
        link = f'<a href="#{html.escape(_anchor(result["name"]))}">{escaped(result["name"])}</a>'
        rows.append([link, *(str(verdicts[verdict.value] or "") for verdict in Verdict), f"{result['seconds']:g}"])
    listed = table(("experiment", *(verdict.value for verdict in Verdict), "seconds"), rows)
    return f'<section><h2>All experiments</h2><div class="panel">{listed}</div></section>'


def _section(result: dict[str, Any], path: Path) -> str:
    facts = f"scale {result['scale']}, seed {result['seed']}, {result['seconds']:g} s, {result['date']}"
    figure = path / "figure.png"
    picture = ""
    if figure.is_file():
        content = base64.b64encode(figure.read_bytes()).decode()
        shows = html.escape(result["shows"])
        picture = f'<img style="width:100%;height:auto" alt="{shows}" src="data:image/png;base64,{content}">'
    return (
        f'<section id="{html.escape(_anchor(result["name"]))}"><h2>{escaped(result["name"])}</h2>'
        f'<p>{html.escape(result["shows"])}</p><div class="panel">{picture}{_verdicts(result["comparisons"])}'
        f"{''.join(_listed(one) for one in result.get('tables', ()))}"
        f'<p class="note">{html.escape(facts)}; {html.escape(result["machine"])}</p></div></section>'
    )


def _verdicts(comparisons: list[dict[str, Any]]) -> str:
    """What is compared; the other numbers are folded away below it."""
    compared, alone = divided(comparisons)
    if not compared:
        return _table(alone)
    rest = f"{plural(len(alone), 'number')} without a counterpart in the paper"
    folded = f'<details style="margin-top:8px"><summary>{rest}</summary>{_table(alone)}</details>'
    return _table(compared) + (folded if alone else "")


def divided(comparisons: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those with a verdict, and those that nothing is compared with."""
    alone = [entry for entry in comparisons if entry["verdict"] == Verdict.NOT_COMPARABLE.value]
    return [entry for entry in comparisons if entry["verdict"] != Verdict.NOT_COMPARABLE.value], alone


def cell(value: Cell) -> str:
    """What stands in a cell: numbers in four digits."""
    return "" if value is None else value if isinstance(value, str) else number(value, 4)


def _listed(one: dict[str, Any]) -> str:
    rows = [[html.escape(cell(value)) for value in row] for row in one["rows"]]
    listed = table([html.escape(name) for name in one["columns"]], rows)
    return f'<h3 style="margin-top:16px">{html.escape(one["title"])}</h3>{listed}'


def _table(comparisons: list[dict[str, Any]]) -> str:
    """The table, and below it each note once."""
    notes = list(dict.fromkeys(entry["note"] for entry in comparisons if entry["note"]))
    below = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    listed = f'<ol class="note">{below}</ol>' if notes else ""
    return table(_COLUMNS, [_row(entry, notes) for entry in comparisons]) + listed


def _row(entry: dict[str, Any], notes: list[str]) -> list[str]:
    spread = ""
    if entry["interval"]:
        spread = f"{number(entry['low'])} to {number(entry['high'])}<br><small>{html.escape(entry['interval'])}</small>"
    verdict = f'<span class="{_CLASSES[entry["verdict"]]}">{html.escape(entry["verdict"])}</span>'
    mark = f"<sup>{notes.index(entry['note']) + 1}</sup>" if entry["note"] else ""
    paper = entry["paper"]
    return [
        _wrapped(entry["quantity"], 8),
        verdict + mark,
        _wrapped(paper, 5) if len(paper) > _LONG else html.escape(paper),
        number(entry["ours"], 4),
        spread,
    ]


_LONG = 12
"""Letters in a cell that are broken over lines where the page is narrow."""


def _wrapped(text: str, least: int) -> str:
    """Text that takes several lines where there is no room for one, each of so many letters at least."""
    return f'<span style="white-space:normal;display:inline-block;min-width:{least}em">{html.escape(text)}</span>'


def _anchor(name: str) -> str:
    return name.replace("/", "-")
