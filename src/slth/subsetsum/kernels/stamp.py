"""Keeps numba's disk cache honest across files.

numba reuses compiled code as long as the file that holds the function is unchanged, whatever happened to the
functions it calls from other files. So a kernel closes over the stamp of all files it is compiled from: closed-over
values are part of numba's cache key.
"""

from __future__ import annotations

import zlib
from pathlib import Path


def source_stamp(*names: str) -> int:
    """A checksum of files of this package."""
    here = Path(__file__).parent
    return zlib.crc32(b"".join((here / name).read_bytes() for name in names))
