"""slth certify: prove how far a ticket is from the target over a set of inputs; the claim goes into a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slth.commands.options import (
    DomainOption,
    Import,
    InputShape,
    Json,
    Model,
    Quiet,
    Weights,
    check_seed,
    import_own,
    load_target,
    set_threads,
)
from slth.commands.screen import print_json, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from slth.certify.certificate import Certificate
    from slth.certify.regions import BoxSet, InputSet
    from slth.data import Data

COUNT = 100
"""Inputs around which something is proved, unless it is said how many (chosen)."""
MOST_OUTPUTS = 10
"""Of a network with more so many are shown (chosen)."""


def certify(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="The .ticket file.")],
    target: Annotated[Path | None, typer.Option(metavar="TARGET", help=".pt2, .safetensors or .pt file.")] = None,
    model: Model = None,
    weights: Weights = None,
    activation: Annotated[str, typer.Option(metavar="NAME", hidden=True)] = "relu",
    input_shape: InputShape = None,
    domain: DomainOption = None,
    around: Annotated[
        Path | None, typer.Option(metavar="DIR|NPZ", help="Around inputs of these data, within --domain.")
    ] = None,
    points: Annotated[Path | None, typer.Option(metavar="DIR|NPZ", help="The inputs of these data themselves.")] = None,
    radius: Annotated[float | None, typer.Option(metavar="R", help="How far around, by every entry.")] = None,
    ball: Annotated[int | None, typer.Option(metavar="2|1", help="By the Euclidean or the L1 norm instead.")] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", help=f"First N inputs. Default: {COUNT}, of --points all.")
    ] = None,
    norm: Annotated[
        str, typer.Option(metavar="NAME", help="max (default), l1, l2: of the output error.", show_default=False)
    ] = "max",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="linear (default), or interval or norm: cheaper.", show_default=False)
    ] = "linear",
    labels: Annotated[bool, typer.Option("--labels", help="Count classes that are provably the same.")] = False,
    mean: Annotated[str | None, typer.Option(metavar="M,...", hidden=True)] = None,
    std: Annotated[str | None, typer.Option(metavar="S,...", hidden=True)] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR|NPZ", hidden=True)] = None,
    seed: Annotated[int, typer.Option(metavar="S", hidden=True)] = 0,
    threads: Annotated[int | None, typer.Option(metavar="N", hidden=True)] = None,
    own: Import = None,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Where the certificate goes.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Prove how far a ticket's outputs can be from its target's."""
    from slth.files import check_writable

    import_own(own)
    check_seed(seed)
    set_threads(threads)
    choice = Choice(domain, around, points, radius, ball, count, mean, std)
    choice.check()
    if output is not None:
        check_writable(output, (ticket, target, weights, around, points, data))
    from slth.artifact import load, selection_in

    examined = load_target(target, model, weights, activation, input_shape, selection_in(ticket))
    from slth.certify.prove import certify as prove

    loaded = load(ticket)
    inputs, given = choice.read(examined.graph.input_shape, data)
    with progress_bar(not quiet) as bar:
        made = prove(
            loaded,
            examined,
            inputs,
            norm=norm,
            method=method,
            data=given,
            labels=labels,
            seed=seed,
            on_progress=bar.update,
        )
    size = None if output is None else made.save(output)
    if json:
        print_json(made.to_json() | {"ratio": made.ratio, "certificate_bytes": size})
    elif not quiet:
        typer.echo("\n".join(lines_of(made) + ([] if size is None else [f"{size:,} bytes in {output}"])))
    return 0


@dataclass(frozen=True)
class Choice:
    """The set of inputs that the options name."""

    domain: str | None
    around: Path | None
    points: Path | None
    radius: float | None
    ball: int | None
    count: int | None
    mean: str | None
    std: str | None

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises
        ------
        ArgumentError
        """
        if self.around is not None and self.points is not None:
            raise ArgumentError("--points", "--around besides", "one of them")
        if self.radius is not None and self.around is None and (self.ball is None or self.domain is not None):
            need = "--around, or --ball without --domain: around 0"
            raise ArgumentError("--radius", "nothing that it is a radius of", need, "--around DATA")
        if self.radius is None and (self.around is not None or self.ball is not None):
            raise ArgumentError("--radius", "none", "how far around", "--radius 0.01")
        if self.ball is not None and self.points is not None:
            raise ArgumentError("--ball", "--points besides", "--around, or no data: around 0")
        if self.ball not in (None, 1, 2):
            raise ArgumentError("--ball", str(self.ball), "2 for the Euclidean norm or 1 for the L1 norm")
        if self.count is not None and (self.count < 1 or not (self.around or self.points)):
            raise ArgumentError("--count", str(self.count), "a number above 0, with --around or --points")
        if (self.mean is None) != (self.std is None):
            raise ArgumentError("--mean", "one of --mean and --std", "both")
        if not (self.domain or self.around or self.points or self.ball or self.mean):
            need = "a set of inputs: --domain, --around or --points"
            raise ArgumentError("--domain", "none", need, "--domain 0,1")

    def read(self, shape: tuple[int, ...], data: Path | None) -> tuple[InputSet, Data | None]:
        """The set for inputs of a shape, and the data that it is made of, or that are to be tried.

        Raises
        ------
        ArgumentError
            If numbers are none, or do not fit.
        DataError
            If data cannot be read or do not fit.
        """
        from slth.certify import regions

        scaling = None if self.mean is None or self.std is None else Scaling(self.mean, self.std)
        box = self._box(scaling)
        source = self.around or self.points
        if source is None:
            given = None if data is None else scaled(data, shape, scaling, None)
            if self.ball is not None and self.radius is not None:
                return regions.ball(0.0, self.radius, self.ball), given
            assert box is not None
            return box, given
        limit = self.count or (COUNT if self.around else None)
        given = scaled(source, shape, scaling, limit)
        if self.around is None or self.radius is None:
            return regions.points(given.inputs, source.name), given
        p = "max" if self.ball is None else self.ball
        return regions.around(given.inputs, self.radius, p, box, source.name), given

    def _box(self, scaling: Scaling | None) -> BoxSet | None:
        from slth.certify.regions import BoxSet, preprocessed
        from slth.domain import Domain

        if scaling is None:
            return None if self.domain is None else BoxSet(Domain.parse(self.domain))
        pixels = Domain.parse(self.domain or "0,1")
        assert pixels.lower is not None and pixels.upper is not None
        return preprocessed(*scaling.numbers, float(pixels.lower), float(pixels.upper))


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / std, one number or one a channel, as words between commas."""

    mean: str
    std: str

    @property
    def numbers(self) -> tuple[list[float], list[float]]:
        """Means and deviations.

        Raises
        ------
        ArgumentError
            If they are no numbers.
        """
        made = []
        for name, words in (("--mean", self.mean), ("--std", self.std)):
            try:
                made.append([float(word) for word in words.split(",")])
            except ValueError as error:
                raise ArgumentError(name, repr(words), "a number, or one a channel between commas") from error
        return made[0], made[1]


