"""Linear forms of single functions, beside the functions in 150 digits: no point above them; no tolerance.

A function reads values t of the target within some bounds, and the ticket's t + e, which in a whole network are what
other layers make: here they are drawn.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as nnf

from slth.certify.backward import Objective
from slth.certify.carry import Analysis, carry
from slth.certify.directions import Forms, least_deviations
from slth.certify.follow import follow
from slth.certify.functions import Call
from slth.certify.functions.normalisation import NORMALISATIONS
from slth.certify.functions.tangents import TANGENTS, Argument
from slth.certify.propagation import Steps
from slth.certify.relaxation import Pair
from slth.certify.state import State
from slth.certify.sweep import concretised
from slth.network.graph import Node
from slth.network.target import Target
from slth.network.trace import trace

Values = list[mpmath.mpf]
SHAPE = (2, 3)


class Behind(nn.Module):
    """A function of what two layers give."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function, self.a, self.b = function, nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function's values."""
        return self.function(self.a(x), self.b(x))


def rows(values: Values) -> list[Values]:
    """Of (2, 3)."""
    return [values[:3], values[3:]]


def normed(values: Values, eps: float, centred: bool) -> Values:
    """One group."""
    mean = sum(values) / len(values) if centred else mpmath.mpf(0)
    scale = mpmath.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + mpmath.mpf(eps))
    return [(v - mean) / scale for v in values]


def soft(values: Values) -> Values:
    """Softmax."""
    powers = [mpmath.exp(v) for v in values]
    return [v / sum(powers) for v in powers]


def by_rows(function: Callable[[Values], Values]) -> Callable[[Values, Values], Values]:
    """Row by row of the first."""
    return lambda a, b: [v for row in rows(a) for v in function(row)]


def product(a: Values, b: Values) -> Values:
    """a b^T."""
    return [sum(x * y for x, y in zip(one, other, strict=True)) for one in rows(a) for other in rows(b)]


FUNCTIONS: dict[str, tuple[Callable[..., torch.Tensor], Callable[[Values, Values], Values]]] = {
    "add": (lambda a, b: a + b, lambda a, b: [x + y for x, y in zip(a, b, strict=True)]),
    "sub": (lambda a, b: torch.sub(a, b, alpha=3), lambda a, b: [x - 3 * y for x, y in zip(a, b, strict=True)]),
    "mul": (lambda a, b: a * b, lambda a, b: [x * y for x, y in zip(a, b, strict=True)]),
    "mul, broadcast": (
        lambda a, b: a * b[:, :, :1],
        lambda a, b: [x * row[0] for one, row in zip(rows(a), rows(b), strict=True) for x in one],
    ),
    "cat": (lambda a, b: torch.cat([a, b], dim=2), lambda a, b: a[:3] + b[:3] + a[3:] + b[3:]),
    "mean": (lambda a, b: a.mean(dim=2), lambda a, b: [sum(row) / 3 for row in rows(a)]),
    "matmul": (lambda a, b: a @ b.transpose(1, 2), product),
    "softmax": (lambda a, b: torch.softmax(a, dim=2), by_rows(soft)),
    "layer norm": (lambda a, b: nnf.layer_norm(a, (3,)), by_rows(lambda row: normed(row, 1e-5, True))),
    "layer norm of all": (lambda a, b: nnf.layer_norm(a, SHAPE), lambda a, b: normed(a, 1e-5, True)),
    "group norm": (lambda a, b: nnf.group_norm(a, 2), by_rows(lambda row: normed(row, 1e-5, True))),
    "rms norm": (lambda a, b: nnf.rms_norm(a, (3,), eps=1e-3), by_rows(lambda row: normed(row, 1e-3, False))),
    "exp": (lambda a, b: torch.exp(a), lambda a, b: [mpmath.exp(v) for v in a]),
}


def drawn(generator: torch.Generator, width: float, apart: float) -> Pair:
    """Bounds on six values and on their differences; some of single numbers."""
    parts = torch.randn(4, *SHAPE, generator=generator, dtype=torch.float64)
    wide = width * parts[1].abs() * (torch.rand(SHAPE, generator=generator) > 0.2)
    below = apart * parts[2]
    return Pair(parts[0], parts[0] + wide, below, below + apart * parts[3].abs())


