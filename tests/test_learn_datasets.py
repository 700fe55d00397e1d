"""Labelled data: the same arrays in every form are the same data, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slth.errors import ArgumentError, DataError
from slth.learn.datasets import Dataset, load_dataset
from test_data import write_idx

RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "x_train": RNG.integers(0, 256, (20, 2, 3)) / 255,
    "y_train": np.arange(20) % 4,
    "x_test": RNG.integers(0, 256, (6, 2, 3)) / 255,
    "y_test": np.arange(6) % 3,
}


def save_folder(folder: Path, arrays: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def idx_folder(folder: Path) -> Path:
    folder.mkdir()
    for stem, part in (("train", "train"), ("t10k", "test")):
        pixels = np.round(ARRAYS[f"x_{part}"] * 255).astype(np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", ARRAYS[f"y_{part}"].astype(np.uint8))
    return folder


RETURNED = {
    "by_name": "ARRAYS",
    "four": "tuple(ARRAYS.values())",
    "pairs": "((ARRAYS['x_train'], ARRAYS['y_train']), [ARRAYS['x_test'], ARRAYS['y_test']])",
    "tensors": "[__import__('torch').from_numpy(a) for a in ARRAYS.values()]",
    "chatty": "print('loading ...') or ARRAYS",
    "three": "tuple(ARRAYS.values())[:3]",
    "number": "3",
    "fails": "1 / 0",
    "one_hot": "{**ARRAYS, 'y_train': np.eye(4)[ARRAYS['y_train']]}",
    "whole": "__import__('slth.learn.datasets').learn.datasets.from_arrays(ARRAYS, 'own')",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's file with a function of each kind."""
    np.savez(tmp_path / "all.npz", **ARRAYS)
    lines = ["import numpy as np", f"ARRAYS = dict(np.load({str(tmp_path / 'all.npz')!r}))"]
    lines += [f"def {name}():\n    return {text}" for name, text in RETURNED.items()]
    (tmp_path / "own_data.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    return str(tmp_path / "own_data.py")


def assert_is(data: Dataset) -> None:
    for part, name in ((data.train, "train"), (data.test, "test")):
        np.testing.assert_allclose(part.inputs, ARRAYS[f"x_{name}"], rtol=0, atol=1e-15)
        np.testing.assert_array_equal(part.labels, ARRAYS[f"y_{name}"])
        assert part.inputs.dtype == torch.float64 and part.labels is not None and part.labels.dtype == torch.int64
    assert data.n_classes == 4 and data.input_shape == (2, 3)


def test_every_form_is_the_same_data(tmp_path: Path, module: str) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)
    references = [
        str(tmp_path / "a.npz"),
        str(save_folder(tmp_path / "npy", ARRAYS)),
        str(idx_folder(tmp_path / "idx")),
    ]
    references += [f"{module}:{name}" for name in ("by_name", "four", "pairs", "tensors", "chatty", "one_hot", "whole")]
    digests = set()
    for reference in references:
        data = load_dataset(reference)
        assert_is(data)
        digests.add(data.digest)
    assert len(digests) == 1


