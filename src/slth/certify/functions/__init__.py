"""Rules for functions that are kept as they are: one file a family, one line of registration each.

A rule says what follows for a function's value from what is known of the values that it reads; without a rule nothing
does, and the certificate holds up to there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slth.certify.functions import elementwise, linear, moves, normalisation, products, reductions, softmax
from slth.certify.functions.call import Call
from slth.certify.functions.moves import CONVERTED, MOVES, Rule
from slth.certify.state import State, constant, unknown
from slth.network.graph import Sign
from slth.network.operators import OPERATORS

RULES: Mapping[str, Rule] = {
    **moves.RULES,
    **linear.RULES,
    **elementwise.RULES,
    **products.RULES,
    **reductions.RULES,
    **softmax.RULES,
    **normalisation.RULES,
}
"""By function."""


def through_function(call: Call, states: Sequence[State]) -> State:
    """What is known of a function's value, on whole tensors.

    Parameters
    ----------
    call : Call
    states : sequence of State
        Of all that it reads.
    """
    if all(state.exact is not None for state in states):
        made = call([state.exact for state in states if state.exact is not None])
        if call.name in MOVES | CONVERTED or not made.is_floating_point():
            return constant(made)
    rule = RULES.get(call.name)
    found = None if rule is None else rule(call, states)
    if found is None:
        return unknown(call.node.layout.whole(call.batch))
    return _confined(call, _signed(call, states, found).sound())


def _confined(call: Call, made: State) -> State:
    """Between two numbers that values of both networks never leave, but for the rounding of very many steps."""
    if call.within is None:
        return made
    most = call.within * (1 + 2.0**20 * call.unit)
    lower, upper = made.lower.clamp(min=-most), made.upper.clamp(max=most)
    return replace(made, lower=lower, upper=upper, error=made.error.clamp(max=2 * most))


def _signed(call: Call, states: Sequence[State], made: State) -> State:
    """With the sign that the operation has for what it reads."""
    sign = OPERATORS[call.node.op].signs(call.node.attributes, [state.sign for state in states])
    nonnegative = made.nonnegative or sign is Sign.NONNEGATIVE
    nonpositive = made.nonpositive or sign is Sign.NONPOSITIVE
    lower = made.lower.clamp(min=0) if nonnegative else made.lower
    upper = made.upper.clamp(max=0) if nonpositive else made.upper
    return replace(made, lower=lower, upper=upper, nonnegative=nonnegative, nonpositive=nonpositive)


__all__ = ["RULES", "Call", "through_function"]
