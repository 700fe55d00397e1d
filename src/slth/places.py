"""Data sets and trained networks that go by a name: where they are looked for, and how to get them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slth.errors import DataError


@dataclass(frozen=True)
class Needed:
    """A data set.

    Attributes
    ----------
    files : tuple of tuples of str
        Of each file the names that it may have, relative to the folder of data.
    home : str
        Where people get it.
    """

    files: tuple[tuple[str, ...], ...]
    home: str


def _idx(folder: str) -> tuple[tuple[str, ...], ...]:
    stems = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return tuple((f"{folder}/{stem}.gz", f"{folder}/{stem}") for stem in stems)


DATA = {
    "mnist": Needed(_idx("mnist"), "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    "fashion-mnist": Needed(_idx("fashion-mnist"), "https://github.com/zalandoresearch/fashion-mnist"),
    "networks/lenet5-mnist": Needed(
        (("networks/lenet5-mnist.safetensors",),), "https://github.com/ArthurWalraven/cnnslth (as torch tensors)"
    ),
    "networks/lenet5-fashion-mnist": Needed(
        (("networks/lenet5-fashion-mnist.safetensors",),),
        "https://github.com/ArthurWalraven/cnnslth (as torch tensors)",
    ),
    "tiny-imagenet-features": Needed(
        tuple((f"tiny-imagenet-features/{name}.npy",) for name in ("x_train", "y_train", "x_test", "y_test")),
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip: what a ResNet18 has before its last layer",
    ),
}
"""By name; the name is the folder or, with an ending, the file."""

NAMES = ("mnist", "fashion-mnist")
"""What stands for a folder wherever data are asked for."""

VARIABLE = "SLTH_DATA"


def folders(given: Path | None) -> list[Path]:
    """Where data are looked for: the given folder alone, or the usual ones in order."""
    if given is not None:
        return [given]
    named = os.environ.get(VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slth"
    return [*([Path(named)] if named else []), Path("data"), Path("../shared/data"), cache]


def resolve(reference: str) -> str:
    """What was given as data; or the folder of the data set that it names, if there is no such file.

    Raises
    ------
    DataError
        If it is such a name, and the data are nowhere.
    """
    if reference not in NAMES or Path(reference).exists():
        return reference
    try:
        return str(locate(reference))
    except DataError as error:
        remedy = f"--data FOLDER, which holds these files, or {VARIABLE}=FOLDER, which holds {reference}/"
        raise DataError(error.where, error.got, error.need, remedy) from None


def locate(name: str, given: Path | None = None) -> Path:
    """The folder of a data set, or the file of a network.

    Raises
    ------
    DataError
        If it is in none of the folders: it says which, what to download from where, and how to point to it.
    """
    place = sought(name, given)
    if place is not None:
        return place
    needed, tried = DATA[name], folders(given)
    files = ", ".join(Path(names[0]).name for names in needed.files)
    raise DataError(
        name,
        f"nothing in {', '.join(str(folder) for folder in tried)}",
        f"{files} (from {needed.home}) in a folder {Path(needed.files[0][0]).parent}/",
        f"--data FOLDER, where FOLDER holds {Path(needed.files[0][0]).parent}/, or {VARIABLE}=FOLDER",
    )


def sought(name: str, given: Path | None = None) -> Path | None:
    """The folder of a data set, or the file of a network; None if it is in none of the folders."""
    needed = DATA[name]
    for folder in folders(given):
        if all(any((folder / each).is_file() for each in names) for names in needed.files):
            first = folder / needed.files[0][0]
            return first if len(needed.files) == 1 else first.parent
    return None


def digest(place: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    total = hashlib.sha256()
    for path in _files(place):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    yield from [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
