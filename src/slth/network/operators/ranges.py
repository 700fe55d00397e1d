"""Between which numbers the entries of what a function gives lie, given those of what it reads.

A range is a pair of numbers, the first of which may be -inf and the second inf. Functions without a rule give any
number. Ranges are those of exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slth.network.graph import Layout, Node
from slth.network.operators.signs import MOVES, WITH_ZEROS

Range = tuple[float, float]
ANYTHING: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class _Call:
    """A function, what is known of what it reads, and the shapes of that and of its output."""

    node: Node
    read: Sequence[Range]
    layouts: Sequence[Layout]

    def argument(self, *names: str) -> Any:
        """The first of these that is there."""
        found: Mapping[str, Any] = self.node.attributes["arguments"]
        return next((found[name] for name in names if found.get(name) is not None), None)

    def range(self, *names: str) -> Range:
        """Of an argument that is a value or a number."""
        value = self.argument(*names)
        if isinstance(value, Mapping) and "source" in value:
            return self.read[value["source"]]
        if isinstance(value, Mapping) and "number" in value:
            value = float(value["number"])
        return (float(value), float(value)) if isinstance(value, int | float) else ANYTHING

    @property
    def n_terms(self) -> float:
        """Entries of the first value for each one of the output, where the batch is none of them."""
        first, own = self.layouts[0], self.node.layout
        if (first.batched or min(first.shape, default=0) < 0) != (own.batched or min(own.shape, default=0) < 0):
            return math.inf
        return abs(math.prod(first.shape)) / abs(math.prod(own.shape))


Rule = Callable[[_Call], Range]


def hull(*ranges: Range) -> Range:
    """The least range around some."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def reach_of(range_: Range) -> float:
    """Bound on the absolute values in a range."""
    return max(abs(range_[0]), abs(range_[1]))


def times(one: Range, other: Range) -> Range:
    """Products of numbers of two ranges; 0 times infinity is 0, as every number is finite."""
    ends = [0.0 if 0.0 in (a, b) else a * b for a in one for b in other]
    return min(ends), max(ends)


def _plus(one: Range, other: Range) -> Range:
    return one[0] + other[0], one[1] + other[1]


def _negative(range_: Range) -> Range:
    return -range_[1], -range_[0]


def _entries(call: _Call) -> Range:
    """Entries of what is read, or means of them."""
    return call.read[0]


def _entries_or_zero(call: _Call) -> Range:
    return hull(call.read[0], (0.0, 0.0))


def _all(call: _Call) -> Range:
    return hull(*call.read)


def _add(call: _Call, first: str = "self", other: str = "other", sign: int = 1) -> Range:
    alpha = call.argument("alpha")
    if alpha is not None and not isinstance(alpha, int | float):
        return ANYTHING
    factor = sign * (1.0 if alpha is None else float(alpha))
    return _plus(call.range(first), times(call.range(other), (factor, factor)))


def _multiply(call: _Call) -> Range:
    if call.argument("self") == call.argument("other"):
        return _squared(call.range("self"))
    return times(call.range("self"), call.range("other"))


def _squared(range_: Range) -> Range:
    low, high = range_
    least = 0.0 if low <= 0.0 <= high else min(low * low, high * high)
    return least, max(low * low, high * high)


def _divide(call: _Call) -> Range:
    low, high = call.range("other")
    if low <= 0.0 <= high or call.argument("rounding_mode") is not None:
        return ANYTHING
    return times(call.range("self"), (1.0 / high, 1.0 / low))


def _power(call: _Call) -> Range:
    exponent = call.argument("exponent")
    if not isinstance(exponent, int | float):
        return ANYTHING
    if exponent == 2:
        return _squared(call.range("self"))
    return call.range("self") if exponent == 1 else (0.0, math.inf) if exponent % 2 == 0 else ANYTHING


