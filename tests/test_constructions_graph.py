"""Every construction on networks with branches: found in all forms alike, or refused by name before any work."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.activations import parse as parse_activation
from slth.artifact import from_bytes, to_bytes
from slth.attempt import draw_source
from slth.constructions import CONSTRUCTIONS
from slth.container import pack, unpack
from slth.copies import ConstantFlow, first_constants, next_constants, widened
from slth.domain import Domain
from slth.errors import ArgumentError, TicketError
from slth.network.streams import streams
from slth.network.target import Target
from slth.network.trace import trace
from slth.network.widen import widen
from slth.plan import Wishes, make_plan
from slth.runtime import evaluate, joined
from slth.source.copies import CopySource
from slth.source.initialised import parse as parse_law
from zoo import ZOO, shake
from zoo_kit import Residual

WAYS: dict[str, dict[str, Any]] = {
    "two-for-one": {"base_set_size": 6},
    "mirrored, tanh": {"base_set_size": 6, "initialisation": "looks-linear", "source_activation": "tanh"},
    "one-for-one": {"construction": "one-for-one", "base_set_size": 5},
    "pairs": {"construction": "pairs", "base_set_size": 12},
    "golden-ratio": {"construction": "golden-ratio", "tolerance": 0.3, "delta": 0.9},
    "conv": {"construction": "conv", "base_set_size": 6, "settings": {"pooling": "convolution"}},
    "taps": {"construction": "conv", "base_set_size": 6, "settings": {"signed": "taps"}},
    "split": {"construction": "conv", "base_set_size": 6, "settings": {"signed": "split"}},
    "shift": {"construction": "conv", "base_set_size": 6, "settings": {"signed": "shift"}},
    "kaiming": {"base_set_size": 6, "distribution": "kaiming-uniform"},
}
REFUSING = {"one-for-one", "shift", "mirrored, tanh"}
"""What does not work on every network."""


@functools.cache
def target(name: str) -> tuple[Target, torch.Tensor]:
    module, example = ZOO[name]()
    return trace(module, example), example


def made_plan(name: str, way: str) -> Target:
    """The plan of a network in a way, and its source's specification, without any search."""
    options = {**WAYS[way]}
    method, settings = CONSTRUCTIONS[options.pop("construction", "two-for-one")], options.pop("settings", {})
    activation, law = options.pop("source_activation", "relu"), options.pop("distribution", "uniform")
    more = {"activation": parse_activation(activation), "law": parse_law(law), "settings": settings}
    hidden = method.hidden(target(name)[0], settings)
    plan = make_plan(hidden, method, Wishes(domain=Domain.parse((-1, 1)), **more, **options))
    spec = draw_source(hidden, plan, 0)
    assert len(spec.layers) == len(plan.layers) == len(hidden.layers)
    return hidden


def forms(ticket: slth.Ticket, x: torch.Tensor) -> list[torch.Tensor]:
    """What the three forms give in float64."""
    x = x if ticket.graph.classes else x.double()
    small = ticket.spec.n_weights < 10_000_000
    with torch.no_grad():
        names = ("folded", "sparse", "masked") if small else ("folded", "sparse")
        made = [joined(ticket.module(form, dtype=torch.float64))(x) for form in names]
    return [part.double() for part in made]


def assert_alike(parts: list[torch.Tensor], room: float) -> None:
    for part in parts[1:]:
        assert float((part - parts[0]).abs().max()) <= room * float(1e-3 + parts[0].abs().max())


@pytest.mark.parametrize("name", ZOO)
def test_planned_or_refused_by_name(name: str) -> None:
    """The ways that refuse some networks; nothing is drawn, so that a refusal comes before any work."""
    for way in sorted(REFUSING - ({"mirrored, tanh"} if list(ZOO).index(name) % 5 else set())):
        try:
            made_plan(name, way)
        except ArgumentError as error:
            assert error.remedy
            kind, named = error.where.split(" ", 1)
            assert kind in ("node", "layer")
            assert named.strip("'") in {node.name for node in target(name)[0].graph}


@pytest.mark.parametrize("number", range(len(ZOO)))
def test_found_in_all_forms_alike(number: int) -> None:
    """Each network in one of the ways, in turn; where that refuses it, in the next."""
    name = list(ZOO)[number]
    hidden, x = target(name)
    for way in itertools.islice(itertools.cycle(WAYS), number, None):
        try:
            ticket = slth.find_ticket(hidden, threads=1, domain=(-1, 1), **WAYS[way])
            break
        except ArgumentError:
            assert way in REFUSING
    assert_alike(forms(ticket, x), 1e-4 if "tanh" in way else 1e-9)
    assert to_bytes(from_bytes(to_bytes(ticket))) == to_bytes(ticket)


def test_the_ways_that_may_refuse_do_not_always() -> None:
    """Residual sums, concatenations, several outputs; what is known to work is not lost."""
    for name in ("resnet", "data_normaliser", "lenet_bn", "upsample_pixelshuffle", "positional_mlp"):
        streams(target(name)[0].graph)


