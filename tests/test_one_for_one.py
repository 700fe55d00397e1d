"""The construction `one-for-one`: CHECKS B2, B5, B6, B7, B8, B10 of Burkholz 2022, its files, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import slth
from command_line import slth as run
from slth.artifact import from_bytes, to_bytes
from slth.certify.copied import by_copy, copied
from slth.certify.propagation import RULES
from slth.certify.state import State
from slth.container import pack, unpack
from slth.copies import CopiedLayer, realise_all, widened
from slth.errors import ArgumentError, TicketError
from slth.mask import BIAS, BlockMask, CopyMask
from slth.network.deepen import deepen
from slth.network.target import Target
from slth.report.facts import POSITIVE, subset_sizes
from slth.report.page import render
from slth.runtime import target_module
from slth.source.copies import CopySource
from slth.source.spec import BlockSource
from slth.summary import summarise
from zoo import Case, convnet, inputs, mlp, shake

FORMS = ("masked", "sparse", "folded")


def options(size: int, **others: Any) -> dict[str, Any]:
    return {"construction": "one-for-one", "base_set_size": size, "domain": (-1, 1), **others}


def maps() -> nn.Sequential:
    """Padding, stride, both kinds of pooling, a layer without bias, a flatten of maps, other activations."""
    return shake(
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, (2, 3), stride=(2, 1), padding=(0, 1), bias=False),
            nn.Tanh(),
            nn.AvgPool2d((1, 2)),
            nn.Flatten(),
            nn.Linear(8, 3),
            nn.Softplus(),
            nn.Linear(3, 2),
        ),
        0,
        0.3,
    )


def reference(phi: Callable[[], nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Section 4.8: [3, 4, 4, 2], |w| <= 0.6, |b| <= 0.3."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), phi(), nn.Linear(4, 4), phi(), nn.Linear(4, 2))
    for layer in (model[0], model[2], model[4]):
        layer.weight.data.uniform_(-0.6, 0.6, generator=generator)
        layer.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return model


CASES = {
    "reference": Case(reference(), (3,), options(20)),
    "sparsest": Case(mlp((3, 4, 5, 2)), (3,), options(12, objective="sparsest", tolerance=0.02)),
    "nonpositive": Case(mlp((3, 4, 2)), (3,), options(14, domain=(-2, 0))),
    "deep, tanh": Case(reference(nn.Tanh), (3,), options(13)),
    "leaky": Case(reference(functools.partial(nn.LeakyReLU, 0.3)), (3,), options(12)),
    "tanh inside": Case(mlp((3, 4, 2)), (3,), options(12, source_activation="tanh", activation_error=1e-4)),
    "no bias": Case(mlp((3, 4, 2), bias=False), (3,), options(10)),
    "one layer": Case(mlp((3, 2)), (3,), options(10)),
    "maps": Case(maps(), (2, 4, 8), options(11)),
    "normal": Case(mlp((3, 4, 2)), (3,), options(12, distribution="normal")),
    "pairs": Case(
        reference(),
        (3,),
        options(12, initialisation="looks-linear", source_activation="sigmoid", activation_error=1e-4),
    ),
    "deeper": Case(
        mlp((3, 4, 2)), (3,), options(11, settings={"extra_depth": 3}, objective="sparsest", tolerance=0.05)
    ),
    "deeper maps": Case(maps(), (2, 4, 8), options(9, settings={"extra_depth": 1})),
    "deeper, leaky": Case(
        reference(functools.partial(nn.LeakyReLU, 0.3)), (3,), options(12, settings={"extra_depth": 2})
    ),
    "1-D": Case(shake(nn.Sequential(nn.Conv1d(2, 2, 3), nn.SiLU(), nn.Conv1d(2, 2, 2)), 0), (2, 6), options(11)),
}
FOUND = {name: functools.cache(case.find) for name, case in CASES.items()}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def hidden(name: str) -> Target:
    """The case's target with the identity layers of its extra depth."""
    return deepen(CASES[name].target(), FOUND[name]().extra_depth)


