"""Compile the kernels in a process of their own while torch is loading, the first time that slth runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = """
import numpy, slth.source.philox as philox, slth.subsetsum as subsetsum
philox.words((0, 0), 0, 4)
philox.words_at((0, 0), numpy.zeros(1, numpy.uint64))
subsetsum.solve([[1.0, 0.5]], [1.0])
"""


class Compilation:
    """Kernels being compiled into numba's cache."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        here = Path(__file__).parent
        if not any((here / "subsetsum").rglob("*.nbi")):
            null = subprocess.DEVNULL
            self.process = subprocess.Popen([sys.executable, "-c", _CODE], stdin=null, stdout=null, stderr=null)

    def wait(self) -> None:
        """Return when the cache is filled; if that failed, the kernels are compiled where they are used."""
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        """End a compilation that nobody waits for."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
