"""What the first call costs: with nothing compiled, and with the kernels in numba's cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

REPEATS = 2
_CODE = """
import sys, time
start = time.perf_counter()
import numba, numpy
libraries = time.perf_counter()
from slth.subsetsum import solve
loaded = time.perf_counter()
tolerance = None if sys.argv[1] == "best" else 0.5
# One small base set and one large: each may have its own kernel.
values, offsets = numpy.full(40, 0.3), numpy.array([0, 10, 40])
solve(values, [0.5, 0.5], offsets=offsets, objective=sys.argv[1], tolerance=tolerance, threads=1)
print(libraries - start, loaded - libraries, time.perf_counter() - loaded)
"""


@dataclass(frozen=True)
class Startup:
    """Seconds of a new process, one objective.

    Attributes
    ----------
    compile_seconds : float
        Of the first call with an empty cache.
    cached_seconds : float
        Of the same with a full cache, and of importing :mod:`slth.subsetsum` before; least of a few.
    library_seconds : float
        Of importing numpy and numba before that.
    """

    objective: str
    compile_seconds: float
    cached_seconds: float
    library_seconds: float


def start(objective: str) -> Startup:
    """Measure one objective in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="slth-bench-") as cache:
        _, imported, called = _process(objective, cache)
        again = [_process(objective, cache) for _ in range(REPEATS)]
    cached = min(imported + called for _, imported, called in again)
    return Startup(objective, imported + called, cached, min(libraries for libraries, _, _ in again))


def _process(objective: str, cache: str) -> tuple[float, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, objective],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    libraries, imported, called = map(float, done.stdout.split())
    return libraries, imported, called
