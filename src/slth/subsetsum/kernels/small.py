"""Subsets that add one or two elements, sixteen problems at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.vectors import (
    BYTES,
    I32,
    LANES,
    UINT,
    VECTOR,
    bytes_of,
    const,
    greatest,
    least,
    load,
    loop,
    splat,
    store,
)


def _closer(builder: Any, left: Any, key: Any, best: Any, second: Any) -> tuple[Any, Any]:
    """The two least of ``|left - key|`` and those so far."""
    gap = builder.sub(left, key)
    zero = ir.Constant(VECTOR, [0] * LANES)
    size = builder.select(builder.icmp_signed("<", gap, zero), builder.sub(zero, gap), gap)
    return least(builder, best, size), least(builder, second, greatest(builder, best, size))


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
        left = load(builder, left_address)
        best, second, row = (load(builder, state_address, k * BYTES) for k in range(3))

        def body(step: Any, state: list[Any]) -> list[Any]:
            key = load(builder, builder.add(keys, bytes_of(builder, builder.add(first, step))))
            return list(_closer(builder, left, key, *state))

        new, second = loop(builder, builder.sub(stop, first), [best, second], body)
        better = builder.icmp_signed("<", new, best)
        codes = splat(builder, builder.trunc(code, I32), VECTOR)
        for k, value in enumerate((new, second, builder.select(better, codes, row))):
            store(builder, value, state_address, k * BYTES)
        return context.get_dummy_value()

    @intrinsic
    def singles(typingctx, left, keys, first, stop, code, state):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT, UINT), codegen

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
        left = load(builder, left_address)

        def one_row(step: Any, state: list[Any]) -> list[Any]:
            best, second, row = state
            index = builder.add(first, step)
            at = builder.add(keys, bytes_of(builder, index))
            rest = builder.sub(left, load(builder, at))

            def body(step: Any, state: list[Any]) -> list[Any]:
                key = load(builder, builder.add(at, bytes_of(builder, builder.add(step, const(1)))))
                return list(_closer(builder, rest, key, *state))

            after = builder.sub(builder.sub(stop, index), const(1))
            new, second = loop(builder, after, [best, second], body)
            codes = splat(builder, builder.trunc(builder.add(code, index), I32), VECTOR)
            return [new, second, builder.select(builder.icmp_signed("<", new, best), codes, row)]

        initial = [load(builder, state_address, k * BYTES) for k in range(3)]
        final = loop(builder, builder.sub(stop, first), initial, one_row)
        for k, value in enumerate(final):
            store(builder, value, state_address, k * BYTES)
        return context.get_dummy_value()

    @intrinsic
    def pairs(typingctx, left, keys, first, stop, code, state):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT, UINT), codegen

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
        store(builder, builder.sub(load(builder, left), load(builder, key)), target)
        return context.get_dummy_value()

    @intrinsic
    def less(typingctx, left, key, target):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT), codegen

    return less
