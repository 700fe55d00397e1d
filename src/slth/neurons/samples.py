"""Samples that a neuron-subnetwork is fitted to: inputs in the unit ball, and labels as the network's outputs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.data import Data, has_parts, held_out, load_arrays, load_digits
from slth.errors import ArgumentError, DataError
from slth.neurons.classes import Label, class_numbers, from_one_hot, names_of
from slth.places import resolve

CLASSIFICATION, REGRESSION = "classification", "regression"
TASKS = (CLASSIFICATION, REGRESSION)


@dataclass(frozen=True)
class Samples:
    """Inputs and what the network is to answer.

    Attributes
    ----------
    inputs : (n, inputs) float64
    targets : (n, outputs) float64
        For classes +1 and -1, one class against the others; two classes share one output, whose sign tells.
    classes : (n,) int64 or None
        Numbers of the classes, from 0; None for regression.
    where : str
        Where they come from.
    labels : tuple of int or str, or None
        What the classes are called, in the order of their numbers; None where by these numbers.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    classes: NDArray[np.int64] | None = None
    where: str = "data"
    labels: tuple[Label, ...] | None = None

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return REGRESSION if self.classes is None else CLASSIFICATION

    @classmethod
    def build(
        cls,
        inputs: Any,
        labels: Any,
        task: str | None = None,
        n_outputs: int | None = None,
        where: str = "data",
        names: tuple[Label, ...] | None = None,
    ) -> Samples:
        """Check and convert inputs and labels.

        Parameters
        ----------
        inputs : (n, ...) or (n,) numbers
        labels : (n,) or (n, outputs) numbers, or (n,) strings
            Classes, called by whole numbers or strings, or as one-hot rows; or the values of a regression.
        task : str, optional
            By default classification for strings and whole numbers by type, regression for real ones.
        n_outputs : int, optional
            Outputs of the network, where it is there already.
        names : tuple of int or str, optional
            What its classes are called, where not by numbers from 0.

        Raises
        ------
        DataError
            If they do not fit together, or are not finite.
        """
        x, y = _inputs(inputs, where), _readable(np.asarray(labels), where)
        if task not in (None, *TASKS):
            raise ArgumentError("task", repr(task), " or ".join(TASKS))
        if y.dtype.kind not in "buifU":
            raise DataError(where, f"labels of type {y.dtype}", "whole or real numbers, or strings")
        if (task or (REGRESSION if y.dtype.kind == "f" else CLASSIFICATION)) == REGRESSION:
            return cls(x, _values(y, len(x), n_outputs, where), None, where)
        if y.ndim == 2 and y.shape[1] > 1:
            y, names = from_one_hot(y, where), names or tuple(range(y.shape[1]))
        if y.size != len(x):
            raise DataError(where, f"labels of shape {y.shape} for {len(x)} inputs", "one label an input")
        if names is None:
            names = names_of(y, task is None, where) if n_outputs is None else tuple(range(max(n_outputs, 2)))
        classes = class_numbers(y.reshape(-1), names, where)
        plain = names == tuple(range(len(names)))
        return cls(x, _one_against_all(classes, len(names)), classes, where, None if plain else names)

    @property
    def largest_norm(self) -> float:
        """Largest 2-norm of an input."""
        return float(np.sqrt((self.inputs**2).sum(axis=1).max()))

    @property
    def spread(self) -> float:
        """Root mean square of the targets about the mean of each output: what a constant answer would be off by."""
        return math.sqrt(float(((self.targets - self.targets.mean(axis=0)) ** 2).mean()))

    def digest(self) -> str:
        """SHA-256 of shape and bytes of the inputs, then of the targets, as little-endian float64."""
        sha = hashlib.sha256()
        for array in (self.inputs, self.targets):
            sha.update(f"{array.shape}".encode())
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.hexdigest()

    def take(self, which: NDArray[Any]) -> Samples:
        """Some of the samples, by a mask or by numbers."""
        classes = None if self.classes is None else self.classes[which]
        return Samples(self.inputs[which], self.targets[which], classes, self.where, self.labels)

    def accuracy(self, outputs: NDArray[np.float64]) -> float | None:
        """Percent of the classes that these outputs name; None for a regression.

        With one output its sign tells, which no positive constant changes (Malach et al. 2020, section 3.1).
        """
        if self.classes is None:
            return None
        named = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(np.int64)
        return 100.0 * float((named == self.classes).mean())


