"""A target of two layers in a source of three: pairs for its hidden neurons, and one output weight for each of them.

Malach, Yehudai, Shalev-Shwartz and Shamir 2020, Theorem 2.3 with lemmas A.3 and A.4. For a target of weights W and V
with ReLU between them the source has layers A, B and v with a ReLU behind each of the first two. Every output o and
hidden neuron i has a group of neurons of B, the candidates. The one whose output weight v is closest to V[o, i] stands
for the hidden neuron; that looks at v alone and comes before anything else. Its row of B is then made of pairs as in
:mod:`slth.constructions.pairs`, each weight from a pool of neurons of A, and everything else is pruned: four weights
for each weight of W, in the rows of every output, and one for each weight of V.

Differs: of the candidates those with the sign of V[o, i] are looked at, and the row is aimed at V[o, i] / v times the
target's. ReLU is positively homogeneous, so that the output weight is no error at all, whatever v is; the paper bounds
it by the distance of v to V[o, i], so that both have to be small. An output weight within the tolerance of 0 is
pruned, and its group with it. Several outputs, where the paper has one, have hidden neurons of their own: A.4 once for
each. Biases, which the paper has none of: those of hidden neurons are served by pools of neurons of A that keep their
bias alone. B and v have none; an output's bias is one more hidden neuron, which reads no input and has a bias of its
own, a constant of the size of the largest entry of W. B and v are drawn from U[-scale, scale].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from slth.candidates import check_graph, compared, realise_own
from slth.constructions.base import Found, Work
from slth.constructions.pools import HEADROOM, NEURONS_AT_ONCE, search_pools
from slth.errors import ArgumentError
from slth.mask import CandidateMask, Mask, OutputMask, SlotMask
from slth.mask.candidates import NONE
from slth.network.graph import Sign
from slth.network.target import Target, WeightLayer
from slth.plan import Goal, LayerPlan, Plan, Size, Wishes, magnitudes
from slth.realise import RealisedLayer
from slth.source.candidates import CandidateSource, OutputSource
from slth.source.spec import SourceLayer

LARGEST_GROUP = 1 << 24
"""Candidates of a group, at most (chosen)."""

PARTS: tuple[type[SourceLayer], ...] = (CandidateSource, OutputSource)
"""Of the source, one for each target layer."""


def as_part(made: SourceLayer, index: int) -> SourceLayer:
    """The part of the source for a target layer, with the shape and law of what was made for it."""
    return PARTS[index](**{field.name: getattr(made, field.name) for field in dataclasses.fields(SourceLayer)})


def check(target: Target, wishes: Wishes) -> None:
    """Refuse targets of another shape, and groups of no size.

    Raises
    ------
    ArgumentError
    """
    check_graph(target.graph)
    given = wishes.settings["candidates"]
    fits = given is None or (type(given) is int and 1 <= given <= LARGEST_GROUP)
    if not fits:
        raise ArgumentError("candidates", repr(given), f"1 to {LARGEST_GROUP} neurons a group", "--set candidates=100")


def unneeded(plan: Plan, layer_plan: LayerPlan) -> float:
    """Weights of the layer that are no larger keep nothing."""
    return (plan.tolerance if layer_plan.within is None else layer_plan.within) or 0.0


def group_size(wishes: Wishes, base_set_size: int) -> int:
    """Candidates of a group: those asked for, or as many as a pool has neurons."""
    given: int | None = wishes.settings["candidates"]
    return base_set_size if given is None else given


def sizes(target: Target, wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
    """Pools and a scale that reaches the largest row; groups and a scale that reaches the largest output weight."""
    first, last = target.layers
    constant = _constant(first)
    reach = float(np.abs(_wanted(last, constant)).max(initial=0.0)) or 1.0
    with np.errstate(over="ignore"):
        scales = [float(np.float32(HEADROOM * constant)), float(np.float32(reach))]
    widths = [goals[0].base_set_size, group_size(wishes, goals[1].base_set_size)]
    return [Size(width, scale) for width, scale in zip(widths, scales, strict=True)]


def find_layers(
    target: Target, sources: Sequence[SourceLayer], plan: Plan, work: Callable[[WeightLayer], Work]
) -> Iterator[Found]:
    """Candidates by their output weights, then the pools of the chosen ones."""
    (first, last), (source, outputs) = target.layers, sources
    assert isinstance(source, CandidateSource) and isinstance(outputs, OutputSource)
    least_row, least_output = (unneeded(plan, layer_plan) for layer_plan in plan.layers)
    wanted = _wanted(last, _constant(first))
    candidate = _choose(outputs, wanted, _needed(last, least_output))
    live = candidate != NONE
    ratio = np.zeros(len(wanted))
    ratio[live] = wanted[live] / outputs.weight_at(np.flatnonzero(live), candidate[live])
    targets, least = _pool_targets(source, outputs, first, ratio, least_row)
    pools = search_pools(
        source.chosen(np.maximum(candidate, 0)), targets, least, plan.layers[0].input_sign, work(first)
    )
    rows = CandidateMask.build(source, SlotMask.build(source, pools.counts, pools.neurons), candidate)
    weights = OutputMask.build(outputs, candidate)
    # As verification has it, in the target's units.
    realised = compared(target, realise_own(target.graph, [(source, rows), (outputs, weights)]))
    masks: tuple[Mask, Mask] = (rows, weights)
    for layer, mask, layer_plan in zip(target, masks, plan.layers, strict=True):
        yield Found(mask, _errors(layer, realised[layer.name], layer_plan.input_sign))
    work(last).report(last.n_weights, last.n_weights)


def _constant(first: WeightLayer) -> float:
    """What the hidden neurons that make output biases are aimed at."""
    return float(magnitudes(first).max(initial=0.0)) or 1.0


def _wanted(last: WeightLayer, constant: float) -> NDArray[np.float64]:
    """Output weights group by group, those of the constants behind each output's own, (groups,)."""
    weight, bias = last.weight_array()[:, :, 0], last.bias_array()
    return (weight if bias is None else np.column_stack([weight, bias / constant])).ravel()


