"""What advances a batch of descents: a compiled kernel on the CPU, plain torch anywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slth.learn import kernel
from slth.learn.kernel import BLOW_UP, CONVERGED, DIVERGED, EXHAUSTED, RUNNING
from slth.learn.risk import CLIP, LOSSES, risk, spread
from slth.learn.teachers import ACTIVATIONS, Samples

if TYPE_CHECKING:
    from slth.learn.descent import Descent, State

_CALL = 2e9
"""Operations between two looks at progress, about a third of a second (chosen)."""

_LEAST_STEPS = 8
"""Steps that a trial does while its inputs are in the cache, where a call has time for them (chosen)."""

_LOOK_EVERY = 32
"""Steps of all trials between two looks at which still run; each look waits for the device (chosen)."""


class Engine(Protocol):
    """Advances a state by some steps at a time."""

    def advance(self) -> None:
        """Some steps of trials that still run, those that are behind among them."""


class KernelEngine:
    """Runs :mod:`slth.learn.kernel` on packed supports, the trials dealt to threads."""

    def __init__(
        self, samples: Samples, masks: Tensor, truth: Tensor, how: Descent, state: State, threads: int
    ) -> None:
        self.state, self.threads = state, threads
        self.data = kernel.blocks(samples.inputs.numpy(), samples.labels.to(samples.inputs.dtype).numpy(), how.folds)
        self.counts = masks.sum(dim=2).numpy()
        widest = int(self.counts.max())
        # The inputs of a support, in ascending order, come before the others.
        order = torch.argsort((~masks).to(torch.int8), dim=2, stable=True)[:, :, :widest]
        self.index, self.valid = order, torch.arange(widest) < masks.sum(dim=2)[:, :, None]
        outside = (truth * ~masks).double().square().sum(dim=(1, 2))
        norms = truth.double().square().sum(dim=(1, 2)).sqrt()
        self.fixed = (
            self._pack(truth),
            outside.numpy(),
            torch.where(norms > 0, norms, torch.ones_like(norms)).numpy(),
        )
        self.numbers = np.array([how.step_size, how.momentum, how.tolerance, CLIP])
        self.kinds = np.array([ACTIVATIONS.index(how.activation), LOSSES.index(how.loss)])
        per_fold = samples.inputs.shape[1] / how.folds
        self.cost = 4.0 * per_fold * float(self.counts.sum()) / len(masks)

    def _pack(self, dense: Tensor) -> NDArray[Any]:
        return (dense.gather(2, self.index) * self.valid).contiguous().numpy()

    def advance(self) -> None:
        """About a third of a second's work, or one step of one trial a thread if that takes longer."""
        state = self.state
        running = (state.status == RUNNING).nonzero()[:, 0].numpy()
        steps, n_trials = _share(self.cost, len(running), self.threads)
        # Those that are behind; a call that did all of them would keep Ctrl-C waiting on large data.
        running = running[np.argsort(state.steps.numpy()[running], kind="stable")[:n_trials]]
        packed = [self._pack(state.weights), self._pack(state.previous)]
        histories = [getattr(state, name).numpy() for name in ("steps", "status", "errors", "losses", "changes")]
        arguments = (
            *(steps, *self.data, self.index.numpy(), self.counts, *packed, *self.fixed),
            *(*histories, self.numbers, self.kinds),
        )
        parts = [running[first :: self.threads] for first in range(min(self.threads, len(running)))]
        if len(parts) == 1:
            kernel.descend_trials(parts[0], *arguments)
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(lambda part: kernel.descend_trials(part, *arguments), parts))
        for dense, values in zip((state.weights, state.previous), packed, strict=True):
            dense.scatter_(2, self.index, torch.from_numpy(values))


def _share(cost: float, n_running: int, threads: int) -> tuple[int, int]:
    """Steps of one call, and of how many trials, when a step of one takes so many operations."""
    least = min(_LEAST_STEPS, max(1, int(_CALL / cost)))
    n_trials = min(n_running, max(threads, int(_CALL * threads / (cost * least))))
    return max(least, int(_CALL * threads / (cost * n_trials))), n_trials


class TensorEngine:
    """All trials as one tensor program, on any device."""

    def __init__(self, samples: Samples, masks: Tensor, truth: Tensor, how: Descent, state: State, device: str) -> None:
        self.state, self.how = state, how
        kind = samples.inputs.dtype
        self.inputs, self.labels = samples.inputs.to(device), samples.labels.to(device, kind)
        self.masks, self.truth = masks.to(device, kind), truth.to(device)
        norms = self.truth.double().square().sum(dim=(1, 2)).sqrt()
        self.norms = torch.where(norms > 0, norms, torch.ones_like(norms))
        self.power = spread(0.5 * self.labels.double().square().mean(dim=1), len(masks))
        self.edges = kernel.fold_edges(samples.inputs.shape[1], how.folds)
        self.device = device

    def advance(self) -> None:
        """Some steps, after which the state is brought back to the CPU."""
        state = self.state
        names = ("weights", "previous", "steps", "status")
        held = {name: getattr(state, name).to(self.device, copy=True) for name in names}
        first = state.losses[:, 0].to(self.device, copy=True)
        columns: dict[str, list[Tensor]] = {"errors": [], "losses": [], "changes": []}
        begin = int(state.steps[state.status == RUNNING].min())
        for at in range(begin, min(begin + _LOOK_EVERY, self.how.iterations)):
            self._step(at, held, first, columns)
        for name, shift in (("errors", 1), ("losses", 0), ("changes", 0)):
            new = torch.stack(columns[name], dim=1).cpu()
            whole = getattr(state, name)[:, begin + shift : begin + shift + new.shape[1]]
            whole.copy_(torch.where(new.isnan() & ~whole.isnan(), whole, new))
        for name in names:
            getattr(state, name).copy_(held[name])

    def _step(self, at: int, held: dict[str, Tensor], first: Tensor, columns: dict[str, list[Tensor]]) -> None:
        """One step of those trials that are at it and run."""
        how, old = self.how, held["weights"]
        runs = (held["status"] == RUNNING) & (held["steps"] == at)
        fold = at % how.folds
        part = slice(int(self.edges[fold]), int(self.edges[fold + 1]))
        value, gradient = risk(
            old, self.inputs[:, part], self.labels[:, part], loss=how.loss, activation=how.activation
        )
        value = value.double()
        if at == 0:
            first.copy_(value)
        diverged = runs & ~(value <= BLOW_UP * torch.maximum(first, self.power))
        moves = runs & ~diverged
        step = how.step_size * gradient * self.masks
        new = torch.where(moves[:, None, None], old - step + how.momentum * (old - held["previous"]), old)
        size, change = (each.double().square().sum(dim=(1, 2)).sqrt() for each in (old, new - old))
        change = torch.where(change > 0, change / size, change)
        held["previous"] = torch.where(moves[:, None, None], old, held["previous"])
        held["weights"] = new
        held["steps"] += moves
        status = held["status"]
        status[diverged] = DIVERGED
        status[moves & (held["steps"] == how.iterations)] = EXHAUSTED
        status[moves & (change < how.tolerance)] = CONVERGED
        error = (new - self.truth).double().square().sum(dim=(1, 2)).sqrt() / self.norms
        nothing = torch.full_like(change, torch.nan)
        for name, happened, values in (("errors", moves, error), ("losses", runs, value), ("changes", moves, change)):
            columns[name].append(torch.where(happened, values, nothing))
