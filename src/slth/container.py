"""The safetensors container that every kind of ticket lies in: a JSON header under the key ``slth``, and tensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.errors import TicketError

KEY = "slth"


def pack(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> bytes:
    """A file's content; the digest of all that is in it is added to the header."""
    from safetensors.numpy import save as save_tensors

    whole = {**header, "content_digest": content_digest(header, tensors)}
    return save_tensors(tensors, metadata={KEY: json.dumps(whole, sort_keys=True, separators=(",", ":"))})


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and tensors, the digest in the header not yet compared.

    Raises
    ------
    TicketError
        If it is not such a container.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    need, remedy = "a ticket written by slth find", "copying it again, or finding it again"
    try:
        tensors = dict(load_tensors(content))
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
        if KEY not in metadata:
            raise ValueError("a safetensors file without a ticket's header")
        header = json.loads(metadata[KEY])
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = "a damaged or truncated file, or one that is not a ticket"
        raise TicketError("container", f"{what} ({error})", need, remedy) from error
    return header, tensors


def content_digest(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> str:
    """SHA-256 of the header without the digest and of every tensor by name, type, shape and bytes."""
    sha = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name}:{tensor.dtype}:{tensor.shape}".encode())
        sha.update(np.ascontiguousarray(tensor).tobytes())
    return sha.hexdigest()


def check_digest(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
    """Take the digest out of the header and compare it.

    Raises
    ------
    TicketError
        If it is another one.
    """
    claimed = header.pop("content_digest", None)
    if claimed != content_digest(header, tensors):
        raise TicketError(
            "content", "bytes that do not match the digest in the header", "an unaltered file", "copying it again"
        )


def read(path: str | Path) -> bytes:
    """A file's content.

    Raises
    ------
    TicketError
        If there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        got = "something that is not a file" if path.exists() else "no such file"
        raise TicketError(str(path), got, "an existing .ticket file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise TicketError(str(path), str(error.strerror), "a readable file") from error
