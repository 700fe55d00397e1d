"""Backward linear relaxation of both networks together.

An objective <a, x> + <c, e> in the values x of the target at some node and the differences e of the ticket's from them
is carried back node by node: through a weight layer exactly,

    <a, W x + b> + <c, V e + (V - W) x + b' - b> = <a W + c (V - W), x> + <c V, e> + <a, b> + <c, b' - b>,

through an activation along lines that bound x and e (:mod:`slth.certify.relaxation`), the upper ones where coefficients
are positive. At the input e is 0 and the largest value over the region is known. The target's and the ticket's weights
enter together, so that what they have in common cancels before anything is bounded.

**Rounding.** A coefficient that is computed as a sum of n products is off by at most gamma_n = n 2^-53 / (1 - n 2^-53)
times the sum of their absolute values, and multiplies a number that is bounded by intervals. So a step adds at most
gamma_n (<|a|, |W| |x| + |b|> + <|c|, |V| |e| + |V - W| |x| + |b' - b|>) to the bound, with |x| and |e| the bounds
already known; twice that is added, which also covers that it is itself computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from slth.candidates import unfold
from slth.certify.affine import affine_and_rounding
from slth.certify.backward import (
    Objective,
    both_ways,
    one_each,
    through_fixed,
    through_level,
    through_lines,
    through_max_pool,
    through_weights,
)
from slth.certify.factors import Factors
from slth.certify.joint import Joint, Maps, join, maps_of
from slth.certify.maps import on_one
from slth.certify.maxpool import Winners, winners
from slth.certify.propagation import held, step
from slth.certify.region import Box, Region, inflate_signed
from slth.certify.relaxation import Lines, Pair, ends, relax, within
from slth.certify.state import UNIT, State
from slth.certify.windows import cut, tiles
from slth.copies import CopiedLayer
from slth.network.graph import INPUT, Node
from slth.network.target import Target
from slth.realise import RealisedLayer

ENTRIES_AT_ONCE = 1 << 22
"""Coefficients that are carried back together (chosen): 32 MiB a tensor."""
_TILE = 3
"""Positions a side of a map whose objectives are carried back together (chosen)."""


@dataclass
class Analysis:
    """All that is known of one region: intervals by node, pairs and lines where activations need them."""

    states: dict[str, State] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    winners: dict[str, Winners] = field(default_factory=dict)


class LinearBounds:
    """The relaxation of one target and one ticket, for any region.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
    """

    def __init__(self, target: Target, realised: Mapping[str, RealisedLayer]) -> None:
        self.target, self._given = unfold(target, realised)
        self.realised = self._given
        self.layers = {layer.name: layer for layer in self.target}
        self.nodes = {node.name: node for node in self.target.graph}
        self.factors: dict[str, Factors] = {}
        self._maps: dict[tuple[str, bool, bool], Maps | None] = {}

    def analyse(self, region: Region) -> Analysis:
        """Bounds at every node, each weight layer's tightened by the relaxation of all before it."""
        known = Analysis()
        lower, upper = region.lower, region.upper
        self._hold(lower, upper)
        signs = bool((lower >= 0).all()), bool((upper <= 0).all())
        known.states[INPUT] = State(lower, upper, torch.zeros_like(lower), *signs)
        with torch.no_grad():
            for node in self.target.graph:
                before = known.states[node.source]
                if node.name in self.layers:
                    known.states[node.name] = self._tightened(known, region, node, before)
                else:
                    after = known.states[node.name] = step(node, before, None, None)
                    self._relaxed(known, node, before, after)
        return known

    def _hold(self, lower: torch.Tensor, upper: torch.Tensor) -> None:
        """Take the slopes that hold in a region."""
        now = held(self.target, self._given, lower, upper)
        if any(now[name] is not self.realised[name] for name in now):
            self.realised = now
            self._maps.clear()

    def highest(self, known: Analysis, region: Region, node: Node | None, rows: Objective) -> torch.Tensor:
        """Upper bounds on objectives at a node, or at the input, (rows,)."""
        current = node
        while current is not None:
            rows = self._back(known, current, rows)
            current = self.nodes.get(current.source)
        best = region.highest(rows.value, rows.sizes, rows.window)
        bound = inflate_signed(best + rows.constant) + rows.room * (1 + 16 * UNIT)
        # Where something overflowed there is no bound: of two infinities nothing is left that is a number.
        return bound.nan_to_num(nan=math.inf, posinf=math.inf, neginf=math.inf)

    def _relaxed(self, known: Analysis, node: Node, before: State, after: State) -> None:
        pair = known.pairs.get(node.source) or Pair(before.lower, before.upper, -before.error, before.error)
        if node.op == "max_pool":
            won = known.winners[node.name] = winners(node.attributes, pair, node.shape)
            known.pairs[node.name] = Pair(after.lower, after.upper, won.below, won.above)
            return
        lines = known.lines[node.name] = relax(node, pair, after)
        if after.lower.shape == before.lower.shape:
            known.pairs[node.name] = ends(lines, pair, after)

    def _tightened(self, known: Analysis, region: Region, node: Node, before: State) -> State:
        layer, realised = self.layers[node.name], self.realised[node.name]
        factors = Factors.kept(self.factors, layer, realised)
        key = (node.name, before.nonnegative, before.nonpositive)
        if key not in self._maps:
            self._maps[key] = maps_of(factors, before.nonnegative, before.nonpositive)
        # Rounding is that of a ticket with one copy of everything: of the others, intervals are all that is known.
        after, rounding = affine_and_rounding(node, replace(before, copies=None), layer, realised, factors)
        if isinstance(realised, CopiedLayer):
            after = step(node, before, layer, realised)
        joint = known.joints[node.name] = join(node, factors, self._maps[key], before, after, rounding)
        if isinstance(region, Box) and node.source == INPUT and joint.maps is not None and joint.maps.kink is None:
            pair = _at_input(node, joint, joint.maps, region, after)
        else:
            pair = self._pair(known, region, node, joint, before, after)
        known.pairs[node.name] = pair
        error = torch.maximum(pair.below.abs(), pair.above.abs())
        return replace(after, lower=pair.lower, upper=pair.upper, error=error)

    def _pair(self, known: Analysis, region: Region, node: Node, joint: Joint, before: State, after: State) -> Pair:
        """Bounds on a weight layer's outputs, by objectives carried back from each of them."""
        shape = after.lower.shape
        made = [torch.empty(shape, dtype=torch.float64) for _ in range(4)]
        widest = max(after.lower.numel(), *(state.lower.numel() for state in known.states.values()))
        for window in tiles(shape, _TILE) if node.op == "conv" else [None]:
            part = cut(after.lower, window).shape
            found = torch.empty(4, part.numel(), dtype=torch.float64)
            for rows in _chunks(part.numel(), max(1, ENTRIES_AT_ONCE // (2 * widest))):
                for first, one in zip((0, 2), one_each(part, rows, window), strict=True):
                    ways = both_ways(through_weights(joint, node, before, one))
                    best = self.highest(known, region, self.nodes.get(node.source), ways)
                    found[first : first + 2, rows.start : rows.stop] = best.reshape(2, -1)
            for into, bound in zip(made, found, strict=True):
                cut(into, window)[...] = bound.reshape(part)
        top, bottom, above, below = made
        lower, upper = torch.maximum(after.lower, -bottom), torch.minimum(after.upper, top)
        return Pair(lower, upper, *within(-below, above, after.error))

    def _back(self, known: Analysis, node: Node, rows: Objective) -> Objective:
        state = known.states[node.source]
        if node.name in known.joints:
            return through_weights(known.joints[node.name], node, state, rows)
        if node.name in known.winners:
            return through_max_pool(node, known.winners[node.name], state, rows)
        if node.op in ("reshape", "pad", "average_pool"):
            return through_fixed(node, state, rows)
        if known.lines[node.name].value[0].slope.shape != state.lower.shape:
            return through_level(known.lines[node.name], state, rows)
        return through_lines(known.lines[node.name], state, rows)


def _chunks(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(start + size, n))


def _at_input(node: Node, joint: Joint, maps: Maps, box: Box, after: State) -> Pair:
    """A layer that reads the input itself: its differences are one linear map, whose range over a box is known."""
    apply = on_one(node)
    middle = apply(maps.difference, (box.lower + box.upper) / 2, maps.offset)
    radius = apply(maps.difference.abs(), (box.upper - box.lower) / 2)
    n_terms = maps.weight[0].numel() + 8
    room = joint.loose_difference + 4 * (n_terms + 8) * UNIT * joint.size_difference
    radius = (radius + room) * (1 + 2 * (n_terms + 8) * UNIT)
    return Pair(after.lower, after.upper, *within(middle - radius, middle + radius, after.error))
