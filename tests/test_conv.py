"""The construction `conv`: structure and lemmas of da Cunha et al. 2022 (CHECKS C1 to C6, C9, C10)."""

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
from slth.artifact import from_bytes, to_bytes
from slth.attempt import draw_source
from slth.certify.search import largest_difference
from slth.constructions.base import Work
from slth.constructions.two_for_one import BlockByBlock
from slth.errors import ArgumentError
from slth.mask import BlockMask, KernelMask
from slth.network.graph import Sign
from slth.plan import Wishes, make_plan
from slth.realise import realise
from slth.runtime import evaluate, target_module
from slth.source.kernels import KernelSource
from slth.source.spec import BlockSource
from slth.summary import UNIVARIATE_FIRST, base_set_sizes, summarise
from zoo import Case, cases, convnet, inputs, mlp, shake

FORMS = ("masked", "sparse", "folded")


def conv(model: nn.Module, shape: tuple[int, ...], domain: Any = (0, 1), size: int = 10, **options: Any) -> Case:
    """A case of this construction."""
    return Case(model, shape, {"construction": "conv", "domain": domain, "base_set_size": size, **options})


@st.composite
def conv_cases(draw: st.DrawFn) -> Case:
    """Any network and domain; layers whose input may have either sign take the other order."""
    case = draw(cases(largest_base_set=8))
    return Case(case.model, case.shape, {**case.options, "construction": "conv", "initialisation": "uniform"})


def masked(ticket: slth.Ticket, number: int = 0) -> nn.Module:
    """One layer of the whole source, in float64."""
    return ticket.module("masked", dtype=torch.float64).get_submodule(ticket.facts[number].name)


# The construction


@given(conv_cases())
def test_forms_agree_with_each_other_and_with_the_target_to_the_certified_error(case: Case) -> None:
    target = case.target()
    ticket = case.find(target)
    bound = slth.verify(ticket, target, case.domain)
    assert bound.holds
    x = inputs(case.shape, 16, case.domain, seed=1)
    wanted = evaluate(target, x)
    outputs = [ticket.module(form, dtype=torch.float64)(x) for form in FORMS]
    for output in outputs:
        assert float((output - wanted).abs().max()) <= bound.certified_error
        size = 1e-3 + float(torch.maximum(output.abs().max(), outputs[0].abs().max()))
        assert float((output - outputs[0]).abs().max()) <= 1e-12 * size


@given(conv_cases())
def test_kernels_come_first_wherever_the_inputs_sign_is_known(case: Case) -> None:
    for source, mask, facts in case.find().layers:
        kernels = facts.input_sign is not Sign.SIGNED
        assert isinstance(source, KernelSource) == isinstance(mask, KernelMask) == kernels
        assert isinstance(mask, BlockMask) != kernels


GEOMETRIES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(3, 2), (3,)),
    "linear on the last axis": (nn.Linear(3, 2, bias=False), (4, 3)),
    "one dimension": (nn.Conv1d(2, 3, 4, padding="same"), (2, 9)),
    "strided": (nn.Conv2d(2, 3, 3, padding=(2, 1), stride=(2, 3), dilation=(1, 2)), (2, 8, 9)),
    "same, even kernels and dilation": (nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(1, 3)), (2, 8, 9)),
    "groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (4, 5, 5)),
    "depthwise": (nn.Conv2d(3, 6, 3, padding=1, groups=3), (3, 5, 5)),
    "three dimensions": (nn.Conv3d(1, 2, (2, 3, 2), padding="same"), (1, 4, 4, 4)),
    "three dimensions, all at once": (
        nn.Conv3d(4, 2, 2, stride=2, padding=1, dilation=2, groups=2),
        (4, 5, 4, 5),
    ),
    "reflected": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "uneven padding": (nn.Sequential(nn.ZeroPad2d((0, 2, 1, 0)), nn.Conv2d(1, 2, 3)), (1, 4, 4)),
}


