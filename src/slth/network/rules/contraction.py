"""Products of a value with a parameter over any axes: what einsum, matmul, bmm, tensordot and the like come to.

Axes are letters. Those that value, parameter and output all have are groups; those of value and parameter alone are
inputs, those of parameter and output alone outputs, of a map that all other positions of the value share. Without
groups it is a Linear layer, with them a convolution in groups with a kernel of one.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slth.network.calls import Reference
from slth.network.rules.base import Call, Draft, Rule, Value, names_of, ticketable


@dataclass(frozen=True)
class _Factor:
    """A parameter, the letters of its axes, and its traced name."""

    tensor: torch.Tensor
    letters: str
    name: str

    def without_ones(self, letters: str) -> _Factor:
        """Axes of size 1 left out."""
        axes = [self.letters.index(letter) for letter in letters]
        own = "".join(letter for letter in self.letters if letter not in letters)
        return _Factor(self.tensor.squeeze(axes) if axes else self.tensor, own, self.name)


@dataclass(frozen=True)
class _Axes:
    """What letters are to a product, in their order, and the sizes of all; -k for k times the batch's."""

    groups: list[str]
    inputs: list[str]
    outputs: list[str]
    others: list[str]
    sizes: dict[str, int]

    def sizes_of(self, *letters: str) -> list[int]:
        return [self.sizes[letter] for letter in letters]


def contract(draft: Draft, source: str, letters: str, factor: _Factor, output: str, name: str) -> str | None:
    """The value times the parameter, summed over all letters that the output has not; None where that is no layer."""
    own, weight = letters, factor.letters
    if any(len(set(each)) != len(each) for each in (own, weight, output)) or not set(output) <= set(own + weight):
        return None
    summed = [own.index(letter) for letter in own if letter not in output + weight]
    if summed:
        source = draft.function("sum", f"{name}_sum", {"self": Value(source), "dim": summed, "keepdim": False})
        own = "".join(letter for letter in own if letter in output + weight)
    axes = _axes(draft, source, own, factor, output)
    if axes is None:
        return None
    made = _linear(draft, source, own, axes, factor, name) if not axes.groups else None
    first = min(axes.others, key=lambda letter: axes.sizes[letter], default="")
    if axes.groups and first:
        made = _grouped(draft, source, own, axes, factor, first, name)
    return None if made is None else _moved(draft, *made, output, name)


def _axes(draft: Draft, source: str, own: str, factor: _Factor, output: str) -> _Axes | None:
    weight = factor.letters
    sizes, theirs = (
        dict(zip(own, draft.layouts[source].whole(-1), strict=True)),
        dict(zip(weight, factor.tensor.shape, strict=True)),
    )
    if any(sizes[letter] != theirs[letter] for letter in own if letter in theirs):
        return None
    shared = [letter for letter in own if letter in weight]
    outputs = [letter for letter in weight if letter not in own]
    if not set(outputs) <= set(output):
        return None
    groups, inputs = ([x for x in shared if x in output], [x for x in shared if x not in output])
    return _Axes(groups, inputs, outputs, [x for x in own if x not in weight], {**theirs, **sizes})


def _linear(draft: Draft, source: str, own: str, axes: _Axes, factor: _Factor, name: str) -> tuple[str, str]:
    """The node, and the letters of its axes."""
    shape = (math.prod(axes.sizes_of(*axes.outputs)), math.prod(axes.sizes_of(*axes.inputs)))
    made = _moved(draft, source, own, [*axes.others, *axes.inputs], name)
    made = _flat(draft, made, len(axes.others), len(axes.inputs), name)
    matrix, role = _matrix(factor, [*axes.outputs, *axes.inputs])
    attributes = {"weight_shape": shape, "bias": False}
    made = draft.weigh("linear", [made], attributes, matrix.reshape(shape), None, [factor.name], name, role)
    made = _split(draft, made, len(axes.others), axes.sizes_of(*axes.outputs), name)
    return made, "".join([*axes.others, *axes.outputs])


