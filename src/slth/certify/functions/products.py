"""Products of several values: matrix products, einsum, convolutions and linear maps by values.

Such a function f is linear in every one of its operands, with coefficients that are 0 and 1, so that with M >= |t| and
E >= |e| of each operand, and all operands before the k-th at M and those behind it at M + E,

    |f(s) - f(t)| <= sum over k of f(M, ..., E_k, ..., M + E),

by changing one operand after another. Values are as far from f of the middles. A sum of n products of k numbers is off
by at most (n + k + 8) units of f(M + E); n is f of ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from slth.certify.functions.algebra import outward, total
from slth.certify.functions.call import Call
from slth.certify.functions.moves import Rule
from slth.certify.state import TINY, UNIT, State, inflate

Product = Callable[..., torch.Tensor]


def multilinear(function: Product, states: Sequence[State], unit: float) -> State:
    """What follows for a function that is linear in each of several values; see the module's docstring."""
    ones = function(*(torch.ones_like(state.lower) for state in states))
    n_terms = int(ones.max()) + len(states) + 8
    sizes, errors = [state.magnitude for state in states], [state.error * (1 + 4 * UNIT) for state in states]
    reaches = [inflate(size + error, 2) for size, error in zip(sizes, errors, strict=True)]
    centres = [(state.lower + state.upper) / 2 for state in states]
    # Of a single number the middle is exact, but for what leaves float64's range.
    radii = [
        torch.where(state.lower == state.upper, 0.0, inflate((state.upper - state.lower) / 2 + 2 * UNIT * size, 4))
        for state, size in zip(states, sizes, strict=True)
    ]
    outer = [inflate(centre.abs() + radius, 4) for centre, radius in zip(centres, radii, strict=True)]
    middle = function(*centres)
    change = _telescoped(function, sizes, errors, reaches, n_terms)
    spread = _telescoped(function, [centre.abs() for centre in centres], radii, outer, n_terms)
    size = inflate(function(*reaches), n_terms)
    rounding = n_terms * unit * size + n_terms * TINY
    return outward(middle - spread, middle + spread, rounding, change)


def _telescoped(
    function: Product,
    before: Sequence[torch.Tensor],
    changes: Sequence[torch.Tensor],
    behind: Sequence[torch.Tensor],
    n_terms: int,
) -> torch.Tensor:
    parts = [
        function(*before[:k], change, *behind[k + 1 :]) for k, change in enumerate(changes) if bool((change != 0).any())
    ]
    made = torch.stack(parts).sum(dim=0) if parts else torch.zeros_like(function(*before))
    return inflate(made, n_terms + len(changes) + 2)


def bilinear(function: Product, one: State, other: State, unit: float) -> State:
    """Of two values."""
    return multilinear(function, [one, other], unit)


def matrices(call: Call, states: Sequence[State]) -> State | None:
    """A product of values; the function itself, of other numbers."""
    if any(state.exact is not None and not state.exact.is_floating_point() for state in states):
        return None
    return multilinear(lambda *values: call(values), states, call.unit)


def with_bias(call: Call, states: Sequence[State]) -> State | None:
    """The same, with something added that is a value as well."""
    place = call.source("bias")
    if place is None:
        return matrices(call, states) if call.is_none("bias") else None
    others = [state for number, state in enumerate(states) if number != place]
    nothing = torch.zeros_like(states[place].lower)

    def product(*values: torch.Tensor) -> torch.Tensor:
        given = list(values)
        given.insert(place, nothing)
        return call(given)

    made = multilinear(product, others, call.unit)
    zeros = [torch.zeros_like(state.lower) for state in states]

    def alone(part: torch.Tensor) -> torch.Tensor:
        given = list(zeros)
        given[place] = part
        return call(given)

    return total([made, states[place].each(alone)], call.unit)


def added(call: Call, states: Sequence[State]) -> State | None:
    """A product of two matrices, and a value that is added, each as it is."""
    if any(call.number(name) not in (None, 1.0) for name in ("beta", "alpha")):
        return None
    shift = call.state(states, "self")
    names = (("mat1", "mat2"), ("batch1", "batch2"))
    pairs = [[call.state(states, name) for name in pair] for pair in names]
    for one, other in pairs:
        if shift is not None and one is not None and other is not None and call.name in ("addmm", "baddbmm"):
            return total([shift, bilinear(torch.matmul, one, other, call.unit)], call.unit)
    return None


PRODUCTS = ("matmul", "mm", "bmm", "mv", "dot", "outer", "linalg_matmul", "einsum", "tensordot", "kron")
BIASED = ("linear", "bilinear", *(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)))

RULES: dict[str, Rule] = {
    **dict.fromkeys(PRODUCTS, matrices),
    **dict.fromkeys(BIASED, with_bias),
    **dict.fromkeys(("addmm", "baddbmm"), added),
}
"""By function."""
