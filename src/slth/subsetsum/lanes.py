"""The two inner loops of the search, as portable LLVM vector code unrolled over independent problems.

A step of either loop is a short chain of dependent instructions (load, add, compare, add). One problem alone leaves
most of a core idle, so the loops run several problems in lockstep, each a *lane* at a constant distance in memory.
Python unrolls the lanes while it builds the code, which keeps type inference out of it and the compile time low. Only
generic vectors are used (no inline assembly, no target intrinsics): LLVM splits them where registers are narrower.

Memory of one lane (counted in int64): two buffers of ``stride`` elements, so that a level is merged from one into the
other. A list starts ``FRONT`` elements into its buffer; the space before and behind holds sentinels.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

FRONT = 16
"""Elements before a list: at least one window of ``COLUMNS``, and a whole cache line."""
COLUMNS = 8
"""Right-hand sums in one window of the scan (one 512-bit vector)."""
ROWS = 2
"""Left-hand sums compared with a window at once."""

_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_I64, COLUMNS)
_UINT = types.uint64


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


def _pointer(builder: Any, address: Any, byte_offset: int, kind: Any = _I64) -> Any:
    """`address` (an integer) plus a constant, as a pointer to `kind`."""
    return builder.inttoptr(builder.add(address, _const(byte_offset)), kind.as_pointer())


def _load(builder: Any, address: Any, byte_offset: int = 0, kind: Any = _I64) -> Any:
    # Eight bytes is all that a window may rely on: it starts at any element.
    return builder.load(_pointer(builder, address, byte_offset, kind), align=8)


def _store(builder: Any, value: Any, address: Any, byte_offset: int = 0) -> None:
    builder.store(value, _pointer(builder, address, byte_offset, value.type), align=8)


def splat(builder: Any, value: Any, kind: Any = _VECTOR) -> Any:
    """A vector of one number."""
    lane = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(lane, ir.Constant(kind, ir.Undefined), zeros)


def _minimum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


def loop(builder: Any, count: Any, initial: list[Any], body: Any) -> list[Any]:
    """Emit ``for step in range(count): state = body(step, state)``; return the state after the last step."""
    before = builder.block
    head = builder.append_basic_block("head")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    step = builder.phi(_I64)
    step.add_incoming(_const(0), before)
    state = []
    for value in initial:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        state.append(phi)
    builder.cbranch(builder.icmp_unsigned("<", step, count), inside, after)
    builder.position_at_end(inside)
    new_state = body(step, state)
    step.add_incoming(builder.add(step, _const(1)), builder.block)
    for phi, value in zip(state, new_state, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return state


def make_merge(n_lanes: int, lane_stride: int) -> Any:
    """The merge of a list of subset sums with itself shifted by one more element, lower half only.

    Parameters
    ----------
    n_lanes : int
        Lists merged in lockstep.
    lane_stride : int
        Distance from lane to lane in int64 elements.

    Returns
    -------
    intrinsic ``merge(source, target, totals, length)``
        `source` and `target` are the addresses of lane 0's lists; `totals` the address of one int64 a lane, the sum of
        everything in the merged list. Each source holds `length` ascending sums s with s -> (its last) - s mapping it
        onto itself, as every list of all subset sums does. Writes the lower `length` sums of the merged list.

    Notes
    -----
    The shifted copy is read as ``total - s`` from the far end: with i unshifted sums used after k outputs, its next is
    ``total - source[length - 1 - k + i]``, so that one index serves both and addresses need no second register. The
    lower half needs no sentinel: i <= k < length. The upper half is the mirror image, see :func:`make_mirror`.
    """
    lane_bytes = 8 * lane_stride

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, totals, length = args

        def body(step: Any, used: list[Any]) -> list[Any]:
            k8 = builder.mul(step, _const(8))
            out = builder.add(target, k8)
            far = builder.sub(builder.add(source, builder.mul(length, _const(8))), builder.add(k8, _const(8)))
            advanced = []
            for lane, i in enumerate(used):
                i8 = builder.mul(i, _const(8))
                plain = _load(builder, builder.add(source, i8), lane * lane_bytes)
                mirrored = _load(builder, builder.add(far, i8), lane * lane_bytes)
                shifted = builder.sub(_load(builder, totals, 8 * lane), mirrored)
                take = builder.icmp_unsigned("<", plain, shifted)
                _store(builder, builder.select(take, plain, shifted), out, lane * lane_bytes)
                advanced.append(builder.add(i, builder.zext(take, _I64)))
            return advanced

        loop(builder, length, [_const(0)] * n_lanes, body)
        return context.get_dummy_value()

    @intrinsic
    def merge(typingctx, source, target, totals, length):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT, _UINT), codegen

    return merge


def make_mirror() -> Any:
    """The upper half of a merged list: ``list[2 * length - 1 - k] = total - list[k]`` for k < length.

    Returns
    -------
    intrinsic ``mirror(address, length, total)``
        `length` must be a multiple of ``COLUMNS``.
    """
    backwards = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), list(range(COLUMNS))[::-1])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, length, total = args
        totals = splat(builder, total)
        end = builder.add(address, builder.mul(length, _const(16)))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, _const(8 * COLUMNS))
            low = _load(builder, builder.add(address, offset), 0, _VECTOR)
            high = builder.shuffle_vector(builder.sub(totals, low), ir.Constant(_VECTOR, ir.Undefined), backwards)
            _store(builder, high, builder.sub(end, offset), -8 * COLUMNS)
            return state

        loop(builder, builder.udiv(length, _const(COLUMNS)), [], body)
        return context.get_dummy_value()

    @intrinsic
    def mirror(typingctx, address, length, total):  # type: ignore[no-untyped-def]
        return types.void(_UINT, _UINT, _UINT), codegen

    return mirror


def make_look() -> Any:
    """One tile of :func:`make_scan`, pair by pair.

    Returns
    -------
    intrinsic ``look(row, window, target, band) -> uint64``
        Addresses of the tile's first left and first right sum. Bit ``COLUMNS * r + c`` of the result is set iff that
        pair has ``|left + right - target| <= band``, bit ``ROWS * COLUMNS`` iff the walk moves to the next rows.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, window, target, band = args
        sums = builder.add(_load(builder, window, 0, _VECTOR), splat(builder, builder.sub(band, target)))
        limit = splat(builder, builder.add(band, band))
        word = _const(0)
        for r in range(ROWS):
            near = builder.add(sums, splat(builder, _load(builder, row, 8 * r)))
            hits = builder.bitcast(builder.icmp_unsigned("<=", near, limit), ir.IntType(COLUMNS))
            word = builder.or_(word, builder.shl(builder.zext(hits, _I64), _const(COLUMNS * r)))
        below = builder.icmp_signed("<", builder.extract_element(near, ir.Constant(ir.IntType(32), 0)), band)
        return builder.or_(word, builder.shl(builder.zext(below, _I64), _const(COLUMNS * ROWS)))

    @intrinsic
    def look(typingctx, row, window, target, band):  # type: ignore[no-untyped-def]
        return _UINT(_UINT, _UINT, types.int64, types.int64), codegen

    return look


