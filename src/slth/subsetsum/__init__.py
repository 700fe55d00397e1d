"""Subset sums: which of a base set's numbers add up closest to a target, asked of millions of small base sets."""

from __future__ import annotations

from slth.subsetsum.api import SOLVERS, solve
from slth.subsetsum.problem import MAX_ELEMENTS, Objective, Solver, Status, SubsetSums

__all__ = ["MAX_ELEMENTS", "SOLVERS", "Objective", "Solver", "Status", "SubsetSums", "solve"]
