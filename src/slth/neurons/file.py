"""The file of a neuron ticket, a safetensors container; ``docs/format.md`` describes it field by field."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.activations import parse
from slth.container import KEY, Format, require, sha256_text
from slth.neurons.law import FeatureLaw
from slth.neurons.samples import CLASSIFICATION, TASKS
from slth.neurons.source import NeuronSource
from slth.neurons.ticket import CONSTRUCTION, FUNCTION, Measured, NeuronTicket
from slth.source.philox import GENERATOR

_LARGEST_HEADER = 1 << 20
"""Of a container that is looked at to see which kind of ticket it is; a neuron ticket's has about 2,000 bytes."""

_COUNTS = ("samples", "outside")
_PERCENTS = ("accuracy", "average_accuracy")


def to_bytes(ticket: NeuronTicket) -> bytes:
    """The file's content: the same ticket gives the same bytes."""
    return NEURON_TICKETS.to_bytes(ticket)


def save(ticket: NeuronTicket, path: Path) -> int:
    """Write a ticket atomically; returns the file's size in bytes.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing is left behind.
    """
    return NEURON_TICKETS.save(ticket, Path(path))


def load_neurons(path: str | Path) -> NeuronTicket:
    """Read a neuron ticket that may come from anybody; no code in it can run.

    Raises
    ------
    TicketError
        If the file is missing, truncated, altered, of an unknown version, or its fields do not fit together.
    """
    return NEURON_TICKETS.load(path)


def from_bytes(content: bytes) -> NeuronTicket:
    """The ticket in a file's content, every field checked.

    Raises
    ------
    TicketError
        As :func:`load_neurons`.
    """
    return NEURON_TICKETS.from_bytes(content)


def is_neurons(path: str | Path) -> bool:
    """Whether a file says that it is a neuron ticket; a damaged one may not, and is refused when it is loaded."""
    try:
        with Path(path).open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > _LARGEST_HEADER:
                return False
            header = json.loads(json.loads(stream.read(size))["__metadata__"][KEY])
            return bool(header["construction"] == CONSTRUCTION)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _tensors(ticket: NeuronTicket) -> dict[str, NDArray[Any]]:
    return {"mask": np.packbits(ticket.mask, axis=1), "largest": np.ascontiguousarray(ticket.largest, dtype=np.float64)}


def _fields(ticket: NeuronTicket) -> dict[str, Any]:
    source = asdict(ticket.source)
    return {
        "generator_version": ticket.generator_version,
        "construction": CONSTRUCTION,
        "source": {**source, "law": ticket.source.law.text},
        "activation": ticket.activation,
        "tau": ticket.tau,
        "ridge": ticket.ridge,
        "delta": ticket.delta,
        "task": ticket.task,
        "input_scale": ticket.input_scale,
        "survivors_digest": ticket.survivors_digest,
        "train": None if ticket.train is None else asdict(ticket.train),
        "test": None if ticket.test is None else asdict(ticket.test),
    }


def _ticket(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> NeuronTicket:
    require(header["construction"] == CONSTRUCTION, "construction", repr(header["construction"]), CONSTRUCTION)
    entry = dict(header["source"])
    require(entry.get("generator") == GENERATOR, "generator", repr(entry.get("generator")), GENERATOR)
    source = NeuronSource(**{**entry, "law": FeatureLaw.parse(entry["law"])})
    parse(header["activation"])
    tau, delta, scale, task = (header[key] for key in ("tau", "delta", "input_scale", "task"))
    require(_is_float(tau) and 0 < tau <= 0.5, "tau", repr(tau), "a number above 0 and at most 0.5")
    require(_is_float(delta) and 0 < delta < 1, "delta", repr(delta), "a number between 0 and 1")
    require(_is_float(scale) and 0 < scale < math.inf, "input_scale", repr(scale), "a number above 0")
    require(task in (*TASKS, FUNCTION), "task", repr(task), ", ".join((*TASKS, FUNCTION)))
    ridge, fitted = header["ridge"], task != FUNCTION
    fits = (_is_float(ridge) and 0 <= ridge < math.inf) if fitted else ridge is None
    require(fits, "ridge", repr(ridge), "a number from 0, or null where coefficients are a function")
    train, test = (_measured(name, header[name], task) for name in ("train", "test"))
    require(fitted == (train is not None), "train", repr(header["train"]), "what was measured on the samples")
    return NeuronTicket(
        source=source,
        activation=header["activation"],
        tau=tau,
        ridge=ridge,
        delta=delta,
        task=task,
        input_scale=scale,
        mask=_mask(source, tensors["mask"]),
        largest=_largest(source, tensors["largest"]),
        survivors_digest=sha256_text(header["survivors_digest"]),
        train=train,
        test=test if fitted else None,
        generator_version=str(header["generator_version"]),
    )


def _mask(source: NeuronSource, packed: NDArray[Any]) -> NDArray[np.bool_]:
    expected = (source.outputs, -(-source.width // 8))
    fits = packed.dtype == np.uint8 and packed.shape == expected
    require(fits, "mask", f"{packed.dtype} {packed.shape}", f"uint8 {expected}")
    return np.unpackbits(packed, axis=1, count=source.width).astype(np.bool_)


def _largest(source: NeuronSource, largest: NDArray[Any]) -> NDArray[np.float64]:
    fits = largest.dtype == np.float64 and largest.shape == (source.outputs,)
    require(fits, "largest", f"{largest.dtype} {largest.shape}", f"float64 ({source.outputs},)")
    sound = bool((np.isfinite(largest) & (largest >= 0) & ~np.signbit(largest)).all())
    require(sound, "largest", "negative numbers, or none", "numbers from 0")
    return largest


def _measured(name: str, entry: dict[str, Any] | None, task: str) -> Measured | None:
    if entry is None:
        return None
    for field in dataclasses.fields(Measured):
        value, where = entry[field.name], f"{name}, {field.name}"
        if field.name == "digest":
            sha256_text(value)
        elif field.name in _COUNTS:
            require(type(value) is int and 0 <= value < 2**63, where, repr(value), "a whole number from 0")
        elif field.name in _PERCENTS and task != CLASSIFICATION:
            require(value is None, where, repr(value), "null")
        else:
            largest = 100.0 if field.name in _PERCENTS else math.inf
            require(
                _is_float(value) and 0 <= value <= largest and value < math.inf, where, repr(value), "a number from 0"
            )
    return Measured(**entry)


def _is_float(value: Any) -> bool:
    return type(value) is float


NEURON_TICKETS = Format("slth-neurons", 1, _fields, _tensors, _ticket)
