"""The construction `conv` for inputs of either sign: taps, a split into signs, a shift (theory 5.5.5, check C9)."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import slth
from command_line import make_folder
from command_line import slth as command
from oracle import _UNIT, best_subset, whole
from slth.artifact import TICKETS, from_bytes, to_bytes
from slth.certify.bounds import METHODS, bound
from slth.certify.region import Box
from slth.constructions.shift import shifts
from slth.copies import realise_all
from slth.errors import ArgumentError, TicketError
from slth.mask import BlockMask, EitherSignMask, KernelMask
from slth.network.graph import Sign
from slth.realise import realise
from slth.report.facts import NEGATIVE, POSITIVE, spell_out, subset_sizes
from slth.report.page import render
from slth.runtime import evaluate
from slth.source.signed import ShiftedSource, SplitSource, TapSource
from slth.summary import base_set_sizes, summarise
from test_artifact import forge
from test_conv import GEOMETRIES
from zoo import Case, cases, convnet, inputs, mlp, shake

FORMS = ("masked", "sparse", "folded")
WAYS = ("taps", "split", "shift")
KINDS = {"taps": TapSource, "split": SplitSource, "shift": ShiftedSource}


def signed(
    way: str, model: nn.Module, shape: tuple[int, ...], domain: Any = (-1, 1), size: int = 8, **options: Any
) -> Case:
    """A case of this construction and way."""
    own = {"construction": "conv", "settings": {"signed": way}, "domain": domain, "base_set_size": size}
    return Case(model, shape, {**own, **options})


@st.composite
def signed_cases(draw: st.DrawFn) -> Case:
    """Any network with inputs of either sign, in a box; a shift where every input has a least value."""
    case = draw(cases(largest_base_set=8))
    options = {**case.options, "construction": "conv", "initialisation": "uniform"}
    options |= {"domain": draw(st.sampled_from([(-1, 1), (-0.5, 2), (-3, 0.25)]))}
    found = Case(case.model, case.shape, {**options, "settings": {"signed": draw(st.sampled_from(WAYS))}})
    try:
        shifts(found.target(), slth.Domain.parse(found.domain))
    except ArgumentError:
        way = draw(st.sampled_from(["taps", "split"]))
        return Case(case.model, case.shape, {**options, "settings": {"signed": way}})
    return found


def realised_layer(model: nn.Module, ticket: slth.Ticket, x: torch.Tensor) -> torch.Tensor:
    """What one layer with the realised slopes and bias gives: the target's own torch layer on both signs of x."""
    slopes = realise(*ticket.layers[0][:2]).shifted
    total = torch.zeros(())
    for kernel, part, bias in ((slopes.positive, x.clamp(min=0), slopes.bias), (slopes.negative, x.clamp(max=0), None)):
        own = copy.deepcopy(model).double()
        layer = own[-1] if isinstance(own, nn.Sequential) else own
        layer.weight.data = torch.from_numpy(kernel).reshape(layer.weight.shape)
        layer.bias = None if bias is None else nn.Parameter(torch.from_numpy(bias))
        total = total + own(part)
    return total


# Each way is right, up to the border