def test_extra_depth_is_a_source_layer_for_each_identity_layer() -> None:
    """Section 4.8: L_s > L_t + 1. Whatever the depth, the target is the person's own."""
    ticket, target = FOUND["deeper"](), CASES["deeper"].target()
    assert ticket.extra_depth == 3 and ticket.spec.depth == len(target.layers) + 1 + 3
    assert ticket.graph == target.graph and ticket.target_digest == target.digest()
    assert ticket.n_target_weights == target.n_weights == ticket.n_weights - 3 * 4 * 4
    assert [facts.name for facts in ticket.facts] == ["0", "identity_1", "identity_2", "identity_3", "2"]
    shapes = [tuple(v.shape) for key, v in ticket.module("masked").state_dict().items() if key.endswith("weight_orig")]
    assert len(shapes) == ticket.spec.depth and shapes[2:5] == [(55, 55)] * 3
    plain = dataclasses.replace(CASES["deeper"], options={**CASES["deeper"].options, "settings": {}}).find()
    np.testing.assert_array_equal(ticket.probe_outputs, plain.probe_outputs)
    sizes = [subset_sizes(source, mask, facts.input_sign)[POSITIVE] for source, mask, facts in ticket.layers[1:4]]
    for size in sizes:
        # Nothing is kept for the zeros of an identity.
        diagonal = size.reshape(4, 11, 4)[range(4), :, range(4)]
        assert size.sum() == diagonal.sum() and (diagonal > 0).all()


@pytest.mark.parametrize("extra_depth", [-1, 257, 1.5, "2", True])
def test_depths_that_are_none_are_refused(extra_depth: object) -> None:
    with pytest.raises(ArgumentError, match="extra_depth"):
        slth.find_ticket(mlp((3, 4, 2)), torch.zeros(1, 3), **options(8, settings={"extra_depth": extra_depth}))


def test_extra_depth_is_refused_by_name_where_nothing_is_an_identity() -> None:
    with pytest.raises(ArgumentError, match=r"(?s)extra_depth.*tanh"):
        slth.find_ticket(reference(nn.Tanh), torch.zeros(1, 3), **options(8, settings={"extra_depth": 1}))
    with pytest.raises(ArgumentError, match=r"(?s)extra_depth.*two-for-one"):
        slth.find_ticket(mlp((3, 4, 2)), torch.zeros(1, 3), settings={"extra_depth": 1})


