"""The safetensors container that every kind of ticket lies in: a JSON header under the key ``slth``, and tensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from slth.errors import SlthError, TicketError
from slth.files import write_atomically

KEY = "slth"
READERS = {"slth-ticket": "slth.load", "slth-neurons": "slth.load_neurons"}
"""By format, what reads its files."""

_LARGEST_HEADER = 1 << 26
"""Bytes of a header that are looked at without the rest of the file (chosen)."""

T = TypeVar("T")
Header = dict[str, Any]
Tensors = dict[str, NDArray[Any]]

_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What fields of other types than they should have may raise."""


@dataclass(frozen=True)
class Format(Generic[T]):
    """A kind of ticket file: how a ticket becomes a header and tensors, and how it is read again.

    Attributes
    ----------
    name : str
        One of :data:`READERS`.
    version : int
        Other versions are refused.
    fields : callable
        Ticket -> header, but for format, version and digest.
    tensors : callable
        Ticket -> tensors by name.
    ticket : callable
        Header and tensors -> ticket, with every field checked; what a malformed field raises by itself is caught here.
    """

    name: str
    version: int
    fields: Callable[[T], Header]
    tensors: Callable[[T], Tensors]
    ticket: Callable[[Header, Tensors], T]

    def header(self, ticket: T) -> Header:
        """The whole header but for the digest."""
        return {"format": self.name, "format_version": self.version, **self.fields(ticket)}

    def to_bytes(self, ticket: T) -> bytes:
        """A file's content: the same ticket gives the same bytes."""
        return pack(self.header(ticket), self.tensors(ticket))

    def save(self, ticket: T, path: Path) -> int:
        """Write a ticket atomically; returns the file's size in bytes.

        Raises
        ------
        OutputError
            If the file cannot be written; nothing is left behind.
        """
        return write_atomically(path, self.to_bytes(ticket))

    def load(self, path: str | Path) -> T:
        """Read a ticket that may come from anybody; no code in it can run.

        Raises
        ------
        TicketError
            If the file is missing, truncated, altered, of an unknown version, or its fields do not fit together.
        """
        content = read(path)
        try:
            return self.from_bytes(content)
        except TicketError as error:
            raise TicketError(f"{path}, {error.where}", error.got, error.need, error.remedy) from error

    def from_bytes(self, content: bytes) -> T:
        """The ticket in a file's content.

        Raises
        ------
        TicketError
            As :meth:`load`.
        """
        header, tensors = unpack(content)
        name, version = header.get("format"), header.get("format_version")
        if name != self.name or type(version) is not int or version != self.version:
            remedy = "a newer slth" if name == self.name else READERS.get(str(name), "a newer slth")
            got = f"format {name!r} version {version!r}"
            raise TicketError("header", got, f"{self.name} version {self.version}", remedy)
        check_digest(header, tensors)
        try:
            ticket = self.ticket(header, tensors)
            self._check_canonical(ticket, header, tensors)
            return ticket
        except TicketError:
            raise
        except SlthError as error:
            raise TicketError(error.where, error.got, error.need) from error
        except _MALFORMED as error:
            raise TicketError("header", f"a malformed field ({error!r})", "the fields of docs/format.md") from error

    def _check_canonical(self, ticket: T, header: Header, tensors: Tensors) -> None:
        """What was read, written again, must be what was there: no field, tensor or padding bit besides."""
        again = self.tensors(ticket)
        require(set(tensors) == set(again), "tensors", ", ".join(sorted(tensors)), ", ".join(sorted(again)))
        for name, tensor in again.items():
            same = tensor.dtype == tensors[name].dtype and np.array_equal(tensor, tensors[name])
            got = "bits set where none belong, or values that are not numbers"
            require(same, name, got, "a tensor as slth writes it")
        written, read = (json.dumps(each, sort_keys=True, allow_nan=False) for each in (self.header(ticket), header))
        require(written == read, "header", "fields besides or not of their type", "the fields of docs/format.md")


def require(condition: bool, where: str, got: str, need: str) -> None:
    """Refuse a file.

    Raises
    ------
    TicketError
        Unless the condition holds.
    """
    if not condition:
        raise TicketError(where, got, need)


def sha256_text(value: Any) -> str:
    """A field that is to hold a SHA-256 in hexadecimal digits.

    Raises
    ------
    TicketError
        If it holds something else.
    """
    fits = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
    require(fits, "digest", repr(value), "SHA-256")
    return str(value)


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


def peek(path: str | Path) -> Header:
    """A file's header alone, unchecked; empty where it has none, or is damaged (which is refused when it is loaded)."""
    try:
        with Path(path).open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(json.loads(stream.read(min(size, _LARGEST_HEADER)))["__metadata__"][KEY])
            return header if isinstance(header, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


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
