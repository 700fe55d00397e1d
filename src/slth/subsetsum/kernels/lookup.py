"""What is asked of merged lists of sixteen problems: how close two neighbours come, and where."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.network import BLOCK, stages
from slth.subsetsum.kernels.vectors import (
    BYTES,
    I32,
    I64,
    LANES,
    UINT,
    VECTOR,
    bytes_of,
    const,
    element,
    least,
    load,
    loop,
    pick,
    splat,
    store,
)


def make_gaps() -> Any:
    """The last four stages of a merge, and the least gap between neighbours of which one comes from either list.

    Returns
    -------
    intrinsic ``gaps(address, leasts, best, blocks)``
        `leasts` is the address of one vector a block, out: the block's least gap; `best` of one vector, in and out: the
        least of all. A gap g is kept as ``g // 2 - 2^31``, so that gaps between sums of the same list, which are not
        negative, are above all others.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, leasts, best_address, blocks = args
        one, top = ir.Constant(VECTOR, [1] * LANES), ir.Constant(VECTOR, [31] * LANES)

        def body(step: Any, state: list[Any]) -> list[Any]:
            before, best = state
            at = builder.add(address, builder.mul(step, const(BLOCK * BYTES)))
            sums = stages(builder, [load(builder, at, i * BYTES) for i in range(BLOCK)])
            # The first sum of all has no neighbour below: its gap to itself is that of the same list.
            before = builder.select(builder.icmp_unsigned("==", step, const(0)), sums[0], before)
            folded = []
            for i, value in enumerate(sums):
                store(builder, value, at, i * BYTES)
                gap = builder.sub(value, before)
                folded.append(builder.or_(builder.lshr(gap, one), builder.shl(gap, top)))
                before = value
            while len(folded) > 1:
                folded = [least(builder, folded[i], folded[i + 1]) for i in range(0, len(folded), 2)]
            store(builder, folded[0], builder.add(leasts, bytes_of(builder, step)))
            return [before, least(builder, best, folded[0])]

        zero = ir.Constant(VECTOR, [0] * LANES)
        final = loop(builder, blocks, [zero, load(builder, best_address)], body)
        store(builder, final[1], best_address)
        return context.get_dummy_value()

    @intrinsic
    def gaps(typingctx, address, leasts, best, blocks):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT), codegen

    return gaps


def _word(builder: Any, hits: Any) -> Any:
    return builder.zext(builder.bitcast(hits, ir.IntType(LANES)), I64)


def make_hits() -> Any:
    """Which elements of one vector are at most those of another.

    Returns
    -------
    intrinsic ``hits(values, limits) -> uint64``
        Both are addresses of one vector; bit l of the result is set iff lane l's value is at most its limit.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, limits = args
        return _word(builder, builder.icmp_signed("<=", load(builder, values), load(builder, limits)))

    @intrinsic
    def hits(typingctx, values, limits):  # type: ignore[no-untyped-def]
        return UINT(UINT, UINT), codegen

    return hits


def make_equal() -> Any:
    """Which elements of one vector equal a number.

    Returns
    -------
    intrinsic ``equal(values, number) -> uint64``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, number = args
        numbers = splat(builder, number, VECTOR)
        return _word(builder, builder.icmp_signed("==", load(builder, values), numbers))

    @intrinsic
    def equal(typingctx, values, number):  # type: ignore[no-untyped-def]
        return UINT(UINT, types.int32), codegen

    return equal


def make_neighbours() -> Any:
    """Which neighbours in a block of one lane's merged list are near each other.

    Returns
    -------
    intrinsic ``neighbours(address, reach) -> uint64``
        `address` is that of the lane's first sum in the block. Bit i of the result is set iff sum i exceeds the one
        before by `reach` (int32) at most, bit ``BLOCK + i`` iff they come from different lists as well.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, reach = args
        kind = ir.VectorType(I32, BLOCK)
        sums = ir.Constant(kind, ir.Undefined)
        for i in range(BLOCK):
            value = pick(builder, builder.add(address, const(i * BYTES)))
            sums = builder.insert_element(sums, value, element(i))
        before = pick(builder, builder.sub(address, const(BYTES)))
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), before, element(0))
        order = ir.Constant(kind, [BLOCK, *range(BLOCK - 1)])
        gaps = builder.sub(sums, builder.shuffle_vector(sums, first, order))
        near = builder.icmp_unsigned("<=", gaps, splat(builder, reach, kind))
        odd = builder.icmp_unsigned(
            "!=", builder.and_(gaps, ir.Constant(kind, [1] * BLOCK)), ir.Constant(kind, [0] * BLOCK)
        )
        both = builder.shl(_word(builder, builder.and_(near, odd)), const(BLOCK))
        return builder.or_(_word(builder, near), both)

    @intrinsic
    def neighbours(typingctx, address, reach):  # type: ignore[no-untyped-def]
        return UINT(UINT, types.int32), codegen

    return neighbours


def make_low_sums() -> Any:
    """All sums of one lane's first four keys.

    Returns
    -------
    intrinsic ``low_sums(keys, target)``
        `keys` is the address of the lane's first key, `target` that of one vector, out: element t is the sum of the
        keys in the set t.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keys, target = args
        total = ir.Constant(VECTOR, [0] * LANES)
        for k in range(4):
            key = splat(builder, pick(builder, builder.add(keys, const(2 * k * BYTES))), VECTOR)
            chosen = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [t >> k & 1 for t in range(LANES)])
            total = builder.add(total, builder.select(chosen, key, ir.Constant(VECTOR, [0] * LANES)))
        store(builder, total, target)
        return context.get_dummy_value()

    @intrinsic
    def low_sums(typingctx, keys, target):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT), codegen

    return low_sums
