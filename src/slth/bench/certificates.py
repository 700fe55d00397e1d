"""Certified errors beside the largest that are found, over boxes around given inputs and over the whole domain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from slth.bench.tables import NOTHING, Table
from slth.certify.bounds import METHODS, Bounder
from slth.certify.region import Box
from slth.certify.search import search_regions
from slth.certify.subject import Subject, prepare
from slth.domain import Domain
from slth.network.graph import Sign
from slth.network.target import Target
from slth.ticket import Ticket

Progress = Callable[[str, int, int], None]
RESTARTS, STEPS = 4, 20
"""Of the search in each of many boxes (chosen)."""
_WHOLE_RESTARTS, _WHOLE_STEPS = 64, 100
_ALONE = 3
"""Boxes that are bounded one by one for the time of a single one (chosen)."""


@dataclass(frozen=True)
class Line:
    """What was proved and found over some boxes.

    Attributes
    ----------
    network : str
    tolerance : float
        Of each weight.
    missed : int
        Weights farther off than that.
    radius : float or None
        None for the one box that is the whole domain.
    certified : dict of str to tensor, (boxes,)
        By method, in the max norm.
    observed : tensor, (boxes,)
    one_seconds : float
        Median time of the linear relaxation of one box, all threads working on it.
    seconds : float
        Time a box, a box a thread.
    """

    network: str
    tolerance: float
    missed: int
    radius: float | None
    certified: dict[str, torch.Tensor]
    observed: torch.Tensor
    one_seconds: float
    seconds: float

    @property
    def ratio(self) -> torch.Tensor:
        """Certified over observed, (boxes,)."""
        return self.certified["linear"] / self.observed

    @property
    def tighter(self) -> float:
        """Median of how many times the bound by norms is the one by linear relaxation."""
        return float((self.certified["norm"] / self.certified["linear"]).median())

    @property
    def violations(self) -> int:
        """Boxes in which more was found than any of the methods allows."""
        over = torch.stack([self.observed > bound for bound in self.certified.values()])
        return int(over.any(dim=0).sum())


def measure(
    name: str,
    target: Target,
    ticket: Ticket,
    tolerance: float,
    inputs: torch.Tensor,
    radii: Sequence[float | None],
    domain: Domain,
    threads: int = 2,
    on_progress: Progress = lambda name, done, total: None,
) -> list[Line]:
    """Certify and search boxes of each radius around the inputs, or the whole domain for None.

    Parameters
    ----------
    name : str
        Of the network.
    target : Target
    ticket : Ticket
    tolerance : float
        That the ticket was found with.
    inputs : float64 tensor, (n, *shape)
        Middles of the boxes.
    radii : sequence of float or None
    domain : Domain
        A box that all others are cut to.
    threads : int
    """
    subject = prepare(ticket, target)
    low, high = domain.bounds(target.graph.input_shape)
    lines, missed = [], sum(facts.missed for *_, facts in ticket.layers)
    for radius in radii:
        boxes = [Box(low, high)]
        if radius is not None:
            boxes = [Box((x - radius).maximum(low), (x + radius).minimum(high)) for x in inputs.to(torch.float64)]
        label = f"{name}, {tolerance:g}, {'whole' if radius is None else f'{radius:g}'}"

        def told(part: str, done: int, total: int, label: str = label) -> None:
            on_progress(f"{label}: {part}", done, total)

        certified, one, each = _certified(subject, boxes, threads, told)
        observed = _observed(subject, boxes, inputs, domain, threads, told)
        lines.append(Line(name, tolerance, missed, radius, certified, observed, one, each))
    return lines


def _certified(
    subject: Subject, boxes: list[Box], threads: int, on_progress: Progress
) -> tuple[dict[str, torch.Tensor], float, float]:
    """Bounds by method, and the seconds of one box alone and of each of many by the tightest."""
    certified, alone, seconds = {}, 0.0, 0.0
    for method in METHODS:
        bounder = Bounder(subject.hidden, subject.realised, method)
        # What does not depend on the box is made by the first one.
        bounder(boxes[0])
        times = []
        with _torch_threads(threads):
            for box in boxes[:_ALONE]:
                begin = time.perf_counter()
                bounder(box)
                times.append(time.perf_counter() - begin)
        alone = float(torch.tensor(times).median())
        begin, found = time.perf_counter(), []
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done, bounds in enumerate(pool.map(bounder, boxes), start=1):
                found.append(bounds.components.max())
                on_progress(method, done, len(boxes))
        seconds = (time.perf_counter() - begin) / len(boxes)
        certified[method] = torch.stack(found)
    return certified, alone, seconds


def _observed(
    subject: Subject, boxes: list[Box], inputs: torch.Tensor, domain: Domain, threads: int, on_progress: Progress
) -> torch.Tensor:
    """The largest difference found in each box: at its middle, at random points and corners, and by ascent."""
    ours, theirs = subject.networks(Sign.NONNEGATIVE if domain.sign.branches == (1,) else Sign.SIGNED)
    with _torch_threads(threads):
        if len(boxes) > 1:
            return search_regions(ours, theirs, boxes, restarts=RESTARTS, steps=STEPS, on_progress=on_progress).largest
        found = search_regions(ours, theirs, boxes, restarts=_WHOLE_RESTARTS, steps=_WHOLE_STEPS).largest
        with torch.no_grad():
            for part in inputs.to(torch.float64).split(256):
                inside = part[((part >= boxes[0].lower) & (part <= boxes[0].upper)).flatten(1).all(dim=1)]
                if len(inside):
                    found = found.maximum((ours(inside) - theirs(inside)).abs().max())
    return found


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def table(lines: Sequence[Line]) -> Table:
    """A row for each network, tolerance and radius; medians over the boxes."""
    columns = (
        *(
            "network",
            "tolerance",
            "missed",
            "radius",
            "boxes",
            "observed",
            "certified",
            "certified / observed",
            "worst box",
        ),
        *("intervals / observed", "norms / certified", "s a box alone", "s a box of many", "violations"),
    )
    rows = []
    for line in lines:
        n = len(line.observed)
        intervals = (line.certified["interval"] / line.observed).median()
        rows.append(
            (
                line.network,
                f"{line.tolerance:g}",
                f"{line.missed:,}",
                "whole box" if line.radius is None else f"{line.radius:g}",
                f"{n:,}",
                f"{float(line.observed.median()):.3g}",
                f"{float(line.certified['linear'].median()):.3g}",
                f"{float(line.ratio.median()):.2f}",
                f"{float(line.ratio.max()):.2f}" if n > 1 else NOTHING,
                f"{float(intervals):.1f}",
                f"{line.tighter:,.0f}",
                f"{line.one_seconds:.3f}",
                f"{line.seconds:.3f}" if n > 1 else NOTHING,
                str(line.violations),
            )
        )
    return Table("Certified errors beside observed ones", columns, tuple(rows), left=1)