def _root_inverse(call: _Call) -> Range:
    low, high = call.read[0]
    return (1.0 / math.sqrt(high) if high > 0 else 0.0, 1.0 / math.sqrt(low)) if low > 0 else (0.0, math.inf)


def _summed(call: _Call) -> Range:
    return times(call.read[0], (call.n_terms, call.n_terms))


def _product(call: _Call) -> Range:
    """Sums of products along the first factor's last axis."""
    own = call.argument("self")
    n = call.layouts[own["source"]].shape[-1] if isinstance(own, Mapping) and "source" in own else 0
    return times(times(call.range("self"), call.range("other", "mat2")), (float(n), float(n))) if n > 0 else ANYTHING


def _contracted(call: _Call) -> Range:
    """Sums of products, as many terms as there are places of the axes that are summed over."""
    equation, factors = call.argument("equation"), call.argument("tensors")
    inputs, arrow, output = str(equation).replace(" ", "").partition("->")
    labels = inputs.split(",")
    if not arrow or "." in inputs or len(labels) != len(factors):
        return ANYTHING
    found: Range = (1.0, 1.0)
    sizes: dict[str, int] = {}
    for own, factor in zip(labels, factors, strict=True):
        layout = call.layouts[factor["source"]]
        shape = (-1, *layout.shape) if layout.batched else layout.shape
        sizes |= {label: size for label, size in zip(own, shape, strict=True) if size > 1 or label not in sizes}
        found = times(found, call.read[factor["source"]])
    summed = [size for label, size in sizes.items() if label not in output]
    n = float(math.prod(summed))
    return times(found, (n, n)) if min(summed, default=1) > 0 else ANYTHING


def _clamped(call: _Call) -> Range:
    low, high = call.read[0]
    for name, pick in (("min", max), ("max", min)):
        bound = call.argument(name)
        if bound is not None:
            least, most = call.range(name)
            low, high = pick(low, least), pick(high, most)
    return low, high


def _padded(call: _Call) -> Range:
    return hull(call.read[0], call.range("value") if call.argument("value") is not None else (0.0, 0.0))


def _converted(call: _Call) -> Range:
    """Another number type, which may cut off what is behind the point."""
    whole = call.argument("dtype") == {"dtype": "bool"}
    return (0.0, 1.0) if whole else _entries_or_zero(call)


def _chosen(call: _Call) -> Range:
    return hull(call.range("self"), call.range("other"))


def _filled(call: _Call) -> Range:
    return hull(call.range("self"), call.range("value"))


def _attended(call: _Call) -> Range:
    """Means of entries of the value."""
    return hull(call.range("value"), (0.0, 0.0))


def _normed(call: _Call) -> Range:
    """n numbers of mean 0 (or any) and mean square 1 at most: none is beyond the root of n."""
    if any(call.argument(name) is not None for name in ("weight", "bias", "running_mean", "running_var")):
        return ANYTHING
    shape = call.layouts[0].shape
    sizes = call.argument("normalized_shape") or (shape[1:] if call.node.batched else None)
    if sizes is None or min(sizes, default=1) < 1:
        return ANYTHING
    channels = shape[0] // call.argument("num_groups") if call.argument("num_groups") else 1
    most = math.sqrt(math.prod(sizes) * channels)
    return -most, most


def _absolute(call: _Call) -> Range:
    low, high = call.read[0]
    return (0.0 if low <= 0.0 <= high else min(abs(low), abs(high)), reach_of(call.read[0]))


def _length(call: _Call) -> Range:
    n = call.n_terms
    return 0.0, math.sqrt(n) * reach_of(call.read[0]) if math.isfinite(n) else math.inf


def _between(low: float, high: float) -> Rule:
    return lambda call: (low, high)


def _no_less(least: float, below: float = 1.0, above: float = 1.0) -> Rule:
    """Of activations whose least value is known and that are no larger than multiples of x below and above 0."""
    return lambda call: (max(least, below * min(call.read[0][0], 0.0)), above * max(call.read[0][1], 0.0))


