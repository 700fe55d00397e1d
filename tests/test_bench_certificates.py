"""The benchmark of certificates: rows for each radius, what was found below what is proved, a page with both."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from slth.bench.certificates import Line, measure, table
from slth.domain import Domain
from zoo import Case, inputs, mlp


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """Boxes of two radii and the whole domain."""
    case = Case(mlp((6, 9, 7, 3)), (6,), {"base_set_size": 10, "domain": (0, 1)})
    x = inputs((6,), 5, (0, 1), 3)
    return measure("6-9-7-3", case.target(), case.find(), 0.01, x, (0.0, 0.1, None), Domain.parse((0, 1)), threads=1)


def test_proved_is_above_found_by_every_method(lines: list[Line]) -> None:
    assert [len(line.observed) for line in lines] == [5, 5, 1]
    for line in lines:
        assert line.violations == 0
        assert bool((line.certified["linear"] <= line.certified["interval"]).all())
        assert bool((line.certified["interval"] <= line.certified["norm"]).all())
    # Around a point itself the two agree up to rounding, and more inputs have larger errors.
    assert torch.allclose(lines[0].observed, lines[0].certified["linear"], rtol=1e-6)
    assert bool((lines[0].observed < lines[1].observed).all())
    assert float(lines[1].observed.max()) <= float(lines[2].observed)


def test_a_violation_is_counted(lines: list[Line]) -> None:
    bound = lines[1].certified["linear"]
    found = torch.where(torch.arange(5) == 2, bound * (1 + 1e-12), lines[1].observed)
    assert dataclasses.replace(lines[1], observed=found).violations == 1


def test_the_table_has_a_row_for_each(lines: list[Line]) -> None:
    made = table(lines)
    assert [row[3] for row in made.rows] == ["0", "0.1", "whole box"]
    assert {len(row) for row in made.rows} == {len(made.columns)}
    assert made.markdown().count("\n") == 4
