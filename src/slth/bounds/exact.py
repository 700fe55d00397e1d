"""Numbers as the theorems need them: widths beyond 10^19 to the last digit, tolerances below 10^-300.

Formulas are evaluated in decimal floating point with :data:`DIGITS` digits, and a float such as 0.01 stands for the
number that its shortest decimal form names, 1/100: so a width is the one that a reader computes by hand.
"""

from __future__ import annotations

import decimal
import functools
import math
import operator
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import ParamSpec, TypeVar

from slth.errors import ArgumentError

DIGITS = 120
"""Of the decimal arithmetic: an integer below 10^100 comes out exactly."""

SLACK = Decimal("1e-12")
"""A logarithm that is an integer but for its last digits is taken for the integer (theory, section 3.4)."""

Number = int | float | Fraction | Decimal
"""What ``eps``, ``delta`` and the norms may be."""

P = ParamSpec("P")
R = TypeVar("R")


def precise(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in decimal arithmetic with :data:`DIGITS` digits and no limit on exponents."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with decimal.localcontext(prec=DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
            return function(*args, **kwargs)

    return wrapped


@precise
def exact(value: Number) -> Decimal:
    """The number that ``value`` names; infinity stays infinity.

    Examples
    --------
    >>> exact(0.1) + exact(0.2)
    Decimal('0.3')
    """
    if isinstance(value, Decimal):
        return value
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / Decimal(value.denominator)
    return Decimal(operator.index(value)) if hasattr(value, "__index__") else Decimal(repr(float(value)))


def positive(where: str, value: Number) -> Decimal:
    """``value`` as a decimal.

    Raises
    ------
    ArgumentError
        Unless it is a finite number above 0.
    """
    number = _number(where, value, "a finite number above 0")
    if not (number.is_finite() and number > 0):
        raise ArgumentError(where, str(value), "a finite number above 0")
    return number


def probability(where: str, value: Number) -> Decimal:
    """``value`` as a decimal.

    Raises
    ------
    ArgumentError
        Unless it lies strictly between 0 and 1.
    """
    number = _number(where, value, "a probability above 0 and below 1")
    if not (number.is_finite() and 0 < number < 1):
        raise ArgumentError(where, str(value), "a probability above 0 and below 1", "0.01")
    return number


def count(where: str, value: int, least: int = 1) -> int:
    """``value`` itself.

    Raises
    ------
    ArgumentError
        Unless it is a whole number, at least ``least``.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ArgumentError(where, repr(value), f"a whole number, at least {least}")
    return int(value)


def _number(where: str, value: Number, need: str) -> Decimal:
    try:
        if isinstance(value, bool):
            raise TypeError
        return exact(value)
    except (TypeError, ValueError, ArithmeticError):
        raise ArgumentError(where, repr(value), need) from None


@precise
def ceiling(value: Decimal) -> int:
    """Least integer that is at least ``value`` - 10^-12."""
    return int((value - SLACK).to_integral_value(rounding=decimal.ROUND_CEILING))


@precise
def log(value: Number) -> Decimal:
    """Natural logarithm."""
    return exact(value).ln()


def floating(value: Decimal) -> float:
    """The nearest float; infinity or 0 where there is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def ratio(numerator: int, denominator: int) -> float:
    """Quotient of two integers of any size."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf
