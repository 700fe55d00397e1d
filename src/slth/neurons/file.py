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
from slth.activations.own import Description, recall, storable
from slth.container import KEY, Format, require, sha256_text
from slth.neurons.classes import LONGEST_LABEL, Label
from slth.neurons.law import FeatureLaw
from slth.neurons.samples import CLASSIFICATION, TASKS
from slth.neurons.source import NeuronSource
from slth.neurons.ticket import AIM_UNIT, CONSTRUCTION, FUNCTION, Measured, NeuronTicket, sampled_pairs
from slth.source.philox import GENERATOR

_LARGEST_HEADER = 1 << 20
"""Of a container that is looked at to see which kind of ticket it is; a neuron ticket's has about 2,000 bytes."""

_COUNTS = ("samples", "outside", "measured")
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
    tensors: dict[str, NDArray[Any]] = {"mask": np.packbits(ticket.mask, axis=1)}
    tensors["largest"] = np.ascontiguousarray(ticket.largest, dtype=np.float64)
    return tensors if ticket.aims is None else {**tensors, "aims": np.ascontiguousarray(ticket.aims)}


def _fields(ticket: NeuronTicket) -> dict[str, Any]:
    source = asdict(ticket.source)
    optional: dict[str, Any] = {
        "own_activations": _own(ticket),
        "labels": None if ticket.labels is None else list(ticket.labels),
        "block_samples": ticket.block_samples,
    }
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
        "train": _measured_json(ticket.train),
        "test": _measured_json(ticket.test),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _measured_json(measured: Measured | None) -> dict[str, Any] | None:
    """The fields, without those that say nothing: all samples measured, no spread."""
    if measured is None:
        return None
    fields = asdict(measured)
    unsaid = {"measured": measured.samples, "spread": None}
    return {key: value for key, value in fields.items() if key not in unsaid or value != unsaid[key]}


def _ticket(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> NeuronTicket:
    require(header["construction"] == CONSTRUCTION, "construction", repr(header["construction"]), CONSTRUCTION)
    entry = dict(header["source"])
    require(entry.get("generator") == GENERATOR, "generator", repr(entry.get("generator")), GENERATOR)
    source = NeuronSource(**{**entry, "law": FeatureLaw.parse(entry["law"])})
    own = _read_own(header)
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
        labels=_labels(header.get("labels"), task, source.outputs),
        block_samples=_block_samples(header.get("block_samples"), train),
        aims=_aims(source, tau, tensors.get("aims")),
        own_activation=own,
    )


def _own(ticket: NeuronTicket) -> list[dict[str, Any]] | None:
    """What is said of a user's own activation, as it was read, or else as registered."""
    if ticket.sigma.proved:
        return None
    return [(ticket.own_activation or storable(ticket.sigma)).to_json()]


def _read_own(header: dict[str, Any]) -> Description | None:
    if "own_activations" not in header:
        return None
    (stored,) = (Description.from_json(each) for each in header["own_activations"])
    recall(stored)
    return stored


def _labels(names: Any, task: str, outputs: int) -> tuple[Label, ...] | None:
    if names is None:
        return None
    count = max(2, outputs)
    fits = task == CLASSIFICATION and isinstance(names, list) and len(names) == count == len(set(map(repr, names)))
    need = f"{count} different whole numbers or strings, one a class"
    require(fits, "labels", f"{len(names) if isinstance(names, list) else repr(names)}", need)
    for name in names:
        short = type(name) is str and len(name) <= LONGEST_LABEL
        require(short or (type(name) is int and abs(name) < 2**64), "labels", repr(name)[:80], need)
    require(names != list(range(count)), "labels", "numbers from 0", "no labels, which says the same")
    return tuple(names)


def _block_samples(value: Any, train: Measured | None) -> int | None:
    if value is None:
        return None
    fits = type(value) is int and train is not None and 1 <= value < train.samples
    require(fits, "block_samples", repr(value), "a whole number from 1, fewer than there are samples")
    return int(value)


def _aims(source: NeuronSource, tau: float, stored: NDArray[Any] | None) -> NDArray[np.int16] | None:
    if stored is None:
        return None
    expected = sampled_pairs(source)[0].shape
    fits = stored.dtype == np.int16 and stored.shape == expected
    require(fits, "aims", f"{stored.dtype} {stored.shape}", f"int16 {expected}")
    largest = math.ceil((1 - tau) / AIM_UNIT)
    inside = bool((np.abs(stored.astype(np.int64)) <= largest).all())
    require(inside, "aims", "numbers beyond 1 - tau", f"at most {largest} in size")
    return stored


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
    entry = {"measured": entry["samples"], "spread": None, **entry}
    for field in dataclasses.fields(Measured):
        value, where = entry[field.name], f"{name}, {field.name}"
        if field.name == "digest":
            sha256_text(value)
        elif field.name in _COUNTS:
            require(type(value) is int and 0 <= value < 2**63, where, repr(value), "a whole number from 0")
        elif field.name == "spread" and value is None:
            continue
        elif field.name in _PERCENTS and task != CLASSIFICATION:
            require(value is None, where, repr(value), "null")
        else:
            largest = 100.0 if field.name in _PERCENTS else math.inf
            require(
                _is_float(value) and 0 <= value <= largest and value < math.inf, where, repr(value), "a number from 0"
            )
    need = f"at most the {entry['samples']} samples"
    require(entry["measured"] <= entry["samples"], f"{name}, measured", repr(entry["measured"]), need)
    return Measured(**entry)


def _is_float(value: Any) -> bool:
    return type(value) is float


NEURON_TICKETS = Format("slth-neurons", 1, _fields, _tensors, _ticket)
