"""An error on the network's output, split over its layers: which base sets keep to it at the least cost.

To first order a layer whose weights are each off by e changes the output by at most G e, its *gain* G being the largest
row of |W_L| ... |W_{l+1}| |x_{l-1}| over the domain, with the network's own weights (0.3 of the theory, linearised),
added up over all paths to the output and all uses of the layer.
Layer l with base sets of m elements is foreseen to use up

    E_l(m) = G (SAFETY mean error + tail error / weights of an output),

where the tail error is the one that no more than a few weights are expected to exceed: the errors of base sets are
heavy-tailed, and one weight that misses can weigh more than all others together. The cheapest sizes whose E_l add up to
at most eps are looked for, layers at a time (:func:`allocate`).

A construction whose weights are off by no more than a tolerance, whatever is drawn, gets a tolerance for each layer
instead, in proportion to what the layers cost: its sources grow with log(1 / tolerance).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slth.certify.gains import unit_gains
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import NO_SETTINGS, Goal, Wishes, magnitudes

SAFETY = 1.2
"""How many times the expected error a layer is planned for (chosen)."""

SPLITS = ("own", "uniform")


@dataclass(frozen=True)
class LayerBudget:
    """What one layer may do to the output.

    Attributes
    ----------
    name : str
        The layer's.
    gain : float
        Largest change of the output, to first order, when its weights and biases change by 1 each, in any direction.
    share : float
        Part of the output error that it is foreseen to use up.
    goal : Goal
        The base sets with which it does, and the error of a single weight that it counts with.
    source_weights : int
        Of its source layers; 0 where only the tolerance says how many there are.
    """

    name: str
    gain: float
    share: float
    goal: Goal
    source_weights: int


class Foreseeing(Protocol):
    """The part of a construction that a budget needs."""

    name: str
    largest_size: int
    keeps_tolerance: bool

    def element_cost(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any] = NO_SETTINGS) -> int:
        """Source weights of a layer for each element of its base sets."""

    def cost(self, layer: WeightLayer, sign: Sign, wishes: Wishes, size: int) -> int:
        """Source weights of a layer with base sets of a size."""

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float] | None:
        """Mean error of a weight, and the error that hardly any weight is expected to exceed."""


def allocate(
    target: Target, method: Foreseeing, wishes: Wishes, eps: float, *, split: str = "own"
) -> tuple[LayerBudget, ...]:
    """Goals, layer by layer, with which the output is expected to be within ``eps`` over the domain.

    Parameters
    ----------
    target : Target
    method : Foreseeing
        The construction.
    wishes : Wishes
        With a box as domain, and neither base-set size nor tolerance.
    eps : float
        Largest |ticket output - target output|.
    split : {"own", "uniform"}
        Sizes that cost least, or the error in equal parts.

    Raises
    ------
    ArgumentError
        If eps is not a number above 0, the domain is all reals, the construction's errors are not foreseen, or a layer
        would need larger base sets.
    """
    if not (eps > 0 and math.isfinite(eps)):
        raise ArgumentError("eps", str(eps), "a number above 0", "--eps 0.1")
    if split not in SPLITS:
        raise ArgumentError("split", repr(split), " or ".join(SPLITS))
    if wishes.base_set_size is not None:
        raise ArgumentError(
            "eps", f"base sets of {wishes.base_set_size} besides", "one of the two: eps says how large they are"
        )
    if wishes.objective == "sparsest" and wishes.tolerance is not None:
        need = "one of the two: eps says how far weights may be off"
        raise ArgumentError("eps", f"a tolerance of {wishes.tolerance:g} besides, for the fewest elements", need)
    gains = output_gains(target, wishes.domain)
    signs = target.input_signs(wishes.domain.sign)
    if method.keeps_tolerance:
        costs = [method.element_cost(layer, signs[layer.name], wishes.settings) for layer in target]
        return _tolerances(target, gains, costs, eps, split)
    tables = [
        foreseen(layer, signs[layer.name], method, wishes, gain) for layer, gain in zip(target, gains, strict=True)
    ]
    errors = [t.errors for t in tables]
    levels = _cheapest(errors, [t.costs for t in tables], eps) if split == "own" else _equal(errors, eps)
    if levels is None:
        worst = max(tables, key=lambda t: float(t.errors[-1]))
        raise ArgumentError(
            f"layer {worst.name!r}",
            f"an error of {eps:g} on the output",
            f"at least {sum(float(t.errors[-1]) for t in tables):.2g}, what base sets of {method.largest_size} leave",
            "a larger --eps, or a smaller domain",
        )
    return tuple(
        LayerBudget(
            t.name,
            gain,
            float(t.errors[k]),
            Goal(int(t.sizes[k]), float(t.tails[k]) or None),
            int(t.costs[k]),
        )
        for t, gain, k in zip(tables, gains, levels, strict=True)
    )


@dataclass(frozen=True)
class Foreseen:
    """Of one layer: what its base sets of some sizes cost, and the output error that they are foreseen to use up.

    ``tails`` are the errors that hardly any weight is expected to exceed; sizes are in ascending order.
    """

    name: str
    sizes: NDArray[np.int64]
    errors: NDArray[np.float64]
    tails: NDArray[np.float64]
    costs: NDArray[np.int64]


def foreseen(layer: WeightLayer, sign: Sign, method: Foreseeing, wishes: Wishes, gain: float) -> Foreseen:
    """What is foreseen of a layer before anything is drawn.

    Raises
    ------
    ArgumentError
        If the construction foresees nothing.
    """
    sizes = _sizes(method.largest_size)
    pairs = np.zeros((len(sizes), 2))
    if magnitudes(layer).any() and gain:
        for k, size in enumerate(sizes):
            pair = method.foresee(layer, wishes, int(size))
            if pair is None:
                need = "a construction whose errors are foreseen before anything is drawn"
                raise ArgumentError("eps", f"the construction {method.name!r}", need, "--construction two-for-one")
            pairs[k] = pair
    per_output = layer.weight[0].numel() + (layer.bias is not None)
    errors = gain * (SAFETY * pairs[:, 0] + pairs[:, 1] / per_output)
    costs = np.array([method.cost(layer, sign, wishes, int(size)) for size in sizes])
    return Foreseen(layer.name, sizes, errors, pairs[:, 1], costs)


def _sizes(largest: int) -> NDArray[np.int64]:
    """Sizes to choose from: all, up to a few tens, and then some 19 % apart."""
    powers = 2.0 ** (np.arange(4 * math.ceil(math.log2(largest)) + 1) / 4)
    return np.unique(np.concatenate([np.arange(1, min(largest, 64) + 1), np.minimum(powers, largest).astype(np.int64)]))


def _equal(errors: Sequence[NDArray[np.float64]], eps: float) -> list[int] | None:
    """The first level of each layer whose error is within an equal part of eps; None if one has none."""
    within = [error <= eps / len(errors) for error in errors]
    return [int(flags.argmax()) for flags in within] if all(flags.any() for flags in within) else None


def _cheapest(
    errors: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.int64]], eps: float
) -> list[int] | None:
    """Levels, one a layer, whose errors add up to at most eps, at about the least cost; None if there are none.

    Greedy: of all larger levels of all layers the one that saves most error for its cost, until eps is kept to; then
    whatever turns out to be more than needed is given back, the dearest first, and a smaller level of one layer is
    exchanged for a larger one of another as long as that is cheaper. On convex tables the first part is optimal up to
    its last step.
    """
    levels = [0] * len(errors)
    while sum(float(e[k]) for e, k in zip(errors, levels, strict=True)) > eps:
        best, choice = 0.0, None
        for number, (error, cost, k) in enumerate(zip(errors, costs, levels, strict=True)):
            if k + 1 < len(error):
                # An element more may cost nothing, where blocks have an even number of neurons.
                ratios = (error[k] - error[k + 1 :]) / np.maximum(cost[k + 1 :] - cost[k], 0.5)
                step = int(ratios.argmax())
                if ratios[step] > best:
                    best, choice = float(ratios[step]), (number, k + 1 + step)
        if choice is None:
            return None
        levels[choice[0]] = choice[1]
    total = sum(float(e[k]) for e, k in zip(errors, levels, strict=True))
    for number in sorted(range(len(levels)), key=lambda n: -int(costs[n][-1])):
        error = errors[number]
        within = np.flatnonzero(total - error[levels[number]] + error[: levels[number] + 1] <= eps)
        if within.size:
            total += float(error[within[0]] - error[levels[number]])
            levels[number] = int(within[0])
    while _exchanged(levels, errors, costs, eps):
        pass
    return levels


def _exchanged(
    levels: list[int], errors: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.int64]], eps: float
) -> bool:
    """Take the first exchange of a smaller level of one layer for a larger one of another that costs less, if any."""
    for one, two in itertools.permutations(range(len(levels)), 2):
        others = sum(float(errors[n][k]) for n, k in enumerate(levels) if n not in (one, two))
        now = costs[one][levels[one]] + costs[two][levels[two]]
        for smaller in range(levels[one] - 1, -1, -1):
            within = np.flatnonzero(others + errors[one][smaller] + errors[two] <= eps)
            if within.size and costs[one][smaller] + costs[two][within[0]] < now:
                levels[one], levels[two] = smaller, int(within[0])
                return True
    return False


def _tolerances(
    target: Target, gains: Sequence[float], costs: Sequence[int], eps: float, split: str
) -> tuple[LayerBudget, ...]:
    total = sum(costs)
    shares = [eps * (cost / total if split == "own" else 1.0 / len(costs)) for cost in costs]
    return tuple(
        LayerBudget(layer.name, gain, share, Goal(1, share / gain if gain else eps), 0)
        for layer, gain, share in zip(target, gains, shares, strict=True)
    )


def output_gains(target: Target, domain: Domain) -> list[float]:
    """G of every layer: the largest output error, to first order, for weights and biases that are off by 1.

    Raises
    ------
    ArgumentError
        Where nothing is known of what a node gives, by its name.
    """
    gains, states = unit_gains(target, domain)
    for node in target.graph:
        if states[node.name].bounded or not all(states[source].bounded for source in node.sources):
            continue
        name = node.attributes.get("function", node.op)
        got = f"an error on the output behind {name}, of which no bound is known over {domain.describe()}"
        need = "a network of which one is known"
        raise ArgumentError(f"node {node.name!r}", got, need, "--base-set-size or --tolerance in place of --eps")
    for name, gain in gains.items():
        if not math.isfinite(gain):
            got = f"an error on the output, up to which its own may grow without bound over {domain.describe()}"
            need = "a domain on which a bound is known"
            raise ArgumentError(f"layer {name!r}", got, need, "--base-set-size or --tolerance in place of --eps")
    return [gains[layer.name] for layer in target]
