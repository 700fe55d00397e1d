"""Kaiming's and Xavier's initialisations: torch's scales by shape, and a power of 2 for each layer (theory 0.5)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import nn

import slth
from command_line import make_folder
from command_line import slth as command
from slth.artifact import TICKETS, from_bytes, to_bytes
from slth.constructions.transfer import transferred
from slth.errors import ArgumentError, TicketError
from slth.plan import Size
from slth.report.page import render
from slth.source.copies import CopySource
from slth.source.distributions import draw
from slth.source.initialised import INITIALISED, from_json, parse
from slth.source.spec import BlockSource, SourceLayer
from slth.summary import output_factor, summarise
from test_artifact import forge
from zoo import Case, convnet, convnet_in_one_group, inputs, mlp, shake

FILLS = {
    "kaiming-uniform": nn.init.kaiming_uniform_,
    "kaiming-normal": nn.init.kaiming_normal_,
    "xavier-uniform": nn.init.xavier_uniform_,
    "xavier-normal": nn.init.xavier_normal_,
}
CONSTRUCTIONS = ("two-for-one", "conv", "one-for-one")


def case(construction: str, law: str = "kaiming-uniform", **options: Any) -> Case:
    """A small network with convolutions, groups where the construction allows them."""
    one_group = construction == "one-for-one"
    model, shape = (convnet_in_one_group(), (2, 6, 6)) if one_group else (convnet(), (4, 6, 6))
    own = {"construction": construction, "distribution": law, "domain": (0, 1), "base_set_size": 6}
    return Case(model, shape, {**own, **options})


def tensors(source: SourceLayer) -> list[tuple[np.ndarray, float, float, tuple[int, ...]]]:
    """Weights as evaluated, the layer's factor and own scale, and the shape in which torch would fill them."""
    (expand, combine), kernel = source.drawn_scales, source.kernel
    ones = (1,) * len(kernel)
    if isinstance(source, CopySource):
        shape = (source.rows, source.columns, *kernel)
        return [(source.weight(0, source.rows), source.scale, combine, shape)]
    first, second = (kernel, ones) if source.kernel_first else (ones, kernel)
    return [
        (source.expand_weight(), source.expand_scale, expand, (source.n_neurons, source.inputs_per_group, *first)),
        (
            source.combine_weight(0, source.outputs),
            source.scale,
            combine,
            (source.outputs, source.neurons_per_group, *second),
        ),
    ]


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize("law", INITIALISED)
def test_weights_are_the_laws_numbers_times_torchs_scale_and_a_power_of_two(law: str, construction: str) -> None:
    """Bit for bit: the source is float32(scale * u), and multiplying by the factor changes the exponent alone."""
    for source, _, _ in case(construction, law).find().layers:
        for number, (weight, factor, scale, shape) in enumerate(tensors(source)):
            assert math.frexp(factor)[0] == 0.5 and weight.size == math.prod(shape)
            drawn = weight / np.float32(factor)
            assert (drawn * np.float32(factor) == weight).all()
            tensor = 0 if isinstance(source, CopySource) else 2 * number
            plain = draw(type(source.law).__mro__[1](), source._key(tensor), 0, weight.size)  # type: ignore[call-arg]
            np.testing.assert_array_equal(drawn.ravel(), plain * np.float32(scale))
            fill = torch.empty(shape)
            FILLS[law](fill)
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(fill)
            fan = fan_in if "kaiming" in law else (fan_in + fan_out) / 2
            gain = math.sqrt(2) if "kaiming" in law else 1.0
            assert scale == pytest.approx(gain / math.sqrt(fan) * (math.sqrt(3) if "uniform" in law else 1), rel=1e-6)
        if source.bias and not isinstance(source, CopySource):
            biases = source.expand_bias() / np.float32(source.expand_scale)
            plain = draw(type(source.law).__mro__[1](), source._key(1), 0, source.n_neurons)  # type: ignore[call-arg]
            np.testing.assert_array_equal(biases, plain * np.float32(source.drawn_scales[0]))