def scaled(path: Path, shape: tuple[int, ...], scaling: Scaling | None, limit: int | None) -> Data:
    """Data as a network of an input shape takes them, the first few if there is a limit.

    Raises
    ------
    ArgumentError, DataError
        If they cannot be read or do not fit.
    """
    import torch

    from slth.data import Data
    from slth.learn.datasets import load_test_part

    read = load_test_part(str(path))
    inputs = read.inputs_for(shape)[:limit]
    if scaling is not None:
        mean, std = (torch.tensor(part, dtype=torch.float64) for part in scaling.numbers)
        for name, part in (("--mean", mean), ("--std", std)):
            if part.numel() not in (1, shape[0]) or (part.numel() > 1 and len(shape) < 2):
                got = f"{part.numel()} numbers for the input shape {shape}"
                raise ArgumentError(name, got, "one number, or one a channel")
        sides = [1] * (len(shape) - 1)
        inputs = (inputs - mean.reshape(-1, *sides)) / std.reshape(-1, *sides)
    return Data(inputs, None if read.labels is None else read.labels[:limit], read.where)


_WORDS = {
    "max": "no output differs by more than",
    "components": "no output differs by more than",
    "l1": "the differences of the outputs add up to at most",
    "l2": "the Euclidean norm of the outputs' difference is at most",
}


def shown_bound(bound: float, digits: int = 4) -> str:
    """A few digits that are not below a bound."""
    from slth.certify.certificate import rounded_up

    return "unknown" if math.isinf(bound) else f"{rounded_up(bound, digits):.{digits}g}"


def times(ratio: float) -> str:
    """How many times, in three digits."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.3g}" if ratio < 1000 else f"{ratio:,.0f}"


def claim_of(made: Certificate) -> str:
    """What a certificate says, in a line."""
    if math.isinf(made.certified_error):
        return f"nothing about the outputs over {made.words}, as the notes say"
    return f"{_WORDS[made.norm]} {shown_bound(made.certified_error)} over {made.words}"


def lines_of(made: Certificate) -> list[str]:
    """A certificate for people."""
    lines = [f"certified: {claim_of(made)}"]
    if made.assumed:
        lines[-1] += f", if what was registered of {', '.join(made.assumed)} is true"
    if made.norm == "components":
        shown = [shown_bound(bound) for bound in made.components[:MOST_OUTPUTS]]
        rest = len(made.components) - len(shown)
        lines.append(f"by output: {', '.join(shown)}{f' and {rest:,} more' if rest else ''}")
    if made.certified_in_float32 is not None:
        lines.append(f"in float32: at most {shown_bound(made.certified_in_float32)}")
    if made.observed_error is not None:
        lines.append(f"observed: the largest difference found is {made.observed_error:.4g}")
        if made.ratio is not None:
            lines[-1] += f"; the bound is {times(made.ratio)} times that"
    if made.quantiles is not None:
        low, middle, high = (shown_bound(made.quantiles[name]) for name in ("least", "median", "largest"))
        lines.append(f"one by one: certified {low} to {high}, median {middle}")
        if made.median_ratio is not None:
            lines[-1] += f", {times(made.median_ratio)} times the largest found (median)"
    if made.labels is not None:
        lines += _classes(made.labels)
    lines += [f"note: {note}" for note in made.notes]
    return [*lines, f"proved by {made.method} bounds in {made.seconds:.1f} s"]


def _classes(labels: Mapping[str, int | None]) -> list[str]:
    def share(name: str, whole: int) -> str:
        number = labels[name] or 0
        right = labels[name.replace("same", "right")]
        said = "" if right is None else f", {right:,} of them the label"
        return f"{number:,} of {whole:,} inputs ({number / whole:.2%}){said}"

    inputs = labels["inputs"] or 0
    lines = [f"same class, provably: {share('same', inputs)}"]
    if labels["same_around"] is not None:
        lines.append(f"and all around them: {share('same_around', inputs)}")
    return lines
