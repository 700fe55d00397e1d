"""Arithmetic around the networks, sixteen problems at once: base sets to keys, targets to shifts, choices to answers.

As in :mod:`.network`, only generic LLVM vectors are used. Numbers of sixteen problems stand side by side,
``LANES`` float64 or int64 a row; LLVM splits rows where registers are narrower.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.vectors import I32, I64, LANES, UINT, VECTOR, const, loop, splat

ROW_BYTES = 8 * LANES
SMALLEST, LARGEST = 2.0**-900, 2.0**900
"""Sums of magnitudes outside cannot be scaled by one power of two: such problems get the factor 0."""

_F64 = ir.DoubleType()
_WORDS = ir.VectorType(I64, LANES)
_REALS = ir.VectorType(_F64, LANES)
_ROUND = 1.5 * 2.0**52
"""Added and taken away again, leaves a float64 below 2^51 rounded to whole numbers."""


def _reals(value: float) -> Any:
    return ir.Constant(_REALS, [value] * LANES)


def _words(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * LANES)


class _Row:
    """Loads, stores and what a processor has no single LLVM instruction for."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, address: Any, row: int = 0, kind: Any = _REALS) -> Any:
        """Row `row` behind an address."""
        at = self.builder.add(address, const(row * ROW_BYTES))
        return self.builder.load(self.builder.inttoptr(at, kind.as_pointer()), align=64)

    def store(self, value: Any, address: Any, row: int = 0) -> None:
        """Write row `row` behind an address."""
        at = self.builder.add(address, const(row * ROW_BYTES))
        self.builder.store(value, self.builder.inttoptr(at, value.type.as_pointer()), align=64)

    def magnitude(self, x: Any) -> Any:
        """|x|."""
        bits = self.builder.and_(self.builder.bitcast(x, _WORDS), _words(2**63 - 1))
        return self.builder.bitcast(bits, _REALS)

    def rounded(self, x: Any) -> Any:
        """The whole number nearest to x, |x| < 2^51."""
        return self.builder.fsub(self.builder.fadd(x, _reals(_ROUND)), _reals(_ROUND))

    def least(self, a: Any, b: Any) -> Any:
        """min(a, b)."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def greatest(self, a: Any, b: Any) -> Any:
        """max(a, b)."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def two_sum(self, a: Any, b: Any) -> tuple[Any, Any]:
        """a + b rounded, and what the rounding took away (Knuth)."""
        builder = self.builder
        total = builder.fadd(a, b)
        back = builder.fsub(total, a)
        return total, builder.fadd(builder.fsub(a, builder.fsub(total, back)), builder.fsub(b, back))


