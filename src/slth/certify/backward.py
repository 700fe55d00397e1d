"""Objectives carried back through one node: what is bounded at its output, in terms of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from slth.certify.joint import Joint
from slth.certify.maxpool import Winners
from slth.certify.relaxation import Lines
from slth.certify.state import TINY, UNIT, State
from slth.certify.windows import Window, cropped, cut, filled, read, within
from slth.network.graph import INPUT, Node
from slth.network.operators import OPERATORS


@dataclass(frozen=True)
class Objective:
    """Upper bounds <value, x> + <difference, e> + <sizes, |y|> + constant + room on some objectives, at one node.

    ``value`` and ``difference`` are (rows, *shape), or that part of the shape that is in the window, outside of which
    coefficients are 0; ``constant`` and ``room``, which is for rounding, are (rows,).
    """

    value: torch.Tensor
    difference: torch.Tensor
    constant: torch.Tensor
    room: torch.Tensor
    sizes: torch.Tensor | None = None
    window: Window = None

    def whole(self, shape: torch.Size) -> Objective:
        """With coefficients for all of the node's output."""
        value, difference = (filled(part, self.window, shape) for part in (self.value, self.difference))
        return replace(self, value=value, difference=difference, window=None)


def one_each(shape: tuple[int, ...], rows: range, window: Window) -> tuple[Objective, Objective]:
    """The entries of x, and those of e, numbered within a window."""
    n = math.prod(shape)
    one = torch.zeros(len(rows), n, dtype=torch.float64)
    one[torch.arange(len(rows)), torch.arange(rows.start, rows.stop)] = 1.0
    one, zero = one.reshape(-1, *shape), torch.zeros(len(rows), *shape, dtype=torch.float64)
    nothing = torch.zeros(len(rows), dtype=torch.float64)
    return Objective(one, zero, nothing, nothing, None, window), Objective(zero, one, nothing, nothing, None, window)


def both_ways(values: Objective, differences: Objective) -> Objective:
    """The largest and the least of each: objectives, those negated, and the same of the second kind."""
    parts = [(values, 1), (values, -1), (differences, 1), (differences, -1)]
    value, difference, constant = (
        torch.cat([sign * getattr(part, name) for part, sign in parts]) for name in ("value", "difference", "constant")
    )
    sizes = None
    if differences.sizes is not None:
        nothing = torch.zeros_like(differences.sizes)
        sizes = torch.cat([nothing, nothing, differences.sizes, -differences.sizes])
    room = torch.cat([part.room for part, _ in parts])
    return Objective(value, difference, constant, room, sizes, values.window)