def test_mirrored_pairs_are_exact_in_everything_but_the_remainder() -> None:
    """B4: the weights of an input block add up to 0, so that nothing of the activation's d is left at 0."""
    ticket = FOUND["pairs"]()
    source = ticket.spec.layers[0]
    state = ticket.module("masked", dtype=torch.float64).state_dict()
    combine = state["0.combine.weight_orig"] * state["0.combine.weight_mask"]
    inputs_end = source.inputs_per_group * source.block_width
    by_block = combine[:, :inputs_end].unflatten(1, (source.inputs_per_group, source.block_width // 2, 2))
    assert torch.equal(by_block.sum(dim=3), torch.zeros_like(by_block[..., 0])) and by_block.abs().sum() > 0


def test_the_law_is_the_sources_of_every_layer() -> None:
    """Weights of copies by the law, with the uniform one's variance."""
    ticket, plain = FOUND["normal"](), FOUND["no bias"]()
    drawn = np.concatenate([source.weight(0, source.rows).ravel() / source.scale for source in ticket.spec.layers[1:]])
    assert np.abs(drawn).max() > 2 and abs(drawn.std() - 1) < 0.15
    top = float(CASES["normal"].target().layers[1].weight.abs().max())
    bias = float(CASES["normal"].target().layers[1].bias.abs().max())
    assert ticket.spec.layers[1].scale == pytest.approx(max(top, bias) / np.sqrt(3), rel=1e-3)
    assert plain.spec.distribution == "uniform" and ticket.spec.distribution == "normal"


def test_depth_is_one_more_and_widths_are_m_times_one_more_than_the_targets() -> None:
    """B6: layers [160, 100, 100, 2] of section 4.8; a width of 170 for 16 neurons and blocks of 10."""
    state = FOUND["reference"]().module("masked").state_dict()
    shapes = [tuple(value.shape) for key, value in state.items() if key.endswith("weight_orig")]
    assert shapes == [(160, 3), (100, 160), (100, 100), (2, 100)]
    circle = Case(mlp((2, 16, 16, 4)), (2,), options(10)).find()
    assert [source.rows for source in circle.spec.layers[1:]] == [170, 4]
    assert [source.outputs for source in circle.spec.layers[:1]] == [170]
    assert CopySource.order == "copies" and isinstance(circle.spec.layers[0], BlockSource)


def test_every_neuron_of_the_first_layer_keeps_one_weight(name: str) -> None:
    """B2: exactly one True a hidden neuron that lives, in its own block; constants are made of biases alone."""
    ticket, target = FOUND[name](), hidden(name)
    source, mask, _ = ticket.layers[0]
    assert isinstance(mask, BlockMask) and isinstance(source, BlockSource)
    expand = ticket.module("masked").get_submodule(ticket.facts[0].name).expand
    kept = expand.weight_mask.flatten(1).sum(dim=1)
    if source.bias:
        kept = kept + expand.bias_mask
    assert set(kept.tolist()) <= {0.0, 1.0} and int(kept.sum()) == int(mask.neurons.sum())
    own = target.layers[0].weight.shape[0]
    layout = widened(ticket.hidden_graph, ticket.spec.layers).layouts[0]
    channel = mask.expand(source).channel
    for piece in mask.entries(source):
        constant = piece.output >= own * layout.copies_out
        assert (channel[piece.kept[constant]] == BIAS).all()


def test_forms_are_one_function_and_no_input_errs_more_than_is_certified(name: str) -> None:
    """B7: certified >= observed with no slack, on inputs and by search, for masked and sparse forms in float64."""
    ticket, case = FOUND[name](), CASES[name]
    target = case.target()
    found = slth.verify(ticket, target, case.options["domain"])
    assert found.holds, found.reasons
    assert found.certified_error is not None and found.observed_error is not None
    x = inputs(case.shape, 300, case.options["domain"])
    with torch.no_grad():
        wanted = copy.deepcopy(case.model).double()(x)
        outputs = {form: ticket.module(form, dtype=torch.float64)(x) for form in FORMS}
    torch.testing.assert_close(outputs["masked"], outputs["sparse"], rtol=1e-12, atol=1e-12)
    if "source_activation" not in case.options:
        torch.testing.assert_close(outputs["masked"], outputs["folded"], rtol=1e-11, atol=1e-11)
    for form in ("masked", "sparse"):
        assert float((outputs[form] - wanted).abs().max()) <= found.certified_error
    assert found.observed_error <= found.certified_error
    assert found.max_weight_error == pytest.approx(ticket.max_weight_error, rel=1e-9, abs=1e-12)


def test_copies_agree_as_far_as_their_weights_do_and_no_two_have_the_same_subsets(name: str) -> None:
    """B5: on every x copies of a neuron differ by no more than what each may be off."""
    ticket, case = FOUND[name](), CASES[name]
    target, wide = case.target(), widened(ticket.hidden_graph, ticket.spec.layers)
    bounds = {layer.name: layer.certified_error for layer in slth.verify(ticket, target, case.options["domain"]).layers}
    values: dict[str, torch.Tensor] = {}
    network = ticket.module("masked", dtype=torch.float64)
    for facts in ticket.facts:
        keep = functools.partial(lambda key, module, args, out: values.__setitem__(key, out), facts.name)
        network.get_submodule(facts.name).register_forward_hook(keep)
    with torch.no_grad():
        network(inputs(case.shape, 50, case.options["domain"]))
    for layer, layout, (source, mask, facts) in zip(hidden(name), wide.layouts, ticket.layers, strict=True):
        outputs = len(layer.weight)
        copies = values[facts.name][:, : outputs * layout.copies_out].unflatten(1, (outputs, layout.copies_out))
        spread = float((copies.amax(dim=2) - copies.amin(dim=2)).max())
        assert spread <= 2 * bounds[facts.name]
        if layout.constants_out:
            constants = values[facts.name][:, outputs * layout.copies_out :].reshape(50, layout.constants_out, -1)
            assert float((constants - constants[:1, :, :1]).abs().max()) <= 1e-12
        # A row of an identity has one weight, and few subsets near 1.
        if isinstance(mask, CopyMask) and layout.copies_out > 1 and not facts.name.startswith("identity"):
            pieces = [piece for piece in mask.pieces(source) if len(piece.flags)]
            rows = np.concatenate([piece.flags.reshape(len(piece.flags), -1) for piece in pieces])
            assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("name", [name for name in CASES if name != "one layer"])
def test_every_copy_keeps_to_its_own_bound(name: str) -> None:
    """Copy by copy, and none of the bounds is so wide that it could not be another copy's."""
    ticket, case = FOUND[name](), CASES[name]
    target, wide = hidden(name), widened(ticket.hidden_graph, ticket.spec.layers)
    realised = realise_all(ticket.hidden_graph, [(source, mask) for source, mask, _ in ticket.layers])
    lower, upper = slth.Domain.parse(case.options["domain"]).bounds(case.shape)
    state = State(lower, upper, torch.zeros_like(lower), bool((lower >= 0).all()), bool((upper <= 0).all()))
    x = inputs(case.shape, 100, case.options["domain"])
    ours, theirs = _by_node(ticket.module("masked", dtype=torch.float64), x), _by_node(target_module(target), x)
    layers = {layer.name: layer for layer in target}
    for node in target.graph:
        if node.name not in layers:
            state = by_copy(RULES[node.op], node, state)
            continue
        layer, layout = realised[node.name], wide.layouts[list(layers).index(node.name)]
        assert isinstance(layer, CopiedLayer)
        state = copied(node, state, layers[node.name], layer)
        values = ours[node.name][:, : theirs[node.name].shape[1] * layout.copies_out]
        errors = values.unflatten(1, (-1, layout.copies_out)).transpose(1, 2) - theirs[node.name][:, None]
        assert state.copies is not None and (errors.abs() <= state.copies).all()
        assert torch.equal(state.error, state.copies.amax(dim=0))
        if layout.copies_out > 1:
            assert (state.copies.amin(dim=0) < state.error).all()


def _by_node(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of all modules."""
    values: dict[str, torch.Tensor] = {}
    for key, module in network.named_modules():
        module.register_forward_hook(lambda module, args, out, key=key: values.__setitem__(key, out))
    with torch.no_grad():
        network.double()(x)
    return values


@pytest.mark.parametrize("phi", [nn.ReLU, nn.Tanh])
def test_the_reference_of_section_4_8(phi: Callable[[], nn.Module]) -> None:
    """Within a factor 3 of the sup error 9.1e-3, over 2000 points; smaller is fine."""
    errors = []
    for seed in range(4):
        model = reference(phi, seed)
        ticket = slth.find_ticket(model, torch.zeros(1, 3), seed=seed, **options(20))
        x = inputs((3,), 2000, (-1, 1), seed=seed)
        with torch.no_grad():
            difference = ticket.module("masked", dtype=torch.float64)(x) - model.double()(x)
        errors.append(float(difference.abs().max()))
    assert max(errors) <= 3 * 9.1e-3 and min(errors) > 1e-5


def test_subsets_have_about_two_elements() -> None:
    """B8: mean size 1.9 +- 0.2 of the smallest subset within 0.01, of 20 uniform elements. B10: misses are counted."""
    model = nn.Sequential(nn.Linear(2, 30), nn.ReLU(), nn.Linear(30, 40))
    shake(model, 0, 0.1)
    model[2].weight.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    ticket = slth.find_ticket(model, torch.zeros(1, 2), **options(20, objective="sparsest", tolerance=0.01))
    source, mask, facts = ticket.layers[1]
    assert abs(subset_sizes(source, mask, facts.input_sign)[POSITIVE].mean() - 1.9) <= 0.2
    assert ticket.missed == slth.verify(ticket, model).missed < 0.01 * ticket.n_weights


def test_misses_are_counted_and_nothing_is_drawn_again() -> None:
    """B10: base sets far too small."""
    case = Case(mlp((3, 6, 5, 2)), (3,), options(8, tolerance=0.03))
    ticket = case.find()
    found = slth.verify(ticket, case.target(), (-1, 1))
    assert found.holds and found.missed == ticket.missed > 0
    other = Case(shake(mlp((3, 6, 5, 2)), 7), (3,), options(8, tolerance=0.03)).find()
    for mine, theirs in zip(ticket.spec.layers[1:], other.spec.layers[1:], strict=True):
        same = dataclasses.replace(theirs, scale=mine.scale)
        np.testing.assert_array_equal(mine.weight(0, mine.rows), same.weight(0, mine.rows))


def test_survivors_are_the_sources_weights_bit_for_bit() -> None:
    for name in ("reference", "maps"):
        ticket = FOUND[name]()
        state = ticket.module("masked", dtype=torch.float32).state_dict()
        for source, mask, facts in ticket.layers[1:]:
            held = state[f"{facts.name}.combine.weight_orig"].numpy().reshape(source.rows, source.columns, source.taps)
            flags = state[f"{facts.name}.combine.weight_mask"].numpy().reshape(held.shape) > 0
            assert held.tobytes() == source.weight(0, source.rows).tobytes() and flags.sum() == mask.n_kept
            kept = np.sort(np.concatenate(list(mask.survivors(source))))
            np.testing.assert_array_equal(kept, np.sort(held[flags]))
            parts = list(source.ranges(1))
            assert parts[0][0] == 0 and parts[-1][1] == source.rows
            np.testing.assert_array_equal(source.weight(1, 2), held[1:2])


def test_realised_copies_are_the_masked_modules_sums() -> None:
    ticket = FOUND["maps"]()
    realised = realise_all(ticket.graph, [(source, mask) for source, mask, _ in ticket.layers])
    state = ticket.module("masked", dtype=torch.float64).state_dict()
    source, _, facts = ticket.layers[2]
    layer = realised[facts.name]
    assert isinstance(layer, CopiedLayer) and source.positions == 2
    key = f"{facts.name}.combine.weight"
    weight = (state[f"{key}_orig"] * state[f"{key}_mask"]).numpy()
    for output, feature in np.ndindex(*layer.lowest.shape[1:3]):
        channel, position = divmod(feature, 2)
        rows = weight[output * source.copies_out : (output + 1) * source.copies_out]
        columns = [(channel * source.block_width + copy) * 2 + position for copy in range(source.block_width)]
        sums = rows[:, columns].sum(axis=1)
        assert abs(layer.lowest[0, output, feature, 0] - sums.min()) < 1e-14
        assert abs(layer.highest[0, output, feature, 0] - sums.max()) < 1e-14
        assert layer.size[output, feature, 0] == pytest.approx(np.abs(rows[:, columns]).sum(axis=1).max(), rel=1e-14)


def test_files_and_threads(name: str, tmp_path: Path) -> None:
    ticket, case = FOUND[name](), CASES[name]
    content = to_bytes(ticket)
    again = from_bytes(content)
    assert to_bytes(again) == content and again.spec == ticket.spec
    if name in ("reference", "maps"):
        for threads in (1, 2):
            other = slth.find_ticket(case.target(), threads=threads, **case.options)
            assert to_bytes(other) == content
    x = inputs(case.shape, 3)
    torch.testing.assert_close(again.module()(x.float()), ticket.module()(x.float()), rtol=0, atol=0)


def _damaged(ticket: slth.Ticket, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    header, tensors = unpack(to_bytes(ticket))
    header.pop("content_digest", None)
    tensors = {key: np.array(value) for key, value in tensors.items()}
    change(header, tensors)
    return pack(header, tensors)


def _longer(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["layers.1.copies"] = np.append(tensors["layers.1.copies"], np.uint8(0))


def _stray(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["layers.1.constants"][2] |= 1


def _no_constants(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    del tensors["layers.2.constants"]


def _wide(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    header["source"]["layers"][1]["block_width"] = 1 << 30


def _unordered(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    del header["source"]["layers"][1]["order"]


def _inconstant(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["layers.0.combine"][-(len(tensors["layers.0.combine"]) // 100) :] = 0
    tensors["layers.0.combine"][-(len(tensors["layers.0.combine"]) // 100)] = 128


@pytest.mark.parametrize("change", [_longer, _stray, _no_constants, _wide, _unordered, _inconstant])
def test_hostile_files_are_refused(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    ticket = FOUND["reference"]()
    assert from_bytes(_damaged(ticket, lambda header, tensors: None)).n_kept == ticket.n_kept
    with pytest.raises(TicketError):
        from_bytes(_damaged(ticket, change))


@pytest.mark.parametrize("depth", [10**9, 257, 4, 2, 0, -3, 3.0, True, "3", None, [3]])
def test_files_with_another_extra_depth_are_refused(depth: object) -> None:
    changed = _damaged(FOUND["deeper"](), lambda header, tensors: header.update(extra_depth=depth))
    with pytest.raises(TicketError):
        from_bytes(changed)


def test_only_copies_have_extra_depth_and_only_where_there_is_some() -> None:
    other = Case(mlp((3, 4, 2)), (3,), {"base_set_size": 4}).find()
    for ticket, depth in ((other, 1), (FOUND["deep, tanh"](), 1), (FOUND["deeper"](), 0)):
        with pytest.raises(TicketError):
            from_bytes(_damaged(ticket, lambda header, tensors, depth=depth: header.update(extra_depth=depth)))


def test_a_changed_bit_does_not_verify() -> None:
    ticket, target = FOUND["reference"](), CASES["reference"].target()
    mask = ticket.masks[1]
    assert isinstance(mask, CopyMask)
    for field in ("copies", "constants"):
        bits = getattr(mask, field).copy()
        bits[0] ^= 128
        masks = (ticket.masks[0], dataclasses.replace(mask, **{field: bits}), ticket.masks[2])
        assert not slth.verify(dataclasses.replace(ticket, masks=masks), target, (-1, 1)).holds


REFUSED: dict[str, tuple[nn.Module, Sequence[int], str]] = {
    "groups": (convnet(), (4, 6, 6), "groups"),
    "no inner tap": (
        nn.Sequential(nn.Conv1d(1, 2, 1), nn.ReLU(), nn.Conv1d(2, 2, 1, padding=1)),
        (1, 4),
        "no tap that never reads padding",
    ),
    "zeros around constants": (
        nn.Sequential(nn.Conv1d(1, 2, 1), nn.ReLU(), nn.ZeroPad1d(1), nn.Conv1d(2, 2, 3)),
        (1, 4),
        "zeros beside the constant channels",
    ),
    "averages with zeros": (
        nn.Sequential(nn.Conv1d(1, 2, 1), nn.AvgPool1d(2, padding=1), nn.Conv1d(2, 2, 1)),
        (1, 4),
        "zeros beside the constant channels",
    ),
    "a reshape": (
        nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 2, 1)),
        (4,),
        "plain flatten",
    ),
    "another axis": (nn.Sequential(nn.Conv1d(1, 2, 1), nn.Linear(4, 3)), (1, 4), "another axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_carry_copies_is_refused_with_the_remedy(name: str) -> None:
    model, shape, words = REFUSED[name]
    with pytest.raises(ArgumentError, match=rf"(?s){words}.*two-for-one"):
        slth.find_ticket(model, torch.zeros(1, *shape), **options(6))


def test_without_biases_padding_is_no_matter() -> None:
    model = nn.Sequential(
        nn.Conv1d(1, 2, 1, bias=False),
        nn.AvgPool1d(2, padding=1),
        nn.ZeroPad1d(1),
        nn.Conv1d(2, 2, 1, padding=1, bias=False),
    )
    case = Case(shake(model, 0), (1, 4), options(8))
    assert slth.verify(case.find(), case.target(), (-1, 1)).holds


def test_command_line_and_page(tmp_path: Path) -> None:
    ticket = FOUND["sparsest"]()
    page = render(ticket, title="net.ticket", target=CASES["sparsest"].target())
    assert "copies of every neuron" in page and "in the trained network" in page
    assert [layer.order for layer in summarise(ticket).layers] == ["univariate-first", "copies", "copies"]
    assert summarise(ticket).rerouted == ()
    save_file(mlp((3, 4, 2)).state_dict(), tmp_path / "net.safetensors")
    arguments = ["find", "net.safetensors", "-o", "net.ticket", "--construction", "one-for-one", "--domain", "0,1"]
    assert run(*arguments, "--base-set-size", "8", cwd=tmp_path).status == 0
    found = run("verify", "net.ticket", "--target", "net.safetensors", "--domain", "0,1", cwd=tmp_path)
    assert found.status == 0, found.err
    assert run("show", "net.ticket", cwd=tmp_path).status == 0
    assert run("show", "net.ticket", "--html", "net.html", cwd=tmp_path).status == 0


def test_extra_depth_on_the_command_line(tmp_path: Path) -> None:
    save_file(mlp((3, 4, 2)).state_dict(), tmp_path / "net.safetensors")
    arguments = ["find", "net.safetensors", "-o", "net.ticket", "--construction", "one-for-one", "--domain", "0,1"]
    arguments += ["--base-set-size", "8", "--set", "extra-depth=2"]
    found = run(*arguments, cwd=tmp_path)
    assert found.status == 0 and "extra depth: 2 identity layers" in found.out
    assert "copies that layers make of their outputs: 0 8 and 8 constants, identity_1 8 and 8 constants" in found.out
    assert run("verify", "net.ticket", "--target", "net.safetensors", "--domain", "0,1", cwd=tmp_path).status == 0
    assert "extra depth: 2 identity layers" in run("show", "net.ticket", cwd=tmp_path).out
    for words in (["--set", "extra-depth=x"], ["--set", "extra-depth=-1"], ["--activation", "tanh"]):
        refused = run(*arguments, *words, cwd=tmp_path)
        assert refused.status == 2 and "extra" in refused.err
