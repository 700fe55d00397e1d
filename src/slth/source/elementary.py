"""Elementary functions in float64 that give the same bits on every machine.

The exp, log and erf of C libraries and of numpy's vector code differ in the last bits from one machine to another, so a
weight made with them would too. Here there is nothing but +, -, * and / and the square root, which IEEE 754 rounds
correctly, whole-number work on the bits, and constants, in a fixed order. Every operation is a numpy call of its own,
whose result is stored before the next begins: no compiler can fuse a product and a sum into one rounding. The errors,
a few units in the last place of a float64, are less than 2^-20 of the rounding to float32 that follows.

Arguments are float64 arrays of at least one dimension; every function works element by element.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOG2_E = 1.4426950408889634
"""1 / ln 2."""

_EXP2 = (
    *(1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628477),
    *(0.0013333558146428443, 0.0001540353039338161, 1.5252733804059841e-05, 1.321548679014431e-06),
    *(1.01780860092397e-07, 7.054911620801123e-09, 4.4455382718708116e-10, 2.5678435993488206e-11),
    1.3691488853904128e-12,
)
"""(ln 2)^n / n!, of which the first left out is below 2^-57 at 1/2."""

_ATANH = (
    *(2.0, 0.6666666666666666, 0.4, 0.2857142857142857, 0.2222222222222222, 0.18181818181818182),
    *(0.15384615384615385, 0.13333333333333333, 0.11764705882352941, 0.10526315789473684),
    *(0.09523809523809523, 0.08695652173913043),
)
"""2 / (2 n + 1)."""

_LN2_HIGH, _LN2_LOW = 0.6931471804855391, 7.440617110012397e-11
"""ln 2 in two parts, the first of 33 bits, so that its product with an exponent is exact."""

_SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
"""The float64 next to the square root of 1/2, as a whole number."""

# Numerators and denominators of Wichura 1988, algorithm AS 241 (PPND16): the middle, the tail, the far tail.
_MIDDLE = (
    (
        *(3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4),
        *(4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    ),
    (
        *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3),
        *(2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
    ),
)
_TAIL = (
    (
        *(1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0),
        *(1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    ),
    (
        *(1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1),
        *(1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
    ),
)
_FAR = (
    (
        *(6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1),
        *(2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    ),
    (
        *(1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2),
        *(7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
    ),
)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule, from the highest power down."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= x
        result += coefficient
    return result


def exp2(x: Array) -> Array:
    """2^x, x clipped to [-1022, 1023].

    Within 2 units in the last place; powers of two are exact.

    Examples
    --------
    >>> exp2(np.array([-3.0, 0.5])).round(9).tolist()
    [0.125, 1.414213562]
    """
    x = np.minimum(np.maximum(x, -1022.0), 1023.0)
    whole = np.rint(x)
    # The difference of two numbers so close is exact.
    fraction = _polynomial(_EXP2, x - whole)
    power = ((whole.astype(np.int64) + np.int64(1023)) << np.int64(52)).view(np.float64)
    # At the lower end a fraction below 1 makes a subnormal number, which is rounded once more.
    return fraction * power


def log(x: Array) -> Array:
    """The natural logarithm of positive normal numbers, within 2 units in the last place.

    With x = 2^e f, f between the square roots of 1/2 and 2, and s = (f - 1) / (f + 1), it is
    e ln 2 + 2 (s + s^3 / 3 + s^5 / 5 + ...).

    Examples
    --------
    >>> log(np.array([1.0, 2.0, 10.0])).tolist()
    [0.0, 0.6931471805599453, 2.302585092994046]
    """
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.uint64)
    # Counted from the bits of the square root of 1/2, a new exponent begins there.
    steps = (bits - _SQRT_HALF_BITS).view(np.int64) >> np.int64(52)
    fraction = (bits - (steps << np.int64(52)).view(np.uint64)).view(np.float64)
    exponent = steps.astype(np.float64)
    difference = fraction - 1.0
    s = difference / (fraction + 1.0)
    square = s * s
    # s (2 + ...) = difference - s (difference - ...): the difference is exact, and the rest is small beside it.
    rest = s * (difference - square * _polynomial(_ATANH[1:], square))
    return exponent * _LN2_HIGH + (difference - (rest - exponent * _LN2_LOW))


def log2(x: Array) -> Array:
    """The logarithm to base 2 of positive normal numbers, within 3 units in the last place."""
    return log(x) * LOG2_E


def normal_tail_quantile(tail: Array) -> Array:
    """The z >= 0 that a standard normal number exceeds with probability ``tail``, from 2^-1000 to 1/2.

    Wichura 1988, algorithm AS 241 (PPND16), whose relative error is about 1e-16 before rounding. With
    rounding it is within 6 units in the last place. A tail near 1/2 keeps its accuracy: its distance from 1/2 is exact.

    Examples
    --------
    >>> normal_tail_quantile(np.array([0.5, 0.025])).round(12).tolist()
    [0.0, 1.95996398454]
    """
    from_middle = 0.5 - tail
    result = np.empty_like(tail)
    middle = from_middle <= 0.425
    q = from_middle[middle]
    r = 0.180625 - q * q
    result[middle] = q * (_polynomial(_MIDDLE[0], r) / _polynomial(_MIDDLE[1], r))
    outside = ~middle
    r = np.sqrt(-log(tail[outside]))
    near = np.minimum(r, 5.0) - 1.6
    z = _polynomial(_TAIL[0], near) / _polynomial(_TAIL[1], near)
    far = r > 5.0
    if far.any():
        beyond = r[far] - 5.0
        z[far] = _polynomial(_FAR[0], beyond) / _polynomial(_FAR[1], beyond)
    result[outside] = z
    return result
