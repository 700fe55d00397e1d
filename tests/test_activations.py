"""B1: every bound on an activation holds against 50 digits, without a violation, and is not much too large."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from mpmath import iv, mp, mpf

from slth.activations import ACTIVATIONS, Activation, check_first_layer, composed, parse, registry
from slth.activations.search import largest, smallest
from slth.errors import ArgumentError

mp.dps = 50
TEXTS = [
    *ACTIVATIONS,
    *("leaky_relu:0.3", "leaky_relu:-0.5", "prelu:1.5", "elu:0.3", "elu:4", "softplus:3", "softplus:0.5,5"),
    *("hardtanh:-0.5,2", "hardtanh:0,1", "hardtanh:-2,0", "hardtanh:0.25,1", "hardtanh:-3,-0.5"),
]
EPS = (0.5, 1e-2, 1e-4, 1e-8)
Exact = Callable[[Any], Any]


def gelu_tanh_argument(x: Any) -> Any:
    """u of GELU's approximation, with the constant that torch rounds."""
    return mpmath.sqrt(2 / mpmath.pi) * (x + mpf(0.044715) * x**3)


def exact(activation: Activation) -> Exact:
    """The function in 50 digits, written anew."""
    p = {key: mpf(value) for key, value in activation.parameters.items()}
    functions: dict[str, Exact] = {
        "relu": lambda x: max(x, mpf(0)),
        "leaky_relu": lambda x: x if x >= 0 else p["slope"] * x,
        "prelu": lambda x: x if x >= 0 else p["slope"] * x,
        "tanh": mpmath.tanh,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        "gelu_tanh": lambda x: x / 2 * (1 + mpmath.tanh(gelu_tanh_argument(x))),
        "silu": lambda x: x / (1 + mpmath.exp(-x)),
        "elu": lambda x: x if x >= 0 else p["alpha"] * mpmath.expm1(x),
        "softplus": lambda x: (
            x if p["beta"] * x > p["threshold"] else mpmath.log1p(mpmath.exp(p["beta"] * x)) / p["beta"]
        ),
        "identity": lambda x: x,
        "hardtanh": lambda x: min(max(x, p["low"]), p["high"]),
        "relu6": lambda x: min(max(x, mpf(0)), mpf(6)),
    }
    return functions[activation.name]


@pytest.fixture(params=TEXTS)
def activation(request: pytest.FixtureRequest) -> Activation:
    """Every activation, some with several parameters."""
    return parse(request.param)


DISTANCES = np.concatenate([np.geomspace(1e-9, 1e-3, 60), np.linspace(1e-3, 2, 300), np.geomspace(2, 300, 60)])


def distances_from_line(activation: Activation) -> tuple[list[Any], list[Any]]:
    """|phi - phi^| and |odd part - its line| at plus and minus the distances, the running maximum of each."""
    phi, plus, minus = exact(activation), mpf(activation.m_plus), mpf(activation.m_minus)
    away, odd, start = [], [], phi(mpf(0))
    for z in map(mpf, DISTANCES.tolist()):
        right, left = phi(z), phi(-z)
        away.append(max(abs(right - plus * z - start), abs(left + minus * z - start)))
        odd.append(abs(right - left - (plus + minus) * z))
    return [max(away[: i + 1]) for i in range(len(away))], [max(odd[: i + 1]) for i in range(len(odd))]


def test_no_value_is_farther_from_the_lines_than_the_remainder(activation: Activation) -> None:
    away, odd = distances_from_line(activation)
    for z, found, found_odd in zip(DISTANCES.tolist(), away, odd, strict=True):
        # The two values are themselves subtracted in 50 digits.
        assert found <= activation.remainder(z), z
        assert found_odd <= activation.odd_remainder(z) + (1 + mpf(z)) * mpf(10) ** -45, z


