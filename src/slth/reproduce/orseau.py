"""Orseau, Hutter, Rivasplata 2020, "Logarithmic Pruning is All You Need": worked examples, and the gaps of figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slth.bounds import malach, orseau
from slth.report.words import number
from slth.reproduce.comparison import Comparison, alone, at_most, compare
from slth.reproduce.draws import uniforms
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import median_and_range

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from slth.reproduce.run import Run

_NORMS: dict[str, orseau.TicketNorms] = {"spectral norms at most 1": "stated", "spectral norms at most 100": "worst"}
_PRINTED = {
    ("spectral norms at most 1", "theorem 3"): 630.0,
    ("spectral norms at most 100", "theorem 3"): 2450.0,
    ("spectral norms at most 1", "theorem 30"): 144.0,
    ("spectral norms at most 100", "theorem 30"): 574.0,
    ("spectral norms at most 1", "Malach et al."): 2e15,
}
"""Source weights for a weight of the target, each "at most" so many (examples 5, 6 and 32)."""


def _examples(run: Run) -> list[Row]:
    eps, delta = run.settings["eps"], run.settings["delta"]
    shape = orseau.example(run.settings["width"], run.settings["depth"])
    rows: list[Row] = []
    for norms, ticket in _NORMS.items():
        eps_w = orseau.tolerance(shape, eps, ticket)
        rows.append({"norms": norms, "quantity": "weight tolerance", "value": float(eps_w)})
        widths = {
            "theorem 3": orseau.theorem_3(shape, eps, delta, ticket=ticket),
            "theorem 3, repaired": orseau.theorem_3_repaired(shape, eps, delta, ticket=ticket),
            "theorem 30": orseau.theorem_30(shape, eps, delta, ticket=ticket),
        }
        rows += [
            {"norms": norms, "quantity": name, "value": float(bound.per_weight[0])} for name, bound in widths.items()
        ]
    width = run.settings["width"]
    per_weight = malach.layer_width(width, width, run.settings["depth"], eps, delta) / width**2
    rows.append({"norms": "spectral norms at most 1", "quantity": "Malach et al.", "value": per_weight})
    return rows


def _compare_examples(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found: list[Comparison] = []
    for row in rows:
        key, value = (str(row["norms"]), str(row["quantity"])), float(row["value"] or 0)
        name = f"{key[1]}, {key[0]}"
        if key in _PRINTED:
            found.append(at_most(f"source weights a weight: {name}", _PRINTED[key], value))
        elif "repaired" in name:
            why = "the paper's proof needs this: its lemma 29 must hold for every pair of input and output"
            found.append(alone(f"source weights a weight: {name}", value, why))
        else:
            found.append(alone(name, value, "the paper gives the formula alone (example 2)"))
    return found


_SINGLES, _HYPERBOLIC, _UNIFORM, _SYMMETRIC = "uniform singles", "hyperbolic", "uniform", "uniform [-1, 1]"
_LAWS = {
    _SINGLES: "1,000 samples of U[0, 1], not summed",
    _HYPERBOLIC: "sub-sums of 15 hyperbolic samples",
    _UNIFORM: "sub-sums of 15 samples of U[0, 1]",
    _SYMMETRIC: "sub-sums of 15 samples of U[-1, 1]",
}
_POINTS = 400
"""Of a panel: the largest gap in each stretch of the axis."""


def _points(law: str, seed: int, number: int, settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """The samples, or the sums of all their subsets, in order."""
    n = settings["singles" if law == _SINGLES else "samples"]
    sample = uniforms(seed, list(_LAWS).index(law), number, n, -1.0 if law == _SYMMETRIC else 0.0)
    if law == _SINGLES:
        return np.sort(sample)
    return np.sort(sums_of(settings["smallest"] ** sample if law == _HYPERBOLIC else sample))


def _gaps(points: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Distances between neighbours in [low, high], the ends among them."""
    inside = points[(points >= low) & (points <= high)]
    return np.diff(np.concatenate(([low], inside, [high])))


