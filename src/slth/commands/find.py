"""slth find: from a trained network to a ticket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.laws import read_law
from slth.commands.neurons import find_for_function, find_on_data, refuse_with_neurons
from slth.commands.options import (
    Activation,
    DomainOption,
    Exclude,
    Import,
    Include,
    InputShape,
    Json,
    Model,
    Quiet,
    Threads,
    Weights,
    activation_name,
    import_own,
    load_target,
    set_threads,
)
from slth.commands.screen import MOST_LAYERS, order_lines, print_json, print_table, progress_bar, ticket_table
from slth.errors import ArgumentError, SlthError
from slth.warm import Compilation

if TYPE_CHECKING:
    from slth.network.target import Target
    from slth.ticket import LayerRound, Round, Ticket


SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "activation": ("source_activation", lambda text: activation_name(text, "--set activation")),
    "activation-error": ("activation_error", float),
    "distribution": ("distribution", read_law),
    "split": ("split", str),
    "delta": ("delta", float),
    "gamma": ("settings.gamma", float),
    "law": ("settings.law", str),
    "schedule": ("settings.schedule", str),
    "sampling": ("settings.sampling", str),
    "depth": ("settings.depth", str),
    "candidates": ("settings.candidates", int),
    "extra-depth": ("settings.extra_depth", int),
    "signed": ("settings.signed", str),
    "pooling": ("settings.pooling", str),
}
"""What ``--set`` knows: the argument of :func:`slth.find_ticket` that each key stands for, and how it is read."""


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Arguments from words like ``distribution=normal``.

    Raises
    ------
    ArgumentError
        For a key that is not in :data:`SETTINGS`, or a value that is not of its kind.
    """
    arguments: dict[str, Any] = {}
    for word in given:
        key, _, value = word.partition("=")
        if key not in SETTINGS or not value:
            raise ArgumentError(
                "--set", word, f"KEY=VALUE with one of {', '.join(SETTINGS)}", "--set distribution=normal"
            )
        name, kind = SETTINGS[key]
        group, _, own = name.rpartition(".")
        into = arguments.setdefault(group, {}) if group else arguments
        try:
            into[own] = kind(value)
        except SlthError:
            raise
        except ValueError as error:
            raise ArgumentError("--set", word, f"a number for {key}") from error
    return arguments