def test_a_function_may_print_without_spoiling_the_result(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    load_dataset(f"{module}:chatty")
    captured = capsys.readouterr()
    assert captured.out == "" and "loading" in captured.err


def test_without_parts_every_fifth_is_a_test_input(tmp_path: Path) -> None:
    x, y = ARRAYS["x_train"], ARRAYS["y_train"]
    np.savez(tmp_path / "a.npz", x=x, y=y)
    folder = save_folder(tmp_path / "npy", {"x": x, "y": y, "unrelated": np.array(["text"])})
    for reference in (tmp_path / "a.npz", folder):
        data = load_dataset(str(reference))
        np.testing.assert_array_equal(data.test.inputs, x[4::5])
        assert data.train.labels is not None and data.train.labels.tolist() == [y[i] for i in range(20) if i % 5 != 4]


def test_digits() -> None:
    data = load_dataset("digits")
    assert (len(data.train.inputs), len(data.test.inputs), data.n_classes) == (1438, 359, 10)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_digest_sees_every_array(name: str) -> None:
    changed = {**ARRAYS, name: ARRAYS[name].copy()}
    changed[name].flat[3] = 0 if changed[name].flat[3] else 1
    build = Dataset.build(*ARRAYS.values())
    assert Dataset.build(*changed.values()).digest != build.digest == Dataset.build(*ARRAYS.values()).digest


def with_entry(name: str, value: float, dtype: type = float) -> dict[str, Any]:
    array = ARRAYS[name].astype(dtype)
    array.flat[2] = value
    return {**ARRAYS, name: array}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": (with_entry("x_train", np.nan), "not finite"),
    "NaN in the test part": (with_entry("x_test", np.nan), "test part: got inputs that are not finite"),
    "infinite": (with_entry("x_train", np.inf), "not finite"),
    "labels too few": ({**ARRAYS, "y_train": ARRAYS["y_train"][:-1]}, "19.*for 20 inputs"),
    "negative label": (with_entry("y_train", -1, int), "label -1 at index 2"),
    "half a label": (with_entry("y_train", 0.5), "label 0.5 at index 2"),
    "NaN label": (with_entry("y_train", np.nan), "label nan at index 2"),
    "a class that is only tested": (with_entry("y_test", 4, int), "label 4 at index 2 of the test part"),
    "a class between others that is only tested": (
        {**ARRAYS, "y_train": np.where(ARRAYS["y_train"] == 1, 2, ARRAYS["y_train"])},
        "label 1 at index .* of the test part",
    ),
    "numbers that are no classes": (with_entry("y_train", 10**9, int), "the label 1,000,000,000 among . classes of 20"),
    "rows that are not one-hot": ({**ARRAYS, "y_train": np.full((20, 3), 1 / 3)}, "not one 1 and else 0, at index 0"),
    "rows of two ones": ({**ARRAYS, "y_test": np.ones((6, 3))}, "not one 1 and else 0, at index 0"),
    "beyond float32": (with_entry("x_train", -1e39), "float32 cannot hold"),
    "one class": ({**ARRAYS, "y_train": np.zeros(20), "y_test": np.zeros(6)}, "only the label 0"),
    "shapes differ": ({**ARRAYS, "x_test": ARRAYS["x_test"][:, :1]}, r"test inputs of shape \(1, 3\)"),
    "words": ({**ARRAYS, "y_train": np.array(["a"] * 20)}, "type <U1"),
    "complex": ({**ARRAYS, "x_train": ARRAYS["x_train"] + 1j}, "complex"),
    "none": ({**ARRAYS, "x_train": ARRAYS["x_train"][:0], "y_train": ARRAYS["y_train"][:0]}, "at least one input"),
    "no x_test": ({name: array for name, array in ARRAYS.items() if name != "x_test"}, "need x_train, y_train"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_refused(tmp_path: Path, kind: str) -> None:
    arrays, words = BAD[kind]
    folder = save_folder(tmp_path / "bad", arrays)
    with pytest.raises(DataError, match=words):
        load_dataset(str(folder))


def test_a_damaged_array_is_named_and_code_is_never_loaded(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "npy", ARRAYS)
    content = (folder / "x_test.npy").read_bytes()
    for length in (0, 5, 40, len(content) - 1):
        (folder / "x_test.npy").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"x_test\.npy"):
            load_dataset(str(folder))
    np.save(folder / "x_test.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="may hold code"):
        load_dataset(str(folder))


@pytest.mark.parametrize(("name", "words"), [("three", "3 arrays"), ("number", "type int"), ("fails", "ZeroDivision")])
def test_what_a_function_returns_is_checked(module: str, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset(f"{module}:{name}")


def test_missing_functions_and_files_are_named(module: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="there is no 'nothing'"):
        load_dataset(f"{module}:nothing")
    with pytest.raises(ArgumentError, match="no_such_module"):
        load_dataset("no_such_module:function")
    with pytest.raises(DataError, match="no such file"):
        load_dataset(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no file train-images"):
        load_dataset(str(save_folder(tmp_path / "empty", {})))
