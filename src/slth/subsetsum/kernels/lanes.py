"""The inner loops over one problem's sorted sums, as portable LLVM vector code unrolled over independent stretches.

A step of either loop is a short chain of dependent instructions. One chain alone leaves most of a core idle, so each
loop is cut into stretches of equal work that advance in lockstep: where to start in the middle of a merge or of a walk
is found by binary search (Odeh et al. 2012, merge path). Python unrolls the stretches while it builds the code, which
keeps type inference out of it and the compile time low. Only generic vectors are used (no inline assembly, no target
intrinsics): LLVM splits them where registers are narrower.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # has no stubs
from numba import types
from numba.extending import intrinsic

from slth.subsetsum.kernels.vectors import I64, UINT, const, greatest, least, loop, splat

STRETCHES = 4
"""Independent parts of a merge or of a walk (chosen by measurement)."""
WIDTH = 4
"""Sums merged at once: a 256-bit vector. Wider ones need more stages for each sum."""
COLUMNS = 8
"""Right-hand sums in one window of the scan (one 512-bit vector)."""
ROWS = 4
"""Left-hand sums compared with a window at once."""
FRONT = (STRETCHES + 1) * COLUMNS
"""Elements before a list: windows that a walk may step back beyond its end."""
BEHIND = (STRETCHES + 1) * ROWS + 4
"""Elements behind a list: rows that a walk may step beyond its end."""

_VECTOR = ir.VectorType(I64, COLUMNS)
_SUMS = ir.VectorType(I64, WIDTH)


def _load(builder: Any, address: Any, byte_offset: int = 0, kind: Any = I64) -> Any:
    # Eight bytes is all that a window may rely on: it starts at any element.
    pointer = builder.inttoptr(builder.add(address, const(byte_offset)), kind.as_pointer())
    return builder.load(pointer, align=8)


def _store(builder: Any, value: Any, address: Any, byte_offset: int = 0) -> None:
    pointer = builder.inttoptr(builder.add(address, const(byte_offset)), value.type.as_pointer())
    builder.store(value, pointer, align=8)


def _minimum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


def _permuted(builder: Any, one: Any, two: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _sorted(builder: Any, bitonic: Any, descending: bool) -> Any:
    """A bitonic vector sorted."""
    distance = WIDTH // 2
    while distance:
        other = _permuted(builder, bitonic, bitonic, [i ^ distance for i in range(WIDTH)])
        ends = least(builder, bitonic, other), greatest(builder, bitonic, other)
        order = [i + (WIDTH if i & distance else 0) for i in range(WIDTH)]
        bitonic = _permuted(builder, *(ends[::-1] if descending else ends), order)
        distance //= 2
    return bitonic


def make_merge() -> Any:
    """The merge of a list of subset sums with itself shifted by one more element, lower half only.

    Returns
    -------
    intrinsic ``merge(source, target, shift, starts, stretch)``
        `source` and `target` are addresses of lists, the source of ``STRETCHES * stretch`` ascending sums, `stretch` a
        multiple of 2 ``WIDTH``; `shift` that of the element followed by a zero; `starts` that of the number of
        unshifted sums among the first ``stretch * k`` of the merged list, for each stretch k. Writes the lower half of
        the merged list. The upper half is the mirror image, see :func:`make_mirror`.

    Notes
    -----
    ``WIDTH`` sums are kept (descending); the next ``WIDTH`` from the list whose head is lower make a bitonic sequence
    with them, of which the lower half is done. A stretch reads one block beyond what it writes, and so never beyond
    the list: the lower half takes at most all unshifted sums.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target, shift, starts, stretch = args
        block = const(8 * WIDTH)
        stretch_bytes = builder.mul(stretch, const(8))
        plus = _load(builder, shift)
        outs, initial = [], []
        for k in range(STRETCHES):
            before = builder.mul(_load(builder, starts, 8 * k), const(8))
            done = builder.mul(stretch_bytes, const(k))
            plain, shifted = builder.add(source, before), builder.add(source, builder.sub(done, before))
            outs.append(builder.add(target, done))
            one = _load(builder, plain, 0, _SUMS)
            falling = _permuted(builder, one, one, list(range(WIDTH))[::-1])
            two = builder.add(_load(builder, shifted, 0, _SUMS), splat(builder, plus, _SUMS))
            _store(builder, _sorted(builder, least(builder, falling, two), False), outs[k])
            kept = _sorted(builder, greatest(builder, falling, two), True)
            initial += [kept, builder.add(plain, block), builder.add(shifted, block)]

        def body(step: Any, state: list[Any]) -> list[Any]:
            at = builder.mul(builder.add(step, const(1)), block)
            following = []
            for k in range(STRETCHES):
                kept, plain, shifted = state[3 * k : 3 * k + 3]
                take = builder.icmp_signed("<", _load(builder, plain), builder.add(_load(builder, shifted), plus))
                took = builder.zext(take, I64)
                # The element or the zero behind it: loaded, a broadcast costs nothing.
                more = _load(builder, builder.add(shift, builder.mul(took, const(8))))
                new = _load(builder, builder.select(take, plain, shifted), 0, _SUMS)
                new = builder.add(new, splat(builder, more, _SUMS))
                low = _sorted(builder, least(builder, kept, new), False)
                _store(builder, low, builder.add(outs[k], at))
                moved = builder.mul(took, block)
                kept = _sorted(builder, greatest(builder, kept, new), True)
                following += [kept, builder.add(plain, moved), builder.add(shifted, builder.sub(block, moved))]
            return following

        blocks = builder.sub(builder.udiv(stretch, const(WIDTH)), const(1))
        loop(builder, blocks, initial, body)
        return context.get_dummy_value()

    @intrinsic
    def merge(typingctx, source, target, shift, starts, stretch):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT, UINT, UINT), codegen

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
        totals = splat(builder, total, _VECTOR)
        end = builder.add(address, builder.mul(length, const(16)))

        def body(step: Any, state: list[Any]) -> list[Any]:
            offset = builder.mul(step, const(8 * COLUMNS))
            low = _load(builder, builder.add(address, offset), 0, _VECTOR)
            high = builder.shuffle_vector(builder.sub(totals, low), ir.Constant(_VECTOR, ir.Undefined), backwards)
            _store(builder, high, builder.sub(end, offset), -8 * COLUMNS)
            return state

        loop(builder, builder.udiv(length, const(COLUMNS)), [], body)
        return context.get_dummy_value()

    @intrinsic
    def mirror(typingctx, address, length, total):  # type: ignore[no-untyped-def]
        return types.void(UINT, UINT, UINT), codegen

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
        sums = builder.add(_load(builder, window, 0, _VECTOR), splat(builder, builder.sub(band, target), _VECTOR))
        limit = splat(builder, builder.add(band, band), _VECTOR)
        word = const(0)
        for r in range(ROWS):
            near = builder.add(sums, splat(builder, _load(builder, row, 8 * r), _VECTOR))
            hits = builder.bitcast(builder.icmp_unsigned("<=", near, limit), ir.IntType(COLUMNS))
            word = builder.or_(word, builder.shl(builder.zext(hits, I64), const(COLUMNS * r)))
        below = builder.icmp_signed("<", builder.extract_element(near, ir.Constant(ir.IntType(32), 0)), band)
        return builder.or_(word, builder.shl(builder.zext(below, I64), const(COLUMNS * ROWS)))

    @intrinsic
    def look(typingctx, row, window, target, band):  # type: ignore[no-untyped-def]
        return UINT(UINT, UINT, types.int64, types.int64), codegen

    return look


