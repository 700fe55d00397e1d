"""Theorems on networks of any kind: what is no chain of layers is said to be none, by its node."""

from __future__ import annotations

import math

import numpy as np
import pytest

import slth
from slth.network.chain import broken_at
from slth.network.trace import trace
from zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_every_network_has_norms_and_what_is_no_chain_breaks_every_theorem(name: str) -> None:
    target = trace(*ZOO[name]())
    names = ["burkholz-2.5", "malach-2.3", "dacunha-1"]
    found = slth.requirements(
        target, eps=0.1, delta=0.05, domain=None if len(name) % 2 else (0, 1), theorems=names, calibrated=False
    )
    shape = found.network.shape
    for layer, measured in zip(target, shape.layers, strict=True):
        weight = np.abs(layer.weight_array())
        assert measured.largest == weight.max() and measured.outputs == len(weight)
        assert measured.row_sum == pytest.approx(weight.sum((1, 2)).max())
        assert measured.weights == weight.size and math.isfinite(measured.spectral) and measured.positions >= 1
    plain = all(node.op not in ("function", "join") for node in target.graph)
    plain = plain and all(node.op in ("linear", "conv") for node in target.graph.weighted)
    is_chain = plain and target.graph.is_chain
    assert (found.network.unlike is None) == is_chain
    assert (broken_at(target.graph) is None) == target.graph.is_chain
    report = found.to_json()
    assert len(report["layers"]) == len(target.layers)
    if is_chain:
        assert any(row.bound.applies for row in found)
        return
    for row in found:
        assert row.state == "broken" and not row.bound.applies and row.estimate.find_seconds is None
        (assumption,) = row.assumptions
        assert assumption.text == "a chain of layers" and "'" in assumption.got and assumption.remedy
        assert assumption.got.split("'")[-2] in {node.name for node in target.graph}


def test_a_sum_is_called_one() -> None:
    found = slth.requirements(trace(*ZOO["resnet"]()), eps=0.1, delta=0.05, theorems=["pensia-1"], calibrated=False)
    assert found.network.unlike is not None
    assert found.network.unlike.got.startswith("a sum of '1.body.1.0', 'max_pool2d' at node 'add'")
