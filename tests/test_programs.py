"""Programs in memory and in files: read alike, for batches of any size where they can be."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from command_line import slth as slth_program
from slth.errors import ArgumentError, UnsupportedError
from slth.network.accounts import SHARED, ticketed_share
from slth.network.archive import read_archive
from slth.network.graph import Layout
from slth.network.guesses import guessed
from slth.network.independence import examples_are_apart
from slth.network.sizes import BATCHES, by_batch, parse, prime_batch
from slth.network.trace import from_program, trace
from slth.network.trial import difference, outputs, tensors, trial_inputs
from slth.runtime import evaluate
from zoo import ZOO, shake

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


class Forward(nn.Module):
    """Some layers and a function of them and the input."""

    def __init__(self, function: object, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function."""
        return self.function(self, x)  # type: ignore[operator]


def program(model: nn.Module, x: torch.Tensor, dynamic: bool) -> torch.export.ExportedProgram:
    """As its author would export it."""
    batch = ({0: torch.export.Dim("batch")},) if dynamic else None
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(model.eval(), (x,), dynamic_shapes=batch, strict=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def both(model: nn.Module, x: torch.Tensor, dynamic: bool, folder: Path) -> slth.Target:
    """The target of a program in memory, which is that of its file."""
    exported = program(model, x, dynamic)
    torch.export.save(exported, folder / "net.pt2")
    ours, read = from_program(exported), read_archive(folder / "net.pt2")
    assert ours.graph == read.graph and ours.digest() == read.digest() and ours.accounts == read.accounts
    return read


NAMES = (
    "vit",
    "transformer_positions_first",
    "bert_like",
    "lstm_classifier",
    "two_heads",
    "shufflenet",
    "efficientnet",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["any", "two", "one"])
def test_a_program_is_the_network_for_any_batch(name: str, kind: str, tmp_path: Path) -> None:
    model, x = ZOO[name]()
    target = both(model, x[:1] if kind == "one" else x, kind == "any", tmp_path)
    assert target.graph.batch == 0 and ticketed_share(target.accounts) == 1.0
    more = torch.cat([x, x.flip(-1), x[:1]])
    with torch.no_grad():
        expected = torch.cat([part.flatten(1) for part in tensors(model(more))], 1)
    torch.testing.assert_close(evaluate(target, more).flatten(1), expected, rtol=1e-4, atol=1e-4)


def _by_place(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return m.a(x).view(2, 2, 2).flatten(1) + torch.arange(2.0)[:, None]


def test_a_program_that_is_for_one_batch_alone_stays_so(tmp_path: Path) -> None:
    model = shake(Forward(_by_place, a=nn.Linear(4, 4)), 0)
    target = both(model, torch.rand(2, 4), False, tmp_path)
    assert target.graph.batch == 2
    x = torch.randn(5, 4)
    torch.testing.assert_close(evaluate(target, x), torch.cat([model(x[:2]), model(x[2:4]), model(x[[4, 0]])[:1]]))
    ticket = slth.find_ticket(target, base_set_size=20)
    ticket.save(tmp_path / "net.ticket")
    loaded = slth.load(tmp_path / "net.ticket")
    assert loaded.graph.batch == 2 and slth.verify(loaded, model).holds and slth.verify(loaded, target).holds
    for form in ("folded", "sparse", "masked"):
        torch.testing.assert_close(loaded.module(form)(x), evaluate(target, x), rtol=1e-2, atol=1e-2)


def test_a_guess_that_is_wrong_for_other_batches_is_seen(tmp_path: Path) -> None:
    """It fits batches of any size, but what is added would go on counting behind the second input."""
    model = shake(Forward(lambda m, x: m.a(x) + torch.ones(2, 1).cumsum(0), a=nn.Linear(4, 4)), 0)
    target = both(model, torch.rand(2, 4), False, tmp_path)
    assert target.graph.batch == 2
    x = torch.randn(4, 4)
    torch.testing.assert_close(evaluate(target, x), torch.cat([model(x[:2]), model(x[2:])]))


def test_several_values_of_one_call_and_several_outputs(tmp_path: Path) -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = m.a(x).chunk(2, 1)
        top = torch.topk(b, 2, dim=1)
        return a * x.shape[1], top.values, torch.cat([b, torch.zeros(x.shape[0], 1)], 1)

    model = shake(Forward(forward, a=nn.Linear(4, 6)), 0)
    x = torch.randn(3, 4)
    for dynamic in (True, False):
        target = both(model, x[:2], dynamic, tmp_path)
        assert difference(outputs(target, x), tensors(model(x))) < 1e-5 and target.graph.batch == 0


def test_names_infinite_numbers_and_types_in_a_file(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.table.weight
            self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.table(ids)
            x = torch.softmax(x @ x.transpose(1, 2) + self.mask, -1) @ x
            return self.head(x).masked_fill(ids[..., None].to(torch.float64) == 3, float("-inf"))

    model, ids = shake(Tied(), 0), torch.tensor([[1, 2, 3], [4, 5, 6]])
    target = both(model, ids, True, tmp_path)
    assert {account.state for account in target.accounts} == {"ticketed", SHARED}
    torch.testing.assert_close(evaluate(target, ids), model(ids))
    ticket = slth.find_ticket(target, base_set_size=20)
    ticket.save(tmp_path / "net.ticket")
    assert slth.load(tmp_path / "net.ticket") == ticket


def test_a_program_decomposed_to_its_core_is_the_same_function(tmp_path: Path) -> None:
    model, x = ZOO["vit"]()
    core = program(model, x, True).run_decompositions()
    torch.export.save(core, tmp_path / "net.pt2")
    target = read_archive(tmp_path / "net.pt2")
    assert ticketed_share(target.accounts) == 1.0
    torch.testing.assert_close(evaluate(target, x), model(x), rtol=1e-4, atol=1e-4)


def _written(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x)
    y[:, 0] = x[:, 1]
    return y


def test_changes_in_place_of_parts_are_refused_in_files_alone(tmp_path: Path) -> None:
    model = shake(Forward(_written, a=nn.Linear(3, 3)), 0)
    exported = program(model, torch.rand(2, 3), True)
    torch.export.save(exported, tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=r"copy_.*other names.*run_decompositions"):
        read_archive(tmp_path / "net.pt2")
    torch.export.save(exported.run_decompositions({}), tmp_path / "net.pt2")
    x = torch.randn(4, 3)
    for target in (from_program(exported), read_archive(tmp_path / "net.pt2")):
        torch.testing.assert_close(evaluate(target, x), model(x))


def test_what_a_program_must_not_be(tmp_path: Path) -> None:
    layer = nn.Conv1d(1, 1, 2)
    size = torch.export.Dim("size", min=4)
    programs = {
        "another axis than the batch": torch.export.export(layer, (torch.zeros(2, 1, 9),), dynamic_shapes=({2: size},)),
        "2 inputs": torch.export.export(nn.Bilinear(2, 2, 2), (torch.zeros(1, 2), torch.zeros(1, 2))),
        "control flow|branch|cond": program(
            Forward(lambda m, x: torch.cond(x.sum() > 0, m.a, lambda y: y * 2, (x,)), a=nn.Linear(3, 3)),
            torch.rand(2, 3),
            False,
        ),
        "others of its batch": program(
            Forward(lambda m, x: m.a(x) - x.mean(0), a=nn.Linear(3, 3)), torch.rand(2, 3), True
        ),
    }
    for word, exported in programs.items():
        torch.export.save(exported, tmp_path / "net.pt2")
        for read in (lambda exported=exported: from_program(exported), lambda: read_archive(tmp_path / "net.pt2")):
            with pytest.raises(UnsupportedError, match=word):
                read()


def test_programs_and_their_modules_are_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = ZOO["residual_mlp"]()
    exported = program(model, x, True)
    tickets = [slth.find_ticket(given, example, base_set_size=8) for given, example in ((model, x), (exported, None))]
    tickets.append(slth.find_ticket(torch.fx.symbolic_trace(model), x, base_set_size=8))
    assert len({ticket.target_digest for ticket in tickets}) == 1
    assert slth.verify(tickets[0], exported).holds
    with pytest.raises(ArgumentError, match="ExportedProgram"):
        slth.find_ticket(lambda x: x, x)  # type: ignore[arg-type]
    (tmp_path / "made.py").write_text(
        "import torch\nnet = torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(2, 3),))\n"
        "class Times(torch.nn.Linear):\n    def forward(self, x, mask):\n        return super().forward(x) * mask\n"
        "def masked():\n    return Times(3, 2), torch.ones(2, 3), torch.ones(2, 2)\n"
    )
    for name in ("net", "masked"):
        words = ("find", "--model", f"made:{name}", "-o", "net.ticket", "--base-set-size", 8, "-q")
        assert slth_program(*words, cwd=tmp_path).err == ""
    assert slth_program("find", "--model", "made:net", "--input-shape", 3, "-o", "n.ticket", cwd=tmp_path).status == 2


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, object]:
    """Sizes as programs write them, beside their values by Python."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([("s7", lambda s: s), ("Symbol('s7', positive=True, integer=True)", lambda s: s)]))
    if draw(st.integers(0, 2)) == 0:
        number = draw(st.integers(1, 9))
        return draw(st.sampled_from([(f"{number}", lambda s: number), (f"Integer({number})", lambda s: number)]))
    (one, f), (other, g) = draw(expressions()), draw(expressions())
    kinds = [
        (f"Mul({one}, {other})", lambda s: f(s) * g(s)),
        (f"({one})*({other})", lambda s: f(s) * g(s)),
        (f"Add({one}, {other})", lambda s: f(s) + g(s)),
        (f"({one}) + ({other})", lambda s: f(s) + g(s)),
        (f"FloorDiv({one}, {other})", lambda s: f(s) // g(s)),
        (f"Max({one}, {other})", lambda s: max(f(s), g(s))),
        (f"Mod({one}, {other})", lambda s: f(s) % g(s)),
    ]
    return draw(st.sampled_from(kinds))


@given(expressions(), st.integers(1, 10_000))
def test_sizes_are_read_as_they_are_written(expression: tuple[str, object], size: int) -> None:
    text, value = expression
    try:
        expected = value(size)  # type: ignore[operator]
    except ZeroDivisionError:
        with pytest.raises(ValueError):
            parse(text, {"s7": size})
        return
    assert parse(text, {"s7": size}) == expected


@pytest.mark.parametrize(
    "text", ["s8", "__import__('os')", "s7.real", "Symbol(3)", "2**s7", "1.5", "", "(" * 999, "[s7]"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text, {"s7": 2})


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_size_is_a_multiple_of_the_batch_or_does_not_go_by_it(factor: int, constant: int) -> None:
    def at(batch: int) -> int:
        return factor * batch + constant

    if factor and constant:
        with pytest.raises(UnsupportedError, match="no multiple"):
            by_batch("x", at, BATCHES[0])
    else:
        assert by_batch("x", at, BATCHES[0]) == at(BATCHES[0])


def test_the_prime_of_a_batch_divides_no_other_size() -> None:
    assert prime_batch([4, 0, 224]) == BATCHES[0] and prime_batch([2 * BATCHES[0], 5]) == BATCHES[1]
    assert prime_batch([math.prod(BATCHES)]) == 0


@given(st.permutations([0, 1, 2]), st.integers(1, 3), st.booleans())
def test_guesses_are_as_large_as_what_is_reshaped(axes: list[int], batch: int, merge: bool) -> None:
    """For a batch of another size too: that the order is right only a comparison can tell."""
    sizes = [-1, 6, 5]
    layout = Layout(tuple(sizes[axis] for axis in axes), batched=False)
    whole = layout.whole(batch)
    shape = (whole[0] * whole[1], whole[2]) if merge else (whole[0], whole[1], 1, whole[2])
    made = guessed("reshape", {"self": {"source": 0}, "shape": shape}, [layout], batch)["shape"]
    asked = [size for size in made if isinstance(size, dict)]
    assert len(asked) == 1
    for other in (batch, 7):
        sizes = [size["batch"] * other if isinstance(size, dict) else size for size in made]
        assert math.prod(sizes) == math.prod(layout.whole(other))


APART = {
    "entries": (lambda m, x: m.a(x).relu() * x.sum(1, keepdim=True), True),
    "a sum of all axes": (lambda m, x: m.a(x) / x.sum(), False),
    "the first axis": (lambda m, x: m.a(x).softmax(0), False),
    "the first axis from behind": (lambda m, x: m.a(x).softmax(-2), False),
    "an axis behind it": (lambda m, x: m.a(x).softmax(-1), True),
    "a transposition": (lambda m, x: (m.a(x).t() * torch.arange(4.0)[:, None]).t(), False),
    "a product": (lambda m, x: m.a(x) @ (x.t() @ x), False),
    "joined": (lambda m, x: torch.cat([m.a(x), x], 1), True),
    "reversed": (lambda m, x: m.a(x).flip(0) + x, False),
}


@pytest.mark.parametrize("name", APART)
def test_examples_that_seem_apart_are_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, apart = APART[name]
    monkeypatch.setattr("slth.network.trace.check", lambda *_: None)
    target = trace(shake(Forward(function, a=nn.Linear(4, 4)), 0), torch.rand(2, 4))
    assert examples_are_apart(target.graph) is apart


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_network_that_seems_to_keep_examples_apart_mixes_them(name: str) -> None:
    target = trace(*ZOO[name]())
    if examples_are_apart(target.graph):
        x = trial_inputs(target.graph, 4)
        whole, parts = outputs(target, x), [outputs(target, x[k : k + 1]) for k in range(4)]
        assert difference(whole, [torch.cat(each) for each in zip(*parts, strict=True)]) < 1e-9


def test_trial_inputs_are_of_the_examples_kind() -> None:
    graph = trace(nn.Linear(3, 2), torch.zeros(1, 3)).graph
    for example, low, high in ((torch.zeros(1, 3), -1, 1), (torch.full((2, 3), 5.0), 0, 5), (-torch.ones(1, 3), -1, 1)):
        x = trial_inputs(graph, 4, example)
        assert x.shape == (4, 3) and x.dtype == example.dtype and low <= float(x.min()) < float(x.max()) <= high
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(x, 2))
    words = trace(nn.Embedding(5, 2), torch.tensor([[3, 3], [1, 1]])).graph
    assert set(trial_inputs(words, 9, torch.tensor([[3, 1]])).flatten().tolist()) == {1, 3}
    assert set(trial_inputs(words, 99).flatten().tolist()) == set(range(5))