def between(low: torch.Tensor, high: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A point of a box, half of its entries at an end."""
    share = torch.rand(low.shape, generator=generator, dtype=torch.float64)
    share = torch.where(torch.rand(low.shape, generator=generator) < 0.5, share.round(), share)
    return torch.minimum(torch.maximum(low + (high - low) * share, low), high)


def floor_of(node: Node, pair: Pair, generator: torch.Generator) -> torch.Tensor | None:
    """Least deviations of what a normalisation reads, of which intervals are known."""

    def highest(rows: Objective) -> torch.Tensor:
        made = concretised(pair, rows)
        return made.constant + made.room

    def forms() -> Forms:
        """Near the values or not: what comes of them is a direction, and any direction gives a bound."""
        slopes = torch.randn(6, 2, generator=generator, dtype=torch.float64) * (pair.upper > pair.lower).any()
        ends = torch.ones(2, dtype=torch.float64)
        return Forms(slopes, pair.lower.flatten(), -ends, ends)

    return least_deviations(Call(node), True, pair, highest, forms)


def analysed(target: Target, node: Node, pairs: dict[str, Pair], generator: torch.Generator) -> Analysis:
    """What is known of a function, from bounds on what it reads."""
    known, steps = Analysis(pairs=dict(pairs)), Steps(target)
    for name, pair in pairs.items():
        error = torch.maximum(pair.below.abs(), pair.above.abs())
        known.states[name] = State(pair.lower, pair.upper, error, False, False)
    normalises = node.attributes.get("function") in NORMALISATIONS
    floor = floor_of(node, pairs[node.source], generator) if normalises else None
    after = steps(node, [known.states[source] for source in node.sources], floor=floor)
    known.states[node.name] = after
    follow(known, target.graph, Call(node, floor=floor), after)
    return known


@functools.cache
def traced(name: str) -> Target:
    """The function behind two layers."""
    return trace(Behind(FUNCTIONS[name][0]), torch.zeros(2, *SHAPE))


def exactly(parts: list[torch.Tensor]) -> list[Values]:
    """Their entries."""
    return [[mpmath.mpf(v) for v in part.flatten().tolist()] for part in parts]


def changes(one: Values, other: Values) -> Values:
    """The other less the one."""
    return [b - a for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=max(15, settings.default.max_examples // 2))
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e-3, 0.1, 1.0, 4.0]),
    st.sampled_from([0.0, 1e-9, 1e-2, 0.5]),
)
def test_no_point_is_above_a_form(name: str, seed: int, width: float, apart: float) -> None:
    target, exact = traced(name), FUNCTIONS[name][1]
    generator = torch.Generator().manual_seed(seed)
    layers = {use.name: drawn(generator, width, apart) for use in target.graph.weighted}
    node = target.graph.nodes[-1]
    pairs = {source: taken(name, layers, source) for source in node.sources}
    known = analysed(target, node, pairs, generator)
    state, pair = known.states[node.name], known.pair(node.name)
    assert known.follows(node)
    a, c = torch.randn(2, 3, *state.lower.shape, generator=generator, dtype=torch.float64)
    a = a * (torch.rand(a.shape, generator=generator) > 0.3)
    nothing = torch.zeros(3, dtype=torch.float64)
    made = carry(known, node, Objective(a, c, nothing, nothing))
    for _ in range(3):
        drawn_ = [[between(p.lower, p.upper, generator), between(p.below, p.above, generator)] for p in layers.values()]
        # Sums of products of numbers of float64 are exact with so many digits.
        with mpmath.workdps(150):
            t, e = exactly([part for part, _ in drawn_]), exactly([part for _, part in drawn_])
            s = [[x + y for x, y in zip(*both, strict=True)] for both in zip(t, e, strict=True)]
            # A layer that nothing reads is not there.
            value, ticket = (exact(*(values * 2)[:2]) for values in (t, s))
            change = changes(value, ticket)
            for low, high, found in ((pair.lower, pair.upper, value), (pair.below, pair.above, change)):
                ends = exactly([low, high])
                assert all(x <= v <= y for x, v, y in zip(ends[0], found, ends[1], strict=True))
            for row in range(3):
                bound = mpmath.mpf(float(made.constant[row])) + mpmath.mpf(float(made.room[row]))
                for source, part in made.parts:
                    bound += dot(part.value[row], numbers(name, layers, source, t))
                    bound += (
                        0 if part.difference is None else dot(part.difference[row], numbers(name, layers, source, e))
                    )
                assert dot(a[row], value) + dot(c[row], change) <= bound


CORNERS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)


@pytest.mark.parametrize("name", ["layer norm", "group norm", "rms norm", "softmax"])
def test_no_corner_is_farther_from_a_tangent_and_some_are_half_as_far(name: str) -> None:
    call = Call(traced(name).graph.nodes[-1])
    rule, generator = TANGENTS[call.name], torch.Generator().manual_seed(0)
    worst = [0.0] * 3
    for _ in range(60):
        parts = torch.rand(4, 1, *SHAPE, generator=generator, dtype=torch.float64)
        centre, half, error = 4 * parts[0] - 2, parts[1] * 10 ** (-3 * parts[3].amax()), 1e-3 * parts[2]
        made = rule(call, [Argument(centre, half, torch.zeros_like(centre), error)])
        assert made is not None
        slope = torch.autograd.functional.jacobian(call.module, centre).reshape(6, 6)
        values = centre + half * CORNERS[:, None]
        moves = error * CORNERS[:, None]
        before = call([values])
        away = (before - call([centre]) - ((values - centre).flatten(1) @ slope.T).reshape(before.shape)).abs()
        assert bool((away <= made.loose).all())
        worst[0] = max(worst[0], float((away / made.loose).max()))
        for change in moves:
            difference = call([values + change]) - before
            apart = (difference - (slope @ change.flatten()).reshape(difference.shape[1:])).abs()
            assert bool((apart <= made.loose_difference).all())
            worst[1] = max(worst[1], float((apart / made.loose_difference).max()))
            if made.sphere is not None:
                lengths = difference.reshape(len(values), -1, made.sphere.n).square().sum(dim=2).sqrt()
                assert bool((lengths <= made.sphere.difference + 3 * made.sphere.slack).all())
                worst[2] = max(worst[2], float((lengths / made.sphere.difference).max()))
    assert min(worst[:2]) > 0.4 and (made.sphere is None or worst[2] > 0.5)


@pytest.mark.parametrize("name", ["layer norm", "group norm", "rms norm", "layer norm of all"])
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([0.0, 0.1, 1.0]))
def test_no_deviation_is_below_the_least(name: str, seed: int, width: float, apart: float) -> None:
    """In neither network; for single numbers it is the deviation itself."""
    node, generator = traced(name).graph.nodes[-1], torch.Generator().manual_seed(seed)
    pair = drawn(generator, width, apart)
    floor = floor_of(node, pair, generator)
    assert floor is not None
    groups = floor.numel()
    for number in range(20):
        point = between(pair.lower, pair.upper, generator)
        if number % 2:
            point = point + between(pair.below, pair.above, generator)
        rows_ = point.reshape(groups, -1)
        middle = 0 if name == "rms norm" else rows_.mean(dim=1, keepdim=True)
        least = (rows_ - middle).square().mean(dim=1).sqrt()
        assert bool((floor.flatten() <= least).all())
        if width == apart == 0.0:
            # But for rounding, which goes by the size of the entries.
            assert bool((floor.flatten() >= least - 1e-11 * (1 + point.abs().max())).all())


def taken(name: str, layers: dict[str, Pair], source: str) -> Pair:
    """Bounds on what a function reads: a layer's values, or some of the second layer's in other places."""
    if source in layers:
        return layers[source]
    parts = vars(layers["b"]).values()
    return Pair(*(part[:, :1] if name == "mul, broadcast" else part.T for part in parts))


def numbers(name: str, layers: dict[str, Pair], source: str, values: list[Values]) -> Values:
    """The same, of numbers."""
    if source in layers:
        return values[list(layers).index(source)]
    both = rows(values[1])
    return [row[0] for row in both] if name == "mul, broadcast" else [row[k] for k in range(3) for row in both]


def dot(coefficients: torch.Tensor, values: Values) -> mpmath.mpf:
    """Of numbers of float64 and of others."""
    return sum((mpmath.mpf(c) * v for c, v in zip(coefficients.flatten().tolist(), values, strict=True)), mpmath.mpf(0))
