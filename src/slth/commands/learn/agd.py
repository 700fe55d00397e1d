"""slth learn agd: accelerated gradient descent on students of sparse teachers."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.learn.common import Device, Output, Resume, Seed, prepare, stoppable
from slth.commands.options import Json, Quiet, Threads
from slth.commands.screen import print_json, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from slth.learn.descent import Descent
    from slth.learn.trials import Outcome, Setting

Kept = Annotated[str, typer.Option("--kept", metavar="R", help="Of a teacher's neuron, or R,R of each.")]
Wider = Annotated[str | None, typer.Option("--student-kept", metavar="R", help="Of a student's. Default: the same.")]


def agd(
    output: Output,
    neurons: Annotated[int, typer.Option(metavar="K", help="Of the teacher and the student.")] = 3,
    inputs: Annotated[int, typer.Option(metavar="D", help="All of them.")] = 50,
    kept: Kept = "10",
    student_kept: Wider = None,
    samples: Annotated[int, typer.Option(metavar="N", help="Labelled.")] = 1000,
    noise: Annotated[float, typer.Option(metavar="S", help="Of labels, relative to their size.")] = 0.0,
    binary: Annotated[bool, typer.Option("--binary", help="Labels 0 and 1, cross-entropy, sigmoids.")] = False,
    radius: Annotated[float, typer.Option(metavar="L", help="Of the start, relative; or --init tensor.")] = 0.5,
    init: Annotated[str, typer.Option(metavar="random|tensor", hidden=True)] = "random",
    inside: Annotated[bool, typer.Option("--inside", hidden=True)] = False,
    trials: Annotated[int, typer.Option(metavar="T", help="Independent runs.")] = 10,
    step_size: Annotated[float, typer.Option(metavar="H", help="eta.")] = 0.5,
    momentum: Annotated[float, typer.Option(metavar="B", help="beta; 0: gradient descent.")] = 0.2,
    iterations: Annotated[int, typer.Option(metavar="N", help="At most.")] = 10_000,
    tolerance: Annotated[float, typer.Option(metavar="T", hidden=True)] = 1e-8,
    folds: Annotated[int, typer.Option(metavar="N", hidden=True)] = 1,
    curvature: Annotated[bool, typer.Option("--curvature", hidden=True)] = False,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
    resume: Resume = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn sparse teachers by accelerated gradient descent, many at once."""
    checkpoint = prepare(output, "", seed, threads)
    from slth.files import write_atomically
    from slth.learn.descent import Descent
    from slth.learn.training import find_device
    from slth.learn.trials import Setting, run_trials

    if curvature and binary:
        raise ArgumentError("--curvature", "--binary besides", "the square loss, whose Hessian it is of")
    setting = Setting(
        neurons=neurons,
        inputs=inputs,
        kept=_sizes("--kept", kept),
        samples=samples,
        student_kept=None if student_kept is None else _sizes("--student-kept", student_kept),
        noise=noise,
        radius=radius,
        inside=inside,
        binary=binary,
        init=init,
    )
    how = Descent(step_size, momentum, iterations, tolerance, folds)
    with stoppable(checkpoint), progress_bar(not quiet) as bar:
        outcome = run_trials(
            setting,
            trials,
            how,
            seed=seed,
            device=str(find_device(device)),
            threads=threads,
            checkpoint=checkpoint,
            resume=resume,
            on_progress=lambda done, total: bar.update("steps", done, total),
        )
    facts = _facts(outcome, setting, how, seed)
    if curvature:
        facts |= _curvature(outcome, setting, str(find_device(device)))
    size = write_atomically(output, _file(outcome, facts))
    checkpoint.unlink(missing_ok=True)
    if json:
        print_json(facts | {"seconds": outcome.seconds, "output": str(output)})
    elif not quiet:
        for line in _lines(facts, outcome):
            typer.echo(line)
        typer.echo(f"{outcome.seconds:.1f} s, {size:,} bytes in {output}")


def _sizes(where: str, text: str) -> int | tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(where, text, "a whole number, or one a neuron between commas", f"{where} 10") from None
    return sizes[0] if len(sizes) == 1 else sizes


def _facts(outcome: Outcome, setting: Setting, how: Descent, seed: int) -> dict[str, Any]:
    """All that JSON holds of the result but how long it took."""
    from slth.learn.rates import fit_rates

    state = outcome.state
    # With noise errors end on a plateau; the steps shrink at the same rate without one.
    rates = fit_rates(state.changes if setting.noise or setting.binary else state.errors)
    return {
        "setting": asdict(setting) | {"trials": len(state.steps), "seed": seed},
        "descent": asdict(how),
        "error": state.final_errors.tolist(),
        "success": float(outcome.successes.double().mean()),
        "rate": rates.rate.tolist(),
        "rate_r_squared": rates.r_squared.tolist(),
        "iterations": state.steps.tolist(),
        "state": state.states,
    }


def _curvature(outcome: Outcome, setting: Setting, device: str) -> dict[str, Any]:
    """Extreme eigenvalues of the Hessian at the teachers, times the powers of K of theorem 1."""
    from slth.learn.trials import curvature_at_teachers

    found = curvature_at_teachers(setting, outcome, device=device)
    k = setting.neurons
    return {
        "smallest_eigenvalue_times_k2": (found.smallest * k**2).tolist(),
        "largest_eigenvalue_times_k": (found.largest * k).tolist(),
    }


def _file(outcome: Outcome, facts: dict[str, Any]) -> bytes:
    """The same bytes for the same run, interrupted or not: nothing in it depends on the clock."""
    from safetensors.torch import save

    state = outcome.state.tensors()
    tensors = {
        "weights": state["weights"],
        "masks": outcome.masks,
        "teachers": outcome.teachers.weights,
        **{name: state[name] for name in ("steps", "errors", "losses", "changes")},
    }
    finite = {name: [None if value != value else value for value in facts[name]] for name in ("rate", "rate_r_squared")}
    return bytes(save(tensors, {"slth": json_text.dumps(facts | finite, sort_keys=True)}))


def _lines(facts: dict[str, Any], outcome: Outcome) -> list[str]:
    """The result in a few lines; medians over trials."""
    import torch

    errors, rates = outcome.errors, torch.tensor(facts["rate"], dtype=torch.float64)
    fitted = rates[~rates.isnan()]
    counts = {name: facts["state"].count(name) for name in dict.fromkeys(facts["state"])}
    lines = [
        f"error: {float(errors.median()):.3g} of the teacher (median), {float(errors.max()):.3g} at most; "
        f"below 1e-4 in {int(outcome.successes.sum())} of {len(errors)} trials"
    ]
    rate = f"a step leaves {float(fitted.median()):.6g} of it (median); " if len(fitted) else ""
    ends = ", ".join(f"{count} {name}" for name, count in counts.items())
    lines.append(f"{rate}{int(outcome.state.steps.median())} iterations (median): {ends}")
    for name, words in (
        ("smallest_eigenvalue_times_k2", "K² times the smallest"),
        ("largest_eigenvalue_times_k", "K times the largest"),
    ):
        if name in facts:
            lines.append(f"{words} eigenvalue at the teacher: {min(facts[name]):.4g} to {max(facts[name]):.4g}")
    return lines