def unit_ball(inputs: NDArray[np.float64], scale: float, constant: bool) -> NDArray[np.float64]:
    """x / scale; with a constant input (x / scale, 1) / √2, so that norms stay at most 1."""
    x = inputs / scale
    if not constant:
        return x
    return np.concatenate([x, np.ones((len(x), 1))], axis=1) / math.sqrt(2.0)


def read_samples(
    reference: str, task: str | None = None, n_outputs: int | None = None, names: tuple[Label, ...] | None = None
) -> tuple[Samples, Samples | None]:
    """Training and test part of ``"digits"``, a folder of IDX files, or an ``.npz`` with x and y.

    Of digits and of ``.npz`` files without a test part every fifth input is a test input, unless there are fewer than
    five. The other arguments are those of :meth:`Samples.build`.

    Raises
    ------
    DataError
        If they cannot be read, or have no labels.
    """
    reference = resolve(reference)
    path = Path(reference)
    if reference != "digits" and has_parts(path):
        train = _build(*load_arrays(path, "train"), task, n_outputs, reference, names)
        test = load_arrays(path, "test")
        return train, _build(*test, train.task, train.targets.shape[1], reference, names or train.labels)
    x, y = load_digits() if reference == "digits" else load_arrays(path)
    whole = _build(x, y, task, n_outputs, reference, names)
    test_part = held_out(len(whole.inputs))
    return whole.take(~test_part), whole.take(test_part) if test_part.any() else None


def _build(
    x: Any, y: Any, task: str | None, n_outputs: int | None, where: str, names: tuple[Label, ...] | None
) -> Samples:
    if y is None:
        raise DataError(where, "inputs without labels", "an array y of labels")
    return Samples.build(x, y, task, n_outputs, where, names)


def _inputs(inputs: Any, where: str) -> NDArray[np.float64]:
    x = np.asarray(inputs)
    if x.ndim == 1 and x.dtype.kind in "buif":
        x = x[:, None]
    result: NDArray[np.float64] = Data.build(x, None, where).inputs.flatten(1).numpy()
    if result.shape[1] == 0:
        raise DataError(where, f"inputs of shape {x.shape}", "at least one number an input")
    return result


def _readable(y: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels as they are, but strings of bytes as text."""
    try:
        return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    except UnicodeDecodeError as error:
        raise DataError(where, f"labels that are not UTF-8 ({error.reason})", "text or numbers") from error


def _values(y: NDArray[Any], n: int, n_outputs: int | None, where: str) -> NDArray[np.float64]:
    if y.dtype.kind == "U":
        raise DataError(where, f"labels such as {str(y.flat[0])!r}" if y.size else "no labels", "numbers to regress on")
    values = y.astype(np.float64).reshape(len(y), -1) if y.ndim in (1, 2) else np.empty((0, 0))
    if values.shape[0] != n or values.shape[1] == 0 or n_outputs not in (None, values.shape[1]):
        need = "one row an input" if n_outputs is None else f"one row of {n_outputs} an input"
        raise DataError(where, f"labels of shape {y.shape} for {n} inputs", need)
    if not np.isfinite(values).all():
        raise DataError(where, "labels that are not finite", "finite numbers")
    return values


def _one_against_all(classes: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    if n_classes == 2:
        return np.where(classes == 1, 1.0, -1.0)[:, None]
    return np.where(classes[:, None] == np.arange(n_classes), 1.0, -1.0)
