"""Users' own activations: registered, in sources and targets, in files that hold no code, and from the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from command_line import Result, assert_refused, files_in
from command_line import slth as run
from slth.activations import Activation, forget, parse, register
from slth.activations.own import OWN, POINTS, Description, describe, named, recall
from slth.artifact import from_bytes, to_bytes
from slth.certify.activation import own as own_rule
from slth.certify.state import State
from slth.container import pack, unpack
from slth.errors import ArgumentError, TicketError, UnsupportedError
from slth.network.graph import Node, Sign
from slth.network.trace import trace


class Soft(nn.Module):
    """x / (1 + a |x|)."""

    def __init__(self, a: float = 1.0) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Entry by entry."""
        return x / (1 + self.a * x.abs())


def soft(a: float = 1.0, name: str = "soft", **change: Any) -> Activation:
    """|phi(x) - x| = a x² / (1 + a |x|) <= a x²."""
    numbers = {"m_plus": 1, "m_minus": 1, "d": 0, "reach": lambda eps: math.sqrt(eps / a), "lipschitz": 1}
    numbers |= {"keeps_sign": True, "module": lambda: Soft(a)} | change
    return Activation.custom(name, lambda x: x / (1 + a * np.abs(x)), **numbers)


def bump() -> Activation:
    """exp(-x²) / 2 + x / 2, with a value at 0."""
    return Activation.custom(
        *("bump", lambda x: np.exp(-x * x) / 2 + x / 2, 0.5, 0.5, 0.5),
        *(lambda eps: math.sqrt(2 * eps), 0.5 + math.exp(-0.5) / math.sqrt(2)),
        module=Bump,
    )


class Bump(nn.Module):
    """As above."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Entry by entry."""
        return torch.exp(-x * x) / 2 + x / 2


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """No test leaves an activation behind."""
    before = dict(OWN)
    yield
    for name in set(OWN) - set(before):
        forget(name)


def net(between: nn.Module) -> nn.Sequential:
    """4-6-3 with fixed weights."""
    generator = torch.Generator().manual_seed(1)
    made = nn.Sequential(nn.Linear(4, 6), between, nn.Linear(6, 3))
    for parameter in made.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    return made.eval()


def find(between: nn.Module, **options: Any) -> slth.Ticket:
    return slth.find_ticket(net(between), torch.zeros(1, 4), base_set_size=14, domain=(-1, 1), **options)


def test_registered_activations_are_known_by_name() -> None:
    with pytest.raises(ArgumentError, match="register"):
        parse("soft")
    made = register(soft())
    assert parse("soft") is named("soft") is made
    assert register(soft()).name == "soft", "the same numbers again change nothing"
    with pytest.raises(ArgumentError, match=r"reach\(.*again=True"):
        register(soft(1.5))
    register(soft(1.5), again=True)
    assert parse("soft").value(2.0) == 0.5
    forget("soft")
    with pytest.raises(ArgumentError, match="no activation registered"):
        named("soft")


@pytest.mark.parametrize("name", ["a b", "a:b", "a,b", "é", "1a", "a/b", "a\nb", "x" * 65, "then", "own", "-a", "a=b"])
def test_names_that_cannot_stand_in_a_file_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="cannot stand in a file"):
        register(soft(name=name))


