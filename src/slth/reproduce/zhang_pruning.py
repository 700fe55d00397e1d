"""Zhang et al. 2021, figures 6 and 7: iterative magnitude pruning of a sparse teacher's dense student, and on MNIST.

What the text leaves open is chosen: starts at relative distance 1/2, the smallest weights of all neurons together,
survivors back to their start, test error on fresh inputs without noise.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slth.reproduce.comparison import Comparison, Verdict, alone, at_most, compare
from slth.reproduce.experiment import Experiment, Row, Scale
from slth.reproduce.statistics import mean_and_interval, median_and_range

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from slth.learn.datasets import Dataset
    from slth.learn.teachers import Teachers
    from slth.reproduce.run import Run

AMOUNT = 0.2
"""Of the survivors, in every round."""

# Figure 6: a sparse teacher.

_FRESH = 1 << 32
"""A trial that no experiment reaches: its inputs are the test inputs."""
_ERRORS = {
    100: {0: 0.27, 12: 0.38},
    600: {0: 0.047, 2: 0.0016, 7: 0.00056, 8: 0.045, 12: 0.30},
    1000: {0: 0.00105, 7: 0.00037, 8: 0.037},
    4000: {0: 0.00038, 7: 0.00020, 8: 0.044},
}
"""The reference's relative test error by samples and rounds; after 2, 7, 8, 12 of these 64, 21, 17, 7 % are left."""
_LOWEST = {100: 0.17}
"""The reference's lowest error of a curve; it gives no more of that of 100 samples than its ends and this."""
_START = "with fewer samples than weights what is found depends on the start, which the paper does not say"
_WHY = {
    (100, True): _START,
    (100, False): _START,
    (
        600,
        False,
    ): "after 2,000 steps the dense student's error is about 0.045 and falls on: the reference seems to stop there",
}
"""Why errors differ, by samples and whether ours is larger: known for 600, where other numbers of steps were tried."""
_ERROR_MARGIN = 0.2
_LAST_GOOD = 7
"""Rounds after which more is left than the teacher has: 21 %."""


def _figure_6(run: Run) -> list[Row]:
    """One row for each number of samples, trial and round."""
    return run.each(run.settings["samples"], lambda samples: _prune_students(run, samples))


def _prune_students(run: Run, samples: int) -> list[Row]:
    import torch

    from slth.learn.descent import Descent, descend
    from slth.learn.draws import Stream
    from slth.learn.pruning import prune_smallest
    from slth.learn.teachers import Samples, draw_samples, draw_teachers, random_starts

    own = run.settings
    teachers = draw_teachers(own["trials"], own["neurons"], own["inputs"], own["kept"], run.seed)
    drawn: Samples = draw_samples(teachers, samples, own["noise"])
    fresh = torch.from_numpy(Stream(run.seed, _FRESH, "inputs").normals(1, own["fresh"], own["inputs"]))
    masks = torch.ones_like(teachers.supports)
    start = random_starts(teachers, masks, own["radius"])
    how = Descent(own["step_size"], own["momentum"], own["iterations"])
    rows: list[Row] = []
    for number in range(own["rounds"] + 1):
        state = descend(drawn, masks, start * masks, how, truth=teachers.weights)
        errors = _relative_errors(teachers, state.weights, fresh)
        kept = (masks & teachers.supports).sum((1, 2)) / teachers.supports.sum((1, 2))
        left = masks.double().mean((1, 2))
        rows += [
            {"samples": samples, "trial": trial, "round": number, "density": float(left[trial]),
             "test error": float(errors[trial]), "teacher kept": float(kept[trial]), "steps": int(state.steps[trial])}
            for trial in range(own["trials"])
        ]  # fmt: skip
        if number < own["rounds"]:
            masks = torch.stack([
                prune_smallest({"weights": weights}, {"weights": mask}, AMOUNT)["weights"]
                for weights, mask in zip(state.weights, masks, strict=True)
            ])  # fmt: skip
    return rows


