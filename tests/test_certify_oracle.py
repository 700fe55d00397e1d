"""Bounds beside what is true: the largest difference, by enumeration, and the relaxation in exact arithmetic.

Everything here is compared in rational numbers (or in 50 digits, where functions are not rational), with no tolerance.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from exact import Vector, exact_folded, exact_sparse, exact_target, fixed_of, fractions, weights_of
from slth.certify.backward import one_each
from slth.certify.bounds import METHODS, bound
from slth.certify.linear import Analysis, LinearBounds
from slth.certify.propagation import RULES
from slth.certify.region import Ball, Box
from slth.certify.relaxation import Pair, ends, relax
from slth.certify.state import State
from slth.copies import realise_all
from slth.domain import Domain
from slth.network.graph import Node
from slth.network.target import Target
from slth.runtime import target_module
from test_certify_activation import NODES
from test_certify_activation import exact as smooth
from zoo import Case, cases, inputs, mlp

ZERO, ONE = Fraction(0), Fraction(1)
Form = tuple[Vector, Fraction]
"""<a, x> + c in the network's input x."""


def realised(ticket: slth.Ticket) -> dict[str, Any]:
    """Slopes of every layer."""
    return realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])


# --- The largest difference, by enumeration -------------------------------------------------------------------------


def at(form: Form, x: Vector) -> Fraction:
    """The form's value."""
    return sum((a * v for a, v in zip(form[0], x, strict=True)), form[1])


