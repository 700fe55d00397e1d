"""Domains of certificates: what they hold, in words, as plain JSON and back; bad input."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slth.certify import regions
from slth.certify.region import Ball, Box
from slth.certify.region_file import check_json, from_json
from slth.certify.regions import Around, BallSet, BoxSet, Clipped, InputSet, around, ball, box, points, preprocessed
from slth.domain import Domain
from slth.errors import ArgumentError, MismatchError

SHAPE = (2, 3)
X = torch.arange(24, dtype=torch.float64).reshape(4, 2, 3) / 24

SETS: dict[str, tuple[InputSet, str]] = {
    "box": (box(0, 1), "[0, 1]"),
    "box of its own bounds": (box(torch.zeros(2, 3), torch.arange(1, 7).reshape(2, 3)), "a box within [0, 6]"),
    "ball": (ball(0.5, 0.1), "the Euclidean ball of radius 0.1 around 0.5"),
    "L1 ball": (ball(X[1], 0.2, 1), "the L1 ball of radius 0.2 around a point in [0.25, 0.458333]"),
    "inputs": (points(X, "some.npz"), "4 inputs of some.npz"),
    "boxes": (around(X, 0.01, clip=(0, 1)), "boxes of radius 0.01 around 4 inputs, within [0, 1]"),
    "one box": (around(X[:1], 0.01), "the box of radius 0.01 around one input"),
    "one ball": (around(X[:1], 0.01, 2), "the Euclidean ball of radius 0.01 around one input"),
    "balls": (around(X, 0.5, 1, (0, 1)), "L1 balls of radius 0.5 around 4 inputs, within [0, 1]"),
    "pixels": (preprocessed(0.5, 0.25), "pixels in [0, 1] less 0.5, divided by 0.25"),
}


@pytest.mark.parametrize("name", SETS)
def test_words_and_plain_values_and_back(name: str) -> None:
    made, words = SETS[name]
    assert made.describe() == words
    value = json.loads(json.dumps(made.to_json(), allow_nan=False))
    again = from_json(value, made.inputs)
    assert again.to_json() == made.to_json() and again.describe() == words
    for one, other in zip(made.regions(SHAPE), again.regions(SHAPE), strict=True):
        assert type(one) is type(other)
        assert torch.equal(one.lower, other.lower) and torch.equal(one.upper, other.upper)


@given(st.floats(0, 2), st.sampled_from([1, 2, math.inf]), st.booleans(), st.integers(0, 99))
def test_what_is_within_the_radius_is_in_the_region(radius: float, p: float, clipped: bool, seed: int) -> None:
    """And a linear form is nowhere larger than the region says."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(50, *SHAPE, dtype=torch.float64, generator=generator)
    length = steps.flatten(1).norm(p=p, dim=1).reshape(-1, 1, 1)
    rows = torch.randn(5, *SHAPE, dtype=torch.float64, generator=generator)
    made = around(X, radius, p, (0, 1) if clipped else None)
    for centre, region in zip(X, made.regions(SHAPE), strict=True):
        x = centre + steps / length * radius * (1 - 1e-14)
        x = x.clamp(0, 1) if clipped else x
        assert bool((x >= region.lower).all()) and bool((x <= region.upper).all())
        found = rows.flatten(1) @ x.flatten(1).T
        assert bool((found.amax(dim=1) <= region.highest(rows, None)).all())
        if clipped:
            assert bool((region.lower >= 0).all()) and bool((region.upper <= 1).all())
        elif radius > 0.1:
            assert bool((region.highest(rows, None) > found.amax(dim=1)).all())


def test_kinds_of_regions() -> None:
    assert isinstance(points(X).regions(SHAPE)[0], Box) and len(points(X).regions(SHAPE)) == 4
    assert isinstance(ball(0, 1).regions(SHAPE)[0], Ball)
    assert isinstance(around(X, 1, 2).regions(SHAPE)[2], Ball)
    clipped = around(X, 1, 2, box(0, 1)).regions((6,))[3]
    assert isinstance(clipped, Clipped) and clipped.lower.shape == (6,)


