"""Where a contender runs: in this process, or in one of its own that can be stopped whatever it is doing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

from slth.bench.contenders import Contender, Question, Reply
from slth.errors import SlthError

START_SECONDS = 120.0
"""How long a process may take to load a contender's libraries (chosen)."""
GRACE_SECONDS = 5.0
"""How far beyond its limits a contender may go (chosen) before its process is ended."""
_SEARCHES = 3
"""Searches under the time limit that one problem may take: within the tolerance, of the same size, closest of all."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class OverrunError(Exception):
    """A contender did not answer in time and was stopped."""


class FailedError(Exception):
    """A contender raised an error or ended."""


class Runner(Protocol):
    """Asks a contender and takes the time."""

    def run(self, question: Question) -> tuple[Reply, float]:
        """The reply, and the seconds it took."""

    def close(self) -> None:
        """Let go of what it holds."""


@contextmanager
def runner(contender: Contender) -> Iterator[Runner]:
    """The runner that a contender asks for; it is gone afterwards."""
    made: Runner = Apart(contender) if contender.apart else Here(contender)
    try:
        yield made
    finally:
        made.close()


class Here:
    """In this process."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def run(self, question: Question) -> tuple[Reply, float]:
        """The reply, and the seconds it took."""
        try:
            return _timed(self.contender, question)
        except Exception as error:
            raise FailedError(_words(error)) from error

    def close(self) -> None:
        """Nothing to let go of."""


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, SlthError) else f"{type(error).__name__}: {error}"


def _timed(contender: Contender, question: Question) -> tuple[Reply, float]:
    start = time.perf_counter()
    reply = contender.answer(question)
    return reply, time.perf_counter() - start


class Apart:
    """In a process of its own, started at the first question and again after it had to be stopped."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.process: Any = None
        self.pipe: Any = None

    def run(self, question: Question) -> tuple[Reply, float]:
        """The reply, and the seconds it took in the other process.

        Raises
        ------
        OverrunError
            If it did not come in time; for who has a time limit of its own, this is far beyond it.
        FailedError
            If the contender raised an error, or its process died.
        """
        if self.process is None:
            self._start()
        self.pipe.send(question)
        patience = question.seconds + _SEARCHES * question.limit + GRACE_SECONDS
        kind, answer = self._receive(patience)
        if kind == "failed":
            raise FailedError(answer)
        reply, seconds = answer
        return reply, seconds

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.contender, end), daemon=True)
        before = dict(os.environ)
        os.environ.update(_ONE_THREAD)
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        end.close()
        self._receive(START_SECONDS)

    def _receive(self, patience: float) -> tuple[str, Any]:
        try:
            if self.pipe.poll(patience):
                message: tuple[str, Any] = self.pipe.recv()
                return message
        except (EOFError, OSError) as error:
            self.close()
            raise FailedError("its process ended") from error
        self.close()
        raise OverrunError

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _serve(contender: Contender, pipe: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal; this one is ended by the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send(("ready", None))
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        message: tuple[str, Any]
        try:
            message = ("answered", _timed(contender, question))
        except Exception as error:
            message = ("failed", _words(error))
        pipe.send(message)
