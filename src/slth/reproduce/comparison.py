"""A paper's number beside ours, and the verdict on it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from slth.report.words import number


class Verdict(Enum):
    """What a comparison says."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Comparison:
    """One number of a paper and ours.

    Attributes
    ----------
    quantity : str
    paper : str
        As the paper has it; empty if it has none.
    ours, low, high : float
        The number and its interval; equal if it is no estimate.
    interval : str
        What the interval is: ``95 % over 5 draws``.
    verdict : Verdict
    note : str
        By how much it differs and the likely reason, or why nothing can be compared.
    """

    quantity: str
    paper: str
    ours: float
    low: float
    high: float
    interval: str
    verdict: Verdict
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdict": self.verdict.value}


def compare(
    quantity: str,
    paper: float,
    ours: float,
    *,
    margin: float = 0.0,
    interval: tuple[float, float] | None = None,
    over: str = "",
    reason: str = "",
    note: str = "",
    written: str = "",
) -> Comparison:
    """Beside a number: reproduced if it is within the margin of ours, or within our interval.

    Parameters
    ----------
    quantity : str
    paper, ours : float
    margin : float
        What the paper's rounding, or its own uncertainty, allows.
    interval : two floats, optional
        Around ours, of what ``over`` says.
    reason : str
        The likely reason, said if it differs.
    note : str
        Said in any case.
    written : str
        The paper's number as printed there, if it needs more than the number.
    """
    low, high = interval if interval is not None else (ours, ours)
    fits = low - margin <= paper <= high + margin
    return Comparison(
        quantity,
        written or _printed(paper),
        ours,
        low,
        high,
        over,
        Verdict.REPRODUCED if fits else Verdict.DIFFERS,
        _joined(note, "" if fits else f"{_by(ours, paper)}{f': {reason}' if reason else ''}"),
    )


def at_most(
    quantity: str, paper: float, ours: float, *, over: str = "", interval: tuple[float, float] | None = None,
    reason: str = "", note: str = "", written: str = "",
) -> Comparison:  # fmt: skip
    """Beside a number that ours is to be no larger than: an error, a time."""
    low, high = interval if interval is not None else (ours, ours)
    fits = ours <= paper
    said = f"{_by(ours, paper)}{f': {reason}' if reason else ''}"
    verdict = Verdict.REPRODUCED if fits else Verdict.DIFFERS
    words = written or f"at most {number(paper)}"
    return Comparison(quantity, words, ours, low, high, over, verdict, _joined(note, "" if fits else said))


def alone(
    quantity: str,
    ours: float,
    why: str,
    *,
    paper: str = "",
    interval: tuple[float, float] | None = None,
    over: str = "",
) -> Comparison:
    """A number that nothing can be compared with, and why."""
    low, high = interval if interval is not None else (ours, ours)
    return Comparison(quantity, paper, ours, low, high, over, Verdict.NOT_COMPARABLE, why)


def _printed(value: float) -> str:
    """In as many digits as it has, six at most."""
    digits = f"{abs(value):.5e}".partition("e")[0].replace(".", "").rstrip("0")
    return number(value, max(1, len(digits)) if 0 < abs(value) < 1e-3 else 6)


def _by(ours: float, paper: float) -> str:
    if paper and math.isfinite(ours / paper) and ours / paper > 0 and not 0.5 < ours / paper < 2:
        return f"{number(ours / paper)} times the paper's"
    return f"{'+' if ours > paper else ''}{number(ours - paper)}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
