"""Norm propagation: one number a layer, as the papers have it, and the loosest of the bounds.

In the sup norm, with A >= |ticket weight| and D >= |ticket weight - weight| entrywise over the signs that the input can
have, and T the activation's Lipschitz constant on the values that it is given,

    e_l <= T (|A| e_(l-1) + |D| X_(l-1) + |bias error|),    |M| the largest row sum of M,

X_(l-1) being a bound on the largest |entry| of the target's values, from intervals. A convolution's rows are its
kernels, one for each output channel, and are not written out; pooling and moves of entries do not expand errors.

Differs: of the last layer every row is taken by itself, so that each output has a bound of its own; activations get
their Lipschitz constant on the ball of that size instead of the line; a ticket with several copies of a layer has one
number for each copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from slth.candidates import unfold
from slth.certify.factors import Factors
from slth.certify.propagation import held, step
from slth.certify.region import Region
from slth.certify.state import State
from slth.network.graph import INPUT
from slth.network.target import Target
from slth.realise import RealisedLayer


@dataclass(frozen=True)
class NormBounds:
    """Bounds on |ticket's output - target's output|.

    Attributes
    ----------
    components : float64 tensor of the output's shape
    layer_errors : mapping of str to float
        Largest error after each weight layer, in the sup norm.
    """

    components: torch.Tensor
    layer_errors: Mapping[str, float]


def norm_bound(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    region: Region,
    factors: dict[str, Factors] | None = None,
) -> NormBounds:
    """Bound the output error over a region by norms (theory, section 0.3; Orseau 2020, Lemma 1; Burkholz 2022, 2.8).

    A row sum is what the rule for intervals gives for inputs that may be anything between -X and X, off by e each, and
    is computed so: rounding, rows for other signs and layers in copies are bounded there. Never below the intervals.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    region : Region
        The least box around it is what is used.
    factors : dict of str to Factors, optional
        Where to keep what of a layer does not depend on the region.
    """
    target, realised = unfold(target, realised)
    lower, upper = region.lower, region.upper
    realised = held(target, realised, lower, upper)
    signs = bool((lower >= 0).all()), bool((upper <= 0).all())
    intervals = {INPUT: State(lower, upper, torch.zeros_like(lower), *signs)}
    known = dict(intervals)
    layers = {layer.name: layer for layer in target}
    layer_errors = {}
    with torch.no_grad():
        for node in target.graph:
            layer, own = layers.get(node.name), realised.get(node.name)
            before = intervals[node.source]
            after = intervals[node.name] = step(node, before, layer, own, factors)
            ball = _ball(known[node.source], float(before.magnitude.max()))
            known[node.name] = _at_least(step(node, ball, layer, own, factors), after)
            if layer is not None:
                layer_errors[node.name] = float(known[node.name].error.max())
    return NormBounds(known[target.graph.nodes[-1].name].error, layer_errors)


def _ball(state: State, reach: float) -> State:
    """All that is kept of a state: the largest value and the largest error, of every copy."""
    high = torch.full_like(state.lower, reach)
    error = torch.full_like(high, float(state.error.max()))
    copies = state.copies
    if copies is not None:
        copies = torch.ones_like(copies) * copies.flatten(1).amax(dim=1).reshape(-1, *[1] * (copies.dim() - 1))
    return State(-high, high, error, state.nonnegative, state.nonpositive, copies)


def _at_least(state: State, interval: State) -> State:
    """Errors that no rounding in another order makes less than those of the intervals."""
    copies = state.copies
    if copies is not None and interval.copies is not None:
        copies = torch.maximum(copies, interval.copies)
    return replace(state, error=torch.maximum(state.error, interval.error), copies=copies)
