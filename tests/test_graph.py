"""The graph as data: round trips, and descriptions from anybody."""

from __future__ import annotations

import copy
import json
import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slth.errors import TicketError
from slth.network.graph import Graph, Node, Sign
from slth.network.target import Target
from zoo import Case, cases, convnet

CONV = Case(convnet(), (4, 6, 6)).target().graph.to_json()
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [2**31, 2**62, 2**64, -(2**70), 0.5, float("nan"), "input", "relu", "", "\ud800", [], [0], [[1]], {}]
    ),
)


@given(cases())
def test_json_round_trip_keeps_everything(case: Case) -> None:
    graph = case.target().graph
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    """A copy of a JSON value with one place changed."""
    if not path:
        return leaf
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], leaf)
    return changed


@given(st.sampled_from(_paths(CONV)), LEAVES)
def test_any_single_change_is_read_or_refused_in_one_line(path: tuple[Any, ...], leaf: Any) -> None:
    try:
        graph = Graph.from_json(replaced(CONV, path, leaf))
    except TicketError as error:
        assert "\n" not in str(error)
    else:
        assert all(size >= 1 for node in graph for size in node.shape)


def _conv(**changes: Any) -> dict[str, Any]:
    attributes = {
        "weight_shape": [2, 3, 3],
        "bias": True,
        "stride": [1],
        "padding": [0, 0],
        "dilation": [1],
        "groups": 1,
    }
    return {"name": "c", "op": "conv", "source": "input", "attributes": attributes | changes}


def test_the_plain_convolution_of_the_refusals_is_read() -> None:
    assert Graph.from_json({"input_shape": [3, 8], "nodes": [_conv()]}).output_shape == (2, 6)


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [_conv(), _conv()],
        [_conv() | {"source": "d"}],
        [_conv() | {"source": "c"}],
        [_conv() | {"name": "input"}],
        [_conv() | {"op": "exec"}],
        [_conv(weight_shape=[2, 4, 3])],
        [_conv(weight_shape=[0, 3, 3])],
        [_conv(weight_shape=[-2, 3, 3])],
        [_conv(weight_shape=[2, 3, 0])],
        [_conv(weight_shape=[2, 3, 9])],
        [_conv(weight_shape=[2, 3, 3, 3, 3, 3])],
        [_conv(weight_shape=[2])],
        [_conv(weight_shape=[2, 3, True])],
        [_conv(weight_shape=[0, 3, 3]), _conv(weight_shape=[0, 0, 3], groups=0) | {"name": "d", "source": "c"}],
        [_conv(groups=0)],
        [_conv(groups=3)],
        [_conv(stride=[0])],
        [_conv(stride=[-1])],
        [_conv(stride=[1, 1])],
        [_conv(dilation=[0])],
        [_conv(padding=[-9, 0])],
        [_conv(padding=[0, 0, 5, 5])],
        [_conv(extra=1)],
        [{"name": "l", "op": "linear", "source": "input", "attributes": {"weight_shape": [2, 7], "bias": True}}],
        [{"name": "r", "op": "reshape", "source": "input", "attributes": {"shape": [5]}}],
        [{"name": "r", "op": "reshape", "source": "input", "attributes": {"shape": [-4, -6]}}],
        [{"name": "p", "op": "pad", "source": "input", "attributes": {"widths": [1, 1], "mode": "evil"}}],
        [
            {
                "name": "p",
                "op": "pad",
                "source": "input",
                "attributes": {"widths": [0, 0, 0, 0, 1, 1], "mode": "constant"},
            }
        ],
        [{"name": "p", "op": "pad", "source": "input", "attributes": {"widths": [-9, 0], "mode": "constant"}}],
    ],
)
def test_nonsense_is_refused(nodes: list[dict[str, Any]]) -> None:
    with pytest.raises(TicketError, match="graph"):
        Graph.from_json({"input_shape": [3, 8], "nodes": nodes})


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [],
        {},
        {"input_shape": [3]},
        {"input_shape": 3, "nodes": []},
        {"input_shape": [0, 8], "nodes": [_conv()]},
    ],
)
def test_another_kind_of_value_is_refused(value: Any) -> None:
    with pytest.raises(TicketError, match="graph"):
        Graph.from_json(value)


def test_shapes_of_any_size_cost_no_memory() -> None:
    """A description of a few bytes must not make its reader allocate gigabytes."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    pool = {
        "name": "p",
        "op": "max_pool",
        "source": "c",
        "attributes": {"kernel": [2], "stride": [2], "padding": [0], "dilation": [1], "ceil_mode": False},
    }
    graph = Graph.from_json({"input_shape": [3, 10**12], "nodes": [_conv(weight_shape=[2, 3, 10**9]), pool]})
    assert graph.output_shape == (2, (10**12 - 10**9 + 1) // 2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert time.perf_counter() - begin < 1


def test_structure_does_not_depend_on_names() -> None:
    graph = Graph.from_json(CONV)
    names = {"input": "input"} | {node.name: f"layer.{number}" for number, node in enumerate(graph)}
    renamed = Graph(
        graph.input_shape, tuple(Node(names[n.name], n.op, names[n.source], n.attributes, n.shape) for n in graph)
    )
    assert renamed != graph and renamed.structure() == graph.structure()


def test_shapes_by_name(target: Target) -> None:
    graph = target.graph
    assert graph.shape_of("input") == graph.input_shape
    assert [graph.shape_of(node.name) for node in graph] == [node.shape for node in graph]
    assert graph.output_shape == graph.nodes[-1].shape


@pytest.mark.parametrize(("sign", "branches"), [("nonnegative", (1,)), ("nonpositive", (-1,)), ("signed", (1, -1))])
def test_branches_of_a_sign(sign: str, branches: tuple[int, ...]) -> None:
    assert Sign(sign).branches == branches
