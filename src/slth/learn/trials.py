"""Experiments: hundreds of independent trials of one setting, in batches that fit the memory, resumable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from slth.errors import ArgumentError
from slth.learn.checkpoint import EVERY_SECONDS, Checkpoints, Saved
from slth.learn.descent import Descent, OnProgress, State, descend, first_state, refuse_divergence
from slth.learn.hessian import MOST_STEPS, Extremes, hessian_extremes
from slth.learn.matching import name_alike
from slth.learn.teachers import Samples, Teachers, draw_samples, draw_students, draw_teachers, random_starts
from slth.learn.tensor_initialisation import Conditioning, tensor_initialisation

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1 << 30
"""Of the inputs that are held at a time (chosen)."""

SUCCESS = 1e-4
"""A trial succeeds if its relative error ends below it (section 5.1)."""


@dataclass(frozen=True)
class Setting:
    """What every trial of an experiment draws anew (section 5.1).

    Attributes
    ----------
    neurons, inputs : int
        K and d.
    kept : int or tuple of int
        r*: inputs of a teacher's neuron, of all or of each.
    samples : int
        N.
    student_kept : int or tuple of int, optional
        r: inputs of a student's neuron; the teacher's by default.
    noise : float
        σ / E_y.
    radius : float
        λ: relative distance of the start.
    inside : bool
        Starts are uniform in the ball of that radius instead of on its sphere.
    binary : bool
        Labels 0 and 1 of a teacher of sigmoids.
    init : {"random", "tensor"}
        Starts at the radius, or from moments of the samples alone (:mod:`slth.learn.tensor_initialisation`).
    """

    neurons: int = 3
    inputs: int = 50
    kept: int | tuple[int, ...] = 10
    samples: int = 1000
    student_kept: int | tuple[int, ...] | None = None
    noise: float = 0.0
    radius: float = 0.5
    inside: bool = False
    binary: bool = False
    init: str = "random"

    def teachers(self, trials: int, seed: int, first_trial: int = 0) -> Teachers:
        """The teachers of some trials."""
        kind = "sigmoid" if self.binary else "relu"
        return draw_teachers(
            trials, self.neurons, self.inputs, self.kept, seed, first_trial=first_trial, activation=kind
        )

    def samples_of(self, teachers: Teachers, part: slice) -> tuple[Teachers, Samples]:
        """Some of the teachers, and what they labelled."""
        own = self.teachers(part.stop - part.start, teachers.seed, teachers.first_trial + part.start)
        return own, draw_samples(own, self.samples, self.noise, binary=self.binary)

    def students(self, teachers: Teachers) -> Tensor:
        """Their students' masks."""
        return draw_students(teachers, self.kept if self.student_kept is None else self.student_kept)


@dataclass(frozen=True)
class Outcome:
    """What the trials came to.

    Attributes
    ----------
    teachers : Teachers
    masks : (trial, neuron, input) bool
    state : State
        With weights, errors and all else after the last step.
    seconds : float
        Of the descent and of drawing data, parts before an interruption included.
    conditioning : Conditioning or None
        Of starts from moments, and what speaks against them; None of others, and of a run that was resumed.
    """

    teachers: Teachers
    masks: Tensor
    state: State
    seconds: float
    conditioning: Conditioning | None = None

    @property
    def errors(self) -> Tensor:
        """(trial,) ‖W - W*‖_F / ‖W*‖_F at the end, neurons not matched anew."""
        return self.state.final_errors

    @property
    def successes(self) -> Tensor:
        """(trial,) Whether the error is below 1e-4."""
        return self.errors < SUCCESS


