"""The benchmark of the subset-sum engine, from settings to report."""

from __future__ import annotations

from collections.abc import Sequence

from slth.bench import machine
from slth.bench.contenders import Contender, own_contenders
from slth.bench.measure import Progress, Settings, measure
from slth.bench.report import Report
from slth.bench.rivals import RIVALS
from slth.bench.startup import start


def contenders(rivals: bool, names: Sequence[str] | None = None) -> list[Contender]:
    """Slth's own solvers, with ``rivals`` what others use, or those named of them all.

    Raises
    ------
    KeyError
        For a name that none of them has.
    """
    if names is None:
        return own_contenders(rivals) + (list(RIVALS.values()) if rivals else [])
    known = {contender.name: contender for contender in (*own_contenders(True), *RIVALS.values())}
    return [known[name] for name in names]


def run(
    settings: Settings, who: Sequence[Contender], startup: bool = True, on_progress: Progress | None = None
) -> Report:
    """Measure.

    Parameters
    ----------
    settings : Settings
    who : sequence of Contender
    startup : bool
        Whether to measure what the first call costs, which takes about ten seconds an objective.
    on_progress : callable, optional
        Called with a name, steps done, and their number.
    """
    startups = []
    for done, objective in enumerate(settings.objectives if startup else (), 1):
        startups.append(start(objective))
        if on_progress is not None:
            on_progress("starting", done, len(settings.objectives))
    measurement = measure(settings, who, on_progress)
    packages = [name for contender in who for name in contender.packages if contender.missing is None]
    return Report(
        settings,
        machine.describe(packages),
        {contender.name: contender.title for contender in who},
        frozenset(contender.name for contender in who if contender.own),
        measurement,
        tuple(startups),
    )
