"""How many threads torch should use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SMALL = 50_000
"""Networks of fewer weights run on one thread: more of them would only wait for each other."""


@contextmanager
def fitting_threads(n_weights: int) -> Iterator[None]:
    """Run a network of so many weights on one thread if it is small; torch's setting comes back afterwards."""
    import torch

    threads = torch.get_num_threads()
    if n_weights < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
