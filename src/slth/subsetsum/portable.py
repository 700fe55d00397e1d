"""The solver `plain`: what `mitm` does on a machine where the vector kernels cannot be trusted."""

from __future__ import annotations

from dataclasses import replace

from slth.subsetsum import mitm
from slth.subsetsum.problem import Answers, Batch, Objective, Run


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch; see :func:`slth.subsetsum.solve`."""
    return mitm.solve(batch, objective, tolerance, replace(run, vectors=False))
