"""What the solvers made of other people's programs have in common."""

from __future__ import annotations

import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from slth.errors import ArgumentError
from slth.subsetsum.problem import Objective

_POLL_SECONDS = 0.1
_T = TypeVar("_T")


class Search(ABC):
    """One subset sum, put to a program as a few questions, each under the time limit.

    Answers are a mask or None, and whether that is proved: that the mask is optimal, that there is none.
    """

    @abstractmethod
    def closest(self, count: int | None = None) -> tuple[int | None, bool]:
        """A subset of the least distance, of `count` elements if given."""

    @abstractmethod
    def any(self, fewest: bool = False) -> tuple[int | None, bool]:
        """A subset within the tolerance, of the fewest elements if asked for."""

    def fewest(self) -> tuple[int | None, bool]:
        """A subset of the fewest elements within the tolerance, of those the closest."""
        mask, proved = self.any(fewest=True)
        if not mask or not proved:
            return mask, proved
        closer, proved = self.closest(mask.bit_count())
        return mask if closer is None else closer, proved

    def solve(self, objective: Objective) -> tuple[int, bool]:
        """The mask, the empty one where nothing was found, and whether it is proved to be the answer."""
        nothing = True
        if objective != "best":
            mask, nothing = self.fewest() if objective == "sparsest" else self.any()
            if mask is not None:
                return mask, nothing
        mask, proved = self.closest()
        return mask or 0, proved and nothing


def load(module: str, package: str) -> Any:
    """Import an optional package.

    Raises
    ------
    ArgumentError
        Where that fails, with how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArgumentError(
            "solver", f"no {package} to import ({error})", f"the package {package}", "pip install 'slth[rivals]'"
        ) from None


def interruptible(work: Callable[[], _T], stop: Callable[[], Any]) -> _T:
    """Call `work` in a thread; at Ctrl-C, which compiled code would not notice, call `stop` until it returns."""
    results: list[_T] = []
    failures: list[BaseException] = []
    # Not Thread.join, which takes a thread for ended once Ctrl-C has interrupted it (CPython 3.11).
    ended = threading.Event()

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=call, name="subset-sum-rival", daemon=True).start()
    try:
        while not ended.wait(_POLL_SECONDS):
            pass
    finally:
        while not ended.is_set():
            stop()
            ended.wait(_POLL_SECONDS)
    if failures:
        raise failures[0]
    return results[0]