def _grouped(
    draft: Draft, source: str, own: str, axes: _Axes, factor: _Factor, first: str, name: str
) -> tuple[str, str]:
    """As :func:`_linear`, by groups; ``first`` is the letter of the batch axis, if there is one."""
    n_groups, n_outputs, n_inputs = (
        math.prod(axes.sizes_of(*part)) for part in (axes.groups, axes.outputs, axes.inputs)
    )
    others = [letter for letter in axes.others if letter != first]
    made = _moved(draft, source, own, [first, *axes.groups, *axes.inputs, *others], name)
    made = _flat(draft, made, 1, len(axes.groups) + len(axes.inputs), name)
    made = _flat(draft, made, 2, len(others), name)
    shape = (n_groups * n_outputs, n_inputs, 1)
    matrix, role = _matrix(factor, [*axes.groups, *axes.outputs, *axes.inputs])
    attributes = {"weight_shape": shape, "bias": False, "groups": n_groups}
    attributes |= {"stride": (1,), "padding": (0, 0), "dilation": (1,)}
    made = draft.weigh("conv", [made], attributes, matrix.reshape(shape), None, [factor.name], name, role)
    made = _split(draft, made, 2, axes.sizes_of(*others), name)
    made = _split(draft, made, 1, axes.sizes_of(*axes.groups, *axes.outputs), name)
    return made, "".join([first, *axes.groups, *axes.outputs, *others])


def _matrix(factor: _Factor, order: Sequence[str]) -> tuple[torch.Tensor, str]:
    """The parameter with its axes in an order, and how its weights are used; as they are in the role of a Linear's."""
    axes = [factor.letters.index(letter) for letter in order]
    role = "" if axes == [0, 1] else transposed_role(axes)
    return factor.tensor.permute(axes), role


def transposed_role(axes: Sequence[int]) -> str:
    """The role of a parameter with its axes in another order."""
    return f"axes {' '.join(map(str, axes))}"


def _moved(draft: Draft, source: str, own: str, order: Sequence[str], name: str) -> str:
    """Axes in another order."""
    axes = [own.index(letter) for letter in order]
    if axes == sorted(axes):
        return source
    return draft.function("permute", f"{name}_moved", {"self": Value(source), "dims": axes})


def _flat(draft: Draft, source: str, start: int, count: int, name: str) -> str:
    """A number of axes as one."""
    if count == 1:
        return source
    if count == 0:
        return draft.function("unsqueeze", f"{name}_flat", {"self": Value(source), "dim": start})
    arguments = {"self": Value(source), "start_dim": start, "end_dim": start + count - 1}
    return draft.function("flatten", f"{name}_flat", arguments)


def _split(draft: Draft, source: str, axis: int, sizes: Sequence[int], name: str) -> str:
    """One axis as a number of them."""
    if len(sizes) == 1:
        return source
    if not sizes:
        return draft.function("squeeze", f"{name}_split", {"self": Value(source), "dim": axis})
    return draft.function("unflatten", f"{name}_split", {"self": Value(source), "dim": axis, "sizes": list(sizes)})


def _pair(draft: Draft, call: Call, left: str, right: str) -> tuple[str, str] | None:
    """Which of two arguments is the value and which the parameter that is to be ticketed."""
    for value, parameter in ((left, right), (right, left)):
        if not call.is_parameter(value) and ticketable(draft, call, parameter):
            return value, parameter
    return None


def product(draft: Draft, call: Call) -> str | None:
    """``matmul`` and its kin, the parameter on either side; axes before the last two are aligned from the right."""
    left = next(key for key in ("batch1", "mat1", "input", "self") if key in call.arguments)
    right = next(key for key in ("batch2", "mat2", "vec", "other") if key in call.arguments)
    pair = _pair(draft, call, left, right)
    if pair is None:
        return None
    value, parameter = pair
    source = draft.source(call.arguments[value])
    sizes, tensor = draft.layouts[source].whole(-1), call.parameter(parameter)
    if not sizes or not tensor.dim():
        return None
    # The axis that is summed over is a, the rows of the left factor are b, the columns of the right one c.
    ends = {
        left: "a" if _rank(draft, call, left) == 1 else "ba",
        right: "a" if _rank(draft, call, right) == 1 else "ac",
    }
    own, theirs, output, ones = _aligned(sizes, ends[value], tuple(tensor.shape), ends[parameter])
    factor = _Factor(tensor, theirs, names_of(call, parameter)[0]).without_ones(ones)
    output += "".join(letter for letter in ends[left] + ends[right] if letter != "a")
    return contract(draft, source, own, factor, output, call.name)