def chain(*widths: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += ([nn.ReLU()] if number else []) + [nn.Linear(inputs, outputs, bias=bias)]
    return nn.Sequential(*layers)


class Heads(nn.Module):
    """Features and what is made of them, both outputs; two layers read the input, and one sum meets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 5), nn.Linear(4, 5, bias=False), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.tanh(self.one(x) + self.two(x))
        both = both + both
        return self.head(both), both


class EarlyReader(nn.Module):
    """A layer reads one term of a sum by itself, so that two layers make constants in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.only, self.head = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        left, right = self.left(x), self.right(x)
        return torch.softmax(self.only(torch.relu(right)) + self.head(torch.relu(left + right)), -1)


def flattened() -> nn.Module:
    """Maps of several positions that meet in a sum, then a flatten."""
    body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 1, bias=False))
    shortcut = nn.Conv2d(3, 4, 1, stride=2)
    down = Residual(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1)), shortcut)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), Residual(body), nn.ReLU(), down, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)
    )


RESIDUAL: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "mlp": (nn.Sequential(chain(4, 6), nn.ReLU(), *[Residual(chain(6, 5, 6), act=nn.ReLU()) for _ in range(3)],
                          chain(6, 2)), (4,)),
    "the last sum is the output": (nn.Sequential(chain(4, 5), nn.ReLU(), Residual(chain(5, 6, 5))), (4,)),
    "without biases": (nn.Sequential(chain(4, 5, bias=False), Residual(chain(5, 4, 5, bias=False)), nn.ReLU(),
                                     chain(5, 2, bias=False)), (4,)),
    "rows": (nn.Sequential(chain(4, 5), nn.GELU(), Residual(chain(5, 5)), chain(5, 2)), (3, 4)),
    "heads": (Heads(), (4,)),
    "early reader": (EarlyReader(), (3,)),
    "maps": (flattened(), (2, 7, 7)),
}  # fmt: skip


@functools.cache
def residual(name: str) -> tuple[Target, torch.Tensor]:
    module, shape = RESIDUAL[name]
    x = torch.rand((20, *shape), generator=torch.Generator().manual_seed(1))
    return trace(shake(module, 2, 0.3), x), x


@functools.cache
def copied(name: str, size: int = 26) -> slth.Ticket:
    return slth.find_ticket(residual(name)[0], construction="one-for-one", base_set_size=size, threads=1, seed=3)


