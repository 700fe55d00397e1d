"""Zhang, Wang, Liu, Chen, Xiong 2021, "Why Lottery Ticket Wins?": figures 2 to 5, on teachers; 6 and 7 prune.

The figures print no numbers: beside the paper's statements (a line, a proportion) stand numbers of a recomputation with
the paper's settings, called references here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slth.reproduce.comparison import Comparison, alone, at_most, compare
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import mean_and_interval, share_and_interval
from slth.reproduce.zhang_pruning import EXPERIMENTS as PRUNING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slth.reproduce.run import Run

NOTE = "the figure prints no number; the reference is a recomputation"
STRAIGHT = 0.05
"""Most of the variance that may be left beside a line that the paper sees (chosen)."""


def _setting(run: Run, kept: int, **others: Any) -> Any:
    from slth.learn.trials import Setting

    own = {name: run.settings[name] for name in ("neurons", "inputs", "samples") if name in run.settings}
    return Setting(kept=kept, **own | others)


def _descent(run: Run, momentum: float | None = None) -> Any:
    from slth.learn.descent import Descent

    momentum = run.settings["momentum"] if momentum is None else momentum
    return Descent(run.settings["step_size"], momentum, run.settings["iterations"])


def _chosen(rows: Sequence[Row], column: str, **key: Any) -> list[float]:
    """A column of the rows that have these values and that column."""
    fitting = (row for row in rows if column in row and all(row.get(name) == value for name, value in key.items()))
    return [float(row[column] or 0) for row in fitting]


def _unexplained(x: Sequence[float], y: Sequence[float]) -> float:
    """1 - R² of the line of least squares; NaN of fewer than three points, 0 of equal ones."""
    if len(x) < 3:
        return float("nan")
    across, up = np.asarray(x) - np.mean(x), np.asarray(y) - np.mean(y)
    total = float(up @ up)
    return 1 - float(across @ up) ** 2 / (float(across @ across) * total) if total else 0.0


def _straight(what: str, x: Sequence[float], y: Sequence[float], reason: str) -> Comparison:
    """Whether points are on a line, as the paper sees them."""
    left, words = _unexplained(x, y), f"1 - R² of a line: {what}"
    if not np.isfinite(left):
        return alone(words, 0.0, "fewer than three points")
    return at_most(words, STRAIGHT, left, written=f"linear: at most {STRAIGHT:g} (chosen)", reason=reason)


# Figure 2: the radius of convergence.


def _figure_2(run: Run) -> list[Row]:
    """One row for each number of kept inputs and radius: how many trials succeed, soon and in the end."""

    def cell(key: Any) -> list[Row]:
        from slth.learn.trials import SUCCESS, run_trials

        kept, radius, number = key
        trials = run.settings["trials"]
        # Teachers, data and starts of every cell are its own, as in the paper.
        outcome = run_trials(
            _setting(run, kept, radius=radius), trials, _descent(run), seed=run.seed, first_trial=number * trials,
            allow_divergence=True,
        )  # fmt: skip
        soon = outcome.state.steps.clamp(max=run.settings["soon"])
        errors = outcome.state.errors.gather(1, soon[:, None])[:, 0]
        successes = {"soon": int((errors < SUCCESS).sum()), "successes": int(outcome.successes.sum())}
        return [{"kept": kept, "radius": radius, "trials": trials, **successes}]

    cells = [(kept, radius) for kept in run.settings["kept"] for radius in run.settings["radius"]]
    return run.each([(*cell, number) for number, cell in enumerate(cells)], cell)


_NEAR = 1.0
_WITHIN = {20: (1.0, 1.0), 60: (1.0, 1.0), 100: (1.0, 1.0), 200: (1.0, 1.0), 300: (1.0, 0.0), 400: (0.0, 0.0)}
"""By kept inputs, the reference's share of successes of starts up to radius 1 and beyond, within 1,200 steps."""


def _radius(rows: Sequence[Row], kept: int) -> float:
    """Where half of the trials still succeed, between the radii tried; the largest one if all do."""
    own = sorted((float(row["radius"] or 0), float(row["successes"] or 0) / float(row["trials"] or 1))
                 for row in rows if row["kept"] == kept)  # fmt: skip
    before = (0.0, 1.0)
    for radius, share in own:
        if share < 0.5:
            return before[0] + (radius - before[0]) * (before[1] - 0.5) / (before[1] - share)
        before = radius, share
    return before[0]


