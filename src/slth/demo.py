"""The whole job on scikit-learn's digits: train, find, verify, run, picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from slth.artifact import load
from slth.attempt import Progress
from slth.certify.verify import Verification, verify
from slth.errors import OutputError
from slth.files import check_writable, write_atomically
from slth.learn.datasets import split_data
from slth.learn.perceptron import train_perceptron
from slth.network.load import TargetReference
from slth.pipeline import find_ticket
from slth.report.page import render
from slth.summary import TicketSummary, summarise

HIDDEN = (64, 32)
EPOCHS = 60
BASE_SET_SIZE = 24


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and found."""

    accuracy: float
    summary: TicketSummary
    verification: Verification
    folded_accuracy: float
    page: Path

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "accuracy": self.accuracy,
            "folded_accuracy": self.folded_accuracy,
            "ticket": self.summary.to_json(),
            "verification": self.verification.to_json(),
            "page": str(self.page),
        }


def make_folder(path: Path) -> Path:
    """Make the demo's folder, if it is not there.

    Raises
    ------
    OutputError
        If it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(path), f"{error.strerror}", "a folder that can be made", "--output DIR") from error
    check_writable(path / "digits.ticket")
    return path


def run_demo(
    folder: Path, seed: int, threads: int | None, say: Callable[[str], None], on_progress: Progress
) -> DemoResult:
    """Train, find, verify, run and picture, leaving every file in the folder.

    Parameters
    ----------
    folder : path
        An existing folder.
    seed : int
        Of the random network.
    threads : int, optional
        Default: all cores.
    say : callable
        Told each step in a line.
    on_progress : callable
        As in :func:`slth.pipeline.find_ticket`.
    """
    train, test = split_data("digits")
    trained = train_perceptron(
        train, test, HIDDEN, EPOCHS, on_progress=lambda done, n: on_progress("training", done, n)
    )
    say(f"trained 64-{HIDDEN[0]}-{HIDDEN[1]}-10 on digits: {trained.accuracy:.2f} % ({trained.seconds:.1f} s)")
    weights = folder / "digits.safetensors"
    write_atomically(weights, save(trained.network.state_dict()))
    target = TargetReference(path=weights).load()
    found = find_ticket(
        target, base_set_size=BASE_SET_SIZE, domain=(0, 1), seed=seed, threads=threads, on_progress=on_progress
    )
    path = folder / "digits.ticket"
    n_bytes = found.save(path)
    summary = summarise(found, n_bytes)
    say(
        f"found it in a random network of {summary.source_weights:,} weights, {summary.kept_weights:,} of them kept "
        f"({found.seconds:.1f} s): {path}, {n_bytes:,} bytes"
    )
    ticket = load(path)
    checked = verify(ticket, target, (0, 1), data=test)
    say(
        f"verified: {'holds' if checked.holds else 'DOES NOT HOLD'}; outputs over [0, 1] differ by at most "
        f"{checked.certified_error:.3g} (proved), {checked.observed_error:.3g} (found)"
    )
    folded = ticket.module("folded")
    accuracy = test.accuracy(folded, test.inputs.to(torch.float32))
    say(f"ran it: target {trained.accuracy:.2f} %, ticket {accuracy:.2f} % of {len(test.inputs)} test images")
    page = folder / "digits.html"
    write_atomically(page, render(ticket, title=path.name, file_bytes=n_bytes, verification=checked).encode())
    return DemoResult(trained.accuracy, summary, checked, accuracy, page)
