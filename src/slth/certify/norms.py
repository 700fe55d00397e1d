"""Norm propagation: one number a layer, as the papers have it, and the loosest of the bounds.

In the sup norm, with A >= |ticket weight| and D >= |ticket weight - weight| entrywise over the signs that the input can
have, and T the activation's Lipschitz constant on the values that it is given,

    e_l <= T (|A| e_(l-1) + |D| X_(l-1) + |bias error|),    |M| the largest row sum of M,

X_(l-1) being a bound on the largest |entry| of the target's values, from intervals. A convolution's rows are its
kernels, one for each output channel, and are not written out; pooling and moves of entries do not expand errors.

Differs: of the last layer every row is taken by itself, so that each output has a bound of its own; activations, and
all other operations that are kept, get what their rule gives on the ball of that size; a ticket with several copies of
a layer has one number for each copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from slth.candidates import unfold
from slth.certify.expand import unrolled
from slth.certify.factors import Factors
from slth.certify.propagation import Steps, errors_behind, given, held, unbounded
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
    notes : tuple of str
        From where on nothing is bounded.
    """

    components: torch.Tensor
    layer_errors: Mapping[str, float]
    notes: tuple[str, ...] = ()


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
    whole, (target, realised) = target, unfold(target, realised)
    target = unrolled(target)
    lower, upper = region.lower, region.upper
    uses, steps = held(target, realised, lower, upper), Steps(target, factors)
    intervals = {INPUT: given(target.graph, lower, upper)}
    known = dict(intervals)
    with torch.no_grad():
        for node in target.graph:
            before = [intervals[source] for source in node.sources]
            after = intervals[node.name] = steps(node, before, uses.get(node.name))
            balls = [
                _ball(known[name], float(state.magnitude.max()))
                for name, state in zip(node.sources, before, strict=True)
            ]
            known[node.name] = _at_least(steps(node, balls, uses.get(node.name)), after)
    components = known[target.graph.nodes[-1].name].error
    return NormBounds(components, errors_behind(whole, known), unbounded(whole, known))


def _ball(state: State, reach: float) -> State:
    """All that is kept of a state: the largest value and the largest error, of every copy; of a constant all."""
    if state.exact is not None:
        return state
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
