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

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.lanes import loop, splat

LANES = 16
"""Problems side by side: one 512-bit vector of int32."""
BLOCK = 16
"""Vectors that a pass holds in registers."""

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)
_BYTES = 4 * LANES
_UINT = types.uint64


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


def _load(builder: Any, address: Any, byte_offset: int = 0) -> Any:
    pointer = builder.inttoptr(builder.add(address, _const(byte_offset)), _VECTOR.as_pointer())
    return builder.load(pointer, align=_BYTES)


def _store(builder: Any, value: Any, address: Any, byte_offset: int = 0) -> None:
    pointer = builder.inttoptr(builder.add(address, _const(byte_offset)), _VECTOR.as_pointer())
    builder.store(value, pointer, align=_BYTES)


def _least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _greatest(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _stages(builder: Any, vectors: list[Any]) -> list[Any]:
    """The compare-exchanges at distance n/2, n/4, .. 1 over n vectors."""
    out = list(vectors)
    distance = len(out) // 2
    while distance:
        for i in range(len(out)):
            if not i & distance:
                low, high = out[i], out[i + distance]
                out[i], out[i + distance] = _least(builder, low, high), _greatest(builder, low, high)
        distance //= 2
    return out


def _bytes_of(builder: Any, count: Any) -> Any:
    return builder.mul(count, _const(_BYTES))


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
        plus, mirror = _load(builder, keys), _load(builder, keys, _BYTES)
        sums = [_load(builder, source, i * _BYTES) for i in range(n)]
        low = [_least(builder, sums[i], builder.add(sums[n - 1 - i], plus)) for i in range(n)]
        for i, value in enumerate(_stages(builder, low)):
            _store(builder, value, target, i * _BYTES)
            _store(builder, builder.sub(mirror, value), target, (2 * n - 1 - i) * _BYTES)
        return context.get_dummy_value()

    @intrinsic
    def grow(typingctx, source, target, keys):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT), codegen

    return grow


def make_first(radix: int) -> Any:
    """The first pass of growing a longer list: the n lowest sums, and log2(radix) stages of sorting them.

    Returns
    -------
    intrinsic ``first(source, target, keys, n)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, keys, n = args
        plus = _load(builder, keys)
        stride = builder.udiv(n, _const(radix))
        stride_bytes = _bytes_of(builder, stride)
        end = builder.add(source, _bytes_of(builder, builder.sub(n, _const(1))))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = _bytes_of(builder, step)
            up, down = builder.add(source, offset), builder.sub(end, offset)
            out = builder.add(target, offset)
            low = []
            for _ in range(radix):
                shifted = builder.add(_load(builder, down), plus)
                low.append(_least(builder, _load(builder, up), shifted))
                up, down = builder.add(up, stride_bytes), builder.sub(down, stride_bytes)
            for value in _stages(builder, low):
                _store(builder, value, out)
                out = builder.add(out, stride_bytes)
            return state

        loop(builder, stride, [], body)
        return context.get_dummy_value()

    @intrinsic
    def first(typingctx, source, target, keys, n):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT), codegen

    return first


def make_middle() -> Any:
    """Four stages of sorting at distances ``8 * stride .. stride``, in place.

    Returns
    -------
    intrinsic ``middle(address, stride, blocks)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, stride, blocks = args
        stride_bytes = _bytes_of(builder, stride)
        block_bytes = builder.mul(stride_bytes, _const(BLOCK))

        def one_block(block: Any, state: list[Any]) -> list[Any]:
            start = builder.add(address, builder.mul(block, block_bytes))

            def body(step: Any, state: list[Any]) -> list[Any]:
                at = builder.add(start, _bytes_of(builder, step))
                places = [at]
                for _ in range(BLOCK - 1):
                    places.append(builder.add(places[-1], stride_bytes))
                sums = [_load(builder, place) for place in places]
                for place, value in zip(places, _stages(builder, sums), strict=True):
                    _store(builder, value, place)
                return state

            loop(builder, stride, [], body)
            return state

        loop(builder, blocks, [], one_block)
        return context.get_dummy_value()

    @intrinsic
    def middle(typingctx, address, stride, blocks):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT), codegen

    return middle


