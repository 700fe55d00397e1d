"""Objectives carried back through one node: what is bounded at its output, in terms of its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from slth.certify.joint import Joint
from slth.certify.maps import per_output
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
    coefficients are 0; ``difference`` is None where all of its coefficients are. ``constant``, and ``room`` for
    rounding, are (rows,).
    """

    value: torch.Tensor
    difference: torch.Tensor | None
    constant: torch.Tensor
    room: torch.Tensor
    sizes: torch.Tensor | None = None
    window: Window = None

    def whole(self, shape: torch.Size) -> Objective:
        """With coefficients for all of the node's output."""
        return replace(self.each(lambda part: filled(part, self.window, shape)), window=None)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Objective:
        """With the same change made to both kinds of coefficients."""
        difference = None if self.difference is None else change(self.difference)
        return replace(self, value=change(self.value), difference=difference)


def one_each(shape: tuple[int, ...], rows: range, window: Window) -> tuple[Objective, Objective]:
    """The entries of x, and those of e, numbered within a window."""
    n = math.prod(shape)
    one = torch.zeros(len(rows), n, dtype=torch.float64)
    one[torch.arange(len(rows)), torch.arange(rows.start, rows.stop)] = 1.0
    one = one.reshape(-1, *shape)
    nothing = torch.zeros(len(rows), dtype=torch.float64)
    differences = Objective(torch.zeros_like(one), one, nothing, nothing, None, window)
    return Objective(one, None, nothing, nothing, None, window), differences


def both_ways(rows: Objective) -> Objective:
    """The largest and the least of each: objectives, and those negated."""

    def signed(part: torch.Tensor) -> torch.Tensor:
        return torch.cat([part, -part])

    sizes = None if rows.sizes is None else signed(rows.sizes)
    room = torch.cat([rows.room, rows.room])
    return replace(rows.each(signed), constant=signed(rows.constant), room=room, sizes=sizes)