def _rank(draft: Draft, call: Call, key: str) -> int:
    if call.is_parameter(key):
        return call.parameter(key).dim()
    return len(draft.layouts[draft.source(call.arguments[key])].whole(1))


def _aligned(sizes: Sequence[int], end: str, theirs: Sequence[int], their_end: str) -> tuple[str, str, str, str]:
    """Letters of a value, of a parameter, of the first axes of their product, and those of the parameter's to drop."""
    own, other, output, ones = "", "", "", ""
    free = iter(string.ascii_lowercase[3:])
    before, their_before = list(sizes[: len(sizes) - len(end)]), list(theirs[: len(theirs) - len(their_end)])
    while before or their_before:
        letter = next(free)
        size, their_size = (part.pop() if part else None for part in (before, their_before))
        if their_size is not None:
            other = letter + other
            ones += letter if their_size == 1 and size is not None else ""
        if size is not None:
            # An axis of 1 that the parameter's is repeated along is summed over, which is the same.
            own = (next(free) if size == 1 and their_size not in (None, 1) else letter) + own
        output = letter + output
    return own + end, other + their_end, output, ones


def sum_of_product(draft: Draft, call: Call) -> str | None:
    """``addmm`` and ``baddbmm``: something plus a product."""
    if any(call.arguments.get(key, 1) != 1 for key in ("alpha", "beta")):
        return None
    made = _affine(draft, call) if call.op == "addmm" else None
    if made is None and (made := product(draft, call)) is not None:
        arguments = {"self": Value(made), "other": call.arguments["self"]}
        made = draft.function("add", f"{call.name}_sum", arguments)
    return made


def _affine(draft: Draft, call: Call) -> str | None:
    """A Linear layer, where what is added is its bias."""
    if call.is_parameter("mat1") or not ticketable(draft, call, "mat2", "self"):
        return None
    matrix, bias = call.parameter("mat2").t(), call.parameter("self")
    if bias.numel() != len(matrix):
        return None
    attributes = {"weight_shape": tuple(matrix.shape), "bias": True}
    parameters, source = names_of(call, "mat2", "self"), draft.source(call.arguments["mat1"])
    role = transposed_role((1, 0))
    return draft.weigh("linear", [source], attributes, matrix, bias.reshape(-1), parameters, call.name, role)


def tensordot(draft: Draft, call: Call) -> str | None:
    """Over any axes of both; ``inner`` over the last ones."""
    pair = _pair(draft, call, "self", "other")
    if pair is None:
        return None
    ranks = [_rank(draft, call, key) for key in ("self", "other")]
    dims = [call.arguments.get(f"dims_{key}", [-1]) for key in ("self", "other")]
    letters = [list(string.ascii_lowercase[:13][: ranks[0]]), list(string.ascii_lowercase[13:][: ranks[1]])]
    for mine, theirs in zip(*dims, strict=True):
        letters[1][theirs] = letters[0][mine]
    output = "".join(
        letter for own in letters for letter in own if letters[0].count(letter) + letters[1].count(letter) == 1
    )
    return _einsum(
        draft, call, [call.arguments["self"], call.arguments["other"]], ["".join(own) for own in letters], output
    )


def chain(draft: Draft, call: Call) -> str | None:
    """``linalg.multi_dot``: the product of several matrices, the first and the last of which may be vectors."""
    tensors = call.arguments["tensors"]
    letters = [string.ascii_letters[k : k + 2] for k in range(len(tensors))]
    for k, part in ((0, slice(1, 2)), (-1, slice(0, 1))):
        if _rank_of(draft, tensors[k]) == 1:
            letters[k] = letters[k][part]
    output = "".join(own for own in (letters[0][:-1], letters[-1][1:]))
    return _einsum(draft, call, tensors, letters, output)