@pytest.mark.parametrize("law", INITIALISED)
def test_a_layers_weights_have_the_distribution_of_torchs(law: str) -> None:
    """64 cells that torch's own law makes equally likely, for both layers; and no weight beyond its bound."""
    source = BlockSource(1, 0, 50, 40, 1, (3,), False, 40, 1.0, "uniform", parse(law))
    for weight, _, _, shape in tensors(source):
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        deviation = math.sqrt(2 / fan_in) if "kaiming" in law else math.sqrt(2 / (fan_in + fan_out))
        bound = math.sqrt(3) * deviation
        edges = [NormalDist(0, deviation).inv_cdf(k / 64) for k in range(1, 64)]
        if "uniform" in law:
            edges = [bound * (k / 32 - 1) for k in range(1, 64)]
            assert 0.999 * bound < np.abs(weight).max() <= bound * (1 + 1e-7)
        counts = np.bincount(np.searchsorted(edges, weight.ravel()), minlength=64)
        expected = weight.size / 64
        assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, 63)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_the_source_knows_the_targets_shape_alone(construction: str) -> None:
    """Two targets of one shape, the second of 1000 times larger weights: the same source, but for the factors."""
    small = case(construction)
    large = Case(shake(case(construction).model, 5, 400.0), small.shape, small.options)
    one, other = small.find(), large.find()
    assert one.spec.seed == other.spec.seed
    for a, b in zip(one.spec.layers, other.spec.layers, strict=True):
        assert (a.block_width, a.drawn_scales) == (b.block_width, b.drawn_scales) and b.scale > a.scale
        for (x, fx, _, _), (y, fy, _, _) in zip(tensors(a), tensors(b), strict=True):
            np.testing.assert_array_equal(x / np.float32(fx), y / np.float32(fy))


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize("law", ["kaiming-normal", "xavier-uniform"])
def test_the_ticket_is_the_target_to_the_certified_error_in_every_form(law: str, construction: str) -> None:
    made = case(construction, law, base_set_size=10, domain=(-1, 1))
    target = made.target()
    ticket = made.find(target)
    again = from_bytes(to_bytes(ticket))
    assert again == ticket and to_bytes(again) == to_bytes(ticket)
    checked = slth.verify(again, target, (-1, 1))
    assert checked.holds and 0 < checked.observed_error <= checked.certified_error
    x = inputs(made.shape, 6)
    outputs = [ticket.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse", "folded")]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-11, atol=1e-11)


@given(st.floats(1e-6, 1e6), st.floats(1e-4, 3.0), st.floats(1e-4, 3.0), st.sampled_from(["relu", "leaky_relu:0.1"]))
def test_products_have_the_scale_that_was_chosen_to_within_a_root_of_two(
    scale: float, expand: float, combine: float, name: str
) -> None:
    found = transferred(Size(10, scale), (expand, combine), slth.activations.parse(name))
    assert found.expand_scale == 1.0 and math.frexp(found.scale)[0] == 0.5
    assert abs(math.log2(found.scale * expand * combine / scale)) <= 0.5 + 1e-9


@pytest.mark.parametrize("law", ["normal", "kaiming-normal", "xavier-uniform"])
def test_an_activation_that_bends_is_as_near_to_its_lines_as_was_asked(law: str) -> None:
    """Wherever inputs of the domain are, with the largest weight that the law can draw."""
    made = Case(mlp(), (5,), {"distribution": law, "source_activation": "tanh", "activation_error": 1e-3})
    ticket = made.find(domain=(-2, 2), base_set_size=10)
    source = ticket.spec.layers[0]
    expand = source.whole_scales[0] * source.law.support[1]
    assert source.activation.remainder(2 * expand) <= 1e-3 * 2 * expand
    # Two powers of 2, each rounded down: less than a quarter of the largest weight that would do is not chosen.
    assert source.activation.remainder(9 * expand) > 1e-3 * 9 * expand
    assert slth.verify(ticket, made.model, (-2, 2)).holds


@pytest.mark.parametrize("law", INITIALISED)
def test_errors_are_about_those_of_the_law_itself(law: str) -> None:
    """The power of 2 is off by a factor of sqrt(2) at most, and errors are proportional to it."""
    plain = law.split("-")[1]
    mean = {}
    for name in (plain, law):
        tickets = [
            slth.find_ticket(mlp((10, 30, 20)), torch.zeros(1, 10), distribution=name, base_set_size=12, seed=seed)
            for seed in range(6)
        ]
        mean[name] = np.mean([ticket.facts[1].mean_weight_error for ticket in tickets])
    assert mean[law] < 2 * mean[plain]


# One factor on the output


def unfactored(ticket: slth.Ticket) -> nn.Module:
    """The masked module with the source's own weights: every factor taken out again."""
    network = ticket.module("masked", dtype=torch.float64)
    for source, _, facts in ticket.layers:
        layer = network.get_submodule(facts.name)
        if hasattr(layer, "expand"):
            layer.expand.weight_orig.data /= source.expand_scale
            if source.bias:
                layer.expand.bias_orig.data /= source.expand_scale
        layer.combine.weight_orig.data /= source.scale
    return network


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2)])
def test_factors_are_one_on_the_output_where_nothing_is_in_the_way(activation: nn.Module, construction: str) -> None:
    """Biases of later layers come from the first one's with one-for-one, whose later source layers have none."""
    biased = construction == "one-for-one"
    model = nn.Sequential(nn.Conv1d(2, 3, 2), activation, nn.MaxPool1d(2), nn.Conv1d(3, 2, 2, bias=biased))
    made = Case(shake(model, 0), (2, 8), {"construction": construction, "distribution": "kaiming-uniform"})
    ticket = made.find(base_set_size=8, domain=(0, 1))
    factor = output_factor(ticket)
    assert factor is not None and math.frexp(factor)[0] == 0.5 and factor != 1.0
    x = inputs((2, 8), 8, (0, 1))
    whole = ticket.module("masked", dtype=torch.float64)(x)
    torch.testing.assert_close(unfactored(ticket)(x) * factor, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "construction"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "two-for-one"),
        (nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2)), "one-for-one"),
        (nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)), "conv"),
    ],
)
def test_where_biases_or_activations_are_in_the_way_factors_are_the_layers_own(
    model: nn.Module, construction: str
) -> None:
    made = Case(shake(model, 0), (3,), {"construction": construction, "distribution": "kaiming-normal"})
    ticket = made.find(base_set_size=8)
    assert output_factor(ticket) is None
    x, product = inputs((3,), 8), math.prod(s.scale * s.expand_scale for s in ticket.spec.layers)
    off = unfactored(ticket)(x) * product - ticket.module("masked", dtype=torch.float64)(x)
    assert float(off.abs().max()) > 1e-3


