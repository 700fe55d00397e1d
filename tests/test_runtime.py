"""The three forms compute one function, and the masked one holds the source bit for bit."""

from __future__ import annotations

import copy
import io
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

import slth
from slth.copies import is_copied, widened
from slth.errors import ArgumentError
from slth.network.graph import Sign
from slth.network.operators import WEIGHT_OPERATORS
from slth.realise import realise
from slth.runtime import evaluate, target_module
from slth.source.candidates import OutputSource
from slth.source.copies import CopySource
from zoo import Case, cases, convnet, inputs, mlp, shake


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / (1e-3 + torch.maximum(a.abs().max(), b.abs().max())))


@given(cases())
def test_the_three_forms_agree_on_any_network_and_domain(case: Case) -> None:
    ticket = case.find()
    x = inputs(case.shape, 6, case.options["domain"])
    masked, sparse, folded = (ticket.module(form, dtype=torch.float64) for form in ("masked", "sparse", "folded"))
    assert masked(x).shape == (6, *ticket.graph.output_shape)
    assert _relative(masked(x), sparse(x)) < 1e-12
    assert _relative(masked(x), folded(x)) < 1e-12


GEOMETRIES = {
    "same, even kernel": (nn.Conv1d(2, 2, 4, padding="same"), (2, 9)),
    "same, even kernels and dilation": (nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(1, 3)), (2, 8, 9)),
    "same in three dimensions": (nn.Conv3d(1, 2, (2, 3, 2), padding="same"), (1, 4, 4, 4)),
    "padded, strided, dilated": (nn.Conv2d(2, 3, 3, padding=(2, 1), stride=(2, 3), dilation=(1, 2)), (2, 8, 9)),
    "depthwise": (nn.Conv2d(3, 6, 3, padding=1, groups=3), (3, 5, 5)),
    "reflected": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "uneven padding": (nn.Sequential(nn.ZeroPad2d((0, 2, 1, 0)), nn.Conv2d(1, 2, 3)), (1, 4, 4)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_in_every_form(name: str) -> None:
    """With the error of the weights taken out: the ticket's own slopes in the author's module."""
    model, shape = GEOMETRIES[name]
    case = Case(shake(copy.deepcopy(model), 0), shape, {"base_set_size": 5, "initialisation": "looks-linear"})
    ticket = case.find()
    x = inputs(shape, 5)
    own = copy.deepcopy(case.model).double()
    layer = own[-1] if isinstance(own, nn.Sequential) else own
    source, mask, _ = ticket.layers[0]
    slopes = realise(source, mask)
    layer.weight.data = torch.from_numpy(slopes.positive).reshape(layer.weight.shape)
    layer.bias.data = torch.from_numpy(slopes.bias)
    for form in ("masked", "sparse", "folded"):
        torch.testing.assert_close(ticket.module(form, dtype=torch.float64)(x), own(x), rtol=1e-12, atol=1e-12)


@given(cases())
def test_the_forms_agree_with_the_target_to_the_certified_error(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    bound = slth.verify(ticket, target, case.domain).certified_error
    assert bound is not None
    x = inputs(case.shape, 32, case.domain, seed=1)
    wanted = evaluate(target, x)
    for form in ("masked", "sparse", "folded"):
        difference = (ticket.module(form, dtype=torch.float64)(x) - wanted).abs().max()
        assert float(difference) <= bound


@given(cases())
def test_the_rebuilt_target_is_the_target(case: Case) -> None:
    target, model = case.target(), copy.deepcopy(case.model).double()
    x = inputs(case.shape, 3)
    assert _relative(target_module(target, torch.float64)(x), model(x)) < 1e-13
    assert list(target_module(target).state_dict()) == list(case.model.state_dict())


def test_every_surviving_weight_is_the_sources_bit_for_bit(ticket: slth.Ticket) -> None:
    state = ticket.module("masked", dtype=torch.float32).state_dict()
    for source, _, facts in ticket.layers:
        if isinstance(source, OutputSource):
            assert state[f"{facts.name}.combine.weight_orig"].numpy().tobytes() == source.weight().tobytes()
            continue
        if isinstance(source, CopySource):
            held = state[f"{facts.name}.combine.weight_orig"].numpy()
            assert held.tobytes() == source.weight(0, source.rows).tobytes()
            continue
        combine = source.combine_weight(0, source.combine_rows)
        for key, values in (("expand.weight", source.expand_weight()), ("combine.weight", combine)):
            held = state[f"{facts.name}.{key}_orig"].numpy()
            assert held.tobytes() == values.tobytes()
        if source.bias:
            assert state[f"{facts.name}.expand.bias_orig"].numpy().tobytes() == source.expand_bias().tobytes()


def test_the_masked_form_is_laid_out_as_torchs_pruning_does(ticket: slth.Ticket) -> None:
    network = ticket.module("masked")
    for source, mask, facts in ticket.layers:
        layer = network.get_submodule(facts.name)
        names = set(layer.state_dict())
        parts = ("expand", "combine") if source.depth == 2 else ("combine",)
        expected = {f"{part}.weight_{kind}" for part in parts for kind in ("orig", "mask")}
        biased = source.bias and source.depth == 2
        assert names == expected | ({"expand.bias_orig", "expand.bias_mask"} if biased else set())
        for part in map(layer.get_submodule, parts):
            assert nn.utils.prune.is_pruned(part)
            assert torch.equal(part.weight, part.weight_orig * part.weight_mask)
            assert set(part.weight_mask.unique().tolist()) <= {0.0, 1.0}
        kept = sum(int(value.sum()) for key, value in layer.state_dict().items() if key.endswith("_mask"))
        assert kept == mask.n_kept
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_sparse_form_holds_the_survivors_and_nothing_else(ticket: slth.Ticket) -> None:
    network = ticket.module("sparse", dtype=torch.float32)
    masked = ticket.module("masked", dtype=torch.float32).state_dict()
    for _, mask, facts in ticket.layers:
        layer = network.get_submodule(facts.name)
        weight, flags = (masked[f"{facts.name}.combine.weight_{kind}"] for kind in ("orig", "mask"))
        np.testing.assert_array_equal(layer.values, weight[flags > 0])
        kept = sum(int((part != 0).sum()) for part in layer.buffers() if part.is_floating_point())
        assert kept == mask.n_kept
    assert not list(network.parameters())


def test_the_folded_form_is_the_targets_own_architecture(case: Case, ticket: slth.Ticket) -> None:
    folded = ticket.module("folded")
    graph = ticket.hidden_graph
    if is_copied(ticket.spec.layers):
        graph = widened(graph, ticket.spec.layers).graph
    if graph != ticket.graph:
        shapes = [node.attributes["weight_shape"] for node in graph if node.op in WEIGHT_OPERATORS]
        weights = [value for key, value in folded.state_dict().items() if key.endswith("weight") and "neg" not in key]
        assert [tuple(weight.shape) for weight in weights] == shapes
        return
    own = copy.deepcopy(case.model)
    one_branch = all(
        facts.input_sign is not Sign.SIGNED or realise(source, mask).shifted.one_branch
        for source, mask, facts in ticket.layers
    )
    if not one_branch:
        assert not set(own.state_dict()) & {key for key in folded.state_dict() if "positive" in key}
        assert any("negative" in key for key in folded.state_dict())
        return
    own.load_state_dict(folded.state_dict())
    x = inputs(case.shape, 5, case.domain).float()
    assert torch.equal(own(x), folded(x))
    assert all(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("form", ["masked", "sparse", "folded"])
def test_modules_are_ordinary_modules(case: Case, ticket: slth.Ticket, form: str) -> None:
    network = ticket.module(form)
    assert not network.training
    x = inputs(case.shape, 4, case.domain).float()
    expected = network(x)
    assert torch.equal(copy.deepcopy(network)(x), expected)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    other = ticket.module(form)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    # The masked form's product is computed when it runs, from what was loaded.
    assert torch.equal(other(x), expected)
    for n in (1, 7):
        torch.testing.assert_close(network(x[:1].expand(n, *x.shape[1:]))[n - 1], expected[0], rtol=1e-5, atol=1e-6)


def test_dtypes() -> None:
    for dtype, expected in (
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        model = mlp((2, 2)).to(dtype)
        ticket = slth.find_ticket(model, torch.zeros(1, 2, dtype=dtype), base_set_size=4)
        assert ticket.module()(torch.zeros(1, 2, dtype=expected)).dtype == expected
        assert ticket.module("sparse", dtype=torch.float64)(torch.zeros(1, 2).double()).dtype == torch.float64


def test_folded_can_be_exported_and_exported_again_into_the_same_target(case: Case, ticket: slth.Ticket) -> None:
    folded = ticket.module("folded")
    x = inputs(case.shape, 2, case.domain).float()
    exported = torch.export.export(folded, (x,)).module()
    torch.testing.assert_close(exported(x), folded(x), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_folded_can_be_compiled(backend: str) -> None:
    case = Case(convnet(), (4, 6, 6), {"base_set_size": 4})
    folded = case.find().module("folded")
    x = inputs(case.shape, 2).float()
    compiled = torch.compile(folded, dynamic=False, backend=backend, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), folded(x), rtol=1e-5, atol=1e-6)


def test_borders_of_a_padded_convolution_with_bias_on_signed_inputs() -> None:
    """C9, option a: the bias is constant up to the border, for padding before the first source layer."""
    model = shake(nn.Sequential(nn.Conv2d(1, 2, 3, padding=(2, 1))), 0, size=0.3)
    model[0].bias.data[:] = torch.tensor([0.7, -0.7])
    case = Case(model, (1, 4, 5), {"base_set_size": 20})
    ticket = case.find()
    zeros, x = torch.zeros(1, 1, 4, 5).double(), inputs((1, 4, 5), 8)
    for form in ("masked", "sparse", "folded"):
        network = ticket.module(form, dtype=torch.float64)
        constant = network(zeros)
        torch.testing.assert_close(constant, constant[:, :, :1, :1].expand_as(constant), rtol=1e-14, atol=0)
        assert float((constant - torch.tensor([0.7, -0.7]).reshape(1, 2, 1, 1)).abs().max()) < 1e-2
        assert float((network(x) - model.double()(x)).abs().max()) < 10 * 1e-2
        model.float()


def test_a_masked_module_that_would_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slth.runtime.LARGEST_MASKED_BYTES", 1000)
    ticket = Case(mlp(), (5,), {"base_set_size": 4}).find()
    with pytest.raises(ArgumentError, match=r"GiB.*sparse"):
        ticket.module("masked")
    assert ticket.module("sparse") is not None


def test_an_unknown_form_is_refused(small_ticket: slth.Ticket) -> None:
    with pytest.raises(ArgumentError, match="masked, sparse, folded"):
        small_ticket.module("dense")


def test_evaluate_is_the_target_without_gradients() -> None:
    case = Case(convnet(), (4, 6, 6))
    x = inputs(case.shape, 3)
    outputs = evaluate(case.target(), x)
    assert not outputs.requires_grad and outputs.dtype == torch.float64
    assert _relative(outputs, copy.deepcopy(case.model).double()(x)) < 1e-13