def einsum(draft: Draft, call: Call) -> str | None:
    """With at least one parameter, which is multiplied by all values at once."""
    tensors = call.arguments["tensors"]
    read = _letters(call.arguments["equation"], [_rank_of(draft, tensor) for tensor in tensors])
    return None if read is None else _einsum(draft, call, tensors, *read)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """Letters of the operands and of the output, dots written out."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    longest = max(rank - len(own.replace("...", "")) for own, rank in zip(operands, ranks, strict=True))
    if longest > len(free):
        return None
    dots = "".join(free[:longest])
    letters = []
    for own, rank in zip(operands, ranks, strict=True):
        n = rank - len(own.replace("...", ""))
        letters.append(own.replace("...", dots[longest - n :] if n else ""))
    if not arrow:
        every = left.replace("...", "").replace(",", "")
        output = f"...{''.join(sorted(letter for letter in set(every) if every.count(letter) == 1))}"
    return letters, output.replace("...", dots if "..." in left else "")


def _rank_of(draft: Draft, reference: Reference) -> int:
    if reference.name in draft.parameters:
        return draft.parameters[reference.name].dim()
    return len(draft.layouts[draft.source(reference)].whole(1))


def _einsum(draft: Draft, call: Call, tensors: Sequence[Reference], letters: Sequence[str], output: str) -> str | None:
    values, factors = list[tuple[Reference, str]](), list[_Factor]()
    for reference, own in zip(tensors, letters, strict=True):
        if reference.name in draft.parameters and draft.wants(reference.name):
            factors.append(_Factor(draft.parameters[reference.name], own, reference.name))
        else:
            values.append((reference, own))
    if not values or not factors:
        return None
    source, own = draft.source(values[0][0]), values[0][1]
    if len(values) > 1:
        needed = output + "".join(factor.letters for factor in factors)
        own = "".join(dict.fromkeys(letter for _, each in values for letter in each if letter in needed))
        equation = f"{','.join(each for _, each in values)}->{own}"
        arguments = {"equation": equation, "tensors": [reference for reference, _ in values]}
        source = draft.function("einsum", f"{call.name}_values", arguments)
    for number, factor in enumerate(factors):
        rest = output + "".join(later.letters for later in factors[number + 1 :])
        kept = "".join(dict.fromkeys(letter for letter in own + factor.letters if letter in rest))
        following = output if number + 1 == len(factors) else kept
        made = contract(draft, source, own, factor, following, call.name)
        if made is None:
            return None
        source, own = made, following
    return source


def bilinear(draft: Draft, call: Call) -> str | None:
    """A Linear layer of the products of every entry of the one input with every entry of the other."""
    if not ticketable(draft, call, "weight", "bias"):
        return None
    one, two = (draft.source(call.arguments[key]) for key in ("input1", "input2"))
    column = draft.function("unsqueeze", f"{call.name}_one", {"self": Value(one), "dim": -1})
    row = draft.function("unsqueeze", f"{call.name}_two", {"self": Value(two), "dim": -2})
    products = draft.function("mul", f"{call.name}_products", {"self": Value(column), "other": Value(row)})
    flat = draft.function("flatten", f"{call.name}_flat", {"self": Value(products), "start_dim": -2, "end_dim": -1})
    matrix = call.weight.flatten(1)
    attributes = {"weight_shape": tuple(matrix.shape), "bias": call.bias is not None}
    parameters = names_of(call, "weight", "bias")
    return draft.weigh("linear", [flat], attributes, matrix, call.bias, parameters, call.name)


CONTRACTION_RULES: dict[str, Rule] = {
    **dict.fromkeys(("matmul", "linalg_matmul", "mm", "bmm", "mv"), product),
    **dict.fromkeys(("addmm", "baddbmm"), sum_of_product),
    **dict.fromkeys(("tensordot", "inner"), tensordot),
    "linalg_multi_dot": chain,
    "einsum": einsum,
    "bilinear": bilinear,
}
