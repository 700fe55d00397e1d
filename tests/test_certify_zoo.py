"""Certificates of one small network of each family: by every method, no node outside its bounds; no tolerance."""

from __future__ import annotations

import functools
import math
import os

import pytest
import torch

import slth
from certify_checks import check, points, subject_of
from slth.certify.region import Box
from slth.certify.subject import Subject
from slth.domain import Domain
from zoo import ZOO

SLOW = {
    *("prelu_residual", "mobilenet", "efficientnet", "separable", "densenet", "unet", "convnext", "resnet"),
    *("preact_resnet", "dilated_1d", "vit", "albert", "bert_like", "lstm_classifier", "gru_bidirectional"),
    *("relu_before_bn", "tall_kernels", "transformer_encoder", "transformer_positions_first", "mixer", "inception"),
}
"""Networks on which linear bounds take the better part of a second or more: they get those of the profile explore."""
EXPLORES = os.environ.get("HYPOTHESIS_PROFILE") == "explore"


@functools.lru_cache(maxsize=2)
def of_zoo(name: str) -> tuple[Subject, torch.Tensor]:
    """A ticket of a network of the zoo, and the example; of tokens, those of one input alone are the domain."""
    model, example = ZOO[name]()
    return subject_of(model, example, None if not example.is_floating_point() else (-1, 1)), example


@pytest.mark.parametrize("name", ZOO)
def test_no_node_of_any_network_leaves_its_bounds(name: str) -> None:
    subject, example = of_zoo(name)
    linear = EXPLORES or name not in SLOW
    shape, centre = subject.target.graph.input_shape, example[0].to(torch.float64)
    if subject.target.graph.classes:
        check(subject, Box(centre, centre), example[:1], linear)
        return
    around = Box((centre - 0.01).clamp(-1, 1), (centre + 0.01).clamp(-1, 1))
    check(subject, around, points(subject, around, 16), linear)
    if linear:
        whole = Box(*Domain.parse((-1, 1)).bounds(shape))
        check(subject, whole, points(subject, whole, 16), linear=EXPLORES)


ENDS = {
    "rms_norm_net": "rsqrt",
    "normalised_output": "div",
}
"""Networks of which nothing is proved on the whole box, and the operation at which it ends."""


@pytest.mark.parametrize("name", ENDS)
def test_where_a_certificate_ends_it_names_the_node(name: str) -> None:
    subject, _ = of_zoo(name)
    certificate = slth.certify(subject.ticket, subject.target, (-1, 1), search=False)
    assert certificate.certified_error is None or math.isinf(certificate.certified_error)
    (note,) = [note for note in certificate.notes if "nothing is certified beyond it" in note]
    assert ENDS[name] in note