def make_scan(n_walks: int, lane_stride: int) -> Any:
    """A stretch of the staircase walk over left and right sums, two walks a problem.

    Parameters
    ----------
    n_walks : int
        Walks in lockstep; lane ``2p`` holds problem p's left list and lane ``2p + 1`` its right list.
    lane_stride : int
        Distance from lane to lane in int64 elements.

    Returns
    -------
    intrinsic ``scan(left, right, targets, bands, walks, first, count) -> uint64``
        `left` is the address of lane 0's left list and `right` of the last window of lane 0's right list. Walk
        ``2p + e`` looks for left + right near ``targets[2p + e]``; `bands` holds the half width of its band (int64 a
        walk), `walks` how far it is (see below), in and out. Walks tiles ``first .. first + count - 1`` and returns a
        word with bit ``2p + e`` set iff some pair visited has ``|left + right - target| <= band``.

    Notes
    -----
    A tile is ``ROWS`` ascending left sums against a window of ``COLUMNS`` right sums. If even its largest left with
    its smallest right lies below the target, then so do both left sums with every right sum still to come: next rows.
    Otherwise every left sum still to come lies above the target with every right sum of the window: next window. What
    is passed over is therefore farther from the target than a pair that was visited on the same side. The state is
    16 * (row moves made), which addresses the left list as it is and the right list times four.
    """
    lane_bytes = 8 * lane_stride

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, targets, bands, walks, first, count = args
        goals = [_load(builder, targets, 8 * w) for w in range(n_walks)]
        halves = [_load(builder, bands, 8 * w) for w in range(n_walks)]
        shifts = [splat(builder, builder.sub(h, g)) for h, g in zip(halves, goals, strict=True)]
        limits = [splat(builder, builder.add(h, h)) for h in halves]

        def body(step: Any, state: list[Any]) -> list[Any]:
            windows = builder.sub(right, builder.mul(builder.add(step, first), _const(8 * COLUMNS)))
            moved, least = [], []
            for walk in range(n_walks):
                made, closest = state[walk], state[n_walks + walk]
                here = (walk // 2) * 2 * lane_bytes
                row = builder.add(left, made)
                window = builder.add(windows, builder.mul(made, _const(8 * COLUMNS // (8 * ROWS))))
                sums = builder.add(_load(builder, window, here, _VECTOR), shifts[walk])
                for offset in range(0, 8 * ROWS, 8):
                    one = _load(builder, row, here + offset)
                    near = builder.add(sums, splat(builder, one))
                    closest = _minimum(builder, closest, near)
                # The last row's first sum is the edge. Taken from the vector, the row need not be loaded twice.
                edge = builder.extract_element(near, ir.Constant(ir.IntType(32), 0))
                below = builder.ashr(builder.sub(edge, halves[walk]), _const(63))
                below = builder.and_(below, _const(8 * ROWS))
                moved.append(builder.add(made, below))
                least.append(closest)
            return moved + least

        initial = [_load(builder, walks, 8 * w) for w in range(n_walks)]
        initial += [ir.Constant(_VECTOR, [-1] * COLUMNS)] * n_walks
        final = loop(builder, count, initial, body)
        found = _const(0)
        for walk in range(n_walks):
            _store(builder, final[walk], walks, 8 * walk)
            hits = builder.icmp_unsigned("<=", final[n_walks + walk], limits[walk])
            some = builder.icmp_unsigned(
                "!=", builder.bitcast(hits, ir.IntType(COLUMNS)), ir.Constant(ir.IntType(COLUMNS), 0)
            )
            found = builder.or_(found, builder.shl(builder.zext(some, _I64), _const(walk)))
        return found

    @intrinsic
    def scan(typingctx, left, right, targets, bands, walks, first, count):  # type: ignore[no-untyped-def]
        return _UINT(_UINT, _UINT, _UINT, _UINT, _UINT, _UINT, _UINT), codegen

    return scan


_F64 = ir.DoubleType()
_REALS = ir.VectorType(_F64, COLUMNS)


def _distance(builder: Any, numbers: Any, target: Any, least: Any) -> Any:
    """``min(least, |numbers - target|)`` element by element."""
    gap = builder.bitcast(builder.fsub(numbers, target), _VECTOR)
    size = builder.bitcast(builder.and_(gap, ir.Constant(_VECTOR, [2**63 - 1] * COLUMNS)), _REALS)
    return builder.select(builder.fcmp_ordered("<", size, least), size, least)


def _splat_real(builder: Any, value: Any) -> Any:
    return builder.bitcast(splat(builder, builder.bitcast(value, _I64)), _REALS)


def _least(builder: Any, numbers: Any) -> Any:
    """The least of a vector's elements."""
    width = COLUMNS
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(
                numbers,
                ir.Constant(numbers.type, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width))),
            )
            for first in (0, width)
        ]
        numbers = builder.select(builder.fcmp_ordered("<", *halves), *halves)
    return builder.extract_element(numbers, ir.Constant(ir.IntType(32), 0))


def make_nearest() -> Any:
    """The least distance from a number to a run of numbers.

    Returns
    -------
    intrinsic ``nearest(address, count, target) -> float64``
        Reads whole vectors: numbers up to the next multiple of ``COLUMNS`` must be there, infinite where not meant.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, count, target = args
        targets = _splat_real(builder, target)

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, _const(8 * COLUMNS))
            return [_distance(builder, _load(builder, builder.add(address, offset), 0, _REALS), targets, state[0])]

        vectors = builder.udiv(builder.add(count, _const(COLUMNS - 1)), _const(COLUMNS))
        far = ir.Constant(_REALS, [float("inf")] * COLUMNS)
        return _least(builder, loop(builder, vectors, [far], body)[0])

    @intrinsic
    def nearest(typingctx, address, count, target):  # type: ignore[no-untyped-def]
        return types.float64(_UINT, _UINT, types.float64), codegen

    return nearest


def make_shift() -> Any:
    """Write a run of numbers plus a constant elsewhere; return the least distance from a target to any of them.

    Returns
    -------
    intrinsic ``shift(address, count, plus, into, target) -> float64``
        Reads and writes whole vectors, see :func:`make_nearest`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, count, plus, into, target = args
        targets, constant = _splat_real(builder, target), _splat_real(builder, plus)

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, _const(8 * COLUMNS))
            numbers = builder.fadd(_load(builder, builder.add(address, offset), 0, _REALS), constant)
            _store(builder, numbers, builder.add(into, offset))
            return [_distance(builder, numbers, targets, state[0])]

        vectors = builder.udiv(builder.add(count, _const(COLUMNS - 1)), _const(COLUMNS))
        far = ir.Constant(_REALS, [float("inf")] * COLUMNS)
        return _least(builder, loop(builder, vectors, [far], body)[0])

    @intrinsic
    def shift(typingctx, address, count, plus, into, target):  # type: ignore[no-untyped-def]
        return types.float64(_UINT, _UINT, types.float64, _UINT, types.float64), codegen

    return shift
