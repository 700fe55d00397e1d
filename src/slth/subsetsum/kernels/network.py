"""Sorting networks over subset sums, sixteen problems side by side in the elements of one vector.

A merge of two sorted lists is a bitonic network (Batcher 1968): which sums are compared never depends on what they are,
so one instruction works on sixteen problems and no branch can be mispredicted. That costs log2 of the length more
comparisons than a merge with pointers and is still many times faster while the lists stay in the cache.

Sums are int32 and twice the sum in quanta; the last bit says which of the two lists a sum comes from. Which elements it
is made of is not kept: few sums are ever asked for that. Only generic LLVM vectors are used: no inline assembly, no
target intrinsics.

Memory: a list of n sums of sixteen problems is n vectors of ``LANES`` int32, sum by sum. Addresses are passed as
integers.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.vectors import BYTES, UINT, bytes_of, const, greatest, least, load, loop, store

BLOCK = 16
"""Vectors that a pass holds in registers."""


def stages(builder: Any, vectors: list[Any]) -> list[Any]:
    """The compare-exchanges at distance n/2, n/4, .. 1 over n vectors."""
    out = list(vectors)
    distance = len(out) // 2
    while distance:
        for i in range(len(out)):
            if not i & distance:
                low, high = out[i], out[i + distance]
                out[i], out[i + distance] = least(builder, low, high), greatest(builder, low, high)
        distance //= 2
    return out


def _folded(
    builder: Any, lists: tuple[Any, Any], target: Any, plus: Any, n: Any, stride: Any, rows: int, combine: Any
) -> None:
    """One pass over two lists of n sums, the second one backwards and with `plus` added.

    At every step below `stride`, sums of `rows` places a stride apart are taken from each, combined, sorted, and
    written to `target` a stride apart.
    """
    left, right = lists
    stride_bytes = bytes_of(builder, stride)
    end = builder.add(right, bytes_of(builder, builder.sub(n, const(1))))

    def body(step: Any, state: list[Any]) -> list[Any]:
        offset = bytes_of(builder, step)
        up, down = builder.add(left, offset), builder.sub(end, offset)
        out = builder.add(target, offset)
        lows, highs = [], []
        for _ in range(rows):
            lows.append(load(builder, up))
            highs.append(builder.add(load(builder, down), plus))
            up, down = builder.add(up, stride_bytes), builder.sub(down, stride_bytes)
        for value in stages(builder, combine(lows, highs)):
            store(builder, value, out)
            out = builder.add(out, stride_bytes)
        return state

    loop(builder, stride, [], body)


def make_grow(n: int) -> Any:
    """One more element for a list of n <= ``BLOCK`` sums, all in registers.

    Returns
    -------
    intrinsic ``grow(source, target, keys)``
        `keys` is the address of two vectors: the element, and the mirror's constant (first plus last of the new list,
        as bit patterns). Writes 2n sums to `target`.

    Notes
    -----
    The n lowest of the merged list are ``min(s[i], s[n - 1 - i] + x)``, a bitonic sequence (Batcher 1968); the n
    highest mirror them, because the complement of a subset of sum s sums to the total less s.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, keys = args
        plus, mirror = load(builder, keys), load(builder, keys, BYTES)
        sums = [load(builder, source, i * BYTES) for i in range(n)]
        low = [least(builder, sums[i], builder.add(sums[n - 1 - i], plus)) for i in range(n)]
        for i, value in enumerate(stages(builder, low)):
            store(builder, value, target, i * BYTES)
            store(builder, builder.sub(mirror, value), target, (2 * n - 1 - i) * BYTES)
        return context.get_dummy_value()

    @intrinsic
    def grow(typingctx, source, target, keys):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT), codegen

    return grow


def make_first(radix: int) -> Any:
    """The first pass of growing a longer list: the n lowest sums, and log2(radix) stages of sorting them.

    Returns
    -------
    intrinsic ``first(source, target, keys, n)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, keys, n = args

        def lower(lows: list[Any], highs: list[Any]) -> list[Any]:
            return [least(builder, low, high) for low, high in zip(lows, highs, strict=True)]

        stride = builder.udiv(n, const(radix))
        _folded(builder, (source, source), target, load(builder, keys), n, stride, radix, lower)
        return context.get_dummy_value()

    @intrinsic
    def first(typingctx, source, target, keys, n):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT), codegen

    return first


def make_middle() -> Any:
    """Four stages of sorting at distances ``8 * stride .. stride``, in place.

    Returns
    -------
    intrinsic ``middle(address, stride, blocks)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, stride, blocks = args
        stride_bytes = bytes_of(builder, stride)
        block_bytes = builder.mul(stride_bytes, const(BLOCK))

        def one_block(block: Any, state: list[Any]) -> list[Any]:
            start = builder.add(address, builder.mul(block, block_bytes))

            def body(step: Any, state: list[Any]) -> list[Any]:
                at = builder.add(start, bytes_of(builder, step))
                places = [at]
                for _ in range(BLOCK - 1):
                    places.append(builder.add(places[-1], stride_bytes))
                sums = [load(builder, place) for place in places]
                for place, value in zip(places, stages(builder, sums), strict=True):
                    store(builder, value, place)
                return state

            loop(builder, stride, [], body)
            return state

        loop(builder, blocks, [], one_block)
        return context.get_dummy_value()

    @intrinsic
    def middle(typingctx, address, stride, blocks):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT), codegen

    return middle


def make_last() -> Any:
    """The last four stages of growing a list, and its upper half as the mirror of the lower.

    Returns
    -------
    intrinsic ``last(address, keys, n)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, keys, n = args
        mirror = load(builder, keys, BYTES)
        end = builder.add(address, bytes_of(builder, builder.mul(n, const(2))))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, const(BLOCK * BYTES))
            low, high = builder.add(address, offset), builder.sub(end, offset)
            sums = [load(builder, low, i * BYTES) for i in range(BLOCK)]
            for i, value in enumerate(stages(builder, sums)):
                store(builder, value, low, i * BYTES)
                store(builder, builder.sub(mirror, value), high, -(i + 1) * BYTES)
            return state

        loop(builder, builder.udiv(n, const(BLOCK)), [], body)
        return context.get_dummy_value()

    @intrinsic
    def last(typingctx, address, keys, n):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT), codegen

    return last


def make_join(radix: int) -> Any:
    """The first log2(radix) stages of merging two lists of n sums, the second one shifted.

    Returns
    -------
    intrinsic ``join(left, right, target, shift, n)``
        `shift` is the address of one vector, added to every sum of the right list. Writes 2n sums.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, target, shift, n = args
        stride = builder.udiv(builder.mul(n, const(2)), const(radix))
        _folded(builder, (left, right), target, load(builder, shift), n, stride, radix // 2, operator.add)
        return context.get_dummy_value()

    @intrinsic
    def join(typingctx, left, right, target, shift, n):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT), codegen

    return join
