"""What every page has: head, opening, cards of facts, foot."""

from __future__ import annotations

from collections.abc import Iterable

from slth.report.style import CSS
from slth.report.words import escaped

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def head(title: str) -> str:
    """From the first byte to the start of the page's content; nothing may be loaded from the network."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title, 200)}</title><style>{CSS}</style></head><body><main>"
    )


def opening(title: str, lead: str, facts: Iterable[tuple[str, str]]) -> str:
    """Heading, a sentence or two, and the facts; ``lead`` and the facts' values are HTML."""
    return (
        f'<header><p class="kicker">Strong lottery ticket</p><h1>{escaped(title, 200)}</h1><p class="lead">{lead}</p>'
        f"</header>{cards(facts)}"
    )


def cards(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values, a card each; values are HTML."""
    return f'<dl class="facts">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)}</dl>'


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls where it is too wide; its first column is text, the others are numbers."""

    def cells(tag: str, row: Iterable[str]) -> str:
        return "".join(f"<{tag}{'' if k else ' class=left'}>{cell}</{tag}>" for k, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", columns)}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def foot(version: str) -> str:
    """The end of the page."""
    return (
        f"<footer>Written by slth {escaped(version)}. This page loads nothing from the network."
        "</footer></main></body></html>\n"
    )
