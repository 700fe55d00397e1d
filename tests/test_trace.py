"""Modules in memory: traced into the same function under the author's names, or refused by name before any work."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import Linear
from torch.nn.functional import pad, relu

from slth.errors import ArgumentError, SlthError, TargetError, UnsupportedError
from slth.network.target import Target
from slth.network.trace import trace
from slth.runtime import evaluate, target_module
from zoo import Case, LeNet5, cases, inputs, mlp, shake


class Forward(nn.Module):
    """Some layers and a function of them and the input."""

    def __init__(self, function: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function."""
        return self.function(self, x)


def same(model: nn.Module, shape: tuple[int, ...]) -> Target:
    """Trace a module on a batch of one and compare both on a batch of three, in float64."""
    model = shake(model, 0)
    target = trace(model, torch.zeros(1, *shape))
    x = inputs(shape, 3)
    expected = copy.deepcopy(model).double()(x)
    torch.testing.assert_close(evaluate(target, x), expected, rtol=1e-13, atol=1e-13)
    names = {key for key in model.state_dict() if key.rpartition(".")[0] in {layer.name for layer in target}}
    assert set(target_module(target).state_dict()) == names
    return target


@given(cases(), st.integers(1, 3))
def test_the_batch_traced_does_not_matter(case: Case, batch: int) -> None:
    one, other = case.target(), trace(case.model, torch.zeros(batch, *case.shape))
    assert one.digest() == other.digest() and one.graph == other.graph


def test_layers_keep_their_names_and_weights() -> None:
    target = same(LeNet5(), (1, 28, 28))
    assert [layer.name for layer in target] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [node.op for node in target.graph] == [
        *("conv", "relu", "max_pool") * 2,
        "reshape",
        *("linear", "relu") * 2,
        "linear",
    ]
    assert target.graph.shape_of("max_pool2d_1") == (16, 7, 7)
    assert sum(layer.n_weights for layer in target.layers[:2]) == 2572