@pytest.mark.parametrize("name", ["relu", "tanh", "leaky_relu", "identity"])
def test_names_that_slth_has_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="one that slth has"):
        soft(name=name)
    with pytest.raises(ArgumentError, match="one that slth has"):
        register(parse(name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"m_plus": "1"}, "m_plus.*finite number"),
        ({"m_minus": math.nan}, "m_minus.*finite number"),
        ({"d": True}, "d: got True"),
        ({"lipschitz": math.inf}, "lipschitz.*finite number"),
        ({"lipschitz": 0.9}, "Lipschitz constant of 0.9"),
        ({"d": 0.1}, r"phi\(0\)"),
        ({"reach": lambda eps: 2 * math.sqrt(eps)}, "up to reach"),
        ({"reach": lambda eps: math.inf if eps > 1 else math.sqrt(eps)}, "eps / reach"),
        ({"reach": lambda eps: 1 / 0}, "ZeroDivisionError"),
        ({"nonnegative": True}, "no negative value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_false_numbers_are_found_before_anything_is_registered(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        soft(**change)


def test_functions_that_fail_are_refused_with_their_own_words() -> None:
    for function, said in (
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: x.astype(np.float32), "float32"),
        (lambda x: np.where(np.abs(x) > 60, np.inf, x), "inf"),
        (lambda x: x[:3], "shape"),
    ):
        with pytest.raises(ArgumentError, match=said):
            Activation.custom("bad", function, 1, 1, 0, lambda eps: math.inf, 1)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Tanh, "from its module"),
        (lambda: Soft(1.1), "from its module"),
        (nn.Flatten(0), "entry by entry"),
        (nn.Linear, "TypeError"),
        (lambda: 3, "type int"),
        (nn.Bilinear(2, 2, 2), "from its module"),
    ],
)
def test_modules_that_compute_something_else_are_refused(module: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        register(soft(module=module if not isinstance(module, nn.Module) else lambda: module))
    assert "soft" not in OWN


def test_a_source_with_it_is_saved_and_loaded(tmp_path: Path) -> None:
    register(soft())
    ticket = find(nn.ReLU(), source_activation="soft")
    ticket.save(tmp_path / "a.ticket")
    loaded = slth.load(tmp_path / "a.ticket")
    assert loaded == ticket and to_bytes(loaded) == (tmp_path / "a.ticket").read_bytes()
    checked = slth.verify(loaded, net(nn.ReLU()), domain=(-1, 1))
    assert checked.holds and checked.assumed == ("soft",)
    assert checked.certified_error is not None and checked.observed_error is not None
    assert 0 < checked.observed_error <= checked.certified_error


@pytest.mark.parametrize("activation", [soft, bump])
@pytest.mark.parametrize("construction", ["two-for-one", "one-for-one", "pairs"])
def test_a_target_with_it_is_found_saved_and_certified(activation: Any, construction: str) -> None:
    made = register(activation(), module=activation().torch_module())
    between = made.torch_module()
    options = {} if construction == "two-for-one" else {"construction": construction}
    ticket = from_bytes(to_bytes(find(between, **options)))
    assert [node.op for node in ticket.graph] == ["linear", "own", "linear"]
    model = net(between)
    checked = slth.verify(ticket, model, domain=(-1, 1))
    assert checked.holds and checked.assumed == (made.name,)
    assert checked.certified_error is not None
    x = 2 * torch.rand(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        wanted = model.double()(x)
        for form in ("masked", "sparse", "folded"):
            worst = float((ticket.module(form, dtype=torch.float64)(x) - wanted).abs().max())
            assert worst <= checked.certified_error


def test_a_neuron_ticket_with_it_is_saved_and_verified(tmp_path: Path) -> None:
    register(soft())
    x = np.random.default_rng(0).normal(size=(60, 3))
    ticket = slth.find_neurons(x, x[:, 0], activation="soft", features=9, blocks=5)
    ticket.save(tmp_path / "a.ticket")
    loaded = slth.load_neurons(tmp_path / "a.ticket")
    assert slth.verify_neurons(loaded, (x, x[:, 0])).holds
    forget("soft")
    with pytest.raises(TicketError, match="--import"):
        slth.load_neurons(tmp_path / "a.ticket")


def test_loading_asks_for_the_same_numbers(tmp_path: Path) -> None:
    register(soft())
    find(nn.ReLU(), source_activation="soft").save(tmp_path / "a.ticket")
    forget("soft")
    with pytest.raises(TicketError, match=r"a\.ticket, activation 'soft': got no act.*register\(.*--import FILE"):
        slth.load(tmp_path / "a.ticket")
    for other, said in (
        (soft(1.25), r"reach\(|phi\("),
        (soft(lipschitz=1.5), "lipschitz 1.5 instead of 1.0"),
        (soft(keeps_sign=False), "claims none instead of keeps_sign"),
        (soft(reach=lambda eps: math.sqrt(eps) / 2), r"reach\("),
    ):
        register(other, again=True)
        with pytest.raises(TicketError, match=said):
            slth.load(tmp_path / "a.ticket")
    # The last bits of another machine's functions make no difference.
    close = Activation.custom(
        "soft", lambda x: np.nextafter(x / (1 + np.abs(x)), 1), 1, 1, 0, lambda eps: math.sqrt(eps), 1, keeps_sign=False
    )
    assert not describe(close).difference(describe(soft(keeps_sign=False)))


def test_a_ticket_whose_activation_is_not_registered_is_not_saved(tmp_path: Path) -> None:
    ticket = find(nn.ReLU(), source_activation=soft())
    with pytest.raises(ArgumentError, match="register"):
        ticket.save(tmp_path / "a.ticket")
    register(soft(2.0))
    with pytest.raises(ArgumentError, match="the same one"):
        ticket.save(tmp_path / "a.ticket")
    assert not list(tmp_path.iterdir())
    register(soft(), again=True)
    ticket.save(tmp_path / "a.ticket")


BAD: list[Any] = [None, 3, "x", [], {}, [{}], [[]], [None]]


def test_every_other_description_in_a_file_is_refused() -> None:
    register(soft())
    header, tensors = unpack(to_bytes(find(nn.ReLU(), source_activation="soft")))
    header.pop("content_digest")
    (own,) = header["own_activations"]
    wrong: list[Any] = [*BAD, [own, own]]
    wrong += [
        [{**own, key: value}] for key in own for value in (None, 1.0, "1", [], ["0x1.0p+0"], "0x1.8p+9999", "nan")
    ]
    wrong += [[{key: value for key, value in own.items() if key != dropped}] for dropped in own]
    wrong += [[{**own, "besides": 1}], [{**own, "name": "relu"}], [{**own, "name": "os.system"}]]
    wrong += [[{**own, "values": [*own["values"][:-1], "0x1.0p+0"]}], [{**own, "m_plus": "0x1.0p+0"}]]
    for value in wrong:
        with pytest.raises(TicketError):
            from_bytes(pack({**header, "own_activations": value}, tensors))
    del header["own_activations"]
    with pytest.raises(TicketError):
        from_bytes(pack(header, tensors))


def test_a_description_that_nobody_uses_is_refused() -> None:
    register(soft())
    header, tensors = unpack(to_bytes(find(nn.ReLU())))
    header.pop("content_digest")
    with pytest.raises(TicketError):
        from_bytes(pack({**header, "own_activations": [describe(soft()).to_json()]}, tensors))


def test_descriptions_survive_json() -> None:
    own = describe(register(soft(0.3)))
    again = Description.from_json(json.loads(json.dumps(own.to_json())))
    assert again == own and not again.difference(own) and recall(again).name == "soft"
    assert len(own.values) == len(POINTS) and own.values[POINTS.index(1.0)] == 1 / 1.3


def test_instances_of_a_registered_class_must_compute_the_same() -> None:
    register(soft(), module=Soft)
    register(soft(0.5, "half"), module=Soft(0.5))
    model = nn.Sequential(nn.Linear(4, 6), Soft(), nn.Linear(6, 6), Soft(0.5), nn.Linear(6, 3)).train()
    forwards = [module.forward for module in model]
    target = trace(model, torch.zeros(1, 4))
    assert [node.attributes.get("name") for node in target.graph if node.op == "own"] == ["soft", "half"]
    assert [module.forward for module in model] == forwards and all(module.training for module in model)
    assert all("forward" not in module.__dict__ for module in model)
    with pytest.raises(UnsupportedError, match=r"layer '1' \(Soft\).*from its module"):
        trace(nn.Sequential(nn.Linear(4, 6), Soft(0.7), nn.Linear(6, 3)), torch.zeros(1, 4))
    other = trace(nn.Sequential(nn.Linear(4, 6), type("Other", (Soft,), {})(), nn.Linear(6, 3)), torch.zeros(1, 4))
    assert "own" not in {node.op for node in other.graph}


def test_a_networks_digest_knows_the_name() -> None:
    register(soft(), module=Soft)
    register(soft(0.5, "half"), module=Soft(0.5))
    digests = {trace(net(Soft(a)), torch.zeros(1, 4)).digest() for a in (1.0, 0.5)}
    assert len(digests | {trace(net(nn.ReLU()), torch.zeros(1, 4)).digest()}) == 3
    assert trace(net(Soft()), torch.zeros(1, 4)).input_signs(Sign.NONNEGATIVE)["2"] == Sign.SIGNED


@given(
    st.sampled_from(["soft", "bump"]),
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 2), st.floats(0, 0.5)), min_size=1, max_size=5),
    st.integers(0, 2**32),
)
def test_bounds_through_it_hold_for_every_pair_in_the_hull(name: str, boxes: list[Any], seed: int) -> None:
    made = OWN.get(name) or register({"soft": soft, "bump": bump}[name]())
    lower = torch.tensor([low for low, _, _ in boxes], dtype=torch.float64)
    width, error = (torch.tensor([box[k] for box in boxes], dtype=torch.float64) for k in (1, 2))
    state = State(lower, lower + width, error, bool((lower >= 0).all()), bool((lower + width <= 0).all()))
    after = own_rule(Node("a", "own", "input", {"name": name}), state)
    rng = np.random.default_rng(seed)
    share = np.concatenate([[0, 1], rng.random(60)])[:, None]
    target = lower.numpy() + share * width.numpy()
    ticket = target + rng.choice([-1.0, 1.0, 0.3], share.shape) * error.numpy()
    of_target, of_ticket = made.value(target), made.value(ticket)
    assert (of_target >= after.lower.numpy()).all() and (of_target <= after.upper.numpy()).all()
    assert (np.abs(of_ticket - of_target) <= after.error.numpy()).all()
    # Bounds are not far from what is reached: 64 pieces, and slopes up to one.
    assert (after.upper - after.lower <= torch.from_numpy(np.ptp(of_target, axis=0)) + 0.6 * width + 1e-9).all()


