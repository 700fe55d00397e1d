"""Which part of a map some of its readers see, so that coefficients are carried back for that part alone.

A window is a range of positions for each spatial axis; None stands for all of a tensor, and for tensors without spatial
axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import pad

Window = tuple[tuple[int, int], ...] | None


def whole(shape: Sequence[int]) -> Window:
    """All positions of a map (channels, *sizes); None for a vector."""
    return tuple((0, size) for size in shape[1:]) or None


def cut(tensor: torch.Tensor, window: Window) -> torch.Tensor:
    """The part of (channels, *sizes) in a window."""
    if window is None:
        return tensor
    return tensor[(slice(None), *(slice(start, stop) for start, stop in window))]


def filled(rows: torch.Tensor, window: Window, shape: Sequence[int]) -> torch.Tensor:
    """Coefficients of the whole map, (rows, *shape), from those in a window; there are none outside."""
    if window is None or window == whole(shape):
        return rows
    widths = [(start, size - stop) for (start, stop), size in zip(window, shape[1:], strict=True)]
    return pad(rows, [width for pair in reversed(widths) for width in pair])


def read(
    window: tuple[tuple[int, int], ...],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Positions that a sliding kernel reads for outputs in a window, in the padding too."""
    return tuple(
        (start * s - p, (stop - 1) * s - p + d * (k - 1) + 1)
        for (start, stop), k, s, d, p in zip(window, kernel, stride, dilation, before, strict=True)
    )


def within(window: tuple[tuple[int, int], ...], shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The part of a window that is on the map; a window beside it becomes one position on its border."""
    clipped = []
    for (start, stop), size in zip(window, shape[1:], strict=True):
        low = min(max(start, 0), size - 1)
        clipped.append((low, max(min(stop, size), low + 1)))
    return tuple(clipped)


def cropped(rows: torch.Tensor, have: tuple[tuple[int, int], ...], want: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Coefficients (rows, channels, *have) moved to another window, zeros where there were none."""
    if any(d <= a or b <= c for (a, b), (c, d) in zip(have, want, strict=True)):
        return rows.new_zeros(*rows.shape[:2], *(stop - start for start, stop in want))
    widths = [(a - c, d - b) for (a, b), (c, d) in zip(have, want, strict=True)]
    return pad(rows, [width for pair in reversed(widths) for width in pair])


def tiles(shape: Sequence[int], side: int) -> Iterator[Window]:
    """Windows of at most so many positions a side that together are a whole map; None alone for a vector."""
    if len(shape) < 2:
        yield None
        return
    counts = [math.ceil(size / side) for size in shape[1:]]
    for number in range(math.prod(counts)):
        window, rest = [], number
        for count, size in zip(reversed(counts), reversed(shape[1:]), strict=True):
            rest, place = divmod(rest, count)
            window.append((place * side, min(place * side + side, size)))
        yield tuple(reversed(window))