@pytest.mark.parametrize("domain", [(0, 1), (-1, 0)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_is_the_targets_with_the_realised_kernels(name: str, domain: tuple[int, int]) -> None:
    model, shape = GEOMETRIES[name]
    ticket = conv(shake(copy.deepcopy(model), 0), shape, domain, 6).find()
    own = copy.deepcopy(model).double()
    layer = own[-1] if isinstance(own, nn.Sequential) else own
    source, mask, _ = ticket.layers[0]
    assert isinstance(source, KernelSource)
    slopes = realise(source, mask)
    kernel = slopes.positive if domain[1] else slopes.negative
    layer.weight.data = torch.from_numpy(kernel).reshape(layer.weight.shape)
    if layer.bias is not None:
        layer.bias.data = torch.from_numpy(slopes.bias)
    x = inputs(shape, 5, domain)
    for form in FORMS:
        torch.testing.assert_close(ticket.module(form, dtype=torch.float64)(x), own(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("domain", [(0, 1), (-1, 0)])
def test_c3_the_masks_are_a_block_diagonal_and_weights_of_one_sign(domain: tuple[int, int]) -> None:
    ticket = conv(shake(nn.Conv2d(4, 6, 3, groups=2), 0), (4, 6, 6), domain).find()
    source, layer = ticket.spec.layers[0], masked(ticket)
    kept = layer.expand.weight_orig[layer.expand.weight_mask > 0]
    assert ((kept > 0) if domain[1] else (kept < 0)).all()
    assert (layer.expand.bias_orig[layer.expand.bias_mask > 0] > 0).all() and layer.expand.bias_mask.any()
    diagonal = layer.combine.weight_mask.reshape(2, 3, 3, source.block_width)
    for row in range(3):
        for block in range(3):
            assert bool(diagonal[:, row, block].any()) == (row == block)
    # Nothing of a block's second layer is pruned but what reads a neuron that keeps nothing.
    lives = layer.expand.weight_mask.flatten(1).any(dim=1) | (layer.expand.bias_mask > 0)
    blocks = torch.stack([diagonal[:, row, row] for row in range(3)], dim=1)
    assert torch.equal(blocks.flatten() > 0, lives)


def _merged(layer: nn.Module) -> torch.Tensor:
    """L = sum over the block of V U S, by loops, (outputs, inputs, rows, columns)."""
    expand = layer.expand.weight_orig * layer.expand.weight_mask
    combine = layer.combine.weight_orig * layer.combine.weight_mask
    return torch.stack([sum(v * kernel for v, kernel in zip(row.flatten(), expand, strict=True)) for row in combine])


def test_c2_two_layers_merge_for_inputs_that_are_not_negative_and_for_no_others() -> None:
    ticket = conv(shake(nn.Conv2d(3, 2, 3, padding=1, bias=False), 0), (3, 6, 6), size=20).find()
    layer = masked(ticket)
    kernel = _merged(layer)
    x = inputs((3, 6, 6), 8, (0, 1))
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, kernel, padding=1), rtol=0, atol=1e-12)
    signed = 2 * x - 1
    assert float((layer(signed) - nn.functional.conv2d(signed, kernel, padding=1)).abs().max()) > 0.5
    realised = realise(*ticket.layers[0][:2])
    np.testing.assert_allclose(realised.positive.reshape(kernel.shape), kernel.detach(), rtol=0, atol=1e-13)


def test_c4_a_layer_is_off_by_no_more_than_the_errors_of_its_kernels() -> None:
    case = conv(shake(nn.Conv2d(3, 4, 3, padding=1, bias=False), 0), (3, 6, 6), size=9)
    target = case.target()
    ticket = case.find(target)
    realised = realise(*ticket.layers[0][:2])
    errors = np.abs(realised.positive - target.layers[0].weight_array())
    assert errors.max() == pytest.approx(ticket.max_weight_error, rel=1e-9)
    x = inputs((3, 6, 6), 200, (0, 1))
    off = (masked(ticket)(x) - evaluate(target, x)).abs().amax(dim=(0, 2, 3)).detach().numpy()
    assert (off <= errors.sum(axis=(1, 2)) * (1 + 1e-12)).all()
    assert off.max() <= 27 * ticket.max_weight_error


def test_c5_errors_of_layers_compound_as_the_theorem_says() -> None:
    layers = [shake(nn.Conv2d(2, 2, 3, padding=1, bias=False), index) for index in range(3)]
    for layer in layers:
        layer.weight.data /= layer.weight.data.abs().sum()
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    case = conv(model, (2, 6, 6), size=8)
    target = case.target()
    ticket = case.find(target)
    per_layer = [
        np.abs(realise(source, mask).positive - layer.weight_array()).sum(axis=(1, 2)).max()
        for layer, (source, mask, _) in zip(target, ticket.layers, strict=True)
    ]
    x = inputs((2, 6, 6), 200, (0, 1))
    off = largest_difference(ticket.module("masked", dtype=torch.float64), target_module(target, torch.float64), x)
    assert 0 < off <= (1 + max(per_layer)) ** len(per_layer) - 1


def test_every_entry_is_the_best_subset_of_its_blocks_usable_products() -> None:
    """Against every subset, in exact integers, from the dense source."""
    case = conv(shake(nn.Conv1d(2, 2, 2), 0), (2, 4), size=4)
    target, ticket = case.target(), case.find()
    layer = masked(ticket)
    width, weight = ticket.spec.layers[0].block_width, target.layers[0].weight_array()
    bias = target.layers[0].bias_array()
    expand, combine = layer.expand.weight_orig.numpy(), layer.combine.weight_orig.numpy()[:, :, 0]
    worst = 0
    for output in range(2):
        block = range(output * width, (output + 1) * width)
        wanted = [(weight[output, c, k], expand[:, c, k]) for c in range(2) for k in range(2)]
        for value, u in [*wanted, (bias[output], layer.expand.bias_orig.numpy())]:
            products = [whole(u[t]) * whole(combine[output, t]) // _UNIT for t in block if u[t] > 0]
            worst = max(worst, best_subset(products, whole(value))[0])
    assert ticket.max_weight_error == pytest.approx(worst / _UNIT, rel=1e-9)


def test_fewest_elements_within_the_tolerance_and_misses_are_counted() -> None:
    model = shake(nn.Conv2d(2, 3, 3), 0)
    sparse = conv(model, (2, 6, 6), size=14, tolerance=0.02, objective="sparsest").find()
    best = conv(model, (2, 6, 6), size=14, tolerance=0.02).find()
    assert sparse.n_kept < 0.7 * best.n_kept and sparse.missed == best.missed
    assert best.facts[0].mean_weight_error < sparse.facts[0].mean_weight_error / 3
    few = conv(model, (2, 6, 6), size=6, tolerance=0.02).find()
    errors = np.abs(realise(*few.layers[0][:2]).positive - conv(model, (2, 6, 6)).target().layers[0].weight_array())
    assert few.missed >= (errors > 0.02).sum() > 0


def test_c6_half_of_a_block_is_usable() -> None:
    """The law of V U+ has half of its mass at 0: 2m channels give m elements (5.3)."""
    ticket = conv(shake(nn.Conv2d(8, 16, 3), 0), (8, 4, 4), size=20).find()
    source = ticket.spec.layers[0]
    sizes = base_set_sizes(source, Sign.NONNEGATIVE)
    assert source.block_width == 40 and sizes.shape == (16 * (8 * 9 + 1),)
    assert sizes.mean() == pytest.approx(20, abs=0.5) and sizes.max() <= 34
    u = source.incoming(0, source.n_neurons)
    assert (u > 0).mean() == pytest.approx(0.5, abs=0.02)
    v_u = np.maximum(u, 0) * source.outgoing(np.arange(source.n_neurons))[:, None] / np.float32(source.scale)
    assert np.maximum(v_u, 0).mean() == pytest.approx(1 / 16, abs=0.004)


# Biases, pooling, borders


def test_biases_are_constant_up_to_the_border() -> None:
    model = shake(nn.Conv2d(1, 2, 3, padding=(2, 1)), 0, size=0.3)
    model.bias.data[:] = torch.tensor([0.7, -0.7])
    ticket = conv(nn.Sequential(model), (1, 4, 5), size=20).find(seed=2)
    zeros = torch.zeros(1, 1, 4, 5).double()
    for form in FORMS:
        constant = ticket.module(form, dtype=torch.float64)(zeros)
        torch.testing.assert_close(constant, constant[:, :, :1, :1].expand_as(constant), rtol=1e-14, atol=0)
        assert float((constant - model.bias.data.double().reshape(1, 2, 1, 1)).abs().max()) < 1e-2


def test_c10_average_pooling_between_layers_and_as_a_part_of_the_layer_before_it() -> None:
    model = shake(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 2), nn.AvgPool2d(2)), 0
    )
    case = conv(model, (1, 8, 8), size=14)
    ticket, x = case.find(), inputs((1, 8, 8), 20, (0, 1))
    checked = slth.verify(ticket, model, (0, 1))
    assert checked.holds and checked.observed_error <= checked.certified_error
    # Without an activation between them, a convolution and pooling by p are one of d + p - 1 taps and stride p.
    whole_kernel = nn.functional.conv2d(
        model[3].weight.double().reshape(4, 1, 2, 2), torch.ones(1, 1, 2, 2).double() / 4, padding=1
    )
    merged = nn.Conv2d(2, 2, 3, stride=2).double()
    merged.weight.data, merged.bias.data = whole_kernel.reshape(2, 2, 3, 3), model[3].bias.double()
    front = copy.deepcopy(model[:3]).double()
    torch.testing.assert_close(merged(front(x)), copy.deepcopy(model).double()(x), rtol=0, atol=1e-13)
    folded = nn.Sequential(*model[:3], merged.float())
    assert slth.verify(conv(folded, (1, 8, 8), size=14).find(), folded, (0, 1)).holds


def test_the_grouped_form_needs_no_mask_of_the_second_layer() -> None:
    """5.2: U of shape d x d x c0 x n' x c1, V a 1x1 convolution with a group for every output."""
    ticket = conv(shake(nn.Conv2d(3, 4, 3, padding=1, stride=2), 0), (3, 6, 6)).find()
    source, layer = ticket.spec.layers[0], masked(ticket)
    u = nn.Conv2d(3, source.n_neurons, 3, padding=1, stride=2).double()
    u.weight.data = layer.expand.weight_orig * layer.expand.weight_mask
    u.bias.data = layer.expand.bias_orig * layer.expand.bias_mask
    v = nn.Conv2d(source.n_neurons, 4, 1, groups=4, bias=False).double()
    v.weight.data = torch.from_numpy(source.outgoing(np.arange(source.n_neurons))).double().reshape(4, -1, 1, 1)
    x = inputs((3, 6, 6), 5, (0, 1))
    torch.testing.assert_close(v(torch.relu(u(x))), layer(x), rtol=0, atol=1e-13)


# Negative inputs: section 5.5.5 a, and why a shift needs padding of its own; the other ways are in test_signed.py


def test_c9a_a_layer_with_inputs_of_both_signs_takes_the_other_order_and_says_so() -> None:
    model = shake(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 2, 3, padding=1)), 0)
    case = conv(model.append(nn.ReLU()).append(nn.Flatten()).append(nn.Linear(50, 2)), (2, 5, 5), None, 14)
    ticket = case.find()
    summary = summarise(ticket)
    assert [layer.order for layer in summary.layers] == [UNIVARIATE_FIRST, UNIVARIATE_FIRST, "kernels-first"]
    assert summary.rerouted == ("0", "2")
    x = inputs((2, 5, 5), 8)
    first = [ticket.module(form, dtype=torch.float64).get_submodule("0")(x) for form in FORMS]
    wanted = copy.deepcopy(model[0]).double()(x)
    for output in first:
        torch.testing.assert_close(output, first[0], rtol=0, atol=1e-12)
        # On all pixels, borders included.
        assert float((output - wanted).abs().max()) <= 19 * ticket.facts[0].max_weight_error
    # The very source and mask of two-for-one, with neurons that serve their own block alone.
    target, method = case.target(), BlockByBlock()
    plan = make_plan(target, method, Wishes(base_set_size=14))
    source = draw_source(target, plan, ticket.spec.seed).layers[0]
    alike = method.find(source, target.layers[0], plan, plan.layers[0], Work(1, lambda *_: None)).mask
    assert ticket.spec.layers[0] == source and type(source) is BlockSource
    np.testing.assert_array_equal(alike.neurons, ticket.masks[0].neurons)
    np.testing.assert_array_equal(alike.combine, ticket.masks[0].combine)
    assert slth.verify(ticket, model, (-1, 1)).holds


