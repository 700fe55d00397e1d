"""Answers kept on the disk: one JSON file a question, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from slth import __version__
from slth.calibration.confidence import CONFIDENCE, interval
from slth.calibration.sizes import Calibration, Question, SizeCount
from slth.errors import OutputError
from slth.files import write_atomically

LOG = logging.getLogger(__name__)

_FORMAT = 1


def folder() -> Path:
    """``slth/calibration`` in the folder that XDG_CACHE_HOME names, or else in ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    root = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return root / "slth" / "calibration"


def _key(question: Question) -> dict[str, Any]:
    """All that the answer depends on."""
    return {"format": _FORMAT, "slth": __version__, "confidence": CONFIDENCE, "question": question.to_json()}


def _path(question: Question) -> Path:
    text = json.dumps(_key(question), sort_keys=True)
    return folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def load(question: Question) -> Calibration | None:
    """The answer to a question asked before; None if there is none, or none that can be read."""
    try:
        path = _path(question)
        stored = json.loads(path.read_bytes())
        if stored["key"] != json.loads(json.dumps(_key(question))):
            return None
        made = _restored(question, stored["successes"])
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, RecursionError) as error:
        LOG.debug("no use of a stored calibration: %s", error)
        return None
    return made


def _restored(question: Question, successes: list[int]) -> Calibration | None:
    """Nothing but whole numbers is believed; the rest is worked out again."""
    whole = all(type(count) is int and 0 <= count <= question.draws for count in successes)
    if not whole or not 1 <= len(successes) <= question.largest or successes != sorted(successes):
        return None
    counts = tuple(SizeCount(m, n, *interval(n, question.draws)) for m, n in enumerate(successes, 1))
    enough = [count.m for count in counts if count.low >= 1.0 - question.delta]
    # A table that goes on too long, or ends too early, was made by other rules.
    if enough[:1] not in ([], [len(counts)]) or (not enough and len(counts) < question.largest):
        return None
    return Calibration(question, enough[0] if enough else None, counts, cached=True)


def save(calibration: Calibration) -> None:
    """Keep an answer; a folder that cannot be written to is no reason to fail."""
    content = {"key": _key(calibration.question), "successes": [count.successes for count in calibration.counts]}
    try:
        path = _path(calibration.question)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, indent=1).encode())
    except (OSError, RuntimeError, OutputError) as error:
        LOG.debug("calibration not stored: %s", error)
