"""Inputs by themselves: both networks evaluated, and how far that may be from exact.

At a point there is nothing to relax. The difference of the two outputs is computed, many inputs at a time, and only
rounding is bounded: with r the bound on what a computed value v is off by, after a layer

    |W| r + (n + 8) 2^-52 (|W| (|v| + r) + |b|),

n the number of products in a sum, and after an activation what :mod:`slth.certify.activation` says of two values that
are r apart. Of the ticket the slopes' own rounding (:attr:`~slth.realise.RealisedLayer.slack`) is added.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from slth.candidates import unfold
from slth.certify.expand import unrolled
from slth.certify.factors import Factors
from slth.certify.functions import Call, through_function
from slth.certify.maps import AFFINE, on_batch
from slth.certify.propagation import OF_SEVERAL, RULES
from slth.certify.state import UNIT, State, constant, inflate
from slth.copies import CopiedLayer
from slth.network.graph import INPUT, Node, Sign
from slth.network.operators import OPERATORS, WEIGHT_OPERATORS
from slth.network.target import Target, WeightLayer
from slth.realise import RealisedLayer


@dataclass(frozen=True)
class Values:
    """Computed values of one network and how far the exact ones may be from them, (n, ...).

    ``exact`` are indices or masks, of their own type.
    """

    value: torch.Tensor
    off: torch.Tensor
    exact: torch.Tensor | None = None

    @property
    def state(self) -> State:
        """The computed value, and the exact one that may be as far from it."""
        if self.exact is not None:
            return constant(self.exact)
        signs = bool((self.value - self.off >= 0).all()), bool((self.value + self.off <= 0).all())
        return State(self.value, self.value, self.off, *signs)


@dataclass(frozen=True)
class Outputs:
    """Both networks' outputs, (n, outputs)."""

    target: Values
    ticket: Values

    @property
    def components(self) -> torch.Tensor:
        """Bounds on |ticket's output - target's output|, for exact evaluation and for any in float64, (n, outputs)."""
        apart = (self.ticket.value - self.target.value).abs()
        # Twice: an evaluation in another order is off by as much as this one.
        return inflate(apart + 2 * (self.target.off + self.ticket.off), 4)

    def first(self, count: int) -> Outputs:
        """Of some of the inputs."""
        theirs, ours = (Values(part.value[:count], part.off[:count]) for part in (self.target, self.ticket))
        return Outputs(theirs, ours)


def exactly_known(target: Target, realised: Mapping[str, RealisedLayer], sign: Sign) -> bool:
    """Whether the ticket's layers are linear maps that are known up to rounding, for inputs of this sign."""
    own_target, own = unfold(target, realised)
    signs = own_target.input_signs(sign)
    return all(
        not isinstance(layer, CopiedLayer) and layer.bend.activation is None and layer.serves(signs[name])
        for name, layer in own.items()
    )


def evaluate(target: Target, realised: Mapping[str, RealisedLayer], inputs: torch.Tensor) -> Outputs:
    """Evaluate both networks on inputs (n, *input shape), float64, and bound the rounding.

    :func:`exactly_known` says whether it can be done.
    """
    target, realised = unfold(target, realised)
    target = unrolled(target)
    size = target.graph.batch
    if not size or len(inputs) == size:
        return _Evaluation(target, realised).run(inputs)
    # A network that works on batches of one size alone: the last one is filled up.
    made = []
    for part in inputs.split(size):
        whole = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
        made.append(_Evaluation(target, realised).run(whole).first(len(part)))
    return joined(made)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """One after another."""
    return Outputs(
        *(
            Values(*(torch.cat([getattr(getattr(part, which), name) for part in parts]) for name in ("value", "off")))
            for which in ("target", "ticket")
        )
    )


class _Evaluation:
    """Both networks on a batch of inputs, node by node."""

    def __init__(self, target: Target, realised: Mapping[str, RealisedLayer]) -> None:
        self.target, self.realised = target, realised
        self.layers = {layer.name: layer for layer in target}

    def run(self, inputs: torch.Tensor) -> Outputs:
        """Outputs, and bounds on their rounding."""
        graph = self.target.graph
        given = inputs.to(torch.int64) if graph.classes else inputs
        exact = Values(inputs, torch.zeros_like(inputs), given if graph.classes else None)
        known = {INPUT: (exact, exact)}
        last = Counter(source for node in graph for source in node.sources)
        last[graph.nodes[-1].name] = 1
        with torch.no_grad():
            for node in graph:
                read = [known[source] for source in node.sources]
                known[node.name] = self._step(node, read, len(inputs))
                for source in node.sources:
                    last[source] -= 1
                    if not last[source]:
                        del known[source]
        theirs, ours = (Values(part.value.flatten(1), part.off.flatten(1)) for part in known[graph.nodes[-1].name])
        return Outputs(theirs, ours)

    def _step(self, node: Node, read: Sequence[tuple[Values, Values]], batch: int) -> tuple[Values, Values]:
        if node.op == "kept":
            state = constant(self.target.kept[node.name])
            made = Values(state.lower, state.error, state.exact)
            return made, made
        if node.op not in WEIGHT_OPERATORS:
            each = [[pair[which] for pair in read] for which in (0, 1)]
            return _without_weights(node, each[0], batch), _without_weights(node, each[1], batch)
        layer, own = self.layers[node.weights], self.realised[node.weights]
        if node.op not in (*AFFINE, "embedding"):
            nothing = _nothing(node.layout.whole(batch))
            return nothing, nothing
        theirs, ours = read[0] if read else (_ONE, _ONE)
        if node.op == "embedding":
            return _rows(node, layer, own, theirs)
        return _target_layer(node, layer, theirs), _ticket_layer(node, own, ours)


