"""Accelerated gradient descent on sparse students, many trials at once.

Zhang, Wang, Liu, Chen, Xiong 2021, algorithm 1: W' = W - η ∇f̂_D(W) + β (W - W_before), on disjoint folds of the data as
the theory has it or on all of it as the experiments do; β = 0 is gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from slth.bounds.zhang import STEP_DIVISOR, folds
from slth.errors import ArgumentError, MismatchError
from slth.learn.engines import Engine, KernelEngine, TensorEngine
from slth.learn.kernel import CONVERGED, DIVERGED, EXHAUSTED, RUNNING
from slth.learn.risk import LOSSES
from slth.learn.teachers import ACTIVATIONS, Samples

STATES = {RUNNING: "running", CONVERGED: "converged", EXHAUSTED: "exhausted", DIVERGED: "diverged"}
"""What a trial may have come to, in words: ``exhausted`` is out of iterations."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Descent:
    """Hyper-parameters of the descent; by default those of the paper's Figure 3.

    Attributes
    ----------
    step_size : float
        η.
    momentum : float
        β; 0 is gradient descent.
    iterations : int
        Most steps.
    tolerance : float
        A trial stops when ‖W' - W‖_F / ‖W‖_F is below it; 0 never stops.
    folds : int
        Disjoint parts of the data, step t using part t; 1 is all of it in every step.
    loss, activation : str
        ``"square"`` or ``"cross-entropy"``; ``"relu"`` or ``"sigmoid"``.
    """

    step_size: float = 0.5
    momentum: float = 0.2
    iterations: int = 10_000
    tolerance: float = 1e-8
    folds: int = 1
    loss: str = "square"
    activation: str = "relu"

    @classmethod
    def of_theorem_2(cls, neurons: int, eps: float, momentum: float = 0.2) -> Descent:
        """η = K / 14 and T = ⌈log(1 / eps)⌉ steps on as many disjoint folds (theorem 2, algorithm 1).

        Parameters
        ----------
        neurons : int
            K.
        eps : float
            Asked relative error of the weights, between 0 and 1.
        momentum : float
            β.

        Notes
        -----
        Differs: the theorem's β* hides its constant, so momentum is chosen. So do the T steps: at fixed constants they
        do not reach eps, as 1 - ν(β) is Θ(1/√K), not 1 - 1/e.
        """
        parts = folds(eps)
        return cls(neurons / STEP_DIVISOR, momentum, iterations=parts, tolerance=0.0, folds=parts)

    def check(self) -> None:
        """Refuse numbers outside their ranges.

        Raises
        ------
        ArgumentError
            Naming the argument.
        """
        if not 0.0 < self.step_size < math.inf:
            raise ArgumentError("step_size", str(self.step_size), "a number above 0", "0.5")
        if not 0.0 <= self.momentum < 1.0:
            raise ArgumentError("momentum", str(self.momentum), "a number from 0 up to, not including, 1", "0.2")
        if self.iterations < 1:
            raise ArgumentError("iterations", str(self.iterations), "at least 1")
        if not 0.0 <= self.tolerance < math.inf:
            raise ArgumentError("tolerance", str(self.tolerance), "a number >= 0", "1e-8")
        if self.folds < 1:
            raise ArgumentError("folds", str(self.folds), "at least 1")
        if 1 < self.folds < self.iterations:
            got = f"{self.iterations} steps on {self.folds} folds"
            raise ArgumentError("iterations", got, "no more than the folds, each of which serves one step")
        for name, value, known in (("loss", self.loss, LOSSES), ("activation", self.activation, ACTIVATIONS)):
            if value not in known:
                raise ArgumentError(name, repr(value), f"one of {', '.join(known)}")


