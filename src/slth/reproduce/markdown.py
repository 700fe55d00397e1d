"""The results in a folder as one Markdown file: what is compared with the papers, for a repository or a review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slth.files import write_atomically
from slth.report.words import number, plural
from slth.reproduce.comparison import Verdict
from slth.reproduce.page import cell, divided, in_order


def write(root: Path) -> Path:
    """Write ``report.md`` of all finished experiments in a folder; returns its path."""
    path = root / "report.md"
    write_atomically(path, render([result for result, _ in in_order(root)]).encode())
    return path


def render(results: Sequence[dict[str, Any]]) -> str:
    """A table of all experiments, then one of every experiment's comparisons, with its notes below."""
    lines = [
        "| experiment | scale, seed | reproduced | differs | not comparable | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        counts = Counter(entry["verdict"] for entry in result["comparisons"])
        cells = [str(counts[verdict.value]) for verdict in Verdict]
        lines.append(
            _row(f"`{result['name']}`", f"{result['scale']}, {result['seed']}", *cells, f"{result['seconds']:g}")
        )
    total = Counter(entry["verdict"] for result in results for entry in result["comparisons"])
    seconds = number(sum(float(result["seconds"]) for result in results))
    lines.append(_row("all", "", *(str(total[verdict.value]) for verdict in Verdict), seconds))
    return "\n".join(lines) + "\n" + "".join(_section(result) for result in results)


def _section(result: dict[str, Any]) -> str:
    compared, alone = divided(result["comparisons"])
    where = f"{result['date']}, {result['machine']}"
    facts = [f"{where}, scale {result['scale']}, seed {result['seed']}, {result['seconds']:g} s"]
    if alone:
        facts.append(f"{plural(len(alone), 'number')} without one of the paper's: `{result['name']}/table.csv`")
    notes = list(dict.fromkeys(entry["note"] for entry in compared if entry["note"]))
    blocks = [f"### {result['name']}", result["shows"], "\n".join(_table(compared, notes))]
    blocks.append("\n".join(f"{place}. {_escaped(note)}" for place, note in enumerate(notes, 1)))
    for one in result.get("tables", ()):
        rows = [_row(*(cell(value) for value in row)) for row in one["rows"]]
        head = [_row(*one["columns"]), "|---" * len(one["columns"]) + "|"]
        blocks += [f"{one['title']}:", "\n".join([*head, *rows])]
    return "\n" + "\n\n".join(block for block in [*blocks, "; ".join(facts)] if block) + "\n"


def _table(compared: Sequence[dict[str, Any]], notes: Sequence[str]) -> list[str]:
    lines = ["| quantity | paper | ours | interval | verdict |", "|---|---|---|---|---|"]
    for entry in compared:
        spread = ""
        if entry["interval"]:
            spread = f"{number(entry['low'])} to {number(entry['high'])} ({entry['interval']})"
        mark = f" ({notes.index(entry['note']) + 1})" if entry["note"] else ""
        lines.append(_row(entry["quantity"], entry["paper"], number(entry["ours"], 4), spread, entry["verdict"] + mark))
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
