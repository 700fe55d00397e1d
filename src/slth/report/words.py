"""Numbers and names as people read them, in plain text or in HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def superscript(exponent: int) -> str:
    """A whole number in raised Unicode digits."""
    return str(exponent).translate(_SUPERSCRIPTS)


def power_of_two(value: float) -> str:
    """``1``, ``2⁶``; a power of 2."""
    exponent = math.frexp(value)[1] - 1
    return f"2{superscript(exponent)}" if exponent else "1"


def number(value: float, digits: int = 3) -> str:
    """A number in plain text: ``0.0123``, ``1.23 × 10⁻⁵``, ``12,300``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        places = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{superscript(int(exponent))}".replace("-", "−").replace(" ", "\u202f")


def plain(value: object) -> str:
    """A number as Python writes it, with a real minus sign."""
    return str(value).replace("-", "−")


def percent(part: float, whole: float) -> str:
    """``12.3 %``; more digits where it is small."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}\u202f%" if share >= 0.1 or share == 0 else f"{share:.2g}\u202f%"


def size(n_bytes: int) -> str:
    """``3.1 KB``, ``1.2 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g}\u202f{unit}"
    return f"{n_bytes}\u202fbytes"


def plural(count: int, noun: str) -> str:
    """``1 weight``, ``2,000 weights``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def shorten(name: str, most: int) -> str:
    """A name on one line, printable, of at most so many characters; the middle is cut out."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if len(clean) <= most:
        return clean
    front = (most - 1) // 2
    return f"{clean[:front]}…{clean[-(most - 1 - front) :]}"


def labels(names: Sequence[str], most: int) -> list[str]:
    """Names for the rows of a picture: the ends of long ones, which tell more, unless two would be the same."""
    ends = [
        name if len(name) <= most else f"…{name[1 - most :]}" for name in (shorten(name, 1 << 20) for name in names)
    ]
    return ends if len(set(ends)) == len(set(names)) else [shorten(name, most) for name in names]


def some(names: Sequence[str], most: int = 6) -> str:
    """A list in words, safe in HTML: ``a, b and c``, or the first few and how many more there are."""
    shown = [escaped(name, 40) for name in (names if len(names) <= most else names[: most - 1])]
    last = shown.pop() if len(shown) == len(names) else f"{len(names) - len(shown):,} more"
    return f"{', '.join(shown)} and {last}" if shown else last


def escaped(name: str, most: int = 60) -> str:
    """A name from anybody's file, safe in HTML text and attributes."""
    return html.escape(shorten(name, most))
