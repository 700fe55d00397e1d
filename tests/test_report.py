"""The HTML page: renders for every kind of small ticket, loads nothing, trusts no name, counts right."""

from __future__ import annotations

import dataclasses
import html.parser
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.errors import MismatchError
from slth.network.graph import Graph, Node
from slth.network.trace import trace
from slth.realise import realise
from slth.report.facts import (
    BIAS_NAME,
    NEGATIVE,
    POSITIVE,
    mask_picture,
    probe_comparison,
    spell_out,
    subset_sizes,
    worked_example,
)
from slth.report.figures import mask_figure
from slth.report.page import render
from slth.report.words import labels, number, percent, shorten, size, some, superscript
from slth.summary import base_set_sizes, parameter_summary

BRANCH = {1: POSITIVE, -1: NEGATIVE}


def _mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def _conv() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, (1, 3), stride=(1, 2), padding=(0, 1), bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 3 * 2, 3),
    )


MLP, CONV = torch.zeros(1, 5), torch.zeros(1, 4, 6, 6)
CASES = {
    "signed": (_mlp, MLP, {"base_set_size": 12}),
    "nonnegative": (_mlp, MLP, {"base_set_size": 10, "domain": (0, 1), "objective": "sparsest", "tolerance": 0.05}),
    "nonpositive": (_mlp, MLP, {"base_set_size": 8, "domain": (-2, 0)}),
    "looks-linear": (_mlp, MLP, {"base_set_size": 10, "initialisation": "looks-linear", "tolerance": 1e-3}),
    "groups": (_conv, CONV, {"base_set_size": 6, "domain": (-1, 1)}),
    "groups, looks-linear": (_conv, CONV, {"base_set_size": 6, "initialisation": "looks-linear"}),
}


@pytest.fixture(scope="module", params=CASES)
def ticket(request: pytest.FixtureRequest) -> slth.Ticket:
    make, example, options = CASES[request.param]
    return slth.find_ticket(make(), example, **options)


@pytest.fixture(scope="module")
def mlp_ticket() -> slth.Ticket:
    return slth.find_ticket(_mlp(), MLP, base_set_size=8, domain=(0, 1), tolerance=0.05)


class _Elements(html.parser.HTMLParser):
    """Element names, attribute values and identifiers of a page; open elements must close in order."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _check_page(page: str) -> _Elements:
    elements = _Elements(page)
    assert elements.names.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base"})
    assert "http://" not in page and "https://" not in page and "@import" not in page
    for key, value in elements.attributes:
        assert not key.startswith("on")
        if key in ("src", "href", "srcset", "xlink:href"):
            assert value.startswith(("data:image/png;base64,", "#")), (key, value)
    assert all(reference.startswith("#") for reference in re.findall(r"url\(([^)]*)\)", page))
    ids = [value for key, value in elements.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    return elements


@pytest.fixture(scope="module")
def page(ticket: slth.Ticket) -> str:
    return render(ticket, title="net.ticket", file_bytes=4321)


def test_page_is_self_contained(ticket: slth.Ticket, page: str) -> None:
    _check_page(page)
    assert f"{ticket.spec.n_weights:,} weights" in page and f"{ticket.n_kept:,}" in page
    assert len(page) < 300_000 and "<h2>Verification" not in page
    # No stand-in colour and none of matplotlib's own is left.
    assert "#0a0b" not in page and "#000000" not in page


def test_pictures_are_wellformed(ticket: slth.Ticket, page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    layer = mask_picture(ticket).layer
    assert len(pictures) == 6 + len(worked_example(ticket, layer, _sizes(ticket)[layer]).terms)
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_same_ticket_same_page(mlp_ticket: slth.Ticket) -> None:
    other = dataclasses.replace(mlp_ticket, seconds=1.0)
    assert render(mlp_ticket, title="net", file_bytes=5) == render(other, title="net", file_bytes=5)


def _sizes(ticket: slth.Ticket) -> list[dict[str, np.ndarray]]:
    return [subset_sizes(source, mask, facts.input_sign) for source, mask, facts in ticket.layers]


def _oracle(ticket: slth.Ticket, index: int, branch: int) -> np.ndarray:
    """Kept combining weights of each (output, input, tap), from the masked module's dense masks alone."""
    source, _, facts = ticket.layers[index]
    layer = ticket.module("masked").get_submodule(facts.name)
    expand_mask = layer.expand.weight_mask.numpy().reshape(source.n_neurons, source.inputs_per_group)
    expand = layer.expand.weight_orig.detach().numpy().reshape(source.n_neurons, source.inputs_per_group)
    combine_mask = layer.combine.weight_mask.numpy().reshape(source.outputs, source.neurons_per_group, source.taps)
    counts = np.zeros((source.outputs, source.inputs_per_group, source.taps), dtype=int)
    for output in range(source.outputs):
        first = output // (source.outputs // source.groups) * source.neurons_per_group
        for local in range(source.neurons_per_group):
            for channel in range(source.inputs_per_group):
                neuron = first + local
                if expand_mask[neuron, channel] and expand[neuron, channel] * branch > 0:
                    counts[output, channel] += combine_mask[output, local].astype(int)
    return counts


