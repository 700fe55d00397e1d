"""Data sets from files: read exactly, or refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slth.data import Data, load_data, read_idx
from slth.errors import DataError


def write_idx(path: Path, array: np.ndarray, kind: int = 8) -> None:
    """An IDX file, gzipped where the name says so."""
    raw = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_mnist(folder: Path, stem: str = "t10k", suffix: str = "", n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels under MNIST's names."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8), rng.integers(0, 10, n).astype(np.uint8)
    write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("part", "stem"), [("test", "t10k"), ("train", "train")])
def test_a_folder_of_idx_files(tmp_path: Path, part: str, stem: str, suffix: str) -> None:
    images, labels = write_mnist(tmp_path, stem, suffix)
    data = load_data(tmp_path, part)
    assert data.inputs.dtype == torch.float64 and data.labels is not None
    np.testing.assert_array_equal(data.inputs, images / 255)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.inputs_for((1, 4, 4)).shape == (5, 1, 4, 4) and data.inputs_for((16,)).shape == (5, 16)
    with pytest.raises(DataError, match="input shape"):
        data.inputs_for((15,))


@pytest.mark.parametrize(("kind", "dtype"), [(9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_every_type_of_idx(tmp_path: Path, kind: int, dtype: str) -> None:
    array = np.arange(-3, 3).reshape(3, 2).astype(dtype)
    write_idx(tmp_path / "a-idx", array, kind)
    np.testing.assert_array_equal(read_idx(tmp_path / "a-idx"), array)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t10k-images-idx3-ubyte{suffix}"
    write_idx(path, np.zeros((3, 4), np.uint8))
    content = path.read_bytes()
    for length in (0, 3, 9, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="t10k-images"):
            read_idx(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match="t10k-images"):
        read_idx(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such"):
        load_data(tmp_path / "none")
    with pytest.raises(DataError, match="t10k-images"):
        load_data(tmp_path)
    write_mnist(tmp_path)
    with pytest.raises(DataError, match="train-images"):
        load_data(tmp_path, "train")


def test_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((3, 2), np.float32), y=np.array([1, 0, 1]))
    data = load_data(path)
    assert data.inputs.shape == (3, 2) and data.labels is not None and data.labels.tolist() == [1, 0, 1]
    np.savez(path, x=np.ones((3, 2)))
    assert load_data(path).labels is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.ones(3)},
        {"x": np.ones(3)},
        {"x": np.ones((0, 2))},
        {"x": np.array([[np.nan, 1]])},
        {"x": np.array([["a", "b"]])},
        {"x": np.array([[{}]], dtype=object)},
        {"x": np.ones((3, 2)), "y": np.ones(2)},
    ],
)
def test_an_npz_that_is_no_data_set_is_named(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"data\.npz"):
        load_data(path)


def test_a_damaged_npz_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((30, 20)))
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"data\.npz"):
            load_data(path)
    middle = bytearray(content)
    middle[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(DataError, match=r"data\.npz"):
        load_data(path)


def test_one_hot_labels_and_accuracy() -> None:
    x = torch.eye(4)
    data = Data.build(x, torch.eye(4)[[0, 1, 2, 2]])
    assert data.labels is not None and data.labels.tolist() == [0, 1, 2, 2]
    assert data.accuracy(torch.nn.Identity(), data.inputs) == 75.0
    many = Data.build(torch.eye(4).repeat(600, 1), torch.arange(4).repeat(600))
    assert many.accuracy(torch.nn.Identity(), many.inputs) == 100.0