def _compare_figure_2(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    for kept in settings["kept"]:
        for place, words in enumerate(("at most", "above")):
            own = [
                row for row in rows if row["kept"] == kept and (float(row["radius"] or 0) > _NEAR) == bool(place)
            ]  # fmt: skip
            n = sum(int(row["trials"] or 0) for row in own)
            if kept not in _WITHIN or not n:
                continue
            ours, span = share_and_interval(sum(int(row["soon"] or 0) for row in own), n)
            quantity = f"success within {settings['soon']:,} steps: r={kept}, starts {words} {_NEAR:g} away"
            found.append(compare(
                quantity, _WITHIN[kept][place], ours, interval=span, over=f"95 % over {n} trials", note=NOTE,
                reason="errors there are near 1e-4 when the steps are up, so the budget decides",
            ))  # fmt: skip
    radii = [_radius(rows, kept) for kept in settings["kept"]]
    rise = max((after - before for before, after in itertools.pairwise(radii)), default=0.0)
    found.append(at_most("largest rise of the radius from one r to the next", 0.0, rise, written="it shrinks with r"))
    whole = [kept for kept, radius in zip(settings["kept"], radii, strict=True) if radius == max(settings["radius"])]
    why = "the region shrinks in jumps"
    if whole:
        why = f"all radii tried succeed with r up to {max(whole)}, and the region shrinks at once beyond"
    found.append(_straight("radius over √r", [kept**0.5 for kept in settings["kept"]], radii, why))
    return found


def _draw_figure_2(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    kept, radii = (sorted({float(row[name] or 0) for row in rows}) for name in ("kept", "radius"))
    shares = np.full((len(radii), len(kept)), np.nan)
    for row in rows:
        place = radii.index(float(row["radius"] or 0)), kept.index(float(row["kept"] or 0))
        shares[place] = float(row["successes"] or 0) / float(row["trials"] or 1)
    drawn = axes.imshow(shares, origin="lower", cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color="#5b636d")
    axes.set_xticks(range(len(kept)), [f"√{each:g}" for each in kept])
    axes.set_yticks(range(len(radii)), [f"{each:g}" for each in radii])
    axes.set_xlabel("√r")
    axes.set_ylabel("relative distance of the start")
    figure.colorbar(drawn, label="share of successes")


# Figure 3: rates of convergence.

_POINTS = 100
"""Of an error curve."""
_RATES = {20: (0.0041, 0.0048), 60: (0.0028, 0.0035), 100: (0.0025, 0.0031), 150: (0.0020, 0.0022),
          200: (0.0015, 0.0018)}  # fmt: skip
"""By kept inputs, the reference's 1 - rate without and with momentum; from a few trials, stopped after 2,000 steps."""
_RATE_MARGIN = 0.1


def _figure_3(run: Run) -> list[Row]:
    """One row a trial: its rate over the last half of the first steps, and of all; and curves of the first trials."""

    def descents(key: Any) -> list[Row]:
        from slth.learn.rates import fit_rates
        from slth.learn.trials import run_trials

        kept, momentum = key
        outcome = run_trials(_setting(run, kept), run.settings["trials"], _descent(run, momentum), seed=run.seed)
        errors, facts = outcome.state.errors, {"kept": kept, "momentum": momentum}
        first, whole = fit_rates(errors[:, : run.settings["soon"] + 1]), fit_rates(errors)
        rows: list[Row] = [
            {**facts, "trial": trial, "gain": 1 - float(first.rate[trial]), "final gain": 1 - float(whole.rate[trial]),
             "curved": 1 - float(first.r_squared[trial]), "final error": float(outcome.errors[trial])}
            for trial in range(run.settings["trials"])
        ]  # fmt: skip
        last = int(outcome.state.steps[0])
        steps = sorted({round(last * k / _POINTS) for k in range(_POINTS + 1)})
        return rows + [{**facts, "trial": 0, "step": step, "error": float(errors[0, step])} for step in steps]

    return run.each(
        [(kept, beta) for kept in run.settings["kept"] for beta in (0.0, run.settings["momentum"])], descents
    )


def _compare_figure_3(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found, means = [], {}
    over = f"95 % over {settings['trials']} trials"
    for place, momentum in enumerate((0.0, settings["momentum"])):
        for kept in settings["kept"]:
            ours, span = mean_and_interval(_chosen(rows, "gain", kept=kept, momentum=momentum))
            means[kept, place] = ours
            words = f"1 - rate, first {settings['soon']:,} steps: r={kept}, β={momentum:g}"
            if kept in _RATES:
                paper = _RATES[kept][place]
                found.append(compare(
                    words, paper, ours, margin=_RATE_MARGIN * paper, interval=span, over=over,
                    note=f"{NOTE}, allowed {_RATE_MARGIN:.0%}: it is the mean of a few trials",
                    reason="faster modes are not gone yet, so the part that is fitted counts",
                ))  # fmt: skip
            final, span = mean_and_interval(_chosen(rows, "final gain", kept=kept, momentum=momentum))
            if settings["iterations"] > settings["soon"]:
                words = f"1 - rate, all steps: r={kept}, β={momentum:g}"
                found.append(alone(words, final, "the figure prints no number", interval=span, over=over))
    roots = [kept**0.5 for kept in settings["kept"]]
    for place, name in enumerate(("gradient descent", "accelerated")):
        rates = [1 - means[kept, place] for kept in settings["kept"]]
        found.append(_straight(f"rate over √r, {name}", roots, rates, "the rate bends: it rises less and less"))
    ratio = max(means[kept, 0] / means[kept, 1] for kept in settings["kept"])
    found.append(at_most("1 - rate without momentum over that with, at most", 1.0, ratio, written="below 1: faster"))
    curved = max(_chosen(rows, "curved"))
    why = "faster modes are not gone yet"
    words = "1 - R² of a line: log error over steps, worst trial"
    said = "linear: at most 0.02 (chosen)"
    return [*found, at_most(words, 0.02, curved, written=said, reason=why)]


def _draw_figure_3(figure: Figure, rows: Sequence[Row]) -> None:
    from slth.reproduce.figures import plot_estimates

    left, right = figure.subplots(1, 2)
    largest = max(float(row["momentum"] or 0) for row in rows)
    all_kept = sorted({int(row["kept"] or 0) for row in rows})
    for kept in all_kept:
        curve = [row for row in rows if "error" in row and row["kept"] == kept and row["momentum"] == largest]
        left.semilogy([row["step"] for row in curve], [row["error"] for row in curve], label=f"r={kept}")
    left.set_xlabel("iterations")
    left.set_ylabel("relative error")
    left.legend()
    for momentum, name in ((0.0, "gradient descent"), (largest, f"accelerated, β={largest:g}")):
        gains = [_chosen(rows, "gain", kept=kept, momentum=momentum) for kept in all_kept]
        rates = [mean_and_interval([1 - gain for gain in each]) for each in gains]
        plot_estimates(right, [kept**0.5 for kept in all_kept], rates, label=name)
    right.set_xlabel("√r")
    right.set_ylabel("rate of convergence")
    right.legend()


# Figure 4: sample complexity.

_ENOUGH = {10: 75.0, 20: 140.0, 30: 220.0, 40: 250.0, 60: 450.0, 80: 600.0}
"""By kept inputs, about how many samples the reference needs for half of its trials to succeed."""
_ENOUGH_MARGIN = 0.1


def _figure_4(run: Run) -> list[Row]:
    """One row for each number of kept inputs and of samples."""

    def cell(key: Any) -> list[Row]:
        from slth.learn.trials import run_trials

        kept, samples, number = key
        trials = run.settings["trials"]
        setting = _setting(run, kept, samples=samples)
        outcome = run_trials(
            setting, trials, _descent(run), seed=run.seed, first_trial=number * trials, allow_divergence=True
        )
        return [{"kept": kept, "samples": samples, "trials": trials, "successes": int(outcome.successes.sum())}]

    cells = [(kept, round(kept * ratio)) for kept in run.settings["kept"] for ratio in run.settings["samples_a_weight"]]
    return run.each([(*cell, number) for number, cell in enumerate(cells)], cell)


def _enough(rows: Sequence[Row], kept: int) -> tuple[float, tuple[float, float]]:
    """Samples with which half of the trials succeed, between those tried, and where the intervals leave one half."""
    own = sorted((row for row in rows if row["kept"] == kept), key=lambda row: int(row["samples"] or 0))
    samples = [float(row["samples"] or 0) for row in own]
    found = [share_and_interval(int(row["successes"] or 0), int(row["trials"] or 1)) for row in own]
    # Shares that rise, as they do but for chance: pooled from above, none is below one of fewer samples.
    shares = np.maximum.accumulate([share for share, _ in found])
    middle = float(np.interp(0.5, shares, samples)) if shares[0] < 0.5 <= shares[-1] else float("nan")
    low = max((n for n, (_, span) in zip(samples, found, strict=True) if span[1] < 0.5), default=0.0)
    high = min((n for n, (_, span) in zip(samples, found, strict=True) if span[0] > 0.5 and n > low), default=np.inf)
    return middle, (min(low, middle), max(float(high), middle))


def _compare_figure_4(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found, crossed = [], {}
    for kept in settings["kept"]:
        ours, span = _enough(rows, kept)
        words = f"samples for half of the trials to succeed: r={kept}"
        if not np.isfinite([ours, *span]).all():
            found.append(alone(words, 0.0, "outside the numbers of samples tried", paper=f"{_ENOUGH.get(kept, '')}"))
            continue
        crossed[kept] = ours
        over = f"95 % over {settings['trials']} trials a point"
        if kept not in _ENOUGH:
            found.append(alone(words, ours, "the figure prints no number; no reference", interval=span, over=over))
            continue
        found.append(compare(
            words, _ENOUGH[kept], ours, margin=_ENOUGH_MARGIN * _ENOUGH[kept], interval=span,
            over=over, written=f"about {_ENOUGH[kept]:g}",
            note=f"{NOTE}, allowed {_ENOUGH_MARGIN:.0%}: it is read off a coarse grid",
            reason="trials near it take up to 10,000 steps; the reference seems to stop sooner, as after 2,000 steps "
            "half succeed with 77, 235 and 479 samples for r=10, 30, 60",
        ))  # fmt: skip
    why = "few trials a point"
    return [*found, _straight("samples over r", list(crossed), list(crossed.values()), why)]


def _draw_figure_4(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    shares = [float(row["successes"] or 0) / float(row["trials"] or 1) for row in rows]
    kept, samples = ([float(row[name] or 0) for row in rows] for name in ("kept", "samples"))
    dots = axes.scatter(kept, samples, c=shares, cmap="gray", vmin=0, vmax=1, edgecolors="#5b636d")
    all_kept = sorted({int(row["kept"] or 0) for row in rows})
    axes.plot(all_kept, [_enough(rows, each)[0] for each in all_kept], "-", label="half of the trials succeed")
    axes.set_xlabel("r")
    axes.set_ylabel("N")
    axes.legend()
    figure.colorbar(dots, label="share of successes")


# Figure 5: noise.

_SLOPES = {10: (0.66, 0.71), 20: (1.1, 1.1), 40: (1.9, 2.0), 60: (2.8, 2.8)}
"""By kept inputs, the reference's relative error over the noise level, from one draw to another."""
_SLOPE_MARGIN = 0.05


def _figure_5(run: Run) -> list[Row]:
    """One row a trial."""

    def descents(key: Any) -> list[Row]:
        from slth.learn.trials import run_trials

        kept, noise = key
        setting = _setting(run, kept, noise=noise)
        outcome = run_trials(setting, run.settings["trials"], _descent(run), seed=run.seed, allow_divergence=True)
        return [
            {"kept": kept, "noise": noise, "trial": trial, "error": float(error)}
            for trial, error in enumerate(outcome.errors)
        ]

    return run.each([(kept, noise) for kept in run.settings["kept"] for noise in run.settings["noise"]], descents)


def _slopes(rows: Sequence[Row], kept: int, settings: Mapping[str, Any]) -> list[list[float]]:
    """Error over noise level of every trial, level by level."""
    return [[error / noise for error in _chosen(rows, "error", kept=kept, noise=noise)] for noise in settings["noise"]]


def _compare_figure_5(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found, means = [], []
    over = f"95 % over {settings['trials']} trials, each at all levels"
    for kept in settings["kept"]:
        slopes = np.array(_slopes(rows, kept, settings))
        ours, span = mean_and_interval(slopes.mean(axis=0).tolist())
        means.append(ours)
        words = f"relative error over noise level: r={kept}"
        if kept in _SLOPES:
            low, high = _SLOPES[kept]
            paper = min(max(ours, low), high)
            written = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            found.append(compare(
                words, paper, ours, margin=_SLOPE_MARGIN * paper, interval=span, over=over, written=written,
                note=f"{NOTE}, allowed {_SLOPE_MARGIN:.0%}", reason="one trial is not like another",
            ))  # fmt: skip
        else:
            found.append(alone(words, ours, "the figure prints no number; no reference", interval=span, over=over))
        levels = slopes.mean(axis=1)
        spread = float(levels.max() / levels.min() - 1)
        words = f"largest over smallest of these, less 1, over noise levels: r={kept}"
        said = "proportional: at most 0.05 (chosen)"
        why = "at the highest level errors are not small any more, and activations are not the teacher's"
        found.append(at_most(words, 0.05, spread, written=said, reason=why))
    why = "growth is faster than √r where weights are nearly as many as samples"
    return [*found, _straight("error over √r", [kept**0.5 for kept in settings["kept"]], means, why)]


def _draw_figure_5(figure: Figure, rows: Sequence[Row]) -> None:
    from slth.reproduce.figures import plot_estimates

    axes = figure.subplots()
    all_kept, levels = (sorted({float(row[name] or 0) for row in rows}) for name in ("kept", "noise"))
    for noise in levels:
        errors = [mean_and_interval(_chosen(rows, "error", kept=kept, noise=noise)) for kept in all_kept]
        plot_estimates(axes, [kept**0.5 for kept in all_kept], errors, label=f"σ/E = {noise:g}")
    axes.set_yscale("log", nonpositive="clip")
    axes.set_xlabel("√r")
    axes.set_ylabel("relative error")
    axes.legend()


_RADII = {"neurons": 5, "inputs": 500, "samples": 3000, "step_size": 5.0, "momentum": 0.2, "soon": 1200}
_SPEED = {"neurons": 5, "inputs": 300, "samples": 3000, "step_size": 0.5, "momentum": 0.2, "soon": 2000,
          "kept": [20, 60, 100, 150, 200]}  # fmt: skip
_PHASE = {"neurons": 5, "inputs": 100, "step_size": 5.0, "momentum": 0.2, "iterations": 10_000}
_NOISE = {"neurons": 10, "inputs": 300, "samples": 1000, "step_size": 10.0, "momentum": 0.2, "iterations": 10_000,
          "noise": [1e-3, 1e-2, 1e-1]}  # fmt: skip

EXPERIMENTS = (
    Experiment(
        name="zhang/fig-2",
        shows="Figure 2: from how far away accelerated descent still finds a sparse teacher, by the inputs it reads.",
        scales={
            "quick": Scale(1, _RADII | {
                "kept": [20, 100, 200, 300, 400], "radius": [0.5, 1.0, 1.5, 3.0], "trials": 4, "iterations": 1200,
            }),
            "paper": Scale(420, _RADII | {
                "kept": [20, 60, 100, 150, 200, 250, 300, 350, 400], "radius": [0.25, 0.5, 1.0, 1.5, 2.0, 3.0],
                "trials": 100, "iterations": 10_000,
            }),
        },
        rows=_figure_2,
        compare=_compare_figure_2,
        draw=_draw_figure_2,
    ),
    Experiment(
        name="zhang/fig-3",
        shows="Figure 3: rates of convergence by the inputs that a neuron reads, with momentum and without.",
        scales={
            "quick": Scale(0.4, _SPEED | {"trials": 4, "iterations": 2000}),
            "paper": Scale(50, _SPEED | {"trials": 100, "iterations": 10_000}),
        },
        rows=_figure_3,
        compare=_compare_figure_3,
        draw=_draw_figure_3,
    ),
    Experiment(
        name="zhang/fig-4",
        shows="Figure 4: how many samples a sparse teacher takes, by the inputs that a neuron reads.",
        scales={
            "quick": Scale(0.6, _PHASE | {
                "kept": [10, 20, 30, 40, 60], "samples_a_weight": [4.5, 5, 5.5, 6, 6.5, 7, 8, 10], "trials": 20,
            }),
            "paper": Scale(15, _PHASE | {
                "kept": [10, 20, 30, 40, 50, 60, 70, 80],
                "samples_a_weight": [3, 4, 4.5, 5, 5.25, 5.5, 5.75, 6, 6.25, 6.5, 7, 7.5, 8, 9, 10], "trials": 100,
            }),
        },
        rows=_figure_4,
        compare=_compare_figure_4,
        draw=_draw_figure_4,
    ),
    Experiment(
        name="zhang/fig-5",
        shows="Figure 5: the error that noise leaves, by its level and the inputs that a neuron reads.",
        scales={
            "quick": Scale(0.6, _NOISE | {"kept": [10, 20, 40, 60], "trials": 5}),
            "paper": Scale(25, _NOISE | {"kept": [10, 20, 30, 40, 50, 60, 70, 80], "trials": 100}),
        },
        rows=_figure_5,
        compare=_compare_figure_5,
        draw=_draw_figure_5,
    ),
    *PRUNING,
)  # fmt: skip