WALKS = 2 * STRETCHES


def make_scan() -> Any:
    """A part of the staircase walks over left and right sums, two walks in ``STRETCHES`` stretches each.

    Returns
    -------
    intrinsic ``scan(left, right, targets, band, walks, stretch, first, count) -> uint64``
        `left` is the address of the left list and `right` of the last window of the right list. Walk e looks for
        left + right near ``targets[e]`` (an address), within `band`. Stretch k of walk e starts after ``stretch * k``
        tiles; ``walks[STRETCHES * e + k]`` is its position (see below), in and out. Walks tiles ``first .. first +
        count - 1`` of each stretch and returns a word with bit ``STRETCHES * e + k`` set iff some pair visited has
        ``|left + right - target| <= band``.

    Notes
    -----
    A tile is ``ROWS`` ascending left sums against a window of ``COLUMNS`` right sums. If even its largest left with
    its smallest right lies below the target, then so do all left sums with every right sum still to come: next rows.
    Otherwise every left sum still to come lies above the target with every right sum of the window: next window. What
    is passed over is therefore farther from the target than a pair that was visited on the same side. After t tiles, r
    of them moves to next rows, the position is ``r - stretch * k`` times the bytes of ``ROWS`` sums.
    """
    row_bytes, window_bytes = 8 * ROWS, 8 * COLUMNS

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, targets, band, walks, stretch, first, count = args
        goals = [_load(builder, targets, 8 * e) for e in range(2)]
        shifts = [splat(builder, builder.sub(band, goal), _VECTOR) for goal in goals]
        limit = splat(builder, builder.add(band, band), _VECTOR)
        step_bytes = builder.mul(stretch, const(row_bytes))
        lefts = [builder.add(left, builder.mul(step_bytes, const(k))) for k in range(STRETCHES)]

        def body(step: Any, state: list[Any]) -> list[Any]:
            windows = builder.sub(right, builder.mul(builder.add(step, first), const(window_bytes)))
            moved, least = [], []
            for walk in range(WALKS):
                e, k = divmod(walk, STRETCHES)
                made, closest = state[walk], state[WALKS + walk]
                row = builder.add(lefts[k], made)
                window = builder.add(windows, builder.mul(made, const(window_bytes // row_bytes)))
                sums = builder.add(_load(builder, window, 0, _VECTOR), shifts[e])
                for offset in range(0, row_bytes, 8):
                    near = builder.add(sums, splat(builder, _load(builder, row, offset), _VECTOR))
                    closest = _minimum(builder, closest, near)
                # The last row's first sum is the edge. Taken from the vector, the row need not be loaded twice.
                edge = builder.extract_element(near, ir.Constant(ir.IntType(32), 0))
                below = builder.and_(builder.ashr(builder.sub(edge, band), const(63)), const(row_bytes))
                moved.append(builder.add(made, below))
                least.append(closest)
            return moved + least

        initial = [_load(builder, walks, 8 * w) for w in range(WALKS)]
        initial += [ir.Constant(_VECTOR, [-1] * COLUMNS)] * WALKS
        final = loop(builder, count, initial, body)
        found = const(0)
        for walk in range(WALKS):
            _store(builder, final[walk], walks, 8 * walk)
            hits = builder.icmp_unsigned("<=", final[WALKS + walk], limit)
            some = builder.icmp_unsigned(
                "!=", builder.bitcast(hits, ir.IntType(COLUMNS)), ir.Constant(ir.IntType(COLUMNS), 0)
            )
            found = builder.or_(found, builder.shl(builder.zext(some, I64), const(walk)))
        return found

    @intrinsic
    def scan(typingctx, left, right, targets, band, walks, stretch, first, count):  # type: ignore[no-untyped-def]
        return UINT(UINT, UINT, UINT, types.int64, UINT, UINT, UINT, UINT), codegen

    return scan


_F64 = ir.DoubleType()
_REALS = ir.VectorType(_F64, COLUMNS)


def _closer(builder: Any, numbers: Any, target: Any, so_far: Any) -> Any:
    """``min(so_far, |numbers - target|)`` element by element."""
    gap = builder.bitcast(builder.fsub(numbers, target), _VECTOR)
    size = builder.bitcast(builder.and_(gap, ir.Constant(_VECTOR, [2**63 - 1] * COLUMNS)), _REALS)
    return builder.select(builder.fcmp_ordered("<", size, so_far), size, so_far)


def _splat_real(builder: Any, value: Any) -> Any:
    return builder.bitcast(splat(builder, builder.bitcast(value, I64), _VECTOR), _REALS)


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


def _least_distance(builder: Any, count: Any, target: Any, numbers_at: Any) -> Any:
    """From a number to a run of `count` numbers, of which ``numbers_at(offset)`` emits the vector so many bytes on."""
    targets = _splat_real(builder, target)

    def body(step: Any, state: list[Any]) -> list[Any]:
        numbers = numbers_at(builder.mul(step, const(8 * COLUMNS)))
        return [_closer(builder, numbers, targets, state[0])]

    vectors = builder.udiv(builder.add(count, const(COLUMNS - 1)), const(COLUMNS))
    far = ir.Constant(_REALS, [float("inf")] * COLUMNS)
    return _least(builder, loop(builder, vectors, [far], body)[0])


def make_nearest() -> Any:
    """The least distance from a number to a run of numbers.

    Returns
    -------
    intrinsic ``nearest(address, count, target) -> float64``
        Reads whole vectors: numbers up to the next multiple of ``COLUMNS`` must be there, infinite where not meant.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, count, target = args
        return _least_distance(
            builder, count, target, lambda offset: _load(builder, builder.add(address, offset), 0, _REALS)
        )

    @intrinsic
    def nearest(typingctx, address, count, target):  # type: ignore[no-untyped-def]
        return types.float64(UINT, UINT, types.float64), codegen

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
        constant = _splat_real(builder, plus)

        def shifted(offset: Any) -> Any:
            numbers = builder.fadd(_load(builder, builder.add(address, offset), 0, _REALS), constant)
            _store(builder, numbers, builder.add(into, offset))
            return numbers

        return _least_distance(builder, count, target, shifted)

    @intrinsic
    def shift(typingctx, address, count, plus, into, target):  # type: ignore[no-untyped-def]
        return types.float64(UINT, UINT, types.float64, UINT, types.float64), codegen

    return shift