CODE = """
import math
import numpy as np
import torch
from torch import nn
from slth.activations import Activation, register

print("IMPORTED")

class Soft(nn.Module):
    def forward(self, x):
        return x / (1 + x.abs())

SOFT = Activation.custom(
    "typed", lambda x: x / (1 + np.abs(x)), 1, 1, 0, math.sqrt, 1, keeps_sign=True, module=Soft
)
register(SOFT, module=Soft)
LATER = Activation.custom("later", np.arctan, 1, 1, 0, lambda eps: (3 * eps) ** (1 / 3), 1, module=lambda: Atan())
FALSE = 3

class Atan(nn.Module):
    def forward(self, x):
        return torch.atan(x)

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), Soft(), nn.Linear(5, 2))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A person's folder with a module of their own; it is forgotten again."""
    (tmp_path / "my_acts_for_test.py").write_text(CODE)
    path = list(sys.path)
    yield tmp_path
    sys.modules.pop("my_acts_for_test", None)
    sys.path[:] = path


def again(folder: Path) -> None:
    """As in another process."""
    sys.modules.pop("my_acts_for_test", None)
    for name in ("typed", "later"):
        forget(name)


def test_command_line_imports_what_is_named_and_nothing_else(folder: Path) -> None:
    words = ("find", "--model", "my_acts_for_test:net", "-o", "a.ticket", "--domain", "-1,1", "--base-set-size", 12)
    found = run(*words, "--set", "activation=my_acts_for_test:LATER", "-q", cwd=folder)
    assert found == Result(0, "", "IMPORTED\n")
    again(folder)
    assert_refused(run("show", "a.ticket", cwd=folder), "'later'", "--import FILE.py")
    again(folder)
    # The import registers one of the two; the other has to be named.
    half = run("show", "a.ticket", "--import", "my_acts_for_test.py", cwd=folder)
    assert half.status == 2 and "'later'" in half.err
    again(folder)
    shown = run("show", "a.ticket", "--import", "my_acts_for_test:LATER", "--json", "--html", "a.html", cwd=folder)
    assert shown.status == 0 and json.loads(shown.out)["construction"] == "two-for-one"
    again(folder)
    verified = run(
        *("verify", "a.ticket", "--model", "my_acts_for_test:net", "--domain", "-1,1"),
        *("--import", "my_acts_for_test.py:LATER"),
        cwd=folder,
    )
    assert verified.status == 0 and "if what was registered of later, typed is true" in verified.out