def sums_of(elements: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of all subsets."""
    sums = np.zeros(1)
    for element in elements:
        sums = np.concatenate((sums, sums + element))
    return sums


def _figure_2(run: Run) -> list[Row]:
    """One row a draw; of the first draws also the points of the figure."""

    def draw(key: Any) -> list[Row]:
        law, number = key
        points = _points(law, run.seed, number, run.settings)
        gaps = _gaps(points, -1.0 if law == _SYMMETRIC else 0.0, 1.0)
        facts: Row = {
            "law": law,
            "draw": number,
            "median gap": float(np.median(gaps)),
            "largest gap": float(gaps.max()),
        }
        if law == _UNIFORM:
            facts["median gap of all"] = float(np.median(np.diff(points)))
            facts["largest gap in [1, sum - 1]"] = float(_gaps(points, 1.0, float(points[-1]) - 1).max())
        return [facts, *(_drawn(law, points) if number == 0 else [])]

    return run.each([(law, number) for law in _LAWS for number in range(run.settings["draws"])], draw)


def _drawn(law: str, points: NDArray[np.float64]) -> list[Row]:
    gaps, middles = np.diff(points), (points[1:] + points[:-1]) / 2
    stretch = np.minimum((middles - points[0]) / (points[-1] - points[0]) * _POINTS, _POINTS - 1).astype(int)
    rows: list[Row] = []
    for each in np.unique(stretch):
        inside = np.flatnonzero(stretch == each)
        largest = inside[gaps[inside].argmax()]
        rows.append({"law": law, "draw": 0, "x": float(middles[largest]), "gap": float(gaps[largest])})
    return rows


_GAPS = (
    (_SINGLES, "largest gap", 0.008, 0.011),
    (_HYPERBOLIC, "median gap", 1e-5, 4e-5),
    (_HYPERBOLIC, "largest gap", 0.003, 0.11),
    (_UNIFORM, "median gap of all", 7e-5, 7e-5),
    (_UNIFORM, "largest gap", 0.07, 0.11),
    (_UNIFORM, "largest gap in [1, sum - 1]", 0.0, 0.006),
    (_SYMMETRIC, "largest gap", 0.0011, 0.0011),
)
"""Law, quantity and range of reference: a recomputation of figure 2, which prints no numbers."""


def _compare_figure_2(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    for law, quantity, low, high in _GAPS:
        values = [float(row[quantity] or 0) for row in rows if row["law"] == law and quantity in row]
        middle, span = median_and_range(values)
        found.append(
            compare(
                f"{quantity}: {_LAWS[law]}",
                min(max(middle, low), high),
                middle,
                interval=span,
                over=f"range over {len(values)} draws",
                written=number(low) if low == high else f"{number(low)} to {number(high)}",
                note="the figure prints no number; the reference is a recomputation",
                reason="gaps differ from draw to draw, and the reference seems to be of one draw",
            )
        )
    return found


def _draw_figure_2(figure: Figure, rows: Sequence[Row]) -> None:
    panels = figure.subplots(2, 2)
    for axes, law in zip(panels.flat, _LAWS, strict=True):
        points = [row for row in rows if row["law"] == law and "x" in row]
        axes.plot([row["x"] for row in points], [row["gap"] for row in points], ".", markersize=3)
        axes.set_yscale("log")
        axes.set_title(_LAWS[law], fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("difference of neighbours")


EXPERIMENTS = (
    Experiment(
        name="orseau/examples",
        shows="Examples 2, 5, 6 and 32: source weights for a weight of a network of ten layers of 100, against Malach.",
        scales={
            scale: Scale(0.02, {"width": 100, "depth": 10, "eps": 0.01, "delta": 0.01}) for scale in ("quick", "paper")
        },
        rows=_examples,
        compare=_compare_examples,
    ),
    Experiment(
        name="orseau/fig-2",
        shows="Figure 2: gaps between neighbouring sub-sums of hyperbolic and of uniform samples, and uniform singles.",
        scales={
            "quick": Scale(0.01, {"samples": 15, "singles": 1000, "smallest": 1e-3, "draws": 20}),
            "paper": Scale(0.1, {"samples": 15, "singles": 1000, "smallest": 1e-3, "draws": 200}),
        },
        rows=_figure_2,
        compare=_compare_figure_2,
        draw=_draw_figure_2,
    ),
)
