"""Reading and writing files: what is refused with one line, and how no half of a file is ever left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from slth.errors import OutputError

_LONGEST_NAME = 255
_NOT_PLAIN = "something that is not a plain file", "a file name", "another name"


def reason(error: OSError) -> str:
    """The system's words for an error, without the file's name."""
    return error.strerror or str(error) or type(error).__name__


def check_writable(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Make sure before long work that a file can be written to this place.

    Parameters
    ----------
    path : path
        Where the result will go.
    inputs : paths, optional
        Files that the command reads, none of which may be replaced by its result.

    Raises
    ------
    OutputError
        If the folder is missing or refuses a file, or the path is taken by an input or by something that is not a file.
    """
    place = _place(path)
    if len(os.fsencode(place.name)) > _LONGEST_NAME:
        raise OutputError(str(path), "a file name that is too long", f"at most {_LONGEST_NAME} bytes", "another name")
    for entry in inputs:
        with contextlib.suppress(OSError):
            if entry is not None and place.samefile(entry):
                raise OutputError(str(path), "the file that the command reads", "a place of its own", "another name")
    try:
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def write_atomically(path: Path, content: bytes) -> int:
    """Write a file whole or not at all; returns its size in bytes.

    The bytes go to a temporary file beside it, reach the disk, and take the name in one step. A symbolic link is
    followed, not replaced.

    Raises
    ------
    OutputError
        If the disk is full or the folder refuses; an older file of the name is then untouched.
    """
    place = _place(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".slth-", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(place)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
    return len(content)


def _place(path: Path) -> Path:
    """Where the file will lie: links are followed, but none of those by which the system names open files.

    Raises
    ------
    OutputError
        If something other than a file is there.
    """
    try:
        place = path.resolve()
        system_link = path.is_symlink() and path.parent.resolve().parts[1:2] in (("dev",), ("proc",))
        taken = place.exists() and not place.is_file()
    except (OSError, RuntimeError) as error:
        # A loop of links is a RuntimeError up to Python 3.12.
        raise _refused(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    if system_link or taken:
        raise OutputError(str(path), *_NOT_PLAIN)
    return place


def _refused(path: Path, error: OSError) -> OutputError:
    folder = path.parent
    if isinstance(error, FileNotFoundError) and not folder.exists():
        return OutputError(str(path), f"a missing folder {folder}", "an existing folder", f"mkdir -p {folder}")
    return OutputError(
        str(path), f"{reason(error)!r} in the folder {folder}", "a folder with room that can be written", "another one"
    )
