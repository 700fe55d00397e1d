"""Data sets from files: IDX folders (MNIST's names) and ``.npz``."""

from __future__ import annotations

import gzip
import math
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.errors import DataError
from slth.files import reason

PARTS = {"test": "t10k", "train": "train"}
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BATCH = 1000
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, RuntimeError, MemoryError),
)
"""What reading a damaged or malicious file may raise."""


@dataclass(frozen=True)
class Data:
    """Inputs (n, ...), float64, and their labels (n,), if there are any; and where they come from."""

    inputs: torch.Tensor
    labels: torch.Tensor | None
    where: str = "data"

    @classmethod
    def build(cls, inputs: Any, labels: Any = None, where: str = "data") -> Data:
        """Check and convert inputs and labels.

        Raises
        ------
        DataError
            If there are no inputs, some are not finite, or the labels do not fit.
        """
        x = _numbers(inputs, f"{where}, inputs")
        y = None if labels is None else _numbers(labels, f"{where}, labels")
        if x.dim() < 2 or len(x) == 0:
            raise DataError(
                where, f"inputs of shape {tuple(x.shape)}", "at least one input, the first axis counting them"
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError(where, "inputs that are not finite", "finite numbers")
        if y is not None:
            if y.dim() == 2 and y.shape[1] > 1:
                y = _classes_of_rows(y, where)
            if y.numel() != len(x):
                raise DataError(where, f"labels of shape {tuple(y.shape)} for {len(x)} inputs", "one label an input")
            given, y = y.reshape(-1), y.reshape(-1).to(torch.int64)
            if bool((y != given).any()) or bool((y < 0).any()):
                wrong = int(((y != given) | (y < 0)).nonzero()[0])
                got = f"the label {given[wrong].item():g} at index {wrong}"
                raise DataError(where, got, "class numbers from 0 up, or one-hot rows")
        return cls(x, y, where)

    def inputs_for(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The inputs in a network's input shape, (n, *shape).

        Raises
        ------
        DataError
            If they have another number of entries.
        """
        if math.prod(self.inputs.shape[1:]) != math.prod(shape):
            raise DataError(
                self.where, f"inputs of shape {tuple(self.inputs.shape[1:])}", f"the network's input shape {shape}"
            )
        return self.inputs.reshape(-1, *shape)

    def accuracy(self, network: torch.nn.Module, inputs: torch.Tensor) -> float:
        """Percent of the labels that the largest output gives.

        Raises
        ------
        DataError
            If there is a label without an output.
        """
        assert self.labels is not None
        right = 0
        with torch.no_grad():
            for x, y in zip(inputs.split(_BATCH), self.labels.split(_BATCH), strict=True):
                outputs = network(x).reshape(len(x), -1)
                if int(y.max()) >= outputs.shape[1]:
                    got = f"the label {int(y.max())} for a network of {outputs.shape[1]} outputs"
                    raise DataError(self.where, got, "labels from 0 up to below the number of outputs")
                right += int((outputs.argmax(dim=1) == y).sum())
        return 100.0 * right / len(self.labels)


def load_data(path: Path, part: str = "test") -> Data:
    """A data set from a folder of IDX files (pixels scaled to [0, 1]) or an ``.npz`` with x and y.

    An ``.npz`` may have a training and a test part instead: x_train, y_train, x_test and y_test.

    Raises
    ------
    DataError
        If files are missing, damaged or do not fit together.
    """
    return Data.build(*load_arrays(path, part), str(path))


def load_arrays(path: Path, part: str = "test") -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Inputs and labels, if there are any, as :func:`load_data` reads them, of any kind and shape.

    Raises
    ------
    DataError
        If files are missing or damaged.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        need = "a folder of IDX files or an .npz with x and y"
        raise DataError(str(path), "no such file or folder", need) from None
    except OSError as error:
        raise DataError(str(path), f"{reason(error)!r}", "a file or folder that can be read") from error
    if stat.S_ISDIR(mode):
        images = read_idx(_idx_file(path, f"{PARTS[part]}-images"))
        labels = read_idx(_idx_file(path, f"{PARTS[part]}-labels"))
        # In place: another copy of 60,000 images takes half a second.
        scaled = images.astype(np.float64)
        scaled /= 255.0 if images.dtype == np.uint8 else 1.0
        return scaled, labels.astype(np.int64)
    if not zipfile.is_zipfile(path):
        empty = path.stat().st_size == 0
        got = "an empty file" if empty else "a file that is not an .npz archive, or a truncated one"
        raise DataError(str(path), got, "an .npz with x and y", "numpy.savez(path, x=inputs, y=labels)")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = _names_in(arrays.files, part)
            if "x" not in names:
                got = f"arrays {', '.join(sorted(arrays.files)) or 'of no name'}"
                raise DataError(str(path), got, "x, and y for labels", "numpy.savez(path, x=inputs, y=labels)")
            return arrays[names["x"]], arrays[names["y"]] if "y" in names else None
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            str(path), f"a file that is not a readable .npz ({_said(error)})", "an .npz with x and y"
        ) from error


def _names_in(files: list[str], part: str) -> dict[str, str]:
    """What the arrays x and y of a part are called: x and y in either case, or x_train, y_train and x_test, y_test."""
    named = {file.lower(): file for file in files}
    ending = "" if "x" in named else f"_{part}"
    return {name: named[name + ending] for name in ("x", "y") if name + ending in named}


def has_parts(path: Path) -> bool:
    """Whether data come with a training and a test part: a folder, or an ``.npz`` with x_train and x_test."""
    if path.is_dir():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.removesuffix(".npy").lower() for name in archive.namelist()}
    except (*_DAMAGE, OSError):
        return False
    return {"x_train", "x_test"} <= inside and "x" not in inside


def _said(error: Exception) -> str:
    """The first line of an exception's message, without advice to load what may run code."""
    if "allow_pickle" in str(error):
        return "an array of Python objects, which may hold code; nothing of it was loaded"
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Scikit-learn's 1797 handwritten digits: inputs (1797, 64) in [0, 1] and labels."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return digits.data / 16.0, digits.target


def held_out(n: int) -> NDArray[np.bool_]:
    """Which inputs of data without a split of their own are test inputs: every fifth."""
    which: NDArray[np.bool_] = np.arange(n) % 5 == 4
    return which


def _classes_of_rows(rows: torch.Tensor, where: str) -> torch.Tensor:
    wrong = (((rows != 0) & (rows != 1)).any(dim=1) | (rows.sum(dim=1) != 1)).nonzero()
    if len(wrong):
        got = f"labels of {rows.shape[1]} numbers an input that are not one 1 and else 0, at index {int(wrong[0])}"
        raise DataError(where, got, "class numbers from 0 up, or one-hot rows")
    return rows.argmax(dim=1)


def _numbers(values: Any, where: str) -> torch.Tensor:
    if not isinstance(values, np.ndarray | torch.Tensor):
        try:
            values = np.asarray(values)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(where, f"no array ({error})", "whole or real numbers") from error
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "buif":
            raise DataError(where, f"an array of type {values.dtype}", "whole or real numbers")
        # Not every type of numpy's, nor the other byte order, has a counterpart in torch.
        values = values.astype(np.float64)
    tensor = torch.as_tensor(values).detach().to("cpu")
    if tensor.layout != torch.strided:
        raise DataError(where, f"a tensor of layout {tensor.layout}", "a dense one", ".to_dense()")
    if tensor.is_complex():
        raise DataError(where, "complex numbers", "whole or real numbers")
    return tensor.to(torch.float64)


def _idx_file(folder: Path, stem: str) -> Path:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(str(folder), f"{reason(error)!r}", "a folder that can be read") from error
    for path in paths:
        if path.name.startswith(stem) and "ubyte" in path.name:
            return path
    raise DataError(str(folder), f"no file {stem}-idx*-ubyte[.gz]", "the IDX files under MNIST's names")


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an IDX file, gzipped or not.

    Raises
    ------
    DataError
        If the file is damaged or not IDX.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, n_axes = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{n_axes}I", raw[4 : 4 + 4 * n_axes])
        if zero != 0 or kind not in _IDX_TYPES:
            raise ValueError("wrong magic number")
        return np.frombuffer(raw, dtype=_IDX_TYPES[kind], offset=4 + 4 * n_axes).reshape(shape)
    except (*_DAMAGE, OSError, struct.error) as error:
        raise DataError(str(path), f"a damaged file ({error})", "an IDX file", "downloading it again") from error
