"""Iterative magnitude pruning: train, prune the smallest weights, rewind, again."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from slth.errors import ArgumentError
from slth.learn.checkpoint import EVERY_SECONDS, Checkpoints, Saved, below, under
from slth.learn.datasets import Dataset
from slth.learn.perceptron import perceptron
from slth.learn.pruning import (
    SCOPES,
    Masks,
    Scope,
    apply_masks,
    check_amount,
    check_masks,
    check_survivors,
    density,
    full_masks,
    plain_copy,
    prunable,
    prune_smallest,
)
from slth.learn.result import SparseNetwork
from slth.learn.training import (
    Examples,
    Recipe,
    Training,
    check_fit,
    derive,
    examples,
    find_device,
    load_state,
    machine,
    make_seeded,
)
from slth.network.inputs import input_dtype
from slth.threads import fitting_threads

After = Literal["rewind", "finetune", "reinitialise"]
AFTER = ("rewind", "finetune", "reinitialise")
FINE_SHARE = 0.1
"""Of the learning rate, what fine-tuning begins with (chosen)."""


@dataclass(frozen=True)
class ImpSettings:
    """How a network is pruned.

    Attributes
    ----------
    rounds : int
        How often, after the dense training.
    amount : float or int
        Of each round: the fraction of the survivors, or a count of weights; per tensor with scope ``layer``.
    scope : str
        ``global``: the smallest of all layers together; ``layer``: of each its share.
    after : str
        ``rewind`` the survivors to ``rewind_step`` of the dense training (Frankle and Carbin 2019; 2020 for steps
        after the first), ``finetune`` them from where they are, or ``reinitialise`` them at random, the control.
    rewind_step : int
        0 is the initialisation. Rate and order go on from that step.
    one_shot : bool
        Prune once, as many as all rounds together would.
    exclude : tuple of str
        Patterns of names of weights that are not pruned.
    recipe : Recipe
        Of every training.
    seed : int
        Of weights that are made here, order, and draws of the module's own.
    """

    rounds: int = 12
    amount: float | int = 0.2
    scope: Scope = "global"
    after: After = "rewind"
    rewind_step: int = 0
    one_shot: bool = False
    exclude: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def check(self) -> None:
        """Refuse numbers out of range and unknown names.

        Raises
        ------
        ArgumentError
            Naming the argument.
        """
        self.recipe.check()
        check_amount(self.amount)
        if self.rounds < 1:
            raise ArgumentError("rounds", str(self.rounds), "at least 1")
        if self.scope not in SCOPES:
            raise ArgumentError("scope", repr(self.scope), f"one of {', '.join(SCOPES)}")
        if self.after not in AFTER:
            raise ArgumentError("after", repr(self.after), f"one of {', '.join(AFTER)}")
        if self.rewind_step < 0 or (self.rewind_step and self.after != "rewind"):
            raise ArgumentError("rewind_step", str(self.rewind_step), "a step from 0 up, and rewinding")

    def settings(self) -> dict[str, Any]:
        """Of JSON's kinds."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("recipe", "amount")}
        own["count" if isinstance(self.amount, int) else "fraction"] = self.amount
        return {**own, "exclude": list(self.exclude), **self.recipe.settings()}


@dataclass(frozen=True)
class ImpRound:
    """What a round left: 0 is the dense network."""

    number: int
    kept: int
    density: float
    accuracy: float
    kept_by_layer: dict[str, int]


@dataclass(frozen=True)
class ImpResult:
    """A pruned network and how it came about.

    Attributes
    ----------
    network : Module
        On the CPU, in evaluation mode, with the masks of :mod:`torch.nn.utils.prune`; ``prune.remove`` makes it plain.
    file : SparseNetwork
        State dict, masks, rewinding point and facts; ``result.file.save(path)``.
    rounds : list of ImpRound
        From the dense network to the last.
    seconds : float
        Work, that before an interruption included.
    """

    network: torch.nn.Module
    file: SparseNetwork
    rounds: list[ImpRound]
    seconds: float

    @property
    def masks(self) -> Masks:
        """Which weights survived, by parameter."""
        return self.file.masks

    @property
    def accuracy(self) -> float:
        """Percent of the test part after the last round."""
        return self.rounds[-1].accuracy

    @property
    def density(self) -> float:
        """The kept fraction of the prunable weights."""
        return self.rounds[-1].density


