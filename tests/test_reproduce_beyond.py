"""Constants fitted to base-set sizes, refusals as rows, and the positions that stand in for Tiny-ImageNet's classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from slth.data import Data
from slth.places import sought
from slth.reproduce import beyond, head
from slth.reproduce.comparison import Verdict
from slth.reproduce.experiment import Row
from slth.reproduce.run import Run
from slth.reproduce.statistics import share_margin


def counted(sizes: dict[float, int | None]) -> list[Row]:
    """Rows of an imagined calibration whose base sets are enough from these sizes on."""
    return [
        {"law": "uniform", "targets": "all", "eps": eps, "m": m, "draws": 100, "successes": 50, "low": low, "high": 1.0}
        for eps, size in sizes.items()
        for m in range(1, 31)
        for low in [0.96 if size is not None and m >= size else 0.9]
    ]


def test_the_line_and_the_constant_are_those_of_the_sizes() -> None:
    rows = counted({0.5: 5, 0.25: 7, 0.125: 9, 0.0625: None})
    sizes = beyond._sizes(rows, "uniform", "all", 0.05)
    assert sizes == {0.5: (5, 30), 0.25: (7, 30), 0.125: (9, 30), 0.0625: (None, 30)}
    slope, offset = beyond._fitted(sizes) or (0.0, 0.0)
    assert slope == pytest.approx(2) and offset == pytest.approx(3)
    assert beyond._fitted({0.5: (5, 30), 0.25: (None, 30)}) is None
    found = {entry.quantity: entry for entry in beyond._compare_calibration(rows, {"laws": ["uniform"], "delta": 0.05})}
    constant = next(entry.ours for name, entry in found.items() if name.startswith("constant C"))
    assert constant == pytest.approx(9 / math.log(2 / 0.05))
    assert "not shown up to 30" in found["m for 0.0625 with probability 0.95: U[-1, 1], all targets"].note


def test_the_specifications_shares_are_compared_where_they_were_counted() -> None:
    rows: list[Row] = [
        {"law": "uniform", "targets": "all", "eps": 0.01, "m": 14, "draws": 1000, "successes": successes, "low": 0.0}
        for successes in (900, 500)
    ]
    right, wrong = (beyond._compare_shares([row], "uniform", "all") for row in rows)
    assert [entry.verdict for entry in right + wrong] == [Verdict.REPRODUCED, Verdict.DIFFERS]


def test_a_refusal_is_a_row_that_says_which_construction_and_why(tmp_path: Path) -> None:
    settings = {"sizes": {"two-for-one": 8, "one-for-one": 8}, "eps": 0.5, "objective": "best", "images": None}
    run = Run(settings | {"proof": "interval"}, 0, tmp_path)
    data = Data.build(np.random.default_rng(0).uniform(size=(5, 4)), np.arange(5) % 2)
    # Softmax mixes neurons: a layer behind it cannot read copies of each.
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1), torch.nn.Linear(3, 2)).eval()
    rows = [
        {"network": "small", "construction": each, **beyond._ticket(run, each, network, (4,), data)}
        for each in settings["sizes"]
    ]
    assert rows[0]["refused"] == "" and int(rows[0]["kept weights"] or 0) > 0
    assert "Error: " in str(rows[1]["refused"])
    entries = {entry.quantity: entry for entry in beyond._compare_constructions(rows, settings)}
    refused = entries["tickets found: one-for-one, small"]
    assert refused.ours == 0 and str(rows[1]["refused"]) in refused.note
    assert entries["claims that hold: two-for-one, small"].verdict is Verdict.REPRODUCED
    assert "claims that hold: one-for-one, small" not in entries


def test_positions_move_images_and_say_so_in_the_class() -> None:
    images = torch.zeros(400, 28, 28, dtype=torch.float64)
    images[:, 10, 8] = 1.0
    found = head._positions(Data(images, torch.arange(400) % 10), 0, 0, None)
    assert found.labels is not None and torch.equal(found.labels // 20, torch.arange(400) % 10)
    # One bright pixel tells all twenty positions apart.
    at = {
        (int(way), int(pixel)) for way, pixel in zip(found.labels % 20, found.inputs.flatten(1).argmax(1), strict=True)
    }
    assert len(at) == len({way for way, _ in at}) == len({pixel for _, pixel in at}) == 20
    assert torch.equal(found.inputs.sum((1, 2)), torch.ones(400, dtype=torch.float64))


def test_ones_own_features_are_taken_where_all_four_files_are(tmp_path: Path) -> None:
    folder = tmp_path / head.FEATURES
    folder.mkdir()
    for part, n in (("train", 6), ("test", 3)):
        assert sought(head.FEATURES, tmp_path) is None
        np.save(folder / f"x_{part}.npy", np.ones((n, 512), np.float32))
        np.save(folder / f"y_{part}.npy", np.arange(n))
    place = sought(head.FEATURES, tmp_path)
    assert place == folder
    found = head._features(Run({}, 0, tmp_path, {head.FEATURES: place}))
    assert found.given and found.data.train.inputs.shape == (6, 512) and len(found.data.test.inputs) == 3


def test_misses_are_counted_against_the_tolerance() -> None:
    run = Run({"problems": 300, "L+1": 10, "2L": 15, "eps": 0.001}, 0, Path())
    (few,), (many,) = (head._statistic(run, way) for way in ("L+1", "2L"))
    assert 0.45 < int(few["missed"] or 0) / 300 < 0.7 and int(many["missed"] or 0) < 40
    none = Run({"problems": 50, "L+1": 10, "2L": 15, "eps": 1.0}, 0, Path())
    assert head._statistic(none, "L+1")[0]["missed"] == 0


def test_margins_shrink_to_the_rounding_and_the_rule_of_three() -> None:
    assert share_margin(0.0) == share_margin(1.0) == pytest.approx(0.02)
    assert share_margin(0.5) == pytest.approx(0.005 + 0.98 / math.sqrt(200))
