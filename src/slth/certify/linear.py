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
from dataclasses import replace

import torch

from slth.candidates import unfold
from slth.certify import relaxation
from slth.certify.affine import affine_and_rounding
from slth.certify.backward import Objective, both_ways, one_each, through_weights
from slth.certify.carry import Analysis, carry, finite, without_copies
from slth.certify.copied import copied
from slth.certify.directions import Forms, least_deviations
from slth.certify.expand import expanded, unrolled
from slth.certify.factors import Factors
from slth.certify.follow import follow
from slth.certify.functions import Call
from slth.certify.functions.normalisation import NORMALISATIONS
from slth.certify.joint import Joint, Maps, join, maps_of
from slth.certify.lookup import looked_up
from slth.certify.maps import AFFINE, on_one
from slth.certify.maxpool import winners
from slth.certify.propagation import ONE, RULES, Steps, given, held
from slth.certify.region import Box, Region, inflate_signed
from slth.certify.relaxation import Pair, ends, relax, within
from slth.certify.state import UNIT, State
from slth.certify.sweep import carried_back
from slth.certify.windows import cut, tiles
from slth.copies import CopiedLayer
from slth.network.graph import INPUT, Node
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target
from slth.realise import RealisedLayer

ENTRIES_AT_ONCE = 1 << 22
"""Coefficients that are carried back together (chosen): 32 MiB a tensor."""
_TILE = 3
"""Positions a side of a map whose objectives are carried back together (chosen)."""