def imp(
    model: torch.nn.Module | Callable[[], torch.nn.Module] | None,
    data: Dataset,
    settings: ImpSettings | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    hidden: tuple[int, ...] = (300, 100),
    device: str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    every_seconds: float = EVERY_SECONDS,
    every_steps: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_round: Callable[[ImpRound], None] | None = None,
) -> ImpResult:
    """Prune a network by iterative magnitude pruning (Frankle and Carbin 2019).

    Parameters
    ----------
    model : Module, callable or None
        Any module that maps inputs to one output a class; it is copied, and its weights are the initialisation. Masks
        of :mod:`torch.nn.utils.prune` that it has are where pruning begins. A function is called to make one, torch's
        generator seeded. None is a ReLU perceptron.
    data : Dataset
        :func:`slth.learn.datasets.load_dataset` reads one.
    settings : ImpSettings, optional
        How; the defaults are twelve rounds of 20 percent.
    input_shape : tuple of int, optional
        What an input is reshaped to; a perceptron's is flat.
    hidden : tuple of int
        Widths of the hidden layers where ``model`` is None.
    device : str, optional
        ``cpu`` or ``cuda``; the GPU if there is one.
    checkpoint : path, optional
        A file for the state of the run every ``every_seconds``, or every ``every_steps`` steps, from which ``resume``
        goes on to the same result, bit for bit, on the same device with as many threads.
    on_progress, on_round : callable, optional
        Called with steps done and steps in all, and with every finished round.

    Raises
    ------
    ArgumentError, DataError
        If a setting is out of range, a layer would keep nothing (named), or data and model do not fit.
    TrainingError
        If the loss diverges: with the step and the loss.
    CheckpointError, MismatchError
        If the checkpoint is damaged, or of a run with other settings (named).
    """
    settings = settings or ImpSettings()
    settings.check()
    where = find_device(device)
    if model is None:
        flat = torch.Size(data.input_shape).numel()
        input_shape = (flat,)
        model = partial(perceptron, [flat, *hidden, data.n_classes])
    if not isinstance(model, torch.nn.Module):
        model = make_seeded(model, derive(settings.seed, "weights"))
    network, masks = plain_copy(model)
    network.to(where)
    train, test = examples(data, where, input_shape, input_dtype(network))
    check_fit(network, train, data.n_classes, data.where)
    with fitting_threads(sum(parameter.numel() for parameter in network.parameters())):
        identity = {"method": "imp", **settings.settings(), **machine(where)}
        identity |= {"model": _digest(network, masks), "data": data.digest, "input_shape": list(train.inputs.shape[1:])}
        keeper = Checkpoints(checkpoint, identity, every_seconds, every_steps)
        run = _Run(network, masks, train, test, settings, keeper, on_progress, on_round)
        run.go(keeper.load() if resume else None)
    return run.result(identity)


