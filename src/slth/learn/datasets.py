"""Labelled data with a training and a test part, from wherever a person has them."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.data import Data, has_parts, held_out, load_data, load_digits
from slth.errors import DataError, SlthError
from slth.files import reason
from slth.imports import import_object
from slth.places import resolve

NAMES = ("x_train", "y_train", "x_test", "y_test")
_NEED = "x_train, y_train, x_test and y_test, or x and y of which every fifth is a test input"


@dataclass(frozen=True)
class Dataset:
    """Inputs (n, ...), float64, and labels (n,), int64, of a training and of a test part."""

    train: Data
    test: Data

    @property
    def where(self) -> str:
        """What the data are called in messages."""
        return self.train.where

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def n_classes(self) -> int:
        """One more than the largest label of the training part."""
        assert self.train.labels is not None
        return int(self.train.labels.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all inputs in float32, their shapes, and all labels."""
        sha = hashlib.sha256()
        for part in (self.train, self.test):
            assert part.labels is not None
            sha.update(str(tuple(part.inputs.shape)).encode())
            for batch in part.inputs.split(4096):
                sha.update(batch.to(torch.float32).contiguous().numpy().tobytes())
            sha.update(part.labels.numpy().tobytes())
        return sha.hexdigest()

    @classmethod
    def build(cls, x_train: Any, y_train: Any, x_test: Any, y_test: Any, where: str = "data") -> Dataset:
        """Check and convert arrays or tensors.

        Raises
        ------
        DataError
            As :meth:`slth.data.Data.build`, or if the two parts do not fit together.
        """
        return cls.of(Data.build(x_train, y_train, where), Data.build(x_test, y_test, f"{where}, test part"))

    @classmethod
    def of(cls, train: Data, test: Data) -> Dataset:
        """Two parts that fit together.

        Raises
        ------
        DataError
            If one has no labels, their inputs differ in shape or are beyond what float32 holds, the training part has
            only one class or labels above the number of its inputs, or the test part a class that the other lacks.
        """
        for part in (train, test):
            if part.labels is None:
                raise DataError(part.where, "inputs without labels", "an array y of labels")
        assert train.labels is not None and test.labels is not None
        if train.inputs.shape[1:] != test.inputs.shape[1:]:
            got = f"test inputs of shape {tuple(test.inputs.shape[1:])}"
            raise DataError(train.where, got, f"that of the training inputs, {tuple(train.inputs.shape[1:])}")
        _check_classes(train.labels, test.labels, train.where)
        for part in (train, test):
            low, high = part.inputs.aminmax()
            if max(-float(low), float(high)) > torch.finfo(torch.float32).max:
                raise DataError(part.where, "inputs that float32 cannot hold", "smaller numbers", "divide them")
        return cls(train, test)


def _check_classes(train: torch.Tensor, test: torch.Tensor, where: str) -> None:
    known, largest = train.unique(), int(train.max())
    if len(known) == 1:
        raise DataError(where, f"only the label {largest} in the training part", "at least two classes")
    # An output for each number up to the largest would be made, most of them for nothing.
    if largest > len(train):
        got = f"the label {largest:,} among {len(known):,} classes of {len(train):,} training inputs"
        raise DataError(where, got, "class numbers from 0 up", "numpy.unique(y, return_inverse=True) numbers them")
    unseen = (~torch.isin(test, known)).nonzero()
    if len(unseen):
        got = f"the label {int(test[unseen[0]])} at index {int(unseen[0])} of the test part"
        raise DataError(where, got, f"labels that the training part has, 0 to {largest}")


def load_dataset(reference: str) -> Dataset:
    """Data by name.

    Parameters
    ----------
    reference : str
        ``digits`` (scikit-learn's), ``mnist`` or ``fashion-mnist`` where :mod:`slth.places` looks for them, a folder
        of IDX files under MNIST's names, a folder of ``x_train.npy``,
        ``y_train.npy``, ``x_test.npy`` and ``y_test.npy`` (or ``x.npy`` and ``y.npy``), an ``.npz`` with such
        arrays, or ``package.module:function``, which returns them: four, two pairs, one pair, or a dict by those names.

    Raises
    ------
    DataError
        If the data cannot be read, hold NaN, or have labels that do not fit.
    ArgumentError
        If there is no such function.
    """
    if _is_function(reference):
        return _from_function(reference)
    reference = resolve(reference)
    path = Path(reference)
    if reference != "digits" and _is_npy_folder(path):
        return from_arrays(_npy_folder(path), str(path))
    return Dataset.of(*split_data(reference))


