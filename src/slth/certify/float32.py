"""How far either network in float32 is from itself in exact arithmetic.

A certificate speaks of exact arithmetic. What a person runs is float32, whose rounding is bounded here, for the target
and for the ticket each by itself: of a network F and its evaluation F32 let x be the values of F at some node and e
those of F32 less x. A layer's sums of n products in any order, with or without fused operations, are off by

    delta = gamma_n (|W| (|x| + |e|) + |b|) + underflow,    gamma_n = n 2^-24 / (1 - n 2^-24),

(Higham 2002, section 3.1), weights that are themselves rounded to float32 counting as one more factor. So e becomes
W e + delta behind a weight layer, s e + margin for a slope s of the activation between the values of both evaluations,
and a mean of e behind average pooling. That is the difference of two networks that share all weights, and the
relaxation of :mod:`slth.certify.linear` carries objectives in e back to the input, where it is 0.

Not covered: convolutions by other algorithms than sums of products (Winograd's or Fourier's; torch has them on the CPU
where oneDNN is switched off and NNPACK takes its place), and arithmetic below float32 (TensorFloat-32 on GPUs,
``torch.set_float32_matmul_precision`` other than "highest"). See docs/certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from slth.activations import Activation
from slth.candidates import unfold
from slth.certify.activation import jump_between
from slth.certify.backward import Objective, one_each
from slth.certify.carry import Analysis, carry, finite
from slth.certify.expand import expanded
from slth.certify.factors import Factors
from slth.certify.follow import follow
from slth.certify.functions import Call, through_function
from slth.certify.functions.moves import MOVES
from slth.certify.joint import Joint, Maps
from slth.certify.maps import AFFINE, on_one
from slth.certify.maxpool import winners
from slth.certify.propagation import OF_SEVERAL, ONE, of_parts
from slth.certify.region import Region, inflate_signed
from slth.certify.relaxation import SLOPES, Line, Lines, Pair, chords
from slth.certify.shape import dropped, lifted
from slth.certify.state import UNIT, State, inflate
from slth.certify.sweep import Carried, carried_back
from slth.copies import CopiedLayer
from slth.errors import ArgumentError
from slth.network.graph import INPUT, Node
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS, Elementwise
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer

UNIT32 = 2.0**-24
TINY32 = 2.0**-100
"""What one product below float32's normal range may cost, times a weight of up to 2^26 (chosen)."""
_APART = 2.0**29
"""Units of float32 in those of float64."""
LARGEST = 2.0**100
"""Values and sums of absolute values up to which nothing overflows, weights of the source being below 2^26 (chosen)."""
LARGEST_OPERAND = 2.0**50
"""Values that functions read up to which their squares are far from overflowing (chosen)."""
FUNCTION_UNIT = 2.0**-22
"""Of rounding in functions: twice float32's own, as library functions are allowed twice what they have in float64."""
LARGEST_TIGHTENED = 2048
"""Outputs of a dense layer up to which objectives are carried back from each of them (chosen)."""
FORMS = ("folded", "sparse", "masked")


def float32_error(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    region: Region,
    form: str = "folded",
    known: Analysis | None = None,
) -> torch.Tensor:
    """Bound |float32 evaluation - exact value|, of the target and of the ticket together.

    Parameters
    ----------
    target : Target
        With the identity layers that the ticket was made with.
    realised : mapping of str to RealisedLayer
        The ticket's slopes, by layer.
    region : Region
        The bound holds for all of its inputs that are float32 numbers.
    form : {"folded", "sparse", "masked"}
        Of the ticket's module; of the last two sums are longer.
    known : Analysis, optional
        Of the same region, whose bounds on values are tighter than those of intervals.

    Returns
    -------
    float64 tensor, (outputs,)
        By output, outputs flattened: |ticket32 - target32| is at most the certified difference and this. Infinite
        where a user's own activation is involved, of whose float32 form nothing is known, and where float32 would
        overflow.

    Raises
    ------
    ArgumentError
        If there is no such form.
    """
    both = [network_error(target, realised, region, which, known) for which in ("target", form)]
    return (both[0] + both[1]) * (1 + 2 * UNIT)


