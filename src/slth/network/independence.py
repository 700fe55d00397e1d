"""Whether it can be read off a graph that the examples of a batch are each for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slth.network.graph import Graph, Layout, Node

_ENTRIES = """
add sub rsub mul div true_divide neg abs pow square sqrt rsqrt reciprocal exp log log1p expm1 sin cos tanh sigmoid relu
relu6 leaky_relu gelu silu mish elu selu celu softplus softsign hardtanh hardsigmoid hardswish clamp clamp_min clamp_max
maximum minimum erf where masked_fill eq ne lt le gt ge logical_not logical_and logical_or floor round sign prelu
layer_norm group_norm instance_norm rms_norm pixel_shuffle pixel_unshuffle channel_shuffle constant_pad_nd
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d reflection_pad1d reflection_pad2d
replication_pad1d replication_pad2d conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
"""
"""Functions that never go along the first axis of what they read."""
_ALONG = """
softmax _softmax log_softmax mean sum amax amin cat slice select narrow split chunk unbind transpose squeeze unsqueeze
flatten unflatten flip norm linalg_vector_norm var std cumsum glu argmax argmin stack logsumexp
"""
"""Functions that go along the axes that they are given."""
_AXES = ("dim", "dims", "dim0", "dim1", "start_dim")


def examples_are_apart(graph: Graph) -> bool:
    """Whether every operation keeps the batch axis in front, and goes along others alone; False where in doubt."""
    free: dict[str, bool] = {}
    for node in graph:
        # Free of the batch: nothing that it reads depends on the input.
        free[node.name] = all(free.get(source, False) for source in node.sources)
        if free[node.name]:
            continue
        read = [graph.layout_of(source) for source in node.sources if not free.get(source, False)]
        if not node.batched or not all(layout.batched for layout in read):
            return False
        if node.op == "function" and not _keeps(node, read):
            return False
    return True


def _keeps(node: Node, read: list[Layout]) -> bool:
    function, arguments = node.attributes["function"], node.attributes["arguments"]
    if function in _ENTRIES.split():
        return True
    ranks = {len(layout.shape) + 1 for layout in read}
    given = {key: value for key, value in arguments.items() if key in _AXES}
    if function not in _ALONG.split() or len(ranks) != 1 or not given:
        return False
    rank = ranks.pop() + (function in ("unsqueeze", "stack"))
    return all(_axis(value, rank) for value in given.values())


def _axis(value: Any, rank: int) -> bool:
    """Whether an axis, or each of several, is not the first of so many."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_axis(entry, rank) for entry in value)
    return not isinstance(value, Mapping | bool) and isinstance(value, int) and value % rank != 0
