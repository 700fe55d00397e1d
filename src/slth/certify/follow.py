"""What an analysis needs to carry objectives back through a function: found once for a region."""

from __future__ import annotations

from dataclasses import replace

import torch

from slth.certify.carry import Analysis, Level
from slth.certify.combination import Combination, Operand, of_product, of_sum, pair_of
from slth.certify.fixed import linear_pair, move_of, moved_pair
from slth.certify.functions import Call
from slth.certify.functions.linear import LINEAR
from slth.certify.functions.lines import lines_of
from slth.certify.functions.moves import MOVES
from slth.certify.functions.tangents import TANGENTS
from slth.certify.relaxation import Pair, ends
from slth.certify.state import State
from slth.certify.tangent import tangent_of
from slth.network.graph import Graph, Node

_MOVING = MOVES | {"pad", "constant_pad_nd", "where", "masked_fill", "embedding"}


def follow(known: Analysis, graph: Graph, call: Call, after: State) -> None:
    """Enter what a function is carried back by, and what that says of the difference.

    Of a network that works on batches of one size alone nothing is carried back.
    """
    node = call.node
    if node.op not in ("function", "join") or graph.batch or after.exact is not None:
        return
    if _combine(known, graph, call, after):
        return
    sources = [known.states[source] for source in node.sources]
    layouts = [graph.layout_of(source) for source in node.sources]
    if call.name in _MOVING:
        made = move_of(call, node.sources, sources, layouts)
        if made is not None:
            known.moves[node.name] = made
            pairs = [known.pair(source) for source in node.sources]
            known.pairs[node.name] = moved_pair(call, pairs, sources, layouts, after)
    elif call.name in TANGENTS:
        pairs = [known.pair(source) for source in node.sources]
        tangent = tangent_of(call, node.sources, sources, pairs, layouts, after)
        if tangent is not None:
            known.tangents[node.name] = tangent
            _level(known, node, tangent.loose, tangent.loose_difference, after)
    elif len(sources) == 1 and call.name in LINEAR:
        if node.batched and layouts[0].batched and call.name != "cumsum":
            known.means[node.name] = call
            known.pairs[node.name] = linear_pair(call, known.pair(node.source), after)
    elif len(sources) == 1 and sources[0].lower.shape == after.lower.shape:
        before = known.pair(node.source)
        lines = lines_of(call, sources[0], before, after)
        if lines is not None:
            known.lines[node.name] = lines
            known.pairs[node.name] = ends(lines, before, after)


def _level(known: Analysis, node: Node, loose: torch.Tensor, loose_difference: torch.Tensor, after: State) -> None:
    """Enter where a linear form is farther off than intervals are wide."""
    made = Level(~(loose < (after.upper - after.lower) / 2), ~(loose_difference < after.error))
    if bool((made.value | made.difference).any()):
        known.level[node.name] = made


def _combine(known: Analysis, graph: Graph, call: Call, after: State) -> bool:
    """A sum, a difference or a product; a quotient by a number that is known."""
    one, other = (_operand(known, graph, call, name) for name in ("self", "other"))
    result = call.node.layout.whole(1)
    made: Combination | None = None
    if call.name == "neg" and one is not None:
        made, used = of_sum([(-1.0, one)], after, result), [one]
    elif one is None or other is None:
        return False
    elif call.name in ("add", "sub", "rsub"):
        alpha = call.number("alpha")
        alpha = 1.0 if alpha is None else alpha
        factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[call.name]
        used = [one, other]
        made = of_sum(list(zip(factors, used, strict=True)), after, result)
    elif call.name == "mul":
        made, used = of_product(one, other, after, result), [one, other]
    elif call.name in ("div", "true_divide") and other.known and call.arguments.get("rounding_mode") is None:
        inverse = 1 / other.pair.lower
        factor = Operand("", Pair(inverse, inverse, inverse * 0, inverse * 0), other.shape, other.whole)
        made, used = of_product(one, factor, after, result), [one, factor]
    if made is None:
        return False
    known.combinations[call.node.name] = made
    pair = known.pairs[call.node.name] = pair_of(made, used, after)
    error = torch.maximum(pair.below.abs(), pair.above.abs())
    _level(known, call.node, made.loose, made.loose_difference, replace(after, error=error))
    return True


def _operand(known: Analysis, graph: Graph, call: Call, name: str) -> Operand | None:
    index = call.source(name)
    if index is None:
        state = call.state([], name)
        if state is None:
            return None
        return Operand("", Pair(state.lower, state.upper, state.error * 0, state.error * 0), (), ())
    source = call.node.sources[index]
    state, layout = known.states[source], graph.layout_of(source)
    if state.exact is not None and not state.exact.is_floating_point():
        return None
    return Operand(source, known.pair(source), tuple(state.lower.shape), layout.whole(1))
