"""The least base set that reaches an accuracy with a probability, found by drawing base sets.

The base sets of a draw are nested: that of m elements is the first m of one sequence. A larger set has all sums of a
smaller one, so a draw that succeeds at m succeeds from there on, and only the failures need to be looked at again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.calibration.confidence import fewest_draws, interval
from slth.calibration.covering import LEAST_RATIO, covers
from slth.calibration.elements import MOST_ELEMENTS, ElementLaw, targets
from slth.errors import ArgumentError
from slth.subsetsum.problem import MAX_ELEMENTS, Status

LOG = logging.getLogger(__name__)

ONE, ALL = "one", "all"

LARGEST_ALL = 32
"""Largest base set for all targets (chosen): a failure looks at all 2^m sums, 2^32 take some seconds."""

DEFAULT_LARGEST = {ALL: 26, ONE: 40}
"""Largest base set unless another is asked for (chosen): a failure at 26 takes a tenth of a second."""

_FEWEST_DEFAULT_DRAWS = 1000

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Question:
    """What is asked; the answer is a function of it.

    Attributes
    ----------
    elements : ElementLaw
        Law of the base sets' elements.
    eps : float
        Largest error that counts as a success.
    delta : float
        Probability of a miss that is allowed.
    targets : str
        ``"all"``: every z in [-reach, reach] has to be within eps of the sum of some subset of one base set, as in
        Lueker's theorem. ``"one"``: one z, independent of the base set.
    target : float, optional
        That z; by default it is drawn from U[-reach, reach] for each base set.
    reach : float
        Half-width of the interval of targets. A base set times s serves weights up to s reach to within s eps.
    draws : int
        Base sets.
    seed : int
    largest : int
        Largest base set tried.
    """

    elements: ElementLaw
    eps: float = 0.01
    delta: float = 0.05
    targets: str = ALL
    target: float | None = None
    reach: float = 1.0
    draws: int = _FEWEST_DEFAULT_DRAWS
    seed: int = 0
    largest: int = DEFAULT_LARGEST[ALL]

    def __post_init__(self) -> None:
        _check_numbers(self)
        limit = largest_size(self.elements, self.targets)
        if not 1 <= self.largest <= limit:
            need = f"a size from 1 to {limit} for {self.targets} targets of {self.elements.label}"
            raise ArgumentError("--largest", str(self.largest), need, f"--largest {limit}")
        needed = fewest_draws(self.delta)
        if self.draws < needed:
            need = f"at least {needed}: fewer cannot show a success probability of {1 - self.delta:g}"
            raise ArgumentError("--draws", str(self.draws), need, f"--draws {default_draws(self.delta)}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values that say all that matters."""
        return {**{name: getattr(self, name) for name in _FIELDS}, "elements": self.elements.to_json()}


_FIELDS = [name for name in Question.__dataclass_fields__ if name != "elements"]


def largest_size(elements: ElementLaw, kind: str) -> int:
    """The largest base set that a question may be about; zeros cost nothing, so half zeros allow twice as many."""
    if kind == ONE:
        return MAX_ELEMENTS
    return min(2 * LARGEST_ALL, MOST_ELEMENTS) if elements.positive_part else LARGEST_ALL


def default_largest(elements: ElementLaw, kind: str) -> int:
    """Where to stop unless told: within a minute or so even if nothing suffices."""
    most = DEFAULT_LARGEST.get(kind, 1) * (2 if elements.positive_part else 1)
    return min(most, largest_size(elements, kind))


def default_draws(delta: float) -> int:
    """Enough for a few misses to be allowed: 20 / delta, at least a thousand."""
    return max(_FEWEST_DEFAULT_DRAWS, math.ceil(20 / delta))


def _check_numbers(question: Question) -> None:
    q = question
    if q.targets not in (ONE, ALL):
        raise ArgumentError("--targets", repr(q.targets), "one or all", "--targets all")
    if not 0.0 < q.reach < math.inf:
        raise ArgumentError("--reach", f"{q.reach:g}", "a number above 0", "--reach 1")
    least = LEAST_RATIO * q.reach if q.targets == ALL else 0.0
    if not least <= q.eps < math.inf or q.eps == 0.0:
        need = f"at least {LEAST_RATIO:g} of the reach" if q.targets == ALL else "a number above 0"
        raise ArgumentError("--eps", f"{q.eps:g}", need, "--eps 0.01")
    if not 0.0 < q.delta < 1.0:
        raise ArgumentError("--delta", f"{q.delta:g}", "a probability between 0 and 1", "--delta 0.05")
    if q.target is not None and (q.targets == ALL or not abs(q.target) <= q.reach):
        need = f"one target, from {-q.reach:g} to {q.reach:g}"
        raise ArgumentError("--target", f"{q.target:g}", need, "--targets one --target 0.5")
    if not 0 <= q.seed < 2**64:
        raise ArgumentError("--seed", str(q.seed), "a whole number from 0 to 2^64 - 1")