def _relative_errors(teachers: Teachers, weights: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """Root mean square of the difference over that of the teacher's outputs."""
    from slth.learn.teachers import outputs

    truth = outputs(teachers.weights, fresh)
    wrong = outputs(weights, fresh) - truth
    return (wrong.square().mean(1) / truth.square().mean(1)).sqrt()


def _at(rows: Sequence[Row], column: str, **key: int) -> list[float]:
    return [float(row[column] or 0) for row in rows if all(row[name] == value for name, value in key.items())]


def _compare_figure_6(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found = []
    for samples in settings["samples"]:
        for number in range(settings["rounds"] + 1):
            paper = _ERRORS.get(samples, {}).get(number)
            if paper is not None:
                ours, span = median_and_range(_at(rows, "test error", samples=samples, round=number))
                left = 100 * (1 - AMOUNT) ** number
                words = f"relative test error: N={samples}, {left:.0f} % left"
                found.append(_beside(words, paper, ours, span, rows, samples))
        if samples in _LOWEST:
            curves = [_at(rows, "test error", samples=samples, trial=trial) for trial in range(settings["trials"])]
            ours, span = median_and_range([min(curve) for curve in curves])
            found.append(
                _beside(f"lowest relative test error: N={samples}", _LOWEST[samples], ours, span, rows, samples)
            )
        if settings["rounds"] > _LAST_GOOD:
            found += _shape_of_figure_6(rows, samples)
    return found


def _beside(
    words: str, paper: float, ours: float, span: tuple[float, float], rows: Sequence[Row], samples: int
) -> Comparison:
    """Beside a number of the reference."""
    n = len(_at(rows, "test error", samples=samples, round=0))
    note = f"the figure prints no number; the reference is one trial, allowed {_ERROR_MARGIN:.0%}"
    reason = _WHY.get((samples, ours > paper), "trials differ, and starts and step size are not said")
    return compare(
        words, paper, ours, margin=_ERROR_MARGIN * paper, interval=span, over=f"range over {n} trials", note=note,
        reason=reason,
    )  # fmt: skip


def _shape_of_figure_6(rows: Sequence[Row], samples: int) -> list[Comparison]:
    """What the paper says of a curve: down to 21 % errors fall, then they are large."""
    dense, good, over = (_at(rows, "test error", samples=samples, round=k) for k in (0, _LAST_GOOD, _LAST_GOOD + 1))
    ratio, span = median_and_range([after / before for before, after in zip(dense, good, strict=True)])
    words, trials = f"test error at 21 % over that of the dense student: N={samples}", f"range over {len(dense)} trials"
    if samples <= 100:
        ours, span = median_and_range(good)
        fits = Verdict.REPRODUCED if ours > 0.1 else Verdict.DIFFERS
        words, note = f"test error at 21 %: N={samples}", "the paper calls it large; above 0.1 is (chosen)"
        return [Comparison(words, "large at every density", ours, *span, trials, fits, note)]
    found = [at_most(words, 1.0, ratio, interval=span, over=trials, written="below 1: pruning helps")]
    ratio, span = median_and_range([before / after for before, after in zip(good, over, strict=True)])
    words = f"test error at 21 % over that at 17 %: N={samples}"
    found.append(at_most(words, 0.1, ratio, interval=span, over=trials, written="far below 1: 0.1 (chosen)"))
    kept, span = median_and_range(_at(rows, "teacher kept", samples=samples, round=_LAST_GOOD))
    words = f"share of the teacher's weights kept at 21 %: N={samples}"
    note = "the paper does not say; the reference keeps all"
    return [*found, compare(words, 1.0, kept, interval=span, over=trials, note=note)]


def _draw_figure_6(figure: Figure, rows: Sequence[Row]) -> None:
    from slth.reproduce.figures import plot_estimates

    axes = figure.subplots()
    for samples in sorted({int(row["samples"] or 0) for row in rows}):
        rounds = sorted({int(row["round"] or 0) for row in rows if row["samples"] == samples})
        left = [100 * _at(rows, "density", samples=samples, round=k)[0] for k in rounds]
        errors = [median_and_range(_at(rows, "test error", samples=samples, round=k)) for k in rounds]
        plot_estimates(axes, left, errors, label=f"N={samples}")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("percentage of remaining parameters (%)")
    axes.set_ylabel("relative test error")
    axes.legend()


# Figure 7: MNIST.

_AXIS = (0.95, 0.99)
"""Accuracies that the figure's axis has."""
_PASSES = 100
"""Over the samples, in the code that the paper ran."""
_LEAST = 10_000
"""Of its numbers of samples."""
_PROPER = (1, 5)
"""Rounds of proper pruning, 80 to 33 % left, whose mean is compared: the best of all would be best by chance."""


def _figure_7(run: Run) -> list[Row]:
    """One row for each number of samples, draw and round."""
    from slth.learn.datasets import load_dataset

    loaded: list[Dataset] = []

    def part(key: Any) -> list[Row]:
        if not loaded:
            loaded.append(_scaled(run, load_dataset(str(run.places["mnist"]))))
        return _prune_lenet(run, loaded[0], *key)

    return run.each([(n, draw) for n in run.settings["samples"] for draw in range(run.settings["draws"])], part)


def _scaled(run: Run, data: Dataset) -> Dataset:
    """What is read of it, with mean 0 and standard deviation 1, about, as the paper's code has the images."""
    parts = _first(data.train, max(run.settings["samples"])), _first(data.test, run.settings["images"])
    return type(data)(*(replace(part, inputs=(part.inputs - 0.1307) / 0.3081) for part in parts))


def _prune_lenet(run: Run, data: Dataset, samples: int, draw: int) -> list[Row]:
    from slth.learn.datasets import Dataset
    from slth.learn.imp import ImpSettings, imp
    from slth.learn.training import Recipe
    from slth.reproduce.networks import lenet5

    own = run.settings
    recipe = Recipe(
        epochs=own["epochs"], batch_size=60, learning_rate=own["rate"], schedule="constant", weight_decay=1e-4
    )
    how = ImpSettings(rounds=own["rounds"], amount=AMOUNT, scope="layer", recipe=recipe, seed=run.seed + draw)
    checkpoint = run.parts / f"pruning-{samples}-{draw}.checkpoint"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    found = imp(
        lambda: lenet5(own["network"]),
        Dataset(_first(data.train, samples), data.test),
        how,
        input_shape=(1, 28, 28),
        checkpoint=checkpoint,
        resume=True,
    )
    seconds = time.perf_counter() - begin
    checkpoint.unlink(missing_ok=True)
    return [
        {"samples": samples, "draw": draw, "round": one.number, "density": one.density,
         "accuracy": one.accuracy / 100, "seconds": seconds}
        for one in found.rounds
    ]  # fmt: skip


def _first(part: Any, n: int | None) -> Any:
    """The first so many inputs with their labels; None is all."""
    return replace(part, inputs=part.inputs[:n], labels=part.labels[:n])


def _curves(rows: Sequence[Row], samples: int) -> list[list[float]]:
    """Accuracies round by round, of every draw."""
    draws = sorted({int(row["draw"] or 0) for row in rows if row["samples"] == samples})
    return [_at(rows, "accuracy", samples=samples, draw=draw) for draw in draws]


def _compare_figure_7(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found, dense = [], []
    same = settings["epochs"] == _PASSES and settings["network"] == "repository"
    here = f"{settings['epochs']} passes of a {settings['network']} LeNet-5 here, {_PASSES} of the repository's there"
    why = "masked gradients here; the paper's code freezes all negative weights" if same else here
    for samples in settings["samples"]:
        curves = _curves(rows, samples)
        over = f"95 % over {len(curves)} draws" if len(curves) > 1 else ""
        ours, span = mean_and_interval([curve[0] for curve in curves])
        dense.append(ours)
        middle = min(max(ours, _AXIS[0]), _AXIS[1])
        words, said = f"accuracy of the dense network: N={samples}", "0.95 to 0.99: its axis"
        if samples < _LEAST:
            found.append(alone(words, ours, f"the paper has no fewer than {_LEAST:,}", interval=span, over=over))
        else:
            found.append(compare(words, middle, ours, interval=span, over=over, written=said, reason=why))
        if settings["rounds"] < _PROPER[1]:
            continue
        gains = [sum(curve[_PROPER[0] : _PROPER[1] + 1]) / 5 - curve[0] for curve in curves]
        gain, span = mean_and_interval(gains)
        words = f"dense accuracy less the mean from 80 to 33 % left: N={samples}"
        said = "below 0: pruning helps first"
        reason = f"the paper sees it in some curves, N = 20,000 for one; {why}"
        found.append(at_most(words, 0.0, -gain, interval=(-span[1], -span[0]), over=over, written=said, reason=reason))
        fall, span = mean_and_interval([curve[-1] - curve[0] for curve in curves])
        words, said = f"accuracy of the last round less the dense: N={samples}", "below 0: it drops in the end"
        reason = f"{100 * (1 - AMOUNT) ** settings['rounds']:.1f} % are still enough"
        found.append(at_most(words, 0.0, fall, interval=span, over=over, written=said, reason=reason))
    worst = max((before - after for before, after in itertools.pairwise(dense)), default=None)
    if worst is None:
        return [*found, alone("accuracy by samples", dense[0], "one number of samples alone")]
    words = "largest fall of the dense accuracy from one number of samples to the next larger"
    return [*found, at_most(words, 0.0, worst, written="more samples are better")]


def _draw_figure_7(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    for samples in sorted({int(row["samples"] or 0) for row in rows}):
        curves = _curves(rows, samples)
        left = [100 * density for density in _at(rows, "density", samples=samples, draw=0)]
        means = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        axes.plot(left, means, "o-", label=f"N={samples:,}")
    axes.invert_xaxis()
    axes.set_xlabel("percentage of remaining parameters (%)")
    axes.set_ylabel("test accuracy")
    axes.legend()


_STUDENT = {"neurons": 5, "inputs": 100, "kept": 20, "noise": 1e-3, "radius": 0.5, "step_size": 5.0, "momentum": 0.2,
            "iterations": 10_000, "samples": [100, 600, 1000, 4000], "fresh": 10_000, "rounds": 13}  # fmt: skip

EXPERIMENTS = (
    Experiment(
        name="zhang/fig-6",
        shows="Figure 6: test error of a student of a sparse teacher while its smallest weights are pruned.",
        scales={
            "quick": Scale(0.9, _STUDENT | {"trials": 3}),
            "paper": Scale(15, _STUDENT | {"trials": 50}),
        },
        rows=_figure_6,
        compare=_compare_figure_6,
        draw=_draw_figure_6,
    ),
    Experiment(
        name="zhang/fig-7",
        shows="Figure 7: test accuracy of LeNet-5 on MNIST while it is pruned; at paper scale for a GPU.",
        scales={
            "quick": Scale(
                2,
                {
                    "network": "classical", "samples": [5000, 10_000], "epochs": 2, "rate": 1.2e-3,
                    "rounds": 14, "draws": 1, "images": None,
                },
            ),
            "paper": Scale(
                10_000,
                {
                    "network": "repository", "samples": [10_000, 20_000, 30_000, 40_000], "epochs": 100,
                    "rate": 1.2e-3, "rounds": 35, "draws": 1, "images": None,
                },
            ),
        },
        rows=_figure_7,
        compare=_compare_figure_7,
        draw=_draw_figure_7,
        data=("mnist",),
    ),
)  # fmt: skip