def run_trials(
    setting: Setting,
    trials: int,
    how: Descent | None = None,
    *,
    seed: int = 0,
    first_trial: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    engine: str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    checkpoint: Path | None = None,
    resume: bool = False,
    every_seconds: float = EVERY_SECONDS,
    allow_divergence: bool = False,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Draw, and descend in, so many independent trials.

    Parameters
    ----------
    setting : Setting
    trials : int
    how : Descent, optional
        Loss and activation are the setting's.
    seed, first_trial : int
        Trial t of a seed is the same whatever the batch, the device, and the number of threads; only the arithmetic of
        another device or engine rounds differently.
    device, threads, engine
        As of :func:`slth.learn.descent.descend`.
    memory_bytes : int
        Of inputs at a time; more trials are done one part after another.
    checkpoint : path, optional
        A file that keeps the state, now and then and at the end.
    resume : bool
        Go on from it if it is there, to the result of a run that was never interrupted. More iterations than it was
        begun with continue it.
    every_seconds : float
        Between two writings of it.
    allow_divergence : bool
        Count trials that diverge; otherwise the first one ends the run.
    on_progress : callable, optional
        Called with the steps done and the most there can be.

    Raises
    ------
    ArgumentError
        If a number is out of range, or the step size such that a trial diverges: with the step and the loss.
    CheckpointError, MismatchError
        If the checkpoint is damaged, or of another run.
    """
    how = _fit(how or Descent(), setting)
    how.check()
    teachers = setting.teachers(trials, seed, first_trial)
    masks = setting.students(teachers)
    settings = {**asdict(setting), **asdict(how), "trials": trials, "seed": seed, "first_trial": first_trial}
    del settings["iterations"]
    keeper = Checkpoints(checkpoint, {**settings, "device": device, "engine": engine or "own"}, every_seconds)
    saved = keeper.load() if resume else None
    conditioning = None
    if saved is None:
        starts, conditioning = _starts(setting, teachers, masks, memory_bytes, device)
        state = first_state(masks, starts, teachers.weights, how.iterations)
    else:
        state = State.from_tensors(saved.tensors, how.iterations)
    begin = time.perf_counter() - (0.0 if saved is None else saved.seconds)

    def kept() -> Saved:
        return Saved(int(state.steps.max()), state.tensors())

    def look(section: State, part: slice) -> None:
        if not allow_divergence:
            refuse_divergence(section, how, first_trial + part.start)
        keeper.offer(int(state.steps.max()), kept)

    for part in _parts(setting, trials, memory_bytes):
        section = state.select(part)
        if bool((section.status == 0).any()):
            _descend_part(
                setting, how, teachers, masks, section, part, (device, threads, engine), look,
                _of_all(on_progress, part, trials, how.iterations),
            )  # fmt: skip
    keeper.save(kept())
    return Outcome(teachers, masks, state, time.perf_counter() - begin, conditioning)


def _starts(
    setting: Setting, teachers: Teachers, masks: Tensor, memory_bytes: int, device: str
) -> tuple[Tensor, Conditioning | None]:
    if setting.init == "random":
        return random_starts(teachers, masks, setting.radius, inside=setting.inside), None
    if setting.init != "tensor":
        raise ArgumentError("init", repr(setting.init), "random or tensor")
    if setting.binary:
        raise ArgumentError(
            "init", "tensor, of labels 0 and 1 of sigmoids", "labels of ReLUs, whose moments it reads", "random"
        )
    if setting.neurons > setting.inputs:
        got = f"tensor, for {setting.neurons} neurons of {setting.inputs} inputs"
        need = "no more neurons than inputs, as their directions are to be independent"
        raise ArgumentError("init", got, need, "random")
    starts, conditions = torch.empty_like(teachers.weights), []
    for part in _parts(setting, teachers.n_trials, memory_bytes):
        _, samples = setting.samples_of(teachers, part)
        found = tensor_initialisation(
            (samples.inputs, samples.labels), setting.neurons, masks[part], device=device, seed=teachers.seed
        )
        starts[part] = name_alike(found.weights.to(starts.device), masks[part], teachers.weights[part])
        conditions.append(found.conditioning)
    conditioning = Conditioning.joined(conditions)
    for doubt in conditioning.doubts():
        logger.warning("tensor initialisation: %s", doubt)
    return starts, conditioning


def _fit(how: Descent, setting: Setting) -> Descent:
    """The descent with the loss and activation of the setting's labels."""
    names = {"loss": "cross-entropy", "activation": "sigmoid"} if setting.binary else {}
    return Descent(**{**asdict(how), **names})


def _parts(setting: Setting, trials: int, memory_bytes: int, besides: int = 0) -> Sequence[slice]:
    """Trials whose inputs, once as drawn and once in blocks, fit the memory together; at least one."""
    if memory_bytes < 1:
        raise ArgumentError("memory_bytes", str(memory_bytes), "a positive number")
    each = 2 * 8 * setting.samples * setting.inputs + besides
    size = max(1, memory_bytes // max(1, each))
    return [slice(first, min(first + size, trials)) for first in range(0, trials, size)]


def _descend_part(
    setting: Setting,
    how: Descent,
    teachers: Teachers,
    masks: Tensor,
    section: State,
    part: slice,
    where: tuple[str, int | None, str | None],
    look: Callable[[State, slice], None],
    on_progress: OnProgress | None,
) -> None:
    """Some trials to their end; their state is a view of the whole one."""
    own, samples = setting.samples_of(teachers, part)
    device, threads, engine = where
    descend(
        samples,
        masks[part],
        section.weights,
        how,
        truth=own.weights,
        state=section,
        device=device,
        threads=threads,
        engine=engine,
        on_progress=on_progress,
        on_state=lambda state: look(state, part),
    )


def _of_all(on_progress: OnProgress | None, part: slice, trials: int, iterations: int) -> OnProgress | None:
    """Progress of a part as progress of the whole."""
    if on_progress is None:
        return None
    before = part.start * iterations
    return lambda done, total: on_progress(before + done, trials * iterations)


def curvature_at_teachers(
    setting: Setting, outcome: Outcome, *, device: str = "cpu", memory_bytes: int = MEMORY_BYTES
) -> Extremes:
    """Extreme eigenvalues of every trial's empirical Hessian at W* (square loss, ReLU).

    Theorem 1 has them between Θ((1 - ε_0 - ε_1) / K²) and Θ(1 / K).

    Parameters
    ----------
    setting : Setting
        The outcome's.
    outcome : Outcome
    device : str
    memory_bytes : int
        Of inputs and Krylov bases at a time.
    """
    teachers, found = outcome.teachers, []
    steps = min(MOST_STEPS, int(outcome.masks.sum(dim=(1, 2)).max()))
    bases = 8 * steps * setting.neurons * setting.inputs
    for part in _parts(setting, teachers.n_trials, memory_bytes, bases):
        own = setting.teachers(part.stop - part.start, teachers.seed, teachers.first_trial + part.start)
        samples = draw_samples(own, setting.samples, setting.noise, binary=setting.binary)
        found.append(hessian_extremes(own.weights, samples.inputs, outcome.masks[part], device=device))
    return Extremes(
        torch.cat([each.smallest for each in found]),
        torch.cat([each.largest for each in found]),
        torch.cat([each.smallest_residual for each in found]),
        torch.cat([each.largest_residual for each in found]),
        max(each.products for each in found),
    )