def test_subset_sizes_match_the_dense_masks(ticket: slth.Ticket) -> None:
    for index, (source, _, facts) in enumerate(ticket.layers):
        sizes = _sizes(ticket)[index]
        assert set(sizes) == {BRANCH[branch] for branch in facts.input_sign.branches} | (
            {BIAS_NAME} if source.bias else set()
        )
        for branch in facts.input_sign.branches:
            np.testing.assert_array_equal(sizes[BRANCH[branch]], _oracle(ticket, index, branch))
        if source.bias:
            layer = ticket.module("masked").get_submodule(facts.name)
            alive = (layer.expand.bias_mask * (layer.expand.bias_orig > 0)).numpy().reshape(source.groups, 1, -1, 1)
            combine = layer.combine.weight_mask.numpy().reshape(
                source.groups, -1, source.neurons_per_group, source.taps
            )
            np.testing.assert_array_equal(sizes[BIAS_NAME], (combine * alive).sum(axis=(2, 3)).ravel())


def test_subset_sizes_add_up_to_the_mask(ticket: slth.Ticket) -> None:
    for (_, mask, _), sizes in zip(ticket.layers, _sizes(ticket), strict=True):
        assert sum(int(part.sum()) for part in sizes.values()) == mask.n_kept - int(mask.neurons.sum())


def test_no_subset_is_larger_than_its_base_set(ticket: slth.Ticket) -> None:
    for (source, _, facts), sizes in zip(ticket.layers, _sizes(ticket), strict=True):
        usable = base_set_sizes(source, facts.input_sign)
        assert len(usable) == source.groups * (
            source.blocks_per_group
            if source.mirrored
            else source.inputs_per_group * len(facts.input_sign.branches) + int(source.bias)
        )
        assert max(int(part.max()) for part in sizes.values()) <= usable.max()


def test_every_weight_spelled_out_is_the_realised_one(ticket: slth.Ticket) -> None:
    for index, (source, mask, facts) in enumerate(ticket.layers):
        realised = realise(source, mask)
        slopes = {POSITIVE: realised.positive, NEGATIVE: realised.negative}
        for output in (0, source.outputs - 1):
            for channel in range(source.inputs_per_group):
                example = spell_out(ticket, index, output, channel, source.taps - 1)
                place = output, channel, source.taps - 1
                assert set(example.terms) == {BRANCH[branch] for branch in facts.input_sign.branches}
                for name, terms in example.terms.items():
                    assert len(terms) == subset_sizes(source, mask, facts.input_sign)[name][place]
                    assert abs(example.value(name) - slopes[name][place]) <= realised.slack[place]


def test_worked_example_is_near_the_trained_weight() -> None:
    target = trace(_conv(), CONV)
    ticket = slth.find_ticket(target, base_set_size=14, seed=3)
    for index, (layer, sizes) in enumerate(zip(target, _sizes(ticket), strict=True)):
        example = worked_example(ticket, index, sizes)
        wanted = layer.weight_array()[example.output, example.channel, example.tap]
        for name in example.terms:
            assert abs(example.value(name) - wanted) <= ticket.facts[index].max_weight_error * (1 + 1e-12)
    page = render(ticket, title="net", target=target)
    assert "in the trained network" in page and "from the trained weight" in page


