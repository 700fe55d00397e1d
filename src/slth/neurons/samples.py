"""Samples that a neuron-subnetwork is fitted to: inputs in the unit ball, and labels as the network's outputs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.data import Data, held_out, load_arrays, load_digits
from slth.errors import ArgumentError, DataError

CLASSIFICATION, REGRESSION = "classification", "regression"
TASKS = (CLASSIFICATION, REGRESSION)
MOST_CLASSES = 4096


@dataclass(frozen=True)
class Samples:
    """Inputs and what the network is to answer.

    Attributes
    ----------
    inputs : (n, inputs) float64
    targets : (n, outputs) float64
        For classes +1 and -1, one class against the others; two classes share one output, whose sign tells.
    classes : (n,) int64 or None
        None for regression.
    where : str
        Where they come from.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    classes: NDArray[np.int64] | None = None
    where: str = "data"

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return REGRESSION if self.classes is None else CLASSIFICATION

    @classmethod
    def build(
        cls, inputs: Any, labels: Any, task: str | None = None, n_outputs: int | None = None, where: str = "data"
    ) -> Samples:
        """Check and convert inputs and labels.

        Parameters
        ----------
        inputs : (n, ...) numbers
        labels : (n,) or (n, outputs) numbers
            Class numbers from 0, -1 and 1, one-hot rows, or the values of a regression.
        task : str, optional
            By default classification for whole numbers by type, regression for real ones.
        n_outputs : int, optional
            Outputs of the network, where it is there already.

        Raises
        ------
        DataError
            If they do not fit together, or are not finite.
        """
        x = Data.build(inputs, None, where).inputs.flatten(1).numpy()
        y = np.asarray(labels)
        if y.dtype.kind not in "buif":
            raise DataError(where, f"labels of type {y.dtype}", "whole or real numbers")
        if task not in (None, *TASKS):
            raise ArgumentError("task", repr(task), " or ".join(TASKS))
        if (task or (REGRESSION if y.dtype.kind == "f" else CLASSIFICATION)) == REGRESSION:
            return cls(x, _values(y, len(x), n_outputs, where), None, where)
        if y.ndim == 1 and y.size and set(np.unique(y).tolist()) == {-1, 1}:
            y = (y > 0).astype(np.int64)
        numbers = Data.build(inputs, y, where).labels
        assert numbers is not None
        classes = numbers.numpy()
        return cls(x, _one_against_all(classes, n_outputs, where), classes, where)

    @property
    def largest_norm(self) -> float:
        """Largest 2-norm of an input."""
        return float(np.sqrt((self.inputs**2).sum(axis=1).max()))

    def digest(self) -> str:
        """SHA-256 of shape and bytes of the inputs, then of the targets, as little-endian float64."""
        sha = hashlib.sha256()
        for array in (self.inputs, self.targets):
            sha.update(f"{array.shape}".encode())
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.hexdigest()

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
    reference: str, task: str | None = None, n_outputs: int | None = None
) -> tuple[Samples, Samples | None]:
    """Training and test part of ``"digits"``, a folder of IDX files, or an ``.npz`` with x and y.

    Of digits and ``.npz`` files every fifth input is a test input, unless there are fewer than five. Whole-number
    labels, by type, are classes.

    Raises
    ------
    DataError
        If they cannot be read, or have no labels.
    """
    path = Path(reference)
    if reference != "digits" and path.is_dir():
        train, test = (_build(*load_arrays(path, part), task, n_outputs, reference) for part in ("train", "test"))
        if train.targets.shape[1] != test.targets.shape[1]:
            test = _build(*load_arrays(path, "test"), task, train.targets.shape[1], reference)
        return train, test
    x, y = load_digits() if reference == "digits" else load_arrays(path)
    whole = _build(x, y, task, n_outputs, reference)
    test_part = held_out(len(whole.inputs))
    return _take(whole, ~test_part), _take(whole, test_part) if test_part.any() else None


def _build(x: Any, y: Any, task: str | None, n_outputs: int | None, where: str) -> Samples:
    if y is None:
        raise DataError(where, "inputs without labels", "an array y of labels")
    return Samples.build(x, y, task, n_outputs, where)


def _take(samples: Samples, which: NDArray[np.bool_]) -> Samples:
    classes = None if samples.classes is None else samples.classes[which]
    return Samples(samples.inputs[which], samples.targets[which], classes, samples.where)


def _values(y: NDArray[Any], n: int, n_outputs: int | None, where: str) -> NDArray[np.float64]:
    values = y.astype(np.float64).reshape(len(y), -1) if y.ndim in (1, 2) else np.empty((0, 0))
    if values.shape[0] != n or values.shape[1] == 0 or n_outputs not in (None, values.shape[1]):
        need = "one row an input" if n_outputs is None else f"one row of {n_outputs} an input"
        raise DataError(where, f"labels of shape {y.shape} for {n} inputs", need)
    if not np.isfinite(values).all():
        raise DataError(where, "labels that are not finite", "finite numbers")
    return values


def _one_against_all(classes: NDArray[np.int64], n_outputs: int | None, where: str) -> NDArray[np.float64]:
    n_classes = int(classes.max()) + 1
    if n_classes > MOST_CLASSES:
        got = f"the class number {n_classes - 1}"
        raise DataError(where, got, f"class numbers below {MOST_CLASSES}", "labels as real numbers, for a regression")
    outputs = n_outputs or (1 if n_classes <= 2 else n_classes)
    if n_classes > max(outputs, 2):
        got = f"the class number {n_classes - 1} for a network of {outputs} outputs"
        raise DataError(where, got, "the classes that it was fitted to")
    if outputs == 1:
        return np.where(classes == 1, 1.0, -1.0)[:, None]
    return np.where(classes[:, None] == np.arange(outputs), 1.0, -1.0)
