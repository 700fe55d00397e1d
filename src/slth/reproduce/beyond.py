"""Beyond the papers: the size of base sets that theory leaves open, and every construction on the same networks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slth.report.words import number
from slth.reproduce.comparison import Comparison, alone, compare
from slth.reproduce.experiment import Cell, Experiment, Row, Scale, Table
from slth.reproduce.statistics import UNKNOWN_DRAWS, share_and_interval, share_margin

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from slth.data import Data
    from slth.reproduce.run import Run
    from slth.ticket import Ticket

_LAWS = {
    "uniform": "U[-1, 1]",
    "product": "product of two",
    "half-product": "V max(0, U)",
    "normal": "N(0, 1)",
}
_ALL: dict[str, dict[int, tuple[float, float, float]]] = {
    "uniform": {10: (0.95, 0.21, 0.0), 14: (0.99, 0.9, 0.16), 16: (1.0, 0.98, 0.82), 20: (1.0, 1.0, 0.98)},
    "product": {10: (0.38, 0.04, 0.0), 14: (0.79, 0.64, 0.08), 16: (0.85, 0.79, 0.53), 20: (0.97, 0.97, 0.88)},
    "half-product": {10: (0.03, 0.0, 0.0), 14: (0.11, 0.01, 0.0), 16: (0.18, 0.02, 0.0), 20: (0.33, 0.17, 0.02)},
    "normal": {10: (0.9, 0.09, 0.0), 14: (1.0, 0.94, 0.07), 16: (1.0, 0.99, 0.71), 20: (1.0, 1.0, 1.0)},
}
"""The share of base sets of m elements that come within eps = 0.1, 0.01 and 0.001 of every z in [-1, 1]."""
_ONE: dict[tuple[str, int], dict[float, float]] = {
    ("uniform", 10): {0.01: 0.07, 0.001: 0.56},
    ("uniform", 15): {0.01: 0.003, 0.001: 0.03},
    ("uniform", 20): {0.01: 0.003, 0.001: 0.005},
    ("product", 10): {0.01: 0.15, 0.001: 0.56},
    ("product", 15): {0.01: 0.03, 0.001: 0.04},
    ("product", 20): {0.01: 0.008, 0.001: 0.008},
    ("half-product", 20): {0.01: 0.22, 0.001: 0.51},
    ("half-product", 30): {0.01: 0.03, 0.001: 0.11},
}
"""The share of base sets that miss one target of U[-1, 1]."""
_EPS = (0.1, 0.01, 0.001)


def _reference(law: str, targets: str) -> dict[tuple[int, float], float]:
    """The share that succeeds, by size and eps."""
    if targets == "all":
        return {(m, eps): share for m, row in _ALL[law].items() for eps, share in zip(_EPS, row, strict=True)}
    return {(m, eps): 1 - missed for (each, m), row in _ONE.items() if each == law for eps, missed in row.items()}


def _calibration(run: Run) -> list[Row]:
    """A row for every law, kind of target, eps and size, up to where enough base sets succeed."""
    from slth.calibration.elements import parse_elements
    from slth.calibration.sizes import Question, counts, largest_size

    settings = run.settings

    def one(key: Any) -> list[Row]:
        law, targets, eps = key
        elements = parse_elements(law)
        largest = min(settings["largest"] * (2 if law == "half-product" else 1), largest_size(elements, targets))
        question = Question(
            elements, eps=eps, delta=settings["delta"], targets=targets, draws=settings["draws"],
            seed=run.seed, largest=largest,
        )  # fmt: skip
        needed = max((m for m, each in _reference(law, targets) if each == eps), default=1)
        rows: list[Row] = []
        for count in counts(question):
            first: Row = {"law": law, "targets": targets, "eps": eps, "m": count.m, "draws": question.draws}
            rows.append(first | {"successes": count.successes, "low": count.low, "high": count.high})
            if count.low >= 1 - question.delta and count.m >= min(needed, largest):
                break
        return rows

    keys = [(law, targets, eps) for law in settings["laws"] for targets in ("one", "all") for eps in settings["eps"]]
    return run.each(keys, one)


def _sizes(rows: Sequence[Row], law: str, targets: str, delta: float) -> dict[float, tuple[int | None, int]]:
    """By eps: the least size at which enough base sets succeed, None if none does, and the largest size tried."""
    chosen = [row for row in rows if (row["law"], row["targets"]) == (law, targets)]
    found: dict[float, tuple[int | None, int]] = {}
    for eps in dict.fromkeys(float(row["eps"] or 0) for row in chosen):
        tried = [row for row in chosen if row["eps"] == eps]
        enough = [int(row["m"] or 0) for row in tried if float(row["low"] or 0) >= 1 - delta]
        found[eps] = (min(enough, default=None), max(int(row["m"] or 0) for row in tried))
    return found


def _fitted(sizes: Mapping[float, tuple[int | None, int]]) -> tuple[float, float] | None:
    """The line m = a + b log2(1 / eps) by least squares, as (b, a); None of fewer than two sizes."""
    import numpy as np

    known = [(math.log2(1 / eps), size) for eps, (size, _) in sizes.items() if size is not None]
    if len(known) < 2:
        return None
    bits, fitted = np.array(known).T
    slope, offset = np.polyfit(bits, fitted, 1)
    return float(slope), float(offset)


def _compare_calibration(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found: list[Comparison] = []
    for law in settings["laws"]:
        for targets in ("one", "all"):
            found += _compare_shares(rows, law, targets)
            sizes, delta = _sizes(rows, law, targets, settings["delta"]), settings["delta"]
            name = f"{_LAWS[law]}, {_SAID[targets]}"
            for eps, (size, tried) in sizes.items():
                words, why = f"m for {eps:g} with probability {1 - delta:g}: {name}", "theory leaves the constant open"
                if size is None:
                    why = f"not shown up to {tried} elements, the largest size tried; {why}"
                found.append(alone(words, float(size or tried), why))
            line = _fitted(sizes)
            if line is not None:
                why = f"fitted: m = {line[1]:.1f} + {line[0]:.2f} log2(1 / eps); pigeonhole asks for a slope of 1"
                found.append(alone(f"elements a bit: {name}", line[0], why))
            constants = [size / math.log(2 / min(eps, delta)) for eps, (size, _) in sizes.items() if size is not None]
            if constants:
                why = f"the least C with m >= C ln(2 / min(eps, {delta:g})) for every size found (Lueker 1998)"
                found.append(alone(f"constant C: {name}", max(constants), why))
    return found


_SAID = {"one": "one target", "all": "all targets"}


def _compare_shares(rows: Sequence[Row], law: str, targets: str) -> list[Comparison]:
    found = []
    for (m, eps), share in _reference(law, targets).items():
        match = [row for row in rows if (row["law"], row["targets"], row["eps"], row["m"]) == (law, targets, eps, m)]
        if not match:
            continue
        draws = int(match[0]["draws"] or 0)
        ours, span = share_and_interval(int(match[0]["successes"] or 0), draws)
        words = f"share within {eps:g}, m = {m}: {_LAWS[law]}, {_SAID[targets]}"
        over, reason = f"95 % over {draws:,} base sets", "another rule for the ends of the interval, or fewer draws"
        margin = share_margin(share)
        found.append(
            compare(words, share, ours, margin=margin, interval=span, over=over, reason=reason, note=UNKNOWN_DRAWS)
        )
    return found


def _draw_calibration(figure: Figure, rows: Sequence[Row]) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    laws, every = (list(dict.fromkeys(row[key] for row in rows)) for key in ("law", "eps"))
    for axes, targets in zip(panels, _SAID, strict=True):
        for place, law in enumerate(laws):
            for eps, style in zip(every, ("-", "--", ":", "-."), strict=False):
                line = [row for row in rows if (row["law"], row["targets"], row["eps"]) == (law, targets, eps)]
                at = [row["m"] for row in line]
                shares = [float(row["successes"] or 0) / float(row["draws"] or 1) for row in line]
                label = _LAWS[str(law)] if eps == every[0] else None
                axes.plot(at, shares, style, color=f"C{place}", label=label)
                low, high = ([float(row[end] or 0) for row in line] for end in ("low", "high"))
                axes.fill_between(at, low, high, color=f"C{place}", alpha=0.12, linewidth=0)
        axes.set_title(f"{_SAID[targets]} of [-1, 1]", fontsize=9)
        axes.set_xlabel("elements m")
    panels[0].set_ylabel("share of base sets within eps")
    panels[0].legend(fontsize=8)
    for eps, style in zip(every, ("-", "--", ":", "-."), strict=False):
        panels[1].plot([], [], style, color="#5b636d", label=f"eps = {eps:g}")
    panels[1].legend(fontsize=8)


_LENET = "LeNet5"


def _networks(settings: Mapping[str, Any]) -> dict[str, list[int] | None]:
    """Hidden widths by name; None is the trained LeNet5."""
    names: dict[str, list[int] | None] = {
        "-".join(map(str, (784, *hidden, 10))): list(hidden) for hidden in settings["hidden"]
    }
    return names | ({_LENET: None} if settings["lenet5"] else {})


def _target(run: Run, hidden: list[int] | None, parts: Mapping[str, Data]) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """A trained network, and the shape of its input."""
    from slth.learn.perceptron import train_perceptron

    if hidden is None:
        return _lenet5(run), (1, 28, 28)
    trained = train_perceptron(parts["train"], parts["test"], hidden, run.settings["epochs"], run.seed)
    return trained.network, (784,)


def _lenet5(run: Run) -> torch.nn.Module:
    """The whole LeNet5 of da Cunha et al. 2022, trained on MNIST."""
    import torch
    from safetensors.torch import load_file

    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(784, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    state = load_file(run.places["networks/lenet5-mnist"])
    weighted = [part for part in network if hasattr(part, "weight")]
    for name, part in zip(("conv1", "conv2", "fc1", "fc2", "fc3"), weighted, strict=True):
        part.load_state_dict({kind: state[f"{name}.{kind}"] for kind in ("weight", "bias")})
    return network.eval()


def _constructions(run: Run) -> list[Row]:
    """A row for every network and construction: the ticket's numbers, or why it takes no such network."""
    from slth.constructions import CONSTRUCTIONS
    from slth.data import load_data

    networks, settings = _networks(run.settings), run.settings
    parts: dict[str, Data] = {}
    made: dict[str, tuple[torch.nn.Module, tuple[int, ...]]] = {}

    def one(key: Any) -> list[Row]:
        name, construction = key
        # Only where a part is left to do.
        for part in () if parts else ("train", "test"):
            parts[part] = load_data(run.places["mnist"], part)
        if name not in made:
            made[name] = _target(run, networks[name], parts)
        return [
            {"network": name, "construction": construction, **_ticket(run, construction, *made[name], parts["test"])}
        ]

    return run.each([(name, each) for name in networks for each in CONSTRUCTIONS if each in settings["sizes"]], one)