class _Run:
    """The state of a run: the round, masks, the rewinding point, and finished rounds."""

    def __init__(
        self,
        network: torch.nn.Module,
        masks: Masks,
        train: Examples,
        test: Examples,
        settings: ImpSettings,
        keeper: Checkpoints,
        on_progress: Callable[[int, int], None] | None,
        on_round: Callable[[ImpRound], None] | None,
    ) -> None:
        self.network, self.train, self.test = network, train, test
        self.settings, self.keeper = settings, keeper
        self.on_progress, self.on_round = on_progress, on_round
        self.weights: Mapping[str, torch.Tensor] = prunable(network, settings.exclude)
        self.masks = {**full_masks(self.weights), **{n: m.to(train.inputs.device) for n, m in masks.items()}}
        check_masks(dict(network.named_parameters()), self.masks)
        self.rewind: dict[str, torch.Tensor] = {}
        self.rounds: list[ImpRound] = []
        self.done = 0
        steps = settings.recipe.steps(len(train))[1]
        if settings.rewind_step >= steps:
            got = f"{settings.rewind_step:,}"
            raise ArgumentError("rewind_step", got, f"a step before the end of a training, which has {steps:,}")
        self.n_rounds = 1 if settings.one_shot else settings.rounds
        self.total = steps + self.n_rounds * (steps - settings.rewind_step)
        check_survivors(self.prunable_masks, settings.amount, settings.scope, settings.rounds)
        if settings.after == "reinitialise":
            reinitialise(copy.deepcopy(network), settings.seed)

    @property
    def prunable_masks(self) -> Masks:
        """Of the weights that are pruned here; a mask that the module came with may be of others."""
        return {name: self.masks[name] for name in self.weights}

    def go(self, saved: Saved | None) -> None:
        """Run all rounds, or those that are left."""
        if saved is None:
            training = self.training(0)
        else:
            self.rounds = [ImpRound(**one) for one in saved.facts["rounds"]]
            self.masks = {n: m.to(self.train.inputs.device) for n, m in under("mask", saved.tensors).items()}
            self.rewind, self.done = under("rewind", saved.tensors), saved.step
            training = self.training(len(self.rounds))
            training.restore(under("training", saved.tensors), int(saved.facts["training_step"]))
        while True:
            number = len(self.rounds)
            self.train_round(training, number)
            accuracy = self.test.accuracy(self.network)
            kept = {name: int(mask.sum()) for name, mask in self.prunable_masks.items()}
            one = ImpRound(number, sum(kept.values()), density(self.prunable_masks), accuracy, kept)
            self.rounds.append(one)
            if self.on_round is not None:
                self.on_round(one)
            if number == self.n_rounds:
                return
            self.prune()
            self.restart(number + 1)
            training = self.training(number + 1)

    def training(self, number: int) -> Training:
        """A round's training, at its first step."""
        settings, recipe, first = self.settings, self.settings.recipe, 0
        if number and settings.after == "rewind":
            first = settings.rewind_step
        elif number and settings.after == "finetune":
            recipe = replace(recipe, learning_rate=recipe.learning_rate * FINE_SHARE)
        return Training(self.network, self.train, recipe, settings.seed, self.masks, number, first)

    def train_round(self, training: Training, number: int) -> None:
        """Train to the end, and remember the rewinding point on the way."""

        def state() -> Saved:
            tensors = below("training", training.state()) | below("mask", self.masks) | below("rewind", self.rewind)
            facts = {"rounds": [asdict(one) for one in self.rounds], "training_step": training.step}
            return Saved(self.done, tensors, facts)

        def after_step() -> None:
            self.done += 1
            if self.on_progress is not None:
                self.on_progress(self.done, self.total)
            self.keeper.offer(self.done, state)

        if number == 0 and not self.rewind:
            training.run(self.settings.rewind_step, after_step)
            self.rewind = {name: one.detach().cpu().clone() for name, one in self.network.state_dict().items()}
        training.run(None, after_step)

    def prune(self) -> None:
        settings = self.settings
        rounds = settings.rounds if settings.one_shot else 1
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        self.masks |= prune_smallest(weights, self.prunable_masks, settings.amount, settings.scope, rounds)

    def restart(self, number: int) -> None:
        """Give the survivors the values that the next round starts from."""
        if self.settings.after == "rewind":
            load_state(self.network, self.rewind)
        elif self.settings.after == "reinitialise":
            reinitialise(self.network, derive(self.settings.seed, "weights", number))

    def result(self, identity: Mapping[str, Any]) -> ImpResult:
        network = self.network.cpu().eval()
        masks = {name: mask.cpu() for name, mask in self.masks.items()}
        state = {name: one.detach().clone() for name, one in network.state_dict().items()}
        last = self.rounds[-1]
        facts: dict[str, Any] = {"accuracy_ticket": last.accuracy, "density": last.density}
        facts |= {"settings": dict(identity), "rounds": [asdict(one) for one in self.rounds]}
        file = SparseNetwork(state, {**below("mask", masks), **below("rewind", self.rewind)}, facts)
        return ImpResult(apply_masks(network, masks), file, self.rounds, self.keeper.seconds)


def reinitialise(network: torch.nn.Module, seed: int) -> None:
    """Draw parameters anew as their modules do when they are made, from a seed; those that need no gradient stay.

    Raises
    ------
    ArgumentError
        If a module with parameters does not say how (named).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        frozen = [(one, one.detach().clone()) for one in network.parameters() if not one.requires_grad]
        for name, part in _inside_out(network):
            if not any(one.requires_grad for one in part.parameters(recurse=False)):
                continue
            reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if not callable(reset):
                got = f"{type(part).__name__} without reset_parameters"
                raise ArgumentError(f"module {name!r}", got, "a module that can be initialised anew", "--after rewind")
            reset()
        with torch.no_grad():
            for one, before in frozen:
                one.copy_(before)


def _inside_out(module: torch.nn.Module, name: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Modules in the order in which they are made: what attention draws comes after what its projections draw."""
    for own, child in module.named_children():
        yield from _inside_out(child, f"{name}.{own}" if name else own)
    yield name, module


def _digest(network: torch.nn.Module, masks: Masks) -> str:
    """What the run begins with: architecture, weights, masks."""
    sha = hashlib.sha256(repr(network).encode())
    for name, tensor in [*network.state_dict().items(), *masks.items()]:
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
