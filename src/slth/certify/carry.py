"""One step back through a node, by what an analysis knows of it, and what is known of the whole of a graph."""

from __future__ import annotations

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
from slth.network.graph import Node


@dataclass
class Analysis:
    """All that is known of one region, by node.

    Attributes
    ----------
    states : dict of str to State
        Intervals, the input's among them.
    pairs : dict of str to Pair
        Where more than these is known of the difference's sign.
    joints, lines, winners, combinations, moves, means : dicts
        What objectives are carried back by; a node that is in none of them is where they end, bounded by intervals.
    """

    states: dict[str, State] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    winners: dict[str, Winners] = field(default_factory=dict)
    combinations: dict[str, Combination] = field(default_factory=dict)
    moves: dict[str, Move] = field(default_factory=dict)
    means: dict[str, Call] = field(default_factory=dict)

    def pair(self, name: str) -> Pair:
        """Bounds on a node's value and on its difference."""
        found = self.pairs.get(name)
        if found is not None:
            return found
        state = self.states[name]
        return Pair(state.lower, state.upper, -state.error, state.error)

    def follows(self, node: Node) -> bool:
        """Whether objectives are carried back through a node."""
        by_name = (self.joints, self.lines, self.winners, self.combinations, self.moves, self.means)
        return node.op in FIXED or any(node.name in known for known in by_name)


FIXED = frozenset({"reshape", "pad", "average_pool"})
"""Operations that are linear maps without weights, the same in both networks."""


def carry(known: Analysis, node: Node, rows: Objective) -> Carried:
    """An objective at a node's output in terms of what it reads, or a constant."""
    name = node.name
    if name in known.combinations:
        return _split(*through_combination(known.combinations[name], known.states[name], rows))
    if name in known.moves:
        return _split(*through_move(known.moves[name], known.states[name], rows))
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


def _split(parts: list[tuple[str, Objective]], rest: Objective) -> Carried:
    return Carried(parts, rest.constant, rest.room)


def finite(state: State) -> bool:
    """Whether there are bounds on every value and every difference."""
    return all(bool(torch.isfinite(part).all()) for part in (state.lower, state.upper, state.error))


def without_copies(state: State) -> State:
    """All that is known of the copy that is farthest off."""
    return replace(state, copies=None)