def _ticket(run: Run, construction: str, network: torch.nn.Module, shape: tuple[int, ...], test: Data) -> Row:
    import slth
    from slth.errors import SlthError

    settings, example = run.settings, test.inputs[:1].reshape(-1, *shape).float()
    begin = time.perf_counter()
    try:
        ticket = slth.find_ticket(
            network, example, construction=construction, base_set_size=settings["sizes"][construction],
            tolerance=settings["eps"], objective=settings["objective"], seed=run.seed, domain=(0, 1),
        )  # fmt: skip
    except SlthError as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    return {"refused": "", **_measured(run, ticket, network, test, time.perf_counter() - begin)}


def _measured(run: Run, ticket: Ticket, network: torch.nn.Module, test: Data, seconds: float) -> Row:
    from slth.artifact import to_bytes
    from slth.certify.verify import verify
    from slth.reproduce.burkholz import few

    checked = verify(ticket, network, (0, 1), data=few(test, run.settings["images"]), method=run.settings["proof"])
    certified = checked.certified_error
    return {
        "target weights": ticket.n_target_weights,
        "source weights": ticket.spec.n_weights,
        "kept weights": ticket.n_kept,
        "depth": ticket.spec.depth,
        "missed": ticket.missed,
        "largest weight error": ticket.max_weight_error,
        "certified error": None if certified is None or not math.isfinite(certified) else certified,
        "observed error": checked.observed_error,
        "holds": checked.holds,
        "target accuracy": checked.accuracy_target,
        "ticket accuracy": checked.accuracy_ticket,
        "file bytes": len(to_bytes(ticket)),
        "int8 bytes": ticket.n_target_weights,
        "float32 bytes": 4 * ticket.n_target_weights,
        "seconds": seconds,
    }