_ONE = Values(torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def _rows(node: Node, layer: WeightLayer, own: RealisedLayer, index: Values) -> tuple[Values, Values]:
    """Rows of a table, which are columns of the weights."""
    outputs, columns = node.attributes["weight_shape"]
    if index.exact is None or not bool(((index.exact >= 0) & (index.exact < columns)).all()):
        nothing = _nothing((*index.value.shape, outputs))
        return nothing, nothing
    used, place = torch.unique(index.exact, return_inverse=True)
    factors = Factors(layer, own)
    slope = torch.from_numpy(own.positive).reshape(factors.shape)[:, used].t()
    theirs = factors.weight[:, used].t() + factors.bias
    ours = slope + (0.0 if own.bias is None else torch.from_numpy(own.bias))
    sizes = inflate(factors.size[:, used].t() + factors.constant + slope.abs(), factors.n_terms)
    off = (factors.n_terms + 8) * UNIT * inflate(torch.maximum(sizes, theirs.abs()), 4)
    room = inflate(factors.slack[:, used].t() + factors.shift_slack, 4)
    return Values(theirs[place], off[place]), Values(ours[place], inflate(off + room, 4)[place])


def _nothing(shape: tuple[int, ...]) -> Values:
    """Of which nothing is known."""
    return Values(torch.zeros(shape, dtype=torch.float64), torch.full(shape, math.inf, dtype=torch.float64))


def _target_layer(node: Node, layer: WeightLayer, before: Values) -> Values:
    weight, bias_array = torch.from_numpy(layer.weight_array()), layer.bias_array()
    weight = weight.reshape(node.attributes["weight_shape"])
    bias = torch.zeros(len(weight), dtype=torch.float64) if bias_array is None else torch.from_numpy(bias_array)

    apply = on_batch(node)
    n_terms = weight[0].numel() + 2
    summed = weight.abs() if layer.summed is None else layer.summed
    sizes = inflate(apply(summed, before.value.abs() + before.off, bias.abs()), n_terms)
    carried = inflate(apply(weight.abs(), before.off), n_terms)
    # Terms for the rounding of weights of identity layers, see slth.network.deepen.
    return Values(apply(weight, before.value, bias), inflate(carried + (n_terms + 8) * UNIT * sizes, 4))


def _ticket_layer(node: Node, realised: RealisedLayer, before: Values) -> Values:
    """Each input times the slope for its sign; where the exact input may have the other one, both are as steep."""
    shape = node.attributes["weight_shape"]
    positive, negative, size, slack = (
        torch.from_numpy(part).reshape(shape)
        for part in (realised.positive, realised.negative, realised.size, realised.slack)
    )
    bias = torch.zeros(shape[0], dtype=torch.float64) if realised.bias is None else torch.from_numpy(realised.bias)
    bias_size = bias.abs() if realised.bias_size is None else torch.from_numpy(realised.bias_size)
    room = torch.zeros_like(bias) if realised.bias_slack is None else torch.from_numpy(realised.bias_slack)

    apply = on_batch(node)
    if realised.only is not None:
        positive = negative = positive if realised.only > 0 else negative
    gain = torch.maximum(positive.abs(), negative.abs())
    value = apply(positive, before.value.clamp(min=0), bias) + apply(negative, before.value.clamp(max=0))
    n_terms = max(2 * positive[0].numel() + 4, realised.n_terms + 4)
    reach = before.value.abs() + before.off
    largest = torch.maximum(gain, inflate(size, n_terms))
    sizes = inflate(apply(largest, reach, inflate(bias_size, n_terms)), n_terms)
    off = apply(gain, before.off) + apply(slack, reach, room)
    return Values(value, inflate(inflate(off, n_terms) + (n_terms + 8) * UNIT * sizes, 4))


def _without_weights(node: Node, read: Sequence[Values], batch: int) -> Values:
    if node.op in OF_SEVERAL:
        return _function(node, read, batch)
    before, module = read[0], OPERATORS[node.op].module(node.attributes)
    value = module(before.value)
    if node.op in ("max_pool", "reshape", "pad"):
        return Values(value, module(before.off))
    if node.op == "average_pool":
        n_terms = math.prod(node.attributes["kernel"]) + 1
        sizes = inflate(module(before.value.abs() + before.off), n_terms)
        return Values(value, inflate(module(before.off) + (n_terms + 8) * UNIT * sizes, n_terms))
    # Two values that are so far apart, each evaluated with the rounding that the rule allows for.
    after = RULES[node.op](node, State(before.value, before.value, before.off, False, False))
    return Values(value, inflate(after.error, 2))


def _function(node: Node, read: Sequence[Values], batch: int) -> Values:
    """As of an activation, by the function's rule; where there is none, nothing is known."""
    call = Call(node, batch=batch)
    states = [part.state for part in read]
    after = through_function(call, states)
    if after.exact is not None:
        return Values(after.lower, after.error, after.exact)
    if not after.bounded and not bool(torch.isfinite(after.error).any()):
        return _nothing(tuple(after.error.shape))
    value = call([part.value if part.exact is None or part.exact.is_floating_point() else part.exact for part in read])
    return Values(value, inflate(after.error, 2).nan_to_num(nan=math.inf, posinf=math.inf))