def _needed(last: WeightLayer, tolerance: float) -> NDArray[np.bool_]:
    """Groups whose weight or bias is not within the tolerance of 0."""
    return np.abs(_wanted(last, 1.0)) > tolerance


def _choose(source: OutputSource, wanted: NDArray[np.float64], needed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of each group the candidate of the right sign with the closest output weight; none where there is no such."""
    chosen = np.full(len(wanted), NONE, np.int64)
    groups = np.flatnonzero(needed)
    step = max(1, NEURONS_AT_ONCE // source.block_width)
    for start in range(0, len(groups), step):
        group = groups[start : start + step, None]
        member = np.broadcast_to(np.arange(source.block_width), (len(group), source.block_width))
        v = source.weight_at(np.broadcast_to(group, member.shape), member).astype(np.float64)
        distance = np.where(np.sign(v) == np.sign(wanted[group]), np.abs(v - wanted[group]), np.inf)
        best = distance.argmin(axis=1)
        found = np.isfinite(distance[np.arange(len(best)), best])
        chosen[group[found, 0]] = best[found]
    return chosen


def _pool_targets(
    source: CandidateSource, outputs: OutputSource, first: WeightLayer, ratio: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the pools of each group should give, and what of it is not worth keeping, (slots,) each."""
    table = ratio.reshape(outputs.outputs, outputs.groups_per_output)
    n_hidden = outputs.inputs_per_group
    rows = np.zeros((*table.shape, source.inputs_per_group))
    rows[:, :n_hidden] = table[:, :n_hidden, None] * first.weight_array()[:, :, 0]
    least = np.zeros_like(table)
    least[:, :n_hidden] = tolerance * table[:, :n_hidden]
    parts, limits = [rows.ravel()], [np.repeat(least.ravel(), source.inputs_per_group)]
    if source.bias:
        bias = first.bias_array()
        biases = np.zeros_like(table)
        biases[:, :n_hidden] = table[:, :n_hidden] * (0.0 if bias is None else bias)
        biases[:, n_hidden:] = table[:, n_hidden:] * _constant(first)
        parts, limits = [*parts, biases.ravel()], [*limits, least.ravel()]
    return np.concatenate(parts), np.concatenate(limits)


def _errors(layer: WeightLayer, realised: RealisedLayer, sign: Sign) -> NDArray[np.float64]:
    """|weight - realised weight| of the worst copy and sign, weights before biases."""
    weight, bias = layer.weight_array(), layer.bias_array()
    errors = np.max([realised.deviation(weight, branch) for branch in sign.branches], axis=0).ravel()
    own = realised.bias_deviation(bias)
    return errors if bias is None or own is None else np.concatenate([errors, own])