def find(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The ticket file to write.")],
    target: Annotated[Path | None, typer.Argument(metavar="TARGET", hidden=True)] = None,
    model: Model = None,
    weights: Weights = None,
    activation: Activation = "relu",
    input_shape: InputShape = None,
    include: Include = None,
    exclude: Exclude = None,
    construction: Annotated[
        str,
        typer.Option(metavar="NAME", help="two-for-one, one-for-one, pairs, golden-ratio, conv.", show_default=False),
    ] = "two-for-one",
    base_set_size: Annotated[
        int | None, typer.Option(metavar="M", help="Elements a subset sum (20); neurons a pool (1000).")
    ] = None,
    eps: Annotated[float | None, typer.Option(metavar="E", help="Output error over the domain, in place of M.")] = None,
    tolerance: Annotated[float | None, typer.Option(metavar="T", help="Largest |weight - realised weight|.")] = None,
    objective: Annotated[
        str, typer.Option(metavar="GOAL", help="best (default), or sparsest within T.", show_default=False)
    ] = "best",
    initialisation: Annotated[
        str, typer.Option(metavar="LAW", help="uniform (default), or looks-linear.", show_default=False)
    ] = "uniform",
    source_activation: Annotated[
        str | None, typer.Option(metavar="A", help="In the random network: relu (default), gelu, tanh.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the source, or of neurons: delta=0.1 and others."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Target of neurons: digits, folder of IDX files, .npz.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the random network, 64 bits.")] = 0,
    domain: DomainOption = None,
    threads: Threads = None,
    max_missed: Annotated[int | None, typer.Option(metavar="N", hidden=True)] = None,
    own: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Find a network inside a larger random one. TARGET: .pt2, .safetensors, .pt."""
    from slth.files import check_writable

    import_own(own)
    if construction == "neurons":
        other: dict[str, object] = {"TARGET": target, "--weights": weights}
        other |= {"--base-set-size": base_set_size, "--tolerance": tolerance, "--domain": domain, "--eps": eps}
        other |= {"--include": include, "--exclude": exclude, "--source-activation": source_activation}
        other |= {"--objective": None if objective == "best" else objective, "--max-missed": max_missed}
        refuse_with_neurons({**other, "--initialisation": None if initialisation == "uniform" else initialisation})
        settings, sigma = setting or [], activation_name(activation)
        if model is not None:
            refuse_with_neurons({"--data": data, "--threads": threads})
            return find_for_function(output, model, input_shape, settings, sigma, seed, json, quiet)
        refuse_with_neurons({"--input-shape": input_shape})
        return find_on_data(output, data, settings, sigma, seed, threads, json, quiet)
    if data is not None:
        raise ArgumentError("--data", data, "a construction with a data set as target", "--construction neurons")
    if max_missed is not None and tolerance is None:
        raise ArgumentError("--max-missed", str(max_missed), "a tolerance to miss", "--tolerance 0.01")
    check_writable(output, (target, weights))
    from slth.network.selection import Selection

    wishes, selection = parse_settings(setting or []), Selection.of(include, exclude)
    if source_activation is not None:
        if "source_activation" in wishes:
            raise ArgumentError("--source-activation", "--set activation besides", "one of them")
        wishes["source_activation"] = activation_name(source_activation, "--source-activation")
    kernels = Compilation()
    try:
        set_threads(threads)
        loaded = load_target(target, model, weights, activation, input_shape, selection)
        kernels.wait()
    finally:
        kernels.stop()
    from slth.pipeline import find_ticket

    with progress_bar(not quiet) as bar:
        ticket = find_ticket(
            loaded,
            base_set_size=base_set_size,
            tolerance=tolerance,
            objective=objective,
            initialisation=initialisation,
            seed=seed,
            domain=domain,
            construction=construction,
            threads=threads,
            eps=eps,
            **wishes,
            on_progress=lambda layer, done, total: bar.update(f"layer {layer}", done, total),
        )
    asked = None if eps is None else _Asked(eps, ticket.rounds, _saving(ticket, loaded, domain, eps))
    _show(ticket, output, asked, domain, json, quiet)
    if asked and not asked.chosen.holds:
        typer.echo(f"warning: {asked.failure()}", err=True)
        return 1
    return 1 if max_missed is not None and ticket.missed > max_missed else 0


def _show(ticket: Ticket, output: Path, asked: _Asked | None, domain: str | None, json: bool, quiet: bool) -> None:
    """Save the ticket and say what it is."""
    from slth.summary import summarise

    summary = summarise(ticket, ticket.save(output))
    if json:
        print_json(summary.to_json() | (asked.to_json() if asked else {}))
    elif not quiet:
        lines = [f"{summary.seconds:.1f} s, {summary.ticket_bytes:,} bytes in {output}", *order_lines(summary)]
        lines += asked.lines(domain) if asked else []
        print_table(ticket_table(summary, whole=False), lines, summary.parameters.line)
    if ticket.missed and not quiet:
        typer.echo(
            f"warning: {ticket.missed:,} of {ticket.n_weights:,} weights missed the tolerance {ticket.tolerance:g} "
            f"(worst {ticket.max_weight_error:.3g}); try {_larger(ticket)} or another --seed",
            err=True,
        )


@dataclass(frozen=True)
class _Asked:
    """What became of an error that was asked for, and what its split saves of the source, where that is known."""

    eps: float
    rounds: tuple[Round, ...]
    saved: float | None

    @property
    def chosen(self) -> Round:
        """The round that the ticket is of."""
        return next(one for one in self.rounds if one.chosen)

    def to_json(self) -> dict[str, Any]:
        rounds = [asdict(one) for one in self.rounds]
        certified = self.chosen.certified_error
        return {"eps": self.eps, "certified_error": certified, "saved_by_split": self.saved, "rounds": rounds}

    def lines(self, domain: str | None) -> list[str]:
        error = f"{self.chosen.certified_error:.4g} ({self.eps:g} allowed)"
        lines = [f"certified: no output differs by more than {error} over {domain}"]
        if len(self.rounds) > 1:
            lines += [_round_line(number, one) for number, one in enumerate(self.rounds, 1)]
        if self.saved is not None:
            lines.append(f"splitting that error by cost saves {self.saved:.1%} of the source weights of equal parts")
        return lines

    def failure(self) -> str:
        """Why nothing holds, what was tried and what else could be."""
        tried = f"{len(self.rounds)} plans" if len(self.rounds) > 1 else "one plan"
        last = self.rounds[-1]
        worst = max(last.layers, key=lambda layer: layer.share)
        sizes = ", ".join(f"{layer.name} {_goal(layer)}" for layer in last.layers)
        return (
            f"the certified error {self.chosen.certified_error:.4g} is larger than {self.eps:g} after {tried}, the "
            f"last one with {sizes}; most comes from layer {worst.name}: try another --seed, a larger --eps, or a "
            "smaller --domain"
        )


def _round_line(number: int, one: Round) -> str:
    changed = [layer for layer in one.layers if layer.changed]
    what = f" {', '.join(f'{layer.name} {_goal(layer)}' for layer in changed[:MOST_LAYERS])}" if changed else ""
    if len(changed) > MOST_LAYERS:
        what += f", {len(changed) - MOST_LAYERS} more"
    mark = ", taken" if one.chosen else ""
    return f"{number} {one.kind}{what}: certified {one.certified_error:.4g}, {one.kept_weights:,} kept{mark}"


def _goal(layer: LayerRound) -> str:
    """What was asked of a layer: a tolerance, or a size of its base sets."""
    return str(layer.base_set_size) if layer.tolerance is None else f"within {layer.tolerance:.2g}"


def _saving(ticket: Ticket, target: Target, domain: str | None, eps: float) -> float | None:
    """The share of the source weights of an equal split that the own one does without.

    None if no size is chosen, the first plan was not wide enough, or sizes of layers hang together.
    """
    from slth.budget import allocate
    from slth.constructions import CONSTRUCTIONS
    from slth.domain import Domain
    from slth.plan import Wishes
    from slth.source.copies import CopySource

    wider = any(one.kind == "wider" for one in ticket.rounds)
    if wider or any(isinstance(layer, CopySource) for layer in ticket.spec.layers):
        return None
    wishes = Wishes(
        initialisation=ticket.spec.initialisation,
        activation=ticket.spec.layers[0].activation,
        domain=Domain.parse(domain),
    )
    costs = []
    for split in ("own", "uniform"):
        budget = allocate(ticket.hidden(target), CONSTRUCTIONS[ticket.construction], wishes, eps, split=split)
        costs.append(sum(layer.source_weights for layer in budget))
    return 1.0 - costs[0] / costs[1] if costs[1] else None


def _larger(ticket: Ticket) -> str:
    """The next larger base set of the ticket's construction, or the largest; a smaller delta where that says it all."""
    from slth.constructions import CONSTRUCTIONS

    method = CONSTRUCTIONS[ticket.construction]
    if method.keeps_tolerance:
        return "a smaller --set delta=P"
    largest = method.largest_size
    return f"--base-set-size {min(largest, ticket.base_set_size + max(4, ticket.base_set_size // 2))}"