def test_picture_shows_the_masks(ticket: slth.Ticket) -> None:
    picture = mask_picture(ticket)
    source, mask, _ = ticket.layers[picture.layer]
    rows = source.outputs // source.groups * source.taps
    assert picture.whole == (picture.combine.shape == (rows, len(mask.kept_neurons(source, 0))))
    np.testing.assert_array_equal(np.count_nonzero(picture.univariate, axis=0), 1)
    np.testing.assert_array_equal(np.diff(picture.starts), np.count_nonzero(picture.univariate, axis=1))
    dense = ticket.module("masked").get_submodule(ticket.facts[picture.layer].name).combine.weight_mask.numpy()
    dense = dense.reshape(source.outputs, source.neurons_per_group, source.taps).transpose(0, 2, 1)
    # Block by block as neurons serve, biases last.
    kept = sorted(mask.kept_neurons(source, 0), key=lambda t: (source.channels[t] < 0, source.channels[t], t))
    shown = kept[: picture.combine.shape[1]]
    expected = dense[: source.outputs // source.groups].reshape(rows, -1)[: len(picture.combine), shown]
    np.testing.assert_array_equal(picture.combine > 0, expected > 0)
    read = [name if name == BIAS_NAME else int(name[1:]) for name in picture.blocks]
    served = [BIAS_NAME if source.channels[t] < 0 else int(source.channels[t]) for t in shown]
    assert served == [name for name, n in zip(read, np.diff(picture.starts), strict=True) for _ in range(n)]


def test_mask_image_fills_its_axes(ticket: slth.Ticket) -> None:
    svg = mask_figure(mask_picture(ticket), "outputs")
    widths = [int(width) for width in re.findall(r'<image [^>]*?width="(\d+)"', svg)]
    scales = re.findall(r'<image [^>]*?transform="matrix\(([\d.]+) 0 0 [\d.]+ ([\d.]+) ', svg)
    # The axes' borders: stroked lines from top to bottom.
    borders = {float(x) for x, again in re.findall(r'd="M ([\d.]+) [\d.]+\nL ([\d.]+) [\d.]+\n', svg) if x == again}
    assert len(scales) == 2
    for width, (scale, left) in zip(widths, scales, strict=True):
        assert abs(float(left) - min(borders)) < 0.1
        assert abs(float(left) + width * float(scale) - max(borders)) < 0.1


def test_large_mask_is_cropped_at_blocks_and_outputs() -> None:
    model = nn.Sequential(nn.Linear(40, 120), nn.ReLU(), nn.Linear(120, 2))
    ticket = slth.find_ticket(model, torch.zeros(1, 40), base_set_size=6, domain=(0, 1))
    picture = mask_picture(ticket)
    assert not picture.whole and picture.combine.shape[0] <= 96 and picture.combine.shape[1] <= 240
    source, mask, _ = ticket.layers[picture.layer]
    block = np.sort(source.channels[mask.kept_neurons(source, 0)] % (source.input_blocks + 1))
    assert block[picture.starts[-1]] != block[picture.starts[-1] - 1]
    assert len(mask_figure(picture, "outputs")) < 100_000
    assert "rows (outputs)" in render(ticket, title="net")


def test_probes_compare_what_the_target_computes(ticket: slth.Ticket) -> None:
    found = probe_comparison(ticket)
    assert found.target.shape == found.ticket.shape
    np.testing.assert_array_equal(found.target, ticket.probe_outputs.astype(np.float64))
    assert 0 < found.largest_difference < 1


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((64, 2)), np.full((64, 3), np.nan)])
def test_probes_that_do_not_fit_are_left_out(mlp_ticket: slth.Ticket, bad: np.ndarray) -> None:
    other = dataclasses.replace(mlp_ticket, probe_outputs=bad.astype(np.float32))
    assert probe_comparison(other) is None


@pytest.fixture(scope="module")
def clean_names(mlp_ticket: slth.Ticket) -> set[str]:
    return _check_page(render(mlp_ticket, title="net")).names


HOSTILE = [
    '<script>alert("x")</script>',
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{$ & <b>",
    "]]></style></svg>\x00\x1b[31m",
    "layer." * 300,
    "слой_層",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_escaped(mlp_ticket: slth.Ticket, clean_names: set[str], name: str) -> None:
    nodes = tuple(dataclasses.replace(node, name=name, sources=("input",)) if k == 0 else
                  dataclasses.replace(node, sources=(name,)) if k == 1 else node
                  for k, node in enumerate(mlp_ticket.graph.nodes))  # fmt: skip
    assert isinstance(nodes[0], Node)
    facts = (dataclasses.replace(mlp_ticket.facts[0], name=name), *mlp_ticket.facts[1:])
    # The folded module needs names that torch allows, so that the outputs are left out here.
    empty = np.zeros((0, 0), dtype=np.float32)
    graph = Graph(mlp_ticket.graph.input_shape, nodes)
    other = dataclasses.replace(
        mlp_ticket, graph=graph, facts=facts, probe_outputs=empty, target_digest=name, generator_version=name
    )
    page = render(other, title=name)
    assert _check_page(page).names <= clean_names
    assert "<script" not in page and "<img" not in page and "\x00" not in page and "\x1b" not in page
    assert "layer." * 40 not in page and "Trained network against ticket" not in page
    for picture in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(picture)


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1e300])
def test_odd_numbers_do_not_break_the_page(mlp_ticket: slth.Ticket, value: float) -> None:
    first, second = (
        dataclasses.replace(entry, max_weight_error=value, mean_weight_error=value) for entry in mlp_ticket.facts
    )
    facts = (
        dataclasses.replace(first, error_histogram=(-1,) * 54),
        dataclasses.replace(second, error_histogram=(10**400 if value == 0 else 0, *(0,) * 53)),
    )
    odd = dataclasses.replace(mlp_ticket, facts=facts, tolerance=value, domain=(-value, value))
    _check_page(render(odd, title="net"))


