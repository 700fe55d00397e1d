"""Bounds through weight layers of which the ticket has several copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from slth.certify.affine import affine, affine_and_rounding, at_middles, middle_and_rest
from slth.certify.maps import on_one
from slth.certify.state import UNIT, State, inflate, of_copies
from slth.copies import CopiedLayer, CopyRows
from slth.network.graph import Node
from slth.network.target import WeightLayer


def by_copy(rule: Callable[[Node, State], State], node: Node, state: State) -> State:
    """An operation without weights, on each copy."""
    if state.copies is None:
        return rule(node, state)
    return of_copies([rule(node, replace(state, error=error, copies=None)) for error in state.copies])


def copied(node: Node, state: State, layer: WeightLayer, realised: CopiedLayer) -> State:
    """The recursion of section 0.3, for every copy of the outputs by itself.

    Copy s of an output keeps the weights w[s, j, r] of the copies r of every input j, which are off by e[j, r] each:

        error_out[s] <= sum |w[s, j, r]| e[j, r] + |sum d[s, j] c_j| + sum |d[s, j]| |x_j - c_j| + |bias error|,

    where d[s, j] is the sum over r of w[s, j, r] less the target's weight, and c_j the middle of the bounds on x_j.
    Few copies of an output have the largest deviations, and few of their readers keep those copies, so that this is
    far less than what the largest of all copies would give.
    """
    if realised.wide is not None:
        return of_copies([affine(node, state, layer, one) for one in realised.by_copy()])
    assert state.copies is not None and realised.rows is not None
    whole, rounding = affine_and_rounding(node, replace(state, copies=None), layer, realised)
    # Channels are the last axis of what Linear layers read, and the first of maps; copies lie channel by channel.
    axis = -1 if node.op == "linear" else 0
    errors = state.copies.movedim(0, -1).flatten(-2) if axis else state.copies.transpose(0, 1).flatten(0, 1)
    weight, bias = layer.weight_array(), layer.bias_array()
    parts = []
    for rows in realised.rows():
        wanted = weight[rows.start : rows.stop].repeat(realised.copies, axis=0)
        wanted_bias = np.zeros(len(wanted))
        if bias is not None:
            wanted_bias = bias[rows.start : rows.stop].repeat(realised.copies)
        part = _rows(node, errors, state, rows, wanted, wanted_bias)
        parts.append(part.unflatten(axis, (-1, realised.copies)).movedim(-1 if axis else 1, 0))
    outputs = torch.cat(parts, dim=-1 if axis else 1)
    outputs = inflate(outputs + rounding, 2)
    return replace(whole, error=outputs.amax(dim=0), copies=outputs)


def _rows(
    node: Node,
    errors: torch.Tensor,
    state: State,
    rows: CopyRows,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> torch.Tensor:
    """Errors of some copies of outputs, without the rounding of an evaluation; rows take the place of channels."""
    n_rows, inputs, taps, copies = rows.kept.shape
    kernel = node.attributes["weight_shape"][2:]
    n_terms = inputs * taps * copies + rows.bias.values.size + 2
    sizes = np.abs(rows.kept)
    # Each sum over copies is rounded, and so is its difference from the weight.
    slack = sizes.sum(axis=3) * (2.0 * UNIT * (copies + 2))
    difference = rows.kept.sum(axis=3) - weight
    shift = torch.from_numpy(rows.bias.values - bias)
    room = torch.from_numpy(rows.bias.slack + rows.bias_size * (2.0 * UNIT * (rows.n_terms + 2)))
    gain = torch.from_numpy(sizes.transpose(0, 1, 3, 2).reshape(n_rows, inputs * copies, *kernel))
    shape = (n_rows, inputs, *kernel)
    apart = inflate(torch.from_numpy((np.abs(difference) + slack).reshape(shape)), 2)
    loose = torch.from_numpy(slack.reshape(shape))

    apply = on_one(node)
    middle, rest = middle_and_rest(state, torch.ones_like(state.lower, dtype=torch.bool))
    made = apply(gain, errors) + apply(apart, rest)
    made = made + at_middles(
        apply, [(torch.from_numpy(difference.reshape(shape)), middle)], shift, apart, loose, room, n_terms
    )
    return inflate(made, n_terms + 4)
