"""Da Cunha, Natale, Viennot 2022, "Proving the Strong Lottery Ticket Hypothesis for CNNs": figures 3 and 4.

The paper replaces each of the 2,572 convolution weights of a trained LeNet5 by the best subset sum of n fresh uniform
numbers; that is ``fresh`` here. ``source`` finds a ticket as the theorem has it: all base sets are products of the
weights of one random convolutional source.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slth.reproduce.comparison import Comparison, alone, at_most, compare
from slth.reproduce.draws import uniforms
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import median_and_range

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from slth.reproduce.networks import LeNet5Features
    from slth.reproduce.run import Run

_SETS = {"MNIST": "mnist", "Fashion-MNIST": "fashion-mnist"}
_BATCH = 40
"""Images at once: larger ones leave the cache, and take twice as long."""
_ALONE = {
    "fresh": "the figure prints no number",
    "source": "the paper draws fresh numbers for each weight, and no source",
}
"""Why a number stands alone, by the way of drawing."""
_HOUR = 3600.0


def _rows(run: Run) -> list[Row]:
    """One row for each data set, way of drawing, n and draw."""
    from slth.reproduce.networks import lenet5_features

    rows: list[Row] = []
    for name, folder in _SETS.items():
        module = lenet5_features(run.places[f"networks/lenet5-{folder}"])
        images = {part: _images(run.places[folder], part, run.settings["images"]) for part in ("train", "test")}
        theirs = {part: _activations(module, x) for part, x in images.items()}

        def one(key: Any, module: LeNet5Features = module, images: Any = images, theirs: Any = theirs) -> list[Row]:
            _, way, n, draw = key
            begin = time.perf_counter()
            ours, facts = _fresh(module, n, run.seed, draw) if way == "fresh" else _source(module, n, run.seed + draw)
            facts["seconds"] = time.perf_counter() - begin
            for part, x in images.items():
                facts[f"output error, {part}"] = _output_error(ours, x, theirs[part])
            return [{"data": key[0], "way": way, "n": n, "draw": draw, **facts}]

        draws = range(run.settings["draws"])
        rows += run.each(
            [(name, way, n, k) for way in ("fresh", "source") for n in run.settings["n"] for k in draws], one
        )
    return rows


def _images(folder: Any, part: str, most: int | None) -> torch.Tensor:
    from slth.data import load_data

    return load_data(folder, part).inputs[:most].reshape(-1, 1, 28, 28).double()


def _activations(module: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    import torch

    with torch.no_grad():
        return [module(batch) for batch in images.split(_BATCH)]


def _output_error(ours: torch.nn.Module, images: torch.Tensor, theirs: list[torch.Tensor]) -> float:
    """The largest over images of max |difference| / max |activation| (figure 4)."""
    worst = 0.0
    for found, wanted in zip(_activations(ours, images), theirs, strict=True):
        largest = wanted.abs().amax((1, 2, 3))
        worst = max(worst, float(((found - wanted).abs().amax((1, 2, 3)) / largest).max()))
    return worst


def _fresh(module: LeNet5Features, n: int, seed: int, draw: int) -> tuple[LeNet5Features, Row]:
    """Each weight and bias by n fresh numbers of U[-1, 1]."""
    import torch

    from slth.reproduce.networks import LeNet5Features
    from slth.subsetsum import solve

    ours, worst = LeNet5Features().double(), 0.0
    with torch.no_grad():
        for index, (name, parameter) in enumerate(ours.named_parameters()):
            targets = module.get_parameter(name).numpy().ravel()
            elements = uniforms(seed, index, draw, targets.size * n).reshape(targets.size, n)
            found = solve(elements, targets)
            parameter.copy_(torch.from_numpy(found.sums.reshape(parameter.shape)))
            worst = max(worst, float(found.errors.max()))
    return ours.eval(), {"weight error": worst, "source weights a weight": float(n)}


def _source(module: LeNet5Features, n: int, seed: int) -> tuple[torch.nn.Module, Row]:
    """Each weight and bias by the products of one random convolutional source (theorem 1's order of layers)."""
    import torch

    import slth

    example = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    ticket = slth.find_ticket(module, example, construction="conv", base_set_size=n, seed=seed, domain=(0, 1))
    facts: Row = {"weight error": ticket.max_weight_error, "source weights a weight": ticket.spec.n_weights / 2572}
    return ticket.module("folded", dtype=torch.float64), facts


def _of(rows: Sequence[Row], data: str, way: str, n: int, column: str) -> list[float]:
    return [float(row[column] or 0) for row in rows if (row["data"], row["way"], row["n"]) == (data, way, n)]


def _compare_weights(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    for data in _SETS:
        for way in ("fresh", "source"):
            for n in settings["n"]:
                middle, span = median_and_range(_of(rows, data, way, n, "weight error"))
                words = f"largest weight error, {data}, n={n}, {way}"
                over = f"range over {settings['draws']} draws"
                if way == "fresh" and n == 20:
                    found.append(
                        at_most(words, 1e-2, middle, interval=span, over=over, written="below 0.01 from n = 15 to 20")
                    )
                else:
                    found.append(alone(words, middle, _ALONE[way], interval=span, over=over))
    seconds = max(sum(_of(rows, data, "fresh", max(settings["n"]), "seconds")) for data in _SETS) / settings["draws"]
    found.append(
        at_most(
            f"seconds for all weights, n={max(settings['n'])}, best subsets",
            _HOUR,
            seconds,
            written="about an hour on 32 cores (n = 30)",
            note="Gurobi there",
        )
    )
    return found


def _compare_outputs(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    over = f"range over {settings['draws']} draws"
    for data in _SETS:
        for way in ("fresh", "source"):
            for n in settings["n"]:
                for part in ("train", "test"):
                    middle, span = median_and_range(_of(rows, data, way, n, f"output error, {part}"))
                    words = f"largest relative output error, {data}, {part}, n={n}, {way}"
                    if way == "fresh" and n == 20:
                        said = "close to 0.001"
                        found.append(compare(words, 1e-3, middle, margin=2e-3, interval=span, over=over, written=said))
                    else:
                        found.append(alone(words, middle, _ALONE[way], interval=span, over=over))
    n = 20 if 20 in settings["n"] else max(settings["n"])
    overhead = _of(rows, "MNIST", "source", n, "source weights a weight")[0]
    found.append(
        compare(
            f"source weights a weight, n={n}",
            30.0,
            overhead,
            margin=5.0,
            written="roughly 30",
            reason="half of U is negative and cannot be used; 22.3 with 20 channels, about 44 with 40",
        )
    )
    return found


def _draw(figure: Figure, rows: Sequence[Row], column: str, label: str, dashed: str = "") -> None:
    """Medians and ranges of a column by n, and the medians of another one as dashes."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, data in zip(panels, _SETS, strict=True):
        for way in ("fresh", "source"):
            sizes = sorted({int(row["n"] or 0) for row in rows})
            spans = [median_and_range(_of(rows, data, way, n, column)) for n in sizes]
            words = {"fresh": "fresh uniform numbers a weight (the paper)", "source": "products of one source"}[way]
            (line,) = axes.plot(sizes, [middle for middle, _ in spans], marker="o", markersize=3, label=words)
            axes.fill_between(sizes, [low for _, (low, _) in spans], [high for _, (_, high) in spans], alpha=0.2)
            if dashed:
                middles = [median_and_range(_of(rows, data, way, n, dashed))[0] for n in sizes]
                axes.plot(sizes, middles, "--", color=line.get_color())
        axes.set_yscale("log")
        axes.set_title(data)
        axes.set_xlabel("sample size n")
    panels[0].set_ylabel(label)
    panels[0].legend()
    if dashed:
        styles = {column: "o-", dashed: "--"}
        lines = [panels[1].plot([], [], style, markersize=3, color="#5b636d")[0] for style in styles.values()]
        panels[1].legend(lines, [part.rpartition(", ")[2] for part in styles])


def _draw_weights(figure: Figure, rows: Sequence[Row]) -> None:
    _draw(figure, rows, "weight error", "largest weight error")


def _draw_outputs(figure: Figure, rows: Sequence[Row]) -> None:
    _draw(figure, rows, "output error, test", "largest relative output error", "output error, train")


_SCALES = {
    "quick": Scale(0.8, {"n": [5, 10, 15, 20, 25, 30], "draws": 5, "images": 500}),
    "paper": Scale(220, {"n": list(range(5, 31)), "draws": 20, "images": None}),
}
_NEEDED = ("mnist", "fashion-mnist", "networks/lenet5-mnist", "networks/lenet5-fashion-mnist")

EXPERIMENTS = (
    Experiment(
        name="dacunha/fig-3",
        shows="Figure 3: the largest error of the 2,572 convolution weights of LeNet5 against the sample size n.",
        scales=_SCALES,
        rows=_rows,
        compare=_compare_weights,
        draw=_draw_weights,
        data=_NEEDED,
    ),
    Experiment(
        name="dacunha/fig-4",
        shows="Figure 4: the largest relative output error of LeNet5's convolutions against the sample size n.",
        scales=_SCALES,
        rows=_rows,
        compare=_compare_outputs,
        draw=_draw_outputs,
        data=_NEEDED,
    ),
)