def test_c9c_a_bias_shift_under_zero_padding_is_wrong_on_the_borders_and_only_there() -> None:
    """x' = x + 1 >= 0 and a constant taken off afterwards: right for explicit padding with the shift alone."""
    layer = shake(nn.Conv2d(1, 2, 3, padding=1, bias=False), 0)
    x = inputs((1, 7, 7), 6)
    wanted = copy.deepcopy(layer).double()(x)
    ticket = conv(layer, (1, 7, 7), (0, 2), 20).find()
    source, mask, _ = ticket.layers[0]
    constant = torch.from_numpy(realise(source, mask).positive.sum(axis=(1, 2))).reshape(1, 2, 1, 1)
    off = (masked(ticket)(x + 1) - constant - wanted).abs()
    assert float(off[:, :, 1:-1, 1:-1].max()) <= 9 * ticket.max_weight_error
    assert float(off.max()) > 0.5
    valid = shake(nn.Conv2d(1, 2, 3, bias=False), 0)
    ticket = conv(valid, (1, 9, 9), (0, 2), 20).find()
    constant = torch.from_numpy(realise(*ticket.layers[0][:2]).positive.sum(axis=(1, 2))).reshape(1, 2, 1, 1)
    shifted = nn.functional.pad(x + 1, (1, 1, 1, 1), value=1.0)
    off = (masked(ticket)(shifted) - constant - wanted).abs()
    assert float(off.max()) <= 9 * ticket.max_weight_error + 1e-12


