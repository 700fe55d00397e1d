"""Shared by all tests: how hypothesis draws, the folder of real data, and one small ticket of each kind."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import slth
from slth.network.target import Target
from zoo import Case, convnet, convnet_in_one_group, mlp, pooled_convnet

# The same examples every time, as many as leave the suite its ten minutes; HYPOTHESIS_PROFILE=explore looks further.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("slth", derandomize=True, max_examples=15, print_blob=True, **_COMMON)
settings.register_profile("explore", max_examples=300, print_blob=True, **_COMMON)
# torch's tracer logs thousands of records, all of which pytest would keep.
logging.getLogger("torch.__trace").propagate = False
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "slth"))

# Two threads on two busy cores wait for each other hundreds of times longer than these networks take.
torch.set_num_threads(1)

SHARED = Path(os.environ.get("SLTH_SHARED", Path(__file__).resolve().parents[2] / "shared"))

COPIES = {"construction": "one-for-one"}
SIGNED = {"construction": "conv", "base_set_size": 8, "domain": (-1, 1)}

KINDS: dict[str, Case] = {
    "signed": Case(mlp(), (5,), {"base_set_size": 8}),
    "nonnegative": Case(mlp(), (5,), {"base_set_size": 10, "domain": (0, 1), "tolerance": 0.05}),
    "sparsest": Case(mlp(), (5,), {"base_set_size": 10, "domain": (0, 1), "objective": "sparsest", "tolerance": 0.05}),
    "nonpositive": Case(mlp(), (5,), {"base_set_size": 8, "domain": (-2, 0), "tolerance": 0.05}),
    "looks-linear": Case(mlp(), (5,), {"base_set_size": 8, "initialisation": "looks-linear"}),
    "conv": Case(convnet(), (4, 6, 6), {"base_set_size": 5, "domain": (-1, 1)}),
    "conv looks-linear": Case(convnet(), (4, 6, 6), {"base_set_size": 5, "initialisation": "looks-linear"}),
    "pairs": Case(mlp(), (5,), {"construction": "pairs", "base_set_size": 60, "tolerance": 0.05}),
    "pairs conv": Case(convnet(), (4, 6, 6), {"construction": "pairs", "base_set_size": 20, "domain": (-1, 1)}),
    "pairs of depth three": Case(
        mlp(),
        (5,),
        {
            "construction": "pairs",
            "settings": {"depth": "three", "candidates": 6},
            "base_set_size": 14,
            "tolerance": 0.05,
            "domain": (-1, 1),
        },
    ),
    "golden": Case(mlp(), (5,), {"construction": "golden-ratio", "tolerance": 0.05, "domain": (-2, 0)}),
    "golden conv": Case(
        convnet(), (4, 6, 6), {"construction": "golden-ratio", "tolerance": 0.1, "delta": 0.9, "domain": (0, 1)}
    ),
    "golden free": Case(
        mlp((3, 4, 2)),
        (3,),
        {
            "construction": "golden-ratio",
            "tolerance": 0.1,
            "settings": {"law": "hyperbolic-log", "schedule": "odd-multiples"},
        },
    ),
    "kernels": Case(mlp(), (5,), {"construction": "conv", "base_set_size": 10, "domain": (-2, 0), "tolerance": 0.05}),
    "kernels conv": Case(convnet(), (4, 6, 6), {"construction": "conv", "base_set_size": 8, "domain": (0, 1)}),
    "kernels and neurons": Case(convnet(), (4, 6, 6), {"construction": "conv", "base_set_size": 6, "domain": (-1, 1)}),
    "kernels of one tap": Case(convnet(), (4, 6, 6), {**SIGNED, "settings": {"signed": "taps"}}),
    "kernels of a split": Case(convnet(), (4, 6, 6), {**SIGNED, "settings": {"signed": "split"}, "tolerance": 0.2}),
    "kernels of a shift": Case(convnet(), (4, 6, 6), {**SIGNED, "settings": {"signed": "shift"}, "tolerance": 0.2}),
    "kernels, pooled": Case(
        pooled_convnet(),
        (2, 6, 6),
        {"construction": "conv", "base_set_size": 8, "domain": (0, 1), "settings": {"pooling": "convolution"}},
    ),
    "copies": Case(mlp(), (5,), {**COPIES, "base_set_size": 8, "domain": (-1, 1), "tolerance": 0.05}),
    "copies conv": Case(convnet_in_one_group(), (2, 6, 6), {**COPIES, "base_set_size": 6, "domain": (0, 1)}),
    "copies, deeper": Case(
        mlp(), (5,), {**COPIES, "base_set_size": 6, "domain": (-2, 0), "settings": {"extra_depth": 2}}
    ),
    "copies of pairs, deeper conv": Case(
        convnet_in_one_group(),
        (2, 6, 6),
        {
            **COPIES,
            "base_set_size": 5,
            "domain": (-1, 1),
            "initialisation": "looks-linear",
            "distribution": "normal",
            "source_activation": "softplus",
            "settings": {"extra_depth": 1},
        },
    ),
    "conv nonnegative": Case(convnet(), (4, 6, 6), {"base_set_size": 6, "domain": (0, 1), "tolerance": 0.2}),
}


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of a small case."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def case(kind: str) -> Case:
    """One small case of each kind."""
    return KINDS[kind]


@pytest.fixture(scope="session")
def target(case: Case) -> Target:
    """Its traced network."""
    return case.target()


@pytest.fixture(scope="session")
def ticket(case: Case, target: Target) -> slth.Ticket:
    """Its ticket."""
    return case.find(target)


@pytest.fixture(scope="session")
def small_ticket() -> slth.Ticket:
    """A ticket whose file is a few kilobytes."""
    return Case(mlp((2, 3, 1)), (2,), {"base_set_size": 3, "domain": (0, 1)}).find()
