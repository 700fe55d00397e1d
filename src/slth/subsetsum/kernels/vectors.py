"""What vector code is written with, and vectors of sixteen problems, side by side.

Only generic LLVM vectors are used: no inline assembly, no target intrinsics. Addresses are passed as integers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Problems side by side: one 512-bit vector of int32."""
I64 = ir.IntType(64)
I32 = ir.IntType(32)
VECTOR = ir.VectorType(I32, LANES)
BYTES = 4 * LANES
UINT = types.uint64


def const(value: int) -> Any:
    """A whole number of 64 bits."""
    return ir.Constant(I64, value)


def load(builder: Any, address: Any, byte_offset: int = 0) -> Any:
    """The vector at an address, which is a multiple of its size."""
    pointer = builder.inttoptr(builder.add(address, const(byte_offset)), VECTOR.as_pointer())
    return builder.load(pointer, align=BYTES)


def store(builder: Any, value: Any, address: Any, byte_offset: int = 0) -> None:
    """Write a vector to such an address."""
    pointer = builder.inttoptr(builder.add(address, const(byte_offset)), VECTOR.as_pointer())
    builder.store(value, pointer, align=BYTES)


def splat(builder: Any, value: Any, kind: Any = VECTOR) -> Any:
    """A vector of one number."""
    lane = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(lane, ir.Constant(kind, ir.Undefined), zeros)


def loop(builder: Any, count: Any, initial: list[Any], body: Any) -> list[Any]:
    """Emit ``for step in range(count): state = body(step, state)``; return the state after the last step."""
    before = builder.block
    head = builder.append_basic_block("head")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    step = builder.phi(I64)
    step.add_incoming(const(0), before)
    state = []
    for value in initial:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        state.append(phi)
    builder.cbranch(builder.icmp_unsigned("<", step, count), inside, after)
    builder.position_at_end(inside)
    new_state = body(step, state)
    step.add_incoming(builder.add(step, const(1)), builder.block)
    for phi, value in zip(state, new_state, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return state


def least(builder: Any, a: Any, b: Any) -> Any:
    """Lane by lane, the lower of two."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def greatest(builder: Any, a: Any, b: Any) -> Any:
    """Lane by lane, the higher of two."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def bytes_of(builder: Any, count: Any) -> Any:
    """Of so many vectors."""
    return builder.mul(count, const(BYTES))


def pick(builder: Any, address: Any, kind: Any = I32) -> Any:
    """The single number at an address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def element(i: int) -> Any:
    """The place of a lane, as LLVM's vector instructions want it."""
    return ir.Constant(I32, i)


def _make_peek(stored: Any, read: Any, result: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = pick(builder, args[0], stored)
        return value if stored == read else builder.sext(value, read)

    @intrinsic
    def peek(typingctx, address):  # type: ignore[no-untyped-def]
        return result(UINT), codegen

    return peek


def _make_poke(stored: Any, given: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, value = args
        value = value if value.type == stored else builder.trunc(value, stored)
        builder.store(value, builder.inttoptr(address, stored.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def poke(typingctx, address, value):  # type: ignore[no-untyped-def]
        return types.void(UINT, given), codegen

    return poke


# Arrays cost a count of references, an atomic operation, wherever a function hands on a part of one: a third of all
# time here. What is read and written one by one is therefore addressed.
peek_32 = _make_peek(I32, I64, types.int64)
"""``peek_32(address)``: the int32 there, as int64."""
poke_32 = _make_poke(I32, types.int64)
"""``poke_32(address, value)``: write the lower half of an int64."""
peek_64 = _make_peek(I64, I64, types.uint64)
"""``peek_64(address)``: the uint64 there."""
poke_64 = _make_poke(I64, types.uint64)
"""``poke_64(address, value)``: write a uint64."""