def make_scale() -> Any:
    """The sum of all magnitudes of each base set, and the power of two that scales it to `bits` bits.

    Returns
    -------
    intrinsic ``scale(base, m, bits, factors, totals)``
        Addresses of the base sets (a row an element) and of one row each, out. The scaled sum leaves room for 512.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, m, bits, factors, totals = args
        row = _Row(builder)

        def body(step: Any, state: list[Any]) -> list[Any]:
            x = row.load(builder.add(base, builder.mul(step, const(ROW_BYTES))))
            return [builder.fadd(state[0], row.magnitude(x))]

        (total,) = loop(builder, m, [_reals(0.0)], body)
        row.store(total, totals)
        shift = _words(52)
        # total lies in [2^(E - 1), 2^E) with E its exponent field less 1022; the factor is 2^(bits - E).
        field = builder.lshr(builder.bitcast(total, _WORDS), shift)
        exponent = builder.sub(splat(builder, builder.add(bits, const(1022 + 1023)), _WORDS), field)
        factor = builder.bitcast(builder.shl(exponent, shift), _REALS)
        room = builder.sub(builder.shl(const(1), bits), const(512))
        limit = splat(builder, builder.sitofp(room, _F64), _REALS)
        tight = builder.fcmp_ordered(">", builder.fmul(total, factor), limit)
        factor = builder.select(tight, builder.fmul(factor, _reals(0.5)), factor)
        usual = builder.and_(
            builder.fcmp_ordered(">", total, _reals(SMALLEST)), builder.fcmp_ordered("<", total, _reals(LARGEST))
        )
        row.store(builder.select(usual, factor, _reals(0.0)), factors)
        return context.get_dummy_value()

    @intrinsic
    def scale(typingctx, base, m, bits, factors, totals):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT), codegen

    return scale


STATE_ROWS = 7
"""Rows of :func:`make_quantise`'s state: quanta in all, in flipped elements, in this call's elements; roundings of all
that round down, up, of the flipped ones; the set of flipped elements (int64)."""


def make_quantise() -> Any:
    """Elements ``first .. first + count - 1`` of each base set in whole quanta, as keys of a list.

    Returns
    -------
    intrinsic ``quantise(base, first, count, factors, keys, tag, state)``
        Each element gives two int32 vectors at `keys`: twice its quanta, and the sum of the first and the last of the
        list that it completes, whose only sum was `tag` at first. `state` is read and written (``STATE_ROWS`` rows).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, first, count, factors, keys, tag, state_address = args
        row = _Row(builder)
        factor = row.load(factors)
        mirror = splat(builder, builder.trunc(builder.mul(tag, const(2)), I32), VECTOR)
        kinds = [_REALS] * 6 + [_WORDS]
        initial = [row.load(state_address, k, kind) for k, kind in enumerate(kinds)]
        initial[2] = _reals(0.0)

        def body(step: Any, state: list[Any]) -> list[Any]:
            whole, negative, here, low, high, turned, flips, mirror = state
            k = builder.add(first, step)
            x = row.load(builder.add(base, builder.mul(k, const(ROW_BYTES))))
            scaled = builder.fmul(row.magnitude(x), factor)
            quanta = row.rounded(scaled)
            rest = builder.fsub(scaled, quanta)
            flipped = builder.fcmp_ordered("<", x, _reals(0.0))
            bit = splat(builder, builder.shl(const(1), k), _WORDS)
            key = builder.fptosi(builder.fadd(quanta, quanta), VECTOR)
            mirror = builder.add(mirror, key)
            at = builder.add(keys, builder.mul(step, const(ROW_BYTES)))
            builder.store(key, builder.inttoptr(at, VECTOR.as_pointer()), align=64)
            above = builder.add(at, const(ROW_BYTES // 2))
            builder.store(mirror, builder.inttoptr(above, VECTOR.as_pointer()), align=64)
            return [
                builder.fadd(whole, quanta),
                builder.fadd(negative, builder.select(flipped, quanta, _reals(0.0))),
                builder.fadd(here, quanta),
                builder.fadd(low, row.least(rest, _reals(0.0))),
                builder.fadd(high, row.greatest(rest, _reals(0.0))),
                builder.fadd(turned, builder.select(flipped, rest, _reals(0.0))),
                builder.or_(flips, builder.select(flipped, bit, _words(0))),
                mirror,
            ]

        final = loop(builder, count, [*initial, mirror], body)
        for k in range(STATE_ROWS):
            row.store(final[k], state_address, k)
        return context.get_dummy_value()

    @intrinsic
    def quantise(typingctx, base, first, count, factors, keys, tag, state):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT, UINT, UINT), codegen

    return quantise


def make_aim() -> Any:
    """Where each problem's target lies among its fixed-point sums.

    Returns
    -------
    intrinsic ``aim(targets, factors, state, right, left_over, slack, shifts, margins)``
        Rows of the targets, the factors, the state of :func:`make_quantise`, the quanta in the right half and in the
        element left over; `slack` a float64, how far out of reach of all sums a target may stay. Out: two int32
        vectors at `shifts`, what to add to the right list without and with the element left over, and one at `margins`:
        how many quanta beyond the least gap the optimum may lie.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        targets, factors, state, right, left_over, slack, shifts, margins = args
        row = _Row(builder)
        whole, negative, _, low, high, turned = (row.load(state, k) for k in range(6))
        far = _reals(2.0**40)
        scaled = builder.fmul(row.load(targets), row.load(factors))
        scaled = row.greatest(row.least(scaled, far), builder.fsub(_reals(0.0), far))
        rounded = row.rounded(scaled)
        goal = builder.fadd(rounded, negative)
        beyond = splat(builder, slack, _REALS)
        inside = row.greatest(row.least(goal, builder.fadd(whole, beyond)), builder.fsub(_reals(0.0), beyond))
        rest = builder.fadd(builder.fsub(scaled, rounded), turned)
        # Out of reach of all sums the optimum is everything or nothing, which no rounding can hide.
        rest = builder.select(builder.fcmp_ordered("==", inside, goal), rest, _reals(0.0))
        spread = row.greatest(row.magnitude(builder.fsub(rest, low)), row.magnitude(builder.fsub(rest, high)))
        # One quantum more for the bit of the list that the gaps are taken with.
        margin = builder.fadd(builder.fadd(spread, spread), _reals(2.0 + 1e-6))
        shift = builder.fsub(inside, row.load(right))
        with_it = builder.fsub(shift, row.load(left_over))
        for address, offset, value in (
            (shifts, 0, builder.fadd(shift, shift)),
            (shifts, ROW_BYTES // 2, builder.fadd(with_it, with_it)),
            (margins, 0, margin),
        ):
            at = builder.add(address, const(offset))
            builder.store(builder.fptosi(value, VECTOR), builder.inttoptr(at, VECTOR.as_pointer()), align=64)
        return context.get_dummy_value()

    @intrinsic
    def aim(typingctx, targets, factors, state, right, left_over, slack, shifts, margins):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT, types.float64, UINT, UINT), codegen

    return aim


def make_answers() -> Any:
    """Sums and errors of choices, correctly rounded; see :func:`.arith.compensated` and ``answer``.

    Returns
    -------
    intrinsic ``answers(base, m, masks, targets, totals, slack, sums, errors) -> uint64``
        Addresses of the base sets (a row an element), of one row of masks, targets and sums of magnitudes; out: one row
        of sums and errors. `slack` (float64) times the magnitudes is what the compensated sums may be off. Bit l of the
        result is set iff lane l's answer is proved.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, m, masks, targets, totals, slack, sums, errors = args
        row = _Row(builder)
        chosen = row.load(masks, 0, _WORDS)
        target = row.load(targets)
        zero = _reals(0.0)

        def add(low: Any, lost: Any, error: Any) -> tuple[Any, Any]:
            new, more = row.two_sum(low, error)
            return new, builder.fadd(lost, row.magnitude(more))

        def body(step: Any, state: list[Any]) -> list[Any]:
            total, low, lost = state
            x = row.load(builder.add(base, builder.mul(step, const(ROW_BYTES))))
            bit = splat(builder, builder.shl(const(1), step), _WORDS)
            taken = builder.icmp_unsigned("!=", builder.and_(chosen, bit), _words(0))
            total, error = row.two_sum(total, builder.select(taken, x, zero))
            return [total, *add(low, lost, error)]

        total, low, lost = loop(builder, m, [zero, zero, zero], body)
        gap, error = row.two_sum(target, builder.fsub(zero, total))
        gap_low, lost = add(error, lost, builder.fsub(zero, low))
        high, high_low = row.two_sum(gap, gap_low)
        scale = builder.fadd(row.load(totals), row.magnitude(target))
        off = builder.fmul(scale, splat(builder, slack, _REALS))
        proved = builder.fcmp_ordered("==", lost, zero)
        safe = None
        for head, tail in ((total, low), (high, high_low)):
            below, above = builder.fadd(head, builder.fsub(tail, off)), builder.fadd(head, builder.fadd(tail, off))
            same = builder.fcmp_ordered("==", below, above)
            safe = same if safe is None else builder.and_(safe, same)
        row.store(builder.fadd(total, low), sums)
        row.store(row.magnitude(builder.fadd(high, high_low)), errors)
        word = builder.bitcast(builder.or_(proved, safe), ir.IntType(LANES))
        return builder.zext(word, I64)

    @intrinsic
    def answers(typingctx, base, m, masks, targets, totals, slack, sums, errors):  # type: ignore[no-untyped-def]
        return UINT(UINT, UINT, UINT, UINT, UINT, types.float64, UINT, UINT), codegen

    return answers


def make_whole() -> Any:
    """Elements of each base set in whole quanta, with their signs.

    Returns
    -------
    intrinsic ``whole(base, m, factors, keys, bounds)``
        Addresses as in :func:`make_scale`; one int32 vector an element at `keys`; four at `bounds`: the lowest and the
        highest element, the sum of the negative and of the positive ones.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, m, factors, keys, bounds = args
        row = _Row(builder)
        factor = row.load(factors)
        zero = ir.Constant(VECTOR, [0] * LANES)

        def body(step: Any, state: list[Any]) -> list[Any]:
            low, high, below, above = state
            x = row.load(builder.add(base, builder.mul(step, const(ROW_BYTES))))
            key = builder.fptosi(row.rounded(builder.fmul(x, factor)), VECTOR)
            at = builder.add(keys, builder.mul(step, const(ROW_BYTES // 2)))
            builder.store(key, builder.inttoptr(at, VECTOR.as_pointer()), align=64)
            negative = builder.icmp_signed("<", key, zero)
            return [
                builder.select(builder.icmp_signed("<", key, low), key, low),
                builder.select(builder.icmp_signed(">", key, high), key, high),
                builder.add(below, builder.select(negative, key, zero)),
                builder.add(above, builder.select(negative, zero, key)),
            ]

        edge = 2**31 - 1
        initial = [ir.Constant(VECTOR, [edge] * LANES), ir.Constant(VECTOR, [-edge] * LANES), zero, zero]
        for k, value in enumerate(loop(builder, m, initial, body)):
            at = builder.add(bounds, const(k * ROW_BYTES // 2))
            builder.store(value, builder.inttoptr(at, VECTOR.as_pointer()), align=64)
        return context.get_dummy_value()

    @intrinsic
    def whole(typingctx, base, m, factors, keys, bounds):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT), codegen

    return whole
