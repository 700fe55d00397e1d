"""slth learn agd: accelerated gradient descent on students of sparse teachers."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slth.commands.learn.classes import learn_data
from slth.commands.learn.common import Device, Output, Resume, Run, Seed, prepare, stoppable
from slth.commands.options import Json, Quiet, Threads
from slth.commands.screen import print_json, progress_bar
from slth.errors import ArgumentError

if TYPE_CHECKING:
    from slth.learn.descent import Descent
    from slth.learn.trials import Outcome, Setting

TEACHERS_OPTIONS = {
    "inputs": "--inputs",
    "kept": "--kept",
    "student_kept": "--student-kept",
    "samples": "--samples",
    "noise": "--noise",
    "binary": "--binary",
    "radius": "--radius",
    "init": "--init",
    "inside": "--inside",
    "trials": "--trials",
    "folds": "--folds",
    "curvature": "--curvature",
}
"""What says something of teachers, which --data takes the place of."""

Kept = Annotated[str, typer.Option("--kept", metavar="R", help="Of a teacher's neuron, or R,R of each.")]
Wider = Annotated[str | None, typer.Option("--student-kept", metavar="R", hidden=True)]
Neurons = Annotated[int | None, typer.Option(metavar="K", help="Of teacher and student (3), or of each class (20).")]
Classes = Annotated[str | None, typer.Option("--data", metavar="DATA", help="Labelled data instead of teachers.")]
Density = Annotated[float | None, typer.Option("--density", metavar="D", help="With --data: kept by pruning (0.2).")]
StepSize = Annotated[float | None, typer.Option(metavar="H", help="eta (0.5; with --data K).")]
Momentum = Annotated[float | None, typer.Option(metavar="B", help="beta (0.2; with --data 0.95); 0: gradient descent.")]
Iterations = Annotated[int | None, typer.Option(metavar="N", help="At most (10000; with --data 300).")]


def agd(
    context: typer.Context,
    output: Output,
    data: Classes = None,
    density: Density = None,
    neurons: Neurons = None,
    inputs: Annotated[int, typer.Option(metavar="D", help="All of them.")] = 50,
    kept: Kept = "10",
    student_kept: Wider = None,
    samples: Annotated[int, typer.Option(metavar="N", help="Labelled.")] = 1000,
    noise: Annotated[float, typer.Option(metavar="S", hidden=True)] = 0.0,
    binary: Annotated[bool, typer.Option("--binary", help="Labels 0 and 1, cross-entropy, sigmoids.")] = False,
    radius: Annotated[float, typer.Option(metavar="L", help="Of the start, relative; or --init tensor.")] = 0.5,
    init: Annotated[str, typer.Option(metavar="random|tensor", hidden=True)] = "random",
    inside: Annotated[bool, typer.Option("--inside", hidden=True)] = False,
    trials: Annotated[int, typer.Option(metavar="T", help="Independent runs.")] = 10,
    step_size: StepSize = None,
    momentum: Momentum = None,
    iterations: Iterations = None,
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
    """Learn sparse teachers, or labelled data, by accelerated gradient descent."""
    checkpoint = prepare(output, data or "", seed, threads)
    run = Run(output, checkpoint, seed, device, threads, resume, json, quiet)
    asked = {"step_size": step_size, "momentum": momentum, "iterations": iterations, "neurons": neurons}
    if data is not None:
        _refuse_teachers(context)
        learn_data(data, asked | {"density": density, "tolerance": tolerance}, run)
        return
    if density is not None:
        raise ArgumentError("--density", f"{density:g} without --data", "data", "--kept, the inputs of a neuron")
    if curvature and binary:
        raise ArgumentError("--curvature", "--binary besides", "the square loss, whose Hessian it is of")
    from slth.learn.descent import Descent
    from slth.learn.trials import Setting

    setting = Setting(
        neurons=3 if neurons is None else neurons,
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
    numbers: dict[str, Any] = {name: asked[name] for name in ("step_size", "momentum", "iterations")}
    how = Descent(tolerance=tolerance, folds=folds, **{k: value for k, value in numbers.items() if value is not None})
    _learn_teachers(setting, how, trials, curvature, run)


def _refuse_teachers(context: typer.Context) -> None:
    """Refuse what --data leaves no sense."""
    for name, option in TEACHERS_OPTIONS.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ArgumentError(option, "--data besides", "one of them: data take the place of teachers")


def _learn_teachers(setting: Setting, how: Descent, trials: int, curvature: bool, run: Run) -> None:
    from slth.files import write_atomically
    from slth.learn.training import find_device
    from slth.learn.trials import run_trials

    device = str(find_device(run.device))
    with stoppable(run.checkpoint), progress_bar(not run.quiet) as bar:
        outcome = run_trials(
            setting,
            trials,
            how,
            seed=run.seed,
            device=device,
            threads=run.threads,
            checkpoint=run.checkpoint,
            resume=run.resume,
            on_progress=lambda done, total: bar.update("steps", done, total),
        )
    facts = _facts(outcome, setting, how, run.seed)
    doubts = [] if outcome.conditioning is None else outcome.conditioning.doubts()
    if curvature:
        eigenvalues, vague = _curvature(outcome, setting, device)
        facts, doubts = facts | eigenvalues, doubts + vague
    size = write_atomically(run.output, _file(outcome, facts))
    run.checkpoint.unlink(missing_ok=True)
    if run.json:
        print_json(facts | {"seconds": outcome.seconds, "output": str(run.output)})
    elif not run.quiet:
        for line in _lines(facts, outcome):
            typer.echo(line)
        typer.echo(f"{outcome.seconds:.1f} s, {size:,} bytes in {run.output}")
    if not run.quiet:
        for doubt in doubts:
            typer.echo(f"warning: {doubt}", err=True)


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
        "density": float(outcome.masks.double().mean()),
        "error": state.final_errors.tolist(),
        "success": float(outcome.successes.double().mean()),
        "rate": rates.rate.tolist(),
        "rate_r_squared": rates.r_squared.tolist(),
        "iterations": state.steps.tolist(),
        "state": state.states,
    }


def _curvature(outcome: Outcome, setting: Setting, device: str) -> tuple[dict[str, Any], list[str]]:
    """Extreme eigenvalues of the Hessian at the teachers, times the powers of K of theorem 1, and doubts."""
    from slth.learn.trials import curvature_at_teachers

    found = curvature_at_teachers(setting, outcome, device=device)
    k = setting.neurons
    facts = {
        "smallest_eigenvalue_times_k2": (found.smallest * k**2).tolist(),
        "largest_eigenvalue_times_k": (found.largest * k).tolist(),
        "smallest_residual_times_k2": (found.smallest_residual * k**2).tolist(),
        "largest_residual_times_k": (found.largest_residual * k).tolist(),
    }
    vague = int(found.unconverged().sum())
    if not vague:
        return facts, []
    within = max(facts["smallest_residual_times_k2"])
    words = f"{found.products} products leave eigenvalues of {vague} of {len(found.smallest)} trials unsettled"
    return facts, [f"{words}: K² times the smallest is within {within:.2g} of one; more samples separate them better"]


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
