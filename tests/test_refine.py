"""An error asked of the output: plans that are too small are widened, larger ones thinned out, and all is certified."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from command_line import slth as command
from slth import refine
from slth.attempt import Attempt, attempt
from slth.budget import LayerBudget, allocate
from slth.certify.attribution import contributions
from slth.certify.verify import verify
from slth.copies import realise_all
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.target import Target
from slth.network.trace import trace
from slth.runtime import target_module
from zoo import Case, convnet_in_one_group, mlp, shake

EPS = 0.05
SMALL = {"two-for-one": 7, "one-for-one": 7, "conv": 7, "pairs": 20}
"""Base sets that are far too small for it."""
CONSTRUCTIONS = [*SMALL, "golden-ratio"]


def target() -> Target:
    return Case(mlp((5, 9, 3)), (5,)).target()


def shrunk(layers: Sequence[int] | None = None) -> Callable[..., tuple[LayerBudget, ...]]:
    """The budget with base sets too small, or tolerances too large, in some layers or all."""

    def plan(network: Target, method: Any, *arguments: Any, **options: Any) -> tuple[LayerBudget, ...]:
        made = []
        for number, layer in enumerate(allocate(network, method, *arguments, **options)):
            goal = layer.goal
            if layers is None or number in layers:
                if method.keeps_tolerance:
                    goal = replace(goal, tolerance=30 * goal.tolerance)
                else:
                    goal = replace(goal, base_set_size=SMALL[method.name])
            made.append(replace(layer, goal=goal))
        return tuple(made)

    return plan


def widths(attempted: Attempt) -> list[int]:
    return [source.block_width for source in attempted.spec.layers]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """All that is attempted, in order."""
    made: list[Attempt] = []

    def noted(*arguments: Any) -> Attempt:
        made.append(attempt(*arguments))
        return made[-1]

    monkeypatch.setattr("slth.pipeline.attempt", noted)
    return made


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_a_plan_that_is_too_small_is_widened_until_it_holds(
    construction: str, attempts: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine, "allocate", shrunk())
    network = target()
    ticket = slth.find_ticket(network, construction=construction, eps=EPS, domain=(-1, 1), seed=3)
    kinds, holds = [one.kind for one in ticket.rounds], [one.holds for one in ticket.rounds]
    assert kinds == ["planned"] + ["wider"] * (len(kinds) - 1) and 2 <= len(kinds) <= refine.ROUNDS
    assert holds == [False] * (len(holds) - 1) + [True]
    assert [one.chosen for one in ticket.rounds] == holds
    assert (np.diff([widths(one) for one in attempts], axis=0) >= 0).all()
    assert ticket.spec == attempts[-1].spec and ticket.rounds[-1].kept_weights == ticket.n_kept
    checked = verify(ticket, network, (-1, 1), eps=EPS)
    assert checked.holds, checked.reasons
    assert checked.certified_error is not None and checked.certified_error <= ticket.rounds[-1].certified_error
    assert all(layer.source_matches for layer in checked.layers)


@pytest.mark.parametrize("construction", ["two-for-one", "one-for-one"])
def test_a_wider_ticket_is_the_one_that_its_plan_alone_gives(
    construction: str, attempts: list[Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried before leaves no trace: the source is a function of seed and plan, and so are the masks."""
    network = Case(mlp((5, 9, 8, 3)), (5,)).target()
    monkeypatch.setattr(refine, "allocate", shrunk([1]))
    ticket = slth.find_ticket(network, construction=construction, eps=EPS, domain=(-1, 1))
    assert len(attempts) > 1 and ticket.spec == attempts[-1].spec and ticket.masks == attempts[-1].masks
    for tried in attempts:
        alone = attempt(network, tried.plan, 0, 1)
        assert alone.spec == tried.spec and alone.facts == tried.facts
        for one, other in zip(alone.masks, tried.masks, strict=True):
            tensors = [{name: array.tobytes() for name, array in mask.tensors().items()} for mask in (one, other)]
            assert tensors[0] == tensors[1]