def crossing(forms: tuple[Form, ...]) -> Vector | None:
    """The only point where all of as many forms as there are inputs are 0; None where there is none or more."""
    rows = [[*a, -c] for a, c in forms]
    n = len(rows)
    for column in range(n):
        pivot = next((row for row in range(column, n) if rows[row][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [v / rows[column][column] for v in rows[column]]
        for row in range(n):
            if row != column and rows[row][column]:
                factor = rows[row][column]
                rows[row] = [v - factor * p for v, p in zip(rows[row], rows[column], strict=True)]
    return [row[n] for row in rows]


def patterns(forms: list[Form], points: list[Vector]) -> set[tuple[bool, ...]]:
    """Signs that the forms can have together: those beside each vertex, where forms are 0, in both ways."""
    found = set()
    for x in points:
        signs = [at(form, x) for form in forms]
        found |= set(itertools.product(*[(v > 0,) if v else (False, True) for v in signs]))
    return found


def affine(rows: list[Vector], bias: Vector, forms: list[Form]) -> list[Form]:
    """Forms behind a weight matrix."""
    n = len(forms[0][0])
    made = []
    for row, b in zip(rows, bias, strict=True):
        a = [sum((w * form[0][i] for w, form in zip(row, forms, strict=True)), ZERO) for i in range(n)]
        made.append((a, sum((w * form[1] for w, form in zip(row, forms, strict=True)), b)))
    return made


Layer = tuple[list[Vector], list[Vector], Vector]
"""Rows for inputs above and below 0, and the bias."""


def dense(weight: np.ndarray, other: np.ndarray, bias: np.ndarray | None) -> Layer:
    """Of one Linear layer, exactly."""
    parts = [[fractions(row) for row in part[:, :, 0]] for part in (weight, other)]
    return parts[0], parts[1], [ZERO] * len(weight) if bias is None else fractions(bias)


def vertices(networks: list[list[Layer]], low: Vector, high: Vector) -> set[tuple[Fraction, ...]]:
    """All points between which both networks are affine: no difference is larger anywhere than at one of them.

    In a cell of fixed signs of all neurons (and of the inputs, where slopes depend on them) the difference is affine,
    so that it is largest at a vertex of the cell, where as many kinks or sides of the box meet as there are inputs.
    """
    n = len(low)
    unit = [[ONE if i == j else ZERO for j in range(n)] for i in range(n)]
    sides = [(unit[i], -end[i]) for i in range(n) for end in (low, high)]
    found: set[tuple[Fraction, ...]] = set()

    def inside(planes: list[Form]) -> list[Vector]:
        points = [crossing(some) for some in itertools.combinations(planes, n)]
        return [x for x in points if x and all(a <= v <= b for a, v, b in zip(low, x, high, strict=True))]

    def walk(cell: tuple[bool, ...], level: int, planes: list[Form], before: list[list[Form]]) -> None:
        made, kinks = [], []
        for network, forms in zip(networks, before, strict=True):
            positive, negative, bias = network[level]
            # Behind ReLU nothing is below 0.
            rows = _chosen(positive, negative, cell) if level == 0 else positive
            made.append(affine(rows, bias, forms))
            kinks += made[-1]
        planes = planes + kinks
        points = inside(planes)
        if level == len(networks[0]) - 2:
            found.update(tuple(x) for x in points)
            return
        for signs in patterns(kinks, points):
            behind, start = [], 0
            for forms in made:
                own = signs[start : start + len(forms)]
                start += len(forms)
                behind.append([form if sign else ([ZERO] * n, ZERO) for form, sign in zip(forms, own, strict=True)])
            walk(cell, level + 1, planes, behind)

    given = [(unit[i], ZERO) for i in range(n)]
    planes = sides + [form for i, form in enumerate(given) if low[i] < 0 < high[i]]
    for cell in patterns(given, inside(planes)):
        walk(cell, 0, planes, [given] * len(networks))
    return found


def _chosen(positive: list[Vector], negative: list[Vector], cell: tuple[bool, ...]) -> list[Vector]:
    """The rows for the signs of the network's inputs."""
    pairs = zip(positive, negative, strict=True)
    return [[p if sign else q for p, q, sign in zip(one, other, cell, strict=True)] for one, other in pairs]


def largest_difference(target: Target, layers: Any, low: Vector, high: Vector) -> Vector:
    """The largest |ticket - target| of every output over a box, exactly."""
    ours = [dense(layers[x.name].positive, layers[x.name].negative, layers[x.name].bias) for x in target]
    theirs = [dense(x.weight_array(), x.weight_array(), x.bias_array()) for x in target]
    nets = exact_folded(target, layers), exact_target(target)
    points = [list(x) for x in vertices([ours, theirs], low, high)]
    differences = [[abs(a - b) for a, b in zip(nets[0](x), nets[1](x), strict=True)] for x in points]
    return [max(one[i] for one in differences) for i in range(len(differences[0]))]


ENUMERATED = [
    ((2, 6, 2), (0, 1)),
    ((2, 6, 2), (-1, 1)),
    ((3, 4, 1), (0, 1)),
    ((2, 3, 3, 2), (0, 1)),
    ((2, 3, 3, 2), (-0.5, 0.25)),
]


@pytest.mark.parametrize(("widths", "box"), ENUMERATED)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_maximum_is_below_every_bound(widths: tuple[int, ...], box: tuple[float, float], seed: int) -> None:
    """Up to 12 hidden neurons in the two networks together, all patterns of which are enumerated."""
    case = Case(
        mlp(widths, seed=seed), widths[:1], {"base_set_size": 8, "domain": box, "tolerance": 0.05, "seed": seed}
    )
    target, ticket = case.target(), case.find()
    layers = realised(ticket)
    region = Box(*Domain.parse(box).bounds(widths[:1]))
    truth = largest_difference(target, layers, fractions(region.lower), fractions(region.upper))
    found = {method: fractions(bound(target, layers, region, method).components) for method in METHODS}
    for limits in found.values():
        assert all(limit >= true for limit, true in zip(limits, truth, strict=True))
    assert all(a <= b for a, b in itertools.pairwise([max(found[method]) for method in reversed(METHODS)]))
    assert max(found["linear"]) <= 12 * max(truth)
    # The enumeration itself: no point that is tried is above what it calls the largest.
    nets = exact_folded(target, layers), exact_target(target)
    for x in inputs(widths[:1], 40, box, seed):
        pair = [net(fractions(x)) for net in nets]
        assert all(abs(a - b) <= true for a, b, true in zip(*pair, truth, strict=True))


# --- The network in rational numbers --------------------------------------------------------------------------------


@settings(max_examples=max(12, settings.default.max_examples // 2))
@given(cases(5), st.sampled_from([(0, 1), (-1, 1), (-2, 0), (-1e3, 1e3)]), st.integers(0, 1000))
def test_no_exact_difference_is_above_any_bound(case: Case, box: Any, seed: int) -> None:
    """The pruned source itself, by its surviving weights, whose slopes nobody has rounded."""
    target = case.target()
    ticket = case.find(target, domain=None)
    layers, region = realised(ticket), Box(*Domain.parse(box).bounds(case.shape))
    nets = exact_sparse(target, ticket), exact_target(target)
    limits = [fractions(bound(target, layers, region, method).components) for method in METHODS]
    for x in inputs(case.shape, 2, box, seed):
        pair = [net(fractions(x)) for net in nets]
        for limit in limits:
            assert all(abs(a - b) <= most for a, b, most in zip(*pair, limit, strict=True))


# --- The backward pass in rational numbers --------------------------------------------------------------------------


class Backward:
    """Objectives carried back in rational arithmetic, along the same lines as those of the relaxation."""

    def __init__(self, linear: LinearBounds, known: Analysis, region: Box) -> None:
        self.linear, self.known, self.region = linear, known, region
        self.shapes = {node.name: node.shape for node in linear.target.graph}

    def highest(self, node: Node | None, a: Vector, c: Vector) -> Fraction:
        """The largest value of <a, x> + <c, e> at a node, as far as lines tell; nothing is rounded."""
        constant = ZERO
        kinks = [ZERO] * len(a)
        while node is not None:
            shape = self.shapes.get(node.source, self.linear.target.graph.input_shape)
            n = math.prod(shape)
            if node.name in self.known.joints:
                a, c, kinks, more = self._weights(node, a, c, shape)
            elif node.name in self.known.winners:
                a, c, more = self._winners(node, a, c, n)
            elif node.op in ("reshape", "pad", "average_pool"):
                rows = fixed_of(node, shape)
                a, c, more = back(rows, a, n), back(rows, c, n), ZERO
            else:
                a, c, more = self._lines(node, a, c)
            constant += more
            kinks = kinks if len(kinks) == len(a) and node.name in self.known.joints else [ZERO] * len(a)
            node = self.linear.nodes.get(node.source)
        ends_ = zip(a, kinks, fractions(self.region.lower), fractions(self.region.upper), strict=True)
        return constant + sum(
            (
                max(v * x + k * abs(x) for x in (low, high, *([ZERO] if low < 0 < high else [])))
                for v, k, low, high in ends_
            ),
            ZERO,
        )

    def _weights(
        self, node: Node, a: Vector, c: Vector, shape: tuple[int, ...]
    ) -> tuple[Vector, Vector, Vector, Fraction]:
        joint, n = self.known.joints[node.name], math.prod(shape)
        state = self.known.states[node.source]
        layer, own = self.linear.layers[node.name], self.linear.realised[node.name]
        form = node.attributes["weight_shape"]
        weight = torch.from_numpy(layer.weight_array()).reshape(form)
        n_outputs = len(a) // len(weight) if node.op != "linear" else 1
        repeats = len(a) // len(weight)

        def spread(numbers: Vector) -> Vector:
            return numbers * repeats if node.op == "linear" else [v for v in numbers for _ in range(n_outputs)]

        bias = spread(fractions(joint.bias))
        plain = weights_of(node, weight, shape)
        made, constant = back(plain, a, n), sum((v * b for v, b in zip(a, bias, strict=True)), ZERO)
        assert joint.maps is not None
        positive, negative = (
            weights_of(node, torch.from_numpy(p).reshape(form), shape) for p in (own.positive, own.negative)
        )
        ours, others, theirs = back(positive, c, n), back(negative, c, n), back(plain, c, n)
        if joint.maps.kink is None:
            slope = ours if state.nonnegative or not state.nonpositive else others
            kinks = [ZERO] * n
        else:
            slope = [(p + q) / 2 for p, q in zip(ours, others, strict=True)]
            kinks = [(p - q) / 2 for p, q in zip(ours, others, strict=True)]
        made = [v + s - t for v, s, t in zip(made, slope, theirs, strict=True)]
        own_bias = spread([ZERO] * len(weight) if own.bias is None else fractions(own.bias))
        constant += sum((v * (p - b) for v, p, b in zip(c, own_bias, bias, strict=True)), ZERO)
        if node.source != "input":
            reach = zip(fractions(state.lower), fractions(state.upper), fractions(state.error), strict=True)
            constant += sum(
                (abs(k) * (max(-low, high) + e) for k, (low, high, e) in zip(kinks, reach, strict=True)), ZERO
            )
            kinks = [ZERO] * n
        return made, slope, kinks, constant

    def _lines(self, node: Node, a: Vector, c: Vector) -> tuple[Vector, Vector, Fraction]:
        lines, constant, made = self.known.lines[node.name], ZERO, []
        for part, pair in ((a, lines.value), (c, lines.difference)):
            slopes, intercepts = ([fractions(getattr(line, name)) for line in pair] for name in ("slope", "intercept"))
            made.append([v * slopes[v > 0][i] for i, v in enumerate(part)])
            constant += sum((v * intercepts[v > 0][i] for i, v in enumerate(part)), ZERO)
        return made[0], made[1], constant

    def _winners(self, node: Node, a: Vector, c: Vector, n: int) -> tuple[Vector, Vector, Fraction]:
        won, constant = self.known.winners[node.name], ZERO
        made, difference = [ZERO] * n, [ZERO] * n
        per_channel = math.prod(node.shape[1:])
        size = n // node.shape[0]
        top, below, above = (fractions(part) for part in (won.top, won.below, won.above))
        for i, (place, certain) in enumerate(
            zip(won.place.flatten().tolist(), won.certain.flatten().tolist(), strict=True)
        ):
            at_ = i // per_channel * size + place
            if certain:
                difference[at_] += c[i]
            else:
                constant += c[i] * (above[i] if c[i] > 0 else below[i])
            if certain or a[i] < 0:
                made[at_] += a[i]
            else:
                constant += a[i] * top[i]
        return made, difference, constant


def back(rows: Any, a: Vector, n: int) -> Vector:
    """A matrix's transpose."""
    made = [ZERO] * n
    for row, v in zip(rows, a, strict=True):
        if v:
            for j, w in row:
                made[j] += v * w
    return made


@settings(max_examples=max(15, settings.default.max_examples // 2))
@given(cases(5), st.sampled_from([(0, 1), (-1, 1), (-2, 0), (0.3, 0.3), (-1e3, 1e3)]), st.integers(0, 1000))
def test_the_bound_is_above_the_same_bound_without_rounding(case: Case, box: Any, seed: int) -> None:
    """Dense and convolutional networks; also, for a few outputs, not far above."""
    target = case.target()
    layers, region = realised(case.find(target, domain=None)), Box(*Domain.parse(box).bounds(case.shape))
    linear = LinearBounds(target, layers)
    known = linear.analyse(region)
    node = target.graph.nodes[-1]
    n = math.prod(node.shape)
    generator = np.random.default_rng(seed)
    oracle = Backward(linear, known, region)
    for i in generator.integers(0, n, 2).tolist():
        values, differences = one_each(node.shape, range(i, i + 1), None)
        unit = [ONE if j == i else ZERO for j in range(n)]
        nothing = [ZERO] * n
        for rows, exact in ((values, (unit, nothing)), (differences, (nothing, unit))):
            with torch.no_grad():
                found = Fraction(float(linear.highest(known, region, node, rows)))
            wanted = oracle.highest(node, *exact)
            assert found >= wanted
            reach = Fraction(float(max(s.magnitude.max() + s.error.max() for s in known.states.values()))) + 1
            assert found - wanted <= reach * Fraction(1, 10**6)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 2]), st.floats(-300, 150), st.floats(-300, 150))
def test_a_ball_reaches_as_far_as_it_says(seed: int, n: int, p: int, one: float, other: float) -> None:
    """The dual norm, for numbers whose squares underflow too."""
    generator = np.random.default_rng(seed)
    centre, row = (torch.from_numpy(generator.normal(size=n) * 10**size) for size in (other, one))
    radius = float(abs(generator.normal()) * 10**other)
    found = Fraction(float(Ball(centre, radius, p).highest(row[None], None)))
    exact = sum((a * b for a, b in zip(fractions(row), fractions(centre), strict=True)), ZERO)
    rest = found - exact
    if p == 1:
        assert rest >= Fraction(radius) * max(map(abs, fractions(row)))
    else:
        assert rest >= 0
        assert rest**2 >= Fraction(radius) ** 2 * sum((v * v for v in fractions(row)), ZERO)


# --- Lines ----------------------------------------------------------------------------------------------------------


def _pairs(seed: int, scale: float, n: int = 60) -> Pair:
    generator = np.random.default_rng(seed)
    parts = torch.from_numpy(generator.normal(size=(4, n)) * scale)
    parts[1] *= torch.from_numpy(generator.choice([0.0, 1e-9, 1.0], n))
    parts[3] *= torch.from_numpy(generator.choice([0.0, 1e-12, 1e-3, 1.0], n))
    return Pair(parts[0], parts[0] + parts[1].abs(), parts[2], parts[2] + parts[3].abs())


def function_of(node: Node, x: Any) -> Any:
    """What an activation computes, in 50 digits."""
    match node.op:
        case "relu":
            return max(x, mpmath.mpf(0))
        case "leaky_relu":
            return x if x > 0 else mpmath.mpf(node.attributes["slope"]) * x
        case "hardtanh":
            return min(max(x, mpmath.mpf(node.attributes["low"])), mpmath.mpf(node.attributes["high"]))
    return smooth(node, x)


@pytest.mark.parametrize("name", NODES)
@given(st.integers(0, 10**6), st.sampled_from([1e-160, 1e-3, 1.0, 30.0]), st.integers(0, 10**6))
def test_lines_hold_exactly(name: str, seed: int, scale: float, other: int) -> None:
    """For numbers that are not round, with the function itself in 50 digits."""
    node, before = NODES[name], _pairs(seed, scale)
    error = torch.maximum(before.below.abs(), before.above.abs())
    after = RULES[node.op](node, State(before.lower, before.upper, error, False, False))
    lines = relax(node, before, after)
    bounds = ends(lines, before, after)
    shares = np.random.default_rng(other).choice([0.0, 1.0, 0.5, 0.123], (2, len(error)))
    t = before.lower + (before.upper - before.lower) * torch.from_numpy(shares[0])
    d = before.below + (before.above - before.below) * torch.from_numpy(shares[1])
    t, d = (
        torch.minimum(torch.maximum(t, before.lower), before.upper),
        torch.minimum(torch.maximum(d, before.below), before.above),
    )
    with mpmath.workdps(50):
        for i in range(len(t)):
            x = mpmath.mpf(float(t[i]))
            y = x + mpmath.mpf(float(d[i]))
            value = function_of(node, x)
            difference = function_of(node, y) - value
            for v, place, (low, high) in ((value, t, lines.value), (difference, d, lines.difference)):
                p = mpmath.mpf(float(place[i]))
                assert mpmath.mpf(float(low.slope[i])) * p + mpmath.mpf(float(low.intercept[i])) <= v
                assert mpmath.mpf(float(high.slope[i])) * p + mpmath.mpf(float(high.intercept[i])) >= v
            assert float(bounds.below[i]) <= difference <= float(bounds.above[i])


# --- Another library ------------------------------------------------------------------------------------------------


def test_beside_auto_lirpa() -> None:
    """Backward relaxation of each network alone, which loses what they have in common, is no tighter."""
    auto_lirpa = pytest.importorskip("auto_LiRPA")
    case = Case(mlp((6, 20, 10, 3)), (6,), {"base_set_size": 10, "domain": (0, 1)})
    target, ticket = case.target(), case.find()
    layers, x = realised(ticket), torch.full((1, 6), 0.5)
    low, high = x - 0.05, x + 0.05

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ours, self.theirs = ticket.module("folded").float(), target_module(target, torch.float32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.ours(x) - self.theirs(x)

    model = auto_lirpa.BoundedModule(Difference(), x)
    ball = auto_lirpa.PerturbationLpNorm(norm=math.inf, x_L=low, x_U=high)
    least, most = model.compute_bounds(x=(auto_lirpa.BoundedTensor(x, ball),), method="CROWN")
    own = bound(target, layers, Box(low[0].double(), high[0].double()), "linear").components
    assert bool((own <= torch.maximum(least.abs(), most.abs()).flatten() * 1.05).all())
