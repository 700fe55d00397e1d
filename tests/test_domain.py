"""Boxes of inputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from slth.domain import Domain
from slth.errors import ArgumentError

SPELLINGS: list[Any] = [(0, 1), [0.0, 1.0], "0,1", " 0 , 1e0", np.array([0, 1]), (np.float32(0), np.int64(1))]
NAN, INF = float("nan"), float("inf")
WORDS = ["", "0", "0,1,2", "a,b", "1,0", "nan,1", "0,nan", "-inf,0", "0,inf"]
PAIRS: list[Any] = [3, (0,), (0, 1, 2), (1, 0), (None, 1), ("x", 1), (NAN, 1), (0, INF)]
TENSORS: list[Any] = [([0, 2], [1, 1]), (torch.tensor([0.0, NAN]), 1), ([], []), ([0, 0], [1, 1, 1])]


@pytest.mark.parametrize("value", [*SPELLINGS, (torch.tensor(0), torch.tensor(1))])
def test_one_box_in_many_spellings(value: Any) -> None:
    domain = Domain.parse(value)
    assert domain.bounded and domain.describe() == "[0, 1]" and domain.sign.value == "nonnegative"
    lower, upper = domain.bounds((2, 3))
    assert lower.dtype == torch.float64 and torch.equal(lower, torch.zeros(2, 3).double())
    assert torch.equal(upper, torch.ones(2, 3).double())


def test_a_domain_is_itself_and_none_is_all_reals() -> None:
    domain = Domain.parse((0, 1))
    assert Domain.parse(domain) is domain
    everything = Domain.parse(None)
    assert not everything.bounded and everything.sign.value == "signed" and everything.describe() == "all reals"
    with pytest.raises(ArgumentError, match="all reals"):
        everything.bounds((1,))


@pytest.mark.parametrize("value", [*WORDS, *PAIRS, *TENSORS])
def test_what_is_no_box_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="domain"):
        Domain.parse(value)


@pytest.mark.parametrize(
    ("value", "sign"),
    [
        ((0, 0), "nonnegative"),
        ((-0.0, 1), "nonnegative"),
        ((-1, 0), "nonpositive"),
        ((-1e-9, 1), "signed"),
        (([0.0, 2.0], [1.0, 3.0]), "nonnegative"),
        (([0.0, -2.0], [1.0, 3.0]), "signed"),
        (([-3.0, -2.0], [0.0, -1.0]), "nonpositive"),
    ],
)
def test_sign_of_every_entry(value: Any, sign: str) -> None:
    assert Domain.parse(tuple(map(torch.tensor, value))).sign.value == sign


def test_entrywise_bounds_need_the_inputs_shape() -> None:
    domain = Domain.parse((torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])))
    upper = domain.bounds((2, 3))[1]
    assert upper.tolist() == [[1, 2, 3]] * 2 and domain.describe() == "a box within [0, 3]"
    with pytest.raises(ArgumentError, match=r"\(2, 4\)"):
        domain.bounds((2, 4))


def test_bounds_are_copies() -> None:
    domain = Domain.parse((torch.zeros(3), torch.ones(3)))
    domain.bounds((3,))[0].fill_(7)
    assert all(float(part.max()) <= 1 for part in itertools.chain(domain.bounds((3,))))