def test_layers_within_their_share_keep_their_masks(attempts: list[Attempt], monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[str] = []

    def note(layer: str, done: int, total: int) -> None:
        solved.append(layer)

    monkeypatch.setattr(refine, "allocate", shrunk([1]))
    network = Case(mlp((5, 9, 8, 3)), (5,)).target()
    ticket = slth.find_ticket(network, eps=EPS, domain=(-1, 1), on_progress=note)
    assert [[layer.changed for layer in one.layers] for one in ticket.rounds[1:]] == [[False, True, False]] * (
        len(ticket.rounds) - 1
    )
    for number in (0, 2):
        assert all(one.masks[number] is attempts[0].masks[number] for one in attempts)
    assert "2 (wider, 2)" in solved and not {"0 (wider, 2)", "4 (wider, 2)"} & set(solved)
    assert verify(ticket, network, (-1, 1), eps=EPS).holds


@pytest.mark.parametrize("construction", ["two-for-one", "conv", "pairs", "golden-ratio", "one-for-one"])
def test_sparser_keeps_fewer_weights_and_holds(construction: str) -> None:
    network = target()
    best, sparse = (
        slth.find_ticket(network, construction=construction, eps=EPS, domain=(-1, 1), objective=objective)
        for objective in ("best", "sparsest")
    )
    assert sparse.n_kept < best.n_kept == sparse.rounds[0].kept_weights
    assert sparse.objective == "sparsest" and sparse.tolerance is None and sparse.missed == 0
    holding = [one.kept_weights for one in sparse.rounds if one.holds]
    assert sparse.n_kept == min(holding) and len(sparse.rounds) <= 2 * refine.ROUNDS
    checked = verify(sparse, network, (-1, 1), eps=EPS)
    assert checked.holds, checked.reasons
    if construction not in ("golden-ratio",):
        assert [one.block_width for one in sparse.spec.layers] == [one.block_width for one in best.spec.layers]


@pytest.mark.parametrize("objective", ["best", "sparsest"])
def test_the_loop_is_the_same_on_any_number_of_threads(
    objective: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(refine, "allocate", shrunk())
    network = Case(convnet_in_one_group(), (2, 6, 6)).target()
    made = []
    for threads in (1, 2):
        ticket = slth.find_ticket(network, eps=EPS, domain=(0, 1), objective=objective, threads=threads, seed=7)
        ticket.save(tmp_path / f"{threads}.ticket")
        made.append(ticket)
    assert (tmp_path / "1.ticket").read_bytes() == (tmp_path / "2.ticket").read_bytes()
    assert made[0].rounds == made[1].rounds
    other = slth.find_ticket(network, eps=EPS, domain=(0, 1), objective=objective, seed=8)
    assert other.rounds != made[0].rounds


def test_no_plan_in_the_end_is_exit_1_and_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With base sets of one element more each time, no plan holds within the bound."""

    def slowly(self: refine.Refinement, goals: Sequence[Any], *_: Any) -> list[Any]:
        return [replace(goal, base_set_size=goal.base_set_size + 1) for goal in goals]

    monkeypatch.setattr(refine, "allocate", shrunk())
    monkeypatch.setattr(refine.Refinement, "_widened", slowly)
    torch.save(mlp((5, 9, 3)).state_dict(), tmp_path / "net.pt")
    words = ("find", "net.pt", "--domain=-1,1", "--eps", "0.0001", "-o", "net.ticket")
    shown = command(*words, cwd=tmp_path)
    assert shown.status == 1 and "larger than 0.0001 after 6 plans, the last one with 0 12, 2 12" in shown.err
    assert "6 wider 0 12, 2 12: certified" in shown.out
    told = command(*words, "--json", cwd=tmp_path)
    facts = json.loads(told.out)
    assert told.status == 1 and len(facts["rounds"]) == refine.ROUNDS
    least = min(one["certified_error"] for one in facts["rounds"])
    assert facts["certified_error"] == least > 1e-4
    checked = verify(slth.load(tmp_path / "net.ticket"), mlp((5, 9, 3)), (-1, 1), eps=1e-4)
    assert not checked.holds and checked.certified_error == pytest.approx(least)


def test_the_command_needs_no_tolerance_for_the_fewest_weights(tmp_path: Path) -> None:
    torch.save(mlp((5, 9, 3)).state_dict(), tmp_path / "net.pt")
    words = ("find", "net.pt", "--domain=-1,1", "--eps", "0.05", "--objective", "sparsest", "-o", "net.ticket")
    shown = command(*words, cwd=tmp_path)
    assert shown.status == 0 and "1 planned: certified" in shown.out and ", taken" in shown.out
    assert (
        command("verify", "net.ticket", "--target", "net.pt", "--domain=-1,1", "--eps", 0.05, cwd=tmp_path).status == 0
    )
    refused = command(*words, "--tolerance", "0.1", cwd=tmp_path)
    assert refused.status == 2 and "a tolerance of 0.1 besides" in refused.err
    with pytest.raises(ArgumentError, match="best or sparsest"):
        slth.find_ticket(target(), eps=1.0, domain=(0, 1), objective="fewest")


NETWORKS = {
    "mlp": Case(mlp((5, 9, 3)), (5,)),
    "conv": Case(convnet_in_one_group(), (2, 6, 6)),
    "tanh": Case(shake(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), 0), (3,)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("construction", ["two-for-one", "one-for-one", "conv"])
@pytest.mark.parametrize("box", [(-1, 1), (0, 1)])
def test_a_layers_contribution_bounds_what_it_alone_does(name: str, construction: str, box: tuple[int, int]) -> None:
    """The ticket's error is at most the sum of its layers' contributions but for terms of second order."""
    network, domain = NETWORKS[name].target(), Domain.parse(box)
    ticket = slth.find_ticket(network, construction=construction, base_set_size=14, domain=box)
    realised = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    made = contributions(network, realised, domain)
    assert list(made) == [layer.name for layer in network] and all(value > 0 for value in made.values())
    generator = torch.Generator().manual_seed(0)
    low, high = box
    x = low + (high - low) * torch.rand(500, *network.graph.input_shape, dtype=torch.float64, generator=generator)
    theirs, ours = target_module(network, torch.float64), ticket.module("sparse", dtype=torch.float64)
    with torch.no_grad():
        assert float((ours(x) - theirs(x)).abs().max()) <= 1.01 * sum(made.values())


def test_the_contribution_of_a_layer_alone_is_its_largest_error() -> None:
    network = trace(nn.Linear(4, 2), torch.zeros(1, 4))
    ticket = slth.find_ticket(network, base_set_size=6, domain=(0, 1))
    realised = realise_all(ticket.graph, [(source, mask) for source, mask, _ in ticket.layers])
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    theirs, ours = target_module(network, torch.float64), ticket.module("sparse", dtype=torch.float64)
    (found,) = contributions(network, realised, Domain.parse((0, 1))).values()
    with torch.no_grad():
        assert found == pytest.approx(float((ours(corners) - theirs(corners)).abs().max()), rel=1e-9)
