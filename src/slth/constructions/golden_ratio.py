"""Two source layers for one target layer, from hyperbolic weights: a weight is peeled off bit by bit.

Orseau, Hutter and Rivasplata 2020. With gamma in [1/phi, 1) and one number v_i in each bin w_max (gamma^(i+1), gamma^i]
the greedy sum (Lemma 9) starts at r = |w| and for i = 1, ..., k takes v_i off r if r >= w_max gamma^i; what is left is
between 0 and w_max gamma^k <= eps, for every w. The numbers are products v u of a neuron's outgoing and incoming
weight: with u > 0 they serve inputs x >= 0, with u < 0 inputs x <= 0. If the weights are hyperbolic, every bin of the
products is about equally likely (Lemma 28), so few neurons must be looked at.

Neurons are used again for other weights until one is kept (Algorithm 1, Theorem 30). The weights of a layer, inputs
times outputs (an output's taps counted as outputs, the bias as an input), fall into n = max(inputs, outputs) rounds, in
each of which every input and every output occurs at most once: so the products that a round looks at are independent. A
round has neurons of its own. It holds m of them, looks for each of its weights through them in order, keeps what the
greedy sum takes, and fills up with fresh ones. Which number stands for a bin is settled before the weight is looked at:
the first.

Settings: ``law`` (Remark 12: weights whose law does not know eps), ``schedule`` (Remark 14: scales that do not know
w_max; a round then holds some neurons of each scale, each scale for bins of its own), ``sampling`` and ``gamma``.

Differs: eps, not eps / 2, for each sign of the input, since only one is active at a time; the two scales of the weights
are one, in the combining layer; weights of an input that cannot be negative need one sign only.
"""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.base import Construction, Found, Work
from slth.constructions.batch import check_batch, match_group
from slth.constructions.golden_numbers import GAMMA, LAWS, SAMPLINGS, SCHEDULES, Question, numbers
from slth.constructions.rounds import Rounds
from slth.errors import ArgumentError
from slth.mask import SlotMask
from slth.mask.slots import slot_targets, slots_per_group
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import Goal, LayerPlan, Plan, Size, Wishes
from slth.source.endless import EndlessSource, OddMultiplesSource
from slth.source.spec import LARGEST_WIDTH, SourceLayer, WholeSource
from slth.subsetsum.schedule import count_threads

LEAST_GAMMA = (math.sqrt(5.0) - 1.0) / 2.0
"""1 / phi: below it, what the greedy sum leaves may exceed the next bin (Lemma 9)."""
_WORDS = {"law": LAWS, "schedule": SCHEDULES, "sampling": SAMPLINGS}


class GoldenRatio(Construction):
    """Hyperbolic weights, and for every weight a greedy sum of products from golden bins."""

    name = "golden-ratio"
    source_type = WholeSource
    mask_type = SlotMask
    default_size = 1
    largest_size = 1
    initialisations = ("uniform",)
    keeps_tolerance = True
    settings = MappingProxyType({"gamma": GAMMA, **{name: words[0] for name, words in _WORDS.items()}})

    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Gamma must not be below 1 / phi, and words must be known ones."""
        gamma = wishes.settings["gamma"]
        if not (isinstance(gamma, float) and LEAST_GAMMA <= gamma < 1.0):
            raise ArgumentError(
                "gamma", repr(gamma), f"from 1 / phi = {LEAST_GAMMA:.6f} to 1 (Lemma 9)", "--set gamma=0.7"
            )
        for name, words in _WORDS.items():
            if wishes.settings[name] not in words:
                got, need = repr(wishes.settings[name]), " or ".join(words)
                raise ArgumentError(name, got, need, f"--set {name}={words[0]}")

    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """The theorem's width, law and scale."""
        made = numbers(layer, sign, _question(goal.tolerance, wishes))
        if made.width > LARGEST_WIDTH:
            got = f"{made.width:.3g} neurons"
            raise ArgumentError(f"layer {layer.name!r}", got, f"at most {LARGEST_WIDTH}", "a larger tolerance")
        if wishes.settings["sampling"] == "batch":
            groups: int = layer.node.attributes.get("groups", 1)
            check_batch(layer.n_weights // groups, made.width, layer.name)
        return Size(made.width, made.scale, made.law)

    def layout(self, order: str) -> type[SourceLayer]:
        """The source's type by the order in which it is drawn."""
        return {kind.order: kind for kind in (EndlessSource, OddMultiplesSource)}.get(order, WholeSource)

    def source_layer(self, plan: Plan, layer_plan: LayerPlan, layer: WeightLayer, seed: int, index: int) -> SourceLayer:
        """The theorem's source, or one drawn without end, where law or scale do not know all of the target."""
        made = super().source_layer(plan, layer_plan, layer, seed, index)
        asked = _question(layer_plan.tolerance, plan)
        kind = OddMultiplesSource if asked.scheduled else EndlessSource if asked.endless else WholeSource
        return kind(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})

    def find(self, source: Any, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """Round after round, all of them side by side; or one batch and its matching."""
        asked = _question(layer_plan.tolerance, plan)
        made = numbers(layer, layer_plan.input_sign, asked)
        if asked.sampling == "batch":
            return _match_all(source, layer, layer_plan.input_sign, made.edges, work)
        n_threads = count_threads(work.threads)
        ends = np.linspace(0, made.rounds, min(n_threads, made.rounds) + 1).astype(int)
        done = np.zeros(len(ends), np.int64)
        total = source.groups * made.rounds * made.steps
        parts = []

        def rounds(group: int, t: int) -> Rounds:
            run = made.shelves, asked.scheduled, made.per_round
            part = Rounds(source, layer, *run, layer_plan.input_sign, made.edges, group, int(ends[t]), int(ends[t + 1]))

            def step(n: int) -> None:
                done[t] += n
                work.report(int(done.sum()), total)

            part.run(step)
            return part

        for group in range(source.groups):
            with ThreadPoolExecutor(len(ends) - 1) as pool:
                parts += list(pool.map(rounds, [group] * (len(ends) - 1), range(len(ends) - 1)))
        return _join(source, parts)


def _question(tolerance: float | None, wishes: Wishes | Plan) -> Question:
    if tolerance is None:
        need = "the error allowed of a weight, from which the source's width follows"
        raise ArgumentError("tolerance", "none", need, "--tolerance 0.01")
    return Question(tolerance, wishes.delta, wishes.n_weights, **wishes.settings)


def _match_all(source: WholeSource, layer: WeightLayer, sign: Sign, edges: NDArray[np.float64], work: Work) -> Found:
    """One batch and one matching for each group."""
    weights, done = slot_targets(source, layer), 0

    def report() -> None:
        nonlocal done
        done += 1
        work.report(done, len(weights))

    per_group = np.split(weights, source.groups)
    parts = [match_group(source, q, own, sign.branches, edges, report) for q, own in enumerate(per_group)]
    slots, neurons, errors = (np.concatenate([part[k] for part in parts]) for k in range(3))
    order = np.lexsort((neurons, slots))
    return Found(SlotMask.build(source, np.bincount(slots, minlength=len(weights)), neurons[order]), errors)


def _join(source: WholeSource, parts: list[Rounds]) -> Found:
    slots = np.concatenate([slot for part in parts for slot in part.slots])
    neurons = np.concatenate([neuron for part in parts for neuron in part.neurons])
    order = np.lexsort((neurons, slots))
    counts = np.bincount(slots, minlength=source.groups * slots_per_group(source))
    errors = np.concatenate([error for part in parts for error in part.errors])
    return Found(SlotMask.build(source, counts, neurons[order]), errors)