def test_a_clipped_ball_is_less_than_either() -> None:
    rows = torch.randn(30, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, clipped = (around(X[:1], 0.5, 2, clip).regions(SHAPE)[0].highest(rows, None) for clip in (None, (0, 1)))
    assert bool((clipped <= whole).all()) and bool((clipped < whole).any())


def test_pixels_after_preprocessing_in_float32_are_inside() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    (region,) = preprocessed(mean, std).regions((3, 2, 2))
    shape = (3, 1, 1)
    for dtype in (torch.float32, torch.float64):
        for share in (0.0, 1.0):
            pixel = torch.full((3, 2, 2), share, dtype=dtype)
            x = (pixel - torch.tensor(mean, dtype=dtype).reshape(shape)) / torch.tensor(std, dtype=dtype).reshape(shape)
            assert bool((x >= region.lower).all()) and bool((x <= region.upper).all())
            end = region.lower if share == 0.0 else region.upper
            assert torch.allclose(x.to(torch.float64), end, rtol=1e-5)
    (region,) = preprocessed(0, 0.5).regions((1, 2, 2))
    assert bool((region.lower == 0).all()), "without a mean the box stays non-negative"


BAD: dict[str, tuple[Any, str]] = {
    "a negative radius": (lambda: around(X, -0.1), "radius: got -0.1"),
    "a radius that is no number": (lambda: ball(0, math.nan), "radius"),
    "an infinite radius": (lambda: ball(0, math.inf), "radius"),
    "another norm": (lambda: around(X, 1, 3), "p: got 3"),
    "a ball of the largest entry": (lambda: BallSet(X[0], 1.0, math.inf), "p: got inf"),  # type: ignore[arg-type]
    "no inputs": (lambda: points(X[:0]), "at least one input"),
    "an input that is no number": (lambda: points(torch.full((1, 2), math.nan)), "finite"),
    "a centre that is no number": (lambda: ball(math.nan, 1), "finite"),
    "complex numbers": (lambda: points(torch.zeros(1, 2, dtype=torch.complex64)), "complex"),
    "words": (lambda: points("abc"), "array"),
    "an empty box": (lambda: box(1, 0), "lower"),
    "an empty clip": (lambda: around(X, 1, clip=(1, 0)), "lower"),
    "all reals": (lambda: regions.parse(None), "all reals"),
    "a clip of all reals": (lambda: Around(X, 1.0, clip=Domain()), "all reals"),
    "no deviation": (lambda: preprocessed(0, 0), "above 0"),
    "other counts": (lambda: preprocessed((0, 0, 0), (1, 1)), "as many"),
    "a mean that is no number": (lambda: preprocessed(math.nan, 1), "finite"),
    "inputs outside the clip": (lambda: around(X * 3, 1, clip=(0, 1)).regions(SHAPE), "3 of 4 inputs outside"),
    "inputs of another shape": (lambda: points(X).regions((7,)), r"input shape \(7,\)"),
    "a centre of another shape": (lambda: ball(X[0], 1).regions((7,)), r"input shape \(7,\)"),
    "a box of another shape": (lambda: box(X[0], X[3]).regions((7,)), r"input's shape \(7,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_error(name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(ArgumentError, match=words):
        make()


def changed(name: str, **fields: Any) -> dict[str, Any]:
    """What one of the sets is written as, with other fields; None takes one out."""
    value = {**SETS[name][0].to_json(), **fields}
    return {key: entry for key, entry in value.items() if entry is not None}


LIES = {
    "no object": [],
    "no kind": changed("box", kind=None),
    "another kind": changed("box", kind="cone"),
    "a missing field": changed("boxes", radius=None),
    "an unknown field": changed("ball", colour="red"),
    "a negative radius": changed("ball", radius=-1.0),
    "a radius in words": changed("boxes", radius="1"),
    "a radius that is true": changed("boxes", radius=True),
    "an infinite radius": changed("boxes", radius=math.inf),
    "a p in words": changed("ball", p="max"),
    "a p that is true": changed("ball", p=True),
    "no inputs": changed("boxes", inputs=0),
    "half an input": changed("boxes", inputs=1.5),
    "a short digest": changed("boxes", digest="0" * 63),
    "a clip in words": changed("boxes", clip="0,1"),
    "half a clip": changed("boxes", clip={"lower": 0}),
    "an empty clip": changed("boxes", clip={"lower": 1, "upper": 0}),
    "an empty box": changed("box", lower=2),
    "a bound that is no number": changed("box", lower=math.nan),
    "a bound that is true": changed("box", lower=True),
    "values of another shape": changed("box of its own bounds", lower={"shape": [7], "values": [0.0] * 6}),
    "a shape in words": changed("box of its own bounds", lower={"shape": "6", "values": [0.0] * 6}),
    "a negative shape": changed("box of its own bounds", lower={"shape": [-2, -3], "values": [0.0] * 6}),
    "values in words": changed("box of its own bounds", lower={"shape": [6], "values": ["0"] * 6}),
}


@pytest.mark.parametrize("name", LIES)
def test_other_values_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError):
        check_json(LIES[name])


def test_other_inputs_are_refused() -> None:
    made = SETS["boxes"][0]
    value = made.to_json()
    assert "values" not in json.dumps(value)
    assert from_json(value, torch.cat([X, X]).reshape(8, 6)).describe() == made.describe(), "the first four, flat"
    with pytest.raises(ArgumentError, match="--data"):
        from_json(value)
    with pytest.raises(MismatchError, match="3 inputs"):
        from_json(value, X[:3])
    other = X.clone()
    other[2, 0, 0] = math.nextafter(float(other[2, 0, 0]), 2.0)
    with pytest.raises(MismatchError, match="digest"):
        from_json(value, other)


def test_a_box_is_also_what_a_domain_is_made_of() -> None:
    for value in ((0, 1), "0,1", Domain.parse((0, 1))):
        made = regions.parse(value)
        assert isinstance(made, BoxSet) and made.describe() == "[0, 1]"
    assert regions.parse(made) is made
