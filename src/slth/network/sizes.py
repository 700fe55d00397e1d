"""Sizes of a program that was traced with a batch of any size, as those for a batch of one prime size."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping

from slth.errors import UnsupportedError

BATCHES = (2003, 2011, 2017, 2027)
"""Sizes of the batch with which networks are read (chosen: primes, so that multiples of them go by the batch).

Tensors have no numbers while they are traced, so that a large batch costs nothing.
"""


def prime_batch(sizes: Iterable[int]) -> int:
    """A size of the batch of which no other size is a multiple; 0 if there is none."""
    others = {size for size in sizes if size}
    return next((prime for prime in BATCHES if all(size % prime for size in others)), 0)


def by_batch(where: str, at: Callable[[int], int], batch: int) -> int:
    """A size for a batch, if it goes by the batch's size as a multiple, or not at all.

    Parameters
    ----------
    where : str
        Whose size it is.
    at : callable
        The size for a batch of another size.
    batch : int

    Raises
    ------
    UnsupportedError
        If it goes by the batch otherwise.
    """
    size, more = at(batch), at(batch + 1)
    if size == more or (size % batch == 0 and more == size // batch * (batch + 1)):
        return size
    raise UnsupportedError(where, "a size that goes by the batch's, but is no multiple of it", "sizes of one example")


def parse(text: str, symbols: Mapping[str, int]) -> int:
    """The value of an expression as programs write it, such as ``Mul(Integer(2), Symbol('s77'))`` or ``2*s77``.

    Raises
    ------
    ValueError
        If it is none of whole numbers and known symbols.
    """
    try:
        return _value(ast.parse(text, mode="eval").body, symbols)
    except (SyntaxError, KeyError, RecursionError, ZeroDivisionError) as error:
        raise ValueError(f"a size {text!r}") from error


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "Add": lambda *parts: sum(parts),
    "Max": max,
    "Min": min,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "Integer": int,
}
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


def _value(node: ast.expr, symbols: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return symbols[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, symbols)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, symbols), _value(node.right, symbols))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "Symbol" and node.args and isinstance(node.args[0], ast.Constant):
            return symbols[str(node.args[0].value)]
        if node.func.id == "Mul":
            product = 1
            for part in node.args:
                product *= _value(part, symbols)
            return product
        return _FUNCTIONS[node.func.id](*(_value(part, symbols) for part in node.args))
    raise ValueError("a size that is no expression of whole numbers")
