"""Parameters that feed a linear map, wherever they are: the target computes the module, and tickets of it do too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import slth
from slth.errors import UnsupportedError
from slth.network.accounts import KEPT, ticketed_share
from slth.network.calls import Call, Reference
from slth.network.constants import constants
from slth.network.draft import Traced
from slth.network.graph import Layout, Sign
from slth.network.operators import FUNCTIONS, OPERATORS
from slth.network.selection import Selection
from slth.network.target import Target
from slth.network.trace import trace
from slth.plan import input_reaches
from slth.runtime import FORMS, joined, target_module

BATCH = 3


class Net(nn.Module):
    """A function of the module and its input, with parts."""

    def __init__(self, function: Callable[[Any, torch.Tensor], Any], **parts: nn.Module | torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, nn.Module) else nn.Parameter(part))

    def forward(self, x: torch.Tensor) -> Any:
        """The function's value."""
        return self.function(self, x)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 31 * len(shape) + sum(shape)))


def together(outputs: Any) -> torch.Tensor:
    """All outputs of a network as one tensor, (batch, all)."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([part.reshape(len(part), -1) for part in parts], 1)


def computes(model: nn.Module, x: torch.Tensor, selection: Selection | None = None) -> Target:
    """The target of a module in float64, which must compute the same on another batch too."""
    model, x = model.double().eval(), x.double() if x.is_floating_point() else x
    target = trace(model, x, selection)
    network = joined(target_module(target, torch.float64))
    with torch.no_grad():
        for batch in (x, x.flip(0)[:2]):
            wanted = together(model(batch))
            assert torch.allclose(together(network(batch)), wanted, rtol=0, atol=1e-12 * max(1.0, wanted.abs().max()))
    return target


def weights_are(target: Target, **shapes: tuple[int, ...]) -> None:
    """Operation and shape of the weight of each layer, by name with dots for double underscores."""
    found = {layer.name: (layer.node.op, tuple(layer.weight.shape)) for layer in target}
    assert found == {name.replace("__", "."): (own[0], own[1:]) for name, own in shapes.items()}


def layers_of(target: Target) -> list[tuple[str, tuple[int, ...]]]:
    """Operation and shape of the weight of each layer."""
    return [(layer.node.op, tuple(layer.weight.shape)) for layer in target]


def found(target: Target, model: nn.Module, x: torch.Tensor, largest: float = 1e-3) -> None:
    """A ticket's three forms compute the same, and nearly what the module does."""
    ticket = slth.find_ticket(target, base_set_size=30)
    x = x.double() if x.is_floating_point() else x
    with torch.no_grad():
        wanted = together(model(x))
        forms = {form: together(ticket.module(form)(x)) for form in FORMS}
    size = float(wanted.abs().max())
    for form in FORMS:
        assert (forms[form] - forms["folded"]).abs().max() <= 1e-5 * size, form
        assert (forms[form] - wanted).abs().max() <= largest * size, form
    assert ticketed_share(target.accounts) == 1


RECURRENT = {
    "lstm": lambda: (nn.LSTM(4, 5, batch_first=True), (6, 4)),
    "lstm of two layers and directions": lambda: (nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), (5, 4)),
    "gru": lambda: (nn.GRU(3, 4, batch_first=True), (4, 3)),
    "gru without biases, both directions": lambda: (
        nn.GRU(3, 4, 2, bias=False, batch_first=True, bidirectional=True),
        (4, 3),
    ),
    "rnn": lambda: (nn.RNN(3, 5, batch_first=True), (4, 3)),
    "rnn with relu": lambda: (nn.RNN(3, 5, 2, nonlinearity="relu", batch_first=True, bidirectional=True), (4, 3)),
}