def _rising(function: Callable[[float], float]) -> Rule:
    """Of functions that never fall."""

    def rule(call: _Call) -> Range:
        low, high = call.read[0]
        return function(low), function(high)

    return rule


def _exponential(x: float) -> float:
    return math.exp(x) if x < 700.0 else math.inf


_UNIT = "softmax _softmax sigmoid hardsigmoid special_expit eq ne lt le gt ge logical_and logical_or logical_not"
_UNIT += " logical_xor isnan isinf isfinite any all one_hot"
_TWO = "sin cos erf tanh sign sgn softsign cosine_similarity"
_SEVERAL = "cat concat stack hstack vstack maximum minimum max min"
_ZEROS, _ONES, _CLAMPS = "zeros zeros_like new_zeros", "ones ones_like new_ones", "clamp clip clamp_min clamp_max"
_PICKED = "topk sort max_pool2d_with_indices"
_NORMS = "layer_norm group_norm rms_norm instance_norm"

RULES: dict[str, Rule] = {
    **dict.fromkeys((*MOVES, *_PICKED.split()), _entries),
    **dict.fromkeys((*WITH_ZEROS, "glu", "silu"), _entries_or_zero),
    **dict.fromkeys(_UNIT.split(), _between(0.0, 1.0)),
    **dict.fromkeys(_TWO.split(), _between(-1.0, 1.0)),
    **dict.fromkeys(_SEVERAL.split(), _all),
    **dict.fromkeys(_ZEROS.split(), _between(0.0, 0.0)),
    **dict.fromkeys(_ONES.split(), _between(1.0, 1.0)),
    **dict.fromkeys(_CLAMPS.split(), _clamped),
    **dict.fromkeys(("matmul", "mm", "bmm"), _product),
    **dict.fromkeys(_NORMS.split(), _normed),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _between(-math.inf, 0.0)),
    "add": _add,
    "sub": lambda call: _add(call, sign=-1),
    "rsub": lambda call: _add(call, "other", "self", sign=-1),
    "mul": _multiply,
    "div": _divide,
    "square": lambda call: _squared(call.read[0]),
    "pow": _power,
    "sum": _summed,
    "einsum": _contracted,
    "rsqrt": _root_inverse,
    "sqrt": _rising(lambda x: math.sqrt(max(x, 0.0))),
    "exp": _rising(_exponential),
    "relu": _rising(lambda x: max(x, 0.0)),
    "elu": lambda call: (-math.inf if call.argument("alpha") not in (None, 1) else -1.0, max(call.read[0][1], 0.0)),
    "selu": _no_less(-1.7581, 1.7581, 1.0508),
    "neg": lambda call: _negative(call.read[0]),
    "abs": _absolute,
    "to": _converted,
    "_to_copy": _converted,
    "embedding": lambda call: call.range("weight"),
    "where": _chosen,
    "masked_fill": _filled,
    "linalg_vector_norm": _length,
    "scaled_dot_product_attention": _attended,
    "hardswish": _no_less(-0.375),
    "mish": _no_less(-0.3089),
}
"""For each function with a rule, that rule."""
_FIRST_OUTPUT = frozenset({"max", "min", *_PICKED.split()})
"""Whose other outputs are places and not entries."""


def range_of(node: Node, read: Sequence[Range], layouts: Sequence[Layout]) -> Range:
    """Between which numbers the entries of a function's output lie.

    Parameters
    ----------
    node : Node
        A ``function``.
    read : sequence of pair of numbers
        The same of what it reads.
    layouts : sequence of Layout
        Shapes of what it reads.
    """
    name = node.attributes["function"]
    rule = RULES.get(name)
    if rule is None or (name in _FIRST_OUTPUT and node.attributes["output"] > 0):
        return ANYTHING
    low, high = rule(_Call(node, read, layouts))
    return ANYTHING if math.isnan(low) or math.isnan(high) else (low, high)