def test_near_0_the_remainder_is_at_most_three_times_too_large(activation: Activation) -> None:
    away, odd = distances_from_line(activation)
    for z, found, found_odd in zip(DISTANCES.tolist(), away, odd, strict=True):
        if 1e-4 <= z <= 0.5 / activation.parameters.get("beta", 1):
            assert activation.remainder(z) <= 3 * found, z
            assert activation.odd_remainder(z) <= 3 * found_odd, z


def test_remainders_never_decrease_and_are_0_where_phi_is_its_lines(activation: Activation) -> None:
    for bound in (activation.remainder, activation.odd_remainder):
        values = [bound(z) for z in (0.0, *DISTANCES.tolist(), 1e200, math.inf)]
        assert values == sorted(values) and values[0] <= 1e-300
    linear = activation.name in ("relu", "leaky_relu", "prelu", "identity")
    assert (activation.remainder(1e6) == 0) == linear == (activation.reach(1e-9) == math.inf)
    even_cancels = linear or activation.name in ("gelu", "gelu_tanh", "silu")
    assert (activation.odd_remainder(1e6) == 0) == even_cancels
    for z in (-1.0, math.nan):
        with pytest.raises(ArgumentError, match=activation.name):
            activation.remainder(z)


@pytest.mark.parametrize("eps", EPS)
def test_the_reach_is_the_last_distance_within_eps(activation: Activation, eps: float) -> None:
    a = activation.reach(eps)
    assert a > 0
    if math.isfinite(a):
        assert activation.remainder(a) <= eps < activation.remainder(math.nextafter(a, math.inf))
    assert activation.g_inverse(eps) >= activation.g_inverse(eps / 2) > 0
    if math.isfinite(ratio := activation.g_inverse(eps)):
        assert ratio / activation.reach(ratio) == pytest.approx(eps, rel=1e-6)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ArgumentError):
            activation.reach(bad)
        with pytest.raises(ArgumentError):
            activation.g_inverse(bad)


@pytest.mark.parametrize("t", [1e-1, 1e-2, 1e-4])
def test_b1_the_papers_table(t: float) -> None:
    """Burkholz 2022, table below Assumption 2.3, where its Taylor series converges."""
    assert parse("tanh").reach(t) == pytest.approx((3 * t) ** (1 / 3), rel=1e-12)
    assert parse("sigmoid").reach(t) == pytest.approx((48 * t) ** (1 / 3), rel=1e-12)
    assert parse("tanh").g_inverse(t) == pytest.approx(math.sqrt(3) * t**1.5, rel=1e-12)
    assert parse("sigmoid").g_inverse(t) == pytest.approx(math.sqrt(48) * t**1.5, rel=1e-12)
    for name in ("relu", "leaky_relu"):
        assert parse(name).reach(t) == parse(name).g_inverse(t) == math.inf
    rows = {"relu": (1, 0, 0), "leaky_relu": (1, 0.01, 0), "tanh": (1, 1, 0), "sigmoid": (0.25, 0.25, 0.5)}
    for name, row in rows.items():
        assert (parse(name).m_plus, parse(name).m_minus, parse(name).d) == row


@pytest.mark.parametrize("eps", EPS)
def test_b1_the_identity_inequality(activation: Activation, eps: float) -> None:
    """Lemma 2.4: |x - (phi(x) - phi(-x)) / (m_+ + m_-)| <= 2 eps / |m_+ + m_-| up to a(eps)."""
    if activation.slope_sum == 0:
        return
    a = min(activation.reach(eps), 50.0)
    x = np.linspace(-a, a, 2001)
    twin = (activation.value(x) - activation.value(-x)) / activation.slope_sum
    rounding = 1e-14 * (1 + a) * max(1.0, activation.lipschitz)
    assert (np.abs(x - twin) <= (2 * eps + rounding) / abs(activation.slope_sum)).all()
    if activation.one_sum:
        assert (np.abs(x - activation.value(x) / activation.m_plus) <= (eps + rounding) / activation.m_plus).all()


