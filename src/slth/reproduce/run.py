"""One run of an experiment: its settings, and the parts of it that are done and need not be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slth.files import write_atomically
from slth.reproduce.experiment import Row

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Run:
    """What an experiment's function is given.

    Attributes
    ----------
    settings : mapping
        Of the scale.
    seed : int
        Of the first draw.
    parts : path
        The folder of finished parts.
    places : mapping of str to path
        Where the data sets are, by name.
    progress : callable
        Called with a word, the number of parts done, and of all.
    """

    settings: dict[str, Any]
    seed: int
    parts: Path
    places: dict[str, Path] = field(default_factory=dict)
    progress: Progress = lambda *_: None

    def each(self, keys: Iterable[Any], compute: Callable[[Any], list[Row]]) -> list[Row]:
        """The rows of all parts; each is written as soon as it is done, and read where it was done before.

        Parameters
        ----------
        keys : iterable
            One a part: anything that JSON can write, given to ``compute``.
        compute : callable
            From a key to the rows of its part, of the run's settings, seed and data alone.
        """
        keys = list(keys)
        rows: list[Row] = []
        for done, key in enumerate(keys):
            self.progress("parts", done, len(keys))
            rows += self._part(key, compute)
        self.progress("parts", len(keys), len(keys))
        return rows

    def _part(self, key: Any, compute: Callable[[Any], list[Row]]) -> list[Row]:
        written = json.dumps(key, sort_keys=True)
        path = self.parts / f"{hashlib.sha256(written.encode()).hexdigest()[:24]}.json"
        kept = _kept(path)
        if kept is not None and kept["key"] == json.loads(written):
            found: list[Row] = kept["rows"]
            return found
        rows = compute(key)
        self.parts.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"key": key, "rows": rows}).encode())
        return json.loads(json.dumps(rows))  # type: ignore[no-any-return]  # as it will be read again


def _kept(path: Path) -> dict[str, Any] | None:
    """A part that was done; None if there is none, or a damaged one, which is made again."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(kept, dict) and "key" in kept and isinstance(kept.get("rows"), list)
    return kept if whole else None