def states(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Outputs and last states, the batch first."""
    outputs, last = model.body(x)
    last = last if isinstance(last, tuple) else (last,)
    return (outputs, *(value.transpose(0, 1) for value in last))


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name: str) -> None:
    torch.manual_seed(1)
    body, shape = RECURRENT[name]()
    model, x = Net(states, body=body), numbers(BATCH, *shape)
    target = computes(model, x)
    directions, layers = 2 if body.bidirectional else 1, body.num_layers
    assert [op for op, _ in layers_of(target)].count("recurrent") == directions * layers
    assert [op for op, _ in layers_of(target)].count("linear") == directions * layers
    assert sum(layer.n_weights for layer in target) == sum(p.numel() for p in body.parameters())
    found(target, model, x)


def test_steps_first_and_first_states_of_ones_own() -> None:
    torch.manual_seed(2)

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        first = m.start.expand(2, x.shape[0], 4).contiguous()
        outputs, (_, cells) = m.body(x.transpose(0, 1), (first, first * 2))
        return torch.cat([outputs.transpose(0, 1).flatten(1), cells.transpose(0, 1).flatten(1)], 1)

    model = Net(run, body=nn.LSTM(3, 4, 2), start=numbers(2, 1, 4))
    x = numbers(BATCH, 5, 3)
    target = computes(model, x)
    assert [op for op, _ in layers_of(target)].count("recurrent") == 2
    found(target, model, x)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    batch_first=st.booleans(),
    sizes=st.tuples(*[st.integers(1, 3)] * 3),
    read=st.sampled_from(["outputs", "last", "both"]),
)
def test_any_recurrent_layer(
    kind: type[nn.RNNBase],
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    sizes: tuple[int, int, int],
    read: str,
) -> None:
    steps, inputs, hidden = sizes
    body = kind(inputs, hidden, layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional)

    def run(m: Any, x: torch.Tensor) -> Any:
        outputs, last = m.body(x if batch_first else x.transpose(0, 1))
        outputs = outputs if batch_first else outputs.transpose(0, 1)
        ends = [value.transpose(0, 1) for value in (last if isinstance(last, tuple) else (last,))]
        return {"outputs": outputs, "last": tuple(ends), "both": (outputs, *ends)}[read]

    target = computes(Net(run, body=body), numbers(BATCH, steps, inputs))
    assert ticketed_share(target.accounts) == 1
    assert target.graph == type(target.graph).from_json(target.graph.to_json())


def test_a_projection_is_unrolled() -> None:
    body = nn.LSTM(3, 5, 2, proj_size=2, batch_first=True, bidirectional=True)
    model, x = Net(states, body=body), numbers(BATCH, 4, 3)
    target = computes(model, x)
    assert {op for op, _ in layers_of(target)} == {"linear"} and len(target.layers) == 12
    found(target, model, x)


def test_a_hidden_matrix_that_is_kept() -> None:
    model, x = Net(states, body=nn.GRU(3, 4, batch_first=True)), numbers(BATCH, 4, 3)
    target = computes(model, x, Selection(exclude=("*weight_hh*",)))
    assert {account.name for account in target.accounts if account.state == KEPT} == {"body.weight_hh_l0"}
    assert layers_of(target)[0] == ("linear", (12, 3))


def test_steps_along_the_batch_and_sizes_that_do_not_fit_are_refused() -> None:
    own: dict[str, Any] = {"weight_shape": (12, 4), "bias": True, "kind": "gru", "reverse": False, "cells": False}
    gates, first = Layout((5, 12)), Layout((4,))
    layout = OPERATORS["recurrent"].layout
    assert layout({**own, "batch_first": True}, [gates, first]) == Layout((5, 4))
    assert layout({**own, "batch_first": True}, [gates, Layout((1, 4), batched=False)]) == Layout((5, 4))
    steps_first = Layout((5, -1, 12), batched=False)
    assert layout({**own, "batch_first": False}, [steps_first, first]) == Layout((5, -1, 4), batched=False)
    for changed, sources, why in (
        ({"batch_first": False}, [gates, Layout((5, 4), batched=False)], "batch axis"),
        ({"batch_first": True}, [gates, Layout((3,))], "first state"),
        ({"batch_first": True}, [gates], "1 values"),
        ({"batch_first": True, "cells": True}, [gates, first], "gru"),
        ({"batch_first": True, "kind": "gruu"}, [gates, first], "gruu"),
        ({"batch_first": True, "weight_shape": (12, 3)}, [gates, first], "12 gates"),
        ({"batch_first": True}, [Layout((5, 9)), first], "12 gates"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=why):
            layout({**own, **changed}, sources)


CELLS = {
    "lstm": (nn.LSTMCell(3, 4), 2),
    "gru": (nn.GRUCell(3, 4), 1),
    "rnn": (nn.RNNCell(3, 4), 1),
    "rnn with relu": (nn.RNNCell(3, 4, nonlinearity="relu", bias=False), 1),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_share_their_weights_over_steps(name: str) -> None:
    cell, n = CELLS[name]

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        state = (x.new_zeros(len(x), 4),) * n
        for step in x.unbind(1):
            state = m.cell(step, state if n == 2 else state[0])
            state = state if n == 2 else (state,)
        return torch.cat(state, 1)

    model, x = Net(run, cell=cell), numbers(BATCH, 5, 3)
    target = computes(model, x)
    gates = cell.weight_ih.shape[0]
    weights_are(target, cell__weight_ih=("linear", gates, 3), cell__weight_hh=("linear", gates, 4))
    found(target, model, x)


def test_the_sign_behind_relu_is_known() -> None:
    body = nn.RNN(3, 4, nonlinearity="relu", batch_first=True)
    target = trace(Net(lambda m, x: m.body(x)[0], body=body), numbers(2, 4, 3))
    signs = target.input_signs(Sign.SIGNED)
    assert (signs["body.weight_ih_l0"], signs["body.weight_hh_l0"]) == (Sign.SIGNED, Sign.NONNEGATIVE)
    x = numbers(BATCH, 4, 4)
    first = Net(lambda m, x: m.body(x[..., :3], x[:, :1].transpose(0, 1).contiguous())[0], body=body)
    target = computes(first, x)
    assert target.input_signs(Sign.SIGNED)["body.weight_hh_l0"] is Sign.SIGNED
    found(target, first, x)


@pytest.mark.parametrize(("kind", "reach"), [("LSTM", 1.0), ("GRU", 1.0), ("RNN", 1.0), ("relu", math.inf)])
def test_hidden_states_behind_tanh_are_no_larger_than_1(kind: str, reach: float) -> None:
    body = nn.RNN(3, 4, nonlinearity="relu") if kind == "relu" else getattr(nn, kind)(3, 4)
    model = Net(lambda m, x: m.head(m.body(x.transpose(0, 1))[0]).transpose(0, 1), body=body, head=nn.Linear(4, 2))
    reaches = input_reaches(trace(model, numbers(BATCH, 5, 3)), slth.Domain.parse((-2, 2)))
    assert reaches == {"body.weight_ih_l0": 2.0, "body.weight_hh_l0": reach, "head": reach}


def _old(norm: Callable[..., nn.Module], module: nn.Module, *arguments: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return norm(module, *arguments)


parametrizations = nn.utils.parametrizations
COMPUTED = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "weight norm as it was": lambda: _old(nn.utils.weight_norm, nn.Linear(4, 3)),
    "weight norm of the whole": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=None),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
    "spectral norm as it was": lambda: _old(nn.utils.spectral_norm, nn.Linear(4, 3)),
    "an exponential": lambda: parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map="matrix_exp"),
    "Cayley's map": lambda: parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map="cayley"),
    "reflections": lambda: parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map="householder"),
    "an update of low rank": lambda: Net(
        lambda m, x: nn.functional.linear(x, m.weight + 0.5 * m.up @ m.down),
        weight=numbers(3, 4),
        up=numbers(3, 1),
        down=numbers(1, 4),
    ),
    "an inverse": lambda: Net(lambda m, x: x @ torch.linalg.inv(m.weight), weight=numbers(4, 4)),
    "a singular value": lambda: Net(
        lambda m, x: x @ (m.weight / torch.linalg.svdvals(m.weight)[0]), weight=numbers(4, 3)
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_that_are_computed_from_parameters(name: str) -> None:
    torch.manual_seed(3)
    model, x = (
        nn.Sequential(COMPUTED[name](), nn.Tanh(), nn.Linear(len(COMPUTED[name]()(numbers(1, 4))[0]), 2)),
        numbers(BATCH, 4),
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    target = computes(model, x)
    assert [op for op, _ in layers_of(target)] == ["linear", "linear"]
    assert ticketed_share(target.accounts) == 1
    assert all(torch.equal(value.double(), before[key].double()) for key, value in model.state_dict().items())
    if name in ("weight norm", "an exponential"):
        assert [layer.name for layer in target] == ["0", "2"]
        found(target, model, x)


def test_the_norm_of_a_recurrent_matrix() -> None:
    body = parametrizations.weight_norm(nn.GRU(3, 4, batch_first=True), "weight_hh_l0")
    target = computes(Net(states, body=body), numbers(BATCH, 4, 3))
    weights_are(target, body__weight_ih_l0=("linear", 12, 3), body__weight_hh_l0=("recurrent", 12, 4))


def test_what_is_changed_in_place_is_computed_on_a_copy() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(4, 4)
        mask[1:, :2] = 1
        mask[0].fill_(2.0)
        m.count.add_(1)
        return nn.functional.linear(x, m.weight * mask.to(x.dtype))

    model = Net(run, weight=numbers(4, 4))
    model.register_buffer("count", torch.zeros(()))
    target = trace(model.double(), numbers(BATCH, 4).double())
    wanted = torch.zeros(4, 4)
    wanted[1:, :2], wanted[0] = 1, 2
    (layer,) = target.layers
    assert torch.equal(layer.weight, (model.weight * wanted).detach())
    # Once by running the module before it is traced.
    assert float(model.count) == 1


def test_random_numbers_are_not_taken_for_constants() -> None:
    model = Net(lambda m, x: x @ (m.weight * torch.rand(4, 3)), weight=numbers(4, 3))
    with pytest.raises(UnsupportedError, match="rand"):
        trace(model, numbers(BATCH, 4))


def test_a_file_may_ask_for_operations_of_the_list_alone() -> None:
    weight = numbers(3, 3)
    calls = [
        Call("known", "_weight_norm", {"v": Reference("w"), "g": Reference("w"), "dim": 0}, [3, 3], 1),
        Call("other", "linalg_svdvals", {"A": Reference("known")}, [3], 1),
        Call("random", "rand_like", {"self": Reference("w")}, [3, 3], 1),
        Call("missing", "no_such_operation", {"self": Reference("w")}, [3, 3], 1),
    ]
    traced = Traced("x", ["y"], (3,), {"w": "w"}, {}, {"w": weight}, frozenset({"w"}))
    assert constants(calls, traced) == {"known"}
    assert constants(calls, replace(traced, in_memory=True)) == {"known", "other"}


PRODUCTS: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], tuple[int, ...], tuple[int, ...], Any]] = {
    "x W": (lambda m, x: x @ m.w, (5, 4), (4, 3), ("linear", (3, 4))),
    "W x": (lambda m, x: m.w @ x, (5, 4), (3, 5), ("linear", (3, 5))),
    "x w": (lambda m, x: x @ m.w, (5, 4), (4,), ("linear", (1, 4))),
    "w x": (lambda m, x: m.w @ x, (5, 4), (5,), ("linear", (1, 5))),
    "a matrix a group": (lambda m, x: x @ m.w, (2, 5, 4), (2, 4, 3), ("conv", (6, 4, 1))),
    "a matrix a group, on the left": (lambda m, x: m.w @ x, (2, 5, 4), (2, 3, 5), ("conv", (6, 5, 1))),
    "one matrix for all groups": (lambda m, x: x @ m.w, (2, 5, 4), (1, 4, 3), ("linear", (3, 4))),
    "new groups": (lambda m, x: x.unsqueeze(1) @ m.w, (5, 4), (2, 4, 3), ("linear", (6, 4))),
    "groups of groups": (lambda m, x: x @ m.w, (3, 2, 5, 4), (3, 2, 4, 5), ("conv", (30, 4, 1))),
    "groups that share": (lambda m, x: x @ m.w, (3, 2, 5, 4), (3, 1, 4, 5), ("conv", (15, 4, 1))),
    "groups first": (
        lambda m, x: torch.bmm(x.transpose(0, 1), m.w).transpose(0, 1),
        (2, 4),
        (2, 4, 3),
        ("conv", (6, 4, 1)),
    ),
    "a sum and groups": (
        lambda m, x: torch.baddbmm(m.w[:, :1, :3], x.transpose(0, 1), m.w[:, :, :3]).transpose(0, 1),
        (2, 4),
        (2, 4, 3),
        None,
    ),
    "groups of all steps": (
        lambda m, x: torch.einsum("nhd,hdk->nhk", x.flatten(0, 1), m.w).unflatten(0, (-1, 5)),
        (5, 2, 4),
        (2, 4, 3),
        ("conv", (6, 4, 1)),
    ),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, ([2, 1], [0, 2])), (5, 4), (4, 3, 5), ("linear", (3, 20))),
    "inner": (lambda m, x: torch.inner(x, m.w), (5, 4), (3, 4), ("linear", (3, 4))),
    "heads": (lambda m, x: torch.einsum("bld,dhk->blhk", x, m.w), (5, 4), (4, 2, 3), ("linear", (6, 4))),
    "heads apart": (lambda m, x: torch.einsum("bhld,hdk->bhlk", x, m.w), (2, 5, 4), (2, 4, 3), ("conv", (6, 4, 1))),
    "heads joined": (lambda m, x: torch.einsum("bhld,hdk->blk", x, m.w), (2, 5, 4), (2, 4, 3), ("linear", (3, 8))),
    "dots": (lambda m, x: torch.einsum("...d,dk->...k", x, m.w), (2, 5, 4), (4, 3), ("linear", (3, 4))),
    "no arrow": (lambda m, x: torch.einsum("...ij,jk", x, m.w), (5, 4), (4, 3), ("linear", (3, 4))),
    "a sum of the value": (lambda m, x: torch.einsum("bld,dk->bk", x, m.w), (5, 4), (4, 3), ("linear", (3, 4))),
    "an outer product": (lambda m, x: torch.einsum("bl,k->bkl", x, m.w), (5,), (3,), ("linear", (3, 1))),
    "entry by entry": (lambda m, x: torch.einsum("bhd,hd->bhd", x, m.w), (5, 4), (5, 4), ("conv", (20, 1, 1))),
    "two values": (lambda m, x: torch.einsum("bi,oij,bj->bo", x, m.w, x.tanh()), (4,), (3, 4, 4), ("linear", (3, 16))),
    "batch in between": (
        lambda m, x: torch.einsum("lbd,ldk->bkl", x.transpose(0, 1), m.w),
        (5, 4),
        (5, 4, 3),
        ("conv", (15, 4, 1)),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_a_parameter(name: str) -> None:
    function, shape, weight, layer = PRODUCTS[name]
    model, x = Net(function, w=numbers(*weight)), numbers(BATCH, *shape)
    target = computes(model, x)
    if layer is not None:
        assert layers_of(target) == [layer]
    assert ticketed_share(target.accounts) == 1
    if name in ("W x", "heads apart", "heads joined", "tensordot", "a sum and groups"):
        found(target, model, x)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_einsum_with_one_parameter(data: st.DataObject) -> None:
    """Letters of a value, of a parameter and of the output at random; nothing is a constant that the value is times."""
    letters = "cdefg"
    sizes = {"b": BATCH} | {letter: data.draw(st.integers(1, 3)) for letter in letters}
    value = data.draw(
        st.permutations("b" + "".join(data.draw(st.lists(st.sampled_from(letters), unique=True, max_size=4))))
    )
    weight = data.draw(st.lists(st.sampled_from(letters), unique=True, min_size=1, max_size=4))
    both = sorted(set(value) | set(weight))
    alone = {letter for letter in weight if letter not in value}
    output = [x for x in both if x == "b" or x in alone or data.draw(st.booleans())]
    output = ["b", *data.draw(st.permutations([x for x in output if x != "b"]))]
    equation = f"{''.join(value)},{''.join(weight)}->{''.join(output)}"
    where = value.index("b")

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum(equation, x.movedim(0, where), m.w)

    x = numbers(BATCH, *(sizes[letter] for letter in value if letter != "b"))
    x = x if x.dim() > 1 else x[:, None]
    if where == 0 and len(value) == 1:
        run_on = Net(
            lambda m, x: torch.einsum(equation, x[:, 0], m.w), w=numbers(*(sizes[letter] for letter in weight))
        )
    else:
        run_on = Net(run, w=numbers(*(sizes[letter] for letter in weight)))
    target = computes(run_on, x)
    assert [op for op, _ in layers_of(target)] in (["linear"], ["conv"])
    assert math.prod(layers_of(target)[0][1]) == run_on.w.numel()


def test_a_square_matrix_on_both_sides_is_not_one_map() -> None:
    model, x = Net(lambda m, x: m.w @ (x @ m.w), w=numbers(4, 4)), numbers(BATCH, 4, 4)
    target = computes(model, x)
    assert len(target.layers) == 2
    twice = computes(Net(lambda m, x: nn.functional.linear(m.w @ x, m.w), w=numbers(4, 4)), x)
    assert len(twice.layers) == 1 and len(twice.graph.weighted_uses) == 2


def test_bilinear() -> None:
    torch.manual_seed(5)
    model = Net(lambda m, x: m.body(x[:, :2], x[:, 2:].tanh()), body=nn.Bilinear(2, 3, 4))
    x = numbers(BATCH, 5)
    target = computes(model, x)
    weights_are(target, body=("linear", 4, 6))
    assert target.layers[0].bias is not None
    found(target, model, x)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_rows(mode: str) -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.EmbeddingBag(7, 4, mode=mode), nn.Linear(4, 2))
    x = torch.randint(0, 7, (BATCH, 5), generator=torch.Generator().manual_seed(0))
    target = computes(model, x)
    assert layers_of(target) == [("embedding", (4, 7)), ("linear", (2, 4))]
    assert target.graph.classes == 7
    found(target, model, x)


def test_no_function_is_beyond_those_that_a_file_may_name() -> None:
    assert {"lstm", "_weight_norm", "matrix_exp"}.isdisjoint(FUNCTIONS)
