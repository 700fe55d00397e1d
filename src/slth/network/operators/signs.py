"""Signs of what functions give, from the signs of what they read; nothing is known without a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slth.network.graph import Sign

Rule = Callable[[Mapping[str, Any], Sequence[Sign]], Sign]

_UP, _DOWN, _ANY = Sign.NONNEGATIVE, Sign.NONPOSITIVE, Sign.SIGNED


def _same(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    """Entries of what is read, or means or sums of them."""
    return signs[0]


def _all(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    """Entries of one or the other."""
    found = signs[0]
    for sign in signs[1:]:
        found = found | sign
    return found


def _of(value: Any, signs: Sequence[Sign]) -> Sign:
    """The sign of an argument."""
    if isinstance(value, Mapping):
        return signs[value["source"]] if "source" in value else _UP
    if isinstance(value, int | float):
        return _UP if value >= 0 else _DOWN
    return _ANY


def _together(first: Any, second: Any, signs: Sequence[Sign], opposite: bool = False) -> Sign:
    """Of the sum of two arguments, or of the difference; nothing is added with a number 0."""
    own, other = _of(first, signs), _of(second, signs)
    other = other.opposite if opposite else other
    if type(first) in (int, float) and first == 0:
        return other
    return own if type(second) in (int, float) and second == 0 else own | other


def _sum(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    added = _together(arguments.get("self"), arguments.get("other"), signs)
    return added if _of(arguments.get("alpha", 1), signs) is _UP else _ANY


def _difference(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    left = _together(arguments.get("self"), arguments.get("other"), signs, opposite=True)
    return left if _of(arguments.get("alpha", 1), signs) is _UP else _ANY


def _reversed_difference(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    return _difference({**arguments, "self": arguments.get("other"), "other": arguments.get("self")}, signs)


def _product(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    first, second = (_of(arguments.get(key), signs) for key in ("self", "other"))
    if arguments.get("self") == arguments.get("other"):
        return _UP
    if _ANY in (first, second):
        return _ANY
    return _UP if first is second else _DOWN


def _up(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    return _UP


def _down(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    return _DOWN


def _larger(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    """One that is not negative is enough."""
    return _UP if _UP in signs else _all(arguments, signs)


def _smaller(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    return _DOWN if _DOWN in signs else _all(arguments, signs)


def _chosen(*keys: str) -> Rule:
    """Entries of certain arguments, of which numbers count by their own signs, 0 as either."""

    def rule(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        given = [arguments.get(key) for key in keys]
        found = {_of(value, signs) for value in given if not (type(value) in (int, float) and value == 0)}
        return found.pop() if len(found) == 1 else _UP if not found else _ANY

    return rule


def _clamped(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    low, high = arguments.get("min"), arguments.get("max")
    if isinstance(low, int | float) and low >= 0:
        return _UP
    if isinstance(high, int | float) and high <= 0:
        return _DOWN
    # A lower bound below 0 leaves numbers from 0 on alone, unless the upper one is below 0.
    return signs[0] if not isinstance(low, Mapping) and not isinstance(high, Mapping) else _ANY


def _powered(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    exponent = arguments.get("exponent")
    return _UP if signs[0] is _UP or (isinstance(exponent, int | float) and exponent % 2 == 0) else _ANY


def _padded(arguments: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
    value = arguments.get("value")
    return signs[0] | (_UP if value > 0 else _DOWN) if isinstance(value, int | float) and value else signs[0]


_UPWARD = (
    "relu relu6 sigmoid hardsigmoid softmax _softmax softplus exp exp2 abs square sqrt rsqrt special_expit eq ne lt le"
)
_UPWARD += (
    " gt ge logical_and logical_or logical_not logical_xor isnan isinf isfinite any all argmax argmin std var norm"
)
_UPWARD += (
    " count_nonzero linalg_vector_norm acosh one_hot cosh zeros ones zeros_like ones_like new_zeros new_ones eye erfc"
)
_UPWARD += " acos cdist"
_MOVES = "view reshape _unsafe_view flatten unflatten squeeze unsqueeze transpose permute t numpy_T movedim moveaxis"
_MOVES += (
    " swapaxes expand expand_as repeat tile broadcast_to split split_with_sizes chunk unbind tensor_split slice select"
)
_MOVES += " narrow index_select flip roll rot90 unfold diagonal pixel_shuffle pixel_unshuffle channel_shuffle view_as"
_MOVES += " reshape_as repeat_interleave adjoint mT mean amax amin clone contiguous gather index take_along_dim"
_MOVES += (
    " upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d"
)
_MOVES += " upsample_linear1d upsample_bilinear2d upsample_trilinear3d adaptive_avg_pool1d adaptive_avg_pool2d"
_MOVES += " adaptive_avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d"
_MOVES += " adaptive_max_pool3d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"
MOVES = frozenset(_MOVES.split())
"""Functions whose output is made of entries of what they read first, or of means of them."""

_WITH_ZEROS = "tril triu im2col diag_embed avg_pool1d avg_pool2d avg_pool3d trunc hardshrink softshrink tanhshrink"
WITH_ZEROS = frozenset(_WITH_ZEROS.split())
"""Of such entries and zeros, or of numbers between the two."""

_SAME = "sum cumsum to _to_copy tanh asinh atan sinh erf sign sgn leaky_relu softsign selu elu celu hardswish silu mish"
_SAME += " round floor ceil expm1 log1p topk sort"

SIGNS: dict[str, Rule] = {
    **dict.fromkeys(_UPWARD.split(), _up),
    **dict.fromkeys((*MOVES, *WITH_ZEROS, *_SAME.split()), _same),
    **dict.fromkeys(("cat", "concat", "stack", "hstack", "vstack"), _all),
    "maximum": _larger,
    "minimum": _smaller,
    **dict.fromkeys(("log_softmax", "_log_softmax", "log_sigmoid", "logsigmoid"), _down),
    "neg": lambda arguments, signs: signs[0].opposite,
    "where": _chosen("self", "other"),
    "masked_fill": _chosen("self", "value"),
    "full": _chosen("fill_value"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mul", "div"), _product),
    "add": _sum,
    "sub": _difference,
    "rsub": _reversed_difference,
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), _clamped),
    "pow": _powered,
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    "scaled_dot_product_attention": lambda arguments, signs: signs[arguments["value"]["source"]],
}
"""For each function with a rule, that rule. Entries of what is read come first where several are read."""
