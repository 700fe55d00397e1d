"""Sparse students of labelled data, one for each class: accelerated gradient descent, magnitude pruning, and again.

Zhang, Wang, Liu, Chen, Xiong 2021, sections 2.2 and 4.1, on data that no teacher labelled: a class's student of K
neurons regresses 1 on its inputs and 0 on the others. A dense one descends for some steps, its largest weights are its
mask, and what the mask keeps descends from where it started. The class of an input is that of the largest output.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slth.errors import ArgumentError, DataError
from slth.learn.checkpoint import EVERY_SECONDS, Checkpoints, Saved, below, under
from slth.learn.datasets import Dataset
from slth.learn.descent import Descent, OnProgress, State, descend, first_state, refuse_divergence
from slth.learn.draws import Stream
from slth.learn.pruning import prune_smallest
from slth.learn.result import SparseNetwork
from slth.learn.teachers import Samples
from slth.threads import fitting_threads

_POWER_STEPS = 30
"""Of the power iteration that finds the inputs' scale (chosen: its error only changes the step size a little)."""


@dataclass(frozen=True)
class ClassSettings:
    """How students of classes are trained.

    Attributes
    ----------
    neurons : int
        K of each class's student.
    density : float
        Of a student's weights, the fraction that pruning keeps.
    dense_iterations, iterations : int
        Steps before pruning and, at most, after it.
    step_size, momentum, tolerance : float
        η, by default K, β, and the stopping rule of algorithm 1. Inputs are scaled such that the Hessian's largest
        eigenvalue is about 1 / K at most.
    seed : int
        Of the starts.
    """

    neurons: int = 20
    density: float = 0.2
    dense_iterations: int = 60
    iterations: int = 300
    step_size: float | None = None
    momentum: float = 0.95
    tolerance: float = 1e-8
    seed: int = 0

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises
        ------
        ArgumentError
            Naming the argument.
        """
        if self.neurons < 1:
            raise ArgumentError("neurons", str(self.neurons), "at least 1")
        if not 0.0 < self.density < 1.0:
            raise ArgumentError("density", str(self.density), "a fraction between 0 and 1, both excluded", "0.2")
        for dense in (True, False):
            self.descent(dense).check()

    def descent(self, dense: bool) -> Descent:
        """Of the dense students, or of the pruned ones."""
        steps = self.dense_iterations if dense else self.iterations
        step_size = float(self.neurons) if self.step_size is None else self.step_size
        return Descent(step_size, self.momentum, steps, self.tolerance)


@dataclass(frozen=True)
class ClassResult:
    """Students of all classes.

    Attributes
    ----------
    file : SparseNetwork
        The students as one network, Linear, ReLU, Linear: a target as any other; and its facts.
    masks : (class, neuron, input) bool
    accuracy, accuracy_dense : float
        Percent of the test part, after the last step and before pruning.
    states : list of str
        What each class's descent came to.
    losses : (class,) Tensor
        Half the mean squared error of the training part before the last step.
    seconds : float
        Work, that before an interruption included.
    """

    file: SparseNetwork
    masks: Tensor
    accuracy: float
    accuracy_dense: float
    states: list[str]
    losses: Tensor
    seconds: float

    @property
    def density(self) -> float:
        """The kept fraction of the prunable weights."""
        return float(self.masks.double().mean())


@dataclass(frozen=True)
class _Scaled:
    """Inputs centred and divided by one number, and a last one that is 1: what a bias multiplies.

    Attributes
    ----------
    inputs : (sample, input + 1) float32
    centre : (input,) float64
    scale : float
        Square root of the largest eigenvalue of the centred inputs' second moments.
    """

    inputs: Tensor
    centre: Tensor
    scale: float

    @classmethod
    def of(cls, inputs: Tensor, seed: int, where: str = "data") -> _Scaled:
        # On one thread sums have the same order, whatever the number of threads besides.
        with fitting_threads(0):
            return cls._of(inputs, seed, where)

    @classmethod
    def _of(cls, inputs: Tensor, seed: int, where: str) -> _Scaled:
        # Not by their variance: the mean of equal numbers may be rounded.
        if bool((inputs == inputs[0]).all()):
            raise DataError(where, "training inputs that are all the same", "inputs that differ")
        centre = inputs.mean(dim=0)
        centred = inputs - centre
        vector = torch.from_numpy(Stream(seed, 0, "hessian").normals(inputs.shape[1]))
        size = 0.0
        for _ in range(_POWER_STEPS):
            vector = centred.T @ (centred @ (vector / vector.norm())) / len(inputs)
            size = float(vector.norm())
        scale = math.sqrt(size)
        scaled = torch.ones(len(inputs), inputs.shape[1] + 1, dtype=torch.float32)
        scaled[:, :-1] = centred.div_(scale)
        return cls(scaled, centre, scale)

    def network(self, weights: Tensor) -> torch.nn.Sequential:
        """Linear, ReLU, Linear on inputs as they were given, with the outputs of (class, neuron, input + 1) weights."""
        n_classes, neurons, _ = weights.shape
        rows = weights.double().flatten(0, 1)
        first = torch.nn.Linear(rows.shape[1] - 1, len(rows))
        second = torch.nn.Linear(len(rows), n_classes, bias=False)
        with torch.no_grad():
            first.weight.copy_(rows[:, :-1] / self.scale)
            first.bias.copy_(rows[:, -1] - (rows[:, :-1] / self.scale) @ self.centre)
            second.weight.copy_(torch.block_diag(*torch.full((n_classes, 1, neurons), 1.0 / neurons)))
        return torch.nn.Sequential(first, torch.nn.ReLU(), second)


def learn_classes(
    data: Dataset,
    settings: ClassSettings | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    every_seconds: float = EVERY_SECONDS,
    on_progress: OnProgress | None = None,
) -> ClassResult:
    """Train, prune and train again a sparse student of every class; all of them are one batch.

    Parameters
    ----------
    data : Dataset
        :func:`slth.learn.datasets.load_dataset` reads one; inputs are flattened.
    settings : ClassSettings, optional
    device, threads
        As of :func:`slth.learn.descent.descend`.
    checkpoint : path, optional
        A file that keeps the state, now and then; ``resume`` goes on from it to the result of a run that was never
        interrupted.
    every_seconds : float
        Between two writings of it.
    on_progress : callable, optional
        Called with the steps done and the most there can be, of all classes together.

    Raises
    ------
    ArgumentError
        If a number is out of range, or the step size such that a descent diverges: with the step and the loss.
    DataError
        If all training inputs are the same.
    CheckpointError, MismatchError
        If the checkpoint is damaged, or of another run.

    Notes
    -----
    Differs: inputs are centred and scaled, neurons have biases, which are not pruned, and starts are random normals
    instead of points in a ball around a teacher, which real data do not have.
    """
    settings = settings or ClassSettings()
    settings.check()
    identity = {"method": "agd", **asdict(settings), "data": data.digest, "device": device}
    run = _Run(data, settings, Checkpoints(checkpoint, identity, every_seconds), device, threads, on_progress)
    run.go(run.keeper.load() if resume else None)
    return run.result(identity)


class _Run:
    """Both descents of all classes, and what lies between."""

    def __init__(
        self,
        data: Dataset,
        settings: ClassSettings,
        keeper: Checkpoints,
        device: str,
        threads: int | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.data, self.settings, self.keeper, self.on_progress = data, settings, keeper, on_progress
        assert data.train.labels is not None
        self.scaled = _Scaled.of(data.train.inputs.flatten(1), settings.seed, data.where)
        classes = torch.arange(data.n_classes)[:, None]
        labels = (data.train.labels[None, :] == classes).to(torch.float32)
        signal = labels.square().mean(dim=1).sqrt()
        self.samples = Samples(self.scaled.inputs[None], labels, signal)
        self.start = self._starts()
        self.device, self.threads = device, threads
        self.total = data.n_classes * (settings.dense_iterations + settings.iterations)

    def _starts(self) -> Tensor:
        """Normals, such that pre-activations have variance 1 / 4 in the mean (chosen); biases begin at 0."""
        shape = (self.settings.neurons, self.scaled.inputs.shape[1])
        draws = [Stream(self.settings.seed, number, "start").normals(*shape) for number in range(self.data.n_classes)]
        starts = torch.stack([torch.from_numpy(one) for one in draws])
        starts[:, :, -1] = 0.0
        return (starts * (0.5 / self.scaled.inputs[:, :-1].square().sum(dim=1).mean().sqrt())).to(torch.float32)

    def go(self, saved: Saved | None) -> None:
        """Descend, prune, descend; or what is left of that."""
        everything = torch.ones_like(self.start, dtype=torch.bool)
        known = {} if saved is None else saved.tensors
        dense = self._descend(True, everything, under("dense", known), {})
        self.dense = dense.weights
        self.masks = self._prune(dense.weights)
        self.state = self._descend(False, self.masks, under("sparse", known), below("dense", dense.tensors()))

    def _prune(self, weights: Tensor) -> Tensor:
        """Of every class's student its largest weights; biases stay."""
        names = [str(number) for number in range(len(weights))]
        own = {name: one[:, :-1] for name, one in zip(names, weights, strict=True)}
        full = {name: torch.ones_like(one, dtype=torch.bool) for name, one in own.items()}
        pruned = prune_smallest(own, full, 1.0 - self.settings.density, "layer")
        kept = torch.stack([pruned[name] for name in names])
        return torch.cat([kept, torch.ones_like(kept[:, :, :1])], dim=2)

    def _descend(self, dense: bool, masks: Tensor, known: dict[str, Tensor], before: dict[str, Tensor]) -> State:
        """One of the two descents, from its start or from where it was; ``before`` is kept beside it."""
        how = self.settings.descent(dense)
        name, done = ("dense", 0) if dense else ("sparse", self.data.n_classes * self.settings.dense_iterations)
        if known:
            state = State.from_tensors(known, how.iterations)
        else:
            state = first_state(masks, self.start * masks, None, how.iterations)

        def kept() -> Saved:
            return Saved(int(state.steps.max()), {**before, **below(name, state.tensors())})

        def look(now: State) -> None:
            refuse_divergence(now, how, name="class")
            self.keeper.offer(int(now.steps.max()), kept)

        def progress(steps: int, _: int) -> None:
            if self.on_progress is not None:
                self.on_progress(done + steps, self.total)

        return descend(
            self.samples, masks, state.weights, how, state=state, device=self.device, threads=self.threads,
            on_progress=progress, on_state=look,
        )  # fmt: skip

    def result(self, identity: dict[str, Any]) -> ClassResult:
        network = self.scaled.network(self.state.weights)
        accuracy, accuracy_dense = self._accuracy(network), self._accuracy(self.scaled.network(self.dense))
        masks = self.masks[:, :, :-1]
        losses = self.state.final_losses
        facts: dict[str, Any] = {"accuracy_ticket": accuracy, "accuracy_dense": accuracy_dense}
        facts |= {"density": float(masks.double().mean()), "kept": int(masks.sum()), "state": self.state.states}
        facts |= {"iterations": self.state.steps.tolist(), "loss": losses.tolist(), "settings": identity}
        weights = {name: one.detach() for name, one in network.state_dict().items()}
        beside = {"mask/0.weight": masks.flatten(0, 1), "mask/2.weight": weights["2.weight"] != 0}
        file = SparseNetwork(weights, beside, facts)
        return ClassResult(file, masks, accuracy, accuracy_dense, self.state.states, losses, self.keeper.seconds)

    def _accuracy(self, network: torch.nn.Module) -> float:
        test = self.data.test
        return test.accuracy(network, test.inputs.flatten(1).to(torch.float32))
