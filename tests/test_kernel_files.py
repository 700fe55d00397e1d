"""Files of tickets with kernels first: exact round trips, and a refusal of anything else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.artifact import TICKETS, from_bytes, to_bytes
from slth.errors import TicketError
from slth.report.facts import mask_picture, spell_out, subset_sizes
from slth.report.page import render
from test_artifact import forge
from test_format import draw
from zoo import Case, convnet, inputs, mlp, shake

SMALL = Case(mlp((2, 3, 1)), (2,), {"construction": "conv", "base_set_size": 3, "domain": (0, 1)}).find()
HEADER, TENSORS = TICKETS.header(SMALL), TICKETS.tensors(SMALL)
SIGNED = Case(mlp((2, 3, 1)), (2,), {"construction": "conv", "base_set_size": 3}).find()


@pytest.mark.parametrize("domain", [(0, 1), (-1, 0), None])
def test_round_trip_is_exact(domain: Any) -> None:
    ticket = Case(convnet(), (4, 6, 6), {"construction": "conv", "base_set_size": 6, "domain": domain}).find()
    loaded = from_bytes(to_bytes(ticket))
    assert to_bytes(loaded) == to_bytes(ticket) and loaded.spec == ticket.spec
    assert [layer.get("order") for layer in TICKETS.header(ticket)["source"]["layers"]] == [
        "kernels-first" if domain else None,
        "kernels-first",
        "kernels-first",
    ]
    x = inputs((4, 6, 6), 3, domain)
    assert torch.equal(loaded.module("sparse")(x.float()), ticket.module("sparse")(x.float()))


def test_the_bits_are_those_that_the_format_says() -> None:
    """Read from the file's bytes alone, by a loop."""
    source, mask, _ = SMALL.layers[0]
    live = np.unpackbits(TENSORS["layers.0.neurons"])[: source.n_neurons]
    bits = iter(np.unpackbits(TENSORS["layers.0.kernels"]))
    weights, biases, diagonal = mask.dense(source)
    for neuron in range(source.n_neurons):
        assert live[neuron] == diagonal[neuron // source.block_width, neuron].any()
        row = [*source.expand_weight()[neuron], source.expand_bias()[neuron]]
        kept = [bool(next(bits)) if live[neuron] and value > 0 else False for value in row]
        assert kept == [*weights[neuron], biases[neuron]]
    assert not any(bits) and TENSORS["layers.0.sign"].tolist() == [1]


def test_a_reader_of_the_format_alone_computes_what_the_ticket_computes() -> None:
    header, x = TICKETS.header(SMALL), inputs((2,), 5, (0, 1)).numpy()
    for number, (shape, entry) in enumerate(zip(((3, 2), (1, 3)), header["source"]["layers"], strict=True)):
        outputs, channels = shape
        width = entry["block_width"]
        u = draw(header["source"]["seed"], number, 0, (outputs * width, channels))
        b = draw(header["source"]["seed"], number, 1, (outputs * width,))
        v = np.float32(entry["scale"]) * draw(header["source"]["seed"], number, 2, (outputs, outputs * width))
        live = np.unpackbits(TENSORS[f"layers.{number}.neurons"])
        bits = iter(np.unpackbits(TENSORS[f"layers.{number}.kernels"]))
        y = np.zeros((len(x), outputs))
        for neuron in np.flatnonzero(live):
            kept = [value if value > 0 and next(bits) else 0.0 for value in (*u[neuron], b[neuron])]
            hidden = np.maximum(x @ np.array(kept[:-1], float) + kept[-1], 0)
            y[:, neuron // width] += float(v[neuron // width, neuron]) * hidden
        x = np.maximum(y, 0) if number == 0 else y
    ours = SMALL.module("masked", dtype=torch.float64)(inputs((2,), 5, (0, 1)))
    np.testing.assert_allclose(x, ours.detach().numpy(), rtol=0, atol=1e-13)


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *outer, last, value = path

    def change(header: Any) -> None:
        for key in outer:
            header = header[key]
        header[last] = value

    return change


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the other order": lambda header: header["source"]["layers"][0].pop("order"),
    "an unknown order": _set("source", "layers", 0, "order", "kernels-last"),
    "an order that is a number": _set("source", "layers", 0, "order", 1),
    "an order that is a list": _set("source", "layers", 0, "order", []),
    "inputs of both signs": _set("layers", 0, "input_sign", "signed"),
    "inputs of the other sign": _set("layers", 0, "input_sign", "nonpositive"),
    "another width": _set("source", "layers", 0, "block_width", 60),
    "an odd width": _set("source", "layers", 0, "block_width", 5),
    "a width of 2^30": _set("source", "layers", 0, "block_width", 1 << 30),
    "mirrored pairs": _set("source", "initialisation", "looks-linear"),
    "another activation": _set("source", "activation", "tanh"),
    "another construction": _set("construction", "two-for-one"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_with_a_right_digest_is_refused(name: str) -> None:
    header = json.loads(json.dumps(HEADER))
    HOSTILE[name](header)
    begin = time.perf_counter()
    with pytest.raises(TicketError):
        from_bytes(forge(header, TENSORS))
    assert time.perf_counter() - begin < 1


def test_an_order_where_there_is_none_is_refused() -> None:
    header, tensors = TICKETS.header(SIGNED), TICKETS.tensors(SIGNED)
    assert from_bytes(forge(header, tensors))
    header["source"]["layers"][0]["order"] = "kernels-first"
    with pytest.raises(TicketError):
        from_bytes(forge(header, tensors))


_LIVE, _BITS = TENSORS["layers.0.neurons"], TENSORS["layers.0.kernels"]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("layers.0.sign", None),
        ("layers.0.neurons", None),
        ("layers.0.kernels", None),
        ("layers.0.combine", np.zeros(1, np.uint8)),
        ("layers.0.sign", np.array([-1], np.int8)),
        ("layers.0.sign", np.array([0], np.int8)),
        ("layers.0.sign", np.array([-128], np.int8)),
        ("layers.0.sign", np.array([1], np.int16)),
        ("layers.0.sign", np.array([1, 1], np.int8)),
        ("layers.0.neurons", _LIVE[:-1]),
        ("layers.0.neurons", np.zeros_like(_LIVE)),
        ("layers.0.neurons", np.full_like(_LIVE, 255)),
        ("layers.0.neurons", _LIVE.astype(np.int16)),
        ("layers.0.kernels", _BITS[:-1]),
        ("layers.0.kernels", np.zeros(0, np.uint8)),
        ("layers.0.kernels", np.append(_BITS, np.uint8(0))),
        ("layers.0.kernels", np.zeros_like(_BITS)),
        ("layers.0.kernels", np.zeros(1 << 20, np.uint8)),
        ("layers.0.kernels", _BITS[None]),
        ("layers.0.kernels", _BITS.astype(np.int8)),
    ],
)
def test_missing_extra_and_odd_tensors_are_refused(name: str, tensor: np.ndarray | None) -> None:
    tensors = {key: value for key, value in TENSORS.items() if key != name}
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(TicketError):
        from_bytes(forge(HEADER, tensors))


def test_bits_behind_the_last_weight_are_refused() -> None:
    refused = 0
    for index, (source, mask, _) in enumerate(SMALL.layers):
        n_bits = sum(int(source.usable(piece.incoming, 1).sum()) for piece in mask.pieces(source))
        name = f"layers.{index}.kernels"
        if n_bits % 8:
            tensor = TENSORS[name].copy()
            tensor[-1] |= 1
            with pytest.raises(TicketError, match="last"):
                from_bytes(forge(HEADER, {**TENSORS, name: tensor}))
            refused += 1
    assert refused


# The page


@pytest.fixture(scope="module")
def ticket() -> slth.Ticket:
    """Two layers with kernels, one without, and an average of 8 elements."""
    model = shake(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)), 0)
    return Case(model, (2, 6, 6), {"construction": "conv", "base_set_size": 8, "domain": (0, 1)}).find()


