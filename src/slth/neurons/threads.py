"""How many threads numpy's linear algebra should use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from slth.errors import ArgumentError

SMALL = 2_000_000_000
"""Multiplications of one block's kernel matrix below which threads would mostly wait for each other (chosen)."""


def linear_algebra(threads: int | None, samples: int, features: int) -> AbstractContextManager[Any]:
    """Within it, numpy uses so many threads; by default one for small blocks, else as many as it likes.

    Raises
    ------
    ArgumentError
        If the number is below 1.
    """
    if threads is not None and threads < 1:
        raise ArgumentError("threads", str(threads), "at least 1")
    if threads is None and samples * features**2 >= SMALL:
        return nullcontext()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(limits=threads or 1, user_api="blas")
    return limits