GRID = np.concatenate([np.linspace(-40, 40, 8001), np.linspace(-3, 3, 6001)])


def test_the_value_is_the_functions_and_the_modules(activation: Activation) -> None:
    phi, x = exact(activation), GRID[::37]
    expected = np.array([float(phi(mpf(float(entry)))) for entry in x])
    tolerance = 1e-14 * (1 + np.abs(x)) * max(1.0, activation.lipschitz)
    assert (np.abs(activation.value(x) - expected) <= tolerance).all()
    assert (np.abs(activation.torch_module()(torch.from_numpy(x)).numpy() - expected) <= tolerance).all()
    assert activation.value(0.0) == pytest.approx(activation.d, abs=1e-16)
    assert activation.value(np.zeros((2, 3))).shape == (2, 3)
    assert not activation.torch_module().training and activation.torch_module() is not activation.torch_module()


def test_lipschitz_jump_and_signs_are_the_functions(activation: Activation) -> None:
    x = np.sort(GRID)
    y = activation.value(x)
    steps = np.abs(np.diff(y))
    assert (steps <= activation.lipschitz * np.diff(x) + activation.jump + 1e-14 * (1 + np.abs(y[1:]))).all()
    fastest = (steps[np.diff(x) > 1e-4] / np.diff(x)[np.diff(x) > 1e-4]).max()
    assert fastest >= 0.99 * activation.lipschitz
    assert not activation.nonnegative or (y >= 0).all()
    if activation.keeps_sign:
        assert (y[x >= 0] >= 0).all() and (y[x <= 0] <= 0).all()
    else:
        assert (y[x >= 0] < 0).any() or (y[x <= 0] > 0).any()
    assert activation.nonnegative or (y < 0).any()
    assert 0.999 * min(activation.saturation, 39.0) <= np.abs(y).max() <= activation.saturation
    assert activation.homogeneous == np.allclose(activation.value(3 * x), 3 * y)


def test_the_two_gelus_and_silu_have_their_steepest_slopes() -> None:
    for name, constant in (
        ("gelu", registry.GELU_LIPSCHITZ),
        ("gelu_tanh", registry.GELU_TANH_LIPSCHITZ),
        ("silu", registry.SILU_LIPSCHITZ),
    ):
        phi = exact(parse(name))
        steepest = max(mpmath.diff(phi, mpf(x)) for x in np.linspace(1, 3, 401).tolist())
        assert steepest <= constant <= steepest * (1 + 1e-4)


def _tanh(x: Any) -> Any:
    growth = iv.exp(2 * x)
    return 1 - 2 / (growth + 1)


def test_no_interval_holds_a_steeper_gelu() -> None:
    """A proof: the derivative of the approximation, enclosed on small intervals that cover [-8, 8]."""
    iv.dps = 30
    c, k = iv.sqrt(2 / iv.pi), iv.mpf("0.044715")
    pending, covered = [(-8 + i / 8, -8 + (i + 1) / 8) for i in range(128)], 0.0
    while pending:
        low, high = pending.pop()
        x = iv.mpf([low, high])
        t = _tanh(c * (x + k * x**3))
        slope = (1 + t) / 2 + x / 2 * (1 - t**2) * c * (1 + 3 * k * x**2)
        if slope.b <= registry.GELU_TANH_LIPSCHITZ and slope.a >= -registry.GELU_TANH_LIPSCHITZ:
            covered += high - low
        else:
            assert high - low > 1e-7, (low, slope)
            pending += [(low, (low + high) / 2), ((low + high) / 2, high)]
    assert covered == 16
    # Beyond, (1 - tanh^2) x u' / 2 <= 4 exp(-2 u) x u' / 2, which falls from here.
    u = 8 * math.sqrt(2 / math.pi) * (1 + 0.044715 * 64)
    assert 2 * math.exp(-2 * u) * 3 * u < 1e-6


