"""What a person calls the classes, and the numbers from 0 that stand for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import DataError

Label = int | str
MOST_CLASSES = 4096
SURELY_CLASSES = 20
"""Whole numbers of at most so many kinds are classes, however few samples there are (chosen)."""
LONGEST_LABEL = 200
SHOWN = 12
"""Labels that a message lists at most."""


def names_of(y: NDArray[Any], guessed: bool, where: str) -> tuple[Label, ...]:
    """The classes' names in the order of their numbers: sorted, and 0, 1, ... where labels are numbers without gaps.

    Parameters
    ----------
    y : labels
    guessed : bool
        Whether the labels' type alone says that they are classes.
    where : str

    Raises
    ------
    DataError
        If there is one class alone, or so many that labels must be values of a regression.
    """
    _check_whole(y, where)
    found = np.unique(y)
    if len(found) < 2:
        got = f"{y.size:,} labels that are all {shown(tuple(found.tolist()))}" if y.size else "no labels"
        raise DataError(where, got, "labels of at least two classes")
    several = len(found) > SURELY_CLASSES and 2 * len(found) > y.size
    if len(found) > MOST_CLASSES or (guessed and several):
        got = f"{len(found):,} different labels for {y.size:,} inputs"
        raise DataError(where, got, f"classes, at most {MOST_CLASSES:,}", "--set task=regression, for values")
    names = tuple(_plain(label) for label in found)
    if any(isinstance(name, str) and len(name) > LONGEST_LABEL for name in names):
        raise DataError(where, "a label of more than 200 characters", "shorter names of classes")
    return names


def class_numbers(y: NDArray[Any], names: tuple[Label, ...], where: str) -> NDArray[np.int64]:
    """Number of every label's class.

    Raises
    ------
    DataError
        For the first label that is none of the names.
    """
    _check_whole(y, where)
    number_of = {name: number for number, name in enumerate(names)}
    found, place = np.unique(y, return_inverse=True)
    numbers = np.array([number_of.get(_plain(label), -1) for label in found], dtype=np.int64)[place.reshape(-1)]
    if (numbers < 0).any():
        first = int(np.argmax(numbers < 0))
        got = f"the label {_plain(y[first])!r} at index {first}"
        raise DataError(where, got, f"one of the network's classes, {shown(names)}")
    return numbers


def from_one_hot(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Class numbers of rows (n, classes) with a single 1 among zeros.

    Raises
    ------
    DataError
        If a row is not one.
    """
    ones = np.asarray(y == 1)
    if y.dtype.kind == "U" or not (np.asarray(y == 0) | ones).all() or not (ones.sum(axis=1) == 1).all():
        got = f"labels of shape {y.shape} that are not one-hot rows"
        raise DataError(where, got, "one class an input, or one-hot rows", "--set task=regression, for values")
    numbers: NDArray[np.int64] = ones.argmax(axis=1).astype(np.int64)
    return numbers


def shown(names: tuple[Label, ...]) -> str:
    """The first of the names, for a message.

    Examples
    --------
    >>> shown((3, 7, 9))
    '3, 7, 9'
    """
    listed = ["".join(c if c.isprintable() else "\ufffd" for c in str(name)) for name in names[:SHOWN]]
    return ", ".join(listed) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _check_whole(y: NDArray[Any], where: str) -> None:
    if y.dtype.kind != "f":
        return
    wrong = np.flatnonzero(~np.isfinite(y) | (y != np.floor(y)) | (np.abs(y) > 2.0**53))
    if len(wrong):
        got = f"the label {float(y.reshape(-1)[wrong[0]]):g} at index {wrong[0]}"
        raise DataError(where, got, "whole class numbers", "--set task=regression, for values")


def _plain(label: Any) -> Label:
    return str(label) if isinstance(label, str) else int(label)
