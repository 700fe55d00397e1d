"""Run an experiment: from its name to a folder with raw data, table, pictures and configuration."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slth.errors import ArgumentError
from slth.files import write_atomically
from slth.places import digest, locate, sought
from slth.reproduce.experiment import SCALES, Experiment, Row
from slth.reproduce.registry import find
from slth.reproduce.run import Progress, Run
from slth.reproduce.store import Folder


@dataclass(frozen=True)
class Report:
    """What an experiment gave.

    Attributes
    ----------
    result : mapping
        As in ``result.json``: name, shows, scale, seed, seconds, date, machine, comparisons, tables.
    path : path
        Its folder.
    cached : bool
        Whether it had been done before.
    """

    result: dict[str, Any]
    path: Path
    cached: bool


def reproduce(
    name: str,
    output: str | Path,
    *,
    scale: str = "quick",
    seed: int = 0,
    data: str | Path | None = None,
    again: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Run one experiment, or what is left of it, unless its results are there.

    Parameters
    ----------
    name : str
        ``paper/what``: a key of :data:`slth.reproduce.registry.EXPERIMENTS`.
    output : path
        Folder for the results of all experiments; this one has its own folder in it.
    scale : {"quick", "paper"}
    seed : int
        Of the first draw.
    data : path, optional
        Folder of data sets, by their names; else the usual places.
    again : bool
        Whether to throw away what is there.
    settings : mapping, optional
        Entries of the scale's settings to replace.
    progress : callable, optional
        Called with a word, the number of parts done, and of all.

    Raises
    ------
    ArgumentError
        If there is no such experiment, scale or setting.
    DataError
        If data are missing; nothing is written then.
    OutputError
        If the folder holds the results of another configuration, or cannot be written.
    """
    experiment = find(name)
    if scale not in SCALES:
        raise ArgumentError("scale", repr(scale), " or ".join(SCALES), "--scale quick")
    given = None if data is None else Path(data)
    places = {each: locate(each, given) for each in experiment.data}
    places |= {each: place for each in experiment.optional if (place := sought(each, given)) is not None}
    chosen = dict(experiment.scales[scale].settings)
    unknown = sorted(set(settings or ()) - set(chosen))
    if unknown:
        raise ArgumentError("settings", repr(unknown[0]), f"names out of {', '.join(chosen)}", "another name")
    # As they will be read again: no tuples.
    chosen = json.loads(json.dumps(chosen | dict(settings or {})))
    folder = Folder(Path(output), _configuration(experiment, scale, chosen, seed, places))
    there = folder.open(again)
    if there is not None:
        return Report(there, folder.path, cached=True)
    begin = time.perf_counter()
    rows = experiment.rows(Run(chosen, seed, folder.parts, places, progress))
    comparisons = experiment.compare(rows, chosen)
    result = {
        "name": name,
        "shows": experiment.shows,
        "scale": scale,
        "seed": seed,
        "settings": chosen,
        "seconds": round(time.perf_counter() - begin, 1),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": _machine(),
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "tables": _tables(experiment, rows),
    }
    if experiment.draw is not None:
        from slth.reproduce.figures import draw

        for ending, content in draw(experiment.draw, rows).items():
            write_atomically(folder.path / f"figure.{ending}", content)
    folder.close(result, rows, comparisons)
    return Report(result, folder.path, cached=False)


def _configuration(
    experiment: Experiment, scale: str, settings: dict[str, Any], seed: int, places: dict[str, Path]
) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "rows": f"{experiment.rows.__module__}.{experiment.rows.__qualname__}",
        "version": experiment.version,
        "scale": scale,
        "settings": settings,
        "seed": seed,
        "data": {name: digest(place) for name, place in places.items()},
    }


def _tables(experiment: Experiment, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """As they will be read again: no tuples."""
    found = () if experiment.tables is None else experiment.tables(rows)
    plain: list[dict[str, Any]] = json.loads(json.dumps([asdict(table) for table in found]))
    return plain


def _machine() -> str:
    from slth.bench.machine import processor
    from slth.subsetsum.schedule import count_threads

    return f"{processor()}, at most {count_threads(None)} cores"