class LinearBounds:
    """The relaxation of one target and one ticket, for any region.

    Parameters
    ----------
    target : Target
    realised : mapping of str to RealisedLayer
    """

    def __init__(self, target: Target, realised: Mapping[str, RealisedLayer]) -> None:
        target, self._given = unfold(target, realised)
        parts = unrolled(target)
        self.target = expanded(parts)
        # What is written out in parts has rules as a whole too.
        own = self.target.graph.by_name
        self._whole = {node.name: node for node in parts.graph if node.attributes != own[node.name].attributes}
        self.realised = dict(self._given)
        self.layers = {layer.name: layer for layer in self.target}
        self.nodes = {node.name: node for node in self.target.graph}
        self.factors: dict[str, Factors] = {}
        self.steps = Steps(self.target, self.factors)
        self._maps: dict[tuple[str, bool, bool], Maps | None] = {}

    def analyse(self, region: Region) -> Analysis:
        """Bounds at every node; those of weight layers, and of sums and products before anything that bends, are
        tightened by the relaxation of all before them.
        """
        known = Analysis()
        self._hold(region.lower, region.upper)
        known.states[INPUT] = given(self.target.graph, region.lower, region.upper)
        with torch.no_grad():
            for node in self.target.graph:
                known.states[node.name] = self._analysed(known, region, node)
        return known

    def _analysed(self, known: Analysis, region: Region, node: Node) -> State:
        sources = [known.states[source] for source in node.sources] or [ONE]
        if node.op in WEIGHT_OPERATORS:
            return self._weighted(known, region, node, sources)
        floor = self._floor(known, region, node, sources)
        after = self.steps(node, sources if node.sources else [], floor=floor)
        whole = self._whole.get(node.name)
        if whole is not None:
            after = _least(after, self.steps(whole, [known.states[source] for source in whole.sources]))
        if not all(map(finite, [*sources, after])):
            return after
        if node.op in RULES:
            self._relaxed(known, node, sources[0], after)
            return after
        follow(known, self.target.graph, Call(node, floor=floor), after)
        if self._bends(known, node):
            return self._tightened(known, region, node, after, without_copies(after))
        return after

    def _weighted(self, known: Analysis, region: Region, node: Node, sources: list[State]) -> State:
        layer, own = self.layers[node.weights], self.realised[node.name]
        if node.op not in AFFINE or not all(map(finite, sources)):
            if node.op == "embedding" and not isinstance(own, CopiedLayer):
                factors = Factors.kept(self.factors, layer, own)
                state, known.pairs[node.name] = looked_up(factors, sources[0], node.attributes["weight_shape"][0])
                return state
            return self.steps(node, sources if node.sources else [], own)
        before, factors = sources[0], Factors.kept(self.factors, layer, own)
        key = (node.name, before.nonnegative, before.nonpositive)
        if key not in self._maps:
            self._maps[key] = maps_of(factors, before.nonnegative, before.nonpositive)
        # Rounding is that of a ticket with one copy of everything: of the others, intervals are all that is known.
        after, rounding = affine_and_rounding(node, without_copies(before), layer, own, factors)
        if isinstance(own, CopiedLayer):
            after = copied(node, before, layer, own)
        if not finite(after):
            return after.sound()
        joint = known.joints[node.name] = join(node, factors, self._maps[key], before, after, rounding)
        if not node.sources:
            region = Box(before.lower, before.upper)
        at_input = isinstance(region, Box) and (not node.sources or node.source == INPUT)
        if isinstance(region, Box) and at_input and joint.maps is not None and joint.maps.kink is None:
            return self._with(known, node, after, _at_input(node, joint, joint.maps, region, after))
        return self._tightened(known, region, node, after, before)

    def _hold(self, lower: torch.Tensor, upper: torch.Tensor) -> None:
        """Take the slopes that hold in a region, by node."""
        now = held(self.target, self._given, lower, upper)
        if any(now[name] is not self.realised.get(name) for name in now):
            self.realised = dict(now)
            self._maps.clear()

    def highest(self, known: Analysis, region: Region, node: Node | None, rows: Objective) -> torch.Tensor:
        """Upper bounds on objectives at a node, or at the input, (rows,)."""
        start = INPUT if node is None else node.name
        end = self._carried(known, start, rows)
        best = region.highest(end.value, end.sizes, end.window)
        bound = inflate_signed(best + end.constant) + end.room * (1 + 16 * UNIT)
        # Where something overflowed there is no bound: of two infinities nothing is left that is a number.
        return bound.nan_to_num(nan=math.inf, posinf=math.inf, neginf=math.inf)

    def _carried(self, known: Analysis, start: str, rows: Objective) -> Objective:
        return carried_back(
            self.target.graph.nodes, start, rows, lambda one, part: carry(known, one, part), known.states.__getitem__
        )

    def _floor(self, known: Analysis, region: Region, node: Node, sources: list[State]) -> torch.Tensor | None:
        """The least deviations of what a node normalises; None of other nodes."""
        function = node.attributes.get("function")
        if function not in NORMALISATIONS or len(node.sources) != 1 or self.target.graph.batch:
            return None
        if not finite(sources[0]) or sources[0].copies is not None:
            return None
        pair, source = known.pair(node.source), self.nodes.get(node.source)

        def forms() -> Forms:
            made = [
                self._carried(known, node.source, both_ways(one_each(pair.lower.shape, rows, None)[0]))
                for rows in _chunks(pair.lower.numel(), max(1, ENTRIES_AT_ONCE // (2 * self._widest(known))))
            ]
            shape = known.states[INPUT].lower.shape
            weights = [end.whole(shape).value.flatten(1) for end in made]
            halves = [[part.chunk(2) for part in parts] for parts in (weights, [end.constant for end in made])]
            weight, constant = (torch.cat([(up - down) / 2 for up, down in parts]) for parts in halves)
            return Forms(weight, constant, region.lower, region.upper)

        layout = self.target.graph.layout_of(node.source)
        return least_deviations(
            Call(node), layout.batched, pair, lambda rows: self.highest(known, region, source, rows), forms
        )

    def _relaxed(self, known: Analysis, node: Node, before: State, after: State) -> None:
        pair = known.pair(node.source)
        if node.op == "max_pool":
            won = known.winners[node.name] = winners(node.attributes, pair, node.shape)
            known.pairs[node.name] = Pair(after.lower, after.upper, won.below, won.above)
        elif node.op in relaxation.RULES:
            lines = known.lines[node.name] = relax(node, pair, after)
            known.pairs[node.name] = ends(lines, pair, after)

    def _bends(self, known: Analysis, node: Node) -> bool:
        """Whether what a sum, a product or a mean gives is the output, or is read by something that is not linear."""
        made = known.combinations.get(node.name)
        if (made is None or len(made.terms) < 2) and node.name not in known.means:
            return False
        if node is self.target.graph.nodes[-1]:
            return True
        readers = self.target.graph.consumers[node.name]
        return any(reader.op not in WEIGHT_OPERATORS and not self._is_linear(reader) for reader in readers)

    def _is_linear(self, node: Node) -> bool:
        name = node.attributes.get("function")
        return node.op == "average_pool" or (name in ("add", "sub", "mean") and node is not self.target.graph.nodes[-1])

    def _with(self, known: Analysis, node: Node, after: State, pair: Pair) -> State:
        known.pairs[node.name] = pair
        error = torch.maximum(pair.below.abs(), pair.above.abs())
        return replace(after, lower=pair.lower, upper=pair.upper, error=error)

    def _tightened(self, known: Analysis, region: Region, node: Node, after: State, before: State) -> State:
        """Bounds on a node's outputs, by objectives carried back from each of them."""
        joint = known.joints.get(node.name)
        known.states[node.name] = after
        shape = after.lower.shape
        made = [torch.empty(shape, dtype=torch.float64) for _ in range(4)]
        widest = self._widest(known)
        for window in tiles(shape, _TILE) if self._is_map(node) else [None]:
            part = cut(after.lower, window).shape
            found = torch.empty(4, part.numel(), dtype=torch.float64)
            for rows in _chunks(part.numel(), max(1, ENTRIES_AT_ONCE // (2 * widest))):
                for first, one in zip((0, 2), one_each(part, rows, window), strict=True):
                    if joint is None:
                        best = self.highest(known, region, node, both_ways(one))
                    else:
                        ways = both_ways(through_weights(joint, node, before, one))
                        best = self.highest(known, region, self.nodes.get(node.source), ways)
                    found[first : first + 2, rows.start : rows.stop] = best.reshape(2, -1)
            for into, bound in zip(made, found, strict=True):
                cut(into, window)[...] = bound.reshape(part)
        top, bottom, above, below = made
        lower, upper = torch.maximum(after.lower, -bottom), torch.minimum(after.upper, top)
        return self._with(known, node, after, Pair(lower, upper, *within(-below, above, after.error)))

    def _widest(self, known: Analysis) -> int:
        return max(state.lower.numel() for state in known.states.values())

    def _is_map(self, node: Node) -> bool:
        """Whether entries of a node's outputs read parts of a map, so that those of a few positions go together."""
        if node.op == "conv":
            return True
        if node.op in WEIGHT_OPERATORS or not node.batched or len(node.shape) < 2 or not node.sources:
            return False
        before = self.nodes.get(node.source)
        return before is not None and before.shape[1:] == node.shape[1:] and self._is_map(before)


def _least(one: State, other: State) -> State:
    """What two rules say together; where one of them says nothing, the other."""
    lower, upper = torch.fmax(one.lower, other.lower), torch.fmin(one.upper, other.upper)
    error = torch.fmin(one.error, other.error)
    signs = one.nonnegative or other.nonnegative, one.nonpositive or other.nonpositive
    return State(lower, upper, error, *signs) if other.copies is None and one.copies is None else one


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