def make_last() -> Any:
    """The last four stages of growing a list, and its upper half as the mirror of the lower.

    Returns
    -------
    intrinsic ``last(address, keys, n)``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, keys, n = args
        mirror = _load(builder, keys, _BYTES)
        end = builder.add(address, _bytes_of(builder, builder.mul(n, _const(2))))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, _const(BLOCK * _BYTES))
            low, high = builder.add(address, offset), builder.sub(end, offset)
            sums = [_load(builder, low, i * _BYTES) for i in range(BLOCK)]
            for i, value in enumerate(_stages(builder, sums)):
                _store(builder, value, low, i * _BYTES)
                _store(builder, builder.sub(mirror, value), high, -(i + 1) * _BYTES)
            return state

        loop(builder, builder.udiv(n, _const(BLOCK)), [], body)
        return context.get_dummy_value()

    @intrinsic
    def last(typingctx, address, keys, n):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT), codegen

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
        plus = _load(builder, shift)
        stride = builder.udiv(builder.mul(n, _const(2)), _const(radix))
        stride_bytes = _bytes_of(builder, stride)
        end = builder.add(right, _bytes_of(builder, builder.sub(n, _const(1))))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = _bytes_of(builder, step)
            up, down = builder.add(left, offset), builder.sub(end, offset)
            out = builder.add(target, offset)
            lows, highs = [], []
            for _ in range(radix // 2):
                lows.append(_load(builder, up))
                highs.append(builder.add(_load(builder, down), plus))
                up, down = builder.add(up, stride_bytes), builder.sub(down, stride_bytes)
            for value in _stages(builder, lows + highs):
                _store(builder, value, out)
                out = builder.add(out, stride_bytes)
            return state

        loop(builder, stride, [], body)
        return context.get_dummy_value()

    @intrinsic
    def join(typingctx, left, right, target, shift, n):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT, _UINT), codegen

    return join


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
        one, top = ir.Constant(_VECTOR, [1] * LANES), ir.Constant(_VECTOR, [31] * LANES)

        def body(step: Any, state: list[Any]) -> list[Any]:
            before, best = state
            at = builder.add(address, builder.mul(step, _const(BLOCK * _BYTES)))
            sums = _stages(builder, [_load(builder, at, i * _BYTES) for i in range(BLOCK)])
            # The first sum of all has no neighbour below: its gap to itself is that of the same list.
            before = builder.select(builder.icmp_unsigned("==", step, _const(0)), sums[0], before)
            folded = []
            for i, value in enumerate(sums):
                _store(builder, value, at, i * _BYTES)
                gap = builder.sub(value, before)
                folded.append(builder.or_(builder.lshr(gap, one), builder.shl(gap, top)))
                before = value
            while len(folded) > 1:
                folded = [_least(builder, folded[i], folded[i + 1]) for i in range(0, len(folded), 2)]
            _store(builder, folded[0], builder.add(leasts, _bytes_of(builder, step)))
            return [before, _least(builder, best, folded[0])]

        zero = ir.Constant(_VECTOR, [0] * LANES)
        final = loop(builder, blocks, [zero, _load(builder, best_address)], body)
        _store(builder, final[1], best_address)
        return context.get_dummy_value()

    @intrinsic
    def gaps(typingctx, address, leasts, best, blocks):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT), codegen

    return gaps


def _word(builder: Any, hits: Any) -> Any:
    return builder.zext(builder.bitcast(hits, ir.IntType(LANES)), _I64)


def make_hits() -> Any:
    """Which elements of one vector are at most those of another.

    Returns
    -------
    intrinsic ``hits(values, limits) -> uint64``
        Both are addresses of one vector; bit l of the result is set iff lane l's value is at most its limit.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, limits = args
        return _word(builder, builder.icmp_signed("<=", _load(builder, values), _load(builder, limits)))

    @intrinsic
    def hits(typingctx, values, limits):  # type: ignore[no-untyped-def]
        return _UINT(_UINT, _UINT), codegen

    return hits