def network_error(
    target: Target,
    realised: Mapping[str, RealisedLayer],
    region: Region,
    which: str,
    known: Analysis | None = None,
) -> torch.Tensor:
    """The part of one network: the target's (``which`` = "target"), or the ticket's in one of its forms."""
    if which not in ("target", *FORMS):
        raise ArgumentError("form", repr(which), ", ".join(FORMS))
    target, realised = unfold(target, realised)
    target = expanded(target)
    states = of_parts(target, realised, region.lower, region.upper) if known is None else known.states
    with torch.no_grad():
        evaluation = _Evaluation(target, realised, states, which)
        error = evaluation.run()
    return error.nan_to_num(nan=math.inf, posinf=math.inf)


@dataclass(frozen=True)
class _Layer:
    """A weight layer of one network.

    Attributes
    ----------
    slope, spread : tensors of the weight's shape
        The map's slopes are at most ``spread`` away from ``slope``.
    size, constant : tensors, of the weight's shape and (outputs,)
        Bounds on the sums of absolute values of what is evaluated.
    slack : tensor of the weight's shape, or None
        How far the map that is evaluated is from the network's, for inputs of size 1.
    loose : tensor, (outputs,)
        How far it is for every input.
    n_terms : int
        Roundings that any product goes through.
    """

    slope: torch.Tensor
    spread: torch.Tensor
    size: torch.Tensor
    constant: torch.Tensor
    slack: torch.Tensor | None
    loose: torch.Tensor
    n_terms: int


def _target_layer(layer: WeightLayer, realised: RealisedLayer) -> _Layer:
    factors = Factors(layer, realised)
    nothing = torch.zeros_like(factors.bias)
    # A weight that is rounded to float32, its product, the sum and the bias; and 5 more, for a mean before the layer
    # that the ticket has in its weights: of k numbers under f taps it makes k + f + 5 roundings, of k + f - 1 taps.
    n_terms = math.prod(factors.shape[1:]) + 8
    zeros = torch.zeros_like(factors.weight)
    return _Layer(factors.weight, zeros, factors.weight_size, factors.bias.abs(), None, nothing, n_terms)


def _ticket_layer(layer: WeightLayer, realised: RealisedLayer, state: State, reach: float, form: str) -> _Layer:
    factors = Factors(layer, realised)
    zeros, loose = torch.zeros_like(factors.weight), torch.zeros_like(factors.bias)
    size = inflate(factors.size, factors.n_terms)
    constant = inflate(factors.constant, factors.realised.n_terms)
    bent = factors.bent(reach)
    known = realised.only is None or (state.nonnegative if realised.only > 0 else state.nonpositive)
    copied = isinstance(realised, CopiedLayer)
    folded = form == "folded" and known and not copied
    n_terms = max(2 * math.prod(factors.shape[1:]), realised.n_terms) + 8
    if isinstance(realised, CopiedLayer) and realised.constant_slack is not None:
        # Constants are made by the layers before, whose rounding was counted in units of float64.
        loose = torch.from_numpy(realised.constant_slack) * (2 * _APART)
    if copied or not known or (bent is not None and not folded):
        # Nothing but that the map is steep up to the sums of sizes.
        return _Layer(zeros, size, size, constant, None, loose, n_terms)
    parts = (realised.positive, realised.negative)
    positive, negative = (torch.from_numpy(part).reshape(factors.shape) for part in parts)
    if state.nonnegative or state.nonpositive or factors.one_branch:
        slope, spread = (negative if state.nonpositive and not state.nonnegative else positive), zeros
    else:
        slope, spread = (positive + negative) / 2, (positive - negative).abs() / 2
    rounded = inflate(factors.slack, 4) + 8 * UNIT * (positive.abs() + negative.abs())
    if folded:
        # Slopes that are sums already, rounded to float32; two branches are subtracted in the end.
        n_terms = math.prod(factors.shape[1:]) + 4
        size = inflate(torch.maximum(positive.abs(), negative.abs()), 4)
        bias = torch.zeros_like(loose) if realised.bias is None else torch.from_numpy(realised.bias).abs()
        constant, loose = inflate(bias, 4), loose + inflate(factors.shift_slack, 4)
        slack = rounded if bent is None else rounded + bent
    else:
        slack = None
    return _Layer(slope, spread + rounded, size, constant, slack, loose, n_terms)