def load_test_part(reference: str) -> Data:
    """The test part of data by name; all of an ``.npz`` of x and y, which may have no labels.

    Raises
    ------
    DataError, ArgumentError
        As :func:`load_dataset`.
    """
    reference = resolve(reference)
    path = Path(reference)
    if not path.is_file() and (reference == "digits" or _is_function(reference) or _is_npy_folder(path)):
        return load_dataset(reference).test
    return load_data(path)


def split_data(reference: str) -> tuple[Data, Data]:
    """Training and test part of ``"digits"`` (scikit-learn's), a folder of IDX files, or an ``.npz``.

    Digits and ``.npz`` files of x and y hold no split of their own: every fifth input is a test input.

    Raises
    ------
    DataError
        If the data cannot be read or have no labels.
    """
    if reference == "digits":
        return _hold_out(Data.build(*load_digits(), reference))
    reference = resolve(reference)
    path = Path(reference)
    if has_parts(path):
        return load_data(path, "train"), load_data(path, "test")
    return _hold_out(load_data(path))


def from_arrays(arrays: Mapping[str, Any], where: str) -> Dataset:
    """A data set from arrays by name: ``x_train``, ``y_train``, ``x_test`` and ``y_test``, or ``x`` and ``y``.

    Raises
    ------
    DataError
        If some are missing or do not fit.
    """
    if set(arrays) >= set(NAMES):
        x_train, y_train, x_test, y_test = (arrays[name] for name in NAMES)
        return Dataset.build(x_train, y_train, x_test, y_test, where)
    if {"x", "y"} <= set(arrays):
        return Dataset.of(*_hold_out(Data.build(arrays["x"], arrays["y"], where)))
    raise DataError(where, f"arrays {', '.join(sorted(map(str, arrays))) or 'of no name'}", _NEED)


def _is_function(reference: str) -> bool:
    module, colon, name = reference.rpartition(":")
    named = all(part.isidentifier() for part in name.split("."))
    return bool(colon and module) and named and not Path(reference).exists()


def _from_function(reference: str) -> Dataset:
    need = "package.module:function, which returns arrays"
    found = import_object(reference, "--data", need)
    try:
        # A function may print; standard output belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            returned = found() if callable(found) else found
    except SlthError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(reference, f"{type(error).__name__}: {error}", need) from error
    if isinstance(returned, Dataset):
        return returned
    if isinstance(returned, Mapping):
        return from_arrays(returned, reference)
    flat = _flat(returned, top=True)
    if len(flat) == 4:
        return from_arrays(dict(zip(NAMES, flat, strict=True)), reference)
    if len(flat) == 2:
        return from_arrays({"x": flat[0], "y": flat[1]}, reference)
    raise DataError(reference, f"{len(flat)} arrays" if flat else f"an object of type {type(returned).__name__}", _NEED)


def _flat(value: Any, top: bool = False) -> list[Any]:
    """Arrays in tuples and lists of them, in order; beside arrays a list of numbers is one as well."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return []
    parts = [_flat(part) for part in value]
    if not any(parts):
        # At the top these are the arrays; below it, what one of them has.
        return [*value] if top else []
    return [
        array
        for part, own in zip(parts, value, strict=True)
        for array in (part or ([own] if isinstance(own, Sequence) else []))
    ]


def _is_npy_folder(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.npy"))


def _npy_folder(path: Path) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for file in sorted(path.glob("*.npy")):
        if file.stem not in (*NAMES, "x", "y"):
            continue
        try:
            arrays[file.stem] = np.load(file, allow_pickle=False)
        except OSError as error:
            raise DataError(str(file), f"{reason(error)!r}", "a file that can be read") from error
        except (ValueError, EOFError, MemoryError, SyntaxError, TypeError) as error:
            objects = "allow_pickle" in str(error) and file.stat().st_size > 0
            got = (
                "Python objects, which may hold code, or no array at all" if objects else "a truncated or damaged file"
            )
            raise DataError(
                str(file), f"{got}; nothing of it was loaded", "an array as numpy.save writes it"
            ) from error
    return arrays


def _hold_out(data: Data) -> tuple[Data, Data]:
    if data.labels is None:
        raise DataError(data.where, "inputs without labels", "an array y of labels")
    test = torch.from_numpy(held_out(len(data.inputs)))
    if not bool(test.any()):
        raise DataError(data.where, f"{len(test)} inputs", "at least 5, as every fifth is a test input")
    return (
        Data(data.inputs[~test], data.labels[~test], data.where),
        Data(data.inputs[test], data.labels[test], data.where),
    )
