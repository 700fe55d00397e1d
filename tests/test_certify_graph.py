"""Certificates over graphs with branches: no node of random ones outside its bounds, by any method; no tolerance."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from certify_checks import check, points, subject_of
from slth.certify.region import Box
from zoo import shake

# --- Random graphs --------------------------------------------------------------------------------------------------

_ROWS, _WIDTH = 3, 4
ONE = ("linear", "shared", "conv", "relu", "tanh", "sigmoid", "gelu", "elu", "clamp", "softmax", "softmax rows", "norm")
ONE += ("mean", "flip", "square", "scaled", "halves")
TWO = ("add", "sub", "mul", "cat", "matmul", "maximum", "attention")
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


@settings(max_examples=max(40, settings.default.max_examples))
@given(graphs(), st.sampled_from([0.0, 1e-6, 0.01, 0.1, 1.0]), st.integers(4, 10), st.integers(0, 1000))
def test_no_node_of_a_random_graph_leaves_its_bounds(
    model: RandomGraph, radius: float, base_set_size: int, seed: int
) -> None:
    subject = subject_of(model, torch.zeros(2, _ROWS, _WIDTH), (-2, 2), base_set_size)
    centre = 2 * torch.rand(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    region = Box(centre - radius, centre + radius)
    check(subject, region, points(subject, region, 64, seed))
