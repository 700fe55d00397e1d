"""The folder of an experiment: its configuration, its raw data, its table and its pictures."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slth.errors import OutputError
from slth.files import write_atomically
from slth.reproduce.comparison import Comparison
from slth.reproduce.experiment import Row

_CONFIGURATION, _RESULT = "configuration.json", "result.json"


@dataclass(frozen=True)
class Folder:
    """Where one experiment's results are, or will be.

    Attributes
    ----------
    root : path
        Of all experiments.
    configuration : mapping
        Of which the results are a function: name, rows, version, scale, settings, seed, data. JSON.
    """

    root: Path
    configuration: dict[str, Any]

    @property
    def path(self) -> Path:
        """This experiment's own folder."""
        return self.root / str(self.configuration["name"])

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration."""
        return _digest(self.configuration)

    @property
    def parts(self) -> Path:
        """The folder of finished parts, which experiments share that read the same rows of the same settings."""
        shared = {key: value for key, value in self.configuration.items() if key not in ("name", "scale")}
        return self.root / "parts" / _digest(shared)[:24]

    def open(self, again: bool = False) -> dict[str, Any] | None:
        """The finished result, if there is one of this configuration; else the folder is ready for it.

        Parameters
        ----------
        again : bool
            Whether to throw away what is there.

        Raises
        ------
        OutputError
            If the folder holds the results of another configuration, or cannot be written.
        """
        if again:
            shutil.rmtree(self.path, ignore_errors=True)
            shutil.rmtree(self.parts, ignore_errors=True)
        place = self.path / _CONFIGURATION
        if place.is_file():
            there = _read(place)
            if there.get("digest") != self.digest:
                differing = _differing(there.get("configuration", {}), self.configuration)
                got = f"results of another configuration ({differing})"
                raise OutputError(
                    str(self.path), got, "a folder of its own", "another --output, or --again to replace it"
                )
            return self._result()
        try:
            if self.path.exists() and any(self.path.iterdir()):
                raise OutputError(str(self.path), "a folder with other files", "an empty one", "another --output")
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                str(self.path), str(error.strerror), "a folder that can be written", "another --output"
            ) from error
        write_json(place, {"digest": self.digest, "configuration": self.configuration})
        return None

    def _result(self) -> dict[str, Any] | None:
        """The finished result; None if there is none, or a damaged one, which the parts give again."""
        try:
            return _checked(self.path / _RESULT)
        except OutputError:
            return None

    def close(self, result: dict[str, Any], rows: Sequence[Row], comparisons: Sequence[Comparison]) -> None:
        """Write data and table, then the result, which says that all is there."""
        write_atomically(self.path / "data.csv", csv_of(rows))
        table = [comparison.to_json() for comparison in comparisons]
        write_atomically(self.path / "table.csv", csv_of(table))
        write_json(self.path / _RESULT, result)


def finished(root: Path) -> Iterable[tuple[dict[str, Any], Path]]:
    """The results of all experiments in a folder, with their folders, by name."""
    for path in sorted(root.glob(f"*/*/{_RESULT}")):
        yield _checked(path), path.parent


_KEYS = ("name", "shows", "scale", "seed", "seconds", "date", "machine", "comparisons")
"""What a result has."""


def _checked(path: Path) -> dict[str, Any]:
    result = _read(path)
    missing = [key for key in _KEYS if key not in result]
    if missing:
        raise OutputError(str(path), f"no {missing[0]}", "a result of slth", "its experiment again, which mends it")
    return result


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def csv_of(rows: Sequence[Row]) -> bytes:
    """Rows as CSV with a heading; columns in the order in which they are first seen."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_json(path: Path, value: Any) -> None:
    """JSON with a line for every entry."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(str(path), f"a file that cannot be read ({error})", "a result of slth", "--again") from error
    if not isinstance(value, dict):
        raise OutputError(str(path), type(value).__name__, "a result of slth", "--again")
    return value


def _differing(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first entry that differs, in words."""
    for key in wanted:
        old, new = there.get(key), wanted[key]
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            inner = next(name for name in [*new, *old] if old.get(name) != new.get(name))
            return f"its {inner} is {_short(old.get(inner))}, not {_short(new.get(inner))}"
        if old != new:
            return f"its {key} is {_short(there.get(key))}, not {_short(wanted[key])}"
    return "another version"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