# Names, files, the command line


def test_names_are_laws_of_a_source_and_nothing_else() -> None:
    for name, kind in INITIALISED.items():
        assert parse(name) == kind() == from_json(json.loads(json.dumps(kind().to_json()))) and kind().label == name
        for wrong in (f"{name}:2", f"{name}x"):
            with pytest.raises(ArgumentError, match="distribution"):
                parse(wrong)
        with pytest.raises(ArgumentError):
            from_json({"name": name, "gain": 2})
    with pytest.raises(ArgumentError, match="xavier-normal"):
        parse("gauss")
    with pytest.raises(ArgumentError, match="numbers between colons"):
        parse("hyperbolic:x")


@pytest.mark.parametrize("construction", ["pairs", "golden-ratio"])
def test_a_construction_with_a_law_of_its_own_refuses_it(construction: str) -> None:
    with pytest.raises(ArgumentError, match=f"construction '{construction}' prescribes"):
        Case(mlp(), (5,), {"construction": construction, "tolerance": 0.1}).find(distribution="kaiming-uniform")


def test_a_file_whose_factors_are_no_powers_of_two_is_refused() -> None:
    ticket = Case(mlp((2, 3, 1)), (2,), {"distribution": "kaiming-uniform", "base_set_size": 3}).find()
    header, arrays = TICKETS.header(ticket), TICKETS.tensors(ticket)
    assert [set(layer) - {"order", "elements", "input_sign"} for layer in header["source"]["layers"]] == [
        {"block_width", "scale"}
    ] * 2
    header["source"]["layers"][0]["scale"] = 24.0
    with pytest.raises(TicketError, match="power of 2"):
        from_bytes(forge(header, arrays))
    pool = Case(mlp((2, 3, 1)), (2,), {"construction": "pairs", "base_set_size": 9}).find()
    header, arrays = TICKETS.header(pool), TICKETS.tensors(pool)
    header["source"]["distribution"] = "kaiming-uniform"
    with pytest.raises(TicketError, match="'pairs'"):
        from_bytes(forge(header, arrays))


def test_weights_out_of_a_float32s_range_are_refused() -> None:
    for size in (1e-33, 1e33):
        with pytest.raises(ArgumentError, match="within float32"):
            Case(shake(mlp((5, 3)), 0, size), (5,)).find(distribution="kaiming-uniform")


def test_show_names_the_law_with_its_scales_and_factors(tmp_path: Path) -> None:
    home = make_folder(tmp_path)
    found = command(
        *("find", "net.safetensors", "-o", "a.ticket", "--set", "distribution=xavier-normal", "--base-set-size", 8),
        cwd=home,
    )
    assert found.status == 0
    shown = command("show", "a.ticket", "--html", "a.html", cwd=home)
    ticket = slth.load(home / "a.ticket")
    for source, layer in zip(ticket.spec.layers, summarise(ticket).layers, strict=True):
        power = round(math.log2(source.scale))
        assert layer.factors == (1.0, source.scale) and layer.drawn_scales == source.drawn_scales
        assert f"{source.drawn_scales[0]:.3g} x 1 and {source.drawn_scales[1]:.3g} x 2^{power}" in " ".join(
            shown.out.split()
        )
    assert "weights xavier-normal" in shown.out and "the layers' own" in shown.out
    assert "<b>xavier-normal</b>" in (home / "a.html").read_text()
    bare = Case(mlp(bias=False), (5,), {"distribution": "kaiming-uniform", "base_set_size": 6}).find()
    assert "one factor on the output" in render(bare, title="a")
    plain = Case(mlp(), (5,), {"distribution": "normal", "base_set_size": 6}).find()
    page = render(plain, title="a")
    assert "<dd>normal</dd>" in page and "power of 2" not in page