def test_outside_the_domain_nothing_is_claimed_and_what_is_proved_is_still_true() -> None:
    """Kernels have no slope for the other sign; the bound takes any."""
    for made_for, other in (((0, 1), (-1, 1)), ((0, 1), (-1, 0)), ((-1, 0), (-1, 1)), ((-1, 0), (0, 2))):
        case = conv(convnet(), (4, 6, 6), made_for, 8)
        ticket, target = case.find(), case.target()
        checked = slth.verify(ticket, target, other)
        assert not checked.holds and any("sign" in reason for reason in checked.reasons)
        assert 0 < checked.observed_error <= checked.certified_error
        x = inputs((4, 6, 6), 50, other)
        wanted = evaluate(target, x)
        for form in ("masked", "sparse"):
            off = float((ticket.module(form, dtype=torch.float64)(x) - wanted).abs().max())
            assert off <= checked.certified_error


def test_random_masks_are_judged_without_an_accident() -> None:
    case = conv(convnet(), (4, 6, 6), size=5)
    target = case.target()
    ticket, rng = case.find(target), np.random.default_rng(0)
    for domain in ((0, 1), (-1, 1)):
        masks = []
        for source, _, _ in ticket.layers:
            usable = source.usable(source.incoming(0, source.n_neurons), 1)
            flags = usable & (rng.random(usable.shape) < 0.5) & (rng.random((len(usable), 1)) < 0.7)
            masks.append(KernelMask.build(source, 1, [flags]))
            assert masks[-1].n_kept == flags.sum() + flags.any(axis=1).sum()
        made_up = from_bytes(to_bytes(dataclasses.replace(ticket, masks=tuple(masks))))
        checked = slth.verify(made_up, target, domain)
        assert not checked.holds and checked.observed_error <= checked.certified_error
        x = inputs((4, 6, 6), 6, domain)
        one, two = (made_up.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse"))
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)


