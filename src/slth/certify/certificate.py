"""The certificate: what was proved of one ticket and one target over one set of inputs, and the file that says so.

A file is canonical JSON: sorted names, no blanks, a newline at the end; ``docs/certificates.md`` describes it field by
field. Reading refuses everything that writing does not write.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

from slth.certify.bounds import METHODS, NORMS
from slth.certify.region_file import check_json
from slth.errors import ArgumentError, CertificateError
from slth.files import reason, write_atomically

FORMAT = 1
ARITHMETIC = (
    "float64 with outward rounding: holds for exact evaluation of both networks, and for any evaluation of them in "
    "float64; float32_error, if it is there, is to be added where they are evaluated in float32, the ticket folded"
)
QUANTILES = ("least", "quarter", "median", "three quarters", "largest")
COUNTS = ("inputs", "same", "same_around", "right", "right_around")
_PROVED = ("certified_error", "components", "quantiles", "layer_errors")
"""Fields with numbers that are null where nothing is proved."""
_DIGITS = 7
"""Of a stated number (chosen), so that another machine, which rounds otherwise, proves at most as much."""
_LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Certificate:
    """A proof's claim, and the largest error that was found beside it.

    Attributes
    ----------
    target_digest : str
        SHA-256 of the target (:meth:`slth.network.target.Target.digest`).
    ticket_digest : str
        SHA-256 of the network that the ticket is (:func:`slth.certify.subject.digest_of_ticket`).
    domain : mapping
        The set of inputs as plain values (:meth:`slth.certify.regions.InputSet.to_json`).
    words : str
        The same for people.
    norm : str
        Of the output error: ``max``, ``l1``, ``l2`` or ``components``, for which the largest of them is the error.
    method : str
        ``norm``, ``interval`` or ``linear``.
    certified_error : float
        No input of the domain has a larger error; infinite where nothing is proved of the output, null in a file.
    components : tuple of float
        The same for each output by itself.
    regions : int
        Into how many the domain falls: boxes, balls or points.
    quantiles : mapping of str to float, or None
        Of the regions' certified errors, where there are several: least, quarter, median, three quarters, largest.
    layer_errors : mapping of str to float
        The largest difference in any entry after each weight layer; empty where inputs are evaluated by themselves.
    float32_error : float or None
        What evaluating both networks in float32 on float32 inputs adds at most, in the same norm, the ticket folded (by
        ``Ticket.module``); None where that is not proved: for many regions, and for users' own activations.
    observed_error : float or None
        Largest error found, in the same norm; None if there was no search.
    median_ratio : float or None
        Median over the regions of certified over observed error; None where there was no search or nothing was found.
    labels : mapping of str to int or None, or None
        Of how many inputs the class is provably the same (:class:`slth.certify.labels.LabelCounts`), if that was asked.
    notes : tuple of str
        Where the method fell back to a looser one.
    assumed : tuple of str
        Users' own activations whose numbers were tried, not proved.
    arithmetic : str
        What rounding the proof allows for.
    seed : int
        Of the search.
    versions : mapping of str to str
        Of slth and torch.
    seconds : float
    """

    target_digest: str
    ticket_digest: str
    domain: Mapping[str, Any]
    words: str
    norm: str
    method: str
    certified_error: float
    components: tuple[float, ...]
    regions: int
    quantiles: Mapping[str, float] | None
    layer_errors: Mapping[str, float]
    float32_error: float | None
    observed_error: float | None
    median_ratio: float | None
    labels: Mapping[str, int | None] | None
    notes: tuple[str, ...]
    assumed: tuple[str, ...]
    arithmetic: str
    seed: int
    versions: Mapping[str, str]
    seconds: float

    @property
    def ratio(self) -> float | None:
        """Certified over observed error; None where nothing was found or nothing is proved."""
        proved = math.isfinite(self.certified_error)
        return self.certified_error / self.observed_error if self.observed_error and proved else None

    @property
    def certified_in_float32(self) -> float | None:
        """What no evaluation of both networks in float32 exceeds; None where that is not proved."""
        return None if self.float32_error is None else rounded_up(self.certified_error + self.float32_error)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the format's number; null where nothing is proved."""
        lists = {name: list(getattr(self, name)) for name in ("notes", "assumed")}
        value = {"format": FORMAT, **asdict(self), **lists}
        return value | {name: _stated(value[name]) for name in _PROVED}

    def to_bytes(self) -> bytes:
        """The file's content."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
        return text.encode() + b"\n"

    def save(self, path: str | Path) -> int:
        """Write the certificate to a file, atomically; returns its size in bytes.

        Raises
        ------
        OutputError
            If the file cannot be written; nothing is left behind.
        """
        return write_atomically(Path(path), self.to_bytes())


def _stated(value: Any) -> Any:
    """Numbers of which some may be infinite, as null."""
    if isinstance(value, Mapping):
        return {name: _stated(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_stated(entry) for entry in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _read(value: Any) -> Any:
    """The reverse of :func:`_stated`, of lists and mappings alike; whole fields that are null stay so."""
    if isinstance(value, dict):
        return {name: _read(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return tuple(_read(entry) for entry in value)
    return math.inf if value is None else value


def rounded_up(bound: float, digits: int = _DIGITS) -> float:
    """A number of a few digits that is not below a bound."""
    if bound == 0.0 or not math.isfinite(bound):
        return bound
    stated = float(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(bound))
    # The nearest float to a decimal number that is too large may be below the bound.
    return stated if stated >= bound else math.nextafter(bound, math.inf)


def load_certificate(path: str | Path) -> Certificate:
    """Read a certificate that may come from anybody.

    Raises
    ------
    CertificateError
        If the file is missing or damaged, or a field is missing, unknown, or holds what none of its kind holds.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CertificateError(str(path), f"{path.stat().st_size:,} bytes", "a certificate")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CertificateError(str(path), "no such file", "a certificate", "slth certify ... -o FILE") from None
    except OSError as error:
        raise CertificateError(str(path), f"{reason(error)!r}", "a file that can be read") from error
    try:
        return from_bytes(content)
    except CertificateError as error:
        raise CertificateError(f"{path}, {error.where}", error.got, error.need, error.remedy) from error


