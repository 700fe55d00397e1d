"""The whole measurement as one value, and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from slth.bench.measure import Line, Measurement, Settings, Skipped
from slth.bench.startup import Startup


@dataclass(frozen=True)
class Report:
    """What was measured, on what.

    Attributes
    ----------
    settings : Settings
    machine : dict
        Processor, system and versions by name.
    contenders : dict
        What each contender is, by name.
    own : frozenset of str
        Contenders that are solvers of slth.
    measurement : Measurement
    startups : tuple of Startup
        Empty where they were not asked for.
    """

    settings: Settings
    machine: dict[str, str]
    contenders: dict[str, str]
    own: frozenset[str]
    measurement: Measurement
    startups: tuple[Startup, ...] = ()

    @property
    def wrong(self) -> tuple[Line, ...]:
        """Lines in which a solver of slth called an answer optimal that is not, or in which the check failed."""
        return tuple(
            line
            for line in self.measurement.lines
            if line.verdict is not None
            and (line.verdict.impossible or (line.contender in self.own and line.verdict.false_optimal))
        )

    @property
    def failed(self) -> tuple[Skipped, ...]:
        """What solvers of slth could not do for an error of their own."""
        return tuple(out for out in self.measurement.skipped if out.kind == "failed" and out.contender in self.own)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times are in seconds a problem."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "machine": self.machine,
            "contenders": self.contenders,
            "startup": [dataclasses.asdict(startup) for startup in self.startups],
            "results": [dataclasses.asdict(line) for line in self.measurement.lines],
            "skipped": [dataclasses.asdict(skipped) for skipped in self.measurement.skipped],
        }
