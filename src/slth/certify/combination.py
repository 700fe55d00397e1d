"""Sums and products in the relaxation: linear forms of several values, and how far off they are.

Of a product x = t1 t2 with middles m and half-widths r of the values t, and middles f and half-widths h of the
differences e,

    t1 t2               = m2 t1 + m1 t2 - m1 m2,                                        off by at most r1 r2,
    s1 s2 - t1 t2       = (m2 + f2) e1 + (m1 + f1) e2 + f2 t1 + f1 t2
                          - m2 f1 - m1 f2 - f1 f2,                                      by h1 r2 + r1 h2 + h1 h2,

s = t + e: both are expanded about the middles, and what is left out is each product of two distances from a middle. Of
a factor that is known, r, f and h are 0, and the form is exact; so it is for sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from slth.certify.backward import Objective, added_up, dot, room_of, sizes_of, sums
from slth.certify.relaxation import Pair, within
from slth.certify.state import TINY, UNIT, State, inflate
from slth.certify.windows import cut


@dataclass(frozen=True)
class Term:
    """What one value adds to a result x and to its difference e; tensors broadcast to the result's whole shape.

    Attributes
    ----------
    source : str
    shape, whole : tuples of int
        Of the value as it is kept, and with its batch axis.
    value, cross, difference : tensors
        Coefficients: of the value in x, of the value in e, and of the value's difference in e.
    """

    source: str
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    value: torch.Tensor
    cross: torch.Tensor
    difference: torch.Tensor


@dataclass(frozen=True)
class Combination:
    """A result as a linear form of values, all tensors of the result's shape without a batch axis but for the terms.

    Attributes
    ----------
    terms : tuple of Term
    whole : tuple of int
        The result's shape with its batch axis.
    constant, shift : tensors
        What is added to x and to e.
    loose, loose_difference : tensors
        How far x and e may be from that, rounding of an evaluation included.
    size, size_difference : tensors
        Sums of the absolute values of all that is added up.
    """

    terms: tuple[Term, ...]
    whole: tuple[int, ...]
    constant: torch.Tensor
    shift: torch.Tensor
    loose: torch.Tensor
    loose_difference: torch.Tensor
    size: torch.Tensor
    size_difference: torch.Tensor


@dataclass(frozen=True)
class Operand:
    """A value that is combined: its name (empty for a number), what is known of it, and its whole shape."""

    source: str
    pair: Pair
    shape: tuple[int, ...]
    whole: tuple[int, ...]

    @property
    def known(self) -> bool:
        """Whether it is the same numbers in both networks."""
        pair = self.pair
        return all(
            bool((one == other).all()) for one, other in ((pair.lower, pair.upper), (pair.below, 0 * pair.above))
        )

    def lift(self, part: torch.Tensor) -> torch.Tensor:
        """With the batch axis."""
        return part.reshape(self.whole)

    @property
    def middles(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Middles and half-widths of the value and of the difference, half-widths rounded upward; whole."""
        found = []
        for low, high in ((self.pair.lower, self.pair.upper), (self.pair.below, self.pair.above)):
            middle = (low + high) / 2
            half = torch.maximum(high - middle, middle - low)
            # The middle of a single number is that number, from which nothing is apart.
            half = torch.where(low == high, 0.0, inflate(half, 4))
            found += [self.lift(torch.where(low == high, low, middle)), self.lift(half)]
        return found[0], found[1], found[2], found[3]

    @property
    def reach(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest value and largest difference, whole."""
        value = torch.maximum(self.pair.lower.abs(), self.pair.upper.abs())
        return self.lift(value), self.lift(torch.maximum(self.pair.below.abs(), self.pair.above.abs()))


def of_sum(parts: Sequence[tuple[float, Operand]], state: State, result: tuple[int, ...]) -> Combination:
    """A sum of multiples; ``state`` is of the result, whose whole shape is ``result``."""
    zero = torch.zeros((), dtype=torch.float64)
    terms, size, size_difference = (
        [],
        torch.zeros(result, dtype=torch.float64),
        torch.zeros(result, dtype=torch.float64),
    )
    for factor, operand in parts:
        number = torch.tensor(factor, dtype=torch.float64)
        terms.append(Term(operand.source, operand.shape, operand.whole, number, zero, number))
        value, difference = operand.reach
        size, size_difference = size + abs(factor) * value, size_difference + abs(factor) * difference
    rounding = (len(parts) + 4) * UNIT * (size + size_difference) + TINY
    operands = [operand for _, operand in parts]
    return _made(terms, operands, state, result, [zero, zero, zero, zero, size, size_difference], rounding)


def of_product(one: Operand, other: Operand, state: State, result: tuple[int, ...]) -> Combination:
    """A product of two values; see the module's docstring."""
    (m1, r1, f1, h1), (m2, r2, f2, h2) = one.middles, other.middles
    terms = (
        Term(one.source, one.shape, one.whole, m2, f2, m2 + f2),
        Term(other.source, other.shape, other.whole, m1, f1, m1 + f1),
    )
    loose = r1 * r2
    loose_difference = h1 * r2 + r1 * h2 + h1 * h2
    (v1, d1), (v2, d2) = one.reach, other.reach
    size = 3 * v1 * v2
    size_difference = 4 * ((v1 + d1) * d2 + (v2 + d2) * d1)
    rounding = 8 * UNIT * ((v1 + d1) * (v2 + d2)) + TINY
    parts = [-m1 * m2, -(m2 * f1 + m1 * f2 + f1 * f2), loose, loose_difference, size, size_difference]
    return _made(terms, [one, other], state, result, parts, rounding)


def _made(
    terms: Sequence[Term],
    operands: Sequence[Operand],
    state: State,
    result: tuple[int, ...],
    parts: Sequence[torch.Tensor],
    rounding: torch.Tensor,
) -> Combination:
    shape = state.lower.shape

    def drop(part: torch.Tensor) -> torch.Tensor:
        return part.expand(result).reshape(shape)

    parts = list(parts)
    for term, operand in zip(terms, operands, strict=True):
        if not operand.source:
            number = operand.middles[0]
            parts[0], parts[1] = parts[0] + term.value * number, parts[1] + term.cross * number
    constant, shift, loose, loose_difference, size, size_difference = map(drop, parts)
    room = drop(rounding.expand(result))
    return Combination(
        tuple(term for term in terms if term.source),
        result,
        constant,
        shift,
        inflate(loose + room, 8),
        inflate(loose_difference + 2 * room, 8),
        inflate(size + loose, 8),
        inflate(size_difference + loose_difference, 8),
    )


def pair_of(made: Combination, operands: Sequence[Operand], after: State) -> Pair:
    """Bounds on the result by its linear form, where they are better than those of ``after``."""
    shape, n_terms = after.lower.shape, 4 * len(made.terms) + 8

    def drop(part: torch.Tensor) -> torch.Tensor:
        return part.expand(made.whole).reshape(shape)

    low = high = made.constant
    below = above = made.shift
    for term, operand in zip(made.terms, (one for one in operands if one.source), strict=True):
        value, half, difference, spread = operand.middles
        centre, radius = drop(term.value * value), drop(term.value.abs() * half)
        low, high = low + centre - radius, high + centre + radius
        centre = drop(term.cross * value + term.difference * difference)
        radius = drop(term.cross.abs() * half + term.difference.abs() * spread)
        below, above = below + centre - radius, above + centre + radius
    room = made.loose + 4 * n_terms * UNIT * made.size
    more = made.loose_difference + 4 * n_terms * UNIT * made.size_difference
    low, high = torch.fmax(low - room, after.lower), torch.fmin(high + room, after.upper)
    return Pair(low, high, *within(below - more, above + more, after.error))


def through_combination(
    made: Combination, state: State, rows: Objective
) -> tuple[list[tuple[str, Objective]], Objective]:
    """To every value that is combined, and what is left as constant and room; ``state`` is of the result."""
    window, value, difference = rows.window, rows.value, rows.difference
    spread = max(1, *(_share(made.whole, term.whole) for term in made.terms))
    n_terms = 2 * value[0].numel() + spread + 8
    constant = rows.constant + dot(value, cut(made.constant, window))
    if difference is not None:
        constant = constant + dot(difference, cut(made.shift, window))
    size, loose = sums(value.abs(), cut(made.size, window), cut(made.loose, window))
    size_difference, loose_difference = sums(
        sizes_of(difference), cut(made.size_difference, window), cut(made.loose_difference, window)
    )
    off = (loose + loose_difference) * (1 + 2 * n_terms * UNIT)
    room = added_up(rows.room, room_of(rows, size + size_difference, n_terms, state), 4 * UNIT * constant.abs(), off)
    nothing = torch.zeros_like(rows.constant)
    parts = []
    for term in made.terms:
        back = _multiplied(term.value, made.whole, value, rows, state)
        if difference is not None and bool((term.cross != 0).any()):
            back = back + _multiplied(term.cross, made.whole, difference, rows, state)
        own = None if difference is None else _multiplied(term.difference, made.whole, difference, rows, state)
        piece = Objective(back, own, nothing, nothing, None, window)
        parts.append((term.source, _gathered(piece, made, term, state.lower.shape)))
    return parts, replace(rows, constant=constant, room=room)


def _share(result: tuple[int, ...], operand: tuple[int, ...]) -> int:
    """How many entries of the result read one entry of an operand at most."""
    count = 1
    for axis, size in enumerate(reversed(result)):
        if axis >= len(operand) or operand[-1 - axis] != size:
            count *= size
    return count


def _multiplied(
    factor: torch.Tensor, result: tuple[int, ...], part: torch.Tensor, rows: Objective, state: State
) -> torch.Tensor:
    if factor.numel() == 1:
        return part * factor.reshape(())
    return part * cut(factor.expand(result).reshape(state.lower.shape), rows.window)


def _gathered(piece: Objective, made: Combination, term: Term, shape: torch.Size) -> Objective:
    """Summed over the axes along which a value is repeated."""
    if term.whole == made.whole:
        return piece
    alike = len(term.whole) == len(made.whole) == len(term.shape) + 1
    if not alike:
        piece = piece.whole(shape)
    window = piece.window
    if window is not None:
        sizes = zip(window, term.shape[1:], made.whole[2:], strict=True)
        window = tuple((0, 1) if size == 1 != full else ends for ends, size, full in sizes)
    return replace(piece.each(lambda part: _summed(part, made.whole, term)), window=window)


def _summed(part: torch.Tensor, result: tuple[int, ...], term: Term) -> torch.Tensor:
    n, ahead = len(part), len(result) - (part.dim() - 1)
    part = part.reshape(n, *[1] * ahead, *part.shape[1:])
    extra = part.dim() - 1 - len(term.whole)
    if extra:
        part = part.flatten(1, extra).sum(dim=1)
    for axis, size in enumerate(term.whole):
        if size == 1 and part.shape[axis + 1] != 1:
            part = part.sum(dim=axis + 1, keepdim=True)
    return part.reshape(n, *part.shape[1 + len(term.whole) - len(term.shape) :])