_COLUMNS = (
    "source weights", "kept weights", "depth", "missed", "certified error", "observed error", "seconds", "file bytes",
)  # fmt: skip
_KINDS = ("int8", "float32")


def _compare_constructions(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Comparison]:
    found: list[Comparison] = []
    for row in rows:
        name = f"{row['construction']}, {row['network']}"
        if row["refused"]:
            found.append(alone(f"tickets found: {name}", 0.0, f"refused: {row['refused']}"))
            continue
        if row["certified error"] is None:
            found.append(alone(f"certificates: {name}", 0.0, "nothing finite could be proved over [0, 1]"))
        whole, certified = bool(row["holds"]), row["certified error"]
        sound = certified is None or float(certified) >= float(row["observed error"] or 0)
        why = "0 where the ticket is not what its file says, or an error was found beyond the proved one"
        found.append(compare(f"claims that hold: {name}", 1.0, float(whole and sound), written="all", note=why))
        lost = float(row["ticket accuracy"] or 0) - float(row["target accuracy"] or 0)
        note = "no paper's number: the same accuracy is what a ticket is for; margin 0.1 points"
        words = f"ticket less target, %: {name}"
        found.append(compare(words, 0.0, lost, margin=0.1, reason=_lost(row, settings), note=note, written="none"))
    return found


