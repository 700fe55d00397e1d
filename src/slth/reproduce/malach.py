"""Malach, Yehudai, Shalev-Shwartz, Shamir 2020, "Pruning is all you need": widths, pairs, and neuron pruning.

The paper has no experiments; its numbers are its theorems, with the constants of the specification's derivation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slth.bounds import malach, orseau
from slth.reproduce.comparison import Comparison, alone, at_most, compare
from slth.reproduce.draws import uniforms
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import mean_and_interval, median_and_range, share_and_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from slth.reproduce.run import Run


def _widths(run: Run) -> list[Row]:
    """Source neurons for a target weight, by theorem A.6 and by Orseau et al.'s theorem 30."""
    rows: list[Row] = []
    depth, delta = run.settings["depth"], run.settings["delta"]
    for n in run.settings["width"]:
        for eps in run.settings["eps"]:
            wide = malach.layer_width(n, n, depth, eps, delta)
            shape = orseau.example(n, depth)
            later = orseau.theorem_30(shape, eps, delta, ticket="stated").widths[1]
            rows.append(
                {"width": n, "eps": eps, "neurons": float(wide), "a weight": wide / n**2, "Orseau": float(later)}
            )
    return rows


def _slope(rows: Sequence[Row], column: str, by: str, held: str, value: float) -> float:
    """Of the logarithm of a column by that of another, by least squares, where a third is held."""
    chosen = [row for row in rows if row[held] == value]
    x, y = (np.log([float(row[key] or 0) for row in chosen]) for key in (by, column))
    return float(np.polyfit(x, y, 1)[0])