def test_a_lie_about_the_inputs_sign_is_found() -> None:
    case = conv(mlp(), (5,), size=10)
    ticket = case.find()
    facts = (dataclasses.replace(ticket.facts[0], input_sign=Sign.SIGNED), *ticket.facts[1:])
    checked = slth.verify(dataclasses.replace(ticket, facts=facts, domain=None), case.model, (-1, 1))
    assert not checked.holds and checked.max_weight_error > 0.5


# Options


def test_what_kernels_do_not_know_is_refused() -> None:
    for changes in ({"initialisation": "looks-linear"}, {"source_activation": "tanh"}, {"base_set_size": 41}):
        with pytest.raises(ArgumentError, match="'conv'"):
            conv(mlp(), (5,)).find(**changes)
    with pytest.raises(ArgumentError, match="cannot cover"):
        conv(mlp(), (5,), size=4).find(tolerance=1e-6)


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_any_law_with_enough_elements_serves(law: str) -> None:
    case = conv(mlp(), (5,), (0, 1), 20, distribution=law)
    ticket = case.find(tolerance=1e-2)
    assert ticket.missed == 0 and ticket.max_weight_error < 1e-2 and slth.verify(ticket, case.model, (0, 1)).holds


def test_the_same_bytes_on_any_number_of_threads_and_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    case = conv(convnet(), (4, 6, 6), size=9)
    files = {to_bytes(case.find(threads=threads)) for threads in (1, 2)}
    whole_ticket = case.find()
    realised = [realise(source, mask) for source, mask, _ in whole_ticket.layers]
    monkeypatch.setattr("slth.constructions.subset_sums.ELEMENTS_AT_ONCE", 100)
    monkeypatch.setattr("slth.mask.kernels.ENTRIES_AT_ONCE", 40)
    monkeypatch.setattr("slth.sparse_kernels.LARGEST_DENSE", 200)
    files.add(to_bytes(case.find()))
    assert len(files) == 1
    for (source, mask, _), before in zip(whole_ticket.layers, realised, strict=True):
        again = realise(source, mask)
        np.testing.assert_allclose(again.positive, before.positive, rtol=0, atol=1e-14)
        assert again.n_terms == before.n_terms
    x = inputs((4, 6, 6), 4, (0, 1))
    one, two = (whole_ticket.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse"))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_a_network_of_zeros_keeps_nothing() -> None:
    model = convnet()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    ticket = from_bytes(to_bytes(conv(model, (4, 6, 6), size=6).find()))
    assert ticket.n_kept == 0 and slth.verify(ticket, model, (0, 1)).holds
    x = inputs((4, 6, 6), 3, (0, 1))
    for form in FORMS:
        assert not ticket.module(form, dtype=torch.float64)(x).any()


def test_the_command_line_finds_verifies_and_says_which_layers_took_the_other_order(tmp_path: Path) -> None:
    home = make_folder(tmp_path)
    target = "net.safetensors"
    arguments = (target, "--construction", "conv", "--base-set-size", 10)
    found = command("find", *arguments, "-o", "a.ticket", "--domain", "0,1", cwd=home)
    assert found.status == 0 and "univariate" not in found.out
    assert command("verify", "a.ticket", "--target", target, "--domain", "0,1", cwd=home).status == 0
    assert command("verify", "a.ticket", "--target", target, "--domain=-1,1", cwd=home).status == 1
    found = command("find", *arguments, "-o", "b.ticket", cwd=home)
    for result in (found, command("show", "b.ticket", cwd=home)):
        assert result.status == 0 and "may have either sign: 0" in result.out
    assert command("verify", "b.ticket", "--target", target, "--domain=-1,1", cwd=home).status == 0


def test_a_source_counts_both_layers() -> None:
    """c0 d^2 n + n weights and biases of U and n c1 of V, n = 2 m c1."""
    ticket = conv(shake(nn.Conv2d(3, 4, 5), 0), (3, 6, 6), size=20).find()
    n = 2 * 20 * 4
    assert ticket.spec.n_weights == n * 3 * 25 + n + n * 4
    assert math.isclose(summarise(ticket).density, ticket.n_kept / ticket.spec.n_weights)
