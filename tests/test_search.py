"""The lower bound: what is found lies in the box, is found again, and is what the networks do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slth.certify.search import largest_difference, search
from slth.domain import Domain
from zoo import inputs, mlp


class _Record(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.seen = function, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach())
        return self.function(x)


def _zero(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :1] * 0


BOXES = [(0, 1), (-1, 1), (-3, -2), (0.5, 0.5), ([0.0, -1.0, 5.0], [0.0, 1.0, 6.0])]


@pytest.mark.parametrize("box", BOXES)
def test_every_input_tried_lies_in_the_box(box) -> None:
    domain = Domain.parse(tuple(torch.tensor(part) for part in box))
    lower, upper = domain.bounds((3,))
    record = _Record(lambda x: (x**2).sum(dim=1, keepdim=True))
    found = search(record, _zero, domain, (3,))
    x = torch.cat(record.seen)
    assert (x >= lower).all() and (x <= upper).all()
    assert found == float((x**2).sum(dim=1).max())


def test_it_climbs_to_the_corner_of_a_linear_difference() -> None:
    """A smooth slope in 40 dimensions: random points come nowhere near the best corner."""
    slope = torch.linspace(-1, 1, 40, dtype=torch.float64)
    found = search(lambda x: (x @ slope)[:, None], _zero, Domain.parse((-1, 1)), (40,))
    assert found == pytest.approx(float(slope.abs().sum()), rel=1e-12)


def test_it_finds_a_peak_inside_better_than_random_points() -> None:
    def peak(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-((x - 0.3) ** 2).sum(dim=1, keepdim=True))

    assert search(peak, _zero, Domain.parse((-1, 1)), (8,)) > 0.9 > float(peak(inputs((8,), 1000)).max())


def test_given_starts_are_used() -> None:
    def needle(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(1e-3 - (x - 0.123).abs().amax(dim=1, keepdim=True))

    start = torch.full((1, 6), 0.123, dtype=torch.float64)
    assert search(needle, _zero, Domain.parse((0, 1)), (6,)) == 0
    assert search(needle, _zero, Domain.parse((0, 1)), (6,), start) == pytest.approx(1e-3)


def test_it_finds_the_same_each_time() -> None:
    a, b = mlp((4, 6, 2), seed=1).double(), mlp((4, 6, 2), seed=2).double()
    found = {search(a, b, Domain.parse((-1, 1)), (4,)) for _ in range(3)}
    assert len(found) == 1


def test_it_is_at_least_what_random_points_show() -> None:
    for seed in range(5):
        a, b = mlp((4, 6, 2), seed=seed).double(), mlp((4, 6, 2), seed=seed + 50).double()
        assert search(a, b, Domain.parse((-1, 1)), (4,)) >= largest_difference(a, b, inputs((4,), 200, seed=seed))


def test_largest_difference_over_several_batches() -> None:
    x = torch.zeros(1000, 2, dtype=torch.float64)
    x[700, 1], x[3, 0] = -7, 5
    assert largest_difference(nn.Identity(), lambda y: y * 0, x) == 7


def test_it_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slth.certify.search.SECONDS", 0.0)
    record = _Record(lambda x: x)
    assert search(record, lambda x: x * 0, Domain.parse((-1, 1)), (2,)) > 0
    assert len(record.seen) == 2
