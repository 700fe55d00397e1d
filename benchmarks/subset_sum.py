"""Measures the subset-sum solvers and their rivals, and renews the measured part of docs/subset-sum.md and its plot.

Whatever is added on the command line goes to ``slth bench subset-sum`` after the settings below and overrides them,
such as ``--no-rivals`` or ``--output FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from slth.cli import main

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETTINGS = {
    "--sizes": "10,15,20,24,30,34",
    "--base-sets": "uniform,product",
    "--seconds": "0.5",
    "--repeats": "9",
    "--time-limit": "60",
    "--output": str(DOCS),
}

if __name__ == "__main__":
    settings = [word for pair in SETTINGS.items() for word in pair]
    sys.argv = ["slth", "bench", "subset-sum", "--rivals", *settings, *sys.argv[1:]]
    main()
