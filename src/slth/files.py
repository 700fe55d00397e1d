"""Writing files so that no half of one is ever left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from slth.errors import OutputError


def check_writable(path: Path) -> None:
    """Make sure before long work that a file can be written to this place.

    Raises
    ------
    OutputError
        If the folder is missing or refuses a file, or the path is taken by something that is not a file.
    """
    if path.exists() and not path.is_file():
        raise OutputError(str(path), "something that is not a plain file", "a file name", "another name")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def write_atomically(path: Path, content: bytes) -> int:
    """Write a file whole or not at all; returns its size in bytes.

    The bytes go to a temporary file beside it, reach the disk, and take the name in one step.

    Raises
    ------
    OutputError
        If the disk is full or the folder refuses; an older file of the name is then untouched.
    """
    if path.exists() and not path.is_file():
        raise OutputError(str(path), "something that is not a plain file", "a file name", "another name")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
    return len(content)


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(
        str(path), f"{error.strerror or error} from the folder {path.parent}", "a folder with room that can be written"
    )
