"""The page of a neuron ticket: renders for every kind, loads nothing, trusts no name, shows the ticket's numbers."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slth
from command_line import slth as run
from slth.neurons.find import approximate_neurons, find_neurons
from slth.report import neuron_figures
from slth.report.neurons import render_neurons
from slth.report.words import number
from test_report import _check_page

X = np.random.default_rng(3).normal(size=(60, 4))
SIDE = (X[:, 0] > 0).astype(int)
THREE = np.argmax(X[:, :3], axis=1)
MANY = np.arange(60) % 15
EVIL = "<script>alert(1)</script>&\"'\x1b[31m"


def find(labels: Any, **options: Any) -> slth.NeuronTicket:
    return find_neurons(X, labels, **{"features": 8, "blocks": 6, "test": (X[:9], labels[:9]), **options})


TICKETS = {
    "three classes": find(THREE),
    "two classes": find(np.array(["no", EVIL])[SIDE]),
    "many classes": find(MANY, task="classification", constant=True),
    "regression": find(X[:, :2] ** 2, activation="tanh", law="ball"),
    "no test part": find_neurons(X, X[:, 0], features=5, blocks=1, block_samples=30, tau=0.5),
    "a function": approximate_neurons(lambda w: np.sign(w[:, 0]), 3, features=4, blocks=5),
    "nothing to fit": find_neurons(X, np.zeros(60), features=4, blocks=3),
    "an older file": dataclasses.replace(find(THREE), aims=None),
}


@pytest.fixture(scope="module", params=TICKETS)
def ticket(request: pytest.FixtureRequest) -> slth.NeuronTicket:
    """One ticket of each kind."""
    return TICKETS[request.param]


@pytest.fixture(scope="module")
def page(ticket: slth.NeuronTicket) -> str:
    """Its page."""
    return render_neurons(ticket, title=f"{EVIL}.ticket", file_bytes=4321)


def test_page_is_self_contained_and_trusts_no_name(page: str) -> None:
    _check_page(page)
    assert "<script" not in page and "\x1b" not in page
    assert len(page) < 300_000
    assert "#0a0b" not in page and "#000000" not in page
    assert "nan" not in page.replace("nance", "") and "inf\u202f" not in page


def test_pictures_are_wellformed(ticket: slth.NeuronTicket, page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 5 - (ticket.aims is None) - (ticket.error_bound == 0)
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_page_holds_the_tickets_numbers(ticket: slth.NeuronTicket, page: str) -> None:
    assert f"{ticket.source.width:,} neurons" in page and f"{ticket.n_kept:,} of {ticket.mask.size:,}" in page
    assert number(ticket.error_bound) in page and f"{ticket.n_live:,}" in page
    for part in (ticket.train, ticket.test):
        if part is not None:
            for value in (part.error, part.average_error, part.difference, part.expected_difference):
                assert f"<td>{number(value)}</td>" in page
            if part.accuracy is not None:
                assert f"{part.accuracy:.2f}\u202f%" in page
    for name in ticket.classes[:12] if ticket.source.outputs > 1 else ():
        assert f"<td class=left>{name}</td>" in page
    assert ("3 further outputs" in page) == (ticket.source.outputs == 15)
    assert "4.32\u202fKB" in page


def test_the_interval_is_the_binomial_one(page: str, ticket: slth.NeuronTicket) -> None:
    """By the binomial law itself: at least 90 of 100 draws lie within what the page says, at most 99.5."""
    from scipy import stats

    low, high = (float(end) / 100 for end in re.findall(r"Of 100 draws 95 keep</dt><dd>([\d.]+) to ([\d.]+)", page)[0])
    total = ticket.mask.size
    if total * ticket.tau < 5:
        pytest.skip("too few for the normal law")
    inside = stats.binom.cdf(math.floor(high * total), total, ticket.tau)
    inside -= stats.binom.cdf(math.ceil(low * total) - 1, total, ticket.tau)
    assert 0.9 < inside < 0.995


def test_same_ticket_same_page(ticket: slth.NeuronTicket) -> None:
    pages = {render_neurons(dataclasses.replace(ticket, seconds=s), title="t", file_bytes=5) for s in (None, 1.0)}
    assert len(pages) == 1


def test_pictures_show_every_block_and_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts as drawn against counts by hand."""
    from matplotlib.axes import Axes

    bars: list[float] = []
    dots: list[int] = []
    stairs, plot = Axes.stairs, Axes.plot

    def count_bars(self: Axes, values: Any, *words: Any, **options: Any) -> Any:
        bars.append(float(np.sum(values)))
        return stairs(self, values, *words, **options)

    def count_dots(self: Axes, x: Any, *words: Any, **options: Any) -> Any:
        if options.get("linestyle") == "none":
            dots.append(np.size(x))
        return plot(self, x, *words, **options)

    monkeypatch.setattr(Axes, "stairs", count_bars)
    monkeypatch.setattr(Axes, "plot", count_dots)
    ticket = TICKETS["three classes"]
    neuron_figures.kept_by_block(ticket)
    assert bars == [6]
    neuron_figures.windows_scatter(ticket)
    assert ticket.aims is not None and sum(dots) == len(ticket.aims) == ticket.mask.size
    assert dots[1] == ticket.n_kept


def test_show_writes_the_page(tmp_path: Path) -> None:
    TICKETS["three classes"].save(tmp_path / "a.ticket")
    shown = run("show", "a.ticket", "--html", "a.html", cwd=tmp_path)
    assert (shown.status, shown.err) == (0, "") and "page in a.html" in shown.out
    assert "3 classes: 0, 1, 2; 4 inputs" in shown.out
    wanted = render_neurons(
        TICKETS["three classes"], title="a.ticket", file_bytes=(tmp_path / "a.ticket").stat().st_size
    )
    assert (tmp_path / "a.html").read_text() == wanted