class _Evaluation:
    """What is known of one network in float32 over one region, node by node."""

    def __init__(
        self, target: Target, realised: Mapping[str, RealisedLayer], states: Mapping[str, State], which: str
    ) -> None:
        self.target, self.graph, self.realised, self.which = target, target.graph, realised, which
        self.layers = {layer.name: layer for layer in target}
        self.shared = states
        self.known = Analysis()
        # The network's own values, and how far those in float32 are from them.
        self.states = self.known.states
        self.states[INPUT] = self._values(INPUT)
        self.rounding: dict[str, torch.Tensor] = {}

    def run(self) -> torch.Tensor:
        """Bounds on the error of every output, (outputs,)."""
        for node in self.graph:
            values = self._values(node.name)
            error = self._error(node, values)
            self.states[node.name] = replace(values, error=error)
            asked = node.op == "linear" or node is self.graph.nodes[-1]
            deep = any(source != INPUT for source in node.sources) and finite(self.states[node.name])
            if asked and deep and error.numel() <= LARGEST_TIGHTENED:
                self.states[node.name] = replace(values, error=self._tightened(node, error))
        return self.states[self.graph.nodes[-1].name].error.flatten()

    def _error(self, node: Node, values: State) -> torch.Tensor:
        read = [self.states[source] for source in node.sources]
        if node.op == "kept":
            # Numbers of more digits than float32 has are rounded to it.
            rounded = self.target.kept[node.name].dtype == torch.float64
            return values.magnitude * UNIT32 * (1 + 4 * UNIT) if rounded else torch.zeros_like(values.lower)
        if node.op in OF_SEVERAL and all(state.bounded for state in read):
            return self._function(node, read, values)
        if not all(map(finite, [values, *read])):
            return torch.full_like(values.lower, math.inf)
        if node.op in AFFINE:
            return self._affine(node, read[0] if read else ONE)
        if node.op == "embedding":
            return self._rows(node, read[0], values)
        if node.op in WEIGHT_OPERATORS:
            return torch.full_like(values.lower, math.inf)
        if node.op in ("reshape", "pad", "max_pool", "average_pool"):
            return self._moved(node, read[0])
        return self._activated(node, read[0], values)

    def _values(self, name: str) -> State:
        """Bounds on the network's exact values, and no error yet."""
        state = self.shared[name]
        lower, upper = state.lower, state.upper
        if self.which != "target":
            moved = inflate(state.error, 2) + 4 * UNIT * state.magnitude
            # What a mask leaves out is -infinity in both networks.
            moved = torch.where(upper == -math.inf, 0.0, moved)
            lower, upper = lower - moved, upper + moved
        return State(lower, upper, torch.zeros_like(lower), state.nonnegative, state.nonpositive, exact=state.exact)

    def _layer(self, node: Node, before: State, largest: float) -> _Layer:
        layer, realised = self.layers[node.weights], self.realised[node.weights]
        if self.which == "target":
            return _target_layer(layer, realised)
        return _ticket_layer(layer, realised, before, largest, self.which)

    def _affine(self, node: Node, before: State) -> torch.Tensor:
        reach = inflate(before.magnitude + before.error, 2)
        largest = float(reach.max())
        own = self._layer(node, before, largest)
        fan_in, batchless = math.prod(own.size.shape[1:]), on_one(node)

        def apply(matrix: torch.Tensor, x: torch.Tensor, constant: torch.Tensor | None = None) -> torch.Tensor:
            return inflate(batchless(matrix, x, constant), fan_in + 2)

        sums = apply(own.size, reach, own.constant)
        off = torch.where(sums <= LARGEST, gamma(own.n_terms) * sums, math.inf)
        off = off + TINY32 * own.n_terms * (1 + largest + float(own.size.max()))
        spread = apply(own.spread, before.error, own.loose)
        loose = off + spread if own.slack is None else off + spread + apply(own.slack, reach)
        loose, followed = inflate(loose, 4), apply(own.slope.abs(), before.error)
        nothing = torch.zeros_like(own.loose)
        maps = Maps(own.slope, nothing, own.slope, torch.zeros_like(own.slope), nothing, None, own.slope)
        size = inflate(followed + loose, 2)
        self.known.joints[node.name] = Joint(maps, own.slope, nothing, size, loose, size, size)
        return size

    def _moved(self, node: Node, before: State) -> torch.Tensor:
        """Pooling, and what only moves entries."""
        module = OPERATORS[node.op].module(node.attributes)
        error: torch.Tensor = module(before.error[None])[0]
        if node.op == "max_pool":
            pair = Pair(before.lower, before.upper, -before.error, before.error)
            self.known.winners[node.name] = winners(node.attributes, pair, node.shape)
        if node.op != "average_pool":
            return error
        n_terms = math.prod(node.attributes["kernel"]) + 2
        sums = inflate(module(inflate(before.magnitude + before.error, 2)[None])[0], n_terms)
        off = torch.where(sums <= LARGEST, gamma(n_terms) * sums, math.inf)
        off = self.rounding[node.name] = inflate(off + TINY32 * n_terms, 2)
        return inflate(inflate(error, n_terms) + off, 2)

    def _activated(self, node: Node, before: State, values: State) -> torch.Tensor:
        operator = OPERATORS[node.op]
        assert isinstance(operator, Elementwise)
        phi = operator.activation(node.attributes)
        moved = inflate(before.error, 2)
        low, high = before.lower - moved, before.upper + moved
        low, high = low - 4 * UNIT * low.abs(), high + 4 * UNIT * high.abs()
        if node.op not in SLOPES:
            least, most = torch.full_like(low, -phi.lipschitz), torch.full_like(low, phi.lipschitz)
            rounding = torch.full_like(low, math.inf)
        else:
            steps = SLOPES[node.op]
            least, most = steps[0](phi, low, high), steps[1](phi, low, high)
            far = torch.maximum(low.abs(), high.abs())
            # Whether the threshold is reached depends on a product and a parameter that are rounded.
            near = jump_between(phi, low - 4 * UNIT32 * low.abs(), high + 4 * UNIT32 * high.abs())
            rounding = inflate(margin32(node, phi, far) + near, 2)
        pair = Pair(before.lower, before.upper, -moved, moved)
        difference = chords(pair, least, most, rounding)
        nothing = torch.zeros_like(low)
        # Nothing is asked of values, so that their lines are of no use.
        line = Line(nothing, nothing)
        self.known.lines[node.name] = Lines((line, line), difference)
        error = inflate(torch.maximum(least.abs(), most.abs()) * moved, 4) + rounding
        if node.op == "relu":
            error = torch.where(high <= 0, 0.0, torch.minimum(before.error, high.clamp(min=0)))
        return error

    def _rows(self, node: Node, before: State, values: State) -> torch.Tensor:
        """Of rows of a table by known numbers: what the layer makes of unit vectors."""
        index = before.exact
        if index is None or index.is_floating_point():
            return torch.full_like(values.lower, math.inf)
        own, index = self._layer(node, replace(ONE, nonnegative=True), 1.0), index.long()
        sums = inflate(own.size + own.constant[:, None], 4)
        off = gamma(own.n_terms) * sums + TINY32 * own.n_terms * (2 + float(own.size.max())) + own.loose[:, None]
        off = off if own.slack is None else off + own.slack
        return inflate(off, 8).t()[index]

    def _function(self, node: Node, read: Sequence[State], values: State) -> torch.Tensor:
        """A function f of x + e: f(x + e) - f(x) by its rule, and what evaluating f there in float32 is off by."""
        layouts, batch = [self.graph.layout_of(source) for source in node.sources], self.graph.batch or 1

        def apply(states: Sequence[State], unit: float) -> torch.Tensor:
            whole = [lifted(state, layout, batch) for state, layout in zip(states, layouts, strict=True)]
            return dropped(through_function(Call(node, unit, batch), whole), node.layout).error

        if values.exact is not None and not values.exact.is_floating_point():
            return torch.zeros_like(values.lower)
        name = node.attributes.get("function", node.op)
        follow(self.known, self.graph, Call(node), replace(values, error=apply(read, UNIT)))
        self.known.pairs.pop(node.name, None)
        if name in MOVES:
            return apply(read, UNIT)
        largest = max((_largest(state) for state in read if state.exact is None), default=0.0)
        if largest > LARGEST_OPERAND or _largest(values) > LARGEST:
            return torch.full_like(values.lower, math.inf)
        around = [_around(state) for state in read]
        n_terms = sum(state.lower.numel() for state in read) + 64
        off = self.rounding[node.name] = inflate(apply(around, FUNCTION_UNIT) + TINY32 * n_terms * (1 + largest), 4)
        return inflate(apply(read, UNIT) + off, 4)

    def _tightened(self, node: Node, error: torch.Tensor) -> torch.Tensor:
        """The relaxation's bounds, carried back from each entry."""
        found = torch.full_like(error, math.inf)
        n_rows = max(1, (1 << 22) // max(state.lower.numel() for state in self.states.values()))
        for start in range(0, error.numel(), n_rows):
            rows = one_each(tuple(error.shape), range(start, min(start + n_rows, error.numel())), None)[1]
            # What is not symmetric are the winners of windows alone; those are bounded from both sides.
            ways = [self._highest(node, one) for one in (rows, rows.each(torch.neg))]
            found.view(-1)[start : start + n_rows] = torch.maximum(*ways)
        return torch.fmin(found, error)

    def _highest(self, node: Node, rows: Objective) -> torch.Tensor:
        end = carried_back(self.graph.nodes, node.name, rows, self._carry, self.states.__getitem__)
        # The input is a float32 number: there is no error there. Nothing is asked of its value.
        return inflate_signed(end.constant) + end.room * (1 + 16 * UNIT)

    def _carry(self, node: Node, rows: Objective) -> Carried:
        if node.name in self.rounding and rows.difference is not None:
            rows = rows.whole(self.states[node.name].lower.shape)
            assert rows.difference is not None
            sizes = rows.difference.abs().flatten(1)
            off = inflate(sizes @ self.rounding[node.name].flatten(), sizes.shape[1])
            rows = replace(rows, room=inflate(rows.room + off, 2))
        return carry(self.known, node, rows)


def _largest(state: State) -> float:
    """The largest number, but for what is left out by a mask."""
    left_out = (state.upper == -math.inf) & torch.isfinite(state.error)
    return float(torch.where(left_out, 0.0, state.magnitude + state.error).max())


def _around(state: State) -> State:
    """All values that the network or its evaluation may have, and no difference."""
    if state.exact is not None and not state.exact.is_floating_point():
        return state
    error = inflate(state.error, 4)
    nothing = torch.zeros_like(error)
    return State(state.lower - error, state.upper + error, nothing, state.nonnegative, state.nonpositive)


def gamma(n_terms: int) -> float:
    """n 2^-24 / (1 - n 2^-24), rounded up; infinite where so many terms prove nothing."""
    share = n_terms * UNIT32
    return share / (1 - share) * (1 + 8 * UNIT) if share < 1 else math.inf


def margin32(node: Node, phi: Activation, size: torch.Tensor) -> torch.Tensor:
    """Rounding of one evaluation in float32: twice float64's margin, in float32's units, and that of parameters."""
    if node.op == "relu":
        return torch.zeros_like(size)
    rounded = 0.0
    if node.op == "hardtanh":
        rounded = max(abs(float(node.attributes["low"])), abs(float(node.attributes["high"])))
    return 2 * _APART * SLOPES[node.op][2](phi, size) + 2 * UNIT32 * rounded + TINY32
