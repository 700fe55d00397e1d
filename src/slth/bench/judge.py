"""Holds a contender's answers against the optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slth.bench.contenders import Reply
from slth.bench.problems import Problems
from slth.bench.reference import Checker, errors_of, sizes_of, slack


@dataclass(frozen=True)
class Verdict:
    """Answers held against the optimum.

    Attributes
    ----------
    checked : int
        How many; all whose optimum is known.
    not_optimal : int
        Those with a larger error, for `sparsest` more elements; for `first`, those beyond a tolerance that can be met.
    false_optimal : int
        Those of them that the contender calls optimal.
    impossible : int
        Answers better than the optimum: then the check itself is wrong.
    error_factor : float
        Median of error / least error.
    excess : float
        Largest difference of the two, 0 where rounding explains it.
    """

    checked: int
    not_optimal: int
    false_optimal: int
    impossible: int
    error_factor: float
    excess: float


def judge(problems: Problems, objective: str, reply: Reply, checker: Checker) -> Verdict:
    """Hold a reply against the optimum.

    Parameters
    ----------
    problems : Problems
        As many as were answered.
    objective : str
    reply : Reply
    checker : Checker
        Of these problems and perhaps more after them.
    """
    room, tolerance = slack(problems.m), checker.tolerance
    errors, sizes = errors_of(problems, reply.selected), sizes_of(reply.selected, problems.m)
    best = checker.optimum(objective, errors)
    as_close, closer = errors <= best.errors + room, errors < best.errors - room
    sized = best.sizes >= 0
    same, within = sizes == best.sizes, errors <= tolerance + room
    if objective == "first":
        # Any subset within the tolerance will do; how close the answer is where there is none is not promised.
        good, impossible = within | (best.errors > tolerance), closer
    else:
        good = np.where(sized, within & same & as_close, as_close)
        smaller = (sizes < best.sizes) & (errors <= tolerance - room)
        impossible = np.where(sized, smaller | (same & closer), closer)
    known = best.known
    bad = known & ~good & ~impossible
    told = known & ~np.isnan(best.errors)
    factors = np.maximum(errors[told], room) / np.maximum(best.errors[told], room)
    excess = float((errors - best.errors)[told].max(initial=0.0))
    return Verdict(
        checked=int(known.sum()),
        not_optimal=int(bad.sum()),
        false_optimal=int((bad & reply.claimed).sum()),
        impossible=int((known & impossible).sum()),
        error_factor=float(np.median(factors)) if len(factors) else 1.0,
        excess=excess if excess > room else 0.0,
    )