def from_bytes(content: bytes) -> Certificate:
    """The certificate in a file's content, every field checked.

    Raises
    ------
    CertificateError
        As :func:`load_certificate`.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        got = f"a file that is not JSON, or a truncated one ({str(error)[:80]})"
        raise CertificateError("content", got, "a certificate written by slth certify") from error
    if not isinstance(value, dict):
        raise CertificateError("content", type(value).__name__, "an object")
    if value.get("format") != FORMAT or isinstance(value["format"], bool):
        raise CertificateError("format", repr(value.get("format"))[:80], str(FORMAT), "another version of slth")
    names = {entry.name for entry in fields(Certificate)}
    wrong = sorted(names - value.keys()) or sorted(value.keys() - names - {"format"})
    if wrong:
        got = f"no field {wrong[0]!r}" if wrong[0] in names else f"an unknown field {wrong[0][:40]!r}"
        raise CertificateError("content", got, "the fields that slth certify writes")
    for name in sorted(names):
        if not _FIELDS[name](value[name]):
            raise CertificateError(name, repr(value[name])[:80], _need(name))
    unknown = None in value["components"], None in (value["quantiles"] or {}).values()
    if (any(unknown) and value["certified_error"] is not None) or (value["certified_error"] is None and not unknown[0]):
        raise CertificateError("certified_error", "null", "null where bounds on outputs are, and only there")
    try:
        check_json(value["domain"])
    except ArgumentError as error:
        raise CertificateError(error.where, error.got, error.need) from error
    listed = {name: tuple(value[name]) for name in ("notes", "assumed")}
    listed |= {name: _read(value[name]) for name in _PROVED if name != "quantiles" or value[name] is not None}
    made = Certificate(**{name: value[name] for name in names} | listed)
    if made.to_bytes() != content:
        raise CertificateError("content", "JSON that is not written as slth writes it", "an unaltered file")
    return made


Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value >= 0.0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _map_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


_FIELDS: Mapping[str, Check] = {
    "target_digest": _is_digest,
    "ticket_digest": _is_digest,
    "domain": lambda value: isinstance(value, dict),
    "words": _is_text,
    "norm": lambda value: value in NORMS,
    "method": lambda value: value in METHODS,
    "certified_error": _maybe(_is_number),
    "components": lambda value: _list_of(_maybe(_is_number))(value) and bool(value),
    "regions": lambda value: _is_count(value) and value > 0,
    "quantiles": _maybe(lambda value: _map_of(_maybe(_is_number))(value) and set(value) == set(QUANTILES)),
    "layer_errors": _map_of(_maybe(_is_number)),
    "float32_error": _maybe(_is_number),
    "observed_error": _maybe(_is_number),
    "median_ratio": _maybe(_is_number),
    "labels": _maybe(lambda value: _map_of(_maybe(_is_count))(value) and set(value) == set(COUNTS)),
    "notes": _list_of(_is_text),
    "assumed": _list_of(_is_text),
    "arithmetic": lambda value: value == ARITHMETIC,
    "seed": _is_count,
    "versions": lambda value: _map_of(_is_text)(value) and set(value) == {"slth", "torch"},
    "seconds": _is_number,
}


def _need(name: str) -> str:
    words: dict[Check, str] = {
        _is_number: "a finite number that is not negative",
        _is_digest: "SHA-256",
        _is_text: "text",
    }
    known = {"norm": " or ".join(NORMS), "method": " or ".join(METHODS)}
    return known.get(name) or words.get(_FIELDS[name], "what slth certify writes there")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field that is there twice")
    return made