@given(signed_cases())
def test_forms_agree_with_each_other_and_with_the_target_to_the_certified_error(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    assert to_bytes(from_bytes(to_bytes(ticket))) == to_bytes(ticket)
    checked = slth.verify(ticket, target, case.domain)
    assert checked.holds and checked.observed_error <= checked.certified_error
    x = inputs(case.shape, 16, case.domain, seed=1)
    wanted = evaluate(target, x)
    outputs = [ticket.module(form, dtype=torch.float64)(x) for form in FORMS]
    for output in outputs:
        assert float((output - wanted).abs().max()) <= checked.certified_error
        size = 1e-3 + float(torch.maximum(output.abs().max(), outputs[0].abs().max()))
        assert float((output - outputs[0]).abs().max()) <= 1e-11 * size


@pytest.mark.parametrize("domain", [(-1, 1), (-0.25, 2)])
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("way", WAYS)
def test_c9_every_geometry_is_the_targets_on_all_pixels(way: str, name: str, domain: tuple[float, float]) -> None:
    """With the realised kernels exactly; and as far from the target as errors of weights allow."""
    model, shape = GEOMETRIES[name]
    model = shake(copy.deepcopy(model), 0)
    case = signed(way, model, shape, domain, 6)
    target, ticket = case.target(), case.find()
    x = inputs(shape, 6, domain)
    wanted = realised_layer(model, ticket, x)
    for form in FORMS:
        torch.testing.assert_close(ticket.module(form, dtype=torch.float64)(x), wanted, rtol=1e-11, atol=1e-11)
    layer, slopes = target.layers[0], realise(*ticket.layers[0][:2]).shifted
    off = np.maximum(*(np.abs(part - layer.weight_array()) for part in (slopes.positive, slopes.negative)))
    rows = off.sum(axis=(1, 2)) * max(map(abs, domain))
    if slopes.bias is not None:
        rows += np.abs(slopes.bias - (0.0 if layer.bias is None else layer.bias_array()))
    axis = -1 if layer.node.op == "linear" else 1
    found = (wanted - evaluate(target, x)).abs().transpose(axis, -1).flatten(0, -2).amax(dim=0).detach().numpy()
    assert (found <= rows * (1 + 1e-9) + 1e-12).all() and found.max() > 0


@pytest.mark.parametrize("way", WAYS)
def test_hidden_layers_behind_an_activation_of_both_signs_have_the_way_too(way: str) -> None:
    """Shifts follow from the least that tanh and ELU can give, with 1/64 more."""
    layers = [nn.Conv2d(2, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 2, 3, padding=1), nn.ELU(0.25)]
    model = shake(
        nn.Sequential(*layers, nn.AvgPool2d(2, padding=1), nn.Conv2d(2, 1, 2), nn.ReLU(), nn.Conv2d(1, 1, 1)), 0
    )
    case = signed(way, model, (2, 5, 5), size=14)
    ticket = case.find()
    kinds = [isinstance(source, KINDS[way]) for source in ticket.spec.layers]
    assert kinds == [True, True, True, False]
    if way == "shift":
        assert [source.shift for source in ticket.spec.layers[:3]] == [1.0, 1.015625, 0.25390625]
    checked = slth.verify(ticket, model, (-1, 1))
    assert checked.holds and checked.observed_error <= checked.certified_error < 100 * checked.observed_error


# The masks


def dense(ticket: slth.Ticket) -> dict[str, np.ndarray]:
    """Weights and masks of the first layer, from the masked module."""
    state = ticket.module("masked", dtype=torch.float64).get_submodule(ticket.facts[0].name).state_dict()
    return {
        key: value.numpy().reshape(*value.shape[:2], -1) if value.dim() > 1 else value.numpy()
        for key, value in state.items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_masks_keep_what_their_way_allows(way: str) -> None:
    model = shake(nn.Conv2d(4, 6, 3, groups=2, padding=1), 0)
    ticket = signed(way, model, (4, 5, 5)).find()
    source, mask, facts = ticket.layers[0]
    assert type(source) is KINDS[way] and facts.input_sign is Sign.SIGNED and source.bias
    assert type(mask) is (BlockMask if way == "taps" else EitherSignMask)
    parts = dense(ticket)
    expand, kept, biases = parts["expand.weight_orig"], parts["expand.weight_mask"], parts["expand.bias_mask"]
    assert expand.shape[1:] == (2 if way != "split" else 4, 9)
    assert ticket.n_kept == kept.sum() + biases.sum() + parts["combine.weight_mask"].sum()
    assert source.n_weights == expand.size + biases.size + parts["combine.weight_mask"].size
    if way == "taps":
        # One entry of one kernel, or the bias; both signs occur, and every output may read a neuron.
        lives = (kept.sum(axis=(1, 2)) + biases)[kept.any(axis=(1, 2)) | (biases > 0)]
        assert (lives == 1).all() and {-1.0, 1.0} <= set(np.sign(expand[kept > 0]))
        assert (parts["combine.weight_mask"].sum(axis=0) > 1).any()
        assert source.n_neurons == 2 * (2 * 9 + 1) * 2 * 8
    else:
        assert (expand[kept > 0] > 0).all() and (parts["expand.bias_orig"][biases > 0] > 0).all()
        # Every neuron serves the output of its block alone.
        assert parts["combine.weight_mask"].sum(axis=0).max() <= 3 and source.n_neurons == 6 * 2 * 8


@pytest.mark.parametrize("way", WAYS)
def test_a_source_knows_the_shape_the_seed_and_the_domain_alone(way: str) -> None:
    one, other = (signed(way, shake(nn.Conv1d(2, 3, 2), seed), (2, 6)).find().spec.layers[0] for seed in (0, 1))
    np.testing.assert_array_equal(one.expand_weight(), other.expand_weight())
    np.testing.assert_array_equal(one.expand_bias(), other.expand_bias())
    np.testing.assert_allclose(
        one.combine_weight(0, 3) / np.float32(one.scale),
        other.combine_weight(0, 3) / np.float32(other.scale),
        rtol=1e-6,
    )
    if way == "shift":
        assert one.shift == other.shift == 1.0


@pytest.mark.parametrize("way", WAYS)
def test_every_entry_is_the_best_subset_of_its_own_products(way: str) -> None:
    """Against every subset, in exact integers, from the dense source; of a shift the biases come last."""
    case = signed(way, shake(nn.Conv1d(2, 2, 2), 0), (2, 4), (-0.5, 1), size=4)
    target, ticket = case.target(), case.find()
    source, parts = ticket.spec.layers[0], dense(ticket)
    expand, bias = parts["expand.weight_orig"], parts["expand.bias_orig"]
    combine = parts["combine.weight_orig"][:, :, 0]
    weight, wanted = target.layers[0].weight_array(), target.layers[0].bias_array()
    slopes, worst = realise(*ticket.layers[0][:2]).shifted, 0

    def best(output: int, neurons: range, u: np.ndarray, sign: int, aim: float) -> int:
        products = [whole(u[t]) * whole(combine[output, t]) // _UNIT for t in neurons if u[t] * sign > 0]
        return best_subset(products, whole(aim))[0]

    for output in range(2):
        for channel, tap in np.ndindex(2, 2):
            aim = weight[output, channel, tap]
            if way == "taps":
                block = range((channel * 2 + tap) * 8, (channel * 2 + tap + 1) * 8)
                found = [best(output, block, expand[:, channel, tap], sign, aim) for sign in (1, -1)]
            elif way == "split":
                block = range(output * 8, output * 8 + 8)
                found = [
                    best(output, block, expand[:, channel + half, tap], 1, s * aim) for half, s in ((0, 1), (2, -1))
                ]
            else:
                found = [best(output, range(output * 8, output * 8 + 8), expand[:, channel, tap], 1, aim)]
            worst = max(worst, *found)
        aim, block = wanted[output], range(output * 8, output * 8 + 8)
        if way == "taps":
            block = range(4 * 8, 5 * 8)
        if way == "shift":
            aim -= source.shift * math.fsum(slopes.positive[output].ravel())
        worst = max(worst, best(output, block, bias, 1, aim))
    assert ticket.max_weight_error == pytest.approx(worst / _UNIT, rel=1e-6)


def test_without_biases_what_is_left_of_the_shift_is_counted() -> None:
    """The constant that makes up for it is nobody's bias; its error counts with the first weight of its output."""
    case = signed("shift", shake(nn.Conv2d(3, 4, 3, padding=1, bias=False), 3), (3, 5, 5), size=12, tolerance=1e-3)
    target, ticket = case.target(), case.find()
    source, mask, facts = ticket.layers[0]
    layer = realise(source, mask)
    errors = np.abs(layer.positive - target.layers[0].weight_array())
    left = np.abs(layer.bias)
    assert left.max() > 0 and facts.n_weights == errors.size
    errors[:, 0, 0] = np.maximum(errors[:, 0, 0], left)
    assert facts.missed == (errors > 1e-3).sum() and facts.max_weight_error == pytest.approx(errors.max(), rel=1e-9)
    checked = slth.verify(ticket, target, (-1, 1))
    assert checked.holds and checked.missed == facts.missed


@pytest.mark.parametrize("way", WAYS)
def test_the_same_bytes_on_any_number_of_threads_and_in_pieces_of_any_size(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = signed(way, convnet(), (4, 6, 6), size=7)
    files = {to_bytes(case.find(threads=threads)) for threads in (1, 2)}
    ticket = case.find()
    x = inputs((4, 6, 6), 4)
    before = ticket.module("sparse", dtype=torch.float64)(x)
    monkeypatch.setattr("slth.constructions.subset_sums.ELEMENTS_AT_ONCE", 100)
    monkeypatch.setattr("slth.mask.kernels.ENTRIES_AT_ONCE", 40)
    monkeypatch.setattr("slth.sparse_kernels.LARGEST_DENSE", 200)
    monkeypatch.setattr("slth.signed_layers.LARGEST_DENSE", 200)
    files.add(to_bytes(case.find()))
    assert len(files) == 1
    torch.testing.assert_close(ticket.module("sparse", dtype=torch.float64)(x), before, rtol=0, atol=1e-12)


def test_kernels_of_one_tap_have_one_order() -> None:
    """Linear layers and 1x1 convolutions: with `taps` they are bit for bit what they are without."""
    for model, shape in ((mlp(), (5,)), (nn.Conv2d(2, 3, 1), (2, 4, 4))):
        taps, plain = (signed(way, shake(model, 0), shape).find() for way in ("taps", "pointwise"))
        assert to_bytes(taps) == to_bytes(plain)


# Outside of what a shift is for


def test_beyond_its_shift_a_layer_is_bounded_all_the_same() -> None:
    """On a larger domain neurons are cut off; what is found by running the random network is within the proof."""
    for size in (1.0, 0.4):
        case = signed("shift", convnet(), (4, 6, 6), (-size, 1))
        target, ticket = case.target(), case.find()
        inside = slth.verify(ticket, target, (-size, 1))
        outside = slth.verify(ticket, target, (-2, 1))
        assert inside.certified_error < outside.certified_error
        assert inside.observed_error < outside.observed_error <= outside.certified_error
        x = inputs((4, 6, 6), 50, (-2, 1))
        for form in ("masked", "sparse"):
            off = float((ticket.module(form, dtype=torch.float64)(x) - evaluate(target, x)).abs().max())
            assert off <= outside.certified_error


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [0.125, 0.999, 1.0])
def test_a_shift_that_is_too_small_is_no_accident(shift: float, method: str) -> None:
    """A forged file: slopes hold nowhere near the lower end of the domain, and no method takes them for granted."""
    layers = [nn.Conv1d(2, 3, 2, padding=1), nn.Tanh(), nn.Conv1d(3, 2, 2)]
    case = signed("shift", shake(nn.Sequential(*layers), 1), (2, 6))
    target, ticket = case.target(), case.find()
    sources = tuple(dataclasses.replace(source, shift=shift) for source in ticket.spec.layers)
    forged = dataclasses.replace(ticket, spec=dataclasses.replace(ticket.spec, layers=sources))
    pairs = [(source, mask) for source, mask, _ in forged.layers]
    ones = torch.ones(2, 6, dtype=torch.float64)
    for low in (-1.0, -shift):
        proved = float(bound(target, realise_all(target.graph, pairs), Box(low * ones, ones), method).components.max())
        x = inputs((2, 6), 400, (low, 1), seed=2)
        off = float((forged.module("masked", dtype=torch.float64)(x) - evaluate(target, x)).abs().max())
        assert off <= proved < math.inf


# Refusals, files, the command line


def test_what_cannot_be_is_refused() -> None:
    model = nn.Conv2d(1, 2, 3)
    with pytest.raises(ArgumentError, match="pointwise or taps or shift or split"):
        signed("nix", model, (1, 5, 5)).find()
    with pytest.raises(ArgumentError, match="domain of the network's input"):
        signed("shift", model, (1, 5, 5), None).find()
    leaky = nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(), nn.Linear(2, 1))
    with pytest.raises(ArgumentError, match="an activation that has a least value"):
        signed("shift", leaky, (2,)).find()
    with pytest.raises(ArgumentError, match="no settings of its own"):
        signed("split", model, (1, 5, 5)).find(construction="two-for-one")
    with pytest.raises(ArgumentError, match="errors"):
        signed("shift", model, (1, 5, 5)).find(base_set_size=None, eps=0.1)
    with pytest.raises(ArgumentError, match="cannot cover"):
        signed("shift", shake(model, 0), (1, 5, 5), (-1e6, 1), size=8).find(tolerance=0.05)
    # Where no input is negative nothing needs a shift, and nothing is refused.
    assert signed("shift", model, (1, 5, 5), (0, 1)).find().spec.layers[0].order == "kernels-first"


@pytest.mark.parametrize(
    ("activation", "least"),
    [
        (nn.Tanh(), 1.0),
        (nn.GELU(), 0.16997120747),
        (nn.GELU("tanh"), 0.17004075057),
        (nn.SiLU(), 0.27846454276),
        (nn.ELU(0.7), 0.7),
        (nn.Hardtanh(-0.5, 2), 0.5),
    ],
)
def test_the_least_value_of_every_activation_is_known(activation: nn.Module, least: float) -> None:
    """With a little more, so that a certificate can see that nothing is below it."""
    model = shake(nn.Sequential(nn.Linear(3, 4), activation, nn.Linear(4, 2)), 0, 3.0)
    case = signed("shift", model, (3,), (-4, 4))
    found = shifts(case.target(), slth.Domain.parse((-4, 4)))
    assert found["0"] == 4.0 and least * (1 + 2.0**-7) < found["2"] < least * (1 + 2.0**-5)
    checked = slth.verify(case.find(), model, (-4, 4))
    assert checked.holds and checked.observed_error <= checked.certified_error < 50 * checked.observed_error


def test_a_shift_behind_a_bounded_activation_needs_no_domain() -> None:
    model = shake(nn.Sequential(nn.ReLU(), nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Conv1d(2, 1, 2)), 0)
    ticket = signed("shift", model, (1, 6), None).find()
    assert [source.order for source in ticket.spec.layers] == ["kernels-first", "kernels-first-shifted"]
    assert ticket.spec.layers[1].shift == 1.015625
    assert slth.verify(ticket, model).holds and slth.verify(ticket, model, (-5, 5)).holds


@pytest.mark.parametrize("way", ["taps", "split"])
def test_an_error_may_be_asked_for(way: str) -> None:
    case = signed(way, shake(nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Conv1d(2, 1, 2)), 0), (1, 6))
    ticket = case.find(base_set_size=None, eps=0.05)
    assert slth.verify(ticket, case.model, (-1, 1), eps=0.05).holds


@pytest.mark.parametrize("shift", [None, 0.0, -1.0, 0.1, 1, "1", math.nan, math.inf])
def test_a_file_with_no_shift_is_refused(shift: Any) -> None:
    ticket = signed("shift", shake(nn.Conv1d(1, 2, 2), 0), (1, 4), size=3).find()
    header, arrays = TICKETS.header(ticket), TICKETS.tensors(ticket)
    assert header["source"]["layers"][0]["shift"] == 1.0
    header["source"]["layers"][0]["shift"] = shift
    if shift is None:
        del header["source"]["layers"][0]["shift"]
    with pytest.raises(TicketError):
        from_bytes(forge(header, arrays))


@pytest.mark.parametrize("way", ["split", "shift"])
def test_a_file_with_kernels_of_the_other_sign_is_refused(way: str) -> None:
    ticket = signed(way, shake(nn.Conv1d(1, 2, 2), 0), (1, 4), size=3).find()
    header, arrays = TICKETS.header(ticket), TICKETS.tensors(ticket)
    with pytest.raises(TicketError):
        from_bytes(forge(header, {**arrays, "layers.0.sign": -arrays["layers.0.sign"]}))
    for order in ("kernels-first", "taps-first", ""):
        header["source"]["layers"][0]["order"] = order
        with pytest.raises(TicketError):
            from_bytes(forge(header, arrays))


@pytest.mark.parametrize("way", WAYS)
def test_pages_and_summaries_count_what_there_is(way: str) -> None:
    case = signed(way, shake(nn.Conv2d(2, 3, 3, padding=1), 0), (2, 4, 4))
    target, ticket = case.target(), case.find()
    source, mask, facts = ticket.layers[0]
    sizes = subset_sizes(source, mask, facts.input_sign)
    assert set(sizes) == {POSITIVE, NEGATIVE, "bias"}
    slopes = realise(source, mask).shifted
    for name, kernel in ((POSITIVE, slopes.positive), (NEGATIVE, slopes.negative)):
        for output, channel, tap in ((0, 0, 0), (2, 1, 7)):
            found = spell_out(ticket, 0, output, channel, tap)
            told = name if name in found.terms else "x > −1"
            assert len(found.terms[told]) == sizes[name][output, channel, tap]
            assert found.value(told) == pytest.approx(kernel[output, channel, tap], rel=1e-12, abs=1e-15)
    layer = summarise(ticket).layers[0]
    counts = base_set_sizes(source, facts.input_sign)
    assert layer.order == source.order and layer.shift == (1.0 if way == "shift" else 0.0)
    assert len(counts) == {"taps": 2 * 2 * 9 + 1, "split": 3 * (2 * 2 * 9 + 1), "shift": 3 * (2 * 9 + 1)}[way]
    page = render(ticket, title="a", target=target)
    words = {
        "taps": "one tap of one input alone",
        "split": "the negative part of every input",
        "shift": "every input plus 1.",
    }
    assert words[way] in page


@pytest.mark.parametrize("way", WAYS)
def test_the_command_line_has_every_way(tmp_path: Path, way: str) -> None:
    home = make_folder(tmp_path)
    (home / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)), "
        "torch.zeros(1, 1, 4, 4)\n"
    )
    arguments = ("--model", "nets:net", "--construction", "conv", "--base-set-size", 10, "--set", f"signed={way}")
    found = command("find", *arguments, "-o", "a.ticket", "--domain=-1,1", cwd=home)
    words = {"taps": "kernels of one tap first", "split": "relu(x) and relu(-x)", "shift": "x + s, as"}[way]
    for shown in (found, command("show", "a.ticket", "--html", "a.html", cwd=home)):
        assert shown.status == 0 and words in " ".join(shown.out.split())
    verify = ("verify", "a.ticket", "--model", "nets:net", "--domain=-1,1")
    checked = command(*verify, cwd=home)
    assert checked.status == 0 and "holds" in checked.out
    ticket = slth.load(home / "a.ticket")
    assert isinstance(ticket.spec.layers[0], KINDS[way]) and isinstance(ticket.masks[1], KernelMask)
    wrong = command("find", *arguments[:-1], "signed=nix", "-o", "b.ticket", "--domain=-1,1", cwd=home)
    assert wrong.status == 2 and wrong.err.count("\n") == 1 and not (home / "b.ticket").exists()
