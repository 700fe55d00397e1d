"""Certificates over graphs with branches: no node of random ones outside its bounds, by any method; no tolerance."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from certify_checks import check, points, subject_of
from exact import Vector, fractions
from slth.certify.bounds import METHODS, bound
from slth.certify.propagation import propagated
from slth.certify.region import Box
from slth.domain import Domain
from test_certify_oracle import ONE as UNITY
from test_certify_oracle import ZERO, Form, Layer, affine, crossing, dense, patterns, realised
from zoo import Case, inputs, shake

# --- Random graphs --------------------------------------------------------------------------------------------------

_ROWS, _WIDTH = 3, 4
ONE = ("linear", "shared", "conv", "relu", "tanh", "sigmoid", "gelu", "elu", "clamp", "softmax", "softmax rows", "norm")
ONE += ("mean", "flip", "square", "scaled", "halves", "gru", "lstm", "rnn")
TWO = ("add", "sub", "mul", "cat", "matmul", "maximum", "attention", "mixture")
RECURRENT = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
_FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "elu": functional.elu,
    "clamp": lambda x: x.clamp(-0.3, 0.6),
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "softmax rows": lambda x: torch.softmax(2 * x, dim=1),
    "mean": lambda x: x - x.mean(dim=1, keepdim=True),
    "flip": lambda x: x.flip(1),
    "square": torch.square,
    "scaled": lambda x: -1.7 * x + 0.3,
    "halves": lambda x: torch.cat([functional.glu(x, dim=-1), x[..., :2]], dim=-1),
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "matmul": lambda x, y: x @ (x.transpose(1, 2) @ y),
    "mixture": lambda x, y: torch.lerp(x, y, torch.sigmoid(x)),
    "attention": lambda x, y: functional.scaled_dot_product_attention(x, y, x),
}


class RandomGraph(nn.Module):
    """Nodes of one shape, (3, 4), each of which reads one or two of those before it; one layer serves several."""

    def __init__(self, nodes: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.nodes, self.shared = nodes, nn.Linear(_WIDTH, _WIDTH)
        self.layers = nn.ModuleDict()
        for number, (kind, _, _) in enumerate(nodes):
            made = {
                "linear": lambda: nn.Linear(_WIDTH, _WIDTH),
                "cat": lambda: nn.Linear(2 * _WIDTH, _WIDTH),
                "conv": lambda: nn.Conv1d(_ROWS, _ROWS, 3, padding=1),
                "norm": lambda: nn.LayerNorm(_WIDTH),
                **{kind: lambda kind=kind: RECURRENT[kind](_WIDTH, _WIDTH, batch_first=True) for kind in RECURRENT},
            }.get(kind)
            if made is not None:
                self.layers[str(number)] = made()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last node's values, through a layer of their own."""
        values = [x]
        for number, (kind, one, other) in enumerate(self.nodes):
            a, b = (values[place % len(values)] for place in (one, other))
            if kind == "cat":
                values.append(self.layers[str(number)](torch.cat([a, b], dim=-1)))
            elif kind in RECURRENT:
                values.append(self.layers[str(number)](a)[0])
            elif str(number) in self.layers:
                values.append(self.layers[str(number)](a))
            elif kind == "shared":
                values.append(self.shared(a))
            else:
                values.append(_FUNCTIONS[kind](a) if kind in ONE else _FUNCTIONS[kind](a, b))
        return self.shared(values[-1])


@st.composite
def graphs(draw: st.DrawFn) -> RandomGraph:
    """A few nodes behind a layer, mostly reading the newest."""
    nodes = [("linear", 0, 0)]
    for number in range(1, draw(st.integers(3, 8))):
        kind = draw(st.sampled_from((*ONE, *TWO)))
        nodes.append((kind, number - draw(st.sampled_from([0, 0, 0, 1, 2, 3])), draw(st.integers(0, number))))
    return shake(RandomGraph(nodes), draw(st.integers(0, 2**32)), draw(st.sampled_from([0.2, 0.5, 1.0])))