POOLED_LAYERS: dict[str, nn.Module] = {"a": nn.Conv1d(2, 2, 1), "b": Linear(2, 1)}
SPELLINGS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "functions": (Forward(lambda m, x: m.b(relu(m.a(x))), a=Linear(5, 4), b=Linear(4, 2)), (5,)),
    "a method": (Forward(lambda m, x: m.b(m.a(x).relu()), a=Linear(5, 4), b=Linear(4, 2)), (5,)),
    "in place": (nn.Sequential(Linear(5, 4), nn.ReLU(inplace=True), Linear(4, 2)), (5,)),
    "dropout": (
        nn.Sequential(Linear(5, 4), nn.Dropout(), nn.AlphaDropout(), nn.Identity()),
        (5,),
    ),
    "flatten": (Forward(lambda m, x: m.a(x.flatten(1)), a=Linear(6, 2)), (2, 3)),
    "view": (Forward(lambda m, x: m.a(x.view(x.shape[0], -1)), a=Linear(6, 2)), (2, 3)),
    "reshape": (Forward(lambda m, x: m.a(x.reshape(-1, 6)), a=Linear(6, 2)), (2, 3)),
    "unflatten": (nn.Sequential(Linear(6, 6), nn.Unflatten(1, (2, 3)), Linear(3, 1)), (6,)),
    "squeeze": (Forward(lambda m, x: m.b(m.a(x).squeeze(1)), a=nn.Conv1d(2, 1, 3), b=Linear(4, 2)), (2, 6)),
    "unsqueeze": (Forward(lambda m, x: m.a(x.unsqueeze(1)), a=nn.Conv1d(1, 2, 3)), (6,)),
    "nested": (nn.Sequential(nn.Sequential(Linear(3, 3), nn.ReLU()), nn.ModuleList([Linear(3, 2)])[0]), (3,)),
    "a branch that leads nowhere": (
        Forward(lambda m, x: (m.b(x), m.a(x))[1], a=Linear(3, 3), b=Linear(3, 3)),
        (3,),
    ),
    "features padded": (Forward(lambda m, x: m.a(pad(x, (1, 2))), a=Linear(8, 2)), (5,)),
    "channels padded": (Forward(lambda m, x: m.a(pad(x, (0, 0, 1, 1))), a=nn.Conv1d(4, 2, 3)), (2, 6)),
    "cropped": (Forward(lambda m, x: m.a(pad(x, (-1, 1))), a=nn.Conv1d(2, 2, 3)), (2, 6)),
    "a layer called relu": (
        Forward(lambda m, x: m.relu(relu(m.a(x))), a=Linear(5, 4), relu=Linear(4, 2)),
        (5,),
    ),
    "a layer called relu first": (
        Forward(lambda m, x: m.a(relu(m.relu(x))), relu=Linear(5, 4), a=Linear(4, 2)),
        (5,),
    ),
    "layers inside relu": (
        Forward(lambda m, x: m.a(relu(m.relu(x))), relu=nn.Sequential(Linear(5, 4)), a=Linear(4, 2)),
        (5,),
    ),
    "a layer called paths": (Forward(lambda m, x: m.paths(x), paths=Linear(5, 4)), (5,)),
    "adaptive to a divisor": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d((2, None)), nn.ReLU()), (2, 6, 6)),
    "adaptive maximum": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveMaxPool2d((2, None)), nn.ReLU()), (2, 6, 6)),
    "adaptive maxima": (
        nn.Sequential(nn.AdaptiveMaxPool1d(6), nn.Conv1d(2, 2, 1), nn.AdaptiveMaxPool1d(3), nn.AdaptiveMaxPool1d(1)),
        (2, 12),
    ),
    "adaptive maximum in space": (nn.Sequential(nn.Conv3d(1, 2, 1), nn.AdaptiveMaxPool3d(2)), (1, 4, 2, 6)),
    "maxima with indices": (
        Forward(lambda m, x: m.b(nn.functional.max_pool1d(m.a(x), 2, return_indices=True)[0]), **POOLED_LAYERS),
        (2, 4),
    ),
    "another shape": (nn.Sequential(Linear(4, 3), nn.ReLU(), Linear(3, 2)), (5, 4)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_many_spellings_of_a_network(name: str) -> None:
    same(*SPELLINGS[name])


def test_a_branch_that_leads_nowhere_is_left_out() -> None:
    assert [layer.name for layer in same(*SPELLINGS["a branch that leads nowhere"])] == ["a"]


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "batch norm": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2)), (2, 4), "fuse_conv_bn_eval"),
    "mish": (nn.Sequential(Linear(2, 2), nn.Mish()), (2,), "mish.*activation that is covered: relu"),
    "a prelu for each channel": (nn.Sequential(Linear(2, 2), nn.PReLU(2)), (2,), r"2 slopes.*PReLU\(1\)"),
    "a prelu without numbers": (nn.Sequential(Linear(2, 2), nn.PReLU(init=float("nan"))), (2,), "slope: nan"),
    "an elu of another scale": (
        Forward(lambda m, x: torch.ops.aten.elu(m.a(x), 1.0, 2.0), a=Linear(2, 2)),
        (2,),
        "scale 2",
    ),
    "a softplus with a low threshold": (nn.Sequential(Linear(2, 2), nn.Softplus(1, 0.5)), (2,), "threshold: 0.5"),
    "softmax": (nn.Sequential(Linear(2, 2), nn.Softmax(1)), (2,), "logits"),
    "a sum": (Forward(lambda m, x: m.a(x) + x, a=Linear(2, 2)), (2,), "residual"),
    "a factor": (Forward(lambda m, x: m.a(x) * 2, a=Linear(2, 2)), (2,), "folding"),
    "concatenation": (Forward(lambda m, x: torch.cat([m.a(x), x], 1), a=Linear(2, 2)), (2,), "cat"),
    "a transposed convolution": (nn.Sequential(nn.ConvTranspose2d(2, 2, 2)), (2, 3, 3), "transpose"),
    "a permutation": (Forward(lambda m, x: m.a(x.transpose(1, 2)), a=Linear(2, 2)), (2, 3), "transpose"),
    "a shared layer": (Forward(lambda m, x: m.a(relu(m.a(x))), a=Linear(2, 2)), (2,), "share"),
    "no weights": (nn.ReLU(), (2,), "weight layer"),
    "an output of the input's": (Forward(lambda m, x: relu(x), a=Linear(2, 2)), (2,), "weight layer"),
    "control flow": (Forward(lambda m, x: m.a(x) if x.sum() > 0 else x, a=Linear(2, 2)), (2,), "control flow"),
    "across the batch": (Forward(lambda m, x: m.a(x).reshape(-1, 3), a=Linear(6, 6)), (6,), "batch"),
    "padding with ones": (
        Forward(lambda m, x: m.a(pad(x, (1, 1), value=1.0)), a=Linear(4, 2)),
        (2,),
        "padding with 0",
    ),
    "pooling that does not divide": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.AdaptiveAvgPool1d(3)), (2, 7), "divides"),
    "maxima that do not divide": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.AdaptiveMaxPool1d(3)), (2, 7), "divides"),
    "indices of maxima": (
        Forward(lambda m, x: m.b(nn.functional.max_pool1d(m.a(x), 2, return_indices=True)[1].float()), **POOLED_LAYERS),
        (2, 4),
        "return_indices",
    ),
    "a divisor": (nn.Sequential(nn.Conv2d(2, 2, 1), nn.AvgPool2d(2, divisor_override=3)), (2, 4, 4), "divisor"),
    "a weight that is computed": (nn.utils.parametrizations.weight_norm(Linear(2, 2)), (2,), "remov|norm|parametri"),
    "an input that does not fit": (Linear(3, 2), (2,), "fits the network"),
    "a lazy layer": (nn.LazyLinear(2), (2,), "lazy"),
    "without a channel axis": (nn.Conv1d(1, 1, 2), (5,), "batch axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_by_name(name: str) -> None:
    model, shape, word = REFUSED[name]
    with pytest.raises(SlthError, match=f"(?i){word}") as refused:
        trace(model, torch.zeros(1, *shape))
    assert "\n" not in str(refused.value)


def test_two_outputs_and_two_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="2 outputs"):
        trace(Forward(lambda m, x: (m.a(x), m.a(x)), a=nn.Linear(2, 2)), torch.zeros(1, 2))


def test_an_example_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ArgumentError, match="unsqueeze"):
        trace(mlp((3, 2)), torch.zeros(3))


def test_a_layer_within_a_layer_is_refused() -> None:
    outer = nn.Linear(2, 2)
    outer.add_module("inner", nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="inside another"):
        trace(Forward(lambda m, x: m.a(m.a.inner(x)), a=outer), torch.zeros(1, 2))


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_was(training: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2)).train(training)
    model[1].train(not training)
    before = copy.deepcopy(model.state_dict())
    trace(model, torch.zeros(1, 3))
    assert [m.training for m in model.modules()] == [training, training, not training, training]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.raises(TargetError):
        trace(model, torch.zeros(1, 4))
    assert [m.training for m in model.modules()] == [training, training, not training, training]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_precision_is_read_exactly(dtype: torch.dtype) -> None:
    model = mlp((3, 2)).to(dtype)
    target = trace(model, torch.zeros(1, 3, dtype=dtype))
    assert target.layers[0].weight_array().tolist() == [[[w] for w in row] for row in model[0].weight.double().tolist()]
    assert target.digest() == trace(copy.deepcopy(model).double(), torch.zeros(1, 3).double()).digest()
