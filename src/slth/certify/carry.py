"""One step back through a node, by what an analysis knows of it, and what is known of the whole of a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from slth.certify.backward import Objective, through_fixed, through_lines, through_max_pool, through_weights
from slth.certify.combination import Combination, through_combination
from slth.certify.fixed import Move, through_linear, through_move
from slth.certify.functions import Call
from slth.certify.joint import Joint
from slth.certify.maxpool import Winners
from slth.certify.relaxation import Lines, Pair
from slth.certify.state import State
from slth.certify.sweep import Carried, concretised, to
from slth.certify.tangent import Tangent, through_tangent
from slth.certify.windows import cut
from slth.network.graph import Node


@dataclass(frozen=True)
class Level:
    """Where intervals say more of a value, and of a difference, than a linear form that may be far off; boolean."""

    value: torch.Tensor
    difference: torch.Tensor


@dataclass
class Analysis:
    """All that is known of one region, by node.

    Attributes
    ----------
    states : dict of str to State
        Intervals, the input's among them.
    pairs : dict of str to Pair
        Where more than these is known of the difference's sign.
    joints, lines, winners, combinations, moves, means, tangents : dicts
        What objectives are carried back by; a node that is in none of them is where they end, bounded by intervals.
    level : dict of str to Level
        Entries at which they end though their node is in one of them.
    """

    states: dict[str, State] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    winners: dict[str, Winners] = field(default_factory=dict)
    combinations: dict[str, Combination] = field(default_factory=dict)
    moves: dict[str, Move] = field(default_factory=dict)
    means: dict[str, Call] = field(default_factory=dict)
    tangents: dict[str, Tangent] = field(default_factory=dict)
    level: dict[str, Level] = field(default_factory=dict)

    def pair(self, name: str) -> Pair:
        """Bounds on a node's value and on its difference."""
        found = self.pairs.get(name)
        if found is not None:
            return found
        state = self.states[name]
        return Pair(state.lower, state.upper, -state.error, state.error)

    def follows(self, node: Node) -> bool:
        """Whether objectives are carried back through a node."""
        by_name = (self.joints, self.lines, self.winners, self.combinations, self.moves, self.means, self.tangents)
        return node.op in FIXED or any(node.name in known for known in by_name)


FIXED = frozenset({"reshape", "pad", "average_pool"})
"""Operations that are linear maps without weights, the same in both networks."""


def carry(known: Analysis, node: Node, rows: Objective) -> Carried:
    """An objective at a node's output in terms of what it reads, or a constant."""
    name = node.name
    if name in known.level:
        rows = _ended(known, name, rows)
    if name in known.combinations:
        return _split(*through_combination(known.combinations[name], known.states[name], rows))
    if name in known.moves:
        return _split(*through_move(known.moves[name], known.states[name], rows))
    if name in known.tangents:
        return _split(*through_tangent(known.tangents[name], known.states[name], rows))
    if not node.sources or not known.follows(node):
        return concretised(known.pair(name), rows)
    state = known.states[node.source]
    if name in known.joints:
        made = through_weights(known.joints[name], node, state, rows)
    elif name in known.winners:
        made = through_max_pool(node, known.winners[name], state, rows)
    elif name in known.means:
        made = through_linear(known.means[name], state, known.states[name], rows)
    elif name in known.lines:
        made = through_lines(known.lines[name], state, rows)
    else:
        made = through_fixed(node, state, rows)
    return to(node.source, made)


def _ended(known: Analysis, name: str, rows: Objective) -> Objective:
    """Without the coefficients of entries that are bounded by intervals, which become a constant."""
    level = known.level[name]
    value, difference = cut(level.value, rows.window), cut(level.difference, rows.window)
    own = None if rows.difference is None else rows.difference * difference
    tangent = known.tangents.get(name)
    sphere = None if tangent is None or rows.window is not None else tangent.sphere
    made = concretised(known.pair(name), replace(rows, value=rows.value * value, difference=own), sphere)
    left = None if rows.difference is None else rows.difference * ~difference
    return replace(rows, value=rows.value * ~value, difference=left, constant=made.constant, room=made.room)


def _split(parts: list[tuple[str, Objective]], rest: Objective) -> Carried:
    return Carried(parts, rest.constant, rest.room)


def finite(state: State) -> bool:
    """Whether all is bounded, values and differences; what a mask leaves out is -infinity in both networks."""
    left_out = state.upper == -math.inf
    values = torch.isfinite(state.lower) & torch.isfinite(state.upper)
    return bool(((values | left_out) & torch.isfinite(state.error)).all())


def without_copies(state: State) -> State:
    """All that is known of the copy that is farthest off."""
    return replace(state, copies=None)