def test_subset_sizes_are_the_columns_of_the_dense_masks(ticket: slth.Ticket) -> None:
    for source, mask, facts in ticket.layers:
        sizes = subset_sizes(source, mask, facts.input_sign)
        weights, biases, _ = mask.dense(source)
        counts = weights.reshape(source.outputs, source.block_width, -1).sum(axis=1)
        np.testing.assert_array_equal(sizes["x > 0"].reshape(source.outputs, -1), counts)
        np.testing.assert_array_equal(sizes["bias"], biases.reshape(source.outputs, -1).sum(axis=1))
        assert sum(int(part.sum()) for part in sizes.values()) == mask.n_kept - int(mask.neurons.sum())


def test_a_weight_spelled_out_is_the_realised_one(ticket: slth.Ticket) -> None:
    for index, (source, _, facts) in enumerate(ticket.layers):
        layer = ticket.module("folded", dtype=torch.float64).get_submodule(facts.name)
        weight = layer.weight.detach().numpy().reshape(source.outputs, source.inputs_per_group, -1)
        for place in ((0, 0, 0), (source.outputs - 1, source.inputs_per_group - 1, source.taps - 1)):
            example = spell_out(ticket, index, *place)
            assert abs(example.value("x > 0") - weight[place]) < 1e-14 and set(example.terms) == {"x > 0"}


def test_the_picture_shows_kernels_above_the_block_diagonal(ticket: slth.Ticket) -> None:
    picture = mask_picture(ticket)
    assert picture is not None
    source, mask, facts = ticket.layers[picture.layer]
    live = np.flatnonzero(mask.neurons)[: picture.combine.shape[1]]
    weights, biases, diagonal = mask.dense(source)
    entries = np.concatenate([weights, biases[:, None]], axis=1)[live].T
    np.testing.assert_array_equal(picture.univariate > 0, entries[: len(picture.univariate)])
    np.testing.assert_array_equal(picture.combine > 0, diagonal[: len(picture.combine), live, 0])
    assert picture.blocks[0] == "y0" and picture.starts[0] == 0 and picture.starts[-1] == picture.combine.shape[1]
    page = render(ticket, title="net")
    assert "pruned to the output that its block serves" in page and f"The mask of layer {facts.name}" in page


def test_large_masks_are_cut_at_blocks_and_their_outputs() -> None:
    model = shake(nn.Sequential(nn.Linear(100, 40)), 0)
    large = Case(model, (100,), {"construction": "conv", "base_set_size": 10, "domain": (-1, 0)}).find()
    picture = mask_picture(large)
    assert picture is not None and not picture.whole
    assert picture.combine.shape[1] <= 240 and len(picture.univariate) == 96
    assert len(picture.combine) == len(picture.blocks) and set(np.unique(picture.combine)) == {0, 2}
    assert "outputs" in render(large, title="net")