def _lost(row: Row, settings: Mapping[str, Any]) -> str:
    """Where an accuracy goes: by how much outputs move, and how far weights are off."""
    missed, worst = int(row["missed"] or 0), float(row["largest weight error"] or 0)
    said = f"outputs move by up to {number(float(row['observed error'] or 0))}"
    said += (
        f", with {number(missed)} weights off by more than {settings['eps']:g}" if missed else ", with no weight missed"
    )
    return f"{said}, the worst off by {number(worst)}"


def _tables(rows: Sequence[Row]) -> list[Table]:
    """A table for each network, a column for each construction that takes it."""
    found = []
    for network in dict.fromkeys(str(row["network"]) for row in rows):
        built = [row for row in rows if row["network"] == network and not row["refused"]]
        if not built:
            continue
        lines: list[tuple[Cell, ...]] = [(column, *(row[column] for row in built)) for column in _COLUMNS]
        for kind in _KINDS:
            ratios = [float(row["file bytes"] or 0) / float(row[f"{kind} bytes"] or 1) for row in built]
            lines.append((f"bytes for one of {kind}", *ratios))
        title = f"{network}, {number(float(built[0]['target weights'] or 0), 9)} weights"
        found.append(Table(title, ("", *(str(row["construction"]) for row in built)), tuple(lines)))
    return found


_SHAPES = ("o", "s", "^", "D")


def _draw_constructions(figure: Figure, rows: Sequence[Row]) -> None:
    built = [row for row in rows if not row["refused"]]
    networks, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("network", "construction"))
    left, right = figure.subplots(1, 2)
    for place, way in enumerate(ways):
        chosen = [row for row in built if row["construction"] == way]
        color = f"C{place % 10}"
        for row in chosen:
            shape = _SHAPES[networks.index(row["network"]) % len(_SHAPES)]
            left.loglog(row["source weights"], row["file bytes"], shape, color=color)
        for column, marker in (("certified error", "_"), ("observed error", "o")):
            shown = [row for row in chosen if row[column]]
            at = [networks.index(row["network"]) + 0.12 * (place - (len(ways) - 1) / 2) for row in shown]
            label = str(way) if marker == "o" else None
            size = 9 if marker == "_" else 5
            right.semilogy(at, [row[column] for row in shown], marker, color=color, markersize=size, label=label)
    for shape, name in zip(_SHAPES, networks, strict=False):
        left.plot([], [], shape, color="#5b636d", label=str(name))
    left.legend(fontsize=8)
    left.yaxis.set_minor_formatter("")
    left.set_ylim(top=3 * left.get_ylim()[1])
    left.set_xlabel("source weights")
    left.set_ylabel("bytes of the file")
    right.set_xticks(range(len(networks)), [str(name) for name in networks], fontsize=8)
    right.set_ylabel("output error over [0, 1]")
    right.legend(title="dots: found; bars: proved", fontsize=8)


_SIZES = {"two-for-one": None, "one-for-one": None, "pairs": None, "golden-ratio": None, "conv": None}
"""None: each construction's own default."""
_CALIBRATION = {"laws": list(_LAWS), "eps": list(_EPS), "delta": 0.05}

EXPERIMENTS = (
    Experiment(
        name="beyond/calibration",
        shows="How large base sets must be: success against m for four laws, one target and all, and the constants.",
        scales={
            "quick": Scale(0.15, _CALIBRATION | {"draws": 400, "largest": 24}),
            "paper": Scale(6, _CALIBRATION | {"draws": 10_000, "largest": 26}),
        },
        rows=_calibration,
        compare=_compare_calibration,
        draw=_draw_calibration,
    ),
    Experiment(
        name="beyond/constructions",
        shows="Every construction on the same networks: size of source, ticket and file, time, proved and found error.",
        scales={
            "quick": Scale(
                1.5,
                {
                    "hidden": [[60, 30], [100]], "lenet5": True, "epochs": 2, "eps": 0.01, "objective": "best",
                    "sizes": _SIZES, "images": 2000, "proof": "interval",
                },
            ),
            "paper": Scale(
                20,
                {
                    "hidden": [[300, 100], [500]], "lenet5": True, "epochs": 8, "eps": 0.01, "objective": "best",
                    "sizes": _SIZES, "images": None, "proof": None,
                },
            ),
        },
        rows=_constructions,
        compare=_compare_constructions,
        draw=_draw_constructions,
        tables=_tables,
        data=("mnist", "networks/lenet5-mnist"),
    ),
)  # fmt: skip
