"""Numbers from one to 10^300 as a person reads them."""

from __future__ import annotations


def readable(number: float, plain: int = 1_000_000) -> str:
    """A count: with commas below ``plain``, from there on with two digits and an exponent.

    Examples
    --------
    >>> readable(70500), readable(70500, 10_000), readable(10760000000000000000), readable(12.34)
    ('70,500', '7.1e4', '1.1e19', '12.3')
    >>> readable(10**400), readable(float("inf"))
    ('1.0e400', 'beyond 1e308')
    """
    if number == float("inf"):
        return "beyond 1e308"
    if number < 1000 and number != int(number):
        return f"{number:.3g}"
    whole = round(number)
    if whole < plain:
        return f"{whole:,}"
    # In whole numbers of any size: a float would overflow. Halves are rounded up.
    digits = len(str(whole)) - 1
    lead = (whole * 20 // 10**digits + 1) // 2
    return f"1.0e{digits + 1}" if lead == 100 else f"{lead // 10}.{lead % 10}e{digits}"
