"""What the theorems ask of a person's own network: its norms, what it breaks, and estimates beside real tickets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.bounds.catalogue import THEOREMS, width_bound
from slth.bounds.lueker import FITTED, sample_size
from slth.bounds.shape import LINEAR, RELU
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.forecast import constants
from slth.forecast.estimate import _FAMILIES, OVERHEAD_BYTES
from slth.forecast.network import Described, describe
from slth.forecast.numbers import readable
from slth.forecast.requirements import Requirements, requirements
from slth.forecast.subsets import golden_pieces, mean_smallest_subset, used
from slth.network.graph import Sign
from slth.network.trace import trace
from slth.subsetsum import solve
from slth.summary import summarise
from zoo import LeNet5Features, convnet, inputs, mlp, shake

ORSEAU = {f"orseau-{name}" for name in ("3-repaired", "30", "3-or-30", "12", "12-loglog", "14")}
DENSE = {"malach-2.1", "malach-a6", "pensia-1", *ORSEAU}
BURKHOLZ = {"burkholz-2.5", "burkholz-2.6", "burkholz-2.9"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrations of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ask(model: nn.Module, shape: tuple[int, ...], domain: Any = None, **options: Any) -> Requirements:
    """All theorems at eps = 0.01 and delta = 0.05 with their own constants."""
    settings = {"eps": 0.01, "delta": 0.05, "calibrated": False, "domain": domain, **options}
    return requirements(trace(model, torch.zeros(2, *shape)), **settings)


def described(model: nn.Module, shape: tuple[int, ...], domain: Any = None) -> Described:
    return describe(trace(model, torch.zeros(2, *shape)), Domain.parse(domain))


def filled(layer: Any, weight: Any, bias: Any = None) -> Any:
    """A layer with these numbers."""
    layer.weight.data = torch.tensor(weight, dtype=layer.weight.dtype).reshape(layer.weight.shape)
    if bias is not None:
        layer.bias.data = torch.tensor(bias, dtype=layer.weight.dtype)
    return layer


def broken(found: Requirements) -> dict[str, set[str]]:
    """The assumptions that each theorem finds broken."""
    return {row.name: {each.text for each in row.broken} for row in found}


# Shapes.


def test_a_dense_network_measured_by_hand() -> None:
    first = filled(nn.Linear(2, 2), [[3.0, 0.0], [0.0, -4.0]], [0.0, 2.0])
    last = filled(nn.Linear(2, 1, bias=False), [[1.0, 2.0]])
    net = described(nn.Sequential(first, nn.ReLU(), last), (2,), (-1, 2))
    one, two = net.shape.layers
    assert (one.inputs, one.outputs, one.taps, one.groups, one.positions) == (2, 2, 1, 1, 1)
    assert (one.largest, one.row_sum, one.column_sum, one.entry_sum) == (4.0, 4.0, 4.0, 7.0)
    assert one.spectral == pytest.approx(4.0) and two.spectral == pytest.approx(math.sqrt(5))
    assert (one.nonzeros, one.row_nonzeros, one.biases, one.largest_bias, two.biases) == (2, 1, 1, 2.0, 0)
    assert (one.activation, two.activation) == (RELU, LINEAR) and net.spectral_exact == (True, True)
    assert (net.shape.input_2norm, net.shape.input_max, net.shape.input_1norm) == (math.sqrt(8), 2.0, 4.0)
    # relu(3 x) is at most 6, relu(2 - 4 y) at most 6; the norms alone allow 4 * 4 + 2 = 18.
    assert net.shape.activation_1norms == pytest.approx((4.0, 12.0)) and net.shape.largest_activation == 6.0
    assert net.signs == (Sign.SIGNED, Sign.NONNEGATIVE) and not net.shape.input_nonnegative and not net.expansion


def test_a_convolution_measured_by_hand() -> None:
    conv = filled(nn.Conv1d(1, 1, 3, padding=1), [1.0, -2.0, 1.0], [0.5])
    net = described(nn.Sequential(conv, nn.ReLU()), (1, 50), (0, 1))
    (layer,) = net.shape.layers
    assert (layer.taps, layer.positions, layer.fan_in) == (3, 50, 3)
    assert (layer.row_sum, layer.column_sum, layer.largest, layer.largest_bias) == (4.0, 4.0, 2.0, 0.5)
    # Its symbol 2 cos ω - 2 is largest at π; √(‖W‖_1 ‖W‖_∞) says the same.
    assert layer.spectral == pytest.approx(4.0) and net.spectral_exact == (False,)
    assert net.shape.input_nonnegative and net.signs == (Sign.NONNEGATIVE,)


def test_groups_strides_and_padding_keep_the_spectral_bound_a_bound() -> None:
    for layer in (
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Conv2d(4, 6, 3, stride=2, padding=2),
        nn.Conv2d(4, 4, (1, 2), groups=4, dilation=2),
        nn.Conv2d(4, 5, 1),
    ):
        shake(layer, 3)
        net = described(layer, (4, 6, 6))
        images = torch.eye(144).reshape(144, 4, 6, 6)
        matrix = (layer(images) - layer(torch.zeros(1, 4, 6, 6))).detach().reshape(144, -1).double()
        true = float(torch.linalg.matrix_norm(matrix, 2))
        assert true <= net.shape.layers[0].spectral * (1 + 1e-6) <= 2.5 * true
        assert net.spectral_exact == (layer.kernel_size == (1, 1),)
        assert net.shape.layers[0].groups == layer.groups
        # Pairs of channels in different groups have no weight.
        assert net.shape.layers[0].weights == layer.weight.numel()


def test_without_a_domain_inputs_are_the_unit_balls() -> None:
    shape = described(mlp((9, 3)), (9,)).shape
    assert (shape.input_2norm, shape.input_max, shape.input_1norm, shape.input_nonnegative) == (1.0, 1.0, 3.0, False)
    # An activation in front of the first layer decides what that layer reads.
    shape = described(nn.Sequential(nn.Sigmoid(), nn.Linear(9, 3)), (9,)).shape
    assert 1.0 < shape.input_2norm < 3.0 and shape.input_nonnegative


POOLED = nn.Sequential(
    nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(3, 1), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)
)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(mlp(), (5,)), (convnet(), (4, 6, 6)), (shake(POOLED, 1), (2, 8, 8)), (shake(LeNet5Features(), 2), (1, 28, 28))],
    ids=["mlp", "convnet", "tanh with overlapping windows", "lenet5"],
)
@pytest.mark.parametrize("domain", [(0, 1), (-1, 2)])
def test_no_activation_is_larger_than_the_shape_says(model: nn.Module, shape: Any, domain: Any) -> None:
    said = described(model, shape, domain).shape
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in model.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model.double()(inputs(shape, 40, domain))
    model.float()
    for hook in hooks:
        hook.remove()
    assert said.activation_1norms is not None and len(seen) == said.depth
    for values, bound in zip(seen, said.activation_1norms, strict=True):
        assert float(values.flatten(1).abs().sum(1).max()) <= bound * (1 + 1e-12)
    assert max(float(values.abs().max()) for values in seen) <= said.largest_activation * (1 + 1e-12)


def test_several_activations_in_a_row_are_one() -> None:
    def after(*parts: nn.Module) -> Any:
        return described(nn.Sequential(nn.Linear(3, 3), *parts, nn.Linear(3, 1)), (3,)).shape.layers[0].activation

    assert after(nn.ReLU(), nn.ReLU()) == RELU and after() == LINEAR and after(nn.LeakyReLU(0.1)).m_minus == 0.1
    both = after(nn.ReLU(), nn.LeakyReLU(0.5), nn.Tanh())
    assert both.text == "relu then leaky_relu:0.5 then tanh" and not both.homogeneous and both.saturation == 1.0


# Assumptions.


def normalised(bias: bool = False) -> nn.Sequential:
    """Every norm of every dense theorem below its limit."""
    net = mlp((4, 6, 3), bias=bias, seed=1)
    for layer in (net[0], net[2]):
        weight = layer.weight.data
        n = weight.shape[1]
        weight /= 1.01 * max(float(torch.linalg.matrix_norm(weight, 2)), math.sqrt(n) * float(weight.abs().max()))
    return net


def test_a_normalised_network_breaks_nothing() -> None:
    found = ask(normalised(), (4,))
    for name in DENSE | BURKHOLZ | {"malach-2.3"}:
        assert found[name].state == "holds" and not found[name].broken and found[name].bound.output_factor == 1.0
        assert found[name].bound == found[name].as_it_is
    assert broken(found)["dacunha-1"] >= {"inputs in [0, 1]"}
    assert {row.name for row in found if row.state == "holds" and row.kind == "proved"} >= {"malach-a6", "orseau-30"}
    assert found["pensia-1"].kind == "fitted"


def test_biases_break_the_theorems_without_them() -> None:
    names = {name for name, texts in broken(ask(normalised(bias=True), (4,))).items() if "no biases" in texts}
    assert names == DENSE | {"malach-2.3", "orseau-3"}


def test_norms_above_the_limits_are_named_with_the_number_and_the_division() -> None:
    net = normalised()
    net[0].weight.data *= 5
    found = ask(net, (4,), (-1, 1))
    row = found["pensia-1"]
    texts = {each.text: each for each in row.broken}
    assert texts.keys() >= {"‖x‖_2 <= 1", "‖W_i‖_2 <= 1"}
    assert texts["‖x‖_2 <= 1"].got == "sup ‖x‖_2 = 2"
    spectral = float(torch.linalg.matrix_norm(net[0].weight.detach().double(), 2))
    assert (
        texts["‖W_i‖_2 <= 1"].got == f"‖W_1‖_2 = {spectral:.6g}" and f"{spectral:.4g}" in texts["‖W_i‖_2 <= 1"].remedy
    )
    assert row.state == "divided" and row.bound.factors == pytest.approx((2.0, spectral, 1.0))
    assert row.bound.weights > row.as_it_is.weights
    assert "√s ‖W_i‖_max <= 1" in broken(found)["malach-a6"] and found["orseau-30"].state == "holds"


def test_da_cunha_on_convolutions() -> None:
    conv = filled(nn.Conv2d(1, 2, 2, bias=False), [0.25] * 4 + [-0.2, 0.2, 0.0, 0.5])
    net = nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(3, 1), nn.Conv2d(2, 1, 1, bias=False))
    net[3].weight.data.fill_(0.5)
    found = ask(net, (1, 8, 8), (0, 1))
    assert found["dacunha-1"].state == "holds" and found["dacunha-1"].bound.widths[0] == 1
    assert all("dense layers" in texts for name, texts in broken(found).items() if name in DENSE | BURKHOLZ)
    # Signed inputs cannot be divided away, large kernels can.
    signed = ask(net, (1, 8, 8), (-0.5, 1))["dacunha-1"]
    assert signed.state == "broken" and [each.text for each in signed.left] == ["inputs in [0, 1]"]
    conv.weight.data *= 3
    large = ask(net, (1, 8, 8), (0, 1))["dacunha-1"]
    assert large.state == "divided" and large.bound.factors == pytest.approx((1.0, 3.0, 1.0))
    assert "3 for one output channel" in large.broken[0].got and "divide" in large.broken[0].remedy


def test_overlapping_windows_break_all_norms_but_the_largest_entry() -> None:
    found = ask(shake(POOLED, 1), (2, 8, 8), (0, 1))
    text = "pooling and padding expand no norm"
    names = {name for name, texts in broken(found).items() if text in texts}
    assert names == THEOREMS.keys() - {"dacunha-1"}
    assert (
        next(each for each in found["pensia-1"].extra if not each.holds).got
        == "max_pool 'max_pool2d' may count an entry 9 times"
    )
    # Windows side by side do not.
    assert not any(text in texts for texts in broken(ask(convnet(), (4, 6, 6), (0, 1))).values())
    mirrored = nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU(), nn.ReflectionPad1d(2), nn.Conv1d(1, 1, 3))
    assert text in broken(ask(mirrored, (1, 6)))["burkholz-2.9"]


def test_a_convolutional_network_with_tanh() -> None:
    found = ask(shake(POOLED, 1), (2, 8, 8), (0, 1))
    for name in DENSE | {"dacunha-1"}:
        row = found[name]
        relu = next(each for each in row.broken if each.text == "ReLU activations")
        assert relu.got == "tanh after layer 1" and row.state == "broken"
        # tanh is not positively homogeneous: nothing can be divided.
        assert row.bound == row.as_it_is
    assert all("ReLU activations" not in texts for name, texts in broken(found).items() if name in BURKHOLZ)


def test_an_activation_with_a_value_at_zero_needs_mirrored_pairs() -> None:
    net = normalised()
    net[1] = nn.Sigmoid()
    texts = broken(ask(net, (4,)))
    assert "φ(0) = 0 for the first activation" in texts["burkholz-2.5"]
    assert not texts["burkholz-2.6"] and not texts["burkholz-2.9"]


# Numbers.


@pytest.mark.parametrize("domain", [None, (0, 1), (-1, 3)])
def test_numbers_are_those_of_the_bounds(domain: Any) -> None:
    found = ask(mlp((5, 8, 3)), (5,), domain)
    assert [row.name for row in found] == list(THEOREMS)
    for row in found:
        direct = width_bound(row.name, found.network.shape, 0.01, 0.05, normalise=True)
        assert row.bound == direct and row.as_it_is == THEOREMS[row.name](found.network.shape, 0.01, 0.05, None)
        assert row.to_json()["source_weights"] == direct.weights


def test_a_smaller_error_never_takes_fewer_weights() -> None:
    answers = [ask(convnet(), (4, 6, 6), (0, 1), eps=eps) for eps in (1e-6, 1e-3, 1e-2, 0.1, 0.5)]
    for name in THEOREMS:
        weights = [found[name].bound.weights for found in answers]
        assert weights == sorted(weights, reverse=True)
        kept = [found[name].estimate.kept_weights for found in answers]
        assert None in kept or kept == sorted(kept, reverse=True)  # type: ignore[type-var]


def test_measured_base_sets_take_the_place_of_fitted_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"eps": 0.3, "delta": 0.5, "theorems": ["burkholz-2.9", "orseau-30"]}
    told: list[str] = []
    found = ask(normalised(), (4,), calibrated=True, on_progress=lambda what, *_: told.append(what), **options)
    used_now = {each.name: each for each in found["burkholz-2.9"].constants}
    assert set(told) == {"norms of layers", "base sets of uniform elements", "base sets of half-product elements"}
    assert found["burkholz-2.9"].kind == "calibrated"
    for name, law in (("C", "uniform"), ("C_two", "half-product")):
        each = used_now[name]
        assert (each.kind, each.elements) == ("calibrated", law) and each.base_set_size is not None
        assert sample_size(0.3, 0.5, each.value) == each.base_set_size
    shape = found.network.shape
    values = {name: used_now[name].value for name in ("C", "C_two")}
    assert found["burkholz-2.9"].bound == width_bound("burkholz-2.9", shape, 0.3, 0.5, values, normalise=True)
    assert found["orseau-30"].kind == "proved"
    # The second time nothing is measured.
    monkeypatch.setattr(constants, "calibrate", lambda *_, **__: pytest.fail("measured again"))
    again = ask(normalised(), (4,), calibrated=True, **options)
    assert again["burkholz-2.9"].bound == found["burkholz-2.9"].bound
    # Below a hundredth only what was kept is used.
    rare = ask(normalised(), (4,), calibrated=True, eps=0.005, delta=0.05)
    assert rare["burkholz-2.9"].kind == "fitted" and ask(normalised(), (4,), calibrated=True, eps=1e-9)


def test_every_fitted_constant_has_its_law() -> None:
    assert len(constants.LAWS) == len(FITTED) == 3
    for row in (*ask(normalised(), (4,)), *ask(shake(POOLED, 1), (2, 8, 8))):
        for each in row.constants:
            assert each.elements or each.kind != "fitted"
    assert _FAMILIES.keys() == THEOREMS.keys()


def test_what_cannot_be_used_is_refused() -> None:
    for options, where in (
        ({"eps": 0}, "eps"),
        ({"eps": math.inf}, "eps"),
        ({"delta": 1.0}, "delta"),
        ({"theorems": ["malach"]}, "theorem"),
        ({"theorems": []}, "theorem"),
        ({"domain": (1, 0)}, "domain"),
    ):
        with pytest.raises(ArgumentError) as caught:
            ask(normalised(), (4,), **options)  # type: ignore[arg-type]
        assert caught.value.where == where
    with pytest.raises(ArgumentError, match=r"orseau-30.*dacunha-1"):
        ask(normalised(), (4,), theorems=["nobody"])
    with pytest.raises(ArgumentError, match="Module"):
        slth.requirements(3, eps=0.1, delta=0.1)  # type: ignore[arg-type]
    found = slth.requirements(normalised(), eps=0.1, delta=0.1, theorems=["orseau-30"], calibrated=False)
    with pytest.raises(KeyError):
        found["pensia-1"]


# Estimates.


@pytest.mark.parametrize(("m", "tolerance"), [(12, 0.1), (20, 0.01), (28, 0.001)])
@pytest.mark.parametrize("product", [False, True])
def test_mean_smallest_subsets_are_those_that_a_search_finds(m: int, tolerance: float, product: bool) -> None:
    generator = np.random.default_rng(0)
    base = generator.uniform(-1, 1, (1500, m)) * (generator.uniform(-1, 1, (1500, m)) if product else 1)
    wanted = generator.uniform(-0.5, 0.5, 1500)
    answer = solve(base, wanted, objective="sparsest", tolerance=tolerance, threads=1)
    found = answer.sizes[answer.errors <= tolerance]
    said = mean_smallest_subset(np.abs(wanted), m, tolerance, product=product)
    assert said == pytest.approx(found.mean(), rel=0.12)


def test_little_things_about_subsets() -> None:
    assert mean_smallest_subset(np.zeros(5), 20, 0.01, product=True) == 0.0
    assert mean_smallest_subset(np.ones(5), 4, 1e-12, product=False) == 2.0
    assert used(20, 20.0, 1) == 20.0 and used(20, 10.0, 1) == 10.0
    assert golden_pieces(np.array([1.0]), 1.0) == 0.0 and golden_pieces(np.array([1.0]), 1e-6) == pytest.approx(35 / 3)
    assert readable(999_950) == "999,950" and readable(999_999_999) == "1.0e9" and readable(10**19 + 1) == "1.0e19"


def test_an_estimate_is_near_the_ticket_of_its_theorem(tmp_path: Path) -> None:
    net = mlp((12, 40, 10), bias=False, seed=2)
    target = trace(net, torch.zeros(1, 12))
    (row,) = requirements(target, eps=0.1, delta=0.1, domain=(0, 1), theorems=["orseau-30"], calibrated=False)
    said = row.estimate
    assert said.construction == "golden-ratio" and said.find_seconds is not None and not said.refused
    ticket = slth.find_ticket(
        target, construction="golden-ratio", tolerance=row.bound.tolerances[0], domain=(0, 1), threads=1
    )
    real = summarise(ticket, ticket.save(tmp_path / "net.ticket"))
    assert said.kept_weights == pytest.approx(real.kept_weights, rel=0.15)
    assert said.ticket_bytes == pytest.approx(real.ticket_bytes, rel=0.3)


@pytest.mark.parametrize("domain", [(0, 1), (-1, 1)])
def test_an_estimate_of_depth_three_is_near_its_ticket(domain: Any) -> None:
    net = shake(nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)), 3)
    target = trace(net, torch.zeros(1, 2))
    options = {"eps": 0.9, "delta": 0.9, "domain": domain, "calibrated": False}
    (row,) = requirements(target, theorems=["malach-2.3"], **options)
    _, k1, k2, _ = row.bound.widths
    said, settings = row.estimate, {"depth": "three", "candidates": k2 // 6}
    assert said.construction == "pairs" and said.find_seconds is not None and not said.refused
    ticket = slth.find_ticket(
        target, construction="pairs", base_set_size=k1 // 12, settings=settings, domain=domain, threads=1
    )
    masks = sum(tensor.nbytes for mask in ticket.masks for tensor in mask.tensors().values())
    assert said.kept_weights == ticket.n_kept
    assert said.ticket_bytes - OVERHEAD_BYTES == pytest.approx(masks, rel=0.3)


def test_sources_too_wide_to_search_are_refused_with_the_number() -> None:
    found = ask(normalised(), (4,), eps=0.5, delta=0.5)
    assert found["malach-a6"].estimate.refused == "" and found["malach-a6"].estimate.find_seconds
    assert found["burkholz-2.6"].estimate.find_seconds and found["burkholz-2.6"].estimate.ticket_bytes
    small = ask(normalised(), (4,), eps=1e-6)
    assert small["malach-a6"].estimate.refused.startswith("pools of ")
    assert small["pensia-1"].estimate.refused.endswith(" > 40") and small["pensia-1"].estimate.kept_weights
    assert "float64" in ask(normalised(), (4,), eps=1e-14)["orseau-30"].estimate.refused
    assert ask(mlp((4, 4, 4, 4)), (4,))["malach-2.3"].estimate.kept_weights is None
    # Inputs of both signs need two neurons for each weight of the first layer.
    kept = [ask(normalised(), (4,), domain)["malach-a6"].estimate.kept_weights for domain in ((-1, 1), (0, 1))]
    assert kept == [4 * 24 + 2 * 18, 2 * 24 + 2 * 18]


def test_estimates_divide_no_weights_where_the_network_cannot_be_divided() -> None:
    """tanh's factors are named, and nothing is divided by them."""
    net = mlp((6, 5, 2), bias=False, seed=3)
    net[0].weight.data *= 4
    net[1] = nn.Tanh()
    (row,) = ask(net, (6,), (0, 1), theorems=["burkholz-2.5"])
    assert row.bound.factors[1] > 1 and not row.divided
    m = row.bound.widths[1] // 6
    sizes = [
        mean_smallest_subset(row_weights, m, tolerance, product=True)
        for row_weights, tolerance in zip(
            (
                net[0].weight.detach().abs().double().numpy().ravel(),
                net[2].weight.detach().abs().double().numpy().ravel(),
            ),
            row.bound.tolerances,
            strict=True,
        )
    ]
    second = row.bound.widths[3] // 5
    alive = [6 * used(m, sizes[0], 5), 5 * used(second, sizes[1], 2)]
    assert row.estimate.kept_weights == pytest.approx(30 * sizes[0] + 10 * sizes[1] + sum(alive), rel=0.05)
