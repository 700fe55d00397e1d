"""Edge-popup and its kin: a ticket of a random network for labelled data, by training scores and no weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from slth.errors import ArgumentError
from slth.learn.checkpoint import EVERY_SECONDS, Checkpoints, Saved
from slth.learn.datasets import Dataset
from slth.learn.networks import HIDDEN, make_network
from slth.learn.scored import WEIGHTS, ScoredNetwork, check_method, draw_source
from slth.learn.training import Recipe, Training, check_fit, derive, examples, find_device, machine
from slth.network.inputs import as_target
from slth.network.target import Target
from slth.threads import fitting_threads
from slth.ticket import Ticket

HALF = 0.5
EPOCHS, BATCH, LEAST_STEPS = 6, 256, 600
"""Passes over the training part, inputs a step, and steps below which there are more passes (chosen)."""
TRAINED = {"edge-popup": ("sgd", 1.0), "multi-prize": ("sgd", 5.0), "bernoulli": ("adam", 0.1)}
"""Optimiser and learning rate of scores, by method (chosen: by trial on MNIST).

Only the order of scores decides among the largest, so that steps may be as large as gradients are. A probability has to
leave 1/2, or the ticket is no draw that training saw: steps of one size for all scores take it there.
"""


@dataclass(frozen=True)
class PopupSettings:
    """How a mask over a random network is learnt.

    Attributes
    ----------
    method : str
        ``"edge-popup"`` (Ramanujan et al. 2020); ``"multi-prize"``, the same with weights that are signs times one
        number a layer (Diffenderfer and Kailkhura 2021); ``"bernoulli"`` (Zhou et al. 2019).
    weights : str
        Law of the source, one of :data:`slth.learn.scored.WEIGHTS`.
    density : float or None
        Kept fraction of every layer. None is 1/2; of ``"bernoulli"``, whatever is likelier kept than not.
    recipe : Recipe or None
        Of the scores' training. None: :data:`EPOCHS` of batches of :data:`BATCH`, more where data are few, with
        momentum or Adam, and the method's rate (:data:`TRAINED`), which falls as a cosine.
    seed : int
        Of the source, the first scores and the order; 64 bits.
    """

    method: str = "edge-popup"
    weights: str = WEIGHTS[0]
    density: float | None = None
    recipe: Recipe | None = None
    seed: int = 0

    @property
    def kept_fraction(self) -> float | None:
        """The density, or what it is where none is given."""
        return HALF if self.density is None and self.method != "bernoulli" else self.density

    def recipe_for(self, n: int) -> Recipe:
        """How scores are trained on so many inputs."""
        if self.recipe is not None:
            return self.recipe
        epochs = max(EPOCHS, -(-LEAST_STEPS // -(-n // BATCH)))
        optimiser, rate = TRAINED[self.method]
        return Recipe(epochs, BATCH, optimiser, rate, "cosine")

    def check(self) -> None:
        """Refuse numbers out of range and unknown names.

        Raises
        ------
        ArgumentError
        """
        if self.recipe is not None:
            self.recipe.check()
        check_method(self.method, self.weights, self.kept_fraction)
        if not 0 <= self.seed < 2**64:
            raise ArgumentError("seed", str(self.seed), "a whole number from 0 to 2^64 - 1")

    def settings(self, n: int) -> dict[str, Any]:
        """Of JSON's kinds, for so many inputs."""
        own = {"method": self.method, "weights": self.weights, "density": self.kept_fraction, "seed": self.seed}
        return {**own, **self.recipe_for(n).settings()}


@dataclass(frozen=True)
class PopupResult:
    """A ticket and how good it is.

    Attributes
    ----------
    ticket : Ticket
    accuracy : float
        Percent of the test part that the ticket's own folded module gets right.
    accuracy_before : float
        The same of the untrained scores' ticket.
    seconds : float
        Work, that before an interruption included.
    """

    ticket: Ticket
    accuracy: float
    accuracy_before: float
    seconds: float

    @property
    def density(self) -> float:
        """The kept fraction of all weights and biases."""
        return self.ticket.n_kept / self.ticket.spec.n_weights


