"""slth calibrate: how large base sets must be, measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from slth.commands.laws import read_elements
from slth.commands.options import Json, Quiet, Threads
from slth.commands.screen import print_json, print_table, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

    from slth.calibration.sizes import Calibration


def calibrate(
    distribution: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Laws: uniform, normal, product, half-product, grid:16, more.")
    ] = "uniform,product,half-product",
    eps: Annotated[float, typer.Option(metavar="E", help="Largest error.")] = 0.01,
    delta: Annotated[float, typer.Option(metavar="D", help="Allowed probability of a miss.")] = 0.05,
    targets: Annotated[str, typer.Option(metavar="one|all", help="One target a base set, or all at once.")] = "all",
    target: Annotated[float | None, typer.Option(metavar="Z", help="The one target. Default: drawn.")] = None,
    reach: Annotated[float, typer.Option(metavar="T", help="Targets lie between -T and T.")] = 1.0,
    draws: Annotated[int | None, typer.Option(metavar="N", help="Base sets. Default: 20 / D, 1000 or more.")] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the base sets.")] = 0,
    largest: Annotated[int | None, typer.Option(metavar="M", help="Largest base set tried.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep and reuse answers on the disk.")] = True,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure how many random elements reach an error."""
    from slth.calibration import store
    from slth.calibration.sizes import Question, default_draws, default_largest
    from slth.calibration.sizes import calibrate as measure

    if threads is not None and threads < 1:
        raise ArgumentError("--threads", str(threads), "at least 1", "--threads 1")
    if not 0.0 < delta < 1.0:
        raise ArgumentError("--delta", f"{delta:g}", "a probability between 0 and 1", "--delta 0.05")
    questions = []
    for name in dict.fromkeys(part.strip() for part in distribution.split(",")):
        law = read_elements(name)
        limit = default_largest(law, targets) if largest is None else largest
        count = default_draws(delta) if draws is None else draws
        questions.append(Question(law, eps, delta, targets, target, reach, count, seed, limit))
    answers = []
    with progress_bar(not quiet) as bar:
        for question in questions:
            label = question.elements.label
            answer = store.load(question) if cache else None
            if answer is None:
                answer = measure(question, threads, partial(bar.update, label))
                if cache:
                    store.save(answer)
            answers.append(answer)
    if json:
        print_json({"calibrations": [answer.to_json() for answer in answers]})
    elif not quiet:
        print_table(_table(answers), [*_lines(answers[0]), *map(_contained, answers)])
    for answer in answers:
        if answer.size is None:
            typer.echo(_shortfall(answer), err=True)
    return int(any(answer.size is None for answer in answers))


def _table(answers: list[Calibration]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("distribution")
    for name in ("base set", "success", "95 % interval", "one element fewer", "draws"):
        table.add_column(name, justify="right")
    for answer in answers:
        last = answer.counts[-1]
        draws = answer.question.draws
        fewer = f"{answer.counts[-2].successes / draws:.4f}" if len(answer.counts) > 1 else "-"
        table.add_row(
            escape(answer.question.elements.label),
            f"> {last.m}" if answer.size is None else str(answer.size),
            f"{last.successes / draws:.4f}",
            f"{last.low:.4f} - {last.high:.4f}",
            fewer,
            f"{draws:,}",
        )
    return table


def _lines(answer: Calibration) -> list[str]:
    asked = answer.question
    if asked.targets == "all":
        what = f"every number from {-asked.reach:g} to {asked.reach:g}"
    elif asked.target is None:
        what = f"one number drawn from {-asked.reach:g} to {asked.reach:g}"
    else:
        what = f"the number {asked.target:g}"
    return [f"{what} to within {asked.eps:g}, in more than {1 - asked.delta:.6g} of all draws; seed {asked.seed}"]


def _contained(answer: Calibration) -> str:
    """The uniform law that the elements' contains (da Cunha et al. 2022, Definition 2)."""
    law = answer.question.elements
    found = law.containment()
    if found is None:
        return f"{law.label}: no uniform law around 0 is known to be contained"
    a = f"{found.half_width:.4g}"
    return f"{law.label}: density at least b = {found.density:.4g} on [-a, a], a = {a}; share 2 a b = {found.share:.4g}"


def _shortfall(answer: Calibration) -> str:
    asked, last = answer.question, answer.counts[-1]
    return (
        f"{asked.elements.label}: {last.m} elements reach {last.successes / asked.draws:.4f}, "
        f"at least {last.low:.4f}, not {1 - asked.delta:.6g}; try --largest, a larger --eps or --delta, or more --draws"
    )