def test_command_line_takes_it_between_the_layers_of_a_state_dict(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(net(nn.ReLU()).state_dict(), folder / "net.safetensors")
    words = ("net.safetensors", "--activation", "my_acts_for_test:SOFT", "--domain", "-1,1", "-q")
    assert run("find", *words, "-o", "a.ticket", cwd=folder).status == 0
    again(folder)
    checked = run(
        "verify", "a.ticket", "--target", "net.safetensors", "--activation", "typed", "--domain", "-1,1",
        "--import", "my_acts_for_test", cwd=folder,
    )  # fmt: skip
    assert checked.status == 0 and "holds" in checked.out
    again(folder)
    planned = run("plan", *words[:-1], "--eps", 0.1, "--delta", 0.1, "--theorem", "burkholz-2.5", cwd=folder)
    assert planned.status == 0 and "typed" in planned.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--import", "no_such_module_here"), ("--import", "ModuleNotFoundError")),
        (("--import", "missing.py"), ("--import", "no such file")),
        (("--import", "my_acts_for_test:NONE"), ("no 'NONE'",)),
        (("--import", "my_acts_for_test:FALSE"), ("type int", "Activation")),
        (("--import", "broken_for_test.py"), ("--import", "SyntaxError")),
        (("--import", ":SOFT"), ("--import",)),
        (("--set", "activation=my_acts_for_test:NONE"), ("--set activation", "no 'NONE'")),
        (("--set", "activation=relu:slope"), ("relu",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_code_that_cannot_be_imported_is_refused(words: tuple[str, ...], said: tuple[str, ...], folder: Path) -> None:
    (folder / "broken_for_test.py").write_text("def (")
    before = files_in(folder)
    result = run("find", "--model", "my_acts_for_test:net", "-o", "a.ticket", *words, cwd=folder)
    assert_refused(Result(result.status, result.out, result.err.replace("IMPORTED\n", "")), *said)
    assert files_in(folder) == before