def test_texts_are_read_back(activation: Activation) -> None:
    assert parse(activation.text) == activation and hash(parse(activation.text)) == hash(activation)
    assert activation.proved


@pytest.mark.parametrize(
    "text",
    [
        *("", "swish", "relu:1", "tanh:", "leaky_relu:", "leaky_relu:nan", "leaky_relu:1e9", "elu:0", "elu:inf"),
        *("softplus:0", "softplus:-1", "softplus:1,1", "softplus:1,1e9", "hardtanh:1,1", "hardtanh:2,1"),
        "hardtanh:1,2,3",
    ],
)
def test_a_text_that_names_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        parse(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [True, "1", None, [1.0]])
def test_a_parameter_must_be_a_number(value: Any) -> None:
    for name, maker in ACTIVATIONS.items():
        for parameter in set(inspect.signature(maker).parameters) - {"name"}:
            with pytest.raises(ArgumentError, match=name):
                maker(**{parameter: value})


TANH: dict[str, Any] = {
    "name": "my tanh",
    "function": np.tanh,
    "m_plus": 1.0,
    "m_minus": 1.0,
    "d": 0.0,
    "reach": lambda eps: (3 * eps) ** (1 / 3),
    "lipschitz": 1.0,
    "keeps_sign": True,
}


def test_a_users_own_activation_is_taken_with_its_numbers() -> None:
    own = Activation.custom(**TANH, module=torch.nn.Tanh)
    assert not own.proved and isinstance(own.torch_module(), torch.nn.Tanh)
    for z in (1e-3, 0.1, 1.0):
        assert own.remainder(z) == pytest.approx(z**3 / 3, rel=1e-12)
        assert own.odd_remainder(z) == pytest.approx(2 * z**3 / 3, rel=1e-12)
    assert own.remainder(0) == 0
    assert own.reach(1e-3) == pytest.approx(3e-3 ** (1 / 3), rel=1e-12)
    exactly = Activation.custom("twice", lambda x: 2 * x, 2, 2, 0, lambda eps: math.inf, 2)
    assert exactly.remainder(1e9) == 0 and exactly.reach(1e-9) == math.inf
    with pytest.raises(ArgumentError, match="module"):
        exactly.torch_module()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": 0.1}, r"phi\(0\) = 0"),
        ({"m_plus": 0.9}, "phi"),
        ({"m_minus": 1.1}, r"phi\(-"),
        ({"reach": lambda eps: 1.2 * (3 * eps) ** (1 / 3)}, "up to reach"),
        ({"reach": lambda eps: 0.0}, "reach"),
        ({"reach": lambda eps: eps if eps < 1e-2 else 1e-4}, "does not fall with eps"),
        ({"reach": lambda eps: math.nan}, "reach"),
        ({"lipschitz": 0.99}, "Lipschitz"),
        ({"lipschitz": -1.0}, "Lipschitz"),
        ({"lipschitz": math.inf}, "finite"),
        ({"nonnegative": True}, "no negative"),
        ({"function": lambda x: np.tanh(x) + (np.abs(x) > 90)}, "Lipschitz"),
        ({"function": lambda x: np.tanh(x)[:3]}, "shape"),
        ({"function": lambda x: np.where(x > 50, np.nan, np.tanh(x))}, "finite"),
        ({"function": np.cosh, "m_plus": 0, "m_minus": 0, "d": 1, "reach": math.sqrt, "lipschitz": 1e44}, "sign"),
        ({"name": ""}, "name"),
    ],
)
def test_a_false_claim_about_an_own_activation_is_refused_at_its_point(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Activation.custom(**{**TANH, **change})


ROWS = [
    *("relu leaky_relu:-0.5", "leaky_relu:-0.5 relu", "leaky_relu:2 leaky_relu:0.1", "relu tanh", "tanh gelu"),
    *(
        "sigmoid tanh",
        "leaky_relu:3 tanh",
        "softplus silu",
        "elu:2 softplus:3",
        "hardtanh:0.25,1 tanh",
        "tanh hardtanh:0.25,1",
    ),
    *("hardtanh:-0.5,2 elu", "tanh softplus:0.5,5", "gelu_tanh leaky_relu:3 sigmoid", "tanh relu relu"),
]


@pytest.mark.parametrize("row", ROWS)
def test_several_in_a_row_are_an_activation_whose_bounds_hold(row: str) -> None:
    parts = [parse(text) for text in row.split()]
    one = composed(parts)
    x = np.sort(GRID)
    y = x
    for part in parts:
        y = part.value(y)
    assert (one.value(x) == y).all() and one.text == " then ".join(part.text for part in parts).replace(
        "relu then relu", "relu"
    )
    rounding = 1e-14 * (1 + np.abs(x) + np.abs(y))
    away = np.abs(y - np.where(x >= 0, one.m_plus, one.m_minus) * x - one.value(0.0))
    odd = np.abs(y - one.value(-x) - one.slope_sum * x)
    for z, far, far_odd, slack in zip(np.abs(x).tolist(), away, odd, rounding, strict=True):
        assert far <= one.remainder(z) + slack and far_odd <= one.odd_remainder(z) + slack, z
    assert (np.abs(np.diff(y)) <= one.lipschitz * np.diff(x) + one.jump + rounding[1:]).all()
    assert np.abs(y).max() <= one.saturation and one.d == pytest.approx(float(one.value(0.0)), abs=1e-15)
    assert not one.nonnegative or (y >= 0).all()
    assert not one.keeps_sign or ((y[x >= 0] >= 0).all() and (y[x <= 0] <= 0).all())
    assert one.homogeneous == all(part.homogeneous for part in parts)
    assert one.remainder(0.0) < 1e-300 and one.remainder(math.inf) in (0.0, math.inf)


def test_the_slopes_of_two_in_a_row_are_products_where_0_stays_0() -> None:
    assert composed([parse("tanh")]) == parse("tanh")
    for row, slopes in {
        "leaky_relu:-0.5 leaky_relu:0.1": (1.0, -0.5),
        "leaky_relu:0.5 leaky_relu:0.1": (1.0, 0.05),
        "relu tanh": (1.0, 0.0),
        "sigmoid tanh": (0.0, 0.0),
    }.items():
        one = composed([parse(text) for text in row.split()])
        assert (one.m_plus, one.m_minus) == pytest.approx(slopes)


def test_the_first_layer_needs_slopes_that_do_not_cancel(activation: Activation) -> None:
    """The paper's counterexamples, and where Theorem 2.7 allows them."""
    absolute = Activation.custom("|x|", np.abs, 1, -1, 0, lambda eps: math.inf, 1, nonnegative=True)
    shifted = Activation.custom("relu(x - 1)", lambda x: np.maximum(x - 1, 0), 0, 0, 0, lambda eps: 1.0, 1)
    for refused, reason in ((absolute, "cancel"), (shifted, "constant around 0"), (parse("leaky_relu:-1"), "cancel")):
        with pytest.raises(ArgumentError, match=rf"{reason}.*Theorem 2\.7"):
            check_first_layer(refused)
    if activation.text not in ("hardtanh:0.25,1.0", "hardtanh:-3.0,-0.5"):
        check_first_layer(activation)
    else:
        with pytest.raises(ArgumentError, match="constant"):
            check_first_layer(activation)


def test_the_last_number_is_found_to_the_last_bit() -> None:
    for edge in (1e-300, 3e-5, 0.7, 1.0, 12345.678, 1e300):
        assert largest(lambda a, edge=edge: a <= edge) == edge
        assert smallest(lambda a, edge=edge: a >= edge) == edge
    assert largest(lambda a: False) == 0 and largest(lambda a: True) == math.inf
    assert smallest(lambda a: True) == 0 and smallest(lambda a: False) == math.inf