def _dot(rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return rows.flatten(1) @ numbers.flatten()


def _room(
    rows: Objective, size_value: torch.Tensor, size_difference: torch.Tensor, n_terms: int, state: State
) -> torch.Tensor:
    """Twice what sums of so many terms may be off by, and what underflow may."""
    made = _dot(rows.value.abs(), size_value) + _dot(rows.difference.abs(), size_difference)
    return 2 * (n_terms + 8) * UNIT * made + 4 * UNIT * rows.constant.abs() + _underflow(state)


def _underflow(state: State) -> torch.Tensor:
    """What products below the normal range may cost: each coefficient is off by that, whatever it multiplies."""
    return TINY * (1 + (state.magnitude + state.error).sum())


def _more(*rooms: torch.Tensor) -> torch.Tensor:
    """A few of them added up, rounded upward."""
    return torch.stack(torch.broadcast_tensors(*rooms)).sum(dim=0) * (1 + 8 * UNIT)


def through_weights(joint: Joint, node: Node, state: State, rows: Objective) -> Objective:
    """Exactly, but for rounding and what the layer leaves loose."""
    if node.op == "linear":
        rows = rows.whole(torch.Size(node.shape))
    maps, value, difference = joint.maps, rows.value, rows.difference
    sizes_ = [
        cut(part, rows.window)
        for part in (joint.size_value, joint.size_difference, joint.loose_value, joint.loose_difference)
    ]
    n_terms = 2 * value[0].numel() + 8
    loose = _dot(value.abs(), sizes_[2]) + _dot(difference.abs(), sizes_[3])
    room = _more(rows.room, _room(rows, sizes_[0], sizes_[1], n_terms, state), loose * (1 + 2 * n_terms * UNIT))
    back = _Transpose(node, state.lower.shape, rows.window)
    constant = rows.constant + back.bias(value, joint.bias)
    made = back(value, joint.weight)
    if maps is None:
        return Objective(made, torch.zeros_like(made), constant, room, None, back.window)
    made = made + back(difference, maps.difference)
    constant = constant + back.bias(difference, maps.offset)
    kinks = None
    if maps.kink is not None:
        kinks = back(difference, maps.kink)
        if node.source != INPUT:
            reach = cut(state.magnitude + state.error, back.window)
            room = _more(room, _dot(kinks.abs(), reach) * (1 + 2 * (reach.numel() + 8) * UNIT))
            kinks = None
    return Objective(made, back(difference, maps.slope), constant, room, kinks, back.window)


class _Transpose:
    """From coefficients of a layer's outputs, (rows, *outputs in a window), to those of its inputs."""

    def __init__(self, node: Node, shape: torch.Size, window: Window) -> None:
        self.node, self.window = node, None
        if node.op == "linear":
            return
        attributes, kernel = node.attributes, node.attributes["weight_shape"][2:]
        out = window or tuple((0, size) for size in node.shape[1:])
        before = attributes["padding"][-2::-2] if any(attributes["padding"]) else (0,) * len(kernel)
        self.reads = read(out, kernel, attributes["stride"], attributes["dilation"], before)
        self.window = within(self.reads, shape)

    def __call__(self, rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        if self.window is None:
            return rows @ matrix
        geometry = {key: self.node.attributes[key] for key in ("stride", "dilation", "groups")}
        made = getattr(torch.nn.functional, f"conv_transpose{matrix.dim() - 2}d")(rows, matrix, **geometry)
        return cropped(made, self.reads, self.window)

    def bias(self, rows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """What the biases of the outputs add."""
        if self.window is None:
            return (rows @ bias).flatten(1).sum(dim=1) if rows.dim() > 2 else rows @ bias
        return rows.flatten(2).sum(dim=2) @ bias


def through_fixed(node: Node, state: State, rows: Objective) -> Objective:
    """A linear map without weights, the same in both networks: its transpose by differentiation."""
    rows = rows.whole(torch.Size(node.shape))
    module = OPERATORS[node.op].module(node.attributes)
    with torch.enable_grad():
        x = torch.zeros(len(rows.value), *state.lower.shape, dtype=torch.float64, requires_grad=True)
        y = module(x)
        (value,) = torch.autograd.grad(y, x, rows.value, retain_graph=True)
        (difference,) = torch.autograd.grad(y, x, rows.difference)
    if node.op == "reshape":
        return replace(rows, value=value, difference=difference)
    with torch.no_grad():
        reach = module((state.magnitude + state.error)[None])[0]
    # Padding may read one entry from everywhere.
    n_terms = math.prod(node.attributes["kernel"] if node.op == "average_pool" else node.shape) + 8
    # Besides the coefficients, means themselves are rounded, in either network.
    room = _more(rows.room, 2 * _room(rows, reach, reach, n_terms, state))
    return replace(rows, value=value, difference=difference, room=room)


def through_lines(lines: Lines, state: State, rows: Objective) -> Objective:
    """Along the upper lines where coefficients are positive, and along the lower ones elsewhere."""
    made, constant, room = [], rows.constant, _more(rows.room, _underflow(state))
    for part, pair, reach in (
        (rows.value, lines.value, state.magnitude),
        (rows.difference, lines.difference, state.error),
    ):
        slopes = [cut(line.slope, rows.window) for line in pair]
        intercepts = [cut(line.intercept, rows.window) for line in pair]
        up, down = part.clamp(min=0), part.clamp(max=0)
        made.append(up * slopes[1] + down * slopes[0])
        constant = constant + _dot(up, intercepts[1]) + _dot(down, intercepts[0])
        size = torch.maximum(slopes[0].abs(), slopes[1].abs()) * cut(reach, rows.window)
        size = size + torch.maximum(intercepts[0].abs(), intercepts[1].abs())
        room = _more(room, 2 * (part[0].numel() + 8) * UNIT * _dot(part.abs(), size))
    room = _more(room, 4 * UNIT * constant.abs())
    return replace(rows, value=made[0], difference=made[1], constant=constant, room=room)


def through_level(lines: Lines, state: State, rows: Objective) -> Objective:
    """Along lines that do not depend on the input, whose shape may be another one."""
    rows = rows.whole(lines.value[0].slope.shape)
    zero = torch.zeros_like(lines.value[0].slope)
    made = through_lines(lines, State(zero, zero, zero, False, False), rows)
    nothing = torch.zeros(len(rows.value), *state.lower.shape, dtype=torch.float64)
    return Objective(nothing, nothing, made.constant, made.room)


def through_max_pool(node: Node, won: Winners, state: State, rows: Objective) -> Objective:
    """To the winner of each window where it is certain; to its lower bound's entry, or a constant, elsewhere."""
    attributes, shape = node.attributes, state.lower.shape
    out = rows.window or tuple((0, size) for size in node.shape[1:])
    reads = read(out, attributes["kernel"], attributes["stride"], attributes["dilation"], attributes["padding"])
    window = within(reads, shape)
    place, certain, top, below, above = (
        cut(part, out) for part in (won.place, won.certain, won.top, won.below, won.above)
    )
    local, rest, step = torch.zeros_like(place), place, 1
    for (start, stop), size in zip(reversed(window), reversed(shape[1:]), strict=True):
        local = local + (rest % size - start) * step
        rest, step = rest // size, step * (stop - start)
    up, down = rows.value.clamp(min=0), rows.value.clamp(max=0)
    uncertain = (~certain).to(up.dtype)
    rising, falling = rows.difference.clamp(min=0) * uncertain, rows.difference.clamp(max=0) * uncertain
    # An infinite bound belongs to no window, and 0 times it is no number.
    constant = rows.constant + _dot(up * uncertain, top) + _dot(rising, above) + _dot(falling, below)
    sizes = (state.magnitude + state.error).amax()
    n_terms = math.prod(attributes["kernel"]) + rows.value[0].numel() + 8
    made = []
    for part in (down + up * certain, rows.difference * certain):
        into = torch.zeros(len(part), part.shape[1], step, dtype=part.dtype)
        into.scatter_add_(2, local.flatten(1).expand(len(part), -1, -1), part.flatten(2))
        made.append(into.reshape(len(part), part.shape[1], *(stop - start for start, stop in window)))
    total = rows.value.abs().flatten(1).sum(dim=1) + rows.difference.abs().flatten(1).sum(dim=1)
    rounding = 2 * (n_terms + 8) * UNIT * sizes * total + 4 * UNIT * constant.abs()
    room = _more(rows.room, rounding, _underflow(state))
    return Objective(made[0], made[1], constant, room, None, window)
