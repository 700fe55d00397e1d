"""Laws of random weights as the command line takes them: by name, as a table in a file, or as a function."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slth.errors import ArgumentError

if TYPE_CHECKING:
    from slth.calibration.elements import ElementLaw
    from slth.source.law import Distribution
    from slth.source.quantiles import Quantiles

TABLE = "quantiles:"
_NEED = "quantiles:FILE.json with probabilities and values, or quantiles:PKG.MOD:FN with the inverse CDF as a function"
_EVEN = 1e-9
"""A function with f(p) = -f(1 - p) up to this share of its largest value is taken for exactly odd (chosen)."""


def read_law(text: str) -> str | Distribution:
    """What ``distribution=`` is given: a name as it is, and any law with an inverse distribution function as its table.

    Raises
    ------
    ArgumentError
        If there is no such file or function, or no law in it.
    """
    return _table(text.removeprefix(TABLE)) if text.startswith(TABLE) else text


def read_elements(text: str) -> ElementLaw:
    """The law of a base set's elements, as :func:`~slth.calibration.elements.parse_elements` or :func:`read_law`."""
    from slth.calibration.elements import ElementLaw, parse_elements

    return ElementLaw(_table(text.removeprefix(TABLE))) if text.startswith(TABLE) else parse_elements(text)


def _table(reference: str) -> Quantiles:
    from slth.source.quantiles import Quantiles

    if not reference.endswith(".json"):
        return _tabulated(reference)
    try:
        stored = json.loads(Path(reference).read_text())
        return Quantiles(tuple(stored["probabilities"]), tuple(stored["values"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArgumentError("distribution", f"{reference} ({type(error).__name__}: {error})", _NEED) from error


def _tabulated(reference: str) -> Quantiles:
    from slth.source.quantiles import tabulate

    inverse_cdf = _function(reference)
    try:
        table = tabulate(inverse_cdf)
        low, high = table.values, table.values[::-1]
        largest = max(map(abs, low))
        odd = all(abs(a + b) <= _EVEN * largest for a, b in zip(low, high, strict=True))
        return tabulate(inverse_cdf, symmetric=True) if odd else table
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError("distribution", f"{reference} ({type(error).__name__}: {error})", _NEED) from error


def _function(reference: str) -> Callable[[float], float]:
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ArgumentError("distribution", f"{TABLE}{reference}", _NEED)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ArgumentError("distribution", f"{reference} ({type(error).__name__}: {error})", _NEED) from error
    if not callable(found):
        raise ArgumentError("distribution", f"{reference}, a {type(found).__name__}", _NEED)
    return found  # type: ignore[no-any-return]