@settings(max_examples=max(16, settings.default.max_examples // 2))
@given(graphs(), st.sampled_from([0.0, 1e-6, 0.01, 0.1, 1.0]), st.integers(4, 10), st.integers(0, 1000))
def test_no_node_of_a_random_graph_leaves_its_bounds(
    model: RandomGraph, radius: float, base_set_size: int, seed: int
) -> None:
    subject = subject_of(model, torch.zeros(2, _ROWS, _WIDTH), (-2, 2), base_set_size)
    centre = 2 * torch.rand(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    region = Box(centre - radius, centre + radius)
    check(subject, region, points(subject, region, 64, seed))


# --- Recurrent layers -----------------------------------------------------------------------------------------------


class Last(nn.Module):
    """A recurrent layer of two directions over five steps, and a layer on its values."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head = RECURRENT[kind](3, 4, batch_first=True, bidirectional=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two values a step."""
        return self.head(self.body(x)[0])


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("size", [0.3, 1.5])
def test_states_of_recurrent_layers_stay_between_one_and_minus_one(kind: str, size: float) -> None:
    """Where they begin at 0, whatever the weights are; over all steps and in both directions."""
    subject = subject_of(shake(Last(kind), 3, size), torch.zeros(2, 5, 3), (-1, 1), 10)
    region = Box(*Domain.parse((-1, 1)).bounds((5, 3)))
    check(subject, region, points(subject, region, 64), linear=size < 1)
    for name, state in propagated(subject.hidden, subject.realised, region.lower, region.upper).items():
        if subject.hidden.graph.by_name.get(name) and subject.hidden.graph.by_name[name].op == "recurrent":
            # Rounding included.
            assert bool((state.magnitude <= 1 + 1e-12).all()) and bool((state.error <= 2 + 1e-9).all())


# --- The largest difference of residual networks, by enumeration --------------------------------------------------


class Residual(nn.Module):
    """C (relu(B h) + h) of h = relu(A x); all layers see inputs that are not negative."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two values."""
        h = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(h)) + h)


def residual_vertices(networks: list[list[Layer]], low: Vector, high: Vector) -> set[tuple[Fraction, ...]]:
    """As :func:`vertices`: in each cell of the signs behind A, all points where kinks behind A or B, or sides, meet."""
    unit = [[UNITY, ZERO], [ZERO, UNITY]]
    planes = [(unit[i], -end[i]) for i in range(2) for end in (low, high)]
    firsts = [affine(layers[0][0], layers[0][2], [(row, ZERO) for row in unit]) for layers in networks]
    planes += [form for forms in firsts for form in forms]

    def inside(these: list[Form]) -> list[Vector]:
        points = [crossing(some) for some in itertools.combinations(these, 2)]
        return [x for x in points if x and all(a <= v <= b for a, v, b in zip(low, x, high, strict=True))]

    found: set[tuple[Fraction, ...]] = set()
    for signs in patterns([form for forms in firsts for form in forms], inside(planes)):
        kinks: list[Form] = []
        for number, (layers, forms) in enumerate(zip(networks, firsts, strict=True)):
            own = zip(forms, signs[3 * number : 3 * number + 3], strict=True)
            kinks += affine(layers[1][0], layers[1][2], [form if sign else ([ZERO] * 2, ZERO) for form, sign in own])
        found.update(tuple(x) for x in inside(planes + kinks))
    return found


def residual_value(layers: list[Layer], x: Vector) -> Vector:
    """The network at a point, exactly."""

    def through(layer: Layer, v: Vector) -> Vector:
        return [sum((w * a for w, a in zip(row, v, strict=True)), b) for row, b in zip(layer[0], layer[2], strict=True)]

    h = [max(v, ZERO) for v in through(layers[0], x)]
    return through(layers[2], [max(v, ZERO) + w for v, w in zip(through(layers[1], h), h, strict=True)])


@pytest.mark.parametrize("seed", range(6))
def test_the_true_maximum_of_a_residual_network_is_below_every_bound(seed: int) -> None:
    """All patterns of the twelve hidden neurons of both networks; the skip's part is not counted twice."""
    case = Case(shake(Residual(), seed, 0.7), (2,), {"base_set_size": 8, "domain": (0, 1), "seed": seed})
    target, ticket = case.target(), case.find()
    layers, region = realised(ticket), Box(*Domain.parse((0, 1)).bounds((2,)))
    networks = [
        [dense(layers[x.name].positive, layers[x.name].negative, layers[x.name].bias) for x in target],
        [dense(x.weight_array(), x.weight_array(), x.bias_array()) for x in target],
    ]
    truth = [ZERO] * 2
    for x in residual_vertices(networks, fractions(region.lower), fractions(region.upper)):
        ours, theirs = (residual_value(network, list(x)) for network in networks)
        truth = [max(most, abs(a - b)) for most, a, b in zip(truth, ours, theirs, strict=True)]
    found = {method: fractions(bound(target, layers, region, method).components) for method in METHODS}
    for limits in found.values():
        assert all(limit >= true for limit, true in zip(limits, truth, strict=True))
    assert max(found["linear"]) <= max(found["interval"]) <= max(found["norm"])
    assert max(found["linear"]) <= 3 * max(truth)
    for point in inputs((2,), 20, (0, 1), seed):
        ours, theirs = (residual_value(network, fractions(point)) for network in networks)
        assert all(abs(a - b) <= most for a, b, most in zip(ours, theirs, truth, strict=True))