def test_empty_mask_still_has_a_page(mlp_ticket: slth.Ticket) -> None:
    masks = tuple(
        dataclasses.replace(mask, neurons=np.zeros_like(mask.neurons), combine=np.zeros(0, dtype=np.uint8))
        for mask in mlp_ticket.masks
    )
    page = render(dataclasses.replace(mlp_ticket, masks=masks), title="net")
    _check_page(page)
    assert "Trained network against ticket" in page
    assert "an empty sum" in page and "The mask of layer" not in page


def test_verification_has_its_section() -> None:
    target = trace(_mlp(), MLP)
    ticket = slth.find_ticket(target, base_set_size=14, domain=(0, 1), initialisation="looks-linear")
    inputs = torch.rand(20, 5)
    holds = slth.verify(ticket, target, (0, 1), data=(inputs, torch.zeros(20, dtype=torch.int64)))
    page = render(ticket, title="net", target=target, verification=holds)
    _check_page(page)
    assert holds.holds and "Every claim of the ticket holds." in page
    assert number(holds.certified_error) in page and f"{holds.accuracy_ticket:.2f}\u202f%" in page
    fails = slth.verify(ticket, target, (0, 1), eps=1e-12)
    page = render(ticket, title="net", target=target, verification=fails)
    assert "does not hold" in page and "is larger than 1e-12" in page
    page = render(ticket, title="net", verification=slth.verify(ticket, target))
    assert "all reals" in page


def test_another_target_is_refused(mlp_ticket: slth.Ticket) -> None:
    torch.manual_seed(9)
    other = trace(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), MLP)
    with pytest.raises(MismatchError, match="digest"):
        render(mlp_ticket, title="net", target=other)


def test_missed_weights_are_said_first(mlp_ticket: slth.Ticket) -> None:
    facts = tuple(dataclasses.replace(entry, missed=k) for k, entry in enumerate(mlp_ticket.facts))
    page = render(dataclasses.replace(mlp_ticket, facts=facts), title="net")
    assert "<b class=bad>1 weight</b> is farther off than the 0.05 that was asked for." in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0123456, "0.0123"),
        (-0.5, "−0.5"),
        (100.0, "100"),
        (1234567.0, "1.23\u202f×\u202f10⁶"),
        (12345.6, "12,346"),
        (1.2e-7, "1.20\u202f×\u202f10⁻⁷"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


def test_words() -> None:
    assert percent(1, 8) == "12.5\u202f%" and percent(1, 10**5) == "0.001\u202f%" and percent(0, 0) == "0.0\u202f%"
    assert size(999) == "999\u202fbytes" and size(281264) == "281\u202fKB" and size(1_500_000) == "1.5\u202fMB"
    assert shorten("abcdefghij", 5) == "ab…ij" and shorten("a\nb", 5) == "a\ufffdb"
    assert superscript(-12) == "⁻¹²"
    assert [some(list("abcd")[:n], 3) for n in (1, 2, 3, 4)] == ["a", "a and b", "a, b and c", "a, b and 2 more"]


def test_names_beside_a_picture_stay_apart() -> None:
    assert labels(["a", "blocks.0.proj", "blocks.1.proj"], 8) == ["a", "….0.proj", "….1.proj"]
    assert labels(["first.weight", "other.weight"], 8) == ["fir…ight", "oth…ight"]
    assert labels(["same.weight", "same.weight"], 6) == ["…eight"] * 2


def test_many_layers_are_in_a_frame_of_its_own_height() -> None:
    layers = [layer for _ in range(34) for layer in (nn.Linear(3, 3), nn.ReLU())]
    page = render(slth.find_ticket(nn.Sequential(*layers), torch.zeros(1, 3), base_set_size=4), title="net")
    _check_page(page)
    assert '<div class="scroll tall"><table>' in page and "<td class=left>66</td>" in page and "Missed</th>" not in page
    assert '"scroll tall"' not in render(slth.find_ticket(_mlp(), torch.zeros(1, 5), base_set_size=4), title="net")


def test_every_parameter_is_on_the_page() -> None:
    ticket = slth.find_ticket(_conv(), CONV, base_set_size=4, exclude="6.bias")
    page = render(ticket, title="net")
    _check_page(page)
    found = parameter_summary(ticket)
    assert found.kept == 3 and found.line.replace(" %", "\u202f%") in page
    for account in ticket.accounts:
        row = re.search(rf"<td class=left>{re.escape(account.name)}</td><td>{account.n:,}</td>(.*?)</tr>", page)
        assert row is not None and account.where in row[1] and account.state in row[1]
