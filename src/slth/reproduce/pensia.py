"""Pensia, Rajput, Nagle, Vishwakarma, Papailiopoulos 2020: a two-layer network, every weight by a subset sum."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slth.reproduce.comparison import Comparison, alone, at_most, compare
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import mean_and_interval

if TYPE_CHECKING:
    from slth.reproduce.run import Run

_HOURS = 21.5
_ACCURACY = 97.19


def _table(run: Run) -> list[Row]:
    """A row a draw of the source: one trained target for all, or for each its own."""
    from slth.data import load_data

    parts = {part: load_data(run.places["mnist"], part) for part in ("train", "test")}

    def draw(number: Any) -> list[Row]:
        import slth
        from slth.learn.perceptron import train_perceptron

        settings = run.settings
        trained = train_perceptron(
            parts["train"], parts["test"], (settings["hidden"],), settings["epochs"], run.seed + number
        )
        begin = time.perf_counter()
        ticket = slth.find_ticket(
            trained.network,
            parts["test"].inputs[:1].flatten(1).float(),
            base_set_size=settings["variables"],
            tolerance=settings["eps"],
            objective=settings["objective"],
            seed=run.seed + number,
            domain=(0, 1),
        )
        seconds = time.perf_counter() - begin
        inputs = parts["test"].inputs.flatten(1).float()
        return [
            {
                "draw": number,
                "target accuracy": trained.accuracy,
                "ticket accuracy": parts["test"].accuracy(ticket.module("folded"), inputs),
                "target weights": ticket.n_weights,
                "source weights": ticket.spec.n_weights,
                "kept weights": ticket.n_kept,
                "missed": ticket.missed,
                "largest error": ticket.max_weight_error,
                "seconds": seconds,
            }
        ]

    return run.each(range(run.settings["draws"]), draw)


def _compare(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    def of(column: str) -> tuple[float, tuple[float, float]]:
        least = 0.0, 100.0 if "accuracy" in column else float("inf")
        return mean_and_interval([float(row[column] or 0) for row in rows], within=least)

    over = f"95 % over {len(rows)} targets and sources" if len(rows) > 1 else ""
    target, span = of("target accuracy")
    trained = "another training: Adam, its rate falling to zero"
    found = [compare("target accuracy, %", _ACCURACY, target, margin=0.3, interval=span, over=over, reason=trained)]
    differences = [float(row["ticket accuracy"] or 0) - float(row["target accuracy"] or 0) for row in rows]
    lost, span = mean_and_interval(differences)
    same = "the same accuracy"
    found.append(compare("ticket less target, %", 0.0, lost, margin=0.05, interval=span, over=over, written=same))
    seconds, span = of("seconds")
    words = f"seconds to find {int(float(rows[0]['target weights'] or 0)):,} subsets"
    said, how = f"{_HOURS:g} hours on 36 cores", "mixed integer programmes solved by Gurobi there"
    found.append(at_most(words, _HOURS * 3600, seconds, interval=span, over=over, written=said, note=how))
    for column, why in (
        ("source weights", "the paper draws 21 numbers a weight beside the network; here they are its products"),
        ("kept weights", "the paper gives none"),
        ("missed", "weights further than 0.01 off; the paper counts none"),
        ("largest error", "the paper gives none"),
    ):
        value, span = of(column)
        found.append(alone(column, value, why, interval=span, over=over))
    return found


_SETTINGS = {"hidden": 500, "variables": 21, "eps": 0.01, "objective": "best"}

EXPERIMENTS = (
    Experiment(
        name="pensia/table",
        shows="A two-layer 784-500-10 network on MNIST, 21 variables a weight, each within 0.01: accuracy, size, time.",
        scales={
            "quick": Scale(0.2, _SETTINGS | {"epochs": 3, "draws": 1}),
            "paper": Scale(2.5, _SETTINGS | {"epochs": 8, "draws": 5}),
        },
        rows=_table,
        compare=_compare,
        data=("mnist",),
    ),
)
