"""slth verify: check a ticket from anybody against the target."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slth.commands.certify import Scaling, claim_of, lines_of, scaled, shown_bound, times
from slth.commands.neurons import refuse_with_neurons, verify_on_data
from slth.commands.options import (
    Activation,
    DomainOption,
    Import,
    InputShape,
    Json,
    Model,
    Quiet,
    Threads,
    Weights,
    check_seed,
    import_own,
    load_target,
    set_threads,
)
from slth.commands.screen import add_rows, print_json, print_table, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

    from slth.certify.verify import Verification
    from slth.network.target import Target
    from slth.ticket import Ticket


def verify(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="The .ticket file.")],
    target: Annotated[Path | None, typer.Option(metavar="TARGET", help=".pt2, .safetensors or .pt file.")] = None,
    model: Model = None,
    weights: Weights = None,
    activation: Activation = "relu",
    input_shape: InputShape = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Test part of a folder or .npz, digits, mnist, PKG.MOD:FN.")
    ] = None,
    domain: DomainOption = None,
    eps: Annotated[float | None, typer.Option(metavar="E", help="Output error that must be proved.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prove again what slth certify proved.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", hidden=True)] = None,
    mean: Annotated[str | None, typer.Option(metavar="M,...", hidden=True)] = None,
    std: Annotated[str | None, typer.Option(metavar="S,...", hidden=True)] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the search for the largest error.")] = 0,
    threads: Threads = None,
    own: Import = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Recompute what a ticket claims from file and target alone.

    Exit 0: it holds, 1: it does not, 2: misuse."""
    from slth.artifact import is_plain_file, load, selection_in
    from slth.neurons.file import is_neurons

    import_own(own)
    if is_neurons(ticket):
        given = {"--target": target, "--weights": weights, "--domain": domain, "--eps": eps}
        refuse_with_neurons(given | {"--certificate": certificate})
        return verify_on_data(ticket, data, model, threads, json, quiet)
    if certificate is not None and (domain is not None or eps is not None):
        got = f"--{'domain' if domain is not None else 'eps'} besides"
        raise ArgumentError("--certificate", got, "one of them: a certificate says what it is made for")
    if (mean is None) != (std is None) or (mean is not None and certificate is None):
        raise ArgumentError("--mean", "one of --mean, --std and --certificate without the others", "all three")
    check_seed(seed)
    set_threads(threads)
    examined, alone = None, target is None and model is None and weights is None
    if not alone or not is_plain_file(ticket):
        # The target first: its code may register activations that the ticket names.
        examined = load_target(target, model, weights, activation, input_shape, selection_in(ticket))
    loaded = load(ticket)
    if certificate is not None:
        from slth.plain_layers import own_network

        scaling = None if mean is None or std is None else Scaling(mean, std)
        return _check_again(certificate, loaded, examined or own_network(loaded), data, scaling, seed, json, quiet)
    from slth.certify.verify import verify as check
    from slth.learn.datasets import load_test_part

    labelled = None if data is None else load_test_part(str(data))
    with progress_bar(not quiet) as bar:
        result = check(
            loaded, examined, domain, data=labelled, eps=eps, seed=seed, method=method, on_progress=bar.update
        )
    if json:
        print_json(result.to_json())
    elif not quiet:
        print_table(_table(result), _lines(result, examined is None))
    return 0 if result.holds else 1


def _check_again(
    path: Path,
    ticket: Ticket,
    target: Target,
    data: Path | None,
    scaling: Scaling | None,
    seed: int,
    json: bool,
    quiet: bool,
) -> int:
    from slth.certify.certificate import load_certificate
    from slth.certify.recheck import check_certificate

    claimed = load_certificate(path)
    given = None if data is None else scaled(data, target.graph.input_shape, scaling, None)
    with progress_bar(not quiet) as bar:
        result = check_certificate(claimed, ticket, target, data=given, seed=seed, on_progress=bar.update)
    if json:
        print_json(result.to_json())
    elif not quiet:
        typer.echo("\n".join([f"claimed: {claim_of(claimed)}", *lines_of(result.again)]))
        typer.echo("\n".join([f"does not hold: {reason}" for reason in result.reasons] or ["the certificate holds"]))
    return 0 if result.holds else 1


def _table(result: Verification) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    for name in ("weights", "source", "worst error", "mean error", "missed", "certified"):
        table.add_column(name, justify="right")
    rows = []
    for layer in result.layers:
        row = [
            escape(layer.name),
            f"{layer.weights:,}",
            "equal" if layer.source_matches else "DIFFERS",
            f"{layer.max_weight_error:.1e}",
            f"{layer.mean_weight_error:.1e}",
            f"{layer.missed:,}",
            "-" if layer.certified_error in (None, math.inf) else shown_bound(layer.certified_error, 3),
        ]
        rows.append(row)
    # A layer that differs comes before any that is merely far off.
    badness = [layer.max_weight_error if layer.source_matches else math.inf for layer in result.layers]
    add_rows(table, rows, badness, False)
    return table


def _lines(result: Verification, alone: bool) -> list[str]:
    """What was found; ``alone`` says that there is no target beside the ticket's own network."""
    lines = []
    if alone:
        lines.append("no target: every kept weight was compared with the source's, made anew from the seed")
    if result.certified_error == math.inf:
        lines.append(f"certified: nothing about the outputs over {result.domain}, as the notes say")
    elif result.certified_error is not None:
        lines.append(
            f"certified: no output differs by more than {shown_bound(result.certified_error)} over {result.domain}"
        )
        if result.assumed:
            lines[-1] += f", if what was registered of {', '.join(result.assumed)} is true"
    elif not alone:
        lines.append("certified: nothing (a proof needs --domain)")
    if result.observed_error is not None and not alone:
        lines.append(f"observed: the largest difference found is {result.observed_error:.4g}")
        if result.ratio is not None:
            lines[-1] += f"; the bound is {times(result.ratio)} times that"
    lines += [f"note: {note}" for note in result.notes]
    if result.n_outside:
        lines.append(f"note: {result.n_outside:,} of {result.n_data:,} inputs lie outside the domain")
    if alone and result.accuracy_ticket is not None:
        lines.append(f"accuracy: {result.accuracy_ticket:.2f} %")
    elif result.accuracy_target is not None:
        lines.append(f"accuracy: target {result.accuracy_target:.2f} %, ticket {result.accuracy_ticket:.2f} %")
    lines += [f"does not hold: {reason}" for reason in result.reasons]
    return lines + ([f"holds ({result.seconds:.1f} s)"] if result.holds else [])
