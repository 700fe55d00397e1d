"""Functions without libm: against mpmath at 160 bits, in units in the last place, and bit for bit."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from slth.source import elementary
from slth.source.elementary import exp2, log, log2, normal_tail_quantile
from slth.source.philox import words

Array = NDArray[np.float64]


def units(got: Array, exact: Callable[[Any], Any], x: Array) -> float:
    """Largest error in units in the last place."""
    worst = 0.0
    with mpmath.workprec(160):
        for value, argument in zip(got.tolist(), x.tolist(), strict=True):
            true = exact(mpmath.mpf(argument))
            worst = max(worst, abs(float((mpmath.mpf(value) - true) / mpmath.mpf(float(np.spacing(abs(float(true))))))))
    return worst


def even(start: float, stop: float, count: int) -> Array:
    """Numbers without structure, the same on every machine."""
    return start + (stop - start) * (words((7, count), 0, count).astype(np.float64) + 0.5) * 2.0**-32


def tail_quantile(tail: Any) -> Any:
    """By Newton's method, which doubles the digits each time, from slth's answer."""
    z = mpmath.mpf(float(normal_tail_quantile(np.array([float(tail)]))[0]))
    for _ in range(4):
        z += (mpmath.erfc(z / mpmath.sqrt(2)) / 2 - tail) / mpmath.npdf(z)
    return z


def test_exp2_is_within_two_units() -> None:
    x = np.concatenate([even(-1, 1, 1500), even(-1021, 1023, 1500)])
    assert units(exp2(x), lambda value: mpmath.mpf(2) ** value, x) < 1.2


def test_exp2_of_whole_numbers_is_exact_and_its_ends_are_clipped() -> None:
    whole = np.arange(-1022, 1024)
    np.testing.assert_array_equal(exp2(whole.astype(np.float64)), np.ldexp(1.0, whole))
    assert exp2(np.array([-1e300, -1022.5, 1e300])).tolist() == [2.0**-1022, 2.0**-1022, 2.0**1023]


def test_logarithms_are_within_two_and_three_units() -> None:
    x = np.concatenate([even(0.4, 2.2, 1500), 1 + even(-1e-3, 1e-3, 500), exp2(even(-1022, 1022, 1500))])
    x = np.concatenate([x, [2.0**-1022, np.nextafter(1, 0), 1.0, np.nextafter(1, 2), np.sqrt(0.5), np.sqrt(2.0)]])
    assert units(log(x), mpmath.log, x) < 1.0
    assert units(log2(x), lambda value: mpmath.log(value, 2), x) < 2.0
    assert log(np.array([1.0]))[0] == 0.0


def test_the_normal_quantile_is_within_six_units() -> None:
    middle, tail, far = even(1e-3, 0.5, 600), exp2(even(-33, -2, 600)), exp2(even(-990, -33, 200))
    for p in (middle, tail, far, 0.5 - exp2(even(-33, -4, 200)), np.array([0.075, np.nextafter(0.075, 0)])):
        assert units(normal_tail_quantile(p), tail_quantile, p) < 6.0
    assert normal_tail_quantile(np.array([0.5]))[0] == 0.0


def test_every_function_rises_or_falls_where_it_should() -> None:
    """Across the borders of the pieces too."""
    x = np.sort(np.concatenate([even(0.01, 0.49, 3000), np.linspace(0.0749, 0.0751, 3000)]))
    assert (np.diff(normal_tail_quantile(x)) <= 0).all()
    x = np.linspace(0.49, 0.51, 20001)
    assert (np.diff(exp2(x)) >= 0).all()
    x = np.linspace(0.7071, 0.7072, 20001)
    assert (np.diff(log(x)) >= 0).all()


@pytest.mark.parametrize("function", [exp2, log, log2, normal_tail_quantile])
def test_an_element_does_not_depend_on_its_neighbours(function: Callable[[Array], Array]) -> None:
    x = even(0.001, 0.5, 1000)
    whole = function(x)
    alone = np.array([function(x[k : k + 1])[0] for k in range(x.size)])
    assert whole.tobytes() == alone.tobytes() == function(x[::-1].copy())[::-1].tobytes()
    assert function(x[:0]).size == 0


GOLDEN = {
    exp2: "76d69e012f83d44b83b7dc3a26a57cfb",
    log: "3c0ee1d7edbb29c45e1b428cf1e1d3d2",
    log2: "c318d4dd02e324a6962749b60824d047",
    normal_tail_quantile: "4e6e74468e827078745cd400a871ef9b",
}


@pytest.mark.parametrize("function", GOLDEN)
def test_bits_stay_what_they_are(function: Callable[[Array], Array]) -> None:
    x = np.concatenate([even(2.0**-33, 0.5, 4096), exp2(np.arange(-33.0, -1.0))])
    assert hashlib.sha256(function(x).astype("<f8").tobytes()).hexdigest()[:32] == GOLDEN[function]


@pytest.mark.parametrize("name", ["elementary", "law", "hyperbolic", "quantiles", "distributions"])
def test_no_weight_is_made_with_a_function_that_machines_disagree_on(name: str) -> None:
    """numpy's exp, log, power and the like are for densities only, which no weight depends on."""
    allowed = {"density", "product_density", "least_density", "best_half_width", "tabulate", "_value"}
    shared = {"exp", "log", "exp2", "log2", "expm1", "log1p", "power", "sin", "cos", "tan", "erf", "erfinv"}
    path = Path(elementary.__file__).with_name(f"{name}.py")
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef) or function.name in allowed:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np", "math"):
                assert node.attr not in shared, f"{name}.{function.name}: {ast.unparse(node)}"
            assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not _constant(node))


def _constant(node: ast.BinOp) -> bool:
    return isinstance(node.left, ast.Constant) and isinstance(ast.literal_eval(node.right), int | float)
