"""Modules in memory: traced into the same function under the author's names, or refused by name before any work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import Linear
from torch.nn.functional import pad, relu

from slth import find_ticket, load
from slth.errors import ArgumentError, SlthError, TargetError, UnsupportedError
from slth.network.accounts import ticketed_share
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


OTHERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "batch norm": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2)), (2, 4)),
    "mish": (nn.Sequential(Linear(2, 2), nn.Mish()), (2,)),
    "a prelu for each channel": (nn.Sequential(Linear(2, 2), nn.PReLU(2)), (2,)),
    "an elu of another scale": (Forward(lambda m, x: torch.ops.aten.elu(m.a(x), 1.0, 2.0), a=Linear(2, 2)), (2,)),
    "a softplus with a low threshold": (nn.Sequential(Linear(2, 2), nn.Softplus(1, 0.5)), (2,)),
    "softmax": (nn.Sequential(Linear(2, 2), nn.Softmax(1)), (2,)),
    "a sum": (Forward(lambda m, x: m.a(x) + x, a=Linear(2, 2)), (2,)),
    "a factor": (Forward(lambda m, x: m.a(x) * 2, a=Linear(2, 2)), (2,)),
    "concatenation": (Forward(lambda m, x: torch.cat([m.a(x), x], 1), a=Linear(2, 2)), (2,)),
    "a transposed convolution": (nn.Sequential(nn.ConvTranspose2d(2, 2, 2)), (2, 3, 3)),
    "a permutation": (Forward(lambda m, x: m.a(x.transpose(1, 2)), a=Linear(2, 2)), (2, 2)),
    "a shared layer": (Forward(lambda m, x: m.a(relu(m.a(x))), a=Linear(2, 2)), (2,)),
    "padding with ones": (Forward(lambda m, x: m.a(pad(x, (1, 1), value=1.0)), a=Linear(4, 2)), (2,)),
    "pooling that does not divide": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.AdaptiveAvgPool1d(3)), (2, 7)),
    "maxima that do not divide": (nn.Sequential(nn.Conv1d(2, 2, 1), nn.AdaptiveMaxPool1d(3)), (2, 7)),
    "a divisor": (nn.Sequential(nn.Conv2d(2, 2, 1), nn.AvgPool2d(2, divisor_override=3)), (2, 4, 4)),
    "a weight that is computed": (nn.utils.parametrizations.weight_norm(Linear(2, 2)), (2,)),
    "time steps as examples": (
        Forward(lambda m, x: m.a(x.flatten(0, 1)).unflatten(0, (-1, 3)).mean(1), a=nn.Conv1d(2, 3, 2)),
        (3, 2, 5),
    ),
    "a layer in a context": (Forward(lambda m, x: _in_contexts(m.a, x), a=Linear(2, 2)), (2,)),
    "a slice that is written to": (Forward(lambda m, x: _written(m.a(x), x), a=Linear(3, 3)), (3,)),
    "changes in place, one after another": (
        Forward(lambda m, x: m.a(x).add_(x).relu_().mul_(2.0), a=Linear(3, 3)),
        (3,),
    ),
}


def _in_contexts(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        x = layer(x)
    with torch.enable_grad():
        return layer(x)


def _written(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    before = y[:, 1]
    y[:, 0] = x[:, 1]
    y[:, 1:].mul_(3)
    return y + before[:, None] + y.clone().masked_fill_(y > 0, 1.0)


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_weights_is_kept_and_the_rest_ticketed(name: str) -> None:
    model, shape = OTHERS[name]
    model = shake(model, 0)
    target = trace(model, torch.zeros(1, *shape))
    x = inputs(shape, 3)
    torch.testing.assert_close(evaluate(target, x), copy.deepcopy(model).double()(x), rtol=1e-6, atol=1e-6)
    assert ticketed_share(target.accounts) == 1.0 and not target.kept


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "a prelu without numbers": (nn.Sequential(Linear(2, 2), nn.PReLU(init=float("nan"))), (2,), "nan at index"),
    "no weights": (nn.ReLU(), (2,), "weight layer"),
    "an output of the input's": (Forward(lambda m, x: relu(x), a=Linear(2, 2)), (2,), "weight layer"),
    "the input": (Forward(lambda m, x: x, a=Linear(2, 2)), (2,), "the input as its output"),
    "a parameter": (Forward(lambda m, x: (m.a(x), m.a.bias), a=Linear(2, 2)), (2,), "does not depend on the input"),
    "complex numbers": (Forward(lambda m, x: torch.fft.rfft(m.a(x)), a=Linear(2, 2)), (2,), "complex.*view_as_real"),
    "a sum of all": (Forward(lambda m, x: m.a(x).sum(), a=Linear(2, 2)), (2,), "without the batch axis"),
    "control flow": (Forward(lambda m, x: m.a(x) if x.sum() > 0 else x, a=Linear(2, 2)), (2,), "control flow"),
    "chosen rows": (Forward(lambda m, x: m.a(x[x[:, 0] > 0]), a=Linear(2, 2)), (2,), "values of the input"),
    "across the batch": (Forward(lambda m, x: m.a(x).reshape(-1, 3), a=Linear(6, 6)), (6,), "batch"),
    "a mean of the batch": (Forward(lambda m, x: m.a(x) - x.mean(0), a=Linear(2, 2)), (2,), "others of its batch"),
    "an order of the batch": (Forward(lambda m, x: m.a(x).sort(0)[0], a=Linear(2, 2)), (2,), "others of its batch"),
    "statistics of the batch": (
        nn.Sequential(Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)),
        (2,),
        r"'1' \(BatchNorm1d\).*track_running_stats=True",
    ),
    "noise": (Forward(lambda m, x: m.a(x) + torch.randn_like(x), a=Linear(2, 2)), (2,), "randn_like.*no noise"),
    "dropout": (
        Forward(lambda m, x: nn.functional.dropout(m.a(x)), a=Linear(2, 2)),
        (2,),
        "dropout that is always on.*training=self.training",
    ),
    "a strange function": (Forward(lambda m, x: torch.erfinv(m.a(x)), a=Linear(2, 2)), (2,), "erfinv.*register"),
    "indices of maxima": (
        Forward(lambda m, x: m.b(nn.functional.max_pool1d(m.a(x), 2, return_indices=True)[1].float()), **POOLED_LAYERS),
        (2, 4),
        "not a tensor of the network",
    ),
    "an input that does not fit": (Linear(3, 2), (2,), "fits the network"),
    "a second input": (nn.Bilinear(2, 2, 2), (2,), "'input2'.*others"),
    "a lazy layer": (nn.LazyLinear(2), (2,), "lazy"),
    "no numbers": (Linear(2, 2, device="meta"), (2,), "'weight'.*meta device"),
    "a script": (torch.jit.script(nn.Sequential(Linear(2, 2))), (2,), "scripted from"),
    "without a channel axis": (nn.Conv1d(1, 1, 2), (5,), "fits the network"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_by_name(name: str) -> None:
    model, shape, word = REFUSED[name]
    before = set(vars(model))
    with pytest.raises(SlthError, match=f"(?i){word}") as refused:
        trace(model, torch.rand(2, *shape))
    assert "\n" not in str(refused.value)
    assert set(vars(model)) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers_are_refused() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(Linear(2, 2)), {Linear})
    with pytest.raises(TargetError, match=r"'0'.*before it was quantised"):
        trace(model, torch.rand(1, 2))


def test_complex_parameters_are_refused() -> None:
    model = Linear(2, 2)
    model.gain = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(TargetError, match=r"'gain'.*complex64"):
        trace(model, torch.zeros(1, 2))


@pytest.mark.parametrize("trained", [True, False])
def test_complex_constants_are_two_real_ones(trained: bool, tmp_path: Path) -> None:
    """Rotations of positions, and filters of frequencies that are trained as pairs of real numbers."""
    model = shake(Linear(6, 6), 0)
    if trained:
        model.register_parameter("parts", nn.Parameter(torch.randn(4, 2)))
    else:
        model.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))
    model.forward = lambda x: _filtered(model, x)
    x = torch.randn(3, 6)
    target = trace(model, x)
    torch.testing.assert_close(evaluate(target, x), model(x))
    assert {a.name: a.state for a in target.accounts}.get("parts", "ticketed") == "ticketed"
    assert len(target.kept) == (not trained)
    if not trained:
        other = copy.deepcopy(model)
        other.turns = other.turns.conj()
        other.forward = lambda x: _filtered(other, x)
        assert trace(other, x).digest() != target.digest()
    ticket = find_ticket(target, base_set_size=20)
    ticket.save(tmp_path / "net.ticket")
    assert load(tmp_path / "net.ticket") == ticket


def _filtered(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    turns = torch.view_as_complex(m.parts) if hasattr(m, "parts") else m.turns
    return torch.fft.irfft(torch.fft.rfft(nn.functional.linear(x, m.weight, m.bias)) * turns)


def test_a_network_too_large_for_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slth.network.trace.memory_bytes", lambda: 1 << 18)
    with pytest.raises(TargetError, match=r"40,200 parameters.*GiB"):
        trace(nn.Sequential(Linear(200, 200)), torch.zeros(1, 200))


def test_several_outputs_are_one_after_another() -> None:
    model = shake(Forward(lambda m, x: {"b": m.a(x), "a": [x, None]}, a=nn.Linear(2, 2)), 0)
    x = torch.randn(3, 2)
    target = trace(model, x)
    ours = target_module(target)(x)
    assert isinstance(ours, tuple) and len(ours) == 2 and "forward" not in vars(model)
    torch.testing.assert_close(ours, (model.a(x), x))
    torch.testing.assert_close(evaluate(target, x), torch.cat(ours, 1))


@dataclass
class Result:
    """What a network of a library may give."""

    logits: torch.Tensor
    hidden: torch.Tensor | None = None


def test_a_dataclass_gives_its_tensors() -> None:
    model = shake(Forward(lambda m, x: Result(m.a(x)), a=nn.Linear(2, 2)), 0)
    x = torch.randn(3, 2)
    torch.testing.assert_close(evaluate(trace(model, x), x), model(x).logits)


class Masked(nn.Module):
    """Tokens with a mask of those that count, as in a library of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Values of every token."""
        return self.layer(self.table(ids) * scale, src_key_padding_mask=mask)


@pytest.mark.parametrize("named", [False, True])
def test_further_arguments_are_constants(named: bool) -> None:
    model = shake(Masked(), 0)
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[False, False, True]] * 2)
    example = {"ids": ids, "scale": 2.0, "mask": mask} if named else (ids, mask, 2.0)
    target = trace(model, example)
    assert "forward" not in vars(model) and target.graph.classes == 9
    for n in (1, 2, 5):
        ids = torch.arange(3 * n).reshape(n, 3) % 9
        expected = model.double()(ids, mask[:1].expand(n, 3), 2.0)
        torch.testing.assert_close(evaluate(target, ids).double(), expected, rtol=1e-4, atol=1e-5)
        model.float()
    with pytest.raises(ArgumentError, match="another row for every example"):
        trace(model, (ids[:2], torch.eye(3)[:2] > 0))
    with pytest.raises(TargetError, match="'mask'"):
        trace(model, ids)


def test_a_network_for_one_size_of_the_batch_is_evaluated_in_parts() -> None:
    def four_by_four(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.b((m.a(x).view(4, 2, 2) + torch.arange(4).view(4, 1, 1)).flatten(1))

    model = shake(Forward(four_by_four, a=Linear(4, 4), b=Linear(4, 3)), 0)
    target = trace(model, torch.rand(4, 4))
    assert target.graph.batch == 4
    x = torch.randn(10, 4)
    expected = torch.cat([model(x[:4]), model(x[4:8]), model(torch.cat([x[8:], x[:2]]))[:2]])
    torch.testing.assert_close(evaluate(target, x), expected)


def test_what_was_read_is_compared_with_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that does something else behind the tracer's back."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.a(x) * (2.0 if torch.compiler.is_exporting() else 1.0) + x

    with pytest.raises(UnsupportedError, match="gives other outputs"):
        trace(shake(Forward(forward, a=Linear(3, 3)), 0), torch.rand(2, 3))
    # Nothing but the comparison would have seen it.
    monkeypatch.setattr("slth.network.trace.check", lambda *_: None)
    assert len(trace(shake(Forward(forward, a=Linear(3, 3)), 0), torch.rand(2, 3)).layers) == 1


def test_what_modules_remember_in_evaluation_mode_is_forgotten() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head, self.cache = nn.Parameter(torch.rand(5)), Linear(4, 4), {}

        def train(self, mode: bool = True) -> Remembers:
            if mode:
                self.cache.clear()
            return super().train(mode)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if "bias" not in self.cache:
                self.cache["bias"] = self.table[torch.tensor([0, 2, 4, 1])]
            return self.head(x) + self.cache["bias"]

    model = shake(Remembers(), 0)
    x = torch.rand(2, 4)
    expected = model(x)
    target = trace(model, x)
    assert ticketed_share(target.accounts) == 1.0 and {a.state for a in target.accounts} == {"ticketed"}
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(evaluate(target, x), expected)


def test_an_example_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ArgumentError, match="unsqueeze"):
        trace(mlp((3, 2)), torch.zeros(3))


def test_a_layer_within_a_layer_has_another_name() -> None:
    outer = nn.Linear(2, 2)
    outer.add_module("inner", nn.Linear(2, 2))
    target = trace(shake(Forward(lambda m, x: m.a(m.a.inner(x)), a=outer), 0), torch.zeros(1, 2))
    inner, own = (layer.name for layer in target)
    assert inner == "a.inner" and not f"{inner}.".startswith(f"{own}.")


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
