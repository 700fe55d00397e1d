"""Activations inside the source (Burkholz 2022, Theorems 2.5 and 2.6), and other laws: CHECKS B2, B3, B4, B7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import slth
from slth.activations import parse
from slth.artifact import from_bytes, to_bytes
from slth.certify.verify import verify
from slth.container import pack, unpack
from slth.errors import ArgumentError, TicketError
from slth.mask import BIAS
from slth.network.trace import trace
from slth.realise import realise
from slth.source.balanced import balanced_width
from zoo import convnet, mlp

INITIALISATIONS = ("uniform", "looks-linear")
NAMES = (
    "relu",
    "leaky_relu:0.3",
    "tanh",
    "sigmoid",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "softplus",
    "identity",
    "hardtanh",
)
ZERO_AT_ZERO = [name for name in NAMES if parse(name).d == 0]


def find(name: str, initialisation: str, domain: tuple[float, float] = (-1, 1), **options: object) -> slth.Ticket:
    wishes = {"base_set_size": 14, "initialisation": initialisation, "domain": domain, **options}
    return slth.find_ticket(mlp((4, 5, 3)), torch.zeros(1, 4), source_activation=name, **wishes)


def kinds() -> list[tuple[str, str]]:
    return [(name, law) for name in NAMES for law in INITIALISATIONS if law == "looks-linear" or name in ZERO_AT_ZERO]


@pytest.mark.parametrize("domain", [(-1, 1), (0, 1), (-1, 0)], ids=str)
@pytest.mark.parametrize(("name", "initialisation"), kinds())
def test_forms_agree_and_the_certificate_holds(name: str, initialisation: str, domain: tuple[float, float]) -> None:
    """B7, with the activation itself evaluated, in every form of the module."""
    model = mlp((4, 5, 3))
    ticket = slth.load(_saved(find(name, initialisation, domain)))
    checked = verify(ticket, trace(model, torch.zeros(1, 4)), domain=domain)
    assert checked.holds, checked.reasons
    assert checked.certified_error is not None
    x = torch.rand(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x * (domain[1] - domain[0]) + domain[0]
    with torch.no_grad():
        wanted = model.double()(x)
        masked, sparse, folded = (
            ticket.module(form, dtype=torch.float64)(x) for form in ("masked", "sparse", "folded")
        )
    torch.testing.assert_close(masked, sparse, rtol=0, atol=1e-9)
    for made in (masked, sparse, folded):
        assert float((made - wanted).abs().max()) <= checked.certified_error
    # The lines stand for the activation to within what was asked, 1e-6 of the terms' sizes.
    size = max(float(realise(source, mask).size.sum(axis=(1, 2)).max()) for source, mask, _ in ticket.layers)
    torch.testing.assert_close(sparse, folded, rtol=0, atol=1e-5 * size)


def _saved(ticket: slth.Ticket):
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / "a.ticket"
    ticket.save(path)
    return path


@pytest.mark.parametrize(("name", "initialisation"), kinds())
def test_slopes_come_out_for_both_signs(name: str, initialisation: str) -> None:
    """B3: m_plus S_plus + m_minus S_minus = w within the claimed error, computed from the whole source tensors."""
    model, phi = mlp((4, 5, 3)), parse(name)
    ticket = find(name, initialisation)
    for layer, (source, mask, facts) in zip(trace(model, torch.zeros(1, 4)), ticket.layers, strict=True):
        kept, weight = mask.expand(source), layer.weight_array()
        slopes = np.zeros((2, *weight.shape))
        for piece in mask.entries(source):
            for o, t, tap, v in zip(piece.output, piece.kept, piece.tap, piece.value, strict=True):
                if kept.channel[t] == BIAS:
                    continue
                u = float(kept.value[t])
                right, left = (phi.m_plus, phi.m_minus) if u > 0 else (phi.m_minus, phi.m_plus)
                slopes[0, o, kept.channel[t], tap] += right * float(v) * u
                slopes[1, o, kept.channel[t], tap] += left * float(v) * u
        errors = [np.abs(slopes[0 if sign > 0 else 1] - weight) for sign in facts.input_sign.branches]
        assert np.max(errors) <= facts.max_weight_error + 1e-12


@pytest.mark.parametrize("name", [name for name in NAMES if parse(name).d != 0])
def test_mirrored_pairs_cancel_the_value_at_zero_exactly(name: str) -> None:
    """B4: the kept combining weights of every block sum to 0, exactly."""
    for source, mask, _ in find(name, "looks-linear").layers:
        kept = mask.expand(source)
        for piece in mask.entries(source):
            for o in range(piece.start, piece.stop):
                for channel in range(-1, source.inputs_per_group):
                    here = (piece.output == o) & (kept.channel[piece.kept] == channel)
                    assert math.fsum(piece.value[here].astype(float)) == 0.0


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_a_value_at_zero_needs_mirrored_pairs(name: str) -> None:
    with pytest.raises(ArgumentError, match="--initialisation looks-linear"):
        find(name, "uniform")


def test_lines_only_near_zero_need_a_domain_and_scale_the_weights() -> None:
    with pytest.raises(ArgumentError, match="domain of the network's input"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), source_activation="tanh")
    coarse, fine = (find("tanh", "uniform", activation_error=error) for error in (1e-3, 1e-9))
    assert coarse.spec.layers[0].expand_scale > fine.spec.layers[0].expand_scale
    for ticket, error in ((coarse, 1e-3), (fine, 1e-9)):
        for source in ticket.spec.layers:
            assert np.abs(source.univariate_weights()).max() <= source.expand_scale
            share = realise(source, ticket.masks[source.index]).bend.share(1.0)
            assert share <= error
    # Exact in pairs, whatever the inputs: nothing is scaled, and no domain is asked for.
    free = slth.find_ticket(mlp(), torch.zeros(1, 5), source_activation="gelu", initialisation="looks-linear")
    assert {source.expand_scale for source in free.spec.layers} == {1.0}


def test_one_sum_needs_half_the_neurons() -> None:
    sources = {name: find(name, "uniform").spec.layers[0] for name in ("relu", "tanh")}
    assert sources["tanh"].block_width == 14
    assert sources["relu"].block_width == balanced_width(14, sources["relu"].blocks_per_group) >= 28


def test_a_step_at_zero_is_refused_with_the_theorem_that_allows_it() -> None:
    from slth.activations import Activation

    bent = Activation.custom("abs", np.abs, 1.0, -1.0, 0.0, lambda eps: math.inf, 1.0, module=nn.Identity)
    with pytest.raises(ArgumentError, match=r"Theorem 2\.7|2\.3"):
        find(bent, "uniform")


@pytest.mark.parametrize("construction", ["pairs", "golden-ratio"])
def test_constructions_that_prescribe_their_source_say_so(construction: str) -> None:
    options = {"construction": construction, "tolerance": 0.05}
    with pytest.raises(ArgumentError, match="relu between the source layers"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), source_activation="tanh", domain=(-1, 1), **options)
    with pytest.raises(ArgumentError, match="the law that the construction"):
        slth.find_ticket(mlp(), torch.zeros(1, 5), distribution="normal", **options)


@pytest.mark.parametrize("law", ["normal", "hyperbolic:0.01", "hyperbolic-log", "grid:65536"])
@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_other_laws_serve_as_well(law: str, initialisation: str) -> None:
    """Weights are those of the law; errors are of the size that uniform sources have."""
    model = convnet()
    wishes = {"base_set_size": 16, "initialisation": initialisation, "domain": (-1, 1)}
    ticket = slth.load(_saved(slth.find_ticket(model, torch.zeros(1, 4, 6, 6), distribution=law, **wishes)))
    uniform = slth.find_ticket(model, torch.zeros(1, 4, 6, 6), **wishes)
    assert ticket.spec.layers[0].law.label.startswith(law.split(":")[0])
    typical = [np.mean([facts.mean_weight_error for facts in made.facts]) for made in (ticket, uniform)]
    assert typical[0] < 100 * typical[1] + 1e-6
    assert verify(ticket, trace(model, torch.zeros(1, 4, 6, 6)), domain=(-1, 1)).holds


@pytest.mark.parametrize("value", ["tanh:3", "import os", 7, None])
def test_a_file_that_names_another_activation_is_refused(value: object) -> None:
    header, tensors = unpack(to_bytes(find("tanh", "uniform")))
    header.pop("content_digest")
    header["source"]["activation"] = value
    with pytest.raises(TicketError, match="activation"):
        from_bytes(pack(header, tensors))
