"""Checkpoints of training runs: what a run needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slth.errors import CheckpointError, MismatchError
from slth.files import reason, write_atomically

FORMAT = "slth checkpoint"
VERSION = 1
EVERY_SECONDS = 10.0
"""How much work a killed run loses at most, besides the step under way (chosen)."""

_NEED = "a whole checkpoint of slth learn"
_REMEDY = "the run without --resume, which starts anew"


@dataclass(frozen=True)
class Saved:
    """The state of a run after so many steps.

    Attributes
    ----------
    step : int
        Steps done in all.
    tensors : mapping of str to Tensor
        Weights, masks, the optimiser's state, the states of random generators: whatever has bits.
    facts : mapping
        What JSON holds besides, such as the results of finished rounds.
    seconds : float
        Work up to here, over all parts of an interrupted run.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoints:
    """The one file in which a run keeps its latest state.

    Parameters
    ----------
    path : path or None
        The file; None keeps nothing.
    settings : mapping
        All that decides the run's result, of JSON's kinds: hyper-parameters, seed, device, digests of data and model.
        A checkpoint of a run with others is refused.
    every_seconds : float
        Time between two checkpoints.
    every_steps : int, optional
        Write after every so many steps instead.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Any],
        every_seconds: float = EVERY_SECONDS,
        every_steps: int | None = None,
    ) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self.every_seconds, self.every_steps = every_seconds, every_steps
        self._begin = self._last = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Work so far, that of the parts before an interruption included."""
        return self._before + time.monotonic() - self._begin

    def load(self) -> Saved | None:
        """The state kept last; None if there is no file yet.

        Raises
        ------
        CheckpointError
            If the file is truncated, altered or no checkpoint.
        MismatchError
            If it is of a run with other settings; the first one that differs is named.
        """
        if self.path is None or not self.path.exists():
            return None
        header, tensors = read_checkpoint(self.path)
        self._compare(header["settings"])
        self._before = float(header["seconds"])
        return Saved(int(header["step"]), tensors, header["facts"], self._before)

    def offer(self, step: int, state: Callable[[], Saved]) -> bool:
        """Keep the state if it is time to; ``state`` is only called then. Says whether it was."""
        if self.path is None:
            return False
        if self.every_steps is not None:
            due = step % self.every_steps == 0
        else:
            due = time.monotonic() - self._last >= self.every_seconds
        if due:
            self.save(state())
        return due

    def save(self, state: Saved) -> None:
        """Keep a state now.

        Raises
        ------
        OutputError
            If the disk is full or the folder refuses; the checkpoint before is then untouched.
        """
        if self.path is None:
            return
        header = {"settings": self.settings, "step": state.step, "seconds": self.seconds, "facts": dict(state.facts)}
        write_atomically(self.path, checkpoint_bytes(header, state.tensors))
        self._last = time.monotonic()

    def remove(self) -> None:
        """Delete the file once the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _compare(self, other: Mapping[str, Any]) -> None:
        for name in [*self.settings, *(name for name in other if name not in self.settings)]:
            mine, kept = self.settings.get(name), other.get(name)
            if mine != kept:
                got = f"a checkpoint of another run: {name} was {_short(kept)}, and is {_short(mine)} now"
                remedy = f"{name} {_short(kept)} again, or {_REMEDY}"
                raise MismatchError(str(self.path), got, "the same settings and data", remedy)


def checkpoint_bytes(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A safetensors file: the tensors, and one JSON object with their digest in its metadata."""
    from safetensors.torch import save

    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    content = hashlib.sha256(save(whole)).hexdigest()
    text = json.dumps({"format": FORMAT, "version": VERSION, "content": content, **header})
    return bytes(save(whole, {"slth": text}))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a checkpoint, every bit as it was written.

    Raises
    ------
    CheckpointError
        If the file is truncated, altered or no checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(str(path), f"{reason(error)!r}", "a file that can be read") from error
    try:
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["slth"])
        tensors: dict[str, torch.Tensor] = load(raw)
        if header["format"] != FORMAT or header["version"] != VERSION:
            got = f"{header['format']!r}, version {header['version']}"
            raise CheckpointError(str(path), got, f"{FORMAT!r}, version {VERSION}", _REMEDY)
        whole = hashlib.sha256(save(tensors)).hexdigest() == header["content"]
        kinds = (
            isinstance(header["step"], int),
            isinstance(header["settings"], dict),
            isinstance(header["facts"], dict),
        )
        float(header["seconds"])
    except CheckpointError:
        raise
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        got = "an empty file" if not raw else "a truncated or damaged file"
        raise CheckpointError(str(path), got, _NEED, _REMEDY) from error
    if not whole or not all(kinds):
        raise CheckpointError(str(path), "a damaged file", _NEED, _REMEDY)
    return header, tensors


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's global generators that a module may draw from: ``rng/cpu``, and the device's own."""
    states = {"rng/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["rng/cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put back what :func:`rng_state` gave."""
    torch.set_rng_state(states["rng/cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["rng/cuda"], device)


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, without it: the parts of a state by name."""
    return {name.removeprefix(f"{prefix}/"): one for name, one in tensors.items() if name.startswith(f"{prefix}/")}


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, named below a prefix."""
    return {f"{prefix}/{name}": one for name, one in tensors.items()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