def edge_popup(
    model: torch.nn.Module | Target | str,
    data: Dataset,
    settings: PopupSettings | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    hidden: tuple[int, ...] = HIDDEN,
    device: str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    every_seconds: float = EVERY_SECONDS,
    every_steps: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PopupResult:
    """Learn which weights of a random network to keep; no weight is ever changed.

    Minimises the cross-entropy of the masked network over the scores by stochastic gradients straight through the mask
    (Ramanujan et al. 2020, equation 4).

    Parameters
    ----------
    model : Module, Target or str
        The architecture: its weights have no part in the result, and normalisations are folded away. A string is a
        name of :data:`slth.learn.networks.NETWORKS`.
    data : Dataset
        :func:`slth.learn.datasets.load_dataset` reads one.
    settings : PopupSettings, optional
    input_shape : tuple of int, optional
        Of one input, for a module; default: as the data are, or what it can be found to take.
    hidden : tuple of int
        Widths of the hidden layers of ``"mlp"``.
    device : str, optional
        ``cpu`` or ``cuda``; the GPU if there is one.
    checkpoint : path, optional
        A file for the state of the run, as :func:`slth.learn.imp.imp` keeps it; ``resume`` goes on from it to the same
        bits on the same device with as many threads.
    on_progress : callable, optional
        Called with steps done and steps in all.

    Raises
    ------
    ArgumentError, DataError, TargetError
        If a setting is out of range, or data and model do not fit.
    TrainingError
        If the loss diverges: with the step and the loss.
    CheckpointError, MismatchError
        If the checkpoint is damaged, or of a run with other settings (named).
    """
    settings = settings or PopupSettings()
    settings.check()
    where, target = find_device(device), architecture(model, data, input_shape, hidden)
    spec = draw_source(target, settings.seed, settings.weights, settings.kept_fraction or HALF)
    train, test = examples(data, where, target.graph.input_shape)
    with fitting_threads(spec.n_weights):
        first = derive(settings.seed, "scores")
        scored = ScoredNetwork(target, spec, settings.method, settings.kept_fraction, first)
        scored.module.to(where)
        check_fit(scored.module, train, data.n_classes, data.where)
        before = test.accuracy(scored.module)
        identity = {"learnt": "scores", **settings.settings(len(train)), **machine(where), "data": data.digest}
        identity["graph"] = hashlib.sha256(json.dumps(target.graph.structure(), sort_keys=True).encode()).hexdigest()
        keeper = Checkpoints(checkpoint, identity, every_seconds, every_steps)
        training = Training(scored.module, train, settings.recipe_for(len(train)), settings.seed)
        saved = keeper.load() if resume else None
        if saved is not None:
            training.restore(saved.tensors, saved.step)

        def after_step() -> None:
            if on_progress is not None:
                on_progress(training.step, training.total)
            keeper.offer(training.step, lambda: Saved(training.step, training.state()))

        training.run(None, after_step)
        scored.module.cpu()
        ticket = scored.ticket()
        module = ticket.module("folded")
        on_cpu = type(test)(test.inputs.cpu(), test.labels.cpu())
        return PopupResult(replace(ticket, seconds=keeper.seconds), on_cpu.accuracy(module), before, keeper.seconds)


def architecture(
    model: torch.nn.Module | Target | str,
    data: Dataset,
    input_shape: tuple[int, ...] | None = None,
    hidden: tuple[int, ...] = HIDDEN,
) -> Target:
    """The architecture as a target, whose weights are not looked at.

    Raises
    ------
    ArgumentError, TargetError
        As :func:`edge_popup`.
    """
    if isinstance(model, Target):
        return model
    if isinstance(model, str):
        model, input_shape = make_network(model, data.input_shape, data.n_classes, hidden)
    if input_shape is None:
        input_shape = data.input_shape
    return as_target(model, torch.zeros(1, *input_shape))