@dataclass
class State:
    """Where a batch of trials stands; a descent goes on from it as if it had never stopped.

    Attributes
    ----------
    weights, previous : (trial, neuron, input)
        W, and W one step before.
    steps : (trial,) int64
    status : (trial,) int8
        Keys of :data:`STATES`.
    errors : (trial, iterations + 1) float64
        ‖W - W*‖_F / ‖W*‖_F after 0, 1, ... steps; NaN where there is no truth, or beyond ``steps``.
    losses, changes : (trial, iterations) float64
        The loss before, and ‖W' - W‖_F / ‖W‖_F of, each step; NaN beyond.
    """

    weights: Tensor
    previous: Tensor
    steps: Tensor
    status: Tensor
    errors: Tensor
    losses: Tensor
    changes: Tensor

    @property
    def final_errors(self) -> Tensor:
        """(trial,) Relative error of the weights."""
        return self.errors.gather(1, self.steps[:, None])[:, 0]

    @property
    def final_losses(self) -> Tensor:
        """(trial,) The loss before the last step."""
        return self.losses.gather(1, (self.steps - 1).clamp(min=0)[:, None])[:, 0]

    @property
    def states(self) -> list[str]:
        """What each trial came to, in words."""
        return [STATES[int(status)] for status in self.status]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name; histories without what has not happened yet."""
        longest = int(self.steps.max())
        ends = {"errors": longest + 1, "losses": longest + 1, "changes": longest}
        whole = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**whole, **{name: whole[name][:, :end].contiguous() for name, end in ends.items()}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], iterations: int) -> State:
        """The state that :meth:`tensors` gave, with room for so many iterations.

        Trials that had run out of fewer iterations run on.
        """
        state = cls(**{each.name: tensors[each.name].clone() for each in fields(cls)})
        for name, length in (("errors", iterations + 1), ("losses", iterations), ("changes", iterations)):
            whole = torch.full((len(state.steps), length), math.nan, dtype=torch.float64)
            known = getattr(state, name)[:, :length]
            whole[:, : known.shape[1]] = known
            setattr(state, name, whole)
        state.status[(state.status == EXHAUSTED) & (state.steps < iterations)] = RUNNING
        return state

    def select(self, chosen: slice) -> State:
        """Some of the trials; their tensors are shared with the whole."""
        return State(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


def first_state(masks: Tensor, start: Tensor, truth: Tensor | None, iterations: int) -> State:
    """Before the first step.

    Parameters
    ----------
    masks : (trial, neuron, input) bool
    start : (trial, neuron, input)
    truth : (trial, neuron, input), optional
        W*, for the errors.
    iterations : int
        Steps that the histories have room for.

    Raises
    ------
    MismatchError
        If shapes differ or a start has weights outside its mask.
    ArgumentError
        If a truth is all zeros, of which no error is relative.
    """
    if start.shape != masks.shape or (truth is not None and truth.shape != masks.shape):
        got = f"start {tuple(start.shape)}, truth {tuple(start.shape if truth is None else truth.shape)}"
        raise MismatchError("start", got, f"the masks' shape {tuple(masks.shape)}")
    if bool((start[~masks] != 0).any()):
        raise MismatchError("start", "weights outside the masks", "a start on the students' supports", "start * masks")
    trials = len(start)
    errors = torch.full((trials, iterations + 1), math.nan, dtype=torch.float64)
    if truth is not None:
        norms = truth.double().square().sum(dim=(1, 2)).sqrt()
        if bool((norms == 0).any()):
            raise ArgumentError("truth", "weights that are all 0", "a teacher with weights, as errors are relative")
        errors[:, 0] = (start.double() - truth.double()).square().sum(dim=(1, 2)).sqrt() / norms
    return State(
        start.clone(),
        start.clone(),
        torch.zeros(trials, dtype=torch.int64),
        torch.full((trials,), RUNNING, dtype=torch.int8),
        errors,
        torch.full((trials, iterations), math.nan, dtype=torch.float64),
        torch.full((trials, iterations), math.nan, dtype=torch.float64),
    )


def descend(
    samples: Samples,
    masks: Tensor,
    start: Tensor,
    how: Descent | None = None,
    *,
    truth: Tensor | None = None,
    state: State | None = None,
    device: str = "cpu",
    threads: int | None = None,
    engine: str | None = None,
    on_progress: OnProgress | None = None,
    on_state: Callable[[State], object] | None = None,
) -> State:
    """Minimise the empirical risk over the weights that the masks keep, every trial until it stops.

    Parameters
    ----------
    samples : Samples
        Their number type is that of all arithmetic.
    masks : (trial, neuron, input) bool
        The students' supports; other weights are exactly 0 throughout.
    start : (trial, neuron, input)
    how : Descent, optional
    truth : (trial, neuron, input), optional
        W*, for the errors.
    state : State, optional
        Of an earlier call with the same samples, masks and numbers, to go on from; it is changed.
    device : str
        ``"cpu"``, or a GPU as torch names it.
    threads : int, optional
        Of the CPU; torch's number by default. The result does not depend on it.
    engine : str, optional
        ``"kernel"`` (the CPU's default) or ``"tensors"``: plain torch, as on other devices.
    on_progress : callable, optional
        Called with the steps done and the most there can be, of all trials together.
    on_state : callable, optional
        Called now and then with the state, which may be kept and gone on from.

    Raises
    ------
    ArgumentError, DataError, MismatchError
        If an argument is out of range, a number is not finite, or shapes do not fit.

    Notes
    -----
    Zhang et al. 2021, algorithm 1. Differs: the gradient of a ReLU at 0 is 0, which the paper leaves open, and descents
    that diverge end early. A trial whose loss grows a millionfold, or is no number, has status ``diverged``; its
    weights are those at which that loss was found, ``losses[trial, steps]``. :func:`refuse_divergence` makes an error
    of it.
    """
    how = how or Descent()
    how.check()
    samples.check(how.loss == "cross-entropy")
    _check_fit(samples, masks, how)
    if state is None:
        kind = samples.inputs.dtype
        state = first_state(masks, start.to(kind), None if truth is None else truth.to(kind), how.iterations)
    running = _engine(samples, masks, truth, how, state, device, threads, engine)
    total = len(state.steps) * how.iterations
    while bool((state.status == RUNNING).any()):
        running.advance()
        if on_progress is not None:
            stopped = int((state.status != RUNNING).sum())
            done = int(state.steps[state.status == RUNNING].sum())
            on_progress(done + stopped * how.iterations, total)
        if on_state is not None:
            on_state(state)
    if truth is None:
        state.errors.fill_(math.nan)
    return state


def _engine(
    samples: Samples,
    masks: Tensor,
    truth: Tensor | None,
    how: Descent,
    state: State,
    device: str,
    threads: int | None,
    name: str | None,
) -> Engine:
    if threads is not None and threads < 1:
        raise ArgumentError("threads", str(threads), "at least 1")
    on_cpu = torch.device(device).type == "cpu"
    name = name or ("kernel" if on_cpu else "tensors")
    if name not in ("kernel", "tensors") or (name == "kernel" and not on_cpu):
        raise ArgumentError("engine", f"{name!r} on {device}", "'kernel' on the CPU, or 'tensors'")
    reference = torch.zeros_like(state.weights) if truth is None else truth.to(state.weights.dtype)
    if name == "kernel":
        return KernelEngine(samples, masks, reference, how, state, threads or torch.get_num_threads())
    return TensorEngine(samples, masks, reference, how, state, device)


def _check_fit(samples: Samples, masks: Tensor, how: Descent) -> None:
    trials, n_samples, n_inputs = samples.inputs.shape
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise MismatchError("masks", f"{masks.dtype} of shape {tuple(masks.shape)}", "bool, (trial, neuron, input)")
    if masks.shape[2] != n_inputs or trials not in (1, len(masks)):
        got = f"masks of shape {tuple(masks.shape)} for inputs of shape {tuple(samples.inputs.shape)}"
        raise MismatchError("masks", got, "as many trials and inputs")
    if len(samples.labels) not in (1, len(masks)):
        raise MismatchError("labels", f"{len(samples.labels)} rows for {len(masks)} trials", "one row, or one a trial")
    if not bool(masks.any(dim=(1, 2)).all()):
        raise MismatchError("masks", "a student without weights", "at least one in every trial")
    if how.folds > n_samples:
        raise ArgumentError("folds", f"{how.folds} of {n_samples} samples", "at least one sample a fold")


def refuse_divergence(state: State, how: Descent, first_trial: int = 0, name: str = "trial") -> None:
    """Make an error of a descent that diverged.

    Parameters
    ----------
    state : State
    how : Descent
    first_trial : int
        Number of the first trial of the state.
    name : str
        What the trials are called.

    Raises
    ------
    ArgumentError
        With the step and the loss of the first trial that did.
    """
    diverged = (state.status == DIVERGED).nonzero()
    if len(diverged):
        trial = int(diverged[0, 0])
        step = int(state.steps[trial])
        loss, first = float(state.losses[trial, step]), float(state.losses[trial, 0])
        got = f"{how.step_size:g}, with which {name} {first_trial + trial} diverged: loss {loss:.3g} at step {step}"
        raise ArgumentError("step_size", f"{got}, {first:.3g} at first", "a smaller step", f"{how.step_size / 10:g}")
