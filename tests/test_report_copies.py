"""The page spells out every layer of a ticket of copies, and what it shows is what the masked module holds."""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

import slth
from conftest import KINDS
from slth.mask import CopyMask
from slth.network.deepen import deepen
from slth.report.copies import copied_weight, copy_picture
from slth.report.page import render
from slth.source.copies import CopySource
from test_report import _check_page

COPIED = [name for name, case in KINDS.items() if case.options.get("construction") == "one-for-one"]
FOUND = {name: functools.cache(KINDS[name].find) for name in COPIED}


@pytest.mark.parametrize("known", [True, False], ids=["with its target", "alone"])
@pytest.mark.parametrize("name", COPIED)
def test_every_later_layer_has_a_section(name: str, known: bool) -> None:
    ticket, target = FOUND[name](), KINDS[name].target()
    page = render(ticket, title="net.ticket", target=target if known else None)
    _check_page(page)
    for facts in ticket.facts[1:]:
        assert page.count(f"<h2>Layer {facts.name}, from copies to copies</h2>") == 1
    assert page.count("it is an identity, added for depth") == ticket.extra_depth
    assert page.count("in the trained network.</p>") + page.count("in the trained network. ") >= known * len(
        ticket.facts
    )
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) >= 2 * (len(ticket.facts) - 1)
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert f"{target.n_weights:,} weights" in page


def _masked(ticket: slth.Ticket, index: int) -> np.ndarray:
    """Kept weights, 0 elsewhere: (rows, columns, taps)."""
    network = ticket.module("masked", dtype=torch.float64)
    layer = network.get_submodule(f"{ticket.facts[index].name}.combine")
    return layer.weight.numpy().reshape(*layer.weight.shape[:2], -1)


@pytest.mark.parametrize("name", COPIED)
def test_pictures_and_examples_are_the_masked_modules(name: str) -> None:
    ticket = FOUND[name]()
    hidden = deepen(KINDS[name].target(), ticket.extra_depth)
    for index, (source, mask, _) in enumerate(ticket.layers):
        if not (isinstance(source, CopySource) and isinstance(mask, CopyMask)):
            continue
        weight = _masked(ticket, index)
        m, n_inputs = source.block_width, source.inputs_per_group * source.block_width
        picture, found = copy_picture(source, mask), copied_weight(source, mask)
        assert picture.rows_total == source.data_rows and len(picture.names) == len(picture.inputs) - 1
        assert picture.inputs[-1] == picture.cells.shape[1] and picture.outputs[-1] == len(picture.cells)
        for row, column in np.ndindex(*picture.cells.shape):
            block, copy = divmod(column, m)
            feature, tap = divmod(block, source.taps)
            channel, position = divmod(feature, source.positions)
            place = (channel * m + copy) * source.positions + position
            if picture.names[-1] == "bias" and column >= picture.inputs[-2]:
                place, tap = n_inputs + (column - picture.inputs[-2]) * source.positions, source.constant_tap
                assert picture.cells[row, column] in (0, 3)
            assert (picture.cells[row, column] > 0) == (weight[row, place, tap] != 0)
        channel, position = divmod(found.channel, source.positions)
        columns = (channel * m + np.arange(m)) * source.positions + position
        copies = weight[: source.copies_out, columns, found.tap]
        np.testing.assert_allclose(copies.sum(axis=1), found.sums, rtol=1e-14, atol=1e-14)
        np.testing.assert_array_equal(copies[0, found.copies], found.weights.astype(np.float64))
        wanted = hidden.layers[index].weight_array()[found.output, found.channel, found.tap]
        assert np.abs(found.sums - wanted).max() <= ticket.facts[index].max_weight_error + 1e-12