@dataclass(frozen=True)
class SizeCount:
    """Successes of base sets of m elements, and the 95 % interval for their probability."""

    m: int
    successes: int
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """The answer.

    Attributes
    ----------
    size : int or None
        The least m whose success probability is above 1 - delta as far as the lower end of the interval can tell; None
        if none up to the largest is. Successes never fall with m, so the interval of the largest insufficient m alone
        decides whether an insufficient m is taken: the risk is 2.5 %, however many sizes are looked at.
    counts : tuple of SizeCount
        For m = 1, 2, ..., as far as was needed.
    cached : bool
        Whether it was read from the disk.
    """

    question: Question
    size: int | None
    counts: tuple[SizeCount, ...]
    cached: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``containment`` is null where no uniform law is known to be contained."""
        contained = self.question.elements.containment()
        return {
            "distribution": self.question.elements.label,
            "containment": None if contained is None else {**asdict(contained), "share": contained.share},
            "question": self.question.to_json(),
            "size": self.size,
            "counts": [asdict(count) for count in self.counts],
            "cached": self.cached,
        }


def counts(question: Question, threads: int | None = None, on_progress: Progress | None = None) -> Iterator[SizeCount]:
    """Successes at m = 1, 2, ... up to the largest, one size at a time.

    Parameters
    ----------
    question : Question
        Its delta does not matter here.
    threads : int, optional
        For one target; the result does not depend on it.
    on_progress : callable, optional
        Told the number of base sets that have succeeded so far and of all.
    """
    LOG.debug("drawing %d base sets of %s", question.draws, question.elements.label)
    sets = question.elements.draw(question.seed, 0, question.draws)
    wanted = _targets(question)
    pending = np.arange(question.draws)
    for m in range(1, question.largest + 1):
        base = sets[:, :m]
        if question.targets == ONE:
            failed = _misses_one(base[pending], wanted[pending], question.eps, threads)
            pending = pending[failed]
            if on_progress:
                on_progress(question.draws - pending.size, question.draws)
        else:
            failed = np.ones(pending.size, dtype=np.bool_)
            for position, draw in enumerate(pending.tolist()):
                failed[position] = not covers(base[draw], question.eps, question.reach)
                if on_progress and position % 16 == 0:
                    succeeded = int(position + 1 - failed[: position + 1].sum())
                    on_progress(question.draws - pending.size + succeeded, question.draws)
            pending = pending[failed]
        successes = question.draws - pending.size
        yield SizeCount(m, successes, *interval(successes, question.draws))


def _targets(question: Question) -> NDArray[np.float64]:
    if question.target is not None:
        return np.full(question.draws, question.target)
    return targets(question.seed, question.draws) * question.reach


def _misses_one(
    base: NDArray[np.float64], wanted: NDArray[np.float64], eps: float, threads: int | None
) -> NDArray[np.bool_]:
    from slth.subsetsum import solve

    if base.size == 0:
        return np.zeros(0, dtype=np.bool_)
    # Zeros add no sum, and would double the time.
    useful = base != 0.0
    offsets = np.concatenate([[0], np.cumsum(useful.sum(axis=1))])
    found = solve(base[useful], wanted, objective="first", tolerance=eps, offsets=offsets, threads=threads)
    return np.asarray(found.status != Status.FOUND)


def calibrate(question: Question, threads: int | None = None, on_progress: Progress | None = None) -> Calibration:
    """Find the least sufficient base set.

    Parameters
    ----------
    question, threads, on_progress
        As in :func:`counts`.

    Examples
    --------
    >>> from slth.source.distributions import Uniform
    >>> calibrate(Question(ElementLaw(Uniform()), eps=0.1, delta=0.1, draws=100)).size
    11
    """
    seen = []
    for count in counts(question, threads, on_progress):
        seen.append(count)
        if count.low >= 1.0 - question.delta:
            return Calibration(question, count.m, tuple(seen))
    return Calibration(question, None, tuple(seen))