def _compare_widths(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    n, eps = settings["width"][-1], settings["eps"][-1]
    found = [
        compare(
            "exponent of 1/eps in the width",
            2.0,
            -_slope(rows, "neurons", "eps", "width", n),
            margin=0.01,
        ),
        compare(
            "exponent of the layer's width n in neurons a layer",
            5.0,
            _slope(rows, "neurons", "width", "eps", eps),
            margin=0.3,
            reason="a logarithm besides",
            note="n^2 weights, each n^3 / eps^2 and a logarithm",
        ),
    ]
    example = [row for row in rows if row["width"] == 100 and row["eps"] == 0.01]
    if example and settings["depth"] == 10:
        words = "source neurons a weight: n = 100, ten layers, eps = delta = 0.01"
        found.append(at_most(words, 2e15, float(example[0]["a weight"] or 0), note="Orseau et al. quote it"))
        found.append(
            alone(
                "the same, of which theorem 30 of Orseau et al. needs one in",
                float(example[0]["neurons"] or 0) / float(example[0]["Orseau"] or 1),
                "later work",
            )
        )
    return found


def _draw_widths(figure: Figure, rows: Sequence[Row]) -> None:
    left, right = figure.subplots(1, 2)
    widths, accuracies = (sorted({float(row[key] or 0) for row in rows}) for key in ("width", "eps"))
    for column, name in (("neurons", "Malach et al. 2020"), ("Orseau", "Orseau et al. 2020, theorem 30")):
        by_eps = [row for row in rows if row["width"] == widths[-1]]
        left.loglog([row["eps"] for row in by_eps], [row[column] for row in by_eps], marker="o", label=name)
        by_width = [row for row in rows if row["eps"] == accuracies[0]]
        right.loglog([row["width"] for row in by_width], [row[column] for row in by_width], marker="o", label=name)
    left.set_xlabel("error eps")
    left.set_ylabel("neurons between two layers of the target")
    left.legend()
    right.set_xlabel("width of the target")


def _pairs(run: Run) -> list[Row]:
    """Lemma A.1: pools of the width that it asks for, each for a weight of its own."""

    def draw(key: Any) -> list[Row]:
        import torch

        import slth

        eps, delta, number = key
        size = malach.lemma_a1(eps, delta)
        n = run.settings["weights"]
        layer = torch.nn.Linear(n, 1, bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(uniforms(run.seed, 0, number, n))[None])
        example = torch.zeros(1, n, dtype=torch.float64)
        options: dict[str, Any] = {"construction": "pairs", "base_set_size": size, "tolerance": 2 * eps}
        ticket = slth.find_ticket(layer, example, seed=run.seed + number, **options)
        facts: Row = {"eps": eps, "delta": delta, "draw": number, "neurons": size, "weights": n}
        return [facts | {"failed": ticket.missed, "largest error": ticket.max_weight_error, "kept": ticket.n_kept}]

    keys = [(*pair, k) for pair in run.settings["lemmas"] for k in range(run.settings["draws"])]
    return run.each(keys, draw)


def _compare_pairs(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    for eps, delta in settings["lemmas"]:
        chosen = [row for row in rows if (row["eps"], row["delta"]) == (eps, delta)]
        failed, trials = (sum(int(row[key] or 0) for row in chosen) for key in ("failed", "weights"))
        share, span = share_and_interval(failed, trials)
        words = f"lemma A.1, eps = {eps:g}, delta = {delta:g}, {chosen[0]['neurons']} neurons"
        found.append(
            at_most(f"share of pools that fail: {words}", delta, share, interval=span, over=f"95 % of {trials}")
        )
        # Where no pool failed this is the lemma's error itself.
        worst = max(float(row["largest error"] or 0) for row in chosen)
        said = "weights of at most 2 eps keep nothing, so their error is their size"
        found.append(at_most(f"largest error over 2 eps: {words}", 1.0, worst / (2 * eps), note=said))
    return found


def _draw_pairs(figure: Figure, rows: Sequence[Row]) -> None:
    from slth.reproduce.figures import plot_estimates

    left, right = figure.subplots(1, 2)
    lemmas = sorted({(float(row["eps"] or 0), float(row["delta"] or 0)) for row in rows})
    for place, (eps, delta) in enumerate(lemmas):
        chosen = [row for row in rows if (row["eps"], row["delta"]) == (eps, delta)]
        share = share_and_interval(*(sum(int(row[key] or 0) for row in chosen) for key in ("failed", "weights")))
        left.bar(place, delta, 0.4, color="#e3e5e8", label="allowed" if not place else None)
        plot_estimates(left, [place], [share], "o", color="C0", label="found, 95 %" if not place else None)
        errors = [float(row["largest error"] or 0) / (2 * eps) for row in chosen]
        right.plot([place] * len(errors), errors, "o", markersize=3, color="#1f6fb2")
    names = [f"eps {eps:g}\ndelta {delta:g}" for eps, delta in lemmas]
    for axes, label in ((left, "share of pools that fail"), (right, "largest error / 2 eps")):
        axes.set_xticks(range(len(lemmas)), names)
        axes.set_ylabel(label)
        axes.set_xlim(-0.6, len(lemmas) - 0.4)
    left.legend()


def _ball(seed: int, n: int, size: int) -> NDArray[np.float64]:
    """Points of a unit ball: uniform numbers of the cube, shrunk onto the sphere where they are outside."""
    x = uniforms(seed, 1, 0, n * size).reshape(n, size)
    inside: NDArray[np.float64] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1.0)
    return inside


def _neurons(run: Run) -> list[Row]:
    """Neuron pruning of a function's random features: the error against the blocks' average, by blocks."""

    def sign(w: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(w[:, 0])

    def draw(key: Any) -> list[Row]:
        from slth.neurons import approximate_neurons
        from slth.neurons.ticket import predict

        blocks, number = key
        size, k, tau = run.settings["inputs"], run.settings["features"], run.settings["tau"]
        x = _ball(run.seed, run.settings["points"], size)
        seed = run.seed + number
        ticket = approximate_neurons(sign, size, features=k, blocks=blocks, tau=tau, seed=seed, law="sphere")
        drawn = ticket.source
        coefficients = sign(drawn.first(0, drawn.width).astype(np.float64))[None] / k
        average = predict(drawn, ticket.sigma, coefficients, x) / blocks
        kept = int(ticket.mask.sum()) / ticket.mask.size
        # One neuron of largest correlation, scaled as it fits best: what pruning to a single neuron can do.
        single = _best_single(drawn.first(0, min(drawn.width, 2000)).astype(np.float64), x, average)
        return [
            {
                "blocks": blocks,
                "draw": number,
                "error": float(np.abs(ticket.outputs(x) - average).max()),
                "kept": kept,
                "bound": ticket.error_bound,
                "largest output": float(np.abs(average).max()),
                "single neuron": single,
            }
        ]

    return run.each([(blocks, k) for blocks in run.settings["blocks"] for k in range(run.settings["draws"])], draw)


def _best_single(w: NDArray[np.float64], x: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Of neurons, each fitted by least squares, the least largest error, relative to the largest output."""
    features, target = np.maximum(x @ w.T, 0.0), np.asarray(wanted, np.float64).reshape(-1, 1)
    scale = (features * target).sum(axis=0) / np.maximum((features**2).sum(axis=0), 1e-300)
    return float(np.abs(features * scale - target).max(axis=0).min() / np.abs(target).max())


_NO_NUMBER = "the paper prints no number"
_REFERENCE = {100: 1.92, 1000: 0.63, 4000: 0.25}
"""Blocks -> error of the specification's own run, tau = 0.3 (M6)."""


def _compare_neurons(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found, over = [], f"95 % over {settings['draws']} draws"
    middles = {}
    for blocks in settings["blocks"]:
        chosen = [row for row in rows if row["blocks"] == blocks]
        middles[blocks], span = mean_and_interval([float(row["error"] or 0) for row in chosen])
        why = (
            f"of another function than the specification's {_REFERENCE[blocks]:g}"
            if blocks in _REFERENCE
            else _NO_NUMBER
        )
        found.append(alone(f"largest error, {blocks} blocks", middles[blocks], why, interval=span, over=over))
        bound = max(float(row["error"] or 0) / float(row["bound"] or 1) for row in chosen)
        found.append(at_most(f"largest error over the proved bound, {blocks} blocks", 1.0, bound))
    few, many = settings["blocks"][0], settings["blocks"][-1]
    found.append(
        compare(
            "exponent of the number of blocks in the error",
            -0.5,
            math.log(middles[many] / middles[few]) / math.log(many / few),
            margin=0.1,
        )
    )
    kept, span = mean_and_interval([float(row["kept"] or 0) for row in rows])
    over = f"95 % over {len(rows)} tickets"
    found.append(compare("share of neurons kept", settings["tau"], kept, margin=0.005, interval=span, over=over))
    single, span = median_and_range([float(row["single neuron"] or 0) for row in rows])
    why = "pruning to one neuron approximates no such function; random features need many"
    found.append(alone("relative error of the best single neuron", single, why, interval=span, over="range"))
    return found


def _draw_neurons(figure: Figure, rows: Sequence[Row]) -> None:
    from slth.reproduce.figures import plot_estimates

    axes = figure.subplots(1, 1)
    blocks = sorted({int(row["blocks"] or 0) for row in rows})
    for column, name in (("error", "found"), ("bound", "proved, with probability 95 %")):
        values = [[float(row[column] or 0) for row in rows if row["blocks"] == each] for each in blocks]
        middles = [float(np.mean(each)) for each in values]
        # An interval by Student's t may reach below 0, which a logarithmic axis does not have.
        plot_estimates(axes, blocks, [(m, (min(v), max(v))) for m, v in zip(middles, values, strict=True)], label=name)
    axes.loglog()
    axes.set_xlabel("blocks m")
    axes.set_ylabel("largest error against the blocks' average")
    axes.legend()


_PAPER_WIDTHS = {"width": [10, 20, 50, 100, 200, 500, 1000], "eps": [0.1, 0.03, 0.01, 0.003, 0.001], "depth": 10}

EXPERIMENTS = (
    Experiment(
        name="malach/widths",
        shows="Theorem 2.1 with the constants of A.6: how wide a source must be, by error and by width of the target.",
        scales={scale: Scale(0.02, _PAPER_WIDTHS | {"delta": 0.01}) for scale in ("quick", "paper")},
        rows=_widths,
        compare=_compare_widths,
        draw=_draw_widths,
    ),
    Experiment(
        name="malach/pairs",
        shows="Lemma A.1: how often pools of the width that it asks for fail, and by how much pairs miss their weight.",
        scales={
            "quick": Scale(0.3, {"lemmas": [(0.3, 0.1), (0.2, 0.1), (0.1, 0.05)], "weights": 500, "draws": 4}),
            "paper": Scale(
                1, {"lemmas": [(0.3, 0.1), (0.2, 0.1), (0.1, 0.05), (0.03, 0.01)], "weights": 2000, "draws": 10}
            ),
        },
        rows=_pairs,
        compare=_compare_pairs,
        draw=_draw_pairs,
    ),
    Experiment(
        name="malach/neurons",
        shows="Theorem 3.2 and remark 3.5: a neuron-subnetwork against the random features that it follows, by blocks.",
        scales={
            "quick": Scale(
                0.03,
                {"blocks": [100, 1000, 4000], "features": 5, "inputs": 3, "points": 300, "tau": 0.3, "draws": 6},
            ),
            "paper": Scale(
                1.5,
                {
                    "blocks": [100, 1000, 4000, 16000],
                    "features": 20,
                    "inputs": 10,
                    "points": 2000,
                    "tau": 0.3,
                    "draws": 20,
                },
            ),
        },
        rows=_neurons,
        compare=_compare_neurons,
        draw=_draw_neurons,
    ),
)