def make_equal() -> Any:
    """Which elements of one vector equal a number.

    Returns
    -------
    intrinsic ``equal(values, number) -> uint64``
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, number = args
        numbers = splat(builder, number, _VECTOR)
        return _word(builder, builder.icmp_signed("==", _load(builder, values), numbers))

    @intrinsic
    def equal(typingctx, values, number):  # type: ignore[no-untyped-def]
        return _UINT(_UINT, types.int32), codegen

    return equal


def _pick(builder: Any, address: Any, kind: Any = _I32) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def _element(i: int) -> Any:
    return ir.Constant(_I32, i)


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
        kind = ir.VectorType(_I32, BLOCK)
        sums = ir.Constant(kind, ir.Undefined)
        for i in range(BLOCK):
            value = _pick(builder, builder.add(address, _const(i * _BYTES)))
            sums = builder.insert_element(sums, value, _element(i))
        before = _pick(builder, builder.sub(address, _const(_BYTES)))
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), before, _element(0))
        order = ir.Constant(kind, [BLOCK, *range(BLOCK - 1)])
        gaps = builder.sub(sums, builder.shuffle_vector(sums, first, order))
        near = builder.icmp_unsigned("<=", gaps, splat(builder, reach, kind))
        odd = builder.icmp_unsigned(
            "!=", builder.and_(gaps, ir.Constant(kind, [1] * BLOCK)), ir.Constant(kind, [0] * BLOCK)
        )
        both = builder.shl(_word(builder, builder.and_(near, odd)), _const(BLOCK))
        return builder.or_(_word(builder, near), both)

    @intrinsic
    def neighbours(typingctx, address, reach):  # type: ignore[no-untyped-def]
        return _UINT(_UINT, types.int32), codegen

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
        total = ir.Constant(_VECTOR, [0] * LANES)
        for k in range(4):
            key = splat(builder, _pick(builder, builder.add(keys, _const(2 * k * _BYTES))), _VECTOR)
            chosen = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [t >> k & 1 for t in range(LANES)])
            total = builder.add(total, builder.select(chosen, key, ir.Constant(_VECTOR, [0] * LANES)))
        _store(builder, total, target)
        return context.get_dummy_value()

    @intrinsic
    def low_sums(typingctx, keys, target):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT), codegen

    return low_sums


def _make_peek(stored: Any, read: Any, result: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _pick(builder, args[0], stored)
        return value if stored == read else builder.sext(value, read)

    @intrinsic
    def peek(typingctx, address):  # type: ignore[no-untyped-def]
        return result(_UINT), codegen

    return peek


def _make_poke(stored: Any, given: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, value = args
        value = value if value.type == stored else builder.trunc(value, stored)
        builder.store(value, builder.inttoptr(address, stored.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def poke(typingctx, address, value):  # type: ignore[no-untyped-def]
        return types.void(_UINT, given), codegen

    return poke


# Arrays cost a count of references, an atomic operation, wherever a function hands on a part of one: a third of all
# time here. What is read and written one by one is therefore addressed.
peek_32 = _make_peek(_I32, _I64, types.int64)
"""``peek_32(address)``: the int32 there, as int64."""
poke_32 = _make_poke(_I32, types.int64)
"""``poke_32(address, value)``: write the lower half of an int64."""
peek_64 = _make_peek(_I64, _I64, types.uint64)
"""``peek_64(address)``: the uint64 there."""
poke_64 = _make_poke(_I64, types.uint64)
"""``poke_64(address, value)``: write a uint64."""


def _closer(builder: Any, left: Any, key: Any, best: Any, second: Any) -> tuple[Any, Any]:
    """The two least of ``|left - key|`` and those so far."""
    gap = builder.sub(left, key)
    zero = ir.Constant(_VECTOR, [0] * LANES)
    size = builder.select(builder.icmp_signed("<", gap, zero), builder.sub(zero, gap), gap)
    return _least(builder, best, size), _least(builder, second, _greatest(builder, best, size))


def make_singles() -> Any:
    """The two single keys closest to what is left of each target.

    Returns
    -------
    intrinsic ``singles(left, keys, first, stop, code, state)``
        `left` is the address of one vector, `keys` of one a key, of which ``first .. stop - 1`` are tried. `state` is
        the address of three vectors, in and out: the least distance so far, the second least, and the code of the call
        that found the least.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left_address, keys, first, stop, code, state_address = args
        left = _load(builder, left_address)
        best, second, row = (_load(builder, state_address, k * _BYTES) for k in range(3))

        def body(step: Any, state: list[Any]) -> list[Any]:
            key = _load(builder, builder.add(keys, _bytes_of(builder, builder.add(first, step))))
            return list(_closer(builder, left, key, *state))

        new, second = loop(builder, builder.sub(stop, first), [best, second], body)
        better = builder.icmp_signed("<", new, best)
        codes = splat(builder, builder.trunc(code, _I32), _VECTOR)
        for k, value in enumerate((new, second, builder.select(better, codes, row))):
            _store(builder, value, state_address, k * _BYTES)
        return context.get_dummy_value()

    @intrinsic
    def singles(typingctx, left, keys, first, stop, code, state):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT, _UINT, _UINT), codegen

    return singles


def make_pairs() -> Any:
    """The two pairs of keys closest to what is left of each target.

    Returns
    -------
    intrinsic ``pairs(left, keys, first, stop, code, state)``
        As :func:`make_singles`; the code of a pair is `code` plus the index of its first key.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left_address, keys, first, stop, code, state_address = args
        left = _load(builder, left_address)

        def one_row(step: Any, state: list[Any]) -> list[Any]:
            best, second, row = state
            index = builder.add(first, step)
            at = builder.add(keys, _bytes_of(builder, index))
            rest = builder.sub(left, _load(builder, at))

            def body(step: Any, state: list[Any]) -> list[Any]:
                key = _load(builder, builder.add(at, _bytes_of(builder, builder.add(step, _const(1)))))
                return list(_closer(builder, rest, key, *state))

            after = builder.sub(builder.sub(stop, index), _const(1))
            new, second = loop(builder, after, [best, second], body)
            codes = splat(builder, builder.trunc(builder.add(code, index), _I32), _VECTOR)
            return [new, second, builder.select(builder.icmp_signed("<", new, best), codes, row)]

        initial = [_load(builder, state_address, k * _BYTES) for k in range(3)]
        final = loop(builder, builder.sub(stop, first), initial, one_row)
        for k, value in enumerate(final):
            _store(builder, value, state_address, k * _BYTES)
        return context.get_dummy_value()

    @intrinsic
    def pairs(typingctx, left, keys, first, stop, code, state):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT, _UINT, _UINT), codegen

    return pairs


def make_less() -> Any:
    """One vector less another.

    Returns
    -------
    intrinsic ``less(left, key, target)``
        Addresses of one vector each.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, key, target = args
        _store(builder, builder.sub(_load(builder, left), _load(builder, key)), target)
        return context.get_dummy_value()

    @intrinsic
    def less(typingctx, left, key, target):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT), codegen

    return less
