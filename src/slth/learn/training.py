"""One seeded training loop: batches, rate and random draws are functions of seed and step, so that it can go on."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from slth.errors import ArgumentError, DataError, TrainingError
from slth.learn.checkpoint import below, rng_state, set_rng_state, under
from slth.learn.datasets import Dataset

Network = TypeVar("Network", bound=torch.nn.Module)
OptimiserFactory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")
LAST_SHARE = 0.01
"""Of the learning rate, what a falling one ends with (chosen)."""
WINDOW = 20
"""Steps whose mean loss says whether training diverges (chosen)."""
BLOW_UP = 10.0
"""Training has diverged once that mean is so many times the first loss or that of equal probabilities (chosen)."""
PASSES, FEWEST_STEPS = 8, 1500
"""Passes over the data by default, more where that would be fewer steps (chosen)."""
_EVALUATED = 2000


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int, optional
        Passes over the training part, whose last batch may be smaller; by default 8, or as many as 1,500 steps take.
    batch_size : int
        Inputs a step.
    optimiser : str or callable
        ``adam``, ``adamw``, ``sgd`` (with momentum), or a function of the list of parameters.
    learning_rate : float
        At the first step.
    schedule : str
        ``linear`` or ``cosine`` fall to a hundredth, ``constant`` stays.
    weight_decay, momentum : float
        Of the optimiser; momentum is ``sgd``'s alone.
    """

    epochs: int | None = None
    batch_size: int = 128
    optimiser: str | OptimiserFactory = "adam"
    learning_rate: float = 3e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0
    momentum: float = 0.9

    def check(self) -> None:
        """Refuse what cannot be trained with.

        Raises
        ------
        ArgumentError
            If a number is out of range or a name unknown.
        """
        if self.epochs is not None and self.epochs < 1:
            raise ArgumentError("epochs", str(self.epochs), "at least 1")
        if self.batch_size < 1:
            raise ArgumentError("batch_size", str(self.batch_size), "at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0.0):
            raise ArgumentError("learning_rate", f"{self.learning_rate:g}", "a positive number", "0.003")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0.0):
            raise ArgumentError("weight_decay", f"{self.weight_decay:g}", "a number from 0 up")
        if not 0.0 <= self.momentum < 1.0:
            raise ArgumentError("momentum", f"{self.momentum:g}", "a number from 0 to below 1")
        if self.schedule not in SCHEDULES:
            raise ArgumentError("schedule", repr(self.schedule), f"one of {', '.join(SCHEDULES)}")
        if not callable(self.optimiser) and self.optimiser not in OPTIMISERS:
            raise ArgumentError("optimiser", repr(self.optimiser), f"one of {', '.join(OPTIMISERS)}")

    def steps(self, n: int) -> tuple[int, int]:
        """Steps a pass over so many examples, and steps in all.

        A single example that is left over joins the batch before it: normalisation has no variance of one.
        """
        one_pass = -(-n // self.batch_size)
        if one_pass > 1 and n % self.batch_size == 1 and self.batch_size > 1:
            one_pass -= 1
        epochs = max(PASSES, -(-FEWEST_STEPS // one_pass)) if self.epochs is None else self.epochs
        return one_pass, epochs * one_pass

    def rate(self, step: int, total: int) -> float:
        """The learning rate's share at a step of so many."""
        if self.schedule == "constant":
            return 1.0
        passed = step / total
        fallen = passed if self.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * passed))
        return 1.0 - (1.0 - LAST_SHARE) * fallen

    def build(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimiser.

        Raises
        ------
        ArgumentError
            If a factory gives none.
        """
        rate, decay = self.learning_rate, self.weight_decay
        if callable(self.optimiser):
            made = self.optimiser(parameters)
            if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
                need = "a torch.optim.Optimizer that steps without a closure"
                raise ArgumentError("optimiser", type(made).__name__, need)
            return made
        # One pass over memory for all parameters, on the CPU as on the GPU.
        fused = all(parameter.dtype in (torch.float32, torch.float64) for parameter in parameters)
        if self.optimiser == "sgd":
            return torch.optim.SGD(parameters, rate, self.momentum, weight_decay=decay, fused=fused)
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.AdamW
        return kind(parameters, rate, weight_decay=decay, fused=fused)

    def settings(self) -> dict[str, Any]:
        """Of JSON's kinds, for :class:`slth.learn.checkpoint.Checkpoints`."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if callable(self.optimiser):
            made = self.build([torch.nn.Parameter(torch.zeros(1))])
            named["optimiser"] = f"{type(made).__name__} {sorted(made.defaults.items())}"
        return named


@dataclass(frozen=True)
class Examples:
    """Inputs (n, ...) and labels (n,) on the device where they are used."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def accuracy(self, network: torch.nn.Module) -> float:
        """Percent of the labels that the largest output gives, in evaluation mode."""
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.labels.device)
        try:
            with torch.no_grad():
                for x, y in zip(self.inputs.split(_EVALUATED), self.labels.split(_EVALUATED), strict=True):
                    right += (network(x).flatten(1).argmax(dim=1) == y).sum()
        finally:
            for module, mode in modes:
                module.training = mode
        return 100.0 * int(right) / len(self)


def examples(
    data: Dataset, device: torch.device, input_shape: tuple[int, ...] | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Examples, Examples]:
    """Training and test part as tensors of one number type on a device; ``input_shape`` reshapes every input.

    Raises
    ------
    DataError
        If an input has another number of entries than that shape.
    """
    made = []
    for part in (data.train, data.test):
        assert part.labels is not None
        x = part.inputs_for(data.input_shape if input_shape is None else input_shape)
        made.append(Examples(x.to(device, dtype).contiguous(), part.labels.to(device)))
    return made[0], made[1]


def check_fit(network: torch.nn.Module, part: Examples, n_classes: int, where: str) -> None:
    """Run a network on some inputs and see whether there is an output for every class.

    Raises
    ------
    ArgumentError
        If the network does not take the inputs, or gives something else than a row of numbers for each.
    DataError
        If there is a label without an output.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    tried = part.inputs[:3]
    try:
        with torch.no_grad():
            outputs = network(tried)
    except Exception as error:
        shape = ",".join(map(str, part.inputs.shape[1:]))
        got = f"a network that refuses inputs of shape {shape} ({_said(error)})"
        raise ArgumentError("model", got, "a network for these inputs", "--input-shape") from error
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(outputs, torch.Tensor) or outputs.dim() < 2 or len(outputs) != len(tried):
        got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else f"type {type(outputs).__name__}"
        need = "one row for each input, one output for each class"
        raise ArgumentError("model", f"an output of {got} for {len(tried)} inputs", need)
    if not bool(outputs.isfinite().all()):
        raise ArgumentError("model", "outputs that are not finite before any training", "finite numbers")
    n = outputs.flatten(1).shape[1]
    if n < n_classes:
        got = f"the label {n_classes - 1} for a network of {n} outputs"
        raise DataError(where, got, "labels from 0 up to below the number of outputs")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def derive(seed: int, *path: str | int) -> int:
    """A seed of 63 bits of its own for every use: what a seed and a path of names and numbers hash to."""
    text = "/".join(["slth.learn", str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def make_seeded(factory: Callable[[], Network], seed: int) -> Network:
    """What a function makes with torch's generator seeded, which is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


class Training:
    """A network being trained; masked weights are zero after every step, whatever the optimiser does.

    Parameters
    ----------
    network : Module
        On the examples' device; trained in place. Parameters that need no gradient stay.
    part : Examples
        The training part.
    recipe : Recipe
        How.
    seed : int
        Decides order and the module's own draws.
    masks : mapping of str to Tensor, optional
        For names of parameters, which entries survive. Others get no gradient and are zero; a survivor that is zero
        is trained like any other.
    stream : str or int
        Distinguishes the trainings of one run.
    first_step : int
        Where rate and order begin: the rewinding point.
    loss : callable, optional
        Of outputs and labels; cross-entropy.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        part: Examples,
        recipe: Recipe,
        seed: int,
        masks: Mapping[str, torch.Tensor] | None = None,
        stream: str | int = 0,
        first_step: int = 0,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        recipe.check()
        self.network, self.part, self.recipe, self.seed, self.stream = network, part, recipe, seed, stream
        self.device = part.inputs.device
        self.step = first_step
        self.loss = loss or torch.nn.functional.cross_entropy
        self.steps_an_epoch, self.total = recipe.steps(len(part))
        named = {name: one for name, one in network.named_parameters() if one.requires_grad}
        if not named:
            raise ArgumentError("model", "a network without parameters to train", "at least one")
        self.parameters = list(named.values())
        self.optimiser = recipe.build(self.parameters)
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        # A frozen parameter may have a mask too, which the module came with.
        whole = dict(network.named_parameters())
        self._pruned = [
            (whole[name], mask.to(whole[name].dtype)) for name, mask in (masks or {}).items() if not bool(mask.all())
        ]
        self._order: tuple[int, torch.Tensor] = (-1, torch.empty(0))
        self._recent: list[float] = []
        self._first: float | None = None
        self._guessing = math.log(max(int(part.labels.max()) + 1, 2))
        self._inside = False
        self._draws: dict[str, torch.Tensor] = {}
        with self._own_draws(first=True):
            torch.manual_seed(derive(seed, "draws", stream))
            self._zero_pruned()

    def run(self, until: int | None = None, after_step: Callable[[], None] | None = None) -> None:
        """Train up to a step, or to the end; ``after_step`` may keep :meth:`state` and may raise.

        Raises
        ------
        TrainingError
            If the loss is not finite or has blown up: with the step and the loss.
        """
        until = self.total if until is None else until
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.train()
        try:
            with self._own_draws(), deterministic(self.device):
                while self.step < until:
                    self._one_step()
                    if after_step is not None:
                        after_step()
                if self.step == self.total:
                    self._watch_end()
        finally:
            for module, mode in modes:
                module.training = mode

    def _one_step(self) -> None:
        share = self.recipe.rate(self.step, self.total)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        chosen = self._batch(self.step)
        self.optimiser.zero_grad()
        loss = self.loss(self._outputs(chosen), self.part.labels[chosen])
        self._watch(float(loss.detach()))
        loss.backward()
        pruned = [(parameter.grad, mask) for parameter, mask in self._pruned if parameter.grad is not None]
        if pruned:
            torch._foreach_mul_([gradient for gradient, _ in pruned], [mask for _, mask in pruned])
        self.optimiser.step()
        # Momentum from before and weight decay decoupled from the gradient would move what is pruned.
        self._zero_pruned()
        self.step += 1

    def _outputs(self, chosen: torch.Tensor) -> torch.Tensor:
        """Of some examples, (example, output)."""
        try:
            outputs: torch.Tensor = self.network(self.part.inputs.index_select(0, chosen)).flatten(1)
        except Exception as error:
            got = f"a network that fails at step {self.step} on {len(chosen)} inputs ({_said(error)})"
            raise ArgumentError("model", got, "one that can be trained on these inputs") from error
        return outputs

    def _zero_pruned(self) -> None:
        if self._pruned:
            with torch.no_grad():
                torch._foreach_mul_([parameter for parameter, _ in self._pruned], [mask for _, mask in self._pruned])

    def _batch(self, step: int) -> torch.Tensor:
        """Indices of a step's examples: a function of seed, stream and step."""
        epoch, number = divmod(step, self.steps_an_epoch)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self.seed, "order", self.stream, epoch))
            self._order = (epoch, torch.randperm(len(self.part), generator=generator).to(self.device))
        size = self.recipe.batch_size
        end = None if number + 1 == self.steps_an_epoch else (number + 1) * size
        return self._order[1][number * size : end]

    def _watch(self, loss: float) -> None:
        if self._first is None and math.isfinite(loss):
            self._first = loss
        self._recent = [*self._recent[1 - WINDOW :], loss]
        mean = sum(self._recent) / len(self._recent)
        limit = BLOW_UP * max(self._first or 0.0, self._guessing)
        # A short training is over before there are so many steps.
        enough = len(self._recent) == WINDOW or self.step + 1 == self.total
        if not math.isfinite(loss) or (enough and mean > limit):
            got = f"a loss of {loss:.4g}"
            if math.isfinite(loss):
                got += f", {mean:.4g} in the mean of {len(self._recent)} steps, {self._first:.4g} at first"
            raise self._diverged(got)

    def _watch_end(self) -> None:
        """The loss never sees what the last step did."""
        if not all(bool(one.isfinite().all()) for one in self.parameters):
            raise self._diverged(
                f"a loss of {self._recent[-1]:.4g} and, after the last step, weights that are not finite"
            )

    def _diverged(self, got: str) -> TrainingError:
        rate = self.optimiser.param_groups[0]["lr"]
        remedy = f"a smaller learning rate than {self._rates[0]:g} (now {rate:.3g})"
        return TrainingError(f"training diverged at step {self.step}", got, "a loss that falls", remedy)

    # What the run needs to go on.

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of weights, buffers, the optimiser's state, the generators' states and the recent losses."""
        tensors = below("network", self.network.state_dict())
        for number, parameter in enumerate(self.parameters):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimiser/{number}/{name}"] = value
                elif value is not None:
                    kind = torch.float64 if isinstance(value, float) else torch.int64
                    tensors[f"numbers/{number}/{name}"] = torch.tensor(value, dtype=kind)
        tensors |= rng_state(self.device) if self._inside else self._draws
        first = math.nan if self._first is None else self._first
        tensors["losses"] = torch.tensor([first, *self._recent], dtype=torch.float64)
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], step: int) -> None:
        """Go on from what :meth:`state` gave after ``step`` steps; between calls of :meth:`run`."""
        load_state(self.network, under("network", tensors))
        for number, parameter in enumerate(self.parameters):
            # Step counters stay where the optimiser wants them; all else lies beside the weights.
            state: dict[str, Any] = {
                name: value.to("cpu" if name == "step" and not _fused(self.optimiser) else self.device, copy=True)
                for name, value in under(f"optimiser/{number}", tensors).items()
            }
            state |= {name: value.item() for name, value in under(f"numbers/{number}", tensors).items()}
            if state:
                self.optimiser.state[parameter] = state
        self._draws = {name: tensor.cpu() for name, tensor in tensors.items() if name.startswith("rng/")}
        first, *self._recent = tensors["losses"].tolist()
        self._first = None if math.isnan(first) else first
        self.step = step

    @contextlib.contextmanager
    def _own_draws(self, first: bool = False) -> Iterator[None]:
        """Let the module draw from generators of this training's own; the caller's come back as they were."""
        outer = rng_state(self.device)
        if not first:
            set_rng_state(self._draws, self.device)
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            self._draws = rng_state(self.device)
            set_rng_state(outer, self.device)


def _fused(optimiser: torch.optim.Optimizer) -> bool:
    return bool(optimiser.defaults.get("fused") or optimiser.defaults.get("capturable"))


def load_state(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy weights and buffers into a network, bit for bit, where they are."""
    own = network.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, kernels that give the same bits every time; torch warns where it has none."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def find_device(name: str | None) -> torch.device:
    """A device by name; None is the GPU if there is one.

    Raises
    ------
    ArgumentError
        If there is no such device.
    """
    # Read when cuBLAS starts; without it products on a GPU need not have the same bits twice.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError("device", name, "cpu, cuda or cuda:N", "cpu") from error
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError("device", name, "cpu, cuda or cuda:N", "cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError("device", name, f"one of {torch.cuda.device_count()} GPUs, or cpu", "cpu")
    return device


def machine(device: torch.device) -> dict[str, Any]:
    """What of the machine decides the bits of a result, as settings of a run."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    return {"device": "cpu", "threads": torch.get_num_threads()}