def dot(rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return rows.flatten(1) @ numbers.flatten()


def sums(rows: torch.Tensor | None, *numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Products of rows, of absolute values say, with one thing after another; none where there are no rows."""
    if rows is None:
        return tuple(torch.zeros((), dtype=torch.float64) for _ in numbers)
    return tuple(dot(rows, part) for part in numbers)


def sizes_of(rows: torch.Tensor | None) -> torch.Tensor | None:
    return None if rows is None else rows.abs()


def room_of(rows: Objective, made: torch.Tensor, n_terms: int, state: State) -> torch.Tensor:
    """Twice what sums of so many terms may be off by, whose absolute values add up to ``made``, and underflow."""
    return 2 * (n_terms + 8) * UNIT * made + 4 * UNIT * rows.constant.abs() + underflow(state)


def underflow(state: State) -> torch.Tensor:
    """What products below the normal range may cost: each coefficient is off by that, whatever it multiplies."""
    return TINY * (1 + (state.magnitude + state.error).sum())


def added_up(*rooms: torch.Tensor) -> torch.Tensor:
    """A few of them added up, rounded upward."""
    return torch.stack(torch.broadcast_tensors(*rooms)).sum(dim=0) * (1 + 8 * UNIT)


def through_weights(joint: Joint, node: Node, state: State, rows: Objective) -> Objective:
    """Exactly, but for rounding and what the layer leaves loose."""
    if node.op != "conv":
        rows = rows.whole(joint.size_value.shape)
    maps, value, difference = joint.maps, rows.value, rows.difference
    n_terms = 2 * value[0].numel() + 8
    made_value, loose_value = sums(value.abs(), cut(joint.size_value, rows.window), cut(joint.loose_value, rows.window))
    made_difference, loose_difference = sums(
        sizes_of(difference), cut(joint.size_difference, rows.window), cut(joint.loose_difference, rows.window)
    )
    loose = (loose_value + loose_difference) * (1 + 2 * n_terms * UNIT)
    room = added_up(rows.room, room_of(rows, made_value + made_difference, n_terms, state), loose)
    back = _Transpose(node, state.lower.shape, rows.window)
    constant = rows.constant + back.bias(value, joint.bias)
    made = back(value, joint.weight)
    if maps is None or difference is None:
        return Objective(made, None, constant, room, None, back.window)
    made += back(difference, maps.difference)
    constant = constant + back.bias(difference, maps.offset)
    kinks = None
    if maps.kink is not None:
        kinks = back(difference, maps.kink)
        if node.source != INPUT:
            reach = cut(state.magnitude + state.error, back.window)
            room = added_up(room, dot(kinks.abs(), reach) * (1 + 2 * (reach.numel() + 8) * UNIT))
            kinks = None
    # The two networks read the same input.
    slope = None if node.source == INPUT else back(difference, maps.slope)
    return Objective(made, slope, constant, room, kinks, back.window)


class _Transpose:
    """From coefficients of a layer's outputs, (rows, *outputs in a window), to those of its inputs."""

    def __init__(self, node: Node, shape: torch.Size, window: Window) -> None:
        self.node, self.shape, self.window = node, shape, None
        if node.op != "conv":
            return
        attributes, kernel = node.attributes, node.attributes["weight_shape"][2:]
        out = window or tuple((0, size) for size in node.shape[1:])
        before = attributes["padding"][-2::-2] if any(attributes["padding"]) else (0,) * len(kernel)
        self.reads = read(out, kernel, attributes["stride"], attributes["dilation"], before)
        self.window = within(self.reads, shape)

    def __call__(self, rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        if self.node.op == "linear":
            return rows @ matrix
        if self.node.op == "scale":
            return rows * per_output(self.node, matrix.flatten(), self.shape)
        if self.node.op == "conv_transpose":
            return _upward(self.node, rows, matrix, self.shape)
        assert self.window is not None
        geometry = {key: self.node.attributes[key] for key in ("stride", "dilation", "groups")}
        made = getattr(torch.nn.functional, f"conv_transpose{matrix.dim() - 2}d")(rows, matrix, **geometry)
        return cropped(made, self.reads, self.window)

    def bias(self, rows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """What the biases of the outputs add."""
        if self.node.op == "linear":
            return (rows @ bias).flatten(1).sum(dim=1) if rows.dim() > 2 else rows @ bias
        if self.node.op == "scale":
            return (rows * per_output(self.node, bias, self.shape)).flatten(1).sum(dim=1)
        return rows.flatten(2).sum(dim=2) @ bias


def _upward(node: Node, rows: torch.Tensor, matrix: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The transpose of a transposed convolution: a convolution, of its weight with channels exchanged."""
    attributes, groups = node.attributes, node.attributes["groups"]
    outputs, inputs_per_group, *kernel = matrix.shape
    turned = matrix.reshape(groups, outputs // groups, inputs_per_group, *kernel).transpose(1, 2)
    turned = turned.reshape(groups * inputs_per_group, outputs // groups, *kernel)
    convolve = getattr(torch.nn.functional, f"conv{len(kernel)}d")
    made: torch.Tensor = convolve(
        rows, turned, None, attributes["stride"], attributes["crop"], attributes["dilation"], attributes["groups"]
    )
    # Beyond the input there is nothing that further positions of the output would have come from.
    return made[(slice(None), slice(None), *(slice(0, size) for size in shape[1:]))].contiguous()


def through_fixed(node: Node, state: State, rows: Objective) -> Objective:
    """A linear map without weights, the same in both networks: its transpose by differentiation."""
    rows = rows.whole(torch.Size(node.shape))
    if node.op == "reshape":
        return rows.each(lambda part: part.reshape(-1, *state.lower.shape))
    module = OPERATORS[node.op].module(node.attributes)

    def transposed(part: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = torch.zeros(len(part), *state.lower.shape, dtype=torch.float64, requires_grad=True)
            made: torch.Tensor = torch.autograd.grad(module(x), x, part)[0]
        return made

    reach = module((state.magnitude + state.error)[None])[0]
    # Padding may read one entry from everywhere.
    n_terms = math.prod(node.attributes["kernel"] if node.op == "average_pool" else node.shape) + 8
    made = sums(rows.value.abs(), reach)[0] + sums(sizes_of(rows.difference), reach)[0]
    # Besides the coefficients, means themselves are rounded, in either network.
    return replace(rows.each(transposed), room=added_up(rows.room, 2 * room_of(rows, made, n_terms, state)))


def through_lines(lines: Lines, state: State, rows: Objective) -> Objective:
    """Along the upper lines where coefficients are positive, and along the lower ones elsewhere.

    For lines with slopes s and t that is a (s + t) / 2 + |a| (t - s) / 2, so that nothing depends on signs.
    """
    made: list[torch.Tensor | None] = []
    constant, room = rows.constant, added_up(rows.room, underflow(state))
    for part, pair, reach in (
        (rows.value, lines.value, state.magnitude),
        (rows.difference, lines.difference, state.error),
    ):
        if part is None:
            made.append(None)
            continue
        low, high = (cut(line.slope, rows.window) for line in pair)
        least, most = (cut(line.intercept, rows.window) for line in pair)
        magnitude = part.abs()
        size = torch.maximum(low.abs(), high.abs()) * cut(reach, rows.window) + torch.maximum(least.abs(), most.abs())
        spread, rounded = sums(magnitude, (most - least) / 2, size)
        constant = constant + dot(part, (least + most) / 2) + spread
        room = added_up(room, 2 * (part[0].numel() + 8) * UNIT * rounded)
        made.append((part * ((low + high) / 2)).addcmul_(magnitude, (high - low) / 2))
    room = added_up(room, 4 * UNIT * constant.abs())
    assert made[0] is not None
    return replace(rows, value=made[0], difference=made[1], constant=constant, room=room)


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
    value = torch.where(certain, rows.value, rows.value.clamp(max=0))
    constant = rows.constant + dot(rows.value - value, torch.where(certain, 0.0, top))
    (total,) = sums(rows.value.abs(), torch.ones_like(top))
    difference = None
    if rows.difference is not None:
        difference = rows.difference * certain
        middle, half = (torch.where(certain, 0.0, part) for part in ((above + below) / 2, (above - below) / 2))
        spread, more = sums(rows.difference.abs(), half, torch.ones_like(top))
        constant, total = constant + dot(rows.difference, middle) + spread, total + more
    sizes = (state.magnitude + state.error).amax()
    n_terms = math.prod(attributes["kernel"]) + rows.value[0].numel() + 8

    def scattered(part: torch.Tensor) -> torch.Tensor:
        into = torch.zeros(len(part), part.shape[1], step, dtype=part.dtype)
        into.scatter_add_(2, local.flatten(1).expand(len(part), -1, -1), part.flatten(2))
        return into.reshape(len(part), part.shape[1], *(stop - start for start, stop in window))

    room = added_up(rows.room, 2 * (n_terms + 8) * UNIT * sizes * total + 4 * UNIT * constant.abs(), underflow(state))
    return Objective(value, difference, constant, room, None, window).each(scattered)
