"""Which parameters of a network are to be ticketed, by patterns on their names."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slth.errors import ArgumentError

_NEAREST = 3
"""So many names are offered in place of a pattern that fits none (chosen)."""


@dataclass(frozen=True)
class Selection:
    """Which parameters are to be ticketed, by patterns as in a shell; others are kept as they are.

    A pattern fits a parameter if it fits its name in the state dict or the path of a module that it is in.

    Attributes
    ----------
    include : tuple of str
        Patterns of parameters to be ticketed; all, where there is none.
    exclude : tuple of str
        Patterns of those of them that are not.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: str | Sequence[str] | None = None, exclude: str | Sequence[str] | None = None) -> Selection:
        """From patterns, each of which may hold several between commas."""
        return cls(_patterns("include", include), _patterns("exclude", exclude))

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def wants(self, *names: str) -> bool:
        """Whether a parameter, by all names that it has in the state dict, is to be ticketed."""
        included = not self.include or any(fits(pattern, name) for pattern in self.include for name in names)
        return included and not any(fits(pattern, name) for pattern in self.exclude for name in names)

    def check(self, names: Iterable[str]) -> None:
        """Refuse a pattern that fits none of the parameters' names.

        Raises
        ------
        ArgumentError
            With the nearest names.
        """
        known = list(names)
        for where, patterns in (("include", self.include), ("exclude", self.exclude)):
            for pattern in patterns:
                if not any(fits(pattern, name) for name in known):
                    need = "a pattern that fits the name of a parameter, or of a module that holds some"
                    raise ArgumentError(where, repr(pattern), need, _nearest(pattern, known))

    def to_json(self) -> dict[str, list[str]]:
        """Plain JSON values."""
        return {"include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Selection:
        """From :meth:`to_json`.

        Raises
        ------
        ValueError
            If it is not such a description.
        """
        parts = [value["include"], value["exclude"]]
        words = [word for part in parts for word in (part if isinstance(part, list) else [None])]
        if not all(isinstance(word, str) and word for word in words):
            raise ValueError(f"{value!r} is no selection of parameters")
        return cls(*map(tuple, parts))


EVERYTHING = Selection()
"""All parameters."""


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern fits a parameter's name, or the path of a module that it is in."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


def _patterns(where: str, given: str | Sequence[str] | None) -> tuple[str, ...]:
    words = [given] if isinstance(given, str) else [] if given is None else list(given)
    if any(not isinstance(word, str) for word in words):
        raise ArgumentError(where, repr(given), "patterns as strings", "'encoder.*'")
    patterns = [part.strip() for word in words for part in word.split(",")]
    if "" in patterns:
        raise ArgumentError(where, repr(given), "patterns between commas, none of them empty", "'encoder.*,head'")
    return tuple(patterns)


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """Names of parameters and of modules that are spelled most like a pattern."""
    paths = {name.rsplit(".", n)[0] for name in names for n in range(name.count(".") + 1)}
    plain = pattern.strip("*.?[]")
    near = difflib.get_close_matches(plain, sorted(paths), _NEAREST, 0.4) or sorted(names)[:_NEAREST]
    return " or ".join(near)