@pytest.mark.parametrize("name", RESIDUAL)
def test_copies_of_residual_networks_compute_them(name: str) -> None:
    hidden, x = residual(name)
    ticket = copied(name)
    parts = forms(ticket, x)
    assert_alike(parts, 1e-11)
    wanted = evaluate(hidden, x.double())
    assert float((parts[0] - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
    again = from_bytes(to_bytes(ticket))
    assert again == ticket and torch.equal(forms(again, x)[0], parts[0])
    assert ticket.max_weight_error < 0.02
    worse = float((forms(copied(name, 8), x)[0] - wanted).abs().max())
    assert worse > 2 * float((parts[0] - wanted).abs().max())
    found = slth.verify(copied(name, 8), hidden, (0, 1), method="interval")
    assert found.holds and found.certified_error is not None and found.observed_error is not None
    assert worse <= found.certified_error >= found.observed_error


@pytest.mark.parametrize("name", RESIDUAL)
def test_masks_keep_or_drop_weights_of_the_source_and_nothing_else(name: str) -> None:
    """Invariant 1: what is left of the random network are its own numbers, bit for bit, drawn before the target."""
    ticket = copied(name)
    module = ticket.module("masked", dtype=torch.float32)
    state = dict(module.state_dict())
    for source, mask, facts in ticket.layers:
        weight = state.pop(f"{facts.name}.combine.weight_orig").numpy()
        flags = state.pop(f"{facts.name}.combine.weight_mask").numpy()
        assert set(np.unique(flags)) <= {0.0, 1.0}
        kept = int(flags.sum())
        if isinstance(source, CopySource):
            drawn = source.weight(0, source.rows)
        else:
            drawn = source.combine_weight(0, source.outputs)
            for part, own in (("weight", source.expand_weight()), ("bias", source.expand_bias())):
                if f"{facts.name}.expand.{part}_orig" not in state:
                    continue
                assert state.pop(f"{facts.name}.expand.{part}_orig").numpy().tobytes() == own.tobytes()
                kept += int(state.pop(f"{facts.name}.expand.{part}_mask").sum())
        assert weight.tobytes() == drawn.tobytes()
        assert kept == mask.n_kept
    # Nothing else of the module is a number that was chosen.
    assert not [key for key, value in state.items() if value.numel()]
    other = slth.find_ticket(
        trace(shake(RESIDUAL[name][0], 5, 0.3), residual(name)[1]),
        construction="one-for-one", base_set_size=26, threads=1, seed=3,
    )  # fmt: skip
    trace(shake(RESIDUAL[name][0], 2, 0.3), residual(name)[1])
    for mine, theirs in zip(ticket.spec.layers, other.spec.layers, strict=True):
        if isinstance(mine, CopySource) and isinstance(theirs, CopySource):
            ratio = mine.weight(0, 1).astype(np.float64) / theirs.weight(0, 1)
            np.testing.assert_allclose(ratio, mine.scale / theirs.scale, rtol=1e-6)


@pytest.mark.parametrize("name", RESIDUAL)
def test_constants_are_constant_and_made_once_where_that_is_enough(name: str) -> None:
    """What the layers are told of the constants is what the masked network computes, whatever its input."""
    ticket, (hidden, x) = copied(name), residual(name)
    wide = widened(ticket.hidden_graph, ticket.spec.layers)
    values: dict[str, torch.Tensor] = {}
    network = ticket.module("masked", dtype=torch.float64)
    for facts in ticket.facts:
        keep = functools.partial(lambda key, module, args, out: values.__setitem__(key, out), facts.name)
        network.get_submodule(facts.name).register_forward_hook(keep)
    with torch.no_grad():
        network(x.double())
    flow, makers = ConstantFlow(hidden.graph), 0
    for layer, layout, (source, mask, facts) in zip(hidden, wide.layouts, ticket.layers, strict=True):
        read = flow.read_by(layer.node)
        made = (
            next_constants(source, mask, read)  # type: ignore[arg-type]
            if isinstance(source, CopySource)
            else first_constants(source, mask, layout.constants_out)
        )
        flow.made_by(layer.node, made)
        if not layout.constants_out:
            continue
        makers += layout.makes_constants
        axis = -1 if layer.node.op == "linear" else 1
        got = (
            values[facts.name]
            .movedim(axis, -1)[..., len(layer.weight) * layout.copies_out :]
            .reshape(-1, made.values.size)
        )
        np.testing.assert_allclose(got.numpy(), np.broadcast_to(made.values, got.shape), rtol=1e-12, atol=1e-12)
        assert bool(np.abs(made.values).max() > 0.1) == layout.makes_constants
    assert makers == {"mlp": 4, "the last sum is the output": 2, "without biases": 0, "rows": 1, "heads": 1,
                      "early reader": 3, "maps": 3}[name]  # fmt: skip


def test_copies_line_up_in_sums() -> None:
    """Layers that read the same, or what meets in a sum, read equally many copies: the most that one asks for."""
    graph = residual("mlp")[0].graph
    known = streams(graph)
    sizes = known.even([9, 3, 4, 5, 6, 7, 8, 2])
    assert sizes == [9, 7, 4, 7, 6, 7, 8, 7]
    layouts = widen(graph, sizes).layouts
    assert [layout.copies_in for layout in layouts] == [0, 7, 4, 7, 6, 7, 8, 7]
    assert [layout.copies_out for layout in layouts] == [7, 4, 7, 6, 7, 8, 7, 1]
    with pytest.raises(ArgumentError, match=r"'1\.body\.0|'3\.body\.0|'2\.body\.0|as many copies"):
        widen(graph, [9, 3, 4, 5, 6, 7, 8, 2])
    header, tensors = unpack(to_bytes(copied("mlp")))
    header.pop("content_digest")
    header["source"]["layers"][1]["block_width"] -= 1
    with pytest.raises(TicketError, match="as many copies"):
        from_bytes(pack(header, {key: np.array(value) for key, value in tensors.items()}))


class Raw(nn.Module):
    """A sum with the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = chain(4, 5, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + self.body(x))


class Twice(nn.Module):
    """One layer's weights twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(torch.relu(self.body(x)))))


class Gated(nn.Module):
    """A product of branches."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sigmoid(self.one(x)) * self.two(x))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Raw(), "node 'add'.*the network's input, of which"),
        (Twice(), "once more"),
        (Gated(), "node 'mul'.*the function mul"),
        (nn.Sequential(chain(4, 6), nn.LayerNorm(6), chain(6, 2)), "layer_norm"),
    ],
)
def test_what_copies_cannot_be_carried_through_is_refused_by_name(module: nn.Module, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){words}.*two-for-one"):
        slth.find_ticket(shake(module, 0), torch.zeros(2, 4), construction="one-for-one", base_set_size=4)


@pytest.mark.parametrize("depth", [1, 2])
def test_extra_depth_is_for_chains(depth: int) -> None:
    with pytest.raises(ArgumentError, match=r"node 'add'.*a sum of.*chain of layers"):
        slth.find_ticket(
            residual("mlp")[0], construction="one-for-one", base_set_size=4, settings={"extra_depth": depth}
        )


def test_depth_three_is_for_chains() -> None:
    module = shake(Residual(chain(4, 5, 4)), 0)
    with pytest.raises(ArgumentError, match=r"(?s)node 'add'.*depth=double"):
        slth.find_ticket(module, torch.zeros(2, 4), construction="pairs", settings={"depth": "three"})


def test_a_file_of_a_residual_network_is_one(tmp_path: Path) -> None:
    copied("maps").save(tmp_path / "a.ticket")
    assert slth.load(tmp_path / "a.ticket") == copied("maps")
